//! One ordered source of entries (a memtable, or a row of partitions), and the newest visible
//! entry of each of its keys.
//!
//! 1. A raw source yields all versions, by key ascending and number descending.
//! 2. A row leaves out its consumed intervals, in both directions, before pages are looked at.
//! 3. [`VisibleSource`] stands on the newest entry at or below its number of some key, tombstones
//!    and expired entries included, or is not valid. A source that failed stays failed.

use std::sync::Arc;

use crate::cache::{PageRef, Pager};
use crate::error::Result;
use crate::manifest::KeyInterval;
use crate::memtable::MemtableCursor;
use crate::page::leaf::LeafColumns;
use crate::store::version::Row;
use crate::tree::{CursorOptions, PartitionCursor};
use crate::types::{Entry, EntryValue, Seq, Time};

/// All versions, in order, of a row of partitions.
#[derive(Debug)]
pub struct RowCursor {
    row: Row,
    /// `None` where there is none.
    consumed: Option<Arc<[KeyInterval]>>,
    pager: Pager,
    options: CursorOptions,
    index: usize,
    current: Option<PartitionCursor>,
}

impl RowCursor {
    /// A cursor over `row` without `consumed`.
    pub fn new(row: Row, consumed: &[KeyInterval], pager: Pager, options: CursorOptions) -> Self {
        let consumed = (!consumed.is_empty()).then(|| consumed.into());
        Self { row, consumed, pager, options, index: 0, current: None }
    }

    fn open(&mut self, index: usize) -> Option<&mut PartitionCursor> {
        if self.index != index || self.current.is_none() {
            let partition = self.row.partitions.get(index)?;
            self.index = index;
            self.current =
                Some(PartitionCursor::new(Arc::clone(partition), self.pager.clone(), self.options));
        }
        self.current.as_mut()
    }

    fn valid(&self) -> bool {
        self.current.as_ref().is_some_and(PartitionCursor::valid)
    }

    fn cursor(&self) -> &PartitionCursor {
        self.current.as_ref().expect("only called while valid")
    }

    /// The consumed interval that holds the current key.
    fn in_consumed(&self) -> Option<&KeyInterval> {
        let consumed = self.consumed.as_ref().filter(|_| self.valid())?;
        let key = self.cursor().key();
        consumed.iter().find(|i| i.contains(key))
    }

    fn skip_forward(&mut self) -> Result<()> {
        loop {
            while !self.valid() && self.index + 1 < self.row.partitions.len() {
                let next = self.index + 1;
                self.open(next).expect("below the count").first()?;
            }
            let Some(interval) = self.in_consumed() else { return Ok(()) };
            match interval.end.clone() {
                Some(end) => self.place(&end)?,
                None => {
                    self.current = None;
                    self.index = self.row.partitions.len();
                    return Ok(());
                }
            }
        }
    }

    fn skip_backward(&mut self) -> Result<()> {
        loop {
            while !self.valid() && self.index > 0 {
                let previous = self.index - 1;
                match self.open(previous) {
                    Some(c) => c.last()?,
                    None => self.index = previous,
                }
            }
            let Some(interval) = self.in_consumed() else { return Ok(()) };
            let start = interval.start.clone();
            self.place_before(&start)?;
        }
    }

    fn place(&mut self, key: &[u8]) -> Result<()> {
        let index = self.row.first_ending_at_or_after(key);
        match self.open(index) {
            Some(c) => c.seek(key),
            None => {
                self.current = None;
                self.index = self.row.partitions.len();
                Ok(())
            }
        }
    }

    fn place_before(&mut self, key: &[u8]) -> Result<()> {
        let after = self.row.partitions.partition_point(|p| p.meta().first_key.as_slice() < key);
        if after == 0 {
            self.current = None;
            self.index = 0;
            return Ok(());
        }
        self.open(after - 1).expect("below the count").seek_before(key)
    }

    fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.place(key)?;
        self.skip_forward()
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        self.place_before(key)?;
        self.skip_backward()
    }

    fn first(&mut self) -> Result<()> {
        match self.open(0) {
            Some(c) => c.first()?,
            None => return Ok(()),
        }
        self.skip_forward()
    }

    fn last(&mut self) -> Result<()> {
        let Some(last) = self.row.partitions.len().checked_sub(1) else { return Ok(()) };
        self.open(last).expect("below the count").last()?;
        self.skip_backward()
    }

    /// Stands nowhere from here on.
    fn leave(&mut self) {
        self.current = None;
        self.index = self.row.partitions.len();
    }

    /// The leaf it stands in, if stepping over its entries takes no looking at numbers or intervals.
    #[inline]
    fn plain_leaf(&self) -> Option<(&PageRef, LeafColumns, usize)> {
        if self.consumed.is_none() { self.current.as_ref()?.settled_leaf() } else { None }
    }

    fn next(&mut self) -> Result<()> {
        if let Some(c) = &mut self.current {
            c.next()?;
        }
        self.skip_forward()
    }

    fn prev(&mut self) -> Result<()> {
        if let Some(c) = &mut self.current {
            c.prev()?;
        }
        self.skip_backward()
    }
}

/// All versions, in order, of one source.
#[derive(Debug)]
pub enum Source {
    /// Of a memtable.
    Memtable(MemtableCursor),
    /// Of a run or the base.
    Row(Box<RowCursor>),
}

macro_rules! each {
    ($self:ident, $c:ident => $call:expr, $r:ident => $row:expr) => {
        match $self {
            Source::Memtable($c) => $call,
            Source::Row($r) => $row,
        }
    };
}

impl Source {
    /// A key past which none of its own is, where that is known without reading.
    pub fn last_key(&self) -> Option<&[u8]> {
        let Source::Row(row) = self else { return None };
        row.row.partitions.last().map(|p| p.meta().last_key.as_slice())
    }

    /// Whether it stands on an entry.
    #[inline]
    pub fn valid(&self) -> bool {
        each!(self, c => c.valid(), r => r.valid())
    }

    /// The key it stands on.
    #[inline]
    pub fn key(&self) -> &[u8] {
        each!(self, c => c.key(), r => r.cursor().key())
    }

    /// The number it stands on.
    #[inline]
    pub fn seq(&self) -> Seq {
        each!(self, c => c.seq(), r => r.cursor().seq())
    }

    /// The value it stands on.
    #[inline]
    pub fn value(&self) -> EntryValue<'_> {
        each!(self, c => c.value(), r => r.cursor().value())
    }

    /// The value it stands on, and when that expires.
    #[inline]
    pub fn entry(&self) -> Entry<'_> {
        let expiry = each!(self, c => c.expiry(), r => r.cursor().expiry());
        Entry { value: self.value(), expiry }
    }

    /// Whether it stands on a key without a value at `now`: deleted, or expired.
    #[inline]
    pub fn is_gone(&self, now: Time) -> bool {
        each!(self, c => c.is_gone(now), r => r.cursor().is_gone(now))
    }

    /// To the first entry at or after `key`.
    pub fn seek(&mut self, key: &[u8]) -> Result<()> {
        each!(self, c => { c.seek(key); Ok(()) }, r => r.seek(key))
    }

    /// To the last entry before `key`.
    pub fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        each!(self, c => { c.seek_before(key); Ok(()) }, r => r.seek_before(key))
    }

    /// To the first entry.
    pub fn first(&mut self) -> Result<()> {
        each!(self, c => { c.first(); Ok(()) }, r => r.first())
    }

    /// To the last entry.
    pub fn last(&mut self) -> Result<()> {
        each!(self, c => { c.last(); Ok(()) }, r => r.last())
    }

    /// Behind the last entry: stands nowhere, until the next seek.
    pub fn leave(&mut self) {
        each!(self, c => c.leave(), r => r.leave());
    }

    /// To the next entry.
    #[inline]
    pub fn next(&mut self) -> Result<()> {
        each!(self, c => { c.next(); Ok(()) }, r => r.next())
    }

    /// To the entry before.
    #[inline]
    pub fn prev(&mut self) -> Result<()> {
        each!(self, c => { c.prev(); Ok(()) }, r => r.prev())
    }
}

/// The newest entry at or below a number, of each key of a source.
#[derive(Debug)]
pub struct VisibleSource {
    source: Source,
    at: Seq,
    now: Time,
    key: Vec<u8>,
}

impl VisibleSource {
    /// What a view at `at` sees of `source`, judging by `now` what has expired.
    pub fn new(source: Source, at: Seq, now: Time) -> Self {
        Self { source, at, now, key: Vec::new() }
    }

    /// Whether it stands on an entry.
    #[inline]
    pub fn valid(&self) -> bool {
        self.source.valid()
    }

    /// The key.
    #[inline]
    pub fn key(&self) -> &[u8] {
        self.source.key()
    }

