//! Reading the log back, to its end, and telling the end from damage.
//!
//! 1. Records are accepted in order: whole, chained to the one before, numbers consecutive, across
//!    files.
//! 2. The first record that is not is the log's end, unless something behind it, in its file or a later one, shows that it
//!    was durable: a valid record that knew a durable commit at or past it, or the header of a file
//!    that was begun when everything before it was durable, or after fewer commits. Then it is damage, and the database does not open. So it is
//!    where the log ends before a commit that the manifest vouches for. What lies behind the end is no
//!    part of the log: files are written one after another, and become durable in any order.
//! 3. A file whose header is not of its own name was never begun, or not durably, and counts as not there. A file that
//!    begins a log of its own after the first was made by a recovery that did not finish, and
//!    holds nothing either.
//!    A file that a recovery wrote for readers of changes is no part of the log, wherever it lies.
//! 4. In an encrypted database a file that is not encrypted is damage, as is a record whose checksums
//!    hold and whose tag does not: rot does not do that.
//! 5. Nothing is written.
//!
//! What nothing vouches for looks torn when it rots: the last group before a crash, and what
//! `Async` never synced.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::layout::bound;
use super::layout::{
    FILE_HEADER_BYTES, FileHeader, FileRole, HeaderFound, OLDEST, RECORD_BYTES, RecordHeader,
    VERSION,
};
use super::writer::log_path;
use crate::codec::u64_at;
use crate::crypto::{FileKey, FileKind, Owner};
use crate::error::{Error, ErrorKind, Result};
use crate::types::{LogId, Seq};
use crate::vfs::{OpenMode, Vfs, read_exact_at};

/// What the visitor says of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    /// It was taken.
    Accept,
    /// It refers to something that is not there, and counts as a bad record.
    Unusable,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecoveredLog {
    /// The last accepted commit.
    pub last_seq: Option<Seq>,
    /// An id past every file's.
    pub next_id: LogId,
    /// The files read, with the first commit and the length of each.
    pub files: Vec<(LogId, Seq, u64)>,
    /// Where the log ends.
    pub end: Option<(PathBuf, u64)>,
    /// Records accepted.
    pub records: u64,
}

/// Reads logs.
#[derive(Debug)]
pub struct LogRecovery;

struct File {
    path: PathBuf,
    bytes: Vec<u8>,
    header: FileHeader,
    header_crc: u32,
    salt_crc: u32,
}

impl File {
    /// Whether it is the one after a file whose last record has this checksum, before commit `first`.
    fn goes_on_from(&self, chain: u32, first: Seq) -> bool {
        self.header.chain == chain && self.header.first_seq == first
    }
}

type Visitor<'a> = dyn FnMut(Seq, &[u8]) -> Result<Visit> + 'a;

