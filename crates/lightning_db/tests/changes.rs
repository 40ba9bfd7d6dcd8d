//! Streams of changes: exactly the commits, in order, over flushes, merges, closings, kills and power cuts,
//! and beside racing writers; what is kept for them is bounded, and given back.
//!
//! `LIGHTNING_CHANGES_SEEDS` sets how many workloads run, `LIGHTNING_CHANGES_FIRST` the first of them,
//! `LIGHTNING_CHANGES_COMMITS` how many commits the racing writers make.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lightning_db::vfs::{SimulatedVfs, Vfs};
use lightning_db::{
    Change, ChangeKind, Changes, ChangesFrom, CommittedChanges, Database, Durability, ErrorKind,
    IndexPart, IndexSpec, KeySource, KeyspaceOptions, LightningDbConfig, OpenAs, VerifyOptions,
    WriteBatch, WriteOptions,
};

const NAME: &str = "mirror";

fn config() -> LightningDbConfig {
    LightningDbConfig {
        write_buffer_size: 64 << 10,
        wal_segment_size: 64 << 10,
        max_wal_size: 256 << 10,
        changes_retention_bytes: 1 << 30,
        cache_size: 1 << 20,
        background_threads: 0,
        ..LightningDbConfig::default()
    }
}

fn open_with(vfs: &SimulatedVfs, config: LightningDbConfig) -> Database {
    let shared = Arc::new(vfs.clone()) as Arc<dyn Vfs>;
    Database::open_with_vfs(shared, "/db", config, OpenAs::OpenOrCreate).expect("it opens")
}

