//! The rows: what each of them does to the database.
//!
//! Read rows come first, on a settled tree; then writes without a sync each, then synced ones,
//! for which the database is opened again. Reads use the calls that copy nothing (`get_pinned`,
//! `cursor`).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use lightning_db::{Database, Error, ErrorKind, Result};

use super::measure::{Measured, Plan, Step, measure};
use super::transactions::{Transfers, puts_beside_large_commits};
use super::workload::{Values, Zipf, ascending_key, key};
use crate::engine;

/// One line of the report.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What `--rows` calls it.
    pub name: &'static str,
    /// The number of threads, unless `--threads` says otherwise and it is more than one.
    pub threads: usize,
    /// Whether each write waits for the device.
    pub synced: bool,
    /// What it does.
    pub about: &'static str,
    work: Work,
}

#[derive(Clone, Copy, Debug)]
enum Work {
    Load,
    Get(Choice),
    GetMissing,
    GetSnapshot,
    GetCopy,
    /// Gets, while another thread puts.
    GetBeside,
    Scan {
        backward: bool,
    },
    ScanCopy,
    Seek(u64),
    Put,
    PutAscending,
    Delete,
    Transfer(Transfers),
    LargeCommits,
    Ycsb {
        reads: u32,
        other: Other,
    },
}

/// Which keys are asked for.
#[derive(Clone, Copy, Debug)]
enum Choice {
    Uniform,
    Zipf,
    Hot,
}

/// What a YCSB row does when it does not read.
#[derive(Clone, Copy, Debug)]
enum Other {
    Update,
    Insert,
    ReadModifyWrite,
}

const HOT_KEYS: u64 = 10_000;
/// The indices of keys that are never stored begin here; those of inserted ones below.
const MISSING: u64 = 1 << 62;
const INSERTED: u64 = 1 << 61;

const fn row(name: &'static str, threads: usize, about: &'static str, work: Work) -> Row {
    Row { name, threads, synced: false, about, work }
}

const TRANSFER: Work = Work::Transfer(Transfers { locked: false, contended: false });
const TRANSFER_HOT: Work = Work::Transfer(Transfers { locked: false, contended: true });
const LOCKED: Work = Work::Transfer(Transfers { locked: true, contended: false });
const LOCKED_HOT: Work = Work::Transfer(Transfers { locked: true, contended: true });

/// Every row, in the order in which they are run.
pub const ROWS: &[Row] = &[
    row("load", 1, "load, random order, batches of 1000, then sync", Work::Load),
    row("get-uniform", 1, "get uniform, 1 thread", Work::Get(Choice::Uniform)),
    row("get-uniform-2", 2, "get uniform, 2 threads", Work::Get(Choice::Uniform)),
    row("get-zipf", 1, "get zipf 0.99", Work::Get(Choice::Zipf)),
    row("get-hot", 1, "get from 10,000 hot keys, 1 thread", Work::Get(Choice::Hot)),
    row("get-hot-2", 2, "the same, 2 threads", Work::Get(Choice::Hot)),
    row("get-missing", 1, "get missing", Work::GetMissing),
    row("get-snapshot", 1, "get inside one snapshot", Work::GetSnapshot),
    row("get-copy", 1, "get (copy) uniform, 1 thread", Work::GetCopy),
    row("scan-forward", 1, "scan all, forward (items)", Work::Scan { backward: false }),
    row("scan-backward", 1, "scan all, backward (items)", Work::Scan { backward: true }),
    row("range-copy", 1, "range (copy) of all, forward (items)", Work::ScanCopy),
    row("seek-10", 1, "seek + 10", Work::Seek(10)),
    row("seek-100", 1, "seek + 100", Work::Seek(100)),
    row("put-async", 1, "put async, random existing keys, 1 thread", Work::Put),
    row("put-async-2", 2, "put async, 2 threads", Work::Put),
    row("get-beside", 1, "get uniform, 1 thread, beside 1 that puts", Work::GetBeside),
    row("put-ascending", 1, "put async, ascending keys", Work::PutAscending),
    row("transfer", 1, "transfer: read 2, write 2, one transaction", TRANSFER),
    row("transfer-4", 4, "transfer, 4 threads", TRANSFER),
    row("transfer-16", 16, "transfer, 16 threads", TRANSFER),
    row("transfer-hot", 1, "transfer between 10 accounts", TRANSFER_HOT),
    row("transfer-hot-4", 4, "transfer between 10 accounts, 4 threads", TRANSFER_HOT),
    row("transfer-hot-16", 16, "transfer between 10 accounts, 16 threads", TRANSFER_HOT),
    row("locked", 1, "transfer, with locks", LOCKED),
    row("locked-4", 4, "transfer, with locks, 4 threads", LOCKED),
    row("locked-16", 16, "transfer, with locks, 16 threads", LOCKED),
    row("locked-hot", 1, "10 accounts, with locks", LOCKED_HOT),
    row("locked-hot-4", 4, "10 accounts, with locks, 4 threads", LOCKED_HOT),
    row("locked-hot-16", 16, "10 accounts, with locks, 16 threads", LOCKED_HOT),
    row("large-commit", 1, "put beside commits that rely on every key", Work::LargeCommits),
    row("ycsb-a", 2, "YCSB A (50/50), zipf", Work::Ycsb { reads: 50, other: Other::Update }),
    row("ycsb-b", 2, "YCSB B (95/5), zipf", Work::Ycsb { reads: 95, other: Other::Update }),
    row("ycsb-e", 2, "YCSB E (95% scans of 1-100)", Work::Ycsb { reads: 95, other: Other::Insert }),
    row(
        "ycsb-f",
        2,
        "YCSB F (50% read-modify-write, transactional)",
        Work::Ycsb { reads: 50, other: Other::ReadModifyWrite },
    ),
    row("delete", 1, "delete", Work::Delete),
    Row { synced: true, ..row("put-sync", 1, "put sync, 1 thread", Work::Put) },
    Row { synced: true, ..row("put-sync-8", 8, "put sync, 8 threads", Work::Put) },
    Row { synced: true, ..row("put-sync-64", 64, "put sync, 64 threads", Work::Put) },
];

