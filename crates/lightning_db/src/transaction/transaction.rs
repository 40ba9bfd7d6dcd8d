//! The transaction guard: reads, writes and locks.
//!
//! 1. Nothing is written before `commit`; a guard dropped uncommitted has written nothing, and its
//!    locks are given back, after a panic too.
//! 2. While validation may need a number past some commit, a view at that commit is registered, so
//!    that merges keep the numbers (and a tombstone past it is never dropped).
//! 3. A lock is followed by [`catch_up`](crate::commit::section::CommitSection::catch_up) before
//!    the newest value is read: no commit that missed the lock is missed by the read.

use std::sync::Arc;
use std::time::Duration;

use super::options::{IsolationLevel, TransactionMode, TransactionOptions};
use super::read_set::ReadSet;
use super::scan::TransactionRange;
use super::write_set::{Savepoint, WriteSet, Writes};
use crate::error::{Error, ErrorKind, Result};
use crate::iterators::{Bounds, Range, prefix_end};
use crate::keyspace::{Keyspace, cursor_at};
use crate::locks::{LockMode, Request, Target, expired};
use crate::maintenance::core::{Core, Keep};
use crate::maintenance::open_transactions::OpenTransaction;
use crate::maintenance::write::{check_entry, no_lives_where_merged};
use crate::store::keyspace::KeyspaceStore;
use crate::store::lookup;
use crate::store::value::Value;
use crate::store::view::View;
use crate::sync::Mutex;
use crate::sync::atomic::Ordering;
use crate::types::Seq;

/// The name of a transaction; never given out twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId(pub(crate) u64);

impl std::fmt::Display for TransactionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A transaction. Dropped uncommitted, it is aborted.
///
/// ```
/// # fn main() -> lightning_db::Result<()> {
/// let db = lightning_db::Database::open_in_memory(Default::default())?;
/// let mut tx = db.transaction()?;
/// tx.put(b"a", b"1")?;
/// assert_eq!(db.get(b"a")?, None);
/// tx.commit()?;
/// assert_eq!(db.get(b"a")?, Some(b"1".to_vec()));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Transaction {
    pub(super) core: Arc<Core>,
    /// Keeps the database open; absent in transactions that the handle itself keeps, by id.
    _keep: Option<Keep>,
    pub(super) open: Arc<OpenTransaction>,
    pub(super) options: TransactionOptions,
    /// The commit that its snapshot sees last.
    pub(super) snapshot: Seq,
    pub(super) writes: WriteSet,
    pub(super) reads: Mutex<ReadSet>,
}

impl Transaction {
    pub(crate) fn begin(
        core: &Arc<Core>,
        keep: Option<Keep>,
        mut options: TransactionOptions,
    ) -> Result<Self> {
        core.check_open()?;
        if !options.read_only {
            core.check_writable()?;
        }
        let given = options.snapshot.take();
        check_snapshot(core, &options, given.as_ref())?;
        let now = core.env.now();
        let timeout = options.timeout.unwrap_or(core.config.transaction_timeout);
        let deadline = now.saturating_add(timeout);
        let limit = core.config.max_active_transactions;
        let open = core.transactions.begin(limit, deadline, now, &core.locks)?;
        let mut this = Self {
            core: Arc::clone(core),
            _keep: keep,
            open,
            options,
            snapshot: core.env.visible(),
            writes: WriteSet::default(),
            reads: Mutex::default(),
        };
        if let Some(given) = given {
            let view = given.view;
            this.snapshot = view.seq();
            this.open.keep_view(view);
        } else if !this.reads_newest() {
            this.snapshot = this.open.view_or(|| core.view()).seq();
        }
        Ok(this)
    }

    /// Whether reads see the newest commit instead of one moment.
    fn reads_newest(&self) -> bool {
        reads_newest(&self.options)
    }

    /// Whether it takes locks.
    pub(super) fn is_pessimistic(&self) -> bool {
        self.options.mode == TransactionMode::Pessimistic && !self.options.read_only
    }

    pub(super) fn locks_reads(&self) -> bool {
        self.is_pessimistic() && self.options.isolation == IsolationLevel::Serializable
    }

