//! Readers while the version changes under them: memtables sealed and flushed, versions of keys
//! dropped, runs merged into the base.

use std::sync::Arc;

use super::commits::config;
use super::explore::explore;
use crate::manifest::KeyInterval;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::thread;
use crate::vfs::MemoryVfs;
use crate::{Database, Durability, OpenAs, WriteBatch, WriteOptions};

fn open() -> Database {
    Database::open_with_vfs(Arc::new(MemoryVfs::new()), "/db", config(), OpenAs::Create).unwrap()
}

/// Writes `value` under both keys in one commit.
fn write(db: &Database, value: u8) {
    let mut batch = WriteBatch::new();
    batch.put(b"a", [value]);
    batch.put(b"b", [value]);
    db.write(batch, WriteOptions { durability: Some(Durability::Async) }).unwrap();
}

fn get(db: &Database, key: &[u8]) -> u8 {
    db.get(key).unwrap().expect("the key was always there")[0]
}

/// The keys' value in a snapshot, by look-ups and by a scan.
fn in_snapshot(db: &Database) -> u8 {
    let snapshot = db.snapshot().unwrap();
    let get = |key: &[u8]| snapshot.get(key).unwrap().expect("the key was always there")[0];
    let a = get(b"a");
    let pairs: Vec<_> = snapshot.range(None, None).unwrap().map(Result::unwrap).collect();
    assert_eq!(
        pairs,
        [(b"a".to_vec(), vec![a]), (b"b".to_vec(), vec![a])],
        "at {}",
        snapshot.seq()
    );
    assert_eq!((get(b"b"), get(b"a")), (a, a), "at {}", snapshot.seq());
    a
}

/// A writer that goes on from value 2 to 3, `job` beside it, and a reader of `look`.
/// (Many looks, where they are short: as many places at which the others may come between.)
fn beside(job: fn(&Database), look: fn(&Database) -> u8, looks: usize) {
    let db = open();
    write(&db, 1);
    // Kept for it: what is dropped lies between what it sees and the newest.
    let old = db.snapshot().unwrap();
    db.handle().core.section.seal_all();
    write(&db, 2);
    let written = Arc::new(AtomicU64::new(2));
    let writer = thread::spawn({
        let (db, written) = (db.clone(), Arc::clone(&written));
        move || {
            write(&db, 3);
            written.store(3, Ordering::SeqCst);
        }
    });
    let worker = thread::spawn({
        let db = db.clone();
        move || job(&db)
    });
    let mut least = 0;
    for _ in 0..looks {
        least = least.max(written.load(Ordering::SeqCst) as u8);
        let value = look(&db);
        assert!(value >= least, "{value} was read after {least}");
        least = value;
    }
    writer.join().unwrap();
    worker.join().unwrap();
    assert_eq!((get(&db, b"a"), get(&db, b"b")), (3, 3));
    assert_eq!(old.get(b"a").unwrap(), Some(vec![1]));
}

/// Seals and flushes, as the flush thread and full memtables do.
fn flush(db: &Database) {
    db.flush().unwrap();
}

/// Merges all runs into the base.
fn merge(db: &Database) {
    let core = &db.handle().core;
    let within = KeyInterval { start: Vec::new(), end: None };
    core.compact(&core.default, &within).unwrap();
}

/// Seen to fail when a point read takes the number before the version, and when a flush drops its
/// memtable before it shows the run.
#[test]
fn reads_beside_a_flush_are_never_lost_or_stale() {
    let point: fn() = || beside(flush, |db| get(db, b"a"), 24);
    explore("reads_beside_a_flush_are_never_lost_or_stale", 10_000, point);
}

/// Seen to fail when a flush or merge keeps nothing for views, and when it never raises the floor.
#[test]
fn snapshots_beside_a_flush_never_change() {
    let model: fn() = || beside(flush, in_snapshot, 2);
    explore("snapshots_beside_a_flush_never_change", 8_000, model);
}

/// Seen to fail as the reads beside a flush are.
#[test]
fn reads_beside_a_merge_are_never_lost_or_stale() {
    let model: fn() = || beside(merge, |db| get(db, b"a"), 24);
    explore("reads_beside_a_merge_are_never_lost_or_stale", 6_000, model);
}

/// Seen to fail as the snapshots beside a flush are.
#[test]
fn snapshots_beside_a_merge_never_change() {
    let model: fn() = || beside(merge, in_snapshot, 2);
    explore("snapshots_beside_a_merge_never_change", 6_000, model);
}
