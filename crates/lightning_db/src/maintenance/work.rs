//! One step of each kind of background work. Threads take them, and so does the calling thread
//! where there are no threads, or for `flush` and `compact`.
//!
//! 1. Flushes come before merges.
//! 2. Log segments go only after the edit that moves the log's start is durable.
//! 3. A blob segment goes only when no partition, no memtable and no commit in flight refers to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::maintenance::core::{Core, Work};
use crate::manifest::{Edit, EditOp, KeyInterval};
use crate::store::flush::flush_oldest;
use crate::store::keyspace::KeyspaceStore;
use crate::store::merge::{Job, run_job};
use crate::store::policy;
use crate::store::retention::LiveViews;
use crate::sync::atomic::Ordering;
use crate::types::{LogId, SegmentId, Seq};

impl Core {
    /// Flushes the oldest sealed memtable of a keyspace; tells whether there was one anywhere.
    pub fn flush_step(&self) -> Result<bool> {
        if self.env.log.is_none() {
            let _latch = self.flush_all_latch.lock();
            let done = flush_oldest(&self.env, &self.all())?;
            self.update_pressure();
            return Ok(done);
        }
        let mut done = false;
        for keyspace in self.all() {
            if keyspace.version().sealed.is_empty() {
                continue;
            }
            let _latch = keyspace.flush_latch.lock();
            done |= flush_oldest(&self.env, std::slice::from_ref(&keyspace))?;
            self.update_pressure();
        }
        if done {
            self.retire_log()?;
        }
        Ok(done)
    }

    /// Makes everything committed so far part of runs.
    pub fn flush_all(&self) -> Result<()> {
        self.check_writable()?;
        self.env.blobs.leaving().remove_waiting();
        self.noting(Work::Flush, || {
            self.flush_commits()?;
            if self.env.log.is_some() {
                self.retire_log()?;
            }
            Ok(())
        })
    }

    /// Flushes every commit so far. Without a log the manifest learns the number of the last, which may
    /// have written nothing: it is not given out again.
    pub fn flush_commits(&self) -> Result<()> {
        let last = self.section.seal_all();
        while self.flush_step()? {}
        if self.env.log.is_none() && self.vouched() < last {
            self.env.publish(Edit { ops: vec![EditOp::LastSeq(last)] }, || ())?;
        }
        Ok(())
    }

    /// Gives up log segments that no memtable needs.
    fn retire_log(&self) -> Result<()> {
        let _latch = self.retire_latch.lock();
        let (first, below, last) = {
            let state = self.section.enter();
            let Some(log) = &state.log else { return Ok(()) };
            let unflushed = state.keyspaces.values().filter_map(|k| k.first_unflushed()).min();
            let below = unflushed.map_or(state.last, |s| Seq(s.0 - 1));
            (log.first_needed(below), below, state.last)
        };
        let known = {
            let manifest = self.env.manifest.lock();
            manifest.as_ref().map(|m| m.state().log_start)
        };
        let Some(known) = known.filter(|k| *k < first) else { return Ok(()) };
        if let Some(log) = &self.env.log {
            log.sync_with_files(below)?;
        }
        let mut leaving = self.env.log_files.list(last);
        leaving.retain(|(file, _)| (known..first).contains(&file.id));
        let plan = self.plan_kept(leaving, self.needed_by_changes());
        // Recovery checks that the log begins no later than the commit after this one.
        let mut ops = vec![EditOp::LogStart(first), EditOp::LastSeq(below)];
        ops.extend(plan.ops());
        self.env.publish(Edit { ops }, || ())?;
        let is_kept = |id: LogId| plan.keep.iter().any(|k| k.id == id);
        self.env.log_files.remove(|id| (known..first).contains(&id) && !is_kept(id));
        let gone = match &mut self.section.enter().log {
            Some(log) => log.retire(first, is_kept),
            None => Vec::new(),
        };
        for path in gone {
            self.env.vfs.remove_file(&path).map_err(|e| Error::io(&path, "remove", e))?;
        }
        self.remove_forgotten(&plan)
    }

