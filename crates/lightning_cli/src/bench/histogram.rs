//! Latencies in buckets: exact below 64 ns, within 1/64 above, the maximum exact.

/// Buckets in each doubling.
const FINE: u64 = 64;
const BUCKETS: usize = (59 * FINE) as usize;

/// A count of latencies by length.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    longest: u64,
}

impl Histogram {
    pub fn new() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, longest: 0 }
    }

    pub fn record(&mut self, nanos: u64) {
        self.counts[bucket(nanos)] += 1;
        self.total += 1;
        self.longest = self.longest.max(nanos);
    }

    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.longest = self.longest.max(other.longest);
    }

    /// The nanoseconds that this share of the latencies did not exceed (to 1/64).
    pub fn quantile(&self, share: f64) -> u64 {
        let wanted = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (i, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return last_of(i).min(self.longest);
            }
        }
        self.longest
    }

    pub fn longest(&self) -> u64 {
        self.longest
    }
}

fn bucket(nanos: u64) -> usize {
    if nanos < FINE {
        return nanos as usize;
    }
    let shift = u64::from(nanos.ilog2()) - 6;
    ((shift + 1) * FINE + ((nanos >> shift) - FINE)) as usize
}

/// The longest latency that falls into a bucket.
fn last_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < FINE {
        return bucket;
    }
    let shift = bucket / FINE - 1;
    ((bucket % FINE + FINE) << shift) + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_falls_into_a_bucket_that_ends_at_or_just_past_it() {
        for exponent in 0..64 {
            for nanos in [1u64 << exponent, (1 << exponent) + 1, u64::MAX >> exponent] {
                let end = last_of(bucket(nanos));
                assert!(end >= nanos && end - nanos <= nanos / FINE, "{nanos}: {end}");
            }
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_of_a_known_set() {
        let (mut all, mut half) = (Histogram::new(), Histogram::new());
        for nanos in 1..=1000 {
            if nanos % 2 == 0 { all.record(nanos) } else { half.record(nanos) }
        }
        all.merge(&half);
        assert_eq!(all.longest(), 1000);
        for (share, exact) in [(0.5, 500), (0.99, 990), (0.999, 999), (1.0, 1000)] {
            let got = all.quantile(share);
            assert!(got >= exact && got <= exact + exact / FINE, "{share}: {got}");
        }
    }
}
