//! Movement over all versions of all keys of a memtable: keys ascending, and of each key the
//! newest version first.
//!
//! A cursor stands on an entry, in a leaf as it was when the cursor came to it; at the ends of
//! that leaf it searches the tree anew for the key beyond. It sees everything inserted before it
//! was positioned (`seek`, `seek_before`, `first`, `last`); what is inserted afterwards it may
//! see or not. Both directions cost the same: a step within a leaf, a search about every ten keys.
//!
//! Invariant: position pointers lead into the memtable's arena, which the cursor keeps alive.

use std::ptr::NonNull;

use crate::sync::Arc;
use crate::types::{EntryValue, Expiry, Seq, Time};

use super::entry::{EntryRef, Header};
use super::index::Place;
use super::node::Node;
use super::order::Order;
use super::table::Memtable;

/// How many keys ahead entries are asked for: they lie in the arena in the order of insertion.
const PREFETCH_KEYS: usize = 8;
/// Cache lines of an entry that are asked for.
const PREFETCH_LINES: usize = 3;

/// A cursor that owns what it needs, and may go to another thread.
pub struct MemtableCursor {
    table: Arc<Memtable>,
    at: Option<Position>,
}

/// Where the cursor stands.
#[derive(Clone, Copy)]
struct Position {
    leaf: NonNull<Node>,
    order: Order,
    rank: usize,
    /// The newest version of the key, as it was when the cursor came to the key.
    newest: NonNull<Header>,
    entry: NonNull<Header>,
}

// SAFETY: the pointers lead to nodes and entries of `table`, which threads share freely.
unsafe impl Send for MemtableCursor {}
// SAFETY: the same; `&self` only reads.
unsafe impl Sync for MemtableCursor {}

impl Position {
    /// The entry, for as long as the table stays: the one whose position this is.
    #[inline]
    fn entry(self, _table: &Memtable) -> EntryRef<'_> {
        // SAFETY: the module's invariant; the table's arena lives as long as the table.
        unsafe { EntryRef::from_ptr(self.entry) }
    }

    /// The newest version of its key, as long as the table stays.
    fn newest(self, _table: &Memtable) -> EntryRef<'_> {
        // SAFETY: as in `entry`.
        unsafe { EntryRef::from_ptr(self.newest) }
    }

    /// Its place in the tree, as long as the table stays.
    fn place(self, _table: &Memtable) -> Place<'_> {
        // SAFETY: as in `entry`; nodes are only shared.
        let leaf = unsafe { self.leaf.as_ref() };
        Place { leaf, order: self.order, rank: self.rank }
    }

    /// At the newest version of the key.
    fn newest_at(place: Place<'_>) -> Self {
        let newest = place.newest().as_ptr();
        let Place { leaf, order, rank } = place;
        Self { leaf: NonNull::from(leaf), order, rank, newest, entry: newest }
    }

    /// At the oldest version of the key.
    fn oldest_at(place: Place<'_>) -> Self {
        let newest = place.newest();
        let Place { leaf, order, rank } = place;
        let (newest, entry) = (newest.as_ptr(), newest.oldest().as_ptr());
        Self { leaf: NonNull::from(leaf), order, rank, newest, entry }
    }
}

impl MemtableCursor {
    /// A cursor that stands nowhere yet.
    pub fn new(table: Arc<Memtable>) -> Self {
        Self { table, at: None }
    }

    /// Goes to the first entry with a key at or above `key`: the newest version of its key.
    pub fn seek(&mut self, key: &[u8]) {
        self.at = self.table.index().at_or_after(key, false).map(Position::newest_at);
    }

    /// Goes to the last entry with a key below `key`: the oldest version of its key.
    pub fn seek_before(&mut self, key: &[u8]) {
        self.at = self.table.index().before(key).map(Position::oldest_at);
    }

    /// Goes to the first entry.
    pub fn first(&mut self) {
        self.at = self.table.index().first().map(Position::newest_at);
    }

    /// Goes to the last entry.
    pub fn last(&mut self) {
        self.at = self.table.index().last().map(Position::oldest_at);
    }

    /// Goes to the following entry; off the end, to nowhere. Nowhere it stays.
    pub fn next(&mut self) {
        let Some(at) = self.at else { return };
        let entry = at.entry(&self.table);
        if let Some(older) = entry.older() {
            self.at = Some(Position { entry: older.as_ptr(), ..at });
            return;
        }
        self.next_place();
    }

