//! Which keys are covered by ranges, and with which value: the number of the newest range delete, or
//! something else that is a number. Kept as *boundaries*: a key, and what holds from there up to the next boundary, a value or nothing.
//!
//! 1. Boundaries ascend; nothing holds before the first. Two neighbours never say the same, so that ranges
//!    of one value that touch are one.
//! 2. A map never changes: to cover a range makes another map, which shares all but a path or two with
//!    the one before (`cover`). So readers need no latch, and a moment is kept by keeping its map.
//! 3. It is a B+tree: leaves of up to [`LEAF`] boundaries, inner nodes of up to [`INNER`] children, each under
//!    the first key of its subtree. Every way down is of one length, and no node but the root is *thin*.
//! 4. Inner nodes know of each child whether it has a boundary from which on nothing holds. So the end of
//!    what is covered without a gap is found in one way down, however many ranges it consists of.
//!
//! A node is one piece of memory, its keys included (`keys`): a look-up waits for about as many cache misses
//! as the tree has levels below those that stay in the processor's caches.

use std::sync::Arc;

use triomphe::ThinArc;

use super::keys::{KeyRef, Keys};
use super::stretch::Stretch;
use super::{Fragment, Key};
use crate::types::Seq;

/// The most boundaries of a leaf.
pub(super) const LEAF: usize = 32;
/// The most children of an inner node: few, as each is counted when its node is made anew.
pub(super) const INNER: usize = 16;

/// The part of a leaf before its key bytes.
#[derive(Debug)]
pub(super) struct LeafHead {
    pub(super) keys: Keys<LEAF>,
    /// A bit for each boundary from which on a value holds.
    pub(super) covered: u32,
    pub(super) values: [u64; LEAF],
}

/// The part of an inner node before its key bytes.
#[derive(Debug)]
pub(super) struct InnerHead {
    pub(super) keys: Keys<INNER>,
    /// A bit for each child with a boundary from which on nothing holds.
    pub(super) gaps: u32,
    pub(super) children: [Option<Node>; INNER],
}

/// A leaf.
pub(super) type Leaf = ThinArc<LeafHead, u8>;

/// A node, and all below it.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Leaf(Leaf),
    Inner(ThinArc<InnerHead, u8>),
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct RangeMap {
    pub(super) root: Option<Node>,
}

/// What holds of a key, and between which boundaries the same does.
#[derive(Debug, Clone, Copy, Default)]
pub struct Around<'a> {
    /// What holds.
    pub value: Option<u64>,
    /// The boundary at or before the key; `None`: there is none.
    pub start: Option<KeyRef<'a>>,
    /// The first boundary after it.
    pub end: Option<KeyRef<'a>>,
    /// Of a key that is covered, where what is covered without a gap begins and ends, where the leaf tells.
    covered: (Option<KeyRef<'a>>, Option<KeyRef<'a>>),
}

impl<'a> Around<'a> {
    /// Behind the first `i` boundaries of a leaf, which `end` follows.
    fn in_leaf(leaf: &'a Leaf, i: usize, end: Option<KeyRef<'a>>) -> Self {
        let head = &leaf.header.header;
        let get = |i| head.keys.get(&leaf.slice, i);
        let end = if i < head.keys.len() { Some(get(i)) } else { end };
        let Some(i) = i.checked_sub(1) else { return Self { end, ..Self::default() } };
        let value = head.value(i);
        let mut covered = (None, None);
        if value.is_some() {
            let (gaps, below) = (head.gaps(), ones(i));
            let behind = gaps & !below;
            covered.0 = highest(gaps & below).map(|gap| get(gap + 1));
            covered.1 = (behind != 0).then(|| get(behind.trailing_zeros() as usize));
        }
        Self { value, start: Some(get(i)), end, covered }
    }
}

impl LeafHead {
    #[inline]
    pub(super) fn value(&self, i: usize) -> Option<u64> {
        (self.covered & (1 << i) != 0).then(|| self.values[i])
    }

    /// A bit for each boundary from which on nothing holds.
    pub(super) fn gaps(&self) -> u32 {
        !self.covered & ones(self.keys.len())
    }
}

impl InnerHead {
    #[inline]
    pub(super) fn child(&self, i: usize) -> &Node {
        self.children[i].as_ref().expect("there is one for each key")
    }
}

/// The lowest `n` bits.
fn ones(n: usize) -> u32 {
    if n >= 32 { u32::MAX } else { (1 << n) - 1 }
}

/// The place of the highest bit.
fn highest(bits: u32) -> Option<usize> {
    bits.checked_ilog2().map(|i| i as usize)
}

impl RangeMap {
    /// Whether no key is covered.
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// What holds of `key`.
    #[inline]
    pub fn covering(&self, key: &[u8]) -> Option<u64> {
        let mut at = self.root.as_ref()?;
        loop {
            match at {
                Node::Inner(n) => {
                    let i = n.header.header.keys.up_to(&n.slice, key);
                    at = n.header.header.child(i.checked_sub(1)?);
                }
                Node::Leaf(n) => {
                    let i = n.header.header.keys.up_to(&n.slice, key);
                    return n.header.header.value(i.checked_sub(1)?);
                }
            }
        }
    }

    /// The leaf that `key` belongs to, how many of its boundaries are at or below the key, and the first
    /// boundary behind the leaf.
    fn leaf_of(&self, key: &[u8]) -> Option<(&Leaf, usize, Option<KeyRef<'_>>)> {
        let (mut at, mut behind) = (self.root.as_ref()?, None);
        loop {
            match at {
                Node::Inner(n) => {
                    let head = &n.header.header;
                    let i = head.keys.up_to(&n.slice, key);
                    if i < head.keys.len() {
                        behind = Some(head.keys.get(&n.slice, i));
                    }
                    at = head.child(i.saturating_sub(1));
                }
                Node::Leaf(n) => {
                    return Some((n, n.header.header.keys.up_to(&n.slice, key), behind));
                }
            }
        }
    }

