//! The model: of every keyspace every version of every key, by commit number.
//!
//! 1. A version is never changed; what a moment saw can be asked for as long as the keyspace is.
//! 2. A moment is a commit number and an hour: what a moment saw had not expired by that hour.
//! 3. A keyspace made again under the same name is another one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included, Unbounded};

use crate::operation::{Key, Value};

/// One keyspace from being made to being dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Life(pub u32);

/// Commit number, value, and the first hour at which it is gone.
type Versions = Vec<(u64, Option<Value>, u64)>;

/// One write: where, and what it becomes.
pub type Change = (Life, Key, Option<Value>);

/// A commit number, and above these bits an hour.
pub type Moment = u64;
const NUMBER_BITS: u32 = 40;

pub fn number(at: Moment) -> u64 {
    at & ((1 << NUMBER_BITS) - 1)
}

#[derive(Default)]
pub struct Model {
    /// The number of the last commit.
    pub last: u64,
    next_life: u32,
    keyspaces: BTreeMap<Life, BTreeMap<Key, Versions>>,
    /// Range deletes, and which versions are theirs.
    ranges: Vec<(u64, Life, Key, Option<Key>)>,
    by_range: BTreeSet<(u64, Life, Key)>,
    /// The hours that a keyspace gives.
    defaults: BTreeMap<Life, u64>,
    /// What the clock on the wall shows, and the latest that it has shown.
    wall: i64,
    hour: u64,
}

impl Model {
    pub fn make(&mut self) -> Life {
        let life = Life(self.next_life);
        self.next_life += 1;
        self.keyspaces.insert(life, BTreeMap::new());
        life
    }

    /// This moment.
    pub fn now(&self) -> Moment {
        self.last | self.hour << NUMBER_BITS
    }

    /// Sets the clock so many hours further, or back.
    pub fn set_clock(&mut self, hours: i64) {
        self.wall += hours;
        self.hour = self.hour.max(u64::try_from(self.wall).unwrap_or(0));
    }

    /// Whether any value was ever given a time to live.
    pub fn has_lived(&self) -> bool {
        let mut versions = self.keyspaces.values().flat_map(|k| k.values()).flatten();
        versions.any(|(.., until)| *until < u64::MAX)
    }

    /// How far the clock is behind the latest that it has shown.
    pub fn hours_behind(&self) -> i64 {
        self.hour.cast_signed() - self.wall
    }

    pub fn set_default(&mut self, life: Life, hours: u64) {
        self.defaults.insert(life, hours);
    }

    /// Gives what was committed last to `key` so many hours from now.
    pub fn expire(&mut self, life: Life, key: Key, hours: u64) {
        let versions = self.keyspaces.get_mut(&life).and_then(|k| k.get_mut(&key));
        versions.expect("was written").last_mut().expect("a version").2 = self.hour + hours + 1;
    }

