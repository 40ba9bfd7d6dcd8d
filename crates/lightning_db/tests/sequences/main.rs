//! Sequences: random sequences of operations on the engine and on a versioned map, which must
//! answer alike; and each sequence under several settings, under which the answers must be the same.
//!
//! `operation` says what sequences are made of, `draw` draws them, `model` is the map, `world`, `held`,
//! `lifetimes` and `transactions` run them, `setting` has the settings, `shrink` makes a failing sequence short.
//!
//! `LIGHTNING_SEQUENCES` sets how many sequences, `LIGHTNING_SEQUENCES_OPERATIONS` how long each,
//! `LIGHTNING_SEQUENCES_FIRST` the first seed; a failure prints the line that repeats it.

mod draw;
mod held;
mod lifetimes;
mod model;
mod operation;
mod past;
mod setting;
mod shrink;
mod transactions;
mod world;

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use lightning_db::LightningDbConfig;

use operation::{Operation, Sequence};
use setting::{SETTINGS, settings};
use world::World;

/// How a run failed.
struct Failure {
    /// The settings that show it.
    settings: Vec<usize>,
    what: String,
}

thread_local! {
    /// Panics of this thread are kept here, not printed, while it is `Some`.
    static CAUGHT: RefCell<Option<String>> = const { RefCell::new(None) };
}

fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let kept = CAUGHT.with_borrow_mut(|caught| match caught {
                Some(text) => {
                    *text = info.to_string().replace('\n', " ");
                    true
                }
                None => false,
            });
            if !kept {
                usual(info);
            }
        }));
    });
}

/// One run under one setting: the hash of its answers, or what went wrong.
fn run(
    seed: u64,
    keys: &[Vec<u8>],
    operations: &[Operation],
    settings: &[LightningDbConfig],
    setting: usize,
) -> Result<u64, String> {
    keep_panics();
    CAUGHT.set(Some(String::new()));
    let at = Cell::new(0);
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed, keys, settings, setting);
        for (i, operation) in operations.iter().enumerate() {
            at.set(i);
            world.step(operation);
        }
        at.set(operations.len());
        for last in [Operation::Compare, Operation::Verify, Operation::Reopen { setting: 0 }] {
            world.step(&last);
        }
        world.step(&Operation::Compare);
        world.step(&Operation::Verify);
        world.answers()
    }));
    let caught = CAUGHT.take().unwrap_or_default();
    result.map_err(|_| {
        let at = at.get();
        format!("operation {at} {:?}: {caught}", operations.get(at))
    })
}

/// The runs under `which` settings; the first failure, or difference.
fn run_under(
    seed: u64,
    keys: &[Vec<u8>],
    operations: &[Operation],
    which: &[usize],
) -> Option<Failure> {
    let settings = settings(seed);
    let mut first = None;
    for &setting in which {
        match run(seed, keys, operations, &settings, setting) {
            Err(what) => return Some(Failure { settings: vec![setting], what }),
            Ok(answers) => match first {
                None => first = Some((setting, answers)),
                Some((other, hash)) if hash != answers => {
                    let what = "the answers differ".to_owned();
                    return Some(Failure { settings: vec![other, setting], what });
                }
                Some(_) => {}
            },
        }
    }
    None
}

fn check(seed: u64, operations: usize) {
    let sequence = Sequence::of(seed, operations);
    let all: Vec<usize> = (0..SETTINGS).collect();
    let Some(failure) = run_under(seed, &sequence.keys, &sequence.operations, &all) else { return };
    let configs = settings(seed);
    println!("seed {seed}, settings {:?}: {}", failure.settings, failure.what);
    println!("{:#?}", configs[failure.settings[0]]);
    println!(
        "again: LIGHTNING_SEQUENCES_FIRST={seed} LIGHTNING_SEQUENCES=1 \
         LIGHTNING_SEQUENCES_OPERATIONS={operations} \
         cargo test --profile heavy -p lightning_db --test sequences -- --nocapture"
    );
    let short = shrink::shrink(sequence.operations, |operations| {
        run_under(seed, &sequence.keys, operations, &failure.settings).map(|f| f.what)
    });
    println!("shrunk to {} operations:", short.operations.len());
    for operation in &short.operations {
        println!("    {operation:?}");
    }
    panic!("seed {seed}: {}; shrunk: {}", failure.what, short.what.unwrap_or_default());
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// What was left of the runs lay over one large partition of the base, and was so little that its
/// score, in thousandths, was 0, as was that of a partition with nothing over it at all. The first of
/// them was renewed, which changed nothing, and so again: the commit never returned.
#[test]
fn merges_end_where_hardly_anything_is_stacked() {
    check(5, 800);
}

#[test]
fn the_engine_answers_as_the_model_under_every_setting() {
    let sequences = number("LIGHTNING_SEQUENCES", 20);
    let operations = number("LIGHTNING_SEQUENCES_OPERATIONS", 500) as usize;
    let first = number("LIGHTNING_SEQUENCES_FIRST", 1);
    for seed in first..first + sequences {
        check(seed, operations);
    }
    println!(
        "tried: {sequences} sequences of {operations} operations under {SETTINGS} settings each"
    );
}
