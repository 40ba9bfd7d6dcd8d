//! The page cache: opened pages by segment and offset, within a budget of bytes.
//!
//! It is cut into shards by the key's hash, each a [`Car`] of its own with its part of the
//! capacity. Invariants: (1) `used_bytes` never passes the capacity, once `set_capacity` has
//! returned (pages larger than a shard are not kept); (2) `hits + misses` is the number of `get`s that returned; (3) a page is only in the
//! shard that its hash names for the present number of shards.
//!
//! Threads: all. A hit takes its shard's latch shared and sets a bit; inserting takes it
//! exclusively. `sizing` is taken before any shard's latch by those that visit all shards; who
//! changes the number of shards holds `sizing` and all latches, taken in order. Pages are dropped
//! after the latches.

use std::collections::BTreeSet;
use std::fmt;

use crate::page::PageType;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mutex, RwLock};
use crate::types::SegmentId;

use super::car::Car;
use super::key::Key;
use super::page::{Page, PageRef, PageSlot};
use super::seen::Seen;

/// What a cached page is taken to need beside its bytes: its nodes, index entries, reference
/// counts, and the ghost that it leaves.
pub const PAGE_OVERHEAD_BYTES: u64 = 256;

/// A shard has at least this much, so that pages fit and the policy has something to choose from.
const MIN_SHARD_BYTES: u64 = 4 * 1024 * 1024;
/// A shard should have room for so many pages at least.
const PAGES_IN_A_SHARD: u64 = 8;
/// The most shards.
const MAX_SHARDS: usize = 64;

/// Counters of a [`PageCache`], summed over its shards.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CacheStats {
    /// Gets that found their page.
    pub hits: u64,
    /// Gets that did not.
    pub misses: u64,
    /// Pages that left for want of room or by [`PageCache::evict`]; not those of removed segments.
    pub evictions: u64,
    /// Bytes held, [`PAGE_OVERHEAD_BYTES`] a page included.
    pub used_bytes: u64,
    /// Bytes that may be held.
    pub capacity_bytes: u64,
    /// Pages held.
    pub pages: u64,
}

/// Shards lie on cache lines of their own.
#[repr(align(128))]
struct Shard {
    car: RwLock<Car>,
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: AtomicU64,
    /// `car.used()`, to be summed without latches; written under the exclusive latch.
    used: AtomicU64,
}

/// See the module's header.
pub struct PageCache {
    shards: Box<[Shard]>,
    /// How many of the shards are in use: a power of two.
    active: AtomicUsize,
    capacity: AtomicU64,
    sizing: Mutex<()>,
    seen: Seen,
    /// Pages found by their parents' slots; striped, so that threads seldom meet.
    slot_hits: [Count; 16],
}

#[derive(Default)]
#[repr(align(64))]
struct Count(AtomicU64);

impl PageCache {
    /// An empty cache of `capacity_bytes`; with 0 it never holds anything.
    pub fn new(capacity_bytes: u64) -> Self {
        let shards = (0..MAX_SHARDS)
            .map(|_| Shard {
                car: RwLock::new(Car::new(0)),
                hits: AtomicU64::new(0),
                misses: AtomicU64::new(0),
                evictions: AtomicU64::new(0),
                used: AtomicU64::new(0),
            })
            .collect();
        let cache = Self {
            shards,
            active: AtomicUsize::new(1),
            capacity: AtomicU64::new(0),
            sizing: Mutex::new(()),
            seen: Seen::new(capacity_bytes),
            slot_hits: Default::default(),
        };
        cache.set_capacity(capacity_bytes);
        cache
    }

