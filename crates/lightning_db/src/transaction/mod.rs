//! Transactions: a snapshot, a write set, and validation at commit.
//!
//! `RepeatableRead` (snapshot isolation), optimistic: reads see the snapshot and the transaction's
//! own writes; at commit, if any key it wrote was committed by another since the snapshot, the
//! commit is refused with `Conflict` and nothing is written (first committer wins). Write skew is
//! possible: two transactions that read what the other writes may both commit.
//!
//! | file | job |
//! |---|---|
//! | `write_set` | the writes so far, by keyspace and key |
//! | `scan` | the write set laid over a cursor of the snapshot |
//! | `transaction` | the guard |

mod scan;
#[allow(clippy::module_inception)] // the guard is the module's main type
mod transaction;
mod write_set;

pub use scan::TransactionRange;
pub use transaction::{Transaction, TransactionId, TransactionOptions};
