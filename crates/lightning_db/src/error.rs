//! One error type for the whole crate: small, typed by the caller's reaction, with file and offset.
//!
//! Messages name files, offsets, options and lengths; never the bytes of keys or values.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::codec::Malformed;

/// The result of every fallible call.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, with a [`kind`](Error::kind) for each reaction a caller can have.
pub struct Error(Box<Detail>);

struct Detail {
    kind: ErrorKind,
    message: String,
    file: Option<PathBuf>,
    offset: Option<u64>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The reactions a caller can have to an [`Error`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The database, keyspace or file does not exist: create it, or correct the name.
    NotFound,
    /// It exists already: open it, or choose another name.
    AlreadyExists,
    /// An argument cannot be meant: correct the call.
    InvalidArgument,
    /// An option has an impossible value or an unknown name: correct the configuration.
    InvalidConfig,
    /// Keys have at least one byte.
    EmptyKey,
    /// The key is over the limit; nothing was written.
    KeyTooLarge,
    /// The value is over the limit; nothing was written.
    ValueTooLarge,
    /// The commit is over the limit; nothing was written. Split it.
    TransactionTooLarge,
    /// `max_active_transactions` are open: finish one, then begin again. Retryable.
    TooManyTransactions,
    /// The transaction id was never given out, or is finished.
    UnknownTransaction,
    /// The keyspace has no merge operator, or its operator is not registered at this open: register it
    /// under that name. Reads of other keys, writes, flushes and merges go on.
    NoMergeOperator,
    /// The merge operator returned an error or panicked on this key. Nothing is lost: correct the
    /// operator, or put the key anew.
    MergeFailed,
    /// Another transaction committed a key first; nothing was written. Retry the transaction.
    Conflict,
    /// A unique index has another row with the same index key; nothing was written.
    UniqueViolation,
    /// The index is not built to its end yet, or was not yet at the moment that is read: wait, or
    /// continue its build with `create_index`.
    IndexNotReady,
    /// An index needs a function that is not registered (or a feature that this build lacks): it
    /// cannot be read, and its keyspace takes no writes. Open the database with the function, or
    /// drop the index.
    MissingExtractor,
    /// Waiting for a lock would have closed a cycle of transactions that wait for each other; this
    /// one was chosen to give way. Abort it and retry.
    Deadlock,
    /// The transaction or the wait took longer than allowed. Retry it.
    TimedOut,
    /// A moment or commit that is kept no more: the message names the oldest that is. Begin there.
    TooOld,
    /// Bytes on disk are not what was written there. The rest stays readable; restore or repair.
    Corrupt,
    /// The operating system failed the call.
    Io,
    /// The disk, a quota or a file-size limit is full; nothing was written. Free space and retry.
    StorageFull,
    /// The database is encrypted, and no key was given: give its key.
    KeyRequired,
    /// The key is not the one that the database was encrypted with; nothing was touched.
    WrongKey,
    /// A key was given for a database that is not encrypted: open it without one.
    NotEncrypted,
    /// Another process or handle has the database open.
    Locked,
    /// The handle was opened read-only.
    ReadOnly,
    /// The files are of a format version, or use a feature, that this build does not know.
    UnsupportedFormat,
    /// The device failed while this commit was being made durable: it may or may not survive.
    /// Reopen the database and look.
    CommitUnknown,
    /// An earlier failure of the device stopped writes; reads go on. Reopen the database.
    Poisoned,
    /// The database was closed.
    Closed,
    /// Memory for a request of user-given size could not be had.
    OutOfMemory,
}

impl ErrorKind {
    /// Whether the same call may succeed when tried again, with nothing else changed.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Conflict | Self::Deadlock | Self::TimedOut | Self::TooManyTransactions)
    }
}

impl Error {
    /// An error of `kind`; `message` is a sentence without a full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Detail {
            kind,
            message: message.into(),
            file: None,
            offset: None,
            source: None,
        }))
    }

    /// Damage found in `file` at `offset`.
    pub fn corrupt(file: &Path, offset: u64, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message).in_file(file).at_offset(offset)
    }

    /// An operating system error met while doing `what` to `file`; its kind is chosen by the
    /// system's code (full disk and quota: `StorageFull`, and so on).
    pub fn io(file: &Path, what: &str, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => ErrorKind::StorageFull,
            io::ErrorKind::OutOfMemory => ErrorKind::OutOfMemory,
            _ => ErrorKind::Io,
        };
        let mut e = Self::new(kind, format!("could not {what}")).in_file(file);
        e.0.source = Some(Box::new(source));
        e
    }

    /// Adds the file.
    #[must_use]
    pub fn in_file(mut self, file: &Path) -> Self {
        self.0.file = Some(file.to_path_buf());
        self
    }

    /// Adds the byte offset in the file.
    #[must_use]
    pub fn at_offset(mut self, offset: u64) -> Self {
        self.0.offset = Some(offset);
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn caused_by(mut self, e: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Box::new(e));
        self
    }

    /// Changes the kind, keeping everything else.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same call may succeed when tried again.
    pub fn is_retryable(&self) -> bool {
        self.0.kind.is_retryable()
    }

    /// The message alone, without file, offset and cause.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The file it happened in, where there is one.
    pub fn file(&self) -> Option<&Path> {
        self.0.file.as_deref()
    }

    /// The byte offset in [`file`](Self::file), where there is one.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }
}

/// Turns malformed bytes of `file` at `offset` into `Corrupt`.
pub fn malformed_in(file: &Path, offset: u64) -> impl Fn(Malformed) -> Error {
    move |m| Error::corrupt(file, offset, m.0)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if let Some(file) = &self.0.file {
            write!(f, " [{}", file.display())?;
            if let Some(offset) = self.0.offset {
                write!(f, " at byte {offset}")?;
            }
            f.write_str("]")?;
        }
        if let Some(source) = &self.0.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|s| s.as_ref() as _)
    }
}
