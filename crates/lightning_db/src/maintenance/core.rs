//! What all handles of an open database share.
//!
//! 1. `keyspaces` (by name) and the commit section's table (by id) change together, under the
//!    latch of `keyspaces`.
//! 2. The lock is held until the database is closed, whoever still reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::commit::section::CommitSection;
use crate::config::LightningDbConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::locks::LockTable;
use crate::maintenance::file_jobs::FileJobs;
use crate::maintenance::indexes::IndexTable;
use crate::maintenance::open_transactions::OpenTransactions;
use crate::maintenance::pacing::Pacer;
use crate::maintenance::scheduler::Signal;
use crate::manifest::{Edit, EditOp};
use crate::store::environment::Environment;
use crate::store::keyspace::KeyspaceStore;
use crate::store::policy;
use crate::store::view::View;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Mutex, RwLock};
use crate::types::{Expiry, KeyspaceId, Seq};
use crate::vfs::VfsLock;

/// The kinds of work that is done behind the calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// Writing memtables out, and shortening the log.
    Flush,
    /// Merging runs, and giving back what is dead.
    Merge,
}

/// An open database.
#[derive(Debug)]
pub struct Core {
    /// Files, cache, manifest, views.
    pub env: Arc<Environment>,
    /// Commits.
    pub section: CommitSection,
    /// Keyspaces by name.
    pub keyspaces: RwLock<BTreeMap<String, Arc<KeyspaceStore>>>,
    /// The keyspace that the database's own calls act on.
    pub default: Arc<KeyspaceStore>,
    /// The options it was opened with.
    pub config: LightningDbConfig,
    /// Whether it was opened read-only.
    pub read_only: bool,
    /// The lock on the directory.
    pub lock: Mutex<Option<Box<dyn VfsLock>>>,
    /// Wakes the background threads.
    pub signal: Signal,
    /// Wakes the thread that syncs for `Periodic` commits.
    pub sync_signal: Signal,
    /// Whether the thread for the log sleeps until it is told of a commit.
    pub log_thread_sleeps: AtomicBool,
    /// Whether the log's upkeep is due.
    pub log_upkeep_due: AtomicBool,
    /// The last commit that is to be synced within the interval.
    pub periodic_due: AtomicU64,
    /// When the log was last synced for `Periodic` commits where there are no threads, in
    /// nanoseconds of the monotonic clock.
    pub periodic_synced: AtomicU64,
    /// Slows writers.
    pub pacer: Pacer,
    /// Held by flushes of a database without a log, which take all keyspaces at once.
    pub flush_all_latch: Mutex<()>,
    /// Held while the log is shortened.
    pub retire_latch: Mutex<()>,
    /// Held by a step of a change of the data keys.
    pub rekey_latch: Mutex<()>,
    /// The last failure of each kind of work, cleared by its success.
    pub failures: Mutex<BTreeMap<Work, (ErrorKind, String)>>,
    /// Whether there are any.
    pub failing: AtomicBool,
    /// Set once closed.
    pub closed: AtomicBool,
    /// Whether a keyspace has had a default lifetime since the database was opened.
    pub default_ttls: AtomicBool,
    /// Transactions begun and not finished, and how the others ended.
    pub transactions: OpenTransactions,
    /// Their locks.
    pub locks: LockTable,
    /// Calls that write files of their own.
    pub file_jobs: FileJobs,
    /// Secondary indexes.
    pub indexes: IndexTable,
}

/// Keeps a database open while a handle to a part of it lives.
pub type Keep = Arc<dyn std::any::Any + Send + Sync>;

impl Core {
    /// All keyspaces.
    pub fn all(&self) -> Vec<Arc<KeyspaceStore>> {
        self.keyspaces.read().values().cloned().collect()
    }

    /// Whether a keyspace gives what is put into it a lifetime.
    #[inline]
    pub fn has_default_ttl(&self) -> bool {
        self.default_ttls.load(Ordering::Acquire)
    }

    /// The lifetimes that keyspaces give.
    pub fn default_ttls(&self) -> BTreeMap<KeyspaceId, Expiry> {
        if !self.has_default_ttl() {
            return BTreeMap::new();
        }
        let all = self.all().into_iter();
        all.filter_map(|k| match k.default_ttl.load(Ordering::Acquire) {
            0 => None,
            ttl => Some((k.id, Expiry(ttl))),
        })
        .collect()
    }

    /// The keyspaces that have a merge operator.
    pub fn merging(&self) -> BTreeSet<KeyspaceId> {
        self.all().into_iter().filter(|k| k.merger().is_some()).map(|k| k.id).collect()
    }

    /// An error when writes are refused.
    pub fn check_writable(&self) -> Result<()> {
        if self.read_only {
            return Err(Error::new(ErrorKind::ReadOnly, "the database is open read-only"));
        }
        self.check_open()?;
        self.env.check_writable()
    }

    /// A view of the newest visible moment.
    pub fn view(&self) -> View {
        let view = self.env.views.register(&self.env.visible, self.env.now());
        let moment = self.env.lifetimes.moment();
        view.judging_by(moment)
    }

    /// Sees to it that the row cache takes rows in: before every read of single keys, outside the commit
    /// section.
    #[inline]
    pub fn ready_rows(&self) {
        if self.env.rows.wants_table() {
            self.enable_rows();
        }
    }