    pub(super) fn validates_reads(&self) -> bool {
        self.options.isolation == IsolationLevel::Serializable
            && !self.is_pessimistic()
            && !self.options.read_only
    }

    pub(super) fn check(&self) -> Result<()> {
        self.core.check_open()?;
        let owner = &self.open.owner;
        if owner.is_expired() || owner.expire(self.core.env.now()) {
            self.end(false);
            return Err(expired());
        }
        Ok(())
    }

    /// Its name.
    pub fn id(&self) -> TransactionId {
        TransactionId(self.open.owner.number)
    }

    /// The number of the last commit that its snapshot sees. Where each call reads the newest
    /// commit, the one that was newest when it began.
    pub fn snapshot_seq(&self) -> u64 {
        self.snapshot.0
    }

    /// The value of `key`: as written by this transaction, or as its isolation level has it.
    /// Locks the row, shared, where the transaction is pessimistic and `Serializable`.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        self.get_store(&self.core.default, key.as_ref(), false)
    }

    /// As [`get`](Self::get), in a keyspace.
    pub fn get_in(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        self.get_store(keyspace.store_of(&self.core)?, key.as_ref(), false)
    }

    /// The value of `key`, which no other transaction may change before this one has committed.
    /// Pessimistic: the row is locked; at `RepeatableRead` a row that changed since the snapshot is
    /// a `Conflict` at once. Optimistic: a row that changed by the time of the commit is a
    /// `Conflict` then. A read-only transaction refuses it.
    pub fn get_for_update(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        self.get_store(&self.core.default, key.as_ref(), true)
    }

    /// As [`get_for_update`](Self::get_for_update), in a keyspace.
    pub fn get_for_update_in(
        &self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<Vec<u8>>> {
        self.get_store(keyspace.store_of(&self.core)?, key.as_ref(), true)
    }

    pub(super) fn get_store(
        &self,
        store: &Arc<KeyspaceStore>,
        key: &[u8],
        for_update: bool,
    ) -> Result<Option<Vec<u8>>> {
        self.check()?;
        if for_update {
            self.check_not_read_only()?;
        }
        let own = self.writes.get(store.id, key);
        if let Some(own) = own.filter(|own| !own.needs_below()) {
            return own.value(store, key, None);
        }
        if own.is_none() && self.writes.has_deleted(store.id, key) {
            return Ok(None);
        }
        if self.is_pessimistic() && (for_update || self.locks_reads()) {
            let mode = if for_update { LockMode::Exclusive } else { LockMode::Shared };
            self.lock(store, Target::Row(key.to_vec()), mode)?;
            if for_update {
                self.check_unchanged(store, key)?;
            }
        }
        self.core.ready_rows();
        let env = &self.core.env;
        let relies = !self.is_pessimistic() && (for_update || self.validates_reads());
        let found;
        let at;
        if self.reads_newest() {
            // Held from here on, so that merges keep the numbers that validation will ask for.
            let _view = relies.then(|| self.open.view_or(|| self.core.view()));
            let (version, now) = lookup::moment(env, store);
            at = now;
            let now = env.lifetimes.moment();
            found = lookup::get_at(env, store, &version, key, at, now)?;
        } else {
            // Held to the end of this call, whatever becomes of the transaction meanwhile.
            let view = self.open.view().ok_or_else(expired)?;
            at = self.snapshot;
            found = lookup::get_at(env, store, &store.version(), key, at, view.moment())?;
        }
        if relies {
            self.note_read(|reads| reads.add_key(store.id, key, at))?;
        }
        match own {
            Some(own) => own.value(store, key, found.as_deref()),
            None => Ok(found.map(Value::into_vec)),
        }
    }

    /// Adds to the read set, within the limit of a transaction's memory.
    pub(super) fn note_read<R>(&self, note: impl FnOnce(&mut ReadSet) -> R) -> Result<R> {
        let mut reads = self.reads.lock();
        let noted = note(&mut reads);
        self.check_size(reads.bytes(), 0)?;
        Ok(noted)
    }

    pub(super) fn check_size(&self, read_bytes: u64, added: u64) -> Result<()> {
        let limit = self.core.config.max_transaction_size;
        if self.writes.bytes() + read_bytes + added > limit {
            return Err(Error::new(
                ErrorKind::TransactionTooLarge,
                format!("the transaction would pass max_transaction_size ({limit} bytes)"),
            ));
        }
        Ok(())
    }

    pub(super) fn check_not_read_only(&self) -> Result<()> {
        if self.options.read_only {
            return Err(Error::new(ErrorKind::ReadOnly, "the transaction is read-only"));
        }
        Ok(())
    }

    /// Takes a lock, and waits until everything that was committed before is visible.
    pub(super) fn lock(&self, store: &KeyspaceStore, target: Target, mode: LockMode) -> Result<()> {
        let request =
            Request { owner: Arc::clone(&self.open.owner), keyspace: store.id, target, mode };
        let timeout = self.options.lock_timeout.unwrap_or(self.core.config.lock_timeout);
        let env = &self.core.env;
        let result = self.core.locks.acquire(&request, timeout, &|| env.now());
        if result.is_err() && self.open.owner.is_expired() {
            self.end(false);
        }
        result?;
        self.core.section.catch_up().map(|_| ())
    }

    /// At `RepeatableRead` a row that was locked must be as the snapshot has it.
    fn check_unchanged(&self, store: &KeyspaceStore, key: &[u8]) -> Result<()> {
        if self.options.isolation != IsolationLevel::RepeatableRead {
            return Ok(());
        }
        let pager = &self.core.env.pager;
        let newest = lookup::newest_seq(&store.version(), pager, key, self.snapshot)?;
        if newest.is_some_and(|n| n > self.snapshot) {
            self.core.transactions.conflicts.fetch_add(1, Ordering::Relaxed);
            return Err(conflict());
        }
        Ok(())
    }

    /// Sets `key` to `value` when the transaction commits. A pessimistic transaction locks the row.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        let store = Arc::clone(&self.core.default);
        self.write(&store, key.as_ref(), Some(value.as_ref()), None)
    }

    /// Sets `key` to `value` when the transaction commits, for the time `ttl`, which counts from then
    /// on. `InvalidArgument` where that is zero. See [`Keyspace::put_with_ttl`].
    pub fn put_with_ttl(
        &mut self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) -> Result<()> {
        let store = Arc::clone(&self.core.default);
        self.write(&store, key.as_ref(), Some(value.as_ref()), Some(ttl))
    }

    /// As [`put_with_ttl`](Self::put_with_ttl), in a keyspace.
    pub fn put_with_ttl_in(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) -> Result<()> {
        self.write(keyspace.store_of(&self.core)?, key.as_ref(), Some(value.as_ref()), Some(ttl))
    }

    /// Removes `key` when the transaction commits. A pessimistic transaction locks the row.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        let store = Arc::clone(&self.core.default);
        self.write(&store, key.as_ref(), None, None)
    }

    /// As [`put`](Self::put), in a keyspace.
    pub fn put_in(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<()> {
        self.write(keyspace.store_of(&self.core)?, key.as_ref(), Some(value.as_ref()), None)
    }

    /// As [`delete`](Self::delete), in a keyspace.
    pub fn delete_in(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<()> {
        self.write(keyspace.store_of(&self.core)?, key.as_ref(), None, None)
    }

    fn write(
        &mut self,
        store: &KeyspaceStore,
        key: &[u8],
        value: Option<&[u8]>,
        ttl: Option<Duration>,
    ) -> Result<()> {
        if ttl.is_some_and(|ttl| ttl.is_zero()) {
            return Err(Error::new(ErrorKind::InvalidArgument, "a lifetime is longer than zero"));
        }
        if ttl.is_some() && store.merger().is_some() {
            return Err(no_lives_where_merged());
        }
        self.before_write(store, key, value.map_or(0, <[u8]>::len))?;
        self.writes.insert(store.id, key, value, ttl);
        Ok(())
    }

    /// Merges `operand` into the value of `key` when the transaction commits, by the keyspace's merge
    /// operator; own reads see it before. A pessimistic transaction locks the row.
    ///
    /// To others it is a write of the key as a put is: at `RepeatableRead`, of two transactions that
    /// merge into one key the first to commit wins. By itself it reads nothing: at `Serializable`,
    /// transactions that only merge do not conflict, and at `ReadCommitted` none does; their merges add
    /// up. Errors are those of [`Keyspace::merge`].
    pub fn merge(&mut self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<()> {
        let store = Arc::clone(&self.core.default);
        self.merge_store(&store, key.as_ref(), operand.as_ref())
    }

    /// As [`merge`](Self::merge), in a keyspace.
    pub fn merge_in(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        operand: impl AsRef<[u8]>,
    ) -> Result<()> {
        self.merge_store(keyspace.store_of(&self.core)?, key.as_ref(), operand.as_ref())
    }

    fn merge_store(&mut self, store: &KeyspaceStore, key: &[u8], operand: &[u8]) -> Result<()> {
        self.check()?;
        self.check_not_read_only()?;
        store.need_merger()?.check_operand(operand)?;
        self.before_write(store, key, operand.len())?;
        self.writes.merge(store.id, key, operand);
        Ok(())
    }

    /// Whether a value or operand of `len` bytes may be written to `key`, which is locked then where the
    /// transaction locks.
    fn before_write(&self, store: &KeyspaceStore, key: &[u8], len: usize) -> Result<()> {
        self.check()?;
        self.check_not_read_only()?;
        check_entry(&self.core.config, key.len(), len)?;
        self.check_size(self.reads.lock().bytes(), (key.len() + len) as u64)?;
        if self.is_pessimistic() {
            self.lock(store, Target::Row(key.to_vec()), LockMode::Exclusive)?;
            self.check_unchanged(store, key)?;
        }
        Ok(())
    }

    /// The entries with `start <= key < end`, own writes included; readable from both ends. A
    /// pessimistic `Serializable` transaction locks the range.
    pub fn range(&self, start: Option<&[u8]>, end: Option<&[u8]>) -> Result<TransactionRange> {
        self.scan_store(&self.core.default, start, end)
    }

    /// The same as [`range`](Self::range).
    pub fn scan(&self, start: Option<&[u8]>, end: Option<&[u8]>) -> Result<TransactionRange> {
        self.range(start, end)
    }

    /// As [`range`](Self::range), in a keyspace.
    pub fn range_in(
        &self,
        keyspace: &Keyspace,
        start: Option<&[u8]>,
        end: Option<&[u8]>,
    ) -> Result<TransactionRange> {
        self.scan_store(keyspace.store_of(&self.core)?, start, end)
    }

    /// The entries whose keys begin with `prefix`, own writes included.
    pub fn scan_prefix(&self, prefix: impl AsRef<[u8]>) -> Result<TransactionRange> {
        let prefix = prefix.as_ref();
        self.range(Some(prefix), prefix_end(prefix).as_deref())
    }

    /// The entries with `start <= key < end`, from the last to the first, own writes included.
    pub fn scan_reverse(
        &self,
        start: Option<&[u8]>,
        end: Option<&[u8]>,
    ) -> Result<std::iter::Rev<TransactionRange>> {
        Ok(self.range(start, end)?.rev())
    }

    fn scan_store(
        &self,
        store: &Arc<KeyspaceStore>,
        start: Option<&[u8]>,
        end: Option<&[u8]>,
    ) -> Result<TransactionRange> {
        let own = || self.writes.range(store.id, start.unwrap_or_default(), end);
        Ok(self.scan_with(store, start, end, |_| Ok(own()))?.0)
    }

    /// A scan of `store` under what `own` gives for the view that is read at, and that view.
    pub(super) fn scan_with(
        &self,
        store: &Arc<KeyspaceStore>,
        start: Option<&[u8]>,
        end: Option<&[u8]>,
        own: impl FnOnce(&View) -> Result<Writes>,
    ) -> Result<(TransactionRange, Arc<View>)> {
        self.check()?;
        let first = start.unwrap_or_default();
        if self.locks_reads() {
            let target = Target::Range(first.to_vec(), end.map(<[u8]>::to_vec));
            self.lock(store, target, LockMode::Shared)?;
        }
        let view = if self.reads_newest() {
            Arc::new(self.core.view())
        } else {
            self.open.view().ok_or_else(expired)?
        };
        let own = own(&view)?;
        let read = if self.validates_reads() {
            Some(self.note_read(|reads| reads.add_range(store.id, first, end))?)
        } else {
            None
        };
        let env = &self.core.env;
        let deleted = self.writes.deleted(store.id);
        let cursor = || cursor_at(env, store, &view).hiding(view.seq(), deleted.clone());
        let base = Range::new(Arc::clone(&view), cursor(), cursor(), Bounds::new(start, end));
        Ok((TransactionRange::new(base, own, Arc::clone(store), read), view))
    }

    /// Marks this place, to go back to with [`rollback_to`](Self::rollback_to). Savepoints may be
    /// nested.
    pub fn savepoint(&mut self) -> Result<Savepoint> {
        self.check()?;
        Ok(self.writes.savepoint(self.open.owner.number))
    }

    /// Takes back every write made after the savepoint; it stands on, those after it do not. Locks
    /// are kept. Fails with `InvalidArgument` where the savepoint does not stand any more.
    pub fn rollback_to(&mut self, savepoint: Savepoint) -> Result<()> {
        self.check()?;
        if self.writes.roll_back(self.open.owner.number, savepoint) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::InvalidArgument,
            "the savepoint was rolled back past, or is of another transaction",
        ))
    }

    /// Makes every write true in one step. After an error that is retryable nothing was written:
    /// begin again.
    pub fn commit(mut self) -> Result<()> {
        let result = self.try_commit();
        if result.as_ref().is_err_and(|e| e.kind() == ErrorKind::Conflict) {
            self.core.transactions.conflicts.fetch_add(1, Ordering::Relaxed);
        }
        self.end(result.is_ok());
        result
    }

    /// Gives the writes up. Dropping the guard does the same.
    pub fn abort(self) {
        self.end(false);
    }

    fn end(&self, committed: bool) {
        let all = &self.core.transactions;
        if all.end(&self.open, &self.core.locks) {
            let counter = if committed { &all.committed } else { &all.aborted };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.end(false);
    }
}

/// Whether a transaction reads the newest commit with each call.
fn reads_newest(options: &TransactionOptions) -> bool {
    match options.isolation {
        IsolationLevel::ReadCommitted => true,
        IsolationLevel::RepeatableRead => false,
        IsolationLevel::Serializable => {
            options.mode == TransactionMode::Pessimistic && !options.read_only
        }
    }
}

fn check_snapshot(
    core: &Core,
    options: &TransactionOptions,
    snapshot: Option<&crate::Snapshot>,
) -> Result<()> {
    let Some(snapshot) = snapshot else { return Ok(()) };
    if !std::ptr::eq(Arc::as_ptr(&snapshot.core), core) {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            "the snapshot is of another open database",
        ));
    }
    if reads_newest(options) {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            "a snapshot was given to a transaction that reads the newest commit",
        ));
    }
    Ok(())
}

/// The error of a transaction that came second.
pub(super) fn conflict() -> Error {
    Error::new(
        ErrorKind::Conflict,
        "another transaction committed first what this one wrote or relies on",
    )
}

/// A wait between two attempts: until what is committed and not yet durable can be seen (it may be
/// what the last attempt met), and a time that grows with each, up to a bound, and differs from
/// thread to thread.
pub(crate) fn back_off(core: &Core, attempt: u32) {
    // A failed log is met by the next commit.
    let _ = core.section.catch_up();
    let mut random = [0; 4];
    // Without randomness waits are only less spread.
    let _ = core.env.vfs.fill_random(&mut random);
    let most = Duration::from_micros(20) * 2_u32.pow(attempt.min(10));
    core.env.vfs.sleep(most.mul_f64(f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX)));
}
