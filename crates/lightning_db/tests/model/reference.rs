//! The reference: a map from keys to all their versions, so that every past moment can be read.
//!
//! 1. `now` rises by one with each commit; a moment is a value of `now`.
//! 2. A range delete is a deletion of every key that has a value there, and remembered as itself too.
//! 3. A keyspace that is dropped and made again is another one: ids are never used twice.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::rc::Rc;

pub type Bytes = Rc<[u8]>;
pub type Pair = (Vec<u8>, Bytes);
pub type Change = (u32, Vec<u8>, Option<Bytes>);

/// The versions of a key, oldest first; `None` is a deletion.
pub type Versions = Vec<(u64, Option<Bytes>)>;

/// One part of a commit.
#[derive(Debug, Clone)]
pub enum Part {
    Entry(Change),
    /// Keyspace, start, end.
    Range(u32, Option<Vec<u8>>, Option<Vec<u8>>),
}

/// A start or an end, if there is one.
type End = Option<Vec<u8>>;

#[derive(Default)]
pub struct Reference {
    pub now: u64,
    /// Range deletes: when, and what.
    ranges: Vec<(u64, u32, End, End)>,
    /// The versions that are deletions by a range delete.
    by_range: BTreeSet<(u32, Vec<u8>, u64)>,
    keyspaces: BTreeMap<u32, BTreeMap<Vec<u8>, Versions>>,
}

/// Whether no key can be in a range.
pub fn is_empty(start: Option<&[u8]>, end: Option<&[u8]>) -> bool {
    end.is_some_and(|e| e <= start.unwrap_or_default() || *e == [0])
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
            self.set(*keyspace, key, value.clone());
        }
    }

    /// As [`commit`](Self::commit), with range deletes.
    pub fn commit_parts(&mut self, parts: &[Part]) {
        let holds_some = |p: &&Part| match p {
            Part::Entry(_) => true,
            Part::Range(_, start, end) => !is_empty(start.as_deref(), end.as_deref()),
        };
        let parts: Vec<&Part> = parts.iter().filter(holds_some).collect();
        if parts.is_empty() {
            return;
        }
        self.now += 1;
        for part in parts {
            match part {
                Part::Entry((keyspace, key, value)) => {
                    self.set(*keyspace, key, value.clone());
                    self.by_range.remove(&(*keyspace, key.clone(), self.now));
                }
                Part::Range(keyspace, start, end) => {
                    let gone = self.range(*keyspace, start.as_deref(), end.as_deref(), self.now);
                    for (key, _) in gone {
                        self.set(*keyspace, &key, None);
                        self.by_range.insert((*keyspace, key, self.now));
                    }
                    self.ranges.push((self.now, *keyspace, start.clone(), end.clone()));
                }
            }
        }
    }

    fn set(&mut self, keyspace: u32, key: &[u8], value: Option<Bytes>) {
        let versions = self.keyspaces.entry(keyspace).or_default();
        let versions = versions.entry(key.to_vec()).or_default();
        if versions.last().is_some_and(|(v, _)| *v == self.now) {
            versions.pop();
        }
        versions.push((self.now, value));
    }

    /// Whether a range delete after a moment had anything in `start..end` in its range.
    pub fn range_deleted_since(
        &self,
        keyspace: u32,
        start: Option<&[u8]>,
        end: Option<&[u8]>,
        at: u64,
    ) -> bool {
        self.ranges.iter().any(|(when, id, s, e)| {
            *when > at
                && *id == keyspace
                && !is_empty(start, e.as_deref())
                && !is_empty(s.as_deref(), end)
        })
    }

    /// The keys in a range that were changed after a moment; with each, whether that makes a difference
    /// to who knows the moment: a value that came and went with a range delete may be forgotten.
    pub fn changes_since(
        &self,
        keyspace: u32,
        start: Option<&[u8]>,
        end: Option<&[u8]>,
        at: u64,
    ) -> Vec<bool> {
        let Some(keys) = self.keyspaces.get(&keyspace) else { return Vec::new() };
        keys.iter()
            .filter(|(k, _)| start.is_none_or(|s| &k[..] >= s) && end.is_none_or(|e| &k[..] < e))
            .filter_map(|(k, versions)| {
                let (last, _) = versions.last().filter(|(v, _)| *v > at)?;
                let mut past = k.clone();
                past.push(0);
                let forgotten = self.by_range.contains(&(keyspace, k.clone(), *last))
                    || self.range_deleted_since(keyspace, Some(k), Some(&past), *last);
                Some(!forgotten || visible(versions, at).is_some())
            })
            .collect()
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
