//! A file system that is full for a while, and a file-size limit: every error is `StorageFull` and
//! names a file, what was acknowledged stays readable, and the same handle goes on once there is space.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use lightning_db::{
    Database, Error, ErrorKind, LightningDbConfig, VerifyOptions, WalSyncMode, WriteBatch,
    WriteOptions,
};

use crate::copy;
use crate::processes::{directory, run, run_with_mounts};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn config(log: bool, threads: usize) -> LightningDbConfig {
    LightningDbConfig {
        write_buffer_size: 128 * 1024,
        wal_segment_size: 256 * 1024,
        max_wal_size: 1024 * 1024,
        cache_size: 256 * 1024,
        background_threads: threads,
        wal_enabled: log,
        wal_sync_mode: WalSyncMode::Async,
        ..LightningDbConfig::default()
    }
}

/// An error of a full disk that tells the user enough.
fn check_full(what: &str, e: &Error) {
    assert_eq!(e.kind(), ErrorKind::StorageFull, "{what}: {e:?}");
    let text = e.to_string();
    assert!(text.contains('/') || text.contains("max_database_size"), "{what}: no file: {text}");
}

/// Reads all of the database, both ways.
fn check_content(what: &str, db: &Database, model: &Model) {
    let read: Model = db.range(None, None).expect("a range").map(|p| p.expect("read")).collect();
    assert!(read == *model, "{what}: {} entries, not {}", read.len(), model.len());
    for (key, value) in model.iter().step_by(7) {
        assert_eq!(db.get(key).expect("a get").as_ref(), Some(value), "{what}");
    }
}

/// One commit of a few entries; changes the model where it is acknowledged.
fn commit(db: &Database, model: &mut Model, rng: &mut fastrand::Rng) -> lightning_db::Result<()> {
    let mut batch = WriteBatch::new();
    let mut next = Vec::new();
    for _ in 0..rng.usize(1..5) {
        let key = rng.u16(0..2000).to_be_bytes().to_vec();
        let len = if rng.u8(0..20) == 0 { rng.usize(17_000..60_000) } else { rng.usize(0..2000) };
        let value: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(len).collect();
        batch.put(&key, &value);
        next.push((key, value));
    }
    db.write(batch, WriteOptions::default())?;
    model.extend(next);
    Ok(())
}

/// Writes until the disk is full, then a while longer; returns how many errors there were.
fn fill(what: &str, db: &Database, model: &mut Model, rng: &mut fastrand::Rng) -> u64 {
    let mut errors = 0;
    for _ in 0..5000 {
        if let Err(e) = commit(db, model, rng) {
            check_full(what, &e);
            errors += 1;
            if errors == 20 {
                break;
            }
        }
    }
    assert!(errors > 0, "{what}: the disk was not full");
    check_content(what, db, model);
    for result in [db.flush(), db.compact()] {
        if let Err(e) = result {
            check_full(what, &e);
        }
    }
    check_content(what, db, model);
    errors
}

/// After there is space: the same handle takes writes, flushes and merges; then a new one.
fn go_on(what: &str, db: Database, config: LightningDbConfig, mut model: Model) {
    let path = db.path().to_path_buf();
    let mut rng = fastrand::Rng::with_seed(99);
    for _ in 0..50 {
        commit(&db, &mut model, &mut rng).unwrap_or_else(|e| panic!("{what}, with space: {e:?}"));
    }
    db.flush().unwrap_or_else(|e| panic!("{what}, flush with space: {e:?}"));
    db.compact().unwrap_or_else(|e| panic!("{what}, compaction with space: {e:?}"));
    check_content(what, &db, &model);
    let report = db.verify(VerifyOptions::default()).expect("a report");
    assert!(report.is_clean(), "{what}: {:?}", report.problems);
    if config.background_threads == 0 {
        let health = db.health_check();
        assert!(health.healthy, "{what}: {:?}", health.problems);
    }
    db.close().unwrap_or_else(|e| panic!("{what}, close with space: {e:?}"));
    let db = Database::open(&path, config).unwrap_or_else(|e| panic!("{what}, open: {e:?}"));
    check_content(what, &db, &model);
    let report = db.verify(VerifyOptions::default()).expect("a report");
    assert!(report.is_clean(), "{what}, opened again: {:?}", report.problems);
    db.close().expect("a close");
}

/// Takes all space but `left` bytes.
fn take_space(dir: &Path, left: u64) -> u64 {
    let path = dir.join("ballast");
    let mut file = fs::File::create(&path).expect("a file");
    let block = vec![1; 16 * 1024];
    while std::io::Write::write_all(&mut file, &block).is_ok() {}
    let len = file.metadata().expect("its length").len();
    file.set_len(len.saturating_sub(left)).expect("shorter");
    file.sync_all().expect("a sync");
    len
}

fn give_space(dir: &Path) {
    fs::remove_file(dir.join("ballast")).expect("removed");
}

