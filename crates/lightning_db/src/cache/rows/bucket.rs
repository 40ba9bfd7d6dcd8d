//! A bucket of the row cache: one cache line with a latch, a few rows, and their marks.
//!
//! 1. A row stands beside the tag of its key: a key with another tag has another row, or none. A row whose
//!    tag is 0 is *forgotten*: nobody finds it, and it is dropped when its bucket next takes a row in. For
//!    some writes to its bucket it counts as forgotten *lately*.
//! 2. A row is *written* when it took its value from a commit and was not read since.
//! 3. A bucket is *pending* when its last write, or one before it, left a value here that may not be
//!    visible yet. It stays so until a read comes after that write.
//!
//! Threads: any. Marks change under the latch, and may be looked at without it.

use triomphe::{Arc, ThinArc};

use crate::prefetch;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::types::{KeyspaceId, Seq};

/// What is told of a row beside its bytes.
#[derive(Debug, Clone, Copy)]
pub struct RowHeader {
    keyspace: KeyspaceId,
    key_bytes: u32,
}

/// A row: its key, then its value. It lives as long as the cache or a reader holds it.
pub type RowRef = ThinArc<RowHeader, u8>;

/// A row of that key and value.
pub(super) fn new_row(keyspace: KeyspaceId, key: &[u8], value: &[u8]) -> RowRef {
    let mut bytes = Vec::with_capacity(key.len() + value.len());
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(value);
    let header = RowHeader { keyspace, key_bytes: key.len() as u32 };
    RowRef::from_header_and_slice(header, &bytes)
}

/// The keyspace and key of a row.
#[inline]
pub(super) fn row_key(row: &RowRef) -> (KeyspaceId, &[u8]) {
    let header = row.header.header;
    (header.keyspace, &row.slice[..header.key_bytes as usize])
}

/// The value in a row.
#[inline]
pub fn row_value(row: &RowRef) -> &[u8] {
    &row.slice[row.header.header.key_bytes as usize..]
}

/// Gives a row another value of the same length, where nobody else holds it; tells whether it did.
fn overwrite(row: &mut RowRef, value: &[u8]) -> bool {
    let key_bytes = row.header.header.key_bytes as usize;
    row.with_arc_mut(|row| match Arc::get_mut(row) {
        Some(row) if row.slice().len() == key_bytes + value.len() => {
            row.slice_mut()[key_bytes..].copy_from_slice(value);
            true
        }
        _ => false,
    })
}

/// Rows of a bucket.
pub(super) const ROWS: usize = 5;
/// Tags of keys read once.
const SEEN: usize = 2;

/// One cache line, where latches are small.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Bucket {
    marks: AtomicU64,
    inner: Mutex<Inner>,
}

// Latches are four bytes there, and larger elsewhere.
#[cfg(all(any(target_os = "linux", windows), not(any(shuttle, loom))))]
const _: () = assert!(size_of::<Bucket>() == 64, "a bucket fills one cache line");

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) last_write: Seq,
    pub(super) rows: [Option<RowRef>; ROWS],
}

/// Eight bytes: a tag for each row (0 where there is none) with a bit that says whether it is written,
/// those of keys read once, and a byte with a bit for each row that was read since it was last passed
/// over, and one for pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marks([u8; 8]);

const SEEN_AT: usize = ROWS;
const FLAGS_AT: usize = ROWS + SEEN;
const _: () = assert!(FLAGS_AT == 7);
/// In a tag's byte: the row is written; where the tag is 0, it was forgotten lately.
const WRITTEN: u8 = 1 << 7;
/// In the byte of flags.
const PENDING: u8 = 1 << 7;
const _: () = assert!(ROWS < 7);

