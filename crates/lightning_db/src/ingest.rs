//! Sorted ingest as the database's own calls; how it works is told in `maintenance/ingest.rs`, what it
//! promises at [`Keyspace::ingest`](crate::Keyspace::ingest).

use crate::database::Database;
use crate::error::{Error, Result};

/// Sorted ingest into the default keyspace.
impl Database {
    /// See [`Keyspace::ingest`](crate::Keyspace::ingest).
    pub fn ingest<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Result<u64> {
        self.default_keyspace().ingest(entries)
    }

    /// See [`Keyspace::try_ingest`](crate::Keyspace::try_ingest).
    pub fn try_ingest<K: AsRef<[u8]>, V: AsRef<[u8]>, E: From<Error>>(
        &self,
        entries: impl IntoIterator<Item = std::result::Result<(K, V), E>>,
    ) -> std::result::Result<u64, E> {
        self.default_keyspace().try_ingest(entries)
    }
}
