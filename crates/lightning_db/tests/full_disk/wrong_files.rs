//! Files in the directory that are not what they should be: a typed error that names the file, not
//! one byte changed by the attempt, and everything there once the file is put right.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use lightning_db::{Database, ErrorKind, LightningDbConfig, VerifyOptions};

use crate::copy;

fn config() -> LightningDbConfig {
    LightningDbConfig {
        write_buffer_size: 64 * 1024,
        wal_segment_size: 64 * 1024,
        max_wal_size: 256 * 1024,
        background_threads: 0,
        ..LightningDbConfig::default()
    }
}

fn key(i: u32) -> Vec<u8> {
    format!("key{i:04}").into_bytes()
}

fn value(i: u32) -> Vec<u8> {
    vec![i as u8; if i % 100 == 3 { 20_000 } else { 300 }]
}

/// The files of a process that was killed: runs, large values, and a log in use.
fn image(dir: &Path) -> PathBuf {
    let (open, image) = (dir.join("open"), dir.join("image"));
    let db = Database::create(&open, config()).expect("a database");
    for i in 0..300 {
        db.put(key(i), value(i)).expect("a put");
    }
    db.close().expect("a close");
    // One log file, which nothing was flushed from.
    let db = Database::open(&open, config()).expect("opens");
    for i in 300..400 {
        db.put(key(i), value(i)).expect("a put");
    }
    copy(&open, &image);
    image
}

/// Every file below `dir` with its bytes; directories without.
fn tree(dir: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.insert(path.clone(), Vec::new());
            tree(&path, found);
        } else {
            found.insert(path.clone(), fs::read(&path).expect("a file"));
        }
    }
}

fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    tree(dir, &mut found);
    found
}

fn first_file(dir: &Path) -> PathBuf {
    let mut names: Vec<_> =
        fs::read_dir(dir).expect("a directory").map(|e| e.expect("an entry").path()).collect();
    names.sort();
    names.remove(0)
}

/// What a wrong file is met with.
enum Met {
    /// Both ways of opening are refused with this kind, naming the file that the damage gave.
    Refused(ErrorKind),
    /// It is not the database's: everything works, and it stays.
    Ignored,
}

/// Does damage to a copy; returns the file that the error is to name.
type Damage = Box<dyn Fn(&Path) -> PathBuf>;

