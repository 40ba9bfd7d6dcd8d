//! The row cache: newest values by key, in front of everything else. A read that finds its key here
//! takes one latch and neither version nor number.
//!
//! A table of buckets, each with a few rows and the last commit that wrote to any key of the bucket:
//! 1. A row that is here holds the newest value of its key, as of now: a commit takes the rows of its
//!    keys out, or gives them the values that it writes, inside the commit section, before anybody may
//!    see it. A plain get sees such a value only once the bucket's last write is visible, a read at a number only
//!    at or past that write.
//! 2. A value is taken in only by a read at or past the bucket's last write: then no commit came after
//!    it. So whoever reads at a number at or past that last write may take what is here.
//! 3. The table is made inside the commit section ([`RowCache::enable`]): from then on every commit is
//!    noted, and earlier ones count as writes to every bucket. Its buckets are made some at a time, when one
//!    of them is first written to or given a row: nobody pays for the memory of all at the first read
//!    (an ingest, which writes to all, does).
//! 4. A range delete takes out the rows that it covers, in each bucket before anything else is done there
//!    (see `row_ranges`); it counts as a write to every bucket.
//! 5. `used_bytes`, the table included, never passes the budget.
//!
//! While there is plenty of room a key is taken in at its first read; then at its second, the first
//! leaving its tag. Where there is no room a row of the same bucket leaves, one that was not read lately
//! first. A row that is written keeps its place once, with the new value; written again before anybody
//! read it, it is forgotten where it lies, and dropped by who next takes a row in there: writers wait for
//! no row that nobody reads. Bytes of rows that were forgotten count as used until then. Where readers come
//! back for rows that were forgotten, rows are renewed more often first (see `patience`).
//!
//! Threads: any. The latch is held for the time of a key's comparison.

mod bucket;
mod patience;

use std::sync::OnceLock;

use bucket::{Bucket, Inner, Marks, ROWS, new_row, place, row_key};
pub use bucket::{RowRef, row_value};
use patience::{Chance, Patience};

use super::row_ranges::RecentRanges;
use crate::prefetch::LINE_BYTES;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::types::{KeyspaceId, Seq, hash_key};

/// A row costs this much beside its bytes: counts, header, the allocator's rounding.
const ROW_OVERHEAD_BYTES: u64 = 48;
/// The table has one bucket for so many bytes of the budget.
const BYTES_PER_BUCKET: u64 = 512;
/// Larger values are left to the page cache.
const MAX_ROW_BYTES: usize = 4096;
/// More lines of a row are not asked for beforehand.
const MOST_LINES_EXPECTED: usize = 4;
/// Smaller budgets are not worth a table.
pub const MIN_ROW_BUDGET_BYTES: u64 = 64 * 1024;

/// Buckets that are made together: 64 KiB.
const PART: usize = 1024;

#[derive(Debug)]
struct Table {
    /// The last commit before it was made.
    since: Seq,
    /// The number of buckets, a power of two, less one.
    mask: usize,
    parts: Box<[OnceLock<Box<[Bucket]>>]>,
}

impl Table {
    /// The bucket there, if it was made.
    #[inline]
    fn get(&self, at: usize) -> Option<&Bucket> {
        let at = at & self.mask;
        self.parts[at / PART].get().map(|part| &part[at % PART])
    }

    /// The bucket there, which is made if need be.
    #[inline]
    fn made(&self, at: usize) -> &Bucket {
        let at = at & self.mask;
        &self.part(at / PART)[at % PART]
    }

    #[inline]
    fn part(&self, i: usize) -> &[Bucket] {
        let count = PART.min(self.mask + 1);
        self.parts[i].get_or_init(|| (0..count).map(|_| Bucket::new(self.since)).collect())
    }

    /// All buckets that were made.
    fn all_made(&self) -> impl Iterator<Item = &Bucket> {
        self.parts.iter().filter_map(OnceLock::get).flatten()
    }

    /// All buckets.
    fn all(&self) -> impl Iterator<Item = &Bucket> {
        (0..self.parts.len()).flat_map(|i| self.part(i))
    }
}

/// Counts of a [`RowCache`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RowStats {
    /// Reads that found their key.
    pub hits: u64,
    /// Rows taken in.
    pub admitted: u64,
    /// Bytes held, the table included.
    pub used_bytes: u64,
}

