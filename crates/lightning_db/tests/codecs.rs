//! Codecs and levels: chosen for a database and for a keyspace, kept or changed across openings, and
//! told in the statistics. Dictionaries: where they pay they are there, where not they are not.

use std::sync::Arc;

use lightning_db::vfs::{SimulatedVfs, Vfs};
use lightning_db::{
    CompressionType, Database, ErrorKind, Keyspace, KeyspaceOptions, LightningDbConfig, OpenAs,
    VerifyOptions,
};

const CODECS: [CompressionType; 4] =
    [CompressionType::None, CompressionType::Lz4, CompressionType::Zstd, CompressionType::Snappy];

fn open(
    disk: &SimulatedVfs,
    compression_type: CompressionType,
    compression_level: Option<i32>,
) -> Database {
    let config = LightningDbConfig {
        compression_type,
        compression_level,
        background_threads: 0,
        write_buffer_size: 256 * 1024,
        // Reads are to come from the files.
        cache_size: 64 * 1024,
        ..LightningDbConfig::default()
    };
    let vfs = Arc::new(disk.clone()) as Arc<dyn Vfs>;
    Database::open_with_vfs(vfs, "/db", config, OpenAs::OpenOrCreate).expect("opens")
}

fn row(n: u32) -> (Vec<u8>, Vec<u8>) {
    let key = format!("order/{n:06}").into_bytes();
    let name = ["copper", "walnut", "marble", "linen"][n as usize % 4];
    let value =
        format!("{{\"item\": \"{name}\", \"count\": {}, \"price\": {}}}", n * 7 % 90, n * 31);
    (key, value.into_bytes())
}

fn fill(keyspace: &Keyspace, rows: std::ops::Range<u32>) {
    for n in rows {
        let (key, value) = row(n);
        keyspace.put(key, value).expect("written");
    }
}

fn assert_holds(db: &Database, keyspace: &Keyspace, rows: u32) {
    for n in 0..rows {
        let (key, value) = row(n);
        assert_eq!(keyspace.get(key).expect("reads"), Some(value));
    }
    let all: Vec<_> = keyspace.range(None, None).expect("a range").map(Result::unwrap).collect();
    assert_eq!(all, (0..rows).map(row).collect::<Vec<_>>());
    let report = db.verify(VerifyOptions::default()).expect("verifies");
    assert!(report.is_clean(), "{:?}", report.problems);
}

fn file_bytes(db: &Database, name: &str) -> u64 {
    let stats = db.stats();
    stats.keyspaces.iter().find(|k| k.name == name).expect("a keyspace").file_bytes
}

#[test]
fn pages_of_every_codec_are_read_whatever_the_database_is_opened_with() {
    let disk = SimulatedVfs::new(1);
    let mut rows = 0;
    for (turn, codec) in CODECS.into_iter().cycle().take(9).enumerate() {
        let db = open(&disk, codec, None);
        let keyspace = db.keyspace("default", KeyspaceOptions::default()).expect("there");
        assert_holds(&db, &keyspace, rows);
        fill(&keyspace, rows..rows + 700);
        rows += 700;
        db.flush().expect("flushes");
        if turn % 3 == 2 {
            db.compact().expect("compacts");
        }
        assert_holds(&db, &keyspace, rows);
        db.close().expect("closes");
    }
}

#[test]
fn a_codec_takes_hold_of_old_pages_when_they_are_renewed() {
    let disk = SimulatedVfs::new(2);
    let db = open(&disk, CompressionType::None, None);
    fill(&db.keyspace("default", KeyspaceOptions::default()).expect("there"), 0..5000);
    db.compact().expect("compacts");
    let plain = file_bytes(&db, "default");
    db.close().expect("closes");
    let db = open(&disk, CompressionType::Zstd, Some(19));
    assert_eq!(file_bytes(&db, "default"), plain);
    let keyspace = db.keyspace("default", KeyspaceOptions::default()).expect("there");
    for n in 0..5000 {
        keyspace.put(row(n).0, b"changed").expect("written");
    }
    fill(&keyspace, 0..5000);
    db.compact().expect("compacts");
    assert!(file_bytes(&db, "default") * 2 < plain);
    assert_holds(&db, &keyspace, 5000);
}

