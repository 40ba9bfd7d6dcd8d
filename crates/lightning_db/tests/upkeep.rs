//! Work behind the calls comes to an end, and takes nothing away that somebody still reads.

use std::sync::Arc;

use lightning_db::vfs::{SimulatedVfs, Vfs};
use lightning_db::{Database, KeyspaceOptions, LightningDbConfig, OpenAs, Profile, VerifyOptions};

/// A few keys of the greatest length fill a leaf with more raw bytes than a partition should have
/// stored ones. A partition was ended by the former, small neighbours were joined by the latter: so
/// two were joined, came out as two, and were joined again, for ever, and the writer that did the
/// work never came back. (The model's sequence 2 under its setting 2.)
#[test]
fn joining_small_partitions_of_long_keys_comes_to_an_end() {
    let vfs = SimulatedVfs::new(1);
    let config = LightningDbConfig {
        page_size: 16 << 10,
        write_buffer_size: 64 << 10,
        profile: Profile::ReadOptimized,
        background_threads: 0,
        ..LightningDbConfig::default()
    };
    let shared = Arc::new(vfs.clone()) as Arc<dyn Vfs>;
    let db = Database::open_with_vfs(shared, "/db", config, OpenAs::Create).expect("a database");
    // Without an end this fails instead of going on.
    vfs.crash_after(vfs.operations() + 50_000);
    for round in 0..4_u8 {
        for byte in 0xf0..=0xff_u8 {
            db.put(vec![byte; 65_536], [round]).expect("a put");
        }
        db.flush().expect("a flush");
        db.compact().expect("a merge");
    }
    db.put(b"key", vec![7; 100_000]).expect("a put");
    assert_eq!(db.count(None, None).expect("a count"), 17);
    assert!(db.health_check().healthy, "{:?}", db.health_check().problems);
    db.close().expect("a close");
}

/// An iterator goes on when its keyspace is dropped; but the versions of a dropped keyspace were
/// not asked when its blob segments were given back, and the iterator's next large value was said
/// to be corrupt. (The model's sequence 10, setting 30.)
#[test]
fn iterators_of_a_dropped_keyspace_still_read_large_values() {
    let config = LightningDbConfig { background_threads: 0, ..LightningDbConfig::default() };
    let db = Database::open_in_memory(config).expect("a database");
    let keyspace = db.keyspace("dropped", KeyspaceOptions::default()).expect("a keyspace");
    for key in 0..3_u8 {
        keyspace.put([key], vec![key; 50_000]).expect("a put");
    }
    db.flush().expect("a flush");
    let mut range = keyspace.range(None, None).expect("a range");
    drop(keyspace);
    db.drop_keyspace("dropped").expect("a drop");
    db.compact().expect("a compaction, which gives blob segments back");
    for key in 0..3_u8 {
        let (_, value) = range.next().expect("an entry").expect("a value");
        assert!(value == vec![key; 50_000]);
    }
    drop(range);
    db.compact().expect("a compaction");
    assert_eq!(db.stats().blob_bytes, 0);
}

/// A job that takes only what one merge should write was cut at a boundary before which everything
/// had been given to the base already, if all that lay there was a lot: it did nothing, and was due
/// again for ever. (The second model's sequence 38, where threads happened to merge in that order.)
#[test]
fn a_range_is_not_cut_to_one_that_has_nothing_to_merge() {
    for profile in [Profile::ReadOptimized, Profile::Balanced, Profile::WriteOptimized] {
        let vfs = SimulatedVfs::new(1);
        let config = LightningDbConfig {
            write_buffer_size: 64 << 10,
            background_compaction: false,
            background_threads: 0,
            profile,
            ..LightningDbConfig::default()
        };
        let shared = Arc::new(vfs.clone()) as Arc<dyn Vfs>;
        let db =
            Database::open_with_vfs(shared, "/db", config, OpenAs::Create).expect("a database");
        // Without an end this fails instead of going on.
        vfs.crash_after(vfs.operations() + 50_000);
        let mut rng = fastrand::Rng::with_seed(2);
        let mut write = |keys: std::ops::Range<u16>, more: std::ops::Range<u16>| {
            for key in keys.chain(more) {
                let value: Vec<u8> = (0..500).map(|_| rng.u8(..)).collect();
                db.put(key.to_be_bytes(), value).expect("a put");
            }
            db.flush().expect("a flush");
        };
        write(0..80, 0..0);
        db.compact().expect("a merge");
        for _ in 0..20 {
            write(0..80, 1000..1005);
        }
        // Too little to become part of the base as it is.
        write(0..0, 1000..1005);
        db.compact().expect("a merge");
        let stats = db.stats();
        assert_eq!((stats.keyspaces[0].runs, stats.keyspaces[0].entries), (0, 85));
    }
}

/// Without background threads the calls do the work that they make necessary; but a flush left the
/// merges that it made due to the next full memtable, so that runs gathered without end for one who
/// flushes often and writes little. A compaction did so to every other keyspace. (The model's
/// sequence 215, setting 646.)
#[test]
fn flushes_without_threads_merge_what_they_make_due() {
    for flush in [Database::flush, Database::checkpoint, compact_other] {
        let config = LightningDbConfig { background_threads: 0, ..LightningDbConfig::default() };
        let db = Database::open_in_memory(config).expect("a database");
        db.keyspace("other", KeyspaceOptions::default()).expect("a keyspace");
        for key in 0..100_u8 {
            db.put([key], b"a value").expect("a put");
            flush(&db).expect("a flush");
            let runs: usize = db.stats().keyspaces.iter().map(|k| k.runs).sum();
            assert!(runs <= 10, "{runs} runs after {key}");
        }
        assert!(db.health_check().healthy, "{:?}", db.health_check().problems);
    }
}

fn compact_other(db: &Database) -> lightning_db::Result<()> {
    db.keyspace("other", KeyspaceOptions::default())?.compact()
}

/// The log's thread gives a file that was prepared too late another name, as a spare, while `verify`
/// reads the log: `verify` took it for one that is missing. (The model, a setting with threads.)
#[test]
fn verify_beside_writers_and_the_logs_thread_finds_nothing() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let config = LightningDbConfig {
        wal_segment_size: 16 << 10,
        max_wal_size: 256 << 10,
        write_buffer_size: 64 << 10,
        wal_sync_mode: lightning_db::WalSyncMode::Async,
        background_threads: 2,
        ..LightningDbConfig::default()
    };
    let vfs = Arc::new(SimulatedVfs::new(1)) as Arc<dyn Vfs>;
    let db = Database::open_with_vfs(vfs, "/db", config, OpenAs::Create).expect("a database");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..2_u64 {
            let (db, done) = (&db, &done);
            scope.spawn(move || {
                for n in 0_u64.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    db.put((n % 200 * 2 + thread).to_be_bytes(), [7; 900]).expect("a put");
                }
            });
        }
        let mut round = 0;
        while db.last_commit() < 30_000 {
            round += 1;
            let report = db.verify(VerifyOptions::default()).expect("a report");
            if !report.is_clean() {
                done.store(true, Ordering::Relaxed);
                panic!("round {round}: {:?}", report.problems);
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}