fn open(vfs: &SimulatedVfs) -> Database {
    open_with(vfs, config())
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

fn from_cursor() -> ChangesFrom {
    ChangesFrom::Cursor(NAME.to_owned())
}

fn refused<T>(result: lightning_db::Result<T>) -> ErrorKind {
    result.err().expect("must be refused").kind()
}

fn wal_bytes(vfs: &SimulatedVfs) -> u64 {
    let logs = vfs.files().into_iter().filter(|f| f.to_string_lossy().ends_with(".wal"));
    logs.map(|f| vfs.read_file(&f).expect("there").len() as u64).sum()
}

/// A commit of one or several operations; now and then a large value.
fn write(db: &Database, rng: &mut fastrand::Rng, wrote: &mut Vec<CommittedChanges>) {
    let other = db.keyspace("other", KeyspaceOptions::default()).expect("a keyspace");
    let (mut batch, mut changes) = (WriteBatch::new(), Vec::new());
    for _ in 0..rng.usize(1..5) {
        let key = format!("{}{:03}", ["a", "b"][rng.usize(0..2)], rng.u8(..)).into_bytes();
        let keyspace = ["default", "other"][rng.usize(0..2)];
        if rng.u8(0..20) == 0 {
            let end = [&key[..], b"~"].concat();
            match keyspace {
                "other" => batch.delete_range_in(&other, Some(&key), Some(&end)),
                _ => batch.delete_range(Some(&key), Some(&end)),
            }
            let kind = ChangeKind::DeleteRange(Some(end));
            changes.push(Change { keyspace: keyspace.to_owned(), key, kind, expires_at: None });
            continue;
        }
        let len = if rng.u8(0..40) == 0 { 20_000 } else { rng.usize(0..700) };
        let value = (rng.u8(0..5) > 0).then(|| (0..len).map(|_| rng.u8(..)).collect::<Vec<_>>());
        match (keyspace, &value) {
            ("other", Some(value)) => batch.put_in(&other, &key, value),
            ("other", None) => batch.delete_in(&other, &key),
            (_, Some(value)) => batch.put(&key, value),
            (_, None) => batch.delete(&key),
        }
        let kind = value.map_or(ChangeKind::Delete, ChangeKind::Put);
        changes.push(Change { keyspace: keyspace.to_owned(), key, kind, expires_at: None });
    }
    db.write(batch, WriteOptions::default()).expect("writes");
    wrote.push(CommittedChanges { commit: db.last_commit(), changes });
}

/// Everything that a stream has now, compared with what was written.
fn same(changes: &mut Changes, wrote: &[CommittedChanges], what: &str) -> usize {
    let mut count = 0;
    while let Some(commit) = changes.try_next().expect("the next commit") {
        let expected = wrote.get(commit.commit as usize - 1);
        assert!(Some(&commit) == expected, "{what}: commit {} is another", commit.commit);
        assert_eq!(commit.commit, changes.passed());
        count += 1;
    }
    count
}

#[test]
fn a_cursor_meets_every_commit_once_and_in_order() {
    let seeds = number("LIGHTNING_CHANGES_SEEDS", 8);
    let first = number("LIGHTNING_CHANGES_FIRST", 1);
    let (mut delivered, mut openings) = (0, 0);
    for seed in first..first + seeds {
        let what =
            format!("seed {seed} (LIGHTNING_CHANGES_FIRST={seed} LIGHTNING_CHANGES_SEEDS=1)");
        let mut rng = fastrand::Rng::with_seed(seed);
        let encryption = seed.is_multiple_of(2).then(|| KeySource::key([7; 32]));
        let open = |vfs: &SimulatedVfs| {
            open_with(vfs, LightningDbConfig { encryption: encryption.clone(), ..config() })
        };
        let mut vfs = SimulatedVfs::new(seed);
        let mut db = open(&vfs);
        db.commit_cursor(NAME, 0).expect("made");
        // Its entries are part of the commits, and nobody's business.
        let by_first = IndexSpec::parts([IndexPart::ValueBytes(0, Some(1))]);
        db.create_index("by_first", by_first).expect("an index");
        let (mut wrote, mut done) = (Vec::new(), 0_u64);
        let mut stream = db.changes(from_cursor()).expect("a stream");
        for _ in 0..500 {
            write(&db, &mut rng, &mut wrote);
            match rng.u8(0..100) {
                0..3 => db.flush().expect("flush"),
                3 => db.compact().expect("compact"),
                4..30 => {
                    // A few commits, and then the cursor after them.
                    for _ in 0..rng.usize(1..20) {
                        let Some(commit) = stream.try_next().expect("a commit") else { break };
                        done += 1;
                        assert_eq!(commit.commit, done, "{what}");
                        assert!(commit == wrote[done as usize - 1], "{what}: commit {done}");
                        delivered += 1;
                    }
                    if rng.u8(0..3) == 0 {
                        db.commit_cursor(NAME, done).expect("moved");
                    }
                }
                30..36 => {
                    let report = match rng.u8(0..3) {
                        0 => {
                            drop(stream);
                            db.close().expect("closes");
                            db = open(&vfs);
                            db.verify(VerifyOptions::default()).expect("a report")
                        }
                        1 => {
                            vfs = vfs.kill();
                            db = open(&vfs);
                            db.verify(VerifyOptions::default()).expect("a report")
                        }
                        _ => {
                            vfs = vfs.power_cut(rng.u64(..));
                            db = open(&vfs);
                            db.verify(VerifyOptions::default()).expect("a report")
                        }
                    };
                    assert!(report.is_clean(), "{what}: {:?}", report.problems);
                    openings += 1;
                    assert_eq!(db.last_commit() as usize, wrote.len(), "{what}");
                    // What was done since the cursor moved comes again.
                    done = db.list_cursors().expect("cursors")[0].commit;
                    stream = db.changes(from_cursor()).expect("a stream");
                }
                _ => {}
            }
        }
        delivered += same(&mut stream, &wrote, &what);
        let cursor = db.list_cursors().expect("cursors")[0].commit;
        let mut again = db.changes(from_cursor()).expect("a stream");
        assert_eq!(same(&mut again, &wrote, &what) as u64, wrote.len() as u64 - cursor, "{what}");
        assert!(db.changes(ChangesFrom::After(cursor)).is_ok());
    }
    println!("tried: {delivered} commits read back by cursors over {openings} openings");
}

/// A stream and its writers race; every commit arrives whole, once and in the order of numbers, and each
/// writer's in the order in which it wrote.
#[test]
fn streams_beside_racing_writers_deliver_exactly_the_commits() {
    const WRITERS: u64 = 4;
    let dir = tempfile::tempdir().expect("a directory");
    let config = LightningDbConfig { background_threads: 2, ..config() };
    let db = Database::create(dir.path().join("db"), config).expect("made");
    let each = number("LIGHTNING_CHANGES_COMMITS", 4000) / WRITERS;
    let mut stream = db.changes(ChangesFrom::Now).expect("a stream");
    let late = db.changes(ChangesFrom::After(0)).expect("a stream");
    std::thread::scope(|s| {
        for writer in 0..WRITERS {
            let db = &db;
            s.spawn(move || {
                for n in 0..each {
                    let mut batch = WriteBatch::new();
                    let len = if n % 50 == 0 { 20_000 } else { 200 };
                    for part in [b"x", b"y"] {
                        let key = [&part[..], &writer.to_be_bytes()].concat();
                        batch.put(key, [&n.to_be_bytes()[..], &vec![7; len]].concat());
                    }
                    let modes = [Durability::Sync, Durability::Async, Durability::Periodic];
                    let durability = Some(modes[(n % 3) as usize]);
                    db.write(batch, WriteOptions { durability }).expect("writes");
                }
            });
        }
        let reader = |stream: &mut Changes| {
            let mut next = [0; WRITERS as usize];
            for commit in 1..=each * WRITERS {
                let found = stream.next_timeout(Duration::from_secs(600)).expect("no error");
                let found = found.expect("it comes");
                assert_eq!((found.commit, found.changes.len()), (commit, 2));
                let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().expect("eight"));
                let writer = number(&found.changes[0].key[1..]) as usize;
                for change in &found.changes {
                    let ChangeKind::Put(value) = &change.kind else { panic!("a put") };
                    assert_eq!(number(&value[..8]), next[writer], "writer {writer}");
                    assert_eq!(number(&change.key[1..]) as usize, writer);
                }
                next[writer] += 1;
            }
            assert_eq!(next, [each; WRITERS as usize]);
            assert_eq!(stream.try_next().expect("no error"), None);
        };
        let mut late = late;
        s.spawn(move || reader(&mut late));
        reader(&mut stream);
    });
    println!("tried: {} commits of racing writers through 2 streams", each * WRITERS);
    // Who waits is told when the database closes.
    std::thread::scope(|s| {
        let waiting = s.spawn(move || stream.next().is_none());
        db.clone().close().expect("closes");
        assert!(waiting.join().expect("no panic"), "the stream ends");
    });
}

