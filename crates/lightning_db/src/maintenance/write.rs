//! The way of a write: limits, room, pace, large values to blob pages, indexes, locks, the commit
//! section, and the work that the commit made due.
//!
//! 1. Limits are checked before anything is written.
//! 2. What expires gets its moment here, once; the clock is asked from before it can be seen.
//! 3. A write honours the locks of others: it is refused inside the section while one stands
//!    against it, and waits outside.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::commit::batch::{Operation, Operations, Write, WriteBatch, encode, encode_range};
use crate::commit::operands;
use crate::commit::section::{Committed, SectionState, Wait, has_large_values};
use crate::config::{Durability, LightningDbConfig, WalSyncMode, WriteOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{BLOB_THRESHOLD_BYTES, MAX_COMMIT_BYTES};
use crate::locks::{LockMode, Owner, Request, Target};
use crate::maintenance::core::{Core, Work};
use crate::maintenance::indexes::upkeep::commit_with_indexes;
use crate::maintenance::row_by_row::commit_with_ranges;
use crate::store::blobs::{BlobPin, BlobStore};
use crate::sync::atomic::Ordering;
use crate::types::{Entry, EntryValue};

/// The error for a keyspace that was dropped.
pub fn dropped(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("the keyspace {name:?} was dropped"))
}

/// Refuses keys and values over the limits.
pub fn check_entry(config: &LightningDbConfig, key: usize, value: usize) -> Result<()> {
    if key == 0 {
        return Err(Error::new(ErrorKind::EmptyKey, "a key has at least one byte"));
    }
    if key > config.max_key_size {
        return Err(Error::new(
            ErrorKind::KeyTooLarge,
            format!("a key of {key} bytes is over the limit of {} bytes", config.max_key_size),
        ));
    }
    if value as u64 > config.max_value_size {
        return Err(BlobStore::too_large(value as u64, config.max_value_size));
    }
    Ok(())
}

/// Refuses a range with an end that is over the limit of keys.
pub fn check_range(
    config: &LightningDbConfig,
    start: Option<&[u8]>,
    end: Option<&[u8]>,
) -> Result<()> {
    [start, end].into_iter().flatten().try_for_each(|key| check_entry(config, key.len().max(1), 0))
}

/// Commits a batch: limits, pace, large values, locks, commit section, and the work that it made
/// due. `owner` is the transaction that writes; its own locks do not stop it. `validate` may refuse
/// the commit inside the section, and is asked again after a wait for locks.
pub fn write_batch(
    core: &Core,
    batch: &WriteBatch,
    options: WriteOptions,
    owner: Option<&Arc<Owner>>,
    validate: impl FnMut(&mut SectionState) -> Result<()>,
) -> Result<()> {
    core.check_writable()?;
    if batch.is_empty() {
        return Ok(());
    }
    batch.check_owner(&core.env)?;
    let config = &core.config;
    check_entry(config, if batch.empty_key { 0 } else { batch.largest_key }, batch.largest_value)?;
    if batch.zero_lifetime {
        return Err(Error::new(ErrorKind::InvalidArgument, "a lifetime is longer than zero"));
    }
    check_room(core, batch)?;
    let resolved = if batch.merges { Some(resolve_merges(core, batch)?) } else { None };
    let body = resolved.as_deref().unwrap_or(&batch.body);
    core.pacer.pace(&core.env, body.len());
    let durability = options.durability.unwrap_or(match config.wal_sync_mode {
        WalSyncMode::Sync => Durability::Sync,
        WalSyncMode::Periodic { .. } => Durability::Periodic,
        WalSyncMode::Async => Durability::Async,
    });
    if options.durability.is_some() && core.env.log.is_none() {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            "durability cannot be chosen per write where the database has no log",
        ));
    }
    let wait = match durability {
        Durability::Sync if core.env.log.is_some() => Wait::Durable,
        _ => Wait::Written,
    };
    let lives = batch.lifetimes || core.has_default_ttl();
    let with_moments = if lives { begin_lives(core, batch, body)? } else { None };
    let body = with_moments.as_deref().unwrap_or(body);
    let committed = {
        // Of the large values; it goes before the work that a commit makes due.
        let pin = core.env.blobs.pin();
        let large = has_large_values(body, BLOB_THRESHOLD_BYTES);
        let moved = if large { Some(move_large_values(&pin, body)?) } else { None };
        let whole = moved.as_deref().unwrap_or(body);
        check_size(config, whole.len())?;
        if batch.ranges {
            commit_with_ranges(core, body, whole, wait, owner, validate)?
        } else {
            commit_with_indexes(core, body, whole, wait, owner, validate)?
        }
    };
    if durability == Durability::Periodic {
        core.note_periodic(committed.seq)?;
    }
    after_commit(core, committed)
}

