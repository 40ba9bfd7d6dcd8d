//! CAR, "Clock with Adaptive Replacement" (Bansal and Modha, FAST 2004), reckoned in bytes: the
//! replacement policy of one shard.
//!
//! Two clocks hold the pages: T1 those seen once of late, T2 those seen again. A hit only sets the
//! page's reference bit, which is in the page: who has it by another way sets it too. The hand of T1 moves referenced pages to T2, that of T2 spares them for a
//! round; what neither saves leaves, and its key stays behind in the ghost list B1 or B2. A miss
//! that finds its ghost in B1 says that T1 was too small, one in B2 that T2 was: the target `p` of
//! T1 follows. So pages touched once, a scan's, pass through T1 and leave T2 alone.
//!
//! Invariants (`c` the capacity, all in bytes): (1) T1 + T2 <= c; (2) T1 + B1 <= c; (3) all four
//! lists <= 2c; (4) p <= c; (5) a key is in the index if and only if it is in exactly one list;
//! (6) a node has a page if and only if it is in T1 or T2.
//!
//! Latches: none here; `get` needs shared access only, everything else exclusive.

use std::collections::{BTreeSet, HashMap};

use super::key::{Key, MixedBuild};
use super::page::PageRef;
use crate::types::SegmentId;

/// "No node" in links.
const NIL: u32 = u32::MAX;

/// The four lists; oldest at the front, where the clocks' hands are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum List {
    /// Pages seen once of late.
    T1,
    /// Pages seen more than once.
    T2,
    /// Ghosts of T1.
    B1,
    /// Ghosts of T2.
    B2,
}

use List::{B1, B2, T1, T2};

#[derive(Debug)]
struct Node {
    key: Key,
    page: Option<PageRef>,
    charge: u64,
    prev: u32,
    next: u32,
    list: List,
}

/// Front, back and sums of one list.
#[derive(Clone, Copy, Debug)]
struct Ends {
    front: u32,
    back: u32,
    bytes: u64,
    len: usize,
}

/// A page that was taken out whole.
#[derive(Debug)]
pub(super) struct Taken {
    pub key: Key,
    pub page: PageRef,
    pub charge: u64,
    pub list: List,
}

/// One shard: see the module's header.
#[derive(Debug)]
pub(super) struct Car {
    capacity: u64,
    /// The bytes that T1 should have.
    target: u64,
    index: HashMap<Key, u32, MixedBuild>,
    nodes: Vec<Node>,
    /// Nodes that are in no list.
    free: Vec<u32>,
    lists: [Ends; 4],
}

impl Car {
    pub fn new(capacity: u64) -> Self {
        Self {
            capacity,
            target: 0,
            index: HashMap::default(),
            nodes: Vec::new(),
            free: Vec::new(),
            lists: [Ends { front: NIL, back: NIL, bytes: 0, len: 0 }; 4],
        }
    }

    /// Bytes of the pages held.
    pub fn used(&self) -> u64 {
        self.bytes(T1) + self.bytes(T2)
    }

    /// Number of the pages held.
    pub fn pages(&self) -> usize {
        self.lists[T1 as usize].len + self.lists[T2 as usize].len
    }

    /// The page, which is thereby referenced.
    #[inline]
    pub fn get(&self, key: &Key) -> Option<PageRef> {
        let node = &self.nodes[*self.index.get(key)? as usize];
        let page = node.page.as_ref()?;
        page.mark_referenced();
        Some(page.clone())
    }

    /// Whether the page left, and is remembered.
    pub fn is_ghost(&self, key: &Key) -> bool {
        self.index.get(key).is_some_and(|n| self.nodes[*n as usize].page.is_none())
    }

    /// The page, without any trace.
    pub fn peek(&self, key: &Key) -> Option<PageRef> {
        self.nodes[*self.index.get(key)? as usize].page.clone()
    }

    /// Takes in a page that was missed. A page that is here already stays (they are the same), one
    /// larger than the shard is not kept. What must leave for it is put into `evicted`.
    pub fn insert(&mut self, key: Key, page: PageRef, charge: u64, evicted: &mut Vec<PageRef>) {
        if charge > self.capacity {
            return;
        }
        let ghost = self.index.get(&key).copied();
        if ghost.is_some_and(|n| self.nodes[n as usize].page.is_some()) {
            return;
        }
        while self.used() + charge > self.capacity {
            self.evict_one(evicted);
        }
        if let Some(n) = ghost {
            let was = self.nodes[n as usize].list;
            self.adapt(was, charge);
            self.unlink(n);
            page.set_referenced(false);
            let node = &mut self.nodes[n as usize];
            node.page = Some(page);
            node.charge = charge;
            self.push_back(T2, n);
        } else {
            let n = self.new_node(key, page, charge);
            self.push_back(T1, n);
        }
        self.trim_ghosts();
    }

