//! A memtable: what one keyspace was given by the commits of a number range, in memory.
//!
//! Invariants: 1. entries are inserted in the order of commits. 2. of entries with the same key
//! and seq only the one inserted last is ever found. 3. nothing moves or goes before the whole
//! memtable does. 4. once sealed, nothing is inserted.
//!
//! Threads: one inserts at a time (it holds the commit section; a second one panics), any number
//! reads meanwhile and never waits. A read finds everything whose insertion came before it; who
//! may see it is for the reader to say, by a seq.

use crate::error::Result;
use crate::ranges::Fragment;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Arc, Mutex};
use crate::types::{Entry, EntryValue, KeyspaceId, SegmentId, Seq, hash_key};

use super::entry::EntryRef;
use super::filter::Filter;
use super::folds::Folds;
use super::index::{Index, Inserted};
use super::ranges::{MemtableRanges, RangesAt, Readers};
use super::spare::SpareChunks;

/// All versions of the keys of one keyspace that commits from `first_seq` on have written.
pub struct Memtable {
    keyspace: KeyspaceId,
    first_seq: Seq,
    /// Zero until sealed.
    last_seq: AtomicU64,
    entries: AtomicUsize,
    /// Entries that expire, those that were replaced in their own commit included.
    expiring: AtomicUsize,
    index: Index,
    filter: Filter,
    ranges: MemtableRanges,
    folds: Folds,
    /// Ascending.
    blob_segments: Mutex<Vec<SegmentId>>,
}

impl Memtable {
    /// An empty memtable for commits at or after `first_seq`. It holds no memory yet.
    pub fn new(keyspace: KeyspaceId, first_seq: Seq) -> Self {
        Self::over(Index::new(), keyspace, first_seq)
    }

    /// As [`new`](Self::new); it takes memory that memtables before it left in `spare`, and leaves its own
    /// there.
    pub fn with_spare(spare: &Arc<SpareChunks>, keyspace: KeyspaceId, first_seq: Seq) -> Self {
        Self::over(Index::over(Arc::clone(spare)), keyspace, first_seq)
    }

    /// An empty memtable of the same keyspace for commits at or after `first_seq`, with memory from where
    /// this one has it.
    pub fn following(&self, first_seq: Seq) -> Self {
        Self::over(self.index.following(), self.keyspace, first_seq)
    }

    fn over(index: Index, keyspace: KeyspaceId, first_seq: Seq) -> Self {
        Self {
            keyspace,
            first_seq,
            last_seq: AtomicU64::new(0),
            entries: AtomicUsize::new(0),
            expiring: AtomicUsize::new(0),
            index,
            filter: Filter::new(),
            ranges: MemtableRanges::new(),
            folds: Folds::default(),
            blob_segments: Mutex::new(Vec::new()),
        }
    }

