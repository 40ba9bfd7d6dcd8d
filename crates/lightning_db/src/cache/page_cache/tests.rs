//! The page cache by itself: pages are what was loaded, within the budget, whoever races.

use super::*;
use crate::sync::Arc;

const MIB: u64 = 1024 * 1024;

fn page(len: usize) -> PageRef {
    Arc::new(Page::new(PageType::Leaf, vec![0; len]))
}

/// A page that tells which it is.
fn page_of(segment: u64, offset: u64) -> PageRef {
    let mut bytes = segment.to_le_bytes().to_vec();
    bytes.extend(offset.to_le_bytes());
    bytes.resize(1000, 0);
    Arc::new(Page::new(PageType::Leaf, bytes))
}

fn check(cache: &PageCache) {
    let active = cache.active.load(Ordering::Relaxed);
    let mut used = 0;
    for (i, shard) in cache.shards.iter().enumerate() {
        let car = shard.car.read();
        car.check();
        assert_eq!(car.used(), shard.used.load(Ordering::Relaxed));
        assert!(i < active || car.used() == 0);
        used += car.used();
    }
    assert_eq!(used, cache.used_bytes());
    assert!(used <= cache.capacity_bytes(), "{used} of {}", cache.capacity_bytes());
}

#[test]
fn pages_come_back_and_gets_are_counted() {
    let cache = PageCache::new(MIB);
    assert!(cache.get(SegmentId(1), 64).is_none());
    cache.insert(SegmentId(1), 64, page(100));
    cache.insert(SegmentId(2), 64, page(200));
    assert_eq!(cache.get(SegmentId(1), 64).unwrap().bytes.len(), 100);
    assert_eq!(cache.get(SegmentId(2), 64).unwrap().bytes.len(), 200);
    assert_eq!(cache.peek(SegmentId(2), 64).unwrap().bytes.len(), 200);
    assert!(cache.peek(SegmentId(2), 65).is_none());
    assert_eq!(
        cache.stats(),
        CacheStats {
            hits: 2,
            misses: 1,
            evictions: 0,
            used_bytes: 300 + 2 * PAGE_OVERHEAD_BYTES,
            capacity_bytes: MIB,
            pages: 2,
        }
    );
    assert_eq!(format!("{:?}", page(3)), "Page { ty: Leaf, len: 3, .. }");
}

#[test]
fn a_page_inserted_twice_is_held_once() {
    let cache = PageCache::new(MIB);
    cache.insert(SegmentId(1), 64, page(100));
    cache.insert(SegmentId(1), 64, page(100));
    assert_eq!((cache.stats().pages, cache.used_bytes()), (1, 100 + PAGE_OVERHEAD_BYTES));
}

#[test]
fn it_stays_within_bounds_under_random_sizes() {
    let mut rng = fastrand::Rng::with_seed(3);
    for capacity in [10_000, MIB, 40 * MIB] {
        let cache = PageCache::new(capacity);
        let (mut inserted, mut gets) = (0, 0);
        while inserted < 3 * capacity {
            let offset = rng.u64(..20_000);
            gets += 1;
            if cache.get(SegmentId(1), offset).is_none() {
                let bits = rng.u32(0..17);
                let len = rng.usize(..=1 << bits).min(capacity as usize / 8);
                inserted += len as u64 + 1;
                cache.insert(SegmentId(1), offset, page(len));
                assert!(cache.used_bytes() <= capacity);
            }
        }
        check(&cache);
        let stats = cache.stats();
        assert_eq!(stats.hits + stats.misses, gets);
        assert!(stats.used_bytes > capacity / 2, "{stats:?}");
    }
}

#[test]
fn every_page_is_accounted_for_as_held_or_evicted() {
    let cache = PageCache::new(20_000);
    for offset in 0..500 {
        cache.insert(SegmentId(1), offset, page(1000));
    }
    let stats = cache.stats();
    assert_eq!(stats.pages, 20_000 / (1000 + PAGE_OVERHEAD_BYTES));
    assert_eq!(stats.evictions, 500 - stats.pages);
}

#[test]
fn nothing_fits_a_cache_of_nothing() {
    let cache = PageCache::new(0);
    for offset in 0..10 {
        cache.insert(SegmentId(1), offset, page(0));
        assert!(cache.get(SegmentId(1), offset).is_none());
    }
    cache.remove_segments(&[SegmentId(1)]);
    assert_eq!(cache.evict(1.0), 0);
    assert_eq!(cache.stats(), CacheStats { misses: 10, ..CacheStats::default() });
    check(&cache);
}

#[test]
fn a_cache_of_eight_pages_holds_eight_pages() {
    let each = 4096 + PAGE_OVERHEAD_BYTES;
    let cache = PageCache::new(8 * each);
    for offset in 0..100 {
        cache.insert(SegmentId(1), offset, page(4096));
        assert_eq!(cache.stats().pages, 8.min(offset + 1));
        assert!(cache.get(SegmentId(1), offset).is_some(), "the newest is there");
    }
    cache.insert(SegmentId(1), 1000, page(9 * 4096));
    assert!(cache.get(SegmentId(1), 1000).is_none(), "larger than the cache: not kept");
    assert_eq!(cache.stats().pages, 8, "and nothing had to leave for it");
    cache.set_capacity(each - 1);
    cache.insert(SegmentId(1), 2000, page(4096));
    assert_eq!(cache.stats().pages, 0);
    check(&cache);
}

