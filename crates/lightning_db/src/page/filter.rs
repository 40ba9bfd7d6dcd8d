//! Filter pages: blocked Bloom filters over key hashes.
//!
//! A payload is 1 to 256 blocks of 64 bytes and nothing else. A key's hash chooses the page among
//! the filter's pages (its high 32 bits), the block in the page (its low 32 bits), and, mixed once
//! more, six bits in the block: bit `i` of a block is bit `i % 8` of its byte `i / 8`.
//!
//! 1. All pages of a filter have the same length; nothing but their number and the hash is needed
//!    to find the page to look at.
//! 2. A key that was added is never denied. At 10 bits a key about one other in eighty is let in.
//!
//! One look touches one cache line (Putze, Sanders, Singler, "Cache-, Hash- and Space-Efficient
//! Bloom Filters", 2007). No I/O, no threads.

use crate::codec::Malformed;

/// Bytes of a block: a cache line.
/// Bytes of a block: a cache line.
pub const BLOCK_BYTES: usize = 64;
/// Blocks of the longest filter page (16 KiB).
const MAX_BLOCKS: usize = 256;
/// Filter bits for each key.
const BITS_PER_KEY: usize = 10;
/// Bits set in a block for each key.
const PROBES: usize = 6;

/// Gathers key hashes and lays out the filter's pages.
#[derive(Clone, Debug, Default)]
pub struct FilterBuilder {
    hashes: Vec<u64>,
}

impl FilterBuilder {
    /// A filter of no keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key by its [`hash_key`](crate::types::hash_key).
    pub fn add(&mut self, hash: u64) {
        self.hashes.push(hash);
    }

    /// Bytes that [`pages`](Self::pages) would give in all.
    #[cfg(test)]
    pub fn raw_len(&self) -> usize {
        let (pages, blocks) = self.shape();
        pages * blocks * BLOCK_BYTES
    }

    /// The payloads of the filter's pages, all of one length; none where no key was added.
    pub fn pages(&self) -> Vec<Vec<u8>> {
        let (n_pages, blocks) = self.shape();
        let mut pages = vec![vec![0; blocks * BLOCK_BYTES]; n_pages];
        for &hash in &self.hashes {
            let page = &mut pages[page_of(hash, n_pages)];
            let start = block_of(hash, blocks) * BLOCK_BYTES;
            let block = &mut page[start..start + BLOCK_BYTES];
            for bit in bits_of(hash) {
                block[bit / 8] |= 1 << (bit % 8);
            }
        }
        pages
    }

    /// Pages, and blocks in each.
    fn shape(&self) -> (usize, usize) {
        let blocks = (self.hashes.len() * BITS_PER_KEY).div_ceil(BLOCK_BYTES * 8);
        let pages = blocks.div_ceil(MAX_BLOCKS);
        (pages, if pages == 0 { 0 } else { blocks.div_ceil(pages) })
    }
}

/// Which of a filter's `n_pages` pages knows of the key with this hash; 0 where there are none.
#[inline]
pub fn page_of(hash: u64, n_pages: usize) -> usize {
    (((hash >> 32) * n_pages as u64) >> 32) as usize
}

/// Whether the key with this hash may be among those of a filter; `page` is the payload of the
/// page that [`page_of`] names. Says yes for a page too short to be one.
#[inline]
pub fn page_may_contain(page: &[u8], hash: u64) -> bool {
    let blocks = page.len() / BLOCK_BYTES;
    let start = block_of(hash, blocks) * BLOCK_BYTES;
    let Some(block) = page.get(start..).and_then(|rest| rest.first_chunk::<BLOCK_BYTES>()) else {
        return true;
    };
    bits_of(hash).fold(1, |all, bit| all & (block[bit / 8] >> (bit % 8))) & 1 == 1
}

