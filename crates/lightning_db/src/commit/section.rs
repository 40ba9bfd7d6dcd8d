//! The commit section: one latch inside which a commit is validated, numbered, logged and applied.
//!
//! 1. Numbers, log records and memtable insertions follow one order, the order of the section.
//! 2. Validation runs inside the section and sees every inserted entry, visible or not.
//! 3. Nothing is inserted before its record is written: a commit that fails before that leaves no
//!    trace, and a record write that fails poisons the log with nothing inserted.
//! 4. A commit asks for a durable number: its own where it wants `Sync`, else that of the last
//!    `Sync` commit before it. It becomes visible once that number is durable, so that commits
//!    become visible in order and none before its own promise is kept; only then is it
//!    acknowledged.
//! 5. Memtables are sealed here only, between commits.
//! 6. A panic inside the section poisons the handle: the order may be half applied.
//!
//! Latch order: section, then a keyspace's version; blob latches are taken before the section.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::commit::apply::apply;
use crate::commit::batch::{Operations, Write};
use crate::commit::watch::Watch;
use crate::error::{Error, ErrorKind, Result};
use crate::memtable::{Memtable, Readers};
use crate::store::environment::Environment;
use crate::store::keyspace::KeyspaceStore;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard};
use crate::types::{EntryValue, KeyspaceId, Seq};
use crate::wal::LogWriter;

/// What a commit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Its record is on the device.
    Durable,
    /// Its record is with the operating system (or, without a log, in memory).
    Written,
}

/// The state behind the section's latch.
#[derive(Debug)]
pub struct SectionState {
    /// The log; `None` where there is none.
    pub log: Option<LogWriter>,
    /// The last commit's number.
    pub last: Seq,
    /// The number that must be durable before the last commit may be seen.
    required: Seq,
    /// The keyspaces that take writes.
    pub keyspaces: BTreeMap<KeyspaceId, Arc<KeyspaceStore>>,
    /// Set once the database closes.
    pub closed: bool,
    /// What commits that are being validated have read.
    watches: Vec<Arc<Watch>>,
}

impl SectionState {
    /// Ends a watch; tells whether a commit hit it.
    pub fn end_watch(&mut self, watch: &Arc<Watch>) -> bool {
        self.watches.retain(|w| !Arc::ptr_eq(w, watch));
        watch.is_hit()
    }
}

/// Commits of one database.
#[derive(Debug)]
pub struct CommitSection {
    env: Arc<Environment>,
    state: Mutex<SectionState>,
    /// The last commit whose entries are in the memtables, visible or not.
    applied: AtomicU64,
    /// Commits so far.
    pub commits: AtomicU64,
}

/// What a commit did.
#[derive(Debug, Clone, Copy)]
pub struct Committed {
    /// Its number.
    pub seq: Seq,
    /// Whether a memtable was sealed on the way, so that there is work to do.
    pub sealed: bool,
    /// Whether it is time for the log's upkeep.
    pub log_upkeep: bool,
}

/// The keys from `first` to `last` of a keyspace.
#[derive(Debug, Clone, Copy)]
pub struct Span<'a> {
    /// Where.
    pub keyspace: KeyspaceId,
    /// The first key.
    pub first: &'a [u8],
    /// The last key.
    pub last: &'a [u8],
}

/// Poisons the handle when dropped by a panic.
struct PanicGuard<'a>(&'a Environment);

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if crate::sync::thread::panicking() {
            self.0.poison(&Error::new(ErrorKind::Poisoned, "a panic inside the commit section"));
        }
    }
}

impl CommitSection {
    /// A section that goes on after commit `last`.
    pub fn new(
        env: Arc<Environment>,
        log: Option<LogWriter>,
        last: Seq,
        keyspaces: BTreeMap<KeyspaceId, Arc<KeyspaceStore>>,
    ) -> Self {
        let state = SectionState {
            log,
            last,
            required: last,
            keyspaces,
            closed: false,
            watches: Vec::new(),
        };
        Self {
            env,
            state: Mutex::new(state),
            applied: AtomicU64::new(last.0),
            commits: AtomicU64::new(0),
        }
    }