    /// Makes the row cache's table: with the first read, inside the commit section, so that no commit
    /// goes by unnoted.
    #[cold]
    fn enable_rows(&self) {
        let state = self.section.enter();
        self.env.rows.enable(state.last);
    }

    /// Ends the transactions that are past their time-outs.
    pub fn expire_transactions(&self) {
        self.transactions.expire_overdue(self.env.now(), &self.locks);
    }

    /// An error once the database was closed.
    pub fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "the database was closed"));
        }
        Ok(())
    }

    /// Does a piece of work and notes how it ended.
    pub fn noting<T>(&self, work: Work, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let result = act();
        match &result {
            Ok(_) if !self.failing.load(Ordering::Acquire) => {}
            Err(e) if e.kind() == ErrorKind::Closed => {}
            _ => {
                let mut failures = self.failures.lock();
                match &result {
                    Ok(_) => failures.remove(&work),
                    Err(e) => failures.insert(work, (e.kind(), e.to_string())),
                };
                self.failing.store(!failures.is_empty(), Ordering::Release);
            }
        }
        result
    }

    /// Why a kind of work failed when it was last tried.
    pub fn failure(&self, work: Work) -> Option<(ErrorKind, String)> {
        self.failures.lock().get(&work).cloned()
    }

    /// Whether flushing waits for space with as many memtables as are allowed to wait.
    pub fn is_short_of_space(&self) -> bool {
        self.failing.load(Ordering::Acquire)
            && matches!(self.failure(Work::Flush), Some((ErrorKind::StorageFull, _)))
            && self.all().iter().any(|k| k.version().sealed.len() >= policy::MAX_SEALED)
    }

    /// The log's upkeep: has the next file made and what will be written to read, and syncs what was appended, so
    /// that whoever commits need not wait for any of these.
    pub fn keep_up_log(&self) -> Result<()> {
        let (plan, ahead, last) = {
            let mut state = self.section.enter();
            let Some(log) = &mut state.log else { return Ok(()) };
            (log.plan_next(), log.plan_ahead(), log.last())
        };
        for (file, offset, len) in ahead {
            file.prefetch(offset, len);
        }
        if let Some(plan) = plan {
            let made = plan.make();
            if let Some(log) = &mut self.section.enter().log {
                log.offer_next(made);
            }
        }
        match &self.env.log {
            Some(log) => log.sync_to(last),
            None => Ok(()),
        }
    }

    /// Writes down that the log is durable as far as it is, where that is not known from elsewhere: rot
    /// in its last records is then told from an end. Done when nothing has been written for a while.
    pub fn vouch_for_log(&self) -> Result<()> {
        let durable = self.env.log.as_ref().map_or(Seq(0), |log| log.durable_seq());
        if durable <= self.vouched() || self.env.check_writable().is_err() {
            return Ok(());
        }
        self.env.publish(Edit { ops: vec![EditOp::LastSeq(durable)] }, || ())
    }

    /// Notes when the newest commit became visible, and sees to it that it is written down.
    #[inline]
    pub fn note_time(&self) {
        let env = &self.env;
        if !env.history.is_kept() || !env.history.observe(|| env.visible(), || env.clocks()) {
            return;
        }
        if self.config.background_threads > 0 {
            self.signal.raise();
        } else {
            // The commit stands; what could not be written goes with the next edit.
            let _ = self.write_times();
        }
    }

    /// Writes down which commits were visible when, where that is due.
    pub fn write_times(&self) -> Result<()> {
        if self.env.history.has_pending() {
            self.env.publish(Edit::default(), || ())?;
        }
        Ok(())
    }

    /// The last commit that the manifest vouches for.
    pub fn vouched(&self) -> Seq {
        self.env.manifest.lock().as_ref().map_or(Seq(0), |m| m.state().last_seq)
    }

    /// Sees to it that a `Periodic` commit is synced within the interval: by the thread for it, or
    /// where there are no threads by the first such commit after the interval.
    pub fn note_periodic(&self, seq: Seq) -> Result<()> {
        let Some(log) = &self.env.log else { return Ok(()) };
        let before = self.periodic_due.fetch_max(seq.0, Ordering::AcqRel);
        if self.config.background_threads > 0 {
            if before <= log.durable_seq().0 {
                self.sync_signal.raise();
            }
            return Ok(());
        }
        let now = self.env.now().as_nanos() as u64;
        let last = self.periodic_synced.load(Ordering::Acquire);
        if now.saturating_sub(last) >= self.config.sync_interval().as_nanos() as u64 {
            self.periodic_synced.store(now, Ordering::Release);
            log.sync_to(seq)?;
        }
        Ok(())
    }

    /// Bytes of segment files in use.
    pub fn segment_bytes(&self) -> u64 {
        let data: u64 = self
            .all()
            .iter()
            .map(|k| {
                let v = k.version();
                v.base.file_bytes()
                    + v.runs
                        .iter()
                        .map(|r| r.row.file_bytes() + r.ranges.row.file_bytes())
                        .sum::<u64>()
            })
            .sum();
        let young = self.env.blobs.young_bytes();
        let manifest = self.env.manifest.lock();
        data + young + manifest.as_ref().map_or(0, |m| m.state().blob_segments.values().sum())
    }
}
