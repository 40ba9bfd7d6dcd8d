//! Large values: the blob segment being written, and every blob segment that can be read.
//!
//! 1. A value's pages are handed to the system before the record that refers to it is logged, and
//!    fsynced before that record is (the log's `before_sync` hook calls [`BlobStore::sync`]).
//! 2. A segment is sealed before an edit names it.
//! 3. A segment that no current version refers to stays readable until every version that was
//!    alive when it was retired is gone.
//!
//! 4. Values are written by way of a [`pin`](BlobStore::pin), which keeps their segment from being judged
//!    unused until what refers to them can be seen (see `blob_pins`).
//! 5. A segment with values stays the active one until it is sealed, however often that fails:
//!    whoever syncs or names what refers to it must meet the failure. After a failed sync the
//!    store has [`failed`](BlobStore::failed), and with it the handle.
//!
//! 6. Values are in the page cache whole, by the place of their first page; those of more than an eighth of
//!    a shard of it are not, and where room is scarce those that are read once. Whoever passes over many, by a
//!    cursor or a merge, leaves it as it is.
//!
//! The writer sits behind one latch, the table of readable segments behind another.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};

use crate::cache::Pager;
use crate::compress::Codec;
use crate::crypto::Owner;
use crate::error::{Error, ErrorKind, Result};
use crate::page::blob::page_count;
use crate::segment::{BlobPages, Leaving, Segment, SegmentKind, SegmentWriter};
pub use crate::store::blob_pins::BlobPin;
use crate::store::blob_pins::Holds;
use crate::store::value::Value;
use crate::store::version::Version;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard, RwLock};
use crate::types::{BlobRef, KeyspaceId, SegmentId};
use crate::vfs::Vfs;

/// A blob segment is sealed once it is this long.
pub(super) const BLOB_SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

/// The large values of a database.
#[derive(Debug)]
pub struct BlobStore {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    db: Owner,
    pager: Pager,
    next_segment: Arc<AtomicU64>,
    active: Mutex<Option<SegmentWriter>>,
    readable: RwLock<BTreeMap<SegmentId, Arc<Segment>>>,
    retired: Mutex<Vec<(SegmentId, Vec<Weak<Version>>)>>,
    /// Versions of dropped keyspaces, which open iterators may still read.
    dropped: Mutex<Vec<Weak<Version>>>,
    /// Sealed by size and not yet named by an edit, with their bytes.
    sealed: Mutex<BTreeMap<SegmentId, u64>>,
    holds: Holds,
    judging: Mutex<()>,
    naming: Mutex<()>,
    failed: OnceLock<String>,
    leaving: Arc<Leaving>,
}

impl BlobStore {
    /// A store that writes new segments under ids taken from `next_segment`, and reads by way of `pager`.
    pub fn new(
        vfs: Arc<dyn Vfs>,
        dir: PathBuf,
        db: Owner,
        pager: Pager,
        next_segment: Arc<AtomicU64>,
    ) -> Self {
        Self {
            vfs,
            dir,
            db,
            pager,
            next_segment,
            active: Mutex::new(None),
            readable: RwLock::new(BTreeMap::new()),
            retired: Mutex::new(Vec::new()),
            dropped: Mutex::new(Vec::new()),
            sealed: Mutex::new(BTreeMap::new()),
            holds: Holds::default(),
            judging: Mutex::new(()),
            naming: Mutex::new(()),
            failed: OnceLock::new(),
            leaving: Arc::default(),
        }
    }

    /// The way to cached pages, of all segments.
    pub fn pager(&self) -> &Pager {
        &self.pager
    }

    /// The segments, of all kinds, that are named no more and wait for their last reader to go.
    pub fn leaving(&self) -> &Arc<Leaving> {
        &self.leaving
    }

    /// Why values that were written may be lost, if they may.
    #[inline]
    pub fn failed(&self) -> Option<&str> {
        self.failed.get().map(String::as_str)
    }

    /// Notes an error of `writer` if it is one after which its values may be lost.
    fn note(&self, writer: &SegmentWriter, e: &Error) {
        if writer.has_failed() {
            self.failed.get_or_init(|| e.to_string());
        }
    }

