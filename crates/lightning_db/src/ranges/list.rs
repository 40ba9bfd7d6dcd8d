//! Range deletes as a run has them: ranges sorted by key that do not overlap, each with the numbers
//! that any view may still have to tell apart, highest first. Found through a tree over their ends.
//!
//! 1. A number 0 is *settled*: every view sees that range delete.
//! 2. Neighbours that touch differ in their numbers: else they are one.
//! 3. A list never changes. Built from range deletes in the order of their age, by the rule
//!    of merges (`store/retention.rs`): only the newest number at or below each bound is kept, so that many range deletes over one key make no long list.

use std::sync::Arc;

use super::{Fragment, Key, KeyRef, RangeMap, Stretch, is_before};
use crate::types::Seq;

/// So many neighbours are joined to a stretch, at most; settled ones are one already.
const NEIGHBOURS: usize = 64;

/// One range of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListFragment {
    /// The first key inside.
    pub start: Key,
    /// The first key after it; `None`: every key from `start` on.
    pub end: Option<Key>,
    /// The range deletes, highest first; at least one.
    pub seqs: Box<[Seq]>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct RangeList {
    fragments: Vec<ListFragment>,
    /// Of each key the place of the fragment that it is in.
    places: RangeMap,
    /// Whether every view sees all of them: then `places` tells everything.
    is_settled: bool,
}

impl PartialEq for RangeList {
    fn eq(&self, other: &Self) -> bool {
        self.fragments == other.fragments
    }
}

impl RangeList {
    /// A list of fragments that keep the invariants, but that neighbours may be alike.
    pub fn new(fragments: impl IntoIterator<Item = ListFragment>) -> Self {
        let mut joined = Vec::new();
        for f in fragments {
            push(&mut joined, f);
        }
        Self::of(joined)
    }

    fn of(fragments: Vec<ListFragment>) -> Self {
        let ends = fragments.iter().enumerate().flat_map(|(i, f)| {
            let next = fragments.get(i + 1).map(|next| &next.start);
            let end = f.end.as_ref().filter(|end| Some(*end) != next);
            let end = end.map(|end| (&**end, None));
            std::iter::once((&*f.start, Some(i as u64))).chain(end)
        });
        let places = RangeMap::of_boundaries(ends);
        let is_settled = fragments.iter().all(|f| f.is_seen(Seq(0)));
        Self { fragments, places, is_settled }
    }

    /// What the range deletes come to. They are given from the oldest to the newest; `bounds` are the
    /// moments that matter, highest first (see `Retention`); of numbers above them each counts.
    pub fn build(deletes: impl IntoIterator<Item = Fragment>, bounds: &[Seq]) -> Self {
        let mut bounds = bounds.iter().rev().copied().peekable();
        let mut map = RangeMap::default();
        let mut last: Option<Seq> = None;
        // The maps as they were at each bound, and after each number above them.
        let mut maps: Vec<Vec<Fragment>> = Vec::new();
        for delete in deletes {
            debug_assert!(last.is_none_or(|l| l <= delete.seq), "from the oldest to the newest");
            if bounds.peek().is_some_and(|b| *b < delete.seq) {
                while bounds.peek().is_some_and(|b| *b < delete.seq) {
                    bounds.next();
                }
                maps.push(map.fragments());
            } else if bounds.peek().is_none() && last.is_some_and(|l| l < delete.seq) {
                maps.push(map.fragments());
            }
            last = Some(delete.seq);
            map = map.with(&delete.start, delete.end.as_deref(), delete.seq.0);
        }
        maps.push(map.fragments());
        Self::of_maps(&maps)
    }

    /// Lays maps over each other, the oldest first.
    fn of_maps(maps: &[Vec<Fragment>]) -> Self {
        let mut edges: Vec<Option<&Key>> =
            maps.iter().flatten().flat_map(|f| [Some(&f.start), f.end.as_ref()]).collect();
        // No end is behind all ends.
        edges.sort_unstable_by_key(|e| (e.is_none(), *e));
        edges.dedup();
        let mut at = vec![0; maps.len()];
        let mut list = Vec::new();
        for pair in edges.windows(2) {
            let (Some(start), end) = (pair[0], pair[1]) else { break };
            let mut seqs = Vec::new();
            for (map, at) in maps.iter().zip(&mut at).rev() {
                while map.get(*at).is_some_and(|f| !is_before(start, f.end.as_deref())) {
                    *at += 1;
                }
                if let Some(f) = map.get(*at).filter(|f| f.start <= *start)
                    && seqs.last() != Some(&f.seq)
                {
                    seqs.push(f.seq);
                }
            }
            if !seqs.is_empty() {
                let (start, end) = (Arc::clone(start), end.map(Arc::clone));
                push(&mut list, ListFragment { start, end, seqs: seqs.into() });
            }
        }
        Self::of(list)
    }

    /// The list with every number at or below `lowest` settled, without the ranges that `keep` does not
    /// want.
    pub fn settled(&self, lowest: Seq, keep: impl Fn(&ListFragment) -> bool) -> Self {
        Self::new(self.fragments.iter().filter(|f| keep(f)).map(|f| {
            let mut seqs: Vec<Seq> = f.seqs.iter().copied().filter(|s| *s > lowest).collect();
            if seqs.len() < f.seqs.len() {
                seqs.push(Seq(0));
            }
            ListFragment { seqs: seqs.into(), ..f.clone() }
        }))
    }

