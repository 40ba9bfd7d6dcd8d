//! Keys, values and the order in which they are asked for.
//!
//! 1. Keys have 16 bytes and are unique; the key of index 0, 1, 2, … lies anywhere in the order, so
//!    that an index drawn from the front of a skewed distribution is a key anywhere in the tree.
//! 2. Half of a value is random, and half a pattern that compresses. Its last eight bytes are the
//!    first eight of its key (random as well), so that every read can be checked for one comparison.
//! 3. Its first eight bytes are the number that transactions count with.

use fastrand::Rng;

/// Every key.
pub type Key = [u8; 16];

/// The bytes of a value that tell its key, and of its number.
const EIGHT: usize = 8;
/// The shortest value that has room for a number and a tag.
pub const SHORTEST_TAGGED: usize = 2 * EIGHT;
/// The shortest value that has room for a number.
pub const SHORTEST: usize = EIGHT;

/// The `index`th key: unique, since the mixing can be undone.
pub fn key(index: u64) -> Key {
    let mut out = [0; 16];
    out[..8].copy_from_slice(&mix(index).to_be_bytes());
    out[8..].copy_from_slice(&mix(!index).to_be_bytes());
    out
}

/// The `index`th of keys that ascend.
pub fn ascending_key(index: u64) -> Key {
    let mut out = [0; 16];
    out[8..].copy_from_slice(&index.to_be_bytes());
    out
}

/// A bijection of 64-bit numbers that scatters them (the finaliser of SplitMix64).
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Makes values.
pub struct Values {
    bytes: Vec<u8>,
}

impl Values {
    pub fn new(value_bytes: usize) -> Self {
        Self { bytes: b"lightning ".iter().copied().cycle().take(value_bytes).collect() }
    }

    /// A value for this key.
    pub fn next(&mut self, key: &Key, rng: &mut Rng) -> &[u8] {
        let len = self.bytes.len();
        if len < SHORTEST_TAGGED {
            rng.fill(&mut self.bytes);
        } else {
            rng.fill(&mut self.bytes[..(len / 2).saturating_sub(EIGHT).max(EIGHT)]);
            self.bytes[len - EIGHT..].copy_from_slice(&key[..EIGHT]);
        }
        &self.bytes
    }
}

/// Whether this value can be one of this key.
#[inline]
pub fn belongs(key: &[u8], value: &[u8], value_bytes: usize) -> bool {
    value.len() == value_bytes
        && (value_bytes < SHORTEST_TAGGED || value[value_bytes - EIGHT..] == key[..EIGHT])
}

/// The number in a value.
pub fn number(value: &[u8]) -> u64 {
    let bytes = value.first_chunk().copied().unwrap_or_default();
    u64::from_le_bytes(bytes)
}

/// Adds to the number in a value, wrapping.
pub fn add(value: &mut [u8], amount: u64) {
    let sum = number(value).wrapping_add(amount);
    if let Some(bytes) = value.first_chunk_mut() {
        *bytes = sum.to_le_bytes();
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
    fn a_value_belongs_to_its_key_alone_and_is_half_random() {
        let (mut values, mut rng) = (Values::new(100), Rng::with_seed(7));
        let first = values.next(&key(1), &mut rng).to_vec();
        let second = values.next(&key(2), &mut rng).to_vec();
        assert!(belongs(&key(1), &first, 100) && belongs(&key(2), &second, 100));
        assert!(!belongs(&key(2), &first, 100) && !belongs(&key(1), &first[1..], 100));
        assert_ne!(first[..42], second[..42]);
        assert_eq!(first[42..92], second[42..92]);
    }

    #[test]
    fn counting_keeps_the_tag() {
        let (mut values, mut rng) = (Values::new(16), Rng::with_seed(7));
        let mut value = values.next(&key(3), &mut rng).to_vec();
        let before = number(&value);
        add(&mut value, 5);
        add(&mut value, u64::MAX);
        assert_eq!(number(&value), before.wrapping_add(4));
        assert!(belongs(&key(3), &value, 16));
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
}
