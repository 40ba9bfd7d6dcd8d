//! What range deletes hide from a merged cursor.
//!
//! 1. The range deletes of a source hide what older sources have, whatever its numbers.
//! 2. Those of a memtable also hide its own entries with lower numbers.
//! 3. Of each source's range deletes the [`Stretch`] asked for last is kept: as long as the cursor stays in
//!    it, it asks no tree.
//!
//! A cursor passes over what 1 hides by seeking past its end, over what 2 hides entry by entry: newer ones
//! may lie between.

use std::sync::Arc;

use crate::memtable::RangesAt;
use crate::ranges::{RangeList, RangeMap, Stretch};
use crate::types::Seq;

/// Range deletes of one source.
#[derive(Debug)]
enum Set {
    Memtable(Arc<RangesAt>),
    Run(Arc<RangeList>),
    /// Of a transaction that has not committed.
    Own(Arc<RangeMap>),
}

#[derive(Debug)]
struct Layer {
    /// Every source from this place on is older.
    older_from: usize,
    /// The place of the memtable itself, if it has entries.
    own: Option<usize>,
    set: Set,
    around: Stretch,
}

/// Those of all sources of a cursor, newest first.
#[derive(Debug)]
pub(super) struct Hidden {
    at: Seq,
    layers: Vec<Layer>,
}

/// Why a key is not seen.
#[derive(Debug)]
pub(super) enum Cover<'a> {
    /// Every source from a place on has nothing to show in a stretch.
    Older(usize, &'a Stretch),
    /// This entry is deleted; what lies around it in its own source need not be.
    Entry,
}

impl Hidden {
    /// Nothing hidden yet, for a cursor at `at`.
    pub(super) fn new(at: Seq) -> Self {
        Self { at, layers: Vec::new() }
    }

    /// Whether nothing is hidden.
    pub(super) fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    fn layer(older_from: usize, own: Option<usize>, set: Set) -> Layer {
        Layer { older_from, own, set, around: Stretch::default() }
    }

    /// Adds those of a memtable, which is the source at `own` if it has entries; sources from `older_from` on
    /// are older.
    pub(super) fn add_memtable(
        &mut self,
        own: Option<usize>,
        older_from: usize,
        ranges: Arc<RangesAt>,
    ) {
        if !ranges.map.is_empty() {
            self.layers.push(Self::layer(older_from, own, Set::Memtable(ranges)));
        }
    }

    /// Adds those of a run; sources from `older_from` on are older.
    pub(super) fn add_run(&mut self, older_from: usize, ranges: &Arc<RangeList>) {
        if !ranges.is_empty() {
            self.layers.push(Self::layer(older_from, None, Set::Run(Arc::clone(ranges))));
        }
    }

    /// Adds those of the transaction that reads, which are newer than every source.
    pub(super) fn add_own(&mut self, ranges: Arc<RangeMap>) {
        self.layers.insert(0, Self::layer(0, None, Set::Own(ranges)));
    }

    /// Whether the entry of the source at `place` for `key`, with number `seq`, is deleted; for a cursor that
    /// goes forward or not.
    #[inline]
    pub(super) fn cover(
        &mut self,
        place: usize,
        key: &[u8],
        seq: Seq,
        forward: bool,
    ) -> Option<Cover<'_>> {
        let at = self.at;
        for layer in &mut self.layers {
            if layer.older_from <= place {
                if layer.hides(key, at, forward) {
                    return Some(Cover::Older(layer.older_from, &layer.around));
                }
            } else if layer.own == Some(place)
                && layer.hides(key, at, forward)
                && let Set::Memtable(ranges) = &layer.set
                && ranges.map.covering(key).is_some_and(|newest| newest > seq.0)
            {
                return Some(Cover::Entry);
            }
        }
        None
    }

    /// Where the keys end (or, backward, begin) around one that [`cover`](Self::cover) said was not hidden
    /// from the source at `place`, among which none is hidden from it. `None`: nowhere.
    pub(super) fn clear_to(&self, place: usize, forward: bool) -> Option<&[u8]> {
        let above = self.layers.iter().filter(|l| l.older_from <= place).map(|l| &l.around);
        if forward { above.filter_map(Stretch::end).min() } else { above.map(Stretch::start).max() }
    }
}

impl Layer {
    #[inline]
    fn hides(&mut self, key: &[u8], at: Seq, forward: bool) -> bool {
        if !self.around.contains(key) {
            self.ask(key, at, forward);
        }
        self.around.is_hidden()
    }

    #[inline(never)]
    fn ask(&mut self, key: &[u8], at: Seq, forward: bool) {
        match &self.set {
            Set::Run(list) => list.stretch(key, at, forward, &mut self.around),
            Set::Memtable(ranges) => ranges.map.stretch(key, forward, &mut self.around),
            Set::Own(map) => map.stretch(key, forward, &mut self.around),
        }
    }
}
