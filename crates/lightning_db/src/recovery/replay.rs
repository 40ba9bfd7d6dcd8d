//! The log, read into memtables.
//!
//! 1. A keyspace's entries up to the number its manifest record says is flushed are passed over,
//!    and so are those of keyspaces that were dropped.
//! 2. A record whose large values cannot be read counts as a bad record: at the log's unvouched
//!    end it is cut off, before that it is damage.
//! 3. For writing, large values that are replayed are written anew (see the module's header).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::kept::Moved;
use crate::commit::apply::apply;
use crate::commit::batch::{Operations, Write};
use crate::error::{ErrorKind, Result};
use crate::manifest::ManifestState;
use crate::memtable::{Memtable, Readers};
use crate::store::blobs::BlobStore;
use crate::types::{BlobRef, Entry, EntryValue, KeyspaceId, Seq};
use crate::wal::Visit;

/// Memtables being filled from the log.
#[derive(Debug)]
pub struct Replay<'a> {
    state: &'a ManifestState,
    blobs: &'a BlobStore,
    rewrite_blobs: bool,
    /// The large values that were written anew, by where they were.
    pub moved: Moved,
    /// What the log holds beyond the runs, by keyspace.
    pub memtables: BTreeMap<KeyspaceId, Arc<Memtable>>,
    /// Operations replayed.
    pub operations: u64,
}

impl<'a> Replay<'a> {
    /// Fills memtables beyond `state`.
    pub fn new(state: &'a ManifestState, blobs: &'a BlobStore, rewrite_blobs: bool) -> Self {
        let moved = Moved::new();
        Self { state, blobs, rewrite_blobs, moved, memtables: BTreeMap::new(), operations: 0 }
    }

    /// Takes one record.
    pub fn visit(&mut self, seq: Seq, body: &[u8]) -> Result<Visit> {
        // First everything that can refuse the record, then what changes memtables.
        let mut moved: Vec<BlobRef> = Vec::new();
        let mut from: Vec<BlobRef> = Vec::new();
        for part in Operations::new(body) {
            let Ok(part) = part else { return Ok(Visit::Unusable) };
            let Write::Entry(op) = part else { continue };
            let EntryValue::Blob(blob) = op.entry.value else { continue };
            if !self.wants(op.keyspace, seq) {
                continue;
            }
            from.push(blob);
            match self.check_blob(&blob) {
                Ok(()) if self.rewrite_blobs => moved.push(self.blobs.pin().copy(&blob)?),
                Ok(()) => moved.push(blob),
                Err(e) if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                    return Ok(Visit::Unusable);
                }
                Err(e) => return Err(e),
            }
        }
        if self.rewrite_blobs {
            let places = from.iter().map(|blob| (blob.segment, blob.offset));
            self.moved.extend(places.zip(moved.iter().copied()));
        }
        let mut moved = moved.into_iter();
        let (state, memtables) = (self.state, &mut self.memtables);
        let wanted = |id: KeyspaceId| {
            let flushed = state.keyspaces.get(&id).filter(|k| seq > k.flushed)?.flushed;
            let new = || Arc::new(Memtable::new(id, flushed.next()));
            Some(Arc::clone(memtables.entry(id).or_insert_with(new)))
        };
        let applied = apply(
            body,
            seq,
            wanted,
            |op| match op.entry.value {
                EntryValue::Blob(_) => {
                    let value = EntryValue::Blob(moved.next().expect("one for each"));
                    Entry { value, ..op.entry }
                }
                _ => op.entry,
            },
            |_| (),
            // Nobody reads yet.
            || Readers { views: Vec::new(), visible: Seq(u64::MAX) },
        )?;
        self.operations += applied;
        Ok(Visit::Accept)
    }

    fn wants(&self, keyspace: KeyspaceId, seq: Seq) -> bool {
        self.state.keyspaces.get(&keyspace).is_some_and(|k| seq > k.flushed)
    }

    fn check_blob(&self, blob: &BlobRef) -> Result<()> {
        if self.blobs.segment(blob.segment).is_err() {
            self.blobs.open_segment(blob.segment)?;
        }
        self.blobs.segment(blob.segment)?.verify_blob(blob)
    }
}
