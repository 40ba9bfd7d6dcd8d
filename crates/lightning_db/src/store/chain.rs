//! The versions of one key that was merged into, as a flush or merge rewrites them.
//!
//! What the views of one bound see of a key is one *group* of versions, from the newest they see back to
//! the first value or deletion. (How versions fall to bounds is the retention rule's.)
//!
//! 1. Only versions of one group are folded with each other: no view comes to see another value.
//! 2. A group with a value, a deletion, or nothing older below it becomes a value. Another becomes as few
//!    entries of operands as the operator makes of them; each keeps the number of the newest it stands
//!    for, so that entries of one key have different numbers in every row that they meet in.
//! 3. Where the operator cannot make fewer and there are many, what lies below is looked up.
//! 4. Nothing is folded onto a value that expires, until it has for everybody: it is a deletion then.
//! 5. What the operator fails on, or nobody is there to fold, is written as it was: nothing is lost, and
//!    the job goes on.

use std::cell::Cell;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::limits::{BLOB_THRESHOLD_BYTES, MAX_VALUE_BYTES};
use crate::manifest::ViewSpan;
use crate::operators::Merger;
use crate::store::blobs::BlobPin;
use crate::store::environment::Environment;
use crate::store::fold;
use crate::store::keyspace::KeyspaceStore;
use crate::store::retention::{Fate, KeyRetention};
use crate::store::version::{Row, Run};
use crate::sync::atomic::Ordering;
use crate::types::{BlobRef, Entry, EntryValue, Expiry, Seq};

/// More entries of operands than this are folded onto what lies below.
const MANY: usize = 16;
/// A group of more bytes than this is not held in memory: it is written as it was.
const MAX_GROUP_BYTES: usize = 64 * 1024 * 1024;

/// What lies below the inputs of a job.
pub struct Older<'a> {
    runs: &'a [Arc<Run>],
    base: Option<&'a Row>,
}

impl<'a> Older<'a> {
    /// These runs, newest first, and the base.
    pub fn rows(runs: &'a [Arc<Run>], base: &'a Row) -> Self {
        Self { runs, base: Some(base) }
    }

    /// Nothing.
    pub fn none() -> Self {
        Self { runs: &[], base: None }
    }

    fn at(&self, key: &[u8]) -> impl Iterator<Item = &'a Row> {
        let runs = self.runs.iter().filter(|r| !r.is_consumed(key)).map(|r| &r.row);
        runs.chain(self.base)
    }

    /// Whether it surely has no version of `key`.
    pub fn is_nothing(&self, key: &[u8]) -> bool {
        self.at(key).all(|row| row.find(key).is_none())
    }
}

/// Where the rewritten versions go.
pub trait Sink {
    /// Writes an entry, and notes which views it is of use to if not to all.
    fn put(&mut self, key: &[u8], seq: Seq, entry: Entry<'_>, span: Option<ViewSpan>)
    -> Result<()>;
}

/// The surroundings of a rewriting.
pub struct Folding<'a> {
    pub env: &'a Environment,
    pub keyspace: &'a KeyspaceStore,
    pub older: Older<'a>,
    /// Whether values that became large may go to blob pages, which the job then names.
    pub may_write_blobs: bool,
    /// Whether any did.
    pub wrote_blobs: Cell<bool>,
    /// Holds them until the job has published what refers to them.
    pin: BlobPin<'a>,
}

impl<'a> Folding<'a> {
    /// Of `keyspace`, above what is `older`.
    pub fn new(
        env: &'a Environment,
        keyspace: &'a KeyspaceStore,
        older: Older<'a>,
        may_write_blobs: bool,
    ) -> Self {
        let pin = env.blobs.pin();
        Self { env, keyspace, older, may_write_blobs, wrote_blobs: Cell::new(false), pin }
    }
}

/// A value or a deletion under operands.
enum Base {
    Value(Vec<u8>),
    Blob(BlobRef),
    Tombstone,
}

/// The versions that the views of one bound see.
struct Group {
    /// The number for a value: 0 where it is settled.
    stored: Seq,
    span: Option<ViewSpan>,
    /// Newest first.
    operands: Vec<(Seq, Vec<u8>)>,
    bytes: usize,
    base: Option<(Seq, Base, Expiry)>,
}

/// The versions of one key, newest first.
#[derive(Default)]
pub struct KeyChain {
    group: Option<Group>,
    /// Versions of the group at hand are written as they come.
    passing: bool,
}

