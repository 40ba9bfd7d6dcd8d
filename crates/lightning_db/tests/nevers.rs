//! What Lightning DB never does, each as a test of its own. Where a whole layer of tests proves one
//! (crash images, corruption, isolation, failing operations), this is its shortest form.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests look at the files from outside"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lightning_db::vfs::simulated::{FaultError, FaultRule, Operation, Times};
use lightning_db::vfs::{SimulatedVfs, Vfs};
use lightning_db::{
    ChangesFrom, CompressionType, Database, DatabaseStats, Durability, ErrorKind, IsolationLevel,
    KeySource, KeyspaceOptions, LightningDbConfig, OpenAs, Profile, TransactionMode,
    TransactionOptions, VerifyOptions, WalSyncMode, WriteBatch, WriteOptions,
};

fn small() -> LightningDbConfig {
    LightningDbConfig {
        write_buffer_size: 64 * 1024,
        wal_segment_size: 64 * 1024,
        max_wal_size: 256 * 1024,
        cache_size: 256 * 1024,
        background_threads: 0,
        ..LightningDbConfig::default()
    }
}

fn simulated(disk: &SimulatedVfs, config: LightningDbConfig) -> lightning_db::Result<Database> {
    let vfs = Arc::new(disk.clone()) as Arc<dyn Vfs>;
    Database::open_with_vfs(vfs, "/db", config, OpenAs::OpenOrCreate)
}

fn kind<T: std::fmt::Debug>(result: lightning_db::Result<T>) -> ErrorKind {
    result.expect_err("refused").kind()
}

fn clean(db: &Database) {
    let report = db.verify(VerifyOptions::default()).expect("verifies");
    assert!(report.is_clean(), "{:?}", report.problems);
}

/// Bytes of every file under `dir`.
fn files(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("lists") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let bytes = std::fs::read(&path).expect("reads");
            found.push((path, bytes));
        }
    }
    found
}

#[test]
fn never_a_reserved_value() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("db");
    let db = Database::create(&path, small()).expect("creates");
    let mut values: Vec<Vec<u8>> =
        vec![vec![], vec![0xff; 4], vec![0; 4], vec![0], vec![0xff; 5000]];
    values.extend((0..=255).map(|b| vec![b; 3]));
    db.put(b"first", b"x").expect("writes");
    db.flush().expect("flushes");
    // What the engine itself writes, given back to it: logs, pages, manifests, each whole.
    values.extend(files(&path).into_iter().map(|(_, bytes)| bytes));
    let check = |db: &Database| {
        for (i, value) in values.iter().enumerate() {
            let found = db.get(format!("v{i:04}")).expect("reads");
            assert!(found.as_ref() == Some(value), "value {i} of {} bytes", value.len());
            let key = &value[..value.len().min(1000)];
            if !key.is_empty() {
                assert!(db.contains_key(key).expect("reads"), "value {i} as a key");
            }
        }
        clean(db);
    };
    for (i, value) in values.iter().enumerate() {
        db.put(format!("v{i:04}"), value).expect("writes");
        let key = &value[..value.len().min(1000)];
        if !key.is_empty() {
            db.put(key, b"as a key").expect("writes");
        }
    }
    check(&db);
    db.compact().expect("compacts");
    check(&db);
    db.close().expect("closes");
    check(&Database::open(&path, small()).expect("opens"));
}

#[test]
fn never_a_stale_read_after_flushes_and_merges() {
    for profile in [Profile::ReadOptimized, Profile::Balanced, Profile::WriteOptimized] {
        let config = LightningDbConfig { profile, ..small() };
        let db = Database::open_in_memory(config).expect("opens");
        for round in 0..40_u32 {
            for key in 0..50_u32 {
                if (round + key) % 7 == 0 {
                    db.delete(key.to_be_bytes()).expect("deletes");
                } else {
                    db.put(key.to_be_bytes(), round.to_be_bytes()).expect("writes");
                }
            }
            match round % 4 {
                0 => db.flush().expect("flushes"),
                1 => db.compact().expect("compacts"),
                2 => db.compact_range(Some(&[0, 0, 0, 9]), Some(&[0, 0, 0, 30])).expect("compacts"),
                _ => {}
            }
            for key in 0..50_u32 {
                let expected = ((round + key) % 7 != 0).then(|| round.to_be_bytes().to_vec());
                assert_eq!(db.get(key.to_be_bytes()).expect("reads"), expected, "{profile:?}");
            }
        }
    }
}