#[test]
fn a_keyspace_keeps_the_codec_and_the_level_it_was_made_with() {
    let disk = SimulatedVfs::new(3);
    let db = open(&disk, CompressionType::Lz4, None);
    let own = |compression_type, compression_level| KeyspaceOptions {
        compression_type: Some(compression_type),
        compression_level,
        ..KeyspaceOptions::default()
    };
    for (name, options) in [
        ("plain", own(CompressionType::None, None)),
        ("fast", own(CompressionType::Zstd, Some(-7))),
        ("small", own(CompressionType::Zstd, Some(19))),
    ] {
        fill(&db.keyspace(name, options).expect("made"), 0..4000);
    }
    db.compact().expect("compacts");
    let sizes = |db: &Database| ["plain", "fast", "small"].map(|name| file_bytes(db, name));
    let [plain, fast, small] = sizes(&db);
    assert!(small < fast && fast < plain, "{small} {fast} {plain}");
    db.close().expect("closes");
    // Twice: what recovery wrote anew is kept as well.
    for _ in 0..2 {
        drop(open(&disk, CompressionType::None, None));
    }
    let db = open(&disk, CompressionType::Zstd, Some(1));
    for name in ["plain", "fast", "small"] {
        let keyspace = db.keyspace(name, KeyspaceOptions::default()).expect("there");
        for n in 0..4000 {
            keyspace.delete(row(n).0).expect("deleted");
        }
        db.compact().expect("compacts");
        fill(&keyspace, 0..4000);
        db.compact().expect("compacts");
        assert_holds(&db, &keyspace, 4000);
    }
    // Where a memtable was full is not the same each time.
    for (now, then) in sizes(&db).into_iter().zip([plain, fast, small]) {
        assert!(now.abs_diff(then) * 50 < then, "{now}, and {then} before");
    }
}

#[test]
fn levels_that_mean_nothing_are_refused_and_make_nothing() {
    let db = Database::open_in_memory(LightningDbConfig::default()).expect("opens");
    for (codec, level) in [
        (Some(CompressionType::Zstd), 23),
        (Some(CompressionType::Zstd), 0),
        (Some(CompressionType::Snappy), 1),
        (None, 1),
    ] {
        let options = KeyspaceOptions {
            compression_type: codec,
            compression_level: Some(level),
            ..KeyspaceOptions::default()
        };
        let e = db.keyspace("never", options).expect_err("refused");
        assert_eq!(e.kind(), ErrorKind::InvalidConfig);
        assert!(e.message().contains("`compression_level`"), "{e}");
    }
    assert_eq!(db.list_keyspaces(), ["default"]);
    let config = LightningDbConfig { compression_level: Some(3), ..LightningDbConfig::default() };
    let e = Database::open_in_memory(config).expect_err("LZ4 has no levels");
    assert!(e.message().contains("`compression_level`"), "{e}");
}

#[test]
fn what_does_not_shrink_is_hardly_tried_and_all_is_counted() {
    for codec in CODECS {
        let db = open(&SimulatedVfs::new(4), codec, None);
        let mut rng = fastrand::Rng::with_seed(1);
        for n in 0..5000_u32 {
            let noise: Vec<u8> = (0..300).map(|_| rng.u8(..)).collect();
            db.put(n.to_be_bytes(), noise).expect("written");
        }
        db.compact().expect("compacts");
        let stats = db.stats();
        let (tried, plain, skipped) = (stats.pages_tried, stats.pages_plain, stats.pages_skipped);
        if codec == CompressionType::None {
            assert_eq!((tried, plain, skipped), (0, 0, 0));
            continue;
        }
        assert!(plain < tried && tried * 2 < skipped, "{codec:?}: {tried} {plain} {skipped}");
        let metrics = db.get_metrics();
        let written = metrics.get("lightning_db_pages_written_total").expect("a metric");
        let values: Vec<_> = written.values.iter().map(|v| v.value as u64).collect();
        assert_eq!(values, [tried - plain, plain, skipped]);
    }
}

/// Of each data segment: its codec, and the bytes of its dictionary as they are stored.
fn dictionaries(disk: &SimulatedVfs) -> Vec<(u8, Vec<u8>)> {
    let files = disk.files().into_iter().filter(|f| f.extension().is_some_and(|e| e == "seg"));
    files
        .map(|file| {
            let bytes = disk.read_file(&file).expect("a file");
            let codec = bytes[44];
            let stored = u32::from_le_bytes(bytes[72..76].try_into().expect("four bytes"));
            (codec, if codec == 4 { bytes[80..80 + stored as usize].to_vec() } else { Vec::new() })
        })
        .collect()
}

