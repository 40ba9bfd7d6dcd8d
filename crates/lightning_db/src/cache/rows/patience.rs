//! For how many writes a row that nobody reads is renewed before it is forgotten: learnt from what readers
//! come back for.
//!
//! 1. It grows where a row is read that was forgotten not long ago: renewing it a few times more would have
//!    cost less than the read that had to go to memtables and pages.
//! 2. It shrinks with the rows that are forgotten: where nobody comes back for them it is one soon, and
//!    writers renew a row once.
//!
//! Threads: any; a change that another one overwrites is no loss.

use crate::sync::atomic::{AtomicU32, Ordering};
use crate::types::Seq;

/// A row is renewed for so many writes on average, at the most.
const MOST: u32 = 16;
/// One forgotten row in so many makes it less.
const FORGOTTEN_FOR_LESS: u32 = 4;
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

impl Patience {
    pub(super) fn new() -> Self {
        Self(AtomicU32::new(1))
    }

    /// Whether it is more than the least.
    #[inline]
    pub(super) fn is_any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 1
    }

    /// Whether a row is renewed once more that was not read since it was renewed.
    #[inline]
    pub(super) fn spares(&self, chance: Chance) -> bool {
        let patience = self.0.load(Ordering::Relaxed);
        patience > 1 && !chance.0.is_multiple_of(patience)
    }

    /// A row was read that had been forgotten lately.
    pub(super) fn note_missed(&self) {
        let patience = self.0.load(Ordering::Relaxed);
        if patience < MOST {
            self.0.store(patience + 1, Ordering::Relaxed);
        }
    }

    /// A row was forgotten.
    #[inline]
    pub(super) fn note_forgotten(&self, chance: Chance) {
        if chance.0 >> 16 & (FORGOTTEN_FOR_LESS - 1) == 0 {
            let patience = self.0.load(Ordering::Relaxed);
            if patience > 1 {
                self.0.store(patience - 1, Ordering::Relaxed);
            }
        }
    }
}
