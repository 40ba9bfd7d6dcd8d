//! The row cache: newest values by key, in front of everything else. A read that finds its key here
//! takes one latch and neither version nor number.
//!
//! A table of buckets, each a cache line of its own with the latch, a few rows, their tags, and the
//! last commit that wrote to any key of the bucket:
//! 1. A row that is here holds the newest value of its key, as of now: a commit takes the rows of its
//!    keys out, inside the commit section, before anybody may see it.
//! 2. A value is taken in only by a read at or past the bucket's last write: then no commit came after
//!    it. So whoever reads at a number at or past that last write may take what is here.
//! 3. The table is made inside the commit section ([`RowCache::enable`]): from then on every commit is
//!    noted, and earlier ones count as writes to every bucket.
//! 4. A range delete takes out the rows that it covers, in each bucket before anything else is done there
//!    (see `row_ranges`); it counts as a write to every bucket.
//! 5. `used_bytes`, the table included, never passes the budget.
//!
//! While there is plenty of room a key is taken in at its first read; then at its second, the first
//! leaving its tag. Where there is no room a row of the same bucket leaves, one that was not read lately
//! first.
//!
//! Threads: any. The latch is held for the time of a key's comparison.

use std::sync::OnceLock;

use triomphe::ThinArc;

use super::row_ranges::RecentRanges;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::types::{KeyspaceId, Seq, hash_key};

/// What is told of a row beside its bytes.
#[derive(Debug, Clone, Copy)]
pub struct RowHeader {
    keyspace: KeyspaceId,
    key_bytes: u32,
}

/// A row: its key, then its value. It lives as long as the cache or a reader holds it.
pub type RowRef = ThinArc<RowHeader, u8>;

/// Rows of a bucket.
const ROWS: usize = 5;
/// Tags of keys read once.
const SEEN: usize = 2;
/// A row costs this much beside its bytes: counts, header, the allocator's rounding.
const ROW_OVERHEAD_BYTES: u64 = 48;
/// The table has one bucket for so many bytes of the budget.
const BYTES_PER_BUCKET: u64 = 512;
/// Larger values are left to the page cache.
const MAX_ROW_BYTES: usize = 4096;
/// Smaller budgets are not worth a table.
pub const MIN_ROW_BUDGET_BYTES: u64 = 64 * 1024;

/// One cache line, where latches are small.
#[derive(Debug)]
#[repr(align(64))]
struct Bucket {
    /// [`Marks`], which change under the latch, but may be looked at without: a key whose tag is not
    /// among them is not here.
    marks: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    last_write: Seq,
    rows: [Option<RowRef>; ROWS],
}

/// Eight bytes: a tag for each row (0 where there is none), those of keys read once, and a bit for each
/// row that was read since it was last passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Marks([u8; 8]);

const SEEN_AT: usize = ROWS;
const REFERENCED_AT: usize = ROWS + SEEN;
const _: () = assert!(REFERENCED_AT == 7);

impl Marks {
    #[inline]
    fn of(bucket: &Bucket) -> Self {
        Self(bucket.marks.load(Ordering::Relaxed).to_le_bytes())
    }

    #[inline]
    fn tags(&self) -> &[u8] {
        &self.0[..ROWS]
    }

    fn seen(&mut self) -> &mut [u8] {
        &mut self.0[SEEN_AT..REFERENCED_AT]
    }

    /// A row that was not read lately. Where all were, none leaves this time.
    fn unread(&mut self) -> Option<usize> {
        let unread = (0..ROWS).find(|i| self.0[*i] != 0 && self.0[REFERENCED_AT] & (1 << i) == 0);
        if unread.is_none() {
            self.0[REFERENCED_AT] = 0;
        }
        unread
    }
}

impl Bucket {
    fn new(last_write: Seq) -> Self {
        let inner = Inner { last_write, rows: [const { None }; ROWS] };
        Self { marks: AtomicU64::new(0), inner: Mutex::new(inner) }
    }

    /// Whether a key with this tag may be here.
    #[inline]
    fn may_hold(&self, tag: u8) -> bool {
        Marks::of(self).tags().contains(&tag)
    }

    /// Does something under the latch.
    #[inline]
    fn latched<R>(&self, act: impl FnOnce(&mut Inner, &mut Marks) -> R) -> R {
        let mut inner = self.inner.lock();
        let before = Marks::of(self);
        let mut marks = before;
        let result = act(&mut inner, &mut marks);
        if marks != before {
            self.marks.store(u64::from_le_bytes(marks.0), Ordering::Relaxed);
        }
        result
    }
}

