//! Turns a sorted stream of entries into partitions of a target size.
//!
//! 1. A boundary never divides the versions of one key.
//! 2. Partitions of a run end where partitions of the base do, once they have some size: what a run has
//!    given to the base is given back by partitions, and a renewal takes one of the base at a time. Not
//!    where leaves are packed with a dictionary, which every partition would have to hold.
//! 3. Nothing that was written is referred to by anybody until the edit; if the job fails, the
//!    files are removed.

use std::sync::Arc;

use crate::compress::Dictionary;
use crate::error::Result;
use crate::manifest::ViewSpan;
use crate::segment::Segment;
use crate::store::environment::Environment;
use crate::store::keyspace::KeyspaceStore;
use crate::store::version::Row;
use crate::tree::{PartitionReader, PartitionWriter, WriterContext};
use crate::types::{Entry, Seq};

/// A partition is not ended early while it is smaller than that part of a full one, or of the base: every
/// file is held open, and where the base is large, full ones are small enough.
const PART_OF_FULL: u64 = 16;
const PART_OF_BASE: u64 = 256;

/// Writes one row.
#[derive(Debug)]
pub struct RowWriter<'a> {
    env: &'a Environment,
    keyspace: &'a KeyspaceStore,
    current: Option<PartitionWriter>,
    done: Vec<Arc<PartitionReader>>,
    new_segments: Vec<Arc<Segment>>,
    /// The partition whose leaves may be kept.
    adopted_from: Option<Arc<PartitionReader>>,
    /// A row that must stay one partition: it keeps leaves of another's segments, or joins several.
    undivided: bool,
    /// The base, and the first of its partitions, past the first of all, that begins after the last key.
    base: Option<(Row, usize)>,
    /// Stored bytes from which a partition may be ended early.
    least: u64,
    dictionary: Option<Arc<Dictionary>>,
}

impl<'a> RowWriter<'a> {
    /// A writer for a row of `keyspace`; with `adopted_from`, of one partition, which may keep
    /// leaves of that one.
    pub fn new(
        env: &'a Environment,
        keyspace: &'a KeyspaceStore,
        adopted_from: Option<Arc<PartitionReader>>,
    ) -> Self {
        Self {
            env,
            keyspace,
            current: None,
            done: Vec::new(),
            new_segments: Vec::new(),
            undivided: adopted_from.is_some(),
            adopted_from,
            base: None,
            least: 0,
            dictionary: None,
        }
    }

    /// Packs leaves with a dictionary, where there is one.
    pub fn pack_with(&mut self, dictionary: Option<Arc<Dictionary>>) {
        self.dictionary = dictionary;
    }

    /// Ends partitions where those of `base` end.
    pub fn end_with(&mut self, base: &Row) {
        let full = self.keyspace.options.partition_bytes();
        self.least = (full / PART_OF_FULL).max(base.live_bytes() / PART_OF_BASE).min(full);
        self.base = Some((base.clone(), 1));
    }

    /// Whether `key` is the first in the range of another partition of the base than the key before.
    fn enters_another(&mut self, key: &[u8]) -> bool {
        let Some((base, next)) = &mut self.base else { return false };
        let before = *next;
        while base.partitions.get(*next).is_some_and(|p| p.meta().first_key.as_slice() <= key) {
            *next += 1;
        }
        *next > before
    }

    /// Makes the row one partition, however large.
    pub fn keep_together(&mut self) {
        self.undivided = true;
    }

    /// The writer of the current partition, begun where there is none.
    pub fn partition(&mut self) -> Result<&mut PartitionWriter> {
        if self.current.is_none() {
            let context = WriterContext {
                vfs: Arc::clone(&self.env.vfs),
                dir: self.env.dir.clone(),
                db: self.env.db.clone(),
                keyspace: self.keyspace.id,
                packing: self.keyspace.options.packing,
                dictionary: self.dictionary.clone(),
                dictionaries: Arc::clone(&self.env.dictionaries),
                packed: Arc::clone(&self.env.packed),
                page_bytes: self.keyspace.options.page_bytes as usize,
            };
            let (segment, partition) = (self.env.new_segment(), self.env.new_partition());
            self.current = Some(PartitionWriter::new(context, segment, partition));
        }
        Ok(self.current.as_mut().expect("made above"))
    }

    /// Adds an entry.
    pub fn push(&mut self, key: &[u8], seq: Seq, entry: Entry<'_>) -> Result<()> {
        let full = self.keyspace.options.partition_bytes();
        let ends_early = self.dictionary.is_none() && self.enters_another(key);
        let target = if ends_early { self.least } else { full };
        // Stored bytes, by which the policy joins small neighbours too: were the raw leaf at hand
        // counted, two that it joins could be parted again, and joined, for ever.
        let ends = |w: &PartitionWriter| w.stored_bytes() >= target && !w.ends_with(key);
        if !self.undivided && self.current.as_ref().is_some_and(ends) {
            self.end_partition()?;
        }
        self.partition()?.push(key, seq, entry)
    }

    /// Stored bytes so far.
    pub fn stored_bytes(&self) -> u64 {
        let done: u64 = self.done.iter().map(|p| p.meta().live_bytes).sum();
        done + self.current.as_ref().map_or(0, PartitionWriter::stored_bytes)
    }

    /// Notes that `bytes` just written could go once no view is in `span`.
    pub fn note_droppable(&mut self, bytes: u64, span: ViewSpan) {
        if let Some(w) = &mut self.current {
            w.note_droppable(bytes, span);
        }
    }

    /// Takes a partition over whole.
    pub fn take_over(&mut self, partition: Arc<PartitionReader>) -> Result<()> {
        self.end_partition()?;
        self.done.push(partition);
        Ok(())
    }

    fn end_partition(&mut self) -> Result<()> {
        if let Some(writer) = self.current.take() {
            if writer.is_empty() {
                return writer.abandon();
            }
            let (meta, segment) = writer.finish()?;
            let kept = self.adopted_from.iter().flat_map(|p| p.segments()).cloned();
            let segments = segment.iter().cloned().chain(kept).collect();
            self.new_segments.extend(segment);
            self.done.push(Arc::new(PartitionReader::open(meta, segments)?));
        }
        Ok(())
    }

    /// Ends the row: every page is on the device, file names included.
    pub fn finish(mut self) -> Result<Vec<Arc<PartitionReader>>> {
        self.end_partition()?;
        if !self.new_segments.is_empty() {
            self.env.sync_segment_dir()?;
        }
        self.new_segments.clear();
        Ok(std::mem::take(&mut self.done))
    }
}

impl Drop for RowWriter<'_> {
    fn drop(&mut self) {
        // Only after a failure: `finish` empties the list. Segments that were there before the job
        // (of leaves that were kept) are not this row's to remove, so only the new one goes.
        let leaving = self.env.blobs.leaving();
        self.new_segments.iter().for_each(|s| s.mark_obsolete(leaving));
    }
}

/// Removes the new files of a finished row that could not be published.
pub fn discard(new: &[Arc<PartitionReader>], old: &[Arc<PartitionReader>], env: &Environment) {
    if env.check_writable().is_ok() {
        env.release(new, old);
    }
    // A poisoned handle keeps the files: the failed edit may name them after all.
}
