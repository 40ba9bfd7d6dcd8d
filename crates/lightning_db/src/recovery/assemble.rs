//! From what was recovered to an open database: environment, keyspaces with their rows, the commit section.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::cache::{MIN_ROW_BUDGET_BYTES, PageCache, Pager, RowCache};
use crate::commit::section::CommitSection;
use crate::compress::Dictionaries;
use crate::config::LightningDbConfig;
use crate::crypto::Owner;
use crate::error::{Error, Result};
use crate::history::{Clocks, History};
use crate::locks::LockTable;
use crate::maintenance::catalog::{self, DEFAULT};
use crate::maintenance::core::Core;
use crate::maintenance::file_jobs::FileJobs;
use crate::maintenance::indexes::{self, IndexTable};
use crate::maintenance::open_transactions::OpenTransactions;
use crate::maintenance::pacing::Pacer;
use crate::maintenance::scheduler::Signal;
use crate::manifest::{KeptLog, KeyspaceState, ManifestState};
use crate::manifest::{PartitionMeta, RunMeta};
use crate::memtable::{Memtable, SpareChunks};
use crate::operators::Merger;
use crate::segment::Segment;
use crate::store::arrivals::Arrivals;
use crate::store::blobs::BlobStore;
use crate::store::environment::{Counters, Environment};
use crate::store::keyspace::{KeyspaceStore, StoreOptions};
use crate::store::lifetimes::Lifetimes;
use crate::store::range_row::RunRanges;
use crate::store::version::{Row, Run};
use crate::store::view::ViewRegistry;
use crate::sync::atomic::{AtomicBool, AtomicU64};
use crate::sync::{Mutex, RwLock};
use crate::tree::PartitionReader;
use crate::types::{KeyspaceId, LogId, ManifestId, SegmentId, Seq, Time};
use crate::vfs::{Vfs, VfsLock};
use crate::wal::{Log, LogFile, LogFiles};

/// What the log gave.
#[derive(Default)]
pub(super) struct Recovered {
    pub(super) memtables: BTreeMap<KeyspaceId, Arc<Memtable>>,
    pub(super) last: Seq,
    pub(super) next_log: LogId,
    pub(super) blobs: Option<Arc<BlobStore>>,
    pub(super) next_segment: Option<Arc<AtomicU64>>,
    pub(super) segments: Segments,
    /// What was written anew for readers of changes.
    pub(super) kept: Vec<(LogFile, Seq)>,
    /// The files of the log, where it is only read.
    pub(super) log_files: Vec<LogFile>,
    pub(super) dictionaries: Arc<Dictionaries>,
}

/// One part in so many of `cache_size` is for rows.
const ROW_SHARE: u64 = 4;

/// The open data segments that the manifest names.
pub(super) type Segments = BTreeMap<SegmentId, Arc<Segment>>;

/// The row cache's part of `cache_size`.
fn row_bytes(config: &LightningDbConfig) -> u64 {
    let bytes = config.cache_size as u64 / ROW_SHARE;
    // The smallest caches are for pages alone.
    if bytes < MIN_ROW_BUDGET_BYTES { 0 } else { bytes }
}

/// A pager over an empty cache of the rest.
pub(super) fn new_pager(config: &LightningDbConfig) -> Pager {
    let bytes = config.cache_size as u64 - row_bytes(config);
    Pager::new(Arc::new(PageCache::new(bytes)))
}

