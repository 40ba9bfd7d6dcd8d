//! The walk over a partition's leaves by its inner pages alone, for those who keep some of them.
//!
//! Leaves come in *spans*: a leaf and the leaves that may go on with the versions of its last key.
//! A span is kept or rewritten as a whole, since what happens to the newest versions of a key
//! decides what becomes of the older ones.

use crate::cache::Pager;
use crate::error::Result;
use crate::page::PageType;
use crate::page::inner::Child;
use crate::sync::Arc;
use crate::types::Expiry;

use super::path::{Path, Source, Target};
use super::reader::PartitionReader;
use super::separator;

/// What is known of the last key of a span without reading it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SpanEnd {
    /// Every key of the span is less than this; every key behind it is not.
    Before(Vec<u8>),
    /// Every key of the span is at most this: the partition's last key, at its last span.
    UpTo(Vec<u8>),
}

/// One leaf, or several that may share versions of a key.
#[derive(Clone, Debug)]
pub struct LeafSpan {
    /// The leaves in order; at least one, usually just one.
    pub leaves: Vec<Child>,
    /// What is known of the last key.
    pub end: SpanEnd,
}

impl LeafSpan {
    /// Every key of the span is at least this, every key before the span is less.
    pub fn start(&self) -> &[u8] {
        &self.leaves[0].separator
    }

    /// Whether `key`, if the partition holds it, is in this span.
    pub fn covers(&self, key: &[u8]) -> bool {
        key >= self.start()
            && match &self.end {
                SpanEnd::Before(end) => key < end.as_slice(),
                SpanEnd::UpTo(last) => key <= last.as_slice(),
            }
    }

    /// Stored bytes of its leaves.
    #[cfg(test)]
    pub fn bytes(&self) -> u64 {
        self.leaves.iter().map(|c| c.bytes).sum()
    }

    /// The earliest expiry in its leaves.
    pub fn earliest_expiry(&self) -> Expiry {
        Expiry(self.leaves.iter().map(|c| c.min_expiry).min().unwrap_or(u64::MAX))
    }

    /// The highest number in its leaves; 0 where they were ingested.
    pub fn max_seq(&self) -> crate::types::Seq {
        self.leaves.iter().map(|c| c.max_seq).max().unwrap_or_default()
    }
}

impl PartitionReader {
    /// Adds the payload of each `step`th leaf to `out`, the first leaf's always.
    pub fn sample_leaves(
        self: &Arc<Self>,
        pager: &Pager,
        step: usize,
        out: &mut Vec<Vec<u8>>,
    ) -> Result<()> {
        for span in self.leaves(pager).step_by(step.max(1)) {
            let address = span?.leaves[0].address;
            let page = pager.fetch_uncached(self.segment(&address)?, &address, PageType::Leaf)?;
            out.push(page.bytes.clone());
        }
        Ok(())
    }
}

/// Iterates over the spans of a partition in key order; ends after the first error.
pub struct Leaves {
    reader: Arc<PartitionReader>,
    pager: Pager,
    path: Path,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Fresh,
    /// The path stands at a leaf that has not been given out.
    AtLeaf,
    Done,
}

impl Leaves {
    pub(super) fn new(reader: Arc<PartitionReader>, pager: Pager) -> Self {
        Self { reader, pager, path: Path::default(), state: State::Fresh }
    }

    fn step(&mut self) -> Result<Option<LeafSpan>> {
        let source = Source { reader: &self.reader, pager: &self.pager, uncached: true };
        let meta = self.reader.meta();
        if self.state == State::Fresh {
            self.path.descend(source, Target::First)?;
            self.state = State::AtLeaf;
        }
        if self.state == State::Done {
            return Ok(None);
        }
        let end_of_partition = || SpanEnd::UpTo(meta.last_key.clone());
        let mut leaves = Vec::with_capacity(1);
        loop {
            let Some(child) = self.path.leaf() else {
                // The root is the only leaf.
                self.state = State::Done;
                return Ok(Some(LeafSpan {
                    leaves: vec![self.reader.root_as_child()],
                    end: end_of_partition(),
                }));
            };
            leaves.push(child.with_separator(self.path.separator().unwrap_or_default()));
            let upper = self.path.next_separator().map(<[u8]>::to_vec);
            if !self.path.next(source)? {
                self.state = State::Done;
            }
            match upper {
                None => return Ok(Some(LeafSpan { leaves, end: end_of_partition() })),
                Some(upper) if !separator::may_continue(&upper) => {
                    return Ok(Some(LeafSpan { leaves, end: SpanEnd::Before(upper) }));
                }
                Some(_) => {}
            }
        }
    }
}

impl Iterator for Leaves {
    type Item = Result<LeafSpan>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.state = State::Done;
        }
        step.transpose()
    }
}
