//! What every file system must do alike: the operating system's, the one in memory, the simulated.

use std::io::ErrorKind as IoErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::error::ErrorKind;

/// Runs `check` on each file system, in an empty directory.
fn on_each(check: impl Fn(&dyn Vfs, &Path)) {
    let dir = tempfile::tempdir().unwrap();
    check(&OsVfs, dir.path());
    let empty = PathBuf::from("/db");
    for vfs in [&MemoryVfs::new() as &dyn Vfs, &SimulatedVfs::new(3)] {
        vfs.create_dir_all(&empty).unwrap();
        check(vfs, &empty);
    }
}

fn kind<T>(result: IoResult<T>) -> IoErrorKind {
    match result {
        Ok(_) => panic!("succeeded"),
        Err(e) => e.kind(),
    }
}

fn make(vfs: &dyn Vfs, path: &Path, bytes: &[u8]) {
    write_all_at(&*vfs.create(path).unwrap(), bytes, 0).unwrap();
}

fn contents(vfs: &dyn Vfs, path: &Path) -> Vec<u8> {
    let file = vfs.open(path, OpenMode::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    read_exact_at(&*file, &mut bytes, 0).unwrap();
    bytes
}

#[test]
fn files_read_what_was_written_at_any_offset() {
    on_each(|vfs, dir| {
        let path = dir.join("f");
        let file = vfs.create(&path).unwrap();
        assert!(file.is_empty().unwrap());
        write_all_at(&*file, b"world", 5000).unwrap();
        write_all_at(&*file, b"hello", 0).unwrap();
        assert_eq!(file.len().unwrap(), 5005);
        let mut bytes = [1; 10];
        read_exact_at(&*file, &mut bytes, 4995).unwrap();
        assert_eq!(&bytes, b"\0\0\0\0\0world");
        assert_eq!(file.read_at(&mut bytes, 5003).unwrap(), 2);
        assert_eq!(file.read_at(&mut bytes, 5005).unwrap(), 0);
        assert_eq!(file.read_at(&mut bytes, 9999).unwrap(), 0);
        let e = read_exact_at(&*file, &mut bytes, 5000).unwrap_err();
        assert_eq!((e.kind(), e.file()), (ErrorKind::Corrupt, Some(path.as_path())));
        file.set_len(3).unwrap();
        file.set_len(6).unwrap();
        file.prefetch(0, 6);
        file.sync_data().unwrap();
        assert_eq!(contents(vfs, &path), b"hel\0\0\0");
        assert_eq!(file.path(), path);
    });
}

#[test]
fn allocate_extends_and_never_cuts() {
    on_each(|vfs, dir| {
        let file = vfs.create(&dir.join("f")).unwrap();
        file.allocate(0).unwrap();
        assert_eq!(file.len().unwrap(), 0);
        write_all_at(&*file, b"kept", 0).unwrap();
        file.allocate(10_000).unwrap();
        file.allocate(100).unwrap();
        assert_eq!(file.len().unwrap(), 10_000);
        let mut bytes = [1; 6];
        read_exact_at(&*file, &mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"kept\0\0");
        // More than any file may have: the limit's own error, which callers tell from others.
        assert_eq!(kind(file.allocate(u64::MAX)), IoErrorKind::FileTooLarge);
    });
}

#[test]
fn opening_and_creating_say_what_is_wrong() {
    on_each(|vfs, dir| {
        let path = dir.join("f");
        assert_eq!(kind(vfs.open(&path, OpenMode::Read)), IoErrorKind::NotFound);
        assert_eq!(kind(vfs.create(&dir.join("no/f"))), IoErrorKind::NotFound);
        make(vfs, &path, b"x");
        assert_eq!(kind(vfs.create(&path)), IoErrorKind::AlreadyExists);
        assert_eq!(kind(vfs.create(&path.join("g"))), IoErrorKind::NotADirectory);
        let file = vfs.open(&path, OpenMode::Read).unwrap();
        assert!(file.write_at(b"y", 0).is_err());
        assert!(file.set_len(9).is_err());
        assert_eq!(contents(vfs, &path), b"x");
        assert_eq!(kind(vfs.remove_file(&dir.join("g"))), IoErrorKind::NotFound);
    });
}

#[test]
fn directories_list_and_go_when_empty() {
    on_each(|vfs, dir| {
        let sub = dir.join("a/b");
        vfs.create_dir_all(&sub).unwrap();
        vfs.create_dir_all(&sub).unwrap();
        make(vfs, &sub.join("2"), b"");
        make(vfs, &sub.join("1"), b"");
        assert_eq!(vfs.list(&sub).unwrap(), ["1", "2"]);
        assert_eq!(vfs.list(dir).unwrap(), ["a"]);
        assert!(vfs.exists(&sub).unwrap() && vfs.exists(&sub.join("1")).unwrap());
        assert!(!vfs.exists(&sub.join("3")).unwrap());
        assert_eq!(kind(vfs.remove_dir(&sub)), IoErrorKind::DirectoryNotEmpty);
        vfs.remove_file(&sub.join("1")).unwrap();
        vfs.remove_file(&sub.join("2")).unwrap();
        vfs.sync_dir(&sub).unwrap();
        vfs.remove_dir(&sub).unwrap();
        assert_eq!(kind(vfs.list(&sub)), IoErrorKind::NotFound);
    });
}

#[test]
fn rename_replaces_and_links_share() {
    on_each(|vfs, dir| {
        let (a, b, c) = (dir.join("a"), dir.join("b"), dir.join("c"));
        make(vfs, &a, b"new");
        make(vfs, &b, b"old");
        let old = vfs.open(&b, OpenMode::Read).unwrap();
        vfs.rename(&a, &b).unwrap();
        assert_eq!(contents(vfs, &b), b"new");
        assert!(!vfs.exists(&a).unwrap());
        let mut bytes = [0; 3];
        read_exact_at(&*old, &mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"old", "an open file outlives its name");
        vfs.hard_link(&b, &c).unwrap();
        assert_eq!(kind(vfs.hard_link(&b, &c)), IoErrorKind::AlreadyExists);
        write_all_at(&*vfs.open(&b, OpenMode::ReadWrite).unwrap(), b"NEW", 0).unwrap();
        vfs.remove_file(&b).unwrap();
        assert_eq!(contents(vfs, &c), b"NEW");
        assert_eq!(kind(vfs.rename(&a, &c)), IoErrorKind::NotFound);
    });
}

#[cfg(unix)]
#[test]
fn renaming_one_name_of_a_file_to_another_of_it_leaves_both() {
    on_each(|vfs, dir| {
        let (a, b) = (dir.join("a"), dir.join("b"));
        make(vfs, &a, b"x");
        vfs.hard_link(&a, &b).unwrap();
        vfs.rename(&a, &b).unwrap();
        assert_eq!((contents(vfs, &a), contents(vfs, &b)), (b"x".to_vec(), b"x".to_vec()));
    });
}

#[test]
fn second_lock_is_refused() {
    on_each(|vfs, dir| {
        let path = dir.join("LOCK");
        assert_eq!(kind(vfs.try_lock(&path, false)), IoErrorKind::NotFound);
        let writer = vfs.try_lock(&path, true).unwrap().expect("free");
        assert!(vfs.try_lock(&path, true).unwrap().is_none());
        assert!(vfs.try_lock(&path, false).unwrap().is_none());
        // Closing another descriptor of the file must not release it.
        drop(vfs.open(&path, OpenMode::Read).unwrap());
        assert!(vfs.try_lock(&path, true).unwrap().is_none());
        drop(writer);
        let reader = vfs.try_lock(&path, false).unwrap().expect("free");
        let second = vfs.try_lock(&path, false).unwrap().expect("shared");
        assert!(vfs.try_lock(&path, true).unwrap().is_none());
        drop(reader);
        assert!(vfs.try_lock(&path, true).unwrap().is_none());
        drop(second);
        assert!(vfs.try_lock(&path, true).unwrap().is_some());
    });
}

#[test]
fn logs_have_their_length_and_can_be_reused() {
    on_each(|vfs, dir| {
        let (path, old) = (dir.join("1.wal"), dir.join("2.wal"));
        let log = vfs.create_log(&path, 20_000).unwrap();
        assert_eq!(log.len().unwrap(), 20_000);
        assert_eq!(kind(vfs.create_log(&path, 20_000)), IoErrorKind::AlreadyExists);
        write_all_at(&*log, b"record", 19_994).unwrap();
        log.sync_data().unwrap();
        assert_eq!(&contents(vfs, &path)[19_994..], b"record");
        drop(log);
        vfs.rename(&path, &old).unwrap();
        let longer = vfs.open_log_for_reuse(&old, 30_000).unwrap();
        assert_eq!(longer.len().unwrap(), 30_000);
        let same = vfs.open_log_for_reuse(&old, 5).unwrap();
        assert_eq!(same.len().unwrap(), 30_000);
        write_all_at(&*same, b"again", 29_995).unwrap();
        let bytes = contents(vfs, &old);
        assert_eq!((&bytes[19_994..20_000], &bytes[29_995..]), (&b"record"[..], &b"again"[..]));
        assert_eq!(kind(vfs.open_log_for_reuse(&path, 5)), IoErrorKind::NotFound);
    });
}

#[test]
fn a_log_that_cannot_be_made_leaves_no_file() {
    on_each(|vfs, dir| {
        let path = dir.join("1.wal");
        assert_eq!(kind(vfs.create_log(&path, u64::MAX)), IoErrorKind::FileTooLarge);
        assert!(!vfs.exists(&path).unwrap());
    });
}

#[test]
fn clocks_go_on_and_chance_differs() {
    on_each(|vfs, _| {
        let (monotonic, wall) = (vfs.monotonic(), vfs.wall_clock());
        vfs.sleep(Duration::from_millis(2));
        assert!(vfs.monotonic() >= monotonic + Duration::from_millis(2));
        assert!(wall > Duration::from_secs(1_500_000_000));
        let (mut a, mut b) = ([0; 16], [0; 16]);
        vfs.fill_random(&mut a).unwrap();
        vfs.fill_random(&mut b).unwrap();
        assert_ne!(a, b);
        assert!(vfs.processors() >= 1);
    });
}
