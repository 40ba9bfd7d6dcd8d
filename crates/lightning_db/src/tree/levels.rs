//! The inner pages of a partition that is being built, from the leaves up.
//!
//! Each level fills one page; a full one is written and becomes a child of the level above. What
//! the children say of the pages below them (highest number, entries, bytes, ...) is summed up on
//! the way, so that a child always speaks for its whole subtree.

use crate::error::Result;
use crate::page::inner::{Child, InnerBuilder};
use crate::types::{PageAddress, Seq};

/// Sums over a subtree: those of a [`Child`], without its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Totals {
    pub max_seq: Seq,
    pub min_expiry: u64,
    pub entries: u64,
    pub tombstones: u64,
    pub raw_bytes: u64,
    pub bytes: u64,
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            max_seq: Seq(0),
            min_expiry: u64::MAX,
            entries: 0,
            tombstones: 0,
            raw_bytes: 0,
            bytes: 0,
        }
    }
}

impl Totals {
    pub(super) fn of(child: &Child) -> Self {
        Self {
            max_seq: child.max_seq,
            min_expiry: child.min_expiry,
            entries: child.entries,
            tombstones: child.tombstones,
            raw_bytes: child.raw_bytes,
            bytes: child.bytes,
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.max_seq = self.max_seq.max(other.max_seq);
        self.min_expiry = self.min_expiry.min(other.min_expiry);
        self.entries += other.entries;
        self.tombstones += other.tombstones;
        self.raw_bytes += other.raw_bytes;
        self.bytes += other.bytes;
    }

    /// The child that stands for a page with these sums below it, which itself lies at `address`.
    pub(super) fn into_child(self, separator: Vec<u8>, address: PageAddress) -> Child {
        Child {
            separator,
            address,
            max_seq: self.max_seq,
            min_expiry: self.min_expiry,
            entries: self.entries,
            tombstones: self.tombstones,
            raw_bytes: self.raw_bytes,
            bytes: self.bytes + u64::from(address.stored_bytes),
        }
    }
}

/// A page takes this many children however long their separators are, so that every level is
/// smaller than the one below. Four of the longest still fit a page.
const MIN_CHILDREN: usize = 4;

/// Writes an inner page and says where it lies.
pub(super) type WriteInner<'a> = dyn FnMut(&[u8]) -> Result<PageAddress> + 'a;

struct Level {
    builder: InnerBuilder,
    /// The first child of the page at hand.
    first: Child,
    totals: Totals,
    written: u64,
}

/// All levels above the leaves.
pub(super) struct Levels {
    target_bytes: usize,
    stack: Vec<Level>,
    raw: Vec<u8>,
}

impl Levels {
    pub(super) fn new(target_bytes: usize) -> Self {
        Self { target_bytes, stack: Vec::new(), raw: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.stack.is_empty()
    }

    /// Adds a leaf behind all others.
    pub(super) fn push_leaf(&mut self, leaf: Child, write: &mut WriteInner<'_>) -> Result<()> {
        self.push(0, leaf, write)
    }

    fn push(&mut self, at: usize, child: Child, write: &mut WriteInner<'_>) -> Result<()> {
        let Some(level) = self.stack.get_mut(at) else {
            let mut builder = InnerBuilder::new();
            builder.push(&child);
            let totals = Totals::of(&child);
            self.stack.push(Level { builder, first: child, totals, written: 0 });
            return Ok(());
        };
        let grown = level.builder.raw_len() + InnerBuilder::child_len(child.separator.len());
        let full = level.builder.len() >= MIN_CHILDREN && grown > self.target_bytes;
        if !full {
            level.builder.push(&child);
            level.totals.add(&Totals::of(&child));
            return Ok(());
        }
        let page = self.write(at, write)?;
        let level = &mut self.stack[at];
        level.builder.push(&child);
        level.totals = Totals::of(&child);
        level.first = child;
        self.push(at + 1, page, write)
    }

    /// Writes the page at hand of a level; its builder is empty then.
    fn write(&mut self, at: usize, write: &mut WriteInner<'_>) -> Result<Child> {
        let level = &mut self.stack[at];
        level.builder.finish(&mut self.raw);
        let address = write(&self.raw)?;
        level.written += 1;
        Ok(level.totals.into_child(level.first.separator.clone(), address))
    }

    /// Writes what is left of every level. Gives the root and the number of levels above the
    /// leaves; `None` where there was no leaf.
    pub(super) fn finish(&mut self, write: &mut WriteInner<'_>) -> Result<Option<(Child, u8)>> {
        let mut at = 0;
        while at < self.stack.len() {
            let level = &self.stack[at];
            if level.written == 0 && level.builder.len() == 1 {
                return Ok(Some((level.first.clone(), at as u8)));
            }
            let page = self.write(at, write)?;
            self.push(at + 1, page, write)?;
            at += 1;
        }
        Ok(None)
    }
}