#[test]
fn a_dictionary_is_trained_where_it_pays_and_kept_across_openings() {
    let disk = SimulatedVfs::new(5);
    let db = open(&disk, CompressionType::Zstd, None);
    let keyspace = db.keyspace("default", KeyspaceOptions::default()).expect("there");
    fill(&keyspace, 0..20_000);
    db.compact().expect("compacts");
    assert!(dictionaries(&disk).iter().any(|(codec, _)| *codec == 4), "no segment has one");
    assert_holds(&db, &keyspace, 20_000);
    drop(keyspace);
    db.close().expect("closes");
    // The first opening may find that a larger one pays by now.
    let again = || {
        let db = open(&disk, CompressionType::Zstd, None);
        let keyspace = db.keyspace("default", KeyspaceOptions::default()).expect("there");
        fill(&keyspace, 0..20_000);
        db.compact().expect("compacts");
        assert_holds(&db, &keyspace, 20_000);
        drop(keyspace);
        db.close().expect("closes");
        let segments = dictionaries(&disk).into_iter().filter(|(codec, _)| *codec == 4);
        segments.map(|(_, bytes)| bytes).collect::<Vec<_>>()
    };
    let first = again();
    assert!(!first.is_empty());
    assert!(again().iter().any(|bytes| first.contains(bytes)), "another was trained");
    // Without Zstandard for new pages, dictionaries go with the pages that need them.
    let db = open(&disk, CompressionType::Lz4, None);
    let keyspace = db.keyspace("default", KeyspaceOptions::default()).expect("there");
    assert_holds(&db, &keyspace, 20_000);
    fill(&keyspace, 0..20_000);
    db.compact().expect("compacts");
    assert_holds(&db, &keyspace, 20_000);
    drop(keyspace);
    db.close().expect("closes");
    assert!(dictionaries(&disk).iter().all(|(codec, _)| *codec == 1));
}

#[test]
fn a_dictionary_that_helps_no_more_gives_way() {
    let disk = SimulatedVfs::new(6);
    let db = open(&disk, CompressionType::Zstd, None);
    let keyspace = db.keyspace("default", KeyspaceOptions::default()).expect("there");
    fill(&keyspace, 0..20_000);
    db.compact().expect("compacts");
    let old: Vec<_> = dictionaries(&disk).into_iter().filter(|(c, _)| *c == 4).collect();
    assert!(!old.is_empty());
    // Other data under other keys, several times as much; the old keys go.
    let words = ["KILOGRAM", "CENTIMETRE", "FORTNIGHT", "HORSEPOWER", "BUSHEL", "FURLONG"];
    let mut rng = fastrand::Rng::with_seed(9);
    for n in 0..40_000_u32 {
        let value = (0..8).map(|_| words[rng.usize(0..6)]).collect::<Vec<_>>().join("~");
        keyspace.put(format!("{n:08}"), value + &rng.u32(..).to_string()).expect("written");
    }
    for n in 0..20_000 {
        keyspace.delete(row(n).0).expect("deleted");
    }
    db.compact().expect("compacts");
    let new = dictionaries(&disk);
    assert!(new.iter().all(|d| !old.contains(d)), "the old one is still there");
    let report = db.verify(VerifyOptions::default()).expect("verifies");
    assert!(report.is_clean(), "{:?}", report.problems);
}

#[test]
fn what_has_nothing_in_common_gets_no_dictionary() {
    let disk = SimulatedVfs::new(7);
    let db = open(&disk, CompressionType::Zstd, None);
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..4000 {
        // Long and uneven, or what leaves say of their entries would be common enough.
        let noise: Vec<u8> = (0..rng.usize(400..1200)).map(|_| rng.u8(..)).collect();
        db.put(rng.u64(..).to_be_bytes(), noise).expect("written");
    }
    db.compact().expect("compacts");
    assert!(dictionaries(&disk).iter().all(|(codec, _)| *codec == 2));
}

#[test]
fn a_rotten_dictionary_is_found_and_reads_say_so() {
    let disk = SimulatedVfs::new(8);
    let db = open(&disk, CompressionType::Zstd, None);
    fill(&db.keyspace("default", KeyspaceOptions::default()).expect("there"), 0..20_000);
    db.compact().expect("compacts");
    db.close().expect("closes");
    let mut damaged = 0;
    for file in disk.files().iter().filter(|f| f.extension().is_some_and(|e| e == "seg")) {
        disk.corrupt(file, |bytes| {
            if bytes[44] == 4 {
                bytes[200] ^= 1;
                damaged += 1;
            }
        })
        .expect("a file");
    }
    assert!(damaged > 0);
    let db = open(&disk, CompressionType::Zstd, None);
    let mut lost = 0;
    for n in 0..20_000 {
        let (key, value) = row(n);
        match db.get(key) {
            Ok(found) => assert_eq!(found, Some(value)),
            Err(e) => {
                assert_eq!((e.kind(), e.offset()), (ErrorKind::Corrupt, Some(64)), "{e}");
                lost += 1;
            }
        }
    }
    assert!(lost > 0);
    let report = db.verify(VerifyOptions::default()).expect("a report");
    assert!(report.problems.iter().filter(|p| p.offset == 64).count() >= damaged);
}