    /// Whether the log is over its bound.
    pub fn is_log_over_bound(&self) -> bool {
        let state = self.section.enter();
        state.log.as_ref().is_some_and(|l| l.bytes() > self.config.max_wal_size)
    }

    /// When the log is over its bound, seals the memtable that holds it back.
    pub fn bound_log(&self) -> Result<bool> {
        if !self.is_log_over_bound() {
            return Ok(false);
        }
        if !self.section.seal_oldest() {
            self.retire_log()?;
            return Ok(false);
        }
        self.flush_step()
    }

    /// The next merge that is due, of any keyspace; tells whether there was one.
    pub fn merge_step(&self) -> Result<bool> {
        let mut done = false;
        for keyspace in self.all() {
            let Some(_latch) = keyspace.merge_latch.try_lock() else { continue };
            done |= self.merge_keyspace(&keyspace)?;
            self.update_pressure();
        }
        Ok(done)
    }

    fn merge_keyspace(&self, keyspace: &KeyspaceStore) -> Result<bool> {
        if keyspace.is_dropped() {
            return Ok(false);
        }
        let job = {
            let version = keyspace.pin();
            policy::next_job(&version, &keyspace.options, &self.env.pager, &self.live_views())?
        };
        match job {
            Some(job) => run_job(&self.env, keyspace, &job),
            None => Ok(false),
        }
    }

