//! Flipped, torn, swapped and hostile bytes.

use std::path::PathBuf;

use fastrand::Rng;

use super::sample::{self, DB};
use crate::error::{ErrorKind, Result};
use crate::manifest::frame::{self, CURRENT_BYTES, HEADER_BYTES, Kind};
use crate::manifest::read::read_state;
use crate::manifest::{Manifest, ManifestState, install_current, manifest_path};
use crate::types::{DatabaseId, ManifestId};
use crate::vfs::SimulatedVfs;

/// A manifest's bytes, its states, and where its records lie.
struct Sample {
    disk: SimulatedVfs,
    bytes: Vec<u8>,
    /// After the snapshot and after each edit.
    states: Vec<ManifestState>,
    records: Vec<(Kind, usize, usize)>,
}

const EDITS: usize = 3;

fn path() -> PathBuf {
    manifest_path(&sample::dir(), ManifestId(1))
}

fn read(bytes: &[u8]) -> Result<ManifestState> {
    read_state(&path(), bytes, ManifestId(1), &sample::owner())
}

fn sample_of(seed: u64) -> Sample {
    let mut rng = Rng::with_seed(seed);
    let disk = sample::disk(seed);
    let (vfs, dir) = (sample::as_vfs(&disk), sample::dir());
    let mut first = sample::empty();
    for _ in 0..4 {
        let edit = sample::edit(&mut rng, &first);
        first.apply(&edit).unwrap();
    }
    let mut manifest =
        Manifest::create(&vfs, &dir, ManifestId(1), &first, &sample::owner()).unwrap();
    install_current(&vfs, &dir, ManifestId(1), DB).unwrap();
    let mut states = vec![first];
    for _ in 0..EDITS {
        manifest.commit(&sample::edit(&mut rng, manifest.state())).unwrap();
        states.push(manifest.state().clone());
    }
    let mut bytes = disk.read_file(&path()).unwrap();
    let (header, _) = frame::Header::decode(&path(), &bytes).unwrap();
    let seed = frame::salt_seed(&header.salt);
    let mut records = Vec::new();
    let mut at = HEADER_BYTES;
    while let Some(r) = frame::record_at(&bytes, seed, at, 0..=u64::MAX) {
        records.push((r.kind, at, r.next));
        at = r.next;
    }
    assert_eq!(records.len(), 2 + 2 * EDITS);
    // Some of what is reserved; all of it would only make the tests slow.
    bytes.truncate(at + 256);
    Sample { disk, bytes, states, records }
}

/// Flips bits, overwrites, cuts, repeats or inserts.
pub fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.usize(1..4) {
        let at = rng.usize(0..=bytes.len());
        let some = rng.usize(0..=(bytes.len() - at).min(40));
        match rng.u8(0..6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, rng.u8(..)),
            2 => drop(bytes.drain(at..at + some)),
            3 => {
                let piece = bytes[at..at + some].to_vec();
                let to = rng.usize(0..=bytes.len());
                bytes.splice(to..to, piece);
            }
            4 if at < bytes.len() => bytes[at] = *rng.choice(&[0, 1, 0x7f, 0x80, 0xff]).unwrap(),
            _ if at < bytes.len() => bytes[at] ^= 1 << rng.u8(0..8),
            _ => bytes.push(rng.u8(..)),
        }
    }
}

#[test]
fn a_flip_anywhere_is_damage_or_lies_in_the_unvouched_tail() {
    for seed in 0..6 {
        let sample = sample_of(seed);
        let last_mark = sample.records.last().unwrap().1;
        for at in 0..sample.bytes.len() {
            for bit in 0..8 {
                let mut bytes = sample.bytes.clone();
                bytes[at] ^= 1 << bit;
                match read(&bytes) {
                    Err(e) => {
                        assert!(at < last_mark, "seed {seed}, byte {at}: {e:?}");
                        assert_eq!(e.kind(), ErrorKind::Corrupt, "seed {seed}, byte {at}: {e:?}");
                        assert_eq!(e.file(), Some(&*path()));
                        assert!(e.offset().is_some_and(|o| o <= at as u64), "byte {at}: {e:?}");
                    }
                    Ok(state) => {
                        assert!(at >= last_mark, "seed {seed}, byte {at} went unseen");
                        assert_eq!(state, sample.states[EDITS]);
                    }
                }
            }
        }
    }
}

