//! The writes of a transaction, by keyspace and key: of a key the last put or deletion, and what was
//! merged into it since. Where there are savepoints, what a write replaced is kept, so that it can be put
//! back.
//!
//! A range delete takes the writes in it out; what is written there after it counts.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use crate::commit::batch::WriteBatch;
use crate::error::Result;
use crate::operators::list;
use crate::ranges::{Fragment, RangeMap, is_before};
use crate::store::keyspace::KeyspaceStore;
use crate::types::{EntryValue, KeyspaceId};

/// The writes to a keyspace.
pub(super) type Writes = BTreeMap<Vec<u8>, Write>;

/// What a transaction wrote to a key.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Write {
    under: Under,
    /// What was merged into that since, as a list; may be empty.
    operands: Vec<u8>,
}

/// What operands are merged into.
#[derive(Debug, Clone, PartialEq)]
enum Under {
    /// What the key was before the transaction.
    Below,
    Deleted,
    Put(Vec<u8>, Option<Duration>),
}

impl Write {
    pub(super) fn new(value: Option<&[u8]>, ttl: Option<Duration>) -> Self {
        let under = value.map_or(Under::Deleted, |v| Under::Put(v.to_vec(), ttl));
        Self { under, operands: Vec::new() }
    }

    /// Whether the key's value depends on what it was before the transaction.
    pub(super) fn needs_below(&self) -> bool {
        self.under == Under::Below
    }

    /// The key's value; `below` is the one before the transaction, where that is needed.
    pub(super) fn value(
        &self,
        store: &KeyspaceStore,
        key: &[u8],
        below: Option<&[u8]>,
    ) -> Result<Option<Vec<u8>>> {
        let base = match &self.under {
            Under::Below => below,
            Under::Deleted => None,
            Under::Put(value, _) => Some(value.as_slice()),
        };
        if self.operands.is_empty() {
            return Ok(base.map(<[u8]>::to_vec));
        }
        let lists = std::iter::once(self.operands.as_slice());
        store.need_merger()?.full(key, base, lists).map(Some)
    }

    /// Adds what is to be committed, in order.
    fn add_to(&self, batch: &mut WriteBatch, keyspace: KeyspaceId, key: &[u8]) {
        match &self.under {
            Under::Below => {}
            Under::Deleted => batch.push(keyspace, key, EntryValue::Tombstone),
            Under::Put(value, None) => batch.push(keyspace, key, EntryValue::Inline(value)),
            Under::Put(value, Some(ttl)) => batch.push_for(keyspace, key, value, *ttl),
        }
        if !self.operands.is_empty() {
            batch.push(keyspace, key, EntryValue::Operands(&self.operands));
        }
    }

    fn bytes(&self, key: &[u8]) -> u64 {
        let put = if let Under::Put(value, _) = &self.under { value.len() } else { 0 };
        (key.len() + put + self.operands.len()) as u64 + OVERHEAD
    }
}

/// A place in a transaction to go back to; see [`Transaction::savepoint`](crate::Transaction::savepoint).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Savepoint {
    transaction: u64,
    number: u64,
}

/// How a write is taken back.
#[derive(Debug)]
enum Undo {
    /// What was there before, if anything was.
    Replace(Option<Write>),
    /// Operands past this length go.
    Shorten(usize),
    /// The ranges deleted before, in the keyspace.
    Ranges(Ranges),
}

/// The writes so far.
#[derive(Debug, Default)]
pub(super) struct WriteSet {
    keyspaces: BTreeMap<KeyspaceId, Writes>,
    bytes: u64,
    /// Savepoints that stand, oldest first: number, and how much of `undo` there was.
    savepoints: Vec<(u64, usize)>,
    last_savepoint: u64,
    undo: Vec<(KeyspaceId, Vec<u8>, Undo)>,
    /// The ranges deleted; neighbours are joined.
    ranges: BTreeMap<KeyspaceId, Ranges>,
}

/// Ranges deleted, and the bytes they take.
#[derive(Debug, Default, Clone)]
struct Ranges {
    map: Arc<RangeMap>,
    bytes: u64,
}

/// Bytes that a write takes besides its key and value.
const OVERHEAD: u64 = 16;
/// Bytes that a range delete takes besides its ends.
const RANGE_OVERHEAD: u64 = 128;

