//! Reading commits back from the log while it is written, in order, each as it became visible.
//!
//! 1. Only commits up to a number that the caller has seen to be visible are read: their records are
//!    whole in the file, so that one which is not is damage, unless the file was given up meanwhile.
//! 2. Of each file one buffer is in memory; what was read behind the last visible record is read again.
//!
//! One thread each.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::kept::LogFiles;
use super::layout::{FILE_HEADER_BYTES, FileHeader, HeaderFound, RECORD_BYTES, RecordHeader};
use super::recovery::decrypt;
use super::writer::log_path;
use crate::crypto::{FileKey, FileKind, Owner};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::MAX_COMMIT_BYTES;
use crate::types::{LogId, Seq};
use crate::vfs::{OpenMode, Vfs, VfsFile, read_exact_at};

/// So much is read at a time.
const CHUNK_BYTES: usize = 256 * 1024;

/// The data key that a log file is under; none where it is not encrypted, or not there.
pub fn epoch_of(vfs: &dyn Vfs, dir: &Path, id: LogId) -> Result<Option<u32>> {
    let path = log_path(dir, id);
    let file = match vfs.open(&path, OpenMode::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(&path, "open", e)),
    };
    let mut head = vec![0; FILE_HEADER_BYTES];
    read_exact_at(&*file, &mut head, 0)?;
    match FileHeader::decode(&head) {
        HeaderFound::Valid(header, _) => Ok(header.key_salt.map(|s| s.epoch)),
        _ => Ok(None),
    }
}

/// The file being read.
#[derive(Debug)]
struct Open {
    id: LogId,
    file: Arc<dyn VfsFile>,
    key: Option<FileKey>,
    len: u64,
    salt_crc: u32,
    chain: u32,
    /// Where the next record begins, and its number.
    offset: u64,
    next: Seq,
    /// Bytes of the file from `start` on, whole up to the record of `whole`.
    buffer: Vec<u8>,
    start: u64,
    whole: Seq,
}

/// See the module.
#[derive(Debug)]
pub struct LogReader {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    db: Owner,
    files: Arc<LogFiles>,
    ticket: u64,
    next: Seq,
    open: Option<Open>,
}

impl LogReader {
    /// A reader that begins with commit `next`; `last` is the last visible one.
    pub fn new(
        vfs: Arc<dyn Vfs>,
        dir: PathBuf,
        db: Owner,
        files: Arc<LogFiles>,
        next: Seq,
        last: Seq,
    ) -> Result<Self> {
        let ticket = files.register(next, last)?;
        Ok(Self { vfs, dir, db, files, ticket, next, open: None })
    }

    /// The commit that is read next.
    pub fn position(&self) -> Seq {
        self.next
    }

    /// The next commit up to `visible`: its number and body.
    pub fn read(&mut self, visible: Seq) -> Result<Option<(Seq, Vec<u8>)>> {
        while self.next <= visible {
            let open = match self.open.take() {
                Some(open) => open,
                None => {
                    let id = self.files.holding(self.next);
                    let id = id.ok_or_else(|| self.files.too_old(self.next))?;
                    self.files.advance(self.ticket, self.next);
                    self.open_file(id).map_err(|e| self.gone_or(id, e))?
                }
            };
            let open = self.open.insert(open);
            let (id, wanted) = (open.id, open.next == self.next);
            match open.record(visible) {
                Ok(Some(body)) if wanted => {
                    let seq = self.next;
                    self.next = seq.next();
                    return Ok(Some((seq, body)));
                }
                // It comes before the one to begin with.
                Ok(Some(_)) => {}
                Ok(None) => {
                    let at = (open.file.path().to_path_buf(), open.offset);
                    self.open = None;
                    // It is in the file after this one, or else this one was given up.
                    if self.files.holding(self.next) == Some(id) {
                        let message =
                            format!("the log is damaged here: commit {} is missing", self.next);
                        return Err(Error::corrupt(&at.0, at.1, message));
                    }
                }
                Err(e) => {
                    self.open = None;
                    return Err(self.gone_or(id, e));
                }
            }
        }
        Ok(None)
    }