    /// For closing: merges that cost next to nothing, so that a database opened and closed often
    /// does not gather tiny runs.
    pub fn merge_small(&self) -> Result<()> {
        const SMALL_BYTES: u64 = 4 * 1024 * 1024;
        for keyspace in self.all() {
            let _latch = keyspace.merge_latch.lock();
            loop {
                let version = keyspace.pin();
                let small = version.stacked_bytes() < SMALL_BYTES;
                let base = version.base.live_bytes() < SMALL_BYTES;
                let job = policy::next_job(
                    &version,
                    &keyspace.options,
                    &self.env.pager,
                    &self.live_views(),
                )?;
                let Some(job) = job.filter(|j| small && (base || matches!(j, Job::Tier(_)))) else {
                    break;
                };
                if !run_job(&self.env, &keyspace, &job)? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The views there are, for choosing work: the work itself looks again.
    fn live_views(&self) -> LiveViews {
        LiveViews {
            open_from: self.env.open_from(),
            live: self.env.views.live(),
            expired: self.env.dead().all_until(),
        }
    }

    /// Merges everything inside `within` into the base, and gives back what is dead there.
    pub fn compact(&self, keyspace: &Arc<KeyspaceStore>, within: &KeyInterval) -> Result<()> {
        self.flush_all()?;
        self.noting(Work::Merge, || self.merge_within(keyspace, within))?;
        // The other keyspaces were flushed too.
        self.merge_inline();
        Ok(())
    }

    fn merge_within(&self, keyspace: &Arc<KeyspaceStore>, within: &KeyInterval) -> Result<()> {
        let latch = keyspace.merge_latch.lock();
        loop {
            self.check_open()?;
            let job = policy::next_compaction(&keyspace.pin(), &keyspace.options, within);
            let Some(job) = job else { break };
            if !run_job(&self.env, keyspace, &job)? {
                break;
            }
            self.update_pressure();
        }
        let ids: Vec<_> = keyspace.version().base.partitions.iter().map(|p| p.meta().id).collect();
        for id in ids {
            self.check_open()?;
            let job = {
                let version = keyspace.version();
                version
                    .base
                    .partitions
                    .iter()
                    .find(|p| p.meta().id == id)
                    .and_then(|p| policy::tidy_job(p, within, &self.live_views()))
            };
            if let Some(job) = job {
                run_job(&self.env, keyspace, &job)?;
            }
        }
        drop(latch);
        self.clean_blobs()?;
        self.update_pressure();
        Ok(())
    }

    /// Recomputes how far the keyspaces are behind.
    pub fn update_pressure(&self) {
        self.update_pressure_of(self.all());
    }

    /// As [`update_pressure`](Self::update_pressure), unless a keyspace is being made or dropped, which
    /// takes a sync of the manifest.
    pub fn update_pressure_if_free(&self) {
        let all = self.keyspaces.try_read().map(|k| k.values().cloned().collect());
        if let Some(all) = all {
            self.update_pressure_of(all);
        }
    }

    fn update_pressure_of(&self, keyspaces: Vec<Arc<KeyspaceStore>>) {
        let mut worst = 0;
        for keyspace in keyspaces {
            let (pressure, _) = policy::pressure(&keyspace.version(), &keyspace.options);
            keyspace.pressure.store(pressure, Ordering::Relaxed);
            worst = worst.max(pressure);
        }
        // Where nothing merges but `compact`, waiting would help nobody.
        let slow = self.config.background_compaction && self.config.background_threads > 0;
        self.pacer.set_pressure(if slow { worst } else { 0 });
    }

    /// Removes blob segments that nothing refers to, and empties those that are half dead.
    pub fn clean_blobs(&self) -> Result<bool> {
        self.env.blobs.drop_unused();
        self.env.blobs.leaving().remove_waiting();
        let (unused, half_dead) = {
            let _judge = self.env.blobs.judge();
            // Under the latch: of two cleaners at once, the second must not judge what the first
            // has removed, and remove it again.
            let known: BTreeMap<SegmentId, u64> = {
                let manifest = self.env.manifest.lock();
                manifest.as_ref().map(|m| m.state().blob_segments.clone()).unwrap_or_default()
            };
            if known.is_empty() {
                return Ok(false);
            }
            // Before memtables and versions, in which what is held now may be named later.
            let pinned = self.env.blobs.pinned();
            let mut live: BTreeMap<SegmentId, u64> = BTreeMap::new();
            let mut in_memory: BTreeSet<SegmentId> = BTreeSet::new();
            for keyspace in self.all() {
                let version = keyspace.pin();
                in_memory.extend(version.memtables().flat_map(|m| m.blob_segments()));
                for blob in version.partitions().flat_map(|p| &p.meta().blobs) {
                    *live.entry(blob.segment).or_default() += blob.bytes;
                }
            }
            in_memory.extend(self.pinned_for_changes());
            let settled = |id: &SegmentId| {
                !in_memory.contains(id) && !pinned.contains(id) && !self.env.blobs.is_young(*id)
            };
            // While the data keys are changed, all that lives moves.
            let keys = self.env.db.keys().filter(|k| k.is_changing());
            let aged = |id| keys.is_some_and(|k| self.env.blobs.is_aged(id, k.newest_epoch()));
            let unused: Vec<SegmentId> =
                known.keys().filter(|id| !live.contains_key(id) && settled(id)).copied().collect();
            let half_dead: BTreeSet<SegmentId> = known
                .iter()
                .filter(|(id, _)| settled(id))
                .filter(|(id, bytes)| live.get(id).is_some_and(|l| l * 2 < **bytes || aged(**id)))
                .map(|(id, _)| *id)
                .collect();
            if !unused.is_empty() {
                let ops = unused.iter().map(|id| EditOp::RemoveBlobSegment(*id)).collect();
                self.env.publish(Edit { ops }, || ())?;
                let versions = self.all().iter().flat_map(|k| k.older_versions()).collect();
                self.env.blobs.retire(&unused, versions);
            }
            (unused, half_dead)
        };
        let mut done = !unused.is_empty();
        if !half_dead.is_empty() {
            for keyspace in self.all() {
                let _latch = keyspace.merge_latch.lock();
                done |= run_job(&self.env, &keyspace, &Job::CleanBlobs(half_dead.clone()))?;
            }
        }
        Ok(done)
    }

    /// Does all the work that is due, on this thread; a failure is noted.
    pub fn work_inline(&self) {
        let flushed = self.noting(Work::Flush, || {
            while self.flush_step()? || self.bound_log()? {}
            Ok(())
        });
        if flushed.is_ok() {
            self.merge_inline();
        }
    }

    /// Does the merges that a flush has made due, on this thread where no other will; a failure is
    /// noted, and what could not be merged is met again by the next flush.
    pub fn merge_inline(&self) {
        if self.config.background_threads > 0 || !self.config.background_compaction {
            return;
        }
        let _ = self.noting(Work::Merge, || {
            while self.merge_step()? {}
            self.clean_blobs()
        });
    }
}
