//! What the hot paths cost, counted instead of timed: allocations and calls to the disk, by operation.
//! A change that makes one of these dearer has to change the bound here, and say why.

use std::path::Path;
use std::sync::Arc;

use allocation_counter::measure;
use lightning_db::vfs::{OsVfs, SimulatedVfs, Vfs};
use lightning_db::{Database, LightningDbConfig, OpenAs, WalSyncMode};

const ENTRIES: u64 = 20_000;

fn key(n: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key[8..].copy_from_slice(&n.to_be_bytes());
    key
}

/// Loaded, merged, and opened once more, so that all of it is in the base; no threads of its own.
fn database(vfs: Arc<dyn Vfs>, path: &Path) -> Database {
    let config = LightningDbConfig {
        background_threads: 0,
        wal_sync_mode: WalSyncMode::Async,
        prefetch_enabled: false,
        ..LightningDbConfig::default()
    };
    let db = Database::open_with_vfs(vfs, path, config, OpenAs::Create).expect("creates");
    for n in 0..ENTRIES {
        db.put(key(n), [7; 100]).expect("writes");
    }
    db.compact().expect("compacts");
    // Pages into the cache, and the row cache's table.
    assert_eq!(db.range(None, None).expect("a range").count(), ENTRIES as usize);
    for n in ENTRIES - 500..ENTRIES {
        db.get_pinned(key(n)).expect("reads");
    }
    db
}

/// Allocations of each call, on average.
fn allocations(calls: u64, mut call: impl FnMut(u64)) -> f64 {
    let info = measure(|| (0..calls).for_each(&mut call));
    info.count_total as f64 / calls as f64
}

#[track_caller]
fn at_most(what: &str, found: f64, bound: f64) {
    println!("{what}: {found:.3}");
    assert!(found <= bound, "{what}: {found:.3}, the bound is {bound}");
}

#[test]
fn allocations_of_each_operation() {
    // A real file system: the simulated one allocates for itself.
    let dir = tempfile::tempdir().expect("a directory");
    let db = database(Arc::new(OsVfs), &dir.path().join("db"));
    let pinned =
        |n: u64| assert_eq!(db.get_pinned(key(n)).expect("reads").expect("there").len(), 100);
    // The first read takes the row in: the row, and what it is put together in.
    at_most("get_pinned, in a page", allocations(1000, |n| pinned(n + 1)), 2.0);
    at_most("get_pinned, in a row", allocations(1000, |n| pinned(n + 1)), 0.1);
    let get = |n: u64| assert!(db.get(key(n + 1)).expect("reads").is_some());
    at_most("get, in a row", allocations(1000, get), 1.1);
    let missing = |n: u64| assert!(!db.contains_key(key(ENTRIES + n)).expect("reads"));
    at_most("contains_key, missing", allocations(1000, missing), 0.0);
    let snapshot = db.snapshot().expect("a snapshot");
    let get = |n: u64| assert!(snapshot.get_pinned(key(n + 1)).expect("reads").is_some());
    at_most("get_pinned of a snapshot, in a row", allocations(1000, get), 0.1);
    drop(snapshot);

    let mut cursor = db.cursor().expect("a cursor");
    assert!(cursor.seek_to_first().expect("seeks"));
    let step =
        |_| assert!(cursor.next().expect("steps") && cursor.entry().expect("reads").is_some());
    at_most("cursor step forward", allocations(10_000, step), 0.001);
    let step =
        |_| assert!(cursor.prev().expect("steps") && cursor.entry().expect("reads").is_some());
    at_most("cursor step backward", allocations(10_000, step), 0.001);
    let mut range = db.range(None, None).expect("a range");
    let item = |_| assert!(range.next().expect("an item").is_ok());
    at_most("range item", allocations(10_000, item), 2.1);
    let seek = |n: u64| {
        let mut cursor = db.cursor().expect("a cursor");
        assert!(cursor.seek(&key(n)).expect("seeks"));
    };
    at_most("cursor made and placed", allocations(1000, seek), 4.0);

    // The first writes make the memtable's first chunks.
    let put = |n: u64| db.put(key(n), [8; 100]).expect("writes");
    allocations(1000, put);
    at_most("put", allocations(5000, |n| put(n + 1000)), 0.01);
    let transfer = |n: u64| {
        let mut tx = db.transaction().expect("begins");
        for k in [n, n + 1] {
            let value = tx.get(key(k)).expect("reads").expect("there");
            tx.put(key(k), &value).expect("writes");
        }
        tx.commit().expect("commits");
    };
    at_most("transaction of two reads and two writes", allocations(1000, transfer), 21.1);
    let delete = |n: u64| assert!(db.delete(key(n + 1)).is_ok());
    at_most("delete", allocations(1000, delete), 0.01);

    // Over a memtable, and over a run besides.
    let seek = |n: u64| {
        let mut cursor = db.cursor().expect("a cursor");
        assert!(cursor.seek(&key(n + 7000)).expect("seeks"));
    };
    at_most("cursor made and placed over a memtable", allocations(1000, seek), 4.0);
    db.flush().expect("flushes");
    db.put(key(9000), [9; 100]).expect("writes");
    at_most("cursor made and placed over a memtable and a run", allocations(1000, seek), 6.5);
}