#[test]
fn never_a_commit_that_later_reads_contradict_nor_a_transaction_that_sees_later_writes() {
    let db = Database::open_in_memory(small()).expect("opens");
    db.put(b"k", b"0").expect("writes");
    let tx = db.transaction().expect("begins");
    let snapshot = db.snapshot().expect("is taken");
    let mut open_scan = db.range(None, None).expect("scans");
    for n in 1..2000_u32 {
        db.put(b"k", n.to_be_bytes()).expect("writes");
        assert_eq!(db.get(b"k").expect("reads"), Some(n.to_be_bytes().to_vec()));
        if n % 500 == 0 {
            db.compact().expect("compacts");
        }
    }
    assert_eq!(tx.get(b"k").expect("reads"), Some(b"0".to_vec()));
    assert_eq!(snapshot.get(b"k").expect("reads"), Some(b"0".to_vec()));
    assert_eq!(open_scan.next().expect("one").expect("reads").1, b"0");
}

#[test]
fn never_an_acknowledgement_before_its_durability_nor_an_ignored_failed_sync() {
    for seed in 0..50 {
        let disk = SimulatedVfs::new(seed);
        let db = simulated(&disk, small()).expect("opens");
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut synced, mut last) = (0_u32, 0_u32);
        for n in 1..rng.u32(2..60) {
            let durability = if rng.bool() { Durability::Sync } else { Durability::Async };
            let mut batch = WriteBatch::new();
            batch.put(b"n", n.to_be_bytes());
            db.write(batch, WriteOptions { durability: Some(durability) }).expect("writes");
            last = n;
            if durability == Durability::Sync {
                synced = n;
            }
        }
        let number = |db: &Database| {
            let value = db.get(b"n").expect("reads");
            value.map_or(0, |v| u32::from_be_bytes(v.try_into().expect("four bytes")))
        };
        let killed = simulated(&disk.kill(), small()).expect("opens");
        assert_eq!(number(&killed), last, "a kill lost what was acknowledged");
        let cut = simulated(&disk.power_cut(seed), small()).expect("opens");
        assert!(number(&cut) >= synced, "a power cut lost what was synced");
        // The same disk, whose next sync fails.
        disk.fail(FaultRule {
            operations: vec![Operation::Sync],
            path_contains: Some("wal".to_owned()),
            at: 0,
            times: Times::Once,
            error: FaultError::Eio,
        });
        let mut batch = WriteBatch::new();
        batch.put(b"n", 99_u32.to_be_bytes());
        let options = WriteOptions { durability: Some(Durability::Sync) };
        assert_eq!(kind(db.write(batch, options)), ErrorKind::CommitUnknown);
        assert_eq!(kind(db.put(b"other", b"x")), ErrorKind::Poisoned);
        assert_eq!(number(&db), last, "reads go on, and do not see what is unknown");
        assert!(!db.health_check().healthy);
    }
}

#[test]
fn never_two_openers_and_never_create_over_an_existing_database() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("db");
    let db = Database::create(&path, small()).expect("creates");
    db.put(b"k", b"v").expect("writes");
    let indirect = dir.path().join("db/../db");
    for same in [&path, &indirect] {
        assert_eq!(kind(Database::open(same, small())), ErrorKind::Locked);
        assert_eq!(kind(Database::open_read_only(same, small())), ErrorKind::Locked);
        assert_eq!(kind(Database::open_or_create(same, small())), ErrorKind::Locked);
        assert_eq!(kind(Database::destroy(same)), ErrorKind::Locked);
        assert_eq!(kind(Database::create(same, small())), ErrorKind::AlreadyExists);
    }
    db.close().expect("closes");
    assert_eq!(kind(Database::create(&path, small())), ErrorKind::AlreadyExists);
    let first = Database::open_read_only(&path, small()).expect("opens");
    let second = Database::open_read_only(&path, small()).expect("readers share");
    assert_eq!(kind(Database::open(&path, small())), ErrorKind::Locked);
    assert_eq!(second.get(b"k").expect("reads"), Some(b"v".to_vec()));
    assert_eq!(kind(first.put(b"k", b"x")), ErrorKind::ReadOnly);
    drop((first, second));
    // A directory with somebody else's files is not taken over.
    let foreign = dir.path().join("foreign");
    std::fs::create_dir(&foreign).expect("makes a directory");
    std::fs::write(foreign.join("letter.txt"), b"dear").expect("writes");
    assert!(Database::create(&foreign, small()).is_err());
    assert_eq!(files(&foreign).len(), 1, "and nothing was left in it");
}

