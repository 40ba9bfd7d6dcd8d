//! What a keyspace consisted of at one moment: memtables, runs and base, newest first.
//!
//! 1. A version never changes, but that its active memtable grows.
//! 2. `sealed` and `runs` are newest first; every entry of an earlier source is newer than every
//!    entry of a later one for the same key.
//! 3. Partitions of one row do not overlap. Of a run, keys inside `consumed` have been given to
//!    the base and must be passed over before filters or pages are looked at.
//!
//! Readers get a version through `ArcSwap`, without a latch.

use std::sync::Arc;

use crate::manifest::{KeyInterval, PartitionMeta, RunMeta};
use crate::memtable::Memtable;
use crate::store::range_row::RunRanges;
use crate::tree::PartitionReader;
use crate::types::{RunId, Seq};

/// Partitions in key order that do not overlap.
#[derive(Debug, Default, Clone)]
pub struct Row {
    /// The partitions, by key. Shared: each cursor has them.
    pub partitions: Arc<[Arc<PartitionReader>]>,
}

impl Row {
    /// The partition whose range holds `key`.
    #[inline]
    pub fn find(&self, key: &[u8]) -> Option<&Arc<PartitionReader>> {
        let i = self.first_ending_at_or_after(key);
        self.partitions.get(i).filter(|p| p.meta().first_key.as_slice() <= key)
    }

    /// The index of the first partition whose last key is `key` or later.
    #[inline]
    pub fn first_ending_at_or_after(&self, key: &[u8]) -> usize {
        self.partitions.partition_point(|p| p.meta().last_key.as_slice() < key)
    }

    /// The partitions that may hold keys from `start` on, below `end`.
    pub fn within(&self, start: &[u8], end: Option<&[u8]>) -> &[Arc<PartitionReader>] {
        let from = &self.partitions[self.first_ending_at_or_after(start)..];
        let begins_below = |e: &[u8]| from.partition_point(|p| p.meta().first_key.as_slice() < e);
        &from[..end.map_or(from.len(), begins_below)]
    }

    /// The row without what was ingested after `at`.
    pub fn seen_at(&self, at: Seq) -> Self {
        if self.partitions.iter().all(|p| p.meta().ingested <= at) {
            return self.clone();
        }
        let seen = self.partitions.iter().filter(|p| p.meta().ingested <= at);
        Self { partitions: seen.cloned().collect() }
    }

    /// Stored bytes of all reachable pages.
    pub fn live_bytes(&self) -> u64 {
        self.partitions.iter().map(|p| p.meta().live_bytes).sum()
    }

    /// Bytes of all segment files.
    pub fn file_bytes(&self) -> u64 {
        self.partitions.iter().flat_map(|p| &p.meta().segments).map(|s| s.file_bytes).sum()
    }

    /// The metadata of all partitions.
    pub fn metas(&self) -> Vec<PartitionMeta> {
        self.partitions.iter().map(|p| p.meta().clone()).collect()
    }
}

/// One run.
#[derive(Debug)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// The lowest commit in it.
    pub low: Seq,
    /// The highest commit in it.
    pub high: Seq,
    /// Its partitions.
    pub row: Row,
    /// What it has given to the base.
    pub consumed: Vec<KeyInterval>,
    /// Its range deletes, which act on older sources only.
    pub ranges: RunRanges,
    /// Stored bytes outside `consumed`, estimated where a partition is partly consumed.
    pub live_bytes: u64,
}

impl Run {
    /// Whether `key` has been given to the base.
    #[inline]
    pub fn is_consumed(&self, key: &[u8]) -> bool {
        !self.consumed.is_empty() && self.consumed.iter().any(|i| i.contains(key))
    }

    /// Whether it hides `key` in older sources from a read at `at`, by a range delete. Asked where the key
    /// is not in the run itself, and was not given to the base.
    #[inline]
    pub fn hides(&self, key: &[u8], at: Seq) -> bool {
        !self.ranges.active.is_empty() && self.ranges.active.hides(key, at)
    }

    /// Whether any of its partitions or range deletes reaches into `range`.
    pub fn reaches(&self, range: &KeyInterval) -> bool {
        let overlaps =
            |p: &Arc<PartitionReader>| range.overlaps(&p.meta().first_key, &p.meta().last_key);
        self.row.partitions.iter().any(overlaps)
            || self.ranges.active.overlaps(&range.start, range.end.as_deref())
    }

    /// Every partition, those of range deletes too.
    pub fn partitions(&self) -> impl Iterator<Item = &Arc<PartitionReader>> {
        self.row.partitions.iter().chain(&*self.ranges.row.partitions)
    }

    /// The run as the manifest keeps it, but for its range deletes.
    pub fn meta(&self) -> RunMeta {
        RunMeta {
            id: self.id,
            partitions: self.row.metas(),
            consumed: self.consumed.clone(),
            low: self.low,
            high: self.high,
        }
    }
}

/// A keyspace at one moment.
#[derive(Debug, Clone)]
pub struct Version {
    /// Takes the writes.
    pub active: Arc<Memtable>,
    /// Waiting to be flushed, newest first.
    pub sealed: Vec<Arc<Memtable>>,
    /// Newest first.
    pub runs: Vec<Arc<Run>>,
    /// The last row.
    pub base: Row,
}

impl Version {
    /// The memtables, newest first.
    pub fn memtables(&self) -> impl Iterator<Item = &Arc<Memtable>> {
        std::iter::once(&self.active).chain(&self.sealed)
    }

    /// Every partition of every row.
    pub fn partitions(&self) -> impl Iterator<Item = &Arc<PartitionReader>> {
        self.runs.iter().flat_map(|r| r.partitions()).chain(&*self.base.partitions)
    }

    /// Every partition that has keys and values: all but those of range deletes.
    pub fn data_partitions(&self) -> impl Iterator<Item = &Arc<PartitionReader>> {
        self.runs.iter().flat_map(|r| &*r.row.partitions).chain(&*self.base.partitions)
    }

    /// Stored bytes of the runs that the base does not have yet.
    pub fn stacked_bytes(&self) -> u64 {
        self.runs.iter().map(|r| r.live_bytes).sum()
    }

    /// Bytes held in memory by sealed memtables.
    pub fn sealed_bytes(&self) -> usize {
        self.sealed.iter().map(|m| m.bytes()).sum()
    }
}
