//! The handle of a database.
//!
//! 1. Every clone shares one [`Handle`]; when the last goes, or on `close`, the threads stop, all
//!    memtables are flushed, the log ends with a mark, and the lock is released.
//! 2. Limits are checked before anything is written.

mod by_id;
mod lifetimes;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::commit::batch::WriteBatch;
use crate::config::{KeyspaceOptions, LightningDbConfig, VerifyOptions, WriteOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::iterators::{Cursor, Range};
use crate::keyspace::Keyspace;
use crate::maintenance::{catalog, core::Core, scheduler, write::write_batch};
use crate::metrics::MetricsSnapshot;
use crate::recovery::{self, OpenAs};
use crate::snapshot::Snapshot;
use crate::stats::{DatabaseStats, HealthStatus, StallReport};
use crate::store::value::Value;
use crate::sync::Mutex;
use crate::sync::atomic::Ordering;
use crate::sync::thread::JoinHandle;
use crate::transaction::{Transaction, TransactionOptions};
use crate::verify::VerifyReport;
use crate::vfs::{MemoryVfs, OsVfs, Vfs};

/// An open database: an ordered map from byte strings to byte strings, on disk, with transactions.
/// Cheap to clone; every clone is the same database.
///
/// ```
/// # fn main() -> lightning_db::Result<()> {
/// use lightning_db::{Database, LightningDbConfig};
///
/// let db = Database::create_temp()?;
/// db.put(b"key", b"value")?;
/// assert_eq!(db.get(b"key")?, Some(b"value".to_vec()));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Database {
    pub(crate) handle: Arc<Handle>,
    keyspace: Keyspace,
}

/// What all clones share.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) core: Arc<Core>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    transactions: Mutex<HashMap<u64, Arc<Mutex<Option<Transaction>>>>>,
    /// A directory to remove when the last handle goes.
    temporary: Option<PathBuf>,
}

impl Handle {
    /// Ends the work, flushes, and lets go of the directory.
    fn shutdown(&self) -> Result<()> {
        let core = &self.core;
        if core.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        core.env.arrivals.wake();
        self.transactions.lock().clear();
        scheduler::stop(core, std::mem::take(&mut *self.threads.lock()));
        let result = if core.read_only { Ok(()) } else { self.flush_for_close() };
        *core.lock.lock() = None;
        result
    }

    fn flush_for_close(&self) -> Result<()> {
        let core = &self.core;
        core.section.enter().closed = true;
        core.env.check_writable()?;
        core.flush_commits()?;
        core.env.stopping.store(false, Ordering::Release);
        if core.config.background_compaction {
            core.merge_small()?;
        }
        core.env.blobs.close()?;
        let (log, last) = {
            let mut section = core.section.enter();
            (section.log.take(), section.last)
        };
        log.map_or(Ok(()), |log| core.end_log(log, last))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Whoever needs to know whether closing went well calls `close`. What was acknowledged is
        // in the log either way.
        let _ = self.shutdown();
        if let Some(dir) = &self.temporary {
            let _ = recovery::destroy(&*self.core.env.vfs, dir);
        }
    }
}

impl Database {
    /// Makes a new database in `path`; fails with `AlreadyExists` where there is one.
    pub fn create(path: impl AsRef<Path>, config: LightningDbConfig) -> Result<Self> {
        Self::start(OsVfs::shared(), path.as_ref(), config, OpenAs::Create, None)
    }

    /// Opens the database in `path`; fails with `NotFound` where there is none.
    pub fn open(path: impl AsRef<Path>, config: LightningDbConfig) -> Result<Self> {
        Self::start(OsVfs::shared(), path.as_ref(), config, OpenAs::Open, None)
    }

    /// Opens the database in `path`, or makes it.
    pub fn open_or_create(path: impl AsRef<Path>, config: LightningDbConfig) -> Result<Self> {
        Self::start(OsVfs::shared(), path.as_ref(), config, OpenAs::OpenOrCreate, None)
    }

    /// Opens the database in `path` for reading: recovers in memory and writes nothing. Several
    /// readers may have it open at a time, but no writer.
    pub fn open_read_only(path: impl AsRef<Path>, config: LightningDbConfig) -> Result<Self> {
        Self::start(OsVfs::shared(), path.as_ref(), config, OpenAs::ReadOnly, None)
    }

