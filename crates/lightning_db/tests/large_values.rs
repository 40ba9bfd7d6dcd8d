//! Large values in the page cache: read from their files once, whole, and given out without a copy; never
//! kept past what they are worth.

use std::path::Path;
use std::sync::Arc;

use lightning_db::vfs::SimulatedVfs;
use lightning_db::{Database, KeyspaceOptions, LightningDbConfig, OpenAs, WalSyncMode};

const VALUES: u64 = 30;
const KIB: usize = 1024;

fn value(n: u64, bytes: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(n);
    (0..bytes).map(|_| rng.u8(..)).collect()
}

fn key(n: u64) -> [u8; 8] {
    n.to_be_bytes()
}

fn open(disk: &SimulatedVfs, cache_size: usize) -> Database {
    let config = LightningDbConfig {
        background_threads: 0,
        wal_sync_mode: WalSyncMode::Async,
        prefetch_enabled: false,
        cache_size,
        ..LightningDbConfig::default()
    };
    let vfs = Arc::new(disk.clone());
    Database::open_with_vfs(vfs, Path::new("/db"), config, OpenAs::OpenOrCreate).expect("opens")
}

/// The calls to the disk that `act` takes.
fn calls(disk: &SimulatedVfs, act: impl FnOnce()) -> u64 {
    let before = disk.operations();
    act();
    disk.operations() - before
}

#[test]
fn they_are_read_from_the_disk_once() {
    for compacted in [false, true] {
        let disk = SimulatedVfs::new(1);
        let db = open(&disk, 16 * KIB * KIB);
        let want = |n| value(n, 16 * KIB + 1000 * n as usize);
        for n in 0..VALUES {
            db.put(key(n), want(n)).expect("writes");
        }
        if compacted {
            db.compact().expect("compacts");
        }
        let get = |n| assert!(*db.get_pinned(key(n)).expect("reads").expect("there") == want(n));
        let cold = calls(&disk, || (0..VALUES).for_each(get));
        assert!(cold >= VALUES, "a read each at least: {cold}");
        assert_eq!(calls(&disk, || (0..VALUES).for_each(get)), 0);
        let scan = || {
            let mut cursor = db.cursor().expect("a cursor");
            let mut more = cursor.seek_to_first().expect("seeks");
            let mut n = 0;
            while more {
                let (k, v) = cursor.entry().expect("reads").expect("stands on one");
                assert!(k == key(n) && v == want(n), "{n}");
                // Once more, and both ways from it.
                assert!(cursor.value().expect("reads").expect("stands on one") == want(n));
                if n % 7 == 3 {
                    assert!(cursor.prev().expect("steps") && cursor.next().expect("steps"));
                    assert!(cursor.entry().expect("reads").expect("stands").1 == want(n));
                }
                more = cursor.next().expect("steps");
                n += 1;
            }
            assert_eq!(n, VALUES);
        };
        assert_eq!(calls(&disk, scan), 0);
        let copies = || {
            for (n, pair) in (0..VALUES).zip(db.range(None, None).expect("a range")) {
                assert!(pair.expect("reads") == (key(n).to_vec(), want(n)), "{n}");
            }
            assert!(db.get(key(3)).expect("reads").expect("there") == want(3));
        };
        assert_eq!(calls(&disk, copies), 0);
        // Evicted, they are read again; a scan keeps none.
        db.evict_cache(1.0).expect("evicts");
        for _ in 0..2 {
            assert!(calls(&disk, scan) >= VALUES);
        }
    }
}

#[test]
fn what_was_overwritten_is_not_given_out() {
    let disk = SimulatedVfs::new(1);
    let db = open(&disk, 16 * KIB * KIB);
    let bytes = 20 * KIB;
    for n in 0..VALUES {
        db.put(key(n), value(n, bytes)).expect("writes");
        assert!(db.get(key(n)).expect("reads").expect("there") == value(n, bytes));
    }
    let snapshot = db.snapshot().expect("a snapshot");
    for n in 0..VALUES {
        match n % 3 {
            0 => db.delete(key(n)).expect("writes"),
            1 => db.put(key(n), value(n + 1000, bytes)).expect("writes"),
            _ => db.put(key(n), b"small").expect("writes"),
        }
        let found = db.get(key(n)).expect("reads");
        match n % 3 {
            0 => assert!(found.is_none()),
            1 => assert!(found.expect("there") == value(n + 1000, bytes)),
            _ => assert!(found.expect("there") == b"small"),
        }
        let before = snapshot.get(key(n)).expect("reads").expect("there");
        assert!(before == value(n, bytes));
    }
}

#[test]
fn those_that_would_fill_the_cache_are_not_kept() {
    let disk = SimulatedVfs::new(1);
    let db = open(&disk, 2 * KIB * KIB);
    let sizes = [20 * KIB, 1000 * KIB];
    for (n, bytes) in (0..).zip(sizes) {
        db.put(key(n), value(n, bytes)).expect("writes");
    }
    let get = |n: u64| {
        let found = db.get_pinned(key(n)).expect("reads").expect("there");
        assert!(*found == value(n, sizes[n as usize]));
    };
    get(0);
    let before = db.stats().cache_bytes;
    for _ in 0..3 {
        assert!(calls(&disk, || get(1)) > 0);
    }
    assert_eq!(db.stats().cache_bytes, before);
    assert_eq!(calls(&disk, || get(0)), 0, "the small one had to leave for nothing");
}

#[test]
fn where_room_is_scarce_those_read_once_push_nothing_out() {
    let disk = SimulatedVfs::new(1);
    let db = open(&disk, 2 * KIB * KIB);
    for n in 0..300 {
        db.put(key(n), value(n, 20 * KIB)).expect("writes");
    }
    let get = |n| assert!(db.get_pinned(key(n)).expect("reads").is_some());
    (0..300).for_each(get);
    let held = db.stats();
    assert!(held.cache_bytes > 3 << 18, "it is filled first: {held:?}");
    assert!(held.cache_evictions < 10, "{held:?}");
    // What is read a second time is worth its room, and others go for it.
    (280..300).for_each(get);
    assert!(db.stats().cache_evictions > held.cache_evictions);
    assert!(calls(&disk, || (290..300).for_each(get)) <= 2);
}

#[test]
fn what_is_gone_leaves_the_cache() {
    let disk = SimulatedVfs::new(1);
    let db = open(&disk, 16 * KIB * KIB);
    let rows = db.keyspace("rows", KeyspaceOptions::default()).expect("a keyspace");
    for n in 0..VALUES {
        rows.put(key(n), value(n, 50 * KIB)).expect("writes");
    }
    db.compact().expect("compacts");
    for n in 0..VALUES {
        rows.get_pinned(key(n)).expect("reads").expect("there");
    }
    let held = db.stats().cache_bytes;
    assert!(held >= VALUES * 50 * KIB as u64, "{held}");
    drop(rows);
    db.drop_keyspace("rows").expect("drops");
    db.compact().expect("compacts");
    let left = db.stats().cache_bytes;
    assert!(left < 50 * KIB as u64, "{left} of {held}");
}
