//! Manifest files and CURRENT.
//!
//! A file: a header of 64 bytes (`magic 8 | version u32 | reserved u32 | database 16 | id u64 |
//! salt 16 | reserved u32 | crc u32`), then records, each at a multiple of 8:
//! `crc u32 | payload bytes u32 | kind u8 (1 snapshot, 2 edit, 3 mark), 3 zero bytes | chain u32 |
//! number u64 | payload | zeros to a multiple of 8`. The checksum covers the salt, the record after
//! the checksum, and the payload; the chain is the checksum of the record before (of the header,
//! for the first). The first record is the snapshot of the whole state.
//!
//! 1. An edit is one fsynced record, followed by a fsynced mark before anything happens because of
//!    it: a bad edit with a mark or edit behind it is damage, one without is a torn end that nobody
//!    acted on.
//! 2. After a failure the file takes no more edits: whether the last one took place is not known.
//! 3. Space is reserved ahead, so that a full disk is met before an edit is begun.
//! 4. CURRENT (`magic 8 | version u32 | reserved u32 | database 16 | id u64 | reserved u32 | crc
//!    u32`) is replaced by rename.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::edit::{Edit, EditOp, NextIds};
use super::state::ManifestState;
use crate::codec::{u32_at, u64_at};
use crate::error::{Error, ErrorKind, Result, malformed_in};
use crate::types::{DatabaseId, ManifestId};
use crate::vfs::{OpenMode, Vfs, VfsFile, read_exact_at, write_all_at};

const MAGIC: &[u8; 8] = b"LTNGMAN\0";
const CURRENT_MAGIC: &[u8; 8] = b"LTNGCUR\0";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 64;
const CURRENT_BYTES: usize = 48;
const RECORD_BYTES: usize = 24;
/// Space is reserved in steps of this.
const RESERVE_BYTES: u64 = 256 * 1024;
/// Past this, the state is written to a new file.
const ROLL_BYTES: u64 = 4 * 1024 * 1024;

const SNAPSHOT: u8 = 1;
const EDIT: u8 = 2;
const MARK: u8 = 3;

/// The path of a manifest file.
pub fn manifest_path(dir: &Path, id: ManifestId) -> PathBuf {
    dir.join("manifest").join(format!("{:06}.man", id.0))
}

/// The manifest being written.
#[derive(Debug)]
pub struct Manifest {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    id: ManifestId,
    file: Arc<dyn VfsFile>,
    salt: [u8; 16],
    end: u64,
    reserved: u64,
    chain: u32,
    state: ManifestState,
    failed: bool,
}

impl Manifest {
    /// Writes a fresh file that holds `state`, and syncs it and its name. CURRENT is left alone.
    pub fn create(
        vfs: &Arc<dyn Vfs>,
        dir: &Path,
        id: ManifestId,
        state: &ManifestState,
    ) -> Result<Self> {
        let path = manifest_path(dir, id);
        let file = vfs.create(&path).map_err(|e| Error::io(&path, "create", e))?;
        let mut salt = [0; 16];
        vfs.fill_random(&mut salt).map_err(|e| Error::io(&path, "draw a random salt", e))?;
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[16..32].copy_from_slice(&state.db.0);
        header[32..40].copy_from_slice(&id.0.to_le_bytes());
        header[40..56].copy_from_slice(&salt);
        let crc = crc32c::crc32c(&header[..60]);
        header[60..].copy_from_slice(&crc.to_le_bytes());
        let mut manifest = Self {
            vfs: Arc::clone(vfs),
            dir: dir.to_path_buf(),
            id,
            file,
            salt,
            end: HEADER_BYTES as u64,
            reserved: 0,
            chain: crc,
            state: state.clone(),
            failed: false,
        };
        write_all_at(&*manifest.file, &header, 0)?;
        let mut payload = state.edit.to_le_bytes().to_vec();
        payload.extend_from_slice(&state.db.0);
        state.snapshot_edit().encode(&mut payload);
        manifest.append(SNAPSHOT, &payload)?;
        manifest.append(MARK, &[])?;
        manifest.sync()?;
        let names = dir.join("manifest");
        vfs.sync_dir(&names).map_err(|e| Error::io(&names, "sync the directory", e))?;
        Ok(manifest)
    }

