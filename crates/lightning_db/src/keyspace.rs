//! The handle of a keyspace: an ordered map of its own inside the database.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use crate::commit::batch::{WriteBatch, lifetime};
use crate::config::WriteOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::iterators::{Bounds, Cursor, Range, prefix_end};
use crate::maintenance::catalog::set_default_ttl;
use crate::maintenance::core::{Core, Keep};
use crate::maintenance::ingest::ingest;
use crate::maintenance::write::{check_range, dropped, write_batch};
use crate::manifest::KeyInterval;
use crate::operators::Merger;
use crate::store::cursor::MergedCursor;
use crate::store::environment::Environment;
use crate::store::keyspace::KeyspaceStore;
use crate::store::lookup;
use crate::store::merge::stacked_in;
use crate::store::value::Value;
use crate::store::view::View;
use crate::sync::atomic::Ordering;
use crate::types::{EntryValue, KeyspaceId};

/// A keyspace: an ordered map with a name. Cheap to clone; keeps the database open.
///
/// Commits and snapshots span all keyspaces of a database.
///
/// ```
/// # fn main() -> lightning_db::Result<()> {
/// let db = lightning_db::Database::open_in_memory(Default::default())?;
/// let users = db.keyspace("users", Default::default())?;
/// users.put(b"ada", b"1815")?;
/// assert_eq!(users.get(b"ada")?, Some(b"1815".to_vec()));
/// assert_eq!(db.get(b"ada")?, None);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Keyspace {
    pub(crate) core: Arc<Core>,
    pub(crate) keep: Keep,
    pub(crate) store: Arc<KeyspaceStore>,
}

impl Keyspace {
    pub(crate) fn id(&self) -> KeyspaceId {
        self.store.id
    }

