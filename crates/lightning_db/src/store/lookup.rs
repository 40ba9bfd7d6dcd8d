//! Point reads: memtables, then runs by filter, then the base.
//!
//! A point read needs no registered view: it takes the version first and the visible number after
//! it. Whatever merges dropped from that version was below a floor that was visible then, so the
//! number taken later is at or above it; and commits that went to memtables newer than the
//! version's own began after the read did, so leaving them out is a legal order.
//!
//! That is enough for one answer, but not for more: what was found need not be the newest at that
//! number, where such a commit is at or below it. Whoever relies on the number (reads that are
//! validated, several reads of one moment, values for the row cache) takes a [`moment`]: a version
//! that is the current one still when the number has been read, and so has every commit up to it.

use std::ops::Deref;
use std::sync::Arc;

use crate::cache::Pager;
use crate::error::Result;
use crate::segment::BlobPages;
use crate::store::environment::Environment;
use crate::store::fold;
use crate::store::keyspace::KeyspaceStore;
use crate::store::value::Value;
use crate::store::version::{Row, Version};
use crate::tree::{self, FoundValue};
use crate::types::{BlobRef, EntryValue, Expiry, Seq, Time, hash_key};

/// The newest committed value of `key`: from the row cache, or else looked up and offered to it.
#[inline]
pub fn get_newest(
    env: &Environment,
    keyspace: &KeyspaceStore,
    key: &[u8],
) -> Result<Option<Value>> {
    let hash = hash_key(key);
    if let Some(row) = env.rows.get(keyspace.id, key, hash, || env.visible()) {
        return Ok(Some(Value::in_row(row)));
    }
    // The version before the number: see the module.
    let version = keyspace.version();
    let at = env.visible();
    let moment = || env.lifetimes.moment();
    let Some(found) = get(env, keyspace, &version, key, hash, at, moment)? else {
        return Ok(None);
    };
    if !found.lasts {
        return Ok((!found.expiry.is_over(moment())).then_some(found.value));
    }
    if Arc::ptr_eq(&version, &keyspace.version()) {
        env.rows.offer(keyspace.id, key, hash, at, &found.value);
    }
    Ok(Some(found.value))
}

/// A version and a number, such that the version has every commit up to the number, and nothing that
/// is seen at it was dropped.
pub fn moment<'a>(
    env: &Environment,
    keyspace: &'a KeyspaceStore,
) -> (impl Deref<Target = Arc<Version>> + use<'a>, Seq) {
    loop {
        let version = keyspace.version();
        let at = env.visible();
        // Held meanwhile, so that no other version can have taken its address.
        if Arc::ptr_eq(&version, &keyspace.version()) {
            return (version, at);
        }
    }
}

/// The newest value of `key` at or below `at`, unless it has expired at `now`; from the row cache where
/// that has it. `version` is one that has every commit up to `at`: loaded after a view at `at` was taken,
/// or with it by [`moment`]. `now` is the view's moment, or the clock's after `at` was read.
#[inline]
pub fn get_at(
    env: &Environment,
    keyspace: &KeyspaceStore,
    version: &Version,
    key: &[u8],
    at: Seq,
    now: Time,
) -> Result<Option<Value>> {
    let found = get_expiring_at(env, keyspace, version, key, at, now)?;
    Ok(found.map(|(value, _)| value))
}

/// As [`get_at`], with the expiry.
#[inline]
pub fn get_expiring_at(
    env: &Environment,
    keyspace: &KeyspaceStore,
    version: &Version,
    key: &[u8],
    at: Seq,
    now: Time,
) -> Result<Option<(Value, Expiry)>> {
    let hash = hash_key(key);
    if let Some(row) = env.rows.get_at(keyspace.id, key, hash, at) {
        return Ok(Some((Value::in_row(row), Expiry::NEVER)));
    }
    let found = get(env, keyspace, version, key, hash, at, || now)?;
    let Some(found) = found.filter(|found| !found.expiry.is_over(now)) else {
        return Ok(None);
    };
    if found.lasts {
        env.rows.offer(keyspace.id, key, hash, at, &found.value);
    }
    Ok(Some((found.value, found.expiry)))
}

/// The newest value of `key` at or below `at`, expired or not, and when that expires; `at` is a commit whose
/// entries are in the memtables but which may not be visible yet: so nothing is offered to the row cache.
/// Merges may meanwhile drop what a commit past `at` has overwritten; whoever asks must learn of such a
/// commit by itself. It is about to overwrite the value, or does this for every key: a large one is not kept.
pub fn get_applied(
    env: &Environment,
    keyspace: &KeyspaceStore,
    key: &[u8],
    at: Seq,
) -> Result<Option<(Value, Expiry)>> {
    let hash = hash_key(key);
    if let Some(row) = env.rows.get_at(keyspace.id, key, hash, at) {
        return Ok(Some((Value::in_row(row), Expiry::NEVER)));
    }
    let now = || env.lifetimes.moment();
    let large = |blob: &BlobRef| Ok(Value::owned(env.blobs.read(blob)?));
    let (version, key) = (keyspace.version(), (key, hash));
    let found = find(env, keyspace, &version, key, at, now, |value| value, large)?;
    Ok(found.map(|found| (found.value, found.expiry)))
}

