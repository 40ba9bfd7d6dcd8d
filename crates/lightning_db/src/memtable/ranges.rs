//! The range deletes of a memtable.
//!
//! 1. What a reader at a number sees is one map (see `ranges`), which never changes: the newest is
//!    published in one step. Those before are kept while somebody may ask for them: views at their numbers,
//!    views that begin at a number which is visible now or will be, and, for whoever took a number and is
//!    no view, the last [`RECENT`].
//! 2. A reader whose number is past the newest range delete takes no latch. An older one whose map was
//!    not kept gets it made from one before and `log`.
//! 3. A range delete costs its path in the map and its place in the log. Maps are let go of now and then.
//!
//! Threads: one writer, inside the commit section; any number of readers.

use std::sync::Arc;

use crate::ranges::{Fragment, RangeMap, is_before};
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{ArcSwap, Mutex};
use crate::types::Seq;

/// What a range delete takes in memory beside its keys, which lie in three places: in the map mostly, two
/// boundaries with what a node has for each.
const OVERHEAD_BYTES: usize = 96;
/// So many maps before the newest are kept, needed or not.
const RECENT: usize = 16;

/// Whom maps are kept for.
#[derive(Debug)]
pub struct Readers {
    /// The numbers of the views that live.
    pub views: Vec<Seq>,
    /// The visible number: views begin at it, and later at higher ones.
    pub visible: Seq,
}

/// The range deletes up to a number.
#[derive(Debug, Default)]
pub struct RangesAt {
    seq: Seq,
    /// Which keys are covered, and by which range delete last.
    pub map: RangeMap,
}

/// A range delete in the log.
#[derive(Debug, Clone, Copy)]
struct Entry {
    seq: Seq,
    /// Where its ends lie in the bytes.
    start: usize,
    end: usize,
    to: usize,
    has_end: bool,
}

/// Range deletes in order.
#[derive(Debug, Default)]
struct Log {
    entries: Vec<Entry>,
    bytes: Vec<u8>,
}

/// One of them.
struct Logged<'a> {
    start: &'a [u8],
    end: Option<&'a [u8]>,
    seq: Seq,
}

#[derive(Debug, Default)]
struct Kept {
    /// Maps before the newest that readers may still ask for, ascending.
    older: Vec<Arc<RangesAt>>,
    /// So many are looked through for those that nobody needs.
    full: usize,
    /// Every range delete.
    log: Log,
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
    fn with(&self, delete: &Logged<'_>) -> Self {
        Self { seq: delete.seq, map: self.map.with(delete.start, delete.end, delete.seq.0) }
    }
}

impl Log {
    fn push(&mut self, delete: &Logged<'_>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(delete.start);
        let end = self.bytes.len();
        self.bytes.extend_from_slice(delete.end.unwrap_or_default());
        let (to, has_end) = (self.bytes.len(), delete.end.is_some());
        self.entries.push(Entry { seq: delete.seq, start, end, to, has_end });
    }

    /// Those from the `from`-th on.
    fn iter(&self, from: usize) -> impl DoubleEndedIterator<Item = Logged<'_>> {
        self.entries[from..].iter().map(|e| Logged {
            start: &self.bytes[e.start..e.end],
            end: e.has_end.then(|| &self.bytes[e.end..e.to]),
            seq: e.seq,
        })
    }

    /// How many there are up to a number.
    fn up_to(&self, at: Seq) -> usize {
        self.entries.partition_point(|e| e.seq <= at)
    }
}

impl Logged<'_> {
    fn covers(&self, key: &[u8]) -> bool {
        self.start <= key && is_before(key, self.end)
    }

    fn fragment(&self) -> Fragment {
        Fragment { start: self.start.into(), end: self.end.map(Into::into), seq: self.seq }
    }
}

impl Kept {
    /// Lets go of the maps that nobody needs; `newest` is the number of the one that follows them.
    fn let_go(&mut self, newest: Seq, readers: &Readers) {
        let mut recent = self.older.len().saturating_sub(RECENT);
        let nexts: Vec<Seq> = self.older.iter().skip(1).map(|m| m.seq).chain([newest]).collect();
        let mut nexts = nexts.into_iter();
        self.older.retain(|m| {
            let next = nexts.next().expect("one for each");
            let is_recent = recent == 0;
            recent = recent.saturating_sub(1);
            is_recent
                || next > readers.visible
                || readers.views.iter().any(|view| m.seq <= *view && *view < next)
        });
        self.full = 2 * self.older.len() + RECENT;
    }
}