/// Whoever is too far behind is told; the log does not grow without bound for it, and gives its space back
/// when nobody needs it.
#[test]
fn what_is_kept_is_bounded_and_given_back() {
    let vfs = SimulatedVfs::new(3);
    let config = LightningDbConfig { changes_retention_bytes: 512 << 10, ..config() };
    let most = config.max_wal_size + config.changes_retention_bytes + 4 * config.wal_segment_size;
    let db = open_with(&vfs, config.clone());
    db.commit_cursor(NAME, 0).expect("made");
    let mut held = db.changes(ChangesFrom::Oldest).expect("a stream");
    let mut rng = fastrand::Rng::with_seed(3);
    let (mut wrote, mut largest) = (Vec::new(), 0);
    for i in 0..3000 {
        write(&db, &mut rng, &mut wrote);
        if i % 50 == 0 {
            largest = largest.max(wal_bytes(&vfs));
        }
    }
    assert!(largest <= most, "{largest} bytes of log, {most} are the most");
    assert!(db.stats().kept_log_bytes > 100 << 10, "something is kept");
    assert_eq!(refused(held.try_next()), ErrorKind::TooOld);
    let e = db.changes(from_cursor()).expect_err("it is too far behind");
    assert_eq!(e.kind(), ErrorKind::TooOld);
    drop(held);
    let mut oldest = db.changes(ChangesFrom::Oldest).expect("a stream");
    let first = oldest.passed();
    assert!(e.message().contains(&format!("the oldest that can be read is {}", first + 1)), "{e}");
    assert_eq!(same(&mut oldest, &wrote, "what is kept") as u64, wrote.len() as u64 - first);
    drop(oldest);
    // So it is over a closing.
    db.close().expect("closes");
    assert!(wal_bytes(&vfs) <= 512 << 10);
    let db = open_with(&vfs, config.clone());
    assert_eq!(refused(db.changes(from_cursor())), ErrorKind::TooOld);
    let mut after = db.changes(ChangesFrom::Oldest).expect("a stream");
    assert_eq!(
        same(&mut after, &wrote, "what is kept") as u64,
        wrote.len() as u64 - after_first(&db)
    );
    drop(after);
    db.drop_cursor(NAME).expect("dropped");
    assert_eq!(db.stats().kept_log_bytes, 0);
    assert!(wal_bytes(&vfs) <= 2 * config.wal_segment_size);
    db.compact().expect("compact");
    assert!(db.verify(VerifyOptions::default()).expect("a report").is_clean());
    db.close().expect("closes");
    assert_eq!(wal_bytes(&vfs), 0);
}

