//! Keys, values and the order in which they are asked for.
//!
//! Keys have 16 bytes and are unique; the key of index 0, 1, 2, … lies anywhere in the order, so
//! that an index drawn from the front of a skewed distribution is a key anywhere in the tree.

use fastrand::Rng;

/// The bytes of every key.
pub const KEY_BYTES: usize = 16;

/// The `index`th key: unique, since the mixing can be undone.
pub fn key(index: u64) -> [u8; KEY_BYTES] {
    let mut out = [0; KEY_BYTES];
    out[..8].copy_from_slice(&mix(index).to_be_bytes());
    out[8..].copy_from_slice(&mix(!index).to_be_bytes());
    out
}

/// The `index`th of keys that ascend.
pub fn ascending_key(index: u64) -> [u8; KEY_BYTES] {
    let mut out = [0; KEY_BYTES];
    out[8..].copy_from_slice(&index.to_be_bytes());
    out
}

/// A bijection of 64-bit numbers that scatters them (the finaliser of SplitMix64).
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Makes values: the first half random, the rest a pattern that compresses.
pub struct Values {
    bytes: Vec<u8>,
}

impl Values {
    pub fn new(value_bytes: usize) -> Self {
        Self { bytes: b"lightning ".iter().copied().cycle().take(value_bytes).collect() }
    }

    pub fn next(&mut self, rng: &mut Rng) -> &[u8] {
        let half = self.bytes.len() / 2;
        rng.fill(&mut self.bytes[..half]);
        &self.bytes
    }
}

/// Zipf-distributed indices, exponent 0.99, by the method of Gray et al., "Quickly generating
/// billion-record synthetic databases" (SIGMOD 1994), as YCSB uses it.
#[derive(Clone, Debug)]
pub struct Zipf {
    items: f64,
    alpha: f64,
    zeta: f64,
    eta: f64,
}

const THETA: f64 = 0.99;

impl Zipf {
    /// A distribution over `0..items`.
    pub fn new(items: u64) -> Self {
        let zeta = |n: u64| (1..=n).map(|i| 1.0 / (i as f64).powf(THETA)).sum::<f64>();
        let (all, two) = (zeta(items), zeta(2));
        let eta = (1.0 - (2.0 / items as f64).powf(1.0 - THETA)) / (1.0 - two / all);
        Self { items: items as f64, alpha: 1.0 / (1.0 - THETA), zeta: all, eta }
    }

    pub fn next(&self, rng: &mut Rng) -> u64 {
        let u = rng.f64();
        let scaled = u * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5f64.powf(THETA) {
            return 1;
        }
        let index = self.items * (self.eta * u - self.eta + 1.0).powf(self.alpha);
        (index as u64).min(self.items as u64 - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_unique_and_scattered() {
        let keys: std::collections::BTreeSet<_> = (0..100_000).map(key).collect();
        assert_eq!(keys.len(), 100_000);
        let in_order = (0..999).filter(|i| key(*i) < key(i + 1)).count();
        assert!((400..600).contains(&in_order), "{in_order}");
        assert!((0..999).all(|i| ascending_key(i) < ascending_key(i + 1)));
    }

    #[test]
    fn zipf_is_skewed_as_its_exponent_says() {
        let (zipf, mut rng) = (Zipf::new(10_000), Rng::with_seed(7));
        let mut first = 0;
        for _ in 0..100_000 {
            let index = zipf.next(&mut rng);
            assert!(index < 10_000);
            first += u32::from(index == 0);
        }
        // 1 / zeta(10,000, 0.99) is 9.8%.
        assert!((9_000..10_600).contains(&first), "{first}");
    }

    #[test]
    fn values_are_half_random() {
        let (mut values, mut rng) = (Values::new(100), Rng::with_seed(7));
        let first = values.next(&mut rng).to_vec();
        let second = values.next(&mut rng);
        assert_eq!(second.len(), 100);
        assert_ne!(first[..50], second[..50]);
        assert_eq!(first[50..], second[50..]);
    }
}
