//! Lifetimes, by the handle of the database: of the default keyspace, and in transactions by id.
//! What they mean is told at [`Keyspace::put_with_ttl`](crate::Keyspace::put_with_ttl). Nothing here has a state of its own.

use std::time::Duration;

use super::Database;
use crate::error::Result;
use crate::transaction::TransactionId;

impl Database {
    /// See [`Keyspace::put_with_ttl`](crate::Keyspace::put_with_ttl).
    pub fn put_with_ttl(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) -> Result<()> {
        self.keyspace.put_with_ttl(key, value, ttl)
    }

    /// See [`Keyspace::get_with_ttl`](crate::Keyspace::get_with_ttl).
    pub fn get_with_ttl(
        &self,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<(Vec<u8>, Option<Duration>)>> {
        self.keyspace.get_with_ttl(key)
    }

    /// [`Transaction::put_with_ttl`](crate::Transaction::put_with_ttl) by id.
    pub fn put_with_ttl_tx(
        &self,
        id: TransactionId,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) -> Result<()> {
        self.with_tx(id, |tx| tx.put_with_ttl(key, value, ttl))
    }
}
