//! Bytes of headers, records and CURRENT. Numbers are little endian; every checksum is CRC-32C.
//!
//! ```text
//! preamble   0 magic 8 | 8 version u32 | 12 checksum of the 12 bytes before u32
//! header     0 preamble 16 | 16 database 16 | 32 id u64 | 40 salt 16 | 56 flags u32 | 60 checksum u32
//!            where flag bit 0 says that it is encrypted: 64 epoch u32 | 68 salt 32 | 100 zeros 24
//!            | 124 checksum of those 60 bytes u32
//! CURRENT    0 preamble 16 | 16 database 16 | 32 id u64 | 40 zero u32 | 44 checksum u32
//! record     0 checksum u32 | 4 payload bytes u32 | 8 kind u8 | 9 zero 3 | 12 chain u32 | 16 number u64
//!            24 payload | zeros to a multiple of 8
//! ```
//!
//! 1. The preamble is the same in every version, so that a newer file is told from a damaged one.
//! 2. A record's checksum covers the file's salt, the record after the checksum, and the payload:
//!    bytes of another file, or a key in a payload, do not pass for a record.
//! 3. The chain is the checksum of the record before; of the header, for the first.
//!
//! 4. The key of an encrypted file is derived from a data key, the second salt and the header's first 60
//!    bytes. Payloads that have bytes are sealed, and end with a tag (16), which also vouches for the
//!    record's bytes 4 to 24 and its offset; that is the nonce.
//!
//! No I/O, no threads.

use std::path::Path;

use crate::codec::{u32_at, u64_at};
use crate::crypto::FileSalt;
use crate::error::{Error, ErrorKind, Result};
use crate::types::{DatabaseId, ManifestId};

/// Begins a manifest file.
pub(super) const MANIFEST_MAGIC: [u8; 8] = *b"LTNGMAN\0";
/// Begins CURRENT.
pub(super) const CURRENT_MAGIC: [u8; 8] = *b"LTNGCUR\0";
/// The version that is written, and the only one that is read.
pub(super) const VERSION: u32 = 1;
/// Length of a preamble.
pub(super) const PREAMBLE_BYTES: usize = 16;
/// Length of a plain manifest's header.
pub(super) const HEADER_BYTES: usize = 64;
const ENCRYPTED: u32 = 1;
/// Length of CURRENT.
pub(super) const CURRENT_BYTES: usize = 48;
/// Length of a record without its payload.
pub(super) const RECORD_BYTES: usize = 24;
/// Records begin at multiples of this.
pub(super) const ALIGNMENT: usize = 8;

/// What a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// The whole state: number of the last edit, database, and an edit that builds it. Comes first.
    Snapshot = 1,
    /// One edit; the record's number is the edit's.
    Edit = 2,
    /// Says that everything up to the edit of its number was synced. Has no payload.
    Mark = 3,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [Self::Snapshot, Self::Edit, Self::Mark].into_iter().find(|k| *k as u8 == byte)
    }
}

/// Who a file belongs to, as its header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    /// The database.
    pub(super) db: DatabaseId,
    /// The file.
    pub(super) id: ManifestId,
    /// Drawn for this file.
    pub(super) salt: [u8; 16],
    /// What its key is derived from, where it is encrypted.
    pub(super) key_salt: Option<FileSalt>,
}

impl Header {
    /// Its length; the first record begins there.
    pub(super) fn len(&self) -> usize {
        HEADER_BYTES + self.key_salt.map_or(0, |_| FileSalt::ENCODED_BYTES)
    }

    /// What the key of an encrypted file is bound to.
    pub(super) fn bound(&self) -> Vec<u8> {
        self.encode().0[..60].to_vec()
    }

    /// The header's bytes, and the checksum that the first record chains to.
    pub(super) fn encode(&self) -> (Vec<u8>, u32) {
        let mut b = vec![0; HEADER_BYTES];
        b[..PREAMBLE_BYTES].copy_from_slice(&preamble(MANIFEST_MAGIC));
        b[16..32].copy_from_slice(&self.db.0);
        b[32..40].copy_from_slice(&self.id.0.to_le_bytes());
        b[40..56].copy_from_slice(&self.salt);
        let flags = if self.key_salt.is_some() { ENCRYPTED } else { 0 };
        b[56..60].copy_from_slice(&flags.to_le_bytes());
        let crc = crc32c::crc32c(&b[..60]);
        b[60..].copy_from_slice(&crc.to_le_bytes());
        b.extend(self.key_salt.iter().flat_map(FileSalt::encode));
        (b, crc)
    }

