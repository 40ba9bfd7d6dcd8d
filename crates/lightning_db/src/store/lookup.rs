//! Point reads: memtables, then runs by filter, then the base.
//!
//! A point read needs no registered view: it takes the version first and the visible number after
//! it. Whatever merges dropped from that version was below a floor that was visible then, so the
//! number taken later is at or above it; and commits that went to memtables newer than the
//! version's own began after the read did, so leaving them out is a legal order.

use crate::cache::Pager;
use crate::error::Result;
use crate::store::blobs::BlobStore;
use crate::store::value::Value;
use crate::store::version::Version;
use crate::tree::FoundValue;
use crate::types::{EntryValue, Seq, hash_key};

/// The newest value of `key` at or below `at`.
#[inline]
pub fn get(
    version: &Version,
    pager: &Pager,
    blobs: &BlobStore,
    key: &[u8],
    at: Seq,
) -> Result<Option<Value>> {
    for memtable in version.memtables() {
        if memtable.is_empty() {
            continue;
        }
        if let Some((_, value)) = memtable.get(key, at) {
            return match value {
                EntryValue::Inline(v) => Ok(Some(Value::owned(v.to_vec()))),
                EntryValue::Blob(blob) => Ok(Some(Value::owned(blobs.read(&blob)?))),
                EntryValue::Tombstone => Ok(None),
            };
        }
    }
    let hash = hash_key(key);
    let runs = version.runs.iter().filter(|r| !r.is_consumed(key)).map(|r| &r.row);
    for row in runs.chain([&version.base]) {
        let Some(partition) = row.find(key) else { continue };
        if let Some(found) = partition.get(pager, key, hash, at)? {
            return match found.value {
                FoundValue::Inline(page, range) => Ok(Some(Value::in_page(page, range))),
                FoundValue::Blob(blob) => Ok(Some(Value::owned(blobs.read(&blob)?))),
                FoundValue::Tombstone => Ok(None),
            };
        }
    }
    Ok(None)
}

/// The number of the newest entry of `key`, visible or not; settled entries give 0, an absent key
/// gives `None`. Looks no further down than it must to know whether the number is past `since`.
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
    let runs = version.runs.iter().filter(|r| r.high > since && !r.is_consumed(key));
    for row in runs.map(|r| &r.row).chain([&version.base]) {
        let Some(partition) = row.find(key) else { continue };
        if partition.meta().max_seq <= since {
            continue;
        }
        if let Some(seq) = partition.newest_seq(pager, key, hash)? {
            return Ok(Some(seq));
        }
    }
    Ok(None)
}
