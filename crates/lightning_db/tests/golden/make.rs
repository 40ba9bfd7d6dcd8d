//! The golden databases, and what they hold by a model kept beside the engine.
//!
//! Each has a base, two runs or more, tombstones over older rows, versions kept for a snapshot, large
//! values of one page and (`killed`) of two, a keyspace stored plain, an empty one, and one that was dropped.
//! In a keyspace that gives lifetimes, in each of these places, one key lives for a century and another
//! for an hour: what is read is what is there a day later.
//! `killed` ends with commits that are in the log only; `closed` was closed; `plain` has no compressed
//! page; `encrypted` ends as `killed` does.

use std::time::Duration;

use lightning_db::vfs::SimulatedVfs;
use lightning_db::{
    CompressionType, Database, KeyspaceOptions, LightningDbConfig, OpenAs, WriteBatch,
};

use super::{Contents, PATH, config};

/// A database and its model, written alike.
struct Making {
    db: Option<Database>,
    held: Contents,
}

impl Making {
    fn write(&mut self, keyspace: &str, writes: Vec<(Vec<u8>, Option<Vec<u8>>)>) {
        let mut batch = WriteBatch::new();
        if let Some(db) = &self.db {
            let keyspace = db.keyspace(keyspace, KeyspaceOptions::default()).expect("a keyspace");
            for (key, value) in &writes {
                match value {
                    Some(value) => batch.put_in(&keyspace, key, value),
                    None => batch.delete_in(&keyspace, key),
                }
            }
            db.write(batch, lightning_db::WriteOptions::default()).expect("a write");
        }
        let pairs = self.held.entry(keyspace.to_string()).or_default();
        for (key, value) in writes {
            match value {
                Some(value) => pairs.insert(key, value),
                None => pairs.remove(&key),
            };
        }
    }

    /// A key that lives long, by the lifetime that its keyspace gives, and one that does not.
    fn write_lives(&mut self, name: &str, value: &[u8]) {
        let (lives, ends) = (format!("lives/{name}"), format!("ends/{name}"));
        if let Some(db) = &self.db {
            let lived = db.keyspace("lived", KeyspaceOptions::default()).expect("a keyspace");
            lived.put(&lives, value).expect("a put");
            lived.put_with_ttl(&ends, value, Duration::from_secs(3600)).expect("a put");
        }
        self.held.entry("lived".to_string()).or_default().insert(lives.into(), value.to_vec());
    }

    fn upkeep(&self, what: fn(&Database) -> lightning_db::Result<()>) {
        if let Some(db) = &self.db {
            what(db).expect("upkeep");
        }
    }
}

fn key(i: u32) -> Vec<u8> {
    format!("key/{i:05}").into_bytes()
}

fn text(i: u32, round: u32) -> Vec<u8> {
    format!("value {i} of round {round}, ").repeat(1 + (i % 4) as usize).into_bytes()
}

fn puts(keys: impl Iterator<Item = u32>, round: u32) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    keys.map(|i| (key(i), Some(text(i, round)))).collect()
}

/// Bytes that no codec shrinks, from a small generator of their own: no library's may change them.
fn noise(len: usize) -> Vec<u8> {
    let mut x = 0x2545_F491_4F6C_DD1Du64;
    let step = |_| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 32) as u8
    };
    (0..len).map(step).collect()
}

fn write_all(making: &mut Making, name: &str) {
    // A base of several leaves, with large values of one page and of two.
    making.write("default", puts(0..400, 1));
    making.write("default", vec![(b"large/one".to_vec(), Some(noise(17_000)))]);
    if name == "killed" {
        making.write("default", vec![(b"large/two".to_vec(), Some(b"abcdefgh".repeat(33_000)))]);
    }
    making.write("users", puts((0..300).step_by(3), 1));
    making.write_lives("base", b"in the base");
    making.write("users", vec![(vec![0xff; 300], Some(Vec::new())), (vec![0], Some(vec![0]))]);
    making.upkeep(Database::compact);
    // A run with tombstones over it, and with two versions of its keys: a snapshot wants the older.
    making.write("default", puts((0..400).step_by(7), 2));
    let snapshot = making.db.as_ref().map(|db| db.snapshot().expect("a snapshot"));
    making.write("default", puts((0..400).step_by(14), 3));
    making.write("default", (10..30).map(|i| (key(i), None)).collect());
    making.write_lives("run", b"in a run");
    making.write("users", vec![(key(3), None), (key(1), Some(text(1, 3)))]);
    making.upkeep(Database::flush);
    drop(snapshot);
    // Another run.
    making.write("default", puts(395..420, 4));
    making.write("default", vec![(b"large/one".to_vec(), None)]);
    making.write("users", puts(290..300, 4));
    making.upkeep(Database::flush);
    // In the log only, where the end is a kill.
    making.write("default", puts((0..420).step_by(60), 5));
    making.write("default", vec![(key(400), None), (b"large/three".to_vec(), Some(noise(20_000)))]);
    making.write_lives("log", b"in the log, if it is killed");
    if name == "killed" {
        making.write_lives("large", &noise(16_500));
    }
    making.write("users", vec![(key(6), None), (b"last".to_vec(), Some(name.into()))]);
}

/// The disk that holds the golden database.
pub fn make(name: &str) -> SimulatedVfs {
    let disk = SimulatedVfs::new(2026);
    let compressed = name != "plain";
    let encryption = (name == "encrypted").then(super::key);
    let config = LightningDbConfig { compression_enabled: compressed, encryption, ..config() };
    let db =
        Database::open_with_vfs(std::sync::Arc::new(disk.clone()), PATH, config, OpenAs::Create)
            .expect("a database");
    let plain = KeyspaceOptions {
        compression_type: Some(CompressionType::None),
        ..KeyspaceOptions::default()
    };
    db.keyspace("users", plain).expect("a keyspace");
    let century = Some(Duration::from_secs(3600 * 24 * 36_525));
    let lived = KeyspaceOptions { default_ttl: century, ..KeyspaceOptions::default() };
    db.keyspace("lived", lived).expect("a keyspace");
    db.keyspace("empty", KeyspaceOptions::default()).expect("a keyspace");
    let dropped = db.keyspace("dropped", KeyspaceOptions::default()).expect("a keyspace");
    dropped.put(b"gone", b"gone").expect("a put");
    drop(dropped);
    db.drop_keyspace("dropped").expect("dropped");
    let mut making = Making { db: Some(db), held: Contents::new() };
    write_all(&mut making, name);
    let db = making.db.take().expect("open");
    if name == "killed" || name == "encrypted" {
        return disk.kill();
    }
    db.close().expect("a close");
    disk.kill()
}

/// What it holds.
pub fn model(name: &str) -> Contents {
    let mut making = Making { db: None, held: Contents::new() };
    write_all(&mut making, name);
    making.held.insert("empty".to_string(), std::collections::BTreeMap::new());
    making.held
}
