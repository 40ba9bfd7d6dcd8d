//! The log by itself: what was appended is read back, to a whole record; its end is told from damage;
//! leftovers of earlier uses never pass for records; a failure ends its life.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::layout::{FileHeader, FileRole, HeaderFound};
use super::recovery::RecoveredLog;
use super::writer::log_path;
use super::*;
use crate::crypto::{FileSalt, Owner};
use crate::error::{Error, ErrorKind, Result};
use crate::types::{DatabaseId, LogId, Seq};
use crate::vfs::simulated::FaultError;
use crate::vfs::{SimulatedVfs, Vfs};

const DB: DatabaseId = DatabaseId([3; 16]);
const SEGMENT: u64 = 16 * 1024;

fn dir() -> &'static Path {
    Path::new("/db")
}

fn as_vfs(disk: &SimulatedVfs) -> Arc<dyn Vfs> {
    Arc::new(disk.clone())
}

fn disk(seed: u64) -> SimulatedVfs {
    let disk = SimulatedVfs::new(seed);
    disk.create_dir_all(&dir().join("wal")).expect("made");
    disk.sync_dir(dir()).expect("synced");
    disk.sync_dir(Path::new("/")).expect("synced");
    disk
}

/// A body told by its number; now and then one that is larger than a segment.
fn body(seq: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seq);
    let bytes = if seq.is_multiple_of(37) { 40_000 } else { rng.usize(1..600) };
    (0..bytes).map(|_| rng.u8(..)).collect()
}

struct Written {
    owner: Owner,
    disk: SimulatedVfs,
    writer: LogWriter,
    sync: Arc<LogSync>,
    /// Where each record ended: file and offset.
    ends: BTreeMap<u64, (LogId, u64)>,
}

impl Written {
    fn new(seed: u64) -> Self {
        Self::with_segments(seed, SEGMENT)
    }

    fn with_segments(seed: u64, segment_bytes: u64) -> Self {
        Self::of(Owner::plain(DB), disk(seed), segment_bytes)
    }

    #[cfg(feature = "encryption")]
    fn encrypted(seed: u64) -> Self {
        let disk = disk(seed);
        let source = crate::config::KeySource::key([7; 32]);
        let owner = Owner::create(&as_vfs(&disk), dir(), DB, Some(&source)).expect("keys");
        Self::of(owner, disk, SEGMENT)
    }

    fn of(owner: Owner, disk: SimulatedVfs, segment_bytes: u64) -> Self {
        let files = Arc::default();
        let options = LogOptions { segment_bytes, files, for_readers: false };
        let log = Log::create(&as_vfs(&disk), dir(), &owner, LogId(1), Seq(1), 0, options);
        let (writer, sync) = log.expect("made").split();
        Self { owner, disk, writer, sync, ends: BTreeMap::new() }
    }

    fn try_append(&mut self, seq: u64) -> Result<()> {
        let body = body(seq);
        self.writer.append(Seq(seq), &body, crc32c::crc32c(&body))
    }

    fn append(&mut self, seqs: std::ops::RangeInclusive<u64>) {
        for seq in seqs {
            self.try_append(seq).expect("appended");
            self.ends.insert(seq, self.writer.position());
        }
    }
}

fn recover(disk: &SimulatedVfs, first: u64, vouched: u64) -> Result<(RecoveredLog, u64)> {
    recover_as(&Owner::plain(DB), disk, first, vouched)
}

fn recover_as(
    owner: &Owner,
    disk: &SimulatedVfs,
    first: u64,
    vouched: u64,
) -> Result<(RecoveredLog, u64)> {
    let mut last = None;
    let found = LogRecovery::recover(
        &as_vfs(disk),
        dir(),
        owner,
        LogId(first),
        7,
        Seq(vouched),
        &mut |seq, found| {
            assert!(last.is_none_or(|last: Seq| seq == last.next()), "in order");
            assert!(found == body(seq.0), "record {seq} is not what was appended");
            last = Some(seq);
            Ok(Visit::Accept)
        },
    )?;
    assert_eq!(found.last_seq, last);
    Ok((found, last.map_or(0, |seq| seq.0)))
}

fn damaged(result: Result<(RecoveredLog, u64)>) -> Error {
    let error = result.expect_err("damage");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.file().is_some() && error.offset().is_some(), "{error}");
    error
}

