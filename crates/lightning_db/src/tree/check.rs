//! The full verification of a partition: every reachable page is read from disk, and everything
//! that pages and manifest say of each other is compared.
//!
//! 1. It goes on after a problem: what lies below a page that cannot be read is left out, and so
//!    are the sums that would need it.
//! 2. It finds: pages and dictionaries that fail their checksum or form, keys out of order within or across leaves,
//!    separators that do not separate, children whose sums are wrong, keys that the filter of their
//!    segment denies, pages that overlap or lie in foreign segments, and counts, bounds, live bytes
//!    and blob use of the manifest that differ from what is there.
//! 3. No message holds bytes of keys or values.
//!
//! Memory: one leaf and the inner pages above it, 24 bytes a page, the filters. One thread.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::compress::Codec;
use crate::error::{Error, Result};
use crate::manifest::Lives;
use crate::page::PageType;
use crate::page::filter;
use crate::page::inner::{ChildRef, InnerView};
use crate::page::leaf::LeafView;
use crate::segment::Segment;
use crate::types::{EntryValue, PageAddress, SegmentId, Seq, hash_key};

use super::levels::Totals;
use super::reader::{PartitionReader, filter_bytes, filter_page};
use super::separator;

/// Something wrong with a partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The segment file, or the first of the partition's where the manifest is wrong.
    pub file: PathBuf,
    /// The page's offset in it.
    pub offset: u64,
    /// What is wrong.
    pub message: String,
}

/// What a check comes by.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(test), allow(dead_code, reason = "tests look at every field"))]
pub enum Visited<'a> {
    /// A page that was read and is well.
    Page {
        /// Offset of the page.
        offset: u64,
        /// Its stored length.
        stored_bytes: u32,
        /// Its type.
        ty: PageType,
    },
    /// An entry, in order.
    Entry {
        /// The key.
        key: &'a [u8],
        /// The number.
        seq: Seq,
        /// The value; a check of blobs is the visitor's.
        value: EntryValue<'a>,
    },
}

impl PartitionReader {
    /// Verifies everything (see the module), tells `visit` what it comes by, and returns what is
    /// wrong, in the order found. Reads past the page cache.
    pub fn check(&self, visit: &mut dyn FnMut(Visited<'_>)) -> Vec<Problem> {
        let mut check = Check {
            reader: self,
            visit,
            problems: Vec::new(),
            filters: Vec::new(),
            pages: Vec::new(),
            blobs: BTreeMap::new(),
            lives: Lives::default(),
            first_key: None,
            last: None,
            gap: false,
        };
        check.read_filters();
        let meta = self.meta();
        let totals = check.page(&meta.root, meta.height, &meta.first_key);
        check.compare_meta(totals);
        check.problems
    }
}

struct Check<'a> {
    reader: &'a PartitionReader,
    visit: &'a mut dyn FnMut(Visited<'_>),
    problems: Vec<Problem>,
    /// The pages of each segment's filter; `None` where it has none or it cannot be read.
    filters: Vec<Option<Vec<Vec<u8>>>>,
    /// Segment, offset, length of every page come by.
    pages: Vec<(SegmentId, u64, u64)>,
    blobs: BTreeMap<SegmentId, u64>,
    lives: Lives,
    first_key: Option<Vec<u8>>,
    last: Option<(Vec<u8>, Seq)>,
    /// Whether leaves were left out since `last`.
    gap: bool,
}