fn cases(foreign: &Path) -> Vec<(&'static str, Met, Damage)> {
    use ErrorKind::{Corrupt, Io};
    let mut cases: Vec<(&'static str, Met, Damage)> = Vec::new();
    let mut add = |name, met, damage: Damage| cases.push((name, met, damage));
    for part in ["seg", "wal", "manifest"] {
        add(
            "a regular file where a directory is expected",
            Met::Refused(Io),
            Box::new(move |d| {
                fs::remove_dir_all(d.join(part)).expect("removed");
                fs::write(d.join(part), "text").expect("a file");
                d.join(part)
            }),
        );
        add(
            "a missing directory",
            Met::Refused(Corrupt),
            Box::new(move |d| {
                fs::remove_dir_all(d.join(part)).expect("removed");
                d.join(part)
            }),
        );
        add(
            "an empty file",
            Met::Refused(Corrupt),
            Box::new(move |d| {
                let path = first_file(&d.join(part));
                fs::write(&path, "").expect("emptied");
                path
            }),
        );
        add(
            "a file cut in its header",
            Met::Refused(Corrupt),
            Box::new(move |d| {
                let path = first_file(&d.join(part));
                fs::File::options()
                    .write(true)
                    .open(&path)
                    .expect("a file")
                    .set_len(20)
                    .expect("cut");
                path
            }),
        );
        add(
            "a directory where a file is expected",
            Met::Refused(Io),
            Box::new(move |d| {
                let path = first_file(&d.join(part));
                fs::remove_file(&path).expect("removed");
                fs::create_dir(&path).expect("a directory");
                path
            }),
        );
        add("a file of another database under our name", Met::Refused(Corrupt), {
            let theirs = first_file(&foreign.join(part));
            Box::new(move |d| {
                let path = first_file(&d.join(part));
                fs::copy(&theirs, &path).expect("a copy");
                path
            })
        });
        add(
            "an unknown file",
            Met::Ignored,
            Box::new(move |d| {
                fs::write(d.join(part).join("notes.txt"), "mine").expect("a file");
                d.join(part).join("notes.txt")
            }),
        );
        add(
            "a missing file",
            Met::Refused(Corrupt),
            Box::new(move |d| {
                let path = first_file(&d.join(part));
                fs::remove_file(&path).expect("removed");
                path
            }),
        );
    }
    add(
        "an unknown file beside CURRENT",
        Met::Ignored,
        Box::new(|d| {
            fs::write(d.join("notes.txt"), "mine").expect("a file");
            d.join("notes.txt")
        }),
    );
    for text in ["", "a text file", "000001.man\n"] {
        add(
            "a text file named CURRENT",
            Met::Refused(Corrupt),
            Box::new(move |d| {
                fs::write(d.join("CURRENT"), text).expect("a file");
                d.join("CURRENT")
            }),
        );
    }
    add(
        "a directory named CURRENT",
        Met::Refused(Io),
        Box::new(|d| {
            fs::remove_file(d.join("CURRENT")).expect("removed");
            fs::create_dir(d.join("CURRENT")).expect("a directory");
            d.join("CURRENT")
        }),
    );
    add("CURRENT of another database", Met::Refused(Corrupt), {
        let theirs = foreign.join("CURRENT");
        Box::new(move |d| {
            fs::copy(&theirs, d.join("CURRENT")).expect("a copy");
            first_file(&d.join("manifest"))
        })
    });
    add(
        "a missing CURRENT",
        Met::Refused(Corrupt),
        Box::new(|d| {
            fs::remove_file(d.join("CURRENT")).expect("removed");
            d.join("CURRENT")
        }),
    );
    cases
}

#[test]
fn wrong_files_are_refused_by_name_and_nothing_is_changed() {
    let dir = tempfile::tempdir().expect("a directory");
    let original = image(dir.path());
    let foreign = dir.path().join("foreign");
    fs::create_dir(&foreign).expect("a directory");
    let foreign = image(&foreign);
    let cases = cases(&foreign);
    let count = cases.len();
    for (name, met, damage) in cases {
        let path = dir.path().join("copy");
        copy(&original, &path);
        let named = damage(&path);
        let what = format!("{name}: {}", named.display());
        match met {
            Met::Refused(kind) => {
                let before = contents(&path);
                for read_only in [true, false] {
                    let opened = if read_only {
                        Database::open_read_only(&path, config())
                    } else {
                        Database::open_or_create(&path, config())
                    };
                    let e = opened.err().unwrap_or_else(|| panic!("{what}: it opened"));
                    assert_eq!(e.kind(), kind, "{what}: {e:?}");
                    let file = e.file().unwrap_or_else(|| panic!("{what}: no file: {e:?}"));
                    let fits = file == named || file.starts_with(&named);
                    assert!(fits, "{what}: names another file: {e:?}");
                    println!("message: {name}: {e}");
                    assert!(contents(&path) == before, "{what}: the attempt changed files");
                }
            }
            Met::Ignored => {
                let db =
                    Database::open(&path, config()).unwrap_or_else(|e| panic!("{what}: {e:?}"));
                check(&what, &db);
                db.compact().expect("a compaction");
                db.close().expect("a close");
                assert_eq!(fs::read(&named).expect("still there"), b"mine", "{what}");
                Database::destroy(&path).expect("destroyed");
                assert_eq!(fs::read(&named).expect("still there"), b"mine", "{what}");
            }
        }
        fs::remove_dir_all(&path).expect("removed");
    }
    println!("tried: {count} kinds of wrong files");
}

fn check(what: &str, db: &Database) {
    for i in 0..400 {
        let found = db.get(key(i)).unwrap_or_else(|e| panic!("{what}: {e:?}"));
        assert_eq!(found, Some(value(i)), "{what}: key {i}");
    }
    let report = db.verify(VerifyOptions::default()).expect("a report");
    assert!(report.is_clean(), "{what}: {:?}", report.problems);
}

/// A copy made by a tool that leaves out empty directories did not open: a cleanly closed database has
/// nothing in `wal`.
#[test]
fn an_empty_directory_that_is_missing_is_made_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("db");
    let db = Database::create(&path, config()).expect("a database");
    db.put(b"key", b"value").expect("a put");
    db.close().expect("a close");
    fs::remove_dir(path.join("wal")).expect("empty");
    let db = Database::open_read_only(&path, config()).expect("opens");
    assert_eq!(db.get(b"key").expect("a get"), Some(b"value".to_vec()));
    db.close().expect("a close");
    assert!(!path.join("wal").exists(), "reading changes nothing");
    let db = Database::open(&path, config()).expect("opens");
    db.put(b"key", b"other").expect("a put");
    db.close().expect("a close");
}

