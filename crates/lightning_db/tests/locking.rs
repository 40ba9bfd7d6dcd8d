//! Locks as users meet them: waits, time-outs, deadlocks, expiry, savepoints, retries, and steps on
//! one key.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use lightning_db::{
    Database, ErrorKind, IsolationLevel, LightningDbConfig, Transaction, TransactionMode,
    TransactionOptions, WriteBatch, WriteOptions,
};

fn open() -> Database {
    Database::open_in_memory(LightningDbConfig::default()).expect("opens")
}

fn pessimistic(isolation: IsolationLevel) -> TransactionOptions {
    TransactionOptions {
        isolation,
        mode: TransactionMode::Pessimistic,
        lock_timeout: Some(Duration::from_secs(60)),
        timeout: Some(Duration::from_secs(300)),
        ..TransactionOptions::default()
    }
}

fn kind<T: std::fmt::Debug>(result: lightning_db::Result<T>) -> ErrorKind {
    result.expect_err("refused").kind()
}

/// Waits until so many wait for locks.
fn until_waiting(db: &Database, waiters: u64) {
    while db.stats().lock_waiters != waiters {
        std::thread::yield_now();
    }
}

#[test]
fn a_cycle_of_waits_has_one_victim_and_the_others_finish() {
    for length in 2..=8_usize {
        let db = open();
        let barrier = Arc::new(Barrier::new(length));
        let threads: Vec<_> = (0..length)
            .map(|i| {
                let (db, barrier) = (db.clone(), Arc::clone(&barrier));
                std::thread::spawn(move || {
                    let options = pessimistic(IsolationLevel::ReadCommitted);
                    let mut tx = db.transaction_with(options).expect("begins");
                    tx.put([i as u8], b"mine").expect("locks its own");
                    barrier.wait();
                    tx.put([((i + 1) % length) as u8], b"next")?;
                    tx.commit()
                })
            })
            .collect();
        let results: Vec<_> = threads.into_iter().map(|t| t.join().expect("no panic")).collect();
        let victims: Vec<_> = results.into_iter().filter_map(Result::err).collect();
        assert_eq!(victims.len(), 1, "a ring of {length}: {victims:?}");
        assert_eq!(victims[0].kind(), ErrorKind::Deadlock);
        assert!(victims[0].is_retryable());
        let stats = db.stats();
        assert_eq!((stats.deadlocks, stats.lock_holders, stats.lock_waiters), (1, 0, 0));
        assert!(stats.lock_waits >= length as u64 - 1);
        assert_eq!(stats.transactions_committed, length as u64 - 1);
    }
}

#[test]
fn single_writes_batches_and_optimistic_commits_wait_for_locks() {
    let db = open();
    let mut tx = db.transaction_with(pessimistic(IsolationLevel::Serializable)).expect("begins");
    tx.put(b"row", b"locked").expect("locks");
    assert_eq!(tx.range(Some(b"r1"), Some(b"r9")).expect("locks a range").count(), 0);
    let threads: Vec<_> = (0..4)
        .map(|i| {
            let db = db.clone();
            std::thread::spawn(move || match i {
                0 => db.put(b"row", b"put"),
                1 => db.put(b"r5", b"into the range"),
                2 => {
                    let mut batch = WriteBatch::new();
                    batch.put(b"free", b"batch");
                    batch.put(b"r6", b"batch");
                    db.write(batch, WriteOptions::default())
                }
                _ => {
                    let mut other = db.transaction()?;
                    other.put(b"r7", b"optimistic")?;
                    other.commit()
                }
            })
        })
        .collect();
    until_waiting(&db, 4);
    db.put(b"elsewhere", b"x").expect("nothing stands against it");
    assert_eq!(db.get(b"free").expect("reads"), None, "a batch waits as a whole");
    assert_eq!(tx.get(b"row").expect("reads"), Some(b"locked".to_vec()));
    tx.commit().expect("commits");
    for thread in threads {
        thread.join().expect("no panic").expect("goes on");
    }
    assert_eq!(db.get(b"row").expect("reads"), Some(b"put".to_vec()));
    assert_eq!(db.count(None, None).expect("counts"), 6);
    assert_eq!((db.stats().lock_holders, db.stats().lock_waiters), (0, 0));
}

#[test]
fn a_wait_ends_with_its_time_out_and_nothing_is_written() {
    let config = LightningDbConfig {
        lock_timeout: Duration::from_millis(5),
        ..LightningDbConfig::default()
    };
    let db = Database::open_in_memory(config).expect("opens");
    let mut tx = db.transaction_with(pessimistic(IsolationLevel::RepeatableRead)).expect("begins");
    tx.put(b"k", b"locked").expect("locks");
    assert_eq!(kind(db.put(b"k", b"x")), ErrorKind::TimedOut);
    let options = TransactionOptions {
        lock_timeout: Some(Duration::from_millis(1)),
        ..pessimistic(IsolationLevel::Serializable)
    };
    let other = db.transaction_with(options).expect("begins");
    assert_eq!(kind(other.get(b"k")), ErrorKind::TimedOut);
    assert_eq!(other.get(b"other").expect("goes on"), None);
    // Reads that take no locks see what is committed.
    assert_eq!(db.get(b"k").expect("reads"), None);
    let options =
        TransactionOptions { read_only: true, ..pessimistic(IsolationLevel::Serializable) };
    let reader = db.transaction_with(options).expect("begins");
    assert_eq!(reader.get(b"k").expect("reads"), None);
    tx.abort();
    db.put(b"k", b"x").expect("free");
    assert_eq!(db.stats().lock_timeouts, 2);
}

