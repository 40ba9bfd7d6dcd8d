//! Every byte of the log.
//!
//! A file begins with 4096 bytes that hold its header twice, at 0 and at 2048, so that rot in one
//! copy does not make a file in use look like one never begun:
//!
//! | offset | bytes | meaning |
//! |---|---|---|
//! | 0 | 8 | magic `LTNGLOG\0` |
//! | 8 | 4 | format version, 2; 1, which is read too, has no bit 3, and the last checksum is of the 60 bytes alone |
//! | 12 | 4 | bit 0: begins a log of its own, else it goes on from the file before; bit 1: encrypted; bit 2: written for readers of changes, no part of a log; bit 3: goes on from files that were not known to be durable |
//! | 16 | 16 | database id |
//! | 32 | 8 | file id |
//! | 40 | 16 | random salt of this use of the file |
//! | 56 | 8 | number of the last durable manifest edit |
//! | 64 | 8 | number of its first commit |
//! | 72 | 4 | checksum field of the last record of the file before |
//! | 76 | 4 | CRC-32C of bytes 0 to 76 |
//! | 80 | 64 | where it is encrypted: epoch (4), salt of the file's key (32), zeros (24), CRC-32C of the header's checksum and these 60 bytes (4) |
//!
//! Records follow, each at a multiple of 8, filled up with zeros to the next:
//!
//! | offset | bytes | meaning |
//! |---|---|---|
//! | 0 | 4 | CRC-32C of: salt, the record's offset in the file (u64), bytes 4 to 32 |
//! | 4 | 4 | CRC-32C of the body |
//! | 8 | 4 | length of the body |
//! | 12 | 4 | checksum field of the record before (of the header, for the first) |
//! | 16 | 8 | number of the commit |
//! | 24 | 8 | the commit up to which the log was known to be durable when this was written |
//! | 32 | | body (see `commit::batch`); encrypted: sealed, with its tag (16) |
//!
//! Salt and offset in the checksum: what is left of an earlier use of the file, and log bytes that
//! a user stored as a value, never pass for records. Numbers are little endian.
//!
//! The key of an encrypted file is derived from a data key, the second salt, and header bytes 12 to 76. The
//! nonce of a record is its offset: a file is written front to back, and never again after a failure;
//! used again, it has another salt. The tag also vouches for the record's bytes 8 to 32 and its offset.

use crate::codec::{u32_at, u64_at};
use crate::crypto::FileSalt;
use crate::types::{DatabaseId, LogId, Seq};

/// Where records begin.
pub const FILE_HEADER_BYTES: usize = 4096;
/// The second copy of the header.
pub(super) const SECOND_COPY: usize = 2048;
/// Length of a header copy, of a plain file.
const PLAIN_HEADER_BYTES: usize = 80;
/// The most that a header copy takes.
pub(super) const HEADER_BYTES: usize = PLAIN_HEADER_BYTES + FileSalt::ENCODED_BYTES;
const FRESH: u32 = 1;
const ENCRYPTED: u32 = 2;
const KEPT: u32 = 4;
const EARLY: u32 = 8;
/// What the checksum of a header covers.
const COVERED_BYTES: usize = 76;
/// Length of a record without its body.
pub(super) const RECORD_BYTES: usize = 32;
/// The format version of log files.
pub(super) const VERSION: u32 = 2;
/// The oldest that is read, as in the golden databases: what is opened for writing goes on in files of the newest.
pub(super) const OLDEST: u32 = 1;

const MAGIC: &[u8; 8] = b"LTNGLOG\0";

/// What a file is to the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileRole {
    /// It goes on from there, and was begun once everything before it was durable.
    GoesOn,
    /// It goes on from there, and was begun before that was known: where commits before it are missing it does
    /// not show that they were durable.
    GoesOnEarly,
    /// It begins a log of its own.
    Fresh,
    /// It is no part of a log: a recovery wrote it for readers of changes.
    Kept,
}

/// A log file's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub role: FileRole,
    pub db: DatabaseId,
    pub id: LogId,
    pub salt: [u8; 16],
    pub key_salt: Option<FileSalt>,
    pub manifest_edit: u64,
    pub first_seq: Seq,
    pub chain: u32,
}

/// A header copy, as found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderFound {
    Valid(FileHeader, u32),
    OtherVersion(u32),
    Invalid,
}

