//! What an open database tells of itself: sizes, counts, times, health, and why writers are slowed.

use std::sync::Arc;
use std::time::Duration;

use crate::error::ErrorKind;
use crate::maintenance::core::{Core, Work};
use crate::store::keyspace::KeyspaceStore;
use crate::store::policy;
use crate::sync::atomic::{AtomicU64, Ordering};

/// One keyspace in [`DatabaseStats`].
#[derive(Debug, Clone, PartialEq)]
pub struct KeyspaceStats {
    /// Its name.
    pub name: String,
    /// Entries of all parts, overwritten and deleted ones that were not merged yet included.
    pub entries: u64,
    /// Of them, those with a lifetime.
    pub expiring_entries: u64,
    /// Of these, those in files that have surely expired, and wait to be merged away.
    pub expired_entries: u64,
    /// Range deletes in memtables, and ranges in runs that hide something older until it is merged.
    pub range_deletes: u64,
    /// Bytes held by memtables.
    pub memtable_bytes: u64,
    /// Memtables that wait to be flushed.
    pub sealed_memtables: usize,
    /// Runs above the base.
    pub runs: usize,
    /// Partitions of runs.
    pub run_partitions: usize,
    /// Partitions of the base.
    pub base_partitions: usize,
    /// Stored bytes of runs that the base does not have yet.
    pub stacked_bytes: u64,
    /// Stored bytes of the base's reachable pages.
    pub base_bytes: u64,
    /// Bytes of all its segment files.
    pub file_bytes: u64,
    /// Bytes in segment files that nothing reaches.
    pub dead_bytes: u64,
    /// Bytes of keys and values in all parts but memtables, before packing.
    pub raw_bytes: u64,
    /// Levels of the tallest tree, leaves included.
    pub depth: u32,
}

/// One index in [`DatabaseStats`].
#[derive(Debug, Clone, PartialEq)]
pub struct IndexStats {
    /// Its keyspace.
    pub keyspace: String,
    /// Its name.
    pub name: String,
    /// Whether it can be read, as far as its build goes.
    pub ready: bool,
    /// Entries of all parts, deleted ones that were not merged yet included.
    pub entries: u64,
    /// Bytes of its segment files.
    pub file_bytes: u64,
    /// Bytes held by its memtables.
    pub memtable_bytes: u64,
}