    /// Reverse of [`encode`](Self::encode); gives the checksum too.
    pub(super) fn decode(file: &Path, bytes: &[u8]) -> Result<(Self, u32)> {
        check_preamble(file, bytes, MANIFEST_MAGIC)?;
        let Some(b) = bytes.get(..HEADER_BYTES) else {
            return Err(Error::corrupt(file, 0, "the manifest is shorter than its header"));
        };
        let crc = u32_at(b, 60);
        if crc32c::crc32c(&b[..60]) != crc {
            return Err(Error::corrupt(file, 0, "the header does not match its checksum"));
        }
        let key_salt = match u32_at(b, 56) {
            0 => None,
            ENCRYPTED => match FileSalt::decode(&bytes[HEADER_BYTES..]) {
                Some(salt) => Some(salt),
                None => {
                    let message = "the salt of the manifest does not match its checksum";
                    return Err(Error::corrupt(file, HEADER_BYTES as u64, message));
                }
            },
            _ => {
                let message = "the manifest uses a feature that this build does not know";
                return Err(Error::new(ErrorKind::UnsupportedFormat, message).in_file(file));
            }
        };
        let header = Self {
            key_salt,
            db: DatabaseId(b[16..32].try_into().expect("sixteen bytes")),
            id: ManifestId(u64_at(b, 32)),
            salt: b[40..56].try_into().expect("sixteen bytes"),
        };
        Ok((header, crc))
    }
}

/// The bytes of CURRENT.
pub(super) fn encode_current(db: DatabaseId, id: ManifestId) -> [u8; CURRENT_BYTES] {
    let mut b = [0; CURRENT_BYTES];
    b[..PREAMBLE_BYTES].copy_from_slice(&preamble(CURRENT_MAGIC));
    b[16..32].copy_from_slice(&db.0);
    b[32..40].copy_from_slice(&id.0.to_le_bytes());
    let crc = crc32c::crc32c(&b[..44]);
    b[44..].copy_from_slice(&crc.to_le_bytes());
    b
}

/// Reverse of [`encode_current`].
pub(super) fn decode_current(file: &Path, bytes: &[u8]) -> Result<(DatabaseId, ManifestId)> {
    check_preamble(file, bytes, CURRENT_MAGIC)?;
    let Ok(b) = <&[u8; CURRENT_BYTES]>::try_from(bytes) else {
        return Err(Error::corrupt(file, 0, "CURRENT is not as long as it should be"));
    };
    if crc32c::crc32c(&b[..44]) != u32_at(b, 44) {
        return Err(Error::corrupt(file, 0, "CURRENT does not match its checksum"));
    }
    let db = DatabaseId(b[16..32].try_into().expect("sixteen bytes"));
    Ok((db, ManifestId(u64_at(b, 32))))
}

fn preamble(magic: [u8; 8]) -> [u8; PREAMBLE_BYTES] {
    preamble_of(magic, VERSION)
}

/// The first bytes of a file of some version.
pub(super) fn preamble_of(magic: [u8; 8], version: u32) -> [u8; PREAMBLE_BYTES] {
    let mut b = [0; PREAMBLE_BYTES];
    b[..8].copy_from_slice(&magic);
    b[8..12].copy_from_slice(&version.to_le_bytes());
    let crc = crc32c::crc32c(&b[..12]);
    b[12..].copy_from_slice(&crc.to_le_bytes());
    b
}

fn check_preamble(file: &Path, bytes: &[u8], magic: [u8; 8]) -> Result<()> {
    let Some(b) = bytes.get(..PREAMBLE_BYTES) else {
        return Err(Error::corrupt(file, 0, "the file is shorter than its first line"));
    };
    if b[..8] != magic || crc32c::crc32c(&b[..12]) != u32_at(b, 12) {
        return Err(Error::corrupt(file, 0, "the file does not begin as it should"));
    }
    match u32_at(b, 8) {
        VERSION => Ok(()),
        found => Err(Error::new(
            ErrorKind::UnsupportedFormat,
            format!("the file is of format version {found}; this build knows version {VERSION}"),
        )
        .in_file(file)),
    }
}

/// What the tag of an encrypted payload vouches for besides it.
pub(super) fn bound(kind: Kind, number: u64, chain: u32, stored: usize, at: u64) -> [u8; 28] {
    let mut out = [0; 28];
    out[..8].copy_from_slice(&at.to_le_bytes());
    out[8..12].copy_from_slice(&(stored as u32).to_le_bytes());
    out[12] = kind as u8;
    out[16..20].copy_from_slice(&chain.to_le_bytes());
    out[20..].copy_from_slice(&number.to_le_bytes());
    out
}

