//! Threads that race for few rows, and for unique index keys.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};

use lightning_db::{
    Database, ErrorKind, IsolationLevel, LightningDbConfig, TransactionMode, TransactionOptions,
};

use crate::number;
use crate::rows::{NAMES, check, config, spec};

fn memory() -> Database {
    let config = LightningDbConfig { background_threads: 1, ..config() };
    Database::open_in_memory(config).expect("opens")
}

/// Whatever threads do to a few rows, no stale entry stays, and none is lost.
#[test]
fn racing_writers_leave_indexes_whole() {
    let violations = AtomicU64::new(0);
    let rounds = number("LIGHTNING_INDEX_RACES", 4);
    let first = number("LIGHTNING_INDEX_FIRST", 1);
    for round in first..first + rounds {
        let db = memory();
        for name in NAMES {
            db.create_index(name, spec(name)).expect("builds");
        }
        std::thread::scope(|scope| {
            for t in 0..4_u64 {
                let (db, violations) = (&db, &violations);
                scope.spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(round * 100 + t);
                    for _ in 0..1500 {
                        match write(db, &mut rng) {
                            Ok(()) => {}
                            Err(e) if e.kind() == ErrorKind::UniqueViolation => {
                                violations.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(e) => panic!("round {round}: {e:?}"),
                        }
                    }
                });
            }
        });
        check(
            &db,
            &format!("round {round}; LIGHTNING_INDEX_FIRST={round} LIGHTNING_INDEX_RACES=1"),
        );
    }
    let violations = violations.load(Ordering::Relaxed);
    assert!(violations > 0, "no unique index key was ever wanted twice");
    println!("tried: {} racing writes with indexes ({violations} violations)", rounds * 6000);
}

fn write(db: &Database, rng: &mut fastrand::Rng) -> lightning_db::Result<()> {
    let key = |rng: &mut fastrand::Rng| vec![b'r', rng.u8(0..5)];
    let value =
        |rng: &mut fastrand::Rng| vec![rng.u8(0..3), rng.u8(0..6), rng.u8(0..9), rng.u8(0..9)];
    match rng.u8(0..10) {
        0..4 => db.put(key(rng), value(rng)),
        4 => {
            let (a, b) = (key(rng), key(rng));
            db.delete_range(Some(&a), Some(&b))
        }
        5 => db.delete(key(rng)),
        6 => {
            let entries: Vec<_> = (0..3).map(|_| (key(rng), value(rng))).collect();
            db.put_batch(&entries)
        }
        7 => {
            let new = value(rng);
            db.fetch_update(key(rng), |_| Some(new.clone())).map(|_| ())
        }
        n => {
            let mode =
                if n == 8 { TransactionMode::Optimistic } else { TransactionMode::Pessimistic };
            let isolation = *rng
                .choice(&[
                    IsolationLevel::ReadCommitted,
                    IsolationLevel::RepeatableRead,
                    IsolationLevel::Serializable,
                ])
                .expect("some");
            let options =
                TransactionOptions { mode, isolation, max_retries: 10_000, ..Default::default() };
            let (a, b, x, y) = (key(rng), key(rng), value(rng), value(rng));
            db.execute_transaction(options, |tx| {
                if tx.get(&a)?.is_some() {
                    tx.delete(&a)?;
                }
                tx.put(&b, &x)?;
                tx.put(&a, &y)
            })
        }
    }
}

/// Of all who want one unique index key at once, exactly one gets it.
#[test]
fn of_racers_for_a_unique_key_one_wins() {
    let rounds = 60 * number("LIGHTNING_INDEX_RACES", 4);
    let db = memory();
    db.create_index("by_unit", spec("by_unit")).expect("builds");
    let threads = 4;
    let start = Barrier::new(threads);
    let mut wins: BTreeMap<u64, usize> = BTreeMap::new();
    std::thread::scope(|scope| {
        let racers: Vec<_> = (0..threads)
            .map(|t| {
                let (db, start) = (&db, &start);
                scope.spawn(move || {
                    let mut won = Vec::new();
                    for round in 0..rounds {
                        let row = [b'u', t as u8];
                        let value = [0, 1 + (round % 200) as u8];
                        start.wait();
                        let result = match t % 2 {
                            0 => db.put(row, value),
                            _ => db.execute_transaction(TransactionOptions::default(), |tx| {
                                tx.put(row, value)
                            }),
                        };
                        match result {
                            Ok(()) => won.push(round),
                            Err(e) => assert_eq!(e.kind(), ErrorKind::UniqueViolation, "{e}"),
                        }
                        start.wait();
                        db.delete(row).expect("deletes");
                        start.wait();
                    }
                    won
                })
            })
            .collect();
        for racer in racers {
            for round in racer.join().expect("a racer") {
                *wins.entry(round).or_default() += 1;
            }
        }
    });
    assert_eq!(wins.len() as u64, rounds, "a round that nobody won");
    assert!(wins.values().all(|n| *n == 1), "two won: {wins:?}");
    check(&db, "after the races");
    println!("tried: {rounds} races for a unique index key ({threads} threads)");
}

/// Rows are read by an index while they are written: whoever finds an entry finds its row, as it was
/// at that moment.
#[test]
fn readers_find_rows_as_their_entries_say() {
    let db = memory();
    let index = db.create_index("by_group", spec("by_group")).expect("builds");
    let done = std::sync::atomic::AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut rng = fastrand::Rng::with_seed(3);
            for _ in 0..6000 {
                let row = [b'r', rng.u8(0..20)];
                if rng.u8(0..4) == 0 {
                    db.delete(row).expect("deletes");
                } else {
                    db.put(row, [rng.u8(0..6), 0, rng.u8(..)]).expect("puts");
                }
            }
            done.store(true, Ordering::Release);
        });
        let mut seen = 0_u64;
        while !done.load(Ordering::Acquire) || seen == 0 {
            for row in index.range(None, None).expect("reads") {
                let row = row.expect("an entry has its row");
                assert_eq!(row.index_key.parts()[0], vec![row.value[0]].into());
                seen += 1;
            }
        }
        writer.join().expect("the writer");
        seen
    });
    println!("tried: {seen} rows read by an index while they were written");
}