    /// Its store, for a snapshot or transaction of `core`: an error where it is of another
    /// database, or was dropped.
    pub(crate) fn store_of(&self, core: &Core) -> Result<&Arc<KeyspaceStore>> {
        if !std::ptr::eq(Arc::as_ptr(&self.core), core) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("the keyspace {:?} is of another open database", self.store.name),
            ));
        }
        if self.store.is_dropped() {
            return Err(dropped(&self.store.name));
        }
        Ok(&self.store)
    }

    /// The name it was made with.
    pub fn name(&self) -> &str {
        &self.store.name
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.core.check_open()?;
        if self.store.is_dropped() {
            return Err(dropped(&self.store.name));
        }
        Ok(())
    }

    /// The newest committed value of `key`, copied.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        Ok(self.get_pinned(key)?.map(Value::into_vec))
    }

    /// The newest committed value of `key`, without a copy where it lies in a page; the page stays
    /// in memory while the value lives.
    pub fn get_pinned(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        self.check()?;
        let env = &self.core.env;
        self.core.ready_rows();
        lookup::get_newest(env, &self.store, key.as_ref())
    }

    /// Whether `key` has a value.
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get_pinned(key)?.is_some())
    }

    /// Sets `key` to `value`; returns once the durability of the database's default is reached.
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.write_one(key.as_ref(), EntryValue::Inline(value.as_ref()))
    }

    /// Sets `key` to `value` for the time `ttl`, which counts from now: once it has passed the key is
    /// gone for every read, as if it had been deleted, and merges give its space back.
    ///
    /// Writing the key again replaces the lifetime: [`put`](Self::put), and updates like
    /// [`compare_and_swap`](crate::Database::compare_and_swap), give it that of the keyspace, or none. Snapshots and
    /// transactions with a snapshot judge by the moment they were made at: what lived then stays to be
    /// seen in them. That something expires is no write: nobody conflicts with it.
    ///
    /// Lifetimes are kept to the millisecond (rounded up) and go by the wall clock of the system: a
    /// clock that is set forward ends them early. One that is set back does not bring anything back:
    /// time goes on from the latest moment known, over a reopen too (where the database was not closed,
    /// from its last merge or flush).
    ///
    /// # Errors
    /// `InvalidArgument` where `ttl` is zero, and in a keyspace with a
    /// [merge operator](crate::KeyspaceOptions::merge_operator): what is merged into a value could not end
    /// with it. A lifetime that is too long to be told is as long as can
    /// be, some hundred million years; `Duration::MAX` is for keys that stay in a keyspace with a
    /// default.
    ///
    /// ```
    /// # fn main() -> lightning_db::Result<()> {
    /// use std::time::Duration;
    /// let db = lightning_db::Database::open_in_memory(Default::default())?;
    /// db.put_with_ttl(b"session", b"ada", Duration::from_secs(3600))?;
    /// let (value, left) = db.get_with_ttl(b"session")?.expect("alive");
    /// assert!(value == b"ada" && left.expect("a lifetime") <= Duration::from_secs(3600));
    /// db.put_with_ttl(b"short", b"1", Duration::from_millis(1))?;
    /// std::thread::sleep(Duration::from_millis(5));
    /// assert_eq!(db.get(b"short")?, None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn put_with_ttl(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) -> Result<()> {
        self.write_with(|batch| batch.push_for(self.store.id, key.as_ref(), value.as_ref(), ttl))
    }

    /// The newest value of `key`, and how long it has left to live; `None` inside for a value that
    /// stays.
    pub fn get_with_ttl(
        &self,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<(Vec<u8>, Option<Duration>)>> {
        self.check()?;
        self.core.ready_rows();
        let env = &self.core.env;
        let (version, at) = lookup::moment(env, &self.store);
        let now = env.lifetimes.moment();
        let found = lookup::get_expiring_at(env, &self.store, &version, key.as_ref(), at, now)?;
        Ok(found.map(|(value, expiry)| {
            let left = (!expiry.is_never()).then(|| Duration::from_millis(expiry.0 - now.0));
            (value.into_vec(), left)
        }))
    }

    /// How long what is put here without a lifetime of its own lives.
    pub fn default_ttl(&self) -> Option<Duration> {
        match self.store.default_ttl.load(Ordering::Acquire) {
            0 => None,
            millis => Some(Duration::from_millis(millis)),
        }
    }

    /// Changes how long what is put here from now on without a lifetime of its own lives; `None`: until
    /// it is overwritten or deleted. What is there keeps the lifetime it has. Durable once this returns.
    ///
    /// # Errors
    /// `InvalidArgument` where it is zero, and where the keyspace has a merge operator; what writing the manifest gives.
    pub fn set_default_ttl(&self, ttl: Option<Duration>) -> Result<()> {
        self.check()?;
        if ttl.is_some_and(|ttl| ttl.is_zero()) {
            return Err(Error::new(ErrorKind::InvalidArgument, "a lifetime is longer than zero"));
        }
        set_default_ttl(&self.core, &self.store, ttl.map_or(0, |ttl| lifetime(ttl).0))
    }

    /// Removes `key`; it is no error if it is not there.
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        self.write_one(key.as_ref(), EntryValue::Tombstone)
    }

    /// Removes every key with `start <= key < end`, as one commit; `None` means unbounded. It costs the
    /// same however many keys there are: some microseconds, the two ends in the log, and about 150 bytes of
    /// memory until the next flush. Readers pass over the keys from now on, and merges give their space back
    /// ([`compact_range`](Self::compact_range) does at once).
    /// A keyspace with indexes or with a merge operator looks at every row of the range: there it costs about
    /// as much as a delete of each, and a range of more rows than a commit may hold is
    /// `TransactionTooLarge`. A range that can hold no key (`start >= end`) is no commit and no error.
    ///
    /// Fails as [`put`](Self::put) does; with `KeyTooLarge` where an end is longer than a key may be.
    ///
    /// ```
    /// # fn main() -> lightning_db::Result<()> {
    /// let db = lightning_db::Database::open_in_memory(Default::default())?;
    /// for key in ["a", "b", "c"] {
    ///     db.put(key, b"1")?;
    /// }
    /// db.delete_range(Some(b"a"), Some(b"c"))?;
    /// assert_eq!(db.count(None, None)?, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn delete_range(&self, start: Option<&[u8]>, end: Option<&[u8]>) -> Result<()> {
        self.check()?;
        check_range(&self.core.config, start, end)?;
        let mut batch = WriteBatch::new();
        batch.push_range(self.store.id, start, end);
        write_batch(&self.core, &batch, WriteOptions::default(), None, |_| Ok(()))
    }

    /// Merges `operand` into the value of `key`, by the keyspace's
    /// [merge operator](crate::KeyspaceOptions::merge_operator), without reading it; returns once the
    /// durability of the database's default is reached. An operand has at most 64 KiB
    /// ([`MAX_OPERAND_BYTES`](crate::limits::MAX_OPERAND_BYTES)).
    ///
    /// Fails with [`NoMergeOperator`](ErrorKind::NoMergeOperator) where the keyspace has no operator, or
    /// that is not registered, and with `InvalidArgument` where the operator refuses the operand.
    ///
    /// Merges of one key by several threads add up; none of them is lost, and none waits for another
    /// longer than a put would. Reads merge what has gathered, and keep what they found; flushes and
    /// merges of runs fold it for good.
    ///
    /// ```
    /// # use lightning_db::{Database, KeyspaceOptions};
    /// # fn main() -> lightning_db::Result<()> {
    /// # let db = Database::open_in_memory(Default::default())?;
    /// let options = KeyspaceOptions { merge_operator: Some("counter".into()), ..Default::default() };
    /// let visits = db.keyspace("visits", options)?;
    /// visits.merge(b"page", 1_i64.to_le_bytes())?;
    /// visits.merge(b"page", 2_i64.to_le_bytes())?;
    /// assert_eq!(visits.get(b"page")?, Some(3_i64.to_le_bytes().to_vec()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn merge(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<()> {
        self.check()?;
        let mut batch = WriteBatch::new();
        batch.push_operand(self.store.id, key.as_ref(), operand.as_ref());
        write_batch(&self.core, &batch, WriteOptions::default(), None, |_| Ok(()))
    }

    /// The name of its merge operator.
    pub fn merge_operator(&self) -> Option<&str> {
        self.store.merger().map(Merger::name)
    }

    fn write_one(&self, key: &[u8], value: EntryValue<'_>) -> Result<()> {
        self.write_with(|batch| batch.push(self.store.id, key, value))
    }

    /// Commits what `fill` puts into a batch.
    #[inline]
    fn write_with(&self, fill: impl FnOnce(&mut WriteBatch)) -> Result<()> {
        if self.core.indexes.mark().any() {
            // Functions of indexes are called meanwhile; one that writes must not find the batch taken.
            let mut batch = WriteBatch::new();
            fill(&mut batch);
            return write_batch(&self.core, &batch, WriteOptions::default(), None, |_| Ok(()));
        }
        thread_local! {
            static BATCH: std::cell::RefCell<WriteBatch> = std::cell::RefCell::default();
        }
        BATCH.with_borrow_mut(|batch| {
            batch.clear();
            fill(batch);
            let result = write_batch(&self.core, batch, WriteOptions::default(), None, |_| Ok(()));
            if batch.body.capacity() > 1024 * 1024 {
                *batch = WriteBatch::new();
            }
            result
        })
    }

    /// Sets several keys in one atomic commit; of equal keys the last one counts.
    pub fn put_batch(&self, entries: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let mut batch = WriteBatch::new();
        for (key, value) in entries {
            batch.push(self.store.id, key, EntryValue::Inline(value));
        }
        write_batch(&self.core, &batch, WriteOptions::default(), None, |_| Ok(()))
    }

    /// Sets many keys in one atomic commit; they must come in strictly ascending order. Gives their
    /// number.
    ///
    /// The way to load much at once: pages are written as they will stay, without log, memtable or
    /// merge, and memory is bounded whatever the number of entries; `max_transaction_size` does not
    /// count. When this returns, everything is durable. Readers, snapshots and transactions see all of
    /// it or nothing, newer than every commit before and older than every commit after.
    ///
    /// Where the keyspace has a [default lifetime](Self::set_default_ttl), it counts from this call.
    ///
    /// For locks and for transactions that validate, it counts as a write to every key from the first
    /// to the last: it waits at most `lock_timeout` for locks of others there. Other writers are held up
    /// only at the end, for some fsyncs. [`Database::close`](crate::Database::close) waits for the entry
    /// at hand, after which the ingest fails with `Closed`.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the position, where a key is not greater than the one before, and where
    /// the keyspace has secondary indexes (drop them, ingest, and create them again);
    /// `TimedOut` where a lock could not be had; what limits, quota and the disk refuse. Nothing became
    /// visible then, and no file is left; only with `CommitUnknown` may all of it be there after
    /// opening anew.
    ///
    /// ```
    /// # fn main() -> lightning_db::Result<()> {
    /// let db = lightning_db::Database::open_in_memory(Default::default())?;
    /// let squares = (0..1000_u32).map(|n| (n.to_be_bytes(), (n * n).to_be_bytes()));
    /// assert_eq!(db.ingest(squares)?, 1000);
    /// assert_eq!(db.get(9_u32.to_be_bytes())?, Some(81_u32.to_be_bytes().to_vec()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn ingest<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Result<u64> {
        self.try_ingest(entries.into_iter().map(Ok::<_, Error>))
    }

    /// As [`ingest`](Self::ingest), of entries that may fail to come: the first error ends it, and
    /// nothing becomes visible.
    pub fn try_ingest<K: AsRef<[u8]>, V: AsRef<[u8]>, E: From<Error>>(
        &self,
        entries: impl IntoIterator<Item = std::result::Result<(K, V), E>>,
    ) -> std::result::Result<u64, E> {
        self.check()?;
        ingest(&self.core, &self.store, entries)
    }

    /// The values of several keys, all read at one moment.
    pub fn get_batch(&self, keys: &[impl AsRef<[u8]>]) -> Result<Vec<Option<Vec<u8>>>> {
        self.check()?;
        self.core.ready_rows();
        let env = &self.core.env;
        let (version, at) = lookup::moment(env, &self.store);
        let now = env.lifetimes.moment();
        keys.iter()
            .map(|k| {
                let found = lookup::get_at(env, &self.store, &version, k.as_ref(), at, now)?;
                Ok(found.map(Value::into_vec))
            })
            .collect()
    }

    /// Removes several keys in one atomic commit.
    pub fn delete_batch(&self, keys: &[impl AsRef<[u8]>]) -> Result<()> {
        let mut batch = WriteBatch::new();
        for key in keys {
            batch.push(self.store.id, key.as_ref(), EntryValue::Tombstone);
        }
        write_batch(&self.core, &batch, WriteOptions::default(), None, |_| Ok(()))
    }

    /// The entries with `start <= key < end`, in order of key; `None` means unbounded. Streams;
    /// sees one moment; can be read from both ends.
    pub fn range(&self, start: Option<&[u8]>, end: Option<&[u8]>) -> Result<Range> {
        let (view, cursor) = self.cursors()?;
        let back = self.cursor_at(&view);
        Ok(Range::new(view, cursor, back, Bounds::new(start, end)))
    }

    /// The same as [`range`](Self::range).
    pub fn scan(&self, start: Option<&[u8]>, end: Option<&[u8]>) -> Result<Range> {
        self.range(start, end)
    }

    /// The entries whose keys begin with `prefix`, in order.
    pub fn scan_prefix(&self, prefix: &[u8]) -> Result<Range> {
        self.range(Some(prefix), prefix_end(prefix).as_deref())
    }

    /// The entries with `start <= key < end`, from the last to the first.
    pub fn scan_reverse(
        &self,
        start: Option<&[u8]>,
        end: Option<&[u8]>,
    ) -> Result<std::iter::Rev<Range>> {
        Ok(self.range(start, end)?.rev())
    }

    /// A cursor for seeks, with borrowed keys and values; sees one moment.
    pub fn cursor(&self) -> Result<Cursor> {
        let (view, cursor) = self.cursors()?;
        Ok(Cursor::new(view, cursor))
    }

    fn cursors(&self) -> Result<(Arc<View>, MergedCursor)> {
        self.check()?;
        let view = Arc::new(self.core.view());
        let cursor = self.cursor_at(&view);
        Ok((view, cursor))
    }

    pub(crate) fn cursor_at(&self, view: &View) -> MergedCursor {
        cursor_at(&self.core.env, &self.store, view)
    }

    /// The first entry.
    pub fn first(&self) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        self.range(None, None)?.next().transpose()
    }

    /// The last entry.
    pub fn last(&self) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        self.range(None, None)?.next_back().transpose()
    }

    /// The exact number of keys in a range. Costs a scan.
    pub fn count(&self, start: Option<&[u8]>, end: Option<&[u8]>) -> Result<u64> {
        let (_view, mut cursor) = self.cursors()?;
        let mut n = 0;
        let mut more = cursor.seek(start.unwrap_or_default())?;
        while more && end.is_none_or(|e| cursor.key().is_some_and(|k| k < e)) {
            n += 1;
            more = cursor.next()?;
        }
        Ok(n)
    }

    /// A quick estimate of the number of keys: entries of all parts less deletions and what has expired;
    /// overwritten keys that have not been merged yet count more than once.
    pub fn approximate_len(&self) -> u64 {
        let v = self.store.version();
        let in_memory: u64 = v.memtables().map(|m| m.entries() as u64).sum();
        let now = self.core.env.lifetimes.moment();
        let (entries, tombstones) = v.data_partitions().fold((0, 0), |(e, t), p| {
            let m = p.meta();
            (e + m.entries - m.lives.expired_entries(now), t + m.tombstones)
        });
        (in_memory + entries).saturating_sub(2 * tombstones)
    }

    /// An estimate of the stored bytes in a range, memtables left out.
    pub fn approximate_bytes(&self, start: &[u8], end: Option<&[u8]>) -> Result<u64> {
        self.check()?;
        let version = self.store.pin();
        let pager = &self.core.env.pager;
        let range = KeyInterval { start: start.to_vec(), end: end.map(<[u8]>::to_vec) };
        let mut bytes = 0;
        for run in &version.runs {
            bytes += stacked_in(run, &range, pager)?;
        }
        for p in &*version.base.partitions {
            if range.overlaps(&p.meta().first_key, &p.meta().last_key) {
                bytes += p.estimate_bytes(pager, start, end)?;
            }
        }
        Ok(bytes)
    }

    /// Calls `visit` with every entry of a range, borrowed, until it breaks.
    pub fn for_each<B>(
        &self,
        start: Option<&[u8]>,
        end: Option<&[u8]>,
        mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<B>,
    ) -> Result<Option<B>> {
        let mut cursor = self.cursor()?;
        let mut more = cursor.seek(start.unwrap_or_default())?;
        while more {
            let Some((key, value)) = cursor.entry()? else { break };
            if end.is_some_and(|e| key >= e) {
                break;
            }
            if let ControlFlow::Break(b) = visit(key, value) {
                return Ok(Some(b));
            }
            more = cursor.next()?;
        }
        Ok(None)
    }

    /// Merges a range into the base and gives back what is dead there. Waits until it is done.
    pub fn compact_range(&self, start: Option<&[u8]>, end: Option<&[u8]>) -> Result<()> {
        self.check()?;
        self.core.check_writable()?;
        let within =
            KeyInterval { start: start.unwrap_or_default().to_vec(), end: end.map(<[u8]>::to_vec) };
        self.core.compact(&self.store, &within)
    }

    /// Merges everything into the base.
    pub fn compact(&self) -> Result<()> {
        self.compact_range(None, None)
    }
}

