//! Which versions of a key a flush or merge keeps.
//!
//! Given the floor (a number that was visible when the job began) and the live views at or below
//! it, of each key's versions, newest first:
//!
//! 1. every version above the floor is kept;
//! 2. of the rest, the newest at or below the floor and at or below each live view;
//! 3. a kept version at or below the lowest of these is *settled*: its number becomes 0, and every
//!    older version goes;
//! 4. a settled tombstone goes too where nothing older can lie below the job's inputs;
//! 5. what has expired for everybody (see `lifetimes`) is a tombstone.
//!
//! Of what is kept only for some views, or only until a tombstone settles, it is told which views
//! these can be: once none of them is left, it is of no more use.

use crate::manifest::{Droppable, ViewSpan};
use crate::store::lifetimes::Dead;
use crate::types::{Entry, Seq, Time};

/// The rule for one job.
#[derive(Debug, Clone)]
pub struct Retention {
    /// The floor and the live views below it, highest first, no duplicates.
    bounds: Vec<Seq>,
    dead: Dead,
}

/// What becomes of one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Left out.
    Drop,
    /// Kept.
    Keep {
        /// The number to store: 0 when settled.
        seq: Seq,
        /// The views that it is of use to; `None` if later ones, without an end, are among them.
        seen_by: Option<ViewSpan>,
    },
}

/// The views that there are, and may come to be.
#[derive(Debug, Clone)]
pub struct LiveViews {
    /// A view may be opened at this number or any above.
    pub open_from: Seq,
    /// The numbers of those that live, in order.
    pub live: Vec<Seq>,
    /// What expires up to this moment has expired for all of them.
    pub expired: Time,
}

impl LiveViews {
    /// Whether there is, or may come to be, a view in `span`.
    pub fn is_seen(&self, span: ViewSpan) -> bool {
        span.below > self.open_from
            || self.live.iter().any(|view| span.from <= *view && *view < span.below)
    }

    /// The bytes that nobody sees any more.
    pub fn unseen(&self, droppable: &Droppable) -> u64 {
        droppable.unseen(|span| self.is_seen(span))
    }
}

/// Judges the versions of one key, newest first.
#[derive(Debug)]
pub struct KeyRetention<'a> {
    bounds: &'a [Seq],
    next_bound: usize,
    newer: Option<Seq>,
    settled: bool,
}

impl Retention {
    /// The rule for `floor` and `views` (any order; those above the floor are covered by rule 1).
    pub fn new(floor: Seq, views: &[Seq]) -> Self {
        let mut bounds: Vec<Seq> = views.iter().copied().filter(|v| *v <= floor).collect();
        bounds.push(floor);
        bounds.sort_unstable_by(|a, b| b.cmp(a));
        bounds.dedup();
        Self { bounds, dead: Dead::default() }
    }

    /// The same, with what has expired for everybody taken for tombstones.
    #[must_use]
    pub fn with(mut self, dead: Dead) -> Self {
        self.dead = dead;
        self
    }

    /// Whether an entry of commit `seq` deletes its key as far as anybody can see.
    #[inline]
    pub fn is_tombstone(&self, seq: Seq, entry: &Entry<'_>) -> bool {
        entry.value.is_tombstone() || self.dead.is_dead(seq, entry.expiry)
    }

    /// What expires up to this moment is taken for tombstones, whatever its number.
    pub fn expired(&self) -> Time {
        self.dead.all_until()
    }

    /// The floor and the live views below it, highest first, no duplicates.
    pub fn bounds(&self) -> &[Seq] {
        &self.bounds
    }

    /// Every view sees what is at or below this.
    pub fn lowest(&self) -> Seq {
        self.bounds.last().copied().unwrap_or(Seq(0))
    }

    /// Whether a commit is settled: nobody reads at less, nor will.
    pub fn settles(&self, seq: Seq) -> bool {
        seq <= self.lowest()
    }

    /// Starts with the newest version of a key.
    pub fn key(&self) -> KeyRetention<'_> {
        KeyRetention { bounds: &self.bounds, next_bound: 0, newer: None, settled: false }
    }
}

