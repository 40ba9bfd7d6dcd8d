//! Merge operators that are missing, fail or panic: only who needs them hears of it, nothing is lost, and
//! everything else goes on. And what is refused when it is written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lightning_db::vfs::{SimulatedVfs, Vfs};
use lightning_db::{
    Database, ErrorKind, Keyspace, KeyspaceOptions, LightningDbConfig, MergeFailure, MergeOperator,
    MergeOperators, OpenAs, TransactionOptions, VerifyOptions, WriteBatch, WriteOptions,
};

/// Joins operands by commas; fails, or panics, on keys that begin with `bad` while it is told to.
#[derive(Default)]
struct Moody {
    fails: AtomicBool,
    panics: AtomicBool,
}

impl MergeOperator for Moody {
    fn full_merge(
        &self,
        key: &[u8],
        base: Option<&[u8]>,
        operands: &[&[u8]],
    ) -> Result<Vec<u8>, MergeFailure> {
        if key.starts_with(b"bad") {
            assert!(!self.panics.load(Ordering::SeqCst), "told to panic");
            if self.fails.load(Ordering::SeqCst) {
                return Err("told to fail".into());
            }
        }
        let parts: Vec<&[u8]> = base.into_iter().chain(operands.iter().copied()).collect();
        Ok(parts.join(&b','))
    }
}

fn config(operators: MergeOperators) -> LightningDbConfig {
    LightningDbConfig {
        write_buffer_size: 64 * 1024,
        background_threads: 0,
        merge_operators: operators,
        ..LightningDbConfig::default()
    }
}

fn open(disk: &SimulatedVfs, config: LightningDbConfig) -> Database {
    let vfs = Arc::new(disk.clone()) as Arc<dyn Vfs>;
    Database::open_with_vfs(vfs, "/db", config, OpenAs::OpenOrCreate).expect("opens")
}

fn named(operator: &str) -> KeyspaceOptions {
    KeyspaceOptions { merge_operator: Some(operator.to_owned()), ..KeyspaceOptions::default() }
}

fn kind<T: std::fmt::Debug>(result: lightning_db::Result<T>) -> ErrorKind {
    result.expect_err("is refused").kind()
}

#[test]
fn an_operator_that_is_not_registered_is_missed_only_where_it_is_needed() {
    let disk = SimulatedVfs::new(1);
    let with = || MergeOperators::new().with("moody", Moody::default());
    {
        let db = open(&disk, config(with()));
        let keyspace = db.keyspace("notes", named("moody")).expect("a keyspace");
        for n in 0..40 {
            keyspace.put(format!("plain{n}"), b"value").expect("writes");
            keyspace.merge("merged", format!("{n}")).expect("merges");
        }
        // A part in a run, a part in the log only; what is merged lies over what a row may hold.
        db.flush().expect("flushes");
        keyspace.put("early", b"before").expect("writes");
        keyspace.merge("merged", b"last").expect("merges");
        db.sync().expect("syncs");
    }
    let kept = disk.kill();
    {
        let db = open(&kept, config(MergeOperators::new()));
        let keyspace = db.keyspace("notes", KeyspaceOptions::default()).expect("is there");
        assert_eq!(keyspace.merge_operator(), Some("moody"));
        let e = keyspace.get("merged").expect_err("needs the operator");
        assert_eq!(e.kind(), ErrorKind::NoMergeOperator);
        assert!(e.message().contains("\"moody\"") && e.message().contains("\"notes\""), "{e}");
        assert_eq!(kind(keyspace.merge("merged", b"x")), ErrorKind::NoMergeOperator);
        let mut tx = db.transaction().expect("begins");
        assert_eq!(kind(tx.merge_in(&keyspace, "k", b"x")), ErrorKind::NoMergeOperator);
        // All that does not need it goes on.
        assert_eq!(keyspace.get("plain7").expect("reads"), Some(b"value".to_vec()));
        assert_eq!(keyspace.scan_prefix(b"plain").expect("scans").flatten().count(), 40);
        assert_eq!(keyspace.count(None, None).expect("counts"), 42);
        for round in 0..3 {
            for n in 0..40 {
                keyspace.put(format!("plain{n}"), format!("{round}")).expect("writes");
            }
            db.flush().expect("flushes");
            db.compact().expect("compacts");
        }
        assert_eq!(db.stats().failed_folds, 0, "nobody was asked");
        let scanned = keyspace.range(None, None).expect("scans").find_map(Result::err);
        assert_eq!(scanned.expect("meets operands").kind(), ErrorKind::NoMergeOperator);
        assert!(db.verify(VerifyOptions::default()).expect("verifies").is_clean());
        db.close().expect("closes");
    }
    let db = open(&kept, config(with()));
    let keyspace = db.keyspace("notes", named("moody")).expect("is there");
    let expected = (0..40).map(|n| n.to_string()).chain(["last".to_owned()]).collect::<Vec<_>>();
    let found = || keyspace.get("merged").expect("reads");
    assert_eq!(found(), Some(expected.join(",").into_bytes()));
    db.compact().expect("compacts");
    assert_eq!(found(), Some(expected.join(",").into_bytes()));
}