fn after_first(db: &Database) -> u64 {
    db.changes(ChangesFrom::Oldest).expect("a stream").passed()
}

/// Large values that only the log refers to stay while a cursor needs them, and go with it.
#[test]
fn large_values_stay_as_long_as_their_commits() {
    let vfs = SimulatedVfs::new(4);
    let mut db = open(&vfs);
    db.commit_cursor(NAME, 0).expect("made");
    for n in 0..20_u8 {
        db.put(b"key", vec![n; 40_000]).expect("put");
        if n % 6 == 5 {
            db.compact().expect("compact");
        }
        if n == 12 {
            db.close().expect("closes");
            db = open(&vfs);
        }
    }
    db.compact().expect("compact");
    let mut stream = db.changes(from_cursor()).expect("a stream");
    for n in 0..20_u8 {
        let commit = stream.try_next().expect("no error").expect("a commit");
        assert_eq!(commit.changes[0].kind, ChangeKind::Put(vec![n; 40_000]));
    }
    drop(stream);
    assert!(db.stats().blob_bytes > 19 * 40_000);
    db.commit_cursor(NAME, db.last_commit()).expect("moved");
    db.flush().expect("flush");
    db.compact().expect("compact");
    db.close().expect("closes");
    let db = open(&vfs);
    db.compact().expect("compact");
    assert!(db.stats().blob_bytes < 4 * 40_000, "{} bytes", db.stats().blob_bytes);
    assert_eq!(db.get(b"key").expect("get"), Some(vec![19; 40_000]));
}

#[test]
fn filters_let_through_what_they_name() {
    let vfs = SimulatedVfs::new(5);
    let db = open(&vfs);
    let mut rng = fastrand::Rng::with_seed(5);
    let mut wrote = Vec::new();
    let all = db.changes(ChangesFrom::Now).expect("a stream");
    let mut filtered = all.in_keyspaces(&["other"]).with_prefix(b"a");
    for _ in 0..300 {
        write(&db, &mut rng, &mut wrote);
    }
    let passes = |c: &Change| c.keyspace == "other" && c.key.starts_with(b"a");
    for commit in &wrote {
        let mut expected = commit.clone();
        expected.changes.retain(passes);
        if !expected.changes.is_empty() {
            assert_eq!(filtered.try_next().expect("no error"), Some(expected));
        }
    }
    assert_eq!(filtered.next_timeout(Duration::from_millis(1)).expect("no error"), None);
    assert_eq!(filtered.passed(), db.last_commit());
    db.drop_keyspace("other").expect("dropped");
    let mut none = db.changes(ChangesFrom::After(0)).expect("a stream").in_keyspaces(&["other"]);
    assert_eq!(none.try_next().expect("no error"), None);
}

#[test]
fn operands_come_as_they_were_merged() {
    let vfs = SimulatedVfs::new(8);
    let db = open(&vfs);
    let merge_operator = Some("append".to_owned());
    let options = KeyspaceOptions { merge_operator, ..Default::default() };
    let notes = db.keyspace("notes", options).expect("a keyspace");
    db.commit_cursor(NAME, 0).expect("made");
    notes.merge(b"day", b"one").expect("merges");
    notes.merge(b"day", b"two").expect("merges");
    db.compact().expect("compact");
    for _ in 0..2 {
        let mut stream = db.changes(from_cursor()).expect("a stream");
        for operand in [b"one", b"two"] {
            let commit = stream.try_next().expect("no error").expect("a commit");
            assert_eq!(commit.changes[0].kind, ChangeKind::Merge(vec![operand.to_vec()]));
        }
    }
}

