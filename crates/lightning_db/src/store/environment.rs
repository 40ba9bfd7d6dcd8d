//! What every flush and merge shares: files, cache, manifest, views, ids, counters.
//!
//! 1. An edit and the version that shows it are made current under one latch, the manifest's, so
//!    that both follow one order. Latch order: commit section, then a keyspace's job latches, then
//!    the manifest, then a keyspace's version.
//! 2. No edit is published once the log is poisoned.
//! 3. A file is marked for removal only after the edit that drops it is durable.
//! 4. Ids only grow, and every edit carries the next free ones.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::cache::PageCache;
use crate::cache::Pager;
use crate::cache::RowCache;
use crate::compress::{Dictionaries, PackCounters};
use crate::crypto::Owner;
use crate::error::{Error, ErrorKind, Result};
use crate::history::{Clocks, History};
use crate::manifest::{Edit, EditOp, Manifest, NextIds};
use crate::memtable::SpareChunks;
use crate::store::arrivals::Arrivals;
use crate::store::blobs::BlobStore;
use crate::store::lifetimes::{Dead, Lifetimes};
use crate::store::retention::Retention;
use crate::store::view::ViewRegistry;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::tree::PartitionReader;
use crate::types::{PartitionId, RunId, SegmentId, Seq};
use crate::vfs::Vfs;
use crate::wal::{LogFiles, LogSync};

/// Counts of background work since the database was opened.
#[derive(Debug, Default)]
pub struct Counters {
    /// Memtables flushed.
    pub flushes: AtomicU64,
    /// Bytes of runs written by flushes.
    pub flushed_bytes: AtomicU64,
    /// Merges of runs with each other.
    pub tier_merges: AtomicU64,
    /// Merges into the base, and renewals of its partitions.
    pub base_merges: AtomicU64,
    /// Partitions moved without being rewritten.
    pub adopted_partitions: AtomicU64,
    /// Leaves kept where they lay while their partition was renewed.
    pub adopted_leaves: AtomicU64,
    /// Bytes written by merges.
    pub merged_bytes: AtomicU64,
    /// Entries of operands that flushes and merges made fewer.
    pub folded_operands: AtomicU64,
    /// Keys that a merge operator failed on in a flush or merge.
    pub failed_folds: AtomicU64,
    /// Time spent in merges, in nanoseconds.
    pub merge_nanos: AtomicU64,
    /// Time writers were slowed, in nanoseconds.
    pub stall_nanos: AtomicU64,
}

/// The surroundings of a database's jobs.
#[derive(Debug)]
pub struct Environment {
    /// Files, clocks, randomness.
    pub vfs: Arc<dyn Vfs>,
    /// The database's directory.
    pub dir: PathBuf,
    /// The database's id, and its keys where it is encrypted.
    pub db: Owner,
    /// Opened pages.
    pub pager: Pager,
    /// The cache behind `pager`.
    pub cache: Arc<PageCache>,
    /// Newest values by key.
    pub rows: RowCache,
    /// Memory for memtables.
    pub spare: Arc<SpareChunks>,
    /// The time by which entries expire.
    pub lifetimes: Lifetimes,
    /// How far back the past is kept.
    pub history: History,
    /// Live read views.
    pub views: Arc<ViewRegistry>,
    /// The newest commit that readers may see.
    pub visible: Arc<AtomicU64>,
    /// The manifest; `None` in a handle opened read-only.
    pub manifest: Mutex<Option<Manifest>>,
    /// The next free segment id.
    pub next_segment: Arc<AtomicU64>,
    /// The next free partition id.
    pub next_partition: AtomicU64,
    /// The next free run id.
    pub next_run: AtomicU64,
    /// The next free keyspace id.
    pub next_keyspace: AtomicU64,
    /// Large values.
    pub blobs: Arc<BlobStore>,
    /// Durability of the log; `None` where there is no log.
    pub log: Option<Arc<LogSync>>,
    /// The log files that can be read.
    pub log_files: Arc<LogFiles>,
    /// Wakes those who wait for commits.
    pub arrivals: Arrivals,
    /// Set when the database closes: long jobs give up.
    pub stopping: AtomicBool,
    /// Why the handle takes no more writes, once it does not.
    pub poison: OnceLock<String>,
    /// Counts.
    pub counters: Counters,
    /// Dictionaries in use.
    pub dictionaries: Arc<Dictionaries>,
    /// Counts of pages packed.
    pub packed: Arc<PackCounters>,
    /// Leaves asked for ahead of a scan; 0 for none.
    pub read_ahead: usize,
}

impl Environment {
    /// The newest visible commit.
    #[inline]
    pub fn visible(&self) -> Seq {
        Seq(self.visible.load(Ordering::Acquire))
    }

    /// An id for a new segment.
    pub fn new_segment(&self) -> SegmentId {
        SegmentId(self.next_segment.fetch_add(1, Ordering::Relaxed))
    }

    /// An id for a new partition.
    pub fn new_partition(&self) -> PartitionId {
        PartitionId(self.next_partition.fetch_add(1, Ordering::Relaxed))
    }

    /// An id for a new run.
    pub fn new_run(&self) -> RunId {
        RunId(self.next_run.fetch_add(1, Ordering::Relaxed))
    }

