//! Opening: create, recover, read-only; and destroying.
//!
//! For writing, in this order, so that a crash at any point leaves the old state whole:
//!
//! 1. the lock is taken; CURRENT leads to the manifest, the manifest to rows and the log's start; every
//!    segment that it names is opened, so that one that cannot be read is met before anything is written;
//! 2. the log is read to its accepted end, into memtables; large values that only the log refers
//!    to are written anew, since what was read may exist only in the system's page cache;
//! 3. what cursors of changes still need of the log is written to files of its own; the memtables are
//!    written as runs and fsynced: the accepted end is durable anew;
//! 4. a fresh log segment and a fresh manifest that names all of this are written and fsynced,
//!    then CURRENT is swapped: the one step by which the recovery becomes true;
//! 5. only then is removed what the new manifest does not name.
//!
//! Read-only stops after 2, and writes nothing at all.

mod assemble;
#[cfg(test)]
mod codec_tests;
pub(crate) mod directory;
mod kept;
mod open;
mod replay;

pub use directory::destroy;
pub use open::open;

/// What to do with the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenAs {
    /// There must be no database.
    Create,
    /// There must be a database.
    Open,
    /// Either.
    OpenOrCreate,
    /// There must be a database; nothing is written.
    ReadOnly,
}
