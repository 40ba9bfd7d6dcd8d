//! The tree over a memtable's keys: one writer, readers without latches.
//!
//! A B+Tree of small nodes. An insertion fills a free slot of a leaf and publishes it by one store
//! of the leaf's order word. A full node is never changed: two new nodes take over its entries and
//! half its range each, and the nodes above are treated alike up to one with a free slot, where
//! one store (or a new root) makes all of it visible at once. The full node stays as it was, for
//! readers that are in it.
//!
//! What a reader finds. Let a search begin at time T. Every node it reaches was part of the tree
//! at T or later, because the pointer to it was loaded after T; if the node has been replaced
//! since, it holds what it held then. So everything inserted before T is found; what is inserted
//! later may or may not be.
//!
//! Invariants: 1. those of `node`. 2. nothing is published before all memory for it was had: an
//! insertion that fails has changed nothing.

use std::ptr::{self, NonNull};

use crate::error::Result;
use crate::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use crate::sync::{Arc, Mutex};
use crate::types::{Entry, Seq};

use super::arena::Arena;
use super::entry::{EntryRef, Header};
use super::node::{Held, Item, Node, Range};
use super::order::{Order, SLOTS};
use super::spare::SpareChunks;

/// The tree and the memory it lies in.
pub(super) struct Index {
    /// Null until the first insertion.
    root: AtomicPtr<Node>,
    held_bytes: AtomicUsize,
    writer: Mutex<Writer>,
    /// The arena's too; here for who does not write.
    spare: Arc<SpareChunks>,
}

struct Writer {
    arena: Arena,
    /// The inner nodes above the leaf at hand, each with the rank of the child on the way.
    path: Vec<(NonNull<Node>, usize)>,
    /// The last leaf of all and its last key, where the last insertion there was at its end:
    /// ascending keys need no search.
    end: Option<(NonNull<Node>, NonNull<Header>)>,
}

// SAFETY: the pointers lead into `arena`, which goes along; nodes and entries are shared between
// threads as `node` and `entry` say.
unsafe impl Send for Writer {}

/// What an insertion did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Inserted {
    /// The key was not there.
    Key,
    /// An older version of the key was there.
    Version,
    /// It took the place of an entry with the same key and seq.
    Replacement,
}

/// Where a key stands: a leaf as it was when it was looked at, and a rank in it.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) leaf: &'a Node,
    pub(super) order: Order,
    pub(super) rank: usize,
}

impl<'a> Place<'a> {
    /// The newest version of the key.
    #[inline]
    pub(super) fn newest(self) -> EntryRef<'a> {
        self.leaf.entry(self.order.slot(self.rank))
    }
}

#[allow(clippy::unused_self)] // `&self` says how long what is returned lives
impl Index {
    /// An empty tree, which holds no memory, and leaves none.
    pub(super) fn new() -> Self {
        Self::over(Arc::default())
    }

    /// As [`new`](Self::new), with memory from where this one has it.
    pub(super) fn following(&self) -> Self {
        Self::over(Arc::clone(&self.spare))
    }

    /// As [`new`](Self::new), with memory from `spare`, where it leaves its own.
    pub(super) fn over(spare: Arc<SpareChunks>) -> Self {
        let arena = Arena::new(Arc::clone(&spare));
        let writer = Writer { arena, path: Vec::new(), end: None };
        Self {
            root: AtomicPtr::new(ptr::null_mut()),
            held_bytes: AtomicUsize::new(0),
            writer: Mutex::new(writer),
            spare,
        }
    }

    /// Bytes of memory held.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }

    #[inline]
    fn root(&self) -> Option<&Node> {
        let root = self.root.load(Ordering::Acquire);
        // SAFETY: null, or a node of the arena, which drops with `self`; nodes are only shared.
        unsafe { root.as_ref() }
    }

