//! The range deletes of a run on disk: a row of partitions like others, whose keys are where ranges start
//! and whose values are where they end; several versions of a key are the numbers of that range.
//!
//! 1. Ranges are in order and do not overlap; each ends behind its start, which is a key that there can be.
//! 2. Within their run they have been applied: they hide what older sources have, and nothing else.
//! 3. What the run has given to the base they hide no more: `active` is without it.
//!
//! Value: one byte, 0 for a range without an end, or 1 and then the end. Read once, when the run is
//! opened, and immutable after that.

use std::sync::Arc;

use crate::cache::Pager;
use crate::error::{Error, Result};
use crate::limits::MAX_KEY_BYTES;
use crate::manifest::{KeyInterval, PartitionMeta};
use crate::ranges::{Key, ListFragment, RangeList};
use crate::store::environment::Environment;
use crate::store::keyspace::KeyspaceStore;
use crate::store::row_writer::RowWriter;
use crate::store::version::Row;
use crate::tree::{CursorOptions, PartitionCursor, PartitionReader};
use crate::types::{Entry, EntryValue, Seq};

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct RunRanges {
    /// Where they lie.
    pub row: Row,
    /// Those that still count.
    pub active: Arc<RangeList>,
}

fn encode_end(end: Option<&[u8]>) -> Vec<u8> {
    let mut value = vec![u8::from(end.is_some())];
    value.extend_from_slice(end.unwrap_or_default());
    value
}

/// The entries that a list is written as.
pub fn entries_of(list: &RangeList) -> impl Iterator<Item = (&[u8], Seq, Vec<u8>)> {
    list.fragments()
        .iter()
        .flat_map(|f| f.seqs.iter().map(|seq| (&*f.start, *seq, encode_end(f.end.as_deref()))))
}

/// The end of a range, from an entry's value; `None` where it is none.
#[allow(clippy::option_option)] // not a value of this kind; a range without an end; one with an end
pub fn decode_end(value: &EntryValue<'_>) -> Option<Option<Vec<u8>>> {
    match value {
        EntryValue::Inline([0]) => Some(None),
        EntryValue::Inline([1, end @ ..]) => Some(Some(end.to_vec())),
        _ => None,
    }
}

fn damaged(partition: &PartitionReader, what: &str) -> Error {
    let path = partition.segments().first().map(|s| s.path().to_path_buf()).unwrap_or_default();
    Error::corrupt(&path, partition.meta().root.offset, what)
}

impl RunRanges {
    /// Writes a list out.
    pub fn write(env: &Environment, keyspace: &KeyspaceStore, list: RangeList) -> Result<Self> {
        let list = list.starting_at_keys(MAX_KEY_BYTES);
        if list.is_empty() {
            return Ok(Self::default());
        }
        let mut out = RowWriter::new(env, keyspace, None);
        for (start, seq, end) in entries_of(&list) {
            out.push(start, seq, Entry::lasting(EntryValue::Inline(&end)))?;
        }
        Ok(Self { row: Row { partitions: out.finish()?.into() }, active: Arc::new(list) })
    }

    /// Reads those of a run which has given `consumed` to the base.
    pub fn open(row: Row, consumed: &[KeyInterval], pager: &Pager) -> Result<Self> {
        let mut all: Vec<ListFragment> = Vec::new();
        for partition in &*row.partitions {
            read(partition, pager, &mut all)?;
        }
        let active = Arc::new(RangeList::new(all).without(holes(consumed)));
        Ok(Self { row, active })
    }

    /// These without what has been given to the base.
    #[must_use]
    pub fn without(&self, consumed: &[KeyInterval]) -> Self {
        let active = self.active.without(holes(consumed));
        if active.is_empty() {
            return Self::default();
        }
        Self { row: self.row.clone(), active: Arc::new(active) }
    }

    /// The metadata of its partitions.
    pub fn metas(&self) -> Vec<PartitionMeta> {
        self.row.metas()
    }
}

fn holes(consumed: &[KeyInterval]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> + Clone {
    consumed.iter().map(|i| (i.start.as_slice(), i.end.as_deref()))
}

/// Adds the ranges of a partition to those before it.
fn read(
    partition: &Arc<PartitionReader>,
    pager: &Pager,
    all: &mut Vec<ListFragment>,
) -> Result<()> {
    const ONCE: CursorOptions = CursorOptions { uncached: true, read_ahead: 8 };
    let mut cursor = PartitionCursor::new(Arc::clone(partition), pager.clone(), ONCE);
    cursor.first()?;
    while cursor.valid() {
        let (start, end) = (cursor.key(), decode_end(&cursor.value()));
        let end = end.ok_or_else(|| damaged(partition, "an entry is no range delete"))?;
        if end.as_ref().is_some_and(|e| e.as_slice() <= start) {
            return Err(damaged(partition, "a range delete ends before it begins"));
        }
        let mut seqs: Vec<Seq> = Vec::new();
        let start: Key = start.into();
        while cursor.valid() && *cursor.key() == *start {
            if decode_end(&cursor.value()).as_ref() != Some(&end) {
                return Err(damaged(partition, "a range delete has two ends"));
            }
            seqs.push(cursor.seq());
            cursor.next()?;
        }
        if all.last().is_some_and(|l| l.end.as_ref().is_none_or(|e| *e > start)) {
            return Err(damaged(partition, "range deletes overlap"));
        }
        let end = end.map(Into::into);
        all.push(ListFragment { start, end, seqs: seqs.into() });
    }
    Ok(())
}

/// Checks what the ranges of a run are, beyond their pages.
pub fn check(row: &Row, pager: &Pager) -> Result<()> {
    let mut all = Vec::new();
    row.partitions.iter().try_for_each(|p| read(p, pager, &mut all))
}
