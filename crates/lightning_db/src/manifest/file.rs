//! A manifest file being written: create, commit, roll; and load.
//!
//! 1. An edit is one synced record, followed by a synced mark before anything happens because of it
//!    (what that tells a reader: see `read`).
//! 2. After a failure from which the edit may or may not have taken place, the file takes no more
//!    edits: the next sync would falsely succeed.
//! 3. Space is reserved ahead, so that a full disk is met before an edit is begun and harms nothing.
//! 4. A file grows by at most its snapshot's length, or 4 MiB where that is more; then the state goes
//!    to a new file. So a commit costs, on average, a few times the edit's own bytes.
//! 5. A file that was opened to be read is never written again.
//! 6. In an encrypted database each file is sealed under a key of its own, at nonces that only grow: a
//!    record's offset. (Nothing is written after a failure.)
//!
//! Callers serialise commits. Bytes: see `frame`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::current;
use super::edit::Edit;
use super::frame::{self, Header, Kind};
use super::read::{decode_snapshot, read_state, snapshot_payload};
use super::state::ManifestState;
use crate::crypto::{FileKind, Owner, Sealer, TAG_BYTES};
use crate::error::{Error, ErrorKind, Result};
use crate::types::ManifestId;
use crate::vfs::{OpenMode, Vfs, VfsFile, read_exact_at, write_all_at};

/// Space is reserved in steps of this.
const RESERVE_BYTES: u64 = 256 * 1024;
/// Edits may always take this much before the state is written to a new file.
const ROLL_BYTES: u64 = 4 * 1024 * 1024;
/// The longest payload.
const MAX_PAYLOAD_BYTES: usize = u32::MAX as usize;
/// A longer file than a longest snapshot and as many bytes of edits is none of ours.
const MAX_FILE_BYTES: u64 = 3 * MAX_PAYLOAD_BYTES as u64;

/// The path of a manifest file.
pub fn manifest_path(dir: &Path, id: ManifestId) -> PathBuf {
    dir.join("manifest").join(format!("{:06}.man", id.0))
}

/// The manifest being written.
#[derive(Debug)]
pub struct Manifest {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    db: Owner,
    sealer: Option<Sealer>,
    id: ManifestId,
    file: Arc<dyn VfsFile>,
    seed: u32,
    /// Where the next record goes.
    end: u64,
    reserved: u64,
    /// The file is not to grow past this.
    roll_at: u64,
    /// The checksum of the last record.
    chain: u32,
    state: ManifestState,
    failed: bool,
}

impl Manifest {
    /// Writes a fresh file that holds `state`, and syncs it and its name; where that fails, the file
    /// is removed if it can be. CURRENT is left alone.
    pub fn create(
        vfs: &Arc<dyn Vfs>,
        dir: &Path,
        id: ManifestId,
        state: &ManifestState,
        db: &Owner,
    ) -> Result<Self> {
        let path = manifest_path(dir, id);
        let payload = snapshot_payload(state);
        check_len(&path, &payload)?;
        check_readable(&path, &payload, state)?;
        let mut salt = [0; 16];
        vfs.fill_random(&mut salt).map_err(|e| Error::io(&path, "draw a random salt for", e))?;
        let key_salt = db.draw_salt(&**vfs, &path)?;
        let header = Header { db: state.db, id, salt, key_salt };
        let sealer = db.sealer(key_salt.as_ref(), FileKind::Manifest, &header.bound(), &path)?;
        let file = vfs.create(&path).map_err(|e| Error::io(&path, "create", e))?;
        let mut manifest = Self {
            vfs: Arc::clone(vfs),
            dir: dir.to_path_buf(),
            db: db.clone(),
            sealer,
            id,
            file,
            seed: frame::salt_seed(&salt),
            end: 0,
            reserved: 0,
            roll_at: 0,
            chain: 0,
            state: state.clone(),
            failed: false,
        };
        if let Err(e) = manifest.begin(&header, &payload) {
            let _ = vfs.remove_file(&path); // it is named nowhere; opening for writing removes it too
            return Err(e);
        }
        Ok(manifest)
    }

