//! A change of the data keys: everything is written anew, whatever it is cut off by.
//!
//! Seen to fail when the old keys were dropped while the log, the manifest, a run, a partition of the
//! base or a large value was still under them, and when a file was written under a key that was in one
//! copy of `KEYS` only.

use std::collections::BTreeMap;
use std::path::Path;

use lightning_db::vfs::SimulatedVfs;
use lightning_db::vfs::simulated::FaultError;
use lightning_db::{
    ChangesFrom, Database, ErrorKind, KeySource, KeyspaceOptions, LightningDbConfig, OpenAs,
    VerifyOptions,
};

use super::{config, files, key, kind, open, workload};

type Contents = BTreeMap<(String, Vec<u8>), Vec<u8>>;

/// Every key and value, read by scans and by gets.
fn contents(db: &Database) -> Contents {
    let mut found = Contents::new();
    for name in db.list_keyspaces() {
        let keyspace = db.keyspace(&name, KeyspaceOptions::default()).expect("is there");
        for pair in keyspace.range(None, None).expect("a range") {
            let (key, value) = pair.expect("an entry");
            assert_eq!(keyspace.get(&key).expect("reads").as_ref(), Some(&value));
            found.insert((name.clone(), key), value);
        }
    }
    found
}

fn finish(db: &Database) {
    // Nobody writes in between, so the first call does it.
    assert!(db.finish_data_key_rotation().expect("finishes"));
    assert!(!db.is_rotating_data_key());
}

