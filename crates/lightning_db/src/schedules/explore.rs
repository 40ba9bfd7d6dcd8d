//! Runs a model under many schedules, half of them at random at every step, half with few
//! switches at places chosen by chance (PCT: Burckhardt and others, "A Randomized Scheduler with
//! Probabilistic Guarantees of Finding Bugs", 2010).
//!
//! `LIGHTNING_SCHEDULES` scales the counts, in percent; `LIGHTNING_SCHEDULES_SEED` begins with
//! another seed than 1. The same seed gives the same schedules.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner};

/// How many switches a bug may need that PCT is to find with some probability.
const DEPTH: usize = 3;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// Tries `schedules` (scaled) of `model`; `name` is the test's, to run it again.
pub(crate) fn explore(
    name: &str,
    schedules: usize,
    model: impl Fn() + Send + Sync + Copy + 'static,
) {
    let percent = number("LIGHTNING_SCHEDULES", 100) as usize;
    let seed = number("LIGHTNING_SCHEDULES_SEED", 1);
    let half = (schedules * percent / 200).max(1);
    let mut config = Config::new();
    config.stack_size = 256 * 1024;
    config.silence_warnings = true;
    let tried = catch_unwind(AssertUnwindSafe(|| {
        let random = RandomScheduler::new_from_seed(seed, half);
        let few = PctScheduler::new_from_seed(seed, DEPTH, half);
        Runner::new(random, config.clone()).run(model) + Runner::new(few, config).run(model)
    }))
    .unwrap_or_else(|failure| {
        eprintln!(
            "again: LIGHTNING_SCHEDULES={percent} LIGHTNING_SCHEDULES_SEED={seed} .ci/models {name}"
        );
        resume_unwind(failure)
    });
    println!("tried: {tried} schedules ({name})");
}
