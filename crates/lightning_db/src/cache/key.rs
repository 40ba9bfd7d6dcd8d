//! What a page is known by in the cache, and its hash: computed alike for the choice of the shard
//! and inside the shard's map. Keys come from our own allocation of offsets, so that the hash need
//! not withstand an adversary; it lives in memory only.

use std::hash::{BuildHasherDefault, Hash, Hasher};

use crate::types::SegmentId;

/// Segment and offset of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    /// The segment file.
    pub segment: SegmentId,
    /// Byte offset of the page's envelope.
    pub offset: u64,
}

impl Key {
    /// A well mixed hash: both halves of a 128-bit product, as in wyhash.
    #[inline]
    pub fn hash64(self) -> u64 {
        let a = self.segment.0 ^ 0xA076_1D64_78BD_642F;
        let b = self.offset ^ 0xE703_7ED1_A0B4_28DB;
        let p = u128::from(a) * u128::from(b);
        let folded = (p as u64) ^ ((p >> 64) as u64);
        let p = u128::from(folded ^ 0x8EBC_6AF0_9C88_C6E3) * 0x9E37_79B9_7F4A_7C15;
        (p as u64) ^ ((p >> 64) as u64)
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash64());
    }
}

/// Passes [`Key::hash64`] through.
#[derive(Default)]
pub struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a Key hashes itself to one u64");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Builds [`Mixed`].
pub type MixedBuild = BuildHasherDefault<Mixed>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_pages_spread_over_shards_and_buckets() {
        // Page offsets are multiples of something in one segment, ids count up.
        for step in [1, 4096, 16384] {
            let mut high = [0u32; 16];
            let mut low = [0u32; 16];
            for segment in 1..=16 {
                for i in 0..1000 {
                    let h = Key { segment: SegmentId(segment), offset: 64 + i * step }.hash64();
                    high[(h >> 60) as usize] += 1;
                    low[(h & 15) as usize] += 1;
                }
            }
            for n in high.iter().chain(&low) {
                assert!((850..1150).contains(n), "step {step}: {high:?} {low:?}");
            }
        }
    }
}
