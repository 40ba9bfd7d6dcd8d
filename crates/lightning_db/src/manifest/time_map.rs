//! Which commit was the newest one at which time: samples, oldest first, for looking into the past.
//!
//! 1. A sample says that at its time its commit was visible, and the next sample's was not yet known to
//!    be. Commits rise strictly from sample to sample; times never fall.
//! 2. A clock that was put back moves the later samples to the time it shows: what has happened has
//!    happened by now.
//! 3. There are at most [`MAX_SAMPLES`]. Past that they are thinned: neighbours stay a second apart, and
//!    further the older they are. The first stays, since what is kept begins there.
//!
//! No I/O, no clock, no threads.

use crate::codec::{Malformed, Reader, put_varint};
use crate::types::Seq;

/// So many samples are kept.
pub const MAX_SAMPLES: usize = 8192;
/// Thinned samples are a second apart, or one part in so many of their age.
const PARTS_OF_AGE: u64 = 512;
const CLOSEST_MILLIS: u64 = 1000;

/// One sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeSample {
    /// Milliseconds since 1970-01-01 UTC, as the clock showed.
    pub millis: u64,
    /// The newest visible commit.
    pub seq: Seq,
    /// When that was, in milliseconds of a clock of the process that never goes back. Not on disk,
    /// where it is 0.
    pub born: i64,
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TimeMap(Vec<TimeSample>);

impl TimeMap {
    /// Adds the newest sample; `false` where its commit is in the map already.
    pub fn note(&mut self, sample: TimeSample) -> bool {
        if self.0.last().is_some_and(|last| sample.seq <= last.seq) {
            return false;
        }
        self.put_back(sample.millis);
        self.0.push(sample);
        if self.0.len() > MAX_SAMPLES {
            self.thin();
        }
        true
    }

    /// The clock shows `now`: no sample is later.
    pub fn put_back(&mut self, now: u64) {
        for later in self.0.iter_mut().rev().take_while(|s| s.millis > now) {
            later.millis = now;
        }
    }

    fn thin(&mut self) {
        let newest = self.0[self.0.len() - 1].millis;
        let mut parts = PARTS_OF_AGE;
        while self.0.len() > MAX_SAMPLES / 4 * 3 {
            let mut kept = newest;
            let mut thinned: Vec<TimeSample> = Vec::with_capacity(self.0.len());
            for (i, sample) in self.0.iter().enumerate().rev() {
                let apart = ((newest - sample.millis) / parts.max(1)).max(CLOSEST_MILLIS);
                let ends = i == 0 || i + 1 == self.0.len();
                // Once nothing is left to widen, every other one goes.
                let far = if parts == 0 { i % 2 == 0 } else { kept - sample.millis >= apart };
                if ends || far {
                    kept = sample.millis;
                    thinned.push(*sample);
                }
            }
            thinned.reverse();
            self.0 = thinned;
            parts /= 2;
        }
    }

    /// Forgets the samples that only tell of moments before commit `floor`.
    pub fn forget_before(&mut self, floor: Seq) {
        let below = self.0.partition_point(|s| s.seq <= floor);
        self.0.drain(..below.saturating_sub(1));
    }

    /// Takes back what commits after `last` were told of: these are lost, and others take their
    /// numbers.
    pub fn forget_after(&mut self, last: Seq) {
        let known = self.0.partition_point(|s| s.seq < last);
        self.0.truncate(known + 1);
        if let Some(newest) = self.0.last_mut() {
            newest.seq = newest.seq.min(last);
        }
    }

    /// The newest sample at or before a time.
    pub fn at(&self, millis: u64) -> Option<TimeSample> {
        let later = self.0.partition_point(|s| s.millis <= millis);
        later.checked_sub(1).map(|i| self.0[i])
    }

    /// The newest sample for which `is_old` holds, which must hold for all older ones too.
    pub fn newest_old(&self, is_old: impl Fn(&TimeSample) -> bool) -> Option<TimeSample> {
        let young = self.0.partition_point(is_old);
        young.checked_sub(1).map(|i| self.0[i])
    }

    /// By when a commit was visible.
    pub fn time_of(&self, seq: Seq) -> Option<u64> {
        self.0.get(self.0.partition_point(|s| s.seq < seq)).map(|s| s.millis)
    }

    /// All samples, oldest first.
    pub fn samples(&self) -> &[TimeSample] {
        &self.0
    }

    /// All samples, to be changed.
    pub fn samples_mut(&mut self) -> &mut [TimeSample] {
        &mut self.0
    }

