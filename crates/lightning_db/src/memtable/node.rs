//! One node of the tree: four cache lines that readers search while the writer adds to them.
//!
//! A leaf's slots lead to the newest version of a key, an inner node's to nodes one level below.
//! Each slot has a *head* beside it: eight bytes of the key (of the lowest key below), taken
//! behind the bytes that all keys of the node share, as a big-endian number. Most searches end at
//! the heads; only equal heads need the keys themselves.
//!
//! Invariants: 1. a node covers the keys in `low..high`, for ever. 2. a slot named by the node's
//! order word was written before the word; its head never changes. 3. a slot of a leaf only ever
//! changes to a newer version of its key; a slot of an inner node only to the left one of two
//! nodes that share its child's range, after the right one was put into the order. 4. no node is
//! empty. 5. all pointers lead into the arena the node lies in.
//!
//! Threads: `add`, `set_entry` and `replace_child` are the writer's; the rest any reader's.

use std::ffi::c_void;
use std::ptr::{self, NonNull};

use super::entry::{EntryRef, Header};
use super::order::{Order, SLOTS};
use crate::prefetch;
use crate::sync::atomic::Ordering;
use crate::sync::in_layout::{AtomicPtr, AtomicU64};
use crate::types::key_head;

/// Bytes of a head that may be spent on what all keys of the node share before a new node gets
/// heads that begin further right (which costs a look at every key).
const MAX_SHARED_HEAD_BYTES: usize = 3;

/// A leaf (level 0) or an inner node.
#[repr(C, align(64))]
pub(super) struct Node {
    order: AtomicU64,
    /// The lowest key covered; null where the range has no lower end.
    low: *const Header,
    /// The first key not covered; null where the range has no upper end.
    high: *const Header,
    /// Where heads begin in a key: at most as many bytes as all keys covered share.
    head_at: u32,
    level: u32,
    heads: [AtomicU64; SLOTS],
    /// Of `Header`s in a leaf, of `Node`s in an inner node.
    targets: [AtomicPtr<c_void>; SLOTS],
}

const _: () = assert!(size_of::<Node>() == 256);

/// The keys that a node covers.
#[derive(Clone, Copy)]
pub(super) struct Range<'a> {
    /// An entry of the lowest key.
    pub(super) low: Option<EntryRef<'a>>,
    /// An entry of the first key beyond.
    pub(super) high: Option<EntryRef<'a>>,
}

/// The children of an inner node as one order word names them.
#[derive(Clone, Copy)]
pub(super) struct Children<'a> {
    node: &'a Node,
    order: Order,
}

impl<'a> Children<'a> {
    /// How many there are.
    #[inline]
    pub(super) fn len(self) -> usize {
        self.order.len()
    }

    /// The child at `rank`.
    #[inline]
    pub(super) fn at(self, rank: usize) -> &'a Node {
        self.node.child(self.order.slot(rank))
    }

    /// The rank of the child that covers `key`, which is in the node's range.
    #[inline]
    pub(super) fn rank_for(self, key: &[u8]) -> usize {
        self.node.child_for(self.order, key)
    }
}

/// What a slot holds, while nodes are built.
#[derive(Clone, Copy)]
pub(super) enum Item<'a> {
    /// The newest version of a key.
    Entry(EntryRef<'a>),
    /// A node one level below.
    Child(&'a Node),
}

/// Eight bytes of `key` from `at` on, as a number that orders as they do; zeros where it ends.
#[inline]
fn head(key: &[u8], at: usize) -> u64 {
    key_head(key.get(at..).unwrap_or_default())
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

/// An item with its head in the node that it comes from: new nodes look at few of the keys, which
/// lie all over the arena.
#[derive(Clone, Copy)]
pub(super) struct Held<'a> {
    pub(super) item: Item<'a>,
    head: u64,
}

impl<'a> Held<'a> {
    /// With the head that it has in nodes whose heads begin at `head_at`.
    pub(super) fn new(item: Item<'a>, head_at: usize) -> Self {
        Self { item, head: item.head(head_at) }
    }
}

impl<'a> Item<'a> {
    fn head(self, head_at: usize) -> u64 {
        head(self.low().map_or(&[], |e| e.key()), head_at)
    }

    /// An entry of the lowest key below it; none where there is no lower end.
    fn low(self) -> Option<EntryRef<'a>> {
        match self {
            Item::Entry(e) => Some(e),
            Item::Child(n) => n.range().low,
        }
    }

    /// An entry of the lowest key below it, which is not the first item of a node.
    pub(super) fn low_entry(self) -> EntryRef<'a> {
        self.low().expect("only the first child of a node can have no lower end")
    }
}

