//! Four threads write and overwrite, two scan and get, and one snapshot is held throughout: it stays
//! what it was, readers see whole commits only, and neither memory nor disk grow with its age.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use lightning_db::WriteOptions;
use lightning_db::{Database, LightningDbConfig, VerifyOptions, WalSyncMode, WriteBatch};

const WRITERS: u64 = 4;
/// Entries of each writer.
const ENTRIES: u64 = 2_000;
/// Entries that a commit writes, all in the same state.
const TOGETHER: u64 = 10;
const ROUNDS: u64 = 60;

/// The writers' keys are interleaved.
fn key(writer: u64, index: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&index.to_be_bytes());
    key[8..].copy_from_slice(&writer.to_be_bytes());
    key
}

/// A value that does not pack; its first bytes are its round.
fn value(writer: u64, index: u64, round: u64) -> [u8; 100] {
    let mut value = [0; 100];
    fastrand::Rng::with_seed(writer << 60 | index << 20 | round).fill(&mut value);
    value[..8].copy_from_slice(&round.to_be_bytes());
    value
}

fn write(db: &Database, writer: u64, first: u64, round: u64) {
    let mut batch = WriteBatch::new();
    for index in first..first + TOGETHER {
        batch.put(key(writer, index), value(writer, index, round));
    }
    db.write(batch, WriteOptions::default()).expect("writes");
}

/// Reads a whole state entry by entry; returns the rounds, writer by writer.
fn check_scan(pairs: impl Iterator<Item = lightning_db::Result<(Vec<u8>, Vec<u8>)>>) -> Vec<u64> {
    let mut rounds = vec![0; (WRITERS * ENTRIES) as usize];
    let mut count = 0;
    for pair in pairs {
        let (k, v) = pair.expect("reads");
        let index = u64::from_be_bytes(k[..8].try_into().expect("eight bytes"));
        let writer = u64::from_be_bytes(k[8..].try_into().expect("eight bytes"));
        let round = u64::from_be_bytes(v[..8].try_into().expect("eight bytes"));
        assert!(v == value(writer, index, round), "an invented value of {writer}, {index}");
        rounds[(writer * ENTRIES + index) as usize] = round;
        count += 1;
    }
    assert_eq!(count, WRITERS * ENTRIES, "every entry once");
    for commit in rounds.chunks(TOGETHER as usize) {
        assert!(commit.iter().all(|round| *round == commit[0]), "half a commit: {commit:?}");
    }
    rounds
}

#[test]
fn a_snapshot_held_throughout_stays_what_it_was_and_costs_only_itself() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = LightningDbConfig {
        write_buffer_size: 256 * 1024,
        wal_segment_size: 1024 * 1024,
        max_wal_size: 4 * 1024 * 1024,
        cache_size: 512 * 1024,
        wal_sync_mode: WalSyncMode::Async,
        background_threads: 2,
        ..LightningDbConfig::default()
    };
    let db = Database::create(dir.path().join("db"), config).expect("creates");
    for writer in 0..WRITERS {
        for first in (0..ENTRIES).step_by(TOGETHER as usize) {
            write(&db, writer, first, 1);
        }
    }
    db.compact().expect("compacts");
    let one_state = db.stats().storage_bytes;
    let snapshot = db.snapshot().expect("a snapshot");
    let done = AtomicBool::new(false);
    let (scans, gets) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut worst = 0;
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (db, scans) = (db.clone(), &scans);
                scope.spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(writer);
                    for round in 2..ROUNDS {
                        // What a scan keeps is what is written while it goes on: no more than
                        // some rounds, however slow the machine.
                        while scans.load(Ordering::Relaxed) < round / 3 {
                            std::thread::yield_now();
                        }
                        let mut order: Vec<u64> = (0..ENTRIES).step_by(TOGETHER as usize).collect();
                        rng.shuffle(&mut order);
                        for first in order {
                            write(&db, writer, first, round);
                        }
                    }
                })
            })
            .collect();
        // One reader scans, in both directions, and sees time go on only.
        scope.spawn(|| {
            let mut before = vec![0; (WRITERS * ENTRIES) as usize];
            for turn in 0.. {
                let range = db.range(None, None).expect("a range");
                let rounds =
                    if turn % 2 == 0 { check_scan(range) } else { check_scan(range.rev()) };
                assert!(rounds.iter().zip(&before).all(|(now, then)| now >= then), "back in time");
                before = rounds;
                scans.fetch_add(1, Ordering::Relaxed);
                if done.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        // The other gets, from now and from the snapshot.
        scope.spawn(|| {
            let mut rng = fastrand::Rng::with_seed(99);
            let mut newest = vec![0; (WRITERS * ENTRIES) as usize];
            while !done.load(Ordering::Relaxed) {
                let (writer, index) = (rng.u64(0..WRITERS), rng.u64(0..ENTRIES));
                let now = db.get(key(writer, index)).expect("reads").expect("is there");
                let round = u64::from_be_bytes(now[..8].try_into().expect("eight bytes"));
                assert!(now == value(writer, index, round));
                let seen = &mut newest[(writer * ENTRIES + index) as usize];
                assert!(round >= *seen, "a stale read");
                *seen = round;
                let then = snapshot.get(key(writer, index)).expect("reads").expect("is there");
                assert!(then == value(writer, index, 1), "the snapshot changed");
                gets.fetch_add(1, Ordering::Relaxed);
            }
        });
        while !writers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            worst = worst.max(db.stats().storage_bytes);
            std::thread::yield_now();
        }
        done.store(true, Ordering::Relaxed);
    });
    let in_snapshot = check_scan(snapshot.range(None, None).expect("a range"));
    assert!(in_snapshot.iter().all(|round| *round == 1), "the snapshot changed");
    let now = check_scan(db.range(None, None).expect("a range"));
    assert!(now.iter().all(|round| *round == ROUNDS - 1));
    // The snapshot's state, twice the present one, a write buffer or four, and what scans under way
    // keep, and what merges have not come to where the machine is slow: not all that was written.
    let worst = worst as f64 / one_state as f64;
    println!("{scans:?} scans, {gets:?} gets, {worst:.2} states on disk at worst");
    assert!(worst <= 24.0, "{worst:.2} states after {ROUNDS} were written");
    db.compact().expect("compacts");
    let held = db.stats().storage_bytes as f64 / one_state as f64;
    assert!(held <= 2.3, "{held:.2} states, of which two can be seen");
    assert!(db.stats().cache_bytes <= 512 * 1024);
    drop(snapshot);
    db.compact().expect("compacts");
    let left = db.stats().storage_bytes as f64 / one_state as f64;
    println!("{held:.2} with the snapshot, {left:.2} without");
    assert!(left <= 1.2, "{left:.2} states, of which one can be seen");
    let report = db.verify(VerifyOptions::default()).expect("verifies");
    assert!(report.is_clean(), "{:?}", report.problems);
    db.close().expect("closes");
}