#[test]
fn rot_in_the_last_acknowledged_edit_is_damage() {
    let sample = sample_of(1);
    let (kind, from, to) = sample.records[sample.records.len() - 2];
    assert_eq!(kind, Kind::Edit);
    let mut rng = Rng::with_seed(1);
    for round in 0..500 {
        let mut bytes = sample.bytes.clone();
        match round {
            0 => bytes[from..to].fill(0),
            1 => bytes[from..to].fill(0xff),
            2 => bytes[from + 4..from + 8].fill(0xff),
            _ => {
                let (a, b) = (rng.usize(from..to), rng.usize(from..to));
                rng.fill(&mut bytes[a.min(b)..=a.max(b)]);
            }
        }
        if bytes == sample.bytes {
            continue;
        }
        sample.disk.corrupt(&path(), |file| file[..bytes.len()].copy_from_slice(&bytes)).unwrap();
        let e = Manifest::load(&sample::as_vfs(&sample.disk), &sample::dir(), &sample::owner())
            .unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Corrupt, "round {round}");
        assert_eq!((e.file(), e.offset()), (Some(&*path()), Some(from as u64)), "round {round}");
    }
}

#[test]
fn a_torn_end_that_nothing_vouches_for_is_cut() {
    let mut rng = Rng::with_seed(2);
    for seed in 0..10 {
        let sample = sample_of(seed);
        let (_, from, to) = sample.records[sample.records.len() - 2];
        for end in from..=to {
            let whole = end == to;
            let expected = &sample.states[if whole { EDITS } else { EDITS - 1 }];
            // Cut short; with the reserved zeros behind it; with its first bytes missing.
            let short = &sample.bytes[..end];
            let mut zeros = short.to_vec();
            zeros.resize(to + 256, 0);
            let padding = sample.bytes[end..to].iter().all(|b| *b == 0);
            assert_eq!(read(short).as_ref().ok(), Some(expected), "seed {seed}, end {end}");
            let after = if padding { &sample.states[EDITS] } else { expected };
            assert_eq!(read(&zeros).as_ref().ok(), Some(after), "seed {seed}, end {end}");
            let mut late = sample.bytes[..to].to_vec();
            late[from..end].fill(0);
            if late[from..] != sample.bytes[from..to] {
                assert_eq!(read(&late).unwrap(), sample.states[EDITS - 1], "seed {seed}, {end}");
            }
        }
        for _ in 0..200 {
            let mut bytes = sample.bytes[..to].to_vec();
            rng.fill(&mut bytes[from..]);
            assert_eq!(read(&bytes).unwrap(), sample.states[EDITS - 1]);
        }
    }
}

#[test]
fn a_shorter_file_is_an_earlier_state_or_damage() {
    let sample = sample_of(3);
    for len in 0..sample.bytes.len() {
        let whole = sample.records.iter().filter(|r| r.0 == Kind::Edit && r.2 <= len).count();
        // Without the mark behind its snapshot, CURRENT could not have named the file.
        match read(&sample.bytes[..len]) {
            Ok(state) => {
                assert!(len >= sample.records[1].2, "length {len} is enough");
                assert_eq!(state, sample.states[whole], "length {len}");
            }
            Err(e) => {
                assert!(len < sample.records[1].2, "length {len}: {e:?}");
                assert_eq!(e.kind(), ErrorKind::Corrupt, "length {len}");
            }
        }
    }
}

#[test]
fn a_flip_anywhere_in_a_fresh_manifest_is_damage() {
    let sample = sample_of(10);
    let fresh = &sample.bytes[..sample.records[1].2];
    assert_eq!(read(fresh).unwrap(), sample.states[0]);
    for at in 0..fresh.len() * 8 {
        let mut bytes = fresh.to_vec();
        bytes[at / 8] ^= 1 << (at % 8);
        bytes.resize(fresh.len() + 256, 0);
        assert_eq!(read(&bytes).unwrap_err().kind(), ErrorKind::Corrupt, "byte {}", at / 8);
    }
}

