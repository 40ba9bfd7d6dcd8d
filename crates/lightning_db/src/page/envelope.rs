//! The envelope: the 16 bytes in front of every page's payload.
//!
//! | offset | size | meaning |
//! |---|---|---|
//! | 0 | 1 | page type: 1 leaf, 2 inner, 3 filter, 4 blob, 5 dictionary |
//! | 1 | 1 | codec of the payload: 0 none, 1 LZ4 block, 2 Zstandard, 3 Snappy, 4 Zstandard with the dictionary of the segment |
//! | 2 | 1 | flags: bit 0: the payload is encrypted, see 3; any other bit set is refused |
//! | 3 | 1 | envelope version, 1 |
//! | 4 | 4 | bytes of the payload once decompressed |
//! | 8 | 4 | bytes of the payload as stored |
//! | 12 | 4 | CRC-32C, see 1 |
//!
//! Numbers are little endian.
//! 1. The checksum covers the page's identity (database id, 16 bytes; segment, 8; offset, 8),
//!    which is not stored, then the first 12 bytes of the envelope, then the stored payload. So a
//!    page that lies where it was not written is refused like a rotten one.
//! 2. Nothing of a page is believed before its checksum held, and its decompressed size is
//!    bounded by `MAX_PAGE_RAW_BYTES` even then.
//! 3. Pages of an encrypted segment are all encrypted, those of another none. An encrypted payload is
//!    compressed first; behind it stand the nonce (8) and the tag (16), which vouches for the identity
//!    above, the envelope and the key's epoch too. The nonce is a counter of pages, not the offset:
//!    what could not be written is written again in the same place.
//!
//! No I/O, no threads.

use std::borrow::Cow;
use std::path::Path;

use crate::codec::{u32_at, u64_at};
use crate::compress::{self, Codec, Dictionary, Packer, Packing};
use crate::crypto::{FileKey, Sealer, TAG_BYTES};
use crate::error::{Error, ErrorKind, Result, malformed_in};
use crate::limits::MAX_PAGE_RAW_BYTES;
use crate::types::{DatabaseId, SegmentId};

/// Length of the envelope.
pub const HEADER_BYTES: usize = 16;
/// The longest a stored page can be: [`seal`] stores plain what does not shrink.
pub const MAX_STORED_BYTES: usize = HEADER_BYTES + MAX_PAGE_RAW_BYTES + SEAL_BYTES;
/// What an encrypted page is longer by.
pub const SEAL_BYTES: usize = NONCE_BYTES + TAG_BYTES;
const NONCE_BYTES: usize = 8;
const ENCRYPTED: u8 = 1;
/// The envelope version this build writes and knows.
const VERSION: u8 = 1;
/// Envelope bytes covered by the checksum.
const COVERED_BYTES: usize = 12;
const IDENTITY_BYTES: usize = 32;

/// What a page holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum PageType {
    /// Entries.
    Leaf = 1,
    /// Separators and addresses of pages below.
    Inner = 2,
    /// A piece of a filter.
    Filter = 3,
    /// A piece of a large value.
    Blob = 4,
    /// A Zstandard dictionary.
    Dictionary = 5,
}

impl PageType {
    /// How many types there are.
    pub const COUNT: usize = 5;

    /// Its place in a table of all types.
    pub fn index(self) -> usize {
        self as usize - 1
    }

    /// The byte that stands for this type on disk.
    pub fn as_byte(self) -> u8 {
        self as u8
    }

    /// The type a byte on disk stands for.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Leaf),
            2 => Some(Self::Inner),
            3 => Some(Self::Filter),
            4 => Some(Self::Blob),
            5 => Some(Self::Dictionary),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Leaf => "a leaf",
            Self::Inner => "an inner page",
            Self::Filter => "a filter page",
            Self::Blob => "a blob page",
            Self::Dictionary => "a dictionary",
        }
    }
}

/// Where a page lies; its checksum is bound to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageIdentity {
    /// The database.
    pub database: DatabaseId,
    /// The segment file.
    pub segment: SegmentId,
    /// Byte offset of the envelope in the file.
    pub offset: u64,
}