    /// Forgets a page or its ghost.
    pub fn remove(&mut self, key: &Key) -> Option<PageRef> {
        let n = self.index.get(key).copied()?;
        self.forget(n)
    }

    /// The keys of some segments, ghosts too.
    pub fn keys_of(&self, segments: &BTreeSet<SegmentId>) -> Vec<Key> {
        self.index.keys().filter(|k| segments.contains(&k.segment)).copied().collect()
    }

    /// Lets go of pages until at least `bytes` are free that were not, or none is left.
    pub fn evict(&mut self, bytes: u64, evicted: &mut Vec<PageRef>) {
        let goal = self.used().saturating_sub(bytes);
        while self.used() > goal {
            self.evict_one(evicted);
        }
        self.trim_ghosts();
    }

    /// Changes the capacity, letting go of what no longer fits.
    pub fn set_capacity(&mut self, capacity: u64, evicted: &mut Vec<PageRef>) {
        self.capacity = capacity;
        self.target = self.target.min(capacity);
        while self.used() > self.capacity {
            self.evict_one(evicted);
        }
        self.trim_ghosts();
    }

    /// Takes everything out, pages of T2 first, of each clock the newest first; ghosts are
    /// forgotten.
    pub fn drain(&mut self) -> Vec<Taken> {
        let mut all = Vec::with_capacity(self.pages());
        for list in [T2, T1] {
            let mut n = self.lists[list as usize].back;
            while n != NIL {
                let node = &mut self.nodes[n as usize];
                let page = node.page.take().expect("nodes of T1 and T2 have pages");
                all.push(Taken { key: node.key, page, charge: node.charge, list });
                n = node.prev;
            }
        }
        *self = Self::new(self.capacity);
        all
    }

    /// Puts a page taken out of another shard behind (as older than) those that are here; gives it
    /// back when there is no room.
    pub fn restore(&mut self, taken: Taken) -> Result<(), PageRef> {
        if self.used() + taken.charge > self.capacity || self.index.contains_key(&taken.key) {
            return Err(taken.page);
        }
        let n = self.new_node(taken.key, taken.page, taken.charge);
        self.push_front(taken.list, n);
        Ok(())
    }

    /// Moves the hands until one page has left. There must be one.
    fn evict_one(&mut self, evicted: &mut Vec<PageRef>) {
        // Bits are set meanwhile, by readers that came by a slot. Once each page has been spared,
        // none is spared again.
        let mut may_spare = self.pages();
        loop {
            let t1_is_due = self.bytes(T1) >= self.target.max(1);
            let clock = if t1_is_due || self.lists[T2 as usize].front == NIL { T1 } else { T2 };
            let n = self.lists[clock as usize].front;
            assert!(n != NIL, "evicting from an empty shard");
            self.unlink(n);
            let node = &mut self.nodes[n as usize];
            let page = node.page.as_ref().expect("nodes of T1 and T2 have pages");
            if may_spare > 0 && page.is_referenced() {
                page.set_referenced(false);
                may_spare -= 1;
                self.push_back(T2, n);
                continue;
            }
            evicted.extend(node.page.take());
            self.push_back(if clock == T1 { B1 } else { B2 }, n);
            return;
        }
    }

    /// A ghost of `list` was missed: the target of T1 moves by the page's size, or by as many
    /// times that as the other ghost list is larger.
    fn adapt(&mut self, list: List, charge: u64) {
        let (mine, other) = if list == B1 { (B1, B2) } else { (B2, B1) };
        let ratio = u128::from(self.bytes(other)) / u128::from(self.bytes(mine).max(1));
        let step = u128::from(charge).saturating_mul(ratio.max(1));
        let step = u64::try_from(step).unwrap_or(u64::MAX);
        self.target = if list == B1 {
            self.target.saturating_add(step).min(self.capacity)
        } else {
            self.target.saturating_sub(step)
        };
    }

