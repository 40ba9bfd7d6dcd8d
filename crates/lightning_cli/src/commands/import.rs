//! import csv, import jsonl.
//!
//! 1. Rows are committed in batches of [`BATCH_ROWS`]; an error names the line, and says how many
//!    rows before it are stored. Importing again is harmless: rows are stored under their keys.
//! 2. The input is opened, and a table's header read, before the database is made or opened.
//! 3. Where a key comes twice in the input, the last row wins and the repetition is counted, by
//!    128-bit hashes of the keys under random seeds, 16 bytes a key.
//! 4. Sorted rows are ingested as one commit instead; an error names the line, and nothing is stored.

use std::cell::Cell;
use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::BuildHasher;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::time::Instant;

use indicatif::ProgressBar;
use lightning_db::{Database, Error, Keyspace, WriteBatch};
use serde_json::{Map, Value, json};

use super::table::Table;
use crate::args::{DurabilityArg, Format, KeyspaceArg, SortedArg, Target};
use crate::engine;
use crate::exit::{Outcome, Stop};
use crate::output::Output;
use crate::progress;
use crate::text;

/// Rows in one commit.
const BATCH_ROWS: usize = 1000;
/// A batch is committed early once it holds this many bytes.
const BATCH_BYTES: usize = 8 << 20;

/// Where rows go, and how.
pub struct Into<'a> {
    pub keyspace: &'a KeyspaceArg,
    pub durability: &'a DurabilityArg,
    pub sorted: SortedArg,
}

/// A row of the input.
struct Row {
    line: u64,
    /// Where in the input it begins or ends: for the bar.
    byte: u64,
    pair: engine::Pair,
}

pub fn csv(
    format: Format,
    file: &Path,
    target: &Target,
    key: &str,
    into: &Into<'_>,
) -> Outcome<u8> {
    let (input, bar) = open(file)?;
    let mut rows = csv::ReaderBuilder::new().flexible(true).from_reader(input);
    let header = rows.byte_headers().map_err(|e| unreadable(file, e))?.clone();
    if header.is_empty() {
        return Err(Stop::line(file, 1, "there is no header"));
    }
    let columns = header
        .iter()
        .map(|name| std::str::from_utf8(name).map(str::to_owned))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| Stop::line(file, 1, "a column's name is not UTF-8"))?;
    let table = Table::new(columns, key).map_err(|why| Stop::line(file, 1, why))?;

    let db = engine::open_or_create(target)?;
    let mut row = csv::ByteRecord::new();
    let next = || {
        if !rows.read_byte_record(&mut row).map_err(|e| unreadable(file, e))? {
            return Ok(None);
        }
        let (line, byte) = row.position().map_or((0, 0), |p| (p.line(), p.byte()));
        let refuse = |why: String| Stop::line(file, line, why);
        if row.len() != table.columns().len() {
            let (have, want) = (row.len(), table.columns().len());
            return Err(refuse(format!("{have} fields, where the header has {want}")));
        }
        let value = table.value(&row).map_err(refuse)?;
        let key_bytes = row[table.key()].to_vec();
        if key_bytes.is_empty() {
            return Err(refuse(format!("the key, column `{key}`, is empty")));
        }
        Ok(Some(Row { line, byte, pair: (key_bytes, value) }))
    };
    load(format, file, &db, into, &bar, Some(&table), next)
}

pub fn jsonl(format: Format, file: &Path, target: &Target, into: &Into<'_>) -> Outcome<u8> {
    let (mut input, bar) = open(file)?;
    let db = engine::open_or_create(target)?;
    let mut text = Vec::new();
    let (mut line, mut byte) = (0, 0);
    let next = || loop {
        text.clear();
        let read = input.read_until(b'\n', &mut text).map_err(|e| Error::io(file, "read", e))?;
        if read == 0 {
            return Ok(None);
        }
        line += 1;
        byte += read as u64;
        if text.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let pair = parse_line(&text).map_err(|why| Stop::line(file, line, why))?;
        return Ok(Some(Row { line, byte, pair }));
    };
    load(format, file, &db, into, &bar, None, next)
}

