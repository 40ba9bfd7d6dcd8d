//! From a row to its entries in an index.
//!
//! 1. The same row gives the same entries each time; a registered function must keep to that too.
//! 2. Entries are sorted, without repetitions. A row that every declared part is missing of has none.
//! 3. Functions are the caller's code: they are never called inside the commit section.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::index::spec::{IndexPart, IndexSource, IndexSpec};
use crate::index::value::{END, IndexKey, IndexValue};
use crate::limits::MAX_KEY_BYTES;

type Function = dyn Fn(&[u8], &[u8]) -> Vec<IndexKey> + Send + Sync;

/// Functions that give the index keys of a row, by name. See
/// [`LightningDbConfig::extractors`](crate::LightningDbConfig::extractors).
#[derive(Clone, Default)]
pub struct Extractors(BTreeMap<String, Arc<Function>>);

impl Extractors {
    /// Registers a function: from a row's key and value to its index keys, none, one or many. It
    /// must give the same keys for the same row always, in every process that opens the database;
    /// it must not call the database, and is called by any thread.
    pub fn insert(
        &mut self,
        name: impl Into<String>,
        function: impl Fn(&[u8], &[u8]) -> Vec<IndexKey> + Send + Sync + 'static,
    ) {
        self.0.insert(name.into(), Arc::new(function));
    }

    /// The names registered, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl fmt::Debug for Extractors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl PartialEq for Extractors {
    /// The same functions under the same names.
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|(a, b)| a.0 == b.0 && Arc::ptr_eq(a.1, b.1))
    }
}

impl Eq for Extractors {}

/// One entry of an index.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Index key, end mark, row's key.
    pub bytes: Vec<u8>,
    /// How many of them are the index key and the mark.
    pub prefix_len: usize,
    /// Whether a unique index counts it: no part is missing or null.
    pub counts: bool,
}

impl Entry {
    /// Index key and end mark: what entries of other rows have in common with it if their index
    /// key is equal.
    pub fn prefix(&self) -> &[u8] {
        &self.bytes[..self.prefix_len]
    }

    /// Where the entries end that begin with [`prefix`](Self::prefix).
    pub fn prefix_end(&self) -> Vec<u8> {
        let mut end = self.prefix().to_vec();
        end.pop();
        end.push(END + 1);
        end
    }

    fn new(index_key: &IndexKey, row: &[u8]) -> Self {
        let mut bytes = index_key.encode();
        bytes.push(END);
        let prefix_len = bytes.len();
        bytes.extend_from_slice(row);
        Self { bytes, prefix_len, counts: !index_key.parts().iter().any(IndexValue::is_absent) }
    }
}

/// How the entries of a row are found.
#[derive(Clone)]
pub enum Extraction {
    /// By a registered function.
    Function(Arc<Function>),
    /// By declared parts.
    Parts(Vec<IndexPart>),
}

impl fmt::Debug for Extraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(_) => f.write_str("Function"),
            Self::Parts(parts) => f.debug_tuple("Parts").field(parts).finish(),
        }
    }
}

impl Extraction {
    /// The way of `spec`; an error where a function is not registered, or this build lacks JSON.
    pub fn of(spec: &IndexSpec, functions: &Extractors) -> Result<Self> {
        let missing = |why: String| Error::new(ErrorKind::MissingExtractor, why);
        match &spec.source {
            IndexSource::Extractor(name) => {
                let found = functions.0.get(name).cloned().map(Self::Function);
                found.ok_or_else(|| missing(format!("no extractor {name:?} is registered")))
            }
            IndexSource::Parts(parts) => {
                let json =
                    parts.iter().any(|p| matches!(p, IndexPart::Json(_) | IndexPart::JsonEach(_)));
                if json && !cfg!(feature = "json") {
                    return Err(missing("this build lacks the feature `json`".to_owned()));
                }
                Ok(Self::Parts(parts.clone()))
            }
        }
    }

    fn all(&self, row: &[u8], value: &[u8]) -> Vec<Entry> {
        let keys = match self {
            Self::Function(function) => function(row, value),
            Self::Parts(parts) => declared(parts, row, value),
        };
        let mut entries: Vec<Entry> = keys.iter().map(|key| Entry::new(key, row)).collect();
        entries.sort_unstable();
        entries.dedup();
        entries
    }

