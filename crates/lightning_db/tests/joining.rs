//! Small neighbours in the base are joined, once.
//!
//! Two partitions whose leaves pack well were both small as stored, and were joined; the row writer
//! divided them again, because what it had written and the raw leaf at hand reached the size of a
//! partition. So the next merge was the same one: with no background threads the commit that had
//! made it due never returned. (Model test, seed 1.)

use std::sync::Arc;

use lightning_db::vfs::{SimulatedVfs, Vfs};
use lightning_db::{Database, LightningDbConfig, OpenAs, VerifyOptions, WalSyncMode};

#[test]
fn neighbours_that_pack_well_are_joined_once() {
    let vfs = SimulatedVfs::new(1);
    let config = LightningDbConfig {
        page_size: 64 * 1024,
        cache_size: 1024 * 1024,
        write_buffer_size: 64 * 1024,
        wal_sync_mode: WalSyncMode::Async,
        background_threads: 0,
        ..LightningDbConfig::default()
    };
    let shared = Arc::new(vfs.clone()) as Arc<dyn Vfs>;
    let db = Database::open_with_vfs(shared, "/db", config, OpenAs::Create).expect("opens");
    // Merges without end fail in the end.
    vfs.crash_after(200_000);
    let mut snapshots = Vec::new();
    for round in 0..8_u8 {
        for key in 0..300_u32 {
            db.put(key.to_be_bytes(), vec![round; 500]).expect("is written");
        }
        db.flush().expect("flushes");
        // Partitions that hold something for a view are written anew, and divided.
        snapshots.push(db.snapshot().expect("is taken"));
        let health = db.health_check();
        assert!(db.verify(VerifyOptions::default()).expect("a report").is_clean());
        assert!(health.problems.is_empty(), "{health:?}");
    }
}
