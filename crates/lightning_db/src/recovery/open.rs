//! Opening a database, in the order that the module's header gives.

use std::path::Path;
use std::sync::Arc;

use super::OpenAs;
use super::assemble::{Recovered, Segments, assemble, listed_kept, new_pager};
use super::directory::{self, Found};
use super::kept;
use super::replay::Replay;
use crate::compress::Dictionaries;
use crate::config::{KeyspaceOptions, LightningDbConfig};
use crate::crypto::Owner;
use crate::error::{Error, ErrorKind, Result};
use crate::maintenance::catalog::{self, DEFAULT};
use crate::maintenance::core::Core;
use crate::maintenance::kept_log::KeptPlan;
use crate::maintenance::write::no_lives_where_merged;
use crate::manifest::{Edit, EditOp, Manifest, ManifestState, NextIds};
use crate::manifest::{current_database, install_current};
use crate::segment::Segment;
use crate::store::blobs::BlobStore;
use crate::store::environment::Environment;
use crate::store::flush::flush_recovered;
use crate::sync::atomic::AtomicU64;
use crate::types::{DatabaseId, KeyspaceId, LogId, ManifestId, SegmentId};
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
        new_pager(&config),
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