impl KeyRetention<'_> {
    /// Whether the next older version is seen by the same views as the one judged last, at the most: by
    /// none, unless that one needs it.
    pub fn is_of_last_bound(&self, seq: Seq) -> bool {
        seq <= self.bounds[0]
            && self.next_bound > 0
            && (self.settled || self.bounds[self.next_bound] < seq)
    }

    /// The fate of the next older version; `at_bottom` says that nothing older lies below the
    /// job's inputs.
    pub fn judge(&mut self, seq: Seq, is_tombstone: bool, at_bottom: bool) -> Fate {
        if self.settled {
            return Fate::Drop;
        }
        let floor = self.bounds[0];
        let newer = self.newer;
        if seq > floor {
            self.newer = Some(seq);
            // Not from its own number on: spans should be few.
            let from = floor.next();
            return Fate::Keep { seq, seen_by: newer.map(|below| ViewSpan { from, below }) };
        }
        let open = &self.bounds[self.next_bound..];
        let served = open.iter().take_while(|b| **b >= seq).count();
        if served == 0 {
            return Fate::Drop;
        }
        // No view comes to stand between the bounds: past those served, nobody sees it. But where
        // the floor is served, so may views be that are opened later.
        let below = if self.next_bound == 0 { newer } else { Some(open[0].next()) };
        let mut seen_by = below.map(|below| ViewSpan { from: open[served - 1], below });
        self.next_bound += served;
        self.newer = Some(seq);
        if self.next_bound < self.bounds.len() {
            if is_tombstone && at_bottom && seen_by.is_none() {
                // It hides what older views still see.
                seen_by = Some(ViewSpan { from: Seq(0), below: seq });
            }
            return Fate::Keep { seq, seen_by };
        }
        self.settled = true;
        if is_tombstone && at_bottom {
            return Fate::Drop;
        }
        Fate::Keep { seq: Seq(0), seen_by }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a view at `at` sees of versions (newest first).
    fn seen(versions: &[(u64, bool)], at: u64) -> Option<(u64, bool)> {
        versions.iter().copied().find(|(s, _)| *s <= at)
    }

    #[test]
    fn no_view_sees_another_answer_after_a_merge() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let mut seqs: Vec<u64> = (0..rng.usize(1..8)).map(|_| rng.u64(1..30)).collect();
            seqs.sort_unstable_by(|a, b| b.cmp(a));
            seqs.dedup();
            let versions: Vec<(u64, bool)> = seqs.iter().map(|s| (*s, rng.bool())).collect();
            let floor = rng.u64(0..32);
            let views: Vec<Seq> = (0..rng.usize(0..4)).map(|_| Seq(rng.u64(0..=floor))).collect();
            let bottom = rng.bool();
            let rule = Retention::new(Seq(floor), &views);
            let mut key = rule.key();
            let (mut kept, mut spans) = (Vec::new(), Vec::new());
            for (s, t) in &versions {
                if let Fate::Keep { seq, seen_by } = key.judge(Seq(*s), *t, bottom) {
                    kept.push((seq.0, *t));
                    spans.push(seen_by);
                }
            }
            let observers = views.iter().map(|v| v.0).chain(floor..33);
            for at in observers {
                let before = seen(&versions, at).filter(|(_, t)| !t);
                let after = seen(&kept, at).filter(|(_, t)| !t);
                assert_eq!(before.is_some(), after.is_some(), "{versions:?} {kept:?} {at}");
                if let (Some(b), Some(a)) = (before, after) {
                    assert!(a.0 == b.0 || a.0 == 0);
                }
                if !bottom {
                    // An older row below must stay hidden.
                    assert_eq!(seen(&versions, at).is_some(), seen(&kept, at).is_some());
                }
            }
            // Once nobody is left in the spans, what they tell of is missed by nobody: the floor is
            // past them all then, and so is every view but those that are still held.
            for held in 0..=views.len() {
                let held = &views[..held];
                let open_from = rng.u64(floor..40);
                let live = LiveViews {
                    open_from: Seq(open_from),
                    live: held.to_vec(),
                    expired: Time::BEFORE_ALL,
                };
                let rest = kept.iter().zip(&spans);
                let rest = rest.filter(|(_, span)| span.is_none_or(|s| live.is_seen(s)));
                let rest: Vec<_> = rest.map(|(version, _)| *version).collect();
                for at in held.iter().map(|v| v.0).chain(open_from..41) {
                    let before = seen(&kept, at).filter(|(_, t)| !t);
                    let after = seen(&rest, at).filter(|(_, t)| !t);
                    assert_eq!(before, after, "{versions:?} {kept:?} {spans:?} {at}");
                }
            }
            // Nothing is kept for nobody.
            let useful = rule.bounds.len() + versions.iter().filter(|(s, _)| *s > floor).count();
            assert!(kept.len() <= useful);
        }
    }

    #[test]
    fn a_commit_is_settled_once_nobody_reads_at_less() {
        let held = Retention::new(Seq(10), &[Seq(12), Seq(3), Seq(7)]);
        assert!(held.settles(Seq(3)) && !held.settles(Seq(4)));
        let free = Retention::new(Seq(10), &[]);
        assert!(free.settles(Seq(10)) && !free.settles(Seq(11)));
    }

    #[test]
    fn settled_tombstones_go_only_at_the_bottom() {
        let rule = Retention::new(Seq(10), &[]);
        assert_eq!(rule.key().judge(Seq(5), true, true), Fate::Drop);
        assert_eq!(
            rule.key().judge(Seq(5), true, false),
            Fate::Keep { seq: Seq(0), seen_by: None }
        );
        let held = Retention::new(Seq(10), &[Seq(3)]);
        assert_eq!(
            held.key().judge(Seq(5), true, true),
            Fate::Keep { seq: Seq(5), seen_by: Some(ViewSpan { from: Seq(0), below: Seq(5) }) }
        );
    }
}
