//! What a run holds open over many operations: snapshots, iterators, cursors, transactions, pinned
//! values; and the operations that read.
//!
//! 1. What an iterator or cursor must give is fixed when it is made.
//! 2. At most `MOST` of each are held; where there are as many, the oldest is finished first.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ops::ControlFlow;
use std::rc::Rc;

use lightning_db::{Cursor, ErrorKind, Result, Snapshot, Transaction, TransactionId};

use crate::model::{Life, number};
use crate::operation::{Bound, Key, Move, Operation, Shape, Source, Value};
use crate::world::{ViewId, World, refused};

pub const MOST: usize = 8;

type Entry = Result<(Vec<u8>, Vec<u8>)>;
pub type Writes = BTreeMap<(Life, Key), Option<Value>>;

pub struct HeldSnapshot {
    pub snapshot: Snapshot,
    pub at: u64,
    pub view: ViewId,
}

pub struct HeldRange {
    range: Box<dyn DoubleEndedIterator<Item = Entry>>,
    want: VecDeque<(Key, Value)>,
    view: ViewId,
}

pub struct HeldCursor {
    cursor: Cursor,
    entries: Vec<(Key, Value)>,
    at: Option<usize>,
    view: ViewId,
}

#[allow(clippy::large_enum_variant, reason = "a handful at a time")]
pub enum Handle {
    Guard(Transaction),
    Id(TransactionId),
}

pub struct HeldTransaction {
    pub handle: Handle,
    pub at: u64,
    pub read_only: bool,
    pub writes: Writes,
    /// The hours that writes were given.
    pub hours: BTreeMap<(Life, Key), u8>,
    pub view: ViewId,
}

#[derive(Default)]
pub struct Held {
    pub snapshots: Vec<HeldSnapshot>,
    ranges: Vec<HeldRange>,
    cursors: Vec<HeldCursor>,
    pub transactions: Vec<HeldTransaction>,
    pins: Vec<(lightning_db::Value, Key, Value)>,
}

impl Held {
    /// How many read views there are.
    pub fn views(&self) -> usize {
        let snapshots = self.snapshots.iter().map(|s| &s.view);
        let ranges = self.ranges.iter().map(|r| &r.view);
        let cursors = self.cursors.iter().map(|c| &c.view);
        let transactions = self.transactions.iter().map(|t| &t.view);
        let all = snapshots.chain(ranges).chain(cursors).chain(transactions);
        all.map(Rc::as_ptr).collect::<HashSet<_>>().len()
    }
}

/// The place that a slot means.
pub fn place(slot: u8, len: usize) -> Option<usize> {
    (len > 0).then(|| slot as usize % len)
}

