//! Space on disk while everything is overwritten again and again, by profile: bounds on what the
//! segment files hold per byte of packed live data. All work is done inline, so that the figures
//! are the same each time. Seen to fail (1.55, 2.37 and 1.63) where runs are not cut at the base.

use lightning_db::{Database, LightningDbConfig, Profile, WalSyncMode, WriteBatch, WriteOptions};

const ENTRIES: u64 = 40_000;

fn key(index: u64) -> [u8; 16] {
    let scatter = |x: u64| (x ^ (x >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut out = [0; 16];
    out[..8].copy_from_slice(&scatter(scatter(index)).to_be_bytes());
    out[8..].copy_from_slice(&index.to_be_bytes());
    out
}

/// Segment bytes at their highest while entries drawn by `next` are overwritten, per byte of live
/// data once compacted; and bytes merged per byte written.
fn overwrite(profile: Profile, mut next: impl FnMut(&mut fastrand::Rng) -> u64) -> (f64, f64) {
    let config = LightningDbConfig {
        profile,
        write_buffer_size: 256 * 1024,
        wal_segment_size: 1024 * 1024,
        wal_sync_mode: WalSyncMode::Async,
        background_threads: 0,
        ..LightningDbConfig::default()
    };
    let db = Database::open_in_memory(config).expect("opens");
    let mut rng = fastrand::Rng::with_seed(9);
    let mut value = [b'-'; 100];
    let mut write = |rng: &mut fastrand::Rng, indices: &mut dyn Iterator<Item = u64>| {
        let mut batch = WriteBatch::new();
        for index in indices {
            rng.fill(&mut value[..50]);
            batch.put(key(index), value);
        }
        db.write(batch, WriteOptions::default()).expect("writes");
    };
    for first in (0..ENTRIES).step_by(100) {
        write(&mut rng, &mut (first..first + 100));
    }
    let merged_before = db.stats().merged_bytes;
    let (mut peak, batches) = (0, 4 * ENTRIES / 100);
    for _ in 0..batches {
        let indices: Vec<u64> = (0..100).map(|_| next(&mut rng)).collect();
        write(&mut rng, &mut indices.into_iter());
        peak = peak.max(db.stats().storage_bytes);
    }
    let merged = db.stats().merged_bytes - merged_before;
    db.compact().expect("compacts");
    let stats = db.stats();
    let live = stats.keyspaces[0].base_bytes;
    assert!(stats.storage_bytes as f64 <= 1.2 * live as f64, "after compact: {stats:?}");
    assert_eq!(db.count(None, None).expect("counts"), ENTRIES);
    (peak as f64 / live as f64, merged as f64 / (batches * 100 * 116) as f64)
}

#[test]
fn overwrites_everywhere_keep_space_within_the_profiles_bound() {
    for (profile, bound) in
        [(Profile::ReadOptimized, 1.2), (Profile::Balanced, 1.5), (Profile::WriteOptimized, 2.2)]
    {
        let (space, merged) = overwrite(profile, |rng| rng.u64(0..ENTRIES));
        println!("{profile:?}, everywhere: space {space:.2}, merged bytes a byte {merged:.1}");
        assert!(space <= bound, "{profile:?}: {space:.2}");
    }
}

#[test]
fn overwrites_in_one_range_are_cheap_and_leave_no_garbage() {
    // Ordered by the index, a tenth of all keys: most leaves are never touched.
    for (profile, bound) in
        [(Profile::ReadOptimized, 1.2), (Profile::Balanced, 1.3), (Profile::WriteOptimized, 1.4)]
    {
        let mut sorted: Vec<u64> = (0..ENTRIES).collect();
        sorted.sort_by_key(|i| key(*i));
        let hot = &sorted[..ENTRIES as usize / 10];
        let (space, merged) = overwrite(profile, |rng| hot[rng.usize(..hot.len())]);
        println!("{profile:?}, one range: space {space:.2}, merged bytes a byte {merged:.1}");
        assert!(space <= bound, "{profile:?}: {space:.2}");
    }
}