    /// The state after every committed edit.
    pub fn state(&self) -> &ManifestState {
        &self.state
    }

    /// Whether an edit failed in a way that leaves its fate unknown.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// The file's id.
    pub fn id(&self) -> ManifestId {
        self.id
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|e| Error::io(self.file.path(), "sync", e))
    }

    fn append(&mut self, kind: u8, payload: &[u8]) -> Result<()> {
        let mut record = vec![0; RECORD_BYTES];
        record[4..8].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        record[8] = kind;
        record[12..16].copy_from_slice(&self.chain.to_le_bytes());
        record[16..24].copy_from_slice(&self.state.edit.to_le_bytes());
        record.extend_from_slice(payload);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&self.salt), &record[4..]);
        record[..4].copy_from_slice(&crc.to_le_bytes());
        record.resize(record.len().next_multiple_of(8), 0);
        write_all_at(&*self.file, &record, self.end)?;
        self.end += record.len() as u64;
        self.chain = crc;
        Ok(())
    }

    /// Reserves room for a record of `payload` bytes and its mark.
    fn reserve(&mut self, payload: usize) -> Result<()> {
        let need = self.end + (payload + 4 * RECORD_BYTES) as u64;
        if need > self.reserved {
            let to = need.next_multiple_of(RESERVE_BYTES) + RESERVE_BYTES;
            self.file
                .allocate(to)
                .map_err(|e| Error::io(self.file.path(), "reserve space for", e))?;
            self.reserved = to;
        }
        Ok(())
    }

    /// Makes an edit durable and applies it. An error that says `StorageFull` from reserving space
    /// leaves the manifest as it was; after any other failure it takes no more edits.
    pub fn commit(&mut self, edit: &Edit) -> Result<()> {
        if self.failed {
            return Err(Error::new(
                ErrorKind::Poisoned,
                "an earlier write to the manifest failed, reopen the database",
            )
            .in_file(self.file.path()));
        }
        let mut next = self.state.clone();
        next.apply(edit).map_err(|m| Error::corrupt(self.file.path(), self.end, m.0))?;
        let mut payload = Vec::new();
        edit.encode(&mut payload);
        if self.end + payload.len() as u64 > ROLL_BYTES {
            return self.roll(next);
        }
        self.reserve(payload.len())?;
        self.failed = true;
        let edit_number = std::mem::replace(&mut self.state, next);
        let written = self.append(EDIT, &payload).and_then(|()| self.sync());
        let marked = written.and_then(|()| self.append(MARK, &[])).and_then(|()| self.sync());
        if let Err(e) = marked {
            self.state = edit_number;
            return Err(e);
        }
        self.failed = false;
        Ok(())
    }

    /// Writes `next` to a fresh file, swaps CURRENT and removes the old file.
    fn roll(&mut self, next: ManifestState) -> Result<()> {
        let fresh = Manifest::create(&self.vfs, &self.dir, self.id.next(), &next);
        let fresh = match fresh {
            Ok(fresh) => fresh,
            Err(e) => {
                let _ = self.vfs.remove_file(&manifest_path(&self.dir, self.id.next()));
                // Nothing points to the new file; the old one stands.
                return Err(e);
            }
        };
        self.failed = true;
        install_current(&self.vfs, &self.dir, fresh.id, next.db)?;
        let old = manifest_path(&self.dir, self.id);
        *self = fresh;
        self.vfs.remove_file(&old).map_err(|e| Error::io(&old, "remove", e))
    }

    /// Reads the manifest that CURRENT names. Writes nothing.
    pub fn load(vfs: &Arc<dyn Vfs>, dir: &Path) -> Result<(ManifestState, ManifestId)> {
        let (id, db) = read_current(&**vfs, dir)?;
        let path = manifest_path(dir, id);
        let file = vfs.open(&path, OpenMode::Read).map_err(|e| {
            let missing = e.kind() == std::io::ErrorKind::NotFound;
            let e = Error::io(&path, "open the manifest that CURRENT names", e);
            if missing { e.with_kind(ErrorKind::Corrupt) } else { e }
        })?;
        let len = file.len().map_err(|e| Error::io(&path, "measure", e))?;
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        read_exact_at(&*file, &mut bytes, 0)?;
        let state = Reading::new(&path, &bytes, id, db)?.read()?;
        Ok((state, id))
    }
}

