//! Opening a database, in the order that the module's header gives.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::OpenAs;
use super::directory::{self, Found};
use super::kept;
use super::replay::Replay;
use crate::cache::{MIN_ROW_BUDGET_BYTES, PageCache, Pager, RowCache};
use crate::commit::section::CommitSection;
use crate::compress::Dictionaries;
use crate::config::{KeyspaceOptions, LightningDbConfig};
use crate::crypto::Owner;
use crate::error::{Error, ErrorKind, Result};
use crate::history::{Clocks, History};
use crate::locks::LockTable;
use crate::maintenance::catalog::{self, DEFAULT};
use crate::maintenance::core::Core;
use crate::maintenance::file_jobs::FileJobs;
use crate::maintenance::indexes::{self, IndexTable};
use crate::maintenance::kept_log::KeptPlan;
use crate::maintenance::open_transactions::OpenTransactions;
use crate::maintenance::pacing::Pacer;
use crate::maintenance::scheduler::Signal;
use crate::maintenance::write::no_lives_where_merged;
use crate::manifest::{Edit, EditOp, KeptLog, KeyspaceState, Manifest, ManifestState, NextIds};
use crate::manifest::{PartitionMeta, RunMeta, current_database, install_current};
use crate::memtable::{Memtable, SpareChunks};
use crate::operators::Merger;
use crate::segment::Segment;
use crate::store::arrivals::Arrivals;
use crate::store::blobs::BlobStore;
use crate::store::environment::{Counters, Environment};
use crate::store::flush::flush_recovered;
use crate::store::keyspace::{KeyspaceStore, StoreOptions};
use crate::store::lifetimes::Lifetimes;
use crate::store::range_row::RunRanges;
use crate::store::version::{Row, Run};
use crate::store::view::ViewRegistry;
use crate::sync::atomic::{AtomicBool, AtomicU64};
use crate::sync::{Mutex, RwLock};
use crate::tree::PartitionReader;
use crate::types::{DatabaseId, KeyspaceId, LogId, ManifestId, SegmentId, Seq, Time};
use crate::vfs::{Vfs, VfsLock};
use crate::wal::{Log, LogFile, LogFiles, LogOptions, LogRecovery};

/// Opens or makes the database in `dir`.
pub fn open(
    vfs: Arc<dyn Vfs>,
    dir: &Path,
    config: LightningDbConfig,
    mode: OpenAs,
) -> Result<Core> {
    let found = directory::inspect(&*vfs, dir).map_err(|e| match (e.kind(), mode) {
        // Somebody's directory: another is to be chosen.
        (ErrorKind::NotFound, OpenAs::Create | OpenAs::OpenOrCreate) => {
            e.with_kind(ErrorKind::InvalidArgument)
        }
        _ => e,
    })?;
    let missing = || Error::new(ErrorKind::NotFound, "there is no database").in_file(dir);
    match (mode, found) {
        (OpenAs::Create, Found::Database) => {
            Err(Error::new(ErrorKind::AlreadyExists, "there is a database already").in_file(dir))
        }
        (OpenAs::Open | OpenAs::ReadOnly, Found::Nothing | Found::Unfinished) => Err(missing()),
        (OpenAs::ReadOnly, Found::Database) => {
            let lock = directory::lock(&*vfs, dir, false)?;
            recover(vfs, dir, config, lock, true)
        }
        (OpenAs::Open | OpenAs::OpenOrCreate, Found::Database) => {
            let lock = directory::lock(&*vfs, dir, true)?;
            recover(vfs, dir, config, lock, false)
        }
        (OpenAs::Create | OpenAs::OpenOrCreate, _) => create(vfs, dir, config, mode),
    }
}

fn create(vfs: Arc<dyn Vfs>, dir: &Path, config: LightningDbConfig, mode: OpenAs) -> Result<Core> {
    let was_there = vfs.exists(dir).map_err(|e| Error::io(dir, "look at the directory", e))?;
    vfs.create_dir_all(dir).map_err(|e| Error::io(dir, "make the directory", e))?;
    let lock = directory::lock(&*vfs, dir, true)?;
    // Somebody else may have been faster.
    if directory::inspect(&*vfs, dir)? == Found::Database {
        if mode == OpenAs::OpenOrCreate {
            return recover(vfs, dir, config, lock, false);
        }
        return Err(
            Error::new(ErrorKind::AlreadyExists, "there is a database already").in_file(dir)
        );
    }
    let made = create_files(&vfs, dir, config, lock);
    if made.is_err()
        && let Ok(_lock) = directory::lock(&*vfs, dir, true)
        && let Ok(Found::Nothing | Found::Unfinished) = directory::inspect(&*vfs, dir)
    {
        directory::unmake(&*vfs, dir, !was_there);
    }
    made
}

