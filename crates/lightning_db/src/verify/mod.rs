//! Verification of everything on disk: every reachable page of one version of each keyspace, read
//! past the cache, with checksums, order, links, filters and accounting; large values; indexes against
//! the rows that they are over; the manifest, read back from its file; files that nothing names.
//!
//! Damage is collected, not returned at the first find. Writers and readers go on meanwhile. The
//! log of a database that is open for writing is read as readers of changes do, up to what is visible; that
//! of one opened read-only, by what recovery would do with it.

mod indexes;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::VerifyOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::maintenance::core::Core;
use crate::manifest::Manifest;
use crate::recovery::directory;
use crate::store::range_row;
use crate::tree::Visited;
use crate::types::{BlobRef, EntryValue, LogId, SegmentId, Seq};
use crate::wal::{LogReader, LogRecovery, Visit};

/// Something wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The byte offset in it.
    pub offset: u64,
    /// What is wrong.
    pub message: String,
}

/// What a verification read, and what it found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerifyReport {
    /// Everything found wrong.
    pub problems: Vec<Problem>,
    /// Pages read.
    pub pages: u64,
    /// Bytes of them, as stored.
    pub bytes: u64,
    /// Segment files.
    pub segments: u64,
    /// Entries, all versions.
    pub entries: u64,
    /// Large values read.
    pub blobs: u64,
    /// Log records read.
    pub log_records: u64,
    /// Entries of indexes compared with the rows that they are over.
    pub index_entries: u64,
}

impl VerifyReport {
    /// Whether nothing was found wrong.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    fn note(&mut self, e: &Error) {
        self.problems.push(Problem {
            file: e.file().map(PathBuf::from).unwrap_or_default(),
            offset: e.offset().unwrap_or(0),
            message: e.message().to_owned(),
        });
    }
}

/// Verifies.
pub(crate) fn verify(core: &Core, _options: VerifyOptions) -> Result<VerifyReport> {
    let mut report = VerifyReport::default();
    let mut segments: BTreeSet<SegmentId> = BTreeSet::new();
    for keyspace in core.all() {
        let version = keyspace.pin();
        for run in &version.runs {
            if let Err(e) = range_row::check(&run.ranges.row, &core.env.pager) {
                report.note(&e);
            }
        }
        for partition in version.partitions() {
            segments.extend(partition.meta().segments.iter().map(|s| s.id));
            let mut blobs: BTreeMap<(SegmentId, u64), BlobRef> = BTreeMap::new();
            let (mut pages, mut bytes, mut entries, mut operands) = (0, 0, 0, 0_u64);
            let problems = partition.check(&mut |seen| match seen {
                Visited::Page { stored_bytes, .. } => {
                    pages += 1;
                    bytes += u64::from(stored_bytes);
                }
                Visited::Entry { value, .. } => {
                    entries += 1;
                    match value {
                        EntryValue::Blob(blob) => {
                            blobs.insert((blob.segment, blob.offset), blob);
                        }
                        EntryValue::Operands(_) => operands += 1,
                        EntryValue::Inline(_) | EntryValue::Tombstone => {}
                    }
                }
            });
            report.pages += pages;
            report.bytes += bytes;
            report.entries += entries;
            report.problems.extend(problems.into_iter().map(|p| Problem {
                file: p.file,
                offset: p.offset,
                message: p.message,
            }));
            if operands > 0 && keyspace.merger().is_none() {
                let file = partition.segments().first().map(|s| s.path().to_path_buf());
                report.problems.push(Problem {
                    file: file.unwrap_or_default(),
                    offset: 0,
                    message: format!("{operands} entries are to be merged, and nothing says how"),
                });
            }
            for blob in blobs.values() {
                let checked =
                    core.env.blobs.segment(blob.segment).and_then(|s| s.verify_blob(blob));
                match checked {
                    Ok(()) => {
                        report.blobs += 1;
                        report.bytes += blob.stored_bytes;
                    }
                    Err(e) => report.note(&e),
                }
                segments.insert(blob.segment);
            }
        }
    }
    report.segments = segments.len() as u64;
    if report.is_clean() {
        // Damage is told once, where it lies.
        indexes::verify_indexes(core, &mut report)?;
    }
    verify_manifest_and_log(core, &mut report);
    verify_kept_logs(core, &mut report);
    verify_names(core, &mut report)?;
    Ok(report)
}

/// Reads the manifest back, and the log that it names.
fn verify_manifest_and_log(core: &Core, report: &mut VerifyReport) {
    let env = &core.env;
    // No log file is given up while both are read.
    let _retire = core.retire_latch.lock();
    let manifest = env.manifest.lock();
    let loaded = match Manifest::load(&env.vfs, &env.dir, &env.db) {
        Ok((state, _)) => state,
        Err(e) => {
            report.note(&e);
            return;
        }
    };
    if let Some(open) = &*manifest
        && *open.state() != loaded
    {
        report.problems.push(Problem {
            file: env.dir.join("CURRENT"),
            offset: 0,
            message: "the manifest on disk differs from the one in use".to_owned(),
        });
    }
    drop(manifest);
    if loaded.log_start.0 == 0 {
        return;
    }
    if env.log.is_some() {
        return verify_live_log(core, loaded.log_start, report);
    }
    let (start, edit, vouched) = (loaded.log_start, loaded.edit, loaded.last_seq);
    let accept = &mut |_: Seq, _: &[u8]| Ok(Visit::Accept);
    match LogRecovery::recover(&env.vfs, &env.dir, &env.db, start, edit, vouched, accept) {
        Ok(log) => report.log_records = log.records,
        Err(e) => report.note(&e),
    }
}

