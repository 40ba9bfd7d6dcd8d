//! Hot keys, answered by the row cache, while they are written: an acknowledged write is never missed
//! by a read that begins after it, reads never go back, and snapshots and transactions see their own
//! moment. Values change in length, and some writes are deletes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use lightning_db::{
    Database, IsolationLevel, LightningDbConfig, TransactionOptions, WalSyncMode, WriteBatch,
    WriteOptions,
};

/// Commits of each writer.
fn rounds() -> u64 {
    std::env::var("LIGHTNING_HOT_KEYS_COMMITS").map_or(3_000, |n| n.parse().expect("a number"))
}

/// Whether the write of this number is a delete.
fn deletes(n: u64) -> bool {
    n % 7 == 3
}

/// A key: half the time one of the first sixteenth, so that rows are come back for before they are pushed out.
fn draw(rng: &mut fastrand::Rng, keys: u64) -> u64 {
    let bound = if rng.bool() { (keys / 16).max(1) } else { keys };
    rng.u64(0..bound)
}

/// What a write puts: a number, and so many bytes more, which differ from number to number.
fn valued(n: u64, padding: usize) -> Vec<u8> {
    [&n.to_be_bytes()[..], &vec![n as u8; padding + (n % 4) as usize * 5][..]].concat()
}

/// The number of what was read: of a value its own, and of none the first from `least` on that is a delete's.
fn number(value: Option<&[u8]>, least: u64, padding: usize) -> u64 {
    let Some(value) = value else {
        return (least..least + 7).find(|n| deletes(*n)).expect("one in seven");
    };
    let n = u64::from_be_bytes(value[..8].try_into().expect("eight bytes"));
    assert!(!deletes(n) && value == valued(n, padding), "a value that was never put");
    n
}

fn counters(keys: u64) -> Vec<AtomicU64> {
    (0..keys).map(|_| AtomicU64::new(0)).collect()
}

/// Few keys, whose rows are written all the time; and ten thousand, of whose rows the cache holds a part: they are
/// pushed out, forgotten and taken in again meanwhile.
#[test]
fn hot_keys_are_never_stale() {
    let cases = [
        (WalSyncMode::Async, 40, 512 * 1024, 0),
        (WalSyncMode::Sync, 40, 512 * 1024, 0),
        (WalSyncMode::Async, 10_000, 1024 * 1024, 100),
    ];
    for (wal_sync_mode, keys, cache_size, padding) in cases {
        race(wal_sync_mode, keys, cache_size, padding);
    }
}