/// What sealing a page gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sealed {
    /// The page's checksum.
    pub checksum: u32,
    /// How its payload is stored.
    pub codec: Codec,
}

/// Appends the page holding `raw` to `out`. The payload is packed as `packing` says, or stored
/// plain where that does not shrink it.
///
/// `raw` must be at most `MAX_PAGE_RAW_BYTES` long.
pub fn seal(
    out: &mut Vec<u8>,
    id: &PageIdentity,
    ty: PageType,
    raw: &[u8],
    packing: Packing,
    packer: &mut Packer,
) -> Sealed {
    let (start, codec) = begin(out, ty, raw, packing, packer);
    Sealed { checksum: finish(&mut out[start..], id), codec }
}

/// As [`seal`], encrypted.
pub fn seal_encrypted(
    out: &mut Vec<u8>,
    id: &PageIdentity,
    ty: PageType,
    raw: &[u8],
    packing: Packing,
    packer: &mut Packer,
    sealer: &mut Sealer,
) -> Result<Sealed> {
    let (start, codec) = begin(out, ty, raw, packing, packer);
    let (header, payload) = out[start..].split_at_mut(HEADER_BYTES);
    header[2] = ENCRYPTED;
    header[8..12].copy_from_slice(&((payload.len() + SEAL_BYTES) as u32).to_le_bytes());
    let nonce = sealer.next_nonce();
    let tag = sealer.seal(nonce, &bound(id, header, sealer.key().epoch()), payload)?;
    out.extend_from_slice(&nonce.to_le_bytes());
    out.extend_from_slice(&tag);
    Ok(Sealed { checksum: finish(&mut out[start..], id), codec })
}

/// Envelope, without checksum, and payload; gives where it begins, and how the payload is stored.
fn begin(
    out: &mut Vec<u8>,
    ty: PageType,
    raw: &[u8],
    packing: Packing,
    packer: &mut Packer,
) -> (usize, Codec) {
    assert!(raw.len() <= MAX_PAGE_RAW_BYTES, "a page of {} bytes could not be opened", raw.len());
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    let codec = packer.pack(packing, raw, out);
    let (header, payload) = out[start..].split_at_mut(HEADER_BYTES);
    header[..4].copy_from_slice(&[ty.as_byte(), codec.as_byte(), 0, VERSION]);
    header[4..8].copy_from_slice(&(raw.len() as u32).to_le_bytes());
    header[8..12].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    (start, codec)
}

fn finish(page: &mut [u8], id: &PageIdentity) -> u32 {
    let (header, payload) = page.split_at_mut(HEADER_BYTES);
    let crc = checksum(id, header, payload);
    header[COVERED_BYTES..].copy_from_slice(&crc.to_le_bytes());
    crc
}

/// What the tag of an encrypted page vouches for besides its payload.
fn bound(id: &PageIdentity, header: &[u8], epoch: u32) -> [u8; IDENTITY_BYTES + COVERED_BYTES + 4] {
    let mut out = [0; IDENTITY_BYTES + COVERED_BYTES + 4];
    out[..IDENTITY_BYTES + COVERED_BYTES].copy_from_slice(&front(id, header));
    out[IDENTITY_BYTES + COVERED_BYTES..].copy_from_slice(&epoch.to_le_bytes());
    out
}

/// The stored length that the envelope at the front of `stored` claims for its page, not yet
/// checked by the checksum; `None` where `stored` ends before, or the claim is impossible.
pub fn claimed_len(stored: &[u8]) -> Option<usize> {
    let header = stored.first_chunk::<HEADER_BYTES>()?;
    let len = HEADER_BYTES.checked_add(u32_at(header, 8) as usize)?;
    (len <= MAX_STORED_BYTES).then_some(len)
}

/// Whether the envelope at the front of `stored` claims that its page was packed with a dictionary.
pub fn claims_dictionary(stored: &[u8]) -> bool {
    stored.get(1) == Some(&Codec::ZstdDictionary.as_byte())
}

/// The checksum that the envelope at the front of `stored` holds.
pub fn claimed_checksum(stored: &[u8]) -> Option<u32> {
    stored.first_chunk::<HEADER_BYTES>().map(|header| u32_at(header, COVERED_BYTES))
}