impl World<'_> {
    pub fn read_step(&mut self, operation: &Operation) {
        let last = self.model.now();
        match *operation {
            Operation::Get { keyspace: n, key } => {
                let (keyspace, life) = self.keyspace(n);
                let bytes = &self.keys[key as usize];
                let got = if n == 0 { self.db.get(bytes) } else { keyspace.get(bytes) };
                let want = self.model.get(life, key, last);
                self.same("get", key, got.expect("get").as_deref(), want);
            }
            Operation::Pin { keyspace, key } => {
                let (keyspace, life) = self.keyspace(keyspace);
                let got = keyspace.get_pinned(&self.keys[key as usize]).expect("get_pinned");
                let want = self.model.get(life, key, last);
                self.same("get_pinned", key, got.as_deref(), want);
                if let (Some(got), Some(want)) = (got, want) {
                    if self.held.pins.len() == MOST {
                        self.unpin(0);
                    }
                    self.held.pins.push((got, key, want));
                }
            }
            Operation::Unpin { slot } => {
                if let Some(i) = place(slot, self.held.pins.len()) {
                    self.unpin(i);
                }
            }
            Operation::GetBatch { keyspace, ref keys } => {
                let (keyspace, life) = self.keyspace(keyspace);
                let bytes: Vec<_> = keys.iter().map(|k| &self.keys[*k as usize]).collect();
                let got = keyspace.get_batch(&bytes).expect("get_batch");
                assert_eq!(got.len(), keys.len());
                for (key, got) in keys.iter().zip(got) {
                    let want = self.model.get(life, *key, last);
                    self.same("get_batch", *key, got.as_deref(), want);
                }
            }
            Operation::Contains { keyspace, key } => {
                let (keyspace, life) = self.keyspace(keyspace);
                let got = keyspace.contains_key(&self.keys[key as usize]).expect("contains_key");
                assert_eq!(got, self.model.get(life, key, last).is_some(), "contains_key {key}");
                self.answer(got);
            }
            Operation::Ends { keyspace } => {
                let (keyspace, life) = self.keyspace(keyspace);
                let entries = self.model.entries(life, 0, None, last);
                let got = keyspace.first().expect("first");
                let pair = got.as_ref().map(|(k, v)| (k.as_slice(), v.as_slice()));
                self.same_entry("first", pair, entries.first().copied());
                let got = keyspace.last().expect("last");
                let pair = got.as_ref().map(|(k, v)| (k.as_slice(), v.as_slice()));
                self.same_entry("last", pair, entries.last().copied());
            }
            Operation::ForEach { keyspace, start, end, most } => {
                self.for_each(keyspace, start, end, most);
            }
            Operation::OpenRange { source, keyspace, shape, reverse } => {
                self.open_range(source, keyspace, shape, reverse);
            }
            Operation::StepRange { slot, steps, pattern } => {
                if let Some(i) = place(slot, self.held.ranges.len()) {
                    self.step_range(i, steps, pattern);
                }
            }
            Operation::FinishRange { slot, pattern } => {
                if let Some(i) = place(slot, self.held.ranges.len()) {
                    self.finish_range(i, pattern);
                }
            }
            Operation::DropRange { slot } => {
                if let Some(i) = place(slot, self.held.ranges.len()) {
                    self.held.ranges.remove(i);
                }
            }
            Operation::OpenCursor { source, keyspace } => self.open_cursor(source, keyspace),
            Operation::MoveCursor { slot, ref moves } => {
                if let Some(i) = place(slot, self.held.cursors.len()) {
                    self.move_cursor(i, moves);
                }
            }
            Operation::DropCursor { slot } => {
                if let Some(i) = place(slot, self.held.cursors.len()) {
                    self.held.cursors.remove(i);
                }
            }
            Operation::TakeSnapshot => {
                if self.held.snapshots.len() == MOST {
                    self.drop_snapshot(0);
                }
                let snapshot = self.db.snapshot().expect("a snapshot");
                assert_eq!(snapshot.seq(), number(last), "the snapshot's number");
                self.held.snapshots.push(HeldSnapshot { snapshot, at: last, view: Rc::new(()) });
            }
            Operation::LookBack { keyspace, key, part } => self.look_back(keyspace, key, part),
            Operation::ReadSnapshot { slot, keyspace, key } => {
                if let Some(i) = place(slot, self.held.snapshots.len()) {
                    let (keyspace, life) = self.keyspace(keyspace);
                    let held = &self.held.snapshots[i];
                    let got = held.snapshot.get_in(&keyspace, &self.keys[key as usize]);
                    let want = self.model.get(life, key, held.at);
                    self.same("a snapshot's get", key, got.expect("get_in").as_deref(), want);
                }
            }
            Operation::DropSnapshot { slot } => {
                if let Some(i) = place(slot, self.held.snapshots.len()) {
                    self.drop_snapshot(i);
                }
            }
            _ => self.transaction_step(operation),
        }
    }

    fn unpin(&mut self, i: usize) {
        let (got, key, want) = self.held.pins.remove(i);
        self.same("a pinned value", key, Some(&got), Some(want));
    }

    fn for_each(&mut self, keyspace: u8, start: Option<Bound>, end: Option<Bound>, most: u16) {
        let (keyspace, life) = self.keyspace(keyspace);
        let (start, end) = (start.map(|b| b.bytes(self.keys)), end.map(|b| b.bytes(self.keys)));
        let mut got = Vec::new();
        let visit = |key: &[u8], value: &[u8]| {
            got.push(Ok((key.to_vec(), value.to_vec())));
            if got.len() > most as usize {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let broke = keyspace.for_each(start.as_deref(), end.as_deref(), visit).expect("for_each");
        let mut want = self.between(life, start.as_deref(), end.as_deref(), self.model.now());
        assert_eq!(broke.is_some(), want.len() > most as usize, "for_each");
        want.truncate(most as usize + 1);
        self.compare_all("for_each", got, want);
    }

    fn between(
        &self,
        life: Life,
        start: Option<&[u8]>,
        end: Option<&[u8]>,
        at: u64,
    ) -> Vec<(Key, Value)> {
        let from = start.map_or(0, |b| self.place(b));
        self.model.entries(life, from, end.map(|b| self.place(b)), at)
    }

    fn open_range(&mut self, source: Source, n: u8, shape: Shape, reverse: bool) {
        if self.held.ranges.len() == MOST {
            self.finish_range(0, u64::MAX);
        }
        let (keyspace, life) = self.keyspace(n);
        let (start, end, prefix) = match shape {
            Shape::Between(start, end) => {
                (start.map(|b| b.bytes(self.keys)), end.map(|b| b.bytes(self.keys)), None)
            }
            Shape::Prefix(bound) => (None, None, Some(bound.bytes(self.keys))),
        };
        let (start, end) = (start.as_deref(), end.as_deref());
        let snapshot = |slot| place(slot, self.held.snapshots.len());
        let transaction = |slot| place(slot, self.held.transactions.len());
        let mut life = life;
        let mut own = None;
        let (range, at, view): (Box<dyn DoubleEndedIterator<Item = Entry>>, _, _) = match source {
            Source::Snapshot(slot) if snapshot(slot).is_some() => {
                let held = &self.held.snapshots[snapshot(slot).expect("just seen")];
                let range = match &prefix {
                    Some(prefix) => {
                        life = self.keyspace(0).1;
                        held.snapshot.scan_prefix(prefix)
                    }
                    None if self.is_default(n) => held.snapshot.range(start, end),
                    None => held.snapshot.range_in(&keyspace, start, end),
                };
                (Box::new(range.expect("a range")), held.at, Rc::clone(&held.view))
            }
            Source::Transaction(slot) if transaction(slot).is_some() => {
                let held = &self.held.transactions[transaction(slot).expect("just seen")];
                own = Some(&held.writes);
                let range = match (&held.handle, &prefix) {
                    (Handle::Guard(guard), Some(prefix)) => {
                        life = self.keyspace(0).1;
                        guard.scan_prefix(prefix)
                    }
                    (Handle::Guard(guard), None) => guard.range_in(&keyspace, start, end),
                    (Handle::Id(id), Some(prefix)) => {
                        // Until the greatest key of the table.
                        life = self.keyspace(0).1;
                        let end = self.keys.iter().rfind(|k| k.starts_with(prefix));
                        let end = end.map_or(prefix.clone(), |k| [&k[..], &[0]].concat());
                        self.db.scan_tx(*id, Some(prefix), Some(&end))
                    }
                    (Handle::Id(id), None) => {
                        life = self.keyspace(0).1;
                        self.db.scan_tx(*id, start, end)
                    }
                };
                (Box::new(range.expect("a range")), held.at, Rc::clone(&held.view))
            }
            _ => {
                let range = match &prefix {
                    Some(prefix) => keyspace.scan_prefix(prefix),
                    None => keyspace.range(start, end),
                };
                (Box::new(range.expect("a range")), self.model.now(), Rc::new(()))
            }
        };
        let mut want = self.between(life, start, end, at);
        if let Some(writes) = own {
            want = overlay(want, writes, life);
            let inside = |k: &Vec<u8>| {
                start.is_none_or(|s| k.as_slice() >= s) && end.is_none_or(|e| k.as_slice() < e)
            };
            want.retain(|(k, _)| inside(&self.keys[*k as usize]));
        }
        if let Some(prefix) = &prefix {
            want.retain(|(k, _)| self.keys[*k as usize].starts_with(prefix));
        }
        let (range, want): (Box<dyn DoubleEndedIterator<Item = Entry>>, VecDeque<_>) = if reverse {
            (Box::new(range.rev()), want.into_iter().rev().collect())
        } else {
            (range, want.into())
        };
        self.held.ranges.push(HeldRange { range, want, view });
    }

    /// Steps a range; tells whether it is at its end.
    fn step_range(&mut self, i: usize, steps: u16, pattern: u64) -> bool {
        for step in 0..steps {
            let held = &mut self.held.ranges[i];
            let (got, want) = if pattern >> (step % 64) & 1 == 1 {
                (held.range.next(), held.want.pop_front())
            } else {
                (held.range.next_back(), held.want.pop_back())
            };
            let got = got.transpose().expect("an entry");
            let pair = got.as_ref().map(|(k, v)| (k.as_slice(), v.as_slice()));
            self.same_entry("a range", pair, want);
            if got.is_none() {
                return true;
            }
        }
        false
    }

    fn finish_range(&mut self, i: usize, pattern: u64) {
        while !self.step_range(i, 64, pattern) {}
        let held = &mut self.held.ranges[i];
        assert!(held.range.next().is_none() && held.range.next_back().is_none(), "it has ended");
        self.held.ranges.remove(i);
    }

    fn open_cursor(&mut self, source: Source, keyspace: u8) {
        if self.held.cursors.len() == MOST {
            self.held.cursors.remove(0);
        }
        let (keyspace, life) = self.keyspace(keyspace);
        let (cursor, life, at, view) = match source {
            Source::Snapshot(slot) if !self.held.snapshots.is_empty() => {
                let held = &self.held.snapshots[slot as usize % self.held.snapshots.len()];
                (held.snapshot.cursor(), self.keyspace(0).1, held.at, Rc::clone(&held.view))
            }
            _ => (keyspace.cursor(), life, self.model.now(), Rc::new(())),
        };
        let cursor = cursor.expect("a cursor");
        let entries = self.model.entries(life, 0, None, at);
        self.held.cursors.push(HeldCursor { cursor, entries, at: None, view });
    }

    fn move_cursor(&mut self, i: usize, moves: &[Move]) {
        let mut held = self.held.cursors.remove(i);
        for step in moves {
            let (cursor, entries) = (&mut held.cursor, &held.entries);
            let before = |bound: Bound| {
                let place = self.place(&bound.bytes(self.keys));
                entries.partition_point(|(k, _)| *k < place)
            };
            let (moved, to) = match *step {
                Move::Seek(b) => (cursor.seek(&b.bytes(self.keys)), Some(before(b))),
                Move::SeekBefore(b) => {
                    (cursor.seek_before(&b.bytes(self.keys)), before(b).checked_sub(1))
                }
                Move::First => (cursor.seek_to_first(), Some(0)),
                Move::Last => (cursor.seek_to_last(), entries.len().checked_sub(1)),
                Move::Next => (cursor.next(), held.at.map(|at| at + 1)),
                Move::Prev => (cursor.prev(), held.at.and_then(|at| at.checked_sub(1))),
            };
            held.at = to.filter(|at| *at < entries.len());
            assert_eq!(moved.expect("moves"), held.at.is_some(), "cursor {step:?}");
            let want = held.at.map(|at| entries[at]);
            assert!(cursor.key() == want.map(|(k, _)| self.keys[k as usize].as_slice()), "its key");
            let got = cursor.entry().expect("an entry");
            self.same_entry("a cursor", got, want);
        }
        self.held.cursors.insert(i, held);
    }

    /// Handles that have outlived their database: what was read stays, what is read is right or
    /// refused, and nothing of it harms the database that was opened in the same place since.
    pub fn outlive(&mut self, held: Held, closed: bool) {
        for (got, _, want) in &held.pins {
            assert!(got[..] == want.bytes()[..], "a pinned value of a closed database");
        }
        for mut held in held.ranges {
            while let Some(want) = held.want.pop_front() {
                match held.range.next().expect("more, or an error") {
                    Ok((key, value)) => {
                        assert!(key == self.keys[want.0 as usize] && value == want.1.bytes());
                    }
                    Err(e) => {
                        let kind = e.kind();
                        assert!(matches!(kind, ErrorKind::Closed | ErrorKind::Io), "{e:?}");
                        break;
                    }
                }
            }
        }
        for held in held.transactions {
            if let Handle::Guard(guard) = held.handle {
                let result = guard.commit();
                if closed {
                    refused(result, ErrorKind::Closed);
                }
            }
        }
    }

    /// Reads a snapshot in full and drops it.
    fn drop_snapshot(&mut self, i: usize) {
        let held = self.held.snapshots.remove(i);
        for n in 0..4 {
            let (keyspace, life) = self.keyspace(n);
            let entries = self.model.entries(life, 0, None, held.at);
            let range = held.snapshot.range_in(&keyspace, None, None).expect("a range");
            self.compare_all("a snapshot", range, entries);
        }
    }
}

/// The entries with a transaction's writes laid over them.
fn overlay(entries: Vec<(Key, Value)>, writes: &Writes, life: Life) -> Vec<(Key, Value)> {
    let mut all: BTreeMap<Key, Value> = entries.into_iter().collect();
    for ((_, key), value) in writes.iter().filter(|((l, _), _)| *l == life) {
        match value {
            Some(value) => all.insert(*key, *value),
            None => all.remove(key),
        };
    }
    all.into_iter().collect()
}
