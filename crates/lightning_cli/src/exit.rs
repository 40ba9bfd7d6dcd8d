//! Failures on their way out, and the exit code of each: one table, one match.
//!
//! 1. Every failure has a code from [`CODES`]; scripts may rely on them.
//! 2. A reader that closes the pipe (`… | head`) is not a failure: the command ends quietly.

use std::io;
use std::path::Path;

use lightning_db::{Error, ErrorKind};
use serde_json::json;

use crate::args::Format;

/// Every exit code and what it tells, as `--help` shows it.
pub const CODES: &[(u8, &str)] = &[
    (0, "done"),
    (1, "another failure"),
    (2, "usage: the command line is not understood"),
    (3, "not found: database, keyspace, key or file"),
    (4, "already exists, or a unique index has it already"),
    (5, "invalid argument, option, configuration or input; over a limit"),
    (6, "corrupt: damage found"),
    (7, "the operating system failed a read or write"),
    (8, "storage full: disk, quota or file-size limit"),
    (9, "locked: the database is open elsewhere"),
    (10, "unsupported format version or feature"),
    (11, "conflict or time-out: try again"),
    (12, "read-only"),
    (13, "the device failed: reopen the database and look"),
    (14, "closed"),
    (15, "out of memory"),
    (16, "too old: what was asked for is kept no more"),
    (17, "the key of an encrypted database is missing, wrong or not wanted"),
];

/// The exit code for a kind of error.
pub fn code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::NotFound => 3,
        // Of a database, or of a row with a unique index key.
        ErrorKind::AlreadyExists | ErrorKind::UniqueViolation => 4,
        ErrorKind::InvalidArgument
        | ErrorKind::InvalidConfig
        | ErrorKind::EmptyKey
        | ErrorKind::KeyTooLarge
        | ErrorKind::ValueTooLarge
        | ErrorKind::TransactionTooLarge
        | ErrorKind::IndexNotReady
        | ErrorKind::NoMergeOperator
        | ErrorKind::MergeFailed
        | ErrorKind::UnknownTransaction => 5,
        ErrorKind::Corrupt => CORRUPT,
        ErrorKind::Io => 7,
        ErrorKind::StorageFull => 8,
        ErrorKind::Locked => 9,
        ErrorKind::UnsupportedFormat | ErrorKind::MissingExtractor => 10,
        ErrorKind::Conflict
        | ErrorKind::Deadlock
        | ErrorKind::TimedOut
        | ErrorKind::TooManyTransactions => 11,
        ErrorKind::ReadOnly => 12,
        ErrorKind::CommitUnknown | ErrorKind::Poisoned => 13,
        ErrorKind::KeyRequired | ErrorKind::WrongKey | ErrorKind::NotEncrypted => 17,
        ErrorKind::Closed => 14,
        ErrorKind::OutOfMemory => 15,
        ErrorKind::TooOld => 16,
        // The engine may learn new kinds before this table does.
        _ => 1,
    }
}

/// The code of a check that found damage, and of an error of that kind.
pub const CORRUPT: u8 = 6;

/// The exit codes as a paragraph of `--help`.
pub fn codes_help() -> String {
    let lines: Vec<_> = CODES.iter().map(|(code, what)| format!("  {code:>2}  {what}")).collect();
    format!("Exit codes:\n{}", lines.join("\n"))
}

/// Why a command ended early.
#[derive(Debug)]
pub enum Stop {
    /// It failed.
    Failed(Error),
    /// Whoever read the output has gone.
    PipeClosed,
}

/// The result of a command's steps.
pub type Outcome<T> = Result<T, Stop>;

impl From<Error> for Stop {
    fn from(e: Error) -> Self {
        Self::Failed(e)
    }
}

impl Stop {
    /// An argument or input that cannot be meant.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Failed(Error::new(ErrorKind::InvalidArgument, message))
    }

    /// A line of an input that cannot be taken.
    pub fn line(file: &Path, line: u64, why: impl std::fmt::Display) -> Self {
        let message = format!("line {line}: {why}");
        Self::Failed(Error::new(ErrorKind::InvalidArgument, message).in_file(file))
    }

    /// Writing the output failed.
    pub fn output(file: &Path, e: io::Error) -> Self {
        if e.kind() == io::ErrorKind::BrokenPipe {
            return Self::PipeClosed;
        }
        Self::Failed(Error::io(file, "write", e))
    }

    /// Tells standard error, and gives the exit code.
    pub fn report(&self, format: Format) -> u8 {
        match self {
            Self::PipeClosed => 0,
            Self::Failed(e) => {
                match format {
                    Format::Text => eprintln!("error: {e}"),
                    Format::Json => eprintln!("{}", error_json(e)),
                }
                code(e.kind())
            }
        }
    }
}

fn error_json(e: &Error) -> serde_json::Value {
    json!({"error": {
        "kind": format!("{:?}", e.kind()),
        "message": e.to_string(),
        "file": e.file().map(|f| f.display().to_string()),
        "offset": e.offset(),
        "retryable": e.is_retryable(),
    }})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_documented_code() {
        use ErrorKind as K;
        let kinds = [
            K::NotFound,
            K::AlreadyExists,
            K::InvalidArgument,
            K::InvalidConfig,
            K::EmptyKey,
            K::KeyTooLarge,
            K::ValueTooLarge,
            K::TransactionTooLarge,
            K::TooManyTransactions,
            K::UniqueViolation,
            K::IndexNotReady,
            K::MissingExtractor,
            K::UnknownTransaction,
            K::Conflict,
            K::Deadlock,
            K::TimedOut,
            K::Corrupt,
            K::Io,
            K::StorageFull,
            K::Locked,
            K::ReadOnly,
            K::UnsupportedFormat,
            K::CommitUnknown,
            K::Poisoned,
            K::Closed,
            K::OutOfMemory,
            K::TooOld,
            K::WrongKey,
            K::KeyRequired,
            K::NotEncrypted,
        ];
        let mut used: Vec<u8> = kinds.map(code).to_vec();
        assert!(used.iter().all(|c| *c > 2), "no known kind falls through: {used:?}");
        used.extend([0, 1, 2]);
        used.sort_unstable();
        used.dedup();
        assert_eq!(used, CODES.iter().map(|(code, _)| *code).collect::<Vec<_>>());
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let stop = Stop::output(Path::new("-"), io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(matches!(stop, Stop::PipeClosed));
        assert_eq!(stop.report(Format::Text), 0);
        let stop = Stop::output(Path::new("-"), io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(stop.report(Format::Text), 8);
    }
}