    /// Enters the section for something other than a commit.
    pub fn enter(&self) -> MutexGuard<'_, SectionState> {
        self.state.lock()
    }

    /// Commits `body`. `validate` may refuse it; it runs inside the section.
    pub fn commit(
        &self,
        body: &[u8],
        wait: Wait,
        validate: impl FnOnce(&mut SectionState) -> Result<()>,
    ) -> Result<Committed> {
        self.expect_writes(body);
        let crc = crc32c::crc32c(body);
        self.commit_in(self.state.lock(), (body, crc), wait, validate)
    }

    /// As [`commit`](Self::commit), where nobody is in the section for longer than a moment; else `None`.
    pub fn commit_if_free(
        &self,
        body: &[u8],
        wait: Wait,
        validate: impl FnOnce(&mut SectionState) -> Result<()>,
    ) -> Option<Result<Committed>> {
        /// Some commits of others.
        const TRIES: usize = 100;
        let crc = crc32c::crc32c(body);
        let state = (0..TRIES).find_map(|_| {
            std::hint::spin_loop();
            self.state.try_lock()
        })?;
        Some(self.commit_in(state, (body, crc), wait, validate))
    }

    /// Has what the first few entries of a body will meet in the row cache come nearer meanwhile.
    #[inline]
    fn expect_writes(&self, body: &[u8]) {
        const FEW: usize = 4;
        let rows = &self.env.rows;
        if rows.has_table() {
            for op in Operations::new(body).take(FEW).flatten().filter_map(Write::entry) {
                rows.expect_write(op.keyspace, op.key);
            }
        }
    }

    /// Whether a commit of `bytes` now would wait for others to be durable, or for the next log file.
    pub fn waits_for_others(&self, state: &SectionState, bytes: usize) -> bool {
        !self.is_durable(state.required) || state.log.as_ref().is_some_and(|log| !log.fits(bytes))
    }

    fn commit_in(
        &self,
        state: MutexGuard<'_, SectionState>,
        (body, crc): (&[u8], u32),
        wait: Wait,
        validate: impl FnOnce(&mut SectionState) -> Result<()>,
    ) -> Result<Committed> {
        let env = &*self.env;
        let (seq, required, sealed, log_upkeep) = {
            let mut state = state;
            let _guard = PanicGuard(env);
            if state.closed {
                return Err(Error::new(ErrorKind::Closed, "the database was closed"));
            }
            env.check_writable()?;
            let has_ranges = check_keyspaces(&state, body)?;
            validate(&mut state)?;
            let seq = state.last.next();
            let mut log_upkeep = false;
            if let Some(log) = &mut state.log {
                log.append(seq, body, crc)?;
                log_upkeep = log.take_upkeep_due();
            }
            state.last = seq;
            let full = self.insert(&state, body, seq, has_ranges).map_err(|e| {
                // Logged but not inserted: readers and the next process would disagree.
                env.poison(&e);
                e.with_kind(ErrorKind::CommitUnknown)
            })?;
            for watch in &state.watches {
                watch.note(body);
            }
            self.applied.store(seq.0, Ordering::Release);
            if wait == Wait::Durable {
                state.required = seq;
            }
            let required = state.required;
            let sealed = full && self.seal_full(&state);
            if self.is_durable(required) {
                env.visible.store(seq.0, Ordering::Release);
                env.arrivals.tell_inside();
                self.commits.fetch_add(1, Ordering::Relaxed);
                return Ok(Committed { seq, sealed, log_upkeep });
            }
            (seq, required, sealed, log_upkeep)
        };
        env.log.as_ref().expect("without a log everything is durable enough").sync_to(required)?;
        env.visible.fetch_max(seq.0, Ordering::AcqRel);
        env.arrivals.tell();
        self.commits.fetch_add(1, Ordering::Relaxed);
        Ok(Committed { seq, sealed, log_upkeep })
    }

    /// Makes a change that goes past log and memtables a commit of its own, for the keys of `span`.
    /// `prepare` sees every commit before it applied, and none comes in between. Then, with the change's
    /// number, `publish` makes it durable and puts it into versions, or fails and leaves all as it was.
    /// The log has a record without operations for it, so that numbers go on.
    pub fn commit_outside_log(
        &self,
        span: &Span<'_>,
        prepare: impl FnOnce(&mut SectionState) -> Result<()>,
        publish: impl FnOnce(Seq) -> Result<()>,
    ) -> Result<()> {
        let env = &*self.env;
        let mut state = self.state.lock();
        let _guard = PanicGuard(env);
        if state.closed {
            return Err(Error::new(ErrorKind::Closed, "the database was closed"));
        }
        env.check_writable()?;
        if !state.keyspaces.contains_key(&span.keyspace) {
            return Err(Error::new(ErrorKind::NotFound, "the keyspace was dropped"));
        }
        prepare(&mut state)?;
        let seq = state.last.next();
        if let Some(log) = &mut state.log {
            log.append(seq, &[], crc32c::crc32c(&[]))?;
            state.last = seq;
            // Before an edit says so: everything up to it is durable.
            env.log.as_ref().expect("its other side is there").sync_to(seq)?;
        }
        state.last = seq;
        state.required = seq;
        let published = publish(seq);
        if published.is_ok() {
            for watch in &state.watches {
                watch.note_span(span.keyspace, span.first, span.last);
            }
        }
        self.applied.store(seq.0, Ordering::Release);
        env.visible.fetch_max(seq.0, Ordering::AcqRel);
        env.arrivals.tell_inside();
        self.commits.fetch_add(u64::from(published.is_ok()), Ordering::Relaxed);
        published
    }

    /// The last commit whose entries are in the memtables: a version loaded after this was read
    /// holds it and all before it.
    pub fn applied(&self) -> Seq {
        Seq(self.applied.load(Ordering::Acquire))
    }

    /// Begins to watch for commits that touch what `watch` covers, and returns the last commit
    /// before that.
    pub fn begin_watch(&self, watch: &Arc<Watch>) -> Seq {
        let mut state = self.state.lock();
        state.watches.push(Arc::clone(watch));
        state.last
    }

    /// Waits until every commit so far is visible, and returns the last one's number. Whoever was
    /// granted a lock calls this before it reads: a commit that did not see the lock has left the
    /// section then, and what it wrote is seen.
    pub fn catch_up(&self) -> Result<Seq> {
        let (last, required) = {
            let state = self.state.lock();
            // What was logged and could not be inserted whole is not to be seen.
            (self.applied(), state.required)
        };
        if self.env.visible() < last {
            if let Some(log) = &self.env.log
                && !self.is_durable(required)
            {
                log.sync_to(required)?;
            }
            self.env.visible.fetch_max(last.0, Ordering::AcqRel);
            self.env.arrivals.tell();
        }
        Ok(last)
    }

    /// Inserts the entries of a body, sees to it that the row cache has nothing older of their keys, and
    /// notes which large values the log refers to. Tells whether a memtable is full now.
    fn insert(
        &self,
        state: &SectionState,
        body: &[u8],
        seq: Seq,
        has_ranges: bool,
    ) -> Result<bool> {
        let rows = &self.env.rows;
        if has_ranges && rows.has_table() {
            // Before its entries: a bucket that they are noted in counts as up to date.
            let ranges = Operations::new(body).flatten().filter_map(|part| match part {
                Write::DeleteRange(r) => Some((r.keyspace, r.start, r.end)),
                Write::Entry(_) => None,
            });
            rows.note_ranges(ranges, seq);
        }
        let (mut full, mut last) = (false, None);
        let is_full =
            |k: &KeyspaceStore, m: &Memtable| m.bytes() as u64 >= k.options.write_buffer_bytes;
        let active = |id| {
            let keyspace = &state.keyspaces[&id];
            let memtable = Arc::clone(&keyspace.version().active);
            if let Some((keyspace, memtable)) = last.replace((keyspace, Arc::clone(&memtable))) {
                full |= is_full(keyspace, &memtable);
            }
            Some(memtable)
        };
        apply(
            body,
            seq,
            active,
            |op| {
                if let EntryValue::Inline(value) = op.entry.value {
                    rows.expect_note(op.keyspace, op.key, value.len());
                }
                op.entry
            },
            |op| {
                let value = match op.entry.value {
                    // What this commit deletes by ranges was noted before.
                    EntryValue::Inline(v) if op.entry.expiry.is_never() && !has_ranges => Some(v),
                    _ => None,
                };
                rows.note_write(op.keyspace, op.key, seq, value);
                if let EntryValue::Blob(blob) = op.entry.value {
                    self.env.log_files.note_blob(blob.segment, blob.stored_bytes);
                }
            },
            // The number first: a view that begins meanwhile is at it, or above.
            || Readers { visible: self.env.visible(), views: self.env.views.live() },
        )?;
        Ok(full | last.is_some_and(|(keyspace, memtable)| is_full(keyspace, &memtable)))
    }

    fn is_durable(&self, required: Seq) -> bool {
        self.env.log.as_ref().is_none_or(|l| l.durable_seq() >= required)
    }

    /// Seals the memtables that are full; without a log, all of them at one number.
    fn seal_full(&self, state: &SectionState) -> bool {
        let full =
            |k: &KeyspaceStore| k.version().active.bytes() as u64 >= k.options.write_buffer_bytes;
        if self.env.log.is_none() {
            let any = state.keyspaces.values().any(|k| full(k));
            return any && seal_all(state);
        }
        let mut sealed = false;
        for keyspace in state.keyspaces.values().filter(|k| full(k)) {
            keyspace.seal(state.last);
            sealed = true;
        }
        sealed
    }

    /// Seals every memtable that holds anything; gives the last commit, up to which they are sealed.
    pub fn seal_all(&self) -> Seq {
        let state = self.state.lock();
        seal_all(&state);
        state.last
    }

    /// Seals the memtables of `keyspaces` that hold anything.
    pub fn seal(&self, keyspaces: &[Arc<KeyspaceStore>]) {
        let state = self.state.lock();
        for keyspace in keyspaces.iter().filter(|k| !k.version().active.is_empty()) {
            keyspace.seal(state.last);
        }
    }

    /// Seals the active memtable of the keyspace that holds the oldest commit not yet flushed.
    pub fn seal_oldest(&self) -> bool {
        let state = self.state.lock();
        let oldest = state
            .keyspaces
            .values()
            .filter_map(|k| k.first_unflushed().map(|s| (s, k)))
            .min_by_key(|(s, _)| *s);
        match oldest {
            Some((_, k)) if k.version().sealed.is_empty() => {
                k.seal(state.last);
                true
            }
            other => other.is_some(),
        }
    }

    /// Makes every commit so far durable. Without a log there is nothing to wait for.
    pub fn sync(&self) -> Result<()> {
        let last = self.state.lock().last;
        match &self.env.log {
            Some(log) => log.sync_to(last),
            None => Ok(()),
        }
    }
}

