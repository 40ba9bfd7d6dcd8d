//! Each promise of the simulated machine, by name.

use std::collections::BTreeSet;
use std::io::{ErrorKind as IoErrorKind, Result as IoResult};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{FaultError, FaultRule, Operation, SimulatedVfs, Survival};
use crate::error::ErrorKind;
use crate::vfs::{OpenMode, Vfs, VfsFile, read_exact_at, write_all_at};

const ROOT: &str = "/";
const A: &str = "/a";
const B: &str = "/b";

fn path(name: &str) -> &Path {
    Path::new(name)
}

/// A file with durable bytes and name.
fn durable_file(disk: &SimulatedVfs, name: &str, bytes: &[u8]) -> Arc<dyn VfsFile> {
    let file = disk.create(path(name)).unwrap();
    write_all_at(&*file, bytes, 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(path(ROOT)).unwrap();
    file
}

fn read(disk: &SimulatedVfs, name: &str) -> Option<Vec<u8>> {
    match disk.read_file(path(name)) {
        Ok(bytes) => Some(bytes),
        Err(e) if e.kind() == IoErrorKind::NotFound => None,
        Err(e) => panic!("{e}"),
    }
}

/// All that can be there after a power cut, over many seeds.
fn outcomes<T: Ord>(disk: &SimulatedVfs, look: impl Fn(&SimulatedVfs) -> T) -> BTreeSet<T> {
    (0..400).map(|seed| look(&disk.power_cut(seed))).collect()
}

/// A workload of every kind of operation; what it saw of the outside, and errors, are its result.
fn workload(disk: &SimulatedVfs) -> IoResult<Vec<u8>> {
    let mut seen = vec![0; 8];
    disk.fill_random(&mut seen)?;
    let dir = path("/db");
    disk.create_dir_all(dir)?;
    disk.sync_dir(path(ROOT))?;
    let _lock = disk.try_lock(&dir.join("LOCK"), true)?;
    let log = disk.create_log(&dir.join("log"), 8192)?;
    for round in 0..8u8 {
        log.write_at(&[round + 1; 700], u64::from(round) * 700)?;
        if round % 3 == 0 {
            log.sync_data()?;
        }
        let tmp = dir.join("CURRENT.tmp");
        let current = disk.create(&tmp)?;
        current.write_at(&[round; 100], 0)?;
        current.sync_data()?;
        disk.rename(&tmp, &dir.join("CURRENT"))?;
        if round % 4 == 1 {
            disk.sync_dir(dir)?;
        }
    }
    disk.hard_link(&dir.join("CURRENT"), &dir.join("link"))?;
    disk.remove_file(&dir.join("link"))?;
    let mut bytes = [0; 50];
    let n = log.read_at(&mut bytes, 600)?;
    seen.extend(&bytes[..n]);
    seen.extend(disk.list(dir)?.concat().bytes());
    log.set_len(log.len()?)?;
    seen.extend(disk.monotonic().as_nanos().to_le_bytes());
    Ok(seen)
}

fn everything(disk: &SimulatedVfs) -> Vec<(PathBuf, Vec<u8>)> {
    let read = |p: PathBuf| (p.clone(), disk.read_file(&p).unwrap());
    disk.files().into_iter().map(read).collect()
}

#[test]
fn same_seed_same_run() {
    let run = |seed, cut| {
        let disk = SimulatedVfs::new(seed);
        let seen = workload(&disk).unwrap();
        (seen, disk.operations(), everything(&disk), everything(&disk.power_cut(cut)))
    };
    assert_eq!(run(1, 5), run(1, 5));
    assert_ne!(run(1, 5).0, run(2, 5).0);
    let cuts: BTreeSet<_> = (0..50).map(|cut| run(1, cut).3).collect();
    assert!(cuts.len() > 10, "{} different disks from 50 seeds", cuts.len());
}

#[test]
fn unsynced_data_may_be_lost_and_synced_data_never_is() {
    let disk = SimulatedVfs::new(1);
    let file = durable_file(&disk, A, &[1; 2048]);
    file.write_at(&[2; 1024], 512).unwrap();
    let whole = |sectors: [u8; 4]| Some(sectors.map(|b| [b; 512]).concat());
    let seen = outcomes(&disk, |d| read(d, A));
    for sectors in [[1, 1, 1, 1], [1, 2, 1, 1], [1, 1, 2, 1], [1, 2, 2, 1]] {
        assert!(seen.contains(&whole(sectors)), "{sectors:?}");
    }
    for bytes in seen.iter().flatten() {
        assert!(bytes[..512] == [1; 512] && bytes[1536..] == [1; 512]);
    }
    file.sync_data().unwrap();
    assert_eq!(outcomes(&disk, |d| read(d, A)), [whole([1, 2, 2, 1])].into());
}

#[test]
fn torn_writes_keep_a_part_of_a_sector() {
    let disk = SimulatedVfs::new(1);
    let file = durable_file(&disk, A, &[1; 512]);
    file.write_at(&[2; 512], 0).unwrap();
    let seen = outcomes(&disk, |d| read(d, A).unwrap());
    let (mut heads, mut tails) = (0, 0);
    for bytes in &seen {
        let changes = bytes.windows(2).filter(|w| w[0] != w[1]).count();
        assert!(changes <= 1, "torn at one point only");
        heads += usize::from(changes == 1 && bytes[0] == 2);
        tails += usize::from(changes == 1 && bytes[0] == 1);
    }
    assert!(heads > 3 && tails > 3, "{heads} heads, {tails} tails");
}

#[test]
fn length_and_data_persist_on_their_own() {
    let disk = SimulatedVfs::new(1);
    let file = durable_file(&disk, A, b"old");
    file.write_at(b"new", 3).unwrap();
    file.set_len(10).unwrap();
    let seen = outcomes(&disk, |d| read(d, A).unwrap());
    for bytes in [&b"old"[..], b"oldnew", b"old\0\0\0", b"oldnew\0\0\0\0", b"old\0\0\0\0\0\0\0"] {
        assert!(seen.contains(bytes), "{bytes:?}");
    }
    assert!(seen.iter().all(|bytes| [3, 6, 10].contains(&bytes.len())));
}

#[test]
fn a_cut_of_a_file_may_be_undone() {
    let disk = SimulatedVfs::new(1);
    let file = durable_file(&disk, A, b"abcdef");
    file.set_len(2).unwrap();
    let both = [b"ab".to_vec(), b"abcdef".to_vec()];
    assert_eq!(outcomes(&disk, |d| read(d, A).unwrap()), both.clone().into());
    file.sync_data().unwrap();
    assert_eq!(outcomes(&disk, |d| read(d, A).unwrap()), both[..1].iter().cloned().collect());
    file.set_len(4).unwrap();
    file.sync_data().unwrap();
    assert_eq!(read(&disk.power_cut(1), A).unwrap(), b"ab\0\0");
}

#[test]
fn an_unsynced_directory_entry_may_be_lost() {
    let disk = SimulatedVfs::new(1);
    let file = disk.create(path(A)).unwrap();
    file.write_at(b"data", 0).unwrap();
    file.sync_data().unwrap();
    let both = BTreeSet::from([None, Some(b"data".to_vec())]);
    assert_eq!(outcomes(&disk, |d| read(d, A)), both, "syncing a file does not sync its name");
    disk.sync_dir(path(ROOT)).unwrap();
    assert_eq!(outcomes(&disk, |d| read(d, A)).len(), 1);
    disk.remove_file(path(A)).unwrap();
    assert_eq!(outcomes(&disk, |d| read(d, A)), both, "a removal may be undone");
    disk.sync_dir(path(ROOT)).unwrap();
    assert_eq!(outcomes(&disk, |d| read(d, A)), [None].into());
}

#[test]
fn syncing_a_directory_does_not_sync_its_own_name() {
    let disk = SimulatedVfs::new(1);
    disk.create_dir_all(path("/d/e")).unwrap();
    let file = disk.create(path("/d/e/f")).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(path("/d/e")).unwrap();
    disk.sync_dir(path("/d")).unwrap();
    assert_eq!(outcomes(&disk, |d| read(d, "/d/e/f").is_some()), [false, true].into());
    disk.sync_dir(path(ROOT)).unwrap();
    assert_eq!(outcomes(&disk, |d| read(d, "/d/e/f").is_some()), [true].into());
}

#[test]
fn rename_is_old_or_new_never_neither() {
    let disk = SimulatedVfs::new(1);
    durable_file(&disk, A, b"old");
    durable_file(&disk, B, b"new");
    disk.rename(path(B), path(A)).unwrap();
    let look = |d: &SimulatedVfs| (read(d, A).unwrap(), read(d, B));
    let (old, new) = (b"old".to_vec(), b"new".to_vec());
    let both = [(old, Some(new.clone())), (new.clone(), None)];
    assert_eq!(outcomes(&disk, look), both.into());
    disk.sync_dir(path(ROOT)).unwrap();
    assert_eq!(outcomes(&disk, look), [(new, None)].into());
}

#[test]
fn names_go_through_their_changes_in_order_and_apart_from_other_names() {
    let disk = SimulatedVfs::new(1);
    durable_file(&disk, A, b"1");
    disk.rename(path(A), path(B)).unwrap();
    let again = disk.create(path(A)).unwrap();
    again.write_at(b"2", 0).unwrap();
    again.sync_data().unwrap();
    disk.create(path("/c")).unwrap();
    let look = |d: &SimulatedVfs| (read(d, A), read(d, B), read(d, "/c").is_some());
    let (one, two) = (Some(b"1".to_vec()), Some(b"2".to_vec()));
    let names = [(one.clone(), None), (None, one.clone()), (two, one)];
    let expected =
        names.into_iter().flat_map(|(a, b)| [false, true].map(|c| (a.clone(), b.clone(), c)));
    assert_eq!(outcomes(&disk, look), expected.collect());
}

#[test]
fn removing_a_directory_durably_removes_what_was_in_it() {
    let disk = SimulatedVfs::new(1);
    disk.create_dir_all(path("/d")).unwrap();
    disk.create(path("/d/f")).unwrap();
    disk.sync_dir(path(ROOT)).unwrap();
    disk.sync_dir(path("/d")).unwrap();
    disk.remove_file(path("/d/f")).unwrap();
    disk.remove_dir(path("/d")).unwrap();
    let dirs = |d: &SimulatedVfs| (d.exists(path("/d")).unwrap(), read(d, "/d/f").is_some());
    assert_eq!(outcomes(&disk, dirs), [(false, false), (true, false), (true, true)].into());
    disk.sync_dir(path(ROOT)).unwrap();
    assert_eq!(outcomes(&disk, dirs), [(false, false)].into());
    disk.create_dir_all(path("/d")).unwrap();
    disk.sync_dir(path(ROOT)).unwrap();
    assert_eq!(outcomes(&disk, dirs), [(true, false)].into(), "a new directory is empty");
}

#[test]
fn kill_keeps_all_and_a_later_power_cut_may_still_lose_it() {
    let disk = SimulatedVfs::new(1);
    let file = durable_file(&disk, A, b"old");
    let lock = disk.try_lock(path("/LOCK"), true).unwrap().expect("free");
    file.write_at(b"new", 0).unwrap();
    disk.create(path(B)).unwrap();
    let killed = disk.kill();
    assert_eq!((read(&killed, A).unwrap(), read(&killed, B)), (b"new".to_vec(), Some(Vec::new())));
    assert!(killed.try_lock(path("/LOCK"), true).unwrap().is_some(), "its lock is free");
    let lost = killed.power_cut_with(1, Survival::Nothing);
    assert_eq!((read(&lost, A).unwrap(), read(&lost, B)), (b"old".to_vec(), None));
    let file = killed.open(path(A), OpenMode::ReadWrite).unwrap();
    file.sync_data().unwrap();
    killed.sync_dir(path(ROOT)).unwrap();
    let kept = killed.power_cut_with(1, Survival::Nothing);
    assert_eq!((read(&kept, A).unwrap(), read(&kept, B)), (b"new".to_vec(), Some(Vec::new())));
    assert_eq!(read(&disk.power_cut_with(1, Survival::Nothing), A).unwrap(), b"old");
    drop(lock);
}

#[test]
fn a_failed_sync_loses_the_pages_and_the_next_one_succeeds() {
    for error in [FaultError::Eio, FaultError::Enospc] {
        let disk = SimulatedVfs::new(1);
        let file = durable_file(&disk, A, &[1; 8192]);
        disk.fail(FaultRule::next(&[Operation::Sync], error));
        file.write_at(&[2; 8192], 0).unwrap();
        assert!(file.sync_data().is_err());
        assert_eq!(read(&disk, A).unwrap(), [2; 8192], "processes go on seeing it");
        file.sync_data().unwrap();
        for survival in [Survival::Mixed, Survival::Everything] {
            assert_eq!(read(&disk.power_cut_with(1, survival), A).unwrap(), [1; 8192]);
            let killed = disk.kill();
            assert_eq!(read(&killed, A).unwrap(), [2; 8192]);
            assert_eq!(read(&killed.power_cut_with(1, survival), A).unwrap(), [1; 8192]);
        }
        let dropped = disk.fork();
        dropped.drop_caches();
        assert_eq!(read(&dropped, A).unwrap(), [1; 8192]);
        // Writing to one page again writes out the whole page, and that page only.
        file.write_at(&[3; 1], 0).unwrap();
        file.sync_data().unwrap();
        let after = read(&disk.power_cut(1), A).unwrap();
        assert_eq!(
            (after[0], &after[1..4096], &after[4096..]),
            (3, &[2; 4095][..], &[1; 4096][..])
        );
    }
}

#[test]
fn a_failed_directory_sync_loses_the_names_and_the_next_one_succeeds() {
    let disk = SimulatedVfs::new(1);
    disk.create(path(A)).unwrap();
    disk.fail(FaultRule::next(&[Operation::SyncDir], FaultError::Eio));
    assert!(disk.sync_dir(path(ROOT)).is_err());
    disk.sync_dir(path(ROOT)).unwrap();
    assert!(disk.exists(path(A)).unwrap());
    assert_eq!(outcomes(&disk, |d| d.files().len()), [0].into());
    disk.create(path(B)).unwrap();
    disk.sync_dir(path(ROOT)).unwrap();
    assert_eq!(outcomes(&disk, |d| d.files().len()), [2].into());
}

#[test]
fn a_full_disk_writes_short_then_fails_until_space_is_freed() {
    let disk = SimulatedVfs::new(1);
    let old = durable_file(&disk, A, &[1; 600]);
    disk.set_capacity(Some(1000));
    let file = disk.create(path(B)).unwrap();
    assert_eq!(file.write_at(&[2; 500], 0).unwrap(), 400);
    assert_eq!(file.write_at(&[2; 100], 400).unwrap_err().kind(), IoErrorKind::StorageFull);
    let e = write_all_at(&*file, &[2; 100], 400).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::StorageFull);
    assert_eq!(file.allocate(401).unwrap_err().kind(), IoErrorKind::StorageFull);
    assert_eq!(file.write_at(&[3; 400], 0).unwrap(), 400, "what it has can be written over");
    disk.remove_file(path(A)).unwrap();
    assert!(file.write_at(&[2; 100], 400).is_err(), "an open file takes space without a name");
    drop(old);
    assert_eq!(file.write_at(&[2; 600], 400).unwrap(), 600);
    file.set_len(0).unwrap();
    file.allocate(1000).unwrap();
    assert_eq!(disk.create_log(path("/log"), 1).unwrap_err().kind(), IoErrorKind::StorageFull);
    assert!(!disk.exists(path("/log")).unwrap());
    assert_eq!(file.write_at(&[4; 1000], 0).unwrap(), 1000, "allocated space is there");
}