    /// To the newest version of the next key.
    fn next_place(&mut self) {
        let Some(at) = self.at else { return };
        let place = at.place(&self.table);
        self.at = if place.rank + 1 < place.order.len() {
            let next = Place { rank: place.rank + 1, ..place };
            let ahead = place.rank + PREFETCH_KEYS;
            if ahead < place.order.len() {
                Place { rank: ahead, ..place }.newest().prefetch(PREFETCH_LINES);
            }
            Some(Position::newest_at(next))
        } else {
            self.table.index().at_or_after(at.entry(&self.table).key(), true).map(|place| {
                for rank in 1..place.order.len().min(PREFETCH_KEYS) {
                    Place { rank, ..place }.newest().prefetch(PREFETCH_LINES);
                }
                Position::newest_at(place)
            })
        };
    }

    /// Goes to the entry before; off the beginning, to nowhere. Nowhere it stays.
    pub fn prev(&mut self) {
        let Some(at) = self.at else { return };
        let entry = at.entry(&self.table);
        if let Some(newer) = at.newest(&self.table).last_after(entry.seq()) {
            self.at = Some(Position { entry: newer.as_ptr(), ..at });
            return;
        }
        self.previous_place();
    }

    /// To the oldest version of the key before.
    fn previous_place(&mut self) {
        let Some(at) = self.at else { return };
        let place = at.place(&self.table);
        self.at = if let Some(rank) = place.rank.checked_sub(1) {
            if let Some(ahead) = place.rank.checked_sub(PREFETCH_KEYS) {
                Place { rank: ahead, ..place }.newest().prefetch(PREFETCH_LINES);
            }
            Some(Position::oldest_at(Place { rank, ..place }))
        } else {
            self.table.index().before(at.entry(&self.table).key()).map(Position::oldest_at)
        };
    }

    /// From any version of a key to its newest one at or below `number`; where it has none, to that of
    /// the first key after it that has one. However many versions there are: see `entry`.
    pub fn settle_forward(&mut self, number: Seq) {
        while let Some(at) = self.at {
            if let Some(entry) = at.newest(&self.table).at_or_before(number) {
                self.at = Some(Position { entry: entry.as_ptr(), ..at });
                return;
            }
            self.next_place();
        }
    }

    /// As [`settle_forward`](Self::settle_forward), to keys before it.
    pub fn settle_backward(&mut self, number: Seq) {
        while let Some(at) = self.at {
            if let Some(entry) = at.newest(&self.table).at_or_before(number) {
                self.at = Some(Position { entry: entry.as_ptr(), ..at });
                return;
            }
            self.previous_place();
        }
    }

    /// To the next key that has a version at or below `number`, and to the newest such version.
    pub fn next_key(&mut self, number: Seq) {
        self.next_place();
        self.settle_forward(number);
    }

    /// To the key before that has a version at or below `number`, and to the newest such version.
    pub fn previous_key(&mut self, number: Seq) {
        self.previous_place();
        self.settle_backward(number);
    }

    /// Stands nowhere, until the next seek.
    pub fn leave(&mut self) {
        self.at = None;
    }

    /// Whether it stands on an entry.
    #[inline]
    pub fn valid(&self) -> bool {
        self.at.is_some()
    }

    /// The key it stands on. Panics where the cursor is not [`valid`](Self::valid).
    #[inline]
    pub fn key(&self) -> &[u8] {
        self.entry().key()
    }

    /// The number of the commit that wrote the entry. Panics as [`key`](Self::key) does.
    #[inline]
    pub fn seq(&self) -> Seq {
        self.entry().seq()
    }

    /// What the entry says of its key. Panics as [`key`](Self::key) does.
    #[inline]
    pub fn value(&self) -> EntryValue<'_> {
        self.entry().value()
    }

    /// When the entry expires. Panics as [`key`](Self::key) does.
    #[inline]
    pub fn expiry(&self) -> Expiry {
        self.entry().expiry()
    }

    /// Whether the entry's key has no value at `now`. Panics as [`key`](Self::key) does.
    #[inline]
    pub fn is_gone(&self, now: Time) -> bool {
        self.entry().is_gone(now)
    }

    #[inline]
    fn entry(&self) -> EntryRef<'_> {
        self.at.expect("asked of a cursor that is not valid").entry(&self.table)
    }
}

impl std::fmt::Debug for MemtableCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemtableCursor").finish_non_exhaustive()
    }
}