/// The payload of the page whose stored bytes are exactly `stored`, decompressed. `file` is for
/// messages.
#[cfg(test)]
pub fn open(stored: &[u8], id: &PageIdentity, expect: PageType, file: &Path) -> Result<Vec<u8>> {
    open_borrowed(stored, id, expect, file, None).map(Cow::into_owned)
}

/// Makes lengths and checksum of a page fit its bytes, so that a fuzzer comes past them.
#[cfg(feature = "fuzzing")]
pub fn repair(stored: &mut [u8], id: &PageIdentity) {
    if stored.len() < HEADER_BYTES {
        return;
    }
    let (header, payload) = stored.split_at_mut(HEADER_BYTES);
    header[8..12].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    let crc = checksum(id, header, payload);
    header[COVERED_BYTES..].copy_from_slice(&crc.to_le_bytes());
}

/// As [`open`]; the payload of a page stored plain is borrowed. With a key, the page must be encrypted.
pub fn open_borrowed<'a>(
    stored: &'a [u8],
    id: &PageIdentity,
    expect: PageType,
    file: &Path,
    key: Option<&FileKey>,
) -> Result<Cow<'a, [u8]>> {
    if key.is_some() {
        return open_vec(stored.to_vec(), id, expect, file, key, None).map(Cow::Owned);
    }
    match check(stored, id, expect, file, 0)? {
        (Codec::None, _) => Ok(Cow::Borrowed(&stored[HEADER_BYTES..])),
        (codec, raw_bytes) => decompress(codec, stored, raw_bytes, id, file, None).map(Cow::Owned),
    }
}

/// As [`open`]; a page stored plain keeps the memory it was read into. `dictionary` is that of the
/// segment, for pages that [claim one](claims_dictionary). With a key, the page must be
/// encrypted.
pub fn open_vec(
    mut stored: Vec<u8>,
    id: &PageIdentity,
    expect: PageType,
    file: &Path,
    key: Option<&FileKey>,
    dictionary: Option<&Dictionary>,
) -> Result<Vec<u8>> {
    let checked = check(&stored, id, expect, file, u8::from(key.is_some()) * ENCRYPTED)?;
    if let Some(key) = key {
        decrypt(&mut stored, id, key, file)?;
    }
    match checked {
        (Codec::None, _) => {
            stored.drain(..HEADER_BYTES);
            Ok(stored)
        }
        (codec, raw_bytes) => decompress(codec, &stored, raw_bytes, id, file, dictionary),
    }
}

/// Decrypts the payload of a page whose checksum held, and takes nonce and tag away.
fn decrypt(stored: &mut Vec<u8>, id: &PageIdentity, key: &FileKey, file: &Path) -> Result<()> {
    let tag: [u8; TAG_BYTES] = *stored.last_chunk().expect("its length was checked");
    stored.truncate(stored.len() - TAG_BYTES);
    let nonce_at = stored.len() - NONCE_BYTES;
    let nonce = u64_at(stored, nonce_at);
    stored.truncate(nonce_at);
    stored.extend_from_slice(&tag);
    let (header, sealed) = stored.split_at_mut(HEADER_BYTES);
    let Some(len) = key.open(nonce, &bound(id, header, key.epoch()), sealed) else {
        return Err(Error::corrupt(file, id.offset, "a page was not sealed with the file's key"));
    };
    stored.truncate(HEADER_BYTES + len);
    Ok(())
}

fn decompress(
    codec: Codec,
    stored: &[u8],
    raw_bytes: usize,
    id: &PageIdentity,
    file: &Path,
    dictionary: Option<&Dictionary>,
) -> Result<Vec<u8>> {
    compress::decompress(codec, &stored[HEADER_BYTES..], raw_bytes, dictionary)
        .map_err(malformed_in(file, id.offset))
}

