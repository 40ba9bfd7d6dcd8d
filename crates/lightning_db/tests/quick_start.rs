//! The quick start compiles and runs as it stands, and a first round through every layer.

use std::collections::BTreeMap;

use lightning_db::{Database, ErrorKind, LightningDbConfig, WalSyncMode};

fn small(threads: usize) -> LightningDbConfig {
    LightningDbConfig {
        write_buffer_size: 64 * 1024,
        background_threads: threads,
        wal_sync_mode: WalSyncMode::Async,
        ..LightningDbConfig::default()
    }
}

#[test]
fn quick_start_runs_as_it_stands() -> lightning_db::Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("my_database");
    let db = Database::create(&path, LightningDbConfig::default())?;

    db.put(b"key", b"value")?;
    assert_eq!(db.get(b"key")?, Some(b"value".to_vec()));

    let range = db.range(Some(b"key1"), Some(b"key3"))?;
    assert_eq!(range.count(), 0);
    let tx = db.begin_transaction()?;
    db.put_tx(tx, b"tx_key", b"tx_value")?;
    db.commit_transaction(tx)?;

    db.put_batch(&[(b"batch1".to_vec(), b"value1".to_vec())])?;
    db.delete(b"key")?;
    db.sync()?;
    db.close()?;
    let db = Database::open(&path, LightningDbConfig::default())?;
    assert_eq!(db.get(b"key")?, None);
    assert_eq!(db.get(b"tx_key")?, Some(b"tx_value".to_vec()));
    let again = Database::create(&path, LightningDbConfig::default());
    assert_eq!(again.expect_err("create over a database").kind(), ErrorKind::AlreadyExists);
    let second = Database::open(&path, LightningDbConfig::default());
    assert_eq!(second.expect_err("a second opener").kind(), ErrorKind::Locked);
    Ok(())
}

#[test]
fn a_map_of_many_flushes_and_merges_equals_its_model() -> lightning_db::Result<()> {
    for threads in [0, 1, 2] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("db");
        let mut db = Database::create(&path, small(threads))?;
        let mut model = BTreeMap::new();
        let mut rng = fastrand::Rng::with_seed(7 + threads as u64);
        for round in 0..4 {
            for _ in 0..5000 {
                let key = format!("key{:06}", rng.u32(0..6000)).into_bytes();
                if rng.u8(0..5) == 0 {
                    db.delete(&key)?;
                    model.remove(&key);
                } else {
                    let len = if rng.u8(0..100) == 0 { 40_000 } else { rng.usize(0..200) };
                    let value: Vec<u8> = (0..len).map(|_| rng.u8(..)).collect();
                    db.put(&key, &value)?;
                    model.insert(key, value);
                }
            }
            if round == 1 {
                db.close()?;
                db = Database::open(&path, small(threads))?;
            }
            if round == 2 {
                db.compact()?;
            }
            let all: Vec<_> = db.range(None, None)?.collect::<Result<_, _>>()?;
            let expected: Vec<_> = model.clone().into_iter().collect();
            assert_eq!(all.len(), expected.len(), "threads {threads} round {round}");
            assert!(all == expected);
            let mut back: Vec<_> = db.scan_reverse(None, None)?.collect::<Result<_, _>>()?;
            back.reverse();
            assert!(back == expected);
            for (k, v) in &model {
                assert_eq!(db.get(k)?.as_ref(), Some(v));
            }
            let report = db.verify(lightning_db::VerifyOptions::default())?;
            assert!(report.is_clean(), "{:?}", report.problems);
        }
        db.close()?;
    }
    Ok(())
}
