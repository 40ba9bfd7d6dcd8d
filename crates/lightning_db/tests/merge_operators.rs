//! Merge operators: whatever is put, merged, deleted, flushed, compacted, held by snapshots and opened
//! again in between, a key is what one operand after the other makes of it. For an operator with partial
//! merges, one without, and the built-in counter.
//!
//! `MERGE_SEQUENCES` sequences of `MERGE_OPERATIONS` operations each, `MERGE_SEED` for one of them alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use lightning_db::vfs::{SimulatedVfs, Vfs};
use lightning_db::{
    Database, Keyspace, KeyspaceOptions, LightningDbConfig, MergeFailure, MergeOperator,
    MergeOperators, OpenAs, Snapshot, TransactionOptions, VerifyOptions, WriteBatch, WriteOptions,
};

/// A hash of all that went into the key, in order: forgets nothing, and cannot be taken apart.
struct Chain;

impl MergeOperator for Chain {
    fn full_merge(
        &self,
        key: &[u8],
        base: Option<&[u8]>,
        operands: &[&[u8]],
    ) -> Result<Vec<u8>, MergeFailure> {
        let mut value = base.map_or_else(|| key.to_vec(), <[u8]>::to_vec);
        for operand in operands {
            let mut hash = 0xcbf2_9ce4_8422_2325_u64;
            for byte in value.iter().chain(*operand) {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
            }
            value = hash.to_le_bytes().to_vec();
        }
        Ok(value)
    }
}

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

fn operators() -> MergeOperators {
    MergeOperators::new().with("chain", Chain)
}

/// One operand into a map, the naive way.
fn merge_into(map: &mut Map, operator: &str, key: &[u8], operand: &[u8]) {
    let all = operators();
    let base = map.get(key).map(Vec::as_slice);
    let merged = all.get(operator).expect("known").full_merge(key, base, &[operand]);
    map.insert(key.to_vec(), merged.expect("merges"));
}

/// A change of one key: `Ok` puts or deletes, `Err` merges.
type Change = (Vec<u8>, Result<Option<Vec<u8>>, Vec<u8>>);

fn change(rng: &mut fastrand::Rng, operator: &str) -> Change {
    let key = format!("key{:02}", rng.u8(0..12)).into_bytes();
    let number = || i64::from(fastrand::Rng::with_seed(7).i16(..));
    let value = |rng: &mut fastrand::Rng, large: bool| match operator {
        "counter" => i64::from(rng.i16(..)).wrapping_add(number()).to_le_bytes().to_vec(),
        _ if large && rng.u8(..20) == 0 => vec![rng.u8(..); rng.usize(10_000..40_000)],
        _ => (0..rng.usize(0..40)).map(|_| rng.u8(..)).collect(),
    };
    match rng.u8(0..10) {
        0 => (key, Ok(None)),
        1 => (key, Ok(Some(value(rng, true)))),
        _ => (key, Err(value(rng, true))),
    }
}

fn apply(map: &mut Map, operator: &str, (key, change): &Change) {
    match change {
        Ok(Some(value)) => _ = map.insert(key.clone(), value.clone()),
        Ok(None) => _ = map.remove(key),
        Err(operand) => merge_into(map, operator, key, operand),
    }
}

struct Run {
    operator: &'static str,
    config: LightningDbConfig,
    vfs: SimulatedVfs,
    db: Option<Database>,
    keyspace: Option<Keyspace>,
    map: Map,
    snapshots: Vec<(Snapshot, Map)>,
}