/// Commits a batch of entries of indexes, made by this crate: only room and pace are asked for.
/// `validate` is as in [`write_batch`].
pub(super) fn write_entries(
    core: &Core,
    batch: &WriteBatch,
    validate: impl FnMut(&mut SectionState) -> Result<()>,
) -> Result<()> {
    core.check_writable()?;
    check_room(core, batch)?;
    core.pacer.pace(&core.env, batch.body.len());
    check_size(&core.config, batch.body.len())?;
    let committed = commit(core, &batch.body, Wait::Written, None, validate)?;
    after_commit(core, committed)
}

/// The body of a batch that merges, as it is committed.
fn resolve_merges(core: &Core, batch: &WriteBatch) -> Result<Vec<u8>> {
    let find = |id| {
        let keyspaces = core.keyspaces.read();
        let found = keyspaces.values().find(|k| k.id == id).cloned();
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, "the keyspace was dropped"))
    };
    let body = operands::resolve(&batch.body, find)?;
    for op in parts(&body).filter_map(Write::entry) {
        check_entry(&core.config, op.key.len(), op.entry.value.inline_len())?;
    }
    Ok(body)
}

/// Commits once no lock of others stands against it. Whoever finds one inside the section leaves it,
/// waits in order for exclusive locks on all its keys, and comes again with these.
pub(super) fn commit(
    core: &Core,
    body: &[u8],
    wait: Wait,
    owner: Option<&Arc<Owner>>,
    mut validate: impl FnMut(&mut SectionState) -> Result<()>,
) -> Result<Committed> {
    let mut waiter: Option<WriteOwner<'_>> = None;
    loop {
        let number = owner.or(waiter.as_ref().map(|w| &w.owner)).map_or(0, |o| o.number);
        let mut locked = false;
        let result = core.section.commit(body, wait, |state| {
            locked = core.locks.any() && is_locked(core, number, body);
            if locked {
                return Err(Error::new(ErrorKind::TimedOut, "a row is locked"));
            }
            validate(state)
        });
        if !locked {
            return result;
        }
        let owner = match owner {
            Some(owner) => owner,
            None => &waiter.get_or_insert_with(|| WriteOwner::new(core)).owner,
        };
        lock_all(core, owner, body)?;
    }
}

/// A single write while it waits for locks: what it got is given back when it is done.
pub(super) struct WriteOwner<'a> {
    core: &'a Core,
    /// Who has them.
    pub(super) owner: Arc<Owner>,
}

impl<'a> WriteOwner<'a> {
    /// Holds none yet.
    pub(super) fn new(core: &'a Core) -> Self {
        Self { core, owner: Arc::new(Owner::new(core.transactions.next_number(), Duration::MAX)) }
    }
}

impl Drop for WriteOwner<'_> {
    fn drop(&mut self) {
        self.core.locks.release(&self.owner);
    }
}

fn parts(body: &[u8]) -> impl Iterator<Item = Write<'_>> {
    Operations::new(body).map(|op| op.expect("bodies are encoded by this process"))
}

fn is_locked(core: &Core, owner: u64, body: &[u8]) -> bool {
    parts(body).any(|part| match part {
        Write::Entry(op) => core.locks.forbids_write(owner, op.keyspace, op.key),
        Write::DeleteRange(r) => core.locks.forbids_range(owner, r.keyspace, r.start, r.end),
    })
}

/// Waits for exclusive locks on every key and range of a body, in the order of keys.
fn lock_all(core: &Core, owner: &Arc<Owner>, body: &[u8]) -> Result<()> {
    // A range's end is told apart from a single key by the outer option.
    let mut targets: Vec<_> = parts(body)
        .map(|part| match part {
            Write::Entry(op) => (op.keyspace, op.key, None),
            Write::DeleteRange(r) => (r.keyspace, r.start, Some(r.end)),
        })
        .collect();
    targets.sort_unstable();
    targets.dedup();
    for (keyspace, key, range) in targets {
        let target = match range {
            None => Target::Row(key.to_vec()),
            Some(end) => Target::Range(key.to_vec(), end.map(<[u8]>::to_vec)),
        };
        let mode = LockMode::Exclusive;
        let request = Request { owner: Arc::clone(owner), keyspace, target, mode };
        core.locks.acquire(&request, core.config.lock_timeout, &|| core.env.now())?;
    }
    Ok(())
}

pub(super) fn check_size(config: &LightningDbConfig, bytes: usize) -> Result<()> {
    let limit = config.max_transaction_size.min(MAX_COMMIT_BYTES as u64);
    if bytes as u64 > limit {
        return Err(Error::new(
            ErrorKind::TransactionTooLarge,
            format!("a commit of {bytes} bytes is over the limit of {limit} bytes"),
        ));
    }
    Ok(())
}

/// Refuses to go on where the quota leaves no room for `bytes` more.
pub fn check_quota(core: &Core, bytes: u64) -> Result<()> {
    let Some(limit) = core.config.max_database_size else { return Ok(()) };
    let used = core.segment_bytes();
    if used + bytes <= limit {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::StorageFull,
        format!(
            "{bytes} bytes more would bring the database, which has {used}, over \
             max_database_size ({limit} bytes): delete something and compact"
        ),
    ))
}

