//! How a transaction behaves.

use std::time::Duration;

use crate::config::Durability;
use crate::snapshot::Snapshot;

/// What a transaction is kept from seeing of others. No level sees what is not committed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum IsolationLevel {
    /// Each call reads the newest commit. A value read may be overwritten by others before the
    /// transaction commits (lost updates are possible; `get_for_update` prevents them).
    ReadCommitted,
    /// Snapshot isolation: all reads see the moment the transaction began at, and of two
    /// transactions that write the same key the first to commit wins. Write skew is possible: two
    /// transactions that each read what the other writes may both commit.
    #[default]
    RepeatableRead,
    /// As if transactions ran one after another, in an order that agrees with real time: what was
    /// acknowledged before a transaction began comes before it.
    Serializable,
}

/// When conflicts are met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum TransactionMode {
    /// At commit. Nothing is locked; best where conflicts are rare.
    #[default]
    Optimistic,
    /// As they come: rows and ranges are locked, and others wait for them.
    Pessimistic,
}

/// How a transaction behaves.
#[derive(Debug, Clone)]
pub struct TransactionOptions {
    /// What it is kept from seeing. Default `RepeatableRead`.
    pub isolation: IsolationLevel,
    /// When conflicts are met. Default `Optimistic`.
    pub mode: TransactionMode,
    /// Refuses writes; takes no locks and never conflicts. Default false.
    pub read_only: bool,
    /// The moment to read at, instead of the newest. For `RepeatableRead` and optimistic
    /// `Serializable`; the others read the newest, and refuse it with `InvalidArgument` unless the
    /// transaction is read-only.
    pub snapshot: Option<Snapshot>,
    /// What `commit` waits for; `None` takes the database's default.
    pub durability: Option<Durability>,
    /// The longest wait for one lock; `None` takes `lock_timeout`.
    pub lock_timeout: Option<Duration>,
    /// The longest it may live; `None` takes `transaction_timeout`.
    pub timeout: Option<Duration>,
    /// How often `execute_transaction` tries again after an error that may go away. Default 32.
    pub max_retries: u32,
}

impl Default for TransactionOptions {
    fn default() -> Self {
        Self {
            isolation: IsolationLevel::default(),
            mode: TransactionMode::default(),
            read_only: false,
            snapshot: None,
            durability: None,
            lock_timeout: None,
            timeout: None,
            max_retries: 32,
        }
    }
}

impl TransactionOptions {
    /// The defaults at an isolation level.
    pub fn at(isolation: IsolationLevel) -> Self {
        Self { isolation, ..Self::default() }
    }
}