impl Run {
    fn new(seed: u64, operator: &'static str) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let config = LightningDbConfig {
            write_buffer_size: 64 * 1024,
            cache_size: [64 * 1024, 2 * 1024 * 1024][rng.usize(0..2)],
            background_threads: 0,
            background_compaction: rng.bool(),
            wal_enabled: rng.u8(0..4) > 0,
            merge_operators: operators(),
            ..LightningDbConfig::default()
        };
        let mut run = Self {
            operator,
            config,
            vfs: SimulatedVfs::new(seed),
            db: None,
            keyspace: None,
            map: Map::new(),
            snapshots: Vec::new(),
        };
        run.open(OpenAs::Create);
        run
    }

    fn open(&mut self, mode: OpenAs) {
        let vfs = Arc::new(self.vfs.clone()) as Arc<dyn Vfs>;
        let db = Database::open_with_vfs(vfs, "/db", self.config.clone(), mode).expect("opens");
        let merge_operator = Some(self.operator.to_owned());
        let options = KeyspaceOptions { merge_operator, ..KeyspaceOptions::default() };
        self.keyspace = Some(db.keyspace("merged", options).expect("a keyspace"));
        self.db = Some(db);
    }

    fn compare(&self, rng: &mut fastrand::Rng) {
        let keyspace = self.keyspace.as_ref().expect("open");
        let expected: Vec<_> = self.map.clone().into_iter().collect();
        for key in 0..12 {
            let key = format!("key{key:02}").into_bytes();
            let found = keyspace.get(&key).expect("reads");
            assert_eq!(found.as_ref(), self.map.get(&key), "{}", key.escape_ascii());
            if rng.u8(0..3) == 0 {
                let again = keyspace.get_pinned(&key).expect("reads");
                assert_eq!(again.as_deref(), self.map.get(&key).map(Vec::as_slice));
            }
        }
        let mut found = Vec::new();
        let mut range = keyspace.range(None, None).expect("scans");
        let mut back = Vec::new();
        loop {
            let next = if rng.bool() { (range.next(), false) } else { (range.next_back(), true) };
            match next {
                (Some(entry), false) => found.push(entry.expect("reads")),
                (Some(entry), true) => back.push(entry.expect("reads")),
                (None, _) => break,
            }
        }
        found.extend(back.into_iter().rev());
        assert_eq!(found, expected, "a scan from both ends");
        let mut cursor = keyspace.cursor().expect("a cursor");
        let mut more = cursor.seek_to_last().expect("seeks");
        for (key, value) in expected.iter().rev() {
            assert!(more);
            assert_eq!(cursor.entry().expect("reads"), Some((&**key, &**value)));
            more = cursor.prev().expect("steps");
        }
        assert!(!more);
        assert_eq!(keyspace.count(None, None).expect("counts"), expected.len() as u64);
        for (snapshot, map) in &self.snapshots {
            let range = snapshot.range_in(keyspace, None, None).expect("scans");
            let found: Map = range.map(|e| e.expect("reads")).collect();
            assert_eq!(&found, map, "a snapshot at {}", snapshot.seq());
            let key = format!("key{:02}", rng.u8(0..12)).into_bytes();
            let found = snapshot.get_in(keyspace, &key).expect("reads");
            assert_eq!(found.as_ref(), map.get(&key), "of a snapshot");
        }
    }

    fn write_one(&self, (key, change): &Change) {
        let keyspace = self.keyspace.as_ref().expect("open");
        match change {
            Ok(Some(value)) => keyspace.put(key, value),
            Ok(None) => keyspace.delete(key),
            Err(operand) => keyspace.merge(key, operand),
        }
        .expect("writes");
    }

    fn batch(&mut self, changes: &[Change]) {
        let keyspace = self.keyspace.as_ref().expect("open");
        let mut batch = WriteBatch::new();
        for (key, change) in changes {
            match change {
                Ok(Some(value)) => batch.put_in(keyspace, key, value),
                Ok(None) => batch.delete_in(keyspace, key),
                Err(operand) => batch.merge_in(keyspace, key, operand),
            }
        }
        self.db.as_ref().expect("open").write(batch, WriteOptions::default()).expect("writes");
        for change in changes {
            apply(&mut self.map, self.operator, change);
        }
    }

    /// A transaction with a savepoint, that reads what it wrote.
    fn transaction(&mut self, rng: &mut fastrand::Rng, changes: &[Change]) {
        let keyspace = self.keyspace.clone().expect("open");
        let options = TransactionOptions::default();
        let mut tx = self.db.as_ref().expect("open").transaction_with(options).expect("begins");
        let mut map = self.map.clone();
        let mut savepoint = None;
        for change in changes {
            if savepoint.is_none() && rng.u8(0..3) == 0 {
                savepoint = Some((tx.savepoint().expect("marks"), map.clone()));
            }
            match &change.1 {
                Ok(Some(value)) => tx.put_in(&keyspace, &change.0, value),
                Ok(None) => tx.delete_in(&keyspace, &change.0),
                Err(operand) => tx.merge_in(&keyspace, &change.0, operand),
            }
            .expect("writes");
            apply(&mut map, self.operator, change);
            let found = tx.get_in(&keyspace, &change.0).expect("reads");
            assert_eq!(found.as_ref(), map.get(&change.0), "its own write");
        }
        if let Some((savepoint, before)) = savepoint.filter(|_| rng.bool()) {
            tx.rollback_to(savepoint).expect("goes back");
            map = before;
        }
        let range = tx.range_in(&keyspace, None, None).expect("scans");
        let found: Map = range.map(|e| e.expect("reads")).collect();
        assert_eq!(found, map, "a transaction's scan");
        let range = tx.range_in(&keyspace, None, None).expect("scans").rev();
        let found: Map = range.map(|e| e.expect("reads")).collect();
        assert_eq!(found, map, "a transaction's scan from behind");
        if rng.u8(0..4) > 0 {
            tx.commit().expect("commits");
            self.map = map;
        }
    }

    fn reopen(&mut self, kill: bool) {
        self.snapshots.clear();
        self.keyspace = None;
        let db = self.db.take().expect("open");
        if kill && self.config.wal_enabled {
            self.vfs = self.vfs.kill();
            drop(db);
        } else {
            db.close().expect("closes");
        }
        self.open(OpenAs::Open);
    }
}