/// A workload whose outside traces options change.
fn traces(config: &LightningDbConfig) -> BTreeMap<&'static str, u64> {
    let disk = SimulatedVfs::new(1);
    let db = simulated(&disk, config.clone()).expect("opens");
    let mut rng = fastrand::Rng::with_seed(1);
    let mut highest_log = 0;
    for n in 0..6000_u32 {
        let mut value = [b'-'; 120];
        rng.fill(&mut value[..40]);
        db.put(rng.u32(0..3000).to_be_bytes(), value).expect("writes");
        highest_log = highest_log.max(db.stats().log_bytes);
        if n % 1000 == 0 {
            for key in 0..3000_u32 {
                db.get(key.to_be_bytes()).expect("reads");
            }
        }
    }
    let stats = db.stats();
    let k = &stats.keyspaces[0];
    let log_file = disk.files().iter().filter(|f| f.to_string_lossy().contains(".wal")).count();
    BTreeMap::from([
        ("depth", u64::from(k.depth)),
        ("flushes", stats.flushes),
        ("runs", k.runs as u64),
        ("file bytes", k.file_bytes),
        ("merged", stats.merged_bytes),
        ("misses", stats.cache_misses),
        ("capacity", stats.cache_capacity_bytes),
        ("syncs", stats.log_syncs),
        ("records", stats.log_records),
        ("log", highest_log),
        ("log files", log_file as u64),
    ])
}