fn create_files(
    vfs: &Arc<dyn Vfs>,
    dir: &Path,
    config: LightningDbConfig,
    lock: Box<dyn VfsLock>,
) -> Result<Core> {
    directory::clear_unfinished(&**vfs, dir)?;
    directory::make(&**vfs, dir)?;
    let mut id = [0; 16];
    vfs.fill_random(&mut id).map_err(|e| Error::io(dir, "draw a random id", e))?;
    let db = Owner::create(vfs, dir, DatabaseId(id), config.encryption.as_ref())?;
    let mut state = ManifestState::new(db.id());
    let default = catalog::new_state(KeyspaceId(0), DEFAULT, &config, &KeyspaceOptions::default());
    // (Its merge operator is given with the edit of every open.)
    state.apply(&catalog::creation(default)).map_err(|m| Error::corrupt(dir, 0, m.0))?;
    serve(Arc::clone(vfs), dir, config, lock, db, state, ManifestId(0), Recovered::default())
}

/// What the log gave.
#[derive(Default)]
struct Recovered {
    memtables: BTreeMap<KeyspaceId, Arc<Memtable>>,
    last: Seq,
    next_log: LogId,
    blobs: Option<Arc<BlobStore>>,
    next_segment: Option<Arc<AtomicU64>>,
    segments: Segments,
    /// What was written anew for readers of changes.
    kept: Vec<(LogFile, Seq)>,
    /// The files of the log, where it is only read.
    log_files: Vec<LogFile>,
    dictionaries: Arc<Dictionaries>,
}

/// One part in so many of `cache_size` is for rows.
const ROW_SHARE: u64 = 4;

/// The open data segments that the manifest names.
type Segments = BTreeMap<SegmentId, Arc<Segment>>;

fn recover(
    vfs: Arc<dyn Vfs>,
    dir: &Path,
    config: LightningDbConfig,
    lock: Box<dyn VfsLock>,
    read_only: bool,
) -> Result<Core> {
    let id = current_database(&*vfs, dir)?;
    let db = Owner::open(&vfs, dir, id, config.encryption.as_ref())?;
    let (state, manifest_id) = Manifest::load(&vfs, dir, &db)?;
    if config.encryption.is_some() && db.keys().is_none() {
        let message = "a key was given, and the database is not encrypted";
        return Err(Error::new(ErrorKind::NotEncrypted, message).in_file(dir));
    }
    let highest = directory::list(&*vfs, &dir.join("seg"))?
        .iter()
        .filter_map(|n| directory::numbered(n, ".seg"))
        .max();
    let next = state.next_segment.max(highest.map_or(0, |h| h + 1));
    let next_segment = Arc::new(AtomicU64::new(next));
    let blobs = Arc::new(BlobStore::new(
        Arc::clone(&vfs),
        dir.to_path_buf(),
        db.clone(),
        Arc::clone(&next_segment),
    ));
    for id in state.blob_segments.keys() {
        blobs.open_segment(*id)?;
    }
    // Before anything is written: a database that is refused is left as it was.
    let dictionaries = Arc::<Dictionaries>::default();
    let mut segments = Segments::new();
    for meta in state.partitions().flat_map(|p| &p.segments) {
        let segment = Segment::open(&vfs, dir, &db, meta.id)?.sharing(&dictionaries);
        segments.insert(meta.id, Arc::new(segment));
    }
    check_codecs(&state, &segments, &config)?;
    let operator = state.keyspaces.get(&KeyspaceId(0)).and_then(|k| k.merge_operator.as_deref());
    if let (Some(has), Some(wanted)) = (operator, config.merge_operator.as_deref()) {
        catalog::check_operator(DEFAULT, has, wanted)
            .map_err(|e| e.with_kind(ErrorKind::InvalidConfig))?;
    }
    let gives_lives = state.keyspaces.get(&KeyspaceId(0)).is_some_and(|k| k.default_ttl > 0);
    if gives_lives && config.merge_operator.is_some() {
        return Err(no_lives_where_merged().with_kind(ErrorKind::InvalidConfig));
    }
    let mut replay = Replay::new(&state, &blobs, !read_only);
    let mut last = state.last_seq;
    let mut next_log = LogId(1);
    let mut log_files = Vec::new();
    if state.log_start == LogId(0) {
        for name in directory::list(&*vfs, &dir.join("wal"))? {
            let id = directory::numbered(&name, ".wal").unwrap_or(0);
            next_log = next_log.max(LogId(id + 1));
        }
    } else {
        let read = LogRecovery::recover(
            &vfs,
            dir,
            &db,
            state.log_start,
            state.edit,
            state.last_seq,
            &mut |seq, body| replay.visit(seq, body),
        );
        let log = match read {
            Ok(log) => log,
            Err(e) if read_only => return Err(e),
            Err(e) => {
                // The large values written anew so far go: they are in files past all that were
                // there, made under the lock. What stays, the next recovery that succeeds removes.
                drop(blobs);
                let _ = directory::remove_files(&*vfs, dir, "seg", |n| n >= next);
                return Err(e);
            }
        };
        last = log.last_seq.map_or(last, |l| l.max(last));
        next_log = log.next_id;
        log_files = log.files;
    }
    let needed = state.needed_by_cursors().filter(|n| *n <= last && !log_files.is_empty());
    let mut kept = Vec::new();
    if let Some(needed) = needed.filter(|_| !read_only && config.wal_enabled) {
        let (moved, bytes) = (&replay.moved, config.wal_segment_size);
        let rewritten =
            kept::rewrite(&vfs, dir, &db, &state, moved, (needed, last), (next_log, bytes));
        kept = rewritten.inspect_err(|_| {
            // As above; and so do the log files of its own that it made.
            let _ = directory::remove_files(&*vfs, dir, "seg", |n| n >= next);
            let _ = directory::remove_files(&*vfs, dir, "wal", |n| n >= next_log.0);
        })?;
        next_log = kept.last().map_or(next_log, |(file, _)| file.id.next());
    }
    let memtables = std::mem::take(&mut replay.memtables);
    for memtable in memtables.values() {
        memtable.set_last_seq(last);
    }
    let recovered = Recovered {
        memtables,
        last,
        next_log,
        blobs: Some(blobs),
        next_segment: Some(next_segment),
        segments,
        kept,
        log_files: log_files
            .into_iter()
            .map(|(id, first, bytes)| LogFile::new(id, first, bytes))
            .collect(),
        dictionaries,
    };
    if read_only {
        return Ok(assemble(vfs, dir, config, lock, db, &state, None, recovered, None)?.0);
    }
    directory::make_missing(&*vfs, dir)?;
    if let Some(keys) = db.keys() {
        keys.finish_change()?;
    }
    serve(vfs, dir, config, lock, db, state, manifest_id, recovered)
}

