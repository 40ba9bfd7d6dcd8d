//! The registry of read views: which commit numbers are being read at, and the *floor* below which
//! merges may already have dropped versions.
//!
//! Invariants. (1) A view never reads below the floor that stood when it was registered. (2) After
//! `raise_floor(f)` returned a list, every view that lives, then or later, is in the list or at `f`
//! or above. (3) The floor never falls, and never passes the visible number. So a merge that keeps
//! everything above `f`, and of each key the newest version at or below `f` and at or below each
//! listed view, takes nothing from anybody.
//!
//! Proof of (2). A reader (R1) publishes its number in a slot, (R2) fences, (R3) loads the floor,
//! and publishes a newer number if its own is below; a merge (M1) raises the floor, (M2) fences,
//! (M3) loads the slots. Both fences are `SeqCst`, so one comes first. If R2 does, M3 sees R1's
//! store or a later one to that slot: the view's own newer number (for which the argument holds
//! anew), or proof that the view is gone. If M2 does, R3 sees `f` or more, and the reader does not
//! settle below it. Views that find no slot go to a map behind a latch and read the floor while
//! they hold it: a merge that looked before them raised the floor before that.
//!
//! Threads: any; registering takes no latch while slots are free.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::sync::Arc;
use crate::types::{Seq, Time};

use primitives::{AtomicU64, Mutex, Ordering, fence};

/// Atomics of the standard library, of shuttle (by way of `sync`), or of loom.
#[cfg(not(loom))]
mod primitives {
    pub use crate::sync::Mutex;
    pub use crate::sync::atomic::{AtomicU64, Ordering, fence};
}

#[cfg(loom)]
mod primitives {
    pub use loom::sync::atomic::{AtomicU64, Ordering, fence};

    #[derive(Debug)]
    pub struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(|e| e.into_inner())
        }
    }
}

/// Slots of a registry.
const SLOTS: usize = 256;
/// How many slots a reader tries before it goes to the overflow map.
const PROBES: usize = 32;
/// A start time not (yet) told: the view counts as just begun.
const UNTIMED: u64 = u64::MAX;

/// One view's number, on a cache line of its own.
#[repr(align(64))]
struct Slot {
    /// 0: free; otherwise the view's number + 1.
    published: AtomicU64,
    /// When the view began, in nanoseconds of the monotonic clock, or [`UNTIMED`]. Reset before
    /// the slot is freed, so that nobody's age is reckoned from the owner before.
    since_nanos: AtomicU64,
    /// The moment by which the view judges what has expired; 0 until it is told. Reset as the start is.
    moment: AtomicU64,
}

/// The views that found no slot.
#[derive(Default)]
struct Overflow {
    /// (number, ticket) to the start time and the moment.
    views: BTreeMap<(u64, u64), (u64, u64)>,
    next_ticket: u64,
}

/// Where a view's number is published.
#[derive(Clone, Copy, Debug)]
enum Place {
    Slot(usize),
    Overflow { ticket: u64 },
}

/// All live read views of one database, and the floor.
pub struct ViewRegistry {
    floor: AtomicU64,
    slots: Box<[Slot]>,
    overflow: Mutex<Overflow>,
}

impl ViewRegistry {
    /// An empty registry; `floor` is the durable floor of the database. The visible number that
    /// [`register`](Self::register) is given must never be below it.
    pub fn new(floor: Seq) -> Self {
        Self::with_slots(floor, SLOTS)
    }

    /// As [`new`](Self::new), with a say in how many slots there are.
    pub(crate) fn with_slots(floor: Seq, slots: usize) -> Self {
        let slots = (0..slots)
            .map(|_| Slot {
                published: AtomicU64::new(0),
                since_nanos: AtomicU64::new(UNTIMED),
                moment: AtomicU64::new(0),
            })
            .collect();
        Self { floor: AtomicU64::new(floor.0), slots, overflow: Mutex::new(Overflow::default()) }
    }

    /// Begins a view at the newest visible number; `now` is the monotonic clock. The caller loads
    /// the version it reads from *after* this returns.
    pub fn register(
        self: &Arc<Self>,
        visible: &crate::sync::atomic::AtomicU64,
        now: Duration,
    ) -> View {
        let load = || visible.load(crate::sync::atomic::Ordering::Acquire);
        let (place, seq) = self.publish(load, nanos(now));
        View { registry: Arc::clone(self), place, seq: Seq(seq), moment: Time::BEFORE_ALL }
    }

