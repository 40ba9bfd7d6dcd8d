//! index create, drop, list, get, range.
//!
//! Parts of an index key are given as JSON (`1815`, `true`, `null`) or else as text; where the index has
//! bytes there, as they are, or in hexadecimal.

use lightning_db::{
    Error, ErrorKind, Index, IndexKey, IndexPart, IndexRow, IndexSource, IndexSpec, IndexStatus,
    IndexValue,
};
use serde_json::{Map, Value, json};

use crate::args::{Format, IndexCommand, KeyspaceArg, Target};
use crate::engine;
use crate::exit::{Outcome, Stop};
use crate::output::Output;
use crate::text;

/// Does what was typed.
pub fn run(format: Format, command: IndexCommand) -> Outcome<u8> {
    match command {
        IndexCommand::Create { target, name, parts, unique, keyspace } => {
            let spec = IndexSpec::parse(&parts)?;
            create(&target, &keyspace, &name, if unique { spec.unique() } else { spec })
        }
        IndexCommand::Drop { target, name, keyspace } => drop_index(&target, &keyspace, &name),
        IndexCommand::List { target } => list(format, &target),
        IndexCommand::Get { target, name, key, keyspace, hex } => {
            get(format, &target, &keyspace, &name, &key, hex)
        }
        IndexCommand::Range { target, name, start, end, prefix, keyspace, reverse, limit, hex } => {
            let bounds = Bounds { start, end, prefix, reverse, limit };
            range(format, &target, &keyspace, &name, &bounds, hex)
        }
    }
}

struct Bounds {
    start: Vec<String>,
    end: Vec<String>,
    prefix: Vec<String>,
    reverse: bool,
    limit: Option<u64>,
}

fn create(target: &Target, keyspace: &KeyspaceArg, name: &str, spec: IndexSpec) -> Outcome<u8> {
    let db = engine::open(target)?;
    engine::keyspace(&db, &keyspace.keyspace)?.create_index(name, spec)?;
    db.close()?;
    Ok(0)
}

fn drop_index(target: &Target, keyspace: &KeyspaceArg, name: &str) -> Outcome<u8> {
    let db = engine::open(target)?;
    engine::existing_keyspace(&db, &keyspace.keyspace)?.drop_index(name)?;
    db.close()?;
    Ok(0)
}

fn list(format: Format, target: &Target) -> Outcome<u8> {
    let db = engine::open_read_only(target)?;
    let mut out = Output::new(format, false);
    for keyspace in db.list_keyspaces() {
        for index in engine::existing_keyspace(&db, &keyspace)?.list_indexes()? {
            let parts: Vec<String> = match index.spec.source() {
                IndexSource::Parts(parts) => parts.iter().map(IndexPart::to_string).collect(),
                IndexSource::Extractor(name) => vec![format!("extractor:{name}")],
                _ => vec!["unknown".to_owned()],
            };
            let status = match index.status {
                IndexStatus::Ready => "ready",
                IndexStatus::Building => "building",
                IndexStatus::MissingExtractor => "missing extractor",
            };
            let unique = index.spec.is_unique();
            let document = json!({
                "keyspace": keyspace, "name": index.name, "parts": parts, "unique": unique,
                "status": status,
            });
            let kind = if unique { "unique" } else { "-" };
            let line = format!("{keyspace}\t{}\t{}\t{kind}\t{status}", index.name, parts.join(" "));
            out.result(&document, &line)?;
        }
    }
    out.finish()?;
    Ok(0)
}

fn opened(target: &Target, keyspace: &KeyspaceArg, name: &str) -> Outcome<Index> {
    let db = engine::open_read_only(target)?;
    Ok(engine::existing_keyspace(&db, &keyspace.keyspace)?.index(name)?)
}

fn get(
    format: Format,
    target: &Target,
    keyspace: &KeyspaceArg,
    name: &str,
    key: &[String],
    hex: bool,
) -> Outcome<u8> {
    let index = opened(target, keyspace, name)?;
    let rows = index.get(index_key(&index, key, hex)?)?;
    if rows.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, "there is no such index key").into());
    }
    let mut out = Output::new(format, hex);
    for row in &rows {
        print(&mut out, row, hex)?;
    }
    out.finish()?;
    Ok(0)
}

