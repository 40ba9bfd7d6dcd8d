//! How far back the past is kept: which commit was the newest at which time, and from which commit on
//! every moment can be read.
//!
//! 1. Samples of time are taken when commits become visible, at most one a second and one for the last
//!    commit before a pause; the manifest gets them with its next edit. What was not written down when
//!    the process died counts from the next opening.
//! 2. The floor never passes a moment younger than `history_retention`. A moment is as old as the younger
//!    of two clocks says, the system's and one that never goes back: so a clock that jumps ahead drops
//!    nothing while the database is open, and one that was put back keeps nothing for ever.
//! 3. Without `history_retention` nothing is sampled, and the floor may follow the newest commit.
//!
//! The durable side is in `manifest/time_map.rs`. One latch, the innermost of all; held for look-ups.

use std::time::Duration;

use crate::manifest::{TimeMap, TimeSample};
use crate::sync::Mutex;
use crate::types::Seq;

/// Samples are this far apart, but for the last one before a pause.
const APART_MILLIS: i64 = 1000;

/// The time on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    /// Since 1970-01-01 UTC; may jump.
    pub wall: Duration,
    /// Never goes back; its zero is arbitrary.
    pub steady: Duration,
}

impl Clocks {
    fn sample(self, seq: Seq) -> TimeSample {
        TimeSample { millis: millis(self.wall), seq, born: millis(self.steady).cast_signed() }
    }

    /// How long ago a sample was taken, by the clock that says less.
    fn age_millis(self, sample: &TimeSample) -> u64 {
        let steady = millis(self.steady).cast_signed().saturating_sub(sample.born).max(0);
        millis(self.wall).saturating_sub(sample.millis).min(steady.cast_unsigned())
    }
}

/// A time as the samples have it.
pub fn millis(time: Duration) -> u64 {
    // So that differences fit signed numbers.
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).min(u64::MAX / 4)
}

#[derive(Debug)]
struct State {
    map: TimeMap,
    /// The last commit seen, where the map does not have it.
    last: Option<TimeSample>,
    /// What the manifest does not have yet.
    pending: Vec<TimeSample>,
}

/// What an open database knows of its past.
#[derive(Debug)]
pub struct History {
    retention: Option<Duration>,
    state: Mutex<State>,
}

impl History {
    /// How much of the past is kept.
    pub fn kept(&self) -> Duration {
        self.retention.unwrap_or_default()
    }

    /// Goes on from what the manifest had; `last` is the last commit that was recovered.
    pub fn new(retention: Option<Duration>, mut map: TimeMap, last: Seq, now: Clocks) -> Self {
        map.forget_after(last);
        if retention.is_none() {
            map = TimeMap::default();
        }
        for sample in map.samples_mut() {
            // What the database slept through counts by the system's clock.
            let age = millis(now.wall).saturating_sub(sample.millis);
            sample.born = millis(now.steady).cast_signed().saturating_sub(age.cast_signed());
        }
        if retention.is_some() {
            map.note(now.sample(last));
        }
        Self { retention, state: Mutex::new(State { map, last: None, pending: Vec::new() }) }
    }

    /// Whether any is kept.
    #[inline]
    pub fn is_kept(&self) -> bool {
        self.retention.is_some()
    }

    /// Notes that `visible` is the newest visible commit; tells whether that makes samples which are
    /// worth an edit of the manifest.
    pub fn observe(&self, visible: impl FnOnce() -> Seq, now: impl FnOnce() -> Clocks) -> bool {
        if !self.is_kept() {
            return false;
        }
        let mut state = self.state.lock();
        // Under the latch, so that samples follow the order of commits.
        let (seq, now) = (visible(), now());
        let known = state.map.samples().last().copied();
        if known.is_some_and(|s| s.seq >= seq) || state.last.is_some_and(|s| s.seq >= seq) {
            return false;
        }
        let sample = now.sample(seq);
        if known.is_some_and(|s| sample.born.saturating_sub(s.born) < APART_MILLIS) {
            state.last = Some(sample);
            return false;
        }
        state.settle();
        state.add(sample);
        true
    }

    /// What the manifest is to be given, and [`written`](Self::written) to be told of.
    pub fn pending(&self) -> Vec<TimeSample> {
        let mut state = self.state.lock();
        state.settle();
        let on_disk = |s: &TimeSample| TimeSample { born: 0, ..*s };
        let mut samples: Vec<_> = state.pending.iter().map(on_disk).collect();
        let mut later = u64::MAX;
        for sample in samples.iter_mut().rev() {
            later = later.min(sample.millis);
            sample.millis = later;
        }
        samples
    }

    /// Whether there is something to write down.
    pub fn has_pending(&self) -> bool {
        !self.state.lock().pending.is_empty()
    }

