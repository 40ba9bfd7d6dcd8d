//! What nobody can see any more gives its space back by itself: no call asks for it, and no write
//! comes near it again. All work is done inline, so that the figures are the same each time.

use lightning_db::{Database, LightningDbConfig, Profile, Snapshot, WalSyncMode, WriteBatch};
use lightning_db::{VerifyOptions, WriteOptions};

const ENTRIES: u64 = 20_000;

fn database(profile: Profile) -> Database {
    let config = LightningDbConfig {
        profile,
        write_buffer_size: 256 * 1024,
        wal_segment_size: 1024 * 1024,
        wal_sync_mode: WalSyncMode::Async,
        background_threads: 0,
        ..LightningDbConfig::default()
    };
    Database::open_in_memory(config).expect("opens")
}

/// Scattered over the keys' whole range.
fn key(index: u64) -> [u8; 8] {
    index.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()
}

/// A value that does not pack well, told by its key and round.
fn value(index: u64, round: u64) -> [u8; 100] {
    let mut value = [0; 100];
    fastrand::Rng::with_seed(index << 20 | round).fill(&mut value);
    value
}

/// Writes the entries of `indices` in the state of `round`, a hundred a commit.
fn write(db: &Database, indices: &[u64], round: u64) {
    for indices in indices.chunks(100) {
        let mut batch = WriteBatch::new();
        for index in indices {
            batch.put(key(*index), value(*index, round));
        }
        db.write(batch, WriteOptions::default()).expect("writes");
    }
}

fn check(snapshot: &Snapshot, indices: &[u64], round: u64) {
    for index in indices {
        let found = snapshot.get(key(*index)).expect("reads");
        assert!(found.as_deref() == Some(&value(*index, round)[..]), "entry {index}");
    }
}

/// Everything, in the order of the keys.
fn all() -> Vec<u64> {
    let mut all: Vec<u64> = (0..ENTRIES).collect();
    all.sort_by_key(|index| key(*index));
    all
}

/// Bytes of segment files per byte that one state takes: 108 an entry, and its part of a leaf.
fn space(db: &Database) -> f64 {
    db.stats().storage_bytes as f64 / (ENTRIES * 117) as f64
}

const BOUNDS: [(Profile, f64); 3] =
    [(Profile::ReadOptimized, 1.3), (Profile::Balanced, 2.0), (Profile::WriteOptimized, 3.0)];

#[test]
fn what_a_released_snapshot_held_is_given_back() {
    for (profile, _) in BOUNDS {
        let db = database(profile);
        let all = all();
        write(&db, &all, 1);
        let snapshot = db.snapshot().expect("a snapshot");
        write(&db, &all, 2);
        // Nothing waits in runs: the base itself holds both states.
        db.compact().expect("compacts");
        check(&snapshot, &all, 1);
        let held = space(&db);
        assert!(held > 1.8 && held < 2.3, "two states take the space of two: {held:.2}");
        drop(snapshot);
        // Elsewhere only: one end of the keys, a hundredth of them, until two memtables are full.
        for round in 3..30 {
            write(&db, &all[..ENTRIES as usize / 100], round);
        }
        let after = space(&db);
        println!("{profile:?}: {held:.2} held, {after:.2} after");
        assert!(after <= 1.3, "{profile:?}: {after:.2} of {held:.2} are still held");
        let report = db.verify(VerifyOptions::default()).expect("verifies");
        assert!(report.is_clean(), "{:?}", report.problems);
    }
}

/// An older snapshot, which holds the first state, does not hold the second one as well.
#[test]
fn what_a_released_snapshot_held_is_given_back_beside_an_older_one() {
    for (profile, _) in BOUNDS {
        let db = database(profile);
        let all = all();
        write(&db, &all, 1);
        let oldest = db.snapshot().expect("a snapshot");
        write(&db, &all, 2);
        let between = db.snapshot().expect("a snapshot");
        write(&db, &all, 3);
        db.compact().expect("compacts");
        check(&oldest, &all, 1);
        check(&between, &all, 2);
        let held = space(&db);
        assert!(held > 2.7 && held < 3.4, "three states take the space of three: {held:.2}");
        drop(between);
        for round in 4..30 {
            write(&db, &all[..ENTRIES as usize / 100], round);
        }
        let after = space(&db);
        println!("{profile:?}: {held:.2} held, {after:.2} after");
        check(&oldest, &all, 1);
        assert!(after <= 2.3, "{profile:?}: {after:.2} of {held:.2} are still held");
    }
}

#[test]
fn a_hot_range_that_moves_on_leaves_nothing_behind() {
    for (profile, bound) in BOUNDS {
        let db = database(profile);
        let all = all();
        write(&db, &all, 0);
        let mut worst: f64 = 0.0;
        for (at, hot) in all.chunks(ENTRIES as usize / 20).enumerate() {
            for round in 0..20 {
                // Read while it is hot, so that merges in between keep what they must.
                let snapshot = db.snapshot().expect("a snapshot");
                write(&db, hot, at as u64 * 100 + round + 1);
                if round > 0 {
                    check(&snapshot, &hot[..10], at as u64 * 100 + round);
                }
            }
            worst = worst.max(space(&db));
        }
        println!("{profile:?}: {worst:.2} at worst");
        assert!(worst <= bound, "{profile:?}: {worst:.2}");
        assert_eq!(db.count(None, None).expect("counts"), ENTRIES);
    }
}

#[test]
fn deleting_everything_gives_everything_back() {
    for (profile, _) in BOUNDS {
        let db = database(profile);
        let all = all();
        write(&db, &all, 0);
        for keys in all.chunks(100) {
            let keys: Vec<Vec<u8>> = keys.iter().map(|index| key(*index).to_vec()).collect();
            db.delete_batch(&keys).expect("deletes");
        }
        db.flush().expect("flushes");
        println!("{profile:?}: {:.3} left", space(&db));
        assert!(space(&db) < 0.3, "{profile:?}: {:.2}", space(&db));
    }
}

/// What is loaded in order is written once: partitions that overlap nothing are taken as they are.
#[test]
fn an_ascending_load_is_written_once() {
    for (profile, _) in BOUNDS {
        let db = database(profile);
        write(&db, &all(), 0);
        db.flush().expect("flushes");
        let stats = db.stats();
        println!("{profile:?}: {} flushed, {} merged", stats.flushed_bytes, stats.merged_bytes);
        assert!(stats.merged_bytes * 10 <= stats.flushed_bytes, "{profile:?}: {stats:?}");
    }
}
