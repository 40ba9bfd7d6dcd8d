//! The settings that every sequence must answer the same under.

use std::time::Duration;

use lightning_db::{CompressionType, KeySource, LightningDbConfig, Profile, WalSyncMode};

/// How many there are.
pub const SETTINGS: u64 = 16;

/// A small database, so that a few thousand operations flush, merge and evict.
fn small(page_size: usize) -> LightningDbConfig {
    LightningDbConfig {
        page_size,
        cache_size: 8 * page_size,
        write_buffer_size: 64 * 1024,
        wal_segment_size: 32 * 1024,
        max_wal_size: 512 * 1024,
        background_threads: 0,
        // The simulated clock does not stand still.
        transaction_timeout: Duration::from_secs(24 * 3600),
        ..LightningDbConfig::default()
    }
}

/// The settings of that number; in every other round of them the default keyspace has no merge operator.
pub fn setting(number: u64) -> LightningDbConfig {
    let merges = (number + number / SETTINGS).is_multiple_of(2);
    let merge_operator = merges.then(|| "append".to_owned());
    LightningDbConfig { merge_operator, ..without_operator(number) }
}

fn without_operator(number: u64) -> LightningDbConfig {
    let interval = Duration::from_millis(5);
    let (ages, second) = (Some(Duration::from_secs(1 << 30)), Some(Duration::from_secs(1)));
    match number % SETTINGS {
        0 => LightningDbConfig { history_retention: ages, ..small(4 << 10) },
        1 => LightningDbConfig { compression_type: CompressionType::None, ..small(8 << 10) },
        2 => LightningDbConfig { profile: Profile::ReadOptimized, ..small(16 << 10) },
        3 => LightningDbConfig { profile: Profile::WriteOptimized, ..small(4 << 10) },
        4 => LightningDbConfig { background_threads: 2, history_retention: ages, ..small(4 << 10) },
        5 => LightningDbConfig { wal_enabled: false, history_retention: ages, ..small(4 << 10) },
        6 => LightningDbConfig { wal_sync_mode: WalSyncMode::Async, ..small(64 << 10) },
        7 => LightningDbConfig {
            wal_sync_mode: WalSyncMode::Periodic { interval },
            background_threads: 2,
            profile: Profile::WriteOptimized,
            ..small(16 << 10)
        },
        8 => LightningDbConfig {
            background_compaction: false,
            history_retention: second,
            ..small(4 << 10)
        },
        9 => {
            LightningDbConfig { prefetch_enabled: false, compression_enabled: false, ..small(4096) }
        }
        10 => LightningDbConfig {
            wal_enabled: false,
            background_threads: 2,
            profile: Profile::ReadOptimized,
            ..small(8 << 10)
        },
        11 => LightningDbConfig { compression_type: CompressionType::Snappy, ..small(8 << 10) },
        12 => LightningDbConfig {
            compression_type: CompressionType::Zstd,
            compression_level: Some(1),
            background_threads: 2,
            ..small(4 << 10)
        },
        13 => LightningDbConfig { encryption: Some(KeySource::key([7; 32])), ..small(4 << 10) },
        14 => LightningDbConfig {
            encryption: Some(KeySource::key([8; 32])),
            background_threads: 2,
            wal_sync_mode: WalSyncMode::Async,
            ..small(16 << 10)
        },
        _ => LightningDbConfig {
            write_buffer_size: 1 << 20,
            cache_size: 4 << 20,
            wal_sync_mode: WalSyncMode::Async,
            ..small(4 << 10)
        },
    }
}
