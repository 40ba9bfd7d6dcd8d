//! The writes of a transaction, by keyspace and key; the last write of a key counts.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::types::KeyspaceId;

type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The writes so far.
#[derive(Debug, Default)]
pub(super) struct WriteSet {
    keyspaces: BTreeMap<KeyspaceId, Writes>,
    bytes: u64,
}

/// Bytes that a write takes besides its key and value.
const OVERHEAD: u64 = 16;

impl WriteSet {
    pub(super) fn insert(&mut self, keyspace: KeyspaceId, key: &[u8], value: Option<&[u8]>) {
        let size = |v: Option<&[u8]>| key.len() as u64 + v.map_or(0, <[u8]>::len) as u64 + OVERHEAD;
        let writes = self.keyspaces.entry(keyspace).or_default();
        self.bytes += size(value);
        if let Some(old) = writes.insert(key.to_vec(), value.map(<[u8]>::to_vec)) {
            self.bytes -= size(old.as_deref());
        }
    }

    /// What the transaction wrote to `key`: outer `None` nothing, inner `None` a delete.
    #[allow(clippy::option_option)] // wrote nothing, deleted, or put: three answers
    pub(super) fn get(&self, keyspace: KeyspaceId, key: &[u8]) -> Option<Option<&[u8]>> {
        self.keyspaces.get(&keyspace)?.get(key).map(|v| v.as_deref())
    }

    /// The writes to a keyspace inside `start..end`, copied.
    pub(super) fn range(&self, keyspace: KeyspaceId, start: &[u8], end: Option<&[u8]>) -> Writes {
        if end.is_some_and(|e| e <= start) {
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

    /// All writes, by keyspace and key.
    pub(super) fn iter(&self) -> impl Iterator<Item = (KeyspaceId, &[u8], Option<&[u8]>)> {
        self.keyspaces
            .iter()
            .flat_map(|(id, w)| w.iter().map(move |(k, v)| (*id, k.as_slice(), v.as_deref())))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keyspaces.is_empty()
    }

    /// Bytes held, overhead included.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}
