//! The database for asynchronous programs, whatever runs their futures.
//!
//! | file | job |
//! |---|---|
//! | `pool` | the threads, and the queue before them |
//! | `call` | a call on one of the threads, as a future |
//! | `inner` | what all handles share; reads that try memory first, and writes that need not wait |
//! | `quiet` | what removes no file when it drops |
//! | `database` | [`AsyncDatabase`] |
//! | `keyspace` | [`AsyncKeyspace`] |
//! | `snapshot` | [`AsyncSnapshot`] |
//! | `range` | [`AsyncRange`]: entries, a piece at a time |

mod call;
mod database;
mod inner;
mod keyspace;
mod pool;
mod quiet;
mod range;
mod snapshot;

pub use database::{AsyncDatabase, AsyncOptions};
pub use keyspace::AsyncKeyspace;
pub use range::AsyncRange;
pub use snapshot::AsyncSnapshot;