fn seal_all(state: &SectionState) -> bool {
    let mut sealed = false;
    for keyspace in state.keyspaces.values() {
        if !keyspace.version().active.is_empty() {
            keyspace.seal(state.last);
            sealed = true;
        }
    }
    sealed
}

/// Refuses a body that writes to a keyspace that was dropped; tells whether it has range deletes.
fn check_keyspaces(state: &SectionState, body: &[u8]) -> Result<bool> {
    let mut last = None;
    let mut has_ranges = false;
    for part in Operations::new(body) {
        let part = part.expect("bodies are encoded by this process");
        if let Write::DeleteRange(range) = part {
            has_ranges = true;
            if let Some(keyspace) = state.keyspaces.get(&range.keyspace) {
                keyspace.check_takes_ranges()?;
            }
        }
        if last != Some(part.keyspace()) {
            if !state.keyspaces.contains_key(&part.keyspace()) {
                return Err(Error::new(ErrorKind::NotFound, "the keyspace was dropped"));
            }
            last = Some(part.keyspace());
        }
    }
    Ok(has_ranges)
}

/// Whether any value of a body is to be moved to blob pages.
pub fn has_large_values(body: &[u8], threshold: usize) -> bool {
    Operations::new(body)
        .flatten()
        .filter_map(Write::entry)
        .any(|op| matches!(op.entry.value, EntryValue::Inline(v) if v.len() >= threshold))
}
