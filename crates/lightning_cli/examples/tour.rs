//! A tour of Lightning DB as a library: `cargo run --release -p lightning_cli --example tour`.
//!
//! It makes a database in a temporary directory, stores 2,000 rows of a real package index, reads
//! and overwrites some, then runs itself as a second process that writes row after row and kills
//! that process in the middle of it; and looks whether every row that was acknowledged is there.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the engine keeps to its file system seam; this is a program around it"
)]

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use lightning_db::{Database, LightningDbConfig, VerifyOptions, WriteBatch, WriteOptions};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const EXCERPT: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/data/packages-excerpt.csv");
/// The argument that makes this program the writer that will be killed.
const WRITER: &str = "--write-until-killed";
/// Rows in each commit of the writer: after the kill they are all there, or none of them.
const ROWS_A_COMMIT: u64 = 3;
/// The writer is killed once it has acknowledged this many commits.
const COMMITS_BEFORE_KILL: usize = 500;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some(WRITER) {
        return write_until_killed(Path::new(&args.next().ok_or("a directory is missing")?));
    }
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("tour_database");

    let db = Database::create(&path, LightningDbConfig::default())?;
    println!("1. created a database in {}", path.display());
    import(&db)?;
    read(&db)?;
    overwrite(&db)?;
    db.close()?;

    let acknowledged = kill_a_writer(&path)?;
    let db = Database::open(&path, LightningDbConfig::default())?;
    check_writer_rows(&db, acknowledged)?;
    verify(&db)?;
    db.close()?;
    dir.close()?;
    println!("8. closed it and removed the directory");
    Ok(())
}

/// Stores the excerpt: the package's name is the key, the rest of its row the value.
fn import(db: &Database) -> Result<()> {
    let started = Instant::now();
    let mut rows = csv::Reader::from_path(EXCERPT)?;
    let mut batch = WriteBatch::new();
    for row in rows.records() {
        let row = row?;
        let fields: Vec<&str> = row.iter().skip(1).collect();
        batch.put(row[0].as_bytes(), fields.join(" | ").as_bytes());
    }
    let count = batch.len();
    db.write(batch, WriteOptions::default())?;
    println!(
        "2. stored {count} rows in one atomic commit, synced to the device ({:.1} ms)",
        millis(started)
    );
    Ok(())
}

fn read(db: &Database) -> Result<()> {
    let keys: Vec<Vec<u8>> =
        db.range(None, None)?.map(|pair| Ok(pair?.0)).collect::<lightning_db::Result<_>>()?;
    let started = Instant::now();
    let mut bytes = 0;
    for key in &keys {
        bytes += db.get(key)?.ok_or("a stored row is missing")?.len();
    }
    let micros = 1000.0 * millis(started) / keys.len() as f64;
    println!("3. read every one of them by key, {bytes} bytes of values ({micros:.2} µs each)");

    let started = Instant::now();
    let found: Vec<_> = db.scan_prefix(b"python3-")?.collect::<lightning_db::Result<_>>()?;
    let micros = 1000.0 * millis(started);
    let count = found.len();
    println!(
        "4. found {count} packages whose name begins with python3- ({micros:.0} µs), such as:"
    );
    for (key, value) in found.iter().take(3) {
        let value: String = String::from_utf8_lossy(value).chars().take(60).collect();
        println!("      {}: {value}", String::from_utf8_lossy(key));
    }
    Ok(())
}

fn overwrite(db: &Database) -> Result<()> {
    let (key, new) = (b"python3-numpy", b"overwritten by the tour");
    db.put(key, new)?;
    let old_keys: Vec<Vec<u8>> =
        db.scan_prefix(b"lib")?.map(|p| Ok(p?.0)).collect::<lightning_db::Result<_>>()?;
    let started = Instant::now();
    let mut batch = WriteBatch::new();
    for key in &old_keys {
        batch.put(key, new);
    }
    db.write(batch, WriteOptions::default())?;
    for key in old_keys.iter().map(Vec::as_slice).chain([&key[..]]) {
        if db.get(key)?.as_deref() != Some(&new[..]) {
            return Err("an overwritten row reads as something else".into());
        }
    }
    let count = old_keys.len() + 1;
    println!("5. overwrote {count} rows and read the new values ({:.1} ms)", millis(started));
    Ok(())
}