#[test]
fn never_an_option_that_does_nothing() {
    type Change = fn(&mut LightningDbConfig);
    let mut shown: BTreeSet<&str> = BTreeSet::new();
    // Options that change what the same workload leaves behind.
    let changes: [(&str, Change); 10] = [
        ("page_size", |c| c.page_size = 16 * 1024),
        ("cache_size", |c| c.cache_size = 64 * 1024),
        ("write_buffer_size", |c| c.write_buffer_size = 128 * 1024),
        ("compression_enabled", |c| c.compression_enabled = false),
        ("compression_type", |c| c.compression_type = CompressionType::None),
        ("profile", |c| c.profile = Profile::WriteOptimized),
        ("background_compaction", |c| c.background_compaction = false),
        ("wal_enabled", |c| c.wal_enabled = false),
        ("wal_sync_mode", |c| c.wal_sync_mode = WalSyncMode::Async),
        ("wal_segment_size", |c| c.wal_segment_size = 128 * 1024),
    ];
    let before = traces(&small());
    for (name, change) in changes {
        let mut config = small();
        change(&mut config);
        assert_ne!(traces(&config), before, "{name}");
        shown.insert(name);
    }
    let leveled = |level| LightningDbConfig {
        compression_type: CompressionType::Zstd,
        compression_level: level,
        ..small()
    };
    assert_ne!(traces(&leveled(Some(19))), traces(&leveled(Some(-7))), "compression_level");
    shown.insert("compression_level");
    // Bounds, each met exactly.
    let open = |change: Change| {
        let mut config = small();
        change(&mut config);
        simulated(&SimulatedVfs::new(1), config).expect("opens")
    };
    let mut bounded = |name: &'static str, met: bool| {
        assert!(met, "{name}");
        shown.insert(name);
    };
    let db = open(|c| c.extractors.insert("all", |_, value| vec![value.into()]));
    let over =
        |function| kind(db.create_index("index", lightning_db::IndexSpec::extractor(function)));
    bounded("extractors", over("none") == ErrorKind::MissingExtractor);
    let by_value = lightning_db::IndexSpec::extractor("all");
    bounded("extractors", db.create_index("index", by_value).is_ok());
    let db = open(|c| c.max_key_size = 10);
    let put = |db: &Database, key: usize, value: usize| db.put(vec![1; key], vec![1; value]);
    bounded(
        "max_key_size",
        put(&db, 10, 1).is_ok() && kind(put(&db, 11, 1)) == ErrorKind::KeyTooLarge,
    );
    let db = open(|c| c.max_value_size = 10);
    bounded(
        "max_value_size",
        put(&db, 1, 10).is_ok() && kind(put(&db, 1, 11)) == ErrorKind::ValueTooLarge,
    );
    let db = open(|c| c.max_transaction_size = 1000);
    bounded(
        "max_transaction_size",
        put(&db, 1, 900).is_ok() && kind(put(&db, 1, 1000)) == ErrorKind::TransactionTooLarge,
    );
    let db = open(|c| c.max_database_size = Some(100_000));
    let mut rng = fastrand::Rng::with_seed(2);
    let filled = (0..2000_u32).find_map(|n| {
        let value: Vec<u8> = (0..200).map(|_| rng.u8(..)).collect();
        db.put(n.to_be_bytes(), value).err()
    });
    bounded("max_database_size", filled.is_some_and(|e| e.kind() == ErrorKind::StorageFull));
    let db = open(|c| c.merge_operator = Some("max".to_owned()));
    bounded("merge_operator", db.merge(b"k", b"v").is_ok());
    let twice = |c: &mut LightningDbConfig| {
        let shared = c.merge_operators.get("max").cloned().expect("is built in");
        c.merge_operators = c.merge_operators.clone().with_shared("max", shared);
    };
    let mut config = small();
    twice(&mut config);
    bounded("merge_operators", config.validate().is_err());
    let past = |change: Change| {
        let db = open(change);
        db.put(b"k", b"1").expect("writes");
        db.put(b"k", b"2").expect("writes");
        db.snapshot_at(1).is_ok()
    };
    let hour: Change = |c| c.history_retention = Some(Duration::from_secs(3600));
    bounded("history_retention", past(hour) && !past(|_| ()));
    let behind = |change: Change| {
        let db = open(change);
        db.commit_cursor("behind", 0).expect("made");
        for n in 0..3000_u32 {
            db.put(n.to_be_bytes(), [1; 200]).expect("writes");
        }
        db.flush().expect("flushes");
        db.changes(ChangesFrom::Cursor("behind".to_owned())).is_ok()
    };
    bounded(
        "changes_retention_bytes",
        behind(|_| ()) && !behind(|c| c.changes_retention_bytes = 0),
    );
    let db = open(|c| c.max_active_transactions = 2);
    let held = (db.transaction().expect("one"), db.transaction().expect("two"));
    bounded("max_active_transactions", kind(db.transaction()) == ErrorKind::TooManyTransactions);
    drop(held);
    // Where time passes by itself.
    let real = |change: Change| {
        let mut config = small();
        change(&mut config);
        Database::open_in_memory(config).expect("opens")
    };
    let db = real(|c| c.transaction_timeout = Duration::from_millis(1));
    let tx = db.transaction().expect("begins");
    std::thread::sleep(Duration::from_millis(2));
    bounded("transaction_timeout", kind(tx.get(b"k")) == ErrorKind::TimedOut);
    let db = open(|c| c.lock_timeout = Duration::from_millis(1));
    let options = TransactionOptions { mode: TransactionMode::Pessimistic, ..Default::default() };
    let mut tx = db.transaction_with(options).expect("begins");
    tx.put(b"k", b"v").expect("locks");
    bounded("lock_timeout", kind(db.put(b"k", b"x")) == ErrorKind::TimedOut);
    let log = |bytes| {
        let config =
            LightningDbConfig { max_wal_size: bytes, write_buffer_size: 1024 * 1024, ..small() };
        traces(&config)["log"]
    };
    bounded("max_wal_size", log(128 * 1024) <= 192 * 1024 && log(1024 * 1024) > 256 * 1024);
    // Threads flush without being asked; where there are none the call that fills a memtable does.
    let db = open(|c| c.background_threads = 1);
    for n in 0..2000_u32 {
        db.put(n.to_be_bytes(), [1; 100]).expect("writes");
    }
    while db.stats().flushes == 0 {
        std::thread::yield_now();
    }
    shown.insert("background_threads");
    // The interval's work takes back the view of a transaction that nobody asks for any more.
    let db = real(|c| {
        c.background_threads = 1;
        c.compaction_interval = Duration::from_millis(5);
        c.transaction_timeout = Duration::from_millis(1);
    });
    let forgotten = db.transaction().expect("begins");
    while db.stats().views > 0 {
        std::thread::yield_now();
    }
    assert_eq!(kind(forgotten.commit()), ErrorKind::TimedOut);
    shown.insert("compaction_interval");
    // What is on the disk under a key shows no value; `encryption` has more of it.
    let shows = |key: Option<[u8; 32]>| {
        let disk = SimulatedVfs::new(3);
        let config = LightningDbConfig { encryption: key.map(KeySource::key), ..small() };
        let db = simulated(&disk, config).expect("opens");
        db.put("name", "a value in plain sight").expect("writes");
        db.close().expect("closed");
        let read = |path: &PathBuf| disk.read_file(path).expect("a file");
        disk.files().iter().any(|f| read(f).windows(14).any(|w| w == b"in plain sight"))
    };
    assert!(shows(None) && !shows(Some([7; 32])));
    shown.insert("encryption");
    // Read-ahead is a hint to the system, without a trace; `tree` has tests of it.
    shown.extend(["prefetch_enabled", "prefetch_distance"]);
    let text = format!("{:#?}", LightningDbConfig::default());
    let fields: BTreeSet<&str> = text
        .lines()
        .filter_map(|l| l.strip_prefix("    ").filter(|l| !l.starts_with(' '))?.split_once(": "))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(shown, fields, "every option is shown to do something");
}

