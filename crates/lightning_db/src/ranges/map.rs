//! Which keys are deleted by a range delete, and by which: ranges that do not overlap, each with the
//! number of the newest range delete that covers it.
//!
//! 1. Ranges do not overlap, and none is empty.
//! 2. A map never changes: to add a range delete makes another map, which shares all but a path or two
//!    with the one before. So readers need no latch, and a moment is kept by keeping its map.
//! 3. The tree is balanced as AVL trees are, by joining ("Just Join for Parallel Ordered Sets",
//!    SPAA 2016): a range delete costs two splits and some joins, however many ranges it covers.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::types::Seq;

/// A key that several ranges share.
pub type Key = Arc<[u8]>;

/// The keys `start <= key < end`, and the number that they were deleted with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// The first key inside.
    pub start: Key,
    /// The first key after it; `None`: every key from `start` on.
    pub end: Option<Key>,
    /// The range delete.
    pub seq: Seq,
}

/// Whether `key` is before an end.
#[inline]
pub fn is_before(key: &[u8], end: Option<&[u8]>) -> bool {
    end.is_none_or(|e| key < e)
}

type Link = Option<Arc<Node>>;

#[derive(Debug)]
struct Node {
    fragment: Fragment,
    height: u8,
    left: Link,
    right: Link,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct RangeMap {
    root: Link,
}

impl RangeMap {
    /// Whether no key is covered.
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// The range that `key` is in.
    pub fn covering(&self, key: &[u8]) -> Option<&Fragment> {
        self.last_starting(|start| start <= key).filter(|f| is_before(key, f.end.as_deref()))
    }

    /// The last range whose start is `early`, which holds of a prefix of all starts.
    fn last_starting(&self, early: impl Fn(&[u8]) -> bool) -> Option<&Fragment> {
        let (mut at, mut found) = (&self.root, None);
        while let Some(node) = at {
            if early(&node.fragment.start) {
                found = Some(&node.fragment);
                at = &node.right;
            } else {
                at = &node.left;
            }
        }
        found
    }

    /// The map after a range delete that is newer than all in it.
    pub fn with(&self, new: Fragment) -> Self {
        if new.end.as_ref().is_some_and(|e| *e <= new.start) {
            return self.clone();
        }
        let (mut before, rest) = split(&self.root, &new.start);
        let (covered, mut after) = match &new.end {
            Some(end) => split(&rest, end),
            None => (rest, None),
        };
        // The last one before reaches into the new range, or over it.
        if let Some((left, last)) = split_last(&before)
            && is_before(&new.start, last.end.as_deref())
        {
            let head = Fragment { end: Some(Arc::clone(&new.start)), ..last.clone() };
            before = join(left, head, None);
            after = keep_tail(&last, &new, after);
        }
        if let Some((_, last)) = split_last(&covered) {
            after = keep_tail(&last, &new, after);
        }
        Self { root: join(before, new, after) }
    }

    /// The map with a range that is joined with those that it overlaps or touches; numbers do not
    /// count here.
    pub fn joined_with(&self, mut new: Fragment) -> Self {
        if let Some(before) = self.last_starting(|start| start <= &*new.start)
            && before.end.as_ref().is_none_or(|e| *e >= new.start)
        {
            new.start = Arc::clone(&before.start);
        }
        if let Some(end) = &new.end
            && let Some(last) = self.last_starting(|start| start <= &**end)
            && last.end.as_ref().is_none_or(|e| e > end)
        {
            new.end.clone_from(&last.end);
        }
        self.with(new)
    }

    /// The ranges in order.
    pub fn fragments(&self) -> Vec<Fragment> {
        let mut out = Vec::new();
        let mut path: Vec<&Node> = Vec::new();
        let mut at = self.root.as_deref();
        loop {
            while let Some(node) = at {
                path.push(node);
                at = node.left.as_deref();
            }
            let Some(node) = path.pop() else { return out };
            out.push(node.fragment.clone());
            at = node.right.as_deref();
        }
    }

