//! Appending to the log.
//!
//! 1. A record lies in one file. One that does not fit begins a new file, of its own size where it
//!    is larger than a segment.
//! 2. A new file is begun only when everything in the old one is durable; its header is durable
//!    before its first record. What fails before the header is written leaves the log as it was.
//! 3. A write that fails poisons the log, as does a sync: how much is there is not known. That goes
//!    for a header too: where it survives, the log goes on in its file, so that a record which then
//!    went to the old one would be read as a hole.
//! 4. Ids are never used twice: a file that could not be begun leaves a gap.
//!
//! Callers hold the commit section.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::layout::{
    FILE_HEADER_BYTES, FileHeader, RECORD_BYTES, RecordHeader, SECOND_COPY, record_space,
};
use super::sync::LogSync;
use crate::error::{Error, Result};
use crate::sync::atomic::Ordering;
use crate::types::{DatabaseId, LogId, Seq};
use crate::vfs::{Vfs, VfsFile, write_all_at};

/// Old files kept for use again.
const SPARES: usize = 2;

/// The path of a log file.
pub fn log_path(dir: &Path, id: LogId) -> PathBuf {
    dir.join("wal").join(format!("{:08}.wal", id.0))
}

/// How a log is written.
#[derive(Debug, Clone, Copy)]
pub struct LogOptions {
    /// Length of a file.
    pub segment_bytes: u64,
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
    last: Seq,
    bytes: u64,
}

/// The side that appends.
#[derive(Debug)]
pub struct LogWriter {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    db: DatabaseId,
    segment_bytes: u64,
    sync: Arc<LogSync>,
    file: Arc<dyn VfsFile>,
    capacity: u64,
    offset: u64,
    salt_crc: u32,
    chain: u32,
    last: Seq,
    next_id: LogId,
    live: VecDeque<LiveFile>,
    spares: Vec<(LogId, u64)>,
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
    chain: u32,
}

