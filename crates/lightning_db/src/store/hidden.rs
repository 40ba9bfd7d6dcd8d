//! What range deletes hide from a merged cursor.
//!
//! 1. The range deletes of a source hide what older sources have, whatever its numbers.
//! 2. Those of a memtable also hide its own entries with lower numbers.
//!
//! A cursor passes over what 1 hides by seeking past its end, over what 2 hides entry by entry: newer ones
//! may lie between.

use std::sync::Arc;

use crate::memtable::RangesAt;
use crate::ranges::{RangeList, RangeMap};
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
    set: Set,
}

/// Those of all sources of a cursor, newest first.
#[derive(Debug)]
pub(super) struct Hidden {
    at: Seq,
    layers: Vec<Layer>,
}

/// Why a key is not seen.
#[derive(Debug)]
pub(super) enum Cover {
    /// Every source from a place on has nothing to show between the two keys.
    Older {
        /// The place.
        from: usize,
        /// The first key that is hidden.
        start: Vec<u8>,
        /// The first that is not.
        end: Option<Vec<u8>>,
    },
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

    /// Adds those of the memtable that is the source at `place`.
    pub(super) fn add_memtable(&mut self, place: usize, ranges: Arc<RangesAt>) {
        if !ranges.joined.is_empty() {
            self.layers.push(Layer { older_from: place + 1, set: Set::Memtable(ranges) });
        }
    }

    /// Adds those of a run; sources from `older_from` on are older.
    pub(super) fn add_run(&mut self, older_from: usize, ranges: &Arc<RangeList>) {
        if !ranges.is_empty() {
            self.layers.push(Layer { older_from, set: Set::Run(Arc::clone(ranges)) });
        }
    }

    /// Adds those of the transaction that reads, which are newer than every source.
    pub(super) fn add_own(&mut self, ranges: Arc<RangeMap>) {
        self.layers.insert(0, Layer { older_from: 0, set: Set::Own(ranges) });
    }

    /// Whether the entry of the source at `place` for `key`, with number `seq`, is deleted.
    pub(super) fn cover(&self, place: usize, key: &[u8], seq: Seq) -> Option<Cover> {
        for layer in &self.layers {
            if layer.older_from <= place {
                if let Some((start, end)) = layer.set.stretch(key, self.at) {
                    let (start, end) = (start.to_vec(), end.map(<[u8]>::to_vec));
                    return Some(Cover::Older { from: layer.older_from, start, end });
                }
            } else if layer.older_from == place + 1
                && let Set::Memtable(ranges) = &layer.set
                && ranges.by_seq.covering(key).is_some_and(|f| f.seq > seq)
            {
                return Some(Cover::Entry);
            }
        }
        None
    }
}

impl Set {
    fn stretch(&self, key: &[u8], at: Seq) -> Option<(&[u8], Option<&[u8]>)> {
        let map = match self {
            Self::Run(list) => return list.stretch(key, at),
            Self::Memtable(ranges) => &ranges.joined,
            Self::Own(map) => &**map,
        };
        map.covering(key).map(|f| (&*f.start, f.end.as_deref()))
    }
}