#[test]
fn records_that_changed_places_or_went_missing_are_damage() {
    let sample = sample_of(4);
    let piece = |n: usize| sample.bytes[sample.records[n].1..sample.records[n].2].to_vec();
    let build = |order: &[usize]| {
        let mut bytes = sample.bytes[..HEADER_BYTES].to_vec();
        for n in order {
            bytes.extend(piece(*n));
        }
        read(&bytes)
    };
    assert_eq!(build(&[0, 1, 2, 3, 4, 5, 6, 7]).unwrap(), sample.states[EDITS]);
    for order in [
        &[0, 1, 4, 5, 2, 3, 6, 7][..],
        &[0, 1, 2, 3, 6, 7],
        &[0, 1, 4, 5, 6, 7],
        &[0, 1, 2, 4, 5, 6, 7],
        &[0, 1, 2, 2, 3, 4, 5],
        &[0, 2, 3, 4, 5, 6, 7],
        &[1, 2, 3, 4, 5, 6, 7],
        &[2, 3, 4, 5, 6, 7],
        &[0, 1, 2, 3, 0, 1],
        &[0, 1, 2, 3, 4, 5, 6, 7, 6, 7],
    ] {
        assert_eq!(build(order).unwrap_err().kind(), ErrorKind::Corrupt, "{order:?}");
    }
}

#[test]
fn a_file_of_another_database_or_another_time_is_refused() {
    let sample = sample_of(5);
    let dir = sample::dir();
    let vfs = sample::as_vfs(&sample.disk);
    let mut foreign = sample.states[0].clone();
    foreign.db = DatabaseId(*b"somebody else's!");
    let refuse = |why: &str| {
        let e = Manifest::load(&vfs, &dir, &sample::owner()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Corrupt);
        assert!(e.message().contains(why), "{e:?}");
    };
    // Swapped for that of another database, of the same id.
    let other = sample::disk(9);
    drop(
        Manifest::create(&sample::as_vfs(&other), &dir, ManifestId(1), &foreign, &sample::owner())
            .unwrap(),
    );
    let swapped = other.read_file(&path()).unwrap();
    sample.disk.corrupt(&path(), |b| *b = swapped).unwrap();
    refuse("another database");
    // An old one under a new one's name.
    sample.disk.corrupt(&path(), |b| *b = sample.bytes.clone()).unwrap();
    drop(
        Manifest::create(&vfs, &dir, ManifestId(2), &sample.states[EDITS], &sample::owner())
            .unwrap(),
    );
    install_current(&vfs, &dir, ManifestId(2), DB).unwrap();
    assert_eq!(Manifest::load(&vfs, &dir, &sample::owner()).unwrap().0, sample.states[EDITS]);
    let second = manifest_path(&dir, ManifestId(2));
    sample.disk.corrupt(&second, |b| *b = sample.bytes.clone()).unwrap();
    refuse("not the one of its name");
    // CURRENT of another database; CURRENT that names nothing.
    install_current(&vfs, &dir, ManifestId(1), foreign.db).unwrap();
    refuse("another database");
    install_current(&vfs, &dir, ManifestId(3), DB).unwrap();
    refuse("CURRENT names");
}

#[test]
fn records_of_another_file_are_not_taken_for_this_ones() {
    let (one, two) = (sample_of(6), sample_of(7));
    let mut bytes = one.bytes[..one.records.last().unwrap().2].to_vec();
    for (_, from, to) in &two.records {
        bytes.extend_from_slice(&two.bytes[*from..*to]);
    }
    assert_eq!(read(&bytes).unwrap(), one.states[EDITS]);
}

#[test]
fn a_flip_or_a_cut_in_current_is_damage() {
    let sample = sample_of(8);
    let (vfs, dir) = (sample::as_vfs(&sample.disk), sample::dir());
    let current = dir.join("CURRENT");
    let good = sample.disk.read_file(&current).unwrap();
    assert_eq!(good.len(), CURRENT_BYTES);
    let mut bad: Vec<Vec<u8>> = (0..good.len()).map(|n| good[..n].to_vec()).collect();
    bad.push([&good[..], &[0]].concat());
    bad.push(vec![0; 5000]);
    for at in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[at / 8] ^= 1 << (at % 8);
        bad.push(bytes);
    }
    for bytes in bad {
        sample.disk.corrupt(&current, |b| *b = bytes.clone()).unwrap();
        let e = Manifest::load(&vfs, &dir, &sample::owner()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Corrupt, "{bytes:?}");
        assert_eq!((e.file(), e.offset()), (Some(&*current), Some(0)));
    }
    sample.disk.corrupt(&current, |b| *b = good).unwrap();
    assert_eq!(Manifest::load(&vfs, &dir, &sample::owner()).unwrap().0, sample.states[EDITS]);
}