/// Reads the log from file `start` on, while it is written: each commit that is visible by now.
fn verify_live_log(core: &Core, start: LogId, report: &mut VerifyReport) {
    let env = &core.env;
    let last = env.visible();
    let files = env.log_files.list(last);
    // A file that took no commit is not in the list.
    let Some(first) = files.iter().map(|(f, _)| f).find(|f| f.id >= start).map(|f| f.first) else {
        return;
    };
    read_commits(core, first, last, report);
}

/// Reads commits back, as readers of changes do.
fn read_commits(core: &Core, first: Seq, last: Seq, report: &mut VerifyReport) {
    let env = &core.env;
    let (vfs, files) = (Arc::clone(&env.vfs), Arc::clone(&env.log_files));
    let reader = LogReader::new(vfs, env.dir.clone(), env.db.clone(), files, first, last);
    let read = reader.and_then(|mut reader| {
        while reader.read(last)?.is_some() {
            report.log_records += 1;
        }
        Ok(())
    });
    match read {
        // It was given up meanwhile.
        Err(e) if e.kind() == ErrorKind::TooOld => {}
        Err(e) => report.note(&e),
        Ok(()) => {}
    }
}

/// Reads the log files that are kept for readers of changes.
fn verify_kept_logs(core: &Core, report: &mut VerifyReport) {
    let env = &core.env;
    let kept: Vec<(Seq, Seq)> = {
        let _retire = core.retire_latch.lock();
        let manifest = env.manifest.lock();
        let loaded;
        let state = match &*manifest {
            Some(manifest) => manifest.state(),
            None => match Manifest::load(&env.vfs, &env.dir, &env.db) {
                Ok((state, _)) => {
                    loaded = state;
                    &loaded
                }
                // It was reported already.
                Err(_) => return,
            },
        };
        state.kept_logs.values().map(|k| (k.first, k.last)).collect()
    };
    for (first, last) in kept {
        read_commits(core, first, last, report);
    }
}

/// Files in the segment directory that are missing, or that nothing in use names.
fn verify_names(core: &Core, report: &mut VerifyReport) -> Result<()> {
    let env = &core.env;
    env.blobs.drop_unused();
    let before = env.next_segment.load(crate::sync::atomic::Ordering::Acquire);
    let named_now = || {
        let manifest = env.manifest.lock();
        match &*manifest {
            Some(m) => Some(m.state().referenced_segments()),
            // What does not load was reported already.
            None => Manifest::load(&env.vfs, &env.dir, &env.db)
                .ok()
                .map(|(s, _)| s.referenced_segments()),
        }
    };
    let Some(named) = named_now() else { return Ok(()) };
    let seg = env.dir.join("seg");
    let there: BTreeSet<SegmentId> = directory::list(&*env.vfs, &seg)?
        .iter()
        .filter_map(|n| directory::numbered(n, ".seg").map(SegmentId))
        .collect();
    let mut problem = |id: SegmentId, message: &str| {
        report.problems.push(Problem {
            file: crate::segment::segment_path(&env.dir, id),
            offset: 0,
            message: message.to_owned(),
        });
    };
    // Jobs under way, readers of older versions and unflushed large values keep files that the
    // manifest does not name; what is left after a quiet open is an orphan.
    let quiet = !core.read_only
        && env.views.count() == 0
        && core.all().iter().all(|k| {
            k.version().memtables().all(|m| m.is_empty())
                && k.merge_latch.try_lock().is_some()
                && k.flush_latch.try_lock().is_some()
                && k.older_versions().is_empty()
        })
        && env.next_segment.load(crate::sync::atomic::Ordering::Acquire) == before;
    // Only now: who held a latch has marked what leaves because of its edit, and a judgement of large
    // values that was under way has come to its end.
    let quiet = quiet && {
        drop(env.blobs.judge());
        env.blobs.drop_unused();
        env.blobs.leaving().remove_waiting();
        !env.blobs.leaving().any()
    };
    // After the latches too: a job that was under way when the directory was read has named its
    // files by now, or taken them away. Ids are never used twice: what is named before and after was
    // named all the time, and what is named neither time never was.
    let still = named_now().unwrap_or_default();
    for id in named.difference(&there).filter(|id| still.contains(id)) {
        problem(*id, "the manifest names a segment that is not there");
    }
    if quiet {
        for id in there.difference(&named).filter(|id| !still.contains(id)) {
            let young = id.0 >= before || env.blobs.is_young(*id);
            if !young && crate::segment::segment_path(&env.dir, *id).exists_in(&*env.vfs) {
                problem(*id, "nothing names this segment");
            }
        }
    }
    Ok(())
}

trait ExistsIn {
    fn exists_in(&self, vfs: &dyn crate::vfs::Vfs) -> bool;
}

impl ExistsIn for PathBuf {
    fn exists_in(&self, vfs: &dyn crate::vfs::Vfs) -> bool {
        vfs.exists(self).unwrap_or(true)
    }
}
