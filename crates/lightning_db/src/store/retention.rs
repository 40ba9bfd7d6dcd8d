//! Which versions of a key a flush or merge keeps.
//!
//! Given the floor (a number that was visible when the job began) and the live views at or below
//! it, of each key's versions, newest first:
//!
//! 1. every version above the floor is kept;
//! 2. of the rest, the newest at or below the floor and at or below each live view;
//! 3. a kept version at or below the lowest of these is *settled*: its number becomes 0, and every
//!    older version goes;
//! 4. a settled tombstone goes too where nothing older can lie below the job's inputs.
//!
//! What is kept only for a view, or only until a tombstone settles, is reported as droppable, with
//! the number that every view must have passed before it can go.

use crate::types::Seq;

/// The rule for one job.
#[derive(Debug, Clone)]
pub struct Retention {
    /// The floor and the live views below it, highest first, no duplicates.
    bounds: Vec<Seq>,
}

/// What becomes of one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Left out.
    Drop,
    /// Kept with this number; `droppable_after` tells when it could go.
    Keep {
        /// The number to store: 0 when settled.
        seq: Seq,
        /// Once no view is older than this, the version is of no more use.
        droppable_after: Option<Seq>,
    },
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
        Self { bounds }
    }

    /// Starts with the newest version of a key.
    pub fn key(&self) -> KeyRetention<'_> {
        KeyRetention { bounds: &self.bounds, next_bound: 0, newer: None, settled: false }
    }
}

impl KeyRetention<'_> {
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
            return Fate::Keep { seq, droppable_after: newer };
        }
        let open = &self.bounds[self.next_bound..];
        let served = open.iter().take_while(|b| **b >= seq).count();
        if served == 0 {
            return Fate::Drop;
        }
        self.next_bound += served;
        self.newer = Some(seq);
        if self.next_bound < self.bounds.len() {
            let after = newer.or((is_tombstone && at_bottom).then_some(seq));
            return Fate::Keep { seq, droppable_after: after };
        }
        self.settled = true;
        if is_tombstone && at_bottom {
            return Fate::Drop;
        }
        Fate::Keep { seq: Seq(0), droppable_after: newer }
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
            let mut kept = Vec::new();
            for (s, t) in &versions {
                if let Fate::Keep { seq, .. } = key.judge(Seq(*s), *t, bottom) {
                    kept.push((seq.0, *t));
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
            // Nothing is kept for nobody.
            let useful = rule.bounds.len() + versions.iter().filter(|(s, _)| *s > floor).count();
            assert!(kept.len() <= useful);
        }
    }

    #[test]
    fn settled_tombstones_go_only_at_the_bottom() {
        let rule = Retention::new(Seq(10), &[]);
        assert_eq!(rule.key().judge(Seq(5), true, true), Fate::Drop);
        assert_eq!(
            rule.key().judge(Seq(5), true, false),
            Fate::Keep { seq: Seq(0), droppable_after: None }
        );
        let held = Retention::new(Seq(10), &[Seq(3)]);
        assert_eq!(
            held.key().judge(Seq(5), true, true),
            Fate::Keep { seq: Seq(5), droppable_after: Some(Seq(5)) }
        );
    }
}