    /// What holds of `key`, and from where to where.
    pub fn around(&self, key: &[u8]) -> Around<'_> {
        self.leaf_of(key)
            .map_or_else(Around::default, |(leaf, i, end)| Around::in_leaf(leaf, i, end))
    }

    /// The first boundary after `key` from which on nothing holds.
    pub fn gap_after(&self, key: &[u8]) -> Option<KeyRef<'_>> {
        first_gap(self.root.as_ref()?, Some(key))
    }

    /// The last boundary at or before `key` from which on nothing holds.
    pub fn gap_before(&self, key: &[u8]) -> Option<KeyRef<'_>> {
        last_gap(self.root.as_ref()?, Some(key))
    }

    /// Fills `out` with what is known of the keys around `key`. Of keys that are covered it is all that touch,
    /// of whatever value, in the direction of movement. A stretch is of one map only.
    pub fn stretch(&self, key: &[u8], forward: bool, out: &mut Stretch) {
        // Who moves on is mostly in the leaf it came from.
        if let Some(leaf) = out.leaf.take() {
            let keys = &leaf.header.header.keys;
            let i = keys.up_to(&leaf.slice, key);
            if i > 0 && i < keys.len() {
                self.fill(Around::in_leaf(&leaf, i, None), key, forward, out);
                out.leaf = Some(leaf);
                return;
            }
        }
        let Some((leaf, i, end)) = self.leaf_of(key) else { return out.set(false, None, None) };
        self.fill(Around::in_leaf(leaf, i, end), key, forward, out);
        out.leaf = Some(Leaf::clone(leaf));
    }

    fn fill(&self, around: Around<'_>, key: &[u8], forward: bool, out: &mut Stretch) {
        if around.value.is_none() {
            out.set(false, around.start, around.end);
        } else if forward {
            let end = around.covered.1.or_else(|| self.gap_after(key));
            out.set(true, around.start, end);
        } else {
            let start = around.covered.0.or_else(|| match self.gap_before(key) {
                Some(gap) => self.around(&gap.to_vec()).end,
                None => self.root.as_ref().map(Node::first_key),
            });
            out.set(true, start, around.end);
        }
    }

    /// Gives the boundaries to `act`, in order.
    pub fn for_each<'a>(&'a self, mut act: impl FnMut(KeyRef<'a>, Option<u64>)) {
        if let Some(root) = &self.root {
            walk(root, &mut act);
        }
    }
}

impl RangeMap {
    /// The ranges in order, of a map whose values are numbers of commits.
    pub fn fragments(&self) -> Vec<Fragment> {
        let mut out = Vec::new();
        let mut open: Option<(Key, Seq)> = None;
        self.for_each(|key, seq| {
            let key: Key = key.to_vec().into();
            if let Some((start, seq)) = open.take() {
                out.push(Fragment { start, end: Some(Arc::clone(&key)), seq });
            }
            open = seq.map(|seq| (key, Seq(seq)));
        });
        out.extend(open.map(|(start, seq)| Fragment { start, end: None, seq }));
        out
    }
}

/// The first gap behind `key`; with none, of all.
fn first_gap<'a>(node: &'a Node, key: Option<&[u8]>) -> Option<KeyRef<'a>> {
    match node {
        Node::Leaf(n) => {
            let keys = &n.header.header.keys;
            let from = key.map_or(0, |key| keys.up_to(&n.slice, key));
            let behind = n.header.header.gaps() & !ones(from);
            (behind != 0).then(|| keys.get(&n.slice, behind.trailing_zeros() as usize))
        }
        Node::Inner(n) => {
            let head = &n.header.header;
            let from = key.map_or(0, |key| head.keys.up_to(&n.slice, key));
            if let Some(i) = from.checked_sub(1)
                && head.gaps & (1 << i) != 0
                && let Some(found) = first_gap(head.child(i), key)
            {
                return Some(found);
            }
            let behind = head.gaps & !ones(from);
            let child = (behind != 0).then(|| head.child(behind.trailing_zeros() as usize))?;
            first_gap(child, None)
        }
    }
}

/// The last gap at or before `key`; with none, of all.
fn last_gap<'a>(node: &'a Node, key: Option<&[u8]>) -> Option<KeyRef<'a>> {
    match node {
        Node::Leaf(n) => {
            let keys = &n.header.header.keys;
            let to = key.map_or(keys.len(), |key| keys.up_to(&n.slice, key));
            let i = highest(n.header.header.gaps() & ones(to))?;
            Some(keys.get(&n.slice, i))
        }
        Node::Inner(n) => {
            let head = &n.header.header;
            let to = key.map_or(head.keys.len(), |key| head.keys.up_to(&n.slice, key));
            let last = to.checked_sub(1)?;
            if head.gaps & (1 << last) != 0
                && let Some(found) = last_gap(head.child(last), key)
            {
                return Some(found);
            }
            last_gap(head.child(highest(head.gaps & ones(last))?), None)
        }
    }
}

fn walk<'a>(node: &'a Node, act: &mut impl FnMut(KeyRef<'a>, Option<u64>)) {
    match node {
        Node::Leaf(n) => {
            for i in 0..n.header.header.keys.len() {
                act(n.header.header.keys.get(&n.slice, i), n.header.header.value(i));
            }
        }
        Node::Inner(n) => {
            for i in 0..n.header.header.keys.len() {
                walk(n.header.header.child(i), act);
            }
        }
    }
}
