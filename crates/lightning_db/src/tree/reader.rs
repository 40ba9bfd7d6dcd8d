//! An opened partition: point reads and estimates.
//!
//! 1. A point read asks the filters of all segments first; a segment without a filter may hold
//!    anything, a filter of no pages says that its job wrote no key.
//! 2. The newest version of a key is in the leaf that the inner pages lead to; only a read of an
//!    older version may have to go on to the leaves behind it (see `separator`).
//! 3. Nothing is allocated on the way to a value, unless a key's versions span leaves.
//!
//! Immutable; shared by any number of threads without latches.

use std::ops::Range;
use std::sync::OnceLock;

use crate::cache::{PageRef, PageSlot, Pager, slots};
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{FilterRef, PartitionMeta};
use crate::page::PageType;
use crate::page::filter;
use crate::page::inner::{Child, InnerView};
use crate::page::leaf::LeafView;
use crate::segment::Segment;
use crate::sync::Arc;
use crate::types::{BlobRef, EntryValue, Expiry, PageAddress, Seq};

use super::leaves::Leaves;
use super::path::{Path, Source, Target};
use super::separator;

/// A version of a key.
#[derive(Clone, Debug)]
#[cfg_attr(not(test), allow(dead_code, reason = "tests look at every field"))]
pub struct Found {
    /// The number of the commit that wrote it; 0 where it is settled.
    pub seq: Seq,
    /// When it expires.
    pub expiry: Expiry,
    /// What it says.
    pub value: FoundValue,
}

/// The value of a [`Found`], without a copy.
#[derive(Clone, Debug)]
pub enum FoundValue {
    /// These bytes of the page.
    Inline(PageRef, Range<u32>),
    /// The value lies in blob pages.
    Blob(BlobRef),
    /// The key is deleted.
    Tombstone,
    /// To be merged into what the key was before.
    Operands,
}

impl Found {
    /// The version at `index` of a leaf.
    pub(super) fn at(leaf: &PageRef, index: usize) -> Self {
        let view = LeafView::new(&leaf.bytes);
        let value = match view.value(index) {
            EntryValue::Inline(_) => {
                let range = view.value_range(index);
                FoundValue::Inline(Arc::clone(leaf), range.start as u32..range.end as u32)
            }
            EntryValue::Blob(blob) => FoundValue::Blob(blob),
            EntryValue::Tombstone => FoundValue::Tombstone,
            EntryValue::Operands(_) => FoundValue::Operands,
        };
        Self { seq: view.seq(index), expiry: view.expiry(index), value }
    }
}

impl FoundValue {
    /// The bytes of an inline value.
    #[cfg(test)]
    pub fn inline(&self) -> Option<&[u8]> {
        match self {
            Self::Inline(page, range) => {
                Some(&page.bytes[range.start as usize..range.end as usize])
            }
            Self::Blob(_) | Self::Tombstone | Self::Operands => None,
        }
    }
}

/// What a key range holds, reckoned from inner pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Estimate {
    /// Stored bytes of pages.
    pub bytes: u64,
    /// Entries, all versions and tombstones counted.
    pub entries: u64,
}

/// An opened partition.
#[derive(Debug)]
pub struct PartitionReader {
    meta: PartitionMeta,
    /// In the order of `meta.segments`.
    segments: Vec<Arc<Segment>>,
    /// Where the filter pages of each segment are found again.
    filters: Vec<OnceLock<Box<[PageSlot]>>>,
    /// The root, once it was read, where it is an inner page.
    root: OnceLock<PageRef>,
}

impl PartitionReader {
    /// Opens a partition whose segments are open. Nothing is read.
    ///
    /// # Errors
    /// `InvalidArgument` when a segment that `meta` names is not among `segments`.
    pub fn open(meta: PartitionMeta, segments: Vec<Arc<Segment>>) -> Result<Self> {
        let mut ordered = Vec::with_capacity(meta.segments.len());
        for wanted in &meta.segments {
            let Some(segment) = segments.iter().find(|s| s.id() == wanted.id) else {
                return Err(Error::new(
                    ErrorKind::InvalidArgument,
                    format!("partition {} needs segment {}, which is not open", meta.id, wanted.id),
                ));
            };
            ordered.push(Arc::clone(segment));
        }
        let filters = ordered.iter().map(|_| OnceLock::new()).collect();
        Ok(Self { meta, segments: ordered, filters, root: OnceLock::new() })
    }

    /// The same partition, written without numbers, as what commit `seq` ingested.
    pub fn ingested_by(&self, seq: Seq) -> Result<Self> {
        debug_assert_eq!(self.meta.max_seq, Seq(0), "what is ingested has no numbers of its own");
        let meta = PartitionMeta { max_seq: seq, ingested: seq, ..self.meta.clone() };
        Self::open(meta, self.segments.clone())
    }

    /// What the manifest says of it.
    pub fn meta(&self) -> &PartitionMeta {
        &self.meta
    }

    /// Its segments, in the order of `meta().segments`.
    pub fn segments(&self) -> &[Arc<Segment>] {
        &self.segments
    }