/// See the module.
#[derive(Debug)]
pub struct RowCache {
    budget: u64,
    table: OnceLock<Table>,
    ranges: RecentRanges,
    patience: Patience,
    used: AtomicU64,
    /// Where buckets were last looked through for rows that were forgotten.
    hand: AtomicUsize,
    /// Striped, so that threads which hit do not meet.
    hits: [Count; 16],
    admitted: AtomicU64,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Count(AtomicU64);

fn charge(row: &RowRef) -> u64 {
    row.slice.len() as u64 + ROW_OVERHEAD_BYTES
}

impl RowCache {
    /// A cache of at most `budget` bytes, which holds nothing before it is enabled.
    pub fn new(budget: u64) -> Self {
        Self {
            budget,
            table: OnceLock::new(),
            ranges: RecentRanges::default(),
            patience: Patience::new(),
            used: AtomicU64::new(0),
            hand: AtomicUsize::new(0),
            hits: Default::default(),
            admitted: AtomicU64::new(0),
        }
    }

    /// Whether it is worth enabling, and not enabled yet.
    #[inline]
    pub fn wants_table(&self) -> bool {
        self.budget >= MIN_ROW_BUDGET_BYTES && self.table.get().is_none()
    }

    /// Whether it is enabled, so that writes are to be noted.
    #[inline]
    pub fn has_table(&self) -> bool {
        self.table.get().is_some()
    }

    /// Makes the table. Called inside the commit section, whose last commit is `last`.
    pub fn enable(&self, last: Seq) {
        if !self.wants_table() {
            return;
        }
        let buckets = (self.budget / BYTES_PER_BUCKET).next_power_of_two() as usize;
        let parts = (0..buckets.div_ceil(PART)).map(|_| OnceLock::new()).collect();
        if self.table.set(Table { since: last, mask: buckets - 1, parts }).is_ok() {
            self.used.fetch_add((buckets * size_of::<Bucket>()) as u64, Ordering::Relaxed);
        }
    }

    /// The newest value of `key`, if it is here. `visible` gives the last commit that may be seen.
    #[inline]
    pub fn get(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        hash: u64,
        visible: impl FnOnce() -> Seq,
    ) -> Option<RowRef> {
        self.get_where(keyspace, key, hash, |last_write, marks| {
            if marks.is_pending() {
                if visible() < last_write {
                    return false;
                }
                marks.set_visible();
            }
            true
        })
    }

    /// The value that a read at the number `at` sees, if it is here.
    #[inline]
    pub fn get_at(&self, keyspace: KeyspaceId, key: &[u8], hash: u64, at: Seq) -> Option<RowRef> {
        self.get_where(keyspace, key, hash, |last_write, _| at >= last_write)
    }

    /// The row of `key`, if it is here and `may_see` says of the bucket's last write that it may be seen.
    #[inline]
    fn get_where(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        hash: u64,
        may_see: impl FnOnce(Seq, &mut Marks) -> bool,
    ) -> Option<RowRef> {
        let (at_bucket, tag) = place(keyspace, hash);
        let bucket = self.table.get()?.get(at_bucket)?;
        // Nothing here waits for what is not in the processor's cache where the key is not here.
        if !bucket.may_hold(tag) {
            return None;
        }
        let ranges = self.ranges.newest();
        let row = bucket.latched(|inner, marks| {
            if inner.last_write < ranges {
                self.catch_up(inner, marks, ranges);
            }
            let i = inner.find(*marks, keyspace, key, tag)?;
            if !may_see(inner.last_write, marks) {
                return None;
            }
            marks.note_read(i);
            inner.rows[i].clone()
        })?;
        self.hits[at_bucket % 16].0.fetch_add(1, Ordering::Relaxed);
        Some(row)
    }

