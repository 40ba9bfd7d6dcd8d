//! Lightning DB: an embedded, ordered, transactional key-value database.
//!
//! It writes like an LSM-tree and reads like a B+Tree: at rest everything is a B+Tree of immutable,
//! checksummed pages; a few of them are stacked, so that writes are cheap, and merged behind the
//! calls, so that reads are.
//!
//! ```no_run
//! use lightning_db::{Database, LightningDbConfig};
//!
//! fn main() -> lightning_db::Result<()> {
//!     let db = Database::create("my_database", LightningDbConfig::default())?;
//!
//!     db.put(b"key", b"value")?;
//!     assert_eq!(db.get(b"key")?, Some(b"value".to_vec()));
//!
//!     let range = db.range(Some(b"key1"), Some(b"key3"))?;      // half-open, streaming
//!     let tx = db.begin_transaction()?;                          // a handle by id
//!     db.put_tx(tx, b"tx_key", b"tx_value")?;
//!     db.commit_transaction(tx)?;
//!
//!     db.put_batch(&[(b"batch1".to_vec(), b"value1".to_vec())])?; // atomic
//!     db.delete(b"key")?;
//!     db.sync()?;
//!     Ok(())
//! }
//! ```
//!
//! - [`Database`]: open, read, write, scan; [`Keyspace`] for maps of their own beside it
//! - [`Snapshot`]: reads of one moment; [`Transaction`]: reads and writes as one
//! - [`LightningDbConfig`]: every option, by struct, file or environment
//! - [`Error`] and [`ErrorKind`]: one kind for each reaction a caller can have
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        clippy::disallowed_types,
        reason = "tests look from outside"
    )
)]

mod codec;
pub mod error;
mod index;
pub mod limits;
mod prefetch;
mod sync;
mod types;

mod operators;
#[doc(hidden)]
pub mod vfs;

mod cache;
mod compress;
pub mod config;
mod crypto;
mod history;
mod manifest;
mod memtable;
mod page;
mod ranges;
mod segment;
mod wal;

mod tree;

mod store;

mod commit;
mod locks;

mod maintenance;
mod recovery;
mod transaction;
mod verify;

mod changes;
mod database;
mod database_indexes;
mod encryption;
mod indexes;
mod ingest;
mod iterators;
mod keyspace;
mod metrics;
mod past;
mod snapshot;
mod stats;
mod update;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;

#[cfg(test)]
mod format_tests;
#[cfg(all(test, shuttle))]
mod schedules;

pub use changes::{Change, ChangeCursor, ChangeKind, Changes, ChangesFrom, CommittedChanges};
pub use commit::batch::WriteBatch;
pub use config::{
    CompressionType, Durability, KeySource, KeyspaceOptions, LightningDbConfig, PassphraseCost,
    Profile, VerifyOptions, WalSyncMode, WriteOptions,
};
pub use database::Database;
pub use error::{Error, ErrorKind, Result};
pub use index::{Extractors, IndexKey, IndexPart, IndexSource, IndexSpec, IndexValue};
pub use indexes::{Index, IndexInfo, IndexKeys, IndexRange, IndexRow, IndexStatus};
pub use iterators::{Cursor, Range};
pub use keyspace::Keyspace;
pub use metrics::{Metric, MetricKind, MetricValue, MetricsSnapshot};
pub use operators::{MergeFailure, MergeOperator, MergeOperators};
pub use past::{KeyVersion, Moment};
#[doc(hidden)]
pub use recovery::OpenAs;
pub use snapshot::Snapshot;
pub use stats::{DatabaseStats, HealthStatus, IndexStats, KeyspaceStats, StallReport};
pub use store::value::Value;
pub use transaction::{
    IsolationLevel, Savepoint, Transaction, TransactionId, TransactionIndexKeys, TransactionMode,
    TransactionOptions, TransactionRange,
};
pub use update::CompareAndSwapError;
pub use verify::{Problem, VerifyReport};