impl Check<'_> {
    fn problem(&mut self, segment: SegmentId, offset: u64, message: impl Into<String>) {
        let segments = self.reader.segments();
        let at = segments.iter().find(|s| s.id() == segment).or(segments.first());
        let file = at.map(|s| s.path().to_path_buf()).unwrap_or_default();
        self.problems.push(Problem { file, offset, message: message.into() });
    }

    fn failed(&mut self, segment: SegmentId, offset: u64, e: &Error) {
        let message = match std::error::Error::source(e) {
            Some(cause) => format!("{}: {cause}", e.message()),
            None => e.message().to_owned(),
        };
        self.problem(segment, e.offset().unwrap_or(offset), message);
    }

    fn read_filters(&mut self) {
        let reader = self.reader;
        for (own, segment) in reader.meta().segments.iter().zip(reader.segments()) {
            if own.file_bytes != segment.file_bytes() {
                let message = format!(
                    "the file has {} bytes, the manifest says {}",
                    segment.file_bytes(),
                    own.file_bytes
                );
                self.problem(own.id, 0, message);
            }
            if segment.codec() == Codec::ZstdDictionary {
                self.read_dictionary(own.id, segment);
            }
            let Some(f) = &own.filter else {
                self.filters.push(None);
                continue;
            };
            let mut pages = Vec::new();
            let mut whole = true;
            for i in 0..f.pages {
                let (offset, stored_bytes) = filter_page(f, i);
                match segment.read_page_at(offset, stored_bytes, PageType::Filter) {
                    Ok(raw) => {
                        self.came_by(own.id, offset, stored_bytes, PageType::Filter);
                        pages.push(raw);
                    }
                    Err(e) => {
                        self.failed(own.id, offset, &e);
                        whole = false;
                    }
                }
            }
            self.filters.push(whole.then_some(pages));
        }
    }

    /// A dictionary is in no sum of the manifest.
    fn read_dictionary(&mut self, id: SegmentId, segment: &Segment) {
        let (offset, ty) = (segment.first_page(), PageType::Dictionary);
        match segment.read_dictionary() {
            Ok((_, stored_bytes)) => (self.visit)(Visited::Page { offset, stored_bytes, ty }),
            Err(e) => self.failed(id, offset, &e),
        }
    }

    fn came_by(&mut self, segment: SegmentId, offset: u64, stored_bytes: u32, ty: PageType) {
        self.pages.push((segment, offset, u64::from(stored_bytes)));
        (self.visit)(Visited::Page { offset, stored_bytes, ty });
    }

    /// Verifies the subtree at `address`; its sums, if all of it could be read.
    fn page(&mut self, address: &PageAddress, height: u8, separator: &[u8]) -> Option<Totals> {
        let ty = if height == 0 { PageType::Leaf } else { PageType::Inner };
        let read = |segment: &Segment| segment.read_page(address, ty);
        let raw: Result<Vec<u8>> = self.reader.segment(address).and_then(|s| read(s));
        let raw = match raw {
            Ok(raw) => raw,
            Err(e) => {
                self.failed(address.segment, address.offset, &e);
                self.gap = true;
                return None;
            }
        };
        self.came_by(address.segment, address.offset, address.stored_bytes, ty);
        if height == 0 {
            Some(self.leaf(address, &raw, separator))
        } else {
            self.inner(address, &raw, height, separator)
        }
    }

    fn inner(
        &mut self,
        address: &PageAddress,
        raw: &[u8],
        height: u8,
        separator: &[u8],
    ) -> Option<Totals> {
        let view = InnerView::new(raw);
        let here = (address.segment, address.offset);
        if view.separator(0) != separator {
            let message = "the first separator is not that of the page above";
            self.problem(here.0, here.1, message);
        }
        let mut sum = Totals { bytes: u64::from(address.stored_bytes), ..Totals::default() };
        let mut whole = true;
        for i in 0..view.len() {
            let child = view.child(i);
            let Some(found) = self.page(&child.address, height - 1, view.separator(i)) else {
                whole = false;
                continue;
            };
            self.compare_child(here, i, &child, &found);
            sum.add(&found);
        }
        whole.then_some(sum)
    }

    fn compare_child(&mut self, here: (SegmentId, u64), i: usize, said: &ChildRef, found: &Totals) {
        let fields = [
            ("highest number", said.max_seq.0, found.max_seq.0),
            ("earliest expiry", said.min_expiry, found.min_expiry),
            ("entries", said.entries, found.entries),
            ("tombstones", said.tombstones, found.tombstones),
            ("raw bytes", said.raw_bytes, found.raw_bytes),
            ("bytes", said.bytes, found.bytes),
        ];
        for (name, said, found) in fields {
            if said != found {
                let message = format!("child {i} says {name} {said}, below it are {found}");
                self.problem(here.0, here.1, message);
            }
        }
    }

    fn leaf(&mut self, address: &PageAddress, raw: &[u8], separator: &[u8]) -> Totals {
        let here = (address.segment, address.offset);
        let view = LeafView::new(raw);
        let mut sum = Totals { bytes: u64::from(address.stored_bytes), ..Totals::default() };
        if view.is_empty() {
            self.problem(here.0, here.1, "a leaf has no entry");
            return sum;
        }
        if let Err(m) = view.check_tags() {
            self.problem(here.0, here.1, m.0);
        }
        let last = self.last.take();
        if let Some((last, _)) = &last
            && separator <= last.as_slice()
        {
            self.problem(here.0, here.1, "the separator is not greater than the keys before it");
        }
        let goes_on = last.as_ref().is_some_and(|(k, _)| view.key(0) == k);
        let gap = std::mem::take(&mut self.gap);
        let continues = (goes_on || gap) && separator::is_continuation_of(separator, view.key(0));
        if view.key(0) < separator && !continues {
            self.problem(here.0, here.1, "the separator is greater than the leaf's first key");
        }
        let filter = self.reader.segments().iter().position(|s| s.id() == address.segment);
        let mut before = last.as_ref().map(|(k, s)| (k.as_slice(), *s));
        let mut disorder = 0u64;
        let mut denied = 0u64;
        for i in 0..view.len() {
            let (key, seq, value) = (view.key(i), view.seq(i), view.value(i));
            let same_key = before.is_some_and(|(k, _)| k == key);
            disorder += u64::from(before.is_some_and(|(k, s)| k > key || (same_key && s <= seq)));
            before = Some((key, seq));
            sum.entries += 1;
            sum.tombstones += u64::from(value.is_tombstone());
            sum.raw_bytes += (key.len() + value.inline_len()) as u64;
            sum.max_seq = sum.max_seq.max(seq);
            let expiry = view.expiry(i);
            if !expiry.is_never() {
                sum.min_expiry = sum.min_expiry.min(expiry.0);
                self.lives.note(expiry, (key.len() + value.inline_len()) as u64);
            }
            if let EntryValue::Blob(blob) = &value {
                *self.blobs.entry(blob.segment).or_default() += blob.stored_bytes;
            }
            if !same_key && let Some(Some(pages)) = filter.and_then(|f| self.filters.get(f)) {
                denied += u64::from(!filter_contains(pages, hash_key(key)));
            }
            (self.visit)(Visited::Entry { key, seq, value });
        }
        if disorder > 0 {
            self.problem(here.0, here.1, format!("{disorder} entries are out of order"));
        }
        if denied > 0 {
            self.problem(here.0, here.1, format!("the filter denies {denied} keys of the leaf"));
        }
        if self.first_key.is_none() {
            self.first_key = Some(view.key(0).to_vec());
        }
        self.last = before.map(|(k, s)| (k.to_vec(), s));
        sum
    }

    /// Compares what was found with what the manifest says of the partition.
    fn compare_meta(&mut self, totals: Option<Totals>) {
        let meta = self.reader.meta();
        let root = (meta.root.segment, meta.root.offset);
        self.compare_pages(totals.is_some());
        if self.first_key.as_ref().is_some_and(|k| *k < meta.first_key) {
            self.problem(root.0, root.1, "a key is less than the partition's first key");
        }
        if self.last.as_ref().is_some_and(|(k, _)| *k > meta.last_key) {
            self.problem(root.0, root.1, "a key is greater than the partition's last key");
        }
        let Some(found) = totals else { return };
        let fields = [
            ("highest number", meta.max_seq.0, found.max_seq.max(meta.ingested).0),
            ("entries", meta.entries, found.entries),
            ("tombstones", meta.tombstones, found.tombstones),
            ("raw bytes", meta.raw_bytes, found.raw_bytes),
        ];
        for (name, said, found) in fields {
            if said != found {
                let message = format!("the manifest says {name} {said}, the pages hold {found}");
                self.problem(root.0, root.1, message);
            }
        }
        // How they are shared out depends on the order they came in; the sums do not.
        let fields = [
            ("expiring entries", meta.lives.entries(), self.lives.entries()),
            ("expiring bytes", meta.lives.bytes(), self.lives.bytes()),
            ("earliest expiry", meta.lives.earliest().0, found.min_expiry),
            ("latest expiry", meta.lives.latest().0, self.lives.latest().0),
        ];
        for (name, said, found) in fields {
            if said != found {
                let message = format!("the manifest says {name} {said}, the pages hold {found}");
                self.problem(root.0, root.1, message);
            }
        }
        let mut said: BTreeMap<SegmentId, u64> = BTreeMap::new();
        for used in &meta.blobs {
            *said.entry(used.segment).or_default() += used.bytes;
        }
        if said != self.blobs {
            let message = "the blob bytes in the manifest differ from those the entries refer to";
            self.problem(root.0, root.1, message);
        }
    }

    /// Compares live bytes, and finds pages that overlap. Sums only where every page was read.
    fn compare_pages(&mut self, whole: bool) {
        let mut pages = std::mem::take(&mut self.pages);
        pages.sort_unstable();
        for pair in pages.windows(2) {
            let ((s, offset, len), (next_s, next, _)) = (pair[0], pair[1]);
            if s == next_s && offset + len > next {
                self.problem(s, next, "two pages overlap, or one is reached twice");
            }
        }
        let meta = self.reader.meta();
        let mut sum = 0;
        for (i, own) in meta.segments.iter().enumerate() {
            sum += own.live_bytes;
            let unread = own.filter.as_ref().is_some_and(|f| {
                self.filters.get(i).is_none_or(Option::is_none) && filter_bytes(f) > 0
            });
            if !whole || unread {
                continue;
            }
            let found: u64 = pages.iter().filter(|p| p.0 == own.id).map(|p| p.2).sum();
            if found != own.live_bytes {
                let message = format!(
                    "the manifest says {} live bytes, the reachable pages have {found}",
                    own.live_bytes
                );
                self.problem(own.id, 0, message);
            }
        }
        if sum != meta.live_bytes {
            let message = format!(
                "the manifest says {} live bytes for the partition, {sum} for its segments",
                meta.live_bytes
            );
            self.problem(meta.root.segment, meta.root.offset, message);
        }
    }
}

fn filter_contains(pages: &[Vec<u8>], hash: u64) -> bool {
    !pages.is_empty() && filter::page_may_contain(&pages[filter::page_of(hash, pages.len())], hash)
}