fn range(
    format: Format,
    target: &Target,
    keyspace: &KeyspaceArg,
    name: &str,
    bounds: &Bounds,
    hex: bool,
) -> Outcome<u8> {
    let index = opened(target, keyspace, name)?;
    let bound = |given: &[String]| -> Outcome<Option<IndexKey>> {
        (!given.is_empty()).then(|| index_key(&index, given, hex)).transpose()
    };
    let rows = match bound(&bounds.prefix)? {
        Some(prefix) => index.scan_prefix(prefix)?,
        None => index.range(bound(&bounds.start)?.as_ref(), bound(&bounds.end)?.as_ref())?,
    };
    let rows: Box<dyn Iterator<Item = lightning_db::Result<IndexRow>>> =
        if bounds.reverse { Box::new(rows.rev()) } else { Box::new(rows) };
    let mut out = Output::new(format, hex);
    for row in rows.take(bounds.limit.unwrap_or(u64::MAX).try_into().unwrap_or(usize::MAX)) {
        print(&mut out, &row?, hex)?;
    }
    out.finish()?;
    Ok(0)
}

/// An index key from its parts as they were typed.
fn index_key(index: &Index, parts: &[String], hex: bool) -> Outcome<IndexKey> {
    let declared = match index.spec().source() {
        IndexSource::Parts(declared) => declared.as_slice(),
        _ => &[],
    };
    let part = |(at, text): (usize, &String)| -> Outcome<IndexValue> {
        if let Some(IndexPart::KeyBytes(..) | IndexPart::ValueBytes(..)) = declared.get(at) {
            return if hex {
                let bytes = text::from_hex(text);
                bytes.map(IndexValue::Bytes).map_err(|e| Stop::invalid(format!("part {at}: {e}")))
            } else {
                Ok(IndexValue::Bytes(text.clone().into_bytes()))
            };
        }
        Ok(match serde_json::from_str(text) {
            Ok(Value::Null) => IndexValue::Null,
            Ok(Value::Bool(b)) => b.into(),
            Ok(Value::Number(n)) => match (n.as_i64(), n.as_u64(), n.as_f64()) {
                (Some(n), _, _) => n.into(),
                (None, Some(n), _) => n.into(),
                (None, None, n) => n.unwrap_or(f64::NAN).into(),
            },
            Ok(Value::String(text)) => text.into(),
            _ => text.as_str().into(),
        })
    };
    Ok(IndexKey::new(parts.iter().enumerate().map(part).collect::<Outcome<Vec<_>>>()?))
}

fn print(out: &mut Output, row: &IndexRow, hex: bool) -> Outcome<()> {
    let parts = row.index_key.parts();
    let mut document = Map::new();
    document.insert("index_key".to_owned(), parts.iter().map(as_json).collect());
    text::put_field(&mut document, "key", &row.key, hex);
    text::put_field(&mut document, "value", &row.value, hex);
    let shown = |b: &[u8]| if hex { text::to_hex(b) } else { text::printable(b) };
    let index_key: Vec<String> = parts
        .iter()
        .map(|part| match part {
            IndexValue::Bytes(b) => shown(b),
            IndexValue::Text(t) => text::printable(t.as_bytes()),
            IndexValue::Missing => "missing".to_owned(),
            other => as_json(other).to_string(),
        })
        .collect();
    let line = format!("{}\t{}\t{}", index_key.join(" "), shown(&row.key), shown(&row.value));
    out.result(&Value::Object(document), &line)
}

fn as_json(part: &IndexValue) -> Value {
    match part {
        IndexValue::Null => Value::Null,
        IndexValue::Bool(b) => json!(b),
        IndexValue::Int(n) => i64::try_from(*n).map_or_else(
            |_| u64::try_from(*n).map_or_else(|_| json!(*n as f64), |n| json!(n)),
            |n| json!(n),
        ),
        IndexValue::Float(n) => json!(n),
        IndexValue::Text(text) => json!(text),
        IndexValue::Bytes(bytes) => {
            let mut object = Map::new();
            text::put_field(&mut object, "bytes", bytes, false);
            Value::Object(object)
        }
        _ => json!({"missing": true}),
    }
}
