//! The header: the first 64 bytes of a segment, 128 where it is encrypted.
//!
//! | offset | size | meaning |
//! |---|---|---|
//! | 0 | 8 | `LDB-SEG` and a line feed |
//! | 8 | 4 | format version, 1 |
//! | 12 | 1 | kind: 1 data, 2 blobs |
//! | 13 | 3 | flags: bit 0: encrypted; any other bit set is refused |
//! | 16 | 16 | database id |
//! | 32 | 8 | segment id |
//! | 40 | 4 | keyspace the segment was written for |
//! | 44 | 1 | codec of its pages, as in a page; some may be stored plain. 4: the first page is the dictionary |
//! | 45 | 15 | kept, zeros |
//! | 60 | 4 | CRC-32C of the 60 bytes before |
//!
//! and where it is encrypted
//!
//! | offset | size | meaning |
//! |---|---|---|
//! | 64 | 4 | epoch of the data key |
//! | 68 | 32 | salt, from which with the key and bytes 0 to 60 the file's key is derived |
//! | 100 | 24 | zeros |
//! | 124 | 4 | CRC-32C of bytes 64 to 124 |
//!
//! Numbers are little endian. Every later version keeps the magic, the version and the checksum
//! where they are, so that it is told from damage. No I/O, no threads.

use std::path::Path;

use crate::codec::{u32_at, u64_at};
use crate::compress::Codec;
use crate::crypto::FileSalt;
use crate::error::{Error, ErrorKind, Result};
use crate::types::{DatabaseId, KeyspaceId, SegmentId};

/// Length of the header of a plain segment, and of the first part of an encrypted one's.
pub const HEADER_BYTES: usize = 64;
/// Length of the header of an encrypted segment.
pub const ENCRYPTED_HEADER_BYTES: usize = HEADER_BYTES + FileSalt::ENCODED_BYTES;
const ENCRYPTED: u8 = 1;
const MAGIC: &[u8; 8] = b"LDB-SEG\n";
const FORMAT_VERSION: u32 = 1;
const CRC_AT: usize = HEADER_BYTES - 4;

/// What a segment is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum SegmentKind {
    /// Leaves, inner pages and filters of partitions.
    Data = 1,
    /// Large values.
    Blob = 2,
}

/// What the header of a segment says of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    /// The database.
    pub database: DatabaseId,
    /// The segment.
    pub id: SegmentId,
    /// What it is for.
    pub kind: SegmentKind,
    /// The keyspace it was written for.
    pub keyspace: KeyspaceId,
    /// What its key is derived from, where it is encrypted.
    pub salt: Option<FileSalt>,
    /// How its pages are packed, those that are.
    pub codec: Codec,
}

impl SegmentHeader {
    /// Its length; the first page begins there.
    pub fn len(&self) -> u64 {
        if self.salt.is_some() { ENCRYPTED_HEADER_BYTES as u64 } else { HEADER_BYTES as u64 }
    }

    /// The bytes of the header.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.encode_front().to_vec();
        out.extend(self.salt.iter().flat_map(FileSalt::encode));
        out
    }

    /// What the key of an encrypted segment is bound to.
    pub fn bound(&self) -> [u8; CRC_AT] {
        *self.encode_front().first_chunk().expect("a header is longer")
    }

    fn encode_front(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[13] = u8::from(self.salt.is_some()) * ENCRYPTED;
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[12] = self.kind as u8;
        out[16..32].copy_from_slice(&self.database.0);
        out[32..40].copy_from_slice(&self.id.0.to_le_bytes());
        out[40..44].copy_from_slice(&self.keyspace.0.to_le_bytes());
        out[44] = self.codec.as_byte();
        let crc = crc32c::crc32c(&out[..CRC_AT]);
        out[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reverse of [`encode`](Self::encode); `bytes` are the first of a file, as many as it has up to
    /// [`ENCRYPTED_HEADER_BYTES`]. `file` is for messages.
    pub fn decode(bytes: &[u8], file: &Path) -> Result<Self> {
        let corrupt = |message: &str| Err(Error::corrupt(file, 0, message));
        let unsupported = |message: String| {
            Err(Error::new(ErrorKind::UnsupportedFormat, message).in_file(file).at_offset(0))
        };
        if bytes.len() < HEADER_BYTES {
            return Err(Error::corrupt(file, bytes.len() as u64, "the file ends early"));
        }
        if bytes[..8] != MAGIC[..] {
            return corrupt("the file is not a segment");
        }
        if u32_at(bytes, CRC_AT) != crc32c::crc32c(&bytes[..CRC_AT]) {
            return corrupt("the header of a segment does not match its checksum");
        }
        let version = u32_at(bytes, 8);
        if version != FORMAT_VERSION {
            return unsupported(format!(
                "the segment is of format version {version}, this build knows {FORMAT_VERSION}"
            ));
        }
        let kind = match bytes[12] {
            1 => SegmentKind::Data,
            2 => SegmentKind::Blob,
            kind => return unsupported(format!("the segment is of the unknown kind {kind}")),
        };
        if bytes[13] & !ENCRYPTED != 0 || bytes[14..16] != [0; 2] || bytes[45..CRC_AT] != [0; 15] {
            return unsupported("the segment uses a feature that this build does not know".into());
        }
        let Some(codec) = Codec::from_byte(bytes[44]) else {
            let byte = bytes[44];
            return unsupported(format!(
                "the segment's pages are packed by the unknown codec {byte}"
            ));
        };
        let salt = if bytes[13] & ENCRYPTED == 0 {
            None
        } else {
            let Some(salt) = FileSalt::decode(&bytes[HEADER_BYTES..]) else {
                return corrupt("the salt of a segment does not match its checksum");
            };
            Some(salt)
        };
        let database = *bytes[16..].first_chunk().expect("a header is longer");
        Ok(Self {
            database: DatabaseId(database),
            id: SegmentId(u64_at(bytes, 32)),
            kind,
            keyspace: KeyspaceId(u32_at(bytes, 40)),
            salt,
            codec,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            database: DatabaseId([9; 16]),
            id: SegmentId(0x0102),
            kind: SegmentKind::Blob,
            keyspace: KeyspaceId(5),
            salt: None,
            codec: Codec::Snappy,
        }
    }

    #[test]
    fn the_worked_example_has_these_bytes() {
        let mut expect = b"LDB-SEG\n".to_vec();
        expect.extend([1, 0, 0, 0, 2, 0, 0, 0]);
        expect.extend([9; 16]);
        expect.extend([2, 1, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0]);
        expect.push(3);
        expect.extend([0; 15]);
        expect.extend(crc32c::crc32c(&expect).to_le_bytes());
        let bytes = header().encode();
        assert_eq!(&bytes[..], &expect[..]);
        assert_eq!(SegmentHeader::decode(&bytes, Path::new("f")).unwrap(), header());
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        for at in 0..HEADER_BYTES {
            for bit in 0..8 {
                let mut bytes = header().encode();
                bytes[at] ^= 1 << bit;
                let e = SegmentHeader::decode(&bytes, Path::new("f")).unwrap_err();
                assert_eq!(e.kind(), ErrorKind::Corrupt);
            }
        }
    }

    #[test]
    fn what_a_later_version_wrote_is_unsupported_not_corrupt() {
        for at in [8, 11, 12, 13, 15, 44, 45, 59] {
            let mut bytes = header().encode();
            bytes[at] = 77;
            let crc = crc32c::crc32c(&bytes[..CRC_AT]);
            bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
            let e = SegmentHeader::decode(&bytes, Path::new("f")).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::UnsupportedFormat, "byte {at}");
        }
    }
}
