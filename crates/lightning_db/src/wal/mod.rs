//! The log: commits in order, durable when fsynced, read back after a crash.
//!
//! | file | job |
//! |---|---|
//! | `layout` | every byte of a log file's header and of a record |
//! | `writer` | appends, begins new files, gives old ones up or uses them again |
//! | `kept` | which files can be read, and who needs them |
//! | `reader` | reads commits back while the log is written |
//! | `prepare` | makes the next file before it is needed |
//! | `sync` | one fsync for all who wait; poisoning |
//! | `recovery` | reads the log to its end, and tells the end from damage |

mod kept;
mod layout;
mod prepare;
mod reader;
mod recovery;
mod sync;
#[cfg(test)]
mod tests;
mod writer;

pub use kept::{LogFile, LogFiles};
pub use layout::FILE_HEADER_BYTES;
#[cfg(feature = "fuzzing")]
pub use layout::repair;
pub use reader::{LogReader, epoch_of};
pub use recovery::{LogRecovery, Visit};
pub use sync::LogSync;
pub use writer::{Log, LogOptions, LogWriter, log_path};
