//! For how many writes a row that nobody reads is renewed before it is forgotten: learnt from what readers
//! come back for.
//!
//! 1. It grows where a row is read that was forgotten not long ago: renewing it a few times more would have
//!    cost less than the read that had to go to memtables and pages.
//! 2. It shrinks with the rows that are forgotten, by a sixteenth of that: where nobody comes back for them it is
//!    one again, and writers renew a row once.
//! 3. A sixteenth of all rows, missed, takes it from the least to the most: so it follows what happens to most
//!    rows, not to the last few.
//!
//! Threads: any; a change that another one overwrites is no loss.

use crate::sync::atomic::{AtomicU32, Ordering};
use crate::types::Seq;

/// A row is renewed for so many writes on average, at the most.
const MOST: u32 = 16;
/// The number is kept in parts of which this is one.
const ONE: u32 = 1 << 16;
/// So many bytes are taken for a row.
const ROW_BYTES: u64 = 128;
const FEWEST_ROWS: u64 = 256;
/// A row that was forgotten counts so much less than one that was missed: else it would fall far while all rows
/// are written, before any of them is read again.
const LESS: u32 = 16;
/// One write to its bucket in so many ends the time in which a row counts as forgotten lately.
const WRITES_FOR_LATELY: u32 = 16;

/// See the module.
#[derive(Debug)]
pub(super) struct Patience(AtomicU32);

/// What is left to chance in the note of a write: the same for the same write.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chance(u32);

impl Chance {
    #[inline]
    pub(super) fn of(seq: Seq, key_hash: u64) -> Self {
        // Both halves of a product, as in wyhash: numbers of writes to a key may follow one another evenly.
        let (a, b) = (key_hash ^ 0x9E37_79B9_7F4A_7C15, seq.0 ^ 0xD6E8_FEB8_6659_FD93);
        let product = u128::from(a) * u128::from(b);
        Self(((product as u64) ^ (product >> 64) as u64) as u32)
    }

    /// Whether what was forgotten in the bucket at hand is no longer so of late.
    #[inline]
    pub(super) fn ends_lately(self) -> bool {
        self.0 >> 8 & (WRITES_FOR_LATELY - 1) == 0
    }
}

/// What a row that was missed adds, where rows use so many bytes.
fn step(used_bytes: u64) -> u32 {
    let rows = (used_bytes / ROW_BYTES).max(FEWEST_ROWS);
    (u64::from(16 * MOST * ONE) / rows).clamp(u64::from(LESS), u64::from(ONE)) as u32
}

impl Patience {
    pub(super) fn new() -> Self {
        // Schedules are to come by rows that are renewed unread as well as by those that are forgotten.
        Self(AtomicU32::new(if cfg!(shuttle) { 2 * ONE } else { ONE }))
    }

    /// Whether it is more than the least.
    #[inline]
    pub(super) fn is_any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > ONE
    }

    /// Whether a row is renewed once more that was not read since it was renewed.
    #[inline]
    pub(super) fn spares(&self, chance: Chance) -> bool {
        let patience = self.0.load(Ordering::Relaxed);
        // True for all but one part in `patience` of the chances.
        patience > ONE && (u64::from(chance.0) * u64::from(patience)) >> 32 >= u64::from(ONE)
    }

    /// A row was read that had been forgotten lately.
    pub(super) fn note_missed(&self, used_bytes: u64) {
        let patience = self.0.load(Ordering::Relaxed);
        if patience < MOST * ONE {
            let more = (patience + step(used_bytes)).min(MOST * ONE);
            self.0.store(more, Ordering::Relaxed);
        }
    }

    /// A row was forgotten that a reader may come back for.
    #[inline]
    pub(super) fn note_forgotten(&self, used_bytes: impl FnOnce() -> u64) {
        let patience = self.0.load(Ordering::Relaxed);
        if patience > ONE {
            let less = patience.saturating_sub(step(used_bytes()) / LESS).max(ONE);
            self.0.store(less, Ordering::Relaxed);
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn it_spares_all_but_one_in_so_many() {
        let patience = Patience::new();
        let spared = |patience: &Patience| {
            let chances = (0..10_000).map(|seq| Chance::of(Seq(seq * 200), 77));
            chances.filter(|chance| patience.spares(*chance)).count()
        };
        assert_eq!(spared(&patience), 0);
        let (mut before, mut missed) = (0, 0);
        while patience.0.load(Ordering::Relaxed) < MOST * ONE {
            patience.note_missed(1 << 20);
            missed += 1;
            if missed % 120 == 0 {
                assert!(spared(&patience) > before);
                before = spared(&patience);
            }
        }
        assert_eq!(missed, 480, "of 8192 rows");
        assert!((9_200..9_500).contains(&spared(&patience)), "{}", spared(&patience));
        for _ in 0..7680 {
            assert!(patience.is_any());
            patience.note_forgotten(|| 1 << 20);
        }
        assert!(!patience.is_any());
    }
}