/// The counters of `stats` that are not 0.
fn moving(stats: &DatabaseStats) -> BTreeSet<String> {
    let text = format!("{stats:#?}");
    let zero = ["0", "0ns"];
    text.lines()
        .filter_map(|l| l.trim().trim_end_matches(',').split_once(": "))
        .filter(|(_, value)| !zero.contains(value))
        .map(|(name, _)| name.to_owned())
        .collect()
}

#[test]
fn never_a_counter_that_is_always_zero() {
    let disk = SimulatedVfs::new(3);
    let config = LightningDbConfig { background_threads: 2, ..small() };
    let db = simulated(&disk, config).expect("opens");
    let mut seen = BTreeSet::new();
    let mut rng = fastrand::Rng::with_seed(3);
    let pessimistic = TransactionOptions {
        mode: TransactionMode::Pessimistic,
        isolation: IsolationLevel::Serializable,
        lock_timeout: Some(Duration::from_millis(2)),
        ..Default::default()
    };
    for n in 0..4000_u32 {
        db.put(n.to_be_bytes(), vec![rng.u8(..); 100]).expect("writes");
        if n == 2000 {
            db.commit_cursor("behind", db.last_commit()).expect("made");
        }
        if n % 200 == 0 {
            db.put(n.to_be_bytes(), vec![7; 40_000]).expect("writes a large value");
            let range = [n + 5000, n + 5001].map(u32::to_be_bytes);
            db.delete_range(Some(&range[0]), Some(&range[1])).expect("deletes a range");
            seen.extend(moving(&db.stats()));
        }
        db.get(rng.u32(0..4000).to_be_bytes()).expect("reads");
    }
    db.flush().expect("flushes");
    for n in (0..4000_u32).step_by(3) {
        db.put(n.to_be_bytes(), [1; 90]).expect("writes");
    }
    for n in 0..300_u32 {
        db.put((1000 + n).to_be_bytes(), [2; 90]).expect("writes");
        if n % 100 == 0 {
            db.flush().expect("flushes");
            db.compact_range(Some(&1000_u32.to_be_bytes()), Some(&1300_u32.to_be_bytes()))
                .expect("compacts");
        }
        seen.extend(moving(&db.stats()));
    }
    let snapshot = db.snapshot().expect("is taken");
    disk.advance_clock(Duration::from_secs(1));
    seen.extend(moving(&db.stats()));
    drop(snapshot);
    // Conflicts, locks, waits, time-outs, a deadlock.
    let mut loser = db.transaction().expect("begins");
    loser.put(b"k", b"1").expect("writes");
    db.put(b"k", b"2").expect("writes");
    assert_eq!(kind(loser.commit()), ErrorKind::Conflict);
    db.transaction().expect("begins").commit().expect("commits");
    let (mut a, b) = (
        db.transaction_with(pessimistic.clone()).expect("begins"),
        db.transaction_with(pessimistic.clone()).expect("begins"),
    );
    a.put(b"a", b"1").expect("locks");
    assert_eq!(kind(b.get(b"a")), ErrorKind::TimedOut);
    let waiting = {
        let db = db.clone();
        std::thread::spawn(move || db.put(b"a", b"waits"))
    };
    while db.stats().lock_waiters == 0 {
        std::thread::yield_now();
    }
    seen.extend(moving(&db.stats()));
    a.commit().expect("commits");
    waiting.join().expect("no panic").expect("writes");
    drop(b);
    let (x, y) = (
        db.transaction_with(pessimistic.clone()).expect("begins"),
        db.transaction_with(TransactionOptions {
            lock_timeout: Some(Duration::from_secs(60)),
            ..pessimistic
        })
        .expect("begins"),
    );
    x.get(b"a").expect("shares");
    y.get(b"a").expect("shares");
    let upgrade = std::thread::spawn(move || {
        let mut y = y;
        y.put(b"a", b"y").and_then(|()| y.commit())
    });
    while db.stats().lock_waiters == 0 {
        std::thread::yield_now();
    }
    let mut x = x;
    assert_eq!(kind(x.put(b"a", b"x")), ErrorKind::Deadlock);
    drop(x);
    upgrade.join().expect("no panic").expect("commits");
    db.compact().expect("compacts");
    seen.extend(moving(&db.stats()));
    // Noise does not shrink, and is soon not tried any more.
    for n in 0..300_u32 {
        let noise: Vec<u8> = (0..900).map(|_| rng.u8(..)).collect();
        db.put((100_000 + n).to_be_bytes(), noise).expect("writes");
    }
    db.flush().expect("flushes");
    seen.extend(moving(&db.stats()));
    // Ascending keys are moved to the base as they are.
    for n in 0..3000_u32 {
        db.put((1_000_000 + n).to_be_bytes(), [3; 100]).expect("writes");
        seen.extend(moving(&db.stats()));
    }
    db.flush().expect("flushes");
    seen.extend(moving(&db.stats()));
    // The first read takes the row in, the next find it.
    for _ in 0..3 {
        db.get(1_000_000_u32.to_be_bytes()).expect("reads");
    }
    seen.extend(moving(&db.stats()));
    // A life that has ended, held by somebody who began before that.
    db.put_with_ttl(b"brief", [1; 90], Duration::from_secs(5)).expect("writes");
    let early = db.snapshot().expect("is taken");
    db.flush().expect("flushes");
    disk.advance_clock(Duration::from_secs(10));
    seen.extend(moving(&db.stats()));
    drop(early);
    let text = format!("{:#?}", db.stats());
    let mut all: BTreeSet<String> = text
        .lines()
        .filter_map(|l| l.trim().split_once(": "))
        .map(|(name, _)| name.to_owned())
        .collect();
    // Time only passes on this disk's clock when it is told to; adoption of whole partitions and
    // stalls have tests of their own (`upkeep`, `maintenance::pacing`).
    for timed in ["log_sync_time", "merge_time", "stall_time", "lock_wait_time"] {
        all.remove(timed);
    }
    all.remove("adopted_leaves");
    // And so has what merge operators do (`merge_failures`).
    all.remove("folded_operands");
    all.remove("failed_folds");
    // And memory kept for memtables, which these are too small for (`idle_log`).
    all.remove("spare_memtable_bytes");
    let still: Vec<_> = all.difference(&seen).collect();
    assert!(still.is_empty(), "always zero: {still:?}");
    let stats = db.stats();
    assert_eq!(stats.commits, stats.last_commit, "one number a commit");
    assert_eq!((stats.conflicts, stats.deadlocks, stats.lock_timeouts), (1, 1, 1));
    assert_eq!((stats.transactions_committed, stats.transactions_aborted), (3, 3));
    assert_eq!((stats.transactions_active, stats.views), (0, 0));
    assert_eq!(stats.log_records, stats.commits);
}

