//! No nonce is used twice under one key: not after a crash, a power cut, a failed write that is tried
//! again, in a log file used again, nor after reopening. The engine notes every pair for this test
//! (`crypto/witness.rs`) and panics at the first repetition; one process watches one test.
//!
//! `LIGHTNING_NONCES` sets how many databases are tried; a failure names the seed, and
//! `LIGHTNING_NONCES_FIRST` starts there.
//!
//! Seen to fail when the nonce of a page was its offset (what a failed append takes back is written
//! again there) and sealers did not refuse it, and when the salts of files were not drawn.
#![cfg(feature = "encryption")]

use std::sync::Arc;

use lightning_db::vfs::simulated::FaultError;
use lightning_db::vfs::{SimulatedVfs, Vfs};
use lightning_db::{Database, KeySource, LightningDbConfig, OpenAs, fuzzing};

fn open(vfs: &SimulatedVfs, threads: usize) -> lightning_db::Result<Database> {
    let config = LightningDbConfig {
        write_buffer_size: 64 * 1024,
        wal_segment_size: 16 * 1024,
        max_wal_size: 48 * 1024,
        cache_size: 64 * 1024,
        background_threads: threads,
        encryption: Some(KeySource::key([7; 32])),
        ..LightningDbConfig::default()
    };
    let vfs = Arc::new(vfs.clone()) as Arc<dyn Vfs>;
    Database::open_with_vfs(vfs, "/db", config, OpenAs::OpenOrCreate)
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

#[test]
fn no_nonce_is_used_twice_under_one_key() {
    fuzzing::watch_nonces();
    let databases = number("LIGHTNING_NONCES", 40);
    let first = number("LIGHTNING_NONCES_FIRST", 1);
    let (mut lives, mut failures) = (0, 0);
    for seed in first..first + databases {
        println!("again: LIGHTNING_NONCES_FIRST={seed} cargo test -p lightning_db --test nonces");
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut vfs = SimulatedVfs::new(seed);
        for _ in 0..8 {
            lives += 1;
            let end = rng.u8(0..4);
            if end == 0 {
                vfs.crash_after(vfs.operations() + rng.u64(0..600));
            }
            let Ok(db) = open(&vfs, usize::from(rng.u8(0..4) == 0)) else {
                vfs = vfs.kill();
                continue;
            };
            for _ in 0..rng.u32(0..200) {
                if rng.u8(0..12) == 0 {
                    // Full for a moment: an append is taken back and tried again.
                    let at = vfs.operations() + rng.u64(0..12);
                    vfs.fail_operation(at, FaultError::Enospc, false);
                }
                let len = if rng.u8(0..20) == 0 { rng.usize(16_000..600_000) } else { 500 };
                let key = format!("key{}", rng.u8(0..60));
                failures += u32::from(db.put(key, vec![rng.u8(..); len]).is_err());
                match rng.u8(0..30) {
                    0 => failures += u32::from(db.flush().is_err()),
                    1 => failures += u32::from(db.compact().is_err()),
                    2 => failures += u32::from(db.rotate_key(&KeySource::key([7; 32])).is_err()),
                    3 => failures += u32::from(db.rotate_data_key().is_err()),
                    4 => failures += u32::from(db.finish_data_key_rotation().is_err()),
                    _ => {}
                }
            }
            match end {
                1 => drop(db.close()),
                2 => vfs = vfs.power_cut(rng.u64(..)),
                _ => vfs = vfs.kill(),
            }
            vfs.clear_faults();
        }
    }
    let used = fuzzing::nonces_used();
    assert!(used > 1000 && failures > 0, "{used} nonces, {failures} failures");
    println!(
        "tried: {used} nonces ({databases} databases, {lives} lives, {failures} failed calls)"
    );
}