#[allow(clippy::too_many_arguments)] // one caller each way; a struct would only rename them
pub(super) fn assemble(
    vfs: Arc<dyn Vfs>,
    dir: &Path,
    config: LightningDbConfig,
    lock: Box<dyn VfsLock>,
    db: Owner,
    state: &ManifestState,
    log: Option<Log>,
    recovered: Recovered,
    writer: Option<(ManifestId, Arc<LogFiles>)>,
) -> Result<(Core, Vec<Arc<KeyspaceStore>>)> {
    let last = recovered.last;
    let expires = expires(state, &recovered.memtables);
    let rows = RowCache::new(row_bytes(&config));
    let next_segment = recovered
        .next_segment
        .unwrap_or_else(|| Arc::new(AtomicU64::new(state.next_segment.max(1))));
    let blobs = recovered.blobs.unwrap_or_else(|| {
        let next = Arc::clone(&next_segment);
        let (dir, db, pager) = (dir.to_path_buf(), db.clone(), new_pager(&config));
        Arc::new(BlobStore::new(Arc::clone(&vfs), dir, db, pager, next))
    });
    let pager = blobs.pager().clone();
    let cache = Arc::clone(pager.cache());
    let (log_writer, log_sync) = log.map(Log::split).unzip();
    if let Some(sync) = &log_sync {
        let blobs = Arc::clone(&blobs);
        sync.set_before_sync(Box::new(move || blobs.sync()));
    }
    let clocks = Clocks { wall: vfs.wall_clock(), steady: vfs.monotonic() };
    let floor = state.history_floor.unwrap_or(last).min(last);
    // Who only reads drops nothing.
    let retention = config.history_retention.or(writer.is_none().then_some(Duration::MAX));
    let read_only = writer.is_none();
    // The thread for the log frees them.
    let keeps_spare = !read_only && log_sync.is_some() && config.background_threads > 0;
    let log_files = match writer {
        Some((_, files)) => files,
        None => {
            let files = LogFiles::default();
            files.add_older(state.kept_logs.values().map(listed_kept).chain(recovered.log_files));
            Arc::new(files)
        }
    };
    let env = Arc::new(Environment {
        vfs: Arc::clone(&vfs),
        dir: dir.to_path_buf(),
        db,
        pager,
        cache,
        rows,
        spare: Arc::new(SpareChunks::new(keeps_spare)),
        lifetimes: Lifetimes::new(Arc::clone(&vfs), state.time, expires),
        history: History::new(retention, state.times.clone(), last, clocks),
        views: Arc::new(ViewRegistry::new(floor)),
        visible: Arc::new(AtomicU64::new(last.0)),
        manifest: Mutex::new(None),
        next_segment,
        next_partition: AtomicU64::new(state.next_partition.max(1)),
        next_run: AtomicU64::new(state.next_run.max(1)),
        next_keyspace: AtomicU64::new(u64::from(state.next_keyspace.max(1))),
        blobs,
        log: log_sync,
        log_files,
        arrivals: Arrivals::default(),
        stopping: AtomicBool::new(false),
        poison: OnceLock::new(),
        counters: Counters::default(),
        dictionaries: recovered.dictionaries,
        packed: Arc::default(),
        read_ahead: if config.prefetch_enabled { config.prefetch_distance } else { 0 },
    });
    let mut by_id = BTreeMap::new();
    let mut by_name = BTreeMap::new();
    for keyspace in state.keyspaces.values() {
        let store = open_keyspace(&env, keyspace, &recovered.segments, &config, last)?;
        if let Some(memtable) = recovered.memtables.get(&keyspace.id) {
            store.update(|v| {
                let mut next = v.clone();
                next.sealed.push(Arc::clone(memtable));
                next
            });
        }
        // That of the default keyspace is in the manifest before this open lets anybody write.
        let given = config.merge_operator.as_ref().filter(|_| keyspace.id == KeyspaceId(0));
        if let Some(operator) = keyspace.merge_operator.as_ref().or(given) {
            if keyspace.merge_operator.is_none() {
                store.close_to_ranges()?;
            }
            let registered = &config.merge_operators;
            store.set_merger(Merger::new(&keyspace.name, operator, registered));
        }
        by_id.insert(keyspace.id, Arc::clone(&store));
        by_name.insert(keyspace.name.clone(), store);
    }
    let default = by_name.get(DEFAULT).cloned().ok_or_else(|| {
        Error::corrupt(&dir.join("CURRENT"), 0, "the manifest names no default keyspace")
    })?;
    let keyspaces: Vec<_> = by_id.values().cloned().collect();
    let indexes =
        indexes::catalog::of_state(state, last, &config.extractors, |id| by_id.get(&id).cloned());
    let section = CommitSection::new(Arc::clone(&env), log_writer, last, by_id);
    let core = Core {
        env,
        section,
        keyspaces: RwLock::new(by_name),
        default,
        config,
        read_only,
        lock: Mutex::new(Some(lock)),
        signal: Signal::default(),
        sync_signal: Signal::default(),
        log_thread_sleeps: AtomicBool::new(false),
        log_upkeep_due: AtomicBool::new(false),
        periodic_due: AtomicU64::new(0),
        periodic_synced: AtomicU64::new(0),
        pacer: Pacer::default(),
        flush_all_latch: Mutex::new(()),
        retire_latch: Mutex::new(()),
        rekey_latch: Mutex::new(()),
        failures: Mutex::new(BTreeMap::new()),
        failing: AtomicBool::new(false),
        closed: AtomicBool::new(false),
        default_ttls: AtomicBool::new(state.keyspaces.values().any(|k| k.default_ttl > 0)),
        transactions: OpenTransactions::default(),
        locks: LockTable::default(),
        file_jobs: FileJobs::default(),
        indexes: IndexTable::new(indexes),
    };
    Ok((core, keyspaces))
}

