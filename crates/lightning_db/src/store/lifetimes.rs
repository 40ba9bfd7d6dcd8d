//! The time by which entries live and expire.
//!
//! 1. It never goes back: it is the wall clock, and where that went back, the time it had told before
//!    and what has passed since by the monotonic clock. Over a reopen it goes on from the moment that
//!    the manifest keeps (`EditOp::Time`), which is at or past any that a merge judged by.
//! 2. While nothing in the database expires no clock is read: `any` is set before the first entry that
//!    expires can be seen, and a view that finds it unset sees none such.
//! 3. A view judges by the moment it was made at. A merge takes an entry for expired only where that is
//!    so for every view that may see it: for those that live by their own moments, for those to come by
//!    the merge's, which was read before it looked for views ([`Dead`]).
//!
//! Threads: any; no latch.

use std::sync::Arc;
use std::time::Duration;

use crate::store::view::ViewRegistry;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::types::{Expiry, Seq, Time};
use crate::vfs::Vfs;

/// The clock of a database, and whether it is asked.
#[derive(Debug)]
pub struct Lifetimes {
    vfs: Arc<dyn Vfs>,
    any: AtomicBool,
    /// The monotonic clock when the database was opened.
    opened: Duration,
    /// What is to be added to the time since then; only grows.
    base: AtomicU64,
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Lifetimes {
    /// A clock that shows `floor` or later; it is asked from the start where something expires.
    pub fn new(vfs: Arc<dyn Vfs>, floor: Time, any: bool) -> Self {
        let opened = vfs.monotonic();
        Self { vfs, any: AtomicBool::new(any), opened, base: AtomicU64::new(floor.0) }
    }

    /// Whether anything in the database may expire.
    #[inline]
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Notes that something may. Called before it can be seen.
    pub fn enable(&self) {
        if !self.any() {
            self.any.store(true, Ordering::Release);
        }
    }

    /// The time.
    pub fn now(&self) -> Time {
        let passed = millis(self.vfs.monotonic().saturating_sub(self.opened));
        let wanted = millis(self.vfs.wall_clock()).saturating_sub(passed);
        let mut base = self.base.load(Ordering::Relaxed);
        if wanted > base {
            base = self.base.fetch_max(wanted, Ordering::Relaxed).max(wanted);
        }
        // Above `BEFORE_ALL`, however the clock is set.
        Time(base.saturating_add(passed).clamp(1, Time::LATEST.0))
    }

    /// The time, where anything may expire; else the clock is not read. Whoever judges what is seen at
    /// a number calls this after it has the number.
    #[inline]
    pub fn moment(&self) -> Time {
        if self.any() { self.now() } else { Time::BEFORE_ALL }
    }

    /// The moment by which looks into a past of that length judge: what had expired before it began is
    /// gone, what lived in it is shown, though it may have expired since.
    pub fn past(&self, kept: Duration) -> Time {
        if self.any() {
            Time(self.now().0.saturating_sub(millis(kept)).max(1))
        } else {
            Time::BEFORE_ALL
        }
    }

    /// What has expired for everybody, for one job;
    /// where so much of the past is `kept`, for everybody who looks at that too.
    pub fn dead(&self, views: &ViewRegistry, kept: Duration) -> Dead {
        if !self.any() {
            return Dead::default();
        }
        // In this order: a view that is not found judges by a later moment.
        let now = self.past(kept);
        Dead { now, views: views.moments() }
    }
}

/// Judges for one job which entries have expired for everybody.
#[derive(Debug, Clone)]
pub struct Dead {
    now: Time,
    /// The views that live, and the moments they judge by.
    views: Vec<(Seq, Time)>,
}

/// Nothing has.
impl Default for Dead {
    fn default() -> Self {
        Self { now: Time::BEFORE_ALL, views: Vec::new() }
    }
}

impl Dead {
    /// Whether an entry of commit `seq` has.
    #[inline]
    pub fn is_dead(&self, seq: Seq, expiry: Expiry) -> bool {
        expiry.is_over(self.now)
            && self.views.iter().all(|(view, moment)| *view < seq || expiry.is_over(*moment))
    }

    /// What expires up to this moment has expired for everybody, whatever its number.
    pub fn all_until(&self) -> Time {
        self.views.iter().fold(self.now, |least, (_, moment)| least.min(*moment))
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::vfs::SimulatedVfs;

    #[test]
    fn time_never_goes_back_and_goes_on_where_the_clock_did() {
        let disk = SimulatedVfs::new(1);
        let seconds = Duration::from_secs;
        disk.set_wall_clock(seconds(1_000));
        let clock = Lifetimes::new(Arc::new(disk.clone()), Time(0), true);
        assert_eq!(clock.now().0 / 1000, 1_000);
        disk.advance_clock(seconds(50));
        assert_eq!(clock.now().0 / 1000, 1_050);
        disk.set_wall_clock(seconds(10));
        assert_eq!(clock.now().0 / 1000, 1_050);
        disk.advance_clock(seconds(7));
        assert_eq!(clock.now().0 / 1000, 1_057);
        disk.set_wall_clock(seconds(5_000));
        assert_eq!(clock.now().0 / 1000, 5_000);
        // Opened again, after a clock that went back.
        disk.set_wall_clock(seconds(20));
        let again = Lifetimes::new(Arc::new(disk.clone()), Time(5_000_000), true);
        assert_eq!(again.now().0 / 1000, 5_000);
        disk.advance_clock(seconds(3));
        assert_eq!(again.now().0 / 1000, 5_003);
        let end = Lifetimes::new(Arc::new(disk), Time::LATEST, true);
        assert_eq!(end.now(), Time::LATEST);
        assert_eq!(end.now().after(Expiry(5)), Expiry::LAST);
    }

    #[test]
    fn what_a_view_may_still_see_is_not_dead() {
        let dead = Dead { now: Time(100), views: vec![(Seq(5), Time(40)), (Seq(9), Time(70))] };
        let at = |seq, expiry| dead.is_dead(Seq(seq), Expiry(expiry));
        assert!(at(0, 40) && !at(0, 41) && !at(5, 41) && at(6, 70) && !at(6, 71));
        assert!(at(10, 100) && !at(10, 101) && !dead.is_dead(Seq(10), Expiry::NEVER));
        assert_eq!(dead.all_until(), Time(40));
        assert!(!Dead::default().is_dead(Seq(1), Expiry(1)));
    }
}
