//! Builds one partition: from entries pushed in order, and from leaves kept of older partitions.
//!
//! 1. Entries come by key, the newest version of a key first; kept leaves stand in their place
//!    between them. What comes out of order is refused, and so is finishing after an error.
//! 2. Leaves end where the next entry would take them past the page size, but never between two
//!    versions of a key, unless the leaf would pass [`MAX_VERSIONS_BYTES`]; separators then keep
//!    the key findable (see `separator`).
//! 3. A kept leaf is not read, unless its partition refers to blobs, or entries of it expire: then
//!    it is, so that the use of each blob segment, and what is known of lives, stays exact.
//! 4. The filter covers the keys pushed here; those of kept segments are kept with them. A segment
//!    that got inner pages only has a filter of no pages.
//! 5. `live_bytes` of a segment is the sum of the stored bytes of its reachable pages: leaves,
//!    inner pages, filter. A dictionary is not counted, like the header in front of it.
//!
//! One thread. The segment is synced by `finish`; its directory is the caller's to sync, once for
//! all segments of a job.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::cache::Pager;
use crate::compress::{Codec, Dictionaries, Dictionary, PackCounters, Packing};
use crate::crypto::Owner;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{MAX_KEY_BYTES, MAX_PAGE_RAW_BYTES};
use crate::manifest::{
    BlobUse, Droppable, FilterRef, Lives, PartitionMeta, PartitionSegment, ViewSpan,
};
use crate::page::PageType;
use crate::page::filter::FilterBuilder;
use crate::page::inner::Child;
use crate::page::leaf::{LeafBuilder, LeafView};
use crate::segment::{Segment, SegmentKind, SegmentWriter, segment_path};
use crate::sync::Arc;
use crate::types::{
    Entry, EntryValue, KeyspaceId, PageAddress, PartitionId, SegmentId, Seq, hash_key,
};
use crate::vfs::Vfs;

use super::leaves::{LeafSpan, SpanEnd};
use super::levels::{Levels, Totals};
use super::reader::{PartitionReader, filter_bytes};
use super::separator;

/// A leaf may grow to this many raw bytes rather than divide the versions of a key.
pub const MAX_VERSIONS_BYTES: usize = 512 * 1024;
/// The segments a partition's pages may lie in.
pub const MAX_SEGMENTS: usize = 3;
/// Inner pages are this many times as large as leaves.
const INNER_FACTOR: usize = 4;

/// What all partitions of a job share.
#[derive(Clone, Debug)]
pub struct WriterContext {
    /// Where files are made.
    pub vfs: Arc<dyn Vfs>,
    /// The database's directory.
    pub dir: PathBuf,
    /// The database.
    pub db: Owner,
    /// The keyspace that the partition belongs to.
    pub keyspace: KeyspaceId,
    /// How leaves and inner pages are packed.
    pub packing: Packing,
    /// What leaves are packed with, where `packing` is Zstandard's.
    pub dictionary: Option<Arc<Dictionary>>,
    /// Those of all segments.
    pub dictionaries: Arc<Dictionaries>,
    /// Told how packing went.
    pub packed: Arc<PackCounters>,
    /// The raw bytes at which leaves end.
    pub page_bytes: usize,
}

impl WriterContext {
    /// How leaves are packed.
    fn leaf_packing(&self) -> Packing {
        match self.dictionary {
            Some(_) => Packing::new(Codec::ZstdDictionary, Some(self.packing.level)),
            None => self.packing,
        }
    }
}

/// What lies before the leaf that begins next.
enum Before {
    Nothing,
    /// The last key pushed, or the upper bound (inclusive) of a kept span.
    Key(Vec<u8>),
    /// All keys are less than this.
    Bound(Vec<u8>),
}

/// The segment that this job writes; made with its first page.
struct Output {
    ctx: WriterContext,
    id: SegmentId,
    file: Option<SegmentWriter>,
    live_bytes: u64,
    failed: bool,
}

impl Output {
    fn append(&mut self, ty: PageType, raw: &[u8], packing: Packing) -> Result<PageAddress> {
        let result = self.try_append(ty, raw, packing);
        match &result {
            Ok(address) => self.live_bytes += u64::from(address.stored_bytes),
            Err(_) => self.failed = true,
        }
        result
    }