#[test]
fn never_verified_without_verifying() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("db");
    let db = Database::create(&path, small()).expect("creates");
    for n in 0..2000_u32 {
        db.put(n.to_be_bytes(), [n as u8; 100]).expect("writes");
    }
    db.put(b"large", vec![7; 50_000]).expect("writes");
    db.compact().expect("compacts");
    clean(&db);
    let segments: Vec<_> = files(&path)
        .into_iter()
        .filter(|(p, _)| p.extension().is_some_and(|e| e == "seg"))
        .collect();
    assert!(segments.len() >= 2);
    for (file, bytes) in segments {
        let mut damaged = bytes.clone();
        damaged[bytes.len() / 2] ^= 0x10;
        std::fs::write(&file, damaged).expect("writes");
        let report = db.verify(VerifyOptions::default()).expect("verifies");
        assert!(report.problems.iter().any(|p| p.file == file), "{}", file.display());
        std::fs::write(&file, bytes).expect("writes");
        clean(&db);
    }
}

#[test]
fn never_a_log_that_only_grows() {
    let config = LightningDbConfig { write_buffer_size: 1024 * 1024, ..small() };
    let db = simulated(&SimulatedVfs::new(4), config).expect("opens");
    let idle = db.keyspace("idle", KeyspaceOptions::default()).expect("is made");
    idle.put(b"the oldest part", b"x").expect("writes");
    let _snapshot = db.snapshot().expect("is taken");
    let _open = db.range(None, None).expect("scans");
    for n in 0..20_000_u32 {
        db.put((n % 500).to_be_bytes(), [n as u8; 100]).expect("writes");
        let log = db.stats().log_bytes;
        assert!(log <= 256 * 1024 + 2 * 64 * 1024, "{log} bytes of log");
    }
    assert_eq!(idle.get(b"the oldest part").expect("reads"), Some(b"x".to_vec()));
}