/// What the checksums of a file's records begin with.
pub(super) fn salt_seed(salt: &[u8; 16]) -> u32 {
    crc32c::crc32c(salt)
}

/// A record's bytes, padded, and its checksum.
pub(super) fn encode_record(
    seed: u32,
    kind: Kind,
    number: u64,
    chain: u32,
    payload: &[u8],
) -> (Vec<u8>, u32) {
    let len = u32::try_from(payload.len()).expect("payloads are bounded where they are made");
    let mut b = Vec::with_capacity((RECORD_BYTES + payload.len()).next_multiple_of(ALIGNMENT));
    b.extend_from_slice(&[0; 4]);
    b.extend_from_slice(&len.to_le_bytes());
    b.extend_from_slice(&[kind as u8, 0, 0, 0]);
    b.extend_from_slice(&chain.to_le_bytes());
    b.extend_from_slice(&number.to_le_bytes());
    b.extend_from_slice(payload);
    let crc = crc32c::crc32c_append(seed, &b[4..]);
    b[..4].copy_from_slice(&crc.to_le_bytes());
    b.resize(b.len().next_multiple_of(ALIGNMENT), 0);
    (b, crc)
}

/// The length of a record in the file.
pub(super) fn record_len(payload: usize) -> u64 {
    (RECORD_BYTES as u64 + payload as u64).next_multiple_of(ALIGNMENT as u64)
}

/// A record whose checksum held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    /// What it is.
    pub(super) kind: Kind,
    /// The edit it is, or vouches for.
    pub(super) number: u64,
    /// The checksum of the record before it.
    pub(super) chain: u32,
    /// Its own.
    pub(super) crc: u32,
    /// What it carries.
    pub(super) payload: &'a [u8],
    /// Where the next one begins.
    pub(super) next: usize,
}

/// The record at `at`, where a whole one lies there whose number is in `numbers`. The chain is not
/// looked at. The cheap tests come first: a search for records asks at every multiple of 8.
pub(super) fn record_at(
    file: &[u8],
    seed: u32,
    at: usize,
    numbers: std::ops::RangeInclusive<u64>,
) -> Option<Record<'_>> {
    let head = file.get(at..)?.get(..RECORD_BYTES)?;
    let kind = Kind::of(head[8])?;
    let (len, number) = (u32_at(head, 4) as usize, u64_at(head, 16));
    if head[9..12] != [0; 3] || !numbers.contains(&number) || (kind == Kind::Mark && len != 0) {
        return None;
    }
    let end = at.checked_add(RECORD_BYTES)?.checked_add(len)?;
    let next = end.checked_next_multiple_of(ALIGNMENT)?;
    let whole = file.get(at..next)?;
    let used = RECORD_BYTES + len;
    let crc = u32_at(head, 0);
    if crc32c::crc32c_append(seed, &whole[4..used]) != crc || whole[used..].iter().any(|b| *b != 0)
    {
        return None;
    }
    let payload = &whole[RECORD_BYTES..used];
    Some(Record { kind, number, chain: u32_at(head, 12), crc, payload, next })
}

/// Makes the checksums and the chain of a manifest fit its bytes, so that a fuzzer comes past them.
#[cfg(feature = "fuzzing")]
pub fn repair(file: &mut [u8]) {
    if file.len() < HEADER_BYTES {
        return;
    }
    file[..PREAMBLE_BYTES].copy_from_slice(&preamble(MANIFEST_MAGIC));
    let mut chain = crc32c::crc32c(&file[..60]);
    file[60..HEADER_BYTES].copy_from_slice(&chain.to_le_bytes());
    let salt = file[40..56].try_into().expect("sixteen bytes");
    let (seed, mut at) = (salt_seed(&salt), HEADER_BYTES);
    while at + RECORD_BYTES <= file.len() {
        let end = (at + RECORD_BYTES).saturating_add(u32_at(file, at + 4) as usize);
        let next = end.saturating_add(ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        if next > file.len() {
            return;
        }
        file[at + 12..at + 16].copy_from_slice(&chain.to_le_bytes());
        file[end..next].fill(0);
        chain = crc32c::crc32c_append(seed, &file[at + 4..end]);
        file[at..at + 4].copy_from_slice(&chain.to_le_bytes());
        at = next;
    }
}
