//! Bytes of `KEYS`: two slots, each of which holds all data keys, wrapped.
//!
//! A slot, of which there is one at 0 and one at 4096:
//!
//! | offset | bytes | meaning |
//! |---|---|---|
//! | 0 | 8 | magic `LTNGKEY\0` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 4 | CRC-32C of bytes 0 to 12, so that a later version is told from damage |
//! | 16 | 16 | database id |
//! | 32 | 8 | generation: of two whole slots the greater one counts |
//! | 40 | 4 | length of the wrapped keys, with their tag |
//! | 44 | 4 | the outer key: 0 is given, 1 is made from a passphrase by Argon2id |
//! | 48 | 4 | Argon2id: memory in KiB |
//! | 52 | 4 | Argon2id: passes |
//! | 56 | 8 | 0 |
//! | 64 | 32 | Argon2id: salt |
//! | 96 | 32 | salt of this slot, drawn each time it is written |
//! | 128 | 32 | check value: tells a wrong outer key from damage |
//! | 160 | 12 | nonce |
//! | 172 | | wrapped: for each data key its epoch (4) and its bytes (32), ascending; then the tag (16) |
//! | 4092 | 4 | CRC-32C of the 4092 bytes before |
//!
//! Check value and wrapping key are derived by HKDF-SHA256 from the outer key and the slot's salt;
//! the tag also vouches for bytes 0 to 172. Numbers are little endian.
//!
//! No I/O, no threads.

use std::path::Path;

use super::primitives::{self, Aead};
use super::secret::{KEY_BYTES, Secret, TAG_BYTES};
use crate::codec::{u32_at, u64_at};
use crate::config::PassphraseCost;
use crate::error::{Error, ErrorKind, Result};
use crate::types::DatabaseId;

/// Length of a slot.
pub(super) const SLOT_BYTES: usize = 4096;
/// Epochs that may live at once: one more than anybody needs who finishes what he began.
pub(super) const MAX_EPOCHS: usize = 16;

const MAGIC: &[u8; 8] = b"LTNGKEY\0";
const VERSION: u32 = 1;
const FRONT_BYTES: usize = 172;
const CRC_AT: usize = SLOT_BYTES - 4;
const EPOCH_BYTES: usize = 4 + KEY_BYTES;

const _: () = assert!(FRONT_BYTES + MAX_EPOCHS * EPOCH_BYTES + TAG_BYTES <= CRC_AT);

/// How the outer key is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Making {
    /// It is given.
    Given,
    /// From a passphrase.
    Stretched { cost: PassphraseCost, salt: [u8; KEY_BYTES] },
}

/// What is drawn anew for each slot that is written.
pub(super) struct Drawn {
    pub(super) salt: [u8; KEY_BYTES],
    pub(super) nonce: [u8; 12],
}

/// A slot whose checksum held; its keys are still wrapped.
#[derive(Clone)]
pub(super) struct Slot {
    pub(super) db: DatabaseId,
    pub(super) generation: u64,
    pub(super) making: Making,
    bytes: Box<[u8; SLOT_BYTES]>,
}

/// A data key and its epoch.
pub(super) type Epoch = (u32, Secret);

