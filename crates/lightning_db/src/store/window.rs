//! A stretch of one leaf that a merged cursor steps over without asking its sources: every entry in
//! it is of another key, seen by the view, and no other source has a key in between.
//!
//! While a window is open, the source that stands in the leaf is left behind at an entry of it; who
//! closes the window moves it to the window's entry.

use crate::cache::PageRef;
use crate::page::leaf::{EntryParts, LeafColumns, LeafView};
use crate::types::EntryValue;

/// See the module.
pub struct Window {
    page: PageRef,
    columns: LeafColumns,
    /// It holds the entries from `start` to before `end`, and stands at `at`.
    start: usize,
    end: usize,
    at: usize,
    parts: EntryParts,
}

impl Window {
    /// The entries of a leaf from `at` on that come before `until` (all, if that is `None`), where
    /// there is one behind `at`. With `both_ways`, those before it too, but for the first.
    pub fn forward(
        leaf: (&PageRef, LeafColumns, usize),
        until: Option<&[u8]>,
        both_ways: bool,
    ) -> Option<Self> {
        let (page, columns, at) = leaf;
        let view = LeafView::new(&page.bytes);
        let end = until.map_or(columns.len(), |key| view.lower_bound(key));
        let start = if both_ways { at.min(1) } else { at };
        (at + 1 < end).then(|| Self::new(page, columns, start, end, at))
    }

    /// The entries of a leaf up to `at` that come after `past` and not before `from` (all but the first, if
    /// these are `None`), where there is one before `at`. With `both_ways`, those behind it too.
    pub fn backward(
        leaf: (&PageRef, LeafColumns, usize),
        past: Option<&[u8]>,
        from: Option<&[u8]>,
        both_ways: bool,
    ) -> Option<Self> {
        let (page, columns, at) = leaf;
        let view = LeafView::new(&page.bytes);
        let start = past.map_or(1, |key| {
            let bound = view.lower_bound(key);
            let is_there = bound < columns.len() && view.key(bound) == key;
            (bound + usize::from(is_there)).max(1)
        });
        let start = from.map_or(start, |key| view.lower_bound(key).max(start));
        let end = if both_ways { columns.len() } else { at + 1 };
        (start < at).then(|| Self::new(page, columns, start, end, at))
    }

    fn new(page: &PageRef, columns: LeafColumns, start: usize, end: usize, at: usize) -> Self {
        let parts = columns.parts(&page.bytes, at);
        Self { page: PageRef::clone(page), columns, start, end, at, parts }
    }

    /// Where in the leaf it stands.
    pub fn at(&self) -> usize {
        self.at
    }

    /// To the next key; `false`, and it stays at the last entry, where the window ends.
    #[inline]
    pub fn next(&mut self) -> bool {
        loop {
            if self.at + 1 >= self.end {
                return false;
            }
            self.at += 1;
            self.parts = self.columns.parts(&self.page.bytes, self.at);
            if !self.parts.is_tombstone() {
                return true;
            }
        }
    }

    /// To the key before; `false`, and it stays at the first entry, where the window ends.
    #[inline]
    pub fn prev(&mut self) -> bool {
        loop {
            if self.at <= self.start {
                return false;
            }
            self.at -= 1;
            self.parts = self.columns.parts(&self.page.bytes, self.at);
            if !self.parts.is_tombstone() {
                return true;
            }
        }
    }

    /// The key.
    #[inline]
    pub fn key(&self) -> &[u8] {
        self.parts.key(&self.page.bytes)
    }

    /// What the entry says of its key.
    pub fn value(&self) -> EntryValue<'_> {
        self.parts.value(&self.page.bytes)
    }

    /// The value, where it is in the leaf.
    #[inline]
    pub fn inline_value(&self) -> Option<&[u8]> {
        self.parts.inline_value(&self.page.bytes)
    }
}

impl std::fmt::Debug for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Window").field("at", &self.at).finish_non_exhaustive()
    }
}