    /// The value; may be a tombstone, or one that has expired.
    #[inline]
    pub fn value(&self) -> EntryValue<'_> {
        self.source.value()
    }

    /// The same, and when it expires.
    pub fn entry(&self) -> Entry<'_> {
        self.source.entry()
    }

    /// Whether it stands on a key without a value: deleted, or expired.
    #[inline]
    pub fn is_gone(&self) -> bool {
        self.source.is_gone(self.now)
    }

    /// The leaf it stands in and where, if each entry there but the first is of another key that the
    /// view sees: then that leaf can be stepped over without it.
    #[inline]
    pub fn plain_leaf(&self) -> Option<(&PageRef, LeafColumns, usize)> {
        match &self.source {
            Source::Memtable(_) => None,
            Source::Row(row) => row.plain_leaf(),
        }
    }

    /// Stands at another entry of its [`plain_leaf`](Self::plain_leaf).
    pub fn move_within_leaf(&mut self, at: usize) {
        if let Source::Row(row) = &mut self.source
            && let Some(cursor) = &mut row.current
        {
            cursor.move_within_leaf(at);
        }
    }

    fn settle_forward(&mut self) -> Result<()> {
        if let Source::Memtable(cursor) = &mut self.source {
            cursor.settle_forward(self.at);
            return Ok(());
        }
        while self.source.valid() && self.source.seq() > self.at {
            self.source.next()?;
        }
        Ok(())
    }

    /// Standing on any version of a key, from behind: to its newest visible one, or on to the
    /// keys before it.
    fn settle_backward(&mut self) -> Result<()> {
        if let Source::Memtable(cursor) = &mut self.source {
            cursor.settle_backward(self.at);
            return Ok(());
        }
        while self.source.valid() {
            self.key.clear();
            self.key.extend_from_slice(self.source.key());
            // Up to the newest version, which comes first.
            loop {
                self.source.prev()?;
                if !self.source.valid() {
                    self.source.seek(&self.key)?;
                    break;
                }
                if self.source.key() != self.key {
                    self.source.next()?;
                    break;
                }
            }
            while self.source.valid() && self.source.key() == self.key {
                if self.source.seq() <= self.at {
                    return Ok(());
                }
                self.source.next()?;
            }
            // No version is visible: the key before.
            self.source.seek_before(&self.key)?;
        }
        Ok(())
    }

    /// To the first key at or after `key`.
    pub fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.source.seek(key)?;
        self.settle_forward()
    }

    /// To the last key before `key`.
    pub fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        self.source.seek_before(key)?;
        self.settle_backward()
    }

    /// To the first key.
    pub fn first(&mut self) -> Result<()> {
        self.source.first()?;
        self.settle_forward()
    }

    /// To the last key.
    pub fn last(&mut self) -> Result<()> {
        self.source.last()?;
        self.settle_backward()
    }

    /// Behind the last key: stands nowhere, until the next seek.
    pub fn leave(&mut self) {
        self.source.leave();
    }

    /// The number of the entry.
    #[inline]
    pub fn seq(&self) -> Seq {
        self.source.seq()
    }

    /// To the next key. Must be valid.
    #[inline]
    pub fn next_key(&mut self) -> Result<()> {
        match &mut self.source {
            Source::Memtable(cursor) => {
                cursor.next_key(self.at);
                return Ok(());
            }
            Source::Row(row) => {
                if row.plain_leaf().is_some_and(|(_, leaf, at)| at + 1 < leaf.len()) {
                    return row.next();
                }
            }
        }
        self.key.clear();
        self.key.extend_from_slice(self.source.key());
        loop {
            self.source.next()?;
            if !self.source.valid() || self.source.key() != self.key {
                break;
            }
        }
        self.settle_forward()
    }

    /// To the key before. Must be valid.
    #[inline]
    pub fn prev_key(&mut self) -> Result<()> {
        match &mut self.source {
            Source::Memtable(cursor) => {
                cursor.previous_key(self.at);
                return Ok(());
            }
            Source::Row(row) => {
                // Not to the first entry: its key may have newer versions in the leaf before.
                if row.plain_leaf().is_some_and(|(_, _, at)| at > 1) {
                    return row.prev();
                }
            }
        }
        self.key.clear();
        self.key.extend_from_slice(self.source.key());
        loop {
            self.source.prev()?;
            if !self.source.valid() || self.source.key() != self.key {
                break;
            }
        }
        self.settle_backward()
    }
}
