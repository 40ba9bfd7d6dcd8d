//! Sorted ingest: answers, order among commits, what it honours, what it refuses (here); faults and
//! crashes at every operation of it (`faults`); beside other features (`interplay`).

mod faults;
mod interplay;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lightning_db::vfs::{SimulatedVfs, Vfs};
use lightning_db::{
    Database, Error, ErrorKind, IsolationLevel, KeyspaceOptions, LightningDbConfig, OpenAs,
    Profile, TransactionMode, TransactionOptions, VerifyOptions,
};

type Pair = (Vec<u8>, Vec<u8>);

fn config() -> LightningDbConfig {
    LightningDbConfig {
        write_buffer_size: 64 * 1024,
        wal_segment_size: 64 * 1024,
        max_wal_size: 256 * 1024,
        cache_size: 1024 * 1024,
        background_threads: 0,
        ..LightningDbConfig::default()
    }
}

fn simulated(vfs: &SimulatedVfs, config: LightningDbConfig) -> lightning_db::Result<Database> {
    let vfs = Arc::new(vfs.clone()) as Arc<dyn Vfs>;
    Database::open_with_vfs(vfs, "/db", config, OpenAs::OpenOrCreate)
}

fn new(config: LightningDbConfig) -> Database {
    simulated(&SimulatedVfs::new(1), config).expect("opens")
}

fn key(n: u32) -> Vec<u8> {
    format!("key{n:06}").into_bytes()
}

/// Every `step`th key from `from` below `to`, with the value `what`.
fn entries(from: u32, to: u32, step: usize, what: &str) -> Vec<Pair> {
    (from..to).step_by(step).map(|n| (key(n), format!("{what}{n}").into_bytes())).collect()
}

fn all(db: &Database) -> Vec<Pair> {
    db.range(None, None).expect("a range").map(|e| e.expect("an entry")).collect()
}

fn clean(db: &Database) {
    let report = db.verify(VerifyOptions::default()).expect("verifies");
    assert!(report.is_clean(), "{:?}", report.problems);
}

fn get(db: &Database, n: u32) -> Option<String> {
    db.get(key(n)).expect("reads").map(|v| String::from_utf8(v).expect("text"))
}

#[test]
fn everything_is_there_and_stays_through_merges_and_opening() {
    for wal_enabled in [true, false] {
        let config = LightningDbConfig { wal_enabled, ..config() };
        let vfs = SimulatedVfs::new(1);
        let db = simulated(&vfs, config.clone()).expect("opens");
        let mut wanted = entries(0, 20_000, 1, "first");
        // Larger than a page, and large.
        wanted[77].1 = vec![7; 12_000];
        wanted[7000].1 = vec![1; 20_000];
        wanted[9000].1 = vec![2; 600_000];
        assert_eq!(db.ingest(wanted.clone()).expect("ingests"), 20_000);
        assert!(all(&db) == wanted);
        let kept = db.stats();
        assert_eq!(kept.merged_bytes, 0, "what goes to an empty keyspace is not written again");
        clean(&db);
        // Over it, beside it, and in memory.
        for (n, e) in entries(100, 15_000, 3, "second").into_iter().enumerate() {
            wanted[100 + 3 * n] = e;
        }
        assert_eq!(db.ingest(entries(100, 15_000, 3, "second")).expect("ingests"), 4967);
        assert!(all(&db) == wanted);
        clean(&db);
        db.put(key(103), b"third").expect("writes");
        wanted[103].1 = b"third".to_vec();
        db.delete(key(0)).expect("deletes");
        wanted.remove(0);
        assert!(all(&db) == wanted);
        db.compact().expect("compacts");
        assert!(all(&db) == wanted);
        clean(&db);
        db.close().expect("closes");
        let db = simulated(&vfs, config).expect("opens");
        assert!(all(&db) == wanted);
        clean(&db);
    }
}