/// Sizes, counts and times; counts are since the database was opened.
#[derive(Debug, Clone, PartialEq)]
pub struct DatabaseStats {
    /// By name; those that hold the entries of indexes are not among them.
    pub keyspaces: Vec<KeyspaceStats>,
    /// By keyspace and name.
    pub indexes: Vec<IndexStats>,
    /// The number of the last visible commit.
    pub last_commit: u64,
    /// The oldest commit whose moment can be asked for, with `snapshot_at`.
    pub oldest_moment: u64,
    /// The last commit that the manifest vouches for: a log that ends before it is damaged. With
    /// background threads it reaches the last durable commit after a second without commits.
    pub vouched_commit: u64,
    /// Commits.
    pub commits: u64,
    /// Transactions begun and not finished.
    pub transactions_active: u64,
    /// Transactions committed.
    pub transactions_committed: u64,
    /// Transactions aborted, conflicts included.
    pub transactions_aborted: u64,
    /// Transactions refused because another committed first.
    pub conflicts: u64,
    /// Transactions that hold locks.
    pub lock_holders: u64,
    /// Transactions and writes that wait for a lock.
    pub lock_waiters: u64,
    /// Locks that had to be waited for.
    pub lock_waits: u64,
    /// Time spent waiting for them.
    pub lock_wait_time: Duration,
    /// Waits that took too long.
    pub lock_timeouts: u64,
    /// Waits refused because they would have closed a cycle.
    pub deadlocks: u64,
    /// Pages, and large values asked for by gets, that were found in the cache.
    pub cache_hits: u64,
    /// Those that were not; large values that are too large for the cache are not counted.
    pub cache_misses: u64,
    /// Pages and large values pushed out of the cache.
    pub cache_evictions: u64,
    /// Bytes of pages and large values in the cache.
    pub cache_bytes: u64,
    /// Gets that found their key's newest value among the rows kept, and asked for no page.
    pub row_cache_hits: u64,
    /// Bytes of these rows, and of the table that finds them.
    pub row_cache_bytes: u64,
    /// Bytes that flushed memtables left, kept for the next ones until nothing has been written for a
    /// second. Always 0 without a log or background threads, and read-only.
    pub spare_memtable_bytes: u64,
    /// The page cache's bound.
    pub cache_capacity_bytes: u64,
    /// Bytes of log files that may still be needed.
    pub log_bytes: u64,
    /// Bytes of log files, with the large values that they refer to, that are kept for readers of
    /// changes alone.
    pub kept_log_bytes: u64,
    /// Fsyncs of the log.
    pub log_syncs: u64,
    /// Time spent in them.
    pub log_sync_time: Duration,
    /// Records written to the log.
    pub log_records: u64,
    /// Bytes written to the log.
    pub log_bytes_written: u64,
    /// Memtables flushed.
    pub flushes: u64,
    /// Bytes of runs written by flushes.
    pub flushed_bytes: u64,
    /// Merges of runs with each other.
    pub tier_merges: u64,
    /// Merges into the base, and renewals.
    pub base_merges: u64,
    /// Partitions moved without being rewritten.
    pub adopted_partitions: u64,
    /// Leaves kept where they lay while their partition was renewed.
    pub adopted_leaves: u64,
    /// Bytes written by merges.
    pub merged_bytes: u64,
    /// Entries of operands that flushes and merges folded into others.
    pub folded_operands: u64,
    /// Keys that a merge operator failed on in a flush or merge; they are left as they were.
    pub failed_folds: u64,
    /// Leaves and inner pages that were tried to pack, by flushes and merges.
    pub pages_tried: u64,
    /// Those of them that did not shrink, and were stored plain.
    pub pages_plain: u64,
    /// Pages stored plain without a try, because those before them did not shrink.
    pub pages_skipped: u64,
    /// Time spent merging.
    pub merge_time: Duration,
    /// Time writers were slowed.
    pub stall_time: Duration,
    /// Bytes of segment files, blob segments included.
    pub storage_bytes: u64,
    /// Bytes of blob segments.
    pub blob_bytes: u64,
    /// Live snapshots, iterators and transactions.
    pub views: u64,
    /// Age of the oldest of them.
    pub oldest_view: Duration,
}

fn load(n: &AtomicU64) -> u64 {
    n.load(Ordering::Relaxed)
}

