//! Encryption at rest, from outside: nothing of a user's data is on the disk, the right key opens and
//! no other does, files cannot be mixed, and changes of the keys survive a crash at every operation.
//! (`nonces.rs` is a test of its own, since it watches its whole process; `corruption.rs`,
//! `crash_images.rs`, `model` and `sequences` run encrypted too.)
#![cfg(feature = "encryption")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests look at the files from outside"
)]
#![allow(
    clippy::naive_bytecount,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "sixteen bytes at a time; the names are the engine's own"
)]

mod keys;
mod leaks;
mod refusals;
mod rekey;
mod rotation;

use std::sync::Arc;

use lightning_db::vfs::{SimulatedVfs, Vfs};
use lightning_db::{
    CompressionType, Database, ErrorKind, IndexSpec, KeySource, KeyspaceOptions, LightningDbConfig,
    OpenAs, PassphraseCost, Result,
};

fn config(key: Option<KeySource>) -> LightningDbConfig {
    LightningDbConfig {
        write_buffer_size: 64 * 1024,
        wal_segment_size: 16 * 1024,
        max_wal_size: 64 * 1024,
        cache_size: 256 * 1024,
        background_threads: 0,
        compression_type: CompressionType::None,
        encryption: key,
        ..LightningDbConfig::default()
    }
}

fn key(byte: u8) -> KeySource {
    KeySource::key([byte; 32])
}

/// A passphrase that costs next to nothing to try.
fn passphrase(text: &str) -> KeySource {
    KeySource::passphrase_with(text, PassphraseCost { memory_kib: 8, passes: 1 })
}

fn open(vfs: &SimulatedVfs, key: Option<KeySource>, mode: OpenAs) -> Result<Database> {
    Database::open_with_vfs(Arc::new(vfs.clone()) as Arc<dyn Vfs>, "/db", config(key), mode)
}

fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.expect_err("refused").kind()
}

/// Puts, deletes, large values, streams, ingests, a keyspace of its own, an index, operands, lifetimes, range deletes, a cursor, flushes, merges, reopening: something of every
/// file. Stops at the first error.
fn workload(vfs: &SimulatedVfs, key: Option<KeySource>, rounds: u32) -> Result<()> {
    let db = open(vfs, key.clone(), OpenAs::Create)?;
    let other = db.keyspace("canary-keyspace", KeyspaceOptions::default())?;
    let options =
        KeyspaceOptions { merge_operator: Some("append".to_owned()), ..KeyspaceOptions::default() };
    let merged = db.keyspace("canary-merged", options)?;
    other.create_index("canary-index", IndexSpec::parse(&["value", "key"])?)?;
    for round in 0..rounds {
        merged.merge(format!("canary-list-{}", round % 5), format!("canary-operand-{round}"))?;
        for i in 0..6 {
            let name = format!("canary-key-{:03}", (round * 7 + i * 13) % 50);
            db.put(&name, format!("canary-value-{round}-").repeat(20))?;
            other.put(&name, format!("canary-other-{i}"))?;
        }
        if round % 5 == 1 {
            db.put("canary-large", format!("canary-blob-{round}-").repeat(1500))?;
        }
        if round % 5 == 2 {
            // More than one page, by way of a file that goes again; another is given up half-way.
            let film = format!("canary-film-{round}-").repeat(18_000);
            db.put_reader("canary-film", film.as_bytes(), None)?;
            let mut reader = db.get_reader("canary-film")?.expect("it was just put");
            let mut end = [0; 20];
            assert_eq!(reader.read_at(&mut end, film.len() as u64 - 20)?, 20);
            assert!(film.as_bytes().ends_with(&end));
            let more = Some(film.len() as u64 + 1);
            let short = db.put_reader("canary-short", film.as_bytes(), more);
            assert!(short.is_err(), "it is a byte short");
        }
        if round % 5 == 3 {
            let entries = (0..60).map(|i| {
                let times = if i == 30 { 1500 } else { 20 };
                let value = format!("canary-ingested-value-{round}-{i}").repeat(times);
                (format!("canary-ingested-{i:03}"), value)
            });
            db.ingest(entries)?;
        }
        let life = std::time::Duration::from_secs(3600);
        db.put_with_ttl(format!("canary-mortal-{round}"), "canary-value-mortal", life)?;
        if round % 4 == 3 {
            db.delete(format!("canary-key-{round:03}"))?;
            db.delete_range(Some(b"canary-key-04"), Some(b"canary-key-045"))?;
            db.flush()?;
        }
        if round % 7 == 6 {
            db.compact()?;
        }
        if round % 4 == 1 {
            db.commit_cursor("canary-cursor", db.last_commit())?;
        }
        if round % 9 == 8 && db.is_encrypted() {
            db.rotate_data_key()?;
            db.finish_data_key_rotation()?;
        }
    }
    db.drop_cursor("canary-cursor")?;
    db.close()?;
    let db = open(vfs, key, OpenAs::Open)?;
    db.put("canary-last", "canary-value-last")?;
    db.sync()
}

/// Every file of a disk, with its bytes.
fn files(vfs: &SimulatedVfs) -> Vec<(String, Vec<u8>)> {
    let read = |path: std::path::PathBuf| {
        let bytes = vfs.read_file(&path).expect("a file");
        (path.display().to_string(), bytes)
    };
    vfs.files().into_iter().map(read).collect()
}