/// The data keys that the files an opening reads are under; files of the log may be left over.
fn epochs(vfs: &SimulatedVfs) -> Vec<u32> {
    let mut found = Vec::new();
    for (path, bytes) in files(vfs) {
        if path.ends_with(".seg") || path.ends_with(".man") {
            found.push(u32::from_le_bytes(bytes[64..68].try_into().expect("four")));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// How many data keys a copy of `KEYS` holds.
fn keys_held(vfs: &SimulatedVfs) -> [u32; 2] {
    let bytes = vfs.read_file("/db/KEYS".as_ref()).expect("there");
    [40, 4136].map(|at| (u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4")) - 16) / 36)
}

/// A database with something of every kind, in a run, in the base, in the log and in large values.
fn base(seed: u64) -> SimulatedVfs {
    let vfs = SimulatedVfs::new(seed);
    workload(&vfs, Some(key(1)), 8).expect("it ends");
    vfs.kill()
}

fn opened(vfs: &SimulatedVfs) -> Database {
    open(vfs, Some(key(1)), OpenAs::Open).expect("opens")
}

#[test]
fn a_new_data_key_takes_everything_over() {
    let vfs = base(31);
    let db = opened(&vfs);
    let old_keys = vfs.read_file("/db/KEYS".as_ref()).expect("there");
    let before = contents(&db);
    let snapshot = db.snapshot().expect("a snapshot");
    let mut range = db.range(None, None).expect("a range");
    let first = range.next().expect("an entry").expect("read");
    db.rotate_data_key().expect("begins");
    assert!(db.is_rotating_data_key());
    assert_eq!(keys_held(&vfs), [2, 2]);
    finish(&db);
    assert_eq!(keys_held(&vfs), [1, 1]);
    assert_eq!(contents(&db), before);
    // What was open goes on.
    assert_eq!(snapshot.get(&first.0).expect("reads"), Some(first.1.clone()));
    let rest: Vec<_> = range.map(|pair| pair.expect("read")).collect();
    assert_eq!(rest.len() + 1, before.keys().filter(|(name, _)| name == "default").count());
    drop(snapshot);
    db.put("after", "x".repeat(20_000)).expect("writes");
    assert!(db.verify(VerifyOptions::default()).expect("a report").is_clean());
    let image = vfs.kill();
    assert_eq!(epochs(&image), [2]);
    let again = opened(&image);
    assert_eq!(contents(&again).len(), before.len() + 1);
    again.close().expect("closed");
    // Who kept the old KEYS and knows its key reads nothing.
    let stolen = image.fork();
    stolen.corrupt("/db/KEYS".as_ref(), |b| b.copy_from_slice(&old_keys)).expect("there");
    assert_eq!(kind(open(&stolen, Some(key(1)), OpenAs::ReadOnly)), ErrorKind::Corrupt);
    // Both keys changed, one after the other, and again.
    for turn in 3..6 {
        db.rotate_key(&key(turn)).expect("the outer key");
        db.rotate_data_key().expect("begins");
        finish(&db);
        let image = vfs.kill();
        assert_eq!(epochs(&image), [u32::from(turn)]);
        let db = open(&image, Some(key(turn)), OpenAs::Open).expect("opens");
        assert_eq!(contents(&db).len(), before.len() + 1);
    }
}

#[test]
fn only_an_encrypted_database_open_for_writing_has_a_data_key_to_change() {
    let vfs = SimulatedVfs::new(32);
    let db = open(&vfs, None, OpenAs::Create).expect("made");
    assert_eq!(kind(db.rotate_data_key()), ErrorKind::NotEncrypted);
    assert_eq!(kind(db.finish_data_key_rotation()), ErrorKind::NotEncrypted);
    assert!(!db.is_rotating_data_key());
    let vfs = base(32);
    opened(&vfs).rotate_data_key().expect("begins");
    let vfs = vfs.kill();
    let db = open(&vfs, Some(key(1)), OpenAs::ReadOnly).expect("opens");
    assert!(db.is_rotating_data_key());
    assert_eq!(kind(db.rotate_data_key()), ErrorKind::ReadOnly);
    assert_eq!(kind(db.finish_data_key_rotation()), ErrorKind::ReadOnly);
}

/// `KEYS` holds sixteen; one change then drops all the older ones.
#[test]
fn a_change_begun_too_often_is_refused_and_the_others_are_finished() {
    let vfs = base(33);
    let db = opened(&vfs);
    let before = contents(&db);
    for _ in 0..15 {
        db.rotate_data_key().expect("begins");
        db.put("each", "under another").expect("writes");
        db.flush().expect("flushes");
    }
    assert_eq!(kind(db.rotate_data_key()), ErrorKind::InvalidArgument);
    let db = opened(&vfs.kill());
    assert_eq!(contents(&db).len(), before.len() + 1);
    finish(&db);
    assert_eq!(contents(&db).len(), before.len() + 1);
}

/// A large value that was overwritten in memory lies in a segment that no edit will ever name.
#[test]
fn a_large_value_that_nobody_sees_does_not_hold_the_change_up() {
    let vfs = base(34);
    let db = opened(&vfs);
    db.put("large", "gone".repeat(10_000)).expect("writes");
    db.put("large", "small").expect("writes");
    db.rotate_data_key().expect("begins");
    finish(&db);
    drop(db);
    let db = opened(&vfs.kill());
    assert_eq!(db.get("large").expect("reads"), Some(b"small".to_vec()));
}

/// Such a run has partitions of ranges and none of keys.
#[test]
fn a_run_of_range_deletes_alone_takes_the_new_key() {
    let vfs = base(39);
    let db = opened(&vfs);
    db.compact().expect("compacts");
    db.delete_range(Some(b"canary-key-00"), Some(b"canary-key-01")).expect("deletes");
    db.flush().expect("flushes");
    let before = contents(&db);
    db.rotate_data_key().expect("begins");
    finish(&db);
    drop(db);
    let vfs = vfs.kill();
    assert_eq!(epochs(&vfs).len(), 1);
    assert!(contents(&opened(&vfs)) == before);
}

/// What is kept of the log for it is not written anew.
#[test]
fn a_cursor_of_changes_holds_the_change_up_and_reads_on() {
    // The segments of large values are held for it too, and hold the change up by themselves.
    for large in [20_000, 1] {
        held_up_by_a_cursor(large);
    }
}

fn held_up_by_a_cursor(large: usize) {
    let vfs = base(38);
    let db = opened(&vfs);
    let from = db.last_commit();
    db.commit_cursor("slow", from).expect("a cursor");
    for i in 0..5 {
        db.put("small", format!("{i}")).expect("writes");
        db.put("large", format!("{i}").repeat(large)).expect("writes");
    }
    db.flush().expect("flushes");
    db.rotate_data_key().expect("begins");
    assert!(!db.finish_data_key_rotation().expect("does the rest"));
    std::mem::forget(db);
    let vfs = vfs.kill();
    let db = opened(&vfs);
    assert!(!db.finish_data_key_rotation().expect("does the rest"));
    let mut changes = db.changes(ChangesFrom::Cursor("slow".to_owned())).expect("reads on");
    let mut read = 0;
    while let Some(commit) = changes.try_next().expect("under the old key") {
        read += 1;
        assert_eq!(commit.commit, from + read);
    }
    assert_eq!(read, 10);
    db.commit_cursor("slow", db.last_commit()).expect("moves");
    drop(changes);
    finish(&db);
    assert_eq!(keys_held(&vfs), [1, 1]);
    db.put("small", "x").expect("writes");
    let mut changes = db.changes(ChangesFrom::Cursor("slow".to_owned())).expect("reads on");
    assert!(changes.try_next().expect("under the new key").is_some());
}

/// Writes, begins, writes, finishes, writes. Gives what was acknowledged after the base; stops at the
/// first error.
fn change(db: &Database) -> (Vec<(&'static str, String)>, Result<(), lightning_db::Error>) {
    let mut done = Vec::new();
    let mut steps = || -> lightning_db::Result<()> {
        let mut put = |name: &'static str, value: String| {
            db.put(name, &value)?;
            db.sync()?;
            done.push((name, value));
            Ok::<(), lightning_db::Error>(())
        };
        put("before", "large-before-".repeat(2000))?;
        db.rotate_data_key()?;
        put("during", "large-during-".repeat(2000))?;
        put("before", "small".to_owned())?;
        assert!(db.finish_data_key_rotation()?, "nobody else is at work");
        put("end", "large-end-".repeat(2000))
    };
    let result = steps();
    (done, result)
}

/// What is there after a change that was cut off: all of the base, all that was acknowledged, and
/// perhaps the write that was not.
fn check(db: &Database, before: &Contents, done: &[(&'static str, String)], label: &str) {
    let mut found = contents(db);
    for name in ["before", "during", "end"] {
        let at = ("default".to_owned(), name.as_bytes().to_vec());
        let value = found.remove(&at);
        let Some((_, last)) = done.iter().rfind(|(n, _)| *n == name) else { continue };
        let value = value.unwrap_or_else(|| panic!("{label}: {name} is missing"));
        let overwritten = name == "before" && value == b"small";
        assert!(value == last.as_bytes() || overwritten, "{label}: {name} has another value");
    }
    assert!(found == *before, "{label}: the database is not what it was");
}

/// A process that was killed between the last write to `KEYS` and its sync left a finished pair of copies
/// in the system's memory; it was taken for one on the device, and a later power cut brought the copy
/// with the old keys back.
#[test]
fn a_change_of_the_data_key_survives_a_crash_at_every_operation() {
    let base = base(35);
    let before = contents(&opened(&base.fork()));
    let dry = base.fork();
    let db = opened(&dry);
    let first = dry.operations();
    change(&db).1.expect("it ends");
    let last = dry.operations();
    let (mut crashes, mut unfinished, mut twice) = (0, 0, 0);
    for at in first..last {
        let vfs = base.fork();
        let db = opened(&vfs);
        vfs.crash_after(at);
        let (done, result) = change(&db);
        assert!(result.is_err(), "operation {at}");
        std::mem::forget(db);
        for cut in 0..3 {
            crashes += 1;
            let label = format!("operation {at}, cut {cut}");
            let mut image = if cut == 0 { vfs.kill() } else { vfs.power_cut(at * 10 + cut) };
            let db = opened(&image);
            check(&db, &before, &done, &label);
            if db.is_rotating_data_key() {
                unfinished += 1;
                if (at + cut).is_multiple_of(3) {
                    // Cut off once more.
                    twice += 1;
                    image.crash_after(image.operations() + (at * 7 + cut) % 120);
                    let _ = db.finish_data_key_rotation();
                    std::mem::forget(db);
                    image = if cut == 0 { image.kill() } else { image.power_cut(at + cut) };
                    let db = opened(&image);
                    check(&db, &before, &done, &label);
                    finish(&db);
                    check(&db, &before, &done, &label);
                } else {
                    finish(&db);
                    check(&db, &before, &done, &label);
                    std::mem::forget(db);
                }
            } else {
                std::mem::forget(db);
            }
            let image = image.power_cut(at);
            assert_eq!(keys_held(&image), [1, 1], "{label}");
            let db = opened(&image);
            check(&db, &before, &done, &label);
            assert_eq!(epochs(&image).len(), 1, "{label}");
            assert!(db.verify(VerifyOptions::default()).expect("a report").is_clean(), "{label}");
        }
    }
    assert!(unfinished > 0 && unfinished < crashes && twice > 0);
    println!(
        "tried: {crashes} crashes in a change of the data key ({} places, {unfinished} went on \
         with it, {twice} of them cut off again)",
        last - first
    );
}

/// An error of the device in the place of the crash; then again, on the same handle where it may.
#[test]
fn a_change_of_the_data_key_that_fails_goes_on() {
    let base = base(36);
    let before = contents(&opened(&base.fork()));
    let dry = base.fork();
    let db = opened(&dry);
    let first = dry.operations();
    change(&db).1.expect("it ends");
    let last = dry.operations();
    let (mut failed, mut reopened) = (0, 0);
    for at in first..last {
        for error in [FaultError::Eio, FaultError::Enospc] {
            let label = format!("operation {at}, {error:?}");
            let vfs = base.fork();
            let db = opened(&vfs);
            vfs.fail_operation(at, error, false);
            let (done, result) = change(&db);
            failed += u32::from(result.is_err());
            let goes_on = db.put("probe", "x").is_ok();
            let db = if goes_on {
                db
            } else {
                reopened += 1;
                std::mem::forget(db);
                opened(&vfs.power_cut(at))
            };
            let done_with = db.finish_data_key_rotation();
            assert!(done_with.unwrap_or_else(|e| panic!("{label}: {e}")), "{label}");
            db.delete("probe").expect("deletes");
            check(&db, &before, &done, &label);
            // Whether it had begun is not always known; now it is done.
            db.rotate_data_key().expect("begins");
            finish(&db);
            check(&db, &before, &done, &label);
        }
    }
    assert!(failed > 0 && reopened > 0);
    println!("tried: {failed} failed operations in a change of the data key ({reopened} reopened)");
}

/// Readers and writers, flushes and merges go on; threads do it all.
#[test]
fn reads_and_writes_go_on_while_the_data_key_is_changed() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("db");
    let with = LightningDbConfig { background_threads: 2, ..config(Some(key(1))) };
    let db = Database::create(&path, with.clone()).expect("made");
    let value = |i: u64, round: u64| {
        let len = if i.is_multiple_of(7) { 20_000 } else { 100 };
        format!("{i:05} {round:05} ").repeat(len / 12)
    };
    let keys = 210;
    for i in 0..keys {
        db.put(format!("{i:05}"), value(i, 0)).expect("writes");
    }
    let done = std::sync::atomic::AtomicBool::new(false);
    let rounds = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|w| {
                let (db, done, value) = (&db, &done, &value);
                scope.spawn(move || {
                    for round in 1.. {
                        for i in (w..keys).step_by(2) {
                            db.put(format!("{i:05}"), value(i, round)).expect("writes");
                            let other = (i * 31) % keys;
                            let read = db.get(format!("{other:05}")).expect("reads");
                            let read = String::from_utf8(read.expect("there")).expect("text");
                            let round: u64 = read[6..11].parse().expect("a round");
                            assert!(read == value(other, round));
                        }
                        if done.load(std::sync::atomic::Ordering::Relaxed) {
                            return round;
                        }
                    }
                    unreachable!("rounds do not end")
                })
            })
            .collect();
        for turn in 0..6 {
            db.rotate_data_key().expect("begins");
            if turn % 3 == 2 {
                // Beside the threads, which are at work on the first.
                db.rotate_data_key().expect("begins again");
            }
            if turn % 2 == 0 {
                while !db.finish_data_key_rotation().expect("goes on") {}
            } else {
                // The threads do it.
                while db.is_rotating_data_key() {
                    std::thread::yield_now();
                }
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        writers.into_iter().map(|w| w.join().expect("no panic")).collect::<Vec<_>>()
    });
    assert!(db.verify(VerifyOptions::default()).expect("a report").is_clean());
    db.close().expect("closed");
    let db = Database::open(&path, with).expect("opens");
    for i in 0..keys {
        let read = db.get(format!("{i:05}")).expect("reads").expect("there");
        assert!(read == value(i, rounds[(i % 2) as usize]).as_bytes(), "key {i}");
    }
    let report = db.verify(VerifyOptions::default()).expect("a report");
    assert!(report.is_clean(), "{:?}", report.problems);
    println!("tried: 6 changes of the data key beside writers ({rounds:?} rounds)");
}

/// The files are those of a stranger until the key is given, also in the middle of a change.
#[test]
fn a_wrong_key_in_the_middle_of_a_change_is_refused_and_nothing_is_touched() {
    let vfs = base(37);
    let db = opened(&vfs);
    db.rotate_data_key().expect("begins");
    db.put("under the new one", "x").expect("writes");
    std::mem::forget(db);
    let vfs = vfs.kill();
    let before = files(&vfs);
    let wrong: [Option<KeySource>; 2] = [Some(key(2)), None];
    for (source, expect) in wrong.into_iter().zip([ErrorKind::WrongKey, ErrorKind::KeyRequired]) {
        assert_eq!(kind(open(&vfs, source, OpenAs::Open)), expect);
        assert!(files(&vfs) == before);
    }
    assert!(vfs.files().contains(&Path::new("/db/KEYS").to_path_buf()));
    assert!(opened(&vfs).is_rotating_data_key());
}

/// An ingest writes its files without a latch, and names them in the end: the old key went meanwhile, and
/// the next opening could not read them.
#[test]
fn an_old_key_stays_while_an_ingest_may_name_files_under_it() {
    let vfs = SimulatedVfs::new(1);
    let db = open(&vfs, Some(key(1)), OpenAs::Create).expect("creates");
    let entries = (0..3000_u32).map(|n| {
        if n == 2000 {
            db.rotate_data_key().expect("begins");
            assert!(!db.finish_data_key_rotation().expect("as far as it goes"));
        }
        (n.to_be_bytes(), vec![n as u8; if n == 7 { 50_000 } else { 100 }])
    });
    db.ingest(entries).expect("ingests");
    assert_eq!(keys_held(&vfs), [2, 2], "the old key is there");
    let before = contents(&db);
    assert_eq!(before.len(), 3000);
    finish(&db);
    assert_eq!(keys_held(&vfs), [1, 1]);
    db.close().expect("closes");
    assert_eq!(epochs(&vfs).len(), 1);
    let db = open(&vfs, Some(key(1)), OpenAs::Open).expect("opens");
    assert!(contents(&db) == before);
}