/// Takes the rows that `next` gives into the database.
fn load(
    format: Format,
    file: &Path,
    db: &Database,
    into: &Into<'_>,
    bar: &ProgressBar,
    table: Option<&Table>,
    next: impl FnMut() -> Outcome<Option<Row>>,
) -> Outcome<u8> {
    let name = &into.keyspace.keyspace;
    let report = if into.sorted.sorted {
        if let Some(table) = table {
            table.is_noted(db, name)?;
        }
        let report = ingest(file, db, into, bar, next)?;
        if let Some(table) = table {
            table.note(db, name, into.durability)?;
        }
        report
    } else {
        if let Some(table) = table {
            table.note(db, name, into.durability)?;
        }
        put(file, db, into, bar, next)?
    };
    bar.finish_and_clear();
    db.clone().close()?;
    finish(format, &report)
}

/// Commits the rows in batches.
fn put(
    file: &Path,
    db: &Database,
    into: &Into<'_>,
    bar: &ProgressBar,
    mut next: impl FnMut() -> Outcome<Option<Row>>,
) -> Outcome<Report> {
    let mut sink = Sink::new(db, into, bar)?;
    while let Some(row) = next().map_err(|e| sink.stopped(e))? {
        let (key, value) = &row.pair;
        sink.put(key, value).map_err(|e| e.on_line(file, row.line))?;
        bar.set_position(row.byte);
    }
    sink.commit()?;
    Ok(sink.report)
}

/// Takes the rows, which are sorted, as one commit.
fn ingest(
    file: &Path,
    db: &Database,
    into: &Into<'_>,
    bar: &ProgressBar,
    mut next: impl FnMut() -> Outcome<Option<Row>>,
) -> Outcome<Report> {
    let keyspace = engine::keyspace(db, &into.keyspace.keyspace)?;
    let started = Instant::now();
    let line = Cell::new(0);
    let rows = std::iter::from_fn(|| {
        let row = next().map_err(|stop| within(stop, "nothing was imported")).transpose()?;
        Some(row.map(|row| {
            line.set(row.line);
            bar.set_position(row.byte);
            row.pair
        }))
    });
    match keyspace.try_ingest(rows) {
        Ok(rows) => Ok(Report { rows, stored: rows, duplicates: 0, started }),
        // Of the input's own errors none reaches the engine.
        Err(Stop::Failed(e)) if e.file().is_none() => {
            let message = format!("line {}: {} (nothing was imported)", line.get(), e.message());
            Err(Stop::Failed(Error::new(e.kind(), message).in_file(file)))
        }
        Err(other) => Err(other),
    }
}

/// An error with what became of the rows.
fn within(stop: Stop, became: &str) -> Stop {
    match stop {
        Stop::Failed(e) => {
            let mut with = Error::new(e.kind(), format!("{} ({became})", e.message()));
            if let Some(file) = e.file() {
                with = with.in_file(file);
            }
            Stop::Failed(with)
        }
        Stop::PipeClosed => Stop::PipeClosed,
    }
}

/// The key and value of a line; or what is wrong with it.
fn parse_line(line: &[u8]) -> Result<engine::Pair, String> {
    let mut object: Map<String, Value> =
        serde_json::from_slice(line).map_err(|e| format!("not a JSON object: {e}"))?;
    let key = text::take_field(&mut object, "key")?;
    let value = text::take_field(&mut object, "value")?;
    if let Some(name) = object.keys().next() {
        return Err(format!("unknown field `{name}`"));
    }
    if key.is_empty() {
        return Err("the key is empty".to_owned());
    }
    Ok((key, value))
}

fn finish(format: Format, report: &Report) -> Outcome<u8> {
    let seconds = report.started.elapsed().as_secs_f64();
    let (rows, duplicates) = (report.rows, report.duplicates);
    let keys = rows - duplicates;
    let document =
        json!({"rows": rows, "keys": keys, "duplicate_keys": duplicates, "seconds": seconds});
    let repeated = match duplicates {
        0 => String::new(),
        n => format!("; {n} rows repeated a key, and the last of each won"),
    };
    let line = format!("{rows} rows under {keys} keys in {seconds:.2} s{repeated}");
    let mut out = Output::new(format, false);
    out.result(&document, &line)?;
    out.finish()?;
    Ok(0)
}