// Latches are four bytes there, and larger elsewhere.
#[cfg(all(any(target_os = "linux", windows), not(any(shuttle, loom))))]
const _: () = assert!(size_of::<Bucket>() == 64, "a bucket fills one cache line");

#[derive(Debug)]
struct Table {
    buckets: Box<[Bucket]>,
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
    used: AtomicU64,
    /// Striped, so that threads which hit do not meet.
    hits: [Count; 16],
    admitted: AtomicU64,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Count(AtomicU64);

/// The place of a key.
#[inline]
fn place(keyspace: KeyspaceId, key_hash: u64) -> (usize, u8) {
    let hash = (key_hash ^ u64::from(keyspace.0)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((hash >> 24) as usize, ((hash >> 16) as u8).max(1))
}

fn charge(row: &RowRef) -> u64 {
    row.slice.len() as u64 + ROW_OVERHEAD_BYTES
}

/// The value in a row.
#[inline]
pub fn row_value(row: &RowRef) -> &[u8] {
    &row.slice[row.header.header.key_bytes as usize..]
}

impl Inner {
    fn find(&self, marks: Marks, keyspace: KeyspaceId, key: &[u8], tag: u8) -> Option<usize> {
        (0..ROWS).find(|i| {
            marks.0[*i] == tag
                && self.rows[*i].as_ref().is_some_and(|row| {
                    let header = row.header.header;
                    header.keyspace == keyspace
                        && header.key_bytes as usize == key.len()
                        && row.slice[..key.len()] == *key
                })
        })
    }

    fn take(&mut self, marks: &mut Marks, i: usize) -> Option<RowRef> {
        marks.0[i] = 0;
        self.rows[i].take()
    }
}

impl RowCache {
    /// A cache of at most `budget` bytes, which holds nothing before it is enabled.
    pub fn new(budget: u64) -> Self {
        Self {
            budget,
            table: OnceLock::new(),
            ranges: RecentRanges::default(),
            used: AtomicU64::new(0),
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
        let buckets = (self.budget / BYTES_PER_BUCKET).next_power_of_two();
        let mut table = Vec::new();
        if !self.wants_table() || table.try_reserve_exact(buckets as usize).is_err() {
            return;
        }
        table.resize_with(buckets as usize, || Bucket::new(last));
        if self.table.set(Table { buckets: table.into() }).is_ok() {
            self.used.fetch_add(buckets * size_of::<Bucket>() as u64, Ordering::Relaxed);
        }
    }

    #[inline]
    fn bucket(&self, at: usize) -> Option<&Bucket> {
        let buckets = &self.table.get()?.buckets;
        Some(&buckets[at & (buckets.len() - 1)])
    }

    /// The newest value of `key`, if it is here.
    #[inline]
    pub fn get(&self, keyspace: KeyspaceId, key: &[u8], hash: u64) -> Option<RowRef> {
        self.get_at(keyspace, key, hash, Seq(u64::MAX))
    }

    /// The value that a read at the number `at` sees, if it is here.
    #[inline]
    pub fn get_at(&self, keyspace: KeyspaceId, key: &[u8], hash: u64, at: Seq) -> Option<RowRef> {
        let (at_bucket, tag) = place(keyspace, hash);
        let bucket = self.bucket(at_bucket)?;
        // Nothing here waits for what is not in the processor's cache where the key is not here.
        if !bucket.may_hold(tag) {
            return None;
        }
        let ranges = self.ranges.newest();
        let row = bucket.latched(|inner, marks| {
            if inner.last_write < ranges {
                self.catch_up(inner, marks, ranges);
            }
            if at < inner.last_write {
                return None;
            }
            let i = inner.find(*marks, keyspace, key, tag)?;
            marks.0[REFERENCED_AT] |= 1 << i;
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
        let Some(bucket) = self.bucket(bucket) else { return };
        // Dropped when the latch is free again.
        let ranges = self.ranges.newest();
        let mut gone: [Option<RowRef>; ROWS] = [const { None }; ROWS];
        bucket.latched(|inner, marks| {
            if inner.last_write < ranges {
                self.catch_up(inner, marks, ranges);
            }
            if at < inner.last_write || inner.find(*marks, keyspace, key, tag).is_some() {
                return;
            }
            let plenty = self.used.load(Ordering::Relaxed) < self.budget - self.budget / 8;
            if !plenty && !marks.seen().contains(&tag) {
                marks.seen().rotate_right(1);
                marks.seen()[0] = tag;
                return;
            }
            let mut bytes = Vec::with_capacity(key.len() + value.len());
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(value);
            let header = RowHeader { keyspace, key_bytes: key.len() as u32 };
            let row = RowRef::from_header_and_slice(header, &bytes);
            let wanted = charge(&row);
            let place = loop {
                if let Some(free) = marks.tags().iter().position(|tag| *tag == 0) {
                    if self.used.fetch_add(wanted, Ordering::Relaxed) + wanted <= self.budget {
                        break free;
                    }
                    self.used.fetch_sub(wanted, Ordering::Relaxed);
                }
                let Some(i) = marks.unread() else { return };
                gone[i] = inner.take(marks, i);
                self.used.fetch_sub(gone[i].as_ref().map_or(0, charge), Ordering::Relaxed);
            };
            marks.0[place] = tag;
            marks.0[REFERENCED_AT] &= !(1 << place);
            inner.rows[place] = Some(row);
            self.admitted.fetch_add(1, Ordering::Relaxed);
        });
    }

    /// Takes out what a commit has written. Called inside the commit section, before the commit can
    /// be seen, in the order of commits.
    #[inline]
    pub fn note_write(&self, keyspace: KeyspaceId, key: &[u8], seq: Seq) {
        if self.has_table() {
            self.note(keyspace, hash_key(key), seq);
        }
    }

    /// As [`note_write`](Self::note_write), for all keys from `first` to `last`: cheaper than key by key
    /// where these are many, and may be others in between too.
    pub fn note_span(&self, keyspace: KeyspaceId, first: &[u8], last: &[u8], seq: Seq) {
        let Some(table) = self.table.get() else { return };
        let ranges = self.ranges.newest();
        for bucket in &table.buckets {
            let mut gone: [Option<RowRef>; ROWS] = [const { None }; ROWS];
            bucket.latched(|inner, marks| {
                if inner.last_write < ranges {
                    self.catch_up(inner, marks, ranges);
                }
                inner.last_write = seq;
                for (i, gone) in gone.iter_mut().enumerate() {
                    let inside = inner.rows[i].as_ref().is_some_and(|row| {
                        let header = row.header.header;
                        let key = &row.slice[..header.key_bytes as usize];
                        header.keyspace == keyspace && (first..=last).contains(&key)
                    });
                    if inside {
                        *gone = inner.take(marks, i);
                    }
                }
            });
            let freed: u64 = gone.iter().flatten().map(charge).sum();
            self.used.fetch_sub(freed, Ordering::Relaxed);
        }
    }

    fn note(&self, keyspace: KeyspaceId, hash: u64, seq: Seq) {
        let (bucket, tag) = place(keyspace, hash);
        let Some(bucket) = self.bucket(bucket) else { return };
        let ranges = self.ranges.newest();
        let mut gone: [Option<RowRef>; ROWS] = [const { None }; ROWS];
        bucket.latched(|inner, marks| {
            if inner.last_write < ranges {
                self.catch_up(inner, marks, ranges);
            }
            inner.last_write = seq;
            for (i, gone) in gone.iter_mut().enumerate() {
                // Another key's row of this tag goes too: it comes again.
                if marks.0[i] == tag {
                    *gone = inner.take(marks, i);
                }
            }
        });
        let freed: u64 = gone.iter().flatten().map(charge).sum();
        if freed > 0 {
            self.used.fetch_sub(freed, Ordering::Relaxed);
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
                let covered = inner.rows[i].as_ref().is_some_and(|row| {
                    let header = row.header.header;
                    is_covered(header.keyspace, &row.slice[..header.key_bytes as usize])
                });
                if covered {
                    freed += inner.take(marks, i).as_ref().map_or(0, charge);
                }
            }
        });
        inner.last_write = newest;
        self.used.fetch_sub(freed, Ordering::Relaxed);
    }

    /// Lets go of all rows of that share (0 to 1) of the buckets; returns the bytes freed.
    pub fn evict(&self, share: f64) -> u64 {
        let Some(table) = self.table.get() else { return 0 };
        let count = (table.buckets.len() as f64 * share.clamp(0.0, 1.0)).ceil() as usize;
        let mut freed = 0;
        for bucket in &table.buckets[..count] {
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
