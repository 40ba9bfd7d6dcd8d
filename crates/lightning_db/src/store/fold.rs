//! Reading keys that were merged into: operands collected from the newest back to a value, a deletion, or
//! the end of what there is, and given to the keyspace's operator.
//!
//! 1. Entries of one key never overlap in what they say: each operand is met once. (What flushes and
//!    merges make of several entries stands for all of them, in rows, where those are gone.)
//! 2. A value that has expired by the reader's moment is none: operands above it stay, merged into nothing.
//!    (Keyspaces with an operator give no lifetimes; these were put before it had one.)
//! 3. Where a chain begins in a memtable and is long, what it came to is kept there, for the next reader
//!    (`memtable/folds.rs`); not if that depends on a value which expires.
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
use crate::types::{Entry, EntryValue, Expiry, Seq, Time, hash_key};

/// Chains of at least this many entries are worth keeping what they came to.
const LONG_CHAIN: usize = 16;

/// What operands were merged into.
pub struct Base {
    /// `None` where there was no value, or it has expired.
    pub value: Option<Vec<u8>>,
    /// Whether it says the same at all moments.
    pub lasts: bool,
}

impl Base {
    const NOTHING: Self = Self { value: None, lasts: true };

    fn new(value: Vec<u8>, expiry: Expiry, now: Time) -> Self {
        Self { value: (!expiry.is_over(now)).then_some(value), lasts: expiry.is_never() }
    }
}

/// Lists of operands, newest first.
type Chain<'v> = Vec<Cow<'v, [u8]>>;

/// The base that an entry is.
enum Link<'v> {
    Base(Base),
    Operands(&'v [u8]),
}

fn link<'v>(entry: Entry<'v>, blobs: &BlobStore, now: Time) -> Result<Link<'v>> {
    let value = match entry.value {
        EntryValue::Operands(operands) => return Ok(Link::Operands(operands)),
        EntryValue::Tombstone => return Ok(Link::Base(Base::NOTHING)),
        EntryValue::Inline(value) => value.to_vec(),
        EntryValue::Blob(blob) => blobs.read(&blob)?,
    };
    Ok(Link::Base(Base::new(value, entry.expiry, now)))
}

/// What `rows`, newest first, hold of `key` at or below `at`: the base; operands above it go to `chain`.
fn in_rows<'r>(
    rows: impl Iterator<Item = &'r Row>,
    pager: &Pager,
    blobs: &BlobStore,
    key: &[u8],
    (at, now): (Seq, Time),
    chain: &mut Chain<'_>,
) -> Result<Base> {
    let hash = hash_key(key);
    for row in rows {
        let Some(partition) = row.find(key) else { continue };
        let Some(found) = partition.get(pager, key, hash, at)? else { continue };
        match found.value {
            FoundValue::Inline(page, range) => {
                let range = range.start as usize..range.end as usize;
                return Ok(Base::new(page.bytes[range].to_vec(), found.expiry, now));
            }
            FoundValue::Blob(blob) => return Ok(Base::new(blobs.read(&blob)?, found.expiry, now)),
            FoundValue::Tombstone => return Ok(Base::NOTHING),
            FoundValue::Operands => {}
        }
        let options = CursorOptions { uncached: false, read_ahead: 0 };
        let mut cursor = PartitionCursor::new(Arc::clone(partition), pager.clone(), options);
        cursor.seek(key)?;
        while cursor.valid() && cursor.key() == key {
            if cursor.seq() <= at {
                let entry = Entry { value: cursor.value(), expiry: cursor.expiry() };
                match link(entry, blobs, now)? {
                    Link::Operands(operands) => chain.push(Cow::Owned(operands.to_vec())),
                    Link::Base(base) => return Ok(base),
                }
            }
            cursor.next()?;
        }
    }
    Ok(Base::NOTHING)
}

/// The value of `key` at `at`, for a read that found operands to be its newest entry, and whether it is the
/// same at all moments and not at `now` only.
#[cold]
pub fn get(
    keyspace: &KeyspaceStore,
    version: &Version,
    pager: &Pager,
    blobs: &BlobStore,
    key: &[u8],
    (at, now): (Seq, Time),
) -> Result<(Vec<u8>, bool)> {
    let merger = keyspace.need_merger()?;
    let mut chain = Chain::new();
    // Where the chain begins, if in memory.
    let mut newest: Option<(&Memtable, Seq)> = None;
    let base = 'found: {
        for memtable in version.memtables().filter(|m| !m.is_empty()) {
            let fold = memtable.fold(key, at);
            for (seq, entry) in memtable.versions(key, at) {
                if let Some((folded, value)) = &fold
                    && seq == *folded
                {
                    break 'found Base { value: Some(value.to_vec()), lasts: true };
                }
                match link(entry, blobs, now)? {
                    Link::Operands(operands) => chain.push(Cow::Borrowed(operands)),
                    Link::Base(base) => break 'found base,
                }
                newest.get_or_insert((memtable, seq));
            }
        }
        let runs = version.runs.iter().filter(|r| !r.is_consumed(key)).map(|r| &r.row);
        in_rows(runs.chain([&version.base]), pager, blobs, key, (at, now), &mut chain)?
    };
    if chain.is_empty() {
        // Only a fold at this very entry ends here: whoever asks has found operands.
        return Ok((base.value.unwrap_or_default(), base.lasts));
    }
    let value = merger.full(key, base.value.as_deref(), chain.iter().map(|list| &**list))?;
    if chain.len() >= LONG_CHAIN
        && base.lasts
        && let Some((memtable, seq)) = newest
    {
        memtable.keep_fold(key, seq, &value);
    }
    Ok((value, base.lasts))
}

/// The value that `rows`, newest first, hold of `key`, every version seen: what a job merges operands
/// into that lie above them. Of use to it only if that lasts.
pub fn in_older_rows<'r>(
    keyspace: &KeyspaceStore,
    rows: impl Iterator<Item = &'r Row>,
    pager: &Pager,
    blobs: &BlobStore,
    key: &[u8],
) -> Result<Base> {
    let mut chain = Chain::new();
    let newest = (Seq(u64::MAX), Time::BEFORE_ALL);
    let mut base = in_rows(rows, pager, blobs, key, newest, &mut chain)?;
    if !chain.is_empty() && base.lasts {
        let merger = keyspace.need_merger()?;
        let lists = chain.iter().map(|list| &**list);
        base.value = Some(merger.full(key, base.value.as_deref(), lists)?);
    }
    Ok(base)
}
