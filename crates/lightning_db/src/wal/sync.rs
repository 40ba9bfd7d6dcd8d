//! Durability of the log: one fsync for all who wait.
//!
//! 1. `durable` only grows, and only after fsyncs, of each file with records up to it, that began after these were
//!    appended. The hook (large values) runs before them.
//! 2. One leader at a time; the others wait and take their answer from its result. Those whose records
//!    the fsync at hand covers are all woken by its end; of those who came too late for it one is, to
//!    lead the next, and the others sleep on until that one ends.
//! 3. After a failed write or fsync no fsync is begun: the system's next one would report success for pages
//!    that it has dropped.
//! 4. A record is in the current file or in one of those `behind`, which are no longer written to and not known to be durable.
//!    What is read of these and of `appended` under one hold of the state goes together; an fsync covers the
//!    files behind, oldest first, and then the current one, and only then are they behind no more.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use crate::error::{Error, ErrorKind, Result};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::types::Seq;
use crate::vfs::{Vfs, VfsFile};

type Hook = Box<dyn Fn() -> Result<()> + Send + Sync>;

/// Counts of the log since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogSyncStats {
    /// Fsyncs.
    pub syncs: u64,
    /// Time spent in them.
    pub sync_nanos: u64,
    /// Records appended.
    pub records: u64,
    /// Bytes appended.
    pub bytes: u64,
}

#[derive(Debug)]
struct State {
    file: Arc<dyn VfsFile>,
    /// The files before it that may not be durable to their ends, oldest first.
    behind: VecDeque<Arc<dyn VfsFile>>,
    /// Files begun after the first, and how many of their headers are durable.
    begun: u64,
    begun_durable: u64,
    /// How far the fsync at hand goes, in commits and in files begun; `None`: there is none.
    in_flight: Option<(Seq, u64)>,
    /// Fsyncs that ended: of its two turns those who wait sleep in.
    turn: usize,
    poisoned: Option<String>,
}

/// The shared side of a log.
pub struct LogSync {
    vfs: Arc<dyn Vfs>,
    state: Mutex<State>,
    /// The last record that is in the log.
    appended: AtomicU64,
    /// Who waits for the fsync at hand sleeps in that of the turn, who waits for the next in the other.
    done: [Condvar; 2],
    durable: AtomicU64,
    is_poisoned: AtomicU64,
    manifest_edit: AtomicU64,
    before_sync: OnceLock<Hook>,
    pub(super) syncs: AtomicU64,
    pub(super) sync_nanos: AtomicU64,
    pub(super) records: AtomicU64,
    pub(super) bytes: AtomicU64,
}

impl std::fmt::Debug for LogSync {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogSync").field("durable", &self.durable).finish_non_exhaustive()
    }
}

