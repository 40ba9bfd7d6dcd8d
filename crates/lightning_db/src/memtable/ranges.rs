//! The range deletes of a memtable.
//!
//! 1. What a reader at a number sees is one map (see `ranges`), which never changes: the newest is
//!    published in one step, and those before are kept while views at their numbers live.
//! 2. A reader whose number is past the newest range delete takes no latch. An older one whose map was
//!    not kept (it took its number, but was no view) gets it made again from `all`.
//!
//! Threads: one writer, inside the commit section; any number of readers.

use std::sync::Arc;

use crate::ranges::{Fragment, RangeMap, is_before};
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{ArcSwap, Mutex};
use crate::types::Seq;

/// What a range delete takes in memory beside its keys: its place in `all`, and its nodes.
const OVERHEAD_BYTES: usize = 320;

/// The range deletes up to a number.
#[derive(Debug, Default)]
pub struct RangesAt {
    seq: Seq,
    /// By the newest that covers a key: for entries of the same memtable, which may be newer.
    pub by_seq: RangeMap,
    /// The same keys, neighbours joined: for older sources.
    pub joined: RangeMap,
}

#[derive(Debug, Default)]
struct Kept {
    /// Those before the newest that views may still ask for, ascending.
    older: Vec<Arc<RangesAt>>,
    /// Every range delete, in order.
    all: Vec<Fragment>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct MemtableRanges {
    count: AtomicUsize,
    bytes: AtomicUsize,
    newest: ArcSwap<RangesAt>,
    kept: Mutex<Kept>,
}

impl RangesAt {
    fn with(&self, delete: Fragment) -> Self {
        Self {
            seq: delete.seq,
            by_seq: self.by_seq.with(delete.clone()),
            joined: self.joined.joined_with(delete),
        }
    }
}

impl MemtableRanges {
    pub(super) fn new() -> Self {
        Self {
            count: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            newest: ArcSwap::new(Arc::new(RangesAt::default())),
            kept: Mutex::default(),
        }
    }

    /// Whether there are any.
    #[inline]
    pub(super) fn any(&self) -> bool {
        self.count() > 0
    }

    /// How many there are.
    #[inline]
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// An estimate of the memory held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Adds one that is not older than any here. `views` tells the numbers of the views that live.
    pub(super) fn insert(&self, delete: Fragment, views: impl FnOnce() -> Vec<Seq>) {
        let mut kept = self.kept.lock();
        let before = self.newest.load_full();
        debug_assert!(before.seq <= delete.seq, "range deletes come in the order of commits");
        let next = Arc::new(before.with(delete.clone()));
        if before.seq < delete.seq {
            let live = views();
            let nexts: Vec<Seq> =
                kept.older.iter().skip(1).map(|m| m.seq).chain([before.seq]).collect();
            let mut nexts = nexts.into_iter();
            kept.older.retain(|m| {
                let next = nexts.next().expect("one for each");
                live.iter().any(|view| m.seq <= *view && *view < next)
            });
            // The one just replaced stays until the next: who took its number may not be listed yet.
            kept.older.push(before);
        }
        let bytes = delete.start.len() + delete.end.as_ref().map_or(0, |e| e.len());
        self.bytes.fetch_add(bytes + OVERHEAD_BYTES, Ordering::Relaxed);
        kept.all.push(delete);
        self.newest.store(next);
        self.count.fetch_add(1, Ordering::Release);
    }

    /// What a reader at `at` sees.
    pub(super) fn at(&self, at: Seq) -> Arc<RangesAt> {
        let newest = self.newest.load();
        if newest.seq <= at {
            return Arc::clone(&newest);
        }
        self.before_newest(at)
    }

    #[cold]
    fn before_newest(&self, at: Seq) -> Arc<RangesAt> {
        let mut kept = self.kept.lock();
        let seen = kept.all.partition_point(|d| d.seq <= at);
        let last = seen.checked_sub(1).map_or(Seq(0), |i| kept.all[i].seq);
        let place = kept.older.partition_point(|m| m.seq < last);
        if let Some(found) = kept.older.get(place).filter(|m| m.seq == last) {
            return Arc::clone(found);
        }
        let start = RangesAt::default();
        let made = Arc::new(kept.all[..seen].iter().fold(start, |m, d| m.with(d.clone())));
        if made.seq < self.newest.load().seq {
            kept.older.insert(place, Arc::clone(&made));
        }
        made
    }

    /// The newest range delete over `key` that a reader at `at` sees.
    pub(super) fn covering(&self, key: &[u8], at: Seq) -> Option<Seq> {
        let newest = self.newest.load();
        if newest.seq <= at {
            return newest.by_seq.covering(key).map(|f| f.seq);
        }
        self.before_newest(at).by_seq.covering(key).map(|f| f.seq)
    }

    /// Every range delete, from the oldest to the newest.
    pub(super) fn all(&self) -> Vec<Fragment> {
        self.kept.lock().all.clone()
    }

    /// Whether one past `since` covers any key of `start <= key < end`.
    pub(super) fn any_since(&self, start: &[u8], end: Option<&[u8]>, since: Seq) -> bool {
        let kept = self.kept.lock();
        let from = kept.all.partition_point(|d| d.seq <= since);
        kept.all[from..]
            .iter()
            .any(|d| is_before(&d.start, end) && is_before(start, d.end.as_deref()))
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn every_number_sees_what_was_there_at_it_and_little_is_kept() {
        for seed in 0..50 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let ranges = MemtableRanges::new();
            let views: Vec<Seq> = (0..rng.usize(0..3)).map(|_| Seq(rng.u64(0..100))).collect();
            let mut all: Vec<(u8, u8, u64)> = Vec::new();
            let mut seq = 0;
            for _ in 0..rng.usize(1..60) {
                seq += rng.u64(0..3).max(u64::from(seq == 0));
                let start = rng.u8(0..30);
                let end = start + rng.u8(1..8);
                let delete = Fragment {
                    start: Arc::from([start]),
                    end: Some(Arc::from([end])),
                    seq: Seq(seq),
                };
                ranges.insert(delete, || views.iter().copied().filter(|v| v.0 < seq).collect());
                all.push((start, end, seq));
                assert!(ranges.kept.lock().older.len() <= views.len() + 1);
            }
            for at in (0..=seq).rev() {
                for key in 0..40 {
                    let newest = all.iter().rfind(|(s, e, n)| *n <= at && (*s..*e).contains(&key));
                    let newest = newest.map(|(_, _, n)| Seq(*n));
                    assert_eq!(ranges.covering(&[key], Seq(at)), newest, "seed {seed} at {at}");
                    let joined = &ranges.at(Seq(at)).joined;
                    assert_eq!(joined.covering(&[key]).is_some(), newest.is_some());
                }
                let (start, end) = (rng.u8(0..30), rng.u8(0..40));
                let any = all.iter().any(|(s, e, n)| *n > at && *s < end && start < *e);
                assert_eq!(ranges.any_since(&[start], Some(&[end]), Seq(at)), any);
            }
        }
    }
}
