//! Work that goes on behind the calls: flushing, merging, cleaning, and the pace of writers.
//!
//! | file | job |
//! |---|---|
//! | `catalog` | keyspaces made and dropped |
//! | `core` | what all handles of an open database share |
//! | `file_jobs` | calls that write files of their own, which closing waits for |
//! | `indexes` | secondary indexes: their upkeep with every commit, making, building, dropping them |
//! | `ingest` | entries in order, built into partitions past log and memtables |
//! | `kept_log` | log files kept for readers of changes |
//! | `open_transactions` | the transactions that are open: their bound, their time-outs |
//! | `put_stream` | a value that comes as a stream, on its way into blob pages |
//! | `row_by_row` | range deletes where there is a merge operator |
//! | `write` | the way of a write |
//! | `write_now` | a write that waits for nothing, or is not done |
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
pub mod put_stream;
pub mod rekey;
pub mod row_by_row;
pub mod scheduler;
pub mod work;
pub mod write;
pub mod write_now;
