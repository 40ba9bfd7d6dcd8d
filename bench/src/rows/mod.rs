//! The rows: what each of them does, in the order in which they are run.
//!
//! | file | job |
//! |---|---|
//! | `load` | filling, space, opening again |
//! | `read` | gets |
//! | `scan` | scans and seeks |
//! | `write` | puts and deletes, and the mixes of YCSB |
//! | `transaction` | transfers and read-modify-write |
//! | `sustained` | overwriting for long: pauses, bytes written, space; opening after a kill |
//! | `check` | that the answers are right |
//!
//! 1. Read rows come first, on a settled tree; then writes without a sync each; then synced ones,
//!    for which the database is opened again.
//! 2. What a row wrote is merged once its clock stands, and the time of that is told as well; only then it
//!    is checked. Every other answer is looked at while the clock runs (see `workload::belongs`).

pub mod check;
pub mod load;
mod read;
mod scan;
pub mod sustained;
mod transaction;
mod write;

use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use crate::engine::{Engine, Facts, Result, Settings};
use crate::measure::{Measured, Plan};
use crate::workload::Zipf;

/// One line of the report.
#[derive(Debug)]
pub struct Row {
    /// What `--rows` calls it.
    pub name: &'static str,
    /// What `--work` calls its kind.
    pub group: &'static str,
    pub about: &'static str,
    /// The number of threads, unless `--threads` says otherwise and it is more than one.
    pub threads: usize,
    pub work: Work,
    /// What this engine is to reach: ours by the best peer's.
    pub aim: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Work {
    Load,
    Disk,
    Reopen,
    Get(Choice),
    GetCopy,
    GetMissing,
    GetSnapshot,
    Scan {
        backward: bool,
    },
    ScanCopy,
    Seek(u64),
    Put,
    /// Gets, while another thread puts.
    GetBeside,
    PutAscending,
    Delete,
    Transfer,
    Ycsb {
        reads: u32,
        other: Other,
    },
    PutSync,
    Overwrite,
    /// What was seen while the last `Overwrite` ran, or the gets before.
    Seen(Seen),
    Recover,
}

/// What is told of a row beside its rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Seen {
    /// Microseconds that so many in a hundred thousand calls took at most.
    Micros(u32),
    /// Bytes written to the device by bytes written by the user.
    WriteAmplification,
    /// The most bytes on disk, logs included.
    PeakDisk,
    /// The most bytes on disk, logs aside, by those after load and merge.
    SpaceAmplification,
    /// Bytes that a uniform get reads from the device.
    ReadByGet,
    /// Processor time of a uniform get beside a writer, by that of one alone.
    BesideProcessor,
    /// The most resident memory of the process since the engine was opened.
    Resident,
}

/// Which keys are asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Choice {
    Uniform,
    Zipf,
    Hot,
}

/// What a YCSB row does when it does not read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Other {
    Update,
    Insert,
    ReadModifyWrite,
}

/// Openings a second that are to be reached, whatever others do: one takes five milliseconds.
const REOPENS: f64 = 200.0;

impl Row {
    /// Whether a lower figure is the better one.
    pub fn lower_is_better(&self) -> bool {
        matches!(self.work, Work::Disk | Work::Seen(_) | Work::Recover)
    }

    /// Whether it is run only where it is asked for.
    pub fn only_if_asked(&self) -> bool {
        self.group == SUSTAINED
    }

    pub fn unit(&self) -> &'static str {
        match self.work {
            Work::Disk | Work::Seen(Seen::PeakDisk | Seen::Resident) => "MB",
            Work::Seen(Seen::Micros(_)) => "µs",
            Work::Seen(Seen::ReadByGet) => "bytes",
            Work::Seen(
                Seen::WriteAmplification | Seen::SpaceAmplification | Seen::BesideProcessor,
            ) => "times",
            Work::Recover => "ms",
            Work::Load | Work::Scan { .. } | Work::ScanCopy => "items/s",
            _ => "/s",
        }
    }

    /// Whether an engine can do it at all.
    pub fn possible(&self, facts: &Facts) -> bool {
        match self.work {
            Work::Disk | Work::Seen(_) | Work::Overwrite => !facts.ram,
            Work::Recover => facts.reopens && facts.survives_kill,
            Work::Reopen => facts.reopens,
            Work::Scan { backward: true } => facts.backward,
            Work::Scan { .. } | Work::ScanCopy | Work::Seek(_) => facts.ordered,
            Work::Ycsb { other: Other::Insert, .. } => facts.ordered,
            Work::Transfer | Work::Ycsb { other: Other::ReadModifyWrite, .. } => facts.transactions,
            Work::PutSync => facts.syncs,
            _ => true,
        }
    }

    /// What is to be reached, in words.
    pub fn aim_shown(&self) -> String {
        match (self.work, self.threads) {
            (Work::Reopen, _) => format!("{REOPENS}/s"),
            (Work::PutSync, 1) => format!("{}, and 0.95 of the bare loop", self.aim),
            _ => self.aim.to_string(),
        }
    }

    /// Whether a figure of ours reaches it, `ratio` being ours by the best peer's, and `bare` what the bare loop
    /// of write and fdatasync made, where it ran.
    pub fn is_reached(&self, ours: f64, ratio: f64, bare: Option<f64>) -> bool {
        match self.work {
            Work::PutSync if self.threads == 1 => {
                ratio >= self.aim && bare.is_some_and(|bare| ours >= 0.95 * bare)
            }
            Work::Reopen => ours >= REOPENS,
            _ if self.lower_is_better() => ratio <= self.aim,
            _ => ratio >= self.aim,
        }
    }

    /// Whether an engine only does something less than what the row asks.
    pub fn lesser(&self, facts: &Facts) -> bool {
        match self.work {
            Work::GetSnapshot => !facts.snapshots,
            Work::PutSync => !facts.syncs_device,
            // Its end is a sync; and without one it is not known that the files are all.
            Work::Load => !facts.ram && !(facts.syncs && facts.syncs_device),
            Work::Disk => !facts.syncs,
            _ => false,
        }
    }
}

