//! The commit path: section, log, group fsync, memtable, visible number, on the simulated disk.
//!
//! Planted bugs that were seen to fail here stand with the tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use shuttle::rand::{Rng, thread_rng};

use super::explore::explore;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::thread;
use crate::types::{EntryValue, Seq};
use crate::vfs::simulated::{FaultError, FaultRule, Operation, Survival};
use crate::vfs::{SimulatedVfs, Vfs};
use crate::{
    Database, Durability, ErrorKind, LightningDbConfig, OpenAs, Result, WriteBatch, WriteOptions,
};

const KEYS: [&[u8]; 2] = [b"a", b"b"];

/// Small, and without threads of its own.
pub(super) fn config() -> LightningDbConfig {
    LightningDbConfig {
        cache_size: 64 * 1024,
        write_buffer_size: 64 * 1024,
        wal_segment_size: 16 * 1024,
        max_wal_size: 64 * 1024,
        background_threads: 0,
        ..LightningDbConfig::default()
    }
}

fn open(vfs: &SimulatedVfs, mode: OpenAs) -> Result<Database> {
    Database::open_with_vfs(Arc::new(vfs.clone()) as Arc<dyn Vfs>, "/db", config(), mode)
}

/// Writes `value` under both keys in one commit.
fn write_both(db: &Database, value: u8, durability: Durability) -> Result<()> {
    let mut batch = WriteBatch::new();
    for key in KEYS {
        batch.put(key, [value]);
    }
    db.write(batch, WriteOptions { durability: Some(durability) })
}

/// The value under both keys in a snapshot, and the snapshot's number. 0 where there is none.
fn read_both(db: &Database) -> (u64, u8) {
    let snapshot = db.snapshot().unwrap();
    let read = || KEYS.map(|k| snapshot.get(k).unwrap().map_or(0, |v| v[0]));
    let seen = read();
    assert!(seen[0] == seen[1], "half a batch: {seen:?} at {}", snapshot.seq());
    assert!(read() == seen, "the snapshot at {} changed", snapshot.seq());
    (snapshot.seq(), seen[0])
}

/// The value under both keys after each commit; nothing was flushed.
fn history(db: &Database) -> BTreeMap<u64, u8> {
    let core = &db.handle().core;
    let version = core.default.version();
    let last = core.section.enter().last;
    let at = |seq: u64| {
        let found = KEYS.map(|k| match version.active.get(k, Seq(seq)) {
            Some((_, EntryValue::Inline(v))) => v[0],
            _ => 0,
        });
        assert_eq!(found[0], found[1]);
        (seq, found[0])
    };
    (0..=last.0).map(at).collect()
}

/// Values of `Sync` commits; those of `Async` ones are above.
const LAST_SYNC_VALUE: u8 = 9;

/// After the threads are done: what `seen` was seen was there in the order of commits, and what an
/// image of the disk must hold, it does.
fn check_image(image: &SimulatedVfs, states: &BTreeMap<u64, u8>, seen: u64) {
    let promised =
        (1..=seen).rev().find(|s| (1..=LAST_SYNC_VALUE).contains(&states[s])).unwrap_or(0);
    let db = open(image, OpenAs::Open).unwrap();
    let (recovered, value) = read_both(&db);
    assert!(recovered >= promised, "{seen} was seen, commit {recovered} is the last on the disk");
    assert_eq!(states[&recovered], value, "no prefix of the commits");
}

/// Two writers, each with a `Sync` commit and one an `Async` commit before it; a reader that cuts
/// the power after it has looked.
fn what_is_seen_survives_model() {
    let vfs = SimulatedVfs::new(1);
    let db = open(&vfs, OpenAs::Create).unwrap();
    let first = thread::spawn({
        let db = db.clone();
        move || {
            write_both(&db, 11, Durability::Async).unwrap();
            write_both(&db, 1, Durability::Sync).unwrap();
            assert!(read_both(&db).0 >= 2, "an acknowledged commit was not seen");
        }
    });
    let second = thread::spawn({
        let db = db.clone();
        move || {
            write_both(&db, 2, Durability::Sync).unwrap();
            let (seq, value) = read_both(&db);
            assert!(seq >= 1 && value != 0);
        }
    });
    let (seen, value) = read_both(&db);
    let image = vfs.power_cut_with(7, Survival::Nothing);
    let (later, later_value) = read_both(&db);
    assert!(later >= seen, "commits became invisible");
    first.join().unwrap();
    second.join().unwrap();
    let states = history(&db);
    assert_eq!((states[&seen], states[&later]), (value, later_value), "seen out of order");
    assert_eq!(states.len(), 4);
    check_image(&image, &states, seen);
}