    /// The bytes of samples: how many, then of each how much time and how many commits it is past the one
    /// before.
    pub(super) fn encode(samples: &[TimeSample], out: &mut Vec<u8>) {
        put_varint(out, samples.len() as u64);
        let (mut millis, mut seq) = (0, 0);
        for sample in samples {
            put_varint(out, sample.millis - millis);
            put_varint(out, sample.seq.0 - seq);
            (millis, seq) = (sample.millis, sample.seq.0);
        }
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Vec<TimeSample>, Malformed> {
        let count = r.count(2)?;
        if count > MAX_SAMPLES {
            return Err(Malformed("more samples of time than there can be"));
        }
        let mut samples = Vec::with_capacity(count);
        let (mut millis, mut seq) = (0_u64, 0_u64);
        for i in 0..count {
            let (time, commits) = (r.varint()?, r.varint()?);
            let sum = (millis.checked_add(time), seq.checked_add(commits));
            let (Some(time), Some(number)) = sum else {
                return Err(Malformed("a sample of time past all numbers"));
            };
            if i > 0 && commits == 0 {
                return Err(Malformed("samples of time out of order"));
            }
            (millis, seq) = (time, number);
            samples.push(TimeSample { millis, seq: Seq(seq), born: 0 });
        }
        Ok(samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(millis: u64, seq: u64) -> TimeSample {
        TimeSample { millis, seq: Seq(seq), born: 0 }
    }

    #[test]
    fn commits_rise_and_times_never_fall_however_the_clock_jumps() {
        let mut rng = fastrand::Rng::with_seed(5);
        for _ in 0..50 {
            let (mut map, mut seq, mut now) = (TimeMap::default(), 0, 1 << 40_u64);
            for _ in 0..rng.usize(1..30_000) {
                seq += rng.u64(0..3);
                now = match rng.u32(0..1000) {
                    0 => rng.u64(0..1 << 41),
                    _ => now + rng.u64(0..3000),
                };
                let known = map.samples().last().is_some_and(|s| s.seq.0 >= seq);
                assert_eq!(map.note(sample(now, seq)), !known);
                assert!(map.samples().len() <= MAX_SAMPLES);
            }
            let ordered = |w: &[TimeSample]| w[0].seq < w[1].seq && w[0].millis <= w[1].millis;
            assert!(map.samples().windows(2).all(ordered));
            let mut out = Vec::new();
            TimeMap::encode(map.samples(), &mut out);
            assert_eq!(TimeMap::decode(&mut Reader::new(&out)).expect("decodes"), map.samples());
        }
    }

    #[test]
    fn a_week_of_commits_is_told_to_a_part_of_its_age() {
        let (mut map, end) = (TimeMap::default(), 7 * 24 * 3600);
        for second in 0..=end {
            map.note(sample(second * 1000, second));
        }
        assert_eq!(map.samples()[0], sample(0, 0));
        for ago in [0, 1, 10, 600, 3600, 24 * 3600, 6 * 24 * 3600] {
            let found = map.at((end - ago) * 1000).expect("kept").seq.0;
            assert!(end - ago - found <= ago / 200 + 2, "{ago}: {found}");
        }
    }

    #[test]
    fn samples_of_one_time_are_thinned_too() {
        let mut map = TimeMap::default();
        for seq in 0..=MAX_SAMPLES as u64 {
            map.note(sample(7, seq));
        }
        assert!(map.samples().len() < MAX_SAMPLES);
        assert_eq!(map.at(7), Some(sample(7, MAX_SAMPLES as u64)));
        assert_eq!(map.samples()[0], sample(7, 0));
    }

    #[test]
    fn what_is_lost_is_forgotten_on_either_side() {
        let mut map = TimeMap::default();
        for seq in [2, 5, 9] {
            map.note(sample(seq * 10, seq));
        }
        let mut after = map.clone();
        after.forget_after(Seq(7));
        assert_eq!(after.samples(), [sample(20, 2), sample(50, 5), sample(90, 7)]);
        after.forget_after(Seq(5));
        assert_eq!(after.samples(), [sample(20, 2), sample(50, 5)]);
        map.forget_before(Seq(8));
        assert_eq!(map.samples(), [sample(50, 5), sample(90, 9)]);
        map.forget_before(Seq(9));
        assert_eq!(map.samples(), [sample(90, 9)]);
    }

    #[test]
    fn what_is_no_list_of_samples_is_refused() {
        let mut endless = vec![2];
        endless.extend([0xff; 9].iter().chain(&[1, 1]));
        endless.extend([5, 5]);
        for bad in [&[2, 1, 1, 1, 0][..], &[1, 3], &endless] {
            assert!(TimeMap::decode(&mut Reader::new(bad)).is_err(), "{bad:?}");
        }
    }
}
