//! What a profile allows: how much may be stacked above the base, and how much may lie dead in it.
//! Everything else is the same in all profiles.

use crate::config::Profile;

/// What a profile allows above the base.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Runs of like size that are merged into one.
    pub tier_width: usize,
    /// Bytes of runs, in hundredths of the base's bytes.
    pub stack_percent: u64,
    /// Runs, of whatever size.
    pub max_runs: usize,
    /// Dead bytes, in hundredths of a base partition's files, past which all of it is written anew.
    pub dead_percent: u64,
    /// Untouched leaves, in hundredths of the leaves around, that it takes to keep one where it
    /// lies: with fewer, the old file would be held for a few leaves' sake.
    pub keep_percent: u32,
}

impl Limits {
    /// The limits of a profile.
    pub fn of(profile: Profile) -> Self {
        match profile {
            Profile::ReadOptimized => Self {
                tier_width: 3,
                stack_percent: 10,
                max_runs: 4,
                dead_percent: 10,
                keep_percent: 90,
            },
            Profile::Balanced => Self {
                tier_width: 4,
                stack_percent: 30,
                max_runs: 10,
                dead_percent: 30,
                keep_percent: 50,
            },
            Profile::WriteOptimized => Self {
                tier_width: 8,
                stack_percent: 100,
                max_runs: 24,
                dead_percent: 40,
                keep_percent: 40,
            },
        }
    }
}