/// Takes rows, commits them in batches.
struct Sink<'a> {
    db: &'a Database,
    keyspace: Keyspace,
    durability: &'a DurabilityArg,
    batch: WriteBatch,
    batch_bytes: usize,
    seen: HashSet<u128>,
    seeds: [RandomState; 2],
    report: Report,
    bar: &'a ProgressBar,
}

struct Report {
    rows: u64,
    stored: u64,
    duplicates: u64,
    started: Instant,
}

/// A batch that could not be committed, before it is known which line it ended with.
struct Refused {
    error: Error,
    /// How many rows were committed before it.
    stored: u64,
}

impl Refused {
    fn on_line(self, file: &Path, line: u64) -> Stop {
        let message = format!(
            "line {line}, or one of the {BATCH_ROWS} before it: {} ({} rows were stored)",
            self.error, self.stored
        );
        Stop::Failed(Error::new(self.error.kind(), message).in_file(file).caused_by(self.error))
    }
}

impl<'a> Sink<'a> {
    fn new(db: &'a Database, into: &Into<'a>, bar: &'a ProgressBar) -> Outcome<Self> {
        Ok(Self {
            keyspace: engine::keyspace(db, &into.keyspace.keyspace)?,
            db,
            durability: into.durability,
            batch: WriteBatch::new(),
            batch_bytes: 0,
            seen: HashSet::new(),
            seeds: [RandomState::new(), RandomState::new()],
            report: Report { rows: 0, stored: 0, duplicates: 0, started: Instant::now() },
            bar,
        })
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Refused> {
        let [low, high] = [0, 1].map(|i| u128::from(self.seeds[i].hash_one(key)));
        if !self.seen.insert(low | high << 64) {
            self.report.duplicates += 1;
        }
        self.batch.put_in(&self.keyspace, key, value);
        self.batch_bytes += key.len() + value.len();
        self.report.rows += 1;
        if self.batch.len() >= BATCH_ROWS || self.batch_bytes >= BATCH_BYTES {
            self.commit().map_err(|error| Refused { error, stored: self.report.stored })?;
        }
        Ok(())
    }

    fn commit(&mut self) -> lightning_db::Result<()> {
        let batch = std::mem::take(&mut self.batch);
        engine::write(self.db, batch, self.durability)?;
        self.batch_bytes = 0;
        self.report.stored = self.report.rows;
        self.bar.set_message(format!("{} rows", self.report.rows));
        Ok(())
    }

    /// An error of the input, with what had been stored by then.
    fn stopped(&self, stop: Stop) -> Stop {
        within(stop, &format!("{} rows before it were stored", self.report.stored))
    }
}

/// The input, and a bar for it.
fn open(file: &Path) -> Outcome<(Box<dyn BufRead>, ProgressBar)> {
    if file == Path::new("-") {
        return Ok((Box::new(buffered(io::stdin())), progress::count("bytes")));
    }
    let input = File::open(file).map_err(|e| Error::io(file, "open", e))?;
    let length = input.metadata().map_err(|e| Error::io(file, "read the length of", e))?.len();
    Ok((Box::new(buffered(input)), progress::bytes(length)))
}

fn buffered<R: Read>(input: R) -> BufReader<R> {
    BufReader::with_capacity(256 << 10, input)
}

fn unreadable(file: &Path, e: csv::Error) -> Stop {
    let line = e.position().map_or(0, csv::Position::line);
    match e.into_kind() {
        csv::ErrorKind::Io(e) => Error::io(file, "read", e).into(),
        other => Stop::line(file, line, format!("not CSV: {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_give_key_and_value_or_say_why_not() {
        let pair = parse_line(br#"{"value_hex":"00ff","key":"k"}"#);
        assert_eq!(pair, Ok((b"k".to_vec(), vec![0, 255])));
        for (line, why) in [
            ("[]", "JSON object"),
            ("{\"key\":\"k\"}", "`value`"),
            ("{\"key\":\"\",\"value\":\"\"}", "empty"),
            ("{\"key\":\"k\",\"value\":\"\",\"ttl\":1}", "`ttl`"),
        ] {
            let e = parse_line(line.as_bytes()).expect_err(line);
            assert!(e.contains(why), "{line}: {e}");
        }
    }
}
