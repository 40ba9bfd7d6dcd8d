//! Log files that recovery needs no more, but readers of changes do: which are kept, and when they go.
//!
//! 1. A file is kept while a cursor, or an open reader, has not done with its last commit, and while all
//!    that is kept stays within `changes_retention_bytes`, large values counted; the oldest goes first.
//! 2. What is kept for longer than the handle lives is named by the manifest, in the edit that takes it out
//!    of the log; a file goes only after the edit that no longer names it.
//! 3. What is kept is no part of the log: recovery never reads it, so nothing about the log's end, its
//!    damage or its replay depends on it.
//! 4. Large values that kept commits refer to stay: their segments are pinned.
//!
//! Callers hold `retire_latch`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::maintenance::core::Core;
use crate::manifest::{BlobUse, Edit, EditOp, KeptLog, ManifestState};
use crate::types::{LogId, SegmentId, Seq};
use crate::vfs::{OpenMode, Vfs};
use crate::wal::{LogFile, LogWriter, log_path};

/// More files are not kept, however small they are.
pub const MAX_KEPT_FILES: usize = 1024;

/// What becomes of files that were kept, and of those that leave the log.
#[derive(Debug, Default)]
pub struct KeptPlan {
    /// They are kept from now on.
    pub keep: Vec<KeptLog>,
    /// They were kept, and go.
    pub forget: Vec<LogId>,
}

impl KeptPlan {
    /// Judges the files of `state` and those `leaving` the log, for readers that need everything from
    /// `needed` on.
    pub fn new(
        state: &ManifestState,
        leaving: Vec<(LogFile, Seq)>,
        needed: Option<Seq>,
        limit: u64,
    ) -> Self {
        let is_needed = |last: Seq| needed.is_some_and(|n| last >= n);
        let named = |blobs: &LogFile| -> Vec<BlobUse> {
            let uses =
                blobs.blobs.iter().map(|(id, bytes)| BlobUse { segment: *id, bytes: *bytes });
            // Others are of keyspaces that were dropped before they were flushed.
            uses.filter(|b| state.blob_segments.contains_key(&b.segment)).collect()
        };
        let mut keep: Vec<KeptLog> = leaving
            .into_iter()
            .filter(|(file, last)| file.first <= *last && is_needed(*last))
            .map(|(file, last)| KeptLog {
                id: file.id,
                first: file.first,
                last,
                bytes: file.bytes,
                blobs: named(&file),
            })
            .collect();
        let mut held = 0_u64;
        let mut most = MAX_KEPT_FILES;
        let mut fits = |kept: &KeptLog| {
            held = held.saturating_add(kept.held_bytes());
            most = if held > limit { 0 } else { most.saturating_sub(1) };
            most > 0
        };
        // Newest first: where the bound is met, everything older goes.
        let first_kept = keep.iter().rev().take_while(|k| fits(k)).count();
        keep.drain(..keep.len() - first_kept);
        let old: BTreeSet<LogId> = state
            .kept_logs
            .values()
            .rev()
            .take_while(|k| is_needed(k.last) && fits(k))
            .map(|k| k.id)
            .collect();
        let forget = state.kept_logs.keys().filter(|id| !old.contains(id)).copied().collect();
        Self { keep, forget }
    }

    /// Its part of an edit.
    pub fn ops(&self) -> impl Iterator<Item = EditOp> + '_ {
        let forget = self.forget.iter().map(|id| EditOp::ForgetLog(*id));
        forget.chain(self.keep.iter().cloned().map(EditOp::KeepLog))
    }

    /// Whether there is nothing to be done.
    pub fn is_empty(&self) -> bool {
        self.keep.is_empty() && self.forget.is_empty()
    }

    /// The files that go.
    pub fn gone(&self, core: &Core) -> Vec<PathBuf> {
        self.forget.iter().map(|id| log_path(&core.env.dir, *id)).collect()
    }
}

impl Core {
    /// The first commit that a cursor, or an open reader of changes, has not done with.
    pub fn needed_by_changes(&self) -> Option<Seq> {
        let readers = self.env.log_files.needed_by_readers();
        let manifest = self.env.manifest.lock();
        let cursors = manifest.as_ref().and_then(|m| m.state().needed_by_cursors());
        readers.into_iter().chain(cursors).min()
    }

