//! The reference: a map from keys to all their versions, so that every past moment can be read.
//!
//! 1. `now` rises by one with each commit; a moment is a value of `now`, and a day: of what a moment saw
//!    nothing had expired by that day.
//! 2. A keyspace that is dropped and made again is another one: ids are never used twice.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

pub type Bytes = Rc<[u8]>;
pub type Pair = (Vec<u8>, Bytes);
pub type Change = (u32, Vec<u8>, Option<Bytes>);

/// A value of `now`, and a day.
pub type Moment = (u64, u64);

/// The versions of a key, oldest first; `None` is a deletion. Last the day that one expires.
type Versions = Vec<(u64, Option<Bytes>, u64)>;

#[derive(Default)]
pub struct Reference {
    pub now: u64,
    pub day: u64,
    /// The days that a keyspace gives.
    pub defaults: BTreeMap<u32, u64>,
    keyspaces: BTreeMap<u32, BTreeMap<Vec<u8>, Versions>>,
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
            let versions = self.keyspaces.entry(*keyspace).or_default();
            let versions = versions.entry(key.clone()).or_default();
            if versions.last().is_some_and(|(v, ..)| *v == self.now) {
                versions.pop();
            }
            let days = self.defaults.get(keyspace).filter(|days| **days > 0);
            let until = days.map_or(u64::MAX, |days| self.day + days + 1);
            versions.push((self.now, value.clone(), until));
        }
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
        let newer = versions.iter().rev().filter(|v| v.0 > oldest);
        let shown = newer.map(|(n, value, until)| (*n, value.clone().filter(|_| day < *until)));
        let mut found: Vec<_> = shown.collect();
        found.extend(visible(versions, (oldest, day)).map(|value| (0, Some(value.clone()))));
        found
    }

    /// Whether a key was committed after a moment: the rule by which transactions conflict.
    pub fn changed_since(&self, keyspace: u32, key: &[u8], (at, _): Moment) -> bool {
        let versions = self.keyspaces.get(&keyspace).and_then(|k| k.get(key));
        versions.and_then(|v| v.last()).is_some_and(|(v, ..)| *v > at)
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