impl KeyChain {
    /// Takes the next older version.
    pub fn add(
        &mut self,
        folding: &Folding<'_>,
        judge: &mut KeyRetention<'_>,
        key: &[u8],
        (seq, entry): (Seq, Entry<'_>),
        out: &mut dyn Sink,
    ) -> Result<()> {
        if judge.is_of_last_bound(seq) {
            return self.add_to_group(folding, key, seq, entry, out);
        }
        self.end_group(folding, key, out)?;
        let tombstone = entry.value.is_tombstone();
        let bottom = tombstone && folding.older.is_nothing(key);
        if let Fate::Keep { seq: stored, seen_by: span } = judge.judge(seq, tombstone, bottom) {
            let group = Group { stored, span, operands: Vec::new(), bytes: 0, base: None };
            self.group = Some(group);
            self.passing = false;
            self.add_to_group(folding, key, seq, entry, out)?;
        }
        Ok(())
    }

    fn add_to_group(
        &mut self,
        folding: &Folding<'_>,
        key: &[u8],
        seq: Seq,
        entry: Entry<'_>,
        out: &mut dyn Sink,
    ) -> Result<()> {
        // Without a group, or behind its base, nobody sees it.
        let Some(group) = self.group.as_mut().filter(|g| g.base.is_none()) else { return Ok(()) };
        let base = match entry.value {
            EntryValue::Operands(operands) => {
                group.bytes += operands.len() + size_of::<(Seq, Vec<u8>)>();
                if self.passing {
                    return out.put(key, seq, entry, group.span);
                }
                group.operands.push((seq, operands.to_vec()));
                let usable = folding.keyspace.merger().is_some_and(Merger::is_registered);
                if !usable || group.bytes > MAX_GROUP_BYTES {
                    self.passing = true;
                    return write_operands(group, key, out);
                }
                return Ok(());
            }
            EntryValue::Inline(value) => Base::Value(value.to_vec()),
            EntryValue::Blob(blob) => Base::Blob(blob),
            EntryValue::Tombstone => Base::Tombstone,
        };
        group.base = Some((seq, base, entry.expiry));
        Ok(())
    }

    /// Writes what is left, after the oldest version.
    pub fn end_group(
        &mut self,
        folding: &Folding<'_>,
        key: &[u8],
        out: &mut dyn Sink,
    ) -> Result<()> {
        let Some(mut group) = self.group.take() else { return Ok(()) };
        let folded =
            if group.operands.is_empty() { None } else { folding.fold(key, &mut group)? };
        match folded {
            Some(Base::Value(value)) => {
                let entry = Entry::lasting(EntryValue::Inline(&value));
                return out.put(key, group.stored, entry, group.span);
            }
            Some(Base::Blob(blob)) => {
                let entry = Entry::lasting(EntryValue::Blob(blob));
                return out.put(key, group.stored, entry, group.span);
            }
            Some(Base::Tombstone) | None => {}
        }
        let above = self.passing || !group.operands.is_empty();
        write_operands(&mut group, key, out)?;
        let Some((seq, base, expiry)) = group.base else { return Ok(()) };
        // Alone it is what the rule kept; under operands it is theirs.
        let stored = if above && group.stored != Seq(0) { seq } else { group.stored };
        let value = match &base {
            Base::Value(value) => EntryValue::Inline(value),
            Base::Blob(blob) => EntryValue::Blob(*blob),
            // Operands over nothing are as good as operands over a deletion.
            Base::Tombstone if above && group.stored == Seq(0) && folding.older.is_nothing(key) => {
                return Ok(());
            }
            Base::Tombstone => EntryValue::Tombstone,
        };
        out.put(key, stored, Entry { value, expiry }, group.span)
    }
}

fn write_operands(group: &mut Group, key: &[u8], out: &mut dyn Sink) -> Result<()> {
    for (seq, operands) in group.operands.drain(..) {
        out.put(key, seq, Entry::lasting(EntryValue::Operands(&operands)), group.span)?;
    }
    Ok(())
}

impl Folding<'_> {
    /// The value of a group; `None` where it stays operands, which are as few as can be then.
    fn fold(&self, key: &[u8], group: &mut Group) -> Result<Option<Base>> {
        let Some(merger) = self.keyspace.merger() else { return Ok(None) };
        let counters = &self.env.counters;
        let before = group.operands.len() as u64;
        let settled = group.stored == Seq(0);
        if group.base.is_none() && !(settled && self.older.is_nothing(key)) {
            group.operands = merger.shorten(key, std::mem::take(&mut group.operands));
            let after = group.operands.len();
            counters.folded_operands.fetch_add(before - after as u64, Ordering::Relaxed);
            if !settled || after <= MANY {
                return Ok(None);
            }
        }
        let value = self.base_of(key, group).and_then(|base| {
            if !base.lasts {
                return Ok(None);
            }
            let lists = group.operands.iter().map(|(_, l)| l.as_slice());
            merger.full(key, base.value.as_deref(), lists).map(Some)
        });
        let folded = match value {
            Ok(Some(value)) => self.stored_value(value)?,
            Ok(None) => None,
            // The operator, not the disk: that is for readers to hear of.
            Err(e) if is_operators(&e) => {
                counters.failed_folds.fetch_add(1, Ordering::Relaxed);
                None
            }
            Err(e) => return Err(e),
        };
        if folded.is_none() {
            group.operands = merger.shorten(key, std::mem::take(&mut group.operands));
        }
        let after = if folded.is_some() { 0 } else { group.operands.len() as u64 };
        counters.folded_operands.fetch_add(before - after, Ordering::Relaxed);
        Ok(folded)
    }

    fn base_of(&self, key: &[u8], group: &Group) -> Result<fold::Base> {
        let (env, keyspace) = (self.env, self.keyspace);
        let Some((_, base, expiry)) = &group.base else {
            let rows = self.older.at(key);
            return fold::in_older_rows(keyspace, rows, &env.pager, &env.blobs, key);
        };
        let value = match base {
            Base::Value(value) => Some(value.clone()),
            Base::Blob(blob) => Some(env.blobs.read(blob)?),
            Base::Tombstone => None,
        };
        Ok(fold::Base { value, lasts: expiry.is_never() })
    }

    /// Where a folded value is kept; `None` where it cannot be.
    fn stored_value(&self, value: Vec<u8>) -> Result<Option<Base>> {
        if value.len() < BLOB_THRESHOLD_BYTES {
            return Ok(Some(Base::Value(value)));
        }
        if !self.may_write_blobs || value.len() as u64 > MAX_VALUE_BYTES {
            return Ok(None);
        }
        self.wrote_blobs.set(true);
        Ok(Some(Base::Blob(self.pin.put(&value)?)))
    }
}

/// Whether an error is of the operator.
fn is_operators(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::MergeFailed | ErrorKind::NoMergeOperator)
}
