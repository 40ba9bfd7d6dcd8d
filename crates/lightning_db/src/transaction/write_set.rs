//! The writes of a transaction, by keyspace and key; the last write of a key counts. Where there are
//! savepoints, what a write replaced is kept, so that it can be put back.
//!
//! A range delete takes the writes in it out; what is written there after it counts.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::ranges::{Fragment, RangeMap, is_before};
use crate::types::{KeyspaceId, Seq};

type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// A place in a transaction to go back to; see [`Transaction::savepoint`](crate::Transaction::savepoint).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Savepoint {
    transaction: u64,
    number: u64,
}

/// What a write replaced: nothing, a delete, or a put.
type Replaced = Option<Option<Vec<u8>>>;

/// The writes so far.
#[derive(Debug, Default)]
pub(super) struct WriteSet {
    keyspaces: BTreeMap<KeyspaceId, Writes>,
    bytes: u64,
    /// Savepoints that stand, oldest first: number, and how much of `undo` there was.
    savepoints: Vec<(u64, usize)>,
    last_savepoint: u64,
    undo: Vec<Undo>,
    /// The ranges deleted; neighbours are joined.
    ranges: BTreeMap<KeyspaceId, Ranges>,
}

/// Ranges deleted, and the bytes they take.
#[derive(Debug, Default, Clone)]
struct Ranges {
    map: Arc<RangeMap>,
    bytes: u64,
}

/// What to put back.
#[derive(Debug)]
enum Undo {
    Key(KeyspaceId, Vec<u8>, Replaced),
    Ranges(KeyspaceId, Ranges),
}

/// Bytes that a write takes besides its key and value.
const OVERHEAD: u64 = 16;
/// Bytes that a range delete takes besides its ends.
const RANGE_OVERHEAD: u64 = 128;

impl WriteSet {
    pub(super) fn insert(&mut self, keyspace: KeyspaceId, key: &[u8], value: Option<&[u8]>) {
        let replaced = self.replace(keyspace, key, Some(value.map(<[u8]>::to_vec)));
        if !self.savepoints.is_empty() {
            self.undo.push(Undo::Key(keyspace, key.to_vec(), replaced));
        }
    }

    /// Deletes the keys of a range, which holds some.
    pub(super) fn delete_range(&mut self, keyspace: KeyspaceId, start: &[u8], end: Option<&[u8]>) {
        let covered: Vec<Vec<u8>> = self.range(keyspace, start, end).into_keys().collect();
        for key in covered {
            let replaced = self.replace(keyspace, &key, None);
            if !self.savepoints.is_empty() {
                self.undo.push(Undo::Key(keyspace, key, replaced));
            }
        }
        let before = self.ranges.get(&keyspace).cloned().unwrap_or_default();
        let bytes = (start.len() + end.map_or(0, <[u8]>::len)) as u64 + RANGE_OVERHEAD;
        // The number does not count among the transaction's own.
        let new = Fragment { start: start.into(), end: end.map(Into::into), seq: Seq(0) };
        let map = Arc::new(before.map.joined_with(new));
        self.set_ranges(keyspace, Ranges { map, bytes: before.bytes + bytes });
        if !self.savepoints.is_empty() {
            self.undo.push(Undo::Ranges(keyspace, before));
        }
    }

    fn set_ranges(&mut self, keyspace: KeyspaceId, ranges: Ranges) {
        self.bytes += ranges.bytes;
        let before = if ranges.map.is_empty() {
            self.ranges.remove(&keyspace)
        } else {
            self.ranges.insert(keyspace, ranges)
        };
        self.bytes -= before.map_or(0, |b| b.bytes);
    }

    /// The ranges deleted in a keyspace; `None` where there are none.
    pub(super) fn deleted(&self, keyspace: KeyspaceId) -> Option<Arc<RangeMap>> {
        self.ranges.get(&keyspace).map(|r| Arc::clone(&r.map))
    }

    /// Every range deleted.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (KeyspaceId, Fragment)> {
        self.ranges.iter().flat_map(|(id, r)| r.map.fragments().into_iter().map(|f| (*id, f)))
    }

    fn replace(&mut self, keyspace: KeyspaceId, key: &[u8], new: Replaced) -> Replaced {
        let size = |v: Option<&[u8]>| key.len() as u64 + v.map_or(0, <[u8]>::len) as u64 + OVERHEAD;
        let writes = self.keyspaces.entry(keyspace).or_default();
        let old = match new {
            Some(value) => {
                self.bytes += size(value.as_deref());
                writes.insert(key.to_vec(), value)
            }
            None => writes.remove(key),
        };
        if writes.is_empty() {
            self.keyspaces.remove(&keyspace);
        }
        if let Some(old) = &old {
            self.bytes -= size(old.as_deref());
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
        for undo in self.undo.split_off(keep).into_iter().rev() {
            match undo {
                Undo::Key(keyspace, key, replaced) => _ = self.replace(keyspace, &key, replaced),
                Undo::Ranges(keyspace, ranges) => self.set_ranges(keyspace, ranges),
            }
        }
        true
    }

    /// What the transaction wrote to `key`: outer `None` nothing, inner `None` a delete.
    #[allow(clippy::option_option)] // wrote nothing, deleted, or put: three answers
    pub(super) fn get(&self, keyspace: KeyspaceId, key: &[u8]) -> Option<Option<&[u8]>> {
        let own = self.keyspaces.get(&keyspace).and_then(|w| w.get(key));
        if let Some(value) = own {
            return Some(value.as_deref());
        }
        self.ranges.get(&keyspace)?.map.covering(key).map(|_| None)
    }

    /// The writes to a keyspace inside `start..end`, copied.
    pub(super) fn range(&self, keyspace: KeyspaceId, start: &[u8], end: Option<&[u8]>) -> Writes {
        if !is_before(start, end) {
            return Writes::new();
        }
        let upper = end.map_or(Bound::Unbounded, Bound::Excluded);
        self.keyspaces
            .get(&keyspace)
            .map(|w| {
                w.range::<[u8], _>((Bound::Included(start), upper))
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect()
            })
            .unwrap_or_default()
    }

    /// All writes of single keys, by keyspace and key.
    pub(super) fn iter(&self) -> impl Iterator<Item = (KeyspaceId, &[u8], Option<&[u8]>)> {
        self.keyspaces
            .iter()
            .flat_map(|(id, w)| w.iter().map(move |(k, v)| (*id, k.as_slice(), v.as_deref())))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keyspaces.is_empty() && self.ranges.is_empty()
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
