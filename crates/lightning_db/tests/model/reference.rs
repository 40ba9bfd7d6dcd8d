//! The reference: a map from keys to all their versions, so that every past moment can be read.
//!
//! 1. `now` rises by one with each commit; a moment is a value of `now`, and a day: of what a moment saw
//!    nothing had expired by that day.
//! 2. A range delete is a deletion of every key that has a value there, expired or not, and remembered as
//!    itself too.
//! 3. A keyspace that is dropped and made again is another one: ids are never used twice.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::rc::Rc;

pub type Bytes = Rc<[u8]>;
pub type Pair = (Vec<u8>, Bytes);
pub type Change = (u32, Vec<u8>, Option<Bytes>);

/// A value of `now`, and a day.
pub type Moment = (u64, u64);

/// The versions of a key, oldest first; `None` is a deletion. Last the day that one expires.
type Versions = Vec<(u64, Option<Bytes>, u64)>;

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
    pub day: u64,
    /// The days that a keyspace gives.
    pub defaults: BTreeMap<u32, u64>,
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

fn visible(versions: &Versions, (at, day): Moment) -> Option<&Bytes> {
    let (_, value, until) = versions.iter().rev().find(|(v, ..)| *v <= at)?;
    value.as_ref().filter(|_| day < *until)
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
                    let gone =
                        self.range(*keyspace, start.as_deref(), end.as_deref(), (self.now, 0));
                    for (key, _) in gone {
                        // What this commit itself wrote before, it has written, whatever came then.
                        let written = self.keyspaces[keyspace][&key].last().expect("has a value").0;
                        self.set(*keyspace, &key, None);
                        if written < self.now {
                            self.by_range.insert((*keyspace, key, self.now));
                        }
                    }
                    self.ranges.push((self.now, *keyspace, start.clone(), end.clone()));
                }
            }
        }
    }

    fn set(&mut self, keyspace: u32, key: &[u8], value: Option<Bytes>) {
        let versions = self.keyspaces.entry(keyspace).or_default();
        let versions = versions.entry(key.to_vec()).or_default();
        if versions.last().is_some_and(|(v, ..)| *v == self.now) {
            versions.pop();
        }
        let days = self.defaults.get(&keyspace).filter(|days| **days > 0);
        let until = days.map_or(u64::MAX, |days| self.day + days + 1);
        versions.push((self.now, value, until));
    }

    /// Whether a range delete after a moment had anything in `start..end` in its range.
    pub fn range_deleted_since(
        &self,
        keyspace: u32,
        start: Option<&[u8]>,
        end: Option<&[u8]>,
        (at, _): Moment,
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
        at: Moment,
    ) -> Vec<bool> {
        let Some(keys) = self.keyspaces.get(&keyspace) else { return Vec::new() };
        keys.iter()
            .filter(|(k, _)| start.is_none_or(|s| &k[..] >= s) && end.is_none_or(|e| &k[..] < e))
            .filter_map(|(k, versions)| {
                let (last, ..) = versions.last().filter(|(v, ..)| *v > at.0)?;
                let mut past = k.clone();
                past.push(0);
                let forgotten = self.by_range.contains(&(keyspace, k.clone(), *last))
                    || self.range_deleted_since(keyspace, Some(k), Some(&past), (*last, 0));
                Some(!forgotten || visible(versions, at).is_some())
            })
            .collect()
    }

    /// This moment.
    pub fn moment(&self) -> Moment {
        (self.now, self.day)
    }

    /// Gives what was committed last to `key` so many days, and half of one.
    pub fn expire(&mut self, keyspace: u32, key: &[u8], days: u8) {
        let versions = self.keyspaces.get_mut(&keyspace).and_then(|k| k.get_mut(key));
        let last = versions.and_then(|v| v.last_mut()).expect("was written");
        last.2 = self.day + u64::from(days) + 1;
    }

    pub fn get(&self, keyspace: u32, key: &[u8], at: Moment) -> Option<&Bytes> {
        visible(self.keyspaces.get(&keyspace)?.get(key)?, at)
    }

    /// What a key became after a moment, newest first, and as the last what it was then, numbered 0.
    pub fn history(
        &self,
        keyspace: u32,
        key: &[u8],
        (oldest, day): Moment,
    ) -> Vec<(u64, Option<Bytes>)> {
        let versions = self.keyspaces.get(&keyspace).and_then(|k| k.get(key));
        let Some(versions) = versions else { return Vec::new() };
        // A range delete changes the keys that have a value.
        let by_range = |n: u64| self.by_range.contains(&(keyspace, key.to_vec(), n));
        let changed = |n: u64| !by_range(n) || visible(versions, (n - 1, day)).is_some();
        let newer = versions.iter().rev().filter(|v| v.0 > oldest && changed(v.0));
        let shown = newer.map(|(n, value, until)| (*n, value.clone().filter(|_| day < *until)));
        let mut found: Vec<_> = shown.collect();
        found.extend(visible(versions, (oldest, day)).map(|value| (0, Some(value.clone()))));
        found
    }

    /// Whether a version may be told or not: a range delete of a value that has expired since changed
    /// something then, and nothing by now. Which it is depends on when the value was flushed.
    pub fn may_be_told(&self, keyspace: u32, key: &[u8], number: u64) -> bool {
        let versions = self.keyspaces.get(&keyspace).and_then(|k| k.get(key));
        let before =
            |day| versions.is_some_and(|v| visible(v, (number.wrapping_sub(1), day)).is_some());
        self.by_range.contains(&(keyspace, key.to_vec(), number)) && before(0) && !before(self.day)
    }

    /// The entries with `start <= key < end` at a moment.
    pub fn range(
        &self,
        keyspace: u32,
        start: Option<&[u8]>,
        end: Option<&[u8]>,
        at: Moment,
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