/// Checks everything but that the payload decompresses: its codec and decompressed length.
fn check(
    stored: &[u8],
    id: &PageIdentity,
    expect: PageType,
    file: &Path,
    flags: u8,
) -> Result<(Codec, usize)> {
    let corrupt = |message: &str| Err(Error::corrupt(file, id.offset, message));
    let unsupported = |message: &str| {
        Err(Error::new(ErrorKind::UnsupportedFormat, message).in_file(file).at_offset(id.offset))
    };
    if stored.len() < HEADER_BYTES {
        return corrupt("a page is shorter than its envelope");
    }
    let (header, payload) = stored.split_at(HEADER_BYTES);
    if u32_at(header, COVERED_BYTES) != checksum(id, header, payload) {
        return corrupt("a page does not match its checksum");
    }
    if header[3] != VERSION {
        return unsupported("a page has an envelope of a version that this build does not know");
    }
    if header[2] & ENCRYPTED != flags {
        return corrupt("a plain page in an encrypted file, or the reverse");
    }
    if header[2] & !ENCRYPTED != 0 {
        return unsupported("a page has flags that this build does not know");
    }
    if PageType::from_byte(header[0]) != Some(expect) {
        let found = PageType::from_byte(header[0]).map_or("of an unknown type", PageType::name);
        return corrupt(&format!("a page is {found}, not {}", expect.name()));
    }
    let Some(codec) = Codec::from_byte(header[1]) else {
        return unsupported("a page is compressed by a codec that this build does not know");
    };
    if !codec.is_built_in() {
        return unsupported(&format!("a page is packed by {}", codec.lacking()));
    }
    let raw_bytes = u32_at(header, 4) as usize;
    if u32_at(header, 8) as usize != payload.len() {
        return corrupt("a page has another stored length than its envelope says");
    }
    if raw_bytes > MAX_PAGE_RAW_BYTES {
        return corrupt("a page claims to be larger than pages can be");
    }
    let seal_bytes = if flags == 0 { 0 } else { SEAL_BYTES };
    let Some(text_bytes) = payload.len().checked_sub(seal_bytes) else {
        return corrupt("an encrypted page is shorter than its seal");
    };
    if codec == Codec::None && raw_bytes != text_bytes {
        return corrupt("a plain page has two lengths");
    }
    Ok((codec, raw_bytes))
}

fn checksum(id: &PageIdentity, header: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&front(id, header)), payload)
}

