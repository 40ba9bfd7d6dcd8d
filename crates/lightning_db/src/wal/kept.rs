//! The log files that can be read beside the log's own use: those of the current log, and older ones that
//! are kept for readers of changes. Which file holds which commits, what large values they refer to, and
//! who still needs them.
//!
//! 1. Files follow one another in commits; no commit between the first file's first and the newest is
//!    missing.
//! 2. A file is taken out of the list before it is removed or used again. Who reads it meanwhile finds
//!    records of its own use of the file, or none: their salt tells them apart.
//! 3. What is kept for a reader lives only as long as the list does; what is kept for a cursor is named by
//!    the manifest.
//!
//! One latch, held for look-ups; the commit section takes it when a file is begun and for large values.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind};
use crate::sync::Mutex;
use crate::types::{LogId, SegmentId, Seq};

/// A file of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFile {
    /// Its id.
    pub id: LogId,
    /// Its first commit.
    pub first: Seq,
    /// Its length.
    pub bytes: u64,
    /// The large values that it refers to, in stored bytes by segment.
    pub blobs: BTreeMap<SegmentId, u64>,
}

impl LogFile {
    /// A file that refers to no large values so far.
    pub fn new(id: LogId, first: Seq, bytes: u64) -> Self {
        Self { id, first, bytes, blobs: BTreeMap::new() }
    }
}

#[derive(Debug, Default)]
struct State {
    /// By commits.
    files: Vec<LogFile>,
    /// By ticket, the first commit that a reader has not read.
    readers: BTreeMap<u64, Seq>,
    next_ticket: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct LogFiles(Mutex<State>);

impl LogFiles {
    /// Adds the newest file.
    pub fn add(&self, file: LogFile) {
        let mut state = self.0.lock();
        // One that took no commit before the next was begun.
        state.files.retain(|f| f.first < file.first);
        state.files.push(file);
    }

    /// Notes that the newest file refers to a large value.
    pub fn note_blob(&self, segment: SegmentId, bytes: u64) {
        if let Some(file) = self.0.lock().files.last_mut() {
            *file.blobs.entry(segment).or_default() += bytes;
        }
    }

    /// The file that holds a commit, if it is in the list.
    pub fn holding(&self, seq: Seq) -> Option<LogId> {
        let state = self.0.lock();
        let after = state.files.partition_point(|f| f.first <= seq);
        after.checked_sub(1).map(|i| state.files[i].id)
    }

    /// Takes a file out of the list.
    pub fn remove(&self, gone: impl Fn(LogId) -> bool) {
        self.0.lock().files.retain(|f| !gone(f.id));
    }

    /// The files, by commits; with each the last commit that it can hold: for the newest, the last of all.
    pub fn list(&self, last: Seq) -> Vec<(LogFile, Seq)> {
        let state = self.0.lock();
        let ends = state.files.iter().skip(1).map(|next| Seq(next.first.0 - 1)).chain([last]);
        state.files.iter().cloned().zip(ends).collect()
    }

    /// The first commit that some reader has not read.
    pub fn needed_by_readers(&self) -> Option<Seq> {
        self.0.lock().readers.values().min().copied()
    }

    /// Adds files that are older than all that are listed.
    pub fn add_older(&self, older: impl Iterator<Item = LogFile>) {
        self.0.lock().files.splice(..0, older);
    }

    /// Registers a reader that goes on with `next`, or refuses it where that is kept no more. `last` is
    /// the last visible commit.
    pub fn register(&self, next: Seq, last: Seq) -> Result<u64, Error> {
        let mut state = self.0.lock();
        if next <= last && state.files.first().is_none_or(|f| f.first > next) {
            return Err(too_old(next, state.files.first().map(|f| f.first)));
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.readers.insert(ticket, next);
        Ok(ticket)
    }

    /// Notes how far a reader is.
    pub fn advance(&self, ticket: u64, next: Seq) {
        if let Some(at) = self.0.lock().readers.get_mut(&ticket) {
            *at = next;
        }
    }

    /// Ends a reader.
    pub fn unregister(&self, ticket: u64) {
        self.0.lock().readers.remove(&ticket);
    }

    /// The blob segments that files with a commit at or past `needed` refer to.
    pub fn blobs_from(&self, needed: Seq) -> Vec<SegmentId> {
        let state = self.0.lock();
        let before = state.files.partition_point(|f| f.first <= needed).saturating_sub(1);
        state.files[before..].iter().flat_map(|f| f.blobs.keys().copied()).collect()
    }

    /// The error for a commit whose record is kept no more.
    pub fn too_old(&self, seq: Seq) -> Error {
        too_old(seq, self.0.lock().files.first().map(|f| f.first))
    }
}

fn too_old(seq: Seq, oldest: Option<Seq>) -> Error {
    let message = match oldest {
        Some(oldest) => {
            format!("commit {seq} is in the log no more: the oldest that can be read is {oldest}")
        }
        None => format!("commit {seq} is in no log"),
    };
    Error::new(ErrorKind::TooOld, message)
}
