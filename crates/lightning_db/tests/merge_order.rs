//! The order in which merges take keys from their sources: what all keys share, keys that are the beginning
//! of others, bytes at either end, and range deletes among them; against a sorted map.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use lightning_db::vfs::MemoryVfs;
use lightning_db::{Database, LightningDbConfig, OpenAs, VerifyOptions, WalSyncMode};

const SEEDS: u64 = 24;

/// A key that begins with `shared`, of few different bytes behind it, so that many tie for long.
fn key(rng: &mut fastrand::Rng, shared: &[u8]) -> Vec<u8> {
    let bytes = [0, 1, b'u', 0xfe, 0xff];
    let mut key = shared.to_vec();
    let run = [bytes[rng.usize(..5)]].repeat(rng.usize(..12));
    key.extend(run);
    key.extend((0..rng.usize(..4)).map(|_| bytes[rng.usize(..5)]));
    if key.is_empty() {
        key.push(0);
    }
    key
}

#[test]
fn merges_give_what_a_sorted_map_has() {
    let shared: [&[u8]; 4] = [b"", b"user", b"a longer one than eight", &[0xff; 9]];
    let mut runs = 0;
    for seed in 0..SEEDS {
        let mut rng = fastrand::Rng::with_seed(seed);
        let shared = shared[seed as usize % shared.len()];
        let config = LightningDbConfig {
            background_threads: 0,
            wal_sync_mode: WalSyncMode::Async,
            write_buffer_size: 64 << 10,
            ..LightningDbConfig::default()
        };
        let vfs = Arc::new(MemoryVfs::new());
        let db = Database::open_with_vfs(vfs, Path::new("/db"), config, OpenAs::Create)
            .expect("creates");
        let mut model = BTreeMap::new();
        for step in 0..1500_u32 {
            let key = key(&mut rng, shared);
            match rng.u32(..20) {
                0 => {
                    db.delete(&key).expect("writes");
                    model.remove(&key);
                }
                1 if seed % 3 == 0 => {
                    let mut end = key.clone();
                    end.push(rng.u8(..));
                    db.delete_range(Some(&key), Some(&end)).expect("writes");
                    model.retain(|k: &Vec<u8>, _| *k < key || *k >= end);
                }
                _ => {
                    let value = [&step.to_le_bytes()[..], &[7; 60]].concat();
                    db.put(&key, &value).expect("writes");
                    model.insert(key, value);
                }
            }
            if rng.u32(..300) == 0 {
                db.flush().expect("flushes");
                runs += 1;
            }
            if rng.u32(..700) == 0 {
                db.compact().expect("compacts");
            }
        }
        let check = || {
            let found: Vec<_> =
                db.range(None, None).expect("a range").map(Result::unwrap).collect();
            assert!(found.into_iter().eq(model.clone()), "seed {seed}");
        };
        check();
        db.compact().expect("compacts");
        check();
        let report = db.verify(VerifyOptions::default()).expect("verifies");
        assert!(report.is_clean(), "seed {seed}: {report:?}");
    }
    println!("tried: {SEEDS} seeds of merges of {runs} flushes and more");
}