    /// For tests: whether the tree is balanced, and how high it is.
    #[cfg(test)]
    pub fn balanced_height(&self) -> Option<u8> {
        fn check(link: &Link) -> Option<u8> {
            let Some(n) = link else { return Some(0) };
            let (l, r) = (check(&n.left)?, check(&n.right)?);
            (l.abs_diff(r) <= 1 && n.height == l.max(r) + 1).then_some(n.height)
        }
        check(&self.root)
    }
}

/// Puts what `old` has behind `new` before `after`.
fn keep_tail(old: &Fragment, new: &Fragment, after: Link) -> Link {
    let Some(end) = &new.end else { return after };
    if !is_before(end, old.end.as_deref()) {
        return after;
    }
    join(None, Fragment { start: Arc::clone(end), ..old.clone() }, after)
}

fn height(link: &Link) -> u8 {
    link.as_ref().map_or(0, |n| n.height)
}

fn node(left: Link, fragment: Fragment, right: Link) -> Arc<Node> {
    let height = height(&left).max(height(&right)) + 1;
    Arc::new(Node { fragment, height, left, right })
}

fn rotate_left(n: &Node) -> Arc<Node> {
    let r = n.right.as_ref().expect("the higher side");
    let left = node(n.left.clone(), n.fragment.clone(), r.left.clone());
    node(Some(left), r.fragment.clone(), r.right.clone())
}

fn rotate_right(n: &Node) -> Arc<Node> {
    let l = n.left.as_ref().expect("the higher side");
    let right = node(l.right.clone(), n.fragment.clone(), n.right.clone());
    node(l.left.clone(), l.fragment.clone(), Some(right))
}

/// A tree of all of `left`, then `middle`, then all of `right`.
fn join(left: Link, middle: Fragment, right: Link) -> Link {
    let (l, r) = (height(&left), height(&right));
    Some(match l.cmp(&r) {
        Ordering::Greater if l > r + 1 => join_right(&left.expect("higher"), middle, right),
        Ordering::Less if r > l + 1 => join_left(left, middle, &right.expect("higher")),
        _ => node(left, middle, right),
    })
}

/// [`join`] where `left` is higher by more than one.
fn join_right(left: &Node, middle: Fragment, right: Link) -> Arc<Node> {
    let inner = if height(&left.right) <= height(&right) + 1 {
        let inner = node(left.right.clone(), middle, right);
        if inner.height > height(&left.left) + 1 {
            let inner = rotate_right(&inner);
            return rotate_left(&node(left.left.clone(), left.fragment.clone(), Some(inner)));
        }
        inner
    } else {
        join_right(left.right.as_ref().expect("higher"), middle, right)
    };
    let too_high = inner.height > height(&left.left) + 1;
    let whole = node(left.left.clone(), left.fragment.clone(), Some(inner));
    if too_high { rotate_left(&whole) } else { whole }
}

/// [`join`] where `right` is higher by more than one.
fn join_left(left: Link, middle: Fragment, right: &Node) -> Arc<Node> {
    let inner = if height(&right.left) <= height(&left) + 1 {
        let inner = node(left, middle, right.left.clone());
        if inner.height > height(&right.right) + 1 {
            let inner = rotate_left(&inner);
            return rotate_right(&node(Some(inner), right.fragment.clone(), right.right.clone()));
        }
        inner
    } else {
        join_left(left, middle, right.left.as_ref().expect("higher"))
    };
    let too_high = inner.height > height(&right.right) + 1;
    let whole = node(Some(inner), right.fragment.clone(), right.right.clone());
    if too_high { rotate_right(&whole) } else { whole }
}

/// The ranges that start before `key`, and the others.
fn split(link: &Link, key: &[u8]) -> (Link, Link) {
    let Some(n) = link else { return (None, None) };
    if *n.fragment.start < *key {
        let (low, high) = split(&n.right, key);
        (join(n.left.clone(), n.fragment.clone(), low), high)
    } else {
        let (low, high) = split(&n.left, key);
        (low, join(high, n.fragment.clone(), n.right.clone()))
    }
}

/// All but the last range, and that.
fn split_last(link: &Link) -> Option<(Link, Fragment)> {
    let n = link.as_ref()?;
    match split_last(&n.right) {
        None => Some((n.left.clone(), n.fragment.clone())),
        Some((rest, last)) => Some((join(n.left.clone(), n.fragment.clone(), rest), last)),
    }
}