/// Operations on other keyspaces than the default one.
impl WriteBatch {
    /// Sets `key` to `value` in `keyspace`.
    pub fn put_in(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.belong_to(&keyspace.core.env);
        self.push(keyspace.id(), key.as_ref(), EntryValue::Inline(value.as_ref()));
    }

    /// As [`delete_range`](Self::delete_range), in `keyspace`.
    pub fn delete_range_in(
        &mut self,
        keyspace: &Keyspace,
        start: Option<&[u8]>,
        end: Option<&[u8]>,
    ) {
        self.belong_to(&keyspace.core.env);
        self.push_range(keyspace.id(), start, end);
    }

    /// Sets `key` to `value` in `keyspace`, for the time `ttl`, which counts from the commit.
    pub fn put_with_ttl_in(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) {
        self.belong_to(&keyspace.core.env);
        self.push_for(keyspace.id(), key.as_ref(), value.as_ref(), ttl);
    }

    /// Merges `operand` into `key` of `keyspace`; see [`Keyspace::merge`].
    pub fn merge_in(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        operand: impl AsRef<[u8]>,
    ) {
        self.belong_to(&keyspace.core.env);
        self.push_operand(keyspace.id(), key.as_ref(), operand.as_ref());
    }

    /// Removes `key` from `keyspace`.
    pub fn delete_in(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) {
        self.belong_to(&keyspace.core.env);
        self.push(keyspace.id(), key.as_ref(), EntryValue::Tombstone);
    }
}

/// A cursor over the current version of a keyspace at a view.
pub(crate) fn cursor_at(
    env: &Environment,
    store: &Arc<KeyspaceStore>,
    view: &View,
) -> MergedCursor {
    let (at, now) = (view.seq(), view.moment());
    MergedCursor::new(store, at, now, &env.pager, Arc::clone(&env.blobs), env.read_ahead)
}