/// The bytes of a slot.
pub(super) fn encode(
    db: DatabaseId,
    generation: u64,
    making: Making,
    outer: &Secret,
    epochs: &[Epoch],
    drawn: &Drawn,
) -> Result<Box<[u8; SLOT_BYTES]>> {
    assert!(!epochs.is_empty() && epochs.len() <= MAX_EPOCHS, "bounded where epochs are made");
    let mut b = Box::new([0; SLOT_BYTES]);
    b[..8].copy_from_slice(MAGIC);
    b[8..12].copy_from_slice(&VERSION.to_le_bytes());
    let crc = crc32c::crc32c(&b[..12]);
    b[12..16].copy_from_slice(&crc.to_le_bytes());
    b[16..32].copy_from_slice(&db.0);
    b[32..40].copy_from_slice(&generation.to_le_bytes());
    let wrapped = epochs.len() * EPOCH_BYTES + TAG_BYTES;
    b[40..44].copy_from_slice(&(wrapped as u32).to_le_bytes());
    if let Making::Stretched { cost, salt } = making {
        b[44] = 1;
        b[48..52].copy_from_slice(&cost.memory_kib.to_le_bytes());
        b[52..56].copy_from_slice(&cost.passes.to_le_bytes());
        b[64..96].copy_from_slice(&salt);
    }
    b[96..128].copy_from_slice(&drawn.salt);
    b[128..160].copy_from_slice(&check_value(outer, &drawn.salt, db)?[..]);
    b[160..172].copy_from_slice(&drawn.nonce);
    let (front, rest) = b.split_at_mut(FRONT_BYTES);
    for (i, (epoch, key)) in epochs.iter().enumerate() {
        let at = i * EPOCH_BYTES;
        rest[at..at + 4].copy_from_slice(&epoch.to_le_bytes());
        rest[at + 4..at + EPOCH_BYTES].copy_from_slice(&key[..]);
    }
    let (text, behind) = rest.split_at_mut(wrapped - TAG_BYTES);
    let tag = wrapping_key(outer, &drawn.salt, db)?.seal(&drawn.nonce, front, text);
    behind[..TAG_BYTES].copy_from_slice(&tag);
    let crc = crc32c::crc32c(&b[..CRC_AT]);
    b[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    Ok(b)
}

/// The slot that lies in `bytes`, where a whole one does.
pub(super) fn decode(file: &Path, bytes: &[u8; SLOT_BYTES]) -> Result<Option<Slot>> {
    if bytes[..8] != *MAGIC || u32_at(bytes, 12) != crc32c::crc32c(&bytes[..12]) {
        return Ok(None);
    }
    let unsupported =
        |what: &str| Err(Error::new(ErrorKind::UnsupportedFormat, what).in_file(file));
    let version = u32_at(bytes, 8);
    if version != VERSION {
        return unsupported(&format!(
            "the keys are of format version {version}, this build knows {VERSION}"
        ));
    }
    if u32_at(bytes, CRC_AT) != crc32c::crc32c(&bytes[..CRC_AT]) {
        return Ok(None);
    }
    let making = match u32_at(bytes, 44) {
        0 => Making::Given,
        1 => {
            let cost = PassphraseCost { memory_kib: u32_at(bytes, 48), passes: u32_at(bytes, 52) };
            if !cost.is_possible() {
                return unsupported("the keys ask for a passphrase at a cost that is not allowed");
            }
            Making::Stretched { cost, salt: array(bytes, 64) }
        }
        _ => return unsupported("the keys are wrapped in a way that this build does not know"),
    };
    let db = DatabaseId(array(bytes, 16));
    let generation = u64_at(bytes, 32);
    Ok(Some(Slot { db, generation, making, bytes: Box::new(*bytes) }))
}

impl Slot {
    /// Whether `outer` is the key that this slot was written with.
    pub(super) fn is_opened_by(&self, outer: &Secret) -> Result<bool> {
        let value = check_value(outer, &self.salt(), self.db)?;
        let same = value.iter().zip(&self.bytes[128..160]).fold(0, |d, (a, b)| d | (a ^ b));
        Ok(same == 0)
    }

    /// The data keys, by epoch; the outer key must be the right one.
    pub(super) fn unwrap(&self, outer: &Secret, file: &Path) -> Result<Vec<Epoch>> {
        let corrupt = |what: &str| Err(Error::corrupt(file, 0, what));
        let wrapped = u32_at(&self.bytes[..], 40) as usize;
        let whole = wrapped
            .checked_sub(TAG_BYTES)
            .filter(|len| *len > 0 && len % EPOCH_BYTES == 0 && len / EPOCH_BYTES <= MAX_EPOCHS);
        let Some(len) = whole else {
            return corrupt("the wrapped keys have an impossible length");
        };
        let (front, rest) = self.bytes.split_at(FRONT_BYTES);
        let mut text = zeroize::Zeroizing::new(rest[..len].to_vec());
        let tag: [u8; TAG_BYTES] = array(rest, len);
        let key = wrapping_key(outer, &self.salt(), self.db)?;
        if !key.open(&array(front, 160), front, &mut text, &tag) {
            return corrupt("the wrapped keys were changed");
        }
        let epochs: Vec<Epoch> = text
            .chunks_exact(EPOCH_BYTES)
            .map(|c| (u32_at(c, 0), Secret::new(array(c, 4))))
            .collect();
        if !epochs.is_sorted_by(|a, b| a.0 < b.0) {
            return corrupt("the wrapped keys are out of order");
        }
        Ok(epochs)
    }

    fn salt(&self) -> [u8; KEY_BYTES] {
        array(&self.bytes[..], 96)
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("a slot is longer")
}

fn check_value(outer: &Secret, salt: &[u8], db: DatabaseId) -> Result<Secret> {
    primitives::derive(&outer[..], salt, &[b"lightning-db check 1 ", &db.0])
}

fn wrapping_key(outer: &Secret, salt: &[u8], db: DatabaseId) -> Result<Aead> {
    primitives::derive(&outer[..], salt, &[b"lightning-db wrap 1 ", &db.0])
        .and_then(|k| Aead::new(&k))
}