#[test]
fn it_is_newer_than_what_came_before_and_older_than_what_comes_after() {
    let db = new(config());
    db.put(key(1), b"before").expect("writes");
    db.put(key(2), b"before").expect("writes");
    db.flush().expect("flushes");
    db.put(key(2), b"in memory").expect("writes");
    db.delete(key(3)).expect("deletes");
    assert_eq!(db.ingest(entries(1, 4, 1, "ingested")).expect("ingests"), 3);
    for n in 1..4 {
        assert_eq!(get(&db, n), Some(format!("ingested{n}")));
    }
    db.put(key(1), b"after").expect("writes");
    db.delete(key(2)).expect("deletes");
    db.compact().expect("compacts");
    assert_eq!(
        (get(&db, 1).as_deref(), get(&db, 2), get(&db, 3).as_deref()),
        (Some("after"), None, Some("ingested3"))
    );
    clean(&db);
}

#[test]
fn snapshots_iterators_and_transactions_from_before_do_not_see_it() {
    let db = new(config());
    db.put_batch(&entries(0, 1000, 2, "old")).expect("writes");
    db.flush().expect("flushes");
    let snapshot = db.snapshot().expect("a snapshot");
    let range = db.range(None, None).expect("a range");
    let tx = db.transaction().expect("begins");
    db.ingest(entries(0, 3000, 1, "new")).expect("ingests");
    db.put(key(4), b"newest").expect("writes");
    let seen = |what: &str| {
        assert_eq!(snapshot.get(key(4)).expect("reads"), Some(b"old4".to_vec()), "{what}");
        assert_eq!(snapshot.get(key(5)).expect("reads"), None, "{what}");
        assert_eq!(snapshot.get(key(2500)).expect("reads"), None, "{what}");
        let entries: Vec<_> = snapshot.range(None, None).expect("a range").collect();
        assert_eq!(entries.len(), 500, "{what}");
        let back = snapshot.range(None, None).expect("a range").rev().count();
        assert_eq!(back, 500, "{what}");
        assert_eq!(tx.get(key(6)).expect("reads"), Some(b"old6".to_vec()), "{what}");
    };
    seen("as ingested");
    // In the base, renewed with its leaves kept where nothing touches them.
    db.compact().expect("compacts");
    seen("merged");
    db.put(key(2999), b"last").expect("writes");
    db.compact().expect("compacts");
    seen("merged again");
    clean(&db);
    assert_eq!(range.count(), 500);
    drop((snapshot, tx));
    db.compact().expect("compacts");
    assert_eq!(all(&db).len(), 3000);
    clean(&db);
}

/// What goes to an empty keyspace lies in the base at once: merges renew a part of it.
#[test]
fn a_base_that_is_renewed_in_part_stays_unseen_by_older_snapshots() {
    let profile = Profile::ReadOptimized;
    // One partition holds all of it.
    let db = new(LightningDbConfig { profile, write_buffer_size: 4 << 20, ..config() });
    let snapshot = db.snapshot().expect("a snapshot");
    db.ingest(entries(0, 30_000, 1, "new")).expect("ingests");
    let update = |round: u32| {
        for n in 0..6000 {
            let value = [n * 7919, n * 104_729, n ^ round].map(u32::to_be_bytes).concat();
            db.put(key(n), value).expect("writes");
        }
        db.flush().expect("flushes");
    };
    for round in 0..2 {
        update(round);
        assert_eq!(snapshot.range(None, None).expect("a range").count(), 0);
        assert_eq!(snapshot.get(key(29_000)).expect("reads"), None);
    }
    let held = db.stats();
    assert!(held.base_merges > 0, "the base was renewed at all");
    clean(&db);
    drop(snapshot);
    (2..4).for_each(update);
    assert!(db.stats().adopted_leaves > 0, "leaves are kept once nobody is older");
    db.compact().expect("compacts");
    assert_eq!(all(&db).len(), 30_000);
    clean(&db);
}

