//! Fetches pages: from the cache, or else from their segment, opened and checked on the way.
//!
//! Threads: any. No latch is held while the disk is read: threads that miss the same page at the
//! same time each read it, and one of the copies is kept. A page that failed its checks is never
//! cached, so that every read of it says so.

use std::path::Path;

use crate::error::{Error, Result};
use crate::page::PageType;
use crate::segment::Segment;
use crate::sync::Arc;
use crate::types::{BlobRef, PageAddress, SegmentId};

use super::{Page, PageCache, PageRef, PageSlot};

/// The one way to an opened page. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pager {
    cache: Arc<PageCache>,
}

impl Pager {
    /// A pager over a cache that others may share.
    pub fn new(cache: Arc<PageCache>) -> Self {
        Self { cache }
    }

    /// The cache.
    pub fn cache(&self) -> &Arc<PageCache> {
        &self.cache
    }

    /// The page at `addr`, which lies in `segment`; kept in the cache.
    #[inline]
    pub fn fetch(&self, segment: &Segment, addr: &PageAddress, ty: PageType) -> Result<PageRef> {
        self.cached(addr.segment, addr.offset, ty, segment.path(), || segment.read_page(addr, ty))
    }

    /// As [`fetch`](Self::fetch), by the slot in which a parent remembers the page: that of this
    /// very address. `segment` is asked for only where the slot has nothing.
    #[inline]
    pub fn fetch_by<'s>(
        &self,
        slot: Option<&PageSlot>,
        segment: impl FnOnce() -> Result<&'s Arc<Segment>>,
        addr: &PageAddress,
        ty: PageType,
    ) -> Result<PageRef> {
        if let Some(page) = slot.and_then(|slot| self.cache.get_by(slot))
            && page.ty == ty
        {
            return Ok(page);
        }
        let page = self.fetch(segment()?, addr, ty)?;
        if let Some(slot) = slot {
            slot.set(&page);
        }
        Ok(page)
    }

    /// As [`fetch`](Self::fetch), for pages whose checksum no parent holds (filters); their own,
    /// which covers the segment and the offset, is checked.
    #[inline]
    pub fn fetch_at(
        &self,
        slot: Option<&PageSlot>,
        segment: &Segment,
        offset: u64,
        stored_bytes: u32,
        ty: PageType,
    ) -> Result<PageRef> {
        if let Some(page) = slot.and_then(|slot| self.cache.get_by(slot))
            && page.ty == ty
        {
            return Ok(page);
        }
        let page = self.cached(segment.id(), offset, ty, segment.path(), || {
            segment.read_page_at(offset, stored_bytes, ty)
        })?;
        if let Some(slot) = slot {
            slot.set(&page);
        }
        Ok(page)
    }

    /// As [`fetch`](Self::fetch), for merges and other passes over everything: uses what is
    /// cached, but leaves the cache, its counters and its idea of what is hot alone.
    pub fn fetch_uncached(
        &self,
        segment: &Segment,
        addr: &PageAddress,
        ty: PageType,
    ) -> Result<PageRef> {
        self.uncached(addr.segment, addr.offset, ty, segment.path(), || segment.read_page(addr, ty))
    }

    /// The large value that `blob` refers to, whole, if it is in the cache. What a segment would say of a
    /// reference that lies (of another length) it says itself.
    #[inline]
    pub fn large_value(&self, blob: &BlobRef) -> Option<PageRef> {
        if u64::from(blob.value_bytes) > self.cache.most_page_bytes() {
            return None;
        }
        self.cache.get(blob.segment, blob.offset).filter(|page| is_value(page, blob))
    }

    /// As [`large_value`](Self::large_value), without a trace in the cache.
    pub fn peek_large_value(&self, blob: &BlobRef) -> Option<PageRef> {
        self.cache.peek(blob.segment, blob.offset).filter(|page| is_value(page, blob))
    }

    /// Takes in a large value that was missed and read; gives it back where it is too large for that, or
    /// not worth the room.
    pub fn keep_large_value(
        &self,
        blob: &BlobRef,
        value: Vec<u8>,
    ) -> std::result::Result<PageRef, Vec<u8>> {
        if value.len() as u64 > self.cache.most_page_bytes()
            || !self.cache.wants_large(blob.segment, blob.offset)
        {
            return Err(value);
        }
        let page = Arc::new(Page::new(PageType::Blob, value));
        self.cache.insert(blob.segment, blob.offset, page.clone());
        Ok(page)
    }

    #[inline]
    fn cached(
        &self,
        segment: SegmentId,
        offset: u64,
        ty: PageType,
        file: &Path,
        read: impl FnOnce() -> Result<Vec<u8>>,
    ) -> Result<PageRef> {
        if let Some(page) = self.cache.get(segment, offset) {
            return of_type(page, ty, file, offset);
        }
        let page = Arc::new(Page::new(ty, read()?));
        self.cache.insert(segment, offset, page.clone());
        Ok(page)
    }

    fn uncached(
        &self,
        segment: SegmentId,
        offset: u64,
        ty: PageType,
        file: &Path,
        read: impl FnOnce() -> Result<Vec<u8>>,
    ) -> Result<PageRef> {
        match self.cache.peek(segment, offset) {
            Some(page) => of_type(page, ty, file, offset),
            None => Ok(Arc::new(Page::new(ty, read()?))),
        }
    }
}