    fn try_append(&mut self, ty: PageType, raw: &[u8], packing: Packing) -> Result<PageAddress> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let c = &self.ctx;
                let kind = SegmentKind::Data;
                let codec = c.leaf_packing().codec;
                let mut made =
                    SegmentWriter::create(&c.vfs, &c.dir, &c.db, self.id, kind, c.keyspace, codec)?;
                if let Some(dictionary) = &c.dictionary {
                    made.begin_with(dictionary, c.packing.level)?;
                }
                none.insert(made)
            }
        };
        file.append(ty, raw, packing)
    }
}

/// See the module.
pub struct PartitionWriter {
    partition: PartitionId,
    out: Output,
    leaf: LeafBuilder,
    leaf_totals: Totals,
    leaf_separator: Vec<u8>,
    last_seq: Seq,
    before: Before,
    levels: Levels,
    filter: FilterBuilder,
    pushed: bool,
    kept: Vec<PartitionSegment>,
    kept_bytes: u64,
    /// The last leaf, while it is a kept one whose last key is only known to be less than a bound.
    tail: Option<(Arc<Segment>, PageAddress)>,
    first_key: Option<Vec<u8>>,
    blobs: BTreeMap<SegmentId, u64>,
    /// What may go of each partition that leaves were kept of, and the unsettled bytes kept.
    inherited: BTreeMap<PartitionId, (Droppable, u64)>,
    droppable: Droppable,
    lives: Lives,
    raw: Vec<u8>,
}

impl PartitionWriter {
    /// Begins partition `partition`; its pages go to the new segment `segment`, whose file is made
    /// with the first page.
    pub fn new(ctx: WriterContext, segment: SegmentId, partition: PartitionId) -> Self {
        let levels = Levels::new(ctx.page_bytes * INNER_FACTOR);
        Self {
            partition,
            out: Output { ctx, id: segment, file: None, live_bytes: 0, failed: false },
            leaf: LeafBuilder::new(),
            leaf_totals: Totals::default(),
            leaf_separator: Vec::new(),
            last_seq: Seq(0),
            before: Before::Nothing,
            levels,
            filter: FilterBuilder::new(),
            pushed: false,
            kept: Vec::new(),
            kept_bytes: 0,
            tail: None,
            first_key: None,
            blobs: BTreeMap::new(),
            inherited: BTreeMap::new(),
            droppable: Droppable::default(),
            lives: Lives::default(),
            raw: Vec::new(),
        }
    }

