//! The publication protocol of `node` and `index` in small, under every schedule: a leaf's slots
//! published by its order word, a full leaf replaced by two below an inner node, a newer version
//! laid upon a slot, and the root: first none, then a leaf, then a node above it.
//!
//! The model keeps the stores, the loads and their orderings; keys are numbers, order words are
//! counts (those of a node only grow, as the real ones do), nodes are never more than three.
//! Run by `.ci/models`.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};

#[derive(Default)]
struct Leaf {
    order: AtomicUsize,
    /// Written without an atomic: what an entry's bytes are.
    entries: [UnsafeCell<usize>; 3],
}

impl Leaf {
    fn add(&self, key: usize) {
        let len = self.order.load(Ordering::Relaxed);
        self.entries[len].with_mut(|entry| {
            // SAFETY: no reader looks at a slot before the order names it; the model checks that.
            unsafe { *entry = key }
        });
        self.order.store(len + 1, Ordering::Release);
    }

    fn holds(&self, key: usize) -> bool {
        let len = self.order.load(Ordering::Acquire);
        // SAFETY: named slots are never written again; the model checks that.
        (0..len).any(|slot| self.entries[slot].with(|entry| unsafe { *entry } == key))
    }
}

/// An inner node over leaves: at first leaf 0 alone, then leaf 1 below `cut` and leaf 2 from it on.
struct Tree {
    order: AtomicUsize,
    lows: [AtomicUsize; 2],
    children: [AtomicUsize; 2],
    leaves: [Leaf; 3],
    published: AtomicUsize,
}

impl Tree {
    fn new() -> Self {
        let tree = Self {
            order: AtomicUsize::new(1),
            lows: Default::default(),
            children: Default::default(),
            leaves: Default::default(),
            published: AtomicUsize::new(2),
        };
        tree.leaves[0].add(1);
        tree.leaves[0].add(2);
        tree
    }

    fn split_then_add_3(&self) {
        self.leaves[1].add(1);
        self.leaves[2].add(2);
        self.lows[1].store(2, Ordering::Relaxed);
        self.children[1].store(2, Ordering::Relaxed);
        self.order.store(2, Ordering::Release);
        self.children[0].store(1, Ordering::Release);
        self.leaves[2].add(3);
        self.published.store(3, Ordering::Release);
    }

    fn leaf_for(&self, key: usize, look_again: bool) -> &Leaf {
        loop {
            let order = self.order.load(Ordering::Acquire);
            let rank = (0..order).rfind(|r| self.lows[*r].load(Ordering::Relaxed) <= key);
            let slot = rank.expect("the first leaf has no lower end");
            let child = self.children[slot].load(Ordering::Acquire);
            if !look_again || self.order.load(Ordering::Relaxed) == order {
                return &self.leaves[child];
            }
        }
    }
}

fn published_keys_are_found(look_again: bool) {
    let model = loom::model::Builder::new();
    crate::sync::counted(model, "publication", move || {
        let tree = Arc::new(Tree::new());
        let writer = loom::thread::spawn({
            let tree = Arc::clone(&tree);
            move || tree.split_then_add_3()
        });
        for key in 2..=tree.published.load(Ordering::Acquire) {
            assert!(tree.leaf_for(key, look_again).holds(key), "key {key} was published");
        }
        writer.join().expect("the writer does not panic");
        for key in 1..=3 {
            assert!(tree.leaf_for(key, look_again).holds(key));
        }
    });
}

#[test]
fn publication_is_complete() {
    published_keys_are_found(true);
}

#[test]
#[should_panic(expected = "was published")]
fn publication_needs_the_second_look() {
    published_keys_are_found(false);
}

/// A pointer that readers follow, and what it leads to, each written before the pointer is stored:
/// a slot with the versions of its key (`Node::set_entry`), or the root with the nodes that were it
/// (`Index::insert`, `Index::split`).
#[derive(Default)]
struct Pointer {
    /// 0: null.
    to: AtomicUsize,
    targets: [UnsafeCell<usize>; 2],
    published: AtomicUsize,
}

impl Pointer {
    fn lead_to(&self, n: usize, order: Ordering) {
        self.targets[n - 1].with_mut(|target| {
            // SAFETY: no reader comes here before the pointer leads here; the model checks that.
            unsafe { *target = 10 * n }
        });
        self.to.store(n, order);
        self.published.store(n, Ordering::Release);
    }
}

fn what_a_pointer_leads_to_is_whole(order: Ordering) {
    let model = loom::model::Builder::new();
    crate::sync::counted(model, "pointers", move || {
        let pointer = Arc::new(Pointer::default());
        let writer = loom::thread::spawn({
            let pointer = Arc::clone(&pointer);
            move || (1..=2).for_each(|n| pointer.lead_to(n, order))
        });
        let mut before = 0;
        for _ in 0..2 {
            let least = pointer.published.load(Ordering::Acquire);
            let n = pointer.to.load(Ordering::Acquire);
            assert!(n >= least.max(before), "what was published is found");
            before = n;
            if n > 0 {
                // SAFETY: what the pointer leads to is never written again; the model checks that.
                assert_eq!(pointer.targets[n - 1].with(|target| unsafe { *target }), 10 * n);
            }
        }
        writer.join().expect("the writer does not panic");
    });
}

#[test]
fn versions_and_roots_are_published_whole() {
    what_a_pointer_leads_to_is_whole(Ordering::Release);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn versions_and_roots_need_a_release() {
    what_a_pointer_leads_to_is_whole(Ordering::Relaxed);
}