    /// The entries of a row that is there, sorted: such as are too long were never written.
    pub fn entries_there(&self, row: &[u8], value: &[u8]) -> Vec<Entry> {
        let mut entries = self.all(row, value);
        entries.retain(|e| e.bytes.len() <= MAX_KEY_BYTES);
        entries
    }

    /// The entries of a row to be, sorted. `index` is named by the error for one that is too long.
    pub fn entries(&self, index: &str, row: &[u8], value: &[u8]) -> Result<Vec<Entry>> {
        let entries = self.all(row, value);
        match entries.iter().map(|e| e.bytes.len()).max() {
            Some(longest) if longest > MAX_KEY_BYTES => Err(Error::new(
                ErrorKind::KeyTooLarge,
                format!(
                    "an entry of index {index:?} would have {longest} bytes with its row's key, \
                     over the limit of {MAX_KEY_BYTES} bytes"
                ),
            )),
            _ => Ok(entries),
        }
    }
}

/// The index keys of declared parts.
fn declared(parts: &[IndexPart], row: &[u8], value: &[u8]) -> Vec<IndexKey> {
    let json = Json::new(value);
    // The part that has several values, and these.
    let mut several: Option<(usize, Vec<IndexValue>)> = None;
    let mut key: Vec<IndexValue> = Vec::with_capacity(parts.len());
    for (at, part) in parts.iter().enumerate() {
        key.push(match part {
            IndexPart::Json(pointer) => json.at(pointer),
            IndexPart::JsonEach(pointer) => {
                several = Some((at, json.each(pointer)));
                IndexValue::Missing
            }
            IndexPart::KeyBytes(start, end) => slice(row, *start, *end),
            IndexPart::ValueBytes(start, end) => slice(value, *start, *end),
        });
    }
    let keys = match several {
        None => vec![key],
        Some((at, values)) => values
            .into_iter()
            .map(|v| {
                let mut key = key.clone();
                key[at] = v;
                key
            })
            .collect(),
    };
    let any = |key: &Vec<IndexValue>| key.iter().any(|v| *v != IndexValue::Missing);
    keys.into_iter().filter(any).map(IndexKey::new).collect()
}

fn slice(bytes: &[u8], start: usize, end: Option<usize>) -> IndexValue {
    let end = end.map_or(bytes.len(), |e| e.min(bytes.len()));
    bytes.get(start..end).map_or(IndexValue::Missing, |b| IndexValue::Bytes(b.to_vec()))
}

/// A value as JSON, parsed once, when it is first asked for.
struct Json<'a> {
    #[cfg_attr(not(feature = "json"), allow(dead_code, reason = "nothing parses it"))]
    value: &'a [u8],
    #[cfg(feature = "json")]
    parsed: std::cell::OnceCell<Option<serde_json::Value>>,
}

#[cfg(feature = "json")]
impl<'a> Json<'a> {
    fn new(value: &'a [u8]) -> Self {
        Self { value, parsed: std::cell::OnceCell::new() }
    }

    fn find(&self, pointer: &str) -> Option<&serde_json::Value> {
        self.parsed
            .get_or_init(|| serde_json::from_slice(self.value).ok())
            .as_ref()
            .and_then(|v| v.pointer(pointer))
    }

    fn at(&self, pointer: &str) -> IndexValue {
        self.find(pointer).map_or(IndexValue::Missing, scalar)
    }

    fn each(&self, pointer: &str) -> Vec<IndexValue> {
        match self.find(pointer) {
            Some(serde_json::Value::Array(items)) if !items.is_empty() => {
                items.iter().map(scalar).collect()
            }
            other => vec![other.map_or(IndexValue::Missing, scalar)],
        }
    }
}

#[cfg(feature = "json")]
fn scalar(value: &serde_json::Value) -> IndexValue {
    use serde_json::Value;
    match value {
        Value::Null => IndexValue::Null,
        Value::Bool(b) => IndexValue::Bool(*b),
        Value::Number(n) => {
            let whole = n.as_i64().map(i128::from).or_else(|| n.as_u64().map(i128::from));
            let double = || n.as_f64().map_or(IndexValue::Missing, IndexValue::Float);
            whole.map_or_else(double, IndexValue::Int)
        }
        Value::String(text) => IndexValue::Text(text.clone()),
        Value::Array(_) | Value::Object(_) => IndexValue::Missing,
    }
}

