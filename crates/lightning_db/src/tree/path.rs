//! The way from a partition's root to one leaf: the inner pages on it and the child taken in each.
//!
//! It moves to neighbouring leaves without going back to the root. A path that met an error is
//! not to be moved further; the cursor that owns it remembers the error.

use crate::cache::{PageRef, Pager};
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
    pub(super) fn page(&self, address: &PageAddress, ty: PageType) -> Result<PageRef> {
        let segment = self.reader.segment(address)?;
        if self.uncached {
            self.pager.fetch_uncached(segment, address, ty)
        } else {
            self.pager.fetch(segment, address, ty)
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
    /// Goes from the root to a leaf and gives the leaf's address.
    pub(super) fn descend(
        &mut self,
        source: Source<'_>,
        target: Target<'_>,
    ) -> Result<PageAddress> {
        self.steps.clear();
        let meta = source.reader.meta();
        self.extend(source, meta.root, usize::from(meta.height), target)
    }

    /// Adds `levels` steps, beginning with the inner page at `from`.
    fn extend(
        &mut self,
        source: Source<'_>,
        from: PageAddress,
        levels: usize,
        target: Target<'_>,
    ) -> Result<PageAddress> {
        let mut address = from;
        for _ in 0..levels {
            let page = source.page(&address, PageType::Inner)?;
            let view = InnerView::new(&page.bytes);
            let len = view.len();
            let at = match target {
                Target::First => 0,
                Target::Last => len - 1,
                Target::Key(key) => view.child_for(key),
            };
            address = view.child(at).address;
            self.steps.push(Step { page, at, len });
        }
        Ok(address)
    }

    /// Moves to the next leaf; `None`, and the path is spent, behind the last.
    pub(super) fn next(&mut self, source: Source<'_>) -> Result<Option<PageAddress>> {
        self.sideways(source, Target::First, |s| (s.at + 1 < s.len).then_some(s.at + 1))
    }

    /// Moves to the leaf before; `None`, and the path is spent, before the first.
    pub(super) fn prev(&mut self, source: Source<'_>) -> Result<Option<PageAddress>> {
        self.sideways(source, Target::Last, |s| s.at.checked_sub(1))
    }

    fn sideways(
        &mut self,
        source: Source<'_>,
        edge: Target<'_>,
        step: impl Fn(&Step) -> Option<usize>,
    ) -> Result<Option<PageAddress>> {
        let depth = self.steps.len();
        while let Some(last) = self.steps.last_mut() {
            let Some(at) = step(last) else {
                self.steps.pop();
                continue;
            };
            last.at = at;
            let address = last.view().child(at).address;
            let below = depth - self.steps.len();
            return self.extend(source, address, below, edge).map(Some);
        }
        Ok(None)
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