/// Refuses writes that the quota, or a full disk behind waiting memtables, leaves no room for. The
/// quota does not refuse what only deletes: that is how there comes to be room.
fn check_room(core: &Core, batch: &WriteBatch) -> Result<()> {
    if let Some(limit) = core.config.max_database_size
        && batch.puts
    {
        let used = core.segment_bytes();
        if used + batch.body.len() as u64 > limit {
            return Err(Error::new(
                ErrorKind::StorageFull,
                format!(
                    "a commit of {} bytes would bring the database, which has {used}, over \
                     max_database_size ({limit} bytes): delete something and compact",
                    batch.body.len()
                ),
            ));
        }
    }
    if !core.is_short_of_space() {
        return Ok(());
    }
    // Here, not by the threads: nothing is to be refused once there is space. How it ended is noted.
    let _ = core.noting(Work::Flush, || core.flush_step());
    match core.failure(Work::Flush) {
        Some((ErrorKind::StorageFull, why)) if core.is_short_of_space() => Err(Error::new(
            ErrorKind::StorageFull,
            format!("memtables wait to be flushed, for which there is no space: {why}"),
        )),
        _ => Ok(()),
    }
}

/// The body with moments in the place of lifetimes, those of keyspaces included; `None` where there
/// are none.
fn begin_lives(core: &Core, batch: &WriteBatch, body: &[u8]) -> Result<Option<Vec<u8>>> {
    let defaults = core.default_ttls();
    if !batch.lifetimes && parts(body).all(|part| !defaults.contains_key(&part.keyspace())) {
        return Ok(None);
    }
    let merging = if batch.lifetimes { core.merging() } else { BTreeSet::new() };
    let lifetimes = &core.env.lifetimes;
    lifetimes.enable();
    let now = lifetimes.now();
    let mut out = Vec::with_capacity(body.len() + 8 * batch.count);
    for part in parts(body) {
        let mut op = match part {
            Write::Entry(op) => op,
            Write::DeleteRange(range) => {
                encode_range(&mut out, &range);
                continue;
            }
        };
        let ttl = match op.entry.value {
            // A large value is there already where it came as a stream.
            EntryValue::Inline(_) | EntryValue::Blob(_) if op.entry.expiry.is_never() => {
                defaults.get(&op.keyspace).copied().unwrap_or(op.entry.expiry)
            }
            _ => op.entry.expiry,
        };
        if !ttl.is_never() {
            if merging.contains(&op.keyspace) {
                return Err(no_lives_where_merged());
            }
            op.entry.expiry = now.after(ttl);
        }
        encode(&mut out, &op);
    }
    Ok(Some(out))
}

/// The error for a lifetime in a keyspace with a merge operator.
pub fn no_lives_where_merged() -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        "a keyspace with a merge operator gives no lifetimes: what was merged would outlive them",
    )
}

/// The body with its large values moved to blob pages.
fn move_large_values(blobs: &BlobPin<'_>, body: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for part in parts(body) {
        let op = match part {
            Write::Entry(op) => op,
            Write::DeleteRange(range) => {
                encode_range(&mut out, &range);
                continue;
            }
        };
        let value = match op.entry.value {
            EntryValue::Inline(v) if v.len() >= BLOB_THRESHOLD_BYTES => {
                EntryValue::Blob(blobs.put(v)?)
            }
            other => other,
        };
        encode(&mut out, &Operation { entry: Entry { value, ..op.entry }, ..op });
    }
    Ok(out)
}

fn after_commit(core: &Core, committed: Committed) -> Result<()> {
    core.note_time();
    // The first commit after a pause.
    if core.log_thread_sleeps.load(Ordering::Relaxed)
        && core.log_thread_sleeps.swap(false, Ordering::AcqRel)
    {
        core.sync_signal.raise();
    }
    if committed.log_upkeep {
        if core.config.background_threads > 0 {
            core.log_upkeep_due.store(true, Ordering::Release);
            core.sync_signal.raise();
        } else {
            // A failure poisons the log, which is how later commits learn of it; this one stands.
            let _ = core.keep_up_log();
        }
        // The bound holds however seldom a memtable is full.
        if core.is_log_over_bound() {
            if core.config.background_threads > 0 {
                core.signal.raise();
            } else {
                let _ = core.noting(Work::Flush, || core.bound_log());
            }
        }
    }
    if !committed.sealed {
        return Ok(());
    }
    core.update_pressure();
    if core.config.background_threads > 0 {
        core.signal.raise();
        return Ok(());
    }
    // The commit stands whatever becomes of the work: a failure is noted, shown by
    // `health_check`, and met again by the next flush.
    core.work_inline();
    Ok(())
}
