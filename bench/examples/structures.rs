//! What the choices of ADR 22 and 23 cost by themselves: ordered maps that could be a memtable, and ways for a
//! reader to come by what is current. `cargo run --release --example structures`, in `bench/`.
//!
//! Single figures in nanoseconds, on one thread unless said; the memtable's own are printed by its test
//! (`cargo test --release -p lightning_db --lib memtable::tests::speed -- --ignored --nocapture`).

#![allow(unsafe_code)] // One of the ways is an epoch's, with its proofs below.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use crossbeam_epoch::{Atomic, Owned};
use crossbeam_skiplist::SkipMap;
use masstree::MassTree15;

const ENTRIES: usize = 500_000;
const LOOKS: u64 = 20_000_000;

fn main() {
    maps();
    versions();
}

/// Inserts and gets of random keys of 16 bytes, values of 100, as the memtable's test has them. One thread; maps that
/// others could read meanwhile say so.
fn maps() {
    let mut random = fastrand::Rng::with_seed(1);
    let keys: Vec<[u8; 16]> =
        (0..ENTRIES).map(|_| std::array::from_fn(|_| random.u8(..))).collect();
    let mut wanted = keys.clone();
    random.shuffle(&mut wanted);
    println!("{ENTRIES} entries, ns a call           insert     get");
    let value = || vec![7_u8; 100];
    let row =
        |name: &str, insert: &mut dyn FnMut(&[u8; 16]), get: &mut dyn FnMut(&[u8; 16]) -> u8| {
            let began = Instant::now();
            keys.iter().for_each(insert);
            let inserted = began.elapsed().as_nanos() as f64 / ENTRIES as f64;
            let began = Instant::now();
            for key in &wanted {
                black_box(get(key));
            }
            let got = began.elapsed().as_nanos() as f64 / ENTRIES as f64;
            println!("{name:<36} {inserted:>6.0}  {got:>6.0}");
        };

    let map = RefCell::new(BTreeMap::new());
    row("BTreeMap", &mut |key| drop(map.borrow_mut().insert(key.to_vec(), value())), &mut |key| {
        map.borrow()[key.as_slice()][99]
    });
    let map = RefCell::new(blart::TreeMap::new());
    row(
        "blart, an adaptive radix tree",
        &mut |key| drop(map.borrow_mut().insert(*key, value())),
        &mut |key| map.borrow().get(key).expect("every key is there")[99],
    );
    let map = SkipMap::new();
    row(
        "crossbeam-skiplist, readers beside",
        &mut |key| drop(map.insert(key.to_vec(), value())),
        &mut |key| map.get(key.as_slice()).expect("every key is there").value()[99],
    );
    let map = MassTree15::new();
    row(
        "masstree, readers beside",
        &mut |key| {
            map.insert_with_guard(key, value(), &map.guard());
        },
        &mut |key| map.get_ref(key, &map.guard()).expect("every key is there")[99],
    );
}

thread_local! {
    static COPY: RefCell<(u64, Arc<u64>)> = RefCell::new((0, Arc::new(0)));
}

/// A look at what is current, alone, and on two threads with one that replaces it a thousand times a second.
fn versions() {
    println!("\na look at what is current, ns     one thread   two, and a writer");
    let lock = RwLock::new(Arc::new(1_u64));
    row(
        "RwLock, under its latch",
        || **lock.read().unwrap(),
        |n| *lock.write().unwrap() = Arc::new(n),
    );
    row(
        "RwLock, Arc cloned",
        || *lock.read().unwrap().clone(),
        |n| *lock.write().unwrap() = Arc::new(n),
    );
    let swap = ArcSwap::from_pointee(1_u64);
    row("arc-swap, guard", || **swap.load(), |n| swap.store(Arc::new(n)));
    row("arc-swap, Arc cloned", || *swap.load_full(), |n| swap.store(Arc::new(n)));
    let generation = AtomicU64::new(1);
    row(
        "copy by thread, generation",
        || {
            COPY.with_borrow_mut(|copy| {
                let now = generation.load(Ordering::Acquire);
                if copy.0 != now {
                    *copy = (now, swap.load_full());
                }
                *copy.1
            })
        },
        |n| {
            swap.store(Arc::new(n));
            generation.fetch_add(1, Ordering::Release);
        },
    );
    let atomic = Atomic::new(1_u64);
    row(
        "crossbeam-epoch, pinned",
        || {
            let guard = crossbeam_epoch::pin();
            // SAFETY: the value was stored before any thread began, and what is replaced lives until no pin is older.
            unsafe { *atomic.load(Ordering::Acquire, &guard).deref() }
        },
        |n| {
            let guard = crossbeam_epoch::pin();
            let old = atomic.swap(Owned::new(n), Ordering::AcqRel, &guard);
            // SAFETY: nobody finds it any more.
            unsafe { guard.defer_destroy(old) };
        },
    );
}

fn row(name: &str, look: impl Fn() -> u64 + Sync, replace: impl Fn(u64) + Sync) {
    let loop_of = |looks: u64| {
        let began = Instant::now();
        for _ in 0..looks {
            black_box(look());
        }
        began.elapsed().as_nanos() as f64 / looks as f64
    };
    let alone = loop_of(LOOKS);
    let done = AtomicBool::new(false);
    let together = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 2;
            while !done.load(Ordering::Relaxed) {
                replace(n);
                n += 1;
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        let readers = [scope.spawn(|| loop_of(LOOKS)), scope.spawn(|| loop_of(LOOKS))];
        let together =
            readers.map(|r| r.join().expect("a reader does not panic")).iter().sum::<f64>() / 2.0;
        done.store(true, Ordering::Relaxed);
        together
    });
    println!("{name:<30} {alone:>12.1} {together:>20.1}");
}
