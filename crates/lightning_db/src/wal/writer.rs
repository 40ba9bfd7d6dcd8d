//! Appending to the log.
//!
//! 1. A record lies in one file. One that does not fit begins a new file, of its own size where it
//!    is larger than a segment.
//! 2. A new file is begun without waiting for what is in the one before: its header says whether that was durable.
//!    Its own header becomes durable with its first records; who names it in a manifest as the log's first sees to that
//!    before ([`LogSync::sync_with_files`]). Of the files before it only a few may wait to
//!    become durable. What fails before the header is written leaves the log as it was.
//! 3. A write that fails poisons the log, as does a sync: how much is there is not known. That goes
//!    for a header too: where it survives, the log goes on in its file, so that a record which then
//!    went to the old one would be read as a hole.
//! 4. Ids are never used twice, and files are begun in the order of their ids: one that could not be
//!    begun leaves a gap, one that was prepared too late becomes a spare.
//! 5. In an encrypted database each use of a file is sealed under a key of its own, at nonces that only
//!    grow: a record's offset.
//! 6. Nobody need wait in the section for a file to be made, for much to be synced, or for what was in a file
//!    that is used again to be read: see `prepare` and [`LogWriter::plan_ahead`].
//!
//! Callers hold the commit section.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::kept::{LogFile, LogFiles};
use super::layout::{
    FILE_HEADER_BYTES, FileHeader, FileRole, RECORD_BYTES, RecordHeader, SECOND_COPY, bound,
    record_space,
};
use super::prepare::{NextFile, Preparation, make_file};
use super::sync::LogSync;
use crate::crypto::{FileKind, Owner, Sealer, TAG_BYTES};
use crate::error::{Error, Result};
use crate::sync::atomic::Ordering;
use crate::types::{LogId, Seq};
use crate::vfs::{Vfs, VfsFile, write_all_at};

/// Old files kept for use again.
const SPARES: usize = 2;
/// Bytes after which what was appended is synced behind the calls.
const UPKEEP_BYTES: u64 = 4 * 1024 * 1024;
/// So many files before the current one may wait to become durable when another is begun: whoever begins it waits until they
/// are fewer, as the device does not keep up.
const MOST_BEHIND: usize = 2;
/// So much of the log's files is asked for before it is written to.
const AHEAD_BYTES: u64 = 16 * 1024 * 1024;

/// The path of a log file.
pub fn log_path(dir: &Path, id: LogId) -> PathBuf {
    dir.join("wal").join(format!("{:08}.wal", id.0))
}

/// How a log is written.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// Length of a file.
    pub segment_bytes: u64,
    /// Where its files are listed for readers.
    pub files: Arc<LogFiles>,
    /// Whether it is no log, but what a recovery keeps of one for readers of changes.
    pub for_readers: bool,
}

/// A log just made, before its two sides part.
#[derive(Debug)]
pub struct Log {
    writer: LogWriter,
}

/// A file of the log that may still be needed.
#[derive(Debug, Clone, Copy)]
struct LiveFile {
    id: LogId,
    /// The data key that it is under, where it is encrypted.
    epoch: Option<u32>,
    last: Seq,
    bytes: u64,
}

/// The side that appends.
#[derive(Debug)]
pub struct LogWriter {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    db: Owner,
    segment_bytes: u64,
    files: Arc<LogFiles>,
    /// What a file after the first is.
    role: FileRole,
    sync: Arc<LogSync>,
    file: Arc<dyn VfsFile>,
    capacity: u64,
    offset: u64,
    salt_crc: u32,
    sealer: Option<Sealer>,
    chain: u32,
    last: Seq,
    next_id: LogId,
    live: VecDeque<LiveFile>,
    spares: Vec<(LogId, u64)>,
    /// The file to go on in, made beforehand.
    next: Option<NextFile>,
    /// Whether one is being made.
    preparing: bool,
    /// Bytes appended since upkeep was last asked for.
    since_upkeep: u64,
    /// How far the current file was asked for.
    asked_to: u64,
    buffer: Vec<u8>,
}

/// Why a file could not be begun.
struct NotBegun {
    error: Error,
    /// Its header may be on the disk.
    with_header: bool,
}

struct Begun {
    file: Arc<dyn VfsFile>,
    capacity: u64,
    salt_crc: u32,
    sealer: Option<Sealer>,
    chain: u32,
}

