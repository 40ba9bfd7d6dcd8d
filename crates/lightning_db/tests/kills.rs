//! Real kills: a child process writes from three threads in one durability mode, tells each
//! acknowledged commit on its standard output, and is killed with SIGKILL at a random moment;
//! sometimes so is the next one, while it recovers. Then everything acknowledged is there (without
//! a log: a state at some flush), every commit whole across its keyspaces, and nothing else.
//!
//! `LIGHTNING_KILLS` sets how many, `LIGHTNING_KILLS_FIRST` the first seed. When exactly the kill
//! comes is up to the machine: a seed repeats a run only roughly.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the test runs processes and looks at them from outside"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lightning_db::{
    Database, ErrorKind, KeyspaceOptions, LightningDbConfig, VerifyOptions, WalSyncMode,
    WriteBatch, WriteOptions,
};

const THREADS: u64 = 3;
const MODES: [&str; 4] = ["sync", "periodic", "async", "no log"];
const DIRECTORY: &str = "LIGHTNING_KILLS_CHILD_DIRECTORY";
const MODE: &str = "LIGHTNING_KILLS_CHILD_MODE";

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

fn config(mode: &str) -> LightningDbConfig {
    LightningDbConfig {
        write_buffer_size: 64 * 1024,
        wal_segment_size: 256 * 1024,
        max_wal_size: 1024 * 1024,
        cache_size: 256 * 1024,
        wal_enabled: mode != "no log",
        wal_sync_mode: match mode {
            "periodic" => WalSyncMode::Periodic { interval: Duration::from_millis(5) },
            "async" => WalSyncMode::Async,
            _ => WalSyncMode::Sync,
        },
        ..LightningDbConfig::default()
    }
}

fn counter(value: Option<Vec<u8>>) -> u64 {
    value.map_or(0, |v| u64::from_be_bytes(v[..8].try_into().expect("eight bytes")))
}

/// What commit `n` of a thread writes beside its counter: the value of one of 40 keys.
fn payload(thread: u64, n: u64) -> Vec<u8> {
    let len = if n.is_multiple_of(16) { 20_000 } else { 10 + (n * 37 % 200) as usize };
    let mut value = vec![(thread * 50 + n) as u8; len];
    value[..8].copy_from_slice(&n.to_be_bytes());
    value
}

/// The child: not a test of its own.
#[test]
#[ignore = "run by the test of kills"]
fn child() {
    let (Ok(dir), Ok(mode)) = (std::env::var(DIRECTORY), std::env::var(MODE)) else { return };
    let db = Database::open_or_create(&dir, config(&mode)).expect("opens");
    let other = db.keyspace("other", KeyspaceOptions::default()).expect("is made");
    println!("\nopen");
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (db, other) = (db.clone(), other.clone());
            scope.spawn(move || {
                let key = format!("counter{thread}");
                let first = counter(db.get(&key).expect("reads")) + 1;
                for n in first.. {
                    let mut batch = WriteBatch::new();
                    batch.put(&key, n.to_be_bytes());
                    batch.put_in(&other, &key, n.to_be_bytes());
                    batch.put(format!("data{thread}-{}", n % 40), payload(thread, n));
                    batch.delete_in(&other, format!("gone{thread}-{}", (n + 20) % 40));
                    batch.put_in(&other, format!("gone{thread}-{}", n % 40), n.to_be_bytes());
                    db.write(batch, WriteOptions::default()).expect("writes");
                    let mut out = std::io::stdout().lock();
                    // The parent kills: a pipe that is gone is the end.
                    if writeln!(out, "ack {thread} {n}").and_then(|()| out.flush()).is_err() {
                        return;
                    }
                    drop(out);
                    if n % 97 == thread {
                        db.flush().expect("flushes");
                    }
                    if n % 211 == thread {
                        db.compact().expect("compacts");
                    }
                }
            });
        }
    });
}

fn start(dir: &Path, mode: &str) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--ignored", "--exact", "child", "--nocapture"])
        .env(DIRECTORY, dir)
        .env(MODE, mode)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts")
}

/// What a thread of killed processes may have left.
#[derive(Clone, Copy, Default)]
struct Told {
    /// The last commit acknowledged: at least this.
    acknowledged: u64,
    /// At most this: each process may have made one commit more than it could tell of.
    possible: u64,
}

fn processes_start(told: &mut [Told]) {
    for told in told {
        told.possible += 1;
    }
}

