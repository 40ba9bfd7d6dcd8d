//! An ingest cut off, or failed, at every operation of the simulated disk: all of it or nothing, in
//! order with the commits around it, and no file that nothing names.

use lightning_db::vfs::SimulatedVfs;
use lightning_db::vfs::simulated::FaultError;
use lightning_db::{Database, ErrorKind, KeyspaceOptions, LightningDbConfig};

use super::{Pair, all, clean, config, entries, files, key, simulated};

/// What there is before: rows, memtables of two keyspaces, a large value. (`put` syncs.)
fn begin(vfs: &SimulatedVfs, config: &LightningDbConfig) -> Database {
    let db = simulated(vfs, config.clone()).expect("opens");
    db.put_batch(&entries(0, 300, 2, "old")).expect("writes");
    db.flush().expect("flushes");
    db.put(key(3), b"in memory").expect("writes");
    let other = db.keyspace("other", KeyspaceOptions::default()).expect("a keyspace");
    other.put(key(1), vec![9; 20_000]).expect("writes");
    db
}

fn wanted() -> Vec<Pair> {
    let mut new = entries(2, 900, 1, "new");
    new[10].1 = vec![1; 17_000];
    new[500].1 = vec![2; 300_000];
    new
}

fn after() -> Vec<Pair> {
    let mut state = vec![(key(0), b"old0".to_vec())];
    state.extend(wanted());
    state
}

fn without_log() -> LightningDbConfig {
    LightningDbConfig { wal_enabled: false, ..config() }
}

/// Every file of segments is one that a fresh open keeps: nothing is left that nobody names.
fn no_orphans(vfs: &SimulatedVfs, db: Database, label: &str) {
    db.close().expect("closes");
    let before = files(vfs);
    let db = simulated(vfs, config()).expect("opens");
    assert_eq!(files(vfs), before, "{label}: files that nobody names");
    clean(&db);
}

#[test]
fn cut_off_at_every_operation_it_is_there_or_not() {
    let mut tried = 0;
    for config in [config(), without_log()] {
        let whole = SimulatedVfs::new(5);
        let before = all(&begin(&SimulatedVfs::new(5), &config));
        let db = begin(&whole, &config);
        let first = whole.operations();
        db.ingest(wanted()).expect("ingests");
        let last = whole.operations();
        drop(db);
        for at in first..last {
            let vfs = SimulatedVfs::new(5);
            let db = begin(&vfs, &config);
            vfs.crash_after(at);
            let acknowledged = db.ingest(wanted()).is_ok();
            drop(db);
            for (how, disk) in [("kill", vfs.kill()), ("cut", vfs.power_cut(at))] {
                let label = format!("operation {at}, {how}, log {}", config.wal_enabled);
                let db = simulated(&disk, config.clone()).expect("opens");
                let state = all(&db);
                let there = state == after();
                // Without a log a crash loses what was not flushed.
                let rows = entries(0, 300, 2, "old");
                assert!(
                    there || state == before || (!config.wal_enabled && state == rows),
                    "{label}"
                );
                assert!(there || !acknowledged, "{label}: it was acknowledged");
                clean(&db);
                if there {
                    let other = db.keyspace("other", KeyspaceOptions::default()).expect("is there");
                    let value = other.get(key(1)).expect("reads");
                    assert!(value == Some(vec![9; 20_000]), "{label}: an earlier commit");
                }
                no_orphans(&disk, db, &label);
                tried += 1;
            }
        }
    }
    println!("tried: {tried} ingests cut off (each operation, killed and power cut)");
}

#[test]
fn failed_at_every_operation_it_leaves_all_as_it_was() {
    let mut tried = 0;
    for config in [config(), without_log()] {
        let whole = SimulatedVfs::new(5);
        let before = all(&begin(&SimulatedVfs::new(5), &config));
        let db = begin(&whole, &config);
        let first = whole.operations();
        db.ingest(wanted()).expect("ingests");
        let last = whole.operations();
        drop(db);
        for at in first..last {
            for error in [FaultError::Eio, FaultError::Enospc] {
                let label = format!("operation {at}, {error:?}, log {}", config.wal_enabled);
                let vfs = SimulatedVfs::new(5);
                let db = begin(&vfs, &config);
                vfs.fail_operation(at, error, false);
                let result = db.ingest(wanted());
                tried += 1;
                let state = all(&db);
                match &result {
                    // The work behind it met the fault, or none that matters.
                    Ok(_) => assert!(state == after(), "{label}"),
                    Err(_) => assert!(state == before, "{label}: {result:?}"),
                }
                let unknown = result.as_ref().is_err_and(|e| e.kind() == ErrorKind::CommitUnknown);
                if db.put(key(5000), b"on").is_ok() {
                    assert!(!unknown, "{label}");
                    db.delete(key(5000)).expect("deletes");
                    if result.is_ok() {
                        // A file that could not be removed stays until the next opening.
                        continue;
                    }
                    db.ingest(wanted()).expect("the fault is over");
                    assert!(all(&db) == after(), "{label}");
                    clean(&db);
                    no_orphans(&vfs, db, &label);
                    continue;
                }
                // Writes were stopped: whatever it said holds after opening anew.
                drop(db);
                let disk = vfs.kill();
                let db = simulated(&disk, config.clone()).expect("opens");
                let state = all(&db);
                let rows = entries(0, 300, 2, "old");
                let kept = state == before || (!config.wal_enabled && state == rows);
                match result {
                    Ok(_) => assert!(state == after(), "{label}"),
                    Err(_) if unknown => assert!(kept || state == after(), "{label}"),
                    Err(e) => assert!(kept, "{label}: {e}"),
                }
                no_orphans(&disk, db, &label);
            }
        }
    }
    println!("tried: {tried} ingests with an operation that fails");
}