impl Log {
    /// Begins a log of its own with the file `id`, whose first commit will be `first_seq`. The
    /// file and its name are durable when this returns.
    pub fn create(
        vfs: &Arc<dyn Vfs>,
        dir: &Path,
        db: &Owner,
        id: LogId,
        first_seq: Seq,
        manifest_edit: u64,
        options: LogOptions,
    ) -> Result<Self> {
        let capacity = options.segment_bytes.max(2 * FILE_HEADER_BYTES as u64);
        let header = FileHeader {
            role: if options.for_readers { FileRole::Kept } else { FileRole::Fresh },
            db: db.id(),
            id,
            salt: random_salt(&**vfs, dir)?,
            key_salt: db.draw_salt(&**vfs, dir)?,
            manifest_edit,
            first_seq,
            chain: 0,
        };
        let epoch = header.key_salt.map(|s| s.epoch);
        let begun = begin(vfs, dir, db, &header, capacity, None).map_err(|e| e.error)?;
        begun.file.sync_data().map_err(|e| {
            let path = log_path(dir, id);
            // No record can be in it, so nothing depends on whether this goes well.
            let _ = vfs.remove_file(&path);
            Error::io(&path, "sync", e)
        })?;
        let last = Seq(first_seq.0.saturating_sub(1));
        let sync = LogSync::new(Arc::clone(vfs), Arc::clone(&begun.file), last, manifest_edit);
        options.files.add(LogFile::new(id, first_seq, capacity));
        let writer = LogWriter {
            vfs: Arc::clone(vfs),
            dir: dir.to_path_buf(),
            db: db.clone(),
            segment_bytes: capacity,
            files: options.files,
            role: if options.for_readers { FileRole::Kept } else { FileRole::GoesOn },
            sync: Arc::new(sync),
            file: begun.file,
            capacity: begun.capacity,
            offset: FILE_HEADER_BYTES as u64,
            salt_crc: begun.salt_crc,
            sealer: begun.sealer,
            chain: begun.chain,
            last,
            next_id: id.next(),
            live: VecDeque::from([LiveFile { id, epoch, last, bytes: capacity }]),
            spares: Vec::new(),
            next: None,
            preparing: false,
            since_upkeep: 0,
            asked_to: 0,
            buffer: Vec::new(),
        };
        Ok(Self { writer })
    }

    /// The appending side and the shared side.
    pub fn split(self) -> (LogWriter, Arc<LogSync>) {
        let sync = Arc::clone(&self.writer.sync);
        (self.writer, sync)
    }
}

fn random_salt(vfs: &dyn Vfs, dir: &Path) -> Result<[u8; 16]> {
    let mut salt = [0; 16];
    vfs.fill_random(&mut salt).map_err(|e| Error::io(dir, "draw a random salt", e))?;
    Ok(salt)
}

/// Makes a file ready for records: where it was not prepared it is made, from a spare one where there
/// is one of the right length.
///
/// Where that fails the file is removed if it can be. Without a header it is no part of the log; with
/// one, the log may take no more records.
fn begin(
    vfs: &Arc<dyn Vfs>,
    dir: &Path,
    db: &Owner,
    header: &FileHeader,
    capacity: u64,
    from: Option<From>,
) -> std::result::Result<Begun, NotBegun> {
    let path = log_path(dir, header.id);
    let mut with_header = false;
    let result = (|| {
        let file = match from {
            Some(From::Prepared(file)) => file,
            Some(From::Spare(spare)) => make_file(vfs, dir, header.id, capacity, Some(spare))?,
            None => make_file(vfs, dir, header.id, capacity, None)?,
        };
        let sealer = db.sealer(header.key_salt.as_ref(), FileKind::Log, &header.bound(), &path)?;
        let (bytes, crc) = header.encode();
        with_header = true;
        write_all_at(&*file, &bytes, 0)?;
        write_all_at(&*file, &bytes, SECOND_COPY as u64)?;
        let salt_crc = crc32c::crc32c(&header.salt);
        Ok(Begun { file, capacity, salt_crc, sealer, chain: crc })
    })();
    result.map_err(|error| {
        // No record can be in it, so nothing depends on whether this goes well.
        let _ = vfs.remove_file(&path);
        NotBegun { error, with_header }
    })
}

/// What a file is begun from.
enum From {
    Prepared(Arc<dyn VfsFile>),
    Spare(LogId),
}

impl LogWriter {
    /// Whether a body of so many bytes fits into the current file.
    pub fn fits(&self, body_bytes: usize) -> bool {
        let tag = self.sealer.as_ref().map_or(0, |_| TAG_BYTES);
        self.offset + record_space(body_bytes + tag) <= self.capacity
    }