    /// As [`register`](Self::register), for a read that ends before this call's caller does: counts
    /// no references and asks no clock (the view's age is always zero).
    #[cfg(test)]
    pub fn enter(&self, visible: &crate::sync::atomic::AtomicU64) -> ShortView<'_> {
        let load = || visible.load(crate::sync::atomic::Ordering::Acquire);
        let (place, seq) = self.publish(load, UNTIMED);
        ShortView { registry: self, place, seq: Seq(seq) }
    }

    /// Begins a view at `seq`, which the caller has seen to be visible; `None` where that moment is
    /// below the floor. The proof is that of (2): the number is published before the floor is read,
    /// and taken back where it is below.
    pub fn register_at(self: &Arc<Self>, seq: Seq, now: Duration) -> Option<View> {
        let place = match self.claim(seq.0) {
            Some(index) => {
                self.slots[index].since_nanos.store(nanos(now), Ordering::Relaxed);
                fence(Ordering::SeqCst); // R2
                Place::Slot(index)
            }
            None => {
                let mut overflow = self.overflow.lock();
                let ticket = overflow.next_ticket;
                overflow.next_ticket += 1;
                overflow.views.insert((seq.0, ticket), (nanos(now), 0));
                Place::Overflow { ticket }
            }
        };
        // A merge that looked into the overflow map before had raised the floor before that.
        let view = View { registry: Arc::clone(self), place, seq, moment: Time::BEFORE_ALL };
        (seq >= self.floor()).then_some(view)
    }

    /// Lets merges drop what only views below `to` could see, and returns the numbers of the views
    /// that live, in order and without repeats (some may be below `to`: they began earlier, and
    /// must be served). `to` must not be above the visible number as the caller has read it.
    pub fn raise_floor(&self, to: Seq) -> Vec<Seq> {
        self.floor.fetch_max(to.0, Ordering::AcqRel);
        fence(Ordering::SeqCst); // M2
        self.live()
    }

    /// The numbers of the views that live, in order and without repeats. For choosing work: one
    /// that is just being registered may be left out.
    pub fn live(&self) -> Vec<Seq> {
        let mut live = Vec::new();
        self.for_each(|seq, _, _| live.push(Seq(seq)));
        live.sort_unstable();
        live.dedup();
        live
    }

    /// The views that live, with the moments they judge by. Every other view that lives then or later
    /// is told its moment after this has looked for it.
    pub fn moments(&self) -> Vec<(Seq, Time)> {
        fence(Ordering::SeqCst); // as M2
        let mut live = Vec::new();
        self.for_each(|seq, _, moment| live.push((Seq(seq), Time(moment))));
        live
    }

    /// The floor: no new view will be below it.
    pub fn floor(&self) -> Seq {
        Seq(self.floor.load(Ordering::Acquire))
    }

    /// The lowest view's number, and how long it has lived at `now` (the longest, if several are
    /// at that number). For reports: a view that ends meanwhile may still be named.
    pub fn oldest(&self, now: Duration) -> Option<(Seq, Duration)> {
        let mut oldest: Option<(u64, u64)> = None;
        self.for_each(|seq, since, _| {
            oldest = Some(oldest.map_or((seq, since), |o| o.min((seq, since))));
        });
        oldest
            .map(|(seq, since)| (Seq(seq), Duration::from_nanos(nanos(now).saturating_sub(since))))
    }

    /// How many views live.
    pub fn count(&self) -> usize {
        let mut n = 0;
        self.for_each(|_, _, _| n += 1);
        n
    }

    fn for_each(&self, mut visit: impl FnMut(u64, u64, u64)) {
        for slot in &self.slots {
            // Acquire: what a view that is gone has read, it read before we drop it.
            let published = slot.published.load(Ordering::Acquire);
            if published != 0 {
                let since = slot.since_nanos.load(Ordering::Relaxed);
                visit(published - 1, since, slot.moment.load(Ordering::Relaxed));
            }
        }
        for (&(seq, _), &(since, moment)) in &self.overflow.lock().views {
            visit(seq, since, moment);
        }
    }

    fn publish(&self, visible: impl Fn() -> u64, since_nanos: u64) -> (Place, u64) {
        let mut seq = visible();
        let Some(index) = self.claim(seq) else { return self.overflow(visible, since_nanos) };
        let slot = &self.slots[index]; // R1 happened in `claim`
        slot.since_nanos.store(since_nanos, Ordering::Relaxed);
        loop {
            fence(Ordering::SeqCst); // R2
            let floor = self.floor.load(Ordering::Acquire); // R3
            if seq >= floor {
                return (Place::Slot(index), seq);
            }
            // Who raised the floor had seen a visible number at or above it, so we see one too.
            seq = visible();
            assert!(seq >= floor, "the floor {floor} is above the visible number {seq}");
            slot.published.store(seq + 1, Ordering::Release); // R1 again
        }
    }

    /// Publishes `seq` in a free slot, beginning with the one this thread had last.
    fn claim(&self, seq: u64) -> Option<usize> {
        let n = self.slots.len();
        let start = hint::get();
        for probe in 0..n.min(PROBES) {
            let index = (start + probe) % n;
            let published = &self.slots[index].published;
            // Acquire pairs with the release in `leave`: the reset start time comes with it.
            if published.load(Ordering::Relaxed) == 0
                && published
                    .compare_exchange(0, seq + 1, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
            {
                if probe != 0 {
                    hint::set(index);
                }
                return Some(index);
            }
        }
        None
    }

    fn overflow(&self, visible: impl Fn() -> u64, since_nanos: u64) -> (Place, u64) {
        let mut overflow = self.overflow.lock();
        let floor = self.floor.load(Ordering::Acquire);
        let seq = visible();
        assert!(seq >= floor, "the floor {floor} is above the visible number {seq}");
        let ticket = overflow.next_ticket;
        overflow.next_ticket += 1;
        overflow.views.insert((seq, ticket), (since_nanos, 0));
        (Place::Overflow { ticket }, seq)
    }

    fn leave(&self, place: Place, seq: Seq) {
        match place {
            Place::Slot(index) => {
                let slot = &self.slots[index];
                slot.since_nanos.store(UNTIMED, Ordering::Relaxed);
                slot.moment.store(0, Ordering::Relaxed);
                slot.published.store(0, Ordering::Release);
            }
            Place::Overflow { ticket } => {
                let gone = self.overflow.lock().views.remove(&(seq.0, ticket));
                debug_assert!(gone.is_some(), "a view left the overflow map twice");
            }
        }
    }
}