impl MemtableRanges {
    pub(super) fn new() -> Self {
        Self {
            count: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            newest: ArcSwap::new(Arc::new(RangesAt::default())),
            kept: Mutex::new(Kept { full: 2 * RECENT, ..Kept::default() }),
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

    /// Adds one that is not older than any here. `readers` is asked now and then.
    pub(super) fn insert(
        &self,
        start: &[u8],
        end: Option<&[u8]>,
        seq: Seq,
        readers: impl FnOnce() -> Readers,
    ) {
        let delete = Logged { start, end, seq };
        let before = self.newest.load_full();
        debug_assert!(before.seq <= seq, "range deletes come in the order of commits");
        let next = Arc::new(before.with(&delete));
        let mut kept = self.kept.lock();
        if before.seq < seq {
            kept.older.push(before);
            if kept.older.len() >= kept.full {
                kept.let_go(seq, &readers());
            }
        }
        let bytes = 3 * (start.len() + end.map_or(0, <[u8]>::len));
        self.bytes.fetch_add(bytes + OVERHEAD_BYTES, Ordering::Relaxed);
        kept.log.push(&delete);
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
        let (nearest, missing) = {
            let kept = self.kept.lock();
            let place = kept.older.partition_point(|m| m.seq <= at);
            let nearest = place.checked_sub(1).map(|i| Arc::clone(&kept.older[i]));
            let from = kept.log.up_to(nearest.as_ref().map_or(Seq(0), |m| m.seq));
            let missing = kept.log.up_to(at) - from;
            let missing: Vec<Fragment> =
                kept.log.iter(from).take(missing).map(|d| d.fragment()).collect();
            (nearest.unwrap_or_default(), missing)
        };
        let Some(last) = missing.last() else { return nearest };
        // Outside the latch, which the writer takes.
        let map = missing
            .iter()
            .fold(nearest.map.clone(), |map, d| map.with(&d.start, d.end.as_deref(), d.seq.0));
        let made = Arc::new(RangesAt { seq: last.seq, map });
        let mut kept = self.kept.lock();
        // Only those that others follow in turn are looked for there.
        if let Err(place) = kept.older.binary_search_by_key(&made.seq, |m| m.seq)
            && made.seq < self.newest.load().seq
        {
            kept.older.insert(place, Arc::clone(&made));
        }
        made
    }

    /// The newest range delete over `key` that a reader at `at` sees.
    pub(super) fn covering(&self, key: &[u8], at: Seq) -> Option<Seq> {
        let newest = self.newest.load();
        if newest.seq <= at {
            return newest.map.covering(key).map(Seq);
        }
        self.before_newest(at).map.covering(key).map(Seq)
    }

    /// Every range delete, from the oldest to the newest.
    pub(super) fn all(&self) -> Vec<Fragment> {
        self.kept.lock().log.iter(0).map(|d| d.fragment()).collect()
    }

    /// The numbers of those over `key`, highest first.
    pub(super) fn over(&self, key: &[u8]) -> Vec<Seq> {
        let kept = self.kept.lock();
        kept.log.iter(0).rev().filter(|d| d.covers(key)).map(|d| d.seq).collect()
    }

    /// Whether one past `since` covers any key of `start <= key < end`.
    pub(super) fn any_since(&self, start: &[u8], end: Option<&[u8]>, since: Seq) -> bool {
        let kept = self.kept.lock();
        let from = kept.log.up_to(since);
        kept.log.iter(from).any(|d| is_before(d.start, end) && is_before(start, d.end))
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
                let views = views.iter().copied().filter(|v| v.0 < seq).collect();
                // What is not visible yet is kept too.
                let readers = || Readers { views, visible: Seq(seq.saturating_sub(4)) };
                ranges.insert(&[start], Some(&[end]), Seq(seq), readers);
                all.push((start, end, seq));
                assert!(ranges.kept.lock().older.len() <= 3 * (RECENT + 6));
            }
            for at in (0..=seq).rev() {
                for key in 0..40 {
                    let newest = all.iter().rfind(|(s, e, n)| *n <= at && (*s..*e).contains(&key));
                    let newest = newest.map(|(_, _, n)| Seq(*n));
                    assert_eq!(ranges.covering(&[key], Seq(at)), newest, "seed {seed} at {at}");
                    assert_eq!(ranges.at(Seq(at)).map.covering(&[key]).map(Seq), newest);
                }
                let (start, end) = (rng.u8(0..30), rng.u8(0..40));
                let any = all.iter().any(|(s, e, n)| *n > at && *s < end && start < *e);
                assert_eq!(ranges.any_since(&[start], Some(&[end]), Seq(at)), any);
            }
        }
    }

    #[test]
    fn the_estimate_of_the_memory_held_is_near() {
        for (step, keys) in [(2, "apart"), (1, "touching")] {
            let ranges = MemtableRanges::new();
            let held = allocation_counter::measure(|| {
                let mut rng = fastrand::Rng::with_seed(1);
                for seq in 1..20_000_u64 {
                    let n = rng.u64(0..20_000) * step;
                    let (start, end) = (n.to_be_bytes(), (n + 1).to_be_bytes());
                    let readers = || Readers { views: Vec::new(), visible: Seq(seq) };
                    ranges.insert(&start, Some(&end), Seq(seq), readers);
                }
            });
            let (held, told) = (held.bytes_current as f64, ranges.bytes() as f64);
            println!("tried: 20,000 range deletes {keys} hold {held} bytes, {told} are told");
            assert!((0.7..1.5).contains(&(told / held)), "{keys}: {told} of {held} bytes");
        }
    }
}
