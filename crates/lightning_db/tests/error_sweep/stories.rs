//! Faults that once broke a promise, each with its story.

use std::path::Path;
use std::sync::Arc;

use lightning_db::vfs::simulated::{FaultError, FaultRule, Operation, Survival};
use lightning_db::vfs::{SimulatedVfs, Vfs};
use lightning_db::{
    Database, Durability, ErrorKind, KeyspaceOptions, LightningDbConfig, OpenAs, VerifyOptions,
    WriteBatch, WriteOptions,
};

fn config() -> LightningDbConfig {
    LightningDbConfig {
        write_buffer_size: 64 * 1024,
        wal_segment_size: 64 * 1024,
        max_wal_size: 1024 * 1024,
        background_threads: 0,
        ..LightningDbConfig::default()
    }
}

fn open_with(vfs: &SimulatedVfs, config: LightningDbConfig) -> lightning_db::Result<Database> {
    let shared = Arc::new(vfs.clone()) as Arc<dyn Vfs>;
    Database::open_with_vfs(shared, "/db", config, OpenAs::OpenOrCreate)
}

fn open(vfs: &SimulatedVfs) -> Database {
    open_with(vfs, config()).unwrap_or_else(|e| panic!("it does not open: {e:?}"))
}

fn put(db: &Database, key: &[u8], len: usize, durability: Durability) -> lightning_db::Result<()> {
    let mut batch = WriteBatch::new();
    batch.put(key, vec![7; len]);
    db.write(batch, WriteOptions::with_durability(durability))
}

fn check_clean(db: &Database) {
    let report = db.verify(VerifyOptions::default()).expect("a report");
    assert!(report.is_clean(), "{:?}", report.problems);
}

/// The sync of a new log file's header failed, and its removal too. The commit was refused, the
/// next one was smaller and fitted the old file, and the new file's header said that the log had
/// gone on there before: the database did not open again ("the log is damaged here"). Where only
/// the sync failed, a power cut could bring the removed name back, to the same end.
#[test]
fn a_log_file_whose_header_failed_does_not_hide_later_commits() {
    for remove_fails in [true, false] {
        let vfs = SimulatedVfs::new(1);
        // One memtable takes it all, so that nothing but the log holds the commits.
        let db = open_with(&vfs, LightningDbConfig { write_buffer_size: 1 << 20, ..config() });
        let db = db.expect("a database");
        for i in 0..4u8 {
            put(&db, &[i], 14_000, Durability::Sync).expect("a commit");
        }
        vfs.fail(FaultRule::next(&[Operation::Sync], FaultError::Eio).on("00000002.wal"));
        if remove_fails {
            vfs.fail(FaultRule::next(&[Operation::Remove], FaultError::Eio).on("00000002.wal"));
        }
        put(&db, b"too long for the file", 14_000, Durability::Sync).expect_err("no second file");
        vfs.clear_faults();
        let small = put(&db, b"small", 10, Durability::Sync);
        for seed in 0..6 {
            let after = if seed == 0 { vfs.kill() } else { vfs.power_cut(seed) };
            let db = open(&after);
            for i in 0..4u8 {
                assert!(db.get([i]).expect("a get").is_some(), "commit {i} is lost, seed {seed}");
            }
            assert!(small.is_err() || db.get(b"small").expect("a get").is_some(), "seed {seed}");
            check_clean(&db);
        }
        // A failed sync of the log's files ends the writes of the handle.
        assert_eq!(small.expect_err("poisoned").kind(), ErrorKind::Poisoned);
    }
}

/// The segment of large values was forgotten when sealing it failed. From then on no flush went well
/// in the handle (its run referred to a segment that no edit could name), though nothing was said to
/// be poisoned.
#[test]
fn large_values_outlive_a_failed_seal() {
    for operation in [Operation::Sync, Operation::Write, Operation::SetLen] {
        for log in [true, false] {
            let vfs = SimulatedVfs::new(1);
            let config = LightningDbConfig { wal_enabled: log, ..config() };
            let db = open_with(&vfs, config.clone()).expect("a database");
            db.put(b"large", vec![1; 30_000]).expect("a commit");
            vfs.fail(FaultRule::next(&[operation], FaultError::Eio).on("/seg/"));
            if operation == Operation::SetLen {
                // Something to cut off when the segment is sealed.
                vfs.fail(FaultRule::next(&[Operation::Write], FaultError::Eio).on("/seg/"));
                db.put(b"other", vec![2; 30_000]).expect_err("the write fails");
            }
            let flushed = db.flush();
            vfs.clear_faults();
            let again = db.flush();
            let what = format!("{operation:?}, log {log}, {flushed:?}, then {again:?}");
            let told = again.as_ref().map_or_else(|e| e.kind() == ErrorKind::Poisoned, |()| true);
            assert!(told, "{what}: neither well nor poisoned");
            let promised = flushed.is_ok() || again.is_ok();
            drop(db);
            for image in [vfs.kill(), vfs.power_cut(3)] {
                let db = open_with(&image, config.clone()).expect("opens");
                let found = db.get(b"large").unwrap_or_else(|e| panic!("{what}: {e:?}"));
                assert!(found.is_some() || !(promised || log), "{what}: the value is gone");
                check_clean(&db);
            }
        }
    }
}

