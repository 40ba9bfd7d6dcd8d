//! What the edits of a manifest add up to.
//!
//! 1. Partitions of a row are sorted by key and do not overlap.
//! 2. A data segment belongs to one partition; a partition has one to three, its root in one of them.
//! 3. Runs are listed newest first; their numbers never overlap.
//! 4. Ids handed out are below the `next_*` counters, which never go back.
//! 5. Only runs that are there have range deletes.
//! 6. A blob segment that a partition refers to is listed.
//! 7. The keyspaces of an index are listed; that of its entries is of one index, and has none itself.
//!
//! `apply` keeps them. No I/O, no threads.

use super::droppable::Droppable;
use std::collections::{BTreeMap, BTreeSet};

use super::interval::KeyInterval;
use super::lives::Lives;
use super::time_map::TimeMap;
use crate::index::IndexSpec;
use crate::types::{
    DatabaseId, KeyspaceId, LogId, PageAddress, PartitionId, RunId, SegmentId, Seq, Time,
};

/// Where a segment's filter pages lie: back to back from `offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterRef {
    /// Offset of the first filter page.
    pub offset: u64,
    /// Stored bytes of each page but the last.
    pub page_stored_bytes: u32,
    /// The number of pages.
    pub pages: u32,
    /// Stored bytes of the last page.
    pub last_page_stored_bytes: u32,
}

/// A segment that holds pages of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionSegment {
    /// The file.
    pub id: SegmentId,
    /// Its length.
    pub file_bytes: u64,
    /// Stored bytes of its pages that the partition still reaches.
    pub live_bytes: u64,
    /// The filter of the keys written with it; without one any key may be there.
    pub filter: Option<FilterRef>,
}

/// Bytes of a blob segment that a partition refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobUse {
    /// The blob segment.
    pub segment: SegmentId,
    /// Stored bytes referred to.
    pub bytes: u64,
}

/// One immutable tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionMeta {
    /// Its id.
    pub id: PartitionId,
    /// The root page.
    pub root: PageAddress,
    /// Levels above the leaves; 0 when the root is a leaf.
    pub height: u8,
    /// A bound at or below its first key.
    pub first_key: Vec<u8>,
    /// A bound at or above its last key, inclusive.
    pub last_key: Vec<u8>,
    /// The files its pages lie in, at most three.
    pub segments: Vec<PartitionSegment>,
    /// Entries, all versions.
    pub entries: u64,
    /// Entries that are tombstones.
    pub tombstones: u64,
    /// Bytes of keys and values.
    pub raw_bytes: u64,
    /// Stored bytes of all reachable pages.
    pub live_bytes: u64,
    /// The highest number.
    pub max_seq: Seq,
    /// Bytes of entries that only some views can see.
    pub droppable: Droppable,
    /// When entries expire.
    pub lives: Lives,
    /// The large values that it refers to.
    pub blobs: Vec<BlobUse>,
    /// The commit that all of it is of, where it was ingested: its leaves hold no numbers, and to
    /// those who read at less nothing of it is there. 0 elsewhere.
    pub ingested: Seq,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunMeta {
    /// Its id.
    pub id: RunId,
    /// By key.
    pub partitions: Vec<PartitionMeta>,
    /// What it has given to the base, sorted and joined.
    pub consumed: Vec<KeyInterval>,
    /// The lowest commit it may hold.
    pub low: Seq,
    /// The highest commit it may hold.
    pub high: Seq,
}

/// One keyspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyspaceState {
    /// Its id.
    pub id: KeyspaceId,
    /// Its name, unique.
    pub name: String,
    /// Memtable size at which it is sealed.
    pub write_buffer_size: u64,
    /// Codec of new pages, as in a page; [`CODEC_OF_DATABASE`] where the database's options say.
    pub codec: u8,
    /// Target size of its leaves.
    pub page_bytes: u32,
    /// The profile it was made under.
    pub profile: u8,
    /// How long what is put without a lifetime of its own lives, in milliseconds; 0: for ever.
    pub default_ttl: u64,
    /// The name of its merge operator.
    pub merge_operator: Option<String>,
    /// Every commit up to this is in the rows.
    pub flushed: Seq,
    /// Newest first.
    pub runs: Vec<RunMeta>,
    /// By key.
    pub base: Vec<PartitionMeta>,
    /// The range deletes of runs that have any: a row whose keys are where ranges start.
    pub ranges: BTreeMap<RunId, Vec<PartitionMeta>>,
    /// Level of the codec, where one was chosen with it.
    pub level: Option<i32>,
}