/// Takes in a line of a child; whether it told of a commit.
fn hears(told: &mut [Told], line: &str, mode: &str) -> bool {
    let ["ack", thread, n] = line.split(' ').collect::<Vec<_>>()[..] else { return false };
    let (thread, n): (usize, u64) =
        (thread.parse().expect("a number"), n.parse().expect("a number"));
    let told = &mut told[thread];
    assert!(n > told.acknowledged, "commit {n} of thread {thread} told of twice");
    assert!(n <= told.possible, "thread {thread} went on at {n}, beyond what it can be");
    if mode == "no log" {
        // A kill may take it back, and the next process makes it again.
        told.possible = told.possible.max(n + 1);
    } else {
        *told = Told { acknowledged: n, possible: n + 1 };
    }
    true
}

/// Checks a state against what was told; returns the counters.
fn check(db: &Database, told: &[Told], mode: &str, seed: u64) -> Vec<Told> {
    let other = db.keyspace("other", KeyspaceOptions::default()).expect("is there");
    let found = (0..THREADS)
        .map(|thread| {
            let key = format!("counter{thread}");
            let n = counter(db.get(&key).expect("reads"));
            let Told { acknowledged, possible } = told[thread as usize];
            let why = format!(
                "seed {seed}, {mode}, thread {thread}: {n} of {acknowledged} to {possible}"
            );
            assert_eq!(counter(other.get(&key).expect("reads")), n, "half a commit: {why}");
            assert!(n <= possible, "invented: {why}");
            assert!(n >= acknowledged, "lost: {why}");
            for slot in 0..40 {
                let last = (0..40).map(|back| n.saturating_sub(back)).find(|m| m % 40 == slot);
                let expected = last.filter(|m| *m > 0).map(|m| payload(thread, m));
                let value = db.get(format!("data{thread}-{slot}")).expect("reads");
                assert!(value == expected, "data {slot}: {why}");
                let gone = other.get(format!("gone{thread}-{slot}")).expect("reads");
                let deleted = last.is_some_and(|m| m > 0 && n >= m + 20);
                let expected = last.filter(|m| *m > 0 && !deleted);
                assert_eq!(gone.map(|v| counter(Some(v))), expected, "gone {slot}: {why}");
            }
            Told { acknowledged: n, possible: n }
        })
        .collect();
    let report = db.verify(VerifyOptions::default()).expect("verifies");
    assert!(report.is_clean(), "seed {seed}, {mode}: {:?}", report.problems);
    found
}

#[test]
fn a_killed_writer_loses_nothing_that_it_acknowledged() {
    let (first, kills) = (number("LIGHTNING_KILLS_FIRST", 0), number("LIGHTNING_KILLS", 12));
    let (mut in_recovery, mut commits) = (0, 0);
    for seed in first..first + kills {
        let mode = MODES[seed as usize % MODES.len()];
        let mut rng = fastrand::Rng::with_seed(seed);
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("db");
        let mut told = vec![Told::default(); THREADS as usize];
        // One to three lives, each killed.
        for life in 0..rng.u64(1..4) {
            processes_start(&mut told);
            let mut child = start(&path, mode);
            let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
            let after = rng.u64(1..400);
            let mut count = 0;
            let mut open = false;
            while let Some(Ok(line)) = lines.next() {
                if line == "open" {
                    open = true;
                    let second = Database::open(&path, config(mode));
                    assert_eq!(second.expect_err("two openers").kind(), ErrorKind::Locked);
                }
                if hears(&mut told, &line, mode) {
                    count += 1;
                    if count == after {
                        child.kill().expect("kills");
                    }
                }
            }
            let _ = child.wait();
            assert!(open && count >= after, "seed {seed}, life {life}: the child ended by itself");
            commits += count;
            if rng.bool() {
                processes_start(&mut told);
                let mut child = start(&path, mode);
                std::thread::sleep(Duration::from_micros(rng.u64(100..20_000)));
                child.kill().expect("kills");
                // It may have got so far as to write.
                let rest = BufReader::new(child.stdout.take().expect("piped")).lines();
                for line in rest.map_while(Result::ok) {
                    hears(&mut told, &line, mode);
                }
                let _ = child.wait();
                in_recovery += 1;
            }
            if mode == "no log" {
                // What was not flushed is gone: the next life begins where this one ended.
                let db = Database::open(&path, config(mode)).expect("opens");
                told = check(&db, &told, mode, seed);
            }
        }
        let db = Database::open(&path, config(mode))
            .unwrap_or_else(|e| panic!("seed {seed}, {mode}: {e}"));
        let once = check(&db, &told, mode, seed);
        drop(db);
        let db = Database::open(&path, config(mode)).expect("opens");
        // What was found once is there for good.
        check(&db, &once, mode, seed);
    }
    println!(
        "tried: {kills} databases with writers killed ({commits} commits acknowledged), \
         {in_recovery} killed again while they recovered"
    );
}