#[test]
fn short_and_interrupted_calls_are_looped_over() {
    let disk = SimulatedVfs::new(1);
    disk.fail(FaultRule::next(&[], FaultError::Interrupted).forever());
    disk.fail(FaultRule::next(&[Operation::Read, Operation::Write], FaultError::Short).forever());
    let file = disk.create(path(A)).unwrap();
    let bytes: Vec<u8> = (0..5000u32).map(|i| i as u8).collect();
    let before = disk.operations();
    write_all_at(&*file, &bytes, 7).unwrap();
    assert!(disk.operations() - before > 4);
    let mut back = vec![0; 5000];
    read_exact_at(&*file, &mut back, 7).unwrap();
    assert!(back == bytes);
    disk.clear_faults();
    assert_eq!(file.write_at(&bytes, 0).unwrap(), 5000);
}

#[test]
fn an_operation_fails_by_its_number_once_or_for_good() {
    let clean = SimulatedVfs::new(1);
    workload(&clean).unwrap();
    for number in 0..clean.operations() {
        let disk = SimulatedVfs::new(1);
        disk.fail_operation(number, FaultError::Eio, false);
        assert!(workload(&disk).is_err(), "operation {number}");
        assert!(disk.exists(path(ROOT)).is_ok());
        disk.fail_operation(disk.operations(), FaultError::Eio, true);
        assert!(disk.exists(path(ROOT)).is_err() && disk.exists(path(ROOT)).is_err());
    }
}

