//! Reverse scans beside a writer.
//!
//! Going backwards, a source that had looked at the key before stepped forward again to the key it
//! came from. A key that had just been inserted between both was taken for it, and the key itself
//! was left out: a reader saw an older value, or none. (Found by `bank`, whose sum was wrong in a
//! reverse scan.)

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lightning_db::{Database, LightningDbConfig, WriteBatch, WriteOptions};

#[test]
fn keys_inserted_meanwhile_push_no_key_out_of_a_reverse_scan() {
    let rounds =
        std::env::var("LIGHTNING_REVERSE_ROUNDS").ok().and_then(|v| v.parse().ok()).unwrap_or(300);
    for round in 0..rounds {
        let db = Database::open_in_memory(LightningDbConfig::default()).expect("opens");
        let key = |n: u32| (n << 12).to_be_bytes();
        let mut batch = WriteBatch::new();
        for n in 0..300 {
            batch.put(key(n), b"old");
        }
        db.write(batch, WriteOptions::default()).expect("writes");
        let done = Arc::new(AtomicBool::new(false));
        let writer = {
            let (db, done) = (db.clone(), Arc::clone(&done));
            std::thread::spawn(move || {
                let mut rng = fastrand::Rng::with_seed(round);
                for _ in 0..2000 {
                    let between = rng.u32(0..300) << 12 | rng.u32(1..4096);
                    db.put(between.to_be_bytes(), b"new").expect("writes");
                }
                done.store(true, Ordering::Release);
            })
        };
        while !done.load(Ordering::Acquire) {
            let snapshot = db.snapshot().expect("is taken");
            let old =
                |pair: lightning_db::Result<(Vec<u8>, Vec<u8>)>| pair.expect("reads").1 == b"old";
            let scan = snapshot.scan_reverse(None, None).expect("scans");
            assert_eq!(scan.map(old).filter(|old| *old).count(), 300, "round {round}: left out");
        }
        writer.join().expect("no panic");
    }
}
