//! From the bytes of a manifest file to its state: where it ends, and whether it is damaged.
//!
//! 1. A file begins with a snapshot and its mark, synced before CURRENT named the file: where either
//!    is missing, the file is damaged.
//! 2. An edit is synced before its mark is written, and nothing is done because of it before the
//!    mark is synced. So a bad record with a good one behind it is damage; with none behind it, it
//!    is the torn end of an edit that nobody acted on, and is cut.
//! 3. Rot in the last mark, or a file that lost whole records at its end, cannot be told from such an
//!    end here; the log's headers carry the number of the edit they were written under, and tell.
//!
//! No I/O, no threads: the same bytes give the same answer however often they are read.

use std::borrow::Cow;
use std::path::Path;

use super::edit::Edit;
use super::frame::{self, Header, Kind, RECORD_BYTES, Record};
use super::state::ManifestState;
use crate::codec::{Malformed, Reader};
use crate::crypto::{FileKey, FileKind, Owner};
use crate::error::{Error, Result, malformed_in};
use crate::types::{DatabaseId, ManifestId};

/// A snapshot's payload: number of the last edit, database, the edit that builds the state.
pub(super) fn snapshot_payload(state: &ManifestState) -> Vec<u8> {
    let mut out = state.edit.to_le_bytes().to_vec();
    out.extend_from_slice(&state.db.0);
    state.snapshot_edit().encode(&mut out);
    out
}

/// Reverse of [`snapshot_payload`]; the state is still to be checked as a whole.
pub(super) fn decode_snapshot(payload: &[u8]) -> std::result::Result<ManifestState, Malformed> {
    let mut r = Reader::new(payload);
    let (number, db) = (r.u64()?, DatabaseId(r.array()?));
    let mut state = ManifestState::new(db);
    state.replay(&Edit::decode(r.rest())?)?;
    state.edit = number;
    Ok(state)
}

/// The state that the bytes of the manifest `id` of database `db` add up to.
pub(super) fn read_state(
    path: &Path,
    bytes: &[u8],
    id: ManifestId,
    db: &Owner,
) -> Result<ManifestState> {
    let (header, crc) = Header::decode(path, bytes)?;
    if header.db != db.id() {
        return Err(Error::corrupt(path, 0, "the manifest belongs to another database"));
    }
    if header.id != id {
        return Err(Error::corrupt(path, 0, "the manifest's id is not the one of its name"));
    }
    let seed = frame::salt_seed(&header.salt);
    let key = db.file_key(header.key_salt.as_ref(), FileKind::Manifest, &header.bound(), path)?;
    Records { path, bytes, seed, key, at: header.len(), chain: crc }.read(db.id())
}

/// The records of a file, being read.
struct Records<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    seed: u32,
    key: Option<FileKey>,
    at: usize,
    chain: u32,
}

impl<'a> Records<'a> {
    /// The next record, where it is good and follows the one before.
    fn next(&mut self) -> Option<(u64, Record<'a>)> {
        let at = self.at;
        let record = frame::record_at(self.bytes, self.seed, at, 0..=u64::MAX)?;
        if record.chain != self.chain {
            return None;
        }
        self.chain = record.crc;
        self.at = record.next;
        Some((at as u64, record))
    }

    /// The payload of the record at `at`, decrypted where the file is encrypted.
    fn payload(&self, at: u64, record: &Record<'a>) -> Result<Cow<'a, [u8]>> {
        let Some(key) = &self.key else { return Ok(Cow::Borrowed(record.payload)) };
        let stored = record.payload.len();
        let bound = frame::bound(record.kind, record.number, record.chain, stored, at);
        let mut text = record.payload.to_vec();
        let Some(len) = key.open(at, &bound, &mut text) else {
            let message = "a record of the manifest was not sealed with the file's key";
            return Err(Error::corrupt(self.path, at, message));
        };
        text.truncate(len);
        Ok(Cow::Owned(text))
    }

    fn read(mut self, db: DatabaseId) -> Result<ManifestState> {
        let path = self.path;
        let mut state = self.snapshot(db)?;
        while let Some((at, record)) = self.next() {
            let malformed = malformed_in(path, at);
            match record.kind {
                Kind::Mark if record.number == state.edit => {}
                Kind::Edit if state.edit.checked_add(1) == Some(record.number) => {
                    let payload = self.payload(at, &record)?;
                    let edit = Edit::decode(&payload).map_err(&malformed)?;
                    state.replay(&edit).map_err(&malformed)?;
                }
                _ => return Err(Error::corrupt(path, at, "a record is out of order")),
            }
        }
        self.expect_end(state.edit)?;
        state.check().map_err(malformed_in(path, frame::HEADER_BYTES as u64))?;
        Ok(state)
    }

    fn snapshot(&mut self, db: DatabaseId) -> Result<ManifestState> {
        let path = self.path;
        let Some((at, record)) = self.next().filter(|(_, r)| r.kind == Kind::Snapshot) else {
            let message = "the manifest does not begin with a snapshot";
            return Err(Error::corrupt(path, self.at as u64, message));
        };
        let payload = self.payload(at, &record)?;
        let state = decode_snapshot(&payload).map_err(malformed_in(path, at))?;
        if state.edit != record.number || state.db != db {
            return Err(Error::corrupt(path, at, "the snapshot is of another file"));
        }
        let mark = self.next().map(|(_, r)| (r.kind, r.number));
        if mark != Some((Kind::Mark, state.edit)) {
            let message = "the mark behind the manifest's snapshot is damaged";
            return Err(Error::corrupt(path, self.at as u64, message));
        }
        Ok(state)
    }

    /// Fails where a good record lies past the first bad one: a later one, or an earlier one that was
    /// written over what it is now in the place of. Higher numbers than the bytes have room for are
    /// not looked for.
    fn expect_end(&self, last_edit: u64) -> Result<()> {
        let room = self.bytes.len().saturating_sub(self.at) / RECORD_BYTES;
        let numbers = 0..=last_edit.saturating_add(room as u64);
        let found = (self.at..self.bytes.len())
            .step_by(frame::ALIGNMENT)
            .any(|at| frame::record_at(self.bytes, self.seed, at, numbers.clone()).is_some());
        if found {
            let message = "a record in the middle of the manifest is damaged";
            return Err(Error::corrupt(self.path, self.at as u64, message));
        }
        Ok(())
    }
}
