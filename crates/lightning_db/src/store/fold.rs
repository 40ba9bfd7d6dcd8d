//! Reading keys that were merged into: operands collected from the newest back to a value, a deletion, or
//! the end of what there is, and given to the keyspace's operator.
//!
//! 1. Entries of one key never overlap in what they say: each operand is met once. (What flushes and
//!    merges make of several entries stands for all of them, in rows, where those are gone.)
//! 2. Where a chain begins in a memtable and is long, what it came to is kept there, for the next reader
//!    (`memtable/folds.rs`).
//!
//! Nothing here is on the way of a read that meets no operands.

use std::borrow::Cow;
use std::sync::Arc;

use crate::cache::Pager;
use crate::error::Result;
use crate::memtable::Memtable;
use crate::store::blobs::BlobStore;
use crate::store::keyspace::KeyspaceStore;
use crate::store::version::{Row, Version};
use crate::tree::{CursorOptions, FoundValue, PartitionCursor};
use crate::types::{EntryValue, Seq, hash_key};

/// Chains of at least this many entries are worth keeping what they came to.
const LONG_CHAIN: usize = 16;

/// What operands were merged into: `None` where there was no value.
type Base = Option<Vec<u8>>;

/// Lists of operands, newest first.
type Chain<'v> = Vec<Cow<'v, [u8]>>;

/// The base that an entry is.
enum Link<'v> {
    Base(Base),
    Operands(&'v [u8]),
}

fn link<'v>(value: EntryValue<'v>, blobs: &BlobStore) -> Result<Link<'v>> {
    Ok(match value {
        EntryValue::Operands(operands) => Link::Operands(operands),
        EntryValue::Inline(value) => Link::Base(Some(value.to_vec())),
        EntryValue::Blob(blob) => Link::Base(Some(blobs.read(&blob)?)),
        EntryValue::Tombstone => Link::Base(None),
    })
}

/// What `rows`, newest first, hold of `key` at or below `at`: the base; operands above it go to `chain`.
fn in_rows<'r>(
    rows: impl Iterator<Item = &'r Row>,
    pager: &Pager,
    blobs: &BlobStore,
    key: &[u8],
    at: Seq,
    chain: &mut Chain<'_>,
) -> Result<Base> {
    let hash = hash_key(key);
    for row in rows {
        let Some(partition) = row.find(key) else { continue };
        let Some(found) = partition.get(pager, key, hash, at)? else { continue };
        match found.value {
            FoundValue::Inline(page, range) => {
                let range = range.start as usize..range.end as usize;
                return Ok(Some(page.bytes[range].to_vec()));
            }
            FoundValue::Blob(blob) => return Ok(Some(blobs.read(&blob)?)),
            FoundValue::Tombstone => return Ok(None),
            FoundValue::Operands => {}
        }
        let options = CursorOptions { uncached: false, read_ahead: 0 };
        let mut cursor = PartitionCursor::new(Arc::clone(partition), pager.clone(), options);
        cursor.seek(key)?;
        while cursor.valid() && cursor.key() == key {
            if cursor.seq() <= at {
                match link(cursor.value(), blobs)? {
                    Link::Operands(operands) => chain.push(Cow::Owned(operands.to_vec())),
                    Link::Base(base) => return Ok(base),
                }
            }
            cursor.next()?;
        }
    }
    Ok(None)
}

/// The value of `key` at `at`, for a read that found operands to be its newest entry.
#[cold]
pub fn get(
    keyspace: &KeyspaceStore,
    version: &Version,
    pager: &Pager,
    blobs: &BlobStore,
    key: &[u8],
    at: Seq,
) -> Result<Vec<u8>> {
    let merger = keyspace.need_merger()?;
    let mut chain = Chain::new();
    // Where the chain begins, if in memory.
    let mut newest: Option<(&Memtable, Seq)> = None;
    let base = 'found: {
        for memtable in version.memtables().filter(|m| !m.is_empty()) {
            let fold = memtable.fold(key, at);
            for (seq, value) in memtable.versions(key, at) {
                if let Some((folded, value)) = &fold
                    && seq == *folded
                {
                    break 'found Some(value.to_vec());
                }
                match link(value, blobs)? {
                    Link::Operands(operands) => chain.push(Cow::Borrowed(operands)),
                    Link::Base(base) => break 'found base,
                }
                newest.get_or_insert((memtable, seq));
            }
        }
        let runs = version.runs.iter().filter(|r| !r.is_consumed(key)).map(|r| &r.row);
        in_rows(runs.chain([&version.base]), pager, blobs, key, at, &mut chain)?
    };
    if chain.is_empty() {
        // Only a fold at this very entry ends here: whoever asks has found operands.
        return Ok(base.unwrap_or_default());
    }
    let value = merger.full(key, base.as_deref(), chain.iter().map(|list| &**list))?;
    if chain.len() >= LONG_CHAIN
        && let Some((memtable, seq)) = newest
    {
        memtable.keep_fold(key, seq, &value);
    }
    Ok(value)
}

/// The value that `rows`, newest first, hold of `key`, every version seen: what a job merges operands
/// into that lie above them.
pub fn in_older_rows<'r>(
    keyspace: &KeyspaceStore,
    rows: impl Iterator<Item = &'r Row>,
    pager: &Pager,
    blobs: &BlobStore,
    key: &[u8],
) -> Result<Option<Vec<u8>>> {
    let mut chain = Chain::new();
    let base = in_rows(rows, pager, blobs, key, Seq(u64::MAX), &mut chain)?;
    if chain.is_empty() {
        return Ok(base);
    }
    let merger = keyspace.need_merger()?;
    merger.full(key, base.as_deref(), chain.iter().map(|list| &**list)).map(Some)
}