/// A log file that is kept for readers of changes, and is no part of the log any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptLog {
    /// The file.
    pub id: LogId,
    /// Its first commit.
    pub first: Seq,
    /// Its last.
    pub last: Seq,
    /// Its length.
    pub bytes: u64,
    /// The large values that it refers to.
    pub blobs: Vec<BlobUse>,
}

impl KeptLog {
    /// What it keeps from being given back: its own bytes, and those of large values.
    pub fn held_bytes(&self) -> u64 {
        self.blobs.iter().fold(self.bytes, |sum, blob| sum.saturating_add(blob.bytes))
    }
}

impl KeyspaceState {
    /// Every partition of every row.
    pub fn partitions(&self) -> impl Iterator<Item = &PartitionMeta> {
        let runs = self.runs.iter().flat_map(|r| &r.partitions);
        runs.chain(&self.base).chain(self.ranges.values().flatten())
    }
}

/// In place of a codec: the keyspace was made without one of its own.
pub const CODEC_OF_DATABASE: u8 = 255;

/// One secondary index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexState {
    /// The keyspace that its entries are in, which has no other use.
    pub storage: KeyspaceId,
    /// The keyspace whose rows it is over.
    pub keyspace: KeyspaceId,
    /// Its name, unique among those of its keyspace.
    pub name: String,
    /// What it is over.
    pub spec: IndexSpec,
    /// Whether every row has its entries; else it is being built.
    pub ready: bool,
}

/// The whole database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestState {
    /// The database's id.
    pub db: DatabaseId,
    /// The number of the last edit applied.
    pub edit: u64,
    /// The next free segment id.
    pub next_segment: u64,
    /// The next free partition id.
    pub next_partition: u64,
    /// The next free run id.
    pub next_run: u64,
    /// The next free keyspace id.
    pub next_keyspace: u32,
    /// The first log segment that recovery reads; 0 where there is no log.
    pub log_start: LogId,
    /// A commit that is durable, as are all before it: the log, where there is one, begins at or before
    /// the one after it, and ends at or behind it.
    pub last_seq: Seq,
    /// No moment before this was told by a clock that lives were judged by.
    pub time: Time,
    /// By id.
    pub keyspaces: BTreeMap<KeyspaceId, KeyspaceState>,
    /// Blob segments in use, with their lengths.
    pub blob_segments: BTreeMap<SegmentId, u64>,
    /// Moments before this commit may have been dropped from the rows; where it is not known, all
    /// before the last.
    pub history_floor: Option<Seq>,
    /// Which commit was the newest at which time.
    pub times: TimeMap,
    /// By name, the last commit that a reader of changes has done with.
    pub cursors: BTreeMap<String, Seq>,
    /// Log files kept for readers of changes.
    pub kept_logs: BTreeMap<LogId, KeptLog>,
    /// By the keyspace of their entries.
    pub indexes: BTreeMap<KeyspaceId, IndexState>,
}

impl ManifestState {
    /// The state of a database that has nothing yet.
    pub fn new(db: DatabaseId) -> Self {
        Self {
            db,
            edit: 0,
            next_segment: 1,
            next_partition: 1,
            next_run: 1,
            next_keyspace: 1,
            log_start: LogId(0),
            last_seq: Seq(0),
            time: Time::BEFORE_ALL,
            keyspaces: BTreeMap::new(),
            blob_segments: BTreeMap::new(),
            history_floor: None,
            times: TimeMap::default(),
            cursors: BTreeMap::new(),
            kept_logs: BTreeMap::new(),
            indexes: BTreeMap::new(),
        }
    }

    /// Every segment file that belongs to the database.
    pub fn referenced_segments(&self) -> BTreeSet<SegmentId> {
        self.partitions()
            .flat_map(|p| p.segments.iter().map(|s| s.id))
            .chain(self.blob_segments.keys().copied())
            .collect()
    }

    /// The first commit that some cursor has not done with.
    pub fn needed_by_cursors(&self) -> Option<Seq> {
        self.cursors.values().min().map(|seq| seq.next())
    }

    /// Every partition of every row.
    pub fn partitions(&self) -> impl Iterator<Item = &PartitionMeta> {
        self.keyspaces.values().flat_map(KeyspaceState::partitions)
    }
}