#[test]
fn what_cannot_be_is_told_by_its_kind() {
    let vfs = SimulatedVfs::new(6);
    let db = open(&vfs);
    db.put(b"k", b"v").expect("put");
    let last = db.last_commit();
    assert_eq!(refused(db.changes(ChangesFrom::After(last + 1))), ErrorKind::InvalidArgument);
    assert_eq!(refused(db.changes(ChangesFrom::After(u64::MAX))), ErrorKind::InvalidArgument);
    assert_eq!(refused(db.changes(from_cursor())), ErrorKind::NotFound);
    assert_eq!(refused(db.drop_cursor(NAME)), ErrorKind::NotFound);
    assert_eq!(refused(db.commit_cursor(NAME, last + 1)), ErrorKind::InvalidArgument);
    assert_eq!(refused(db.commit_cursor("", last)), ErrorKind::InvalidArgument);
    assert_eq!(refused(db.commit_cursor(&"n".repeat(256), last)), ErrorKind::InvalidArgument);
    for n in 0..1024 {
        db.commit_cursor(&format!("cursor {n}"), last).expect("made");
    }
    assert_eq!(refused(db.commit_cursor(NAME, last)), ErrorKind::InvalidArgument);
    for n in 1..1024 {
        db.drop_cursor(&format!("cursor {n}")).expect("dropped");
    }
    let cursors = db.list_cursors().expect("cursors");
    assert_eq!((cursors.len(), cursors[0].name.as_str()), (1, "cursor 0"));
    let mut stream = db.changes(ChangesFrom::Now).expect("a stream");
    db.clone().close().expect("closes");
    assert_eq!(refused(stream.try_next()), ErrorKind::Closed);
    assert_eq!(refused(stream.next_timeout(Duration::from_secs(9))), ErrorKind::Closed);
    assert_eq!(refused(db.changes(ChangesFrom::Now)), ErrorKind::Closed);
    // Without a log there is nothing to read, then nor afterwards.
    let without = LightningDbConfig { wal_enabled: false, ..config() };
    let db = open_with(&vfs, without);
    assert_eq!(refused(db.changes(ChangesFrom::Now)), ErrorKind::InvalidArgument);
    assert_eq!(refused(db.commit_cursor(NAME, 0)), ErrorKind::InvalidArgument);
    db.put(b"k", b"w").expect("put");
    db.close().expect("closes");
    let db = open(&vfs);
    let lost = ChangesFrom::Cursor("cursor 0".to_owned());
    assert_eq!(refused(db.changes(lost)), ErrorKind::TooOld);
    assert_eq!(refused(db.commit_cursor(NAME, 0)), ErrorKind::TooOld);
}

/// Commits that were not durable may be lost with the power; a stream then goes on with what there is, and a
/// cursor never stands past it.
#[test]
fn cursors_never_stand_past_what_a_power_cut_leaves() {
    let mut lost = 0;
    for seed in 0..number("LIGHTNING_CHANGES_SEEDS", 8) * 10 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let vfs = SimulatedVfs::new(seed);
        let db = open(&vfs);
        db.commit_cursor(NAME, 0).expect("made");
        let mut cursor = 0;
        for n in 1..=rng.u64(2..200) {
            let mut batch = WriteBatch::new();
            batch.put(b"key", n.to_be_bytes());
            let durability = Some(Durability::Async);
            db.write(batch, WriteOptions { durability }).expect("writes");
            if rng.u8(0..60) == 0 {
                cursor = n;
                db.commit_cursor(NAME, n).expect("moved");
            }
        }
        let before = db.last_commit();
        let vfs = vfs.power_cut(rng.u64(..));
        let db = open(&vfs);
        let last = db.last_commit();
        assert!(cursor <= last, "seed {seed}: the cursor stands at {cursor}, {last} is the last");
        lost += before - last;
        let mut stream = db.changes(from_cursor()).expect("a stream");
        for n in cursor + 1..=last {
            let commit = stream.try_next().expect("no error").expect("a commit");
            assert_eq!(commit.commit, n, "seed {seed}");
            assert_eq!(commit.changes[0].kind, ChangeKind::Put(n.to_be_bytes().to_vec()));
        }
        assert_eq!(stream.try_next().expect("no error"), None);
        db.put(b"key", b"new").expect("put");
        let commit = stream.try_next().expect("no error").expect("a commit");
        assert_eq!(commit.commit, last + 1);
    }
    println!("tried: cursors over power cuts that took {lost} commits");
    assert!(lost > 0);
}