#[test]
fn the_locks_of_an_expired_transaction_are_freed_at_once_and_its_next_call_says_so() {
    let db = open();
    let options = TransactionOptions {
        timeout: Some(Duration::from_millis(30)),
        ..pessimistic(IsolationLevel::RepeatableRead)
    };
    let mut late = db.transaction_with(options.clone()).expect("begins");
    late.put(b"k", b"late").expect("locks");
    let id = db.begin_transaction_with_options(options).expect("begins");
    db.put_tx(id, b"by id", b"late").expect("locks");
    let mut other =
        db.transaction_with(pessimistic(IsolationLevel::RepeatableRead)).expect("begins");
    other.put(b"k", b"next").expect("waits for the time-out of the other, no longer");
    db.put(b"by id", b"put").expect("the same");
    assert_eq!(kind(late.get(b"k")), ErrorKind::TimedOut);
    assert_eq!(kind(late.commit()), ErrorKind::TimedOut);
    assert_eq!(kind(db.commit_transaction(id)), ErrorKind::TimedOut);
    assert_eq!(kind(db.get_tx(id, b"k")), ErrorKind::UnknownTransaction);
    other.commit().expect("commits");
    assert_eq!(db.get(b"k").expect("reads"), Some(b"next".to_vec()));
    assert_eq!(db.stats().transactions_active, 0);
}

#[test]
fn a_thousand_sleeping_transactions_stop_nobody_and_go_with_their_time_out() {
    let db = open();
    let options = TransactionOptions {
        timeout: Some(Duration::from_millis(500)),
        ..pessimistic(IsolationLevel::Serializable)
    };
    let mut sleeping: Vec<Transaction> = (0..1000_u32)
        .map(|i| {
            let mut tx = db.transaction_with(options.clone()).expect("begins");
            tx.put(format!("own{i}"), b"x").expect("locks");
            tx
        })
        .collect();
    assert_eq!(db.stats().transactions_active, 1000);
    for i in 0..2000_u32 {
        db.put(format!("free{i}"), b"x").expect("nothing stands against it");
    }
    // Places are free again once they are past their time-out.
    let next = loop {
        match db.transaction() {
            Ok(tx) => break tx,
            Err(e) => assert_eq!(e.kind(), ErrorKind::TooManyTransactions),
        }
        std::thread::yield_now();
    };
    next.commit().expect("commits");
    assert_eq!(kind(sleeping.swap_remove(0).commit()), ErrorKind::TimedOut);
    drop(sleeping);
    let stats = db.stats();
    assert_eq!((stats.transactions_active, stats.lock_holders, stats.views), (0, 0, 0));
    assert_eq!(stats.transactions_aborted, 1000);
}

#[test]
fn a_panic_gives_locks_back() {
    let db = open();
    let panicked = {
        let db = db.clone();
        std::thread::spawn(move || {
            db.execute_transaction(pessimistic(IsolationLevel::Serializable), |tx| {
                tx.put(b"k", b"never")?;
                panic!("in the middle of a transaction");
                #[allow(unreachable_code)]
                Ok(())
            })
        })
    };
    assert!(panicked.join().is_err());
    db.put(b"k", b"free").expect("the lock is gone");
    assert_eq!(db.get(b"k").expect("reads"), Some(b"free".to_vec()));
    assert_eq!(db.stats().transactions_aborted, 1);
}

#[test]
fn savepoints_are_nested_and_take_back_exactly_what_came_after() {
    let db = open();
    db.put(b"a", b"0").expect("writes");
    let mut tx = db.transaction().expect("begins");
    tx.put(b"a", b"1").expect("writes");
    let outer = tx.savepoint().expect("marks");
    tx.put(b"b", b"1").expect("writes");
    tx.delete(b"a").expect("writes");
    let inner = tx.savepoint().expect("marks");
    tx.put(b"a", b"2").expect("writes");
    tx.put(b"c", b"2").expect("writes");
    tx.rollback_to(inner).expect("stands");
    assert_eq!(tx.get(b"a").expect("reads"), None);
    assert_eq!(tx.range(None, None).expect("scans").count(), 1);
    tx.put(b"d", b"3").expect("writes");
    tx.rollback_to(outer).expect("stands");
    assert_eq!(kind(tx.rollback_to(inner)), ErrorKind::InvalidArgument);
    assert_eq!(tx.get(b"a").expect("reads"), Some(b"1".to_vec()));
    assert_eq!(tx.get(b"b").expect("reads"), None);
    tx.put(b"e", b"4").expect("writes");
    tx.rollback_to(outer).expect("stands on");
    let mut stranger = db.transaction().expect("begins");
    stranger.savepoint().expect("marks");
    assert_eq!(kind(stranger.rollback_to(outer)), ErrorKind::InvalidArgument);
    tx.commit().expect("commits");
    let found: Vec<_> = db.range(None, None).expect("scans").map(|p| p.expect("reads")).collect();
    assert_eq!(found, [(b"a".to_vec(), b"1".to_vec())]);
}