/// Every way to read a key, and whether each is refused as it should be.
fn reads(db: &Database, keyspace: &Keyspace, key: &[u8]) -> Vec<lightning_db::Result<Vec<u8>>> {
    let end = [key, b"\0"].concat();
    let entry = |found: Option<lightning_db::Result<(Vec<u8>, Vec<u8>)>>| {
        found.expect("is there").map(|(_, value)| value)
    };
    let tx = db.transaction().expect("begins");
    let snapshot = db.snapshot().expect("a snapshot");
    vec![
        keyspace.get(key).map(Option::unwrap_or_default),
        keyspace.get_batch(&[key]).map(|mut found| found.remove(0).unwrap_or_default()),
        entry(keyspace.range(Some(key), Some(&end)).expect("scans").next()),
        entry(keyspace.range(Some(key), Some(&end)).expect("scans").next_back()),
        snapshot.get_in(keyspace, key).map(Option::unwrap_or_default),
        tx.get_in(keyspace, key).map(Option::unwrap_or_default),
        entry(tx.range_in(keyspace, Some(key), Some(&end)).expect("scans").next()),
        keyspace.fetch_update(key, |old| old.map(<[u8]>::to_vec)).map(Option::unwrap_or_default),
    ]
}

#[test]
fn an_operator_that_fails_or_panics_loses_nothing_and_stops_nobody() {
    for panics in [false, true] {
        let disk = SimulatedVfs::new(2);
        let moody = Arc::new(Moody::default());
        let operators = MergeOperators::new().with_shared("moody", moody.clone());
        let db = open(&disk, config(operators));
        let keyspace = db.keyspace("notes", named("moody")).expect("a keyspace");
        keyspace.put(b"bad", b"0").expect("writes");
        keyspace.put(b"good", b"0").expect("writes");
        db.flush().expect("flushes");
        let switch = if panics { &moody.panics } else { &moody.fails };
        switch.store(true, Ordering::SeqCst);
        for n in 1..60 {
            for key in [&b"bad"[..], b"good"] {
                keyspace.merge(key, format!("{n}")).expect("merges");
            }
            match n % 20 {
                5 => db.flush().expect("flushes"),
                15 => db.compact().expect("compacts"),
                _ => {}
            }
        }
        for found in reads(&db, &keyspace, b"bad") {
            let e = found.expect_err("the operator fails");
            assert_eq!(e.kind(), ErrorKind::MergeFailed);
            let why = if panics { "told to panic" } else { "told to fail" };
            assert!(e.message().contains(why) && e.message().contains("\"moody\""), "{e}");
        }
        assert!(db.stats().failed_folds > 0 && db.stats().folded_operands > 0);
        assert!(db.health_check().healthy, "{:?}", db.health_check());
        // A put with a merge in one commit is refused whole.
        let mut batch = WriteBatch::new();
        batch.put_in(&keyspace, b"other", b"x");
        batch.put_in(&keyspace, b"bad", b"x");
        batch.merge_in(&keyspace, b"bad", b"y");
        assert_eq!(kind(db.write(batch, WriteOptions::default())), ErrorKind::MergeFailed);
        assert_eq!(keyspace.get(b"other").expect("reads"), None);
        let expected = (0..60).map(|n| n.to_string()).collect::<Vec<_>>().join(",").into_bytes();
        assert_eq!(keyspace.get(b"good").expect("reads").as_ref(), Some(&expected));
        assert!(db.verify(VerifyOptions::default()).expect("verifies").is_clean());
        switch.store(false, Ordering::SeqCst);
        let found: Vec<_> = reads(&db, &keyspace, b"bad").into_iter().map(Result::ok).collect();
        assert!(found.iter().all(|f| f.as_ref() == Some(&expected)), "{found:?}");
        db.compact().expect("compacts");
        assert_eq!(keyspace.get(b"bad").expect("reads"), Some(expected));
    }
}