    /// Appends the record of commit `seq`, the one after the last. Only with `CommitUnknown` may it be
    /// there after an error.
    pub fn append(&mut self, seq: Seq, body: &[u8], body_crc: u32) -> Result<()> {
        debug_assert_eq!(seq, self.last.next(), "commits are appended in order");
        let stored_bytes = body.len() + self.sealer.as_ref().map_or(0, |_| TAG_BYTES);
        let space = record_space(stored_bytes);
        if self.offset + space > self.capacity {
            self.roll(seq, space)?;
        }
        let mut header = RecordHeader {
            body_crc,
            body_bytes: stored_bytes as u32,
            chain: self.chain,
            seq,
            durable: self.sync.durable_seq(),
        };
        self.buffer.clear();
        self.buffer.extend_from_slice(&[0; RECORD_BYTES]);
        self.buffer.extend_from_slice(body);
        if let Some(sealer) = &mut self.sealer {
            let bound = bound(&header.encode(self.salt_crc, self.offset).0, self.offset);
            let tag = sealer.seal(self.offset, &bound, &mut self.buffer[RECORD_BYTES..])?;
            self.buffer.extend_from_slice(&tag);
            header.body_crc = crc32c::crc32c(&self.buffer[RECORD_BYTES..]);
        }
        let (bytes, crc) = header.encode(self.salt_crc, self.offset);
        self.buffer[..RECORD_BYTES].copy_from_slice(&bytes);
        self.buffer.resize((RECORD_BYTES + stored_bytes).next_multiple_of(8), 0);
        let written = write_all_at(&*self.file, &self.buffer, self.offset);
        if self.buffer.capacity() > 1024 * 1024 {
            self.buffer = Vec::new();
        }
        if let Err(e) = written {
            self.sync.poison(&e);
            let kind = crate::error::ErrorKind::CommitUnknown;
            return Err(
                Error::new(kind, "the log failed while the commit was written").caused_by(e)
            );
        }
        self.offset += space;
        self.since_upkeep += space;
        self.chain = crc;
        self.last = seq;
        self.live.back_mut().expect("the current file is live").last = seq;
        self.sync.appended(seq);
        self.sync.records.fetch_add(1, Ordering::Relaxed);
        self.sync.bytes.fetch_add(space, Ordering::Relaxed);
        Ok(())
    }

    /// Goes on in a new file.
    fn roll(&mut self, first_seq: Seq, space: u64) -> Result<()> {
        if let Some(e) = self.sync.poisoned() {
            return Err(e);
        }
        self.sync.wait_for_behind(MOST_BEHIND)?;
        // Nothing is appended meanwhile, so this stays true once it is.
        let durable = self.sync.is_all_durable(self.last);
        let salt = random_salt(&*self.vfs, &self.dir)?;
        let key_salt = self.db.draw_salt(&*self.vfs, &self.dir)?;
        let needed = FILE_HEADER_BYTES as u64 + space;
        let mut asked_to = 0;
        let (id, capacity, from) = match self.next.take() {
            Some(next) if next.capacity >= needed => {
                asked_to = next.asked_to;
                (next.id, next.capacity, Some(From::Prepared(next.file)))
            }
            other => {
                // Too small for this record.
                self.spares.extend(other.map(|next| (next.id, next.capacity)));
                let capacity = self.segment_bytes.max(needed);
                let spare = self.take_spare(capacity);
                (self.new_id(), capacity, spare.map(From::Spare))
            }
        };
        let spare = match &from {
            Some(From::Spare(id)) => Some(*id),
            _ => None,
        };
        let role = match self.role {
            FileRole::GoesOn if !durable => FileRole::GoesOnEarly,
            role => role,
        };
        let header = FileHeader {
            role,
            db: self.db.id(),
            id,
            salt,
            key_salt,
            manifest_edit: self.sync.manifest_edit(),
            first_seq,
            chain: self.chain,
        };
        let begun =
            begin(&self.vfs, &self.dir, &self.db, &header, capacity, from).map_err(|e| {
                if e.with_header {
                    self.sync.poison(&e.error);
                }
                let is_left = |id| self.vfs.exists(&log_path(&self.dir, id)).unwrap_or(false);
                if let Some(spare) = spare.filter(|id| is_left(*id)) {
                    self.spares.push((spare, capacity));
                }
                e.error
            })?;
        self.sync.set_file(Arc::clone(&begun.file), durable);
        self.file = begun.file;
        self.capacity = begun.capacity;
        self.offset = FILE_HEADER_BYTES as u64;
        self.asked_to = asked_to;
        self.salt_crc = begun.salt_crc;
        self.sealer = begun.sealer;
        self.chain = begun.chain;
        let epoch = header.key_salt.map(|s| s.epoch);
        self.live.push_back(LiveFile { id, epoch, last: self.last, bytes: capacity });
        self.files.add(LogFile::new(id, first_seq, capacity));
        Ok(())
    }