pub(super) fn listed_kept(kept: &KeptLog) -> LogFile {
    let blobs = kept.blobs.iter().map(|b| (b.segment, b.bytes)).collect();
    LogFile { id: kept.id, first: kept.first, bytes: kept.bytes, blobs }
}

/// Whether anything that was recovered may expire.
fn expires(state: &ManifestState, memtables: &BTreeMap<KeyspaceId, Arc<Memtable>>) -> bool {
    state.time > Time::BEFORE_ALL
        || state.partitions().any(|p| !p.lives.is_empty())
        || memtables.values().any(|m| m.expiring() > 0)
}

fn open_keyspace(
    env: &Environment,
    state: &KeyspaceState,
    segments: &Segments,
    config: &LightningDbConfig,
    last: Seq,
) -> Result<Arc<KeyspaceStore>> {
    let options = StoreOptions {
        write_buffer_bytes: state.write_buffer_size,
        page_bytes: state.page_bytes,
        packing: catalog::packing_of(state, config)?,
        // How much to stack is a choice of whoever opens the database, not of the files.
        profile: config.profile,
    };
    let runs = state
        .runs
        .iter()
        .map(|r| {
            let ranges = state.ranges.get(&r.id).map_or(&[][..], Vec::as_slice);
            open_run(env, segments, r, ranges).map(Arc::new)
        })
        .collect::<Result<Vec<_>>>()?;
    let base = open_row(segments, &state.base)?;
    let name = state.name.clone();
    let store = KeyspaceStore::new(state.id, name, options, runs, base, last.next(), &env.spare);
    store.default_ttl.store(state.default_ttl, crate::sync::atomic::Ordering::Release);
    Ok(Arc::new(store))
}

fn open_row(segments: &Segments, metas: &[PartitionMeta]) -> Result<Row> {
    let partitions = metas
        .iter()
        .map(|meta| {
            let own = meta.segments.iter().filter_map(|s| segments.get(&s.id)).cloned().collect();
            PartitionReader::open(meta.clone(), own).map(Arc::new)
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Row { partitions: partitions.into() })
}

fn open_run(
    env: &Environment,
    segments: &Segments,
    meta: &RunMeta,
    ranges: &[PartitionMeta],
) -> Result<Run> {
    let row = open_row(segments, &meta.partitions)?;
    let ranges = RunRanges::open(open_row(segments, ranges)?, &meta.consumed, &env.pager)?;
    let mut run = Run {
        id: meta.id,
        low: meta.low,
        high: meta.high,
        live_bytes: row.live_bytes(),
        row,
        consumed: meta.consumed.clone(),
        ranges,
    };
    if !run.consumed.is_empty() {
        let everything = crate::manifest::KeyInterval { start: Vec::new(), end: None };
        run.live_bytes = crate::store::merge::stacked_in(&run, &everything, &env.pager)?;
    }
    run.live_bytes += run.ranges.row.live_bytes();
    Ok(run)
}