    /// What [`pending`](Self::pending) gave is durable.
    pub fn written(&self, samples: &[TimeSample], floor: Seq) {
        let mut state = self.state.lock();
        if let Some(last) = samples.last() {
            state.pending.retain(|s| s.seq > last.seq);
        }
        state.map.forget_before(floor);
    }

    /// The map as the manifest keeps it.
    pub fn durable_map(&self, floor: Seq) -> TimeMap {
        let mut state = self.state.lock();
        state.settle();
        state.pending.clear();
        state.map.forget_before(floor);
        let mut map = state.map.clone();
        map.samples_mut().iter_mut().for_each(|s| s.born = 0);
        map
    }

    /// The newest commit that no moment to be kept is older than; `visible` where no past is kept.
    pub fn floor(&self, visible: Seq, now: impl FnOnce() -> Clocks) -> Seq {
        let Some(retention) = self.retention else { return visible };
        let now = now();
        let old = |s: &TimeSample| now.age_millis(s) >= millis(retention).max(1);
        let mut state = self.state.lock();
        state.map.put_back(millis(now.wall));
        if let Some(last) = &mut state.last {
            last.millis = last.millis.min(millis(now.wall));
        }
        let last = state.last.filter(|s| old(s));
        last.or_else(|| state.map.newest_old(old)).map_or(Seq(0), |s| s.seq).min(visible)
    }

    /// The newest commit known to have been visible at a time.
    pub fn at(&self, time_millis: u64) -> Option<Seq> {
        let state = self.state.lock();
        let last = state.last.filter(|s| s.millis <= time_millis);
        last.or_else(|| state.map.at(time_millis)).map(|s| s.seq)
    }

    /// By when a commit was visible, in milliseconds since 1970.
    pub fn time_of(&self, seq: Seq) -> Option<u64> {
        let state = self.state.lock();
        let last = || state.last.filter(|s| s.seq >= seq).map(|s| s.millis);
        state.map.time_of(seq).or_else(last)
    }
}

impl State {
    fn add(&mut self, sample: TimeSample) {
        if self.map.note(sample) {
            self.pending.push(sample);
        }
    }

    /// Puts the last commit seen into the map.
    fn settle(&mut self) {
        if let Some(last) = self.last.take() {
            self.add(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(wall: u64, steady: u64) -> Clocks {
        Clocks { wall: Duration::from_secs(wall), steady: Duration::from_secs(steady) }
    }

    fn kept() -> History {
        let hour = Some(Duration::from_secs(3600));
        History::new(hour, TimeMap::default(), Seq(0), at(1_000_000, 0))
    }

    #[test]
    fn the_last_commit_before_a_pause_is_known_by_its_time() {
        let history = kept();
        for (seq, second) in [(1, 10), (2, 10), (3, 10)] {
            history.observe(|| Seq(seq), || at(1_000_000 + second, second));
        }
        assert_eq!(history.at(1_000_009_000), Some(Seq(0)));
        assert_eq!(history.at(1_000_010_000), Some(Seq(3)));
        assert!(history.observe(|| Seq(4), || at(1_000_100, 100)));
        assert_eq!(history.at(1_000_099_000), Some(Seq(3)));
        assert_eq!(history.at(1_000_100_000), Some(Seq(4)));
        let pending: Vec<u64> = history.pending().iter().map(|s| s.seq.0).collect();
        assert_eq!(pending, [1, 3, 4]);
    }

    #[test]
    fn a_clock_that_jumps_ahead_drops_nothing() {
        let history = kept();
        history.observe(|| Seq(1), || at(1_000_010, 10));
        assert_eq!(history.floor(Seq(1), || at(9_000_000, 20)), Seq(0));
        assert_eq!(history.floor(Seq(1), || at(9_000_000, 3611)), Seq(1));
    }

    #[test]
    fn a_clock_that_was_put_back_keeps_nothing_for_ever() {
        let history = kept();
        history.observe(|| Seq(1), || at(9_000_000, 10));
        // Back to what it should be: what was seen before then was seen by now.
        history.observe(|| Seq(2), || at(1_000_020, 20));
        assert_eq!(history.at(1_000_020_000), Some(Seq(2)));
        assert_eq!(history.floor(Seq(2), || at(1_003_621, 3621)), Seq(2));
    }

    #[test]
    fn what_was_slept_through_counts_and_lost_commits_do_not() {
        let mut map = TimeMap::default();
        for seq in 1..=9 {
            map.note(TimeSample { millis: seq * 1_000_000, seq: Seq(seq), born: 0 });
        }
        let hour = Some(Duration::from_secs(3600));
        let history = History::new(hour, map, Seq(7), at(9_500, 5));
        // Commit 5 was the newest 4,500 seconds ago, commit 6 is 3,500 old.
        assert_eq!(history.floor(Seq(7), || at(9_500, 5)), Seq(5));
        assert_eq!(history.at(20_000_000), Some(Seq(7)));
    }
}