/// Points CURRENT at a manifest file.
pub fn install_current(
    vfs: &Arc<dyn Vfs>,
    dir: &Path,
    id: ManifestId,
    db: DatabaseId,
) -> Result<()> {
    let mut bytes = [0; CURRENT_BYTES];
    bytes[..8].copy_from_slice(CURRENT_MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..32].copy_from_slice(&db.0);
    bytes[32..40].copy_from_slice(&id.0.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..44]);
    bytes[44..].copy_from_slice(&crc.to_le_bytes());
    let (temporary, path) = (dir.join("CURRENT.tmp"), dir.join("CURRENT"));
    match vfs.remove_file(&temporary) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io(&temporary, "remove", e));
        }
        _ => {}
    }
    let file = vfs.create(&temporary).map_err(|e| Error::io(&temporary, "create", e))?;
    write_all_at(&*file, &bytes, 0)?;
    file.sync_data().map_err(|e| Error::io(&temporary, "sync", e))?;
    drop(file);
    vfs.rename(&temporary, &path).map_err(|e| Error::io(&path, "replace", e))?;
    vfs.sync_dir(dir).map_err(|e| Error::io(dir, "sync the directory", e))
}

fn check_version(path: &Path, found: u32) -> Result<()> {
    if found == VERSION {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::UnsupportedFormat,
        format!("the file is of format version {found}; this build knows version {VERSION}"),
    )
    .in_file(path))
}

fn read_current(vfs: &dyn Vfs, dir: &Path) -> Result<(ManifestId, DatabaseId)> {
    let path = dir.join("CURRENT");
    let file = vfs.open(&path, OpenMode::Read).map_err(|e| Error::io(&path, "open", e))?;
    let len = file.len().map_err(|e| Error::io(&path, "measure", e))?;
    if len != CURRENT_BYTES as u64 {
        return Err(Error::corrupt(&path, 0, "CURRENT is not as long as it should be"));
    }
    let mut bytes = [0; CURRENT_BYTES];
    read_exact_at(&*file, &mut bytes, 0)?;
    if bytes[..8] != *CURRENT_MAGIC || crc32c::crc32c(&bytes[..44]) != u32_at(&bytes, 44) {
        return Err(Error::corrupt(&path, 0, "CURRENT does not match its checksum"));
    }
    check_version(&path, u32_at(&bytes, 8))?;
    let db = DatabaseId(bytes[16..32].try_into().expect("sixteen bytes"));
    Ok((ManifestId(u64_at(&bytes, 32)), db))
}

/// A manifest file being read.
struct Reading<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    salt_crc: u32,
    at: usize,
    chain: u32,
}

struct Record<'a> {
    kind: u8,
    number: u64,
    crc: u32,
    payload: &'a [u8],
    next: usize,
}

impl<'a> Reading<'a> {
    fn new(path: &'a Path, bytes: &'a [u8], id: ManifestId, db: DatabaseId) -> Result<Self> {
        let bad = |message: &str| Error::corrupt(path, 0, message);
        if bytes.len() < HEADER_BYTES {
            return Err(bad("the manifest is shorter than its header"));
        }
        let crc = u32_at(bytes, 60);
        if bytes[..8] != *MAGIC || crc32c::crc32c(&bytes[..60]) != crc {
            return Err(bad("the manifest's header does not match its checksum"));
        }
        check_version(path, u32_at(bytes, 8))?;
        if bytes[16..32] != db.0 {
            return Err(bad("the manifest belongs to another database"));
        }
        if u64_at(bytes, 32) != id.0 {
            return Err(bad("the manifest's id is not the one of its name"));
        }
        let salt_crc = crc32c::crc32c(&bytes[40..56]);
        Ok(Self { path, bytes, salt_crc, at: HEADER_BYTES, chain: crc })
    }