/// Writers against readers.
fn race(wal_sync_mode: WalSyncMode, all: u64, cache_size: usize, padding: usize) {
    let config = LightningDbConfig {
        wal_sync_mode,
        write_buffer_size: 64 * 1024,
        cache_size,
        background_threads: 1,
        ..LightningDbConfig::default()
    };
    let db = Database::open_in_memory(config).expect("opens");
    for key in 0..all {
        db.put(key.to_be_bytes(), valued(0, padding)).expect("writes");
    }
    // Of each key: the last value whose write began, and the last acknowledged.
    let (begun, acknowledged) = (counters(all), counters(all));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                let (db, begun, acknowledged) = (&db, &begun, &acknowledged);
                scope.spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(writer);
                    for _ in 0..rounds() {
                        // Each writer has keys of its own; now and then two in one commit.
                        let mut keys = vec![draw(&mut rng, all / 2) * 2 + writer];
                        if rng.u8(..4) == 0 {
                            keys.push((keys[0] + 2) % all);
                        }
                        let mut batch = WriteBatch::new();
                        let next: Vec<u64> = keys
                            .iter()
                            .map(|k| begun[*k as usize].fetch_add(1, Ordering::SeqCst) + 1)
                            .collect();
                        for (key, n) in keys.iter().zip(&next) {
                            if deletes(*n) {
                                batch.delete(key.to_be_bytes());
                            } else {
                                batch.put(key.to_be_bytes(), valued(*n, padding));
                            }
                        }
                        db.write(batch, WriteOptions::default()).expect("writes");
                        for (key, n) in keys.iter().zip(&next) {
                            acknowledged[*key as usize].store(*n, Ordering::SeqCst);
                        }
                        // What is read most is not in memtables for long.
                        if rng.u8(..64) == 0 {
                            db.flush().expect("flushes");
                        }
                    }
                })
            })
            .collect();
        for reader in 0..2 {
            let (db, begun, acknowledged, done) = (&db, &begun, &acknowledged, &done);
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(100 + reader);
                let mut newest = vec![0; all as usize];
                while !done.load(Ordering::Relaxed) {
                    let key = draw(&mut rng, all);
                    let least = acknowledged[key as usize].load(Ordering::SeqCst);
                    let least = least.max(newest[key as usize]);
                    let number = |value: Option<&[u8]>| number(value, least, padding);
                    let key = key.to_be_bytes();
                    let found = match rng.u8(..4) {
                        0 => number(db.get(key).expect("reads").as_deref()),
                        1 => {
                            let tx = db.transaction().expect("begins");
                            let first = tx.get(key).expect("reads");
                            let again = tx.get(key).expect("reads");
                            assert_eq!(first, again, "a transaction's moment moved");
                            number(first.as_deref())
                        }
                        2 => {
                            let options = TransactionOptions::at(IsolationLevel::ReadCommitted);
                            let tx = db.transaction_with(options).expect("begins");
                            number(tx.get(key).expect("reads").as_deref())
                        }
                        _ => number(db.get_pinned(key).expect("reads").as_deref()),
                    };
                    let key = u64::from_be_bytes(key);
                    let most = begun[key as usize].load(Ordering::SeqCst);
                    assert!(
                        found >= least,
                        "key {key}: {found} after {least} was read or acknowledged"
                    );
                    assert!(found <= most, "key {key}: {found}, {most} was begun");
                    newest[key as usize] = found;
                }
            });
        }
        // A snapshot's reads agree with its scan, whatever is cached meanwhile.
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let snapshot = db.snapshot().expect("a snapshot");
                let scanned: Vec<_> = snapshot
                    .range(None, None)
                    .expect("a range")
                    .map(|pair| pair.expect("reads"))
                    .collect();
                let mut scanned = scanned.into_iter().peekable();
                for key in 0..all {
                    let key = key.to_be_bytes();
                    let there = scanned.next_if(|(k, _)| k[..] == key).map(|(_, value)| value);
                    let found = snapshot.get(key).expect("reads");
                    assert!(found == there, "the snapshot moved");
                }
                assert!(scanned.next().is_none(), "a key that nobody wrote");
            }
        });
        for writer in writers {
            writer.join().expect("no panic");
        }
        done.store(true, Ordering::Relaxed);
    });
    let stats = db.stats();
    assert!(stats.row_cache_hits > 100, "the test did not reach the row cache");
    // At rest everything is the newest.
    for _ in 0..3 {
        for key in 0..all {
            let found = db.get(key.to_be_bytes()).expect("reads");
            let newest = begun[key as usize].load(Ordering::SeqCst);
            assert_eq!(number(found.as_deref(), newest, padding), newest);
        }
    }
    let (hits, commits) = (stats.row_cache_hits, 2 * rounds());
    println!(
        "tried: {commits} commits to {all} hot keys ({wal_sync_mode:?}), {hits} reads answered by rows meanwhile"
    );
    let stats = db.stats();
    let user_bytes = all * (16 + padding as u64);
    assert!(all < 1000 || stats.row_cache_bytes < user_bytes / 2, "rows of all keys fit");
}

/// An ingest noted its keys in every bucket of the row cache as its last write, past range deletes that
/// the bucket had not taken in yet: a row that had been deleted was read again. (The second model's
/// sequence 5.)
#[test]
fn an_ingest_brings_no_row_back_that_a_range_delete_took() {
    let config = LightningDbConfig { background_threads: 0, ..LightningDbConfig::default() };
    let db = Database::open_in_memory(config).expect("opens");
    for n in 0..100_u8 {
        db.put([1, n], b"old").expect("puts");
    }
    db.flush().expect("flushes");
    for n in 0..100_u8 {
        assert!(db.get([1, n]).expect("reads").is_some());
    }
    db.delete_range(Some(&[1]), Some(&[2])).expect("deletes");
    db.default_keyspace().ingest([(vec![3], vec![3])]).expect("ingests");
    for n in 0..100_u8 {
        assert_eq!(db.get([1, n]).expect("reads"), None);
    }
}
