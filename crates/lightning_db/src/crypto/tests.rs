//! Known answers of the primitives, and what keys, slots and sealers must refuse.

use std::path::Path;

use super::file_key::{FileKey, FileKind, FileSalt, Sealer};
use super::primitives::{self, Aead};
use super::secret::{KEY_BYTES, Secret};
use super::slots::{self, Drawn, Making, SLOT_BYTES};
use crate::config::PassphraseCost;
use crate::error::ErrorKind;
use crate::types::DatabaseId;

const DB: DatabaseId = DatabaseId([3; 16]);

fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn secret(byte: u8) -> Secret {
    Secret::new([byte; KEY_BYTES])
}

/// Test case 16 of "The Galois/Counter Mode of Operation".
#[test]
fn aes_256_gcm_has_the_published_answer() {
    let key: [u8; 32] =
        hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308").try_into().unwrap();
    let aead = Aead::new(&Secret::new(key)).unwrap();
    let nonce: [u8; 12] = hex("cafebabefacedbaddecaf888").try_into().unwrap();
    let bound = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
    let plain = hex("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
                     1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39");
    let mut text = plain.clone();
    let tag = aead.seal(&nonce, &bound, &mut text);
    let sealed = hex("522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa
                      8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662");
    assert_eq!(text, sealed);
    assert_eq!(tag[..], hex("76fc6ece0f4e1768cddf8853bb2d551b"));
    assert!(aead.open(&nonce, &bound, &mut text, &tag));
    assert_eq!(text, plain);
}

/// Test case 1 of RFC 5869.
#[test]
fn hkdf_has_the_published_answer() {
    let key = primitives::derive(
        &[0x0b; 22],
        &hex("000102030405060708090a0b0c"),
        &[&hex("f0f1f2f3f4"), &hex("f5f6f7f8f9")],
    )
    .unwrap();
    assert_eq!(key[..], hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"));
}

/// From the tests of the reference implementation.
#[test]
fn argon2id_has_the_published_answer() {
    let key = primitives::stretch(b"password", b"somesalt", 65_536, 2).unwrap();
    assert_eq!(key[..], hex("09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7"));
}

fn slot(outer: &Secret) -> Box<[u8; SLOT_BYTES]> {
    let salt = [9; KEY_BYTES];
    let making = Making::Stretched { cost: PassphraseCost { memory_kib: 8, passes: 1 }, salt };
    let drawn = Drawn { salt: [1; 32], nonce: [2; 12] };
    slots::encode(DB, 5, making, outer, &[(1, secret(11)), (4, secret(12))], &drawn).unwrap()
}

#[test]
fn a_slot_gives_back_what_was_wrapped() {
    let bytes = slot(&secret(7));
    let slot = slots::decode(Path::new("KEYS"), &bytes).unwrap().unwrap();
    assert_eq!((slot.db, slot.generation), (DB, 5));
    assert!(slot.is_opened_by(&secret(7)).unwrap());
    assert!(!slot.is_opened_by(&secret(8)).unwrap(), "a wrong key is told");
    let epochs = slot.unwrap(&secret(7), Path::new("KEYS")).unwrap();
    assert_eq!(epochs, [(1, secret(11)), (4, secret(12))]);
    for key in [secret(11), secret(12)] {
        assert!(!bytes.windows(8).any(|w| key.windows(8).any(|k| w == k)), "a key lies bare");
    }
}

/// `format_tests` reads it back.
#[test]
fn a_slot_is_written_as_format_md_shows_it() {
    let key = |first: u8| Secret::new(std::array::from_fn(|i| first + i as u8));
    let db = DatabaseId(std::array::from_fn(|i| i as u8));
    let drawn = Drawn { salt: *key(0x20), nonce: std::array::from_fn(|i| 0x40 + i as u8) };
    let epochs = [(1, key(0xa0))];
    let slot = slots::encode(db, 1, Making::Given, &key(0x80), &epochs, &drawn).unwrap();
    let (front, crc) = (&slot[..172 + 36 + 16], &slot[SLOT_BYTES - 4..]);
    crate::format_tests::assert_is("KEYS", &[front, crc].concat());
    assert!(slot[front.len()..SLOT_BYTES - 4].iter().all(|b| *b == 0));
}

#[test]
fn a_slot_with_a_flipped_bit_is_not_whole() {
    let good = slot(&secret(7));
    for at in 0..SLOT_BYTES {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        let found = slots::decode(Path::new("KEYS"), &bytes);
        assert!(matches!(found, Ok(None)), "byte {at}");
    }
}

/// Somebody who can write the file but has no key: the checksum holds, the tag does not.
#[test]
fn a_slot_that_was_changed_with_its_checksum_is_damage() {
    let good = slot(&secret(7));
    for at in (16..44).chain(48..300) {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        let crc = crc32c::crc32c(&bytes[..SLOT_BYTES - 4]);
        bytes[SLOT_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        let slot = match slots::decode(Path::new("KEYS"), &bytes) {
            Ok(slot) => slot.expect("the checksum holds"),
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::UnsupportedFormat, "byte {at}");
                continue;
            }
        };
        if !slot.is_opened_by(&secret(7)).unwrap() {
            assert!((16..32).contains(&at) || (96..160).contains(&at), "byte {at}");
            continue;
        }
        // What lies behind the wrapped keys is nobody's.
        if (172 + 2 * 36 + 16..).contains(&at) {
            continue;
        }
        let refused = slot.unwrap(&secret(7), Path::new("KEYS")).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Corrupt, "byte {at}");
    }
}

fn file_key(data_key: u8, salt: &FileSalt, kind: FileKind, header: &[u8]) -> FileKey {
    FileKey::new(&secret(data_key), salt, kind, header).unwrap()
}

#[test]
fn a_file_key_opens_its_own_file_only() {
    let salt = FileSalt { epoch: 1, salt: [5; 32] };
    let other = FileSalt { epoch: 1, salt: [6; 32] };
    let key = file_key(1, &salt, FileKind::Log, b"header");
    let mut sealed = b"a text".to_vec();
    let tag = Sealer::new(key.clone()).seal(40, b"bound", &mut sealed).unwrap();
    sealed.extend(tag);
    let opens = |key: FileKey, nonce: u64, bound: &[u8]| {
        let mut text = sealed.clone();
        key.open(nonce, bound, &mut text).map(|len| text[..len].to_vec())
    };
    assert_eq!(opens(key.clone(), 40, b"bound"), Some(b"a text".to_vec()));
    assert_eq!(opens(key.clone(), 41, b"bound"), None, "another place");
    assert_eq!(opens(key, 40, b"bouns"), None, "other lengths");
    assert_eq!(opens(file_key(2, &salt, FileKind::Log, b"header"), 40, b"bound"), None);
    assert_eq!(opens(file_key(1, &other, FileKind::Log, b"header"), 40, b"bound"), None);
    assert_eq!(opens(file_key(1, &salt, FileKind::Segment, b"header"), 40, b"bound"), None);
    assert_eq!(opens(file_key(1, &salt, FileKind::Log, b"headers"), 40, b"bound"), None);
}

#[test]
fn a_sealer_refuses_a_nonce_again() {
    let salt = FileSalt { epoch: 1, salt: [5; 32] };
    let mut sealer = Sealer::new(file_key(1, &salt, FileKind::Log, b""));
    assert!(sealer.seal(8, b"", &mut [0; 4]).is_ok());
    for nonce in [8, 7, 0, u64::MAX] {
        assert!(sealer.seal(nonce, b"", &mut [1; 4]).is_err(), "nonce {nonce}");
    }
    assert!(sealer.seal(9, b"", &mut [1; 4]).is_ok());
}