/// Collects the figures.
pub(crate) fn collect(core: &Core) -> DatabaseStats {
    let env = &core.env;
    let now = env.lifetimes.moment();
    let mut own = core.all();
    own.retain(|k| !k.is_internal());
    let indexes = index_stats(core, &own);
    let keyspaces = own
        .iter()
        .map(|k| {
            let v = k.version();
            let metas: Vec<_> = v.partitions().map(|p| p.meta()).collect();
            let file_bytes: u64 =
                metas.iter().flat_map(|m| &m.segments).map(|s| s.file_bytes).sum();
            let live: u64 = metas.iter().map(|m| m.live_bytes).sum();
            KeyspaceStats {
                name: k.name.clone(),
                entries: v.data_partitions().map(|p| p.meta().entries).sum::<u64>()
                    + v.memtables().map(|m| m.entries() as u64).sum::<u64>(),
                range_deletes: v.memtables().map(|m| m.range_delete_count() as u64).sum::<u64>()
                    + v.runs.iter().map(|r| r.ranges.active.fragments().len() as u64).sum::<u64>(),
                expiring_entries: metas.iter().map(|m| m.lives.entries()).sum::<u64>()
                    + v.memtables().map(|m| m.expiring() as u64).sum::<u64>(),
                expired_entries: metas.iter().map(|m| m.lives.expired_entries(now)).sum(),
                memtable_bytes: v.memtables().map(|m| m.bytes() as u64).sum(),
                sealed_memtables: v.sealed.len(),
                runs: v.runs.len(),
                run_partitions: v.runs.iter().map(|r| r.row.partitions.len()).sum(),
                base_partitions: v.base.partitions.len(),
                stacked_bytes: v.stacked_bytes(),
                base_bytes: v.base.live_bytes(),
                file_bytes,
                dead_bytes: file_bytes.saturating_sub(live),
                raw_bytes: metas.iter().map(|m| m.raw_bytes).sum(),
                depth: metas.iter().map(|m| u32::from(m.height) + 1).max().unwrap_or(0),
            }
        })
        .collect();
    let (cache, rows) = (env.cache.stats(), env.rows.stats());
    let log = env.log.as_ref().map(|l| l.stats()).unwrap_or_default();
    let log_bytes = core.section.enter().log.as_ref().map_or(0, |l| l.bytes());
    let (blob_bytes, kept_log_bytes) = {
        let manifest = env.manifest.lock();
        manifest.as_ref().map_or((0, 0), |m| {
            let kept = m.state().kept_logs.values();
            (m.state().blob_segments.values().sum(), kept.map(|k| k.held_bytes()).sum())
        })
    };
    let (lock_holders, lock_waiters) = core.locks.usage();
    let packed = env.packed.counts();
    DatabaseStats {
        keyspaces,
        indexes,
        last_commit: env.visible().0,
        oldest_moment: env.open_from().0,
        vouched_commit: core.vouched().0,
        commits: load(&core.section.commits),
        transactions_active: core.transactions.active() as u64,
        transactions_committed: load(&core.transactions.committed),
        transactions_aborted: load(&core.transactions.aborted),
        conflicts: load(&core.transactions.conflicts),
        lock_holders: lock_holders as u64,
        lock_waiters: lock_waiters as u64,
        lock_waits: load(&core.locks.counters.waits),
        lock_wait_time: Duration::from_nanos(load(&core.locks.counters.wait_nanos)),
        lock_timeouts: load(&core.locks.counters.timeouts),
        deadlocks: load(&core.locks.counters.deadlocks),
        cache_hits: cache.hits,
        cache_misses: cache.misses,
        cache_evictions: cache.evictions,
        cache_bytes: cache.used_bytes,
        row_cache_hits: rows.hits,
        row_cache_bytes: rows.used_bytes,
        spare_memtable_bytes: env.spare.bytes() as u64,
        cache_capacity_bytes: cache.capacity_bytes,
        log_bytes,
        kept_log_bytes,
        log_syncs: log.syncs,
        log_sync_time: Duration::from_nanos(log.sync_nanos),
        log_records: log.records,
        log_bytes_written: log.bytes,
        flushes: load(&env.counters.flushes),
        flushed_bytes: load(&env.counters.flushed_bytes),
        tier_merges: load(&env.counters.tier_merges),
        base_merges: load(&env.counters.base_merges),
        adopted_partitions: load(&env.counters.adopted_partitions),
        adopted_leaves: load(&env.counters.adopted_leaves),
        merged_bytes: load(&env.counters.merged_bytes),
        folded_operands: load(&env.counters.folded_operands),
        failed_folds: load(&env.counters.failed_folds),
        pages_tried: packed.tried,
        pages_plain: packed.plain,
        pages_skipped: packed.skipped,
        merge_time: Duration::from_nanos(load(&env.counters.merge_nanos)),
        stall_time: Duration::from_nanos(load(&env.counters.stall_nanos)),
        storage_bytes: core.segment_bytes(),
        blob_bytes,
        views: env.views.count() as u64,
        oldest_view: env.views.oldest(env.now()).map(|(_, age)| age).unwrap_or_default(),
    }
}

