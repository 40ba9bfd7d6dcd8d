//! Whether anything in a range of keys was written after a commit: for validation of ranges that a
//! transaction has read. Parts whose highest number says that nothing was are not looked into.

use std::sync::Arc;

use crate::cache::Pager;
use crate::error::Result;
use crate::memtable::MemtableCursor;
use crate::store::source::{RowCursor, Source};
use crate::store::version::{Row, Version};
use crate::tree::CursorOptions;
use crate::types::Seq;

/// Validation reads each page once.
const ONCE: CursorOptions = CursorOptions { uncached: true, read_ahead: 4 };

/// Whether `version` holds an entry, or a range delete over any key, with `start <= key < end` and a number past `since`. Numbers
/// past a live view at `since` are never dropped or settled by merges.
pub fn changed_since(
    version: &Version,
    pager: &Pager,
    start: &[u8],
    end: Option<&[u8]>,
    since: Seq,
) -> Result<bool> {
    let within = |key: &[u8]| end.is_none_or(|e| key < e);
    for memtable in version.memtables() {
        if memtable.is_empty() || memtable.last_seq().is_some_and(|l| l <= since) {
            continue;
        }
        if memtable.range_deleted_since(start, end, since) {
            return Ok(true);
        }
        let mut cursor = MemtableCursor::new(Arc::clone(memtable));
        cursor.seek(start);
        while cursor.valid() && within(cursor.key()) {
            if cursor.seq() > since {
                return Ok(true);
            }
            cursor.next();
        }
    }
    for run in version.runs.iter().filter(|r| r.high > since) {
        if run.ranges.active.within(start, end).iter().any(|f| f.seqs[0] > since) {
            return Ok(true);
        }
    }
    let runs = version.runs.iter().filter(|r| r.high > since);
    for (row, consumed) in
        runs.map(|r| (&r.row, r.consumed.as_slice())).chain([(&version.base, [].as_slice())])
    {
        for partition in &*row.partitions {
            let m = partition.meta();
            if m.max_seq <= since || m.last_key.as_slice() < start || !within(&m.first_key) {
                continue;
            }
            for span in partition.leaves(pager) {
                let span = span?;
                if !within(span.start()) {
                    break;
                }
                if span.max_seq().max(m.ingested) <= since {
                    continue;
                }
                let alone = Row { partitions: Arc::new([Arc::clone(partition)]) };
                let cursor = RowCursor::new(alone, consumed, pager.clone(), ONCE);
                let mut entries = Source::Row(Box::new(cursor));
                entries.seek(start.max(span.start()))?;
                while entries.valid() && within(entries.key()) && span.covers(entries.key()) {
                    if entries.seq() > since {
                        return Ok(true);
                    }
                    entries.next()?;
                }
            }
        }
    }
    Ok(false)
}