#[test]
fn never_a_compaction_that_reports_success_when_it_failed() {
    for at in 0..30 {
        let disk = SimulatedVfs::new(5);
        let config = LightningDbConfig { background_compaction: false, ..small() };
        let db = simulated(&disk, config).expect("opens");
        for n in 0..3000_u32 {
            db.put((n * 7919 % 1000).to_be_bytes(), [n as u8; 100]).expect("writes");
        }
        disk.fail(FaultRule {
            operations: vec![Operation::Write],
            path_contains: Some("seg".to_owned()),
            at,
            times: Times::Forever,
            error: FaultError::Enospc,
        });
        let result = db.compact();
        disk.clear_faults();
        let stats = db.stats();
        if result.is_ok() {
            let k = &stats.keyspaces[0];
            assert_eq!((k.runs, k.stacked_bytes, k.sealed_memtables), (0, 0, 0), "at {at}");
        } else {
            db.compact().expect("compacts once there is space");
        }
        assert_eq!(db.count(None, None).expect("counts"), 1000);
        clean(&db);
    }
}

#[test]
fn never_an_unreadable_file_skipped() {
    let disk = SimulatedVfs::new(6);
    let db = simulated(&disk, small()).expect("opens");
    for n in 0..3000_u32 {
        db.put(n.to_be_bytes(), [n as u8; 100]).expect("writes");
    }
    db.compact().expect("compacts");
    let fail_reads = |disk: &SimulatedVfs, path: &str| {
        disk.fail(FaultRule {
            operations: vec![Operation::Read, Operation::Open],
            path_contains: Some(path.to_owned()),
            at: 0,
            times: Times::Forever,
            error: FaultError::Eio,
        });
    };
    db.evict_cache(1.0).expect("evicts");
    fail_reads(&disk, "seg");
    let read: Result<Vec<_>, _> = db.range(None, None).expect("opens").collect();
    assert!(read.is_err(), "a scan over what cannot be read is an error");
    assert!((0..3000_u32).any(|n| db.get(n.to_be_bytes()).is_err()));
    assert!((0..3000_u32).all(|n| !matches!(db.get(n.to_be_bytes()), Ok(None))));
    drop(db);
    for part in ["seg", "manifest", "wal", "CURRENT"] {
        let again = disk.kill();
        fail_reads(&again, part);
        match simulated(&again, small()) {
            Err(e) => assert!(e.file().is_some(), "{part}: {e}"),
            // A clean close leaves no log to be read.
            Ok(db) => assert!(part == "wal" && db.count(None, None).expect("counts") == 3000),
        }
    }
}