/// Makes what was recovered durable anew, and opens for writing.
#[allow(clippy::too_many_arguments)] // as below
fn serve(
    vfs: Arc<dyn Vfs>,
    dir: &Path,
    config: LightningDbConfig,
    lock: Box<dyn VfsLock>,
    db: Owner,
    mut state: ManifestState,
    old_manifest: ManifestId,
    mut recovered: Recovered,
) -> Result<Core> {
    let (last, next_log) = (recovered.last, LogId(recovered.next_log.0.max(1)));
    let log_files = Arc::new(LogFiles::default());
    let log = if config.wal_enabled {
        let files = Arc::clone(&log_files);
        let segment_bytes = config.wal_segment_size;
        let options = LogOptions { segment_bytes, files, for_readers: false };
        // This file knows of no edit: the manifest that was read may exist only in the system's page
        // cache, and a power cut before CURRENT is swapped would make it older than the file says.
        Some(Log::create(&vfs, dir, &db, next_log, last.next(), 0, options)?)
    } else {
        None
    };
    let log_start = if log.is_some() { next_log } else { LogId(0) };
    let kept = std::mem::take(&mut recovered.kept);
    let writer = Some((old_manifest, log_files));
    let vfs_too = Arc::clone(&vfs);
    let (core, keyspaces) =
        assemble(vfs_too, dir, config, lock, db.clone(), &state, log, recovered, writer)?;
    let mut edit = flush_recovered(&core.env, &keyspaces)?;
    if core.env.lifetimes.any() {
        edit.ops.push(EditOp::Time(core.env.lifetimes.now()));
    }
    if let Some(name) = &core.config.merge_operator {
        let name = name.clone();
        edit.ops.push(EditOp::SetMergeOperator { keyspace: KeyspaceId(0), name });
    }
    edit.ops.push(EditOp::LogStart(log_start));
    edit.ops.push(EditOp::LastSeq(last));
    edit.ops.push(EditOp::NextIds(next_ids(&core.env)));
    state.apply(&edit).map_err(|m| Error::corrupt(dir, 0, m.0))?;
    // Without a log what was kept of former ones leads nowhere.
    let needed = state.needed_by_cursors().filter(|_| core.env.log.is_some());
    let limit = core.config.changes_retention_bytes;
    let plan = KeptPlan::new(&state, kept, needed, limit);
    state.apply(&Edit { ops: plan.ops().collect() }).map_err(|m| Error::corrupt(dir, 0, m.0))?;
    core.env.log_files.add_older(state.kept_logs.values().map(listed_kept));
    // Not by an edit: what the old manifest knew of commits that are lost is taken back.
    let floor = core.env.views.floor();
    state.history_floor = Some(floor);
    state.times = core.env.history.durable_map(floor);
    let id = newest_manifest(&*vfs, dir, old_manifest)?.next();
    let manifest = Manifest::create(&vfs, dir, id, &state, &db)?;
    install_current(&vfs, dir, id, state.db)?;
    if let Some(log) = &core.env.log {
        log.note_manifest_edit(manifest.state().edit);
    }
    *core.env.manifest.lock() = Some(manifest);
    for op in &edit.ops {
        if let EditOp::AddBlobSegment { id, .. } = op {
            core.env.blobs.named(*id);
        }
    }
    remove_unnamed(&*vfs, dir, &state, id)?;
    Ok(core)
}

