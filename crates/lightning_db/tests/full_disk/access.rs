//! Directories that may not be written or read, and second openers: a clear error, nothing changed.

use std::path::Path;

use lightning_db::{Database, ErrorKind, LightningDbConfig};

use crate::processes::{directory, run, run_with_mounts};

fn config() -> LightningDbConfig {
    LightningDbConfig { wal_segment_size: 64 * 1024, ..LightningDbConfig::default() }
}

fn database(path: &Path) {
    let db = Database::create(path, config()).expect("a database");
    db.put(b"key", b"value").expect("a put");
    db.close().expect("a close");
}

/// Opening for writing is refused with the kind `kind`, and the message names a file below `path`.
fn refused(path: &Path, kind: ErrorKind) {
    for result in [
        Database::open(path, config()),
        Database::create(path.join("new"), config()),
        Database::open_or_create(path.join("new"), config()),
    ] {
        let e = result.expect_err("not permitted");
        assert_eq!(e.kind(), kind, "{e:?}");
        let file = e.file().unwrap_or_else(|| panic!("no file: {e:?}"));
        assert!(file.starts_with(path), "another file: {e:?}");
        println!("message: {e}");
    }
}

#[test]
#[ignore = "the child of the test of a read-only file system"]
fn child_on_a_read_only_file_system() {
    let dir = directory().expect("a child has a directory");
    refused(&dir, ErrorKind::Io);
    let db = Database::open_read_only(&dir, config()).expect("reading needs no writing");
    assert_eq!(db.get(b"key").expect("a get"), Some(b"value".to_vec()));
    assert_eq!(db.put(b"key", b"x").expect_err("read-only").kind(), ErrorKind::ReadOnly);
    println!("child tried: opening on a read-only file system");
}

#[test]
fn a_read_only_file_system_can_be_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("db");
    database(&path);
    let line = "mount --bind \"$D\" \"$D\" && mount -o remount,bind,ro \"$D\"";
    match run_with_mounts(line, &path, "access::child_on_a_read_only_file_system") {
        Ok(told) => println!("tried: {told}"),
        Err(why) => println!("tried: 0 read-only file systems (left out: {why})"),
    }
}

#[test]
#[ignore = "the child of the test of missing permissions"]
fn child_without_permission() {
    let dir = directory().expect("a child has a directory");
    refused(&dir.join("unwritable"), ErrorKind::Io);
    let db = Database::open_read_only(dir.join("unwritable"), config()).expect("may be read");
    assert_eq!(db.get(b"key").expect("a get"), Some(b"value".to_vec()));
    refused(&dir.join("forbidden"), ErrorKind::Io);
    let e = Database::open_read_only(dir.join("forbidden"), config()).expect_err("forbidden");
    assert!(e.kind() == ErrorKind::Io && e.file().is_some(), "{e:?}");
    println!("child tried: directories without permission to write and to read");
}

#[test]
fn missing_permission_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["unwritable", "forbidden"] {
        database(&dir.path().join(name));
    }
    // Root may do everything, so the child becomes nobody; without root the mode is enough. The
    // program is copied to where anybody may run it.
    let program = dir.path().join("program");
    std::fs::copy(std::env::current_exe().expect("a program"), &program).expect("a copy");
    let line = "chmod 755 \"$D\" \"$D/program\"; chmod -R a+rX,a-w \"$D/unwritable\"; \
                chmod 000 \"$D/forbidden\"; P=; \
                if [ $(id -u) = 0 ]; then P='setpriv --reuid=65534 --regid=65534 --clear-groups'; fi; \
                exec $P \"$D/program\" --exact access::child_without_permission --ignored --nocapture";
    println!("tried: {}", run(line, dir.path(), "access::child_without_permission"));
    let open = std::process::Command::new("chmod").args(["-R", "u+rwX"]).arg(dir.path()).status();
    assert!(open.expect("chmod").success());
}

#[test]
#[ignore = "the child of the test of a second opener"]
fn child_that_opens_second() {
    let dir = directory().expect("a child has a directory");
    locked(&dir);
    println!("child tried: a second opener in another process");
}

fn locked(path: &Path) {
    for result in [
        Database::open(path, config()),
        Database::open_or_create(path, config()),
        Database::open_read_only(path, config()),
    ] {
        let e = result.expect_err("it is open");
        assert_eq!(e.kind(), ErrorKind::Locked, "{e:?}");
        assert!(e.file().is_some_and(|f| f.starts_with(path)), "{e:?}");
    }
    assert_eq!(Database::destroy(path).expect_err("open").kind(), ErrorKind::Locked);
}

#[test]
fn a_second_opener_is_refused_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("db");
    let db = Database::create(&path, config()).expect("a database");
    db.put(b"key", b"value").expect("a put");
    locked(&path);
    println!("tried: {}", run("true", &path, "access::child_that_opens_second"));
    assert_eq!(db.get(b"key").expect("a get"), Some(b"value".to_vec()));
    db.close().expect("a close");
    let readers: Vec<_> =
        (0..2).map(|_| Database::open_read_only(&path, config()).expect("shared")).collect();
    assert_eq!(Database::open(&path, config()).expect_err("read").kind(), ErrorKind::Locked);
    drop(readers);
    Database::open(&path, config()).expect("nobody has it open").close().expect("a close");
}
