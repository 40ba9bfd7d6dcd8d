//! Row and range locks of transactions: who holds what, who waits, and who must give way.
//!
//! | file | job |
//! |---|---|
//! | `owner` | one transaction's life: active, committing, finished, expired |
//! | `request` | what is asked for, and what conflicts with what |
//! | `held` | the locks that are held |
//! | `table` | granting, waiting in order, deadlocks, time-outs |

mod held;
mod owner;
mod request;
mod table;

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

pub use owner::Owner;
pub use request::{LockMode, Request, Target};
pub use table::{LockTable, expired};
