//! The table against a plain list of locks, and what waiting means, with threads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::error::ErrorKind;
use crate::types::KeyspaceId;

const LONG: Duration = Duration::from_secs(60);

#[allow(clippy::disallowed_methods, reason = "a test waits on real threads")]
fn clock() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

fn owner(number: u64) -> Arc<Owner> {
    Arc::new(Owner::new(number, Duration::MAX))
}

fn row(owner: &Arc<Owner>, key: &[u8], mode: LockMode) -> Request {
    let target = Target::Row(key.to_vec());
    Request { owner: Arc::clone(owner), keyspace: KeyspaceId(0), target, mode }
}

#[test]
fn a_lock_is_granted_exactly_when_nothing_held_conflicts() {
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let table = LockTable::default();
        let owners: Vec<_> = (1..5).map(owner).collect();
        let mut held: Vec<Request> = Vec::new();
        for _ in 0..100 {
            let owner = &owners[rng.usize(..owners.len())];
            if rng.u8(..8) == 0 {
                table.release(owner);
                held.retain(|r| r.owner.number != owner.number);
                continue;
            }
            let key = |rng: &mut fastrand::Rng| vec![b'a' + rng.u8(0..5)];
            let target = if rng.u8(..4) == 0 {
                Target::Range(key(&mut rng), rng.bool().then(|| key(&mut rng)))
            } else {
                Target::Row(key(&mut rng))
            };
            let empty = matches!(&target, Target::Range(a, Some(b)) if b <= a);
            let mode = match &target {
                Target::Row(_) if rng.bool() => LockMode::Exclusive,
                _ => LockMode::Shared,
            };
            let keyspace = KeyspaceId(rng.u32(0..2));
            let request = Request { owner: Arc::clone(owner), keyspace, target, mode };
            let free = empty || !held.iter().any(|h| h.conflicts(&request));
            let result = table.acquire(&request, Duration::ZERO, &clock);
            assert_eq!(result.is_ok(), free, "seed {seed}: {request:?} against {held:?}");
            if free && !empty {
                held.push(request);
            }
            for probe in b'a'..b'f' {
                let write = row(owner, &[probe], LockMode::Exclusive);
                let forbidden = held.iter().any(|h| h.conflicts(&write));
                let said = table.forbids_write(owner.number, KeyspaceId(0), &[probe]);
                assert_eq!(said, forbidden, "seed {seed}");
            }
        }
        for owner in &owners {
            table.release(owner);
        }
        assert!(!table.any() && table.usage() == (0, 0));
    }
}

/// Waits until so many wait.
fn until_waiting(table: &LockTable, waiters: usize) {
    while table.usage().1 != waiters {
        std::thread::yield_now();
    }
}

#[test]
fn waiters_are_served_in_the_order_they_came() {
    let table = Arc::new(LockTable::default());
    let holder = owner(1);
    table.acquire(&row(&holder, b"k", LockMode::Exclusive), LONG, &clock).expect("free");
    let served = Arc::new(std::sync::Mutex::new(Vec::new()));
    let threads: Vec<_> = (2..10)
        .map(|n| {
            let (table2, served) = (Arc::clone(&table), Arc::clone(&served));
            let mode = if n % 3 == 0 { LockMode::Shared } else { LockMode::Exclusive };
            let thread = std::thread::spawn(move || {
                let me = owner(n);
                table2.acquire(&row(&me, b"k", mode), LONG, &clock).expect("served");
                served.lock().expect("unpoisoned").push(n);
                table2.release(&me);
            });
            until_waiting(&table, n as usize - 1);
            thread
        })
        .collect();
    table.release(&holder);
    for thread in threads {
        thread.join().expect("no panic");
    }
    assert_eq!(*served.lock().expect("unpoisoned"), (2..10).collect::<Vec<_>>());
}

#[test]
fn who_shares_a_row_and_wants_it_alone_goes_first_and_a_second_one_is_a_deadlock() {
    let table = Arc::new(LockTable::default());
    let (a, b) = (owner(1), owner(2));
    for o in [&a, &b] {
        table.acquire(&row(o, b"k", LockMode::Shared), LONG, &clock).expect("shared");
    }
    let waiting = {
        let (table, a) = (Arc::clone(&table), Arc::clone(&a));
        std::thread::spawn(move || table.acquire(&row(&a, b"k", LockMode::Exclusive), LONG, &clock))
    };
    until_waiting(&table, 1);
    let refused = table.acquire(&row(&b, b"k", LockMode::Exclusive), LONG, &clock);
    assert_eq!(refused.expect_err("a cycle").kind(), ErrorKind::Deadlock);
    table.release(&b);
    waiting.join().expect("no panic").expect("alone now");
    // Everyone else waits for who holds it alone.
    let late = table.acquire(&row(&b, b"k", LockMode::Shared), Duration::ZERO, &clock);
    assert_eq!(late.expect_err("held").kind(), ErrorKind::TimedOut);
}

#[test]
fn the_expired_lose_their_locks_to_who_waits_unless_they_commit() {
    let table = LockTable::default();
    let soon = clock() + Duration::from_millis(20);
    let (late, committing) = (Arc::new(Owner::new(1, soon)), Arc::new(Owner::new(2, soon)));
    table.acquire(&row(&late, b"a", LockMode::Exclusive), LONG, &clock).expect("free");
    table.acquire(&row(&committing, b"b", LockMode::Exclusive), LONG, &clock).expect("free");
    assert!(committing.begin_commit());
    let me = owner(3);
    table.acquire(&row(&me, b"a", LockMode::Exclusive), LONG, &clock).expect("freed");
    assert!(late.is_expired() && !late.begin_commit());
    let again = table.acquire(&row(&late, b"c", LockMode::Shared), LONG, &clock);
    assert_eq!(again.expect_err("expired").kind(), ErrorKind::TimedOut);
    let held = table.acquire(&row(&me, b"b", LockMode::Shared), Duration::from_millis(40), &clock);
    assert_eq!(held.expect_err("still committing").kind(), ErrorKind::TimedOut);
}