/// Runs this program as the writer and kills it; the number of commits that it acknowledged.
fn kill_a_writer(path: &Path) -> Result<u64> {
    let mut writer = Command::new(std::env::current_exe()?)
        .args([WRITER.as_ref(), path.as_os_str()])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(writer.stdout.take().ok_or("its output is piped")?).lines();
    let started = Instant::now();
    let mut acknowledged: u64 = 0;
    for line in lines.by_ref().take(COMMITS_BEFORE_KILL) {
        acknowledged = line?.parse()?;
    }
    let per_second = acknowledged as f64 * 1000.0 / millis(started).max(0.001);
    writer.kill()?;
    let status = writer.wait()?;
    // What it had said before it died is still in the pipe; its last line may be cut short.
    for line in lines {
        match line?.parse() {
            Ok(commit) if commit == acknowledged + 1 => acknowledged = commit,
            _ => break,
        }
    }
    if status.success() || acknowledged < COMMITS_BEFORE_KILL as u64 {
        return Err(format!("the writer ended by itself: {status}").into());
    }
    println!(
        "6. ran a second process that wrote {ROWS_A_COMMIT} rows a commit, each synced \
         ({per_second:.0} commits/s), and killed it ({status}) after {acknowledged} acknowledged"
    );
    Ok(acknowledged)
}

/// Commits rows until it is killed, and says so after each commit.
fn write_until_killed(path: &Path) -> Result<()> {
    let db = Database::open(path, LightningDbConfig::default())?;
    let mut out = std::io::stdout().lock();
    for commit in 1u64.. {
        let mut batch = WriteBatch::new();
        for row in 0..ROWS_A_COMMIT {
            batch.put(writer_key(commit, row), writer_value(commit, row));
        }
        db.write(batch, WriteOptions::default())?;
        writeln!(out, "{commit}")?;
        out.flush()?;
    }
    Ok(())
}

fn writer_key(commit: u64, row: u64) -> Vec<u8> {
    format!("~writer/{commit:08}/{row}").into_bytes()
}

fn writer_value(commit: u64, row: u64) -> Vec<u8> {
    format!("row {row} of commit {commit} ").repeat(4).into_bytes()
}

/// Every acknowledged commit is there whole; one more may be, since the kill can fall between
/// a commit and its acknowledgement.
fn check_writer_rows(db: &Database, acknowledged: u64) -> Result<()> {
    let started = Instant::now();
    let mut rows = 0;
    for (i, pair) in db.scan_prefix(b"~writer/")?.enumerate() {
        let (key, value) = pair?;
        let (commit, row) = (1 + i as u64 / ROWS_A_COMMIT, i as u64 % ROWS_A_COMMIT);
        if key != writer_key(commit, row) || value != writer_value(commit, row) {
            return Err(format!("row {row} of commit {commit} is missing or changed").into());
        }
        rows += 1;
    }
    let commits = rows / ROWS_A_COMMIT;
    if rows % ROWS_A_COMMIT != 0 || commits < acknowledged || commits > acknowledged + 1 {
        let told = format!("{rows} rows are there, but {acknowledged} commits were acknowledged");
        return Err(told.into());
    }
    println!(
        "7. opened it again: all {acknowledged} acknowledged commits are there, whole, and {} \
         unacknowledged ({:.1} ms)",
        commits - acknowledged,
        millis(started)
    );
    Ok(())
}

fn verify(db: &Database) -> Result<()> {
    let started = Instant::now();
    let report = db.verify(VerifyOptions::default())?;
    if !report.is_clean() {
        return Err(format!("verify found {} problems", report.problems.len()).into());
    }
    println!("   verified every page and log record: no damage ({:.1} ms)", millis(started));
    Ok(())
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}
