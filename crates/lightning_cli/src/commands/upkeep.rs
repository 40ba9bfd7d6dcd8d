//! create, stats, inspect, check, compact, flush, list-keyspaces, rotate-key, completions.

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory;
use lightning_db::{Database, Error};
use serde_json::{Map, Value, json};

use crate::args::{Cli, Format, NewKey, Target};
use crate::engine;
use crate::exit::{self, Outcome};
use crate::output::Output;
use crate::progress;
use crate::text;

pub fn create(format: Format, target: &Target) -> Outcome<u8> {
    engine::create(target)?;
    let path = target.db.display().to_string();
    told(format, &json!({"created": path}), &format!("created {path}"))
}

pub fn rotate_key(format: Format, target: &Target, new: &NewKey) -> Outcome<u8> {
    engine::rotate_key(target, new)?;
    told(format, &json!({"key": "changed"}), "the key is changed")
}

pub fn stats(format: Format, target: &Target) -> Outcome<u8> {
    let db = engine::open_read_only(target)?;
    fields(format, &engine::stats(&db)?)
}

pub fn inspect(format: Format, target: &Target, count: bool) -> Outcome<u8> {
    let db = engine::open_read_only(target)?;
    let mut keyspaces = Map::new();
    for name in db.list_keyspaces() {
        let described = describe(&db, &name, count)?;
        keyspaces.insert(name, described);
    }
    let document = json!({
        "path": target.db.display().to_string(),
        "keyspaces": keyspaces,
        "files": files(&target.db)?,
        "stats": engine::stats(&db)?,
    });
    fields(format, &document)
}

fn describe(db: &Database, name: &str, count: bool) -> Outcome<Value> {
    let keyspace = engine::existing_keyspace(db, name)?;
    let edge = |reverse: bool| -> Outcome<Value> {
        let mut pairs = engine::pairs(&keyspace, None, None, reverse)?;
        Ok(pairs.next().transpose()?.map_or(Value::Null, |(key, _)| text::printable(&key).into()))
    };
    let mut object = Map::new();
    object.insert("first_key".to_owned(), edge(false)?);
    object.insert("last_key".to_owned(), edge(true)?);
    if count {
        let bar = progress::count("keys");
        let (mut keys, mut key_bytes, mut value_bytes) = (0u64, 0u64, 0u64);
        for pair in engine::pairs(&keyspace, None, None, false)? {
            let (key, value) = pair?;
            keys += 1;
            key_bytes += key.len() as u64;
            value_bytes += value.len() as u64;
            bar.inc(1);
        }
        bar.finish_and_clear();
        object.insert("keys".to_owned(), keys.into());
        object.insert("key_bytes".to_owned(), key_bytes.into());
        object.insert("value_bytes".to_owned(), value_bytes.into());
    }
    Ok(Value::Object(object))
}

/// Number and bytes of the files in each directory of the database.
fn files(db: &Path) -> Outcome<Value> {
    let mut object = Map::new();
    let (mut count, mut bytes) = (0u64, 0u64);
    let listed = |dir: &Path| -> lightning_db::Result<Vec<fs::DirEntry>> {
        let entries = fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut entries = entries.map_err(|e| Error::io(dir, "list", e))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        Ok(entries)
    };
    for entry in listed(db)? {
        let path = entry.path();
        let metadata = entry.metadata().map_err(|e| Error::io(&path, "look at", e))?;
        let (mut files, mut length) = (1, metadata.len());
        if metadata.is_dir() {
            (files, length) = (0, 0);
            for file in listed(&path)? {
                let path = file.path();
                length += file.metadata().map_err(|e| Error::io(&path, "look at", e))?.len();
                files += 1;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            object.insert(name, json!({"files": files, "bytes": length}));
        }
        count += files;
        bytes += length;
    }
    object.insert("all".to_owned(), json!({"files": count, "bytes": bytes}));
    Ok(Value::Object(object))
}

pub fn check(format: Format, target: &Target, deep: bool) -> Outcome<u8> {
    let db = engine::open_read_only(target)?;
    let (healthy, complaints) = engine::health(&db)?;
    let mut document = json!({
        "read": if deep { "every page, log record and manifest edit" } else {
            "manifest and log; not the pages (use --deep)"
        },
        "healthy": healthy,
        "complaints": complaints,
    });
    let mut code = 0;
    if deep {
        let verified = engine::verify(&db)?;
        if !verified.clean {
            code = exit::CORRUPT;
        }
        document["clean"] = verified.clean.into();
        document["checked"] = verified.counts;
        document["problems"] = verified.problems.into();
    }
    fields(format, &document)?;
    Ok(code)
}

pub fn compact(format: Format, target: &Target) -> Outcome<u8> {
    let before = bytes(&target.db)?;
    let db = engine::open(target)?;
    db.compact()?;
    db.close()?;
    let after = bytes(&target.db)?;
    let document = json!({"bytes_before": before, "bytes_after": after});
    told(format, &document, &format!("compacted: {before} bytes before, {after} after"))
}

pub fn flush(format: Format, target: &Target) -> Outcome<u8> {
    let db = engine::open(target)?;
    db.flush()?;
    db.close()?;
    told(format, &json!({"flushed": true}), "flushed")
}

fn bytes(db: &Path) -> Outcome<Value> {
    if !db.is_dir() {
        // Opening it says what is wrong.
        return Ok(Value::Null);
    }
    Ok(files(db)?["all"]["bytes"].take())
}

pub fn list_keyspaces(format: Format, target: &Target) -> Outcome<u8> {
    let db = engine::open_read_only(target)?;
    let names = db.list_keyspaces();
    told(format, &json!(names), &names.join("\n"))
}

pub fn completions(shell: clap_complete::Shell) -> Outcome<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "lightning-cli", &mut script);
    let mut out = Output::new(Format::Text, false);
    out.raw(&script)?;
    out.finish()?;
    Ok(0)
}

fn told(format: Format, document: &Value, text: &str) -> Outcome<u8> {
    let mut out = Output::new(format, false);
    out.result(document, text)?;
    out.finish()?;
    Ok(0)
}

fn fields(format: Format, document: &Value) -> Outcome<u8> {
    let mut out = Output::new(format, false);
    out.fields(document)?;
    out.finish()?;
    Ok(0)
}
