//! put, merge, get, delete, delete-range, scan.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use lightning_db::{Error, ErrorKind, Keyspace, WriteBatch};

use super::past;
use crate::args::{DurabilityArg, Format, KeyspaceArg, Target};
use crate::engine;
use crate::exit::{Outcome, Stop};
use crate::output::Output;
use crate::text;

/// What a scan covers.
pub struct Bounds {
    pub prefix: Option<String>,
    pub start: Option<String>,
    pub end: Option<String>,
    pub reverse: bool,
    pub limit: Option<u64>,
}

pub fn put(
    target: &Target,
    keyspace: &KeyspaceArg,
    key: &str,
    value: &str,
    durability: &DurabilityArg,
    hex: bool,
    ttl: Option<Duration>,
) -> Outcome<u8> {
    if key == "-" && value == "-" {
        return Err(Stop::invalid("only one of key and value can come from standard input"));
    }
    let key = key_bytes(key, hex)?;
    let value = match value {
        "-" if hex => decoded("value", String::from_utf8_lossy(&standard_input()?).trim())?,
        "-" => standard_input()?,
        text if hex => decoded("value", text)?,
        text => text.as_bytes().to_vec(),
    };
    commit(target, keyspace, durability, |batch, keyspace| match ttl {
        None => batch.put_in(keyspace, &key, &value),
        Some(ttl) => batch.put_with_ttl_in(keyspace, &key, &value, ttl),
    })
}

pub fn merge(
    target: &Target,
    (keyspace, operator): (&KeyspaceArg, Option<String>),
    (key, operand): (&str, &str),
    durability: &DurabilityArg,
    hex: bool,
) -> Outcome<u8> {
    let key = key_bytes(key, hex)?;
    let db = engine::open(target)?;
    let keyspace = engine::merging_keyspace(&db, &keyspace.keyspace, operator)?;
    let operand = match keyspace.merge_operator() {
        Some("counter") => {
            let number: i64 = operand
                .parse()
                .map_err(|_| Stop::invalid("what is merged into a counter is a whole number"))?;
            number.to_le_bytes().to_vec()
        }
        _ if hex => decoded("operand", operand)?,
        _ => operand.as_bytes().to_vec(),
    };
    let mut batch = WriteBatch::new();
    batch.merge_in(&keyspace, &key, &operand);
    engine::write(&db, batch, durability)?;
    db.close()?;
    Ok(0)
}

/// Stores what a file holds, a piece in memory at a time.
pub fn put_file(
    target: &Target,
    keyspace: &KeyspaceArg,
    key: &str,
    file: &Path,
    hex: bool,
) -> Outcome<u8> {
    let key = key_bytes(key, hex)?;
    let input = File::open(file).map_err(|e| Error::io(file, "open", e))?;
    let db = engine::open(target)?;
    engine::keyspace(&db, &keyspace.keyspace)?.put_reader(&key, input, None)?;
    db.close()?;
    Ok(0)
}

/// Writes a value to a file, a piece in memory at a time.
pub fn get_file(
    target: &Target,
    keyspace: &KeyspaceArg,
    key: &str,
    hex: bool,
    output: &Path,
) -> Outcome<u8> {
    let key = key_bytes(key, hex)?;
    let db = engine::open_read_only(target)?;
    let found = engine::existing_keyspace(&db, &keyspace.keyspace)?.get_reader(&key)?;
    let Some(mut value) = found else {
        return Err(Error::new(ErrorKind::NotFound, "there is no such key").into());
    };
    let mut file = File::create_new(output).map_err(|e| Error::io(output, "create", e))?;
    let copied = io::copy(&mut value, &mut file).and_then(|_| file.sync_all());
    copied.map_err(|e| {
        // Not to be taken for the value.
        let _ = std::fs::remove_file(output);
        match e.downcast::<Error>() {
            Ok(e) => Stop::Failed(e),
            Err(e) => Error::io(output, "write", e).into(),
        }
    })?;
    Ok(0)
}

pub fn delete(
    target: &Target,
    keyspace: &KeyspaceArg,
    key: &str,
    durability: &DurabilityArg,
    hex: bool,
) -> Outcome<u8> {
    let key = key_bytes(key, hex)?;
    commit(target, keyspace, durability, |batch, keyspace| batch.delete_in(keyspace, &key))
}

