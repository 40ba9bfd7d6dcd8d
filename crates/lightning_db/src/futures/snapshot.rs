//! Asynchronous reads of one moment.

use std::sync::Arc;

use super::inner::Inner;
use super::keyspace::AsyncKeyspace;
use super::quiet::Quiet;
use super::range::AsyncRange;
use crate::error::Result;
use crate::snapshot::Snapshot;

/// A [`Snapshot`] whose reads are futures; see [`AsyncDatabase`](crate::AsyncDatabase) for how calls
/// behave. Cheap to clone.
#[derive(Clone)]
pub struct AsyncSnapshot {
    pub(super) snapshot: Quiet<Snapshot>,
    pub(super) keyspace: AsyncKeyspace,
    // The last: what else is held must not be the last of the database.
    pub(super) inner: Arc<Inner>,
}

impl AsyncSnapshot {
    /// The snapshot itself, for calls on this thread.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// See [`Snapshot::get`].
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        self.get_in(&self.keyspace, key).await
    }

    /// See [`Snapshot::get_in`].
    pub async fn get_in(
        &self,
        keyspace: &AsyncKeyspace,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<Vec<u8>>> {
        let (snapshot, keyspace) = (self.snapshot.clone(), keyspace.keyspace.clone());
        let key = key.as_ref().to_vec();
        self.inner.read(move || snapshot.get_in(&keyspace, &key)).await
    }

    /// See [`Snapshot::range_in`].
    pub fn range_in(
        &self,
        keyspace: &AsyncKeyspace,
        start: Option<&[u8]>,
        end: Option<&[u8]>,
    ) -> Result<AsyncRange> {
        AsyncRange::new(keyspace.clone(), self.snapshot.clone(), start, end, false)
    }
}

impl std::fmt::Debug for AsyncSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AsyncSnapshot").field(&self.snapshot.seq()).finish()
    }
}
