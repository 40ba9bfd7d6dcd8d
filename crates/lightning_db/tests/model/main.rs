//! Random sequences of every public operation, against a versioned map that answers for each
//! moment; and the same sequence under other settings, which must give the same answers.
//!
//! | file | job |
//! |---|---|
//! | `operations` | what can be done, and sequences of it |
//! | `reference` | the map |
//! | `settings` | page sizes, caches, codecs, profiles, threads, logs |
//! | `runner` | does a sequence, and compares every answer |
//! | `shrink` | the shortest part of a sequence that still fails |
//!
//! `LIGHTNING_MODEL_SEQUENCES`, `LIGHTNING_MODEL_OPERATIONS` and `LIGHTNING_MODEL_SETTINGS` say how
//! much; `LIGHTNING_MODEL_FIRST` is the first seed, and a failure names the line to run it again.

mod operations;
mod reference;
mod runner;
mod settings;
mod shrink;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// Runs one sequence under one setting; a failure is shrunk and told.
fn check(seed: u64, setting: u64, operations: usize) {
    let sequence = operations::sequence(seed, operations);
    if let Err(first) = runner::run(&sequence, setting) {
        println!("sequence {seed}, setting {setting}: {first}; shrinking");
        let (short, why) = shrink::shrink(sequence, setting, first.clone());
        for (i, op) in short.iter().enumerate() {
            println!("{i:4} {}", shrink::brief(op));
        }
        panic!(
            "sequence {seed}, setting {setting}: {first}\nshrunk to {} operations: {why}\n\
             again: LIGHTNING_MODEL_FIRST={seed} LIGHTNING_MODEL_SEQUENCES=1 \
             LIGHTNING_MODEL_OPERATIONS={operations} LIGHTNING_MODEL_SETTINGS={} \
             cargo test -p lightning_db --test model",
            short.len(),
            settings::SETTINGS,
        );
    }
}

/// A range of the base with next to nothing stacked on it scored 0, as those do that have nothing:
/// one of these was renewed in its place, which changed nothing, again and again for ever, inside
/// the call that had made a merge due.
#[test]
fn merging_comes_to_an_end_where_next_to_nothing_is_stacked() {
    for setting in 120..123 {
        check(40, setting, 2000);
    }
}

/// What a base partition takes of a run ends just behind its last key. Where this was a key of the
/// greatest length, the rest of a range delete began at a bound that is longer than a key may be, and no
/// page took it: merges failed for ever.
#[test]
fn range_deletes_are_cut_behind_keys_of_the_greatest_length() {
    check(2006, 6019, 1000);
}

#[test]
fn every_answer_is_the_models_under_every_setting() {
    let sequences = number("LIGHTNING_MODEL_SEQUENCES", 16);
    let first = number("LIGHTNING_MODEL_FIRST", 1);
    let operations = number("LIGHTNING_MODEL_OPERATIONS", 2000) as usize;
    let each = number("LIGHTNING_MODEL_SETTINGS", 3).min(settings::SETTINGS);
    for seed in first..first + sequences {
        for i in 0..each {
            check(seed, seed * each + i, operations);
        }
    }
    println!(
        "tried: {sequences} sequences of {operations} operations against the model \
         ({each} settings each)"
    );
}