#[test]
fn a_closure_is_retried_on_conflict_up_to_its_limit_and_not_on_other_errors() {
    let db = open();
    let attempts = AtomicU64::new(0);
    let interfere = |tx: &mut Transaction| {
        attempts.fetch_add(1, Ordering::Relaxed);
        tx.put(b"k", b"mine")?;
        db.put(b"k", b"theirs")
    };
    let options = TransactionOptions { max_retries: 3, ..TransactionOptions::default() };
    assert_eq!(kind(db.execute_transaction(options, interfere)), ErrorKind::Conflict);
    assert_eq!(attempts.swap(0, Ordering::Relaxed), 4);
    let broken = |_: &mut Transaction| -> lightning_db::Result<()> {
        attempts.fetch_add(1, Ordering::Relaxed);
        db.get(b"k").and_then(|_| db.put(b"", b"an empty key"))
    };
    let refused = db.execute_transaction(TransactionOptions::default(), broken);
    assert_eq!(kind(refused), ErrorKind::EmptyKey);
    assert_eq!(attempts.load(Ordering::Relaxed), 1);
    let stats = db.stats();
    assert_eq!((stats.conflicts, stats.transactions_aborted), (4, 5));
}

#[test]
fn steps_on_one_key_are_never_lost() {
    let db = open();
    let number =
        |v: Option<&[u8]>| v.map_or(0, |v| u64::from_le_bytes(v.try_into().expect("eight bytes")));
    let threads: Vec<_> = (0..8_u64)
        .map(|t| {
            let db = db.clone();
            std::thread::spawn(move || {
                for i in 0..500_u64 {
                    match (t + i) % 3 {
                        0 => drop(
                            db.fetch_update(b"n", |v| Some((number(v) + 1).to_le_bytes().to_vec()))
                                .expect("updates"),
                        ),
                        1 => loop {
                            let old = db.get(b"n").expect("reads");
                            let new = (number(old.as_deref()) + 1).to_le_bytes();
                            if db
                                .compare_and_swap(b"n", old.as_deref(), Some(&new))
                                .expect("compares")
                                .is_ok()
                            {
                                break;
                            }
                        },
                        _ => db
                            .execute_transaction(TransactionOptions::default(), |tx| {
                                let n = number(tx.get(b"n")?.as_deref());
                                tx.put(b"n", (n + 1).to_le_bytes())
                            })
                            .expect("retries until it commits"),
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    assert_eq!(number(db.get(b"n").expect("reads").as_deref()), 4000);
    assert_eq!(db.take(b"n").expect("takes").map(|v| number(Some(&v))), Some(4000));
    assert_eq!(db.take(b"n").expect("nothing is left"), None);
    assert!(db.compare_and_swap(b"n", None, None).expect("compares").is_ok());
}

#[test]
fn transactions_larger_than_the_write_buffer_work() {
    let config = LightningDbConfig { write_buffer_size: 64 * 1024, ..LightningDbConfig::default() };
    let db = Database::open_in_memory(config).expect("opens");
    for mode in [TransactionMode::Optimistic, TransactionMode::Pessimistic] {
        let options = TransactionOptions { mode, ..TransactionOptions::default() };
        let mut tx = db.transaction_with(options).expect("begins");
        for i in 0..3000_u32 {
            tx.put(i.to_be_bytes(), [7; 100]).expect("writes");
        }
        assert_eq!(tx.range(None, None).expect("scans").count(), 3000);
        assert_eq!(tx.scan_reverse(None, None).expect("scans").count(), 3000);
        tx.commit().expect("commits");
    }
    assert_eq!(db.count(None, None).expect("counts"), 3000);
}

/// A large value was on the disk before its write waited for a lock, and nothing could judge what is
/// unused there until the wait was over. Other large values waited behind that judgement: those of
/// whoever held the lock too, so that nobody went on before the time-out.
#[test]
fn a_large_value_that_waits_for_a_lock_holds_nobody_up() {
    let config =
        LightningDbConfig { lock_timeout: Duration::from_secs(60), ..LightningDbConfig::default() };
    let db = Database::open_in_memory(config).expect("opens");
    let mut tx = db.transaction_with(pessimistic(IsolationLevel::ReadCommitted)).expect("begins");
    tx.put("key", "mine").expect("locks");
    std::thread::scope(|s| {
        let waiting = s.spawn(|| db.put("key", vec![1; 100_000]));
        until_waiting(&db, 1);
        db.compact().expect("compacts");
        tx.put("large", vec![2; 100_000]).expect("locks");
        tx.commit().expect("commits");
        waiting.join().expect("no panic").expect("the lock is free in time");
    });
    assert!(db.get("key").expect("reads") == Some(vec![1; 100_000]));
}
