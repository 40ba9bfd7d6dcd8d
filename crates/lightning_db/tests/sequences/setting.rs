//! The settings that a sequence runs under: nothing a user can ask may depend on them.

use std::time::Duration;

use fastrand::Rng;
use lightning_db::{CompressionType, KeySource, LightningDbConfig, Profile, WalSyncMode};

/// How many settings each sequence runs under.
pub const SETTINGS: usize = 4;

const COMPRESSIONS: [CompressionType; 4] =
    [CompressionType::None, CompressionType::Lz4, CompressionType::Snappy, CompressionType::Zstd];

/// The settings of a sequence: all four page sizes, threads in two of them, at most one without a
/// log; one makes its database encrypted; the rest is drawn.
pub fn settings(seed: u64) -> Vec<LightningDbConfig> {
    let mut rng = Rng::with_seed(seed ^ 0x5E77);
    let without_log = rng.usize(0..2 * SETTINGS);
    let encrypted = rng.usize(0..SETTINGS);
    let turn = rng.usize(0..SETTINGS);
    // By sequence: what is kept with one setting is kept with all of them.
    let seconds = [None, None, Some(1), Some(1 << 30)][rng.usize(0..4)];
    let history_retention = seconds.map(Duration::from_secs);
    (0..SETTINGS)
        .map(|i| {
            let page_size = [4096, 8192, 16_384, 65_536][(i + turn) % SETTINGS];
            let tiny = rng.bool();
            let interval = Duration::from_millis(5);
            let wal_segment_size = [16 << 10, 64 << 10, 1 << 20][rng.usize(0..3)];
            let compression_type = COMPRESSIONS[rng.usize(0..COMPRESSIONS.len())];
            let leveled = compression_type == CompressionType::Zstd && rng.bool();
            let compression_level = leveled.then(|| [-7, 1, 19][rng.usize(0..3)]);
            LightningDbConfig {
                page_size,
                cache_size: if tiny { 8 * page_size } else { 4 << 20 },
                write_buffer_size: if rng.bool() { 64 << 10 } else { 1 << 20 },
                compression_type,
                compression_level,
                profile: [Profile::ReadOptimized, Profile::Balanced, Profile::WriteOptimized]
                    [rng.usize(0..3)],
                background_threads: (i % 2) * 2,
                prefetch_enabled: rng.bool(),
                prefetch_distance: rng.usize(1..10),
                wal_enabled: i != without_log,
                wal_sync_mode: [
                    WalSyncMode::Sync,
                    WalSyncMode::Periodic { interval },
                    WalSyncMode::Async,
                ][rng.usize(0..3)],
                wal_segment_size,
                max_wal_size: wal_segment_size * rng.u64(2..6),
                encryption: (i == encrypted).then(|| KeySource::key([7; 32])),
                history_retention,
                transaction_timeout: Duration::from_secs(24 * 3600),
                ..LightningDbConfig::default()
            }
        })
        .collect()
}