#[test]
fn what_was_cached_is_not_read_again() {
    let db = new(config());
    db.put_batch(&entries(0, 500, 1, "old")).expect("writes");
    for _ in 0..3 {
        for n in 0..500 {
            assert_eq!(get(&db, n), Some(format!("old{n}")));
        }
    }
    assert!(db.stats().row_cache_hits > 0, "rows are cached at all");
    db.ingest(entries(100, 400, 2, "new")).expect("ingests");
    for _ in 0..3 {
        for n in 0..500 {
            let new = (100..400).contains(&n) && n % 2 == 0;
            assert_eq!(get(&db, n), Some(format!("{}{n}", if new { "new" } else { "old" })));
        }
    }
}

#[test]
fn entries_out_of_order_are_refused_by_position_and_nothing_is_seen() {
    let vfs = SimulatedVfs::new(1);
    let db = simulated(&vfs, config()).expect("opens");
    db.put(key(9), b"there").expect("writes");
    let before = files(&vfs);
    for (second, says) in [(4999, "the same key as"), (3, "a smaller key than")] {
        let mut bad = entries(0, 5000, 1, "new");
        bad[17].1 = vec![3; 100_000];
        bad.push((key(second), vec![]));
        let e = db.ingest(bad).expect_err("refused");
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
        assert!(e.message().contains("entry 5000 ") && e.message().contains(says), "{e}");
        assert_eq!(all(&db).len(), 1);
        assert_eq!(files(&vfs), before, "no file is left");
    }
    let empty = db.ingest([(b"", b"x")]).expect_err("refused");
    assert_eq!(empty.kind(), ErrorKind::EmptyKey);
    let long = db.ingest([(vec![1; 70_000], b"x")]).expect_err("refused");
    assert_eq!(long.kind(), ErrorKind::KeyTooLarge);
    assert_eq!(db.ingest(Vec::<Pair>::new()).expect("nothing to do"), 0);
    // An iterator that fails, and one that panics.
    let failing = (0..3000).map(|n| match n {
        2999 => Err(Error::new(ErrorKind::Io, "the caller's own")),
        n => Ok((key(n), b"v")),
    });
    assert_eq!(db.try_ingest(failing).expect_err("its own").message(), "the caller's own");
    let panicking = (0..3000).map(|n| {
        assert!(n < 2999, "the caller's panic");
        (key(n), vec![5; if n == 5 { 50_000 } else { 5 }])
    });
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| db.ingest(panicking)));
    assert!(caught.is_err());
    assert_eq!((all(&db).len(), files(&vfs)), (1, before));
    db.put(key(1), b"on").expect("the handle goes on");
}

fn files(vfs: &SimulatedVfs) -> Vec<std::path::PathBuf> {
    let mut found = vfs.files();
    found.retain(|f| f.extension().is_some_and(|e| e == "seg"));
    found.sort();
    found
}

#[test]
fn limits_quota_and_dropped_keyspaces_refuse_it() {
    let vfs = SimulatedVfs::new(1);
    let quota = LightningDbConfig { max_database_size: Some(2 * 1024 * 1024), ..config() };
    let db = simulated(&vfs, quota).expect("opens");
    let noise = |n: u32| -> Vec<u8> {
        let mut rng = fastrand::Rng::with_seed(u64::from(n));
        (0..1000).map(|_| rng.u8(..)).collect()
    };
    let e = db.ingest((0..5000).map(|n| (key(n), noise(n)))).expect_err("refused");
    assert_eq!(e.kind(), ErrorKind::StorageFull, "{e}");
    assert_eq!(files(&vfs).len(), 0);
    let e = db.ingest((0..50).map(|n| (key(n), vec![n as u8; 100_000]))).expect_err("refused");
    assert_eq!(e.kind(), ErrorKind::StorageFull, "{e}");
    assert_eq!(files(&vfs).len(), 0);
    assert_eq!(db.ingest((0..1000).map(|n| (key(n), noise(n)))).expect("there is room"), 1000);
    let other = db.keyspace("other", KeyspaceOptions::default()).expect("a keyspace");
    let dropping = (0..10).map(|n| {
        if n == 5 {
            db.drop_keyspace("other").expect("drops");
        }
        (key(n), b"x")
    });
    assert_eq!(other.ingest(dropping).expect_err("refused").kind(), ErrorKind::NotFound);
    assert_eq!(other.ingest(entries(0, 9, 1, "")).expect_err("gone").kind(), ErrorKind::NotFound);
    clean(&db);
}