impl FileHeader {
    /// What the key of an encrypted file is bound to.
    pub(super) fn bound(&self) -> Vec<u8> {
        self.encode().0[12..COVERED_BYTES].to_vec()
    }

    /// Its bytes, and their checksum, to which the first record is chained.
    pub(super) fn encode(&self) -> (Vec<u8>, u32) {
        let mut b = vec![0; PLAIN_HEADER_BYTES];
        b[..8].copy_from_slice(MAGIC);
        b[8..12].copy_from_slice(&VERSION.to_le_bytes());
        let mut flags = match self.role {
            FileRole::GoesOn => 0,
            FileRole::GoesOnEarly => EARLY,
            FileRole::Fresh => FRESH,
            FileRole::Kept => KEPT,
        };
        if self.key_salt.is_some() {
            flags |= ENCRYPTED;
        }
        b[12..16].copy_from_slice(&flags.to_le_bytes());
        b[16..32].copy_from_slice(&self.db.0);
        b[32..40].copy_from_slice(&self.id.0.to_le_bytes());
        b[40..56].copy_from_slice(&self.salt);
        b[56..64].copy_from_slice(&self.manifest_edit.to_le_bytes());
        b[64..72].copy_from_slice(&self.first_seq.0.to_le_bytes());
        b[72..76].copy_from_slice(&self.chain.to_le_bytes());
        let crc = crc32c::crc32c(&b[..76]);
        b[76..].copy_from_slice(&crc.to_le_bytes());
        // A header that was torn between the two never passes for whole: another use of the file has another checksum.
        b.extend(self.key_salt.iter().flat_map(|salt| salt.encode_behind(crc)));
        (b, crc)
    }

    fn decode_copy(b: &[u8]) -> HeaderFound {
        let crc = u32_at(b, 76);
        if b[..8] != *MAGIC || crc32c::crc32c(&b[..76]) != crc {
            return HeaderFound::Invalid;
        }
        let version = u32_at(b, 8);
        if !(OLDEST..=VERSION).contains(&version) {
            return HeaderFound::OtherVersion(version);
        }
        let flags = u32_at(b, 12);
        let mut key_salt = None;
        if flags & ENCRYPTED != 0 {
            let rest = &b[PLAIN_HEADER_BYTES..];
            key_salt = match version {
                OLDEST => FileSalt::decode(rest),
                _ => FileSalt::decode_behind(rest, crc),
            };
            if key_salt.is_none() {
                return HeaderFound::Invalid;
            }
        }
        let header = Self {
            role: match flags & (FRESH | KEPT | EARLY) {
                0 => FileRole::GoesOn,
                EARLY => FileRole::GoesOnEarly,
                FRESH => FileRole::Fresh,
                KEPT => FileRole::Kept,
                _ => return HeaderFound::Invalid,
            },
            db: DatabaseId(b[16..32].try_into().expect("sixteen bytes")),
            id: LogId(u64_at(b, 32)),
            salt: b[40..56].try_into().expect("sixteen bytes"),
            key_salt,
            manifest_edit: u64_at(b, 56),
            first_seq: Seq(u64_at(b, 64)),
            chain: u32_at(b, 72),
        };
        HeaderFound::Valid(header, crc)
    }

    /// The header of a file, from whichever copy is whole.
    pub(super) fn decode(file: &[u8]) -> HeaderFound {
        if file.len() < FILE_HEADER_BYTES {
            return HeaderFound::Invalid;
        }
        match Self::decode_copy(&file[..HEADER_BYTES]) {
            HeaderFound::Invalid => {
                Self::decode_copy(&file[SECOND_COPY..SECOND_COPY + HEADER_BYTES])
            }
            found => found,
        }
    }
}

/// A record's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub body_crc: u32,
    pub body_bytes: u32,
    pub chain: u32,
    pub seq: Seq,
    pub durable: Seq,
}

/// What the tag of an encrypted record vouches for besides its body.
pub(super) fn bound(record: &[u8], offset: u64) -> [u8; RECORD_BYTES] {
    let mut out = [0; RECORD_BYTES];
    out[..8].copy_from_slice(&offset.to_le_bytes());
    out[8..].copy_from_slice(&record[8..RECORD_BYTES]);
    out
}

/// The space a record with a body of this length takes.
pub(super) fn record_space(body: usize) -> u64 {
    (RECORD_BYTES + body).next_multiple_of(8) as u64
}

