//! The transaction guard.
//!
//! 1. Reads see the snapshot taken at the beginning, and the transaction's own writes.
//! 2. Nothing is written before `commit`; a guard dropped uncommitted has written nothing.
//! 3. Validation: for each written key, the newest inserted entry's number is at or below the
//!    snapshot's. It runs outside the commit section first, and inside against the same memtables
//!    again, so that no commit slips between.
//! 4. The view is registered until the transaction ends, so that merges keep the numbers that
//!    validation needs (a tombstone newer than the snapshot is never dropped).

use std::sync::Arc;
use std::time::Duration;

use super::scan::TransactionRange;
use super::write_set::WriteSet;
use crate::commit::batch::WriteBatch;
use crate::config::{Durability, WriteOptions};
use crate::database::{Handle, check_entry, write_batch};
use crate::error::{Error, ErrorKind, Result};
use crate::iterators::{Bounds, Range, prefix_end};
use crate::keyspace::{Keyspace, cursor_at};
use crate::maintenance::core::Core;
use crate::store::keyspace::KeyspaceStore;
use crate::store::lookup;
use crate::store::view::View;
use crate::sync::atomic::Ordering;
use crate::types::{EntryValue, KeyspaceId};

/// The name of a transaction begun with
/// [`begin_transaction`](crate::Database::begin_transaction); never given out twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId(pub(crate) u64);

impl std::fmt::Display for TransactionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How a transaction behaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TransactionOptions {
    /// Refuses writes, and never conflicts. Default false.
    pub read_only: bool,
    /// What `commit` waits for; `None` takes the database's default.
    pub durability: Option<Durability>,
    /// The longest it may live; `None` takes `transaction_timeout`.
    pub timeout: Option<Duration>,
}

/// A transaction at snapshot isolation. Dropped uncommitted, it is aborted.
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
    core: Arc<Core>,
    /// Keeps the database open; absent in transactions that the handle itself keeps, by id.
    _keep: Option<Arc<Handle>>,
    view: Arc<View>,
    options: TransactionOptions,
    deadline: Duration,
    writes: WriteSet,
    finished: bool,
}

