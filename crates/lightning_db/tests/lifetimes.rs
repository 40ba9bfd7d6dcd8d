//! Lifetimes: what has expired is gone for every read at once, a snapshot judges by its own moment,
//! merges give back exactly what nobody can see, and no clock brings anything back.
//!
//! The clock is the simulated disk's. Engine and test may be some milliseconds apart, as looks at the
//! clock take time there: lives differ by seconds.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lightning_db::vfs::{SimulatedVfs, Vfs};
use lightning_db::{
    Database, ErrorKind, IsolationLevel, Keyspace, KeyspaceOptions, LightningDbConfig, OpenAs,
    TransactionOptions, VerifyOptions, WriteBatch, WriteOptions,
};

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn config() -> LightningDbConfig {
    LightningDbConfig {
        background_threads: 0,
        write_buffer_size: 64 * 1024,
        transaction_timeout: seconds(86_400),
        ..LightningDbConfig::default()
    }
}

fn open(disk: &SimulatedVfs, mode: OpenAs) -> Database {
    let vfs = Arc::new(disk.clone()) as Arc<dyn Vfs>;
    Database::open_with_vfs(vfs, "/db", config(), mode).expect("opens")
}

fn new(seed: u64) -> (SimulatedVfs, Database) {
    let disk = SimulatedVfs::new(seed);
    let db = open(&disk, OpenAs::Create);
    (disk, db)
}

fn wait(disk: &SimulatedVfs, time: Duration) {
    disk.set_wall_clock(disk.wall_clock() + time);
}

fn clean(db: &Database) {
    let report = db.verify(VerifyOptions::default()).expect("a report");
    assert!(report.is_clean(), "{:?}", report.problems);
}

fn keys(pairs: impl Iterator<Item = lightning_db::Result<(Vec<u8>, Vec<u8>)>>) -> Vec<String> {
    pairs.map(|p| String::from_utf8(p.expect("an entry").0).expect("text")).collect()
}

/// Asks in every way there is; `alive` is what must be seen, of `a`, `b` and `c`.
fn seen(keyspace: &Keyspace, alive: &[&str]) {
    for key in ["a", "b", "c"] {
        let there = alive.contains(&key);
        assert_eq!(keyspace.get(key).expect("get").is_some(), there, "get {key}");
        assert_eq!(keyspace.get_pinned(key).expect("get").is_some(), there, "get_pinned {key}");
        assert_eq!(keyspace.contains_key(key).expect("asks"), there, "contains_key {key}");
        assert_eq!(keyspace.get_with_ttl(key).expect("get").is_some(), there, "get_with_ttl {key}");
    }
    let batch = keyspace.get_batch(&["a", "b", "c"]).expect("get_batch");
    assert_eq!(batch.iter().flatten().count(), alive.len(), "get_batch");
    assert_eq!(keys(keyspace.range(None, None).expect("a range")), alive);
    let mut back = keys(keyspace.scan_reverse(None, None).expect("a range"));
    back.reverse();
    assert_eq!(back, alive);
    assert_eq!(keyspace.count(None, None).expect("counts"), alive.len() as u64);
    let name =
        |pair: Option<(Vec<u8>, Vec<u8>)>| pair.map(|p| String::from_utf8(p.0).expect("text"));
    assert_eq!(name(keyspace.first().expect("first")).as_deref(), alive.first().copied());
    assert_eq!(name(keyspace.last().expect("last")).as_deref(), alive.last().copied());
    let mut cursor = keyspace.cursor().expect("a cursor");
    let mut found = cursor.seek_to_last().expect("seeks");
    let mut walked = Vec::new();
    while found {
        walked.insert(0, String::from_utf8(cursor.key().expect("a key").to_vec()).expect("text"));
        found = cursor.prev().expect("steps");
    }
    assert_eq!(walked, alive);
    let mut visited = 0;
    keyspace
        .for_each(None, None, |_, _| {
            visited += 1;
            ControlFlow::<()>::Continue(())
        })
        .expect("visits");
    assert_eq!(visited, alive.len());
}

type Move = fn(&Database);