fn index_stats(core: &Core, keyspaces: &[Arc<KeyspaceStore>]) -> Vec<IndexStats> {
    let table = core.indexes.all();
    let name_of = |id| keyspaces.iter().find(|k| k.id == id).map(|k| k.name.clone());
    let mut found: Vec<_> = table
        .values()
        .flatten()
        .filter_map(|index| {
            let v = index.store.version();
            let in_memory: u64 = v.memtables().map(|m| m.entries() as u64).sum();
            let metas = || v.partitions().map(|p| p.meta());
            Some(IndexStats {
                keyspace: name_of(index.keyspace)?,
                name: index.name.clone(),
                ready: index.is_ready(),
                entries: in_memory + metas().map(|m| m.entries).sum::<u64>(),
                file_bytes: metas().flat_map(|m| &m.segments).map(|s| s.file_bytes).sum(),
                memtable_bytes: v.memtables().map(|m| m.bytes() as u64).sum(),
            })
        })
        .collect();
    found.sort_by(|a, b| (&a.keyspace, &a.name).cmp(&(&b.keyspace, &b.name)));
    found
}

/// Whether all is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthStatus {
    /// No problem was found.
    pub healthy: bool,
    /// What is not well, a sentence each.
    pub problems: Vec<String>,
}

/// Looks for what is not well.
pub(crate) fn health(core: &Core) -> HealthStatus {
    let mut problems = Vec::new();
    if let Err(e) = core.check_open() {
        problems.push(e.to_string());
    }
    if let Err(e) = core.env.check_writable() {
        problems.push(e.to_string());
    }
    for (work, (_, why)) in &*core.failures.lock() {
        let work = match work {
            Work::Flush => "flushing",
            Work::Merge => "merging",
        };
        problems.push(format!("{work} failed and is tried again: {why}"));
    }
    for keyspace in core.all() {
        let (pressure, why) = policy::pressure(&keyspace.version(), &keyspace.options);
        let merging = core.config.background_compaction;
        if pressure >= 1000 || (!merging && pressure > 500) {
            let cause = if merging { why } else { "runs gather, as background_compaction is off" };
            problems.push(format!("keyspace {:?} is behind: {cause}", keyspace.name));
        }
    }
    for index in core.indexes.all().values().flatten() {
        if let Err(e) = index.way() {
            problems.push(e.message().to_owned());
        } else if !index.is_ready() {
            problems.push(format!("index {:?} is not built to its end", index.name));
        }
    }
    HealthStatus { healthy: problems.is_empty(), problems }
}

/// Why writers are slowed.
#[derive(Debug, Clone, PartialEq)]
pub struct StallReport {
    /// The keyspace that is behind.
    pub keyspace: String,
    /// What it is behind with.
    pub reason: String,
    /// How far, from 0 (writers are about to be slowed) to 1 (slowed to the bound).
    pub severity: f64,
    /// Bytes that must be flushed or merged before writers run free.
    pub bytes_left: u64,
    /// When that may be, at the rate of the merges so far; `None` before the first merge.
    pub expected_end: Option<Duration>,
}

/// Explains the slow-down, if there is one.
pub(crate) fn stall(core: &Core) -> Option<StallReport> {
    if core.pacer.pressure() <= 500 {
        return None;
    }
    let worst = core.all().into_iter().max_by_key(|k| k.pressure.load(Ordering::Relaxed))?;
    let version = worst.pin();
    let (pressure, reason) = policy::pressure(&version, &worst.options);
    let bytes_left = version.sealed_bytes() as u64 + version.stacked_bytes();
    let counters = &core.env.counters;
    let (bytes, nanos) = (load(&counters.merged_bytes), load(&counters.merge_nanos));
    let expected_end = (bytes > 0)
        .then(|| Duration::from_secs_f64(nanos as f64 / 1e9 * (bytes_left as f64 / bytes as f64)));
    let full = core.failures.lock().values().any(|(kind, _)| *kind == ErrorKind::StorageFull);
    Some(StallReport {
        keyspace: worst.name.clone(),
        reason: if full { "the disk is full".to_owned() } else { reason.to_owned() },
        severity: f64::from(pressure.saturating_sub(500)) / 500.0,
        bytes_left,
        expected_end,
    })
}
