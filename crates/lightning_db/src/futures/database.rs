//! The asynchronous handle of a database.

use std::sync::Arc;

use super::inner::Inner;
use super::keyspace::AsyncKeyspace;
use super::pool::Pool;
use super::quiet::Quiet;
use super::range::AsyncRange;
use super::snapshot::AsyncSnapshot;
use crate::commit::batch::WriteBatch;
use crate::config::{KeyspaceOptions, WriteOptions};
use crate::database::Database;
use crate::error::{Error, ErrorKind, Result};
use crate::transaction::{Transaction, TransactionOptions};

/// How an [`AsyncDatabase`] runs what waits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AsyncOptions {
    /// The most threads that calls wait on, 1 to 1024. They are begun when they are needed, and so many
    /// calls read the disk, or share an fsync, at a time. Default: 16.
    pub threads: usize,
    /// So many calls may be queued behind those, 1 to 1,000,000; further ones wait in their futures,
    /// first come first served, and hold no more than their arguments. Default: 1024.
    pub queue: usize,
}

impl Default for AsyncOptions {
    fn default() -> Self {
        Self { threads: 16, queue: 1024 }
    }
}

impl AsyncOptions {
    fn validate(&self) -> Result<()> {
        let within = |name: &str, value: usize, most: usize| {
            if (1..=most).contains(&value) {
                return Ok(());
            }
            let message = format!("{name} is {value}: it lies between 1 and {most}");
            Err(Error::new(ErrorKind::InvalidConfig, message))
        };
        within("threads", self.threads, 1024)?;
        within("queue", self.queue, 1_000_000)
    }
}

/// A [`Database`] whose calls are futures, for any executor: they need no runtime, are `Send`, and
/// never block the thread that polls them on the disk, a lock or a slowed writer. Cheap to clone.
///
/// # Where calls run
/// A read whose pages are in memory is answered in its first poll, and so is a write that has nothing
/// to wait for (below). All else goes to the threads of this handle ([`AsyncOptions`]). The first poll
/// may call a [merge operator](crate::MergeOperator) of yours, as [`Database::get`] would. A call holds its
/// thread to its end: a transaction for all of its tries, a synced commit until it is durable.
///
/// A write is done in its first poll where its durability is `Periodic` or `Async`, there are background
/// threads, and nothing stands in its way: no commit that is being synced, no lock, no secondary index,
/// no large value, no quota, no pressure that slows writers.
///
/// # Dropping a future
/// A future does nothing before it is polled. Dropped while it waits for a thread, its call never
/// happens. Dropped once the call runs, the call goes on to its end, and its answer is lost: a commit
/// then takes place whole, or not at all if it fails, as where the process ends before the answer. A
/// future of [`AsyncRange::next`] that is dropped has taken nothing.
///
/// # Closing
/// [`close`](Self::close) tells how it went. When the last handle goes instead, one of the threads ends
/// the calls that were begun and closes the database behind you.
///
/// ```
/// use lightning_db::{AsyncDatabase, Database};
///
/// async fn count_visit(db: &AsyncDatabase, page: &str) -> lightning_db::Result<u64> {
///     let key = page.to_owned();
///     db.execute_transaction(Default::default(), move |tx| {
///         let count = tx.get(&key)?.map_or(0, |v| v[0]) + 1;
///         tx.put(&key, [count])?;
///         Ok(u64::from(count))
///     })
///     .await
/// }
/// # fn block_on<F: Future>(future: F) -> F::Output {
/// #     struct Unpark(std::thread::Thread);
/// #     impl std::task::Wake for Unpark {
/// #         fn wake(self: std::sync::Arc<Self>) {
/// #             self.0.unpark();
/// #         }
/// #     }
/// #     let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
/// #     let mut context = std::task::Context::from_waker(&waker);
/// #     let mut future = std::pin::pin!(future);
/// #     loop {
/// #         match future.as_mut().poll(&mut context) {
/// #             std::task::Poll::Ready(done) => return done,
/// #             std::task::Poll::Pending => std::thread::park(),
/// #         }
/// #     }
/// # }
///
/// # fn main() -> lightning_db::Result<()> {
/// # block_on(async {
/// let db = AsyncDatabase::new(Database::create_temp()?);
/// db.put(b"key", b"value").await?;
/// assert_eq!(db.get(b"key").await?, Some(b"value".to_vec()));
/// count_visit(&db, "home").await?;
/// let mut range = db.range(None, None)?;
/// while let Some(entry) = range.next().await {
///     let (key, value) = entry?;
///     println!("{} bytes under {}", value.len(), key.escape_ascii());
/// }
/// db.close().await
/// # })
/// # }
/// ```
#[derive(Clone)]
pub struct AsyncDatabase {
    keyspace: AsyncKeyspace,
    // The last: what else is held must not be the last of the database.
    inner: Arc<Inner>,
}

impl AsyncDatabase {
    /// Asynchronous calls of an open database, with the default options.
    pub fn new(database: Database) -> Self {
        let AsyncOptions { threads, queue } = AsyncOptions::default();
        Self::over(Pool::new(threads, queue), database)
    }

    /// Asynchronous calls of an open database. `InvalidConfig` where an option is out of its range.
    pub fn with_options(database: Database, options: &AsyncOptions) -> Result<Self> {
        options.validate()?;
        Ok(Self::over(Pool::new(options.threads, options.queue), database))
    }