/// Where the entries lie: in the memtable, in a run, in the base.
fn places() -> [(&'static str, Move); 3] {
    [
        ("memtable", |_| ()),
        ("run", |db| db.flush().expect("flushes")),
        ("base", |db| db.compact().expect("compacts")),
    ]
}

#[test]
fn what_has_expired_is_gone_for_every_read_wherever_it_lies() {
    for (place, moved) in places() {
        let (disk, db) = new(1);
        let keyspace = db.default_keyspace();
        db.put(b"b", b"older, and lasting").expect("puts");
        moved(&db);
        db.put_with_ttl(b"a", b"1", seconds(10)).expect("puts");
        db.put_with_ttl(b"b", vec![7; 20_000], seconds(20)).expect("puts");
        db.put(b"c", b"3").expect("puts");
        moved(&db);
        println!("in a {place}");
        seen(keyspace, &["a", "b", "c"]);
        wait(&disk, seconds(5));
        let left = db.get_with_ttl(b"a").expect("get").expect("there").1.expect("a lifetime");
        assert!(left > seconds(4) && left <= seconds(5), "{left:?}");
        assert_eq!(db.get_with_ttl(b"c").expect("get"), Some((b"3".to_vec(), None)));
        seen(keyspace, &["a", "b", "c"]);
        wait(&disk, seconds(6));
        seen(keyspace, &["b", "c"]);
        wait(&disk, seconds(10));
        // The older value of `b` does not come back.
        seen(keyspace, &["c"]);
        db.flush().expect("flushes");
        seen(keyspace, &["c"]);
        db.compact().expect("compacts");
        seen(keyspace, &["c"]);
        clean(&db);
    }
}

#[test]
fn a_write_replaces_the_lifetime() {
    let (disk, db) = new(2);
    for (place, moved) in places() {
        db.put_with_ttl(b"a", b"1", seconds(10)).expect("puts");
        db.put_with_ttl(b"b", b"1", seconds(10)).expect("puts");
        db.put(b"c", b"1").expect("puts");
        moved(&db);
        db.put(b"a", b"2").expect("puts");
        db.put_with_ttl(b"b", b"2", seconds(30)).expect("puts");
        db.put_with_ttl(b"c", b"2", seconds(10)).expect("puts");
        moved(&db);
        println!("in a {place}");
        wait(&disk, seconds(15));
        seen(db.default_keyspace(), &["a", "b"]);
        wait(&disk, seconds(16));
        seen(db.default_keyspace(), &["a"]);
    }
}

#[test]
fn a_snapshot_judges_by_its_own_moment() {
    for (place, moved) in places() {
        let (disk, db) = new(3);
        let before_any = db.snapshot().expect("a snapshot");
        db.put_with_ttl(b"a", b"1", seconds(10)).expect("puts");
        db.put_with_ttl(b"b", b"1", seconds(20)).expect("puts");
        db.put(b"c", b"1").expect("puts");
        let early = db.snapshot().expect("a snapshot");
        let tx = db.transaction().expect("begins");
        let range = db.range(None, None).expect("a range");
        let newest = TransactionOptions::at(IsolationLevel::ReadCommitted);
        let newest = db.transaction_with(newest).expect("begins");
        wait(&disk, seconds(15));
        let late = db.snapshot().expect("a snapshot");
        wait(&disk, seconds(15));
        moved(&db);
        db.put_with_ttl(b"a", b"2", seconds(1000)).expect("puts");
        moved(&db);
        println!("in a {place}");
        assert_eq!(keys(before_any.range(None, None).expect("a range")), [""; 0]);
        assert_eq!(keys(early.range(None, None).expect("a range")), ["a", "b", "c"]);
        assert_eq!(early.get(b"a").expect("get"), Some(b"1".to_vec()));
        assert_eq!(keys(tx.range(None, None).expect("a range")), ["a", "b", "c"]);
        assert_eq!(tx.get(b"b").expect("get"), Some(b"1".to_vec()));
        assert_eq!(keys(range), ["a", "b", "c"]);
        assert_eq!(keys(late.range(None, None).expect("a range").rev()), ["c", "b"]);
        assert_eq!(
            (late.get(b"a").expect("get"), late.get(b"b").expect("get").is_some()),
            (None, true)
        );
        assert_eq!(newest.get(b"b").expect("get"), None);
        assert_eq!(keys(newest.range(None, None).expect("a range")), ["a", "c"]);
        // The younger of two goes first, and the older sees all the same.
        drop((late, newest, tx));
        db.compact().expect("compacts");
        assert_eq!(keys(early.range(None, None).expect("a range")), ["a", "b", "c"]);
        drop(early);
        db.compact().expect("compacts");
        seen(db.default_keyspace(), &["a", "c"]);
        clean(&db);
    }
}

#[test]
fn expiry_is_no_write_that_anybody_conflicts_with() {
    let (disk, db) = new(4);
    for level in [IsolationLevel::RepeatableRead, IsolationLevel::Serializable] {
        db.put_with_ttl(b"a", b"1", seconds(10)).expect("puts");
        let mut tx = db.transaction_with(TransactionOptions::at(level)).expect("begins");
        assert!(tx.get(b"a").expect("get").is_some());
        assert_eq!(tx.range(None, None).expect("a range").count(), 1);
        wait(&disk, seconds(15));
        db.compact().expect("compacts");
        assert!(tx.get(b"a").expect("get").is_some(), "its moment is its own");
        tx.put(b"a", b"2").expect("puts");
        tx.commit().expect("commits");
        db.delete(b"a").expect("deletes");
    }
    // But what was written after the snapshot was written, though it is gone already.
    let mut tx = db.transaction().expect("begins");
    db.put_with_ttl(b"a", b"1", seconds(10)).expect("puts");
    wait(&disk, seconds(15));
    db.compact().expect("compacts");
    tx.put(b"a", b"2").expect("puts");
    assert_eq!(tx.commit().expect_err("refused").kind(), ErrorKind::Conflict);
}

#[test]
fn updates_find_nothing_where_something_has_expired() {
    let (disk, db) = new(5);
    db.put_with_ttl(b"a", b"1", seconds(10)).expect("puts");
    assert!(db.compare_and_swap(b"a", None, Some(b"2")).expect("asks").is_err());
    wait(&disk, seconds(15));
    assert!(db.compare_and_swap(b"a", Some(b"1"), Some(b"2")).expect("asks").is_err());
    assert_eq!(db.take(b"a").expect("takes"), None);
    assert!(db.compare_and_swap(b"a", None, Some(b"2")).expect("asks").is_ok());
    assert_eq!(db.get_with_ttl(b"a").expect("get"), Some((b"2".to_vec(), None)));
    assert_eq!(
        db.fetch_update(b"a", |old| old.map(<[u8]>::to_vec)).expect("asks"),
        Some(b"2".to_vec())
    );
}

#[test]
fn impossible_lifetimes_are_refused_and_long_ones_bounded() {
    let (disk, db) = new(6);
    let refused = |result: lightning_db::Result<()>| {
        assert_eq!(result.expect_err("refused").kind(), ErrorKind::InvalidArgument);
    };
    refused(db.put_with_ttl(b"a", b"1", Duration::ZERO));
    let mut batch = WriteBatch::new();
    batch.put(b"b", b"1");
    batch.put_with_ttl(b"a", b"1", Duration::ZERO);
    refused(db.write(batch, WriteOptions::default()));
    refused(db.transaction().expect("begins").put_with_ttl(b"a", b"1", Duration::ZERO));
    refused(db.default_keyspace().set_default_ttl(Some(Duration::ZERO)));
    seen(db.default_keyspace(), &[]);
    let options = KeyspaceOptions { default_ttl: Some(Duration::ZERO), ..Default::default() };
    let e = db.keyspace("new", options).expect_err("refused");
    assert_eq!(e.kind(), ErrorKind::InvalidConfig);

    db.put_with_ttl(b"a", b"1", Duration::from_nanos(1)).expect("puts");
    db.put_with_ttl(b"b", b"1", Duration::MAX).expect("puts");
    wait(&disk, seconds(1 << 40));
    db.compact().expect("compacts");
    seen(db.default_keyspace(), &["b"]);
    assert!(db.get_with_ttl(b"b").expect("get").expect("there").1 > Some(seconds(1 << 50)));
    disk.set_wall_clock(Duration::MAX);
    assert_eq!(db.get(b"b").expect("get"), None, "the end of time");
    clean(&db);
}

#[test]
fn a_keyspace_gives_lifetimes_to_what_has_none_of_its_own() {
    let (disk, db) = new(7);
    let options = KeyspaceOptions { default_ttl: Some(seconds(10)), ..Default::default() };
    let sessions = db.keyspace("sessions", options).expect("a keyspace");
    sessions.put(b"a", b"1").expect("puts");
    sessions.put_with_ttl(b"b", b"1", seconds(100)).expect("puts");
    let mut batch = WriteBatch::new();
    batch.put_in(&sessions, b"c", b"1");
    batch.put(b"a", b"stays");
    db.write(batch, WriteOptions::default()).expect("writes");
    wait(&disk, seconds(15));
    seen(&sessions, &["b"]);
    seen(db.default_keyspace(), &["a"]);
    sessions.set_default_ttl(Some(seconds(40))).expect("sets");
    sessions.put_batch(&[(b"a".to_vec(), b"2".to_vec())]).expect("puts");
    let mut tx = db.transaction().expect("begins");
    tx.put_in(&sessions, b"c", b"2").expect("puts");
    tx.commit().expect("commits");
    // It is kept, whatever is said where it is opened.
    drop(sessions);
    db.close().expect("closes");
    let db = open(&disk, OpenAs::Open);
    let sessions = db.keyspace("sessions", KeyspaceOptions::default()).expect("a keyspace");
    assert_eq!(sessions.default_ttl(), Some(seconds(40)));
    wait(&disk, seconds(30));
    seen(&sessions, &["a", "b", "c"]);
    wait(&disk, seconds(15));
    seen(&sessions, &["b"]);
    sessions.set_default_ttl(None).expect("sets");
    sessions.put(b"a", b"3").expect("puts");
    drop(sessions);
    db.close().expect("closes");
    let db = open(&disk, OpenAs::Open);
    let sessions = db.keyspace("sessions", KeyspaceOptions::default()).expect("a keyspace");
    assert_eq!(sessions.default_ttl(), None);
    wait(&disk, seconds(10_000));
    seen(&sessions, &["a"]);
    clean(&db);
}

/// Whatever the clock does, and however the database was left, what an answer or a merge took for
/// expired stays so.
#[test]
fn a_clock_that_goes_back_brings_nothing_back() {
    for killed in [false, true] {
        for (place, moved) in places() {
            let (disk, db) = new(8);
            let noon = disk.wall_clock();
            // Two that expire together: one a merge meets, one it does not.
            db.put_with_ttl(b"a", b"1", seconds(10)).expect("puts");
            moved(&db);
            db.put_with_ttl(b"b", b"1", seconds(10)).expect("puts");
            db.put_with_ttl(b"c", b"1", seconds(100)).expect("puts");
            wait(&disk, seconds(15));
            seen(db.default_keyspace(), &["c"]);
            disk.set_wall_clock(noon);
            seen(db.default_keyspace(), &["c"]);
            println!("killed {killed}, in a {place}");
            let (disk, db) = if killed {
                // What a merge has judged by is known over a kill.
                db.flush().expect("flushes");
                (disk.kill(), db)
            } else {
                db.clone().close().expect("closes");
                (disk, db)
            };
            disk.set_wall_clock(noon);
            let again = open(&disk, OpenAs::Open);
            drop(db);
            seen(again.default_keyspace(), &["c"]);
            // Time goes on, by what passes.
            disk.advance_clock(seconds(60));
            seen(again.default_keyspace(), &["c"]);
            disk.advance_clock(seconds(30));
            seen(again.default_keyspace(), &[]);
            again.put_with_ttl(b"a", b"1", seconds(10)).expect("puts");
            disk.advance_clock(seconds(9));
            seen(again.default_keyspace(), &["a"]);
            disk.advance_clock(seconds(2));
            seen(again.default_keyspace(), &[]);
            clean(&again);
        }
    }
}

#[test]
fn what_was_read_often_expires_as_well() {
    let (disk, db) = new(9);
    let hot = Arc::new(AtomicBool::new(true));
    db.put_with_ttl(b"a", b"1", seconds(10)).expect("puts");
    db.put(b"c", b"3").expect("puts");
    let (mut reads, moved) = (0, [false, true]);
    for flushed in moved {
        if flushed {
            db.compact().expect("compacts");
        }
        for _ in 0..100 {
            assert!(db.get_pinned(b"a").expect("get").is_some());
        }
    }
    std::thread::scope(|s| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                s.spawn(|| {
                    let (mut reads, mut gone) = (0_u64, false);
                    while hot.load(Ordering::Acquire) || !gone {
                        let there = db.get_pinned(b"a").expect("get").is_some();
                        assert!(!(gone && there), "it came back");
                        assert!(db.get_pinned(b"c").expect("get").is_some());
                        gone |= !there;
                        reads += 1;
                    }
                    reads
                })
            })
            .collect();
        wait(&disk, seconds(15));
        assert_eq!(db.get(b"a").expect("get"), None, "from now on nobody sees it");
        hot.store(false, Ordering::Release);
        reads += readers.into_iter().map(|r| r.join().expect("reads")).sum::<u64>();
    });
    println!("tried: {reads} reads of a key that expires meanwhile");
}

