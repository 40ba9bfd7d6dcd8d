//! What a power cut spares, decided by chance.
//!
//! Each file, and the directories together, first get a leaning (spare nothing, little, half,
//! much, all), since independent decisions alone would hardly ever spare or lose many things at
//! once; then each sector and each name is decided by itself.

use std::ops::Range;

/// What a power cut does with what was not synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Survival {
    /// Every piece is kept, lost or torn by chance.
    Mixed,
    /// All of it is lost: the least that a disk may keep.
    Nothing,
    /// All of it is kept, save what a failed sync lost.
    Everything,
}

/// How one file, or the directories, come through.
pub(super) struct Fate {
    /// The chance to be kept, in sixteenths.
    keep: u8,
    /// The chance of a sector to be torn, in sixteenths.
    tear: u8,
}

impl Fate {
    pub(super) fn choose(rng: &mut fastrand::Rng, survival: Survival) -> Self {
        match survival {
            Survival::Nothing => Self { keep: 0, tear: 0 },
            Survival::Everything => Self { keep: 16, tear: 0 },
            Survival::Mixed => {
                Self { keep: [0, 2, 8, 14, 16][rng.usize(0..5)], tear: [0, 1, 4][rng.usize(0..3)] }
            }
        }
    }

    /// Whether one thing that is kept whole or not at all is kept.
    pub(super) fn keeps(&self, rng: &mut fastrand::Rng) -> bool {
        rng.u8(0..16) < self.keep
    }

    /// The bytes of a sector that reach the disk: all, none, or those before or after some point.
    pub(super) fn sector(&self, rng: &mut fastrand::Rng, len: usize) -> Range<usize> {
        if rng.u8(0..16) < self.tear {
            let at = rng.usize(0..=len);
            if rng.bool() { 0..at } else { at..len }
        } else if self.keeps(rng) {
            0..len
        } else {
            0..0
        }
    }

    /// How many of a history's steps, which can only be lost from its end, are kept.
    pub(super) fn history(&self, rng: &mut fastrand::Rng, steps: usize) -> usize {
        match (self.keep, self.tear) {
            (0, 0) => 0,
            (16, 0) => steps,
            _ if rng.bool() => *rng.choice(&[0, steps]).unwrap_or(&0),
            _ => rng.usize(0..=steps),
        }
    }
}