    /// For writing values: held until the entries that refer to them are in a memtable or a version.
    pub fn pin(&self) -> BlobPin<'_> {
        BlobPin::new(self, &self.holds)
    }

    /// The segments that values were written to which nothing may refer to yet.
    pub fn pinned(&self) -> BTreeSet<SegmentId> {
        self.holds.ids()
    }

    /// Held from [`seal_for_edit`](Self::seal_for_edit) until the edit is durable and
    /// [`named`](Self::named) was called: two jobs must neither name a segment twice, nor one
    /// refer to it before the other has named it.
    pub fn naming(&self) -> MutexGuard<'_, ()> {
        self.naming.lock()
    }

    /// Held while segments are judged unused: one at a time.
    pub fn judge(&self) -> MutexGuard<'_, ()> {
        self.judging.lock()
    }

    /// Makes a segment that the manifest names readable.
    pub fn open_segment(&self, id: SegmentId) -> Result<()> {
        let segment = Segment::open(&self.vfs, &self.dir, &self.db, id)?;
        self.readable.write().insert(id, Arc::new(segment));
        Ok(())
    }

    /// See [`BlobPin::put`]; `hold` is told the segment before.
    pub(super) fn put(&self, value: &[u8], hold: impl FnOnce(SegmentId)) -> Result<BlobRef> {
        self.append(hold, |writer| writer.append_blob(value))
    }

    /// See [`BlobPin::put_pages`].
    pub(super) fn put_pages(
        &self,
        mut pages: BlobPages,
        hold: impl FnOnce(SegmentId),
    ) -> Result<BlobRef> {
        let mut n = 0;
        let count = page_count(pages.value_bytes());
        let mut next = |page: &mut Vec<u8>| {
            if n < count {
                *page = pages.page(n)?;
                n += 1;
            }
            Ok(())
        };
        self.append(hold, |writer| writer.append_blob_from(&mut next))
    }

    /// The pages of a value, which stay readable while this lives. The version that it was found in is
    /// to be held until this returns.
    pub fn pages(&self, blob: &BlobRef) -> Result<BlobPages> {
        BlobPages::open(self.segment(blob.segment)?, *blob)
    }

    /// The pages of a value in a segment that is not the store's yet.
    pub(super) fn pages_of_own(&self, blob: &BlobRef) -> Result<BlobPages> {
        let segment = Segment::open(&self.vfs, &self.dir, &self.db, blob.segment)?;
        BlobPages::open(Arc::new(segment), *blob)
    }

    fn append(
        &self,
        hold: impl FnOnce(SegmentId),
        write: impl FnOnce(&mut SegmentWriter) -> Result<BlobRef>,
    ) -> Result<BlobRef> {
        let mut active = self.active.lock();
        if active.as_ref().is_some_and(|w| w.len() >= BLOB_SEGMENT_BYTES) {
            self.seal(&mut active)?;
        }
        if active.is_none() {
            let mut writer = self.new_segment()?;
            writer.flush_buffer()?;
            self.sync_dir()?;
            self.open_segment(writer.id())?;
            *active = Some(writer);
        }
        let writer = active.as_mut().expect("made above");
        hold(writer.id());
        write(writer).inspect_err(|e| {
            self.note(writer, e);
            writer.give_back_space();
        })
    }

    /// Begins a segment; the directory is not synced.
    pub(super) fn new_segment(&self) -> Result<SegmentWriter> {
        let id = SegmentId(self.next_segment.fetch_add(1, Ordering::Relaxed));
        let (kind, keyspace) = (SegmentKind::Blob, KeyspaceId(0));
        SegmentWriter::create(&self.vfs, &self.dir, &self.db, id, kind, keyspace, Codec::None)
    }

    /// Makes the names of segments durable.
    pub(super) fn sync_dir(&self) -> Result<()> {
        let seg_dir = self.dir.join("seg");
        self.vfs.sync_dir(&seg_dir).map_err(|e| {
            let e = Error::io(&seg_dir, "sync the directory", e);
            // Names of other files may be lost with this one's.
            self.failed.get_or_init(|| e.to_string());
            e
        })
    }

    /// Takes over segments that are whole and durable, each with its bytes: they are readable from now
    /// on, and named with the next edit that refers to them.
    pub(super) fn take_in(&self, segments: &[(SegmentId, u64)]) -> Result<()> {
        for (id, _) in segments {
            self.open_segment(*id)?;
        }
        self.sealed.lock().extend(segments.iter().copied());
        Ok(())
    }

    /// Gives up segments taken in, which nothing came to refer to: their files go once nobody reads
    /// them.
    pub fn give_up(&self, segments: &BTreeSet<SegmentId>) {
        for id in segments {
            self.sealed.lock().remove(id);
        }
        self.let_go(&segments.iter().copied().collect::<Vec<_>>());
    }

    /// Removes the file of a segment that was never taken in; a hint, as the next opening does it again.
    pub(super) fn remove(&self, id: SegmentId) {
        let _ = self.vfs.remove_file(&crate::segment::segment_path(&self.dir, id));
    }

    /// Seals the active segment, if there is one.
    fn seal(&self, active: &mut Option<SegmentWriter>) -> Result<()> {
        let Some(writer) = active else { return Ok(()) };
        let meta = writer.seal_file().inspect_err(|e| self.note(writer, e))?;
        self.sealed.lock().insert(meta.id, meta.file_bytes);
        *active = None;
        Ok(())
    }

    /// Seals the active segment where it is under an older data key than `newest`.
    pub fn seal_aged(&self, newest: u32) -> Result<()> {
        let mut active = self.active.lock();
        if active.as_ref().is_some_and(|w| w.is_aged(newest)) {
            self.seal(&mut active)
        } else {
            Ok(())
        }
    }

    /// Whether the segment is under an older data key than `newest`.
    pub fn is_aged(&self, id: SegmentId, newest: u32) -> bool {
        self.readable.read().get(&id).is_some_and(|s| s.is_aged(newest))
    }

    /// Makes every value written so far durable.
    pub fn sync(&self) -> Result<()> {
        match self.active.lock().as_mut() {
            Some(writer) => writer.sync().inspect_err(|e| self.note(writer, e)),
            None => Ok(()),
        }
    }

    /// Seals those of `ids` that are still being written, and gives the lengths of those that no
    /// edit has named yet.
    pub fn seal_for_edit(&self, ids: &BTreeSet<SegmentId>) -> Result<Vec<(SegmentId, u64)>> {
        let mut active = self.active.lock();
        if active.as_ref().is_some_and(|w| ids.contains(&w.id())) {
            self.seal(&mut active)?;
        }
        let sealed = self.sealed.lock();
        Ok(ids.iter().filter_map(|id| sealed.get(id).map(|bytes| (*id, *bytes))).collect())
    }

    /// Whether a segment is still written, or named by no edit yet.
    pub fn is_young(&self, id: SegmentId) -> bool {
        self.active.lock().as_ref().is_some_and(|w| w.id() == id)
            || self.sealed.lock().contains_key(&id)
    }

    /// Bytes of segments that no edit has named yet.
    pub fn young_bytes(&self) -> u64 {
        let active = self.active.lock().as_ref().map_or(0, |w| w.len());
        active + self.sealed.lock().values().sum::<u64>()
    }

    /// Called once an edit has named a segment.
    pub fn named(&self, id: SegmentId) {
        self.sealed.lock().remove(&id);
    }

    /// The segment with this id.
    pub fn segment(&self, id: SegmentId) -> Result<Arc<Segment>> {
        self.readable.read().get(&id).cloned().ok_or_else(|| {
            let file = crate::segment::segment_path(&self.dir, id);
            Error::corrupt(&file, 0, "an entry refers to a blob segment that is not there")
        })
    }

    /// Reads a value from its segment, for who passes over much or knows that it goes: nothing is kept.
    pub fn read(&self, blob: &BlobRef) -> Result<Vec<u8>> {
        self.segment(blob.segment)?.read_blob(blob)
    }

    /// The value: from the cache, or else read; the cache is left as it is.
    pub fn find(&self, blob: &BlobRef) -> Result<Value> {
        match self.pager.peek_large_value(blob) {
            Some(page) => Ok(Value::in_page(page, 0..blob.value_bytes)),
            None => self.read(blob).map(Value::owned),
        }
    }

    /// The value: from the cache, or else read, and kept there.
    pub fn fetch(&self, blob: &BlobRef) -> Result<Value> {
        if let Some(page) = self.pager.large_value(blob) {
            return Ok(Value::in_page(page, 0..blob.value_bytes));
        }
        let kept = self.pager.keep_large_value(blob, self.read(blob)?);
        Ok(kept.map_or_else(Value::owned, |page| Value::in_page(page, 0..blob.value_bytes)))
    }

    /// Takes segments from those that can be read: the file of each goes once nobody reads it.
    fn let_go(&self, ids: &[SegmentId]) {
        for id in ids {
            let segment = self.readable.write().remove(id);
            if let Some(segment) = segment {
                segment.mark_obsolete(&self.leaving);
            }
        }
        self.pager.cache().remove_segments(ids);
    }

    /// Notes the versions of a keyspace that is being dropped.
    pub fn note_dropped(&self, versions: Vec<Weak<Version>>) {
        let mut dropped = self.dropped.lock();
        dropped.retain(|v| v.strong_count() > 0);
        dropped.extend(versions);
    }

    /// Takes segments out of use that the manifest no longer names; their files go once none of
    /// `versions`, and of the versions of keyspaces dropped before, is alive.
    pub fn retire(&self, ids: &[SegmentId], mut versions: Vec<Weak<Version>>) {
        versions.extend(self.dropped.lock().iter().filter(|v| v.strong_count() > 0).cloned());
        let mut retired = self.retired.lock();
        for id in ids {
            retired.push((*id, versions.clone()));
        }
        drop(retired);
        self.drop_unused();
    }

    /// Lets go of retired segments that no reader can reach any more.
    pub fn drop_unused(&self) {
        let mut gone = Vec::new();
        self.retired.lock().retain(|(id, versions)| {
            let is_read = versions.iter().any(|v| v.strong_count() > 0);
            if !is_read {
                gone.push(*id);
            }
            is_read
        });
        self.let_go(&gone);
    }

    /// Seals what is open, for a clean close.
    pub fn close(&self) -> Result<()> {
        self.seal(&mut self.active.lock())
    }

    /// The error for a value that memory cannot hold.
    pub fn too_large(len: u64, limit: u64) -> Error {
        Error::new(
            ErrorKind::ValueTooLarge,
            format!("a value of {len} bytes is over the limit of {limit} bytes"),
        )
    }
}