impl RecordHeader {
    /// Its bytes for a place in a file, and its checksum field. `salt_crc` is the CRC of the salt.
    #[inline]
    pub(super) fn encode(&self, salt_crc: u32, offset: u64) -> ([u8; RECORD_BYTES], u32) {
        let mut b = [0; RECORD_BYTES];
        b[4..8].copy_from_slice(&self.body_crc.to_le_bytes());
        b[8..12].copy_from_slice(&self.body_bytes.to_le_bytes());
        b[12..16].copy_from_slice(&self.chain.to_le_bytes());
        b[16..24].copy_from_slice(&self.seq.0.to_le_bytes());
        b[24..32].copy_from_slice(&self.durable.0.to_le_bytes());
        let crc = checksum(salt_crc, offset, &b);
        b[..4].copy_from_slice(&crc.to_le_bytes());
        (b, crc)
    }

    /// The record at `offset` of a file: header, checksum field and body, if they are whole.
    pub(super) fn decode(file: &[u8], salt_crc: u32, offset: usize) -> Option<(Self, u32, &[u8])> {
        Self::decode_at(file.get(offset..)?, salt_crc, offset as u64)
    }

    /// The record that `bytes` begin with, which lie at `offset` of a file.
    pub(super) fn decode_at(
        bytes: &[u8],
        salt_crc: u32,
        offset: u64,
    ) -> Option<(Self, u32, &[u8])> {
        let header = Self::peek(bytes, salt_crc, offset)?;
        let end = RECORD_BYTES.checked_add(header.body_bytes as usize)?;
        let body = bytes.get(RECORD_BYTES..end)?;
        (crc32c::crc32c(body) == header.body_crc).then_some((header, u32_at(bytes, 0), body))
    }

    /// The header alone.
    pub(super) fn peek(bytes: &[u8], salt_crc: u32, offset: u64) -> Option<Self> {
        let b = bytes.get(..RECORD_BYTES)?;
        (checksum(salt_crc, offset, b) == u32_at(b, 0)).then(|| Self {
            body_crc: u32_at(b, 4),
            body_bytes: u32_at(b, 8),
            chain: u32_at(b, 12),
            seq: Seq(u64_at(b, 16)),
            durable: Seq(u64_at(b, 24)),
        })
    }
}

#[inline]
fn checksum(salt_crc: u32, offset: u64, record: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(salt_crc, &offset.to_le_bytes());
    crc32c::crc32c_append(crc, &record[4..RECORD_BYTES])
}

/// Makes the checksums and the chain of a file fit its bytes, so that a fuzzer comes past them.
#[cfg(feature = "fuzzing")]
pub fn repair(file: &mut [u8]) {
    if file.len() < FILE_HEADER_BYTES {
        return;
    }
    let crc = crc32c::crc32c(&file[..76]);
    file[76..80].copy_from_slice(&crc.to_le_bytes());
    if u32_at(file, 12) & ENCRYPTED != 0 {
        let rest = &file[PLAIN_HEADER_BYTES..HEADER_BYTES];
        let salt = *rest[4..].first_chunk().expect("a salt");
        let salt = FileSalt { epoch: u32_at(rest, 0), salt };
        let is_old = u32_at(file, 8) == OLDEST;
        let salt = if is_old { salt.encode() } else { salt.encode_behind(crc) };
        file[PLAIN_HEADER_BYTES..HEADER_BYTES].copy_from_slice(&salt);
    }
    let salt_crc = crc32c::crc32c(&file[40..56]);
    let (mut at, mut chain) = (FILE_HEADER_BYTES, crc);
    while at + RECORD_BYTES <= file.len() && u64_at(file, at) != 0 {
        let body_bytes = u32_at(file, at + 8) as usize;
        let start = at + RECORD_BYTES;
        let Some(body) = file.get(start..start.saturating_add(body_bytes)) else { return };
        let header = RecordHeader {
            body_crc: crc32c::crc32c(body),
            body_bytes: body_bytes as u32,
            chain,
            seq: Seq(u64_at(file, at + 16)),
            durable: Seq(u64_at(file, at + 24)),
        };
        let (bytes, crc) = header.encode(salt_crc, at as u64);
        file[at..start].copy_from_slice(&bytes);
        chain = crc;
        at = (start + body_bytes).next_multiple_of(8);
    }
}