    /// The segment that a page lies in.
    pub(super) fn segment(&self, address: &PageAddress) -> Result<&Arc<Segment>> {
        self.segments.iter().find(|s| s.id() == address.segment).ok_or_else(|| {
            let message = format!(
                "partition {} leads to segment {}, which is not one of its own",
                self.meta.id, address.segment
            );
            let e = Error::new(ErrorKind::Corrupt, message).at_offset(address.offset);
            match self.segments.first() {
                Some(s) => e.in_file(s.path()),
                None => e,
            }
        })
    }

    /// Whether `key` lies between the first and the last key.
    pub fn covers(&self, key: &[u8]) -> bool {
        key >= self.meta.first_key.as_slice() && key <= self.meta.last_key.as_slice()
    }

    /// Whether the filters let a key with this hash be here.
    pub fn may_contain(&self, pager: &Pager, hash: u64) -> Result<bool> {
        for (i, (own, segment)) in self.meta.segments.iter().zip(&self.segments).enumerate() {
            let Some(f) = &own.filter else { return Ok(true) };
            if f.pages == 0 {
                continue;
            }
            let at = filter::page_of(hash, f.pages as usize);
            let (offset, stored) = filter_page(f, at as u32);
            // No more than the file has room for, whatever its manifest says.
            let slots =
                self.filters[i].get_or_init(|| {
                    slots((own.file_bytes / filter::BLOCK_BYTES as u64).min(u64::from(f.pages))
                        as usize)
                });
            let page = pager.fetch_at(slots.get(at), segment, offset, stored, PageType::Filter)?;
            if filter::page_may_contain(&page.bytes, hash) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The newest version of `key` numbered at most `at`, tombstones included; `hash` is
    /// [`hash_key`](crate::types::hash_key) of the key.
    pub fn get(&self, pager: &Pager, key: &[u8], hash: u64, at: Seq) -> Result<Option<Found>> {
        if at < self.meta.ingested {
            return Ok(None);
        }
        let Some((leaf, first)) = self.find(pager, key, hash)? else { return Ok(None) };
        let view = LeafView::new(&leaf.bytes);
        match newest_at(&view, key, first, at) {
            Some(i) if i == view.len() => self.get_beyond(pager, key, at),
            Some(i) => Ok(Some(Found::at(&leaf, i))),
            None => Ok(None),
        }
    }

    /// The number of the newest version of `key`.
    pub fn newest_seq(&self, pager: &Pager, key: &[u8], hash: u64) -> Result<Option<Seq>> {
        let found = self.find(pager, key, hash)?;
        Ok(found.map(|(leaf, i)| LeafView::new(&leaf.bytes).seq(i).max(self.meta.ingested)))
    }

    /// The leaf and the index in it of the newest version of `key`.
    fn find(&self, pager: &Pager, key: &[u8], hash: u64) -> Result<Option<(PageRef, usize)>> {
        if !self.covers(key) || !self.may_contain(pager, hash)? {
            return Ok(None);
        }
        let leaf = match self.meta.height {
            0 => pager.fetch(self.segment(&self.meta.root)?, &self.meta.root, PageType::Leaf)?,
            height => {
                let source = Source { reader: self, pager, uncached: false };
                let to_child = |page: &PageRef, below: u8| {
                    let at = InnerView::new(&page.bytes).child_for(key);
                    source.child(
                        page,
                        at,
                        if below == 1 { PageType::Leaf } else { PageType::Inner },
                    )
                };
                let mut page = to_child(self.root(pager)?, height)?;
                for below in (1..height).rev() {
                    page = to_child(&page, below)?;
                }
                page
            }
        };
        let found = LeafView::new(&leaf.bytes).find(key, hash);
        Ok(found.map(|i| (leaf, i)))
    }

    /// The root, where it is an inner page. It stays in memory from its first read on, whatever the
    /// cache does: one page of up to 16 KiB, or of a few long keys, for a partition.
    #[inline]
    pub(super) fn root(&self, pager: &Pager) -> Result<&PageRef> {
        if let Some(root) = self.root.get() {
            return Ok(root);
        }
        let address = &self.meta.root;
        let page = pager.fetch(self.segment(address)?, address, PageType::Inner)?;
        Ok(self.root.get_or_init(|| page))
    }

    /// [`get`](Self::get) where every version in the key's first leaf is too new.
    #[cold]
    fn get_beyond(&self, pager: &Pager, key: &[u8], at: Seq) -> Result<Option<Found>> {
        let source = Source { reader: self, pager, uncached: false };
        let mut path = Path::default();
        path.descend(source, Target::Key(key))?;
        while path.next_separator().is_some_and(|s| separator::is_continuation_of(s, key)) {
            if !path.next(source)? {
                break;
            }
            let leaf = path.leaf_page(source)?;
            let view = LeafView::new(&leaf.bytes);
            if view.is_empty() || view.key(0) != key {
                break;
            }
            match newest_at(&view, key, 0, at) {
                Some(i) if i == view.len() => {}
                Some(i) => return Ok(Some(Found::at(&leaf, i))),
                None => break,
            }
        }
        Ok(None)
    }

    /// The leaves in order, read from inner pages only.
    pub fn leaves(self: &Arc<Self>, pager: &Pager) -> Leaves {
        Leaves::new(Arc::clone(self), pager.clone())
    }

    /// The root seen as a child, for partitions of one leaf.
    pub(super) fn root_as_child(&self) -> Child {
        Child {
            separator: self.meta.first_key.clone(),
            address: self.meta.root,
            max_seq: self.meta.max_seq,
            min_expiry: self.meta.lives.earliest().0,
            entries: self.meta.entries,
            bytes: u64::from(self.meta.root.stored_bytes),
            tombstones: self.meta.tombstones,
            raw_bytes: self.meta.raw_bytes,
        }
    }

    /// Stored bytes of the pages that hold keys from `start` (inclusive) to `end` (exclusive;
    /// `None`: to the last key). Reads inner pages at the two edges only; a leaf that the range
    /// covers in part counts by half.
    pub fn estimate_bytes(&self, pager: &Pager, start: &[u8], end: Option<&[u8]>) -> Result<u64> {
        Ok(self.estimate(pager, start, end)?.bytes)
    }

    /// As [`estimate_bytes`](Self::estimate_bytes), entries included.
    pub fn estimate(&self, pager: &Pager, start: &[u8], end: Option<&[u8]>) -> Result<Estimate> {
        let meta = &self.meta;
        let past = |e: &[u8]| e <= start || e <= meta.first_key.as_slice();
        if start > meta.last_key.as_slice() || end.is_some_and(past) {
            return Ok(Estimate::default());
        }
        let start = (start > meta.first_key.as_slice()).then_some(start);
        let end = end.filter(|e| *e <= meta.last_key.as_slice());
        let whole = Estimate { bytes: meta.live_bytes, entries: meta.entries };
        self.estimate_below(pager, meta.root, meta.height, whole, start, end)
    }

    /// The share of the page at `address`, of `whole` below it; a bound that is `None` does not
    /// cut into it.
    fn estimate_below(
        &self,
        pager: &Pager,
        address: PageAddress,
        height: u8,
        whole: Estimate,
        start: Option<&[u8]>,
        end: Option<&[u8]>,
    ) -> Result<Estimate> {
        let cuts = u32::from(start.is_some()) + u32::from(end.is_some());
        if cuts == 0 || height == 0 {
            return Ok(Estimate {
                bytes: whole.bytes >> cuts,
                entries: (whole.entries >> cuts).max(1),
            });
        }
        let page = pager.fetch(self.segment(&address)?, &address, PageType::Inner)?;
        let view = InnerView::new(&page.bytes);
        let first = start.map_or(0, |s| view.child_for(s));
        let last = match end {
            Some(e) => {
                let i = view.child_for(e);
                if view.separator(i) == e { i.saturating_sub(1) } else { i }
            }
            None => view.len() - 1,
        };
        let mut sum = Estimate::default();
        for i in first..=last.max(first) {
            let child = view.child(i);
            let whole = Estimate { bytes: child.bytes, entries: child.entries };
            let from = start.filter(|s| i == first && *s > view.separator(i));
            let to =
                end.filter(|e| i >= last && (i + 1 == view.len() || *e < view.separator(i + 1)));
            let part = self.estimate_below(pager, child.address, height - 1, whole, from, to)?;
            sum.bytes += part.bytes;
            sum.entries += part.entries;
        }
        Ok(sum)
    }
}

/// Offset and stored length of a filter page.
pub(super) fn filter_page(f: &FilterRef, page: u32) -> (u64, u32) {
    let offset = f.offset + u64::from(page) * u64::from(f.page_stored_bytes);
    let last = page + 1 == f.pages;
    (offset, if last { f.last_page_stored_bytes } else { f.page_stored_bytes })
}

/// Stored bytes of a whole filter.
pub(super) fn filter_bytes(f: &FilterRef) -> u64 {
    match f.pages {
        0 => 0,
        n => {
            u64::from(n - 1) * u64::from(f.page_stored_bytes) + u64::from(f.last_page_stored_bytes)
        }
    }
}

/// The index of the first entry, from `first` on, of `key` with a number at most `at`: `None` where
/// the key ends before; the leaf's length where the leaf ends first, so that more may follow.
fn newest_at(view: &LeafView<'_>, key: &[u8], first: usize, at: Seq) -> Option<usize> {
    let too_new = |i: usize| view.seq(i) > at && view.key(i) == key;
    // The too new versions are a prefix of what begins at `first`: gallop, then halve.
    let len = view.len();
    let mut low = first;
    let mut stride = 1;
    while low < len && too_new(low) {
        if low + stride >= len || !too_new(low + stride) {
            let mut high = (low + stride).min(len);
            low += 1;
            while low < high {
                let middle = low.midpoint(high);
                if too_new(middle) {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            break;
        }
        low += stride;
        stride *= 2;
    }
    if low == len || view.key(low) == key { Some(low) } else { None }
}
