//! Who is let in, and what is taken for a file of the database.

use std::path::{Path, PathBuf};

use lightning_db::vfs::SimulatedVfs;
use lightning_db::{ErrorKind, KeySource, OpenAs, VerifyOptions};

use super::{files, key, kind, open, workload};

fn disk(seed: u64, key: Option<KeySource>) -> SimulatedVfs {
    let vfs = SimulatedVfs::new(seed);
    workload(&vfs, key, 10).expect("it ends");
    // Not closed: there is a log with records.
    vfs.kill()
}

#[test]
fn a_wrong_missing_or_needless_key_is_refused_and_nothing_touched() {
    let encrypted = disk(3, Some(key(1)));
    let plain = disk(4, None);
    for mode in [OpenAs::Open, OpenAs::OpenOrCreate, OpenAs::ReadOnly] {
        for (vfs, given, expected) in [
            (&encrypted, Some(key(2)), ErrorKind::WrongKey),
            (&encrypted, None, ErrorKind::KeyRequired),
            (&plain, Some(key(1)), ErrorKind::NotEncrypted),
        ] {
            let before = files(vfs);
            assert_eq!(kind(open(vfs, given, mode)), expected, "{mode:?}");
            assert!(files(vfs) == before, "{expected:?} {mode:?}: a file was touched");
        }
    }
    for (vfs, given) in [(&encrypted, Some(key(1))), (&plain, None)] {
        let db = open(vfs, given, OpenAs::Open).expect("opens");
        assert!(db.verify(VerifyOptions::default()).expect("a report").is_clean());
        assert_eq!(db.get("canary-last").expect("read"), Some(b"canary-value-last".to_vec()));
    }
}

#[test]
fn without_keys_or_with_those_of_another_it_is_damage() {
    let vfs = disk(3, Some(key(1)));
    let other = disk(5, Some(key(1)));
    let keys = Path::new("/db/KEYS");
    let lost = vfs.fork();
    lightning_db::vfs::Vfs::remove_file(&lost, keys).expect("removed");
    for given in [None, Some(key(1))] {
        assert_eq!(kind(open(&lost, given, OpenAs::Open)), ErrorKind::Corrupt);
    }
    let foreign = vfs.fork();
    let bytes = other.read_file(keys).expect("there");
    foreign.corrupt(keys, |b| *b = bytes).expect("there");
    assert_eq!(kind(open(&foreign, Some(key(1)), OpenAs::Open)), ErrorKind::Corrupt);
}

/// One slot rotted: the other has the same keys, and opening for writing puts the first right.
#[test]
fn a_rotten_slot_of_keys_loses_nothing() {
    for slot in [0, 1] {
        let vfs = disk(3, Some(key(1)));
        let keys = Path::new("/db/KEYS");
        vfs.corrupt(keys, |b| b[slot * 4096 + 200] ^= 1).expect("there");
        let db = open(&vfs, Some(key(1)), OpenAs::Open).expect("opens");
        assert_eq!(db.get("canary-last").expect("read"), Some(b"canary-value-last".to_vec()));
        drop(db);
        vfs.corrupt(keys, |b| b[(1 - slot) * 4096 + 200] ^= 1).expect("there");
        open(&vfs, Some(key(1)), OpenAs::Open).expect("the first slot was put right");
    }
}

/// Each file of an encrypted database, put in the place of its namesake in a plain one of the same
/// id, and the reverse: never read.
#[test]
fn files_are_not_mixed() {
    // The same seed draws the same database id.
    let (plain, encrypted) = (disk(6, None), disk(6, Some(key(1))));
    let id = |vfs: &SimulatedVfs| vfs.read_file(Path::new("/db/CURRENT")).expect("there");
    assert_eq!(id(&plain)[16..32], id(&encrypted)[16..32], "the same database id");
    let mut tried = 0;
    for (into, from, given) in [(&encrypted, &plain, Some(key(1))), (&plain, &encrypted, None)] {
        for (path, bytes) in files(from) {
            let path = PathBuf::from(path);
            let file = path.extension().is_some_and(|e| e != "tmp");
            if !file || into.read_file(&path).is_err() {
                continue;
            }
            let mixed = into.fork();
            mixed.corrupt(&path, |b| *b = bytes).expect("there");
            let db = match open(&mixed, given.clone(), OpenAs::Open) {
                Ok(db) => db,
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::Corrupt, "{}: {e}", path.display());
                    tried += 1;
                    continue;
                }
            };
            panic!("{} was taken: {:?}", path.display(), db.verify(VerifyOptions::default()));
        }
    }
    assert!(tried >= 4, "{tried} files");
}

/// A page of one encrypted file in the place of another: the checksum is mended, as somebody without
/// the key could, and still it is not read.
#[test]
fn a_forged_page_is_not_read() {
    let vfs = disk(7, Some(key(1)));
    let mut tried = 0;
    for (path, bytes) in files(&vfs) {
        if !path.ends_with(".seg") {
            continue;
        }
        let path = PathBuf::from(path);
        let mut at = 128;
        while at + 16 < bytes.len() {
            let stored = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().expect("four"));
            let end = at + 16 + stored as usize;
            let forged = vfs.fork();
            forged
                .corrupt(&path, |b| {
                    b[at + 20] ^= 1;
                    let mut covered = bytes[16..32].to_vec();
                    covered.extend(&bytes[32..40]);
                    covered.extend((at as u64).to_le_bytes());
                    covered.extend(&b[at..at + 12]);
                    covered.extend(&b[at + 16..end]);
                    let crc = crc32c::crc32c(&covered);
                    b[at + 12..at + 16].copy_from_slice(&crc.to_le_bytes());
                })
                .expect("there");
            let report = open(&forged, Some(key(1)), OpenAs::ReadOnly)
                .and_then(|db| db.verify(VerifyOptions::default()));
            // Some pages are dead, and nobody reads them.
            if report.is_ok_and(|r| r.is_clean()) {
                at = end;
                continue;
            }
            tried += 1;
            at = end;
        }
    }
    assert!(tried > 5, "{tried} pages");
}
