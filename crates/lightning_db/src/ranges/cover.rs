//! How a map with one more range is made of a map.
//!
//! A range takes out the boundaries from its start up to its end, and puts in its own, at most two. The nodes
//! on the ways down to both ends are made anew, what lies between goes, all else is shared. A node that
//! became *thin* (less than a quarter of what it may have) is joined with a neighbour.
//!
//! Nodes are bounded in bytes too, as far as long keys let them: else to copy one could cost much.

use triomphe::ThinArc;

use super::keys::{KeyRef, Keys};
use super::map::{INNER, InnerHead, LEAF, LeafHead, Node, RangeMap};

/// Nodes with more key bytes are divided, down to a quarter of the keys that they may have.
const NODE_BYTES: usize = 4096;

/// A boundary.
type Boundary<'a> = (KeyRef<'a>, Option<u64>);

impl RangeMap {
    /// The map after `value` has come to hold of `start <= key < end`, whatever did before.
    #[must_use]
    pub fn with(&self, start: &[u8], end: Option<&[u8]>, value: u64) -> Self {
        if end.is_some_and(|end| end <= start) {
            return self.clone();
        }
        let around = self.around(start);
        let begins_here = around.start.is_some_and(|at| at.len() == start.len() && is(at, start));
        let before = if begins_here { self.before(start) } else { around.value };
        let mut put: [Option<Boundary<'_>>; 2] = [None, None];
        if before != Some(value) {
            put[0] = Some((start.into(), Some(value)));
        }
        if let Some(end) = end {
            let after = self.covering(end);
            if after != Some(value) {
                put[1] = Some((end.into(), after));
            }
        }
        let put: Vec<Boundary<'_>> = put.into_iter().flatten().collect();
        let nodes = match &self.root {
            None => leaves(&put),
            Some(root) => changed(root, Some(start), end, &put),
        };
        Self { root: root_of(nodes) }
    }

    /// What holds right before `key`.
    fn before(&self, key: &[u8]) -> Option<u64> {
        let mut at = self.root.as_ref()?;
        loop {
            match at {
                Node::Inner(n) => {
                    let head = &n.header.header;
                    at = head.child(head.keys.before(&n.slice, key).checked_sub(1)?);
                }
                Node::Leaf(n) => {
                    let head = &n.header.header;
                    return head.value(head.keys.before(&n.slice, key).checked_sub(1)?);
                }
            }
        }
    }

    /// A map of boundaries in order, of which no neighbours say the same.
    pub fn of_boundaries<'a>(boundaries: impl Iterator<Item = (&'a [u8], Option<u64>)>) -> Self {
        let all: Vec<Boundary<'_>> = boundaries.map(|(key, v)| (key.into(), v)).collect();
        Self { root: root_of(leaves(&all)) }
    }

    /// For tests: how high the tree is, where it is as the module says.
    #[cfg(test)]
    pub fn sound_height(&self) -> Option<usize> {
        fn check(node: &Node, is_root: bool) -> Option<usize> {
            if !is_root && node.is_thin() {
                return None;
            }
            let Node::Inner(n) = node else { return Some(1) };
            let head = &n.header.header;
            let mut heights = (0..head.keys.len()).map(|i| {
                let child = head.child(i);
                let is_right = is(head.keys.get(&n.slice, i), &child.first_key().to_vec())
                    && (head.gaps & (1 << i) != 0) == child.has_gap();
                check(child, false).filter(|_| is_right)
            });
            let first = heights.next()??;
            (!is_root || head.keys.len() > 1)
                .then(|| heights.all(|h| h == Some(first)).then_some(first + 1))?
        }
        self.root.as_ref().map_or(Some(0), |root| check(root, true))
    }
}

fn is(a: KeyRef<'_>, b: &[u8]) -> bool {
    b.strip_prefix(a.0) == Some(a.1)
}

impl Node {
    /// The key of its first boundary.
    pub(super) fn first_key(&self) -> KeyRef<'_> {
        match self {
            Self::Leaf(n) => n.header.header.keys.get(&n.slice, 0),
            Self::Inner(n) => n.header.header.keys.get(&n.slice, 0),
        }
    }

    fn has_gap(&self) -> bool {
        match self {
            Self::Leaf(n) => n.header.header.gaps() != 0,
            Self::Inner(n) => n.header.header.gaps != 0,
        }
    }

    fn is_thin(&self) -> bool {
        let (few, bytes) = match self {
            Self::Leaf(n) => (n.header.header.keys.len() < LEAF / 4, n.slice.len()),
            Self::Inner(n) => (n.header.header.keys.len() < INNER / 4, n.slice.len()),
        };
        few && bytes < NODE_BYTES / 4
    }

    /// The boundaries of a leaf.
    fn boundaries(n: &ThinArc<LeafHead, u8>) -> impl Iterator<Item = Boundary<'_>> {
        let head = &n.header.header;
        (0..head.keys.len()).map(|i| (head.keys.get(&n.slice, i), head.value(i)))
    }
}

/// Divides items evenly, so that no part has more than `most`, nor many too many bytes.
fn parts<T>(items: &[T], most: usize, len: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    let bytes: usize = items.iter().map(len).sum();
    let by_bytes = bytes.div_ceil(NODE_BYTES).min(items.len() / (most / 4));
    let count = items.len().div_ceil(most).max(by_bytes);
    (0..count).map(move |i| &items[i * items.len() / count..(i + 1) * items.len() / count])
}