/// Seen to fail when a commit becomes visible before `sync_to`, when it asks for its own number
/// alone, when the visible number is stored instead of raised, when it is raised before
/// the entries are inserted, and when the leader of a sync claims what was appended since it began.
#[test]
fn what_is_seen_is_durable_whole_and_in_order() {
    explore("what_is_seen_is_durable_whole_and_in_order", 14_000, what_is_seen_survives_model);
}

/// A failed fsync, at any of them: its commits are not acknowledged, nothing becomes visible from
/// there on, and what was seen survives.
fn failed_sync_model() {
    let vfs = SimulatedVfs::new(1);
    let db = open(&vfs, OpenAs::Create).unwrap();
    let mut rule = FaultRule::next(&[Operation::Sync], FaultError::Eio).on(".wal");
    rule.at = thread_rng().gen_range(0..3);
    if thread_rng().gen_bool(0.5) {
        rule = rule.forever();
    }
    vfs.fail(rule);
    let acknowledged = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = [1, 2]
        .into_iter()
        .map(|value| {
            let (db, acknowledged) = (db.clone(), Arc::clone(&acknowledged));
            thread::spawn(move || {
                for value in [value, value + 2] {
                    match write_both(&db, value, Durability::Sync) {
                        Ok(()) => {
                            acknowledged.fetch_add(1, Ordering::SeqCst);
                        }
                        Err(e) => {
                            let kinds = [ErrorKind::CommitUnknown, ErrorKind::Poisoned];
                            assert!(kinds.contains(&e.kind()), "{e:?}");
                        }
                    }
                }
            })
        })
        .collect();
    let promised = acknowledged.load(Ordering::SeqCst);
    let (seen, value) = read_both(&db);
    assert!(seen >= promised);
    let image = vfs.power_cut_with(7, Survival::Nothing);
    for writer in writers {
        writer.join().unwrap();
    }
    let promised = acknowledged.load(Ordering::SeqCst);
    let (last, last_value) = read_both(&db);
    assert_eq!(last, promised, "a commit was seen that was not acknowledged");
    let states = history(&db);
    assert_eq!((states[&seen], states[&last]), (value, last_value));
    check_image(&image, &states, seen);
    check_image(&vfs.power_cut_with(7, Survival::Nothing), &states, last);
}

/// Seen to fail when a failed sync moves the durable number, when it does not poison the log, and
/// when a waiter takes the end of the leader's sync for its success.
#[test]
fn after_a_failed_sync_nothing_more_is_seen() {
    explore("after_a_failed_sync_nothing_more_is_seen", 10_000, failed_sync_model);
}

/// Three transactions that each add one to the same key.
fn counting_model() {
    let vfs = SimulatedVfs::new(1);
    let db = open(&vfs, OpenAs::Create).unwrap();
    let add_one = |db: &Database| {
        let mut tx = db.transaction().unwrap();
        let n = tx.get(b"n").unwrap().map_or(0, |v| v[0]);
        tx.put(b"n", [n + 1]).unwrap();
        match tx.commit() {
            Ok(()) => 1,
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Conflict);
                0
            }
        }
    };
    let others: Vec<_> = (0..2)
        .map(|_| {
            let db = db.clone();
            thread::spawn(move || add_one(&db))
        })
        .collect();
    let mut done: u8 = add_one(&db);
    for other in others {
        done += other.join().unwrap();
    }
    assert!(done >= 1, "somebody commits first");
    assert_eq!(db.get(b"n").unwrap(), Some(vec![done]), "an update was lost");
}

/// Seen to fail without the validation inside the section, and when validation looks at what is
/// visible only.
#[test]
fn the_first_committer_wins() {
    explore("the_first_committer_wins", 12_000, counting_model);
}