    /// The hours that the value of `key` has left, the half one left out; `None` for ever.
    pub fn hours_left(&self, life: Life, key: Key) -> Option<u64> {
        let until = self.keyspaces.get(&life)?.get(&key)?.last()?.2;
        (until < u64::MAX).then(|| until - 1 - self.hour)
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
        let (defaults, hour) = (self.defaults.clone(), self.hour);
        for (life, key, value) in changes {
            self.last = number;
            let keyspace = self.keyspaces.get_mut(&life).expect("a live keyspace");
            let versions = keyspace.entry(key).or_default();
            if versions.last().is_some_and(|(n, ..)| *n == number) {
                versions.pop();
            }
            let hours = defaults.get(&life).filter(|h| **h > 0 && value.is_some());
            versions.push((number, value, hours.map_or(u64::MAX, |h| hour + h + 1)));
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
        // As of the first hour: what has expired goes too.
        let there = self.entries(life, start, end, self.last).into_iter().map(|(k, _)| k);
        let own_key = before.map(|(of, k, _)| (of, k));
        let gone: Vec<Key> = there.filter(|k| Some((life, *k)) != own_key).collect();
        let own = before.map(|(of, k, v)| (of, k, v.filter(|_| of != life || !inside(k))));
        let changes: Vec<Change> = gone.iter().map(|k| (life, *k, None)).chain(own).collect();
        let number = self.last + 1;
        self.by_range.extend(gone.into_iter().map(|k| (number, life, k)));
        self.commit(changes);
        self.last = number;
        self.ranges.push((number, life, start, end));
    }

    /// Whether a commit since `at` changed `key`: whether it must be known, and whether it may be. What came
    /// and went with a range delete may be forgotten.
    pub fn changed(&self, life: Life, key: Key, at: Moment) -> (bool, bool) {
        let covered = |since: u64| {
            self.ranges.iter().any(|(n, of, start, end)| {
                *n > since && *of == life && *start <= key && end.is_none_or(|e| key < e)
            })
        };
        let written = self.written(life, key).filter(|n| *n > number(at));
        let there = self.get(life, key, at).is_some();
        let must = written.is_some_and(|n| there || !covered(n - 1));
        (must, written.is_some() || covered(number(at)))
    }

    /// The number of the last commit that wrote `key`.
    pub fn written(&self, life: Life, key: Key) -> Option<u64> {
        Some(self.keyspaces.get(&life)?.get(&key)?.last()?.0)
    }

    /// A commit's moment: as of `now`, or of the first hour.
    pub fn with_hour(&self, commit: u64, now: bool) -> Moment {
        commit | if now { self.hour << NUMBER_BITS } else { 0 }
    }

    /// What `key` became after a commit, newest first; what had expired `now`, or by the first hour,
    /// has no value.
    pub fn versions_after(
        &self,
        life: Life,
        key: Key,
        commit: u64,
        now: bool,
    ) -> Vec<(u64, Option<Value>)> {
        let hour = if now { self.hour } else { 0 };
        let versions = self.keyspaces.get(&life).and_then(|k| k.get(&key));
        // A range delete changes the keys that have a value.
        let before = |n: u64| versions.and_then(|v| seen(v, (n - 1) | hour << NUMBER_BITS));
        let changed = |n: u64| !self.by_range.contains(&(n, life, key)) || before(n).is_some();
        let all = versions.into_iter().flatten().rev();
        let newer = all.filter(|(n, ..)| *n > commit && changed(*n));
        newer.map(|(n, value, until)| (*n, value.filter(|_| hour < *until))).collect()
    }

    /// Whether a version may be told or not: a range delete of a value that has expired since changed
    /// something then, and nothing by now. Which it is depends on when the value was flushed.
    pub fn may_be_told(&self, life: Life, key: Key, number: u64) -> bool {
        let versions = self.keyspaces.get(&life).and_then(|k| k.get(&key));
        let before =
            |hour| versions.is_some_and(|v| seen(v, (number - 1) | hour << NUMBER_BITS).is_some());
        self.by_range.contains(&(number, life, key)) && before(0) && !before(self.hour)
    }

    pub fn get(&self, life: Life, key: Key, at: Moment) -> Option<Value> {
        seen(self.keyspaces.get(&life)?.get(&key)?, at)
    }

    /// The entries with `start <= key < end` at a moment.
    pub fn entries(
        &self,
        life: Life,
        start: Key,
        end: Option<Key>,
        at: Moment,
    ) -> Vec<(Key, Value)> {
        let Some(keyspace) = self.keyspaces.get(&life) else { return Vec::new() };
        if end.is_some_and(|e| e <= start) {
            return Vec::new();
        }
        let range = (Included(start), end.map_or(Unbounded, Excluded));
        keyspace.range(range).filter_map(|(k, v)| Some((*k, seen(v, at)?))).collect()
    }
}

fn seen(versions: &Versions, at: Moment) -> Option<Value> {
    let after = versions.partition_point(|(n, ..)| *n <= number(at));
    let (_, value, until) = versions[..after].last()?;
    value.filter(|_| at >> NUMBER_BITS < *until)
}
