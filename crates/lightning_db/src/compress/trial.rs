//! Whether packing is worth a try, from what it gave lately; and counts of it.
//!
//! After a few pages in a row that did not shrink, the next ones are stored as they are; then one
//! is tried again, and where it does not shrink either, twice as many are left alone. One that
//! shrinks ends this.

use crate::sync::atomic::{AtomicU64, Ordering};

/// So many failures in a row before pages are left alone.
const PATIENCE: u32 = 4;
/// So many pages are left alone at first,
const FIRST_PAUSE: u32 = 8;
/// and at most so many.
const LONGEST_PAUSE: u32 = 128;

/// See the module; one for each kind of page that is written one after another.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trial {
    failures: u32,
    pause: u32,
    left: u32,
}

impl Trial {
    /// Whether to try the next page. Asked once a page.
    pub fn is_due(&mut self) -> bool {
        if self.left == 0 {
            return true;
        }
        self.left -= 1;
        false
    }

    /// Takes in what a try gave.
    pub fn note(&mut self, shrank: bool) {
        if shrank {
            *self = Self::default();
            return;
        }
        self.failures += 1;
        if self.failures >= PATIENCE {
            self.pause = (2 * self.pause).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            self.left = self.pause;
        }
    }
}

/// Pages of one file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PackCounts {
    /// Tried.
    pub tried: u64,
    /// Tried, and stored plain because they did not shrink.
    pub plain: u64,
    /// Not tried, because those before them did not shrink.
    pub skipped: u64,
}

/// Pages of all files finished since the database was opened.
#[derive(Debug, Default)]
pub struct PackCounters {
    tried: AtomicU64,
    plain: AtomicU64,
    skipped: AtomicU64,
}

impl PackCounters {
    /// Adds those of a file.
    pub fn add(&self, counts: PackCounts) {
        self.tried.fetch_add(counts.tried, Ordering::Relaxed);
        self.plain.fetch_add(counts.plain, Ordering::Relaxed);
        self.skipped.fetch_add(counts.skipped, Ordering::Relaxed);
    }

    /// What they are now.
    pub fn counts(&self) -> PackCounts {
        PackCounts {
            tried: self.tried.load(Ordering::Relaxed),
            plain: self.plain.load(Ordering::Relaxed),
            skipped: self.skipped.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `pages` are tried where each shrinks as `shrinks` says.
    fn tried(trial: &mut Trial, pages: u32, shrinks: impl Fn(u32) -> bool) -> u32 {
        (0..pages)
            .filter(|&page| {
                let due = trial.is_due();
                if due {
                    trial.note(shrinks(page));
                }
                due
            })
            .count() as u32
    }

    #[test]
    fn what_never_shrinks_is_hardly_tried_and_never_given_up() {
        let mut trial = Trial::default();
        assert_eq!(tried(&mut trial, PATIENCE, |_| false), PATIENCE);
        assert_eq!(tried(&mut trial, FIRST_PAUSE, |_| false), 0);
        assert!(trial.is_due());
        trial.note(false);
        let of_many = tried(&mut trial, 10_000, |_| false);
        assert!((70..100).contains(&of_many), "{of_many}");
    }

    #[test]
    fn one_that_shrinks_ends_the_pause() {
        let mut trial = Trial::default();
        tried(&mut trial, 1000, |_| false);
        let until = LONGEST_PAUSE + 1;
        assert!(tried(&mut trial, until, |_| true) >= 1);
        assert_eq!(tried(&mut trial, 1000, |_| true), 1000);
    }

    #[test]
    fn a_page_that_does_not_shrink_now_and_then_changes_nothing() {
        let mut trial = Trial::default();
        assert_eq!(tried(&mut trial, 1000, |page| page % 4 == 0), 1000);
    }
}