impl fmt::Debug for ViewRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ViewRegistry").field("floor", &self.floor()).finish_non_exhaustive()
    }
}

/// A live view: nothing that a reader at [`seq`](Self::seq) can see is dropped by merges until
/// this is. May be kept for long and moved between threads.
pub struct View {
    registry: Arc<ViewRegistry>,
    place: Place,
    seq: Seq,
    moment: Time,
}

impl View {
    /// The view, judging by `moment` what has expired. The clock is read after the view was made;
    /// until this is called merges take nothing for expired that the view may see. A view that no entry
    /// concerns which expires judges by [`Time::BEFORE_ALL`], and holds nothing up.
    #[must_use]
    pub fn judging_by(mut self, moment: Time) -> Self {
        self.moment = moment;
        let told = if moment == Time::BEFORE_ALL { Time::LATEST } else { moment };
        match self.place {
            Place::Slot(index) => {
                self.registry.slots[index].moment.store(told.0, Ordering::Relaxed);
            }
            Place::Overflow { ticket } => {
                let mut overflow = self.registry.overflow.lock();
                if let Some(view) = overflow.views.get_mut(&(self.seq.0, ticket)) {
                    view.1 = told.0;
                }
            }
        }
        self
    }

    /// The moment by which it judges what has expired.
    pub fn moment(&self) -> Time {
        self.moment
    }

    /// The number of the newest commit that the view sees.
    pub fn seq(&self) -> Seq {
        self.seq
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.registry.leave(self.place, self.seq);
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("seq", &self.seq).finish_non_exhaustive()
    }
}

/// A [`View`] for the length of one call; see [`ViewRegistry::enter`].
#[cfg(test)]
pub struct ShortView<'a> {
    registry: &'a ViewRegistry,
    place: Place,
    seq: Seq,
}

#[cfg(test)]
impl ShortView<'_> {
    /// The number of the newest commit that the view sees.
    #[cfg(test)]
    pub fn seq(&self) -> Seq {
        self.seq
    }
}

#[cfg(test)]
impl Drop for ShortView<'_> {
    fn drop(&mut self) {
        self.registry.leave(self.place, self.seq);
    }
}

#[cfg(test)]
impl fmt::Debug for ShortView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShortView").field("seq", &self.seq).finish_non_exhaustive()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(UNTIMED - 1).min(UNTIMED - 1)
}