fn serializable() -> TransactionOptions {
    TransactionOptions::at(IsolationLevel::Serializable)
}

#[test]
fn transactions_that_read_what_it_changes_conflict() {
    let db = new(config());
    db.put_batch(&entries(0, 100, 1, "old")).expect("writes");
    // One key; many; a range; a key that was not there; a written key.
    let reads: [&dyn Fn(&mut lightning_db::Transaction); 5] = [
        &|tx| _ = tx.get(key(50)).expect("reads"),
        &|tx| (0..90).for_each(|n| _ = tx.get(key(n)).expect("reads")),
        &|tx| _ = tx.range(Some(&key(40)), Some(&key(60))).expect("a range").count(),
        &|tx| _ = tx.get(key(150)).expect("reads"),
        &|_| {},
    ];
    for (i, read) in reads.iter().enumerate() {
        for merged in [false, true] {
            let level =
                if i == 4 { IsolationLevel::RepeatableRead } else { IsolationLevel::Serializable };
            let mut tx = db.transaction_with(TransactionOptions::at(level)).expect("begins");
            read(&mut tx);
            let mut apart = db.transaction_with(serializable()).expect("begins");
            apart.get(key(5000)).expect("reads");
            apart.put(key(6000), b"x").expect("writes");
            db.ingest(entries(50, 151, 50, "new")).expect("ingests");
            if merged {
                db.compact().expect("compacts");
            }
            tx.put(if i == 4 { key(50) } else { key(7000) }, b"x").expect("writes");
            assert_eq!(
                tx.commit().expect_err("refused").kind(),
                ErrorKind::Conflict,
                "{i} {merged}"
            );
            apart.commit().expect("it read nothing of that");
            let mut after = db.transaction_with(serializable()).expect("begins");
            read(&mut after);
            after.put(key(7000), b"x").expect("writes");
            after.commit().expect("it began after");
        }
    }
}

#[test]
fn locks_of_others_are_waited_for() {
    let short =
        LightningDbConfig { lock_timeout: std::time::Duration::from_millis(20), ..config() };
    // On a disk whose clock goes.
    let db = Database::open_in_memory(short).expect("opens");
    db.put_batch(&entries(0, 100, 1, "old")).expect("writes");
    let pessimistic = TransactionOptions {
        mode: TransactionMode::Pessimistic,
        isolation: IsolationLevel::Serializable,
        ..TransactionOptions::default()
    };
    let mut tx = db.transaction_with(pessimistic.clone()).expect("begins");
    assert_eq!(tx.range(Some(&key(40)), Some(&key(60))).expect("a range").count(), 20);
    let e = db.ingest(entries(30, 45, 1, "new")).expect_err("locked");
    assert_eq!(e.kind(), ErrorKind::TimedOut, "{e}");
    assert_eq!(get(&db, 41).as_deref(), Some("old41"));
    db.ingest(entries(60, 90, 1, "new")).expect("it touches no lock");
    db.ingest(entries(10, 40, 1, "new")).expect("it touches no lock");
    tx.put(key(41), b"mine").expect("writes");
    tx.commit().expect("commits");
    db.ingest(entries(30, 45, 1, "newest")).expect("nothing is locked any more");
    assert_eq!(get(&db, 41).as_deref(), Some("newest41"));
    let tx = db.transaction_with(pessimistic).expect("begins");
    tx.get_for_update(key(35)).expect("locks");
    assert_eq!(db.ingest(entries(30, 45, 1, "")).expect_err("locked").kind(), ErrorKind::TimedOut);
}

