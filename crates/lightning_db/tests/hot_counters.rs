//! Keys that are merged into again and again: threads lose no increment, and a chain of operands costs a
//! read only what was merged since the last one, whether the operator has partial merges or not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lightning_db::{
    Database, IsolationLevel, KeyspaceOptions, LightningDbConfig, MergeFailure, MergeOperator,
    MergeOperators, TransactionOptions, WalSyncMode,
};

/// A sum that cannot be taken apart, and counts the operands that it is given.
#[derive(Default)]
struct Counting {
    given: AtomicU64,
}

impl MergeOperator for Counting {
    fn full_merge(
        &self,
        _key: &[u8],
        base: Option<&[u8]>,
        operands: &[&[u8]],
    ) -> Result<Vec<u8>, MergeFailure> {
        self.given.fetch_add(operands.len() as u64, Ordering::Relaxed);
        let mut sum = 0_u64;
        for number in base.iter().chain(operands) {
            sum += u64::from_le_bytes((*number).try_into()?);
        }
        Ok(sum.to_le_bytes().to_vec())
    }
}

fn named(operator: &str) -> KeyspaceOptions {
    KeyspaceOptions { merge_operator: Some(operator.to_owned()), ..KeyspaceOptions::default() }
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

fn number(value: Option<Vec<u8>>) -> u64 {
    value.map_or(0, |v| u64::from_le_bytes(v.try_into().expect("eight bytes")))
}

const ONE: [u8; 8] = 1_u64.to_le_bytes();

/// `HOT_INCREMENTS` increments of one key, 1,000,000 for figures.
#[test]
fn a_read_costs_what_was_merged_since_the_last_one() {
    let increments = from_environment("HOT_INCREMENTS", 100_000);
    let counting = Arc::new(Counting::default());
    let config = LightningDbConfig {
        merge_operators: MergeOperators::new().with_shared("counting", counting.clone()),
        // Nothing is flushed but where this test does it.
        write_buffer_size: 512 * 1024 * 1024,
        background_threads: 0,
        ..LightningDbConfig::default()
    };
    let db = Database::open_in_memory(config).expect("opens");
    let given = || counting.given.swap(0, Ordering::Relaxed);
    for (keyspace, operator) in [("one", "counting"), ("two", "counter")] {
        let keyspace = db.keyspace(keyspace, named(operator)).expect("a keyspace");
        given();
        for n in 1..=increments {
            keyspace.merge(b"hot", ONE).expect("merges");
            if n % 64 == 0 {
                assert_eq!(number(keyspace.get(b"hot").expect("reads")), n);
                // Nor does a scan begin anew.
                let first = keyspace.first().expect("scans").map(|(_, value)| value);
                assert_eq!(number(first), n);
            }
        }
        // Once more for each read, and for the scans those since the last read.
        assert!(given() <= 3 * increments, "every read walks the whole chain");
        // Long chains end at a flush, also above what was flushed before.
        for round in 0..6 {
            let before = increments + round * 500;
            db.flush().expect("flushes");
            db.evict_cache(1.0).expect("evicts");
            given();
            assert_eq!(number(keyspace.get(b"hot").expect("reads")), before);
            assert!(given() <= 64, "a run holds a long chain");
            for _ in 0..500 {
                keyspace.merge(b"hot", ONE).expect("merges");
            }
        }
        db.compact().expect("compacts");
        db.evict_cache(1.0).expect("evicts");
        given();
        assert_eq!(number(keyspace.get(b"hot").expect("reads")), increments + 3000);
        assert_eq!(given(), 0, "at the bottom it is a value");
    }
    println!("tried: {increments} increments of one key (two operators)");
}

#[test]
fn increments_of_several_threads_add_up() {
    let each = from_environment("INCREMENTS_EACH", 3000);
    for wal_sync_mode in [WalSyncMode::Async, WalSyncMode::Sync] {
        let config = LightningDbConfig {
            wal_sync_mode,
            write_buffer_size: 64 * 1024,
            background_threads: 2,
            ..LightningDbConfig::default()
        };
        let db = Database::open_in_memory(config).expect("opens");
        let keyspace = db.keyspace("counts", named("counter")).expect("a keyspace");
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                let (db, keyspace) = (&db, &keyspace);
                scope.spawn(move || {
                    let mut last = 0;
                    for n in 0..each {
                        let key = [b'a' + (n % 3) as u8];
                        match n % 5 {
                            0 => {
                                let level = if thread % 2 == 0 {
                                    IsolationLevel::RepeatableRead
                                } else {
                                    IsolationLevel::Serializable
                                };
                                let options = TransactionOptions {
                                    max_retries: u32::MAX,
                                    ..TransactionOptions::at(level)
                                };
                                db.execute_transaction(options, |tx| {
                                    tx.merge_in(keyspace, key, ONE)
                                })
                                .expect("merges");
                            }
                            1 => {
                                let more = |old: Option<&[u8]>| {
                                    let old = number(old.map(<[u8]>::to_vec));
                                    Some((old + 1).to_le_bytes().to_vec())
                                };
                                keyspace.fetch_update(key, more).expect("updates");
                            }
                            _ => keyspace.merge(key, ONE).expect("merges"),
                        }
                        if n % 7 == 0 {
                            let seen = number(keyspace.get(b"a").expect("reads"));
                            assert!(seen >= last, "a counter went back: {last}, {seen}");
                            last = seen;
                        }
                    }
                });
            }
        });
        let sum: u64 =
            keyspace.range(None, None).expect("scans").map(|e| number(e.ok().map(|e| e.1))).sum();
        assert_eq!(sum, 4 * each);
        let gets: u64 =
            [b"a", b"b", b"c"].map(|k| number(keyspace.get(k).expect("reads"))).iter().sum();
        assert_eq!(gets, 4 * each);
    }
    println!("tried: {} increments by four threads", each * 8);
}