    /// Makes a database that lives in memory and goes with its last handle.
    pub fn open_in_memory(config: LightningDbConfig) -> Result<Self> {
        let config = LightningDbConfig { wal_enabled: false, ..config };
        let vfs: Arc<dyn Vfs> = Arc::new(MemoryVfs::new());
        Self::start(vfs, Path::new("memory"), config, OpenAs::Create, None)
    }

    /// Makes a database in a new directory of the system's temporary directory; the directory is
    /// removed when the last handle goes.
    pub fn create_temp() -> Result<Self> {
        let vfs = OsVfs::shared();
        let mut random = [0; 8];
        let base = std::env::temp_dir();
        vfs.fill_random(&mut random).map_err(|e| Error::io(&base, "draw a random name", e))?;
        let dir = base.join(format!("lightning_db-{:016x}", u64::from_le_bytes(random)));
        let config = LightningDbConfig::default();
        Self::start(vfs, &dir, config, OpenAs::Create, Some(dir.clone()))
    }

    /// Opens or makes a database on a file system of the caller's: for tests with a simulated disk.
    #[doc(hidden)]
    pub fn open_with_vfs(
        vfs: Arc<dyn Vfs>,
        path: impl AsRef<Path>,
        config: LightningDbConfig,
        mode: OpenAs,
    ) -> Result<Self> {
        Self::start(vfs, path.as_ref(), config, mode, None)
    }

    fn start(
        vfs: Arc<dyn Vfs>,
        path: &Path,
        config: LightningDbConfig,
        mode: OpenAs,
        temporary: Option<PathBuf>,
    ) -> Result<Self> {
        config.validate()?;
        let core = Arc::new(recovery::open(vfs, path, config, mode)?);
        core.update_pressure();
        let threads = if core.read_only {
            Vec::new()
        } else {
            scheduler::start(&core).map_err(|e| Error::io(path, "start a thread", e))?
        };
        let default = Arc::clone(&core.default);
        let handle = Arc::new(Handle {
            core,
            threads: Mutex::new(threads),
            transactions: Mutex::new(HashMap::new()),
            temporary,
        });
        let keyspace =
            Keyspace { core: Arc::clone(&handle.core), _keep: handle.clone(), store: default };
        Ok(Self { handle, keyspace })
    }

    /// Removes a closed database's files. Files that are not a database's are left, and with them
    /// the directory. Fails with `Locked` while somebody has it open.
    pub fn destroy(path: impl AsRef<Path>) -> Result<()> {
        recovery::destroy(&*OsVfs::shared(), path.as_ref())
    }

    /// Closes the database for every clone: flushes, syncs and releases the directory, and tells
    /// how that went. Transactions still open are aborted.
    pub fn close(self) -> Result<()> {
        self.handle().shutdown()
    }

    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    fn core(&self) -> &Core {
        &self.handle.core
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.core().env.dir
    }

    /// The options it was opened with.
    pub fn config(&self) -> &LightningDbConfig {
        &self.core().config
    }

    /// Commits a batch, atomically.
    pub fn write(&self, batch: WriteBatch, options: WriteOptions) -> Result<()> {
        write_batch(self.core(), &batch, options, None, |_| Ok(()))
    }

    /// A snapshot of this moment, across all keyspaces.
    pub fn snapshot(&self) -> Result<Snapshot> {
        self.core().check_open()?;
        Ok(Snapshot::new(Arc::clone(&self.handle.core), self.handle.clone()))
    }

    /// Begins a transaction.
    pub fn transaction(&self) -> Result<Transaction> {
        self.transaction_with(TransactionOptions::default())
    }

    /// Begins a transaction with options.
    pub fn transaction_with(&self, options: TransactionOptions) -> Result<Transaction> {
        let handle = self.handle();
        Transaction::begin(&handle.core, Some(handle.clone()), options)
    }