fn commit(
    target: &Target,
    keyspace: &KeyspaceArg,
    durability: &DurabilityArg,
    fill: impl FnOnce(&mut WriteBatch, &Keyspace),
) -> Outcome<u8> {
    let db = engine::open(target)?;
    let mut batch = WriteBatch::new();
    fill(&mut batch, &engine::keyspace(&db, &keyspace.keyspace)?);
    engine::write(&db, batch, durability)?;
    db.close()?;
    Ok(0)
}

pub fn get(
    format: Format,
    target: &Target,
    keyspace: &KeyspaceArg,
    key: &str,
    hex: bool,
    raw: bool,
    at: Option<&str>,
) -> Outcome<u8> {
    let key = key_bytes(key, hex)?;
    let db = engine::open_read_only(target)?;
    let keyspace = engine::existing_keyspace(&db, &keyspace.keyspace)?;
    let found = match at {
        Some(at) => past::value_at(&db, &keyspace, &key, at)?,
        None => keyspace.get(&key)?,
    };
    let Some(value) = found else {
        return Err(Error::new(ErrorKind::NotFound, "there is no such key").into());
    };
    let mut out = Output::new(format, hex);
    if raw {
        out.raw(&value)?;
    } else {
        out.value(&value)?;
    }
    out.finish()?;
    Ok(0)
}

/// The first key of what is covered, and the first key behind it.
type Ends = (Option<Vec<u8>>, Option<Vec<u8>>);

fn ends(bounds: &Bounds, hex: bool) -> Outcome<Ends> {
    let bound = |given: &Option<String>| match given {
        Some(text) if hex => decoded("bound", text).map(Some),
        Some(text) => Ok(Some(text.as_bytes().to_vec())),
        None => Ok(None),
    };
    Ok(match bound(&bounds.prefix)? {
        Some(prefix) => {
            let end = after_prefix(&prefix);
            (Some(prefix), end)
        }
        None => (bound(&bounds.start)?, bound(&bounds.end)?),
    })
}

pub fn delete_range(
    target: &Target,
    keyspace: &KeyspaceArg,
    bounds: &Bounds,
    all: bool,
    durability: &DurabilityArg,
    hex: bool,
) -> Outcome<u8> {
    let (start, end) = ends(bounds, hex)?;
    if start.is_none() && end.is_none() && !all {
        return Err(Stop::invalid("give --prefix, --start or --end, or --all for every key"));
    }
    commit(target, keyspace, durability, |batch, keyspace| {
        batch.delete_range_in(keyspace, start.as_deref(), end.as_deref());
    })
}

pub fn scan(
    format: Format,
    target: &Target,
    keyspace: &KeyspaceArg,
    bounds: &Bounds,
    hex: bool,
) -> Outcome<u8> {
    let (start, end) = ends(bounds, hex)?;
    let db = engine::open_read_only(target)?;
    let keyspace = engine::existing_keyspace(&db, &keyspace.keyspace)?;
    let mut out = Output::new(format, hex);
    let pairs = engine::pairs(&keyspace, start.as_deref(), end.as_deref(), bounds.reverse)?;
    for pair in pairs.take(bounds.limit.unwrap_or(u64::MAX).try_into().unwrap_or(usize::MAX)) {
        let (key, value) = pair?;
        out.pair(&key, &value)?;
    }
    out.finish()?;
    Ok(0)
}

/// The first key behind every key that begins with `prefix`; `None` where there is none.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|b| *b != 0xFF)?;
    let mut end = prefix[..=kept].to_vec();
    end[kept] += 1;
    Some(end)
}

pub fn key_bytes(given: &str, hex: bool) -> Outcome<Vec<u8>> {
    let mut key = match given {
        "-" => standard_input()?,
        text => text.as_bytes().to_vec(),
    };
    if given == "-" && key.last() == Some(&b'\n') {
        key.pop();
    }
    if hex {
        return decoded("key", String::from_utf8_lossy(&key).trim());
    }
    Ok(key)
}

fn decoded(what: &str, text: &str) -> Outcome<Vec<u8>> {
    text::from_hex(text).map_err(|e| Stop::invalid(format!("{what}: {e}")))
}

fn standard_input() -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .read_to_end(&mut bytes)
        .map_err(|e| Error::io(Path::new("standard input"), "read", e))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_the_first_key_behind_it() {
        assert_eq!(after_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(after_prefix(b"a\xFF\xFF"), Some(b"b".to_vec()));
        assert_eq!(after_prefix(b"\xFF"), None);
        assert_eq!(after_prefix(b""), None);
    }
}
