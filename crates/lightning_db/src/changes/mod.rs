//! Streams of changes: committed batches in order, read from the log at the reader's pace.
//!
//! | file | job |
//! |---|---|
//! | `stream` | a stream: where it begins, what it lets through, waiting |
//! | `cursors` | durable cursors, from which streams go on |

mod cursors;
mod stream;

pub use cursors::ChangeCursor;
pub use stream::{Change, ChangeKind, Changes, ChangesFrom, CommittedChanges};