impl LogSync {
    pub(super) fn new(
        vfs: Arc<dyn Vfs>,
        file: Arc<dyn VfsFile>,
        durable: Seq,
        manifest_edit: u64,
    ) -> Self {
        let state = State {
            file,
            behind: VecDeque::new(),
            begun: 0,
            begun_durable: 0,
            in_flight: None,
            turn: 0,
            poisoned: None,
        };
        Self {
            vfs,
            state: Mutex::new(state),
            appended: AtomicU64::new(durable.0),
            done: [Condvar::new(), Condvar::new()],
            durable: AtomicU64::new(durable.0),
            is_poisoned: AtomicU64::new(0),
            manifest_edit: AtomicU64::new(manifest_edit),
            before_sync: OnceLock::new(),
            syncs: AtomicU64::new(0),
            sync_nanos: AtomicU64::new(0),
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// Sets what must be durable before the log is: called once, before the first commit.
    pub fn set_before_sync(&self, hook: Hook) {
        assert!(self.before_sync.set(hook).is_ok(), "the hook is set once");
    }

    /// The last commit that is known to be on the device.
    #[inline]
    pub fn durable_seq(&self) -> Seq {
        Seq(self.durable.load(Ordering::Acquire))
    }

    /// Counts.
    pub fn stats(&self) -> LogSyncStats {
        LogSyncStats {
            syncs: self.syncs.load(Ordering::Relaxed),
            sync_nanos: self.sync_nanos.load(Ordering::Relaxed),
            records: self.records.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    /// The number of the last durable manifest edit, for the headers of new files.
    pub fn note_manifest_edit(&self, edit: u64) {
        self.manifest_edit.fetch_max(edit, Ordering::Relaxed);
    }

    pub(super) fn manifest_edit(&self) -> u64 {
        self.manifest_edit.load(Ordering::Relaxed)
    }

    /// Why the log takes no more commits, if it does not.
    #[inline]
    pub fn poisoned(&self) -> Option<Error> {
        if self.is_poisoned.load(Ordering::Acquire) == 0 {
            return None;
        }
        let why = self.state.lock().poisoned.clone().unwrap_or_default();
        Some(Error::new(ErrorKind::Poisoned, format!("the log failed, reopen the database: {why}")))
    }

    /// Ends the log's life in this process.
    pub fn poison(&self, why: &Error) {
        let mut state = self.state.lock();
        state.poisoned.get_or_insert_with(|| why.to_string());
        self.is_poisoned.store(1, Ordering::Release);
        self.done.iter().for_each(Condvar::notify_all);
    }

    pub(super) fn appended(&self, seq: Seq) {
        self.appended.store(seq.0, Ordering::Release);
    }

    /// Takes the file that the log goes on in. `durable`: everything before it is.
    pub(super) fn set_file(&self, file: Arc<dyn VfsFile>, durable: bool) {
        let mut state = self.state.lock();
        let before = std::mem::replace(&mut state.file, file);
        if !durable {
            state.behind.push_back(before);
        }
        state.begun += 1;
    }

    /// Whether everything is durable that was appended up to `last`, the last record, the headers of all files with it:
    /// also of one that has no record yet, on which the next is chained.
    pub(super) fn is_all_durable(&self, last: Seq) -> bool {
        let state = self.state.lock();
        self.durable_seq() >= last && state.begun_durable == state.begun
    }

    /// Files before the current one that may not be durable.
    #[cfg(test)]
    pub(super) fn files_behind(&self) -> usize {
        self.state.lock().behind.len()
    }

    fn unknown(why: &str) -> Error {
        Error::new(
            ErrorKind::CommitUnknown,
            format!("the log failed before the commit was durable: {why}"),
        )
    }

    /// Returns once every commit up to `seq`, all of which must have been appended, is durable.
    pub fn sync_to(&self, seq: Seq) -> Result<()> {
        if self.durable_seq() >= seq { Ok(()) } else { self.sync_until(seq, |_| 0) }
    }

    /// As [`sync_to`](Self::sync_to), and the header of every file begun so far is durable: a manifest may name
    /// it as the log's first.
    pub fn sync_with_files(&self, seq: Seq) -> Result<()> {
        self.sync_until(seq, |state| state.begun)
    }

    /// Returns once fewer than `most` files before the current one wait to become durable.
    pub(super) fn wait_for_behind(&self, most: usize) -> Result<()> {
        let mut state = self.state.lock();
        while state.behind.len() >= most {
            if let Some(why) = &state.poisoned {
                return Err(Self::unknown(why));
            }
            if state.in_flight.is_none() {
                return self.lead(state);
            }
            state = self.done[state.turn % 2].wait(state);
        }
        Ok(())
    }

    fn sync_until(&self, seq: Seq, begun: impl FnOnce(&State) -> u64) -> Result<()> {
        let mut state = self.state.lock();
        let begun = begun(&state);
        loop {
            if self.durable_seq() >= seq && state.begun_durable >= begun {
                return Ok(());
            }
            if let Some(why) = &state.poisoned {
                return Err(Self::unknown(why));
            }
            let Some(reaches) = state.in_flight else { break };
            let is_covered = seq <= reaches.0 && begun <= reaches.1;
            let turn = if is_covered { state.turn } else { state.turn + 1 };
            state = self.done[turn % 2].wait(state);
        }
        self.lead(state)?;
        debug_assert!(self.durable_seq() >= seq, "only what was appended can become durable");
        Ok(())
    }

    /// Makes everything that was appended durable, where nobody else does.
    fn lead(&self, mut state: MutexGuard<'_, State>) -> Result<()> {
        let target = Seq(self.appended.load(Ordering::Acquire));
        let (behind, file) = (state.behind.clone(), Arc::clone(&state.file));
        let begun = state.begun;
        state.in_flight = Some((target, begun));
        drop(state);
        let result = self.sync_files(behind.iter().chain([&file]));
        let mut state = self.state.lock();
        state.in_flight = None;
        let (this, next) = (state.turn % 2, (state.turn + 1) % 2);
        state.turn += 1;
        match result {
            Ok(()) => {
                // Others may have come behind meanwhile.
                state.behind.drain(..behind.len());
                state.begun_durable = begun;
                self.durable.fetch_max(target.0, Ordering::AcqRel);
                drop(state);
                self.done[next].notify_one();
                self.done[this].notify_all();
                Ok(())
            }
            Err(e) => {
                let why = state.poisoned.get_or_insert_with(|| e.to_string());
                let unknown = Self::unknown(why);
                self.is_poisoned.store(1, Ordering::Release);
                self.done.iter().for_each(Condvar::notify_all);
                Err(unknown)
            }
        }
    }

    fn sync_files<'a>(&self, files: impl Iterator<Item = &'a Arc<dyn VfsFile>>) -> Result<()> {
        let started = self.vfs.monotonic();
        if let Some(hook) = self.before_sync.get() {
            hook()?;
        }
        for file in files {
            file.sync_data().map_err(|e| Error::io(file.path(), "sync", e))?;
            self.syncs.fetch_add(1, Ordering::Relaxed);
        }
        let nanos = self.vfs.monotonic().saturating_sub(started).as_nanos() as u64;
        self.sync_nanos.fetch_add(nanos, Ordering::Relaxed);
        Ok(())
    }
}