#[test]
fn a_removed_segment_is_gone_and_others_stay() {
    let cache = PageCache::new(64 * MIB);
    for offset in 0..1000 {
        for segment in 1..=3 {
            cache.insert(SegmentId(segment), offset, page(100));
        }
    }
    cache.remove_segments(&[SegmentId(2)]);
    check(&cache);
    for offset in 0..1000 {
        assert!(cache.get(SegmentId(1), offset).is_some());
        assert!(cache.get(SegmentId(2), offset).is_none());
        assert!(cache.get(SegmentId(3), offset).is_some());
    }
    let stats = cache.stats();
    assert_eq!((stats.pages, stats.evictions), (2000, 0));
}

#[test]
fn evicting_a_part_frees_that_part() {
    for capacity in [MIB, 64 * MIB] {
        let cache = PageCache::new(capacity);
        for offset in 0..500 {
            cache.insert(SegmentId(1), offset, page(1000));
        }
        let full = cache.used_bytes();
        assert_eq!(cache.evict(0.0), 0);
        assert_eq!(cache.evict(f64::NAN), 0);
        let freed = cache.evict(0.25);
        assert_eq!(cache.used_bytes(), full - freed);
        let slack = (cache.active.load(Ordering::Relaxed) as u64) * 1256;
        assert!((full / 4..=full / 4 + slack).contains(&freed), "{freed} of {full}");
        assert_eq!(cache.stats().evictions, freed / 1256);
        assert_eq!(cache.evict(7.0), full - freed);
        assert_eq!((cache.used_bytes(), cache.stats().evictions), (0, 500));
        check(&cache);
    }
}

#[test]
fn a_new_capacity_keeps_what_fits() {
    let cache = PageCache::new(64 * MIB);
    for offset in 0..10_000 {
        cache.insert(SegmentId(1), offset, page_of(1, offset));
    }
    let hot = 9_000..9_500;
    assert!(hot.clone().all(|o| cache.get(SegmentId(1), o).is_some()));
    cache.set_capacity(128 * MIB); // more shards
    check(&cache);
    for offset in 0..10_000 {
        let found = cache.peek(SegmentId(1), offset).unwrap();
        assert_eq!(found.bytes[8..16], offset.to_le_bytes());
    }
    cache.set_capacity(2 * MIB); // one shard
    check(&cache);
    let stats = cache.stats();
    assert_eq!(stats.pages, 2 * MIB / 1256);
    assert_eq!(stats.evictions, 10_000 - stats.pages);
    cache.set_capacity(MIB); // the same shard, smaller
    check(&cache);
    assert_eq!(cache.stats().pages, MIB / 1256);
    let kept = hot.filter(|o| cache.peek(SegmentId(1), *o).is_some()).count();
    assert!(kept > 400, "{kept} of 500 recent pages");
}

#[test]
fn a_hit_takes_its_latch_shared() {
    let cache = PageCache::new(MIB);
    cache.insert(SegmentId(1), 64, page(100));
    let other_reader = cache.shards[0].car.read();
    assert!(cache.get(SegmentId(1), 64).is_some());
    drop(other_reader);
}

#[test]
fn a_scan_does_not_wash_out_what_is_used() {
    for capacity in [2 * MIB, 64 * MIB] {
        let cache = PageCache::new(capacity);
        let each = 4096 + PAGE_OVERHEAD_BYTES;
        let touch = |segment, offset| {
            let hit = cache.get(SegmentId(segment), offset).is_some();
            if !hit {
                cache.insert(SegmentId(segment), offset, page(4096));
            }
            hit
        };
        let hot = capacity / each / 2;
        for _ in 0..2 {
            for offset in 0..hot {
                touch(1, offset);
            }
        }
        for offset in 0..10 * capacity / each {
            touch(2, offset);
        }
        let hits = (0..hot).filter(|o| touch(1, *o)).count() as f64;
        let rate = hits / hot as f64;
        println!("hot set after a scan of ten times the cache: {rate:.4}");
        assert!(rate > 0.9, "{rate}");
        check(&cache);
    }
}

#[test]
fn four_threads_find_only_what_they_should() {
    let cache = PageCache::new(4 * MIB);
    let gets = AtomicU64::new(0);
    std::thread::scope(|s| {
        for t in 0..4 {
            let (cache, gets) = (&cache, &gets);
            s.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(t);
                let mut mine = 0;
                for i in 0..60_000u32 {
                    let (segment, offset) = (rng.u64(1..5), rng.u64(..3000));
                    let id = SegmentId(segment);
                    match i % 10_000 {
                        77 => cache.remove_segments(&[id]),
                        777 => _ = cache.evict(0.1),
                        7777 if t == 0 => {
                            let sizes = [0, MIB, 4 * MIB, 9 * MIB, 20 * MIB];
                            cache.set_capacity(sizes[rng.usize(..5)]);
                        }
                        _ => {
                            mine += 1;
                            if let Some(found) = cache.get(id, offset) {
                                assert_eq!(found.bytes[..8], segment.to_le_bytes());
                                assert_eq!(found.bytes[8..16], offset.to_le_bytes());
                            } else {
                                cache.insert(id, offset, page_of(segment, offset));
                            }
                        }
                    }
                }
                gets.fetch_add(mine, Ordering::Relaxed);
            });
        }
    });
    check(&cache);
    let stats = cache.stats();
    assert_eq!(stats.hits + stats.misses, gets.load(Ordering::Relaxed));
    cache.set_capacity(30 * MIB);
    cache.insert(SegmentId(9), 1, page(10));
    assert!(cache.get(SegmentId(9), 1).is_some());
    for segment in 1..=9 {
        cache.remove_segments(&[SegmentId(segment)]);
    }
    assert_eq!((cache.used_bytes(), cache.stats().pages), (0, 0), "nothing is lost in a shard");
}