#[test]
fn what_was_appended_is_read_back_across_files() {
    let mut log = Written::new(1);
    log.append(1..=200);
    let (found, last) = recover(&log.disk.kill(), 1, 0).expect("reads");
    assert_eq!((last, found.records), (200, 200));
    assert!(found.files.len() > 5, "{:?}", found.files);
    assert!(found.next_id > found.files.last().expect("files").0);
}

#[test]
fn what_was_synced_survives_a_power_cut_and_the_rest_is_a_prefix() {
    // Of the images: those whose end lies before files that were begun, and by how many files at most.
    let (mut before_files, mut most) = (0, 0);
    for seed in 0..200 {
        let mut log = Written::new(seed);
        let synced = 20 + seed;
        log.append(1..=synced);
        log.sync.sync_to(Seq(synced)).expect("synced");
        let more = synced + 1 + seed % 170;
        log.append(synced + 1..=more);
        let synced = log.sync.durable_seq().0;
        let (found, last) =
            recover(&log.disk.power_cut(seed), 1, 0).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert!((synced..=more).contains(&last), "seed {seed}: {last}");
        let end = found.files.last().expect("files").0;
        let behind = log.ends.values().map(|(file, _)| file).filter(|file| **file > end);
        let behind = behind.collect::<std::collections::BTreeSet<_>>().len();
        before_files += usize::from(behind > 0);
        most = most.max(behind);
    }
    assert!(before_files > 50 && most == 3, "{before_files} images, {most} files");
}

/// A manifest that names a file as the log's first relies on its header.
#[test]
fn files_begun_have_durable_headers_once_that_was_asked_for() {
    let mut lost = 0;
    for seed in 0..40 {
        for asked in [false, true] {
            let mut log = Written::with_segments(seed, 8 * 1024);
            let mut seq = 0;
            while log.writer.position().0 < LogId(3) {
                seq += 1;
                log.append(seq..=seq);
                // Nothing more is to be synced for what is in the file before.
                if log.writer.position().0 == LogId(2) {
                    log.sync.sync_to(Seq(seq)).expect("synced");
                }
            }
            if asked {
                let before = log.sync.stats().syncs;
                log.sync.sync_with_files(Seq(seq - 1)).expect("synced");
                assert_eq!(log.sync.stats().syncs, before + 1);
                log.sync.sync_with_files(Seq(seq - 1)).expect("nothing to do");
                assert_eq!(log.sync.stats().syncs, before + 1);
            }
            let image = log.disk.power_cut(seed);
            let found = LogRecovery::recover(
                &as_vfs(&image),
                dir(),
                &Owner::plain(DB),
                LogId(3),
                7,
                Seq(seq - 1),
                &mut |_, _| Ok(Visit::Accept),
            );
            match found {
                Ok(_) => {}
                Err(e) if !asked && e.kind() == ErrorKind::Corrupt => lost += 1,
                Err(e) => panic!("seed {seed}: {e}"),
            }
        }
    }
    assert!(lost > 5, "{lost} headers were lost where nobody asked");
}

/// A file without a record, left for the next because of its data key: that one is chained on its header.
#[cfg(feature = "encryption")]
#[test]
fn an_empty_file_is_synced_with_what_comes_after_it() {
    for seed in 0..40 {
        let mut log = Written::encrypted(seed);
        log.append(1..=1);
        log.sync.sync_to(Seq(1)).expect("synced");
        // (Each time: the files are under the first data key.)
        log.writer.leave_aged(2).expect("goes on");
        log.writer.leave_aged(2).expect("goes on");
        log.append(2..=2);
        log.sync.sync_to(Seq(2)).expect("synced");
        let image = log.disk.power_cut(seed);
        let (_, last) = recover_as(&log.owner, &image, 1, 2).expect("reads");
        assert_eq!(last, 2, "seed {seed}");
    }
}

#[cfg(feature = "encryption")]
#[test]
fn a_log_that_failed_begins_no_file() {
    let mut log = Written::encrypted(1);
    log.append(1..=1);
    log.disk.fail_operation(log.disk.operations(), FaultError::Eio, false);
    log.sync.sync_to(Seq(1)).expect_err("fails");
    let files = log.disk.files().len();
    assert_eq!(log.writer.leave_aged(2).expect_err("refused").kind(), ErrorKind::Poisoned);
    assert_eq!(log.disk.files().len(), files);
}

