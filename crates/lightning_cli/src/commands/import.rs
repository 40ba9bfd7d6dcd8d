//! import csv, import jsonl.
//!
//! 1. Rows are committed in batches of [`BATCH_ROWS`]; an error names the line, and says how many
//!    rows before it are stored. Importing again is harmless: rows are stored under their keys.
//! 2. The input is opened, and a table's header read, before the database is made or opened.
//! 3. Where a key comes twice in the input, the last row wins and the repetition is counted, by
//!    128-bit hashes of the keys under random seeds, 16 bytes a key.

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
use crate::args::{DurabilityArg, Format, KeyspaceArg, Target};
use crate::engine;
use crate::exit::{Outcome, Stop};
use crate::output::Output;
use crate::progress;
use crate::text;

/// Rows in one commit.
const BATCH_ROWS: usize = 1000;
/// A batch is committed early once it holds this many bytes.
const BATCH_BYTES: usize = 8 << 20;

pub fn csv(
    format: Format,
    file: &Path,
    target: &Target,
    key: &str,
    keyspace: &KeyspaceArg,
    durability: &DurabilityArg,
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
    table.note(&db, &keyspace.keyspace, durability)?;
    let mut sink = Sink::new(db, keyspace, durability, bar)?;
    let mut row = csv::ByteRecord::new();
    while rows.read_byte_record(&mut row).map_err(|e| sink.stopped(unreadable(file, e)))? {
        let (line, byte) = row.position().map_or((0, 0), |p| (p.line(), p.byte()));
        let refuse = |why: String| Stop::line(file, line, why);
        let value = if row.len() == table.columns().len() {
            table.value(&row).map_err(refuse)
        } else {
            let (have, want) = (row.len(), table.columns().len());
            Err(refuse(format!("{have} fields, where the header has {want}")))
        };
        let value = value.map_err(|e| sink.stopped(e))?;
        if row[table.key()].is_empty() {
            return Err(sink.stopped(refuse(format!("the key, column `{key}`, is empty"))));
        }
        sink.put(&row[table.key()], &value).map_err(|e| e.on_line(file, line))?;
        sink.bar.set_position(byte);
    }
    finish(format, sink)
}

pub fn jsonl(
    format: Format,
    file: &Path,
    target: &Target,
    keyspace: &KeyspaceArg,
    durability: &DurabilityArg,
) -> Outcome<u8> {
    let (mut input, bar) = open(file)?;
    let db = engine::open_or_create(target)?;
    let mut sink = Sink::new(db, keyspace, durability, bar)?;
    let mut text = Vec::new();
    let mut byte = 0;
    for line in 1.. {
        text.clear();
        let read = input
            .read_until(b'\n', &mut text)
            .map_err(|e| sink.stopped(Error::io(file, "read", e).into()))?;
        if read == 0 {
            break;
        }
        byte += read as u64;
        if text.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let (key, value) =
            parse_line(&text).map_err(|why| sink.stopped(Stop::line(file, line, why)))?;
        sink.put(&key, &value).map_err(|e| e.on_line(file, line))?;
        sink.bar.set_position(byte);
    }
    finish(format, sink)
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

fn finish(format: Format, sink: Sink<'_>) -> Outcome<u8> {
    let report = sink.finish()?;
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
    db: Database,
    keyspace: Keyspace,
    durability: &'a DurabilityArg,
    batch: WriteBatch,
    batch_bytes: usize,
    seen: HashSet<u128>,
    seeds: [RandomState; 2],
    report: Report,
    bar: ProgressBar,
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
    fn new(
        db: Database,
        keyspace: &KeyspaceArg,
        durability: &'a DurabilityArg,
        bar: ProgressBar,
    ) -> Outcome<Self> {
        Ok(Self {
            keyspace: engine::keyspace(&db, &keyspace.keyspace)?,
            db,
            durability,
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
        engine::write(&self.db, batch, self.durability)?;
        self.batch_bytes = 0;
        self.report.stored = self.report.rows;
        self.bar.set_message(format!("{} rows", self.report.rows));
        Ok(())
    }

    /// An error of the input, with what had been stored by then.
    fn stopped(&self, stop: Stop) -> Stop {
        match stop {
            Stop::Failed(e) => {
                let message =
                    format!("{} ({} rows before it were stored)", e.message(), self.report.stored);
                let mut with = Error::new(e.kind(), message);
                if let Some(file) = e.file() {
                    with = with.in_file(file);
                }
                Stop::Failed(with)
            }
            Stop::PipeClosed => Stop::PipeClosed,
        }
    }

    fn finish(mut self) -> Outcome<Report> {
        self.commit()?;
        self.bar.finish_and_clear();
        self.db.close()?;
        Ok(self.report)
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