#[test]
fn allocations_of_large_values() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = LightningDbConfig { background_threads: 0, ..LightningDbConfig::default() };
    let db = Database::create(dir.path().join("db"), config).expect("creates");
    const LARGE: u64 = 200;
    for n in 0..LARGE {
        db.put(n.to_be_bytes(), vec![n as u8; 20_000]).expect("writes");
    }
    db.compact().expect("compacts");
    let pinned = |n: u64| {
        let found = db.get_pinned((n % LARGE).to_be_bytes()).expect("reads").expect("there");
        assert_eq!(found.len(), 20_000);
    };
    (0..LARGE).for_each(pinned);
    at_most("get_pinned of a large value, cached", allocations(1000, pinned), 0.0);
    let mut cursor = db.cursor().expect("a cursor");
    assert!(cursor.seek_to_first().expect("seeks"));
    let step =
        |_| assert!(cursor.next().expect("steps") && cursor.entry().expect("reads").is_some());
    at_most("cursor step to a large value, cached", allocations(LARGE - 1, step), 0.1);
}

#[test]
fn disk_calls_of_each_operation() {
    let disk = SimulatedVfs::new(1);
    let db = database(Arc::new(disk.clone()), Path::new("/db"));
    let calls = |calls: u64, call: &dyn Fn(u64)| {
        let before = disk.operations();
        (0..calls).for_each(call);
        (disk.operations() - before) as f64 / calls as f64
    };
    let get = |n| assert!(db.get_pinned(key(n)).expect("reads").is_some());
    at_most("get of a cached page", calls(1000, &get), 0.0);
    let missing = |n| assert!(!db.contains_key(key(ENTRIES + n)).expect("reads"));
    at_most("contains_key, missing", calls(1000, &missing), 0.0);
    // One write into the log; what else there is comes with megabytes.
    let put = |n| db.put(key(n), [8; 100]).expect("writes");
    at_most("put, async", calls(1000, &put), 1.01);
    let synced = |n| {
        let options =
            lightning_db::WriteOptions { durability: Some(lightning_db::Durability::Sync) };
        let mut batch = lightning_db::WriteBatch::new();
        batch.put(key(n), [9; 100]);
        db.write(batch, options).expect("writes");
    };
    at_most("put, synced", calls(1000, &synced), 2.02);
    assert!(db.evict_cache(1.0).expect("evicts") > 0);
    // An inner page or two are soon back; a leaf each, and the key's part of the filter.
    let mut rng = fastrand::Rng::with_seed(1);
    let numbers: Vec<u64> = (0..200).map(|_| 2000 + rng.u64(0..ENTRIES - 2000)).collect();
    let cold = |n: u64| assert!(db.get_pinned(key(numbers[n as usize])).expect("reads").is_some());
    at_most("get of a page that is not cached", calls(200, &cold), 1.2);
}