/// Lets the other threads end, also when this one panics.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Writers and ingests at once: each key goes up only, and at each moment a reader sees all of an
/// ingest or nothing.
#[test]
fn writers_readers_and_ingests_at_once_have_one_order() {
    for wal_enabled in [true, false] {
        let config = LightningDbConfig { background_threads: 2, wal_enabled, ..config() };
        let vfs = SimulatedVfs::new(3);
        let db = simulated(&vfs, config.clone()).expect("opens");
        db.ingest((0..2000).map(|n| (key(n), 0_u32.to_be_bytes()))).expect("ingests");
        let done = AtomicBool::new(false);
        let rounds = 150_u32;
        std::thread::scope(|s| {
            s.spawn(|| {
                let mut n = 0_u32;
                while !done.load(Ordering::Relaxed) {
                    n += 1;
                    // Even keys are the ingests'.
                    db.put(key(n % 1000 * 2 + 1), n.to_be_bytes()).expect("writes");
                    let found = db.get(key(n % 1000 * 2 + 1)).expect("reads");
                    assert_eq!(found, Some(n.to_be_bytes().to_vec()), "one reads one's own");
                }
            });
            s.spawn(|| {
                let mut newest = 0;
                while !done.load(Ordering::Relaxed) {
                    let snapshot = db.snapshot().expect("a snapshot");
                    let values: Vec<_> = (0..2000)
                        .step_by(398)
                        .map(|n| snapshot.get(key(n)).expect("reads").expect("is there"))
                        .collect();
                    assert!(values.windows(2).all(|w| w[0] == w[1]), "{values:?}");
                    let now = u32::from_be_bytes(values[0][..].try_into().expect("4 bytes"));
                    assert!(now >= newest, "{now} after {newest}");
                    newest = now;
                    let point = db.get(key(1998)).expect("reads").expect("is there");
                    assert!(u32::from_be_bytes(point[..].try_into().expect("4 bytes")) >= now);
                }
            });
            let _ends = Ends(&done);
            for round in 1..=rounds {
                let value = round.to_be_bytes();
                db.ingest((0..2000).step_by(2).map(|n| (key(n), value))).expect("ingests");
                assert_eq!(db.get(key(0)).expect("reads"), Some(value.to_vec()));
            }
        });
        clean(&db);
        let state = all(&db);
        assert_eq!(state.len(), 2000);
        db.close().expect("closes");
        let db = simulated(&vfs, config).expect("opens");
        assert!(all(&db) == state);
        clean(&db);
    }
}

#[test]
fn closing_ends_it_and_leaves_nothing() {
    let vfs = SimulatedVfs::new(1);
    let db = simulated(&vfs, config()).expect("opens");
    let (begun, told) = std::sync::mpsc::channel();
    std::thread::scope(|s| {
        let ingesting = db.clone();
        let thread = s.spawn(move || {
            ingesting.ingest((0_u64..).map(|n| {
                if n == 5000 {
                    begun.send(()).expect("somebody listens");
                }
                (n.to_be_bytes(), [7; 50])
            }))
        });
        told.recv().expect("it runs");
        db.close().expect("closes");
        assert_eq!(thread.join().expect("no panic").expect_err("closed").kind(), ErrorKind::Closed);
    });
    assert_eq!(files(&vfs).len(), 0);
    let db = simulated(&vfs, config()).expect("opens");
    assert_eq!(all(&db).len(), 0);
}

#[test]
fn a_read_only_handle_refuses_it() {
    let vfs = SimulatedVfs::new(1);
    simulated(&vfs, config()).expect("opens").close().expect("closes");
    let shared = Arc::new(vfs.clone()) as Arc<dyn Vfs>;
    let db = Database::open_with_vfs(shared, "/db", config(), OpenAs::ReadOnly).expect("opens");
    assert_eq!(db.ingest(entries(0, 9, 1, "")).expect_err("refused").kind(), ErrorKind::ReadOnly);
}