impl Transaction {
    pub(crate) fn begin(
        core: &Arc<Core>,
        keep: Option<Arc<Handle>>,
        options: TransactionOptions,
    ) -> Result<Self> {
        core.check_open()?;
        if !options.read_only {
            core.check_writable()?;
        }
        let limit = core.config.max_active_transactions as u64;
        let took =
            core.active_transactions.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| {
                (n < limit).then_some(n + 1)
            });
        if took.is_err() {
            return Err(Error::new(
                ErrorKind::TooManyTransactions,
                format!("max_active_transactions ({limit}) are open"),
            ));
        }
        let env = &core.env;
        let now = env.now();
        let view = Arc::new(env.views.register(&env.visible, now));
        let timeout = options.timeout.unwrap_or(core.config.transaction_timeout);
        Ok(Self {
            core: Arc::clone(core),
            _keep: keep,
            view,
            options,
            deadline: now.saturating_add(timeout),
            writes: WriteSet::default(),
            finished: false,
        })
    }

    fn check(&self) -> Result<()> {
        self.core.check_open()?;
        if self.core.env.now() > self.deadline {
            return Err(Error::new(
                ErrorKind::TimedOut,
                "the transaction lived longer than its time-out",
            ));
        }
        Ok(())
    }

    /// The number of the last commit that its snapshot sees.
    pub fn snapshot_seq(&self) -> u64 {
        self.view.seq().0
    }

    /// The value of `key`: as written by this transaction, or as of its snapshot.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        self.get_store(&self.core.default, key.as_ref())
    }

    /// As [`get`](Self::get), in a keyspace.
    pub fn get_in(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        self.get_store(keyspace.store_of(&self.core)?, key.as_ref())
    }

    fn get_store(&self, store: &KeyspaceStore, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.check()?;
        if let Some(own) = self.writes.get(store.id, key) {
            return Ok(own.map(<[u8]>::to_vec));
        }
        let env = &self.core.env;
        let found = lookup::get(&store.version(), &env.pager, &env.blobs, key, self.view.seq())?;
        Ok(found.map(crate::Value::into_vec))
    }

    /// Sets `key` to `value` when the transaction commits.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.write(KeyspaceId(0), key.as_ref(), Some(value.as_ref()))
    }

    /// Removes `key` when the transaction commits.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        self.write(KeyspaceId(0), key.as_ref(), None)
    }

    /// As [`put`](Self::put), in a keyspace.
    pub fn put_in(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<()> {
        self.write(keyspace.store_of(&self.core)?.id, key.as_ref(), Some(value.as_ref()))
    }

    /// As [`delete`](Self::delete), in a keyspace.
    pub fn delete_in(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<()> {
        self.write(keyspace.store_of(&self.core)?.id, key.as_ref(), None)
    }

    fn write(&mut self, keyspace: KeyspaceId, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        self.check()?;
        if self.options.read_only {
            return Err(Error::new(ErrorKind::ReadOnly, "the transaction is read-only"));
        }
        check_entry(&self.core.config, key.len(), value.map_or(0, <[u8]>::len))?;
        let limit = self.core.config.max_transaction_size;
        let added = key.len() as u64 + value.map_or(0, <[u8]>::len) as u64;
        if self.writes.bytes() + added > limit {
            return Err(Error::new(
                ErrorKind::TransactionTooLarge,
                format!("the transaction would pass max_transaction_size ({limit} bytes)"),
            ));
        }
        self.writes.insert(keyspace, key, value);
        Ok(())
    }

    /// The entries with `start <= key < end`, own writes included.
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
    pub fn scan_prefix(&self, prefix: &[u8]) -> Result<TransactionRange> {
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
        store: &KeyspaceStore,
        start: Option<&[u8]>,
        end: Option<&[u8]>,
    ) -> Result<TransactionRange> {
        self.check()?;
        let env = &self.core.env;
        let at = self.view.seq();
        let own = self.writes.range(store.id, start.unwrap_or_default(), end);
        let base = Range::new(
            Arc::clone(&self.view),
            cursor_at(env, store, at),
            cursor_at(env, store, at),
            Bounds::new(start, end),
        );
        Ok(TransactionRange::new(base, own))
    }

    /// Makes every write true in one step. On `Conflict` nothing was written: begin again.
    pub fn commit(mut self) -> Result<()> {
        let result = self.try_commit();
        self.finish(result.is_ok());
        if result.as_ref().is_err_and(|e| e.kind() == ErrorKind::Conflict) {
            self.core.conflicts.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    fn try_commit(&mut self) -> Result<()> {
        self.check()?;
        if self.writes.is_empty() {
            return Ok(());
        }
        let mut batch = WriteBatch::new();
        for (keyspace, key, value) in self.writes.iter() {
            let value = value.map_or(EntryValue::Tombstone, EntryValue::Inline);
            batch.push(keyspace, key, value);
        }
        let all = self.core.all();
        self.validate(|id| all.iter().find(|k| k.id == id))?;
        let options = WriteOptions { durability: self.options.durability };
        write_batch(&self.core, &batch, options, |state| {
            self.validate(|id| state.keyspaces.get(&id))
        })?;
        Ok(())
    }

    fn validate<'a>(
        &self,
        find: impl Fn(KeyspaceId) -> Option<&'a Arc<KeyspaceStore>>,
    ) -> Result<()> {
        let snapshot = self.view.seq();
        let mut current: Option<&Arc<KeyspaceStore>> = None;
        for (id, key, _) in self.writes.iter() {
            if current.is_none_or(|k| k.id != id) {
                current = find(id);
            }
            let Some(keyspace) = current else {
                return Err(Error::new(ErrorKind::NotFound, "the keyspace was dropped"));
            };
            let newest =
                lookup::newest_seq(&keyspace.version(), &self.core.env.pager, key, snapshot)?;
            if newest.is_some_and(|n| n > snapshot) {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    "another transaction committed a key of this one first",
                ));
            }
        }
        Ok(())
    }

    /// Gives the writes up. Dropping the guard does the same.
    pub fn abort(mut self) {
        self.finish(false);
    }

    fn finish(&mut self, committed: bool) {
        if self.finished {
            return;
        }
        self.finished = true;
        self.core.active_transactions.fetch_sub(1, Ordering::AcqRel);
        let counter = if committed {
            &self.core.committed_transactions
        } else {
            &self.core.aborted_transactions
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.finish(false);
    }
}
