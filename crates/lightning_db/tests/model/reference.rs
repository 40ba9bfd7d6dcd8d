//! The reference: a map from keys to all their versions, so that every past moment can be read.
//!
//! 1. `now` rises by one with each commit; a moment is a value of `now`.
//! 2. A keyspace that is dropped and made again is another one: ids are never used twice.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

pub type Bytes = Rc<[u8]>;
pub type Pair = (Vec<u8>, Bytes);
pub type Change = (u32, Vec<u8>, Option<Bytes>);

/// The versions of a key, oldest first; `None` is a deletion.
pub type Versions = Vec<(u64, Option<Bytes>)>;

#[derive(Default)]
pub struct Reference {
    pub now: u64,
    keyspaces: BTreeMap<u32, BTreeMap<Vec<u8>, Versions>>,
}

fn visible(versions: &Versions, at: u64) -> Option<&Bytes> {
    versions.iter().rev().find(|(v, _)| *v <= at)?.1.as_ref()
}

impl Reference {
    /// One commit; of equal keys the last one counts. An empty one is none.
    pub fn commit(&mut self, changes: &[Change]) {
        if changes.is_empty() {
            return;
        }
        self.now += 1;
        for (keyspace, key, value) in changes {
            let versions = self.keyspaces.entry(*keyspace).or_default();
            let versions = versions.entry(key.clone()).or_default();
            if versions.last().is_some_and(|(v, _)| *v == self.now) {
                versions.pop();
            }
            versions.push((self.now, value.clone()));
        }
    }

    pub fn get(&self, keyspace: u32, key: &[u8], at: u64) -> Option<&Bytes> {
        visible(self.keyspaces.get(&keyspace)?.get(key)?, at)
    }

    /// What a key became after a moment, newest first, and as the last what it was then, numbered 0.
    pub fn history(&self, keyspace: u32, key: &[u8], oldest: u64) -> Versions {
        let versions = self.keyspaces.get(&keyspace).and_then(|k| k.get(key));
        let Some(versions) = versions else { return Versions::new() };
        let mut found: Versions = versions.iter().rev().filter(|v| v.0 > oldest).cloned().collect();
        found.extend(visible(versions, oldest).map(|value| (0, Some(value.clone()))));
        found
    }

    /// Whether a key was committed after a moment: the rule by which transactions conflict.
    pub fn changed_since(&self, keyspace: u32, key: &[u8], at: u64) -> bool {
        let versions = self.keyspaces.get(&keyspace).and_then(|k| k.get(key));
        versions.and_then(|v| v.last()).is_some_and(|(v, _)| *v > at)
    }

    /// The entries with `start <= key < end` at a moment.
    pub fn range(
        &self,
        keyspace: u32,
        start: Option<&[u8]>,
        end: Option<&[u8]>,
        at: u64,
    ) -> Vec<Pair> {
        let start = start.unwrap_or_default();
        let (Some(keys), false) = (self.keyspaces.get(&keyspace), end.is_some_and(|e| e <= start))
        else {
            return Vec::new();
        };
        let end = end.map_or(Bound::Unbounded, Bound::Excluded);
        keys.range::<[u8], _>((Bound::Included(start), end))
            .filter_map(|(k, versions)| Some((k.clone(), visible(versions, at)?.clone())))
            .collect()
    }
}
