//! The last group of commits, which no later one vouches for: once a database has been idle for a
//! while, rot in it is damage, told with file and offset, and no longer taken for a torn end.

#![allow(clippy::disallowed_methods, reason = "the test looks at the files from outside")]

use std::path::{Path, PathBuf};

use lightning_db::{Database, ErrorKind, LightningDbConfig, VerifyOptions, WalSyncMode};

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("copied");
        }
    }
}

/// The file and offset of the last byte that is not zero, of those that hold `needle`.
fn place_of(dir: &Path, needle: &[u8]) -> (PathBuf, usize) {
    for entry in std::fs::read_dir(dir.join("wal")).expect("a directory") {
        let path = entry.expect("an entry").path();
        let bytes = std::fs::read(&path).expect("read");
        if let Some(at) = bytes.windows(needle.len()).rposition(|w| w == needle) {
            return (path, at);
        }
    }
    panic!("the value is in no log file");
}

#[test]
fn rot_in_the_last_commit_before_a_pause_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, image) = (dir.path().join("db"), dir.path().join("image"));
    let config = LightningDbConfig { background_threads: 1, ..LightningDbConfig::default() };
    let db = Database::create(&path, config.clone()).expect("creates");
    db.put(b"first", b"the first value").expect("writes");
    db.put(b"last", b"the last value").expect("writes");
    while db.stats().vouched_commit < db.stats().last_commit {
        std::thread::yield_now();
    }
    // As a power cut would leave it: nothing of it is closed.
    copy(&path, &image);
    let (file, at) = place_of(&image, b"the last value");
    let whole = std::fs::read(&file).expect("read");
    let mut rotten = whole.clone();
    rotten[at] ^= 1;
    std::fs::write(&file, rotten).expect("written");
    for _ in 0..2 {
        let error = Database::open(&image, config.clone()).expect_err("damage");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert_eq!(error.file(), Some(&*file), "{error}");
        assert!(error.offset().is_some_and(|o| o > 0 && o < at as u64), "{error}");
    }
    std::fs::write(&file, whole).expect("written");
    let again = Database::open(&image, config).expect("opens");
    assert_eq!(again.get(b"last").expect("reads").as_deref(), Some(&b"the last value"[..]));
    assert!(again.verify(VerifyOptions::default()).expect("verifies").is_clean());
    // Commits after the pause are vouched for after the next.
    db.put(b"later", b"and a later one").expect("writes");
    while db.stats().vouched_commit < db.stats().last_commit {
        std::thread::yield_now();
    }
    db.close().expect("closes");
}

/// Writes some memtables full, and flushes.
fn fill(db: &Database) {
    for n in 0..20_000_u32 {
        db.put(n.to_be_bytes(), [7; 1000]).expect("writes");
    }
    db.flush().expect("flushes");
}

fn with_buffer() -> LightningDbConfig {
    LightningDbConfig {
        background_threads: 1,
        write_buffer_size: 8 << 20,
        wal_sync_mode: WalSyncMode::Async,
        ..LightningDbConfig::default()
    }
}

#[test]
fn memory_kept_for_memtables_goes_once_nothing_is_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = Database::create(dir.path().join("db"), with_buffer()).expect("creates");
    let held = || -> u64 { db.stats().keyspaces.iter().map(|k| k.memtable_bytes).sum() };
    for round in 0..2 {
        // What a scan holds on to comes back later, and is not kept then.
        let late = db.range(None, None).expect("a scan");
        fill(&db);
        // Nothing syncs the log after this.
        db.put(b"the last", b"value").expect("writes");
        for _ in 0..6000 {
            if db.stats().spare_memtable_bytes == 0 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        drop(late);
        assert_eq!(db.stats().spare_memtable_bytes, 0, "round {round}");
    }
    db.put(b"again", b"value").expect("writes");
    assert!((1..1 << 20).contains(&held()), "{}", held());
    assert_eq!(db.get(19_999_u32.to_be_bytes()).expect("reads").expect("there"), [7; 1000]);
}

#[test]
fn no_memory_is_kept_where_nobody_would_free_it() {
    let inline = LightningDbConfig { background_threads: 0, ..with_buffer() };
    for config in [with_buffer(), inline] {
        let db = Database::open_in_memory(config).expect("opens");
        fill(&db);
        assert_eq!(db.stats().spare_memtable_bytes, 0);
    }
}
