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
    ranges: Vec<(u64, Life, Key, Option<Key>)>,
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

    /// A commit of a range delete over `start <= key < end`, behind a write.
    pub fn delete_range(
        &mut self,
        life: Life,
        before: Option<Change>,
        start: Key,
        end: Option<Key>,
    ) {
        let inside = |key: Key| start <= key && end.is_none_or(|e| key < e);
        let gone =
            self.entries(life, start, end, self.last).into_iter().map(|(k, _)| (life, k, None));
        let own = before.map(|(life, k, v)| (life, k, v.filter(|_| !inside(k))));
        let changes: Vec<Change> = gone.chain(own).collect();
        let number = self.last + 1;
        self.commit(changes);
        self.last = number;
        self.ranges.push((number, life, start, end));
    }

    /// Whether a commit since `at` changed `key`: whether it must be known, and whether it may be. What came
    /// and went with a range delete may be forgotten.
    pub fn changed(&self, life: Life, key: Key, at: u64) -> (bool, bool) {
        let covered = |since: u64| {
            self.ranges.iter().any(|(n, of, start, end)| {
                *n > since && *of == life && *start <= key && end.is_none_or(|e| key < e)
            })
        };
        let written = self.written(life, key).filter(|n| *n > at);
        let there = self.get(life, key, at).is_some();
        let must = written.is_some_and(|n| there || !covered(n - 1));
        (must, written.is_some() || covered(at))
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