/// The slot a thread tries first: the last it got, at the beginning one far from other threads'.
/// Only a hint, so it is shared by all registries.
#[cfg(not(any(loom, shuttle)))]
mod hint {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicUsize, Ordering};

    static THREADS: AtomicUsize = AtomicUsize::new(0);

    thread_local! {
        static SLOT: Cell<usize> =
            Cell::new(THREADS.fetch_add(1, Ordering::Relaxed).wrapping_mul(37) % super::SLOTS);
    }

    pub fn get() -> usize {
        // A thread that is ending has no locals any more; any slot will do.
        SLOT.try_with(Cell::get).unwrap_or(0)
    }

    pub fn set(slot: usize) {
        let _ = SLOT.try_with(|s| s.set(slot));
    }
}

/// Schedule checkers need every run to depend on the schedule alone.
#[cfg(any(loom, shuttle))]
mod hint {
    pub fn get() -> usize {
        0
    }

    pub fn set(_slot: usize) {}
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::sync::atomic::AtomicU64;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_view_is_listed_while_it_lives() {
        let registry = Arc::new(ViewRegistry::new(Seq(0)));
        let visible = AtomicU64::new(5);
        let a = registry.register(&visible, at(1));
        visible.store(9, Ordering::Release);
        let b = registry.register(&visible, at(2));
        let c = registry.register(&visible, at(3));
        let d = registry.enter(&visible);
        assert_eq!((a.seq(), b.seq(), c.seq(), d.seq()), (Seq(5), Seq(9), Seq(9), Seq(9)));
        assert_eq!(registry.count(), 4);
        assert_eq!(registry.raise_floor(Seq(9)), [Seq(5), Seq(9)]);
        assert_eq!(registry.floor(), Seq(9));
        drop(d);
        drop(a);
        assert_eq!(registry.raise_floor(Seq(7)), [Seq(9)]);
        assert_eq!(registry.floor(), Seq(9), "the floor never falls");
        drop((b, c));
        assert_eq!(registry.raise_floor(Seq(9)), []);
        assert_eq!(registry.count(), 0);
    }

    #[test]
    fn the_oldest_view_is_told_with_its_age() {
        for slots in [0, 8] {
            let registry = Arc::new(ViewRegistry::with_slots(Seq(0), slots));
            let visible = AtomicU64::new(3);
            assert_eq!(registry.oldest(at(10)), None);
            let a = registry.register(&visible, at(10));
            let b = registry.register(&visible, at(12));
            visible.store(4, Ordering::Release);
            let _c = registry.register(&visible, at(11));
            assert_eq!(registry.oldest(at(15)), Some((Seq(3), at(5))), "{slots} slots");
            drop(a);
            assert_eq!(registry.oldest(at(15)), Some((Seq(3), at(3))), "{slots} slots");
            drop(b);
            assert_eq!(registry.oldest(at(15)), Some((Seq(4), at(4))), "{slots} slots");
        }
    }

    #[test]
    fn a_reused_slot_does_not_inherit_an_age() {
        let registry = Arc::new(ViewRegistry::with_slots(Seq(0), 1));
        let visible = AtomicU64::new(3);
        drop(registry.register(&visible, at(1)));
        let _short = registry.enter(&visible);
        assert_eq!(registry.oldest(at(50)), Some((Seq(3), Duration::ZERO)));
    }

    #[test]
    fn more_views_than_slots_are_all_kept() {
        let registry = Arc::new(ViewRegistry::new(Seq(0)));
        let visible = AtomicU64::new(0);
        let mut views = Vec::new();
        for seq in 1..=2000 {
            visible.store(seq, Ordering::Release);
            views.push(registry.register(&visible, at(0)));
        }
        assert_eq!(registry.count(), 2000);
        let all: Vec<Seq> = (1..=2000).map(Seq).collect();
        assert_eq!(registry.raise_floor(Seq(2000)), all);
        fastrand::Rng::with_seed(7).shuffle(&mut views);
        views.truncate(500);
        let mut kept: Vec<Seq> = views.iter().map(View::seq).collect();
        kept.sort_unstable();
        assert_eq!(registry.raise_floor(Seq(2000)), kept);
        drop(views);
        assert_eq!(registry.count(), 0);
    }

    #[test]
    fn views_may_be_moved_between_threads() {
        fn check<T: Send + Sync + 'static>(_: &T) {}
        let registry = Arc::new(ViewRegistry::new(Seq(0)));
        let view = registry.register(&AtomicU64::new(1), at(0));
        check(&view);
        std::thread::spawn(move || drop(view)).join().unwrap();
        assert_eq!(registry.count(), 0);
    }