const fn row(
    group: &'static str,
    name: &'static str,
    threads: usize,
    about: &'static str,
    work: Work,
    aim: f64,
) -> Row {
    Row { name, group, about, threads, work, aim }
}

const fn ycsb(reads: u32, other: Other) -> Work {
    Work::Ycsb { reads, other }
}

/// All rows, in the order in which they are run.
#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    row("load", "load", 1, "load, random order, batches of 1000, then sync", Work::Load, 2.0),
    row("load", "disk", 1, "bytes on disk after load and merge, logs aside", Work::Disk, 1.0),
    row("load", "reopen", 1, "clean reopen and first get", Work::Reopen, 1.0),
    row("read", "get-uniform", 1, "get uniform, 1 thread", Work::Get(Choice::Uniform), 2.0),
    row("read", "get-uniform-2", 2, "get uniform, 2 threads", Work::Get(Choice::Uniform), 2.0),
    row("read", "get-zipf", 1, "get zipf 0.99", Work::Get(Choice::Zipf), 2.5),
    row("read", "get-hot", 1, "get from 10,000 hot keys, 1 thread", Work::Get(Choice::Hot), 5.0),
    row("read", "get-hot-2", 2, "the same, 2 threads", Work::Get(Choice::Hot), 5.0),
    row("read", "get-missing", 1, "get missing", Work::GetMissing, 1.5),
    row("read", "get-snapshot", 1, "get inside one snapshot", Work::GetSnapshot, 2.0),
    row("read", "get-copy", 1, "get (copy) uniform, 1 thread", Work::GetCopy, 2.0),
    row("scan", "scan-forward", 1, "scan all, forward", Work::Scan { backward: false }, 1.5),
    row("scan", "scan-backward", 1, "scan all, backward", Work::Scan { backward: true }, 1.5),
    row("scan", "range-copy", 1, "range (copy) of all, forward", Work::ScanCopy, 1.5),
    row("scan", "seek-10", 1, "seek + 10", Work::Seek(10), 1.5),
    row("scan", "seek-100", 1, "seek + 100", Work::Seek(100), 1.5),
    row("write", "put-async", 1, "put async, random existing keys, 1 thread", Work::Put, 2.0),
    row("write", "put-async-2", 2, "put async, 2 threads", Work::Put, 1.2),
    row("write", "get-beside", 1, "get uniform, 1 thread, beside 1 that puts random existing keys", Work::GetBeside, 2.0),
    row(SUSTAINED, "get-beside-processor", 1, "processor time of such a get, by that of one alone", Work::Seen(Seen::BesideProcessor), 1.1),
    row("write", "put-ascending", 1, "put async, ascending keys, a database of its own", Work::PutAscending, 3.0),
    row("txn", "transfer", 1, "transfer: read 2, write 2, one transaction, 1 thread", Work::Transfer, 5.0),
    row("txn", "transfer-4", 4, "transfer, 4 threads", Work::Transfer, 5.0),
    row("write", "ycsb-a", 2, "YCSB A (50/50), zipf, 2 threads", ycsb(50, Other::Update), 1.0),
    row("write", "ycsb-b", 2, "YCSB B (95/5)", ycsb(95, Other::Update), 1.2),
    row("write", "ycsb-e", 2, "YCSB E (95% scans of 1-100)", ycsb(95, Other::Insert), 1.5),
    row("txn", "ycsb-f", 2, "YCSB F (50% read-modify-write, transactional)", ycsb(50, Other::ReadModifyWrite), 4.0),
    row("write", "delete", 1, "delete", Work::Delete, 2.0),
    row(SUSTAINED, "read-by-get", 1, "bytes read from the device by a uniform get", Work::Seen(Seen::ReadByGet), 1.0),
    row(SUSTAINED, "overwrite", 1, "overwrite random keys, each call timed", Work::Overwrite, 1.2),
    row(SUSTAINED, "overwrite-p50", 1, "overwrite: p50", Work::Seen(Seen::Micros(50_000)), 1.0),
    row(SUSTAINED, "overwrite-p99", 1, "overwrite: p99", Work::Seen(Seen::Micros(99_000)), 1.0),
    row(SUSTAINED, "overwrite-p99.9", 1, "overwrite: p99.9", Work::Seen(Seen::Micros(99_900)), 1.0),
    row(SUSTAINED, "overwrite-max", 1, "overwrite: the longest", Work::Seen(Seen::Micros(100_000)), 1.0),
    row(SUSTAINED, "overwrite-device", 1, "overwrite: bytes to the device by the user's", Work::Seen(Seen::WriteAmplification), 1.0),
    row(SUSTAINED, "overwrite-peak", 1, "overwrite: most on disk, logs included", Work::Seen(Seen::PeakDisk), 1.0),
    row(SUSTAINED, "overwrite-space", 1, "overwrite: most on disk, logs aside, by what it was when merged", Work::Seen(Seen::SpaceAmplification), 1.0),
    row(SUSTAINED, "resident", 1, "resident memory at its highest", Work::Seen(Seen::Resident), 1.0),
    row(SUSTAINED, "recover", 1, "opening what a killed process left, 345,000 puts in its log", Work::Recover, 1.0),
    row("sync", "put-sync", 1, "put sync, 1 thread", Work::PutSync, 1.0),
    row("sync", "put-sync-8", 8, "put sync, 8 threads", Work::PutSync, 1.5),
    row("sync", "put-sync-64", 64, "put sync, 64 threads", Work::PutSync, 1.5),
];

