//! Work that goes on behind the calls: flushing, merging, cleaning, and the pace of writers.
//!
//! | file | job |
//! |---|---|
//! | `catalog` | keyspaces made and dropped |
//! | `core` | what all handles of an open database share |
//! | `indexes` | secondary indexes: their upkeep with every commit, making, building, dropping them |
//! | `kept_log` | log files kept for readers of changes |
//! | `open_transactions` | the transactions that are open: their bound, their time-outs |
//! | `row_by_row` | range deletes where there is a merge operator |
//! | `write` | the way of a write |
//! | `work` | one step of each kind of work |
//! | `scheduler` | the threads that take the steps |
//! | `rekey` | the data keys of an encrypted database changed, everything written anew |
//! | `pacing` | how writers are slowed, smoothly, when the work is behind |

pub mod catalog;
pub mod core;
pub mod file_jobs;
pub mod indexes;
pub mod ingest;
pub mod kept_log;
pub mod open_transactions;
pub mod pacing;
pub mod rekey;
pub mod row_by_row;
pub mod scheduler;
pub mod work;
pub mod write;