/// What is in front of a file's records is not known to be durable when they are written: of a power cut it may come
/// out with the front of the new header and the rest of the old.
#[test]
fn a_torn_header_is_none() {
    let salt = |epoch, byte| Some(FileSalt { epoch, salt: [byte; 32] });
    let header = |id, byte, key_salt| FileHeader {
        role: FileRole::GoesOnEarly,
        db: DB,
        id: LogId(id),
        salt: [byte; 16],
        key_salt,
        manifest_edit: 3,
        first_seq: Seq(id),
        chain: 7,
    };
    for (old, new) in [(salt(1, 1), salt(1, 2)), (salt(1, 1), salt(2, 2)), (None, None)] {
        let [old, new] = [header(5, 1, old), header(9, 2, new)].map(|h| (h, h.encode().0));
        let file = |first: &[u8], second: &[u8]| {
            let mut file = vec![0; FILE_HEADER_BYTES];
            file[..first.len()].copy_from_slice(first);
            file[2048..2048 + second.len()].copy_from_slice(second);
            FileHeader::decode(&file)
        };
        let cuts = (0..=new.1.len()).flat_map(|cut| [(cut, true), (cut, false)]);
        for (cut, front) in cuts {
            let (a, b) = if front { (&new.1, &old.1) } else { (&old.1, &new.1) };
            let torn = [&a[..cut], &b[cut..]].concat();
            for found in [file(&torn, &old.1), file(&torn, &new.1)] {
                let HeaderFound::Valid(found, _) = found else { panic!("one copy is whole") };
                assert!(found == old.0 || found == new.0, "cut at {cut}: {found:?}");
            }
            match file(&torn, &torn) {
                HeaderFound::Valid(found, _) => assert!(found == old.0 || found == new.0),
                other => assert_eq!(other, HeaderFound::Invalid),
            }
        }
    }
}

/// Where files are begun before the one before them is durable, rot at the end of that one looks torn, until a
/// record of a later file knows better.
#[test]
fn later_files_show_what_was_durable_by_their_records_alone() {
    let mut log = Written::with_segments(9, 8 * 1024);
    let mut seq = 0;
    while log.writer.position().0 == LogId(1) {
        seq += 1;
        log.append(seq..=seq);
    }
    let path = log_path(dir(), LogId(1));
    let last_of_first = log.ends[&(seq - 1)].1;
    log.append(seq + 1..=seq + 3);
    let rotten = |log: &Written| {
        let image = log.disk.kill();
        image.corrupt(&path, |bytes| bytes[last_of_first as usize - 9] ^= 1).expect("there");
        image
    };
    assert_eq!(recover(&log.disk.kill(), 1, 0).expect("reads").1, seq + 3);
    assert_eq!(recover(&rotten(&log), 1, seq - 2).expect("looks torn").1, seq - 2);
    damaged(recover(&rotten(&log), 1, seq - 1));
    // Synced, which no record tells yet.
    log.sync.sync_to(Seq(seq + 3)).expect("synced");
    assert_eq!(recover(&rotten(&log), 1, 0).expect("looks torn").1, seq - 2);
    log.append(seq + 4..=seq + 4);
    let error = damaged(recover(&rotten(&log), 1, 0));
    assert_eq!((error.file(), error.offset()), (Some(&*path), Some(log.ends[&(seq - 2)].1)));
}

/// Of a file that does not go on from the last commit before it: begun early, it may have lost what was before it; otherwise, or
/// where it was begun after fewer commits, something is damaged.
#[test]
fn a_gap_before_a_file_begun_early_is_an_end_and_any_other_is_damage() {
    let mut log = Written::with_segments(12, 8 * 1024);
    let mut seq = 0;
    while log.writer.position().0 == LogId(1) {
        seq += 1;
        log.append(seq..=seq);
    }
    let image = log.disk.kill();
    let path = log_path(dir(), LogId(2));
    let HeaderFound::Valid(header, _) = FileHeader::decode(&image.read_file(&path).expect("there"))
    else {
        panic!("no header");
    };
    assert_eq!((header.role, header.first_seq), (FileRole::GoesOnEarly, Seq(seq)));
    let with = |role, first: u64, chain| {
        let image = image.fork();
        let (bytes, _) = FileHeader { role, first_seq: Seq(first), chain, ..header }.encode();
        let damage = |file: &mut Vec<u8>| {
            for at in [0, 2048] {
                file[at..at + bytes.len()].copy_from_slice(&bytes);
            }
        };
        image.corrupt(&path, damage).expect("there");
        recover(&image, 1, 0)
    };
    let (early, late) = (FileRole::GoesOnEarly, FileRole::GoesOn);
    assert_eq!(with(early, seq + 1, header.chain).expect("an end").1, seq - 1);
    assert_eq!(with(early, seq, header.chain ^ 1).expect("an end").1, seq - 1);
    damaged(with(early, seq - 1, header.chain));
    damaged(with(late, seq + 1, header.chain));
    damaged(with(late, seq, header.chain ^ 1));
}