    /// The newest version of `key`.
    #[inline]
    pub(super) fn newest(&self, key: &[u8]) -> Option<EntryRef<'_>> {
        let mut node = self.root()?;
        while node.level() > 0 {
            node = node.look(|children| children.at(children.rank_for(key)));
            node.prefetch();
        }
        node.find(node.order(), key).1
    }

    /// The first key at or above `key`, or above it if `strictly`.
    pub(super) fn at_or_after(&self, key: &[u8], strictly: bool) -> Option<Place<'_>> {
        let mut node = self.root()?;
        let mut right = None;
        while node.level() > 0 {
            let (child, next) = node.look(|children| {
                let rank = children.rank_for(key);
                let next = (rank + 1 < children.len()).then(|| children.at(rank + 1));
                (children.at(rank), next)
            });
            child.prefetch();
            right = next.or(right);
            node = child;
        }
        let order = node.order();
        let (rank, found) = node.find(order, key);
        let rank = rank + usize::from(strictly && found.is_some());
        if rank < order.len() {
            return Some(Place { leaf: node, order, rank });
        }
        right.map(first_below)
    }

    /// The last key below `key`.
    pub(super) fn before(&self, key: &[u8]) -> Option<Place<'_>> {
        let mut node = self.root()?;
        loop {
            let mut left = None;
            while node.level() > 0 {
                let (child, previous) = node.look(|children| {
                    let rank = children.rank_for(key);
                    (children.at(rank), rank.checked_sub(1).map(|r| children.at(r)))
                });
                child.prefetch();
                left = previous.or(left);
                node = child;
            }
            let order = node.order();
            let rank = node.find(order, key).0;
            if rank > 0 {
                return Some(Place { leaf: node, order, rank: rank - 1 });
            }
            let left: &Node = left?;
            if left.range().high.is_some_and(|high| high.key() <= key) {
                return Some(last_below(left));
            }
            // It still is the node of which it and its neighbour to the right are made, since that one comes
            // into the order first: the key lies in its range.
            node = left;
        }
    }

    /// The first key.
    pub(super) fn first(&self) -> Option<Place<'_>> {
        self.root().map(first_below)
    }

    /// The last key.
    pub(super) fn last(&self) -> Option<Place<'_>> {
        self.root().map(last_below)
    }

    /// Inserts a version of `key` on top of those that are there; `seq` is not below theirs.
    /// Before an entry of a new key is published, `before_new_key` is called.
    ///
    /// Panics when another insertion is going on.
    pub(super) fn insert(
        &self,
        key: &[u8],
        seq: Seq,
        value: &Entry<'_>,
        before_new_key: impl FnOnce(),
    ) -> Result<Inserted> {
        let mut guard = self.writer.try_lock().expect("one thread at a time writes to a memtable");
        let result = self.insert_locked(&mut guard, key, seq, value, before_new_key);
        self.held_bytes.store(guard.arena.held_bytes(), Ordering::Relaxed);
        result
    }

    fn insert_locked(
        &self,
        writer: &mut Writer,
        key: &[u8],
        seq: Seq,
        value: &Entry<'_>,
        before_new_key: impl FnOnce(),
    ) -> Result<Inserted> {
        let Some(root) = self.root() else {
            let entry = self.write_entry(writer, key, seq, value, None)?;
            let everything = Range { low: None, high: None };
            let leaf = self.write_node(
                writer,
                Node::new(everything, &[Held::new(Item::Entry(entry), 0)], 0),
            )?;
            before_new_key();
            self.root.store(ptr::from_ref(leaf).cast_mut(), Ordering::Release);
            return Ok(Inserted::Key);
        };

        let (leaf, rank, found) = match self.end_leaf(writer, key) {
            Some(leaf) => (leaf, leaf.order().len(), None),
            None => {
                writer.path.clear();
                let mut node = root;
                while node.level() > 0 {
                    let (rank, child) = node.look(|children| {
                        let rank = children.rank_for(key);
                        (rank, children.at(rank))
                    });
                    child.prefetch();
                    writer.path.push((NonNull::from(node), rank));
                    node = child;
                }
                let (rank, found) = node.find(node.order(), key);
                (node, rank, found)
            }
        };

        if let Some(newest) = found {
            assert!(newest.seq() <= seq, "versions of a key are inserted in the order of commits");
            let replaced = newest.seq() == seq;
            let older = if replaced { newest.older() } else { Some(newest) };
            let entry = self.write_entry(writer, key, seq, value, older)?;
            leaf.set_entry(rank, entry);
            return Ok(if replaced { Inserted::Replacement } else { Inserted::Version });
        }

        let entry = self.write_entry(writer, key, seq, value, None)?;
        let len = leaf.order().len();
        if len == SLOTS {
            self.split(writer, leaf, rank, entry, before_new_key)?;
        } else {
            before_new_key();
            leaf.add(rank, Item::Entry(entry));
            if rank == len && leaf.range().high.is_none() {
                writer.end = Some((NonNull::from(leaf), entry.as_ptr()));
            }
        }
        Ok(Inserted::Key)
    }

    /// The last leaf, if `key` comes behind all others and the leaf has a free slot.
    #[inline]
    fn end_leaf(&self, writer: &Writer, key: &[u8]) -> Option<&Node> {
        let (leaf, last) = writer.end?;
        // SAFETY: an entry of this arena.
        let last = unsafe { EntryRef::from_ptr(last) };
        if last.cmp_key(key).is_ge() {
            return None;
        }
        // SAFETY: a node of this arena. It is the live last leaf: a split of it resets `end`.
        let leaf = unsafe { leaf.as_ref() };
        (leaf.order().len() < SLOTS).then_some(leaf)
    }

    /// Replaces the full `leaf` by two that also hold `entry`, which belongs at `rank`. The path
    /// leads to the leaf.
    fn split(
        &self,
        writer: &mut Writer,
        leaf: &Node,
        mut rank: usize,
        entry: EntryRef<'_>,
        before_new_key: impl FnOnce(),
    ) -> Result<()> {
        let mut node = leaf;
        let mut items = [Held::new(Item::Entry(entry), leaf.head_at()); SLOTS + 1];
        for (i, item) in leaf.items().enumerate() {
            items[i + usize::from(i >= rank)] = item;
        }
        loop {
            // Keys that come in order leave full nodes behind them.
            let Range { low, high } = node.range();
            let cut = match rank {
                SLOTS if high.is_none() => SLOTS,
                0 if low.is_none() => 1,
                _ => SLOTS.div_ceil(2),
            };
            let middle = Some(items[cut].item.low_entry());
            let lower = Node::new(Range { low, high: middle }, &items[..cut], node.head_at());
            let upper = Node::new(Range { low: middle, high }, &items[cut..], node.head_at());
            let lower = self.write_node(writer, lower)?;
            let upper = self.write_node(writer, upper)?;
            let Some((parent, child_rank)) = writer.path.pop() else {
                let both = [lower, upper].map(|n| Held::new(Item::Child(n), 0));
                let root = self.write_node(writer, Node::new(node.range(), &both, 0))?;
                before_new_key();
                self.root.store(ptr::from_ref(root).cast_mut(), Ordering::Release);
                break;
            };
            // SAFETY: a node of this arena, put on the path by this insertion.
            let parent: &Node = unsafe { parent.as_ref() };
            if parent.order().len() < SLOTS {
                before_new_key();
                parent.replace_child(child_rank, lower, upper);
                break;
            }
            for (i, item) in parent.items().enumerate() {
                items[i + usize::from(i > child_rank)] = item;
            }
            items[child_rank] = Held::new(Item::Child(lower), parent.head_at());
            items[child_rank + 1] = Held::new(Item::Child(upper), parent.head_at());
            rank = child_rank + 1;
            node = parent;
        }
        if leaf.range().high.is_none() {
            writer.end = None;
        }
        Ok(())
    }

    /// Lets insertions fail that ask for more pieces of memory.
    #[cfg(test)]
    pub(super) fn limit_pieces(&self, pieces: usize) {
        self.writer.lock().arena.pieces_left = pieces;
    }

    fn write_entry<'a>(
        &'a self,
        writer: &mut Writer,
        key: &[u8],
        seq: Seq,
        value: &Entry<'_>,
        older: Option<EntryRef<'a>>,
    ) -> Result<EntryRef<'a>> {
        let space = writer.arena.entry_space(EntryRef::size(key, value, older.is_some()))?;
        // SAFETY: the space has that size and alignment, is nobody else's, and lives as long as
        // `self`; `older` is of the same tree.
        Ok(unsafe { EntryRef::write(space, key, seq, value, older) })
    }

    fn write_node(&self, writer: &mut Writer, node: Node) -> Result<&Node> {
        let space = writer.arena.node_space::<Node>()?;
        // SAFETY: the space is for a `Node`, and nobody else's.
        unsafe { space.write(node) };
        // SAFETY: just written; only shared from now on; lives as long as `self`.
        Ok(unsafe { space.as_ref() })
    }
}

/// The first key below `node`.
fn first_below(mut node: &Node) -> Place<'_> {
    while node.level() > 0 {
        node = node.look(|children| children.at(0));
    }
    Place { leaf: node, order: node.order(), rank: 0 }
}

/// The last key below `node`.
fn last_below(mut node: &Node) -> Place<'_> {
    while node.level() > 0 {
        node = node.look(|children| children.at(children.len() - 1));
    }
    let order = node.order();
    Place { leaf: node, order, rank: order.len() - 1 }
}
