//! Secondary indexes, as a user sees them: making and dropping them, and reading by index key.
//!
//! - `handle`: [`Index`], and the calls of `Keyspace` and `Database` for them
//! - `range`: [`IndexKeys`] and [`IndexRange`], what reading gives
//!
//! Reading inside a transaction is in `transaction`.

pub mod handle;
pub mod range;

pub use handle::{Index, IndexInfo, IndexStatus};
pub use range::{IndexKeys, IndexRange, IndexRow};