/// Whether `payload` can be that of a filter page.
pub fn validate(payload: &[u8]) -> Result<(), Malformed> {
    let blocks = payload.len() / BLOCK_BYTES;
    if !payload.len().is_multiple_of(BLOCK_BYTES) || blocks == 0 || blocks > MAX_BLOCKS {
        return Err(Malformed("a filter page has an impossible length"));
    }
    Ok(())
}

#[inline]
fn block_of(hash: u64, blocks: usize) -> usize {
    (((hash & 0xFFFF_FFFF) * blocks as u64) >> 32) as usize
}

/// The bits of a block that stand for a hash: nine bits each of the hash, multiplied and folded,
/// so that they do not depend on which page and block were chosen.
#[inline]
fn bits_of(hash: u64) -> impl Iterator<Item = usize> {
    let product = u128::from(hash ^ 0x2D35_8DCC_AA6C_78A5) * 0x8BB8_4B93_962E_ACC9;
    let mixed = (product as u64) ^ ((product >> 64) as u64);
    (0..PROBES).map(move |i| (mixed >> (9 * i)) as usize & 511)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::hash_key;

    fn hash_of(n: u64) -> u64 {
        hash_key(format!("user{n:08}").as_bytes())
    }

    fn may_contain(pages: &[Vec<u8>], hash: u64) -> bool {
        page_may_contain(&pages[page_of(hash, pages.len())], hash)
    }

    #[test]
    fn added_keys_are_never_denied_and_few_others_are_let_in() {
        for n in [1u64, 10, 51, 52, 1000, 13_107, 13_108, 60_000] {
            let mut filter = FilterBuilder::new();
            (0..n).for_each(|i| filter.add(hash_of(i)));
            let pages = filter.pages();
            assert_eq!(filter.raw_len(), pages.iter().map(Vec::len).sum::<usize>());
            assert!(pages.iter().all(|p| p.len() == pages[0].len() && validate(p).is_ok()));
            assert!(filter.raw_len() <= n as usize * 10 / 8 + 64 * (1 + pages.len()));
            assert!((0..n).all(|i| may_contain(&pages, hash_of(i))));
            if n >= 1000 {
                let tries = 100_000;
                let wrong =
                    (n..n + tries).filter(|&i| may_contain(&pages, hash_of(i))).count() as f64;
                let rate = wrong / tries as f64;
                assert!(rate < 0.02, "{n} keys: {rate}");
            }
        }
    }

    #[test]
    fn random_hashes_spread_over_pages_and_blocks() {
        let mut rng = fastrand::Rng::with_seed(31);
        let hashes: Vec<u64> = (0..40_000).map(|_| rng.u64(..)).collect();
        let mut filter = FilterBuilder::new();
        for &h in &hashes {
            filter.add(h);
        }
        let pages = filter.pages();
        assert_eq!(pages.len(), 4);
        assert!(hashes.iter().all(|&h| may_contain(&pages, h)));
        for page in &pages {
            let set: u32 = page.iter().map(|b| b.count_ones()).sum();
            let full = set as f64 / (page.len() * 8) as f64;
            assert!((0.40..0.50).contains(&full), "{full}");
        }
    }

    #[test]
    fn no_keys_make_no_pages() {
        assert!(FilterBuilder::new().pages().is_empty());
        assert_eq!(FilterBuilder::new().raw_len(), 0);
        assert_eq!(page_of(u64::MAX, 0), 0);
    }

    #[test]
    fn impossible_pages_are_refused_and_never_deny() {
        for len in [0, 1, 63, 65, MAX_BLOCKS * 64 + 64] {
            assert!(validate(&vec![0; len]).is_err(), "{len}");
        }
        assert!(validate(&[0; 64]).is_ok());
        assert!(page_may_contain(&[0; 63], 17));
        assert!(!page_may_contain(&[0; 64], 17));
        for last in [u64::MAX, 0] {
            assert!(page_may_contain(&[255; MAX_BLOCKS * 64], last));
        }
    }
}