#[test]
fn a_machine_goes_down_at_any_operation_and_stays_down() {
    let clean = SimulatedVfs::new(1);
    workload(&clean).unwrap();
    let mut torn = 0;
    for number in 0..clean.operations() {
        let disk = SimulatedVfs::new(number);
        disk.crash_after(number);
        let e = workload(&disk).unwrap_err();
        assert_eq!(e.to_string(), "the machine is down");
        assert!(disk.exists(path(ROOT)).is_err());
        assert_eq!(disk.operations(), number + 1);
        let killed = disk.kill();
        let log = read(&killed, "/db/log").unwrap_or_default();
        let end = log.iter().rposition(|&b| b > 0).map_or(0, |at| at + 1);
        torn += usize::from(end % 700 > 0);
        for cut in 0..5 {
            let after = killed.power_cut(cut);
            if let Some(current) = read(&after, "/db/CURRENT") {
                assert_eq!(current, [current[0]; 100], "named only once it was durable");
            }
            assert_eq!(after.operations(), 0);
            drop(after.create(path("/works")).unwrap());
        }
    }
    assert!(torn > 0, "no crash tore a write");
}

#[test]
fn forks_and_restarts_share_nothing_that_changes() {
    let disk = SimulatedVfs::new(1);
    let file = durable_file(&disk, A, &[1; 5000]);
    let (fork, killed, cut) = (disk.fork(), disk.kill(), disk.power_cut(1));
    file.write_at(&[2; 5000], 0).unwrap();
    file.sync_data().unwrap();
    disk.remove_file(path(A)).unwrap();
    for (other, byte) in [(&fork, 3), (&killed, 4), (&cut, 5)] {
        assert_eq!(read(other, A).unwrap(), [1; 5000]);
        other.open(path(A), OpenMode::ReadWrite).unwrap().write_at(&[byte; 9], 9).unwrap();
    }
    assert_eq!(read(&fork, A).unwrap()[9], 3);
    let mut byte = [0; 1];
    file.read_at(&mut byte, 9).unwrap();
    assert_eq!(byte, [2], "an open file outlives its name");
    assert_eq!((fork.operations() > 1, killed.operations(), cut.operations()), (true, 2, 2));
}