    /// Adds an entry behind all others: a greater key, or an older version of the last one.
    ///
    /// # Errors
    /// `Corrupt` when it is out of order (only a damaged source yields such), `InvalidArgument`
    /// when it is larger than a page can take, and what writing gives.
    pub fn push<'v>(&mut self, key: &[u8], seq: Seq, entry: impl Into<Entry<'v>>) -> Result<()> {
        let entry = entry.into();
        let Entry { value, expiry } = entry;
        let bytes = key.len() + value.inline_len();
        if key.is_empty() || key.len() > MAX_KEY_BYTES || bytes > MAX_PAGE_RAW_BYTES / 4 {
            return Err(self.refuse(ErrorKind::InvalidArgument, "an entry is too large for a page"));
        }
        let mut same_key = false;
        if self.leaf.is_empty() {
            let in_order = match &self.before {
                Before::Nothing => true,
                Before::Key(last) => key > last.as_slice(),
                Before::Bound(bound) => key >= bound.as_slice(),
            };
            if !in_order {
                return Err(self.refuse(ErrorKind::Corrupt, OUT_OF_ORDER));
            }
        } else {
            let order = key.cmp(self.leaf.last_key());
            same_key = order.is_eq();
            if order.is_lt() || (same_key && seq >= self.last_seq) {
                return Err(self.refuse(ErrorKind::Corrupt, OUT_OF_ORDER));
            }
            let limit = if same_key { MAX_VERSIONS_BYTES } else { self.out.ctx.page_bytes };
            if self.leaf.raw_len() + self.leaf.entry_len(key.len(), &entry) > limit {
                self.end_leaf()?;
            }
        }
        if self.leaf.is_empty() {
            self.leaf_separator.clear();
            match &self.before {
                Before::Nothing => self.leaf_separator.extend_from_slice(key),
                Before::Key(last) if last.as_slice() == key => {
                    self.leaf_separator = separator::continuation(key);
                }
                Before::Key(last) => {
                    self.leaf_separator.extend_from_slice(separator::shortest(last, key));
                }
                Before::Bound(bound) => self.leaf_separator.extend_from_slice(bound),
            }
            self.tail = None;
        }
        if self.first_key.is_none() {
            self.first_key = Some(key.to_vec());
        }
        if !same_key {
            self.filter.add(hash_key(key));
            self.pushed = true;
        }
        if let EntryValue::Blob(blob) = &value {
            *self.blobs.entry(blob.segment).or_default() += blob.stored_bytes;
        }
        self.leaf_totals.entries += 1;
        self.leaf_totals.tombstones += u64::from(value.is_tombstone());
        self.leaf_totals.raw_bytes += bytes as u64;
        self.leaf_totals.max_seq = self.leaf_totals.max_seq.max(seq);
        if !expiry.is_never() {
            self.leaf_totals.min_expiry = self.leaf_totals.min_expiry.min(expiry.0);
            self.lives.note(expiry, bytes as u64);
        }
        self.last_seq = seq;
        self.leaf.push(key, seq, entry);
        Ok(())
    }

    /// Whether the entry pushed last, if there is one, is of `key`.
    pub fn ends_with(&self, key: &[u8]) -> bool {
        match &self.before {
            _ if !self.leaf.is_empty() => self.leaf.last_key() == key,
            Before::Key(last) => last.as_slice() == key,
            Before::Nothing | Before::Bound(_) => false,
        }
    }

    /// Keeps the leaves of `span`, which lie behind everything added so far, where they are: in
    /// the segments of `source`. They are read only if `source` refers to blobs, or they expire.
    ///
    /// What `source` counts as droppable is carried over, up to the bytes kept that hold numbers.
    ///
    /// # Errors
    /// `Corrupt` when the span is out of order, `InvalidArgument` when the partition would get
    /// more than [`MAX_SEGMENTS`] segments ([`can_adopt`](Self::can_adopt) tells beforehand), and
    /// what reading and writing give.
    pub fn adopt(
        &mut self,
        span: &LeafSpan,
        source: &PartitionReader,
        pager: &Pager,
    ) -> Result<()> {
        if !self.can_adopt(span) {
            let message = "a partition would have too many segments";
            return Err(self.refuse(ErrorKind::InvalidArgument, message));
        }
        if !self.leaf.is_empty() {
            self.end_leaf()?;
        }
        let start = span.start();
        let in_order = match &self.before {
            Before::Nothing => true,
            Before::Key(last) => start > last.as_slice(),
            Before::Bound(bound) => start >= bound.as_slice(),
        };
        if !in_order {
            return Err(self.refuse(ErrorKind::Corrupt, OUT_OF_ORDER));
        }
        if !source.meta().blobs.is_empty() || !span.earliest_expiry().is_never() {
            let counted = self.count_kept(span, source, pager);
            self.note_failure(counted)?;
        }
        if self.first_key.is_none() {
            self.first_key = Some(start.to_vec());
        }
        for leaf in &span.leaves {
            let kept = self.keep(leaf, source);
            self.note_failure(kept)?;
        }
        match &span.end {
            SpanEnd::UpTo(last) => {
                self.before = Before::Key(last.clone());
                self.tail = None;
            }
            SpanEnd::Before(bound) => {
                self.before = Before::Bound(bound.clone());
                let last = &span.leaves[span.leaves.len() - 1].address;
                self.tail = Some((Arc::clone(source.segment(last)?), *last));
            }
        }
        Ok(())
    }

    /// Whether the leaves of `span` can be kept without a segment too many.
    pub fn can_adopt(&self, span: &LeafSpan) -> bool {
        let mut more: Vec<SegmentId> = span.leaves.iter().map(|l| l.address.segment).collect();
        more.extend(self.kept.iter().map(|s| s.id));
        more.sort_unstable();
        more.dedup();
        more.len() < MAX_SEGMENTS
    }

    /// Counts what leaves that are kept refer to, and their lives.
    fn count_kept(
        &mut self,
        span: &LeafSpan,
        source: &PartitionReader,
        pager: &Pager,
    ) -> Result<()> {
        for leaf in &span.leaves {
            let segment = source.segment(&leaf.address)?;
            let page = pager.fetch_uncached(segment, &leaf.address, PageType::Leaf)?;
            let view = LeafView::new(&page.bytes);
            for i in 0..view.len() {
                let value = view.value(i);
                if let EntryValue::Blob(blob) = value {
                    *self.blobs.entry(blob.segment).or_default() += blob.stored_bytes;
                }
                if !view.expiry(i).is_never() {
                    let bytes = view.key(i).len() + value.inline_len();
                    self.lives.note(view.expiry(i), bytes as u64);
                }
            }
        }
        Ok(())
    }

    fn keep(&mut self, leaf: &Child, source: &PartitionReader) -> Result<()> {
        let segment = leaf.address.segment;
        let at = match self.kept.iter().position(|s| s.id == segment) {
            Some(at) => at,
            None => {
                let meta = source.meta();
                let Some(own) = meta.segments.iter().find(|s| s.id == segment) else {
                    source.segment(&leaf.address)?;
                    return Err(Error::new(ErrorKind::Corrupt, "a leaf is in a foreign segment"));
                };
                let live_bytes = own.filter.as_ref().map_or(0, filter_bytes);
                self.kept_bytes += live_bytes;
                self.kept.push(PartitionSegment { live_bytes, ..own.clone() });
                self.kept.len() - 1
            }
        };
        let stored = u64::from(leaf.address.stored_bytes);
        self.kept[at].live_bytes += stored;
        self.kept_bytes += stored;
        let meta = source.meta();
        if !meta.droppable.is_empty() && leaf.max_seq > Seq(0) {
            let fresh = || (meta.droppable.clone(), 0);
            self.inherited.entry(meta.id).or_insert_with(fresh).1 += stored;
        }
        let out = &mut self.out;
        let packing = out.ctx.packing;
        self.levels.push_leaf(leaf.clone(), &mut |raw| out.append(PageType::Inner, raw, packing))
    }

    /// Counts `bytes` of the entries pushed as droppable once no view is in `span`.
    pub fn note_droppable(&mut self, bytes: u64, span: ViewSpan) {
        self.droppable.note(span, bytes);
    }

    /// Whether nothing was added; such a partition cannot be finished, only abandoned.
    pub fn is_empty(&self) -> bool {
        self.leaf.is_empty() && self.levels.is_empty()
    }

    /// Bytes of the new segment so far as they are stored, the leaf at hand left out.
    pub fn stored_bytes(&self) -> u64 {
        self.out.file.as_ref().map_or(0, SegmentWriter::len)
    }

    /// Stored bytes of the partition so far, kept leaves included.
    #[cfg(test)]
    pub fn partition_bytes(&self) -> u64 {
        self.out.live_bytes + self.kept_bytes + self.leaf_bytes()
    }

    #[cfg(test)]
    fn leaf_bytes(&self) -> u64 {
        if self.leaf.is_empty() { 0 } else { self.leaf.raw_len() as u64 }
    }

    /// Writes what is left, syncs the segment and opens it for reading. There is no segment where
    /// the partition is a single kept leaf.
    ///
    /// # Errors
    /// `InvalidArgument` when the partition [is empty](Self::is_empty); what writing and reading
    /// give; an `Io` error, if an earlier step failed. No file is left then, except where the
    /// sealed segment could not be opened again.
    pub fn finish(mut self) -> Result<(PartitionMeta, Option<Arc<Segment>>)> {
        if self.out.failed {
            return Err(Error::new(ErrorKind::Io, "an earlier step of this partition failed"));
        }
        if !self.leaf.is_empty() {
            self.end_leaf()?;
        }
        let out = &mut self.out;
        let packing = out.ctx.packing;
        let root = self.levels.finish(&mut |raw| out.append(PageType::Inner, raw, packing))?;
        let (Some((root, height)), Some(first_key)) = (root, self.first_key.take()) else {
            return Err(Error::new(ErrorKind::InvalidArgument, "a partition has no entry"));
        };
        let filter = self.write_filter()?;
        let last_key = self.last_key()?;
        let mut segments = std::mem::take(&mut self.kept);
        let mut opened = None;
        if let Some(file) = self.out.file.take() {
            let sealed = file.finish()?;
            self.out.ctx.packed.add(sealed.packed);
            segments.push(PartitionSegment {
                id: sealed.id,
                file_bytes: sealed.file_bytes,
                live_bytes: self.out.live_bytes,
                filter: Some(filter),
            });
            let c = &self.out.ctx;
            let segment = Segment::open(&c.vfs, &c.dir, &c.db, sealed.id).inspect_err(|_| {
                // Nobody will name it; where this fails too, the next opening removes it.
                let _ = c.vfs.remove_file(&segment_path(&c.dir, sealed.id));
            })?;
            opened = Some(Arc::new(segment.sharing(&c.dictionaries)));
        }
        for (droppable, unsettled) in self.inherited.values() {
            self.droppable.carry_over(droppable, *unsettled);
        }
        let blobs = self.blobs.iter().map(|(&segment, &bytes)| BlobUse { segment, bytes });
        let meta = PartitionMeta {
            id: self.partition,
            root: root.address,
            height,
            first_key,
            last_key,
            entries: root.entries,
            tombstones: root.tombstones,
            raw_bytes: root.raw_bytes,
            live_bytes: segments.iter().map(|s| s.live_bytes).sum(),
            segments,
            max_seq: root.max_seq,
            droppable: self.droppable,
            lives: self.lives,
            blobs: blobs.collect(),
            ingested: Seq(0),
        };
        Ok((meta, opened))
    }

    /// Gives up and removes the file.
    pub fn abandon(mut self) -> Result<()> {
        match self.out.file.take() {
            Some(file) => file.abandon(),
            None => Ok(()),
        }
    }

    fn end_leaf(&mut self) -> Result<()> {
        self.before = Before::Key(self.leaf.last_key().to_vec());
        self.leaf.finish(&mut self.raw);
        let packing = self.out.ctx.packing;
        let leaf_packing = self.out.ctx.leaf_packing();
        let address = self.out.append(PageType::Leaf, &self.raw, leaf_packing)?;
        let totals = std::mem::take(&mut self.leaf_totals);
        let child = totals.into_child(std::mem::take(&mut self.leaf_separator), address);
        let out = &mut self.out;
        self.levels.push_leaf(child, &mut |raw| out.append(PageType::Inner, raw, packing))
    }

    /// Filter pages are not compressed, so that all but the last have one size.
    fn write_filter(&mut self) -> Result<FilterRef> {
        let mut filter =
            FilterRef { offset: 0, page_stored_bytes: 0, pages: 0, last_page_stored_bytes: 0 };
        if !self.pushed {
            return Ok(filter);
        }
        for raw in self.filter.pages() {
            let address = self.out.append(PageType::Filter, &raw, Codec::None.into())?;
            if filter.pages == 0 {
                filter.offset = address.offset;
                filter.page_stored_bytes = address.stored_bytes;
            } else {
                assert_eq!(
                    filter.last_page_stored_bytes, filter.page_stored_bytes,
                    "only the last page of a filter may be smaller"
                );
            }
            filter.pages += 1;
            filter.last_page_stored_bytes = address.stored_bytes;
        }
        Ok(filter)
    }

    /// The last key, or an upper bound of it that no later key can equal.
    fn last_key(&mut self) -> Result<Vec<u8>> {
        if let Some((segment, address)) = self.tail.take() {
            let page = segment.read_page(&address, PageType::Leaf)?;
            let view = LeafView::new(&page);
            return match view.len().checked_sub(1) {
                Some(last) => Ok(view.key(last).to_vec()),
                None => Err(Error::corrupt(segment.path(), address.offset, "a leaf has no entry")),
            };
        }
        match std::mem::replace(&mut self.before, Before::Nothing) {
            Before::Key(key) => Ok(key),
            Before::Bound(_) | Before::Nothing => {
                unreachable!("a bound stands only behind a kept leaf, which is the tail")
            }
        }
    }

    fn refuse(&mut self, kind: ErrorKind, message: &str) -> Error {
        self.out.failed = true;
        let file = segment_path(Path::new(&self.out.ctx.dir), self.out.id);
        Error::new(kind, message).in_file(&file)
    }

    fn note_failure<T>(&mut self, result: Result<T>) -> Result<T> {
        self.out.failed |= result.is_err();
        result
    }
}

const OUT_OF_ORDER: &str = "entries for a new partition come out of order";

impl std::fmt::Debug for PartitionWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PartitionWriter").finish_non_exhaustive()
    }
}