/// Where a page lies, and what its envelope says.
fn front(id: &PageIdentity, header: &[u8]) -> [u8; IDENTITY_BYTES + COVERED_BYTES] {
    let mut front = [0; IDENTITY_BYTES + COVERED_BYTES];
    front[..16].copy_from_slice(&id.database.0);
    front[16..24].copy_from_slice(&id.segment.0.to_le_bytes());
    front[24..32].copy_from_slice(&id.offset.to_le_bytes());
    front[IDENTITY_BYTES..].copy_from_slice(&header[..COVERED_BYTES]);
    front
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: PageIdentity =
        PageIdentity { database: DatabaseId([3; 16]), segment: SegmentId(7), offset: 4096 };

    fn open_at(stored: &[u8], id: &PageIdentity) -> Result<Vec<u8>> {
        let direct = open(stored, id, PageType::Leaf, Path::new("seg/7.seg"));
        let kept =
            open_vec(stored.to_vec(), id, PageType::Leaf, Path::new("seg/7.seg"), None, None);
        match (&direct, &kept) {
            (Ok(a), Ok(b)) => assert_eq!(a, b),
            (Err(a), Err(b)) => assert_eq!(a.to_string(), b.to_string()),
            other => panic!("two ways to open differ: {other:?}"),
        }
        direct
    }

    fn seal_by(
        out: &mut Vec<u8>,
        id: &PageIdentity,
        ty: PageType,
        raw: &[u8],
        codec: Codec,
    ) -> u32 {
        seal(out, id, ty, raw, codec.into(), &mut Packer::default()).checksum
    }

    fn samples() -> Vec<Vec<u8>> {
        let mut rng = fastrand::Rng::with_seed(21);
        vec![
            Vec::new(),
            vec![9],
            vec![0; 600],
            (0..300).map(|_| rng.u8(..)).collect(),
            (0..700).map(|i| (i / 9) as u8).collect(),
        ]
    }

    /// Puts a checksum over a changed page: what a hostile or later writer would leave.
    fn reseal(stored: &mut [u8]) {
        let (header, payload) = stored.split_at_mut(HEADER_BYTES);
        let crc = checksum(&ID, header, payload);
        header[12..].copy_from_slice(&crc.to_le_bytes());
    }

    #[test]
    fn pages_open_to_what_was_sealed() {
        for raw in samples() {
            for codec in Codec::ALL {
                let mut out = vec![1, 2, 3];
                let crc = seal_by(&mut out, &ID, PageType::Leaf, &raw, codec);
                let stored = &out[3..];
                assert_eq!(claimed_checksum(stored), Some(crc));
                assert_eq!(claimed_len(stored), Some(stored.len()));
                assert_eq!(open_at(stored, &ID).unwrap(), raw);
            }
        }
    }

    #[test]
    fn the_worked_example_has_these_bytes() {
        let id = PageIdentity { database: DatabaseId([1; 16]), segment: SegmentId(2), offset: 64 };
        let mut out = Vec::new();
        let crc = seal_by(&mut out, &id, PageType::Blob, b"abc", Codec::Lz4);
        let mut expect = vec![4, 0, 0, 1, 3, 0, 0, 0, 3, 0, 0, 0];
        let mut covered = vec![1; 16];
        covered.extend([2, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0]);
        covered.extend(&expect);
        covered.extend(b"abc");
        assert_eq!(crc, crc32c::crc32c(&covered));
        expect.extend(crc.to_le_bytes());
        expect.extend(b"abc");
        assert_eq!(out, expect);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        for raw in samples() {
            for codec in Codec::ALL {
                let mut stored = Vec::new();
                seal_by(&mut stored, &ID, PageType::Leaf, &raw, codec);
                for at in 0..stored.len() {
                    for bit in 0..8 {
                        stored[at] ^= 1 << bit;
                        let e = open_at(&stored, &ID).unwrap_err();
                        assert_eq!(e.kind(), ErrorKind::Corrupt);
                        assert_eq!(e.offset(), Some(4096));
                        stored[at] ^= 1 << bit;
                    }
                    assert!(open_at(&stored[..at], &ID).is_err());
                }
                stored.push(0);
                assert!(open_at(&stored, &ID).is_err());
            }
        }
    }

    #[test]
    fn a_page_is_refused_anywhere_but_where_it_was_written() {
        let mut stored = Vec::new();
        seal_by(&mut stored, &ID, PageType::Leaf, b"entries", Codec::None);
        let elsewhere = [
            PageIdentity { offset: 4097, ..ID },
            PageIdentity { segment: SegmentId(8), ..ID },
            PageIdentity { database: DatabaseId([4; 16]), ..ID },
        ];
        for id in elsewhere {
            assert_eq!(open_at(&stored, &id).unwrap_err().kind(), ErrorKind::Corrupt);
        }
        let e = open(&stored, &ID, PageType::Inner, Path::new("f")).unwrap_err();
        assert!(e.message().contains("a leaf, not an inner page"));
    }

    #[test]
    fn what_a_later_version_wrote_is_unsupported_not_corrupt() {
        for (at, byte) in [(1, 5), (1, 6), (1, 200), (2, 2), (2, 128), (3, 0), (3, 2)] {
            let mut stored = Vec::new();
            seal_by(&mut stored, &ID, PageType::Leaf, b"entries", Codec::None);
            stored[at] = byte;
            reseal(&mut stored);
            let e = open_at(&stored, &ID).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::UnsupportedFormat, "byte {at} = {byte}");
        }
    }

    #[test]
    fn hostile_lengths_under_a_good_checksum_are_refused() {
        let raw = vec![5; 10_000];
        for codec in Codec::ALL {
            let mut good = Vec::new();
            seal_by(&mut good, &ID, PageType::Leaf, &raw, codec);
            for claim in [0u32, 1, 9_999, 10_001, MAX_PAGE_RAW_BYTES as u32 + 1, u32::MAX] {
                for at in [4, 8] {
                    let mut stored = good.clone();
                    stored[at..at + 4].copy_from_slice(&claim.to_le_bytes());
                    reseal(&mut stored);
                    let e = open_at(&stored, &ID).unwrap_err();
                    assert_eq!(e.kind(), ErrorKind::Corrupt, "{claim} at {at}");
                }
            }
        }
    }
}
