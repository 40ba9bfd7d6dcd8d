//! One keyspace: its options, its current version, and the latches of the jobs that change it.
//!
//! 1. Versions are replaced only by [`KeyspaceStore::update`], one at a time.
//! 2. A memtable is sealed inside the commit section only, at a commit's boundary, so that it holds
//!    exactly the commits of a range of numbers.
//! 3. One flush and one merge at a time: `flush_latch`, `merge_latch`.

use std::sync::{Arc, OnceLock, Weak}; // set once, which does not wait

use crate::compress::Packing;
use crate::config::Profile;
use crate::error::{Error, ErrorKind, Result};
use crate::memtable::{Memtable, SpareChunks};
use crate::operators::Merger;
use crate::store::dictionaries::Choice;
use crate::store::version::{Row, Run, Version};
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::sync::{ArcSwap, Guard, Mutex};
use crate::types::{KeyspaceId, Seq};

/// The options a keyspace was made with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StoreOptions {
    /// Memtable size at which it is sealed.
    pub write_buffer_bytes: u64,
    /// Target size of an unpacked leaf.
    pub page_bytes: u32,
    /// How pages are packed.
    pub packing: Packing,
    /// How much may be stacked above the base.
    pub profile: Profile,
}

impl StoreOptions {
    /// The stored size at which a partition is ended and the next begun.
    pub fn partition_bytes(&self) -> u64 {
        self.write_buffer_bytes.clamp(64 * 1024, 32 * 1024 * 1024)
    }
}

/// A keyspace.
#[derive(Debug)]
pub struct KeyspaceStore {
    /// Its id.
    pub id: KeyspaceId,
    /// Its name.
    pub name: String,
    /// Its options.
    pub options: StoreOptions,
    /// Held by the job that flushes.
    pub flush_latch: Mutex<()>,
    /// Held by the job that merges.
    pub merge_latch: Mutex<()>,
    /// Which dictionary leaves are packed with.
    pub dictionary: Mutex<Choice>,
    /// How far the keyspace is behind with flushing and merging, in thousandths of what it takes.
    pub pressure: AtomicU32,
    /// How long what is put without a lifetime of its own lives, in milliseconds; 0: for ever.
    pub default_ttl: AtomicU64,
    /// Set when it was dropped.
    pub dropped: AtomicBool,
    closed_to_ranges: AtomicBool,
    /// Its merge operator, once it has one.
    merger: OnceLock<Merger>,
    version: ArcSwap<Version>,
    published: Mutex<Vec<Weak<Version>>>,
}

impl KeyspaceStore {
    /// A keyspace with these rows and an empty memtable that takes commits from `first_seq` on, and memory
    /// from `spare`.
    pub fn new(
        id: KeyspaceId,
        name: String,
        options: StoreOptions,
        runs: Vec<Arc<Run>>,
        base: Row,
        first_seq: Seq,
        spare: &Arc<SpareChunks>,
    ) -> Self {
        let active = Arc::new(Memtable::with_spare(spare, id, first_seq));
        let version = Arc::new(Version { active, sealed: Vec::new(), runs, base });
        Self {
            id,
            name,
            options,
            flush_latch: Mutex::new(()),
            merge_latch: Mutex::new(()),
            dictionary: Mutex::default(),
            pressure: AtomicU32::new(0),
            default_ttl: AtomicU64::new(0),
            dropped: AtomicBool::new(false),
            closed_to_ranges: AtomicBool::new(false),
            merger: OnceLock::new(),
            published: Mutex::new(vec![Arc::downgrade(&version)]),
            version: ArcSwap::new(version),
        }
    }

    /// An error where it takes no range deletes: operands are folded without looking at them, so that
    /// deletes of single rows take their place (`maintenance::row_by_row`).
    pub fn check_takes_ranges(&self) -> Result<()> {
        if self.merger().is_none() && !self.closed_to_ranges.load(Ordering::Acquire) {
            return Ok(());
        }
        let message = format!("the keyspace {:?} got a merge operator meanwhile", self.name);
        Err(Error::new(ErrorKind::Conflict, message))
    }

    /// Takes no range deletes from now on, for a merge operator that is about to come; an error where it
    /// holds some. Commit section only, or before anybody writes.
    pub fn close_to_ranges(&self) -> Result<()> {
        let version = self.version();
        let holds = version.memtables().any(|m| m.range_delete_count() > 0)
            || version.runs.iter().any(|r| !r.ranges.active.is_empty());
        if holds {
            let message = format!(
                "the keyspace {:?} holds range deletes: compact it before it gets a merge operator",
                self.name
            );
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        self.closed_to_ranges.store(true, Ordering::Release);
        Ok(())
    }

    /// Gives it its merge operator, unless it has one.
    pub fn set_merger(&self, merger: Merger) {
        // Set before merges are accepted: whoever meets operands finds it.
        let _ = self.merger.set(merger);
    }

    /// Its merge operator.
    pub fn merger(&self) -> Option<&Merger> {
        self.merger.get()
    }

    /// Its merge operator; an error where it has none.
    pub fn need_merger(&self) -> Result<&Merger> {
        self.merger.get().ok_or_else(|| {
            let message = format!("the keyspace {:?} has no merge operator", self.name);
            Error::new(ErrorKind::NoMergeOperator, message)
        })
    }

    /// The current version, for a short look.
    #[inline]
    pub fn version(&self) -> Guard<Arc<Version>> {
        self.version.load()
    }

    /// The current version, to keep.
    pub fn pin(&self) -> Arc<Version> {
        self.version.load_full()
    }

    /// Replaces the version.
    pub fn update(&self, change: impl FnOnce(&Version) -> Version) {
        let mut published = self.published.lock();
        let next = Arc::new(change(&self.version.load()));
        published.retain(|w| w.strong_count() > 0);
        published.push(Arc::downgrade(&next));
        self.version.store(next);
    }

    /// Every version before the current one that is still in use.
    pub fn older_versions(&self) -> Vec<Weak<Version>> {
        let mut published = self.published.lock();
        published.retain(|w| w.strong_count() > 0);
        published.split_last().map(|(_, older)| older.to_vec()).unwrap_or_default()
    }

    /// Every version that is still in use.
    pub fn versions(&self) -> Vec<Weak<Version>> {
        self.published.lock().iter().filter(|w| w.strong_count() > 0).cloned().collect()
    }

    /// Seals the active memtable after commit `last` and begins a new one. Commit section only.
    pub fn seal(&self, last: Seq) {
        self.update(|v| {
            v.active.set_last_seq(last);
            let mut sealed = Vec::with_capacity(v.sealed.len() + 1);
            sealed.push(Arc::clone(&v.active));
            sealed.extend(v.sealed.iter().cloned());
            Version {
                active: Arc::new(v.active.following(last.next())),
                sealed,
                runs: v.runs.clone(),
                base: v.base.clone(),
            }
        });
    }

    /// The lowest commit that is only in memory and in the log; `None` where there is none.
    pub fn first_unflushed(&self) -> Option<Seq> {
        let v = self.version();
        v.sealed
            .iter()
            .rev()
            .chain(std::iter::once(&v.active))
            .find(|m| !m.is_empty())
            .map(|m| m.first_seq())
    }

    /// Whether it is one that the database keeps for itself.
    pub fn is_internal(&self) -> bool {
        self.name.starts_with('\0')
    }

    /// Whether it was dropped.
    pub fn is_dropped(&self) -> bool {
        self.dropped.load(Ordering::Acquire)
    }
}