#[test]
fn a_newer_version_is_refused_by_name_whatever_its_bytes_are() {
    let sample = sample_of(9);
    let (vfs, dir) = (sample::as_vfs(&sample.disk), sample::dir());
    let current = dir.join("CURRENT");
    for (file, magic) in [(path(), frame::MANIFEST_MAGIC), (current, frame::CURRENT_MAGIC)] {
        let good = sample.disk.read_file(&file).unwrap();
        for rest in [0, 10, 7000] {
            let mut bytes = frame::preamble_of(magic, 712).to_vec();
            bytes.resize(16 + rest, 0xab);
            sample.disk.corrupt(&file, |b| *b = bytes).unwrap();
            let e = Manifest::load(&vfs, &dir, &sample::owner()).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::UnsupportedFormat);
            assert!(e.message().contains("version 712"), "{e}");
            assert!(e.message().contains("knows version 1"), "{e}");
            assert_eq!(e.file(), Some(&*file));
        }
        sample.disk.corrupt(&file, |b| *b = good).unwrap();
    }
    assert_eq!(Manifest::load(&vfs, &dir, &sample::owner()).unwrap().0, sample.states[EDITS]);
}

#[test]
fn a_directory_without_current_is_not_found() {
    let disk = sample::disk(1);
    let e = Manifest::load(&sample::as_vfs(&disk), &sample::dir(), &sample::owner()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound);
}

#[test]
fn hostile_files_are_errors_or_true_states_never_a_panic() {
    let mut rng = Rng::with_seed(12);
    let samples: Vec<Sample> = (20..30).map(sample_of).collect();
    let (mut good, mut bad) = (0, 0);
    for round in 0..50_000 {
        let sample = rng.choice(&samples).unwrap();
        let mut bytes = sample.bytes.clone();
        mutate(&mut rng, &mut bytes);
        match read(&bytes) {
            Ok(state) => {
                good += 1;
                assert!(sample.states.contains(&state), "round {round}");
            }
            Err(e) => {
                bad += 1;
                assert_eq!(e.kind(), ErrorKind::Corrupt, "round {round}: {e:?}");
            }
        }
    }
    assert!(good > 100 && bad > 10_000, "{good} read, {bad} refused");
}

/// Bytes whose checksums hold, but that no writer wrote: the checks behind the checksum.
#[test]
fn payloads_that_nobody_wrote_are_damage_though_their_checksums_hold() {
    let mut rng = Rng::with_seed(13);
    let sample = sample_of(14);
    let (header, crc) = frame::Header::decode(&path(), &sample.bytes).unwrap();
    let seed = frame::salt_seed(&header.salt);
    let payloads: Vec<Vec<u8>> = sample
        .records
        .iter()
        .map(|(_, at, _)| {
            let record = frame::record_at(&sample.bytes, seed, *at, 0..=u64::MAX).unwrap();
            record.payload.to_vec()
        })
        .collect();
    let mut bad = 0;
    for _ in 0..20_000 {
        let hit = rng.usize(0..sample.records.len());
        let mut bytes = sample.bytes[..HEADER_BYTES].to_vec();
        let mut chain = crc;
        let mut number = sample.states[0].edit;
        for (n, (kind, ..)) in sample.records.iter().enumerate() {
            let mut payload = payloads[n].clone();
            number += u64::from(*kind == Kind::Edit);
            let mut said = number;
            if n == hit {
                mutate(&mut rng, &mut payload);
                if rng.u8(0..8) == 0 {
                    said = *rng.choice(&[0, number + 1, u64::MAX]).unwrap();
                }
            }
            let (record, crc) = frame::encode_record(seed, *kind, said, chain, &payload);
            bytes.extend(record);
            chain = crc;
        }
        match read(&bytes) {
            Ok(state) => assert_eq!(state.check(), Ok(())),
            Err(e) => {
                bad += 1;
                assert_eq!(e.kind(), ErrorKind::Corrupt);
            }
        }
    }
    assert!(bad > 10_000, "{bad} refused");
}
