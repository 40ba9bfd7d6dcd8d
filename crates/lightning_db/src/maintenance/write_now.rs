//! A write that waits for nothing, or is not done: for callers whose thread must not be blocked.
//!
//! What may hold a write up is looked for before, and once more inside the commit section where it can
//! come meanwhile: locks, indexes, a commit that is being synced (which is to be visible first), a log
//! file that is full. Nothing of it is done then, and the caller goes the whole way elsewhere.

use crate::commit::batch::WriteBatch;
use crate::commit::section::{Committed, SectionState, Wait};
use crate::config::{Durability, WalSyncMode, WriteOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::BLOB_THRESHOLD_BYTES;
use crate::maintenance::core::Core;
use crate::maintenance::write::check_entry;
use crate::segment::leave_files;
use crate::sync::atomic::Ordering;

/// What is larger takes too long to copy.
const MOST_BYTES: usize = 64 * 1024;

/// Commits a batch at once; `None` where it would have to wait, or would be refused.
pub fn write_without_waiting(
    core: &Core,
    batch: &WriteBatch,
    options: WriteOptions,
) -> Option<Result<()>> {
    let config = &core.config;
    let durability = options.durability.unwrap_or(match config.wal_sync_mode {
        WalSyncMode::Sync => Durability::Sync,
        WalSyncMode::Periodic { .. } => Durability::Periodic,
        WalSyncMode::Async => Durability::Async,
    });
    let has_log = core.env.log.is_some();
    let mark = core.indexes.mark();
    let waits = (durability == Durability::Sync && has_log)
        || (options.durability.is_some() && !has_log)
        // What the commit makes due would be done here.
        || config.background_threads == 0
        // To be asked for, the room takes a latch that is held while the manifest is synced.
        || config.max_database_size.is_some()
        || core.failing.load(Ordering::Acquire)
        || core.pacer.is_slowing()
        || mark.any()
        || core.locks.any()
        || core.has_default_ttl();
    let is_plain = !batch.is_empty()
        && !batch.merges
        && !batch.ranges
        && !batch.lifetimes
        && batch.largest_value < BLOB_THRESHOLD_BYTES
        && batch.body.len() <= MOST_BYTES.min(config.max_transaction_size as usize);
    let key = if batch.empty_key { 0 } else { batch.largest_key };
    let is_refused = core.check_writable().is_err()
        || batch.check_owner(&core.env).is_err()
        || check_entry(config, key, batch.largest_value).is_err();
    if waits || !is_plain || is_refused {
        return None;
    }
    let mut hindered = false;
    let commit = |state: &mut SectionState| {
        hindered = core.locks.any()
            || core.indexes.mark() != mark
            || core.section.waits_for_others(state, batch.body.len());
        if hindered {
            return Err(Error::new(ErrorKind::TimedOut, "the commit would have to wait"));
        }
        Ok(())
    };
    // A memtable that is sealed is the end of a version, which may have been the last to read a file.
    let committed =
        leave_files(|| core.section.commit_if_free(&batch.body, Wait::Written, commit))?;
    if hindered {
        return None;
    }
    Some(committed.and_then(|committed| {
        if durability == Durability::Periodic {
            core.note_periodic(committed.seq)?;
        }
        tell_of(core, &committed);
        Ok(())
    }))
}

/// Has the background threads do what the commit made due.
fn tell_of(core: &Core, committed: &Committed) {
    core.note_time();
    let asleep = core.log_thread_sleeps.load(Ordering::Relaxed)
        && core.log_thread_sleeps.swap(false, Ordering::AcqRel);
    if committed.log_upkeep {
        core.log_upkeep_due.store(true, Ordering::Release);
    }
    if asleep || committed.log_upkeep {
        core.sync_signal.raise();
    }
    if committed.sealed {
        core.update_pressure_if_free();
    }
    if committed.sealed || committed.log_upkeep {
        // They look whether the log is over its bound too.
        core.signal.raise();
    }
}