/// Damage in a file that is kept for readers is told to who reads it, and to nobody else.
#[test]
fn damage_in_what_is_kept_harms_only_its_readers() {
    let vfs = SimulatedVfs::new(7);
    let db = open(&vfs);
    db.commit_cursor(NAME, 0).expect("made");
    let mut rng = fastrand::Rng::with_seed(7);
    let mut wrote = Vec::new();
    for _ in 0..400 {
        write(&db, &mut rng, &mut wrote);
    }
    db.close().expect("closes");
    let kept: Vec<_> =
        vfs.files().into_iter().filter(|f| f.to_string_lossy().ends_with(".wal")).collect();
    assert!(kept.len() > 2, "{kept:?}");
    vfs.corrupt(&kept[1], |bytes| {
        let at = bytes.len() / 2;
        bytes[at] ^= 0x55;
    })
    .expect("there");
    let db = open(&vfs);
    assert_eq!(db.count(None, None).expect("a count"), {
        let keys = wrote.iter().flat_map(|c| &c.changes).filter(|c| c.keyspace == "default");
        let mut now = BTreeSet::new();
        keys.for_each(|c| match &c.kind {
            ChangeKind::Delete => {
                now.remove(&c.key);
            }
            ChangeKind::DeleteRange(end) => {
                now.retain(|k: &&Vec<u8>| **k < c.key || end.as_ref().is_some_and(|end| *k >= end));
            }
            _ => {
                now.insert(&c.key);
            }
        });
        now.len() as u64
    });
    let report = db.verify(VerifyOptions::default()).expect("a report");
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    assert_eq!(report.problems[0].file, kept[1]);
    let mut stream = db.changes(from_cursor()).expect("a stream");
    let e = loop {
        match stream.try_next() {
            Ok(commit) => assert!(commit.is_some(), "the damage is met"),
            Err(e) => break e,
        }
    };
    assert_eq!((e.kind(), e.file()), (ErrorKind::Corrupt, Some(kept[1].as_path())));
    let mut later = db.changes(ChangesFrom::After(db.last_commit() - 5)).expect("a stream");
    assert_eq!(same(&mut later, &wrote, "behind the damage"), 5);
}

/// A range is cut to what a stream's prefix lets through.
#[test]
fn ranges_are_cut_to_the_prefix() {
    let vfs = SimulatedVfs::new(1);
    let db = open(&vfs);
    let mut stream = db.changes(ChangesFrom::Now).expect("a stream").with_prefix("b");
    db.delete_range(None, Some(b"b")).expect("deletes");
    db.delete_range(Some(b"c"), None).expect("deletes");
    let mut next = |range: (Option<&[u8]>, Option<&[u8]>)| {
        db.delete_range(range.0, range.1).expect("deletes");
        let mut commit = stream.try_next().expect("a commit").expect("it is let through");
        let change = commit.changes.pop().expect("a change");
        (change.key, change.kind)
    };
    let range =
        |start: &[u8], end: &[u8]| (start.to_vec(), ChangeKind::DeleteRange(Some(end.to_vec())));
    assert_eq!(next((None, None)), range(b"b", b"c"));
    assert_eq!(next((Some(b"a"), Some(b"b5"))), range(b"b", b"b5"));
    assert_eq!(next((Some(b"b5"), Some(b"x"))), range(b"b5", b"c"));
    assert_eq!(next((Some(b"b1"), Some(b"b2"))), range(b"b1", b"b2"));
}

/// Who follows can give each value the end that it has.
#[test]
fn what_was_put_comes_with_its_end() {
    let vfs = SimulatedVfs::new(1);
    let db = open(&vfs);
    let mut stream = db.changes(ChangesFrom::Now).expect("a stream");
    db.put_with_ttl("a", "1", Duration::from_secs(60)).expect("puts");
    db.put("a", "2").expect("puts");
    let mut next = || stream.try_next().expect("a commit").expect("there").changes.remove(0);
    let end = next().expires_at.expect("an end");
    let now = vfs.wall_clock();
    assert!(end <= now + Duration::from_secs(60) && end > now, "{end:?} {now:?}");
    assert_eq!(next().expires_at, None);
}