impl Node {
    /// A node over `items`, which are in order and all in `range`; of the level above them.
    /// `old_head_at` is that of the node they come from.
    pub(super) fn new<'a>(range: Range<'a>, items: &[Held<'a>], old_head_at: usize) -> Self {
        // What the range's ends share, all keys in it share.
        let differ = items[0].head ^ items[items.len() - 1].head;
        let shared = match (range.low, range.high) {
            _ if differ >> (64 - 8 * MAX_SHARED_HEAD_BYTES) != 0 => 0,
            (Some(low), Some(high)) => common_prefix(low.key(), high.key()),
            _ => 0,
        };
        let moves = shared > old_head_at + MAX_SHARED_HEAD_BYTES;
        let head_at = if moves { shared } else { old_head_at };
        let level = match items[0].item {
            Item::Entry(_) => 0,
            Item::Child(n) => n.level + 1,
        };
        let pointer =
            |e: Option<EntryRef<'_>>| e.map_or(ptr::null(), |e| e.as_ptr().as_ptr().cast_const());
        let node = Self {
            order: AtomicU64::new(Order::identity(items.len()).bits()),
            low: pointer(range.low),
            high: pointer(range.high),
            head_at: head_at as u32,
            level,
            heads: [const { AtomicU64::new(0) }; SLOTS],
            targets: [const { AtomicPtr::new(ptr::null_mut()) }; SLOTS],
        };
        for (slot, held) in items.iter().enumerate() {
            node.fill(slot, if moves { Held::new(held.item, head_at) } else { *held });
        }
        node
    }

    /// 0 for a leaf.
    #[inline]
    pub(super) fn level(&self) -> u32 {
        self.level
    }

    /// Where heads begin in a key.
    #[inline]
    pub(super) fn head_at(&self) -> usize {
        self.head_at as usize
    }