/// The header of FORMAT.md.
#[test]
fn the_example_of_a_header() {
    let key_salt = FileSalt { epoch: 2, salt: std::array::from_fn(|i| 0xc0 + i as u8) };
    let header = FileHeader {
        role: FileRole::GoesOnEarly,
        db: DatabaseId(std::array::from_fn(|i| i as u8)),
        id: LogId(9),
        salt: std::array::from_fn(|i| 0x10 + i as u8),
        key_salt: Some(key_salt),
        manifest_edit: 3,
        first_seq: Seq(40),
        chain: u32::from_le_bytes([0xa1, 0xb2, 0xc3, 0xd4]),
    };
    let (bytes, crc) = header.encode();
    crate::format_tests::assert_is("log header", &bytes);
    let mut file = vec![0; FILE_HEADER_BYTES];
    file[..bytes.len()].copy_from_slice(&bytes);
    assert_eq!(FileHeader::decode(&file), HeaderFound::Valid(header, crc));
}

/// The files that are not known to be durable become so together, or the log fails.
#[test]
fn a_file_that_was_left_unsynced_is_synced_with_the_next() {
    for fails in [false, true] {
        let mut log = Written::new(10);
        let mut seq = 0;
        while log.writer.position().0 < LogId(3) {
            seq += 1;
            log.append(seq..=seq);
        }
        assert_eq!((log.sync.durable_seq(), log.sync.files_behind()), (Seq(0), 2));
        assert!(!log.sync.is_all_durable(Seq(seq)));
        if !fails {
            log.sync.sync_to(Seq(1)).expect("synced");
            assert_eq!((log.sync.durable_seq(), log.sync.files_behind()), (Seq(seq), 0));
            assert!(log.sync.is_all_durable(Seq(seq)));
            assert_eq!(recover(&log.disk.power_cut(1), 1, seq).expect("reads").1, seq);
            continue;
        }
        // The first of the files alone cannot be synced.
        log.disk.fail_operation(log.disk.operations(), FaultError::Eio, false);
        let error = log.sync.sync_to(Seq(1)).expect_err("fails");
        assert_eq!(error.kind(), ErrorKind::CommitUnknown, "{error}");
        assert_eq!(log.sync.durable_seq(), Seq(0));
        assert!(log.sync.poisoned().is_some() && log.sync.sync_to(Seq(seq)).is_err());
    }
}

#[test]
fn a_record_cut_off_at_any_byte_ends_the_log_before_it() {
    let mut log = Written::new(2);
    log.append(1..=8);
    let [(_, start), (file, end)] = [7, 8].map(|seq| log.ends[&seq]);
    let path = log_path(dir(), file);
    for at in start..end {
        let image = log.disk.kill();
        image.corrupt(&path, |bytes| bytes[at as usize..].fill(0)).expect("there");
        let whole = at + 8 > end && body(8).len() as u64 + 32 + start <= at;
        let (_, last) = recover(&image, 1, 7).expect("an end, not damage");
        assert!(last == 7 || (last == 8 && whole), "cut at {at}: {last}");
        // One who knows that it was there is not told that it never was.
        if last == 7 {
            damaged(recover(&image, 1, 8));
        }
        let image = log.disk.kill();
        image.corrupt(&path, |bytes| bytes.truncate(at as usize)).expect("there");
        assert!(recover(&image, 1, 7).expect("an end").1 >= 7, "truncated at {at}");
    }
}