/// Whether a page is a whole value of the reference's length.
fn is_value(page: &PageRef, blob: &BlobRef) -> bool {
    page.ty == PageType::Blob && page.bytes.len() as u64 == u64::from(blob.value_bytes)
}

/// A parent that names a page of another type is as wrong when the page is cached.
fn of_type(page: PageRef, ty: PageType, file: &Path, offset: u64) -> Result<PageRef> {
    if page.ty == ty {
        Ok(page)
    } else {
        let message = format!("a {:?} page where a {ty:?} page is referred to", page.ty);
        Err(Error::corrupt(file, offset, message))
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use std::cell::Cell;

    struct Disk {
        pager: Pager,
        reads: Cell<u32>,
    }

    impl Disk {
        fn new(capacity: u64) -> Self {
            Self { pager: Pager::new(Arc::new(PageCache::new(capacity))), reads: Cell::new(0) }
        }

        fn read(&self, offset: u64) -> Result<Vec<u8>> {
            self.reads.set(self.reads.get() + 1);
            if offset == 13 {
                return Err(Error::corrupt(Path::new("1.seg"), offset, "the checksum is wrong"));
            }
            Ok(offset.to_le_bytes().to_vec())
        }

        fn fetch(&self, offset: u64, ty: PageType) -> Result<PageRef> {
            let file = Path::new("1.seg");
            self.pager.cached(SegmentId(1), offset, ty, file, || self.read(offset))
        }

        fn fetch_uncached(&self, offset: u64, ty: PageType) -> Result<PageRef> {
            let file = Path::new("1.seg");
            self.pager.uncached(SegmentId(1), offset, ty, file, || self.read(offset))
        }
    }

    #[test]
    fn a_page_is_read_once_while_it_is_cached() {
        let disk = Disk::new(1 << 20);
        for _ in 0..3 {
            let page = disk.fetch(5, PageType::Leaf).unwrap();
            assert_eq!((page.ty, &page.bytes[..]), (PageType::Leaf, &5u64.to_le_bytes()[..]));
        }
        assert_eq!(disk.reads.get(), 1);
        disk.pager.cache().evict(1.0);
        disk.fetch(5, PageType::Leaf).unwrap();
        assert_eq!(disk.reads.get(), 2);
        let stats = disk.pager.cache().stats();
        assert_eq!((stats.hits, stats.misses), (2, 2));
    }

    #[test]
    fn without_a_cache_every_fetch_reads() {
        let disk = Disk::new(0);
        for _ in 0..3 {
            disk.fetch(5, PageType::Leaf).unwrap();
        }
        assert_eq!(disk.reads.get(), 3);
    }

    #[test]
    fn uncached_fetches_leave_no_trace() {
        let disk = Disk::new(1 << 20);
        disk.fetch_uncached(5, PageType::Leaf).unwrap();
        disk.fetch_uncached(5, PageType::Leaf).unwrap();
        assert_eq!(disk.reads.get(), 2);
        let stats = disk.pager.cache().stats();
        assert_eq!((stats.hits, stats.misses, stats.pages), (0, 0, 0));
        disk.fetch(5, PageType::Leaf).unwrap();
        disk.fetch_uncached(5, PageType::Leaf).unwrap();
        assert_eq!((disk.reads.get(), disk.pager.cache().stats().hits), (3, 0));
    }

    #[test]
    fn a_bad_page_is_bad_each_time() {
        let disk = Disk::new(1 << 20);
        for _ in 0..2 {
            assert_eq!(disk.fetch(13, PageType::Leaf).unwrap_err().kind(), ErrorKind::Corrupt);
        }
        assert_eq!((disk.reads.get(), disk.pager.cache().stats().pages), (2, 0));
    }

    #[test]
    fn a_cached_page_of_another_type_is_corruption() {
        let disk = Disk::new(1 << 20);
        disk.fetch(5, PageType::Leaf).unwrap();
        for error in [
            disk.fetch(5, PageType::Inner).unwrap_err(),
            disk.fetch_uncached(5, PageType::Inner).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            assert_eq!((error.file(), error.offset()), (Some(Path::new("1.seg")), Some(5)));
        }
    }

    #[test]
    fn pages_of_a_real_segment_are_fetched_and_checked() {
        use crate::compress::Codec;
        use crate::crypto::Owner;
        use crate::page::leaf::{LeafBuilder, LeafView};
        use crate::segment::{SegmentKind, SegmentWriter, segment_dir, segment_path};
        use crate::types::{DatabaseId, EntryValue, KeyspaceId, Seq, hash_key};
        use crate::vfs::{MemoryVfs, OpenMode, Vfs};

        let vfs: Arc<dyn Vfs> = Arc::new(MemoryVfs::new());
        let (dir, id) = (Path::new("db"), SegmentId(1));
        let db = Owner::plain(DatabaseId([7; 16]));
        vfs.create_dir_all(&segment_dir(dir)).unwrap();
        let kind = SegmentKind::Data;
        let mut writer =
            SegmentWriter::create(&vfs, dir, &db, id, kind, KeyspaceId(0), Codec::None).unwrap();
        let mut leaf = LeafBuilder::new();
        let addresses: Vec<PageAddress> = [b"a", b"b"]
            .map(|key| {
                let mut raw = Vec::new();
                leaf.push(key, Seq(1), EntryValue::Inline(b"value"));
                leaf.finish(&mut raw);
                writer.append(PageType::Leaf, &raw, Codec::None).unwrap()
            })
            .to_vec();
        writer.finish().unwrap();
        let segment = Segment::open(&vfs, dir, &db, id).unwrap();
        let pager = Pager::new(Arc::new(PageCache::new(1 << 20)));
        let holds = |page: &PageRef, key: &[u8]| {
            LeafView::new(&page.bytes).find(key, hash_key(key)).is_some()
        };
        let [a, b] = [&addresses[0], &addresses[1]];
        assert!(holds(&pager.fetch(&segment, a, PageType::Leaf).unwrap(), b"a"));
        let page =
            pager.fetch_at(None, &segment, b.offset, b.stored_bytes, PageType::Leaf).unwrap();
        assert!(holds(&page, b"b"));

        // The byte rots: what is cached is still true, what is read anew says so.
        let path = segment_path(dir, id);
        let file = vfs.open(&path, OpenMode::ReadWrite).unwrap();
        file.write_at(&[0xFF], a.offset + u64::from(a.stored_bytes) - 1).unwrap();
        assert!(holds(&pager.fetch_uncached(&segment, a, PageType::Leaf).unwrap(), b"a"));
        pager.cache().remove_segments(&[id]);
        for error in [
            pager.fetch(&segment, a, PageType::Leaf).unwrap_err(),
            pager.fetch_uncached(&segment, a, PageType::Leaf).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            assert_eq!((error.file(), error.offset()), (Some(&*path), Some(a.offset)));
        }
        assert!(holds(&pager.fetch(&segment, b, PageType::Leaf).unwrap(), b"b"));
    }
}

/// Pages loaded, held, evicted and removed at once; see `schedules`.
///
/// Seen to fail when `remove_segment` does not count what it takes out.
#[cfg(all(test, shuttle))]
mod schedules {
    use super::*;
    use crate::cache::page_cache::PAGE_OVERHEAD_BYTES;
    use crate::sync::thread;

    const BYTES: usize = 1000;

    fn load(pager: &Pager, segment: u64, offset: u64) -> PageRef {
        let what = segment as u8 * 16 + offset as u8;
        let read = || Ok(vec![what; BYTES]);
        let page = pager
            .cached(SegmentId(segment), offset, PageType::Leaf, Path::new("/s"), read)
            .unwrap();
        assert!(page.bytes.iter().all(|b| *b == what), "another page's bytes");
        page
    }

    fn model() {
        // Room for two pages.
        let room = 2 * (BYTES as u64 + PAGE_OVERHEAD_BYTES);
        let cache = Arc::new(PageCache::new(room));
        let pager = Pager::new(Arc::clone(&cache));
        let users: Vec<_> = (0..2)
            .map(|user| {
                let pager = pager.clone();
                thread::spawn(move || {
                    let held = load(&pager, 1, 0);
                    for offset in [1, user, 2] {
                        load(&pager, 1, offset);
                        assert!(pager.cache().used_bytes() <= room);
                    }
                    load(&pager, 2, 0);
                    assert_eq!(held.bytes, [16; BYTES], "a page that is held changed");
                })
            })
            .collect();
        cache.remove_segments(&[SegmentId(1)]);
        cache.evict(0.5);
        load(&pager, 2, 1);
        cache.remove_segments(&[SegmentId(2)]);
        for user in users {
            user.join().unwrap();
        }
        let stats = cache.stats();
        assert_eq!(stats.hits + stats.misses, 11);
        assert_eq!(stats.used_bytes, stats.pages * (BYTES as u64 + PAGE_OVERHEAD_BYTES));
        assert!(stats.used_bytes <= room);
        for segment in [1, 2] {
            cache.remove_segments(&[SegmentId(segment)]);
        }
        assert_eq!((cache.used_bytes(), cache.stats().pages), (0, 0));
    }

    /// Readers by slots, while what slots lead to is evicted, removed and loaded again.
    fn slots_model() {
        let room = 2 * (BYTES as u64 + PAGE_OVERHEAD_BYTES);
        let cache = Arc::new(PageCache::new(room));
        let parent = Arc::new(Page::new(PageType::Inner, Vec::new()));
        let users: Vec<_> = (0..2)
            .map(|user| {
                let (pager, parent) = (Pager::new(Arc::clone(&cache)), Arc::clone(&parent));
                thread::spawn(move || {
                    for child in [0, 1, user, 0] {
                        let slot = parent.slot(child, || 3).expect("one of three");
                        let page = pager.cache().get_by(slot);
                        let page = page.unwrap_or_else(|| {
                            let page = load(&pager, 1, child as u64);
                            slot.set(&page);
                            page
                        });
                        assert!(page.bytes.iter().all(|b| *b == 16 + child as u8), "another page");
                    }
                })
            })
            .collect();
        cache.evict(0.5);
        cache.remove_segments(&[SegmentId(1)]);
        for user in users {
            user.join().unwrap();
        }
        let stats = cache.stats();
        assert_eq!(stats.hits + stats.misses, 8, "every read is counted once");
        cache.remove_segments(&[SegmentId(1)]);
        assert_eq!((cache.used_bytes(), cache.stats().pages), (0, 0));
        for child in 0..3 {
            let slot = parent.slot(child, || 3).expect("one of three");
            assert!(slot.get().is_none(), "a slot keeps a page in memory");
        }
    }

    #[test]
    fn slots_lead_to_their_pages_and_keep_none() {
        let name = "slots_lead_to_their_pages_and_keep_none";
        crate::schedules::explore::explore(name, 20_000, slots_model);
    }

    #[test]
    fn pages_are_right_and_counted_whoever_loads_and_evicts() {
        let name = "pages_are_right_and_counted_whoever_loads_and_evicts";
        crate::schedules::explore::explore(name, 20_000, model);
    }
}
