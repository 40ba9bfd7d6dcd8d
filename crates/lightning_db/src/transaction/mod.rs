//! Transactions: what they read, what they write, and what has to hold when they commit.
//!
//! Three levels, two modes; reads see the transaction's own writes in all of them. A commit is one
//! step in the order of commits, and its place there is its moment.
//!
//! - `ReadCommitted`: each call reads the newest commit. Optimistic: nothing is validated. Pessimistic:
//!   written rows are locked as they are written.
//! - `RepeatableRead` (snapshot isolation): reads see the snapshot. Of two transactions that write
//!   a key, the first to commit wins. Optimistic: found at commit. Pessimistic: written rows are
//!   locked, and one that changed since the snapshot is a `Conflict` there and then. Write skew is
//!   possible.
//! - `Serializable`: as if one after another, in an order that agrees with real time. Optimistic:
//!   at commit, no key and no range that was read may have changed since the snapshot, so all reads
//!   hold at the moment of the commit; writes without reads do not conflict. Pessimistic: keys and ranges are
//!   locked, then read at their newest (strict two-phase locking). What only reads is never
//!   validated: its snapshot is its moment.
//!
//! | file | job |
//! |---|---|
//! | `options` | levels, modes, options |
//! | `write_set` | the writes so far, by keyspace and key; savepoints |
//! | `read_set` | keys and ranges read, that must not have changed |
//! | `indexes` | reading by index key, own writes included |
//! | `ranges` | range deletes |
//! | `scan` | the write set laid over a cursor of the snapshot |
//! | `transaction` | the guard: reads, writes, locks |
//! | `commit` | validation and the commit |

mod commit;
mod indexes;
mod options;
mod ranges;
mod read_set;
mod scan;
#[allow(clippy::module_inception)] // the guard is the module's main type
mod transaction;
mod write_set;

pub use indexes::TransactionIndexKeys;
pub use options::{IsolationLevel, TransactionMode, TransactionOptions};
pub use scan::TransactionRange;
pub(crate) use transaction::back_off;
pub use transaction::{Transaction, TransactionId};
pub use write_set::Savepoint;