fn sequence(seed: u64, operator: &'static str, operations: usize) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut run = Run::new(seed, operator);
    for _ in 0..operations {
        match rng.u8(0..100) {
            0..40 => {
                let change = change(&mut rng, operator);
                run.write_one(&change);
                apply(&mut run.map, operator, &change);
            }
            40..50 => {
                // One key again and again.
                let key = change(&mut rng, operator).0;
                for _ in 0..rng.usize(2..60) {
                    let change = (key.clone(), change(&mut rng, operator).1);
                    run.write_one(&change);
                    apply(&mut run.map, operator, &change);
                }
            }
            50..58 => {
                let changes: Vec<_> =
                    (0..rng.usize(1..30)).map(|_| change(&mut rng, operator)).collect();
                run.batch(&changes);
            }
            58..66 => {
                let changes: Vec<_> =
                    (0..rng.usize(1..20)).map(|_| change(&mut rng, operator)).collect();
                run.transaction(&mut rng, &changes);
            }
            66..78 => run.compare(&mut rng),
            78..84 => {
                let snapshot = run.db.as_ref().expect("open").snapshot().expect("a snapshot");
                run.snapshots.push((snapshot, run.map.clone()));
            }
            84..87 if !run.snapshots.is_empty() => {
                run.snapshots.swap_remove(rng.usize(0..run.snapshots.len()));
            }
            87 => {
                let keyspace = run.keyspace.as_ref().expect("open");
                let drawn = (0..rng.usize(1..9)).map(|_| change(&mut rng, operator));
                let entries: Map = drawn
                    .filter_map(|(key, change)| {
                        let value = change.unwrap_or_else(Some);
                        value.map(|v| (key, v))
                    })
                    .collect();
                keyspace.ingest(&entries).expect("ingests");
                run.map.extend(entries);
            }
            88..92 => run.db.as_ref().expect("open").flush().expect("flushes"),
            92..95 => run.keyspace.as_ref().expect("open").compact().expect("compacts"),
            95..97 => {
                let end = format!("key{:02}", rng.u8(0..12)).into_bytes();
                let keyspace = run.keyspace.as_ref().expect("open");
                keyspace.compact_range(None, Some(&end)).expect("compacts");
            }
            97 => run.reopen(false),
            98 => run.reopen(true),
            _ => _ = run.db.as_ref().expect("open").evict_cache(1.0).expect("evicts"),
        }
    }
    run.compare(&mut rng);
    run.snapshots.clear();
    let db = run.db.as_ref().expect("open");
    db.compact().expect("compacts");
    run.compare(&mut rng);
    let report = db.verify(VerifyOptions::default()).expect("verifies");
    assert!(report.is_clean(), "{:?}", report.problems);
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

#[test]
fn any_interleaving_is_the_naive_fold() {
    let sequences = from_environment("MERGE_SEQUENCES", 12);
    let operations = from_environment("MERGE_OPERATIONS", 250) as usize;
    let only = std::env::var("MERGE_SEED").ok().and_then(|v| v.parse().ok());
    for operator in ["append", "chain", "counter"] {
        let seeds = only.map_or(0..sequences, |seed| seed..seed + 1);
        for seed in seeds {
            let run = || sequence(seed, operator, operations);
            if let Err(panic) = std::panic::catch_unwind(run) {
                eprintln!(
                    "{operator}, seed {seed}; again: MERGE_SEED={seed} MERGE_OPERATIONS={operations} \
                     cargo test --test merge_operators any_interleaving"
                );
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("tried: {} sequences of merges ({operations} operations each)", sequences * 3);
}

/// A value that a merge makes large lies in a segment that others write to as well. While the merge went
/// on, what they had written there was named, deleted and cleaned away, and the segment with it: the
/// merge referred to a segment that was not there, and was refused.
#[test]
fn a_segment_stays_that_a_merge_under_way_has_written_to() {
    #[derive(Clone, Default)]
    struct Busy(Arc<Mutex<Option<Database>>>);
    impl MergeOperator for Busy {
        fn full_merge(
            &self,
            key: &[u8],
            _: Option<&[u8]>,
            _: &[&[u8]],
        ) -> Result<Vec<u8>, MergeFailure> {
            let mut db = self.0.lock().expect("no panic");
            if let Some(db) = (key == b"b").then(|| db.take()).flatten() {
                db.put("other", vec![1; 60_000]).expect("writes");
                db.flush().expect("flushes");
                db.delete("other").expect("deletes");
                // The others' merges would wait for this one.
                db.default_keyspace().compact().expect("compacts");
                assert_eq!(db.get("other").expect("reads"), None);
            }
            Ok(vec![key[0]; 20_000])
        }
    }
    let busy = Busy::default();
    let config = LightningDbConfig {
        merge_operators: MergeOperators::new().with("busy", busy.clone()),
        background_compaction: false,
        ..LightningDbConfig::default()
    };
    let db = Database::open_in_memory(config).expect("opens");
    let options =
        KeyspaceOptions { merge_operator: Some("busy".to_owned()), ..KeyspaceOptions::default() };
    let merged = db.keyspace("merged", options).expect("a keyspace");
    for _ in 0..2 {
        merged.merge("a", "operand").expect("merges");
        merged.merge("b", "operand").expect("merges");
        db.flush().expect("flushes");
    }
    *busy.0.lock().expect("no panic") = Some(db.clone());
    merged.compact().expect("compacts");
    assert!(busy.0.lock().expect("no panic").is_none(), "it was busy");
    for key in ["a", "b"] {
        let value = merged.get(key).expect("reads").expect("is there");
        assert!(value == vec![key.as_bytes()[0]; 20_000]);
    }
    let report = db.verify(VerifyOptions::default()).expect("verifies");
    assert!(report.is_clean(), "{:?}", report.problems);
}