    /// Runs `act` in a transaction: commits on `Ok`, aborts on `Err` and on a panic. Tries again,
    /// in a new transaction and after a wait that grows, when `act` or the commit fails with an
    /// error that is retryable (a conflict, a deadlock, a time-out), at most
    /// [`max_retries`](TransactionOptions::max_retries) times. With a given snapshot nothing is
    /// tried again.
    ///
    /// ```
    /// # fn main() -> lightning_db::Result<()> {
    /// let db = lightning_db::Database::open_in_memory(Default::default())?;
    /// let count = db.execute_transaction(Default::default(), |tx| {
    ///     let count = tx.get(b"visits")?.map_or(0, |v| v[0]) + 1;
    ///     tx.put(b"visits", [count])?;
    ///     Ok(count)
    /// })?;
    /// assert_eq!(count, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn execute_transaction<R>(
        &self,
        options: TransactionOptions,
        mut act: impl FnMut(&mut Transaction) -> Result<R>,
    ) -> Result<R> {
        let retries = if options.snapshot.is_some() { 0 } else { options.max_retries };
        let mut attempt = 0;
        loop {
            let result = self.transaction_with(options.clone()).and_then(|mut tx| {
                let result = act(&mut tx)?;
                tx.commit()?;
                Ok(result)
            });
            match result {
                Err(e) if e.is_retryable() && attempt < retries => {
                    crate::transaction::back_off(self.core(), attempt);
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    /// The keyspace with this name, made with `options` where it does not exist yet. Options of
    /// one that exists are left as they were.
    pub fn keyspace(&self, name: &str, options: KeyspaceOptions) -> Result<Keyspace> {
        let core = Arc::clone(&self.handle.core);
        core.check_open()?;
        let store = catalog::open_or_create(&core, name, options)?;
        Ok(Keyspace { core, _keep: self.handle.clone(), store })
    }

    /// The names of all keyspaces, sorted; `"default"` is always among them.
    pub fn list_keyspaces(&self) -> Vec<String> {
        catalog::names(self.core())
    }

    /// Removes a keyspace and everything in it, in one step. `"default"` cannot be dropped. From
    /// then on its handles, and snapshots and transactions asked for it, answer `NotFound`;
    /// iterators that are open go on.
    pub fn drop_keyspace(&self, name: &str) -> Result<()> {
        catalog::drop_keyspace(self.core(), name)
    }

    /// Writes the memtables out as runs. Waits until it is done. Without background threads it also
    /// does the merges that have become due; one that fails is told by
    /// [`health_check`](Self::health_check), and what was flushed stays flushed.
    pub fn flush(&self) -> Result<()> {
        let core = self.core();
        core.flush_all()?;
        core.merge_inline();
        Ok(())
    }

    /// Makes everything committed so far durable outside the log, so that the log can go, and
    /// recovery has nothing to replay. The same as [`flush`](Self::flush).
    pub fn checkpoint(&self) -> Result<()> {
        self.flush()
    }

    /// Merges everything, in every keyspace, into the bases. Waits until it is done.
    pub fn compact(&self) -> Result<()> {
        let core = self.core();
        core.check_writable()?;
        let everything = crate::manifest::KeyInterval { start: Vec::new(), end: None };
        for keyspace in core.all() {
            core.compact(&keyspace, &everything)?;
        }
        Ok(())
    }

    /// Makes every commit so far durable.
    pub fn sync(&self) -> Result<()> {
        self.core().check_writable()?;
        self.core().section.sync()
    }

    /// Drops that fraction (0 to 1) of what is cached, pages and rows; returns the bytes freed.
    pub fn evict_cache(&self, fraction: f64) -> Result<u64> {
        if !(0.0..=1.0).contains(&fraction) {
            return Err(Error::new(ErrorKind::InvalidArgument, "a fraction lies between 0 and 1"));
        }
        let env = &self.core().env;
        Ok(env.rows.evict(fraction) + env.cache.evict(fraction))
    }

    /// Reads every reachable page and checks checksums, order, links, filters, accounting, log and
    /// manifest. Damage is reported, not returned as an error.
    pub fn verify(&self, options: VerifyOptions) -> Result<VerifyReport> {
        self.core().check_open()?;
        crate::verify::verify(self.core(), options)
    }

    /// Sizes, counts and times of this moment.
    pub fn stats(&self) -> DatabaseStats {
        crate::stats::collect(self.core())
    }

    /// The same under names for monitoring systems, and as text for Prometheus.
    pub fn get_metrics(&self) -> MetricsSnapshot {
        MetricsSnapshot::new(&self.stats(), &self.health_check())
    }

    /// Whether all is well, and what is not.
    pub fn health_check(&self) -> HealthStatus {
        crate::stats::health(self.core())
    }

    /// Why writers are slowed at this moment, if they are.
    pub fn explain_stall(&self) -> Option<StallReport> {
        crate::stats::stall(self.core())
    }
}

/// The calls of the default keyspace.
impl Database {
    /// The default keyspace.
    pub fn default_keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    /// See [`Keyspace::get`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        self.keyspace.get(key)
    }

    /// See [`Keyspace::get_pinned`].
    pub fn get_pinned(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        self.keyspace.get_pinned(key)
    }

    /// See [`Keyspace::contains_key`].
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.keyspace.contains_key(key)
    }

    /// See [`Keyspace::put`].
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.keyspace.put(key, value)
    }

    /// See [`Keyspace::delete`].
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        self.keyspace.delete(key)
    }

    /// See [`Keyspace::delete_range`].
    pub fn delete_range(&self, start: Option<&[u8]>, end: Option<&[u8]>) -> Result<()> {
        self.keyspace.delete_range(start, end)
    }

    /// See [`Keyspace::merge`]. The default keyspace's operator is named by
    /// [`LightningDbConfig::merge_operator`].
    pub fn merge(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<()> {
        self.keyspace.merge(key, operand)
    }

    /// See [`Keyspace::compare_and_swap`].
    pub fn compare_and_swap(
        &self,
        key: impl AsRef<[u8]>,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<std::result::Result<(), crate::CompareAndSwapError>> {
        self.keyspace.compare_and_swap(key, expected, new)
    }

    /// See [`Keyspace::fetch_update`].
    pub fn fetch_update(
        &self,
        key: impl AsRef<[u8]>,
        update: impl FnMut(Option<&[u8]>) -> Option<Vec<u8>>,
    ) -> Result<Option<Vec<u8>>> {
        self.keyspace.fetch_update(key, update)
    }

    /// See [`Keyspace::take`].
    pub fn take(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        self.keyspace.take(key)
    }

    /// See [`Keyspace::put_batch`].
    pub fn put_batch(&self, entries: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        self.keyspace.put_batch(entries)
    }

    /// See [`Keyspace::get_batch`].
    pub fn get_batch(&self, keys: &[impl AsRef<[u8]>]) -> Result<Vec<Option<Vec<u8>>>> {
        self.keyspace.get_batch(keys)
    }

    /// See [`Keyspace::delete_batch`].
    pub fn delete_batch(&self, keys: &[impl AsRef<[u8]>]) -> Result<()> {
        self.keyspace.delete_batch(keys)
    }

    /// See [`Keyspace::range`].
    pub fn range(&self, start: Option<&[u8]>, end: Option<&[u8]>) -> Result<Range> {
        self.keyspace.range(start, end)
    }

    /// See [`Keyspace::range`].
    pub fn scan(&self, start: Option<&[u8]>, end: Option<&[u8]>) -> Result<Range> {
        self.keyspace.range(start, end)
    }

    /// See [`Keyspace::scan_prefix`].
    pub fn scan_prefix(&self, prefix: impl AsRef<[u8]>) -> Result<Range> {
        self.keyspace.scan_prefix(prefix.as_ref())
    }

    /// See [`Keyspace::scan_reverse`].
    pub fn scan_reverse(
        &self,
        start: Option<&[u8]>,
        end: Option<&[u8]>,
    ) -> Result<std::iter::Rev<Range>> {
        self.keyspace.scan_reverse(start, end)
    }

    /// See [`Keyspace::cursor`].
    pub fn cursor(&self) -> Result<Cursor> {
        self.keyspace.cursor()
    }

    /// See [`Keyspace::first`].
    pub fn first(&self) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        self.keyspace.first()
    }

    /// See [`Keyspace::last`].
    pub fn last(&self) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        self.keyspace.last()
    }

    /// See [`Keyspace::count`].
    pub fn count(&self, start: Option<&[u8]>, end: Option<&[u8]>) -> Result<u64> {
        self.keyspace.count(start, end)
    }

    /// See [`Keyspace::approximate_len`].
    pub fn approximate_len(&self) -> u64 {
        self.keyspace.approximate_len()
    }

    /// See [`Keyspace::for_each`].
    pub fn for_each<B>(
        &self,
        start: Option<&[u8]>,
        end: Option<&[u8]>,
        visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<B>,
    ) -> Result<Option<B>> {
        self.keyspace.for_each(start, end, visit)
    }

    /// See [`Keyspace::compact_range`].
    pub fn compact_range(&self, start: Option<&[u8]>, end: Option<&[u8]>) -> Result<()> {
        self.keyspace.compact_range(start, end)
    }
}