    /// What is to be kept when files leave the log, for readers that need everything from `needed` on.
    pub fn plan_kept(&self, leaving: Vec<(LogFile, Seq)>, needed: Option<Seq>) -> KeptPlan {
        let manifest = self.env.manifest.lock();
        let limit = self.config.changes_retention_bytes;
        manifest
            .as_ref()
            .map_or_else(KeptPlan::default, |m| KeptPlan::new(m.state(), leaving, needed, limit))
    }

    /// Lets go of what nobody needs any more.
    pub fn trim_kept(&self) -> Result<()> {
        let _latch = self.retire_latch.lock();
        let plan = self.plan_kept(Vec::new(), self.needed_by_changes());
        if plan.is_empty() {
            return Ok(());
        }
        self.env.publish(Edit { ops: plan.ops().collect() }, || ())?;
        self.remove_forgotten(&plan)
    }

    /// Removes files that the manifest has just let go of.
    pub fn remove_forgotten(&self, plan: &KeptPlan) -> Result<()> {
        let gone: BTreeSet<LogId> = plan.forget.iter().copied().collect();
        self.env.log_files.remove(|id| gone.contains(&id));
        for path in plan.gone(self) {
            self.env.vfs.remove_file(&path).map_err(|e| Error::io(&path, "remove", e))?;
        }
        Ok(())
    }

    /// The blob segments that must stay for readers of changes.
    pub fn pinned_for_changes(&self) -> BTreeSet<SegmentId> {
        let needed = self.needed_by_changes();
        needed.map(|n| self.env.log_files.blobs_from(n).into_iter().collect()).unwrap_or_default()
    }
}

/// For closing.
impl Core {
    /// Ends the log after everything was flushed: the next open finds none to read. What cursors still
    /// need of it is kept.
    pub fn end_log(&self, log: LogWriter, last: Seq) -> Result<()> {
        let _latch = self.retire_latch.lock();
        let env = &self.env;
        let (current, used) = log.position();
        log.close()?;
        let (known, cursors) = {
            let manifest = env.manifest.lock();
            let state = manifest.as_ref().map(|m| m.state());
            let cursors = state.and_then(ManifestState::needed_by_cursors);
            (state.map_or(LogId(0), |s| s.log_start), cursors)
        };
        let mut leaving = env.log_files.list(last);
        leaving.retain(|(file, _)| file.id >= known);
        if let Some((file, _)) = leaving.last_mut().filter(|(f, _)| f.id == current)
            && cursors.is_some_and(|n| last >= n)
        {
            // The space reserved behind its end would count.
            file.bytes = cut(self, current, used).unwrap_or(file.bytes);
        }
        let plan = self.plan_kept(leaving, cursors);
        let mut ops = vec![EditOp::LogStart(LogId(0)), EditOp::LastSeq(last)];
        ops.extend(plan.ops());
        let kept: BTreeSet<u64> = env.publish(Edit { ops }, || ()).map(|()| {
            let manifest = env.manifest.lock();
            manifest.iter().flat_map(|m| m.state().kept_logs.keys().map(|id| id.0)).collect()
        })?;
        env.log_files.remove(|id| !kept.contains(&id.0));
        remove_log_files(&*env.vfs, &env.dir, |id| !kept.contains(&id))
    }
}

/// Cuts a file that takes no more records behind its last; its length then, if that went well.
fn cut(core: &Core, id: LogId, used: u64) -> Option<u64> {
    let file = core.env.vfs.open(&log_path(&core.env.dir, id), OpenMode::ReadWrite).ok()?;
    file.set_len(used).ok()?;
    file.sync_data().ok()?;
    Some(used)
}

/// Removes log files.
fn remove_log_files(vfs: &dyn Vfs, dir: &Path, goes: impl Fn(u64) -> bool) -> Result<()> {
    let names = dir.join("wal");
    let listed = vfs.list(&names).map_err(|e| Error::io(&names, "list the directory", e))?;
    for name in listed {
        let id = name.strip_suffix(".wal").and_then(|n| n.parse().ok());
        if id.is_some_and(&goes) {
            let path = names.join(&name);
            vfs.remove_file(&path).map_err(|e| Error::io(&path, "remove", e))?;
        }
    }
    Ok(())
}