/// Creating, opening and recovering where there is no space: an error, nothing changed.
fn opening_without_space(dir: &Path) -> u64 {
    let (path, image) = (dir.join("opened"), dir.join("image"));
    let config = config(true, 0);
    let mut model = Model::new();
    let mut rng = fastrand::Rng::with_seed(3);
    let db = Database::create(&path, config.clone()).expect("a database");
    for _ in 0..60 {
        commit(&db, &mut model, &mut rng).expect("space");
    }
    // What a killed process would leave.
    copy(&path, &image);
    db.close().expect("a close");
    let (mut refused, mut left) = (0, 0);
    loop {
        take_space(dir, left);
        let created = Database::create(dir.join("new"), config.clone());
        if let Err(e) = &created {
            check_full("create", e);
            assert!(!dir.join("new").exists(), "a creation that failed left something behind");
            refused += 1;
        }
        let opened = Database::open(&image, config.clone());
        if let Err(e) = &opened {
            check_full("recovery", e);
            let db = Database::open_read_only(&image, config.clone()).expect("reads only");
            check_content("read-only on a full disk", &db, &model);
            refused += 1;
        }
        let went_well = created.is_ok() && opened.is_ok();
        if let Ok(db) = opened {
            check_content("recovery", &db, &model);
            // It goes back to what the killed process left.
            drop(db);
            fs::remove_dir_all(&image).expect("removed");
            give_space(dir);
            copy(&path, &image);
        } else {
            give_space(dir);
        }
        if created.is_ok() {
            drop(created);
            Database::destroy(dir.join("new")).expect("destroyed");
        }
        if went_well {
            break;
        }
        left += 96 * 1024;
    }
    let db = Database::open(&image, config).expect("opens");
    check_content("in the end", &db, &model);
    refused
}

#[test]
#[ignore = "the child of the tests of a full file system"]
fn child_on_a_full_file_system() {
    let dir = directory().expect("a child has a directory");
    let (mut runs, mut errors) = (0, 0);
    for (log, threads) in [(true, 0), (false, 0), (true, 2), (false, 2)] {
        for left in [0, 40_000, 150_000, 400_000, 1_000_000] {
            let what = format!("log {log} threads {threads} left {left}");
            let config = config(log, threads);
            let path = dir.join("database");
            let db = Database::create(&path, config.clone()).expect("a database");
            let (mut model, mut rng) = (Model::new(), fastrand::Rng::with_seed(left));
            for _ in 0..200 {
                commit(&db, &mut model, &mut rng).expect("space");
            }
            take_space(&dir, left);
            errors += fill(&what, &db, &mut model, &mut rng);
            give_space(&dir);
            go_on(&what, db, config, model);
            Database::destroy(&path).expect("destroyed");
            runs += 1;
        }
    }
    let refused = opening_without_space(&dir);
    println!("child tried: {runs} full disks, {errors} writes and {refused} openings refused");
}

#[test]
fn a_full_file_system_refuses_and_goes_on() {
    const NAME: &str = "space::child_on_a_full_file_system";
    let dir = tempfile::tempdir().expect("a directory");
    let tmpfs = "mount -t tmpfs -o size=12m tmpfs \"$D\"";
    let tmpfs = run_with_mounts(tmpfs, dir.path(), NAME);
    let ext4 = tempfile::tempdir().expect("a directory");
    let image = "truncate -s 24m \"$D/image\"; mkfs.ext4 -q -F \"$D/image\"; mkdir -p \"$D/on\"; \
                 mount -o loop \"$D/image\" \"$D/on\"; mount --bind \"$D/on\" \"$D\"";
    let ext4 = run_with_mounts(image, ext4.path(), NAME);
    for (system, result) in [("tmpfs", tmpfs), ("ext4", ext4)] {
        match result {
            Ok(told) => println!("tried: {told} ({system})"),
            Err(why) => println!("tried: 0 full disks ({system} left out: {why})"),
        }
    }
}

#[test]
#[ignore = "the child of the test of a file-size limit"]
fn child_under_a_file_size_limit() {
    let dir = directory().expect("a child has a directory");
    let mut errors = 0;
    for (log, threads) in [(true, 0), (false, 0), (true, 2)] {
        let what = format!("file-size limit, log {log} threads {threads}");
        let path = dir.join(format!("database-{log}-{threads}"));
        let config = LightningDbConfig { write_buffer_size: 4 << 20, ..config(log, threads) };
        let db = Database::create(&path, config).expect("a database");
        let (mut model, mut rng) = (Model::new(), fastrand::Rng::with_seed(1));
        // A value that no file may hold.
        let value = vec![7; 3 << 20];
        for _ in 0..5 {
            let e = db.put(b"large", &value).expect_err("over the limit");
            check_full(&what, &e);
            errors += 1;
            commit(&db, &mut model, &mut rng).expect("a small commit");
        }
        check_content(&what, &db, &model);
        db.flush().expect("small segments");
        db.close().expect("a close");
    }
    let big =
        LightningDbConfig { wal_segment_size: 8 << 20, max_wal_size: 32 << 20, ..config(true, 0) };
    let e = Database::create(dir.join("big"), big).expect_err("a log file over the limit");
    check_full("a log file over the limit", &e);
    println!("child tried: {errors} writes over a file-size limit");
}

#[test]
fn a_file_size_limit_is_an_error_and_no_signal() {
    let dir = tempfile::tempdir().expect("a directory");
    let line = "ulimit -f 4096";
    println!("tried: {}", run(line, dir.path(), "space::child_under_a_file_size_limit"));
}

#[test]
fn a_quota_refuses_before_anything_is_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = LightningDbConfig {
        max_database_size: Some(600_000),
        wal_sync_mode: WalSyncMode::Periodic { interval: Duration::from_secs(1) },
        ..config(true, 0)
    };
    let path = dir.path().join("db");
    let db = Database::create(&path, config.clone()).expect("a database");
    let (mut model, mut rng) = (Model::new(), fastrand::Rng::with_seed(5));
    let errors = fill("quota", &db, &mut model, &mut rng);
    // Space comes back as values are deleted, which the quota must not forbid.
    let keys: Vec<_> = model.keys().cloned().collect();
    for key in &keys {
        db.delete(key).expect("deleting makes room");
        model.remove(key);
    }
    db.compact().expect("a compaction");
    commit(&db, &mut model, &mut rng).expect("room again");
    check_content("quota", &db, &model);
    db.close().expect("a close");
    let db = Database::open(&path, config).expect("opens");
    check_content("quota, opened again", &db, &model);
    println!("tried: {errors} writes over max_database_size");
}