    /// Restores invariants (2) and (3).
    fn trim_ghosts(&mut self) {
        while self.bytes(T1) + self.bytes(B1) > self.capacity {
            self.forget(self.lists[B1 as usize].front);
        }
        while self.used() + self.bytes(B1) + self.bytes(B2) > 2 * self.capacity {
            // T1 + B1 <= c and T2 <= c, so there is something in B2.
            self.forget(self.lists[B2 as usize].front);
        }
    }

    fn bytes(&self, list: List) -> u64 {
        self.lists[list as usize].bytes
    }

    fn forget(&mut self, n: u32) -> Option<PageRef> {
        self.unlink(n);
        let node = &mut self.nodes[n as usize];
        let page = node.page.take();
        self.index.remove(&node.key);
        self.free.push(n);
        page
    }

    fn new_node(&mut self, key: Key, page: PageRef, charge: u64) -> u32 {
        let node = Node { key, page: Some(page), charge, prev: NIL, next: NIL, list: T1 };
        let n = if let Some(n) = self.free.pop() {
            self.nodes[n as usize] = node;
            n
        } else {
            let n = u32::try_from(self.nodes.len()).expect("a shard has under 2^32 pages");
            self.nodes.push(node);
            n
        };
        self.index.insert(key, n);
        n
    }

    fn unlink(&mut self, n: u32) {
        let node = &self.nodes[n as usize];
        let (prev, next, list, charge) = (node.prev, node.next, node.list, node.charge);
        let ends = &mut self.lists[list as usize];
        ends.bytes -= charge;
        ends.len -= 1;
        if prev == NIL {
            ends.front = next;
        } else {
            self.nodes[prev as usize].next = next;
        }
        let ends = &mut self.lists[list as usize];
        if next == NIL {
            ends.back = prev;
        } else {
            self.nodes[next as usize].prev = prev;
        }
    }

    /// Links a node that is in no list as the newest.
    fn push_back(&mut self, list: List, n: u32) {
        let ends = &mut self.lists[list as usize];
        let node = &mut self.nodes[n as usize];
        (node.list, node.prev, node.next) = (list, ends.back, NIL);
        ends.bytes += node.charge;
        ends.len += 1;
        let back = std::mem::replace(&mut ends.back, n);
        if back == NIL {
            ends.front = n;
        } else {
            self.nodes[back as usize].next = n;
        }
    }

    /// Links a node that is in no list as the oldest.
    fn push_front(&mut self, list: List, n: u32) {
        let ends = &mut self.lists[list as usize];
        let node = &mut self.nodes[n as usize];
        (node.list, node.prev, node.next) = (list, NIL, ends.front);
        ends.bytes += node.charge;
        ends.len += 1;
        let front = std::mem::replace(&mut ends.front, n);
        if front == NIL {
            ends.back = n;
        } else {
            self.nodes[front as usize].prev = n;
        }
    }