    /// Header, snapshot and mark, all durable.
    fn begin(&mut self, header: &Header, payload: &[u8]) -> Result<()> {
        let (bytes, crc) = header.encode();
        write_all_at(&*self.file, &bytes, 0)?;
        self.end = bytes.len() as u64;
        self.chain = crc;
        let number = self.state.edit;
        self.append(Kind::Snapshot, number, payload)?;
        self.append(Kind::Mark, number, &[])?;
        self.sync()?;
        self.roll_at = self.end + self.end.max(ROLL_BYTES);
        let names = self.dir.join("manifest");
        self.vfs.sync_dir(&names).map_err(|e| Error::io(&names, "sync the directory", e))
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
    #[cfg(test)]
    pub fn id(&self) -> ManifestId {
        self.id
    }

    /// Makes an edit durable and applies it.
    ///
    /// An edit that does not fit the state is an `InvalidArgument`, and changes nothing. Where space
    /// cannot be had the error is that of the system, and the manifest takes edits as before. After
    /// a failure on the way to the disk the error is `CommitUnknown`: the edit may be found by the
    /// next load, or not, and this manifest takes no more ([`has_failed`](Self::has_failed);
    /// `Poisoned` from then on).
    pub fn commit(&mut self, edit: &Edit) -> Result<()> {
        let path = self.file.path();
        if self.failed {
            let message = "an earlier write to the manifest failed, reopen the database";
            return Err(Error::new(ErrorKind::Poisoned, message).in_file(path));
        }
        let next = self.state.applied(edit).map_err(|m| {
            let message = format!("the edit does not fit the manifest: {m}");
            Error::new(ErrorKind::InvalidArgument, message).in_file(path)
        })?;
        let mut payload = Vec::new();
        edit.encode(&mut payload);
        check_len(path, &payload)?;
        let need = frame::record_len(payload.len() + TAG_BYTES) + frame::record_len(0);
        if self.end + need > self.roll_at {
            return self.roll(&next);
        }
        self.reserve(self.end + need)?;
        self.failed = true;
        self.write_edit(next.edit, &payload).map_err(unknown)?;
        self.failed = false;
        self.state = next;
        Ok(())
    }

    fn write_edit(&mut self, number: u64, payload: &[u8]) -> Result<()> {
        self.append(Kind::Edit, number, payload)?;
        self.sync()?;
        self.append(Kind::Mark, number, &[])?;
        self.sync()
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|e| Error::io(self.file.path(), "sync", e))
    }

    fn append(&mut self, kind: Kind, number: u64, payload: &[u8]) -> Result<()> {
        let sealed = match &mut self.sealer {
            Some(sealer) if !payload.is_empty() => {
                let stored = payload.len() + TAG_BYTES;
                let bound = frame::bound(kind, number, self.chain, stored, self.end);
                let mut text = payload.to_vec();
                let tag = sealer.seal(self.end, &bound, &mut text)?;
                text.extend_from_slice(&tag);
                Some(text)
            }
            _ => None,
        };
        let stored = sealed.as_deref().unwrap_or(payload);
        let (record, crc) = frame::encode_record(self.seed, kind, number, self.chain, stored);
        write_all_at(&*self.file, &record, self.end)?;
        self.end += record.len() as u64;
        self.chain = crc;
        Ok(())
    }

    /// Whether the file is under an older data key than `newest`.
    pub fn is_aged(&self, newest: u32) -> bool {
        self.sealer.as_ref().is_some_and(|s| s.key().epoch() < newest)
    }

    /// Goes on in a new file. Fails as [`commit`](Self::commit) does.
    pub fn renew(&mut self) -> Result<()> {
        let next = self.state.applied(&Edit::default());
        let unfit = |m| Error::new(ErrorKind::InvalidArgument, format!("an empty edit: {m}"));
        self.roll(&next.map_err(unfit)?)
    }