    /// The keys it covers.
    pub(super) fn range(&self) -> Range<'_> {
        // SAFETY: made of an entry of the same arena, which outlives every borrow of the node.
        let entry =
            |p: *const Header| NonNull::new(p.cast_mut()).map(|p| unsafe { EntryRef::from_ptr(p) });
        Range { low: entry(self.low), high: entry(self.high) }
    }

    #[inline]
    fn low_key(&self) -> &[u8] {
        self.range().low.map_or(&[], |e| e.key())
    }

    /// Which slots are in use now. What is read of them afterwards is at least as new.
    #[inline]
    pub(super) fn order(&self) -> Order {
        Order::from_bits(self.order.load(Ordering::Acquire))
    }

    /// The newest version of the key in `slot`, a slot that an order word named. Leaves only.
    #[inline]
    pub(super) fn entry(&self, slot: usize) -> EntryRef<'_> {
        assert!(self.level == 0, "only leaves hold entries");
        let target = self.targets[slot].load(Ordering::Acquire).cast::<Header>();
        debug_assert!(!target.is_null());
        // SAFETY: a named slot was filled (invariant 2), in a leaf with an entry of this arena,
        // which outlives every borrow of the node.
        unsafe { EntryRef::from_ptr(NonNull::new_unchecked(target)) }
    }

    /// The child in `slot`, a slot that an order word named. Inner nodes only.
    #[inline]
    fn child(&self, slot: usize) -> &Node {
        assert!(self.level > 0, "leaves have no children");
        let target = self.targets[slot].load(Ordering::Acquire).cast::<Node>();
        debug_assert!(!target.is_null());
        // SAFETY: a named slot was filled (invariant 2), in an inner node with a node of this
        // arena; nodes are only shared, and live as long as the arena.
        unsafe { &*target }
    }

    /// Calls `choose` until the order stood still meanwhile: what it was given then fits the
    /// children it loaded. A child of a newer state covers less than the order says, and what it
    /// no longer covers would be missed (invariant 3 lets the order tell). Looking again means
    /// that the writer went on, so no reader waits for a writer that sleeps.
    #[inline]
    pub(super) fn look<'a, R>(&'a self, choose: impl Fn(Children<'a>) -> R) -> R {
        loop {
            let order = self.order();
            let chosen = choose(Children { node: self, order });
            // Relaxed: the children were loaded with `Acquire` before, and a load that saw the
            // newer child makes the order stored before it visible here.
            if self.order.load(Ordering::Relaxed) == order.bits() {
                return chosen;
            }
        }
    }

    /// The ranks of `order` whose heads equal that of `key`: all below are less, all above greater.
    #[inline]
    fn equal_heads(&self, order: Order, head: u64) -> (usize, usize) {
        let n = order.len();
        // All in use are counted: with so few, that is quicker than to halve, and needs no order.
        let mut below = 0;
        for h in &self.heads[..n] {
            below += usize::from(h.load(Ordering::Relaxed) < head);
        }
        let mut end = below;
        while end < n && self.heads[order.slot(end)].load(Ordering::Relaxed) == head {
            end += 1;
        }
        (below, end)
    }

    /// In a leaf: the rank of the first key at or above `key` (`order.len()` if there is none),
    /// and the newest version of `key` if it is there. `key` is in the node's range.
    #[inline]
    pub(super) fn find(&self, order: Order, key: &[u8]) -> (usize, Option<EntryRef<'_>>) {
        let (mut from, mut to) = self.equal_heads(order, head(key, self.head_at()));
        while from < to {
            let middle = usize::midpoint(from, to);
            let entry = self.entry(order.slot(middle));
            // Key and value are asked for together.
            entry.prefetch(3);
            match entry.cmp_key(key) {
                std::cmp::Ordering::Less => from = middle + 1,
                std::cmp::Ordering::Greater => to = middle,
                std::cmp::Ordering::Equal => return (middle, Some(entry)),
            }
        }
        (from, None)
    }

    /// In an inner node: the rank of the child that covers `key`, which is in the node's range.
    #[inline]
    fn child_for(&self, order: Order, key: &[u8]) -> usize {
        let (mut from, mut to) = self.equal_heads(order, head(key, self.head_at()));
        while from < to {
            let middle = usize::midpoint(from, to);
            // A newer child has the same lowest key, so this needs no second look.
            if self.child(order.slot(middle)).low_key() <= key {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        // The first child's lowest key is the node's own, so it was counted.
        debug_assert!(from > 0);
        from.saturating_sub(1)
    }

    /// All that the node holds, in order; its writer's view.
    pub(super) fn items(&self) -> impl Iterator<Item = Held<'_>> {
        let order = self.order();
        (0..order.len()).map(move |rank| {
            let slot = order.slot(rank);
            let head = self.heads[slot].load(Ordering::Relaxed);
            let item = if self.level == 0 {
                Item::Entry(self.entry(slot))
            } else {
                Item::Child(self.child(slot))
            };
            Held { item, head }
        })
    }

    /// Writes a slot that no order word names yet.
    fn fill(&self, slot: usize, held: Held<'_>) {
        self.heads[slot].store(held.head, Ordering::Relaxed);
        let target = match held.item {
            Item::Entry(e) => e.as_ptr().as_ptr().cast(),
            Item::Child(n) => ptr::from_ref(n).cast_mut().cast(),
        };
        self.targets[slot].store(target, Ordering::Relaxed);
    }

    /// Puts `item` in at `rank`, for all to see. The node is not full.
    pub(super) fn add(&self, rank: usize, item: Item<'_>) {
        let order = self.order();
        let with = order.with_next_at(rank);
        self.fill(order.len(), Held::new(item, self.head_at()));
        self.order.store(with.bits(), Ordering::Release);
    }

    /// Lays a newer version of its key upon the one at `rank`. Leaves only.
    pub(super) fn set_entry(&self, rank: usize, entry: EntryRef<'_>) {
        assert!(self.level == 0, "only leaves hold entries");
        let slot = self.order().slot(rank);
        self.targets[slot].store(entry.as_ptr().as_ptr().cast(), Ordering::Release);
    }

    /// Puts `left` and `right` in the place of the child at `rank`, whose range they share. Inner
    /// nodes with a free slot only.
    pub(super) fn replace_child(&self, rank: usize, left: &Node, right: &Node) {
        assert!(self.level > 0, "leaves have no children");
        let slot = self.order().slot(rank);
        // First the right one, then the left: see `look`.
        self.add(rank + 1, Item::Child(right));
        self.targets[slot].store(ptr::from_ref(left).cast_mut().cast(), Ordering::Release);
    }

    /// Asks for the node's lines before they are needed.
    #[inline]
    pub(super) fn prefetch(&self) {
        prefetch::lines(ptr::from_ref(self).cast(), size_of::<Self>() / 64);
    }
}
