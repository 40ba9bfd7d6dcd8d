//! The calls of a database for the indexes of its default keyspace.

use crate::database::Database;
use crate::error::Result;
use crate::index::IndexSpec;
use crate::indexes::{Index, IndexInfo};

/// Indexes of the default keyspace.
impl Database {
    /// See [`Keyspace::create_index`](crate::Keyspace::create_index).
    pub fn create_index(&self, name: &str, spec: IndexSpec) -> Result<Index> {
        self.default_keyspace().create_index(name, spec)
    }

    /// See [`Keyspace::drop_index`](crate::Keyspace::drop_index).
    pub fn drop_index(&self, name: &str) -> Result<()> {
        self.default_keyspace().drop_index(name)
    }

    /// See [`Keyspace::list_indexes`](crate::Keyspace::list_indexes).
    pub fn list_indexes(&self) -> Result<Vec<IndexInfo>> {
        self.default_keyspace().list_indexes()
    }

    /// See [`Keyspace::index`](crate::Keyspace::index).
    pub fn index(&self, name: &str) -> Result<Index> {
        self.default_keyspace().index(name)
    }
}
