//! export csv, export jsonl: one keyspace, as of one moment, in key order.
//!
//! A file is written beside its name and renamed when it is whole and synced: a failed export
//! leaves nothing behind that looks like a good one.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use lightning_db::{Error, ErrorKind};
use serde_json::{Map, Value};

use super::table::Table;
use crate::args::{KeyspaceArg, OutputArg, Target};
use crate::engine::{self, Pairs};
use crate::exit::{Outcome, Stop};
use crate::progress;
use crate::text;

pub fn csv(target: &Target, keyspace: &KeyspaceArg, output: &OutputArg, hex: bool) -> Outcome<u8> {
    let db = engine::open_read_only(target)?;
    let source = engine::existing_keyspace(&db, &keyspace.keyspace)?;
    let table = if hex { None } else { Table::of(&db, &keyspace.keyspace)? };
    let pairs = engine::pairs(&source, None, None, false)?;
    to(output, |out| write_csv(out, pairs, table.as_ref(), hex))
}

pub fn jsonl(
    target: &Target,
    keyspace: &KeyspaceArg,
    output: &OutputArg,
    hex: bool,
) -> Outcome<u8> {
    let db = engine::open_read_only(target)?;
    let source = engine::existing_keyspace(&db, &keyspace.keyspace)?;
    let pairs = engine::pairs(&source, None, None, false)?;
    to(output, |out| {
        let bar = progress::count("rows");
        for pair in pairs {
            let (key, value) = pair?;
            let mut object = Map::new();
            text::put_field(&mut object, "key", &key, hex);
            text::put_field(&mut object, "value", &value, hex);
            writeln!(out.writer, "{}", Value::Object(object)).map_err(|e| out.failed(e))?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(())
    })
}

fn write_csv(out: &mut Destination, pairs: Pairs, table: Option<&Table>, hex: bool) -> Outcome<()> {
    let bar = progress::count("rows");
    let name = out.name.clone();
    let failed = |e: csv::Error| match e.into_kind() {
        csv::ErrorKind::Io(e) => Stop::output(&name, e),
        other => Stop::invalid(format!("not writable as CSV: {other:?}")),
    };
    let mut rows = csv::Writer::from_writer(&mut out.writer);
    match table {
        Some(table) => rows.write_record(table.columns()).map_err(failed)?,
        None if hex => rows.write_record(["key_hex", "value_hex"]).map_err(failed)?,
        None => rows.write_record(["key", "value"]).map_err(failed)?,
    }
    for pair in pairs {
        let (key, value) = pair?;
        match table {
            Some(table) => {
                let row = table.row(&key, &value).ok_or_else(|| {
                    Stop::invalid(format!(
                        "the value of key {} is no row of the imported table; use `export jsonl`",
                        text::printable(&key)
                    ))
                })?;
                rows.write_byte_record(&row).map_err(failed)?;
            }
            None if hex => {
                rows.write_record([text::to_hex(&key), text::to_hex(&value)]).map_err(failed)?;
            }
            None => {
                if [&key, &value].iter().any(|b| std::str::from_utf8(b).is_err()) {
                    return Err(Stop::invalid(format!(
                        "key {} or its value is not UTF-8; use --hex, or `export jsonl`",
                        text::printable(&key)
                    )));
                }
                rows.write_record([&key, &value]).map_err(failed)?;
            }
        }
        bar.inc(1);
    }
    rows.flush().map_err(|e| Stop::output(&name, e))?;
    bar.finish_and_clear();
    Ok(())
}

/// Where an export goes, and its name for messages.
struct Destination {
    writer: BufWriter<Box<dyn Write>>,
    name: PathBuf,
}

impl Destination {
    fn failed(&self, e: io::Error) -> Stop {
        Stop::output(&self.name, e)
    }
}

/// Writes an export to standard output, or whole to a file.
fn to(output: &OutputArg, write: impl FnOnce(&mut Destination) -> Outcome<()>) -> Outcome<u8> {
    let Some(path) = &output.output else {
        let writer = BufWriter::new(Box::new(io::stdout().lock()) as Box<dyn Write>);
        let mut out = Destination { writer, name: PathBuf::from("standard output") };
        write(&mut out)?;
        out.writer.flush().map_err(|e| out.failed(e))?;
        return Ok(0);
    };
    if !output.force && path.exists() {
        let message = "the file exists; --force replaces it";
        return Err(Error::new(ErrorKind::AlreadyExists, message).in_file(path).into());
    }
    let mut partial = path.clone().into_os_string();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let done = to_file(&partial, write).and_then(|()| {
        fs::rename(&partial, path).map_err(|e| Error::io(path, "rename the export to", e).into())
    });
    if done.is_err() {
        // The error of the export is the one to tell; what is left is named as partial.
        let _ = fs::remove_file(&partial);
    }
    done.map(|()| 0)
}

fn to_file(path: &Path, write: impl FnOnce(&mut Destination) -> Outcome<()>) -> Outcome<()> {
    let file = File::create(path).map_err(|e| Error::io(path, "create", e))?;
    let kept = file.try_clone().map_err(|e| Error::io(path, "open", e))?;
    let writer = BufWriter::with_capacity(256 << 10, Box::new(file) as Box<dyn Write>);
    let mut out = Destination { writer, name: path.to_path_buf() };
    write(&mut out)?;
    out.writer.flush().map_err(|e| out.failed(e))?;
    kept.sync_all().map_err(|e| Error::io(path, "sync", e))?;
    Ok(())
}