    /// Opens a database on a thread, as `open` does it.
    ///
    /// ```no_run
    /// # async fn program() -> lightning_db::Result<()> {
    /// use lightning_db::{AsyncDatabase, Database};
    ///
    /// let open = || Database::open("my_database", Default::default());
    /// let db = AsyncDatabase::open(Default::default(), open).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn open(
        options: AsyncOptions,
        open: impl FnOnce() -> Result<Database> + Send + 'static,
    ) -> Result<Self> {
        options.validate()?;
        let pool = Pool::new(options.threads, options.queue);
        // Ends the threads where it is dropped, or opening fails.
        let opening = Arc::new(Inner { pool: Arc::clone(&pool), database: None });
        let open = || open().inspect(|database| database.handle().core.ready_rows());
        let database = opening.call(open).await?;
        drop(opening);
        Ok(Self::over(Pool::new(options.threads, options.queue), database))
    }

    fn over(pool: Arc<Pool>, database: Database) -> Self {
        // Here, not with the first read: it waits for a commit under way.
        database.handle().core.ready_rows();
        let keyspace = Quiet::new(database.default_keyspace().clone());
        let inner = Arc::new(Inner { pool, database: Some(database) });
        Self { keyspace: AsyncKeyspace { inner: Arc::clone(&inner), keyspace }, inner }
    }

    /// The database itself, for calls on this thread: those that wait for nothing, such as
    /// [`stats`](Database::stats).
    pub fn database(&self) -> &Database {
        self.inner.database.as_ref().expect("there until it drops")
    }

    /// What `act` makes of the database, on a thread: for every call that has no future of its own.
    ///
    /// ```
    /// # async fn program(db: lightning_db::AsyncDatabase) -> lightning_db::Result<()> {
    /// db.call(|db| db.ingest((0..1000_u32).map(|n| (n.to_be_bytes(), b"x")))).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn call<R: Send + 'static>(
        &self,
        act: impl FnOnce(&Database) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let database = self.database().clone();
        self.inner.call(move || act(&database)).await
    }

    /// Closes the database for every handle; see [`Database::close`]. Calls that were begun, and those
    /// in the queue before it, end first where they can; later ones fail with `Closed`.
    pub async fn close(self) -> Result<()> {
        let database = self.database().clone();
        self.inner.call(move || database.close()).await
    }

    /// Commits a batch, atomically.
    pub async fn write(&self, batch: WriteBatch, options: WriteOptions) -> Result<()> {
        self.inner.commit(self.database(), batch, options).await
    }

    /// See [`Database::execute_transaction`]: `act` runs on a thread, with all its tries.
    pub async fn execute_transaction<R: Send + 'static>(
        &self,
        options: TransactionOptions,
        act: impl FnMut(&mut Transaction) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        self.call(move |db| db.execute_transaction(options, act)).await
    }

    /// See [`Database::snapshot`]; waits for nothing.
    pub fn snapshot(&self) -> Result<AsyncSnapshot> {
        let snapshot = Quiet::new(self.database().snapshot()?);
        Ok(AsyncSnapshot {
            inner: Arc::clone(&self.inner),
            keyspace: self.keyspace.clone(),
            snapshot,
        })
    }

    /// See [`Database::keyspace`].
    pub async fn keyspace(&self, name: &str, options: KeyspaceOptions) -> Result<AsyncKeyspace> {
        let name = name.to_owned();
        let keyspace = self.call(move |db| db.keyspace(&name, options).map(Quiet::new)).await?;
        Ok(AsyncKeyspace { inner: Arc::clone(&self.inner), keyspace })
    }

    /// See [`Database::flush`].
    pub async fn flush(&self) -> Result<()> {
        self.call(Database::flush).await
    }

    /// See [`Database::compact`].
    pub async fn compact(&self) -> Result<()> {
        self.call(Database::compact).await
    }

    /// See [`Database::sync`].
    pub async fn sync(&self) -> Result<()> {
        self.call(Database::sync).await
    }
}

/// The calls of the default keyspace.
impl AsyncDatabase {
    /// The default keyspace.
    pub fn default_keyspace(&self) -> &AsyncKeyspace {
        &self.keyspace
    }

    /// See [`Database::get`].
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        self.keyspace.get(key).await
    }

    /// See [`Database::get_batch`].
    pub async fn get_batch(&self, keys: &[impl AsRef<[u8]>]) -> Result<Vec<Option<Vec<u8>>>> {
        self.keyspace.get_batch(keys).await
    }

    /// See [`Database::contains_key`].
    pub async fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.keyspace.contains_key(key).await
    }

    /// See [`Database::put`].
    pub async fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.keyspace.put(key, value).await
    }

    /// See [`Database::delete`].
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        self.keyspace.delete(key).await
    }

    /// See [`Database::merge`].
    pub async fn merge(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<()> {
        self.keyspace.merge(key, operand).await
    }

    /// See [`Database::range`]. Sees the moment of this call, which waits for nothing.
    pub fn range(&self, start: Option<&[u8]>, end: Option<&[u8]>) -> Result<AsyncRange> {
        self.keyspace.range(start, end)
    }

    /// See [`Database::scan_prefix`].
    pub fn scan_prefix(&self, prefix: impl AsRef<[u8]>) -> Result<AsyncRange> {
        self.keyspace.scan_prefix(prefix.as_ref())
    }

    /// See [`Database::scan_reverse`].
    pub fn scan_reverse(&self, start: Option<&[u8]>, end: Option<&[u8]>) -> Result<AsyncRange> {
        self.keyspace.scan_reverse(start, end)
    }
}

impl std::fmt::Debug for AsyncDatabase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AsyncDatabase").field(&self.database().path()).finish()
    }
}