/// A large value's write failed, and then the sealing of its segment; `sync` found no segment to
/// sync, said that all was durable, and a power cut took a value written to that segment before.
#[test]
fn a_sync_covers_large_values_written_before_one_that_failed() {
    let vfs = SimulatedVfs::new(1);
    let db = open(&vfs);
    put(&db, b"first", 30_000, Durability::Async).expect("a commit");
    vfs.fail(FaultRule::next(&[Operation::Write], FaultError::Enospc).on("/seg/"));
    vfs.fail(FaultRule::next(&[Operation::SetLen], FaultError::Eio).on("/seg/"));
    put(&db, b"second", 30_000, Durability::Async).expect_err("no space");
    vfs.clear_faults();
    db.sync().expect("nothing was lost");
    let db = open(&vfs.power_cut_with(1, Survival::Nothing));
    assert!(db.get(b"first").expect("a get").is_some(), "a synced value is gone");
    assert_eq!(db.get(b"second").expect("a get"), None);
    check_clean(&db);
}

/// A keyspace was taken out of memory before the edit that drops it; the edit found no space, and
/// the keyspace was missing until the database was opened again, when it was back.
#[test]
fn a_keyspace_whose_drop_failed_is_still_there() {
    let vfs = SimulatedVfs::new(1);
    let db = open(&vfs);
    let other = db.keyspace("other", KeyspaceOptions::default()).expect("a keyspace");
    other.put(b"key", b"value").expect("a put");
    // Edits until one needs space.
    vfs.fail(
        FaultRule::next(&[Operation::Allocate], FaultError::Enospc).on("/manifest/").forever(),
    );
    let mut made = 0;
    while db.keyspace(&format!("filler {made}"), KeyspaceOptions::default()).is_ok() {
        made += 1;
    }
    let e = db.drop_keyspace("other").expect_err("no space for the edit");
    assert_eq!(e.kind(), ErrorKind::StorageFull, "{e:?}");
    assert!(db.list_keyspaces().iter().any(|n| n == "other"));
    other.put(b"key", b"other value").expect("it takes writes");
    vfs.clear_faults();
    db.drop_keyspace("other").expect("there is space");
    assert_eq!(other.get(b"key").expect_err("dropped").kind(), ErrorKind::NotFound);
}

/// The sync of the parent directory failed; the second attempt found the directory made, synced the
/// same name again, which said well and did nothing, and a power cut took the whole database.
#[test]
fn a_creation_tried_again_after_a_failed_sync_is_durable() {
    let vfs = SimulatedVfs::new(1);
    vfs.fail(FaultRule::next(&[Operation::SyncDir], FaultError::Eio).on("/"));
    vfs.fail(FaultRule { at: 1, ..FaultRule::next(&[Operation::SyncDir], FaultError::Eio) });
    while open_with(&vfs, config()).is_err() {
        assert!(!vfs.exists(Path::new("/db")).expect("a look"), "a failed creation left files");
    }
    let db = open(&vfs);
    put(&db, b"key", 10, Durability::Sync).expect("a commit");
    let db = open(&vfs.power_cut_with(1, Survival::Nothing));
    assert!(db.get(b"key").expect("a get").is_some(), "the database is gone");
}

/// Memtables piled up without bound where flushing found no space and no thread works behind the
/// calls; now writes are refused, and the first one after there is space flushes and goes on.
#[test]
fn without_threads_a_full_disk_refuses_writes_until_there_is_space() {
    let vfs = SimulatedVfs::new(1);
    let config = LightningDbConfig { wal_enabled: false, ..config() };
    let db = open_with(&vfs, config).expect("a database");
    vfs.fail(FaultRule::next(&[Operation::Create], FaultError::Enospc).on("/seg/").forever());
    let mut taken = 0u32;
    let e = loop {
        match db.put(taken.to_be_bytes(), [7; 1000]) {
            Ok(()) => taken += 1,
            Err(e) => break e,
        }
        assert!(taken < 2000, "memory fills");
    };
    assert_eq!(e.kind(), ErrorKind::StorageFull, "{e:?}");
    let problems = db.health_check().problems.join("; ");
    assert!(problems.contains("flushing failed") && problems.contains(".seg"), "{problems}");
    vfs.clear_faults();
    db.put(taken.to_be_bytes(), [7; 1000]).expect("there is space");
    assert!(db.health_check().healthy, "{:?}", db.health_check().problems);
    assert_eq!(db.count(None, None).expect("a count"), u64::from(taken) + 1);
}