#[test]
fn never_a_panic_from_bad_input() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = Database::create(dir.path().join("db"), small()).expect("creates");
    db.put(b"k", b"v").expect("writes");
    assert_eq!(kind(db.put(b"", b"v")), ErrorKind::EmptyKey);
    assert_eq!(kind(db.put(vec![1; 70_000], b"v")), ErrorKind::KeyTooLarge);
    assert_eq!(db.get(b"").expect("there is none"), None);
    assert_eq!(db.get(vec![1; 100_000]).expect("there is none"), None);
    for (start, end) in
        [(Some(&b"z"[..]), Some(&b"a"[..])), (Some(b"k"), Some(b"k")), (Some(b""), None)]
    {
        let forward = db.range(start, end).expect("scans").count();
        let backward = db.scan_reverse(start, end).expect("scans").count();
        assert_eq!(forward, backward);
        assert_eq!(db.count(start, end).expect("counts"), forward as u64);
        db.compact_range(start, end).expect("compacts");
    }
    assert_eq!(db.scan_prefix(b"").expect("scans").count(), 1);
    assert_eq!(db.scan_prefix([0xff; 9]).expect("scans").count(), 0);
    for fraction in [f64::NAN, -0.1, 1.1, f64::INFINITY] {
        assert_eq!(kind(db.evict_cache(fraction)), ErrorKind::InvalidArgument);
    }
    let mut cursor = db.cursor().expect("opens");
    assert!(!cursor.next().expect("stands nowhere") && cursor.key().is_none());
    assert!(!cursor.seek(b"zz").expect("seeks") && !cursor.prev().expect("stands nowhere"));
    for name in ["", "default"] {
        assert!(db.drop_keyspace(name).is_err());
    }
    assert_eq!(kind(db.drop_keyspace("never made")), ErrorKind::NotFound);
    let id = db.begin_transaction().expect("begins");
    db.abort_transaction(id).expect("aborts");
    assert_eq!(kind(db.put_tx(id, b"k", b"v")), ErrorKind::UnknownTransaction);
    assert_eq!(kind(db.commit_transaction(id)), ErrorKind::UnknownTransaction);
    assert_eq!(kind(Database::open(dir.path().join("none"), small())), ErrorKind::NotFound);
    assert!(Database::open("\0", small()).is_err());
    let file = dir.path().join("a file");
    std::fs::write(&file, b"x").expect("writes");
    assert!(Database::create(&file, small()).is_err());
    assert!(Database::open_or_create(&file, small()).is_err());
    type Change = fn(&mut LightningDbConfig);
    let impossible: [Change; 8] = [
        |c| c.page_size = 0,
        |c| c.page_size = 5000,
        |c| c.cache_size = 0,
        |c| c.write_buffer_size = 1,
        |c| c.wal_segment_size = u64::MAX,
        |c| c.max_key_size = 0,
        |c| c.transaction_timeout = Duration::MAX,
        |c| c.background_threads = usize::MAX,
    ];
    for change in impossible {
        let mut config = small();
        change(&mut config);
        assert_eq!(kind(Database::open_in_memory(config)), ErrorKind::InvalidConfig);
    }
    // Handles that outlive the database.
    let (snapshot, other) = (db.snapshot().expect("is taken"), db.clone());
    let mut tx = db.transaction().expect("begins");
    let mut range = db.range(None, None).expect("scans");
    db.close().expect("closes");
    assert_eq!(kind(other.get(b"k")), ErrorKind::Closed);
    assert_eq!(kind(other.put(b"k", b"v")), ErrorKind::Closed);
    assert_eq!(kind(snapshot.get(b"k")), ErrorKind::Closed);
    assert_eq!(kind(tx.put(b"k", b"v")), ErrorKind::Closed);
    assert_eq!(kind(tx.commit()), ErrorKind::Closed);
    let _ = range.next();
    assert_eq!(kind(other.verify(VerifyOptions::default())), ErrorKind::Closed);
    other.close().expect("closing twice is fine");
}