/// What every row needs to know.
pub struct Ground<'a> {
    pub db: &'a Database,
    pub keys: u64,
    pub value_bytes: usize,
    pub time: Duration,
    pub threads: Option<usize>,
    pub zipf: &'a Zipf,
}

impl Ground<'_> {
    /// Runs a row.
    pub fn run(&self, row: &Row) -> Result<Measured> {
        let threads = if row.threads == 1 { 1 } else { self.threads.unwrap_or(row.threads) };
        let plan = Plan { threads, time: self.time, sample: 1 };
        let reads = Plan { sample: 16, ..plan };
        match row.work {
            Work::Load => self.load(),
            Work::Get(choice) => self.get(reads, choice),
            Work::GetMissing => measure(reads, |_| {
                |rng: &mut Rng| {
                    let value = self.db.get_pinned(key(MISSING + rng.u64(..self.keys)))?;
                    if value.is_some() {
                        return Err(wrong("a key that was never stored is there"));
                    }
                    Ok(Step::Did(1))
                }
            }),
            Work::GetSnapshot => {
                let snapshot = self.db.snapshot()?;
                measure(reads, |_| {
                    |rng: &mut Rng| {
                        touch(snapshot.get_pinned(key(rng.u64(..self.keys)))?.as_deref())
                    }
                })
            }
            Work::GetCopy => measure(reads, |_| {
                |rng: &mut Rng| touch(self.db.get(key(rng.u64(..self.keys)))?.as_deref())
            }),
            Work::GetBeside => self.get_beside(reads),
            Work::ScanCopy => measure(Plan { threads: 1, ..plan }, |_| {
                |_: &mut Rng| {
                    let mut items = 0;
                    for pair in self.db.range(None, None)? {
                        std::hint::black_box(pair?);
                        items += 1;
                    }
                    Ok(Step::Did(items))
                }
            }),
            Work::Scan { backward } => {
                measure(Plan { threads: 1, ..plan }, |_| move |_: &mut Rng| self.scan(backward))
            }
            Work::Seek(items) => measure(plan, |_| {
                move |rng: &mut Rng| {
                    self.seek(&key(rng.u64(..self.keys)), items)?;
                    Ok(Step::Did(1))
                }
            }),
            Work::Put => measure(plan, |_| {
                let mut values = Values::new(self.value_bytes);
                move |rng: &mut Rng| {
                    let key = key(rng.u64(..self.keys));
                    self.db.put(key, values.next(rng))?;
                    Ok(Step::Did(1))
                }
            }),
            Work::PutAscending => {
                let keyspace = engine::keyspace(self.db, "ascending")?;
                measure(plan, |_| {
                    let (keyspace, mut values) = (&keyspace, Values::new(self.value_bytes));
                    let mut next = 0;
                    move |rng: &mut Rng| {
                        keyspace.put(ascending_key(next), values.next(rng))?;
                        next += 1;
                        Ok(Step::Did(1))
                    }
                })
            }
            Work::Delete => measure(plan, |_| {
                let mut next = 0;
                move |_: &mut Rng| {
                    if next == self.keys {
                        return Ok(Step::Finished);
                    }
                    self.db.delete(key(next))?;
                    next += 1;
                    Ok(Step::Did(1))
                }
            }),
            Work::Transfer(transfers) => transfers.run(self.db, self.keys, plan),
            Work::LargeCommits => puts_beside_large_commits(self.db, self.keys),
            Work::Ycsb { reads, other } => self.ycsb(plan, reads, other),
        }
    }

    fn load(&self) -> Result<Measured> {
        let db = self.db;
        let whole = Plan { threads: 1, time: Duration::MAX, sample: 1 };
        measure(whole, |_| {
            let (mut next, mut synced) = (0, false);
            let mut values = Values::new(self.value_bytes);
            move |rng: &mut Rng| {
                if synced {
                    return Ok(Step::Finished);
                }
                if next == self.keys {
                    synced = true;
                    db.sync()?;
                    return Ok(Step::Did(0));
                }
                let end = (next + 1000).min(self.keys);
                let mut batch = lightning_db::WriteBatch::new();
                for index in next..end {
                    batch.put(key(index), values.next(rng));
                }
                db.write(batch, lightning_db::WriteOptions::default())?;
                let items = end - next;
                next = end;
                Ok(Step::Did(items))
            }
        })
    }

    fn get(&self, plan: Plan, choice: Choice) -> Result<Measured> {
        let hot = HOT_KEYS.min(self.keys);
        let one = |rng: &mut Rng| {
            let index = match choice {
                Choice::Uniform => rng.u64(..self.keys),
                Choice::Zipf => self.zipf.next(rng),
                Choice::Hot => rng.u64(..hot),
            };
            touch(self.db.get_pinned(key(index))?.as_deref())
        };
        // Warmed: a tenth of the time uncounted.
        measure(Plan { time: plan.time / 10, ..plan }, |_| one)?;
        measure(plan, |_| one)
    }

    fn get_beside(&self, plan: Plan) -> Result<Measured> {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| -> Result<()> {
                let (mut values, mut rng) = (Values::new(self.value_bytes), Rng::with_seed(0x22));
                while !over.load(Ordering::Relaxed) {
                    self.db.put(key(rng.u64(..self.keys)), values.next(&mut rng))?;
                }
                Ok(())
            });
            let measured = self.get(plan, Choice::Uniform);
            over.store(true, Ordering::Relaxed);
            writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            measured
        })
    }

    fn seek(&self, from: &[u8], items: u64) -> Result<()> {
        let mut cursor = self.db.cursor()?;
        let mut more = cursor.seek(from)?;
        for _ in 0..items {
            if !more {
                break;
            }
            std::hint::black_box(cursor.entry()?);
            more = cursor.next()?;
        }
        Ok(())
    }

    fn scan(&self, backward: bool) -> Result<Step> {
        let mut cursor = self.db.cursor()?;
        let mut more = if backward { cursor.seek_to_last()? } else { cursor.seek_to_first()? };
        let mut items = 0;
        while more {
            std::hint::black_box(cursor.entry()?);
            items += 1;
            more = if backward { cursor.prev()? } else { cursor.next()? };
        }
        Ok(Step::Did(items))
    }

    fn ycsb(&self, plan: Plan, reads: u32, other: Other) -> Result<Measured> {
        let inserted = AtomicU64::new(0);
        measure(plan, |_| {
            let (inserted, mut values) = (&inserted, Values::new(self.value_bytes));
            move |rng: &mut Rng| {
                let at = key(self.zipf.next(rng));
                let reading = rng.u32(..100) < reads;
                match other {
                    Other::Insert if reading => self.seek(&at, rng.u64(1..=100))?,
                    _ if reading => return touch(self.db.get_pinned(at)?.as_deref()),
                    Other::Update => self.db.put(at, values.next(rng))?,
                    Other::ReadModifyWrite => engine::read_modify_write(self.db, &at)?,
                    Other::Insert => {
                        let index = INSERTED + inserted.fetch_add(1, Ordering::Relaxed);
                        self.db.put(key(index), values.next(rng))?;
                    }
                }
                Ok(Step::Did(1))
            }
        })
    }
}

/// Reads the value's last byte; the key must be there.
fn touch(value: Option<&[u8]>) -> Result<Step> {
    match value {
        Some(value) => std::hint::black_box(value.last()),
        None => return Err(wrong("a key that was stored is not there")),
    };
    Ok(Step::Did(1))
}

/// The engine gave an answer that cannot be.
fn wrong(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, what)
}