    /// Time on a clock that never goes back.
    pub fn now(&self) -> Duration {
        self.vfs.monotonic()
    }

    /// What has expired for everybody, for one job.
    pub fn dead(&self) -> Dead {
        self.lifetimes.dead(&self.views, self.history.kept())
    }

    /// The time on both clocks.
    pub fn clocks(&self) -> Clocks {
        Clocks { wall: self.vfs.wall_clock(), steady: self.vfs.monotonic() }
    }

    /// The floor as it may be now: the oldest moment that the kept past, or a view opened from now on,
    /// can ask for.
    pub fn open_from(&self) -> Seq {
        let visible = self.visible();
        self.history.floor(visible, || self.clocks()).max(self.views.floor())
    }

    /// Raises the floor as far as the kept past allows, and gives the rule for a flush or merge that
    /// begins now.
    pub fn retention(&self) -> Retention {
        let floor = self.open_from();
        Retention::new(floor, &self.views.raise_floor(floor)).with(self.dead())
    }

    /// Makes the entries of the segment directory durable. A failure poisons the handle: it may have
    /// lost the names of other jobs' files, whose own syncs would then falsely succeed.
    pub fn sync_segment_dir(&self) -> Result<()> {
        let dir = self.dir.join("seg");
        self.vfs.sync_dir(&dir).map_err(|e| {
            let e = Error::io(&dir, "sync the directory", e);
            self.poison(&e);
            e
        })
    }

    /// An error when the handle takes no more writes.
    pub fn check_writable(&self) -> Result<()> {
        if let Some(e) = self.log.as_ref().and_then(|l| l.poisoned()) {
            return Err(e);
        }
        match self.poison.get().map(String::as_str).or(self.blobs.failed()) {
            None => Ok(()),
            Some(why) => Err(Error::new(
                ErrorKind::Poisoned,
                format!("an earlier failure stopped writes, reopen the database: {why}"),
            )),
        }
    }

    /// Stops writes for good, keeping the first reason.
    pub fn poison(&self, why: &Error) {
        self.poison.get_or_init(|| why.to_string());
    }

    /// An error when a long job should give up because the database is closing.
    pub fn check_running(&self) -> Result<()> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Closed, "the database is closing"));
        }
        Ok(())
    }

    /// Makes `edit` durable, then calls `show` to make it visible, as one step in the order of
    /// edits. An edit that failed half way poisons the handle: whether it took place is not known.
    ///
    /// With it go the floor, which is so never behind what the edit's rows have dropped, and new samples
    /// of time.
    pub fn publish<R>(&self, mut edit: Edit, show: impl FnOnce() -> R) -> Result<R> {
        let mut manifest = self.manifest.lock();
        self.check_writable()?;
        let manifest = manifest
            .as_mut()
            .ok_or_else(|| Error::new(ErrorKind::ReadOnly, "the database is open read-only"))?;
        if self.lifetimes.any() {
            // Whatever the edit is because of was judged before.
            edit.ops.push(EditOp::Time(self.lifetimes.now()));
        }
        edit.ops.push(EditOp::NextIds(NextIds {
            segment: self.next_segment.load(Ordering::Relaxed),
            partition: self.next_partition.load(Ordering::Relaxed),
            run: self.next_run.load(Ordering::Relaxed),
            keyspace: self.next_keyspace.load(Ordering::Relaxed) as u32,
        }));
        let (floor, samples) = (self.views.floor(), self.history.pending());
        if manifest.state().history_floor != Some(floor) || !samples.is_empty() {
            edit.ops.push(EditOp::History { floor, samples: samples.clone() });
        }
        if let Err(e) = manifest.commit(&edit) {
            if manifest.has_failed() {
                self.poison(&e);
            }
            return Err(e);
        }
        if let Some(log) = &self.log {
            log.note_manifest_edit(manifest.state().edit);
        }
        self.history.written(&samples, floor);
        Ok(show())
    }

    /// Goes on in a new manifest where the present one is under an older data key than `newest`.
    pub fn renew_manifest(&self, newest: u32) -> Result<()> {
        let mut manifest = self.manifest.lock();
        self.check_writable()?;
        let Some(manifest) = manifest.as_mut().filter(|m| m.is_aged(newest)) else { return Ok(()) };
        if let Err(e) = manifest.renew() {
            if manifest.has_failed() {
                self.poison(&e);
            }
            return Err(e);
        }
        if let Some(log) = &self.log {
            log.note_manifest_edit(manifest.state().edit);
        }
        Ok(())
    }

    /// Lets go of the segments of `removed` that none of `kept` uses; their files are removed when
    /// the last reader of them is done.
    pub fn release(&self, removed: &[Arc<PartitionReader>], kept: &[Arc<PartitionReader>]) {
        let mut gone = Vec::new();
        for segment in removed.iter().flat_map(|p| p.segments()) {
            let id = segment.id();
            if !kept.iter().any(|k| k.meta().segments.iter().any(|s| s.id == id)) {
                segment.mark_obsolete(self.blobs.leaving());
                gone.push(id);
            }
        }
        self.cache.remove_segments(&gone);
    }
}