impl Log {
    /// Begins a log of its own with the file `id`, whose first commit will be `first_seq`. The
    /// file and its name are durable when this returns.
    pub fn create(
        vfs: &Arc<dyn Vfs>,
        dir: &Path,
        db: DatabaseId,
        id: LogId,
        first_seq: Seq,
        manifest_edit: u64,
        options: LogOptions,
    ) -> Result<Self> {
        let capacity = options.segment_bytes.max(2 * FILE_HEADER_BYTES as u64);
        let header = FileHeader {
            fresh: true,
            db,
            id,
            salt: random_salt(&**vfs, dir)?,
            manifest_edit,
            first_seq,
            chain: 0,
        };
        let begun = begin(vfs, dir, &header, capacity, None).map_err(|e| e.error)?;
        let last = Seq(first_seq.0.saturating_sub(1));
        let sync = LogSync::new(Arc::clone(vfs), Arc::clone(&begun.file), last, manifest_edit);
        let writer = LogWriter {
            vfs: Arc::clone(vfs),
            dir: dir.to_path_buf(),
            db,
            segment_bytes: capacity,
            sync: Arc::new(sync),
            file: begun.file,
            capacity: begun.capacity,
            offset: FILE_HEADER_BYTES as u64,
            salt_crc: begun.salt_crc,
            chain: begun.chain,
            last,
            next_id: id.next(),
            live: VecDeque::from([LiveFile { id, last, bytes: capacity }]),
            spares: Vec::new(),
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

/// Makes a file ready for records, from a spare one where there is one of the right length.
///
/// Where that fails the file is removed if it can be. Without a header it is no part of the log; with
/// one, the log may take no more records.
fn begin(
    vfs: &Arc<dyn Vfs>,
    dir: &Path,
    header: &FileHeader,
    capacity: u64,
    spare: Option<LogId>,
) -> std::result::Result<Begun, NotBegun> {
    let path = log_path(dir, header.id);
    let names = dir.join("wal");
    let mut with_header = false;
    let result = (|| {
        let file = if let Some(spare) = spare {
            let old = log_path(dir, spare);
            vfs.rename(&old, &path).map_err(|e| Error::io(&old, "rename", e))?;
            vfs.open_log_for_reuse(&path, capacity).map_err(|e| Error::io(&path, "open", e))?
        } else {
            vfs.create_log(&path, capacity).map_err(|e| Error::io(&path, "create", e))?
        };
        vfs.sync_dir(&names).map_err(|e| Error::io(&names, "sync the directory", e))?;
        let (bytes, crc) = header.encode();
        with_header = true;
        write_all_at(&*file, &bytes, 0)?;
        write_all_at(&*file, &bytes, SECOND_COPY as u64)?;
        file.sync_data().map_err(|e| Error::io(&path, "sync", e))?;
        let salt_crc = crc32c::crc32c(&header.salt);
        Ok(Begun { file, capacity, salt_crc, chain: crc })
    })();
    result.map_err(|error| {
        // No record can be in it, so nothing depends on whether this goes well.
        let _ = vfs.remove_file(&path);
        NotBegun { error, with_header }
    })
}

impl LogWriter {
    /// Appends the record of commit `seq`, the one after the last. Only with `CommitUnknown` may it be
    /// there after an error.
    pub fn append(&mut self, seq: Seq, body: &[u8], body_crc: u32) -> Result<()> {
        debug_assert_eq!(seq, self.last.next(), "commits are appended in order");
        let space = record_space(body.len());
        if self.offset + space > self.capacity {
            self.roll(seq, space)?;
        }
        let header = RecordHeader {
            body_crc,
            body_bytes: body.len() as u32,
            chain: self.chain,
            seq,
            durable: self.sync.durable_seq(),
        };
        let (bytes, crc) = header.encode(self.salt_crc, self.offset);
        self.buffer.clear();
        self.buffer.extend_from_slice(&bytes);
        self.buffer.extend_from_slice(body);
        self.buffer.resize((RECORD_BYTES + body.len()).next_multiple_of(8), 0);
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
        self.chain = crc;
        self.last = seq;
        self.live.back_mut().expect("the current file is live").last = seq;
        self.sync.appended(seq);
        self.sync.records.fetch_add(1, Ordering::Relaxed);
        self.sync.bytes.fetch_add(space, Ordering::Relaxed);
        Ok(())
    }

    /// Goes on in a new file, once everything in the old one is durable.
    fn roll(&mut self, first_seq: Seq, space: u64) -> Result<()> {
        self.sync.sync_to(self.last)?;
        let capacity = self.segment_bytes.max(FILE_HEADER_BYTES as u64 + space);
        let spare = self.spares.iter().position(|(_, bytes)| *bytes == capacity);
        let spare = spare.map(|i| self.spares.swap_remove(i).0);
        let id = self.next_id;
        self.next_id = id.next();
        let header = FileHeader {
            fresh: false,
            db: self.db,
            id,
            salt: random_salt(&*self.vfs, &self.dir)?,
            manifest_edit: self.sync.manifest_edit(),
            first_seq,
            chain: self.chain,
        };
        let begun = begin(&self.vfs, &self.dir, &header, capacity, spare).map_err(|e| {
            if e.with_header {
                self.sync.poison(&e.error);
            }
            let is_left = |id| self.vfs.exists(&log_path(&self.dir, id)).unwrap_or(false);
            if let Some(spare) = spare.filter(|id| is_left(*id)) {
                self.spares.push((spare, capacity));
            }
            e.error
        })?;
        self.sync.set_file(Arc::clone(&begun.file));
        self.file = begun.file;
        self.capacity = begun.capacity;
        self.offset = FILE_HEADER_BYTES as u64;
        self.salt_crc = begun.salt_crc;
        self.chain = begun.chain;
        self.live.push_back(LiveFile { id, last: self.last, bytes: capacity });
        Ok(())
    }

    /// The first file that must stay when everything up to `below` is in runs.
    pub fn first_needed(&self, below: Seq) -> LogId {
        let current = self.live.back().expect("the current file is live").id;
        self.live.iter().find(|f| f.last > below).map_or(current, |f| f.id)
    }

    /// Gives up the files before `first`, which the manifest no longer names: some are kept for use
    /// again, the others removed.
    pub fn retire(&mut self, first: LogId) -> Result<()> {
        while self.live.front().is_some_and(|f| f.id < first) && self.live.len() > 1 {
            let file = self.live.pop_front().expect("just seen");
            if self.spares.len() < SPARES && file.bytes == self.segment_bytes {
                self.spares.push((file.id, file.bytes));
                continue;
            }
            let path = log_path(&self.dir, file.id);
            self.vfs.remove_file(&path).map_err(|e| Error::io(&path, "remove", e))?;
        }
        Ok(())
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