    /// Offers what a read at the number `at` found to be the newest value of `key`.
    pub fn offer(&self, keyspace: KeyspaceId, key: &[u8], hash: u64, at: Seq, value: &[u8]) {
        if key.len() + value.len() > MAX_ROW_BYTES {
            return;
        }
        let (bucket, tag) = place(keyspace, hash);
        let Some(bucket) = self.table.get().map(|table| table.made(bucket)) else { return };
        // Dropped when the latch is free again.
        let ranges = self.ranges.newest();
        let mut gone = [const { None }; ROWS];
        let mut places = gone.iter_mut();
        let mut refused = false;
        let mut let_go = |row: Option<RowRef>| {
            self.used.fetch_sub(row.as_ref().map_or(0, charge), Ordering::Relaxed);
            if let Some(place) = places.next() {
                *place = row;
            }
        };
        bucket.latched(|inner, marks| {
            if inner.last_write < ranges {
                self.catch_up(inner, marks, ranges);
            }
            if at < inner.last_write || inner.find(*marks, keyspace, key, tag).is_some() {
                return;
            }
            let used = self.used.load(Ordering::Relaxed);
            let missed = inner.find_forgotten(*marks, keyspace, key);
            if let Some(i) = missed {
                self.patience.note_missed(used);
                let_go(inner.take(marks, i));
            }
            let plenty = used < self.budget - self.budget / 8;
            if !plenty && missed.is_none() && !marks.was_seen(tag) {
                marks.note_seen(tag);
                return;
            }
            // Those forgotten lately may be missed too: they stay while there is room.
            while let Some(row) = inner.take_forgotten(marks, false) {
                let_go(Some(row));
            }
            let row = new_row(keyspace, key, value);
            let wanted = charge(&row);
            let place = loop {
                if let Some(free) = inner.free(*marks) {
                    if self.used.fetch_add(wanted, Ordering::Relaxed) + wanted <= self.budget {
                        break free;
                    }
                    self.used.fetch_sub(wanted, Ordering::Relaxed);
                }
                if let Some(row) = inner.take_forgotten(marks, true) {
                    let_go(Some(row));
                    continue;
                }
                let Some(i) = marks.unread() else {
                    refused = inner.rows.iter().all(Option::is_none);
                    return;
                };
                let_go(inner.take(marks, i));
            };
            inner.put(marks, place, tag, row);
            self.admitted.fetch_add(1, Ordering::Relaxed);
        });
        if refused {
            self.sweep();
        }
    }

    /// Drops what was forgotten in the next few buckets: they may never be asked for again, and a bucket
    /// that has no rows of its own to give up depends on it.
    #[cold]
    fn sweep(&self) {
        const BUCKETS: usize = 4;
        let Some(table) = self.table.get() else { return };
        let from = self.hand.fetch_add(BUCKETS, Ordering::Relaxed);
        for bucket in (from..from + BUCKETS).filter_map(|at| table.get(at)) {
            while let Some(row) = bucket.latched(|inner, marks| inner.take_forgotten(marks, true)) {
                self.used.fetch_sub(charge(&row), Ordering::Relaxed);
            }
        }
    }

    /// Asks the processor for the bucket of a key that is about to be written.
    #[inline]
    pub fn expect_write(&self, keyspace: KeyspaceId, key: &[u8]) {
        let (bucket, _) = place(keyspace, hash_key(key));
        if let Some(bucket) = self.table.get().and_then(|table| table.get(bucket)) {
            bucket.prefetch();
        }
    }

    /// Asks it for the row of the key, so that there is no wait for it once the write is noted.
    #[inline]
    pub fn expect_note(&self, keyspace: KeyspaceId, key: &[u8], value_bytes: usize) {
        let Some(table) = self.table.get() else { return };
        let (bucket, tag) = place(keyspace, hash_key(key));
        let Some(bucket) = table.get(bucket) else { return };
        if bucket.may_hold(tag) {
            let lines = value_bytes.div_ceil(LINE_BYTES).min(MOST_LINES_EXPECTED);
            let written = self.patience.is_any();
            bucket.latched(|inner, marks| inner.prefetch_tagged(*marks, tag, written, 1 + lines));
        }
    }

    /// Takes out what a commit has written, or gives it `value`, where that is what the key has from then
    /// on. Called inside the commit section, before the commit can be seen, in the order of commits.
    #[inline]
    pub fn note_write(&self, keyspace: KeyspaceId, key: &[u8], seq: Seq, value: Option<&[u8]>) {
        if self.has_table() {
            self.note(keyspace, key, seq, value);
        }
    }