fn next_ids(env: &Environment) -> NextIds {
    use crate::sync::atomic::Ordering::Relaxed;
    NextIds {
        segment: env.next_segment.load(Relaxed),
        partition: env.next_partition.load(Relaxed),
        run: env.next_run.load(Relaxed),
        keyspace: env.next_keyspace.load(Relaxed) as u32,
    }
}

/// The highest id of any manifest file, so that a new one never meets a name in use.
fn newest_manifest(vfs: &dyn Vfs, dir: &Path, current: ManifestId) -> Result<ManifestId> {
    let names = directory::list(vfs, &dir.join("manifest"))?;
    let highest = names.iter().filter_map(|n| directory::numbered(n, ".man")).max();
    Ok(ManifestId(highest.unwrap_or(0).max(current.0)))
}

/// Removes the files that the new manifest does not name: what crashes left, and the old log.
fn remove_unnamed(
    vfs: &dyn Vfs,
    dir: &Path,
    state: &ManifestState,
    manifest: ManifestId,
) -> Result<()> {
    let named = state.referenced_segments();
    directory::remove_files(vfs, dir, "seg", |n| !named.contains(&SegmentId(n)))?;
    let start = state.log_start;
    let is_kept = |n: u64| state.kept_logs.contains_key(&LogId(n));
    let goes = |n: u64| (start == LogId(0) || n < start.0) && !is_kept(n);
    directory::remove_files(vfs, dir, "wal", goes)?;
    directory::remove_files(vfs, dir, "manifest", |n| n != manifest.0)?;
    Ok(())
}

#[allow(clippy::too_many_arguments)] // one caller each way; a struct would only rename them
fn assemble(
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
    let cache_bytes = config.cache_size as u64;
    let row_bytes = cache_bytes / ROW_SHARE;
    // The smallest caches are for pages alone.
    let row_bytes = if row_bytes < MIN_ROW_BUDGET_BYTES { 0 } else { row_bytes };
    let rows = RowCache::new(row_bytes);
    let cache = Arc::new(PageCache::new(cache_bytes - row_bytes));
    let pager = Pager::new(Arc::clone(&cache));
    let next_segment = recovered
        .next_segment
        .unwrap_or_else(|| Arc::new(AtomicU64::new(state.next_segment.max(1))));
    let blobs = recovered.blobs.unwrap_or_else(|| {
        let next = Arc::clone(&next_segment);
        Arc::new(BlobStore::new(Arc::clone(&vfs), dir.to_path_buf(), db.clone(), next))
    });
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

fn listed_kept(kept: &KeptLog) -> LogFile {
    let blobs = kept.blobs.iter().map(|b| (b.segment, b.bytes)).collect();
    LogFile { id: kept.id, first: kept.first, bytes: kept.bytes, blobs }
}

/// Whether anything that was recovered may expire.
fn expires(state: &ManifestState, memtables: &BTreeMap<KeyspaceId, Arc<Memtable>>) -> bool {
    state.time > Time::BEFORE_ALL
        || state.partitions().any(|p| !p.lives.is_empty())
        || memtables.values().any(|m| m.expiring() > 0)
}

/// Whether this build can pack new pages of every keyspace, and unpack those that are there.
fn check_codecs(
    state: &ManifestState,
    segments: &Segments,
    config: &LightningDbConfig,
) -> Result<()> {
    for keyspace in state.keyspaces.values() {
        catalog::packing_of(keyspace, config)?;
        for own in keyspace.partitions().flat_map(|p| &p.segments) {
            let Some(segment) = segments.get(&own.id) else { continue };
            let codec = segment.codec();
            if !codec.is_built_in() {
                let message =
                    format!("keyspace {:?} has pages packed by {}", keyspace.name, codec.lacking());
                let e = Error::new(ErrorKind::UnsupportedFormat, message);
                return Err(e.in_file(segment.path()));
            }
        }
    }
    Ok(())
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