/// Merges drop exactly what has expired, of what they see, and an idle keyspace shrinks by them.
#[test]
fn merges_give_back_what_has_expired_and_no_more() {
    let (disk, db) = new(10);
    let idle = db.keyspace("idle", KeyspaceOptions::default()).expect("a keyspace");
    let key = |n: u64| format!("key{n:05}").into_bytes();
    let mut rng = fastrand::Rng::with_seed(10);
    let lives: Vec<u64> = (0..6_000).map(|_| [100, 200, 300, 0][rng.usize(0..4)]).collect();
    for (n, life) in (0..).zip(&lives) {
        // Neither memtables nor pages alone: several runs, large values among them.
        let value = vec![rng.u8(..); if n % 500 == 0 { 20_000 } else { 100 }];
        match life {
            0 => idle.put(key(n), value),
            life => idle.put_with_ttl(key(n), value, seconds(*life)),
        }
        .expect("puts");
    }
    idle.compact().expect("compacts");
    let figures = || {
        let stats = db.stats();
        let held = stats.keyspaces.iter().find(|k| k.name == "idle").expect("there").clone();
        (
            held.entries,
            held.expiring_entries,
            held.expired_entries,
            held.file_bytes,
            stats.blob_bytes,
        )
    };
    let count = |wanted: &dyn Fn(u64) -> bool| lives.iter().filter(|l| wanted(**l)).count() as u64;
    let before = figures();
    assert_eq!((before.0, before.1, before.2), (6_000, count(&|l| l > 0), 0));
    clean(&db);
    let held = idle.range(None, None).expect("a range");
    for (passed, alive) in [(150, 200), (250, 300), (350, u64::MAX)] {
        wait(&disk, seconds(100 + u64::from(passed == 150) * 50));
        let left = count(&|l| l == 0 || l >= alive);
        assert_eq!(idle.count(None, None).expect("counts"), left);
        assert!(idle.approximate_len() >= left);
        assert!(figures().2 > 0, "statistics know that something has expired");
        // No write comes to this keyspace; what is due is done by whoever has time.
        db.put(b"elsewhere", b"1").expect("puts");
        db.flush().expect("flushes");
        assert_eq!(figures().0, 6_000, "somebody may still see it");
        db.put(b"elsewhere", b"2").expect("puts");
    }
    assert_eq!(held.count(), 6_000);
    // With the last view it goes: upkeep follows the next full memtable, wherever that is.
    for n in 0..1_000_u64 {
        db.put(key(n), [1; 100]).expect("puts");
    }
    let after = figures();
    let stay = count(&|l| l == 0);
    assert_eq!((after.0, after.1, after.2), (stay, 0, 0), "exactly those that live");
    assert!(after.3 < before.3 / 2, "{} of {} bytes of files", after.3, before.3);
    assert!(after.4 < before.4, "large values too: {} of {}", after.4, before.4);
    assert_eq!(idle.count(None, None).expect("counts"), stay);
    clean(&db);
}

/// What a kill leaves of the log keeps its lifetimes.
#[test]
fn lifetimes_are_replayed() {
    let (disk, db) = new(11);
    db.put_with_ttl(b"a", b"1", seconds(10)).expect("puts");
    db.put_with_ttl(b"b", vec![1; 20_000], seconds(100)).expect("puts");
    db.put(b"c", b"1").expect("puts");
    db.sync().expect("syncs");
    for later in [false, true] {
        let image = disk.power_cut(1);
        if later {
            wait(&image, seconds(15));
        }
        for mode in [OpenAs::ReadOnly, OpenAs::Open, OpenAs::ReadOnly] {
            let again = open(&image, mode);
            seen(again.default_keyspace(), if later { &["b", "c"] } else { &["a", "b", "c"] });
            clean(&again);
            again.close().expect("closes");
        }
    }
    drop(db);
}
