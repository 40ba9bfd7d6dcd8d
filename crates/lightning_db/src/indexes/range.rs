//! What reading an index gives: index keys with the keys of their rows, or whole rows.
//!
//! Entries and rows are read at one view, so that every entry has its row.

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::index::IndexKey;
use crate::index::value::FIRST_TAG;
use crate::iterators::{Range, prefix_end};
use crate::maintenance::core::Core;
use crate::maintenance::indexes::LiveIndex;
use crate::store::keyspace::KeyspaceStore;
use crate::store::lookup;
use crate::store::value::Value;
use crate::store::view::View;

/// A row found by an index.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexRow {
    /// The index key it was found by.
    pub index_key: IndexKey,
    /// The row's key.
    pub key: Vec<u8>,
    /// The row's value.
    pub value: Vec<u8>,
}

/// Which entries are asked for: from `start` up to and without `end`.
#[derive(Debug, Clone)]
pub(crate) struct EntryBounds {
    pub(crate) start: Vec<u8>,
    pub(crate) end: Option<Vec<u8>>,
}

impl EntryBounds {
    fn all_that_begin_with(bytes: Vec<u8>) -> Self {
        if bytes.is_empty() {
            return Self { start: vec![FIRST_TAG], end: None };
        }
        Self { end: prefix_end(&bytes), start: bytes }
    }

    /// Index keys that are equal to `key`.
    pub(crate) fn equal(index: &LiveIndex, key: &IndexKey) -> Self {
        let mut bytes = fit(index, key).encode();
        bytes.push(crate::index::value::END);
        Self::all_that_begin_with(bytes)
    }

    /// Index keys from `start` up to and without `end`.
    pub(crate) fn between(
        index: &LiveIndex,
        start: Option<&IndexKey>,
        end: Option<&IndexKey>,
    ) -> Self {
        let start = start.map(|k| fit(index, k).encode()).filter(|b| !b.is_empty());
        let end = end.map(|k| fit(index, k).encode());
        Self { start: start.unwrap_or_else(|| vec![FIRST_TAG]), end }
    }

    /// Index keys whose first parts are those of `key`.
    pub(crate) fn first_parts(index: &LiveIndex, key: &IndexKey) -> Self {
        Self::all_that_begin_with(fit(index, key).encode())
    }

    /// The same, of the last part only its beginning.
    pub(crate) fn beginning(index: &LiveIndex, key: &IndexKey) -> Self {
        Self::all_that_begin_with(fit(index, key).encode_start())
    }
}

fn fit(index: &LiveIndex, key: &IndexKey) -> IndexKey {
    key.fitted(|at| index.spec.is_bytes(at))
}

/// The index key and the row's key of an entry that was read.
pub(crate) fn decode(index: &LiveIndex, entry: &[u8]) -> Result<(IndexKey, Vec<u8>)> {
    match IndexKey::decode_entry(entry) {
        Ok((index_key, key)) => Ok((index_key, key.to_vec())),
        Err(m) => Err(Error::new(ErrorKind::Corrupt, format!("index {:?}: {}", index.name, m.0))),
    }
}

/// The entries of an index, in order of index key and then of row key: an iterator of
/// `Result<(index key, row key)>` that can be read from both ends. It sees one moment. After an
/// error it ends.
#[derive(Debug)]
pub struct IndexKeys {
    pub(super) entries: Range,
    pub(super) index: Arc<LiveIndex>,
}

impl IndexKeys {
    fn decoded(&self, item: Result<(Vec<u8>, Vec<u8>)>) -> Result<(IndexKey, Vec<u8>)> {
        decode(&self.index, &item?.0)
    }
}

impl Iterator for IndexKeys {
    type Item = Result<(IndexKey, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.entries.next()?;
        Some(self.decoded(item))
    }
}

impl DoubleEndedIterator for IndexKeys {
    fn next_back(&mut self) -> Option<Self::Item> {
        let item = self.entries.next_back()?;
        Some(self.decoded(item))
    }
}

impl std::iter::FusedIterator for IndexKeys {}

/// The rows of an index, in order of index key and then of row key: an iterator of
/// `Result<`[`IndexRow`]`>` that can be read from both ends. It sees one moment. A row with several
/// index keys comes once for each. Costs a get for each row.
#[derive(Debug)]
pub struct IndexRange {
    pub(super) keys: IndexKeys,
    pub(super) core: Arc<Core>,
    pub(super) keyspace: Arc<KeyspaceStore>,
    pub(super) view: Arc<View>,
}

impl IndexRange {
    fn row(&self, item: Result<(IndexKey, Vec<u8>)>) -> Result<IndexRow> {
        let (index_key, key) = item?;
        let (env, version) = (&self.core.env, self.keyspace.version());
        let (at, now) = (self.view.seq(), self.view.moment());
        let value = lookup::get_at(env, &self.keyspace, &version, &key, at, now)?;
        let value = value.map(Value::into_vec).ok_or_else(|| without_row(&self.keys.index))?;
        Ok(IndexRow { index_key, key, value })
    }
}

/// The error of an entry whose row is not there.
pub(crate) fn without_row(index: &LiveIndex) -> Error {
    let message = format!("index {:?} has an entry without its row", index.name);
    Error::new(ErrorKind::Corrupt, message)
}

impl Iterator for IndexRange {
    type Item = Result<IndexRow>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.keys.next()?;
        Some(self.row(item))
    }
}

impl DoubleEndedIterator for IndexRange {
    fn next_back(&mut self) -> Option<Self::Item> {
        let item = self.keys.next_back()?;
        Some(self.row(item))
    }
}

impl std::iter::FusedIterator for IndexRange {}