#[test]
fn any_flipped_byte_of_a_vouched_record_is_damage() {
    let mut log = Written::new(3);
    log.append(1..=5);
    log.sync.sync_to(Seq(5)).expect("synced");
    // Carries the knowledge that the five before it are durable.
    log.append(6..=6);
    let (file, end) = log.ends[&5];
    let path = log_path(dir(), file);
    let mut padding = 0;
    for at in FILE_HEADER_BYTES as u64..end {
        let image = log.disk.kill();
        image.corrupt(&path, |bytes| bytes[at as usize] ^= 0x10).expect("there");
        match recover(&image, 1, 0) {
            // Zeros behind a body belong to no record.
            Ok((_, last)) => {
                assert_eq!(last, 6);
                padding += 1;
            }
            Err(e) => assert_eq!((e.kind(), e.file()), (ErrorKind::Corrupt, Some(&*path))),
        }
    }
    assert!(padding < 5 * 8, "{padding} bytes may be anything");
}

#[test]
fn rot_in_the_last_group_is_damage_once_the_manifest_vouches_for_it() {
    let mut log = Written::new(4);
    log.append(1..=5);
    log.sync.sync_to(Seq(5)).expect("synced");
    let (file, end) = log.ends[&5];
    let path = log_path(dir(), file);
    log.disk.corrupt(&path, |bytes| bytes[end as usize - 9] ^= 1).expect("there");
    assert_eq!(recover(&log.disk, 1, 4).expect("looks torn").1, 4);
    let error = damaged(recover(&log.disk, 1, 5));
    assert_eq!(error.offset(), Some(log.ends[&4].1), "{error}");
}

#[test]
fn a_file_missing_in_the_middle_is_damage_and_one_never_begun_is_not() {
    let mut log = Written::new(5);
    for seq in 1..=150 {
        // So that each file is begun when everything before it is durable.
        log.append(seq..=seq);
        log.sync.sync_to(Seq(seq)).expect("synced");
    }
    let files = recover(&log.disk, 1, 0).expect("reads").0.files;
    for (id, ..) in &files[1..files.len() - 1] {
        let image = log.disk.kill();
        image.remove_file(&log_path(dir(), *id)).expect("removed");
        damaged(recover(&image, 1, 0));
    }
    let image = log.disk.kill();
    image.remove_file(&log_path(dir(), files[0].0)).expect("removed");
    damaged(recover(&image, 1, 0));
    // Prepared, named, without a header; and then skipped over.
    let plan = log.writer.plan_next().expect("none is ready");
    drop(plan.make().expect("made"));
    log.writer.offer_next(None);
    log.append(151..=260);
    assert_eq!(recover(&log.disk, 1, 0).expect("reads").1, 260);
}

/// Every byte of a file is asked for before it is written to, once, and nothing behind its end; where the next
/// file is there, its front is too.
#[test]
fn files_are_asked_for_ahead() {
    let mut log = Written::with_segments(8, 8 * 1024);
    let mut asked = BTreeMap::new();
    let mut before_its_turn = 0;
    for seq in 1..=200 {
        let before = log.writer.position().0;
        log.append(seq..=seq);
        let (id, offset) = log.writer.position();
        let current = log_path(dir(), id);
        before_its_turn += u64::from(id != before && asked.contains_key(&current));
        for (file, from, len) in log.writer.plan_ahead() {
            let to = asked.entry(file.path().to_path_buf()).or_insert(0);
            let is_current = file.path() == current;
            assert!(from == *to || (is_current && *to < from && from <= offset), "once: {from}");
            assert!(len > 0);
            *to = from + len;
            // Files are shorter here than what is asked for.
            assert_eq!(*to, file.len().expect("a length"), "to its end");
        }
        // (A file made for one large record is full at once.)
        assert!(asked.contains_key(&current) || seq % 37 == 0);
        assert!(log.writer.plan_ahead().is_empty(), "asked for twice");
        if seq % 3 == 0
            && let Some(plan) = log.writer.plan_next()
        {
            log.writer.offer_next(plan.make());
        }
    }
    assert!(before_its_turn > 5, "{before_its_turn} files");
}

