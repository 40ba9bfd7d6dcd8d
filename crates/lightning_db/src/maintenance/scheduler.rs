//! The background threads: the first flushes, the others merge; a single one does both, flushes
//! first. A thread that finds nothing waits for a signal, or for `compaction_interval`.
//!
//! A failed step is noted (`health_check` shows it) and tried again after a pause: what failed for
//! want of space goes on once there is some. A poisoned handle ends the work.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::maintenance::core::{Core, Work};
use crate::sync::atomic::Ordering;
use crate::sync::thread::JoinHandle;
use crate::sync::{Condvar, Mutex};
use crate::types::Seq;

/// The pause after a failed step.
const RETRY: Duration = Duration::from_millis(200);

/// Tells threads that there may be work.
#[derive(Debug, Default)]
pub struct Signal {
    generation: Mutex<u64>,
    changed: Condvar,
}

impl Signal {
    /// Wakes every waiting thread.
    pub fn raise(&self) {
        *self.generation.lock() += 1;
        self.changed.notify_all();
    }

    /// The current generation: a signal raised after it was read is not missed.
    fn current(&self) -> u64 {
        *self.generation.lock()
    }

    /// Waits until a signal after `seen`, at most `timeout`.
    fn wait_past(&self, seen: u64, timeout: Duration) {
        let generation = self.generation.lock();
        if *generation == seen {
            drop(self.changed.wait_timeout(generation, timeout));
        }
    }
}

/// What a thread does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Flush,
    Merge,
    Both,
}

/// Starts the threads that the configuration asks for.
pub fn start(core: &Arc<Core>) -> std::io::Result<Vec<JoinHandle<()>>> {
    let mut handles = Vec::new();
    let started = start_all(core, &mut handles);
    if started.is_err() {
        // Those that run hold the database, and with it its lock.
        stop(core, handles.split_off(0));
    }
    started.map(|()| handles)
}

/// Ends the threads, and calls that write files of their own, and waits for them. A panic in one of them poisons the handle.
pub fn stop(core: &Core, handles: Vec<JoinHandle<()>>) {
    core.file_jobs.wait_for_end();
    core.env.stopping.store(true, Ordering::Release);
    core.signal.raise();
    core.sync_signal.raise();
    for thread in handles {
        if thread.join().is_err() {
            core.env.poison(&Error::new(ErrorKind::Poisoned, "a background thread panicked"));
        }
    }
}

fn start_all(core: &Arc<Core>, handles: &mut Vec<JoinHandle<()>>) -> std::io::Result<()> {
    let count = core.config.background_threads;
    if count > 0 {
        let weak = Arc::downgrade(core);
        core.env.blobs.leaving().wake_by(move || {
            if let Some(core) = weak.upgrade() {
                core.signal.raise();
            }
        });
    }
    for i in 0..count {
        let role = match (i, count) {
            (0, 1) => Role::Both,
            (0, _) => Role::Flush,
            _ => Role::Merge,
        };
        let core = Arc::clone(core);
        let name = format!("lightning-{}", if i == 0 { "flush" } else { "merge" });
        handles
            .push(crate::sync::thread::Builder::new().name(name).spawn(move || run(&core, role))?);
    }
    if count > 0 && core.env.log.is_some() {
        let core = Arc::clone(core);
        let builder = crate::sync::thread::Builder::new().name("lightning-sync".to_owned());
        handles.push(builder.spawn(move || sync_periodically(&core))?);
    }
    Ok(())
}

/// Syncs the log so that each `Periodic` commit is durable within the interval. Once nothing has been
/// written for a while it vouches for what is durable, and frees the memory that waits for memtables. A failed sync poisons the log, which is how
/// writers learn of it.
fn sync_periodically(core: &Core) {
    /// After so long without a commit the log counts as idle.
    const IDLE: Duration = Duration::from_secs(1);
    const ASLEEP: Duration = Duration::from_secs(3600);
    let Some(log) = &core.env.log else { return };
    let mut idle_since = (log.durable_seq(), core.env.now());
    let mut applied = core.section.applied();
    loop {
        // Before looking whether to stop: a signal in between is then not missed.
        let seen = core.sync_signal.current();
        if core.env.stopping.load(Ordering::Acquire) {
            return;
        }
        if core.log_upkeep_due.swap(false, Ordering::AcqRel) {
            if core.keep_up_log().is_err() {
                return;
            }
            continue;
        }
        if Seq(core.periodic_due.load(Ordering::Acquire)) <= log.durable_seq() {
            let (durable, now) = (log.durable_seq(), core.env.now());
            if durable != idle_since.0 {
                idle_since = (durable, now);
                applied = core.section.applied();
            }
            let left = IDLE.saturating_sub(now.saturating_sub(idle_since.1));
            if left > Duration::ZERO {
                core.sync_signal.wait_past(seen, left);
                continue;
            }
            // What fails, for want of space say, is tried again after the next commits.
            let _ = core.vouch_for_log();
            if core.section.applied() != applied {
                // Commits that were not synced: not idle yet.
                (idle_since, applied) = ((durable, now), core.section.applied());
                continue;
            }
            core.env.spare.release();
            // A commit just now may not see it, and is vouched for with the next.
            core.log_thread_sleeps.store(true, Ordering::Release);
            if log.durable_seq() == durable {
                core.sync_signal.wait_past(seen, ASLEEP);
            }
            core.log_thread_sleeps.store(false, Ordering::Release);
            idle_since = (log.durable_seq(), core.env.now());
            applied = core.section.applied();
            continue;
        }
        // Part of the interval goes to the sync itself.
        core.sync_signal.wait_past(seen, core.config.sync_interval() / 2);
        if log.sync_to(Seq(core.periodic_due.load(Ordering::Acquire))).is_err() {
            return;
        }
    }
}

fn run(core: &Core, role: Role) {
    loop {
        // Before looking whether to stop: a signal in between is then not missed, and closing does
        // not wait for `compaction_interval`.
        let seen = core.signal.current();
        if core.env.stopping.load(Ordering::Acquire) {
            return;
        }
        core.expire_transactions();
        core.env.blobs.leaving().remove_waiting();
        match step(core, role) {
            Ok(true) => core.signal.raise(),
            Ok(false) => core.signal.wait_past(seen, core.config.compaction_interval),
            Err(e) if e.kind() == ErrorKind::Closed => {}
            Err(_) => core.signal.wait_past(core.signal.current(), RETRY),
        }
    }
}

fn step(core: &Core, role: Role) -> Result<bool> {
    let mut done = false;
    if role != Role::Merge {
        done |= core.noting(Work::Flush, || {
            core.write_times()?;
            core.trim_kept()?;
            Ok(core.flush_step()? | core.bound_log()?)
        })?;
    }
    if role != Role::Flush && core.config.background_compaction {
        done |= core.noting(Work::Merge, || Ok(core.merge_step()? | core.clean_blobs()?))?;
        // After all that is due.
        done = done || core.noting(Work::Merge, || core.rekey_step(false))?;
    }
    Ok(done)
}