    /// Reserves space up to `need`.
    fn reserve(&mut self, need: u64) -> Result<()> {
        if need > self.reserved {
            let to = need.next_multiple_of(RESERVE_BYTES) + RESERVE_BYTES;
            let done = self.file.allocate(to);
            done.map_err(|e| Error::io(self.file.path(), "reserve space for", e))?;
            self.reserved = to;
        }
        Ok(())
    }

    /// Writes `next` to a fresh file, swaps CURRENT and removes the old file.
    fn roll(&mut self, next: &ManifestState) -> Result<()> {
        let (vfs, id) = (Arc::clone(&self.vfs), self.id.next());
        let path = manifest_path(&self.dir, id);
        let _ = vfs.remove_file(&path); // what an earlier attempt could not take away
        let fresh = Self::create(&vfs, &self.dir, id, next, &self.db)?;
        if let Err(e) = current::prepare(&*vfs, &self.dir, id, next.db) {
            let _ = vfs.remove_file(&path); // nothing names it, the old file stands
            return Err(e);
        }
        self.failed = true;
        current::swap(&*vfs, &self.dir).map_err(unknown)?;
        let old = manifest_path(&self.dir, self.id);
        *self = fresh;
        // The edit has happened, whatever becomes of the old file: it is named nowhere, and opening
        // for writing removes it.
        let _ = vfs.remove_file(&old);
        Ok(())
    }

    /// Reads the manifest that CURRENT names. Writes nothing, and gives the same however often it is
    /// called. `NotFound` where there is no CURRENT.
    pub fn load(
        vfs: &Arc<dyn Vfs>,
        dir: &Path,
        owner: &Owner,
    ) -> Result<(ManifestState, ManifestId)> {
        let (db, id) = current::read(&**vfs, dir)?;
        if db != owner.id() {
            let message = "CURRENT names another database than it did";
            return Err(Error::corrupt(&dir.join("CURRENT"), 16, message));
        }
        let path = manifest_path(dir, id);
        let file = vfs.open(&path, OpenMode::Read).map_err(|e| {
            let missing = e.kind() == std::io::ErrorKind::NotFound;
            let e = Error::io(&path, "open the manifest that CURRENT names", e);
            if missing { e.with_kind(ErrorKind::Corrupt) } else { e }
        })?;
        let len = file.len().map_err(|e| Error::io(&path, "measure", e))?;
        if len > MAX_FILE_BYTES {
            return Err(Error::corrupt(&path, MAX_FILE_BYTES, "a manifest is never this long"));
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len as usize).map_err(|e| {
            let message = format!("no memory for the {len} bytes of the manifest");
            Error::new(ErrorKind::OutOfMemory, message).in_file(&path).caused_by(e)
        })?;
        bytes.resize(len as usize, 0);
        read_exact_at(&*file, &mut bytes, 0)?;
        Ok((read_state(&path, &bytes, id, owner)?, id))
    }

    /// Rolls once the file is this long.
    #[cfg(test)]
    pub(super) fn roll_past(&mut self, bytes: u64) {
        self.roll_at = bytes;
    }
}

fn check_len(path: &Path, payload: &[u8]) -> Result<()> {
    if payload.len() <= MAX_PAYLOAD_BYTES - TAG_BYTES {
        return Ok(());
    }
    let message = format!("{} bytes are more than a record of the manifest holds", payload.len());
    Err(Error::new(ErrorKind::InvalidArgument, message).in_file(path))
}

/// The old files go once CURRENT names the new one, so what it holds must be what a load accepts.
fn check_readable(path: &Path, payload: &[u8], state: &ManifestState) -> Result<()> {
    let what = match decode_snapshot(payload).and_then(|s| s.check().map(|()| s)) {
        Ok(read) if read == *state => return Ok(()),
        Ok(_) => "it reads back as another",
        Err(m) => m.0,
    };
    let message = format!("the state is none that a manifest can hold: {what}");
    Err(Error::new(ErrorKind::InvalidArgument, message).in_file(path))
}

/// The failure of a device, told as what it means for the edit.
fn unknown(e: Error) -> Error {
    e.with_kind(ErrorKind::CommitUnknown)
}