    /// An error in a file that was given up meanwhile means that alone.
    fn gone_or(&self, id: LogId, e: Error) -> Error {
        if self.files.holding(self.next) == Some(id) { e } else { self.files.too_old(self.next) }
    }

    fn open_file(&self, id: LogId) -> Result<Open> {
        let path = log_path(&self.dir, id);
        let file = self.vfs.open(&path, OpenMode::Read).map_err(|e| {
            let e = Error::io(&path, "open", e);
            if e.kind() == ErrorKind::NotFound { e.with_kind(ErrorKind::Corrupt) } else { e }
        })?;
        let len = file.len().map_err(|e| Error::io(&path, "measure", e))?;
        if len < FILE_HEADER_BYTES as u64 {
            return Err(Error::corrupt(&path, 0, "a log file is shorter than its header"));
        }
        let mut head = vec![0; FILE_HEADER_BYTES];
        read_exact_at(&*file, &mut head, 0)?;
        match FileHeader::decode(&head) {
            HeaderFound::Valid(header, crc) if header.id == id && header.db == self.db.id() => {
                let salt = header.key_salt.as_ref();
                let key = self.db.file_key(salt, FileKind::Log, &header.bound(), &path)?;
                Ok(Open {
                    id,
                    key,
                    file,
                    len,
                    salt_crc: crc32c::crc32c(&header.salt),
                    chain: crc,
                    offset: FILE_HEADER_BYTES as u64,
                    next: header.first_seq,
                    buffer: Vec::new(),
                    start: FILE_HEADER_BYTES as u64,
                    whole: Seq(0),
                })
            }
            _ => Err(Error::corrupt(&path, 0, "the header of a log file is damaged")),
        }
    }
}

impl Drop for LogReader {
    fn drop(&mut self) {
        self.files.unregister(self.ticket);
    }
}

impl Open {
    /// The body of the next record; `None` where there is none.
    fn record(&mut self, visible: Seq) -> Result<Option<Vec<u8>>> {
        if !self.fill(RECORD_BYTES, visible)? {
            return Ok(None);
        }
        let at = (self.offset - self.start) as usize;
        let Some(header) = RecordHeader::peek(&self.buffer[at..], self.salt_crc, self.offset)
        else {
            return Ok(None);
        };
        let body_bytes = header.body_bytes as usize;
        if header.chain != self.chain
            || header.seq != self.next
            || body_bytes > 2 * MAX_COMMIT_BYTES
        {
            return Ok(None);
        }
        if !self.fill(RECORD_BYTES + body_bytes, visible)? {
            return Ok(None);
        }
        let at = (self.offset - self.start) as usize;
        let found = RecordHeader::decode_at(&self.buffer[at..], self.salt_crc, self.offset);
        let Some((_, crc, body)) = found else { return Ok(None) };
        let body = match &self.key {
            None => body.to_vec(),
            Some(key) => decrypt(self.file.path(), key, &self.buffer[at..], self.offset, body)?,
        };
        self.chain = crc;
        self.next = self.next.next();
        self.offset = (self.offset + (RECORD_BYTES + body_bytes) as u64).next_multiple_of(8);
        Ok(Some(body))
    }

    /// Sees to it that so many bytes from the next record on are in the buffer; `false` where the file
    /// does not have them.
    fn fill(&mut self, bytes: usize, visible: Seq) -> Result<bool> {
        let have = (self.start + self.buffer.len() as u64).saturating_sub(self.offset);
        if have >= bytes as u64 && self.next <= self.whole {
            return Ok(true);
        }
        if self.offset + bytes as u64 > self.len {
            return Ok(false);
        }
        let wanted = (bytes.max(CHUNK_BYTES) as u64).min(self.len - self.offset);
        self.buffer.clear();
        self.buffer.shrink_to(4 * CHUNK_BYTES);
        self.buffer.resize(wanted as usize, 0);
        self.start = self.offset;
        // Everything visible by now was in the file before this read of it.
        self.whole = visible;
        read_exact_at(&*self.file, &mut self.buffer, self.offset)?;
        Ok(true)
    }
}