/// The place of a key among the buckets, and its tag, which is 1 to 127.
#[inline]
pub(super) fn place(keyspace: KeyspaceId, key_hash: u64) -> (usize, u8) {
    let hash = (key_hash ^ u64::from(keyspace.0)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((hash >> 24) as usize, ((hash >> 16) as u8 & !WRITTEN).max(1))
}

impl Marks {
    #[inline]
    fn tag(self, i: usize) -> u8 {
        self.0[i] & !WRITTEN
    }

    #[inline]
    fn is_to_renew(self, i: usize, tag: u8, written: bool) -> bool {
        self.0[i] == tag || (written && self.tag(i) == tag)
    }

    pub(super) fn was_seen(self, tag: u8) -> bool {
        self.0[SEEN_AT..FLAGS_AT].contains(&tag)
    }

    /// Notes that a key with this tag was read.
    pub(super) fn note_seen(&mut self, tag: u8) {
        self.0[SEEN_AT..FLAGS_AT].rotate_right(1);
        self.0[SEEN_AT] = tag;
    }

    /// Notes that a row was read.
    #[inline]
    pub(super) fn note_read(&mut self, i: usize) {
        self.0[i] &= !WRITTEN;
        self.0[FLAGS_AT] |= 1 << i;
    }

    /// Notes that a row has what a commit writes.
    fn note_written(&mut self, i: usize) {
        self.0[i] |= WRITTEN;
        self.0[FLAGS_AT] |= PENDING;
    }

    /// Forgets what has this tag: another key's row too, which comes again. The rows are not looked at:
    /// they lie elsewhere in memory, and a writer need not wait for them. Tells whether there was any.
    #[inline]
    pub(super) fn forget_tagged(&mut self, tag: u8, lately: bool) -> bool {
        let mut any = false;
        for i in 0..ROWS {
            if self.tag(i) == tag {
                self.0[i] = if lately { WRITTEN } else { 0 };
                any = true;
            }
        }
        any
    }

    /// What was forgotten was not so of late any more.
    pub(super) fn end_lately(&mut self) {
        for i in 0..ROWS {
            if self.tag(i) == 0 {
                self.0[i] = 0;
            }
        }
    }

    pub(super) fn is_pending(self) -> bool {
        self.0[FLAGS_AT] & PENDING != 0
    }

    pub(super) fn set_visible(&mut self) {
        self.0[FLAGS_AT] &= !PENDING;
    }

    /// A row that was not read lately. Where all were, none leaves this time.
    pub(super) fn unread(&mut self) -> Option<usize> {
        let flags = self.0[FLAGS_AT];
        let unread = (0..ROWS).find(|i| self.tag(*i) != 0 && flags & (1 << i) == 0);
        if unread.is_none() {
            self.0[FLAGS_AT] &= PENDING;
        }
        unread
    }
}

impl Bucket {
    pub(super) fn new(last_write: Seq) -> Self {
        let inner = Inner { last_write, rows: [const { None }; ROWS] };
        Self { marks: AtomicU64::new(0), inner: Mutex::new(inner) }
    }

    #[inline]
    fn marks(&self) -> Marks {
        Marks(self.marks.load(Ordering::Relaxed).to_le_bytes())
    }

    /// Whether a key with this tag may be here.
    #[inline]
    pub(super) fn may_hold(&self, tag: u8) -> bool {
        let marks = self.marks();
        (0..ROWS).any(|i| marks.tag(i) == tag)
    }

    /// Asks the processor for the bucket.
    #[inline]
    pub(super) fn prefetch(&self) {
        prefetch::lines(std::ptr::from_ref(self).cast(), 1);
    }

    /// Does something under the latch.
    #[inline]
    pub(super) fn latched<R>(&self, act: impl FnOnce(&mut Inner, &mut Marks) -> R) -> R {
        let mut inner = self.inner.lock();
        let before = self.marks();
        let mut marks = before;
        let result = act(&mut inner, &mut marks);
        if marks != before {
            self.marks.store(u64::from_le_bytes(marks.0), Ordering::Relaxed);
        }
        result
    }
}

impl Inner {
    pub(super) fn find(
        &self,
        marks: Marks,
        keyspace: KeyspaceId,
        key: &[u8],
        tag: u8,
    ) -> Option<usize> {
        (0..ROWS).find(|i| {
            let row = self.rows[*i].as_ref().filter(|_| marks.tag(*i) == tag);
            row.is_some_and(|row| row_key(row) == (keyspace, key))
        })
    }

    pub(super) fn put(&mut self, marks: &mut Marks, i: usize, tag: u8, row: RowRef) {
        marks.0[i] = tag;
        marks.0[FLAGS_AT] &= !(1 << i);
        self.rows[i] = Some(row);
    }

    pub(super) fn take(&mut self, marks: &mut Marks, i: usize) -> Option<RowRef> {
        marks.0[i] = 0;
        self.rows[i].take()
    }

    /// A place without a row, forgotten ones included.
    pub(super) fn free(&self, marks: Marks) -> Option<usize> {
        (0..ROWS).find(|i| marks.tag(*i) == 0 && self.rows[*i].is_none())
    }

    /// The row of a key, if it was forgotten lately.
    pub(super) fn find_forgotten(
        &self,
        marks: Marks,
        keyspace: KeyspaceId,
        key: &[u8],
    ) -> Option<usize> {
        (0..ROWS).find(|i| {
            let row = self.rows[*i].as_ref().filter(|_| marks.0[*i] == WRITTEN);
            row.is_some_and(|row| row_key(row) == (keyspace, key))
        })
    }

    /// Takes out one that was forgotten, not lately unless `lately` says so.
    pub(super) fn take_forgotten(&mut self, marks: &mut Marks, lately: bool) -> Option<RowRef> {
        let goes = |mark: u8| mark == 0 || (lately && mark == WRITTEN);
        let i = (0..ROWS).find(|i| goes(marks.0[*i]) && self.rows[*i].is_some())?;
        self.take(marks, i)
    }

    /// Asks the processor for the rows that have this tag and were read since they were last written; with
    /// `written`, for others too.
    pub(super) fn prefetch_tagged(&self, marks: Marks, tag: u8, written: bool, lines: usize) {
        let tagged = (0..ROWS).filter(|i| marks.is_to_renew(*i, tag, written));
        for row in tagged.filter_map(|i| self.rows[i].as_ref()) {
            prefetch::lines(row.as_ptr().cast(), lines);
        }
    }

    /// The row of a key that a commit writes, if there is one, and it was read since the last such; with
    /// `written`, also where it was not.
    pub(super) fn find_to_renew(
        &self,
        marks: Marks,
        keyspace: KeyspaceId,
        key: &[u8],
        tag: u8,
        written: bool,
    ) -> Option<usize> {
        (0..ROWS).find(|i| {
            let row = self.rows[*i].as_ref().filter(|_| marks.is_to_renew(*i, tag, written));
            row.is_some_and(|row| row_key(row) == (keyspace, key))
        })
    }

    /// Gives a row the value that a commit writes, where it has that length and nobody holds the row;
    /// tells whether it did.
    pub(super) fn overwrite(&mut self, marks: &mut Marks, i: usize, value: &[u8]) -> bool {
        let done = self.rows[i].as_mut().is_some_and(|row| overwrite(row, value));
        if done {
            marks.note_written(i);
        }
        done
    }

    /// Puts a row with what a commit writes in the place of that of the same key, which it gives.
    pub(super) fn replace(&mut self, marks: &mut Marks, i: usize, row: RowRef) -> Option<RowRef> {
        marks.note_written(i);
        self.rows[i].replace(row)
    }
}
