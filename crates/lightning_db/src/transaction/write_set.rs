//! The writes of a transaction, by keyspace and key; the last write of a key counts. Where there are
//! savepoints, what a write replaced is kept, so that it can be put back.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use crate::commit::batch::WriteBatch;
use crate::types::{EntryValue, KeyspaceId};

type Values = BTreeMap<Vec<u8>, Option<Vec<u8>>>;
type Writes = BTreeMap<Vec<u8>, Option<Put>>;

/// A value that was put, and for how long.
#[derive(Debug)]
struct Put {
    value: Vec<u8>,
    ttl: Option<Duration>,
}

/// A place in a transaction to go back to; see [`Transaction::savepoint`](crate::Transaction::savepoint).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Savepoint {
    transaction: u64,
    number: u64,
}

/// What a write replaced: nothing, a delete, or a put.
type Replaced = Option<Option<Put>>;

/// The writes so far.
#[derive(Debug, Default)]
pub(super) struct WriteSet {
    keyspaces: BTreeMap<KeyspaceId, Writes>,
    bytes: u64,
    /// Savepoints that stand, oldest first: number, and how much of `undo` there was.
    savepoints: Vec<(u64, usize)>,
    last_savepoint: u64,
    undo: Vec<(KeyspaceId, Vec<u8>, Replaced)>,
}

/// Bytes that a write takes besides its key and value.
const OVERHEAD: u64 = 16;

impl WriteSet {
    pub(super) fn insert(
        &mut self,
        keyspace: KeyspaceId,
        key: &[u8],
        value: Option<&[u8]>,
        ttl: Option<Duration>,
    ) {
        let put = value.map(|value| Put { value: value.to_vec(), ttl });
        let replaced = self.replace(keyspace, key, Some(put));
        if !self.savepoints.is_empty() {
            self.undo.push((keyspace, key.to_vec(), replaced));
        }
    }

    fn replace(&mut self, keyspace: KeyspaceId, key: &[u8], new: Replaced) -> Replaced {
        let size = |put: &Option<Put>| {
            (key.len() + put.as_ref().map_or(0, |put| put.value.len())) as u64 + OVERHEAD
        };
        let writes = self.keyspaces.entry(keyspace).or_default();
        let old = match new {
            Some(value) => {
                self.bytes += size(&value);
                writes.insert(key.to_vec(), value)
            }
            None => writes.remove(key),
        };
        if writes.is_empty() {
            self.keyspaces.remove(&keyspace);
        }
        if let Some(old) = &old {
            self.bytes -= size(old);
        }
        old
    }

    /// Marks this place.
    pub(super) fn savepoint(&mut self, transaction: u64) -> Savepoint {
        self.last_savepoint += 1;
        self.savepoints.push((self.last_savepoint, self.undo.len()));
        Savepoint { transaction, number: self.last_savepoint }
    }

    /// Takes back the writes after `savepoint`, and the savepoints after it; `false` where it does
    /// not stand any more, or is of another transaction.
    pub(super) fn roll_back(&mut self, transaction: u64, savepoint: Savepoint) -> bool {
        let known = self.savepoints.iter().position(|(n, _)| *n == savepoint.number);
        let Some(at) = known.filter(|_| savepoint.transaction == transaction) else { return false };
        let keep = self.savepoints[at].1;
        self.savepoints.truncate(at + 1);
        for (keyspace, key, replaced) in self.undo.split_off(keep).into_iter().rev() {
            self.replace(keyspace, &key, replaced);
        }
        true
    }

    /// What the transaction wrote to `key`: outer `None` nothing, inner `None` a delete.
    #[allow(clippy::option_option)] // wrote nothing, deleted, or put: three answers
    pub(super) fn get(&self, keyspace: KeyspaceId, key: &[u8]) -> Option<Option<&[u8]>> {
        self.keyspaces
            .get(&keyspace)?
            .get(key)
            .map(|put| put.as_ref().map(|put| put.value.as_slice()))
    }

    /// The writes to a keyspace inside `start..end`, copied.
    pub(super) fn range(&self, keyspace: KeyspaceId, start: &[u8], end: Option<&[u8]>) -> Values {
        if end.is_some_and(|e| e <= start) {
            return Values::new();
        }
        let upper = end.map_or(Bound::Unbounded, Bound::Excluded);
        self.keyspaces
            .get(&keyspace)
            .map(|w| {
                w.range::<[u8], _>((Bound::Included(start), upper))
                    .map(|(k, put)| (k.clone(), put.as_ref().map(|put| put.value.clone())))
                    .collect()
            })
            .unwrap_or_default()
    }

    /// The keys of all writes, by keyspace.
    pub(super) fn keys(&self) -> impl Iterator<Item = (KeyspaceId, &[u8])> {
        self.keyspaces.iter().flat_map(|(id, w)| w.keys().map(move |k| (*id, k.as_slice())))
    }

    /// All writes, as a batch.
    pub(super) fn to_batch(&self) -> WriteBatch {
        let mut batch = WriteBatch::new();
        for (id, writes) in &self.keyspaces {
            for (key, put) in writes {
                match put {
                    None => batch.push(*id, key, EntryValue::Tombstone),
                    Some(Put { value, ttl: None }) => {
                        batch.push(*id, key, EntryValue::Inline(value));
                    }
                    Some(Put { value, ttl: Some(ttl) }) => batch.push_for(*id, key, value, *ttl),
                }
            }
        }
        batch
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keyspaces.is_empty()
    }

    /// How many keys.
    pub(super) fn len(&self) -> usize {
        self.keyspaces.values().map(BTreeMap::len).sum()
    }

    /// Bytes held, overhead included.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}
