//! Tells quickly that a key is in no entry of a memtable: one word looked at for each power of
//! four that the memtable's number of keys has passed.
//!
//! A Bloom filter whose bits for a key all lie in one 64-bit word. It grows by *generations*, each
//! for four times the keys of the one before, so that nothing is ever hashed again; a key is in
//! one of them. 16 bits for a key, so about one absent key in forty is taken for present.
//!
//! Threads: one adds at a time (the memtable's writer), any number asks. A key that was added
//! before a question began is never denied.

use std::sync::OnceLock; // only ever set, which does not wait

use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::in_layout::AtomicU64;

const FIRST_GENERATION_KEYS: usize = 4096;
const GENERATIONS: usize = 12;
const BITS_PER_KEY: usize = 16;

/// The generations.
pub(super) struct Filter {
    generations: [OnceLock<Box<[AtomicU64]>>; GENERATIONS],
    /// How many there are.
    count: AtomicUsize,
    /// Keys in the newest.
    newest_keys: AtomicUsize,
}

/// The four bits of a key in its word.
#[inline]
fn bits(hash: u64) -> u64 {
    1 << (hash & 63) | 1 << (hash >> 6 & 63) | 1 << (hash >> 12 & 63) | 1 << (hash >> 18 & 63)
}

/// The word of a key: by the upper half of the hash, which `bits` does not use.
#[inline]
fn word(words: &[AtomicU64], hash: u64) -> &AtomicU64 {
    &words[(((hash >> 32) * words.len() as u64) >> 32) as usize]
}

fn keys_of(generation: usize) -> usize {
    FIRST_GENERATION_KEYS << (2 * generation)
}

impl Filter {
    /// A filter that denies everything and holds no memory.
    pub(super) fn new() -> Self {
        Self {
            generations: [const { OnceLock::new() }; GENERATIONS],
            count: AtomicUsize::new(0),
            newest_keys: AtomicUsize::new(0),
        }
    }

    /// Bytes of memory held.
    pub(super) fn held_bytes(&self) -> usize {
        self.generations.iter().filter_map(OnceLock::get).map(|words| size_of_val(&**words)).sum()
    }

    /// Adds a key by its hash. One thread at a time.
    pub(super) fn add(&self, hash: u64) {
        let mut count = self.count.load(Ordering::Relaxed);
        let mut keys = self.newest_keys.load(Ordering::Relaxed);
        let wanted = match count {
            0 => keys == 0,
            _ => keys >= keys_of(count - 1) && count < GENERATIONS,
        };
        if wanted {
            // Without memory for another, the last one is filled further: it lets more through.
            // Without the first there will never be one, and everything is let through.
            if let Some(words) = zeroed_words(keys_of(count) * BITS_PER_KEY / 64) {
                let _ = self.generations[count].set(words);
                count += 1;
                keys = 0;
                self.count.store(count, Ordering::Release);
            }
        }
        self.newest_keys.store(keys + 1, Ordering::Relaxed);
        if let Some(words) = count.checked_sub(1).and_then(|last| self.generations[last].get()) {
            // One thread adds at a time, so no bit is lost between the two.
            let word = word(words, hash);
            word.store(word.load(Ordering::Relaxed) | bits(hash), Ordering::Relaxed);
        }
    }

    /// False only if no key with this hash was added.
    #[inline]
    pub(super) fn may_contain(&self, hash: u64) -> bool {
        let wanted = bits(hash);
        let count = self.count.load(Ordering::Acquire);
        // Every word is looked at, without a branch between them, so that their lines are fetched
        // at once and the search that follows begins before they have come.
        let mut found = false;
        for words in self.generations[..count].iter().filter_map(OnceLock::get) {
            found |= word(words, hash).load(Ordering::Relaxed) & wanted == wanted;
        }
        // Keys, but no generation: there was no memory for the first.
        found || (count == 0 && self.newest_keys.load(Ordering::Relaxed) > 0)
    }
}

fn zeroed_words(count: usize) -> Option<Box<[AtomicU64]>> {
    let mut words = Vec::new();
    words.try_reserve_exact(count).ok()?;
    words.resize_with(count, AtomicU64::default);
    Some(words.into_boxed_slice())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::hash_key;

    #[test]
    fn added_keys_are_never_denied_and_absent_ones_mostly_are() {
        let filter = Filter::new();
        assert!(!filter.may_contain(hash_key(b"nothing")));
        assert_eq!(filter.held_bytes(), 0);
        let keys = 100_000_u64; // into the fourth generation
        for i in 0..keys {
            filter.add(hash_key(&i.to_be_bytes()));
        }
        assert!((0..keys).all(|i| filter.may_contain(hash_key(&i.to_be_bytes()))));
        let passed = (keys..3 * keys).filter(|i| filter.may_contain(hash_key(&i.to_be_bytes())));
        let passed = passed.count();
        assert!(passed < 2 * keys as usize / 30, "{passed} of {} absent keys pass", 2 * keys);
        let kept: usize = (0..4).map(keys_of).sum::<usize>() * BITS_PER_KEY / 8;
        assert_eq!(filter.held_bytes(), kept);
    }

    #[test]
    fn without_memory_at_the_start_nothing_is_ever_denied() {
        let filter = Filter::new();
        filter.newest_keys.store(1, Ordering::Relaxed); // as `add` leaves it then
        for i in 0..10_000_u64 {
            filter.add(hash_key(&i.to_le_bytes()));
        }
        assert!((0..99_u64).all(|i| filter.may_contain(i)));
        assert_eq!(filter.held_bytes(), 0);
    }
}