impl LogRecovery {
    /// Reads the log that begins with the file `first`, giving each record to `visit`. The commit
    /// `vouched` is known to be durable: the log begins no later than right after it, and does not
    /// end before it. `manifest_edit` is the last edit of the manifest that named `first`: a log that
    /// knows of a later one makes that manifest stale.
    pub fn recover(
        vfs: &Arc<dyn Vfs>,
        dir: &Path,
        db: &Owner,
        first: LogId,
        manifest_edit: u64,
        vouched: Seq,
        visit: &mut Visitor<'_>,
    ) -> Result<RecoveredLog> {
        let names = dir.join("wal");
        let listed = vfs.list(&names).map_err(|e| {
            let e = Error::io(&names, "list the directory of the log", e);
            // The manifest says that there is a log.
            if e.kind() == ErrorKind::NotFound { e.with_kind(ErrorKind::Corrupt) } else { e }
        })?;
        let mut ids: Vec<LogId> =
            listed.iter().filter_map(|n| n.strip_suffix(".wal")?.parse().ok().map(LogId)).collect();
        ids.sort_unstable();
        let next_id = ids.last().map_or(first.next(), |id| id.next().max(first.next()));
        let mut found = RecoveredLog { next_id, ..RecoveredLog::default() };
        let first_path = log_path(dir, first);
        let bad_first = |message: &str| Error::corrupt(&first_path, 0, message);
        if !ids.contains(&first) {
            return Err(bad_first("the log segment that the manifest names is missing"));
        }
        let mut current = read_file(&**vfs, dir, db, first, manifest_edit)?
            .ok_or_else(|| bad_first("the header of the log's first segment is damaged"))?;
        if current.header.first_seq > vouched.next() {
            return Err(bad_first("the log begins later than the manifest's runs end"));
        }
        let mut expected = current.header.first_seq;
        let mut later = ids.into_iter().filter(|id| *id > first);
        loop {
            let header = &current.header;
            found.files.push((header.id, header.first_seq, current.bytes.len() as u64));
            let (salt, path) = (header.key_salt.as_ref(), &current.path);
            let key = db.file_key(salt, FileKind::Log, &header.bound(), path)?;
            let (at, chain) =
                read_records(&current, key.as_ref(), &mut expected, &mut found, visit)?;
            found.end = Some((current.path.clone(), at as u64));
            if knows_durable(&current, at, expected) {
                let why = format_args!("was durable, as a later record shows");
                return Err(missing(&current, at, expected, why));
            }
            let mut next = next_file(&**vfs, dir, db, &mut later, manifest_edit)?;
            if let Some(next) = next.take_if(|n| n.goes_on_from(chain, expected)) {
                current = next;
                continue;
            }
            // The end: no file goes on from here.
            while let Some(file) = next {
                let id = file.header.id;
                let is_gap =
                    file.header.role == FileRole::GoesOnEarly && file.header.first_seq >= expected;
                if !is_gap {
                    let why =
                        format_args!("is missing or another one, by the header of segment {id}");
                    return Err(missing(&current, at, expected, why));
                }
                if knows_durable(&file, FILE_HEADER_BYTES, expected) {
                    let why = format_args!("was durable, as a record of segment {id} shows");
                    return Err(missing(&current, at, expected, why));
                }
                next = next_file(&**vfs, dir, db, &mut later, manifest_edit)?;
            }
            if expected <= vouched {
                let why = format_args!("is missing, though {vouched} was durable");
                return Err(missing(&current, at, expected, why));
            }
            return Ok(found);
        }
    }
}

/// Gives the records of a file to the visitor; returns where they end and the last checksum.
fn read_records(
    file: &File,
    key: Option<&FileKey>,
    expected: &mut Seq,
    found: &mut RecoveredLog,
    visit: &mut Visitor<'_>,
) -> Result<(usize, u32)> {
    let (mut at, mut chain) = (FILE_HEADER_BYTES, file.header_crc);
    while let Some((record, crc, body)) = RecordHeader::decode(&file.bytes, file.salt_crc, at) {
        if record.chain != chain || record.seq != *expected {
            break;
        }
        let visited = match key {
            None => visit(record.seq, body)?,
            Some(key) => {
                let record_bytes = &file.bytes[at..];
                visit(record.seq, &decrypt(&file.path, key, record_bytes, at as u64, body)?)?
            }
        };
        if visited == Visit::Unusable {
            break;
        }
        found.last_seq = Some(record.seq);
        found.records += 1;
        *expected = expected.next();
        chain = crc;
        at = (at + RECORD_BYTES + body.len()).next_multiple_of(8);
    }
    Ok((at, chain))
}

/// The body of a record, whose bytes begin at `offset` of the file.
pub(super) fn decrypt(
    path: &Path,
    key: &FileKey,
    record: &[u8],
    offset: u64,
    sealed: &[u8],
) -> Result<Vec<u8>> {
    let mut body = sealed.to_vec();
    let Some(len) = key.open(offset, &bound(record, offset), &mut body) else {
        let message = "a record of the log was not sealed with the file's key";
        return Err(Error::corrupt(path, offset, message));
    };
    body.truncate(len);
    Ok(body)
}

