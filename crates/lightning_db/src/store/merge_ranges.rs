//! The range deletes of the sources of a merge, walked along with the keys, and what they come to.
//!
//! 1. Those of a source act on older sources, and on entries of their own source with lower numbers (in a
//!    run they have been applied to these already, which changes nothing).
//! 2. Where every view sees a range delete, older sources are *dead*: they are passed over by seeking, and
//!    a partition or leaf that is dead as a whole is not read.
//! 3. A version that is kept for views before a range delete gets a tombstone above it, with the number of
//!    that range delete. So within the new run it is applied, and the base needs none.

use std::sync::Arc;

use crate::ranges::{Fragment, Key, RangeList, is_before};
use crate::store::retention::Retention;
use crate::store::version::{Row, Run, Version};
use crate::types::Seq;

/// See the module. Sources are known by their place, newest first.
#[derive(Debug)]
pub struct MergeRanges {
    lists: Vec<(Arc<RangeList>, usize)>,
    lowest: Seq,
}

impl MergeRanges {
    /// Those of sources given newest first, for a job that keeps versions by `rule`.
    pub fn new(lists: impl IntoIterator<Item = Arc<RangeList>>, rule: &Retention) -> Self {
        let lists: Vec<_> = lists.into_iter().map(|list| (list, 0)).collect();
        let any = lists.iter().any(|(list, _)| !list.is_empty());
        Self { lists: if any { lists } else { Vec::new() }, lowest: rule.lowest() }
    }

    /// Whether there are any.
    #[inline]
    pub fn any(&self) -> bool {
        !self.lists.is_empty()
    }

    /// The range deletes of a source over `key`, highest first. Keys are asked for in order.
    pub fn covering(&mut self, source: usize, key: &[u8]) -> &[Seq] {
        let Some((list, at)) = self.lists.get_mut(source) else { return &[] };
        let all = list.fragments();
        if all.get(*at).is_some_and(|f| !is_before(key, f.end.as_deref())) {
            // The next one, mostly; where much was passed over, a search.
            *at += 1;
            if all.get(*at).is_some_and(|f| !is_before(key, f.end.as_deref())) {
                *at += all[*at..].partition_point(|f| !is_before(key, f.end.as_deref()));
            }
        }
        all.get(*at).filter(|f| *f.start <= *key).map_or(&[], |f| &f.seqs)
    }

    /// Where what is older than `source` is dead from `key` on: up to which key; inner `None` for ever.
    #[allow(clippy::option_option)] // not dead, dead for ever, dead up to a key
    pub fn dead_until(&self, source: usize, key: &[u8]) -> Option<Option<Key>> {
        let f = self.lists.get(source)?.0.find(key)?;
        f.is_seen(self.lowest).then(|| f.end.clone())
    }

    /// Whether all of `first..=last` in a source is dead because of newer ones.
    pub fn is_dead(&self, source: usize, first: &[u8], last: &[u8]) -> bool {
        let mut from: Key = first.into();
        'on: loop {
            for newer in 0..source.min(self.lists.len()) {
                match self.dead_until(newer, &from) {
                    None => {}
                    Some(end) if is_before(last, end.as_deref()) => return true,
                    Some(end) => {
                        from = end.expect("it ends at or before a key");
                        continue 'on;
                    }
                }
            }
            return false;
        }
    }

    /// As [`is_dead`](Self::is_dead), for `start <= key < end`.
    pub fn is_dead_below(&self, source: usize, start: &[u8], end: Option<&[u8]>) -> bool {
        let mut from: Key = start.into();
        'on: loop {
            for newer in 0..source.min(self.lists.len()) {
                match (self.dead_until(newer, &from), end) {
                    (None, _) => {}
                    (Some(None), _) => return true,
                    (Some(Some(dead)), Some(end)) if *dead >= *end => return true,
                    (Some(Some(dead)), _) => {
                        from = dead;
                        continue 'on;
                    }
                }
            }
            return false;
        }
    }

    /// Whether any range delete of sources newer than `source` reaches into `start <= key < end`.
    pub fn reach(&self, source: usize, start: &[u8], end: Option<&[u8]>) -> bool {
        self.lists.iter().take(source).any(|(list, _)| list.overlaps(start, end))
    }

    /// A row of a source without the partitions that are dead as a whole.
    pub fn alive(&self, source: usize, row: &Row) -> Row {
        let dead = |first: &[u8], last: &[u8]| self.is_dead(source, first, last);
        let all = row.partitions.iter();
        Row {
            partitions: all
                .filter(|p| !self.any() || !dead(&p.meta().first_key, &p.meta().last_key))
                .cloned()
                .collect(),
        }
    }
}

/// What range deletes of a memtable come to in its run, with their numbers.
pub fn of_memtable(deletes: Vec<Fragment>, rule: &Retention) -> RangeList {
    RangeList::build(deletes, rule.bounds())
}

/// What those of runs, newest first, come to.
pub fn of_runs(runs: &[Arc<Run>], rule: &Retention) -> RangeList {
    let mut all: Vec<Fragment> = Vec::new();
    for run in runs {
        for f in run.ranges.active.fragments() {
            for seq in &f.seqs {
                // A settled one is not older than its run, and newer than all in older runs.
                let seq = if *seq == Seq(0) { run.low } else { *seq };
                all.push(Fragment { start: Arc::clone(&f.start), end: f.end.clone(), seq });
            }
        }
    }
    if all.is_empty() {
        return RangeList::default();
    }
    all.sort_by_key(|f| f.seq);
    RangeList::build(all, rule.bounds())
}

/// A list as it is written: settled where every view sees it, and without what hides nothing: settled
/// ranges in which neither `older` runs nor the base have anything.
pub fn to_write(
    list: &RangeList,
    rule: &Retention,
    older: &[Arc<Run>],
    version: &Version,
) -> RangeList {
    let lowest = rule.lowest();
    let has = |row: &Row, start: &[u8], end: Option<&[u8]>| {
        let first = row.partitions.get(row.first_ending_at_or_after(start));
        first.is_some_and(|p| is_before(&p.meta().first_key, end))
    };
    list.settled(lowest, |f| {
        let (start, end) = (&f.start, f.end.as_deref());
        f.seqs[0] > lowest
            || has(&version.base, start, end)
            || older.iter().any(|run| has(&run.row, start, end))
    })
}