#[test]
fn damage_is_durable() {
    let disk = SimulatedVfs::new(1);
    let file = durable_file(&disk, A, b"good");
    file.write_at(b"GOOD", 0).unwrap();
    disk.corrupt(path(A), |bytes| bytes[1] ^= 0xff).unwrap();
    assert_eq!(read(&disk.power_cut(1), A).unwrap(), [b'G', b'O' ^ 0xff, b'O', b'D']);
    assert_eq!(disk.corrupt(path(B), |_| {}).unwrap_err().kind(), IoErrorKind::NotFound);
}

#[test]
fn logs_refuse_another_length() {
    let disk = SimulatedVfs::new(1);
    let log = disk.create_log(path(A), 100).unwrap();
    for e in [log.write_at(&[1; 2], 99).unwrap_err(), log.set_len(99).unwrap_err()] {
        assert_eq!(e.kind(), IoErrorKind::InvalidInput);
    }
    assert_eq!(log.allocate(101).unwrap_err().kind(), IoErrorKind::InvalidInput);
    assert_eq!(log.write_at(&[1; 2], 98).unwrap(), 2);
}

#[test]
fn time_passes_only_in_the_simulation() {
    let disk = SimulatedVfs::new(1);
    let (monotonic, wall) = (disk.monotonic(), disk.wall_clock());
    disk.sleep(Duration::from_secs(1_000_000));
    disk.advance_clock(Duration::from_secs(1_000_000));
    let later = Duration::from_secs(2_000_000);
    assert!(disk.monotonic() >= monotonic + later);
    assert!(disk.wall_clock() >= wall + later);
    disk.set_wall_clock(Duration::from_secs(5));
    assert!(disk.wall_clock() < Duration::from_secs(6));
    assert!(disk.power_cut(1).monotonic() > monotonic + later, "goes on after a power cut");
}

#[test]
fn the_hook_sees_every_operation_and_may_copy_the_machine() {
    let disk = SimulatedVfs::new(1);
    let seen = Arc::new(AtomicU64::new(0));
    let (count, machine) = (Arc::clone(&seen), disk.clone());
    disk.on_operation(Box::new(move |number| {
        assert_eq!(number, count.fetch_add(1, Ordering::Relaxed));
        assert_eq!(machine.fork().power_cut(number).operations(), 0);
    }));
    workload(&disk).unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), disk.operations());
}