/// Leaves of boundaries in order.
fn leaves(all: &[Boundary<'_>]) -> Vec<Node> {
    let mut bytes = Vec::with_capacity(NODE_BYTES / 8);
    let leaf = |part: &[Boundary<'_>]| {
        let keys = Keys::new(part.iter().map(|(key, _)| *key), &mut bytes);
        let (mut covered, mut values) = (0, [0; LEAF]);
        for (i, (_, value)) in part.iter().enumerate() {
            if let Some(value) = value {
                covered |= 1 << i;
                values[i] = *value;
            }
        }
        Node::Leaf(ThinArc::from_header_and_slice(LeafHead { keys, covered, values }, &bytes))
    };
    parts(all, LEAF, |(key, _)| key.len()).map(leaf).collect()
}

/// A child, as its parent knows it: so that those which stay are not looked at.
#[derive(Debug)]
struct Child<'a> {
    key: KeyRef<'a>,
    node: &'a Node,
    has_gap: bool,
}

impl<'a> Child<'a> {
    fn of(node: &'a Node) -> Self {
        Self { key: node.first_key(), node, has_gap: node.has_gap() }
    }
}

/// Inner nodes of children in order.
fn inner_nodes<'a>(all: impl Iterator<Item = Child<'a>>) -> Vec<Node> {
    let all: Vec<Child<'a>> = all.collect();
    let mut bytes = Vec::with_capacity(NODE_BYTES / 8);
    let inner = |part: &[Child<'a>]| {
        let keys = Keys::new(part.iter().map(|c| c.key), &mut bytes);
        let mut gaps = 0;
        for (i, child) in part.iter().enumerate() {
            gaps |= u32::from(child.has_gap) << i;
        }
        let children = std::array::from_fn(|i| part.get(i).map(|c| c.node.clone()));
        Node::Inner(ThinArc::from_header_and_slice(InnerHead { keys, gaps, children }, &bytes))
    };
    parts(&all, INNER, |c| c.key.len()).map(inner).collect()
}

/// The root above nodes of one height; one of a single child gives its place to that.
fn root_of(mut nodes: Vec<Node>) -> Option<Node> {
    while nodes.len() > 1 {
        nodes = inner_nodes(nodes.iter().map(Child::of));
    }
    let mut root = nodes.pop()?;
    while let Node::Inner(n) = &root
        && n.header.header.keys.len() == 1
    {
        root = n.header.header.child(0).clone();
    }
    Some(root)
}

/// What a node becomes, in nodes of its height, when its boundaries from `from` (or its first) up to `to`
/// (or its last) give way to those of `put`.
fn changed(node: &Node, from: Option<&[u8]>, to: Option<&[u8]>, put: &[Boundary<'_>]) -> Vec<Node> {
    match node {
        Node::Leaf(n) => {
            let keys = &n.header.header.keys;
            let first = from.map_or(0, |from| keys.before(&n.slice, from));
            let last = to.map_or(keys.len(), |to| keys.up_to(&n.slice, to));
            let mut all = Vec::with_capacity(LEAF + 2);
            all.extend(Node::boundaries(n).take(first));
            all.extend_from_slice(put);
            all.extend(Node::boundaries(n).skip(last));
            leaves(&all)
        }
        Node::Inner(n) => {
            let head = &n.header.header;
            let place = |key| head.keys.up_to(&n.slice, key).saturating_sub(1);
            let first = from.map_or(0, place);
            let last = to.map_or(head.keys.len() - 1, place);
            let mut fresh = changed(head.child(first), from, to.filter(|_| first == last), put);
            if first < last {
                fresh.extend(changed(head.child(last), None, to, &[]));
            }
            let children = |from: usize, to: usize| {
                (from..to).map(|i| Child {
                    key: head.keys.get(&n.slice, i),
                    node: head.child(i),
                    has_gap: head.gaps & (1 << i) != 0,
                })
            };
            let (before, after) = (children(0, first), children(last + 1, head.keys.len()));
            if !fresh.iter().any(Node::is_thin) {
                return inner_nodes(before.chain(fresh.iter().map(Child::of)).chain(after));
            }
            let count = fresh.len();
            let mut all: Vec<Node> = before.map(|c| c.node.clone()).collect();
            all.extend(fresh.into_iter().chain(after.map(|c| c.node.clone())));
            fatten(&mut all, first, count);
            inner_nodes(all.iter().map(Child::of))
        }
    }
}

/// Joins those of `count` nodes from `at` on that are thin with a neighbour.
fn fatten(all: &mut Vec<Node>, mut at: usize, count: usize) {
    let mut end = at + count;
    while at < end && all.len() > 1 {
        if !all[at].is_thin() {
            at += 1;
            continue;
        }
        let left = at.saturating_sub(1).min(all.len() - 2);
        let joined = joined(&all[left], &all[left + 1]);
        if joined.len() == 1 {
            // Thin still, where both were: looked at again.
            (at, end) = (left, end - 1);
        } else {
            at = left + 2;
        }
        all.splice(left..left + 2, joined);
    }
}

/// Neighbours of one height, as one or two nodes.
fn joined(left: &Node, right: &Node) -> Vec<Node> {
    match (left, right) {
        (Node::Leaf(l), Node::Leaf(r)) => {
            let all: Vec<_> = Node::boundaries(l).chain(Node::boundaries(r)).collect();
            leaves(&all)
        }
        (Node::Inner(l), Node::Inner(r)) => {
            let children = |n: &ThinArc<InnerHead, u8>| n.header.header.children.clone();
            let mut all: Vec<Node> = children(l).into_iter().chain(children(r)).flatten().collect();
            let seam = l.header.header.keys.len() - 1;
            if all[seam].is_thin() || all[seam + 1].is_thin() {
                let joined = joined(&all[seam], &all[seam + 1]);
                all.splice(seam..seam + 2, joined);
            }
            inner_nodes(all.iter().map(Child::of))
        }
        _ => unreachable!("neighbours are of one height"),
    }
}
