//! Histories: threads run transactions that append to lists, read them and scan ranges of them,
//! with aborts and kills at random; `checker` judges what they saw. That it finds what it should is
//! shown by its own tests, and by histories of weaker levels, which must not pass for stronger.
//!
//! `LIGHTNING_HISTORIES` sets how many histories run, `LIGHTNING_HISTORY_TRANSACTIONS` how long each
//! is, `LIGHTNING_HISTORIES_FIRST` the first seed. What threads do depends on their timing: a seed
//! repeats a history only roughly.

mod checker;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use checker::{End, Op, Promise, Record, check};
use lightning_db::vfs::{SimulatedVfs, Vfs};
use lightning_db::{
    Database, Durability, IsolationLevel, LightningDbConfig, OpenAs, Transaction, TransactionMode,
    TransactionOptions,
};

const THREADS: u64 = 4;
/// Lists that are in use at a time; after some appends a list is left alone and a new one begun, so
/// that scans meet keys that come into being.
const LISTS: u64 = 8;
const APPENDS_TO_A_LIST: u64 = 12;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

fn config() -> LightningDbConfig {
    LightningDbConfig {
        write_buffer_size: 64 * 1024,
        wal_segment_size: 256 * 1024,
        max_wal_size: 1024 * 1024,
        cache_size: 256 * 1024,
        ..LightningDbConfig::default()
    }
}

fn decode(bytes: &[u8]) -> Vec<u64> {
    bytes.chunks(8).map(|c| u64::from_be_bytes(c.try_into().expect("whole numbers"))).collect()
}

struct World {
    db: Mutex<Database>,
    clock: AtomicU64,
    value: AtomicU64,
    appends: AtomicU64,
    options: TransactionOptions,
    /// Whether each transaction draws its mode.
    mixed: bool,
    /// Whether lists are read for update before an append.
    for_update: bool,
}

impl World {
    fn list(&self, rng: &mut fastrand::Rng) -> u64 {
        let first = self.appends.load(Ordering::Relaxed) / APPENDS_TO_A_LIST;
        first + rng.u64(0..LISTS)
    }

    fn ops(
        &self,
        tx: &mut Transaction,
        rng: &mut fastrand::Rng,
        done: &mut Vec<Op>,
    ) -> lightning_db::Result<()> {
        for _ in 0..rng.usize(1..5) {
            match rng.u8(0..10) {
                0..4 => {
                    let list = self.list(rng);
                    let key = list.to_be_bytes();
                    let mut bytes =
                        if self.for_update { tx.get_for_update(key)? } else { tx.get(key)? }
                            .unwrap_or_default();
                    done.push(Op::Read(list, decode(&bytes)));
                    let value = self.value.fetch_add(1, Ordering::Relaxed);
                    bytes.extend_from_slice(&value.to_be_bytes());
                    done.push(Op::Append(list, value));
                    tx.put(key, &bytes)?;
                    self.appends.fetch_add(1, Ordering::Relaxed);
                }
                4..8 => {
                    let list = self.list(rng);
                    let bytes = tx.get(list.to_be_bytes())?.unwrap_or_default();
                    done.push(Op::Read(list, decode(&bytes)));
                }
                _ => {
                    let start = self.list(rng);
                    let end = start + rng.u64(1..4);
                    let (low, high) = (start.to_be_bytes(), end.to_be_bytes());
                    let range = tx.range(Some(&low), Some(&high))?;
                    let pairs: Vec<_> = if rng.bool() {
                        range.collect::<Result<_, _>>()?
                    } else {
                        range.rev().collect::<Result<_, _>>()?
                    };
                    let found: HashMap<u64, Vec<u64>> =
                        pairs.iter().map(|(k, v)| (decode(k)[0], decode(v))).collect();
                    for list in start..end {
                        let read = found.get(&list).cloned().unwrap_or_default();
                        done.push(Op::Read(list, read));
                    }
                }
            }
        }
        Ok(())
    }

    /// One transaction; `None` when it could not even begin.
    fn transact(&self, rng: &mut fastrand::Rng) -> Option<Record> {
        let db = self.db.lock().expect("unpoisoned").clone();
        let began = self.clock.fetch_add(1, Ordering::SeqCst);
        let mut options = self.options.clone();
        if self.mixed && rng.bool() {
            options.mode = TransactionMode::Pessimistic;
        }
        let mut tx = db.transaction_with(options).ok()?;
        let mut ops = Vec::new();
        let end = match self.ops(&mut tx, rng, &mut ops) {
            Err(_) => End::Aborted,
            Ok(()) if rng.u8(0..20) == 0 => {
                tx.abort();
                End::Aborted
            }
            Ok(()) => match tx.commit() {
                Ok(()) => End::Committed,
                Err(e) if e.is_retryable() => End::Aborted,
                Err(_) => End::Unknown,
            },
        };
        let ended = self.clock.fetch_add(1, Ordering::SeqCst);
        Some(Record { began, ended, end, ops })
    }
}