#[test]
fn flipped_and_cut_files_give_errors_and_never_wrong_values() {
    let dir = tempfile::tempdir().expect("a directory");
    let original = image(dir.path());
    let (mut opens, mut refused, mut found) = (0, 0, 0);
    let mut rng = fastrand::Rng::with_seed(8);
    for part in ["CURRENT", "manifest", "wal", "seg"] {
        for round in 0..40 {
            let path = dir.path().join("copy");
            copy(&original, &path);
            let file = path.join(part);
            let file = if file.is_dir() { first_file(&file) } else { file };
            let mut bytes = fs::read(&file).expect("a file");
            // Where there are bytes, not in the space that is only reserved.
            let used = bytes.iter().rposition(|b| *b != 0).unwrap_or(0) + 1;
            let at = rng.usize(0..used);
            if round % 4 == 0 {
                bytes.truncate(at);
            } else {
                bytes[at] ^= 1 << rng.u8(0..8);
            }
            fs::write(&file, &bytes).expect("written");
            opens += 1;
            match Database::open(&path, config()) {
                Err(e) => {
                    let told =
                        matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::UnsupportedFormat);
                    assert!(told && e.file().is_some(), "{part} round {round}: {e:?}");
                    refused += 1;
                }
                Ok(db) => {
                    for i in 0..400 {
                        match db.get(key(i)) {
                            Ok(Some(v)) => assert_eq!(v, value(i), "{part} round {round}"),
                            Ok(None) => assert_eq!(part, "wal", "round {round}: key {i} is gone"),
                            Err(e) => assert_eq!(e.kind(), ErrorKind::Corrupt, "{part}: {e:?}"),
                        }
                    }
                    let report = db.verify(VerifyOptions::default()).expect("a report");
                    found += u64::from(!report.is_clean());
                }
            }
            fs::remove_dir_all(&path).expect("removed");
        }
    }
    assert!(refused > 0 && found > 0);
    println!("tried: {opens} damaged files: {refused} refused at open, {found} found by verify");
}

#[test]
fn a_path_that_is_a_file_is_no_database() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("file");
    fs::write(&path, "text").expect("a file");
    for path in [path.clone(), path.join("below")] {
        for result in [
            Database::create(&path, config()),
            Database::open(&path, config()),
            Database::open_or_create(&path, config()),
            Database::open_read_only(&path, config()),
        ] {
            let e = result.expect_err("no directory");
            assert_eq!(e.kind(), ErrorKind::Io, "{e:?}");
            assert_eq!(e.file(), Some(path.as_path()), "{e:?}");
            println!("message: {e}");
        }
    }
    assert_eq!(fs::read(&path).expect("a file"), b"text");
    let other = dir.path().join("other");
    fs::create_dir(&other).expect("a directory");
    fs::write(other.join("holiday.jpg"), "mine").expect("a file");
    for (result, kind) in [
        (Database::create(&other, config()), ErrorKind::InvalidArgument),
        (Database::open_or_create(&other, config()), ErrorKind::InvalidArgument),
        (Database::open(&other, config()), ErrorKind::NotFound),
    ] {
        let e = result.expect_err("somebody's directory");
        assert_eq!(e.kind(), kind, "{e:?}");
        println!("message: {e}");
    }
    let missing = Database::open(dir.path().join("missing"), config()).expect_err("nothing there");
    assert_eq!(missing.kind(), ErrorKind::NotFound, "{missing:?}");
    println!("message: {missing}");
}
