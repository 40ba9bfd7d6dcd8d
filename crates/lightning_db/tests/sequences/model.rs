//! The model: of every keyspace every version of every key, by commit number.
//!
//! 1. A version is never changed; what a moment saw can be asked for as long as the keyspace is.
//! 2. A keyspace made again under the same name is another one.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};

use crate::operation::{Key, Value};

/// One keyspace from being made to being dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Life(pub u32);

pub type Versions = Vec<(u64, Option<Value>)>;

/// One write: where, and what it becomes.
pub type Change = (Life, Key, Option<Value>);

#[derive(Default)]
pub struct Model {
    /// The number of the last commit.
    pub last: u64,
    next_life: u32,
    keyspaces: BTreeMap<Life, BTreeMap<Key, Versions>>,
}

impl Model {
    pub fn make(&mut self) -> Life {
        let life = Life(self.next_life);
        self.next_life += 1;
        self.keyspaces.insert(life, BTreeMap::new());
        life
    }

    pub fn remove(&mut self, life: Life) {
        self.keyspaces.remove(&life);
    }

    pub fn lives(&self, life: Life) -> bool {
        self.keyspaces.contains_key(&life)
    }

    /// One commit; of equal keys the last counts.
    pub fn commit(&mut self, changes: impl IntoIterator<Item = Change>) {
        let number = self.last + 1;
        for (life, key, value) in changes {
            self.last = number;
            let keyspace = self.keyspaces.get_mut(&life).expect("a live keyspace");
            let versions = keyspace.entry(key).or_default();
            if versions.last().is_some_and(|(n, _)| *n == number) {
                versions.pop();
            }
            versions.push((number, value));
        }
    }

    /// The number of the last commit that wrote `key`.
    pub fn written(&self, life: Life, key: Key) -> Option<u64> {
        Some(self.keyspaces.get(&life)?.get(&key)?.last()?.0)
    }

    /// What `key` became after a moment, newest first.
    pub fn versions_after(&self, life: Life, key: Key, at: u64) -> Versions {
        let versions = self.keyspaces.get(&life).and_then(|k| k.get(&key));
        versions.into_iter().flatten().rev().filter(|(n, _)| *n > at).copied().collect()
    }

    pub fn get(&self, life: Life, key: Key, at: u64) -> Option<Value> {
        seen(self.keyspaces.get(&life)?.get(&key)?, at)
    }

    /// The entries with `start <= key < end` at a moment.
    pub fn entries(&self, life: Life, start: Key, end: Option<Key>, at: u64) -> Vec<(Key, Value)> {
        let Some(keyspace) = self.keyspaces.get(&life) else { return Vec::new() };
        if end.is_some_and(|e| e <= start) {
            return Vec::new();
        }
        let range = (Included(start), end.map_or(Unbounded, Excluded));
        keyspace.range(range).filter_map(|(k, v)| Some((*k, seen(v, at)?))).collect()
    }
}

fn seen(versions: &Versions, at: u64) -> Option<Value> {
    let after = versions.partition_point(|(n, _)| *n <= at);
    versions[..after].last()?.1
}
