//! The key of one use of one file.
//!
//! 1. It is derived from a data key, a salt drawn for this use, the file's kind, and the bytes of its
//!    header, which name database and file: a header that was changed opens nothing.
//! 2. A [`Sealer`] takes nonces that grow only, so that no (key, nonce) is ever used twice, whatever
//!    its caller does after a write that failed. There is one sealer a key: reading makes none.
//!
//! One thread seals; any number open.

use std::sync::Arc;

use super::primitives::{self, Aead};
use super::secret::{KEY_BYTES, Secret, TAG_BYTES};
use crate::error::{Error, ErrorKind, Result};

/// What kinds of files are encrypted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    /// A segment.
    Segment,
    /// A log file.
    Log,
    /// A manifest.
    Manifest,
}

impl FileKind {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Segment => b"segment",
            Self::Log => b"log",
            Self::Manifest => b"manifest",
        }
    }
}

/// What the header of an encrypted file tells of its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileSalt {
    /// The data key it is derived from.
    pub epoch: u32,
    /// Drawn for this use of the file.
    pub salt: [u8; KEY_BYTES],
}

impl FileSalt {
    /// Length of what an encrypted file's header has behind the plain one.
    pub const ENCODED_BYTES: usize = 64;

    /// Epoch (4), salt (32), zeros (24), checksum of the 60 bytes before (4).
    pub fn encode(&self) -> [u8; Self::ENCODED_BYTES] {
        self.encode_with(0)
    }

    /// As [`encode`](Self::encode), with a checksum of the checksum of the header before it and of these bytes.
    pub fn encode_behind(&self, header: u32) -> [u8; Self::ENCODED_BYTES] {
        self.encode_with(crc32c::crc32c(&header.to_le_bytes()))
    }

    fn encode_with(&self, before: u32) -> [u8; Self::ENCODED_BYTES] {
        let mut out = [0; Self::ENCODED_BYTES];
        out[..4].copy_from_slice(&self.epoch.to_le_bytes());
        out[4..36].copy_from_slice(&self.salt);
        let crc = crc32c::crc32c_append(before, &out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reverse of [`encode`](Self::encode), if the checksum holds.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        Self::decode_with(bytes, 0)
    }

    /// Reverse of [`encode_behind`](Self::encode_behind), if the checksum holds.
    pub fn decode_behind(bytes: &[u8], header: u32) -> Option<Self> {
        Self::decode_with(bytes, crc32c::crc32c(&header.to_le_bytes()))
    }

    fn decode_with(bytes: &[u8], before: u32) -> Option<Self> {
        let b: &[u8; Self::ENCODED_BYTES] = bytes.first_chunk()?;
        let whole = crate::codec::u32_at(b, 60) == crc32c::crc32c_append(before, &b[..60]);
        let salt = *b[4..].first_chunk()?;
        (whole && b[36..60] == [0; 24]).then_some(Self { epoch: crate::codec::u32_at(b, 0), salt })
    }
}

/// Opens what a [`Sealer`] of the same use of the file sealed.
#[derive(Clone)]
pub struct FileKey {
    aead: Arc<Aead>,
    epoch: u32,
    #[cfg(feature = "fuzzing")]
    name: [u8; KEY_BYTES],
}

impl FileKey {
    pub(super) fn new(
        data_key: &Secret,
        salt: &FileSalt,
        kind: FileKind,
        header: &[u8],
    ) -> Result<Self> {
        let info: [&[u8]; 3] = [b"lightning-db file 1 ", kind.label(), header];
        let key = primitives::derive(&data_key[..], &salt.salt, &info)?;
        Ok(Self {
            aead: Arc::new(Aead::new(&key)?),
            epoch: salt.epoch,
            #[cfg(feature = "fuzzing")]
            name: *key,
        })
    }

    /// The data key it is derived from.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Decrypts `sealed`, a text and its tag, where it lies, and gives the text's length; `None`
    /// where it was not sealed under this key with this nonce and these bound bytes.
    #[must_use]
    pub fn open(&self, nonce: u64, bound: &[u8], sealed: &mut [u8]) -> Option<usize> {
        let len = sealed.len().checked_sub(TAG_BYTES)?;
        let (text, tag) = sealed.split_at_mut(len);
        let tag: &[u8; TAG_BYTES] = (&*tag).try_into().ok()?;
        self.aead.open(&nonce_bytes(nonce), bound, text, tag).then_some(len)
    }
}

impl std::fmt::Debug for FileKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileKey").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

/// Seals what is written to a file in one use of it.
#[derive(Debug)]
pub struct Sealer {
    key: FileKey,
    /// The least nonce that was not used.
    next: u64,
}

impl Sealer {
    pub(super) fn new(key: FileKey) -> Self {
        Self { key, next: 0 }
    }

    /// The key that opens.
    pub fn key(&self) -> &FileKey {
        &self.key
    }

    /// The least nonce that may be used.
    pub fn next_nonce(&self) -> u64 {
        self.next
    }

    /// Encrypts `text` where it lies, under a nonce greater than any before.
    pub fn seal(&mut self, nonce: u64, bound: &[u8], text: &mut [u8]) -> Result<[u8; TAG_BYTES]> {
        if nonce < self.next || nonce == u64::MAX {
            let message = "a place in an encrypted file would be written twice under one key";
            return Err(Error::new(ErrorKind::Poisoned, message));
        }
        self.next = nonce + 1;
        #[cfg(feature = "fuzzing")]
        super::witness::note(&self.key.name, nonce);
        Ok(self.key.aead.seal(&nonce_bytes(nonce), bound, text))
    }
}

fn nonce_bytes(nonce: u64) -> [u8; 12] {
    let mut out = [0; 12];
    out[..8].copy_from_slice(&nonce.to_le_bytes());
    out
}