#[test]
fn what_is_left_of_an_earlier_use_of_a_file_is_no_record() {
    let mut log = Written::new(6);
    let mut reused = 0;
    let mut first = LogId(1);
    for round in 0..40_u64 {
        let (from, to) = (round * 30 + 1, round * 30 + 30);
        log.append(from..=to);
        // Files that are used again, not all of it durable.
        let image = log.disk.power_cut(round);
        let (_, last) = recover(&image, first.0, from - 1).expect("reads");
        assert!(last.max(from - 1) <= to, "round {round}: {last}");
        log.sync.sync_to(Seq(to)).expect("synced");
        let before = log.disk.files().len();
        if let Some(plan) = log.writer.plan_next() {
            log.writer.offer_next(plan.make());
            reused += usize::from(log.disk.files().len() == before);
        }
        first = log.writer.first_needed(Seq(to));
        log.sync.sync_with_files(Seq(to)).expect("synced");
        for path in log.writer.retire(first, |_| false) {
            log.disk.remove_file(&path).expect("removed");
        }
        // The newest file alone: what lies behind its end was written under other numbers.
        let (found, last) = recover(&log.disk.kill(), first.0, to).expect("reads");
        assert_eq!(last.max(to), to, "round {round}: {found:?}");
    }
    assert!(reused > 3, "{reused} files were used again");
    assert!(log.writer.bytes() <= 3 * 60_000, "the log does not grow: {}", log.writer.bytes());
    assert!(first > LogId(10));
}

#[test]
fn logs_of_other_databases_and_later_manifests_are_refused() {
    let mut log = Written::new(7);
    log.append(1..=3);
    let read = |db, edit| {
        let vfs = as_vfs(&log.disk);
        let mut accept = |_: Seq, _: &[u8]| Ok(Visit::Accept);
        LogRecovery::recover(&vfs, dir(), &Owner::plain(db), LogId(1), edit, Seq(0), &mut accept)
    };
    assert!(read(DB, 0).is_ok());
    assert_eq!(read(DatabaseId([4; 16]), 0).expect_err("foreign").kind(), ErrorKind::Corrupt);
    log.sync.note_manifest_edit(9);
    log.append(4..=200);
    let vfs = as_vfs(&log.disk);
    let mut accept = |_: Seq, _: &[u8]| Ok(Visit::Accept);
    let stale =
        LogRecovery::recover(&vfs, dir(), &Owner::plain(DB), LogId(1), 8, Seq(0), &mut accept);
    assert_eq!(stale.expect_err("stale").kind(), ErrorKind::Corrupt);
    let mut accept = |_: Seq, _: &[u8]| Ok(Visit::Accept);
    assert!(
        LogRecovery::recover(&vfs, dir(), &Owner::plain(DB), LogId(1), 9, Seq(0), &mut accept)
            .is_ok()
    );
}

/// Whatever operation fails first, what was acknowledged is there, and nothing is tried again.
#[test]
fn after_a_failure_the_log_takes_nothing_and_keeps_what_was_acknowledged() {
    let run = |log: &mut Written| {
        let mut durable = 0;
        let mut failed = false;
        for seq in 1..=60 {
            let result = log.try_append(seq).and_then(|()| {
                if seq.is_multiple_of(5) { log.sync.sync_to(Seq(seq)) } else { Ok(()) }
            });
            match result {
                Ok(()) if seq.is_multiple_of(5) => {
                    assert!(log.sync.poisoned().is_none());
                    durable = seq;
                }
                Ok(()) => {}
                Err(_) => {
                    failed = true;
                    break;
                }
            }
        }
        (durable, failed)
    };
    let mut clean = Written::with_segments(8, 8 * 1024);
    let begun = clean.disk.operations();
    assert_eq!(run(&mut clean), (60, false));
    let operations = clean.disk.operations() - begun;
    let mut poisoned = 0;
    for n in 1..=operations {
        let mut log = Written::with_segments(8, 8 * 1024);
        log.disk.fail_operation(begun + n, FaultError::Eio, false);
        let (durable, failed) = run(&mut log);
        assert!(failed || durable == 60, "operation {n}");
        if log.sync.poisoned().is_some() {
            poisoned += 1;
            let last = log.writer.last();
            assert!(log.sync.sync_to(last).is_err() || log.sync.durable_seq() >= last);
        }
        for seed in 0..3 {
            let (_, last) = recover(&log.disk.power_cut(seed), 1, durable)
                .unwrap_or_else(|e| panic!("operation {n}, seed {seed}: {e}"));
            assert!(last >= durable && last <= 60, "operation {n}, seed {seed}: {last}");
        }
    }
    assert!(poisoned > 10, "{poisoned} of {operations} operations");
}