    /// Panics unless all the invariants of the header hold.
    #[cfg(test)]
    pub fn check(&self) {
        let c = self.capacity;
        let mut total = 0;
        for list in [T1, T2, B1, B2] {
            let ends = self.lists[list as usize];
            let (mut n, mut prev, mut bytes, mut len) = (ends.front, NIL, 0, 0);
            while n != NIL {
                let node = &self.nodes[n as usize];
                assert_eq!((node.list, node.prev), (list, prev));
                assert_eq!(node.page.is_some(), matches!(list, T1 | T2));
                assert_eq!(self.index.get(&node.key), Some(&n));
                bytes += node.charge;
                len += 1;
                (prev, n) = (n, node.next);
            }
            assert_eq!((ends.back, ends.bytes, ends.len), (prev, bytes, len));
            total += len;
        }
        assert_eq!(self.index.len(), total);
        assert_eq!(self.nodes.len(), total + self.free.len());
        assert!(self.used() <= c);
        assert!(self.bytes(T1) + self.bytes(B1) <= c);
        assert!(self.used() + self.bytes(B1) + self.bytes(B2) <= 2 * c);
        assert!(self.target <= c);
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::cache::Page;
    use crate::page::PageType;
    use crate::sync::Arc;

    struct Driver {
        car: Car,
        evicted: Vec<PageRef>,
    }

    impl Driver {
        fn new(capacity: u64) -> Self {
            Self { car: Car::new(capacity), evicted: Vec::new() }
        }

        fn access(&mut self, offset: u64, charge: u64) -> bool {
            let key = Key { segment: SegmentId(1), offset };
            let hit = self.car.get(&key).is_some();
            if !hit {
                let page = Arc::new(Page::new(PageType::Leaf, Vec::new()));
                self.car.insert(key, page, charge, &mut self.evicted);
            }
            self.car.check();
            hit
        }

        fn list(&self, offset: u64) -> Option<List> {
            let n = self.car.index.get(&Key { segment: SegmentId(1), offset })?;
            Some(self.car.nodes[*n as usize].list)
        }
    }

    #[test]
    fn pages_walk_through_the_lists_as_in_the_paper() {
        let mut d = Driver::new(3);
        for offset in [1, 2, 3] {
            assert!(!d.access(offset, 1));
        }
        assert!(d.access(1, 1), "a hit leaves it where it is");
        assert_eq!(d.list(1), Some(T1));
        d.access(4, 1); // the hand passes 1 (referenced, to T2) and takes 2
        assert_eq!(
            [d.list(1), d.list(2), d.list(3), d.list(4)].map(Option::unwrap),
            [T2, B1, T1, T1]
        );
        assert_eq!(d.car.target, 0);
        assert!(!d.access(2, 1), "a ghost is a miss"); // 3 leaves for it
        assert_eq!((d.list(2), d.list(3), d.car.target), (Some(T2), Some(B1), 1));
        // T1 = {4} is at its target: 5 pushes it out.
        d.access(5, 1);
        assert_eq!((d.list(4), d.list(5)), (Some(B1), Some(T1)));
        assert_eq!(d.evicted.len(), 3);
    }

    #[test]
    fn a_ghost_of_t2_takes_the_target_back() {
        let mut d = Driver::new(2);
        d.access(1, 1);
        d.access(1, 1);
        d.access(2, 1);
        d.access(3, 1); // 1 to T2, 2 leaves
        d.access(2, 1); // 3 leaves; target 1
        assert_eq!((d.list(1), d.list(2), d.car.target), (Some(T2), Some(T2), 1));
        d.access(4, 1); // T1 is below its target: T2 gives 1
        assert_eq!((d.list(1), d.list(4)), (Some(B2), Some(T1)));
        d.access(1, 1);
        assert_eq!((d.list(1), d.car.target), (Some(T2), 0));
    }

    #[test]
    fn random_sizes_keep_every_invariant() {
        let mut rng = fastrand::Rng::with_seed(1);
        for capacity in [0, 1, 7, 100, 5000] {
            let mut d = Driver::new(capacity);
            let mut sizes = HashMap::new();
            for _ in 0..4000 {
                let offset = rng.u64(..400);
                match rng.u8(..100) {
                    0 => d.car.evict(rng.u64(..=capacity), &mut d.evicted),
                    1 => d.car.set_capacity(rng.u64(..=capacity * 2), &mut d.evicted),
                    2..6 => drop(d.car.remove(&Key { segment: SegmentId(1), offset })),
                    _ => {
                        // Now and then a page changes its size: it must not confuse the sums.
                        let size = *sizes.entry(offset).or_insert_with(|| rng.u64(1..300));
                        let size = if rng.u8(..50) == 0 { rng.u64(1..300) } else { size };
                        d.access(offset, size);
                    }
                }
                d.car.check();
                d.evicted.clear();
            }
        }
    }

    #[test]
    fn what_is_drained_can_be_restored_in_order() {
        let mut d = Driver::new(10);
        for offset in 1..=10 {
            d.access(offset, 1);
        }
        for offset in [1, 2, 3] {
            d.access(offset, 1);
        }
        d.access(11, 1); // 1, 2, 3 to T2; 4 leaves
        let taken = d.car.drain();
        d.car.check();
        assert_eq!((taken.len(), d.car.pages()), (10, 0));
        d.car.set_capacity(5, &mut d.evicted);
        let lost = taken.into_iter().filter_map(|t| d.car.restore(t).err()).count();
        d.car.check();
        assert_eq!(lost, 5);
        let kept: Vec<u64> = (1..=11).filter(|o| d.list(*o).is_some()).collect();
        assert_eq!(kept, [1, 2, 3, 10, 11], "often used and newest pages stay");
        d.access(12, 1);
        assert_eq!(d.list(10), Some(B1), "the oldest of T1 left first");
    }
}
