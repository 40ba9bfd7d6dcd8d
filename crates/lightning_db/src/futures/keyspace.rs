//! The asynchronous handle of a keyspace.

use std::sync::Arc;

use super::inner::Inner;
use super::quiet::Quiet;
use super::range::AsyncRange;
use crate::commit::batch::WriteBatch;
use crate::config::WriteOptions;
use crate::database::Database;
use crate::error::Result;
use crate::iterators::prefix_end;
use crate::keyspace::Keyspace;
use crate::snapshot::Snapshot;

/// A keyspace of an [`AsyncDatabase`](crate::AsyncDatabase), which tells how calls behave. Cheap to
/// clone; keeps the database open.
#[derive(Clone)]
pub struct AsyncKeyspace {
    pub(super) keyspace: Quiet<Keyspace>,
    // The last: what else is held must not be the last of the database.
    pub(super) inner: Arc<Inner>,
}

impl AsyncKeyspace {
    /// The keyspace itself, for calls on this thread.
    pub fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    fn database(&self) -> &Database {
        self.inner.database.as_ref().expect("there until it drops")
    }

    fn snapshot(&self) -> Result<Quiet<Snapshot>> {
        self.database().snapshot().map(Quiet::new)
    }

    async fn commit(&self, batch: WriteBatch) -> Result<()> {
        self.inner.commit(self.database(), batch, WriteOptions::default()).await
    }

    /// See [`Keyspace::get`].
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        let (keyspace, key) = (self.keyspace.clone(), key.as_ref().to_vec());
        self.inner.read(move || keyspace.get(&key)).await
    }

    /// See [`Keyspace::get_batch`].
    pub async fn get_batch(&self, keys: &[impl AsRef<[u8]>]) -> Result<Vec<Option<Vec<u8>>>> {
        let keys: Vec<_> = keys.iter().map(|k| k.as_ref().to_vec()).collect();
        let keyspace = self.keyspace.clone();
        self.inner.read(move || keyspace.get_batch(&keys)).await
    }

    /// See [`Keyspace::contains_key`].
    pub async fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        let (keyspace, key) = (self.keyspace.clone(), key.as_ref().to_vec());
        self.inner.read(move || keyspace.contains_key(&key)).await
    }

    /// See [`Keyspace::put`].
    pub async fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        let mut batch = WriteBatch::new();
        batch.put_in(&self.keyspace, key, value);
        self.commit(batch).await
    }

    /// See [`Keyspace::delete`].
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        let mut batch = WriteBatch::new();
        batch.delete_in(&self.keyspace, key);
        self.commit(batch).await
    }

    /// See [`Keyspace::merge`].
    pub async fn merge(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<()> {
        let mut batch = WriteBatch::new();
        batch.merge_in(&self.keyspace, key, operand);
        self.commit(batch).await
    }

    /// See [`Keyspace::range`]. Sees the moment of this call, which waits for nothing.
    pub fn range(&self, start: Option<&[u8]>, end: Option<&[u8]>) -> Result<AsyncRange> {
        AsyncRange::new(self.clone(), self.snapshot()?, start, end, false)
    }

    /// See [`Keyspace::scan_prefix`].
    pub fn scan_prefix(&self, prefix: &[u8]) -> Result<AsyncRange> {
        self.range(Some(prefix), prefix_end(prefix).as_deref())
    }

    /// See [`Keyspace::scan_reverse`].
    pub fn scan_reverse(&self, start: Option<&[u8]>, end: Option<&[u8]>) -> Result<AsyncRange> {
        AsyncRange::new(self.clone(), self.snapshot()?, start, end, true)
    }
}

impl std::fmt::Debug for AsyncKeyspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AsyncKeyspace").field(&self.keyspace.name()).finish()
    }
}