    /// As [`note_write`](Self::note_write), for all keys from `first` to `last`: cheaper than key by key
    /// where these are many, and may be others in between too.
    pub fn note_span(&self, keyspace: KeyspaceId, first: &[u8], last: &[u8], seq: Seq) {
        let Some(table) = self.table.get() else { return };
        let ranges = self.ranges.newest();
        for bucket in table.all() {
            let mut gone: [Option<RowRef>; ROWS] = [const { None }; ROWS];
            bucket.latched(|inner, marks| {
                if inner.last_write < ranges {
                    self.catch_up(inner, marks, ranges);
                }
                inner.last_write = seq;
                for (i, gone) in gone.iter_mut().enumerate() {
                    let inside = inner.rows[i]
                        .as_ref()
                        .map(row_key)
                        .is_some_and(|(of, key)| of == keyspace && (first..=last).contains(&key));
                    if inside {
                        *gone = inner.take(marks, i);
                    }
                }
            });
            let freed: u64 = gone.iter().flatten().map(charge).sum();
            self.used.fetch_sub(freed, Ordering::Relaxed);
        }
    }

    fn note(&self, keyspace: KeyspaceId, key: &[u8], seq: Seq, value: Option<&[u8]>) {
        let hash = hash_key(key);
        let (bucket, tag) = place(keyspace, hash);
        let Some(bucket) = self.table.get().map(|table| table.made(bucket)) else { return };
        let chance = Chance::of(seq, hash);
        let spares = self.patience.spares(chance);
        let ranges = self.ranges.newest();
        let value = value.filter(|value| key.len() + value.len() <= MAX_ROW_BYTES);
        // Dropped when the latch is free again.
        let gone = bucket.latched(|inner, marks| {
            if inner.last_write < ranges {
                self.catch_up(inner, marks, ranges);
            }
            inner.last_write = seq;
            if chance.ends_lately() {
                marks.end_lately();
            }
            if let Some(value) = value
                && let Some(i) = inner.find_to_renew(*marks, keyspace, key, tag, spares)
            {
                if inner.overwrite(marks, i, value) {
                    return None;
                }
                let row = new_row(keyspace, key, value);
                let wanted = charge(&row);
                if self.used.fetch_add(wanted, Ordering::Relaxed) + wanted <= self.budget {
                    return inner.replace(marks, i, row);
                }
                self.used.fetch_sub(wanted, Ordering::Relaxed);
            }
            // What was deleted, or takes more than its key to be read, is not missed here.
            if marks.forget_tagged(tag, value.is_some()) && value.is_some() {
                self.patience.note_forgotten(|| self.used.load(Ordering::Relaxed));
            }
            None
        });
        if let Some(row) = gone {
            self.used.fetch_sub(charge(&row), Ordering::Relaxed);
        }
    }

    /// Notes the range deletes of a commit: keyspace, start, end. Called inside the commit section, before
    /// the commit can be seen, and before [`note_write`](Self::note_write) for the same commit.
    pub fn note_ranges<'a>(
        &self,
        ranges: impl Iterator<Item = (KeyspaceId, &'a [u8], Option<&'a [u8]>)>,
        seq: Seq,
    ) {
        self.ranges.note(ranges, seq);
    }

    /// Takes out what range deletes up to `newest` cover of a bucket that was last written to before.
    #[cold]
    fn catch_up(&self, inner: &mut Inner, marks: &mut Marks, newest: Seq) {
        let mut freed = 0;
        self.ranges.judge(inner.last_write, |is_covered| {
            for i in 0..ROWS {
                let row = inner.rows[i].as_ref().map(row_key);
                let covered = row.is_some_and(|(keyspace, key)| is_covered(keyspace, key));
                if covered {
                    freed += inner.take(marks, i).as_ref().map_or(0, charge);
                }
            }
        });
        inner.last_write = newest;
        self.used.fetch_sub(freed, Ordering::Relaxed);
    }

    /// Lets go of all rows of that share (0 to 1) of the buckets that were made; returns the bytes freed.
    pub fn evict(&self, share: f64) -> u64 {
        let Some(table) = self.table.get() else { return 0 };
        let count = (table.all_made().count() as f64 * share.clamp(0.0, 1.0)).ceil() as usize;
        let mut freed = 0;
        for bucket in table.all_made().take(count) {
            bucket.latched(|inner, marks| {
                for i in 0..ROWS {
                    freed += inner.take(marks, i).as_ref().map_or(0, charge);
                }
            });
        }
        self.used.fetch_sub(freed, Ordering::Relaxed);
        freed
    }

    /// Counts.
    pub fn stats(&self) -> RowStats {
        RowStats {
            hits: self.hits.iter().map(|count| count.0.load(Ordering::Relaxed)).sum(),
            admitted: self.admitted.load(Ordering::Relaxed),
            used_bytes: self.used.load(Ordering::Relaxed),
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