    /// A "database" of one key, every commit a version: the merge drops what the registry lets
    /// it, readers must find theirs.
    #[test]
    fn no_reader_loses_its_version_under_real_threads() {
        use std::sync::atomic::AtomicBool;
        const COMMITS: u64 = 20_000;
        let registry = Arc::new(ViewRegistry::with_slots(Seq(0), 2)); // overflow is used too
        let visible = AtomicU64::new(0);
        let alive: Vec<AtomicBool> = (0..=COMMITS).map(|_| AtomicBool::new(true)).collect();
        let reads = AtomicU64::new(0);
        std::thread::scope(|s| {
            for _ in 0..3 {
                s.spawn(|| {
                    while visible.load(Ordering::Acquire) < COMMITS {
                        let view = registry.register(&visible, at(0));
                        for _ in 0..20 {
                            assert!(alive[view.seq().0 as usize].load(Ordering::Acquire));
                        }
                        reads.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let mut dropped_to = 0;
            for seq in 1..=COMMITS {
                visible.store(seq, Ordering::Release);
                let keep = registry.raise_floor(Seq(seq));
                for old in dropped_to..seq {
                    if keep.binary_search(&Seq(old)).is_err() {
                        alive[old as usize].store(false, Ordering::Release);
                    }
                }
                dropped_to = keep.first().map_or(seq, |s| s.0.min(seq));
                if seq % 64 == 0 {
                    std::thread::yield_now();
                }
            }
        });
        assert!(reads.load(Ordering::Relaxed) > 0);
        assert_eq!(registry.count(), 0);
    }
}

/// Every interleaving (of three threads: those with up to three preemptions), and every value that
/// the memory model lets a load see. Run by `.ci/models`.
///
/// Seen to fail, one at a time, without fence R2, without fence M2, without looking at the floor
/// again, with the floor read before the overflow latch is taken, and with a relaxed store in
/// `leave`.
#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::thread;

    /// Commit 2 becomes visible and a merge raises the floor to it while `readers` begin views.
    fn merge_against_readers(slots: usize, readers: usize) {
        let mut model = loom::model::Builder::new();
        if readers > 1 {
            model.preemption_bound = Some(3); // without it: two minutes, also green
        }
        let name = format!("a merge, {readers} readers, {slots} slots");
        crate::sync::counted(model, &name, move || {
            let registry = std::sync::Arc::new(ViewRegistry::with_slots(Seq(0), slots));
            let visible = std::sync::Arc::new(AtomicU64::new(1));
            let readers: Vec<_> = (0..readers)
                .map(|_| {
                    let (registry, visible) = (registry.clone(), visible.clone());
                    thread::spawn(move || {
                        registry.publish(|| visible.load(Ordering::Acquire), UNTIMED)
                    })
                })
                .collect();
            visible.store(2, Ordering::Release);
            let seen = registry.raise_floor(Seq(2));
            // The views outlive the merge: nobody has left yet.
            for reader in readers {
                let (place, seq) = reader.join().unwrap();
                assert!(
                    seq >= 2 || seen.contains(&Seq(seq)),
                    "a merge with floor 2 saw {seen:?}, but a view at {seq} lives"
                );
                registry.leave(place, Seq(seq));
            }
            assert_eq!(registry.count(), 0);
        });
    }

    #[test]
    fn a_merge_sees_a_view_or_the_view_is_at_the_floor() {
        merge_against_readers(1, 1);
    }

    #[test]
    fn two_readers_that_compete_for_one_slot_are_both_seen() {
        merge_against_readers(1, 2);
    }

    #[test]
    fn a_merge_sees_a_view_in_the_overflow_map() {
        merge_against_readers(0, 1);
    }

    /// A reader that left is not waited for, and its reads came before the merge's deletions.
    #[test]
    fn what_a_gone_view_read_was_read_before_it_is_dropped() {
        let model = loom::model::Builder::new();
        crate::sync::counted(model, "a view that is gone", || {
            let registry = std::sync::Arc::new(ViewRegistry::with_slots(Seq(0), 1));
            let visible = std::sync::Arc::new(AtomicU64::new(1));
            let version = std::sync::Arc::new(loom::cell::UnsafeCell::new(1));
            let reader = {
                let (registry, visible, version) =
                    (registry.clone(), visible.clone(), version.clone());
                thread::spawn(move || {
                    let load = || visible.load(Ordering::Acquire);
                    let (place, seq) = registry.publish(load, UNTIMED);
                    if seq == 1 {
                        version.with(|_| ()); // loom reports a race with the deletion
                    }
                    registry.leave(place, Seq(seq));
                })
            };
            visible.store(2, Ordering::Release);
            if !registry.raise_floor(Seq(2)).contains(&Seq(1)) {
                version.with_mut(|_| ()); // dropped
            }
            reader.join().unwrap();
        });
    }
}