impl WriteSet {
    pub(super) fn insert(
        &mut self,
        keyspace: KeyspaceId,
        key: &[u8],
        value: Option<&[u8]>,
        ttl: Option<Duration>,
    ) {
        let replaced = self.replace(keyspace, key, Some(Write::new(value, ttl)));
        self.note(keyspace, key, Undo::Replace(replaced));
    }

    /// Merges an operand into a key.
    pub(super) fn merge(&mut self, keyspace: KeyspaceId, key: &[u8], operand: &[u8]) {
        let Some(write) = self.keyspaces.get_mut(&keyspace).and_then(|w| w.get_mut(key)) else {
            let mut write = Write { under: Under::Below, operands: Vec::new() };
            list::push(&mut write.operands, operand);
            self.replace(keyspace, key, Some(write));
            self.note(keyspace, key, Undo::Replace(None));
            return;
        };
        let before = write.operands.len();
        list::push(&mut write.operands, operand);
        self.bytes += (write.operands.len() - before) as u64;
        self.note(keyspace, key, Undo::Shorten(before));
    }

    fn note(&mut self, keyspace: KeyspaceId, key: &[u8], undo: Undo) {
        if !self.savepoints.is_empty() {
            self.undo.push((keyspace, key.to_vec(), undo));
        }
    }

    /// Deletes the keys of a range, which holds some.
    pub(super) fn delete_range(&mut self, keyspace: KeyspaceId, start: &[u8], end: Option<&[u8]>) {
        let covered: Vec<Vec<u8>> = self.range(keyspace, start, end).into_keys().collect();
        for key in covered {
            let replaced = self.replace(keyspace, &key, None);
            self.note(keyspace, &key, Undo::Replace(replaced));
        }
        let before = self.ranges.get(&keyspace).cloned().unwrap_or_default();
        let bytes = (start.len() + end.map_or(0, <[u8]>::len)) as u64 + RANGE_OVERHEAD;
        // The number does not count among the transaction's own.
        let map = Arc::new(before.map.with(start, end, 0));
        self.set_ranges(keyspace, Ranges { map, bytes: before.bytes + bytes });
        self.note(keyspace, &[], Undo::Ranges(before));
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

    fn replace(&mut self, keyspace: KeyspaceId, key: &[u8], new: Option<Write>) -> Option<Write> {
        let writes = self.keyspaces.entry(keyspace).or_default();
        let old = match new {
            Some(write) => {
                self.bytes += write.bytes(key);
                writes.insert(key.to_vec(), write)
            }
            None => writes.remove(key),
        };
        if writes.is_empty() {
            self.keyspaces.remove(&keyspace);
        }
        if let Some(old) = &old {
            self.bytes -= old.bytes(key);
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
        for (keyspace, key, undo) in self.undo.split_off(keep).into_iter().rev() {
            match undo {
                Undo::Replace(before) => {
                    self.replace(keyspace, &key, before);
                }
                Undo::Shorten(len) => {
                    let writes = self.keyspaces.get_mut(&keyspace).expect("it was written to");
                    let operands = &mut writes.get_mut(&key).expect("it was written").operands;
                    self.bytes -= (operands.len() - len) as u64;
                    operands.truncate(len);
                }
                Undo::Ranges(ranges) => self.set_ranges(keyspace, ranges),
            }
        }
        true
    }

    /// What the transaction wrote to `key`, if that is not deleted by a range alone.
    pub(super) fn get(&self, keyspace: KeyspaceId, key: &[u8]) -> Option<&Write> {
        self.keyspaces.get(&keyspace)?.get(key)
    }

    /// Whether the transaction deleted a range that `key` is in.
    pub(super) fn has_deleted(&self, keyspace: KeyspaceId, key: &[u8]) -> bool {
        self.ranges.get(&keyspace).is_some_and(|r| r.map.covering(key).is_some())
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
                    .map(|(k, write)| (k.clone(), write.clone()))
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
        // First: what is written in a range that was deleted was written after that.
        for (id, range) in self.ranges() {
            batch.push_range(id, Some(&range.start), range.end.as_deref());
        }
        for (id, writes) in &self.keyspaces {
            for (key, write) in writes {
                write.add_to(&mut batch, *id, key);
            }
        }
        batch
    }

    /// The writes of single keys to a keyspace, by key.
    pub(super) fn of(&self, id: KeyspaceId) -> impl Iterator<Item = (&[u8], &Write)> {
        let writes = self.keyspaces.get(&id).into_iter().flatten();
        writes.map(|(k, w)| (k.as_slice(), w))
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