/// What is stored under a key.
#[derive(Debug)]
pub enum Stored {
    /// A value in memory.
    Value(Value),
    /// A large value, of which nothing was read.
    Pages(BlobPages),
}

/// As [`get_at`], but that a large value is not read: its pages can be.
pub fn find_at(
    env: &Environment,
    keyspace: &KeyspaceStore,
    version: &Version,
    key: &[u8],
    at: Seq,
    now: Time,
) -> Result<Option<Stored>> {
    let pages = |blob: &BlobRef| Ok(Stored::Pages(env.blobs.pages(blob)?));
    let key = (key, hash_key(key));
    let found = find(env, keyspace, version, key, at, || now, Stored::Value, pages)?;
    Ok(found.filter(|found| !found.expiry.is_over(now)).map(|found| found.value))
}

/// What [`find`] finds.
struct Found<T> {
    value: T,
    expiry: Expiry,
    /// Whether it is the value at all moments. If not, it is not for the row cache, which knows nothing of
    /// time.
    lasts: bool,
}

impl<T> Found<T> {
    fn new(value: T, expiry: Expiry) -> Self {
        Self { value, expiry, lasts: expiry.is_never() }
    }
}

/// The newest value of `key` at or below `at`, in that version, expired or not.
#[inline]
fn get(
    env: &Environment,
    keyspace: &KeyspaceStore,
    version: &Version,
    key: &[u8],
    hash: u64,
    at: Seq,
    now: impl FnOnce() -> Time,
) -> Result<Option<Found<Value>>> {
    let large = |blob: &BlobRef| env.blobs.fetch(blob);
    find(env, keyspace, version, (key, hash), at, now, |value| value, large)
}

/// The newest value of a key, given with its hash, at or below `at`, in that version, expired or not: as
/// `inline` or `large` gives it.
#[inline]
#[allow(clippy::too_many_arguments, reason = "a read, and how its value is given")]
fn find<T>(
    env: &Environment,
    keyspace: &KeyspaceStore,
    version: &Version,
    (key, hash): (&[u8], u64),
    at: Seq,
    now: impl FnOnce() -> Time,
    inline: impl Fn(Value) -> T,
    large: impl Fn(&BlobRef) -> Result<T>,
) -> Result<Option<Found<T>>> {
    let (pager, blobs) = (&env.pager, &*env.blobs);
    let folded = || {
        let (value, lasts) = fold::get(keyspace, version, pager, blobs, key, (at, now()))?;
        Ok(Some(Found { value: inline(Value::owned(value)), expiry: Expiry::NEVER, lasts }))
    };
    for memtable in version.memtables() {
        if memtable.is_empty() {
            continue;
        }
        if let Some((_, entry)) = memtable.get_hashed(key, hash, at) {
            let value = match entry.value {
                EntryValue::Inline(v) => inline(Value::owned(v.to_vec())),
                EntryValue::Blob(blob) => large(&blob)?,
                EntryValue::Tombstone => return Ok(None),
                EntryValue::Operands(_) => return folded(),
            };
            return Ok(Some(Found::new(value, entry.expiry)));
        }
    }
    let Some(found) = find_in_rows(version, pager, key, hash, at)? else { return Ok(None) };
    let value = match found.value {
        FoundValue::Inline(page, range) => inline(Value::in_page(page, range)),
        FoundValue::Blob(blob) => large(&blob)?,
        FoundValue::Tombstone => return Ok(None),
        FoundValue::Operands => return folded(),
    };
    Ok(Some(Found::new(value, found.expiry)))
}

/// The newest version of `key` at or below `at` in runs and base, where no range delete above hides it.
#[inline]
fn find_in_rows(
    version: &Version,
    pager: &Pager,
    key: &[u8],
    hash: u64,
    at: Seq,
) -> Result<Option<tree::Found>> {
    for run in version.runs.iter().filter(|r| !r.is_consumed(key)) {
        if let Some(partition) = run.row.find(key)
            && let Some(found) = partition.get(pager, key, hash, at)?
        {
            return Ok(Some(found));
        }
        if run.hides(key, at) {
            return Ok(None);
        }
    }
    match version.base.find(key) {
        Some(partition) => partition.get(pager, key, hash, at),
        None => Ok(None),
    }
}

/// The number of the newest entry of `key`, or of the newest range delete over it, visible or not; settled
/// ones give 0, an absent key gives `None`. Looks no further down than it must to know whether the number
/// is past `since`.
pub fn newest_seq(version: &Version, pager: &Pager, key: &[u8], since: Seq) -> Result<Option<Seq>> {
    for memtable in version.memtables() {
        if let Some(seq) = memtable.newest_seq(key) {
            return Ok(Some(seq));
        }
        if memtable.first_seq() <= since.next() {
            // Everything after `since` is in this memtable or in newer ones.
            return Ok(None);
        }
    }
    let hash = hash_key(key);
    let in_row = |row: &Row| match row.find(key).filter(|p| p.meta().max_seq > since) {
        Some(partition) => partition.newest_seq(pager, key, hash),
        None => Ok(None),
    };
    for run in version.runs.iter().filter(|r| r.high > since && !r.is_consumed(key)) {
        let deleted = run.ranges.active.find(key).map(|f| f.seqs[0]);
        if let Some(seq) = in_row(&run.row)?.max(deleted) {
            return Ok(Some(seq));
        }
    }
    in_row(&version.base)
}