    /// The page, if it is held; counted as a hit or a miss.
    #[inline]
    pub fn get(&self, segment: SegmentId, offset: u64) -> Option<PageRef> {
        let key = Key { segment, offset };
        // While the number of shards changes this may be the wrong one, which has no such page:
        // a miss then, though the page may be held.
        let shard = self.shard(key, self.active.load(Ordering::Acquire));
        let found = shard.car.read().get(&key);
        let counter = if found.is_some() { &shard.hits } else { &shard.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// The page that a slot has, if it does; counted as a hit then, and not at all otherwise.
    #[inline]
    pub fn get_by(&self, slot: &PageSlot) -> Option<PageRef> {
        let page = slot.get()?;
        page.mark_referenced();
        let stripe = std::ptr::from_ref(&*page).addr() / 64 % self.slot_hits.len();
        self.slot_hits[stripe].0.fetch_add(1, Ordering::Relaxed);
        Some(page)
    }

    /// The page, if it is held; not counted, and no sign that it is of use: for reads that say
    /// nothing about those to come.
    pub fn peek(&self, segment: SegmentId, offset: u64) -> Option<PageRef> {
        let key = Key { segment, offset };
        let shard = self.shard(key, self.active.load(Ordering::Acquire));
        shard.car.read().peek(&key)
    }

    /// Takes in a page that was missed, evicting others for it. If it is there already, that one
    /// stays; if it is larger than a shard, it is not kept.
    pub fn insert(&self, segment: SegmentId, offset: u64, page: PageRef) {
        let key = Key { segment, offset };
        let charge = charge(&page);
        let mut evicted = Vec::new(); // before the latch: dropped after it
        loop {
            let active = self.active.load(Ordering::Acquire);
            let shard = self.shard(key, active);
            let mut car = shard.car.write();
            // Cannot change while we hold a latch. Were it another shard's page by now, nobody
            // would find it here.
            if self.active.load(Ordering::Acquire) == active {
                car.insert(key, page, charge, &mut evicted);
                shard.account(&car, &evicted);
                return;
            }
        }
    }

    /// Whether a large value that was missed is worth its room: while there is plenty of that, and then
    /// where it was missed before, or had to leave not long ago.
    pub fn wants_large(&self, segment: SegmentId, offset: u64) -> bool {
        let key = Key { segment, offset };
        let active = self.active.load(Ordering::Acquire);
        let share = self.capacity_bytes() / active as u64;
        let shard = self.shard(key, active);
        let used = shard.used.load(Ordering::Relaxed);
        used < share - share / 8 || shard.car.read().is_ghost(&key) || self.seen.note(key)
    }

    /// Drops the pages of segments that nobody should need any more. A reader of an old view may
    /// bring one back; it then leaves as others do. Looks at every page held, once for all segments.
    pub fn remove_segments(&self, segments: &[SegmentId]) {
        if segments.is_empty() {
            return;
        }
        let segments: BTreeSet<SegmentId> = segments.iter().copied().collect();
        let _sizing = self.sizing.lock();
        for shard in self.active_shards() {
            let keys = shard.car.read().keys_of(&segments);
            if keys.is_empty() {
                continue;
            }
            let mut removed = Vec::with_capacity(keys.len());
            let mut car = shard.car.write();
            removed.extend(keys.iter().map(|key| car.remove(key)));
            shard.account(&car, &[]);
        }
    }

    /// Changes the capacity. Pages that no longer fit are evicted, those used least first; gets
    /// and inserts wait for that only when the number of shards changes with it.
    pub fn set_capacity(&self, capacity_bytes: u64) {
        let mut evicted = Vec::new();
        let _sizing = self.sizing.lock();
        let count = shards_for(capacity_bytes);
        self.capacity.store(capacity_bytes, Ordering::Relaxed);
        if count == self.active.load(Ordering::Acquire) {
            for (i, shard) in self.active_shards().iter().enumerate() {
                let mut car = shard.car.write();
                let before = evicted.len();
                car.set_capacity(share(capacity_bytes, count, i), &mut evicted);
                shard.account(&car, &evicted[before..]);
            }
            return;
        }
        let mut cars: Vec<_> = self.shards.iter().map(|s| s.car.write()).collect();
        let taken: Vec<_> = cars.iter_mut().map(|car| car.drain()).collect();
        for (i, car) in cars.iter_mut().enumerate() {
            let part = if i < count { share(capacity_bytes, count, i) } else { 0 };
            car.set_capacity(part, &mut evicted);
        }
        self.active.store(count, Ordering::Release);
        // By turns, so that when shards become one each keeps its newest, not the first its all.
        let mut queues: Vec<_> = taken.into_iter().map(Vec::into_iter).collect();
        loop {
            let mut none_left = true;
            for page in queues.iter_mut().filter_map(Iterator::next) {
                none_left = false;
                let to = index_of(page.key, count);
                if let Err(page) = cars[to].restore(page) {
                    evicted.push(page);
                    self.shards[to].evictions.fetch_add(1, Ordering::Relaxed);
                }
            }
            if none_left {
                break;
            }
        }
        for (shard, car) in self.shards.iter().zip(&cars) {
            shard.account(car, &[]);
        }
    }

    /// Evicts that part (0 to 1) of the bytes held, those used least first, and returns how many
    /// bytes that was.
    pub fn evict(&self, fraction: f64) -> u64 {
        let mut evicted = Vec::new();
        let _sizing = self.sizing.lock();
        let mut freed = 0;
        for shard in self.active_shards() {
            let mut car = shard.car.write();
            let (used, before) = (car.used(), evicted.len());
            car.evict((used as f64 * fraction.clamp(0.0, 1.0)).ceil() as u64, &mut evicted);
            shard.account(&car, &evicted[before..]);
            freed += used - car.used();
        }
        freed
    }

    /// Bytes held, [`PAGE_OVERHEAD_BYTES`] a page included.
    #[cfg(test)]
    pub fn used_bytes(&self) -> u64 {
        self.shards.iter().map(|s| s.used.load(Ordering::Relaxed)).sum()
    }

    /// Bytes that may be held.
    pub fn capacity_bytes(&self) -> u64 {
        self.capacity.load(Ordering::Relaxed)
    }

    /// The most bytes that one page should have: of more, a shard would hold too few to choose among.
    pub fn most_page_bytes(&self) -> u64 {
        let shard = self.capacity_bytes() / shards_for(self.capacity_bytes()) as u64;
        (shard / PAGES_IN_A_SHARD).saturating_sub(PAGE_OVERHEAD_BYTES)
    }

    /// The counters. Each is true; together they are no snapshot while others use the cache.
    pub fn stats(&self) -> CacheStats {
        let mut stats = CacheStats { capacity_bytes: self.capacity_bytes(), ..Default::default() };
        stats.hits = self.slot_hits.iter().map(|count| count.0.load(Ordering::Relaxed)).sum();
        for shard in &self.shards {
            stats.hits += shard.hits.load(Ordering::Relaxed);
            stats.misses += shard.misses.load(Ordering::Relaxed);
            stats.evictions += shard.evictions.load(Ordering::Relaxed);
            stats.used_bytes += shard.used.load(Ordering::Relaxed);
            stats.pages += shard.car.read().pages() as u64;
        }
        stats
    }

    fn shard(&self, key: Key, active: usize) -> &Shard {
        &self.shards[index_of(key, active)]
    }

    /// Those in use; call with `sizing` held.
    fn active_shards(&self) -> &[Shard] {
        &self.shards[..self.active.load(Ordering::Acquire)]
    }
}

impl Shard {
    /// Brings the counters up to date after a change; `car` is ours, latched exclusively.
    fn account(&self, car: &Car, evicted: &[PageRef]) {
        self.used.store(car.used(), Ordering::Relaxed);
        if !evicted.is_empty() {
            self.evictions.fetch_add(evicted.len() as u64, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for PageCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageCache").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

fn charge(page: &Page) -> u64 {
    let bytes = page.bytes.capacity() as u64;
    // A slot for each child, of which none takes less than 84 bytes.
    let slots = if page.ty == PageType::Inner { bytes / 5 } else { 0 };
    bytes + slots + PAGE_OVERHEAD_BYTES
}

/// The shard of a key; the map inside uses the hash's lowest and highest bits, this those between.
fn index_of(key: Key, shards: usize) -> usize {
    (key.hash64() >> 40) as usize & (shards - 1)
}

/// How many shards a capacity is cut into: a power of two.
fn shards_for(capacity: u64) -> usize {
    let n = (capacity / MIN_SHARD_BYTES).clamp(1, MAX_SHARDS as u64);
    1 << n.ilog2()
}

/// Shard `i`'s part of the capacity.
fn share(capacity: u64, shards: usize, i: usize) -> u64 {
    let (shards, i) = (shards as u64, i as u64);
    capacity / shards + u64::from(i < capacity % shards)
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

/// Schedules of the latches; see `schedules`.
///
/// Seen to fail when `insert` does not look at the number of shards again under the latch.
#[cfg(all(test, shuttle))]
mod schedules {
    use super::*;
    use crate::sync::Arc;
    use crate::sync::thread;

    fn resize_among_users(name: &str, from_shards: u64, to_shards: u64) {
        let model = move || {
            let cache = Arc::new(PageCache::new(from_shards * MIN_SHARD_BYTES));
            let page = |n: usize| Arc::new(Page::new(PageType::Leaf, vec![0; n]));
            let users: Vec<_> = (1..=2)
                .map(|user| {
                    let cache = cache.clone();
                    thread::spawn(move || {
                        for offset in 0..4 {
                            // Its own pages: nobody else puts right what goes wrong.
                            if cache.get(SegmentId(user), offset).is_none() {
                                cache.insert(SegmentId(user), offset, page(10));
                            }
                        }
                        cache.remove_segments(&[SegmentId(3)]);
                    })
                })
                .collect();
            cache.insert(SegmentId(3), 7, page(20));
            cache.set_capacity(to_shards * MIN_SHARD_BYTES);
            for user in users {
                user.join().unwrap();
            }
            cache.remove_segments(&[SegmentId(3)]);
            for shard in &cache.shards {
                shard.car.read().check();
            }
            let stats = cache.stats();
            assert_eq!((stats.hits + stats.misses, stats.pages), (8, 8));
            for (user, offset) in (1..=2).flat_map(|user| (0..4).map(move |o| (user, o))) {
                assert!(cache.peek(SegmentId(user), offset).is_some(), "lost in a shard");
            }
            cache.remove_segments(&[SegmentId(1)]);
            cache.remove_segments(&[SegmentId(2)]);
            assert_eq!(cache.used_bytes(), 0);
        };
        crate::schedules::explore::explore(name, 3_000, model);
    }

    #[test]
    fn no_page_is_lost_while_shards_become_more() {
        resize_among_users("no_page_is_lost_while_shards_become_more", 2, 8);
    }

    #[test]
    fn no_page_is_lost_while_shards_become_fewer() {
        resize_among_users("no_page_is_lost_while_shards_become_fewer", 4, 1);
    }
}