#[test]
fn what_cannot_be_merged_is_refused_when_it_is_written() {
    let db = Database::open_in_memory(LightningDbConfig::default()).expect("opens");
    let e = db.merge(b"k", b"v").expect_err("no operator");
    assert_eq!(e.kind(), ErrorKind::NoMergeOperator);
    assert!(e.message().contains("\"default\""), "{e}");
    let counts = db.keyspace("counts", named("counter")).expect("a keyspace");
    assert_eq!(kind(counts.merge(b"k", b"1")), ErrorKind::InvalidArgument);
    assert_eq!(kind(counts.merge(b"", 1_i64.to_le_bytes())), ErrorKind::EmptyKey);
    assert_eq!(counts.get(b"k").expect("reads"), None);
    let notes = db.keyspace("notes", named("append")).expect("a keyspace");
    assert_eq!(kind(notes.merge(b"k", vec![0; 64 * 1024 + 1])), ErrorKind::ValueTooLarge);
    notes.merge(b"k", vec![0; 64 * 1024]).expect("the longest");
    // In one commit: what is left after the operator has made one of them.
    let mut batch = WriteBatch::new();
    for _ in 0..3 {
        batch.merge_in(&notes, b"k", vec![1; 64 * 1024]);
    }
    assert_eq!(kind(db.write(batch, WriteOptions::default())), ErrorKind::ValueTooLarge);
    let mut batch = WriteBatch::new();
    for _ in 0..100_000 {
        batch.merge_in(&counts, b"many", 1_i64.to_le_bytes());
    }
    db.write(batch, WriteOptions::default()).expect("they are one number");
    let many = counts.get(b"many").expect("reads").expect("is there");
    assert_eq!(many, 100_000_i64.to_le_bytes());
    let options = TransactionOptions { read_only: true, ..TransactionOptions::default() };
    let mut tx = db.transaction_with(options).expect("begins");
    assert_eq!(kind(tx.merge_in(&counts, b"k", 1_i64.to_le_bytes())), ErrorKind::ReadOnly);
    db.drop_keyspace("counts").expect("drops");
    assert_eq!(kind(counts.merge(b"k", 1_i64.to_le_bytes())), ErrorKind::NotFound);
}

#[test]
fn a_keyspace_gets_its_operator_once() {
    let disk = SimulatedVfs::new(3);
    let one = |n: i64| n.to_le_bytes();
    {
        let db = open(&disk, config(MergeOperators::new()));
        let late = db.keyspace("late", KeyspaceOptions::default()).expect("a keyspace");
        late.put(b"k", one(5)).expect("writes");
        assert_eq!(late.merge_operator(), None);
        let again = db.keyspace("late", named("counter")).expect("gets its operator");
        assert_eq!(late.merge_operator(), Some("counter"));
        again.merge(b"k", one(2)).expect("merges");
        let e = db.keyspace("late", named("max")).expect_err("has another");
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
        assert!(e.message().contains("\"counter\"") && e.message().contains("\"max\""), "{e}");
        assert_eq!(kind(db.keyspace("new", named(""))), ErrorKind::InvalidConfig);
        db.close().expect("closes");
    }
    let counter = Some("counter".to_owned());
    let with_default =
        LightningDbConfig { merge_operator: counter, ..config(MergeOperators::new()) };
    {
        let db = open(&disk, with_default.clone());
        let late = db.keyspace("late", KeyspaceOptions::default()).expect("is there");
        assert_eq!(late.get(b"k").expect("reads"), Some(one(7).to_vec()));
        db.merge(b"k", one(3)).expect("the default keyspace has its own now");
    }
    // It is kept: an open that does not name it has it, one that names another is refused.
    let db = open(&disk, config(MergeOperators::new()));
    assert_eq!(db.default_keyspace().merge_operator(), Some("counter"));
    assert_eq!(db.get(b"k").expect("reads"), Some(one(3).to_vec()));
    drop(db);
    let max = LightningDbConfig { merge_operator: Some("max".to_owned()), ..with_default };
    let vfs = Arc::new(disk.clone()) as Arc<dyn Vfs>;
    let refused = Database::open_with_vfs(vfs, "/db", max, OpenAs::Open);
    assert_eq!(kind(refused), ErrorKind::InvalidConfig);
}