    /// The record at `at`, if there is a whole one; its chain is not looked at.
    fn record_at(&self, at: usize) -> Option<Record<'a>> {
        let head = self.bytes.get(at..at + RECORD_BYTES)?;
        let len = u32_at(head, 4) as usize;
        let end = at.checked_add(RECORD_BYTES)?.checked_add(len)?;
        let covered = self.bytes.get(at + 4..end)?;
        if !(SNAPSHOT..=MARK).contains(&head[8]) {
            return None;
        }
        let crc = u32_at(head, 0);
        if crc32c::crc32c_append(self.salt_crc, covered) != crc {
            return None;
        }
        Some(Record {
            kind: head[8],
            number: u64_at(head, 16),
            crc,
            payload: &self.bytes[at + RECORD_BYTES..end],
            next: end.next_multiple_of(8),
        })
    }

    fn next(&mut self) -> Option<(usize, Record<'a>)> {
        let at = self.at;
        let record = self.record_at(at)?;
        if u32_at(self.bytes, at + 12) != self.chain {
            return None;
        }
        self.chain = record.crc;
        self.at = record.next;
        Some((at, record))
    }

    fn read(mut self) -> Result<ManifestState> {
        let corrupt = |at: usize, message: &str| Error::corrupt(self.path, at as u64, message);
        let path = self.path;
        let first = self.next().filter(|(_, r)| r.kind == SNAPSHOT);
        let Some((at, first)) = first else {
            return Err(corrupt(HEADER_BYTES, "the manifest does not begin with a snapshot"));
        };
        let malformed = malformed_in(path, at as u64);
        if first.payload.len() < 24 || u64_at(first.payload, 0) != first.number {
            return Err(corrupt(at, "the snapshot's number is not its record's"));
        }
        let db = DatabaseId(first.payload[8..24].try_into().expect("sixteen bytes"));
        let mut state = ManifestState::new(db);
        let snapshot = Edit::decode(&first.payload[24..]).map_err(&malformed)?;
        state.apply(&snapshot).map_err(&malformed)?;
        state.edit = first.number;
        let mut marked = false;
        while let Some((at, record)) = self.next() {
            let malformed = malformed_in(path, at as u64);
            match record.kind {
                MARK if record.number == state.edit => marked = true,
                EDIT if record.number == state.edit + 1 => {
                    let edit = Edit::decode(record.payload).map_err(&malformed)?;
                    state.apply(&edit).map_err(&malformed)?;
                }
                _ => return Err(corrupt(at, "a record is out of order")),
            }
        }
        if !marked {
            return Err(corrupt(HEADER_BYTES, "the manifest's snapshot was never finished"));
        }
        // The end: nothing valid may follow it.
        let mut at = self.at;
        while at + RECORD_BYTES <= self.bytes.len() {
            if self.record_at(at).is_some() {
                return Err(corrupt(self.at, "a record in the middle of the manifest is damaged"));
            }
            at += 8;
        }
        Ok(state)
    }
}

impl ManifestState {
    /// An edit that, applied to an empty state, gives this one.
    pub fn snapshot_edit(&self) -> Edit {
        let mut ops: Vec<EditOp> =
            self.keyspaces.values().cloned().map(EditOp::CreateKeyspace).collect();
        let blobs = self.blob_segments.iter();
        ops.extend(blobs.map(|(id, bytes)| EditOp::AddBlobSegment { id: *id, bytes: *bytes }));
        ops.push(EditOp::LogStart(self.log_start));
        ops.push(EditOp::LastSeq(self.last_seq));
        ops.push(EditOp::NextIds(NextIds {
            segment: self.next_segment,
            partition: self.next_partition,
            run: self.next_run,
            keyspace: self.next_keyspace,
        }));
        Edit { ops }
    }
}