#[cfg(not(feature = "json"))]
impl<'a> Json<'a> {
    fn new(value: &'a [u8]) -> Self {
        Self { value }
    }

    fn at(&self, _pointer: &str) -> IndexValue {
        IndexValue::Missing
    }

    fn each(&self, _pointer: &str) -> Vec<IndexValue> {
        vec![IndexValue::Missing]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(parts: &[&str], row: &[u8], value: &[u8]) -> Vec<Vec<IndexValue>> {
        let spec = IndexSpec::parse(parts).expect("parts");
        let way = Extraction::of(&spec, &Extractors::default()).expect("declared");
        let entries = way.entries("x", row, value).expect("short enough");
        let decode = |e: &Entry| {
            let (key, found) = IndexKey::decode_entry(&e.bytes).expect("own bytes");
            assert_eq!(found, row);
            key.parts().to_vec()
        };
        entries.iter().map(decode).collect()
    }

    #[cfg(feature = "json")]
    #[test]
    fn json_parts_are_found_or_missing() {
        use IndexValue::{Bool, Float, Int, Missing, Null, Text};
        let value = br#"{"a":{"b":[10,"x",10,null,{}]},"n":null,"t":true,"f":1.5,"s":"q"}"#;
        assert_eq!(keys(&["json:/s"], b"k", value), [[Text("q".into())]]);
        assert_eq!(keys(&["json:/n", "json:/t"], b"k", value), [[Null, Bool(true)]]);
        assert_eq!(keys(&["json:/f", "json:/none"], b"k", value), [[Float(1.5), Missing]]);
        assert_eq!(keys(&["json:/a/b/0"], b"k", value), [[Int(10)]]);
        assert_eq!(keys(&["each:/a/b"], b"k", value), [[Null], [Int(10)], [Text("x".into())]]);
        assert_eq!(keys(&["each:/s"], b"k", value), [[Text("q".into())]]);
        for nothing in ["json:/a", "json:/none", "each:/none", "json:"] {
            assert!(keys(&[nothing], b"k", value).is_empty(), "{nothing}");
        }
        assert_eq!(keys(&["json:"], b"k", b"18446744073709551615"), [[Int(u64::MAX.into())]]);
        let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
        for value in [&b"not json"[..], b"", b"{\"s\":1", &deep, b"\xff"] {
            assert!(keys(&["json:/s"], b"k", value).is_empty());
        }
    }

    #[test]
    fn byte_ranges_take_what_is_there() {
        use IndexValue::{Bytes, Missing};
        let b = |s: &[u8]| Bytes(s.to_vec());
        assert_eq!(keys(&["key:1..3", "value"], b"abcd", b"v"), [[b(b"bc"), b(b"v")]]);
        assert_eq!(keys(&["key:3..9", "value"], b"abcd", b""), [[b(b"d"), b(b"")]]);
        assert_eq!(keys(&["value:5..", "key"], b"abcd", b"v"), [[Missing, b(b"abcd")]]);
        assert!(keys(&["value:5..9"], b"abcd", b"v").is_empty());
    }

    #[test]
    fn functions_are_found_by_name_and_long_entries_refused() {
        let mut functions = Extractors::default();
        functions.insert("twice", |key, value| vec![key.into(), value.into(), key.into()]);
        let way = Extraction::of(&IndexSpec::extractor("twice"), &functions).expect("registered");
        assert_eq!(way.entries("x", b"b", b"a").expect("short").len(), 2);
        let e = way.entries("x", b"b", &vec![1; 1 << 16]).expect_err("too long");
        assert_eq!(e.kind(), ErrorKind::KeyTooLarge);
        let e = Extraction::of(&IndexSpec::extractor("other"), &functions).expect_err("unknown");
        assert_eq!(e.kind(), ErrorKind::MissingExtractor);
        assert!(e.message().contains("other"));
    }
}
