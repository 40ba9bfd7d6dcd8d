//! How much of a partition only some views can see: what may go once these are gone.
//!
//! 1. Each share tells of entries that no view outside its span can see. Joining two shares widens
//!    the span, so this stays true.
//! 2. At most [`MAX_SHARES`] shares, by span, no two with the same one.

use crate::codec::{Malformed, Reader, put_varint};
use crate::types::Seq;

/// Views from a number on, up to another, exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ViewSpan {
    /// The lowest.
    pub from: Seq,
    /// Above the highest.
    pub below: Seq,
}

/// So many shares are told apart.
pub const MAX_SHARES: usize = 8;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Droppable(Vec<(ViewSpan, u64)>);

impl Droppable {
    /// Counts `bytes` more that only the views of `span` can see.
    pub fn note(&mut self, span: ViewSpan, bytes: u64) {
        debug_assert!(span.from < span.below);
        match self.0.binary_search_by_key(&span, |share| share.0) {
            Ok(at) => self.0[at].1 = self.0[at].1.saturating_add(bytes),
            Err(at) => self.0.insert(at, (span, bytes)),
        }
        if self.0.len() > MAX_SHARES {
            self.join_smallest();
        }
    }

    /// Joins the two neighbours that are smallest together.
    fn join_smallest(&mut self) {
        let sum = |at: &usize| self.0[*at].1.saturating_add(self.0[at + 1].1);
        let at = (0..self.0.len() - 1).min_by_key(sum).expect("more than two shares");
        let (second, more) = self.0.remove(at + 1);
        let (first, bytes) = self.0.remove(at);
        let from = first.from.min(second.from);
        let below = first.below.max(second.below);
        self.note(ViewSpan { from, below }, bytes.saturating_add(more));
    }

    /// Counts what another counts too, shrunk in proportion where that is more than `at_most`.
    pub fn carry_over(&mut self, other: &Self, at_most: u64) {
        let all = other.bytes();
        for (span, bytes) in &other.0 {
            let share = if all <= at_most {
                *bytes
            } else {
                (u128::from(*bytes) * u128::from(at_most) / u128::from(all)) as u64
            };
            if share > 0 {
                self.note(*span, share);
            }
        }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of it.
    pub fn bytes(&self) -> u64 {
        self.0.iter().fold(0, |sum, share| sum.saturating_add(share.1))
    }

    /// What nobody sees any more; `is_seen` tells whether there may be a view in a span.
    pub fn unseen(&self, is_seen: impl Fn(ViewSpan) -> bool) -> u64 {
        let unseen = self.0.iter().filter(|share| !is_seen(share.0));
        unseen.fold(0, |sum, share| sum.saturating_add(share.1))
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.0.len() as u64);
        for (span, bytes) in &self.0 {
            put_varint(out, span.from.0);
            put_varint(out, span.below.0 - span.from.0);
            put_varint(out, *bytes);
        }
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = r.varint()?;
        if count > MAX_SHARES as u64 {
            return Err(Malformed("too many shares of what may go"));
        }
        let mut shares: Vec<(ViewSpan, u64)> = Vec::new();
        for _ in 0..count {
            let from = r.varint()?;
            let length = r.varint()?;
            let below = from.checked_add(length).filter(|_| length > 0);
            let below = below.ok_or(Malformed("a span of views that is none"))?;
            let span = ViewSpan { from: Seq(from), below: Seq(below) };
            if shares.last().is_some_and(|last| last.0 >= span) {
                return Err(Malformed("shares of what may go out of order"));
            }
            shares.push((span, r.varint()?));
        }
        Ok(Self(shares))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(from: u64, below: u64) -> ViewSpan {
        ViewSpan { from: Seq(from), below: Seq(below) }
    }

    #[test]
    fn joined_shares_are_seen_by_every_view_that_saw_one_of_them() {
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..2_000 {
            let mut noted = Vec::new();
            let mut droppable = Droppable::default();
            for _ in 0..rng.usize(0..20) {
                let from = rng.u64(0..50);
                let share = (span(from, from + rng.u64(1..20)), rng.u64(1..100));
                droppable.note(share.0, share.1);
                noted.push(share);
            }
            assert!(droppable.0.len() <= MAX_SHARES);
            assert_eq!(droppable.bytes(), noted.iter().map(|share| share.1).sum::<u64>());
            let view = Seq(rng.u64(0..70));
            let is_seen = |s: ViewSpan| s.from <= view && view < s.below;
            let truly: u64 = noted.iter().filter(|s| !is_seen(s.0)).map(|s| s.1).sum();
            let unseen = droppable.unseen(is_seen);
            assert!(unseen <= truly);
            if noted.len() <= MAX_SHARES {
                assert_eq!(unseen, truly);
            }
            let mut out = Vec::new();
            droppable.encode(&mut out);
            assert_eq!(Droppable::decode(&mut Reader::new(&out)).expect("decodes"), droppable);
        }
    }

    #[test]
    fn no_more_is_carried_over_than_is_kept() {
        let mut old = Droppable::default();
        old.note(span(0, 4), 300);
        old.note(span(4, 9), 100);
        let mut new = Droppable::default();
        new.carry_over(&old, 1000);
        assert_eq!(new, old);
        let mut less = Droppable::default();
        less.carry_over(&old, 40);
        assert_eq!((less.bytes(), less.unseen(|s| s.from == Seq(0))), (40, 10));
        less.carry_over(&old, 0);
        assert_eq!(less.bytes(), 40);
    }

    #[test]
    fn what_is_not_a_list_of_shares_is_refused() {
        for bad in [&[9][..], &[1, 3, 0, 5], &[2, 3, 1, 5, 3, 1, 5], &[1, 3]] {
            assert!(Droppable::decode(&mut Reader::new(bad)).is_err(), "{bad:?}");
        }
        assert!(Droppable::decode(&mut Reader::new(&[1, 3, 1, 5])).is_ok());
    }
}
