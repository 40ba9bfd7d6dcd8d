//! Damage in every kind of file: flips, zeros, cuts. Opening, reading and verifying then give errors,
//! never a panic, and never a value that was not written.
//!
//! `LIGHTNING_CORRUPTIONS` sets how many there are, `LIGHTNING_CORRUPTIONS_FIRST` the seed that the
//! database and the damage are drawn from; a failure names the line that repeats it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lightning_db::vfs::{SimulatedVfs, Vfs};
use lightning_db::{
    CompressionType, Database, ErrorKind, KeySource, LightningDbConfig, OpenAs, VerifyOptions,
    WalSyncMode,
};

fn open(
    vfs: &SimulatedVfs,
    mode: OpenAs,
    (compression_type, encrypted): (CompressionType, bool),
) -> lightning_db::Result<Database> {
    let config = LightningDbConfig {
        write_buffer_size: 64 * 1024,
        wal_segment_size: 64 * 1024,
        max_wal_size: 256 * 1024,
        background_threads: 0,
        wal_sync_mode: WalSyncMode::Sync,
        compression_type,
        encryption: encrypted.then(|| KeySource::key([7; 32])),
        ..LightningDbConfig::default()
    };
    Database::open_with_vfs(Arc::new(vfs.clone()) as Arc<dyn Vfs>, "/db", config, mode)
}

#[test]
fn damage_is_an_error_and_never_wrong_data() {
    let number = |name, default| {
        std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok()).unwrap_or(default)
    };
    let rounds = number("LIGHTNING_CORRUPTIONS", 3000);
    let seed = number("LIGHTNING_CORRUPTIONS_FIRST", 5);
    for codec in [
        CompressionType::Lz4,
        CompressionType::None,
        CompressionType::Zstd,
        CompressionType::Snappy,
    ] {
        damage((codec, false), seed, rounds / 5);
    }
    damage((CompressionType::Lz4, true), seed, rounds / 5);
}

fn damage(codec: (CompressionType, bool), seed: u64, rounds: u64) {
    let original = SimulatedVfs::new(seed);
    let mut written: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>> = BTreeMap::new();
    let mut rng = fastrand::Rng::with_seed(seed);
    let db = open(&original, OpenAs::Create, codec).expect("a database");
    for _ in 0..900 {
        let key = format!("key{:04}", rng.u16(0..500)).into_bytes();
        let len = if rng.u8(0..80) == 0 { 20_000 } else { rng.usize(0..400) };
        let value: Vec<u8> = (0..len).map(|_| rng.u8(b'a'..b'h')).collect();
        db.put(&key, &value).expect("a put");
        written.entry(key).or_default().insert(value);
    }
    // Killed, so that there is a log with records too.
    let image = original.kill();
    drop(db);
    let files: Vec<_> =
        image.files().into_iter().filter(|f| f.file_name().is_some_and(|n| n != "LOCK")).collect();
    let (mut refused, mut found) = (0, 0);
    for round in 0..rounds {
        let disk = image.fork();
        let path = &files[rng.usize(0..files.len())];
        disk.corrupt(path, |bytes| {
            if bytes.is_empty() {
                return;
            }
            let at = rng.usize(0..bytes.len());
            match rng.u8(0..8) {
                0 => bytes.truncate(at),
                1 => {
                    let end = (at + rng.usize(1..600)).min(bytes.len());
                    bytes[at..end].fill(0);
                }
                _ => bytes[at] ^= 1 << rng.u8(0..8),
            }
        })
        .expect("a file");
        let label = format!(
            "{codec:?}, round {round}, {} (again: LIGHTNING_CORRUPTIONS_FIRST={seed} \
             LIGHTNING_CORRUPTIONS={} cargo test -p lightning_db --test corruption)",
            path.display(),
            4 * (round + 1)
        );
        let read_only = rng.bool();
        let mode = if read_only { OpenAs::ReadOnly } else { OpenAs::Open };
        let db = match open(&disk, mode, codec) {
            Ok(db) => db,
            Err(e) => {
                let told = matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::UnsupportedFormat);
                assert!(told && e.file().is_some(), "{label}: {e:?}");
                refused += 1;
                continue;
            }
        };
        for (key, values) in &written {
            match db.get(key) {
                Ok(Some(v)) => assert!(values.contains(&v), "{label}: a value never written"),
                Ok(None) => {}
                Err(e) => assert_eq!(e.kind(), ErrorKind::Corrupt, "{label}: {e:?}"),
            }
        }
        for pair in db.range(None, None).expect("a range") {
            match pair {
                Ok((k, v)) => {
                    assert!(written.get(&k).is_some_and(|w| w.contains(&v)), "{label}: invented");
                }
                Err(e) => assert_eq!(e.kind(), ErrorKind::Corrupt, "{label}: {e:?}"),
            }
        }
        found += u64::from(!db.verify(VerifyOptions::default()).expect("a report").is_clean());
    }
    assert!(refused > 0 && found > 0);
    println!(
        "tried: {rounds} corruptions with codec and encryption {codec:?} ({refused} refused at open, {found} found by verify)"
    );
}