    /// The list without the keys of `holes`, which are sorted and do not overlap.
    pub fn without<'a>(
        &self,
        holes: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + Clone,
    ) -> Self {
        let mut list = Vec::new();
        for f in &self.fragments {
            let mut rest = Some(f.clone());
            for (start, end) in holes.clone() {
                let Some(f) = rest.take() else { break };
                if !is_before(start, f.end.as_deref()) || !is_before(&f.start, end) {
                    rest = Some(f);
                    continue;
                }
                if *f.start < *start {
                    push(&mut list, ListFragment { end: Some(start.into()), ..f.clone() });
                }
                rest = end
                    .filter(|e| is_before(e, f.end.as_deref()))
                    .map(|e| ListFragment { start: e.into(), ..f });
            }
            if let Some(f) = rest {
                push(&mut list, f);
            }
        }
        Self::of(list)
    }

    /// The same for keys of at most `longest` bytes, with every start such a key. What a base partition
    /// takes of a run ends just behind its last key, at a bound that is one byte longer than this key.
    #[must_use]
    pub fn starting_at_keys(&self, longest: usize) -> Self {
        Self::new(self.fragments.iter().filter_map(|f| {
            if f.start.len() <= longest {
                return Some(f.clone());
            }
            // The bound's first bytes are a key below it. What follows them is the next key.
            let mut start = f.start[..longest].to_vec();
            while start.last() == Some(&0xff) {
                start.pop();
            }
            *start.last_mut()? += 1;
            let inside = is_before(&start, f.end.as_deref());
            inside.then(|| ListFragment { start: start.into(), ..f.clone() })
        }))
    }

    /// Its ranges.
    pub fn fragments(&self) -> &[ListFragment] {
        &self.fragments
    }

    /// Whether it covers no key.
    pub fn is_empty(&self) -> bool {
        self.fragments.is_empty()
    }

    /// The index of the first range that ends behind `key`.
    fn first_past(&self, key: &[u8]) -> usize {
        self.fragments.partition_point(|f| !is_before(key, f.end.as_deref()))
    }

    /// The range that `key` is in.
    #[inline]
    pub fn find(&self, key: &[u8]) -> Option<&ListFragment> {
        self.places.covering(key).map(|place| &self.fragments[place as usize])
    }

    /// Whether a read at `at` sees `key` deleted.
    pub fn hides(&self, key: &[u8], at: Seq) -> bool {
        let place = self.places.covering(key);
        place.is_some_and(|place| self.is_settled || self.fragments[place as usize].is_seen(at))
    }

    /// Fills `out` with what a read at `at` knows of the keys around `key`. Neighbours that touch count as one
    /// in the direction of movement, up to some: who passes over them asks again.
    pub fn stretch(&self, key: &[u8], at: Seq, forward: bool, out: &mut Stretch) {
        let place = if self.is_settled { None } else { self.places.covering(key) };
        let Some(place) = place else { return self.places.stretch(key, forward, out) };
        let i = place as usize;
        let f = &self.fragments[i];
        let (mut first, mut last) = (f, f);
        if f.is_seen(at) {
            let touches = |a: &ListFragment, b: &ListFragment| a.end.as_ref() == Some(&b.start);
            let after = self.fragments[i + 1..].iter().take(if forward { NEIGHBOURS } else { 0 });
            for next in after {
                if !touches(last, next) || !next.is_seen(at) {
                    break;
                }
                last = next;
            }
            let before =
                self.fragments[..i].iter().rev().take(if forward { 0 } else { NEIGHBOURS });
            for next in before {
                if !touches(next, first) || !next.is_seen(at) {
                    break;
                }
                first = next;
            }
        }
        out.set(f.is_seen(at), Some((&*first.start).into()), last.end.as_deref().map(KeyRef::from));
    }

    /// Whether a read at `at` sees all of `first <= key <= last` deleted; of many ranges that touch, the
    /// answer may be no.
    pub fn covers(&self, first: &[u8], last: &[u8], at: Seq) -> bool {
        let Some(place) = self.places.covering(first) else { return false };
        let (i, mut from) = (place as usize, first);
        for f in self.fragments[i..].iter().take(1 + NEIGHBOURS) {
            if *f.start > *from || !f.is_seen(at) {
                return false;
            }
            match f.end.as_deref() {
                Some(end) if *end <= *last => from = end,
                _ => return true,
            }
        }
        false
    }

    /// The ranges that have a key of `start <= key < end`.
    pub fn within(&self, start: &[u8], end: Option<&[u8]>) -> &[ListFragment] {
        let from = self.first_past(start);
        let to = self.fragments.partition_point(|f| is_before(&f.start, end));
        &self.fragments[from.min(to)..to]
    }

    /// Whether any key of `start <= key < end` is covered.
    pub fn overlaps(&self, start: &[u8], end: Option<&[u8]>) -> bool {
        !self.within(start, end).is_empty()
    }

    /// Whether any key of `first <= key <= last` is covered.
    pub fn reaches(&self, first: &[u8], last: &[u8]) -> bool {
        let f = self.fragments.get(self.first_past(first));
        f.is_some_and(|f| *f.start <= *last)
    }
}

/// Adds a fragment to those before it; to the last of them, where that is like it and touches.
fn push(list: &mut Vec<ListFragment>, next: ListFragment) {
    if let Some(last) = list.last_mut()
        && last.end.as_ref() == Some(&next.start)
        && last.seqs == next.seqs
    {
        last.end = next.end;
        return;
    }
    debug_assert!(
        list.last().is_none_or(|l| l.end.as_ref().is_some_and(|e| *e <= next.start)),
        "fragments in order, without overlaps"
    );
    list.push(next);
}

impl ListFragment {
    /// Whether a read at `at` sees one of its range deletes.
    #[inline]
    pub fn is_seen(&self, at: Seq) -> bool {
        self.seqs.last().is_some_and(|lowest| *lowest <= at)
    }
}
