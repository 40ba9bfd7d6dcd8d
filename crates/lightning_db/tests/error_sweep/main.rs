//! The error sweep: workloads on the simulated disk are run with one operation failing, once or for
//! good, with the operation rising until the run is clean. `workload` has the steps, `world` what is
//! checked at each of them and after the fault is over, `stories` single faults that once broke a promise.
//!
//! Faults: a failing device and a full disk by the operation's number and by its kind, short and
//! interrupted reads and writes (of which nobody may notice anything), and a disk that is too small
//! for a while.
//!
//! `LIGHTNING_SWEEP_RUNS` sets how many cases are drawn (`all`: every one), `LIGHTNING_SWEEP_SEEDS`
//! how many workloads of each setup, `LIGHTNING_SWEEP_FIRST` the first one's seed; a failure prints the `LIGHTNING_SWEEP_ONLY` that repeats it.

mod stories;
mod workload;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use lightning_db::vfs::SimulatedVfs;
use lightning_db::vfs::simulated::{FaultError, FaultRule, Operation, Times};

use workload::{SETUPS, Setup, steps};
use world::World;

/// What goes wrong in a run.
#[derive(Clone, Debug)]
enum Fault {
    /// Operation `n` of all.
    Number { n: u64, error: FaultError, forever: bool },
    /// Operation `n` of its kind.
    Kind { n: u64, kind: Operation, error: FaultError, forever: bool },
    /// The disk holds this many bytes for as long as the workload runs.
    Small { bytes: u64 },
}

#[derive(Clone, Debug)]
struct Case {
    setup: &'static Setup,
    seed: u64,
    fault: Fault,
}

impl Fault {
    fn plan(&self, vfs: &SimulatedVfs) {
        match *self {
            Self::Number { n, error, forever } => vfs.fail_operation(n, error, forever),
            Self::Kind { n, kind, error, forever } => {
                let times = if forever { Times::Forever } else { Times::Once };
                let operations = vec![kind];
                vfs.fail(FaultRule { operations, path_contains: None, at: n, times, error });
            }
            Self::Small { bytes } => vfs.set_capacity(Some(bytes)),
        }
    }

    /// Whether the caller may see an error at all.
    fn shows(&self) -> bool {
        let (Self::Number { error, .. } | Self::Kind { error, .. }) = self else { return true };
        !matches!(error, FaultError::Short | FaultError::Interrupted)
    }

    /// Whether it may keep files from being removed.
    fn may_leave_files(&self) -> bool {
        match self {
            Self::Number { .. } => self.shows(),
            Self::Kind { kind, .. } => *kind == Operation::Remove,
            Self::Small { .. } => false,
        }
    }

    /// Whether it may stop writes for good: where bytes or names on their way to the device may be
    /// lost. What is met before that (reading, making files, reserving space) must not.
    fn may_poison(&self) -> bool {
        use Operation::{Remove, Rename, Sync, SyncDir, Write};
        match self {
            Self::Number { .. } => self.shows(),
            Self::Kind { kind, .. } => {
                self.shows() && matches!(kind, Write | Sync | SyncDir | Rename | Remove)
            }
            Self::Small { .. } => false,
        }
    }
}

/// Runs a case; panics where a promise is broken.
fn run(case: &Case) -> World {
    let vfs = case.setup.disk(case.seed);
    case.fault.plan(&vfs);
    let fault = &case.fault;
    let allowed = (fault.shows(), fault.may_poison(), fault.may_leave_files());
    let mut world = World::new(vfs, case.setup, allowed);
    for step in steps(case.setup, case.seed) {
        world.step(&step);
    }
    world.finish();
    world
}

/// How many operations the workload takes where nothing fails.
fn operations_of(setup: &'static Setup, seed: u64) -> u64 {
    let mut world = World::new(setup.disk(seed), setup, (false, false, false));
    for step in steps(setup, seed) {
        world.step(&step);
    }
    let total = world.vfs.operations();
    world.finish();
    total
}

/// Every case of the workloads `seeds`.
fn cases(first: u64, seeds: u64) -> Vec<Case> {
    use FaultError::{Eio, Enospc, Interrupted, Short};
    use Operation as O;
    let kinds = [
        O::Read,
        O::Write,
        O::Sync,
        O::Len,
        O::SetLen,
        O::Allocate,
        O::Create,
        O::Open,
        O::Exists,
        O::List,
        O::CreateDir,
        O::Remove,
        O::Rename,
        O::SyncDir,
        O::Lock,
    ];
    let mut cases = Vec::new();
    for seed in first..first + seeds {
        for setup in SETUPS {
            let total = operations_of(setup, seed);
            let mut add = |fault| cases.push(Case { setup, seed, fault });
            for n in 0..total {
                for error in [Eio, Enospc, Short, Interrupted] {
                    for forever in [false, true] {
                        add(Fault::Number { n, error, forever });
                    }
                }
            }
            for kind in kinds {
                let mut n = 0;
                while n < total {
                    for error in [Eio, Enospc] {
                        add(Fault::Kind { n, kind, error, forever: true });
                        add(Fault::Kind { n, kind, error, forever: false });
                    }
                    n += 1 + n / 8;
                }
            }
            for step in 0..300 {
                add(Fault::Small { bytes: 4_000 * step });
            }
        }
    }
    cases
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

#[test]
fn no_failed_operation_loses_what_was_acknowledged_or_makes_a_reader_see_wrong() {
    let seeds = number("LIGHTNING_SWEEP_SEEDS", 1);
    let first = number("LIGHTNING_SWEEP_FIRST", 1);
    let mut all = cases(first, seeds);
    let possible = all.len();
    let only = std::env::var("LIGHTNING_SWEEP_ONLY").ok();
    let every = std::env::var("LIGHTNING_SWEEP_RUNS").is_ok_and(|v| v == "all");
    if let Some(only) = &only {
        all.retain(|case| format!("{case:?}") == *only);
        assert!(!all.is_empty(), "no case is called {only}");
    } else if !every {
        fastrand::Rng::with_seed(first + 6).shuffle(&mut all);
        all.truncate(number("LIGHTNING_SWEEP_RUNS", 400) as usize);
    }
    let (mut errors, mut poisoned, mut failed) = (0, 0, Vec::new());
    for case in &all {
        match catch_unwind(AssertUnwindSafe(|| run(case))) {
            Ok(world) => {
                errors += world.errors;
                poisoned += u64::from(world.was_poisoned);
            }
            Err(_) => {
                eprintln!(
                    "run again: LIGHTNING_SWEEP_FIRST={first} LIGHTNING_SWEEP_SEEDS={seeds} \
                     LIGHTNING_SWEEP_ONLY='{case:?}' cargo test -p lightning_db --test error_sweep"
                );
                failed.push(case);
            }
        }
        assert!(failed.len() < 20, "stopped after 20 failures");
    }
    assert!(failed.is_empty(), "{} of {} runs failed: {failed:#?}", failed.len(), all.len());
    println!(
        "tried: {} of {possible} runs with failing operations, {errors} errors seen, {poisoned} handles \
         poisoned, {seeds} workloads of each of {} setups",
        all.len(),
        SETUPS.len()
    );
}