/// The next file that goes on from another, past those never begun and those that are no part of this log.
fn next_file(
    vfs: &dyn Vfs,
    dir: &Path,
    db: &Owner,
    ids: &mut impl Iterator<Item = LogId>,
    manifest_edit: u64,
) -> Result<Option<File>> {
    for id in ids {
        let Some(file) = read_file(vfs, dir, db, id, manifest_edit)? else { continue };
        match file.header.role {
            FileRole::Kept => {}
            FileRole::Fresh => check_empty(&file)?,
            FileRole::GoesOn | FileRole::GoesOnEarly => return Ok(Some(file)),
        }
    }
    Ok(None)
}

/// Whether a record of the file from `from` on shows that commit `expected` was durable.
fn knows_durable(file: &File, from: usize, expected: Seq) -> bool {
    let mut at = from;
    while at + RECORD_BYTES <= file.bytes.len() {
        // Reserved space that nothing was written to; no record begins with eight zeros.
        if u64_at(&file.bytes, at) != 0 {
            let record = RecordHeader::decode(&file.bytes, file.salt_crc, at);
            if record.is_some_and(|(r, _, _)| r.durable >= expected) {
                return true;
            }
        }
        at += 8;
    }
    false
}

/// Damage where the log seems to end.
fn missing(file: &File, end: usize, expected: Seq, why: std::fmt::Arguments<'_>) -> Error {
    let message = format!("the log is damaged here: commit {expected} {why}");
    Error::corrupt(&file.path, end as u64, message)
}

/// A log of its own that an unfinished recovery made holds no records.
fn check_empty(file: &File) -> Result<()> {
    match RecordHeader::decode(&file.bytes, file.salt_crc, FILE_HEADER_BYTES) {
        None => Ok(()),
        Some(_) => Err(Error::corrupt(
            &file.path,
            FILE_HEADER_BYTES as u64,
            "the manifest is older than this log segment",
        )),
    }
}

/// A file of the log; `None` for one that was never begun.
fn read_file(
    vfs: &dyn Vfs,
    dir: &Path,
    db: &Owner,
    id: LogId,
    manifest_edit: u64,
) -> Result<Option<File>> {
    let path = log_path(dir, id);
    let file = vfs.open(&path, OpenMode::Read).map_err(|e| Error::io(&path, "open", e))?;
    let len = file.len().map_err(|e| Error::io(&path, "measure", e))?;
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let mut bytes = Vec::new();
    if bytes.try_reserve_exact(len).is_err() {
        let message = "there is no memory for a log segment";
        return Err(Error::new(ErrorKind::OutOfMemory, message).in_file(&path));
    }
    bytes.resize(len, 0);
    read_exact_at(&*file, &mut bytes, 0)?;
    let (header, header_crc) = match FileHeader::decode(&bytes) {
        HeaderFound::Invalid => return Ok(None),
        HeaderFound::OtherVersion(v) => {
            return Err(Error::new(
                ErrorKind::UnsupportedFormat,
                format!(
                    "the log is of format version {v}; this build knows versions {OLDEST} to {VERSION}"
                ),
            )
            .in_file(&path));
        }
        HeaderFound::Valid(header, _) if header.id != id => return Ok(None),
        HeaderFound::Valid(header, crc) => (header, crc),
    };
    if header.db != db.id() {
        return Err(Error::corrupt(&path, 16, "the log segment belongs to another database"));
    }
    if header.manifest_edit > manifest_edit {
        return Err(Error::corrupt(
            &path,
            56,
            format!(
                "the manifest ends with edit {manifest_edit}, but the log knows of edit {}",
                header.manifest_edit
            ),
        ));
    }
    let salt_crc = crc32c::crc32c(&header.salt);
    Ok(Some(File { path, bytes, header, header_crc, salt_crc }))
}
