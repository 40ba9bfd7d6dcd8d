//! What all asynchronous handles of a database share.
//!
//! 1. What a future does in its first poll, on its caller's thread, touches no file: a read that finds
//!    a page missing is given up and done anew by a thread; a write is done there only if it has
//!    nothing to wait for.
//! 2. The database goes on a thread of the pool, after every call that was begun: closing flushes.

use std::path::Path;
use std::sync::Arc;

use super::call::Call;
use super::pool::Pool;
use crate::commit::batch::WriteBatch;
use crate::config::WriteOptions;
use crate::database::Database;
use crate::error::Result;
use crate::maintenance::write::write_batch;
use crate::maintenance::write_now::write_without_waiting;
use crate::segment::in_memory;

/// See the module.
pub struct Inner {
    pub pool: Arc<Pool>,
    /// There until it drops; not before it is open.
    pub database: Option<Database>,
}

impl Inner {
    /// The directory.
    pub fn path(&self) -> Option<&Path> {
        self.database.as_ref().map(Database::path)
    }

    /// What `read` gives: at once where all of it is in memory, or else from a thread.
    pub async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl Fn() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        match in_memory(&read) {
            Some(found) => found,
            None => self.call(read).await,
        }
    }

    /// What `act` gives on a thread.
    pub async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        act: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        Call::new(self, act).await
    }

    /// Commits a batch: at once where nothing is to be waited for, or else on a thread.
    pub async fn commit(
        self: &Arc<Self>,
        database: &Database,
        batch: WriteBatch,
        options: WriteOptions,
    ) -> Result<()> {
        let handle = Arc::clone(database.handle());
        if let Some(done) = write_without_waiting(&handle.core, &batch, options) {
            return done;
        }
        self.call(move || write_batch(&handle.core, &batch, options, None, |_| Ok(()))).await
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let database = self.database.take();
        self.pool.stop(Box::new(move || drop(database)));
    }
}