/// A history, and the lists at its end.
fn run(
    seed: u64,
    options: TransactionOptions,
    mixed: bool,
    for_update: bool,
    transactions: u64,
    kills: u64,
) -> (Vec<Record>, HashMap<u64, Vec<u64>>) {
    let mut disk = SimulatedVfs::new(seed);
    let open = |disk: &SimulatedVfs, mode| {
        let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
        Database::open_with_vfs(vfs, "/db", config(), mode)
            .unwrap_or_else(|e| panic!("seed {seed}: {e}"))
    };
    let db = if kills > 0 {
        open(&disk, OpenAs::Create)
    } else {
        Database::open_in_memory(config()).expect("opens")
    };
    let world = Arc::new(World {
        db: Mutex::new(db),
        clock: AtomicU64::new(1),
        value: AtomicU64::new(1),
        appends: AtomicU64::new(0),
        options,
        mixed,
        for_update,
    });
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut history = Vec::new();
    for life in 0..=kills {
        if life < kills {
            disk.crash_after(disk.operations() + rng.u64(50..3000));
        }
        let threads: Vec<_> = (0..THREADS)
            .map(|t| {
                let world = Arc::clone(&world);
                let mut rng = fastrand::Rng::with_seed(seed * 1000 + life * 10 + t);
                std::thread::spawn(move || {
                    let mut records = Vec::new();
                    for _ in 0..transactions / THREADS / (kills + 1) {
                        match world.transact(&mut rng) {
                            Some(record) => records.push(record),
                            None => break,
                        }
                    }
                    records
                })
            })
            .collect();
        for thread in threads {
            history.extend(thread.join().expect("no panic"));
        }
        if life < kills {
            // In the modes used here a kill loses nothing that was acknowledged.
            disk = disk.kill();
            let old = std::mem::replace(
                &mut *world.db.lock().expect("unpoisoned"),
                Database::open_in_memory(LightningDbConfig::default()).expect("opens"),
            );
            drop(old);
            *world.db.lock().expect("unpoisoned") = open(&disk, OpenAs::Open);
        }
    }
    let db = world.db.lock().expect("unpoisoned").clone();
    let last = db
        .range(None, None)
        .expect("scans")
        .map(|pair| {
            let (k, v) = pair.expect("reads");
            (decode(&k)[0], decode(&v))
        })
        .collect();
    (history, last)
}

fn options(isolation: IsolationLevel, mode: TransactionMode) -> TransactionOptions {
    TransactionOptions { isolation, mode, ..TransactionOptions::default() }
}

#[test]
fn what_transactions_see_is_what_their_level_promises() {
    use IsolationLevel::{RepeatableRead, Serializable};
    use TransactionMode::{Optimistic, Pessimistic};
    let first = number("LIGHTNING_HISTORIES_FIRST", 0);
    let histories = number("LIGHTNING_HISTORIES", 12);
    let transactions = number("LIGHTNING_HISTORY_TRANSACTIONS", 4000);
    let (mut committed, mut aborted, mut unknown) = (0, 0, 0);
    for seed in first..first + histories {
        let (level, promise) = if seed % 2 == 0 {
            (Serializable, Promise::Serializable)
        } else {
            (RepeatableRead, Promise::Snapshot)
        };
        let (mode, mixed) =
            [(Optimistic, false), (Pessimistic, false), (Optimistic, true)][seed as usize / 2 % 3];
        let kills = if seed % 5 < 3 { 0 } else { 5 };
        let mut options = options(level, mode);
        if kills > 0 {
            options.durability = Some([Durability::Sync, Durability::Async][seed as usize / 3 % 2]);
        }
        let (history, last) = run(seed, options, mixed, false, transactions, kills);
        for record in &history {
            match record.end {
                End::Committed => committed += 1,
                End::Aborted => aborted += 1,
                End::Unknown => unknown += 1,
            }
        }
        if let Err(why) = check(&history, &last, promise) {
            panic!(
                "seed {seed}, {level:?} {mode:?}{}, {kills} kills: {why}\n\
                 again: LIGHTNING_HISTORIES_FIRST={seed} LIGHTNING_HISTORIES=1 \
                 LIGHTNING_HISTORY_TRANSACTIONS={transactions}",
                if mixed { " and Pessimistic mixed" } else { "" }
            );
        }
    }
    println!(
        "tried: {histories} histories of {transactions} transactions: {committed} committed, \
         {aborted} aborted, {unknown} unknown"
    );
}

#[test]
fn histories_of_weaker_levels_do_not_pass_for_stronger_ones() {
    let found = |isolation, promise| {
        (0..20).any(|seed| {
            let options = options(isolation, TransactionMode::Optimistic);
            let (history, last) = run(seed, options, false, false, 2000, 0);
            check(&history, &last, promise).is_err()
        })
    };
    assert!(found(IsolationLevel::RepeatableRead, Promise::Serializable), "write skew is missed");
    assert!(found(IsolationLevel::ReadCommitted, Promise::Snapshot), "a lost update is missed");
}

#[test]
fn reading_for_update_keeps_every_append_at_read_committed() {
    for mode in [TransactionMode::Optimistic, TransactionMode::Pessimistic] {
        let (history, last) =
            run(7, options(IsolationLevel::ReadCommitted, mode), false, true, 2000, 0);
        for record in history.iter().filter(|r| r.end == End::Committed) {
            for op in &record.ops {
                if let Op::Append(list, value) = op {
                    assert!(last[list].contains(value), "{mode:?}: an append is lost");
                }
            }
        }
    }
}