    /// Inserts an entry of commit `seq`. One thread at a time, in the order of commits; a second
    /// entry for the same key and seq takes the place of the first.
    ///
    /// Fails with `OutOfMemory` only, and has changed nothing then. Panics when two threads insert
    /// at once, after [`set_last_seq`](Self::set_last_seq), or when the key has a newer version.
    pub fn insert<'v>(&self, key: &[u8], seq: Seq, entry: impl Into<Entry<'v>>) -> Result<()> {
        let entry = entry.into();
        assert!(self.last_seq().is_none(), "nothing is inserted into a sealed memtable");
        debug_assert!(seq >= self.first_seq, "the commit belongs to an older memtable");
        if let EntryValue::Blob(blob) = &entry.value {
            // Before the entry can be found; naming one segment too many is harmless.
            let mut segments = self.blob_segments.lock();
            if let Err(at) = segments.binary_search(&blob.segment) {
                segments.insert(at, blob.segment);
            }
        }
        let inserted = self.index.insert(key, seq, &entry, || self.filter.add(hash_key(key)))?;
        if inserted != Inserted::Replacement {
            self.entries.store(self.entries.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
        if !entry.expiry.is_never() {
            self.expiring.store(self.expiring.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Inserts a range delete: it covers what was inserted before it, but not what has the same number;
    /// who inserts sees to it that entries of its commit come out right (see `commit::apply`). `readers`
    /// tells who may read. One thread at a time, as with [`insert`](Self::insert).
    pub fn delete_range(
        &self,
        start: &[u8],
        end: Option<&[u8]>,
        seq: Seq,
        readers: impl FnOnce() -> Readers,
    ) {
        assert!(self.last_seq().is_none(), "nothing is inserted into a sealed memtable");
        debug_assert!(seq >= self.first_seq, "the commit belongs to an older memtable");
        self.ranges.insert(start, end, seq, readers);
    }

    /// The newest version of `key` at or below `at`; of a key that a range delete covers, a tombstone.
    #[cfg(test)]
    pub fn get(&self, key: &[u8], at: Seq) -> Option<(Seq, EntryValue<'_>)> {
        self.get_hashed(key, hash_key(key), at).map(|(seq, entry)| (seq, entry.value))
    }

    /// The newest version of `key`, whose [`hash_key`] is `hash`, at or below `at`.
    #[inline]
    pub fn get_hashed(&self, key: &[u8], hash: u64, at: Seq) -> Option<(Seq, Entry<'_>)> {
        let mut found = None;
        if self.filter.may_contain(hash) {
            let entry = self.index.newest(key).and_then(|newest| newest.at_or_before(at));
            found = entry.map(|e| (e.seq(), Entry { value: e.value(), expiry: e.expiry() }));
        }
        if self.ranges.any() { self.below_ranges(key, at, found) } else { found }
    }

    /// What is found of `key`, or that it is covered by a range delete.
    #[cold]
    fn below_ranges<'a>(
        &self,
        key: &[u8],
        at: Seq,
        found: Option<(Seq, Entry<'a>)>,
    ) -> Option<(Seq, Entry<'a>)> {
        match self.ranges.covering(key, at) {
            Some(seq) if found.is_none_or(|(own, _)| own < seq) => {
                Some((seq, Entry::lasting(EntryValue::Tombstone)))
            }
            _ => found,
        }
    }

    /// The versions of `key` at or below `at`, newest first.
    pub fn versions(&self, key: &[u8], at: Seq) -> impl Iterator<Item = (Seq, Entry<'_>)> {
        let newest = self.index.newest(key).and_then(|entry| entry.at_or_before(at));
        let entries = std::iter::successors(newest, |entry| EntryRef::older(*entry));
        entries.map(|e| (e.seq(), Entry { value: e.value(), expiry: e.expiry() }))
    }

    /// What the versions of `key` up to one of these numbers, here and below, were found to make: the
    /// newest such fold at or below `at`, if one was kept.
    pub fn fold(&self, key: &[u8], at: Seq) -> Option<(Seq, Arc<[u8]>)> {
        self.folds.get(key, at)
    }

    /// Keeps for later readers what the versions of `key` up to `seq`, which is here, make.
    pub fn keep_fold(&self, key: &[u8], seq: Seq, value: &[u8]) {
        self.folds.put(key, seq, value);
    }

    /// The number of the newest version of `key`, or of the newest range delete over it, visible or not.
    #[inline]
    pub fn newest_seq(&self, key: &[u8]) -> Option<Seq> {
        let mut newest = None;
        if self.filter.may_contain(hash_key(key)) {
            newest = self.index.newest(key).map(|entry| entry.seq());
        }
        if self.ranges.any() {
            return newest.max(self.ranges.covering(key, Seq(u64::MAX)));
        }
        newest
    }

    /// The range deletes that a reader at `at` sees; `None` where there are none at all.
    pub fn ranges_at(&self, at: Seq) -> Option<std::sync::Arc<RangesAt>> {
        self.ranges.any().then(|| self.ranges.at(at))
    }

    /// Every range delete, from the oldest to the newest.
    pub fn range_deletes(&self) -> Vec<Fragment> {
        if self.ranges.any() { self.ranges.all() } else { Vec::new() }
    }

    /// The numbers of the range deletes over `key`, highest first.
    pub fn range_deletes_over(&self, key: &[u8]) -> Vec<Seq> {
        if self.ranges.any() { self.ranges.over(key) } else { Vec::new() }
    }

    /// How many range deletes there are.
    pub fn range_delete_count(&self) -> usize {
        self.ranges.count()
    }

    /// Whether a range delete past `since` covers any key of `start <= key < end`.
    pub fn range_deleted_since(&self, start: &[u8], end: Option<&[u8]>, since: Seq) -> bool {
        self.ranges.any() && self.ranges.any_since(start, end, since)
    }

    /// Bytes of memory held, used or not. It grows by chunks of 4 KiB at first, 2 MiB later.
    pub fn bytes(&self) -> usize {
        self.index.held_bytes() + self.filter.held_bytes() + self.ranges.bytes()
    }

    /// Entries, each version counted.
    pub fn entries(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    /// Entries that expire, at least.
    pub fn expiring(&self) -> usize {
        self.expiring.load(Ordering::Relaxed)
    }

    /// Whether there are no entries and no range deletes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries() == 0 && !self.ranges.any()
    }

    /// The keyspace whose entries these are.
    #[cfg(test)]
    pub fn keyspace(&self) -> KeyspaceId {
        self.keyspace
    }

    /// The first commit that it may hold.
    pub fn first_seq(&self) -> Seq {
        self.first_seq
    }

    /// Seals it: `last` is the last commit that it may hold, at least 1.
    pub fn set_last_seq(&self, last: Seq) {
        assert!(last.0 > 0, "no commit has number 0");
        self.last_seq.store(last.0, Ordering::Release);
    }

    /// The last commit that it may hold, once it is sealed.
    pub fn last_seq(&self) -> Option<Seq> {
        match self.last_seq.load(Ordering::Acquire) {
            0 => None,
            last => Some(Seq(last)),
        }
    }

    /// The blob segments that entries refer to, ascending.
    pub fn blob_segments(&self) -> Vec<SegmentId> {
        self.blob_segments.lock().clone()
    }

    /// The tree, for cursors.
    pub(super) fn index(&self) -> &Index {
        &self.index
    }
}

impl std::fmt::Debug for Memtable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memtable")
            .field("keyspace", &self.keyspace)
            .field("first_seq", &self.first_seq)
            .field("last_seq", &self.last_seq())
            .field("entries", &self.entries())
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}