/// The groups of rows, as `--work` calls them.
pub const GROUPS: &[&str] = &["load", "read", "scan", "write", "txn", SUSTAINED, "sync"];

/// The rows that take long, or whose figures want a process for each engine.
const SUSTAINED: &str = "sustained";

/// What every row needs to know.
pub struct Ground<'a, E> {
    pub engine: &'a E,
    pub settings: &'a Settings,
    /// Keys that were loaded.
    pub keys: u64,
    /// Keys that were inserted since, and how many of the first are deleted.
    pub inserted: &'a AtomicU64,
    pub time: Duration,
    pub threads: Option<usize>,
    pub zipf: &'a Zipf,
}

impl<E: Engine> Ground<'_, E> {
    /// Lets the engine merge what was just written, and notes how long that took.
    fn settle(&self, measured: Measured) -> Result<Measured> {
        if E::FACTS.ram {
            return Ok(measured);
        }
        let started = Instant::now();
        self.engine.settle()?;
        Ok(Measured { settling: Some(started.elapsed()), ..measured })
    }

    /// Runs a row that measures an open engine.
    pub fn run(&self, row: &Row) -> Result<Measured> {
        let threads = if row.threads == 1 { 1 } else { self.threads.unwrap_or(row.threads) };
        let plan = Plan { threads, time: self.time, calls_a_look: 1 };
        let short = Plan { calls_a_look: 16, ..plan };
        match row.work {
            Work::Get(choice) => self.get(short, choice),
            Work::GetCopy => self.get_copy(short),
            Work::GetMissing => self.get_missing(short),
            Work::GetSnapshot => self.get_snapshot(short),
            Work::Scan { backward } => self.scan_all(plan, backward),
            Work::ScanCopy => self.scan_copy(plan),
            Work::Seek(items) => self.seeks(short, items),
            Work::Put => self.put(short, true),
            Work::GetBeside => self.get_beside(short),
            Work::PutSync => self.put(plan, false),
            Work::PutAscending => self.put_ascending(short),
            Work::Delete => self.delete(short),
            Work::Transfer => self.transfer(short),
            Work::Ycsb { reads, other } => self.ycsb(short, reads, other),
            Work::Load => self.load(),
            Work::Disk | Work::Reopen | Work::Overwrite | Work::Seen(_) | Work::Recover => {
                Err("not a row of an open engine".into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_groups_are_known_and_synced_rows_come_last() {
        for (i, row) in ROWS.iter().enumerate() {
            assert!(ROWS[..i].iter().all(|r| r.name != row.name), "{}", row.name);
            assert!(GROUPS.contains(&row.group), "{}", row.name);
            assert!(i == 0 || row.group == "sync" || ROWS[i - 1].group != "sync", "{}", row.name);
        }
    }
}
