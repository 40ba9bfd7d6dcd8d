//! The way from a partition's root to one leaf: the inner pages on it and the child taken in each.
//!
//! It moves to neighbouring leaves without going back to the root. A path that met an error is
//! not to be moved further; the cursor that owns it remembers the error.

use crate::cache::{PageRef, PageSlot, Pager};
use crate::error::Result;
use crate::page::PageType;
use crate::page::inner::{ChildRef, InnerView};
use crate::types::PageAddress;

use super::reader::PartitionReader;

/// Where pages come from.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub reader: &'a PartitionReader,
    pub pager: &'a Pager,
    /// Pages are looked up in the cache but not put there.
    pub uncached: bool,
}

impl Source<'_> {
    /// The page at `address`, whoever its parent is.
    pub(super) fn page(&self, address: &PageAddress, ty: PageType) -> Result<PageRef> {
        let segment = self.reader.segment(address)?;
        if self.uncached {
            self.pager.fetch_uncached(segment, address, ty)
        } else {
            self.pager.fetch(segment, address, ty)
        }
    }

    /// Child `at` of the inner page `parent`.
    #[inline]
    pub(super) fn child(&self, parent: &PageRef, at: usize, ty: PageType) -> Result<PageRef> {
        let view = InnerView::new(&parent.bytes);
        let address = view.child(at).address;
        if self.uncached {
            return self.page(&address, ty);
        }
        let slot = parent.slot(at, || view.len());
        self.pager.fetch_by(slot, || self.reader.segment(&address), &address, ty)
    }

    /// The root, which is an inner page.
    fn root(&self) -> Result<PageRef> {
        if self.uncached {
            self.page(&self.reader.meta().root, PageType::Inner)
        } else {
            self.reader.root(self.pager).cloned()
        }
    }
}

/// Which leaf a descent goes to.
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    First,
    Last,
    /// The leaf where the newest version of the key is, if it is anywhere.
    Key(&'a [u8]),
}

pub(super) struct Step {
    page: PageRef,
    at: usize,
    len: usize,
}

impl Step {
    fn slot(&self, at: Option<usize>) -> Option<&PageSlot> {
        self.page.slot(at?, || self.len)
    }

    fn warm(&self, near: Option<usize>, far: Option<usize>) {
        if let Some(page) = self.slot(near).and_then(PageSlot::get) {
            page.prefetch();
        }
        if let Some(slot) = self.slot(far) {
            slot.prefetch();
        }
    }

    pub(super) fn view(&self) -> InnerView<'_> {
        InnerView::new(&self.page.bytes)
    }
}

/// Inner pages, the root first, down to the leaf's parent.
#[derive(Default)]
pub(super) struct Path {
    steps: Vec<Step>,
}

impl Path {
    /// Goes from the root to a leaf.
    pub(super) fn descend(&mut self, source: Source<'_>, target: Target<'_>) -> Result<()> {
        self.steps.clear();
        match usize::from(source.reader.meta().height) {
            0 => Ok(()),
            height => {
                self.push(source.root()?, target);
                self.extend(source, height, target)
            }
        }
    }

    fn push(&mut self, page: PageRef, target: Target<'_>) {
        let view = InnerView::new(&page.bytes);
        let len = view.len();
        let at = match target {
            Target::First => 0,
            Target::Last => len - 1,
            Target::Key(key) => view.child_for(key),
        };
        self.steps.push(Step { page, at, len });
    }

    /// Goes on from the last step until there are `height`.
    fn extend(&mut self, source: Source<'_>, height: usize, target: Target<'_>) -> Result<()> {
        while self.steps.len() < height {
            let Some(last) = self.steps.last() else { return Ok(()) };
            let page = source.child(&last.page, last.at, PageType::Inner)?;
            self.push(page, target);
        }
        Ok(())
    }

    /// Moves to the next leaf; `false`, and the path is spent, behind the last.
    pub(super) fn next(&mut self, source: Source<'_>) -> Result<bool> {
        self.sideways(source, Target::First, |s| (s.at + 1 < s.len).then_some(s.at + 1))
    }

    /// Moves to the leaf before; `false`, and the path is spent, before the first.
    pub(super) fn prev(&mut self, source: Source<'_>) -> Result<bool> {
        self.sideways(source, Target::Last, |s| s.at.checked_sub(1))
    }

    fn sideways(
        &mut self,
        source: Source<'_>,
        edge: Target<'_>,
        step: impl Fn(&Step) -> Option<usize>,
    ) -> Result<bool> {
        let height = self.steps.len();
        while let Some(last) = self.steps.last_mut() {
            let Some(at) = step(last) else {
                self.steps.pop();
                continue;
            };
            last.at = at;
            self.extend(source, height, edge)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// The leaf's page.
    #[inline]
    pub(super) fn leaf_page(&self, source: Source<'_>) -> Result<PageRef> {
        match self.steps.last() {
            Some(parent) => source.child(&parent.page, parent.at, PageType::Leaf),
            None => source.page(&source.reader.meta().root, PageType::Leaf),
        }
    }

    /// Where the leaf lies.
    pub(super) fn leaf_address(&self, reader: &PartitionReader) -> PageAddress {
        self.leaf().map_or(reader.meta().root, |child| child.address)
    }

    /// Asks the processor for the next leaf, and the head of the one behind, if they are in memory.
    #[inline]
    pub(super) fn warm_next(&self) {
        if let Some(s) = self.steps.last() {
            s.warm(s.at.checked_add(1), s.at.checked_add(2));
        }
    }

    /// As [`warm_next`](Self::warm_next), of those before.
    #[inline]
    pub(super) fn warm_previous(&self) {
        if let Some(s) = self.steps.last() {
            s.warm(s.at.checked_sub(1), s.at.checked_sub(2));
        }
    }

    /// The leaf's entry in its parent; `None` where the root is the leaf.
    pub(super) fn leaf(&self) -> Option<ChildRef> {
        self.steps.last().map(|s| s.view().child(s.at))
    }

    /// The leaf's separator; `None` where the root is the leaf.
    pub(super) fn separator(&self) -> Option<&[u8]> {
        self.steps.last().map(|s| s.view().separator(s.at))
    }

    /// The separator of the next leaf; `None` behind the last.
    pub(super) fn next_separator(&self) -> Option<&[u8]> {
        let step = self.steps.iter().rev().find(|s| s.at + 1 < s.len)?;
        Some(step.view().separator(step.at + 1))
    }

    /// The leaf's parent, the leaf's index in it, and the number of its children.
    pub(super) fn parent(&self) -> Option<(&Step, usize, usize)> {
        self.steps.last().map(|s| (s, s.at, s.len))
    }
}