    /// Whether a file that may be needed is under an older data key than `newest`.
    pub fn has_aged(&self, newest: u32) -> bool {
        self.live.iter().any(|f| f.epoch.is_some_and(|e| e < newest))
    }

    /// Goes on in a new file where the current one is under an older data key than `newest`.
    pub fn leave_aged(&mut self, newest: u32) -> Result<()> {
        let current = self.live.back().expect("the current file is live");
        if current.epoch.is_some_and(|e| e < newest) {
            self.roll(self.last.next(), 0)
        } else {
            Ok(())
        }
    }

    fn new_id(&mut self) -> LogId {
        let id = self.next_id;
        self.next_id = id.next();
        id
    }

    fn take_spare(&mut self, capacity: u64) -> Option<LogId> {
        let at = self.spares.iter().position(|(_, bytes)| *bytes == capacity)?;
        Some(self.spares.swap_remove(at).0)
    }

    /// Whether it is time for upkeep: once in a while, by bytes appended.
    pub fn take_upkeep_due(&mut self) -> bool {
        let due = self.since_upkeep >= UPKEEP_BYTES.min(self.segment_bytes / 4);
        if due {
            self.since_upkeep = 0;
        }
        due
    }

    /// The last commit appended.
    pub fn last(&self) -> Seq {
        self.last
    }

    /// The current file, and where its last record ends.
    pub fn position(&self) -> (LogId, u64) {
        (self.live.back().expect("the current file is live").id, self.offset)
    }

    /// What it takes to have the next file ready, where there is none.
    pub fn plan_next(&mut self) -> Option<Preparation> {
        if self.next.is_some() || self.preparing {
            return None;
        }
        self.preparing = true;
        let capacity = self.segment_bytes;
        let spare = self.take_spare(capacity);
        let id = self.new_id();
        Some(Preparation::new(&self.vfs, &self.dir, id, capacity, spare))
    }

    /// Pieces of the current file and of the next, each as offset and length, that will be written to soon and were
    /// not asked for: a page of a file that is used again is read before a part of it is written, and where
    /// it is on the disk alone the commit would wait for that.
    pub fn plan_ahead(&mut self) -> Vec<(Arc<dyn VfsFile>, u64, u64)> {
        let mut pieces = Vec::new();
        let mut ask = |file: &Arc<dyn VfsFile>, asked_to: &mut u64, from: u64, to: u64| {
            let from = from.max(*asked_to);
            if from < to {
                pieces.push((Arc::clone(file), from, to - from));
                *asked_to = to;
            }
        };
        let to = self.offset.saturating_add(AHEAD_BYTES);
        ask(&self.file, &mut self.asked_to, self.offset, to.min(self.capacity));
        if let Some(next) = &mut self.next {
            let to = to.saturating_sub(self.capacity).min(next.capacity);
            ask(&next.file, &mut next.asked_to, 0, to);
        }
        pieces
    }

    /// Takes what became of a plan. A file that comes too late is kept for use again.
    pub fn offer_next(&mut self, made: Option<NextFile>) {
        self.preparing = false;
        let Some(made) = made else { return };
        let current = self.live.back().expect("the current file is live").id;
        if made.id > current {
            self.next = Some(made);
        } else {
            self.spares.push((made.id, made.capacity));
        }
    }

    /// The first file that must stay when everything up to `below` is in runs. Its header may not be durable yet.
    pub fn first_needed(&self, below: Seq) -> LogId {
        let current = self.live.back().expect("the current file is live").id;
        self.live.iter().find(|f| f.last > below).map_or(current, |f| f.id)
    }

    /// Gives up the files before `first`, which the manifest no longer names as the log's: those that
    /// are kept for readers stay, some are kept for use again, the paths of the others returned: they
    /// are to be removed, outside the section.
    pub fn retire(&mut self, first: LogId, is_kept: impl Fn(LogId) -> bool) -> Vec<PathBuf> {
        let mut gone = Vec::new();
        while self.live.front().is_some_and(|f| f.id < first) && self.live.len() > 1 {
            let file = self.live.pop_front().expect("just seen");
            if is_kept(file.id) {
                continue;
            }
            if self.spares.len() < SPARES && file.bytes == self.segment_bytes {
                self.spares.push((file.id, file.bytes));
                continue;
            }
            gone.push(log_path(&self.dir, file.id));
        }
        gone
    }

    /// Bytes of the files that may still be needed.
    pub fn bytes(&self) -> u64 {
        self.live.iter().map(|f| f.bytes).sum()
    }

    /// Makes everything durable, for a clean close.
    pub fn close(self) -> Result<()> {
        self.sync.sync_to(self.last)
    }
}
