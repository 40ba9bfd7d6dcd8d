//! Golden files: databases carried with the sources, which every later build must read as they were
//! written. Each is a directory under `databases/`, with `listing.txt` beside its files: how long each
//! file is (carried without the zeros at its end) and every key and value.
//!
//! 1. The listing is read from the golden database's text, never from what the engine does today.
//! 2. A build may write other bytes than it once did; it must go on reading those that it wrote.
//! 3. Until the first release the format may change: `cargo xtask golden` writes them all anew.
//!
//! | file | job |
//! |---|---|
//! | `make` | the databases, from fixed seeds on the simulated disk |
//! | `carried` | their files and listings, in the sources and on a simulated disk |

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test reads its golden files from outside"
)]

mod carried;
mod make;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lightning_db::vfs::{SimulatedVfs, Vfs};
use lightning_db::{
    Database, ErrorKind, KeySource, KeyspaceOptions, LightningDbConfig, OpenAs, VerifyOptions,
};

/// Where a golden database lies on a simulated disk.
const PATH: &str = "/golden";
/// The golden databases.
const NAMES: [&str; 4] = ["killed", "closed", "plain", "encrypted"];

/// Every keyspace with every key and value.
type Contents = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

fn config() -> LightningDbConfig {
    LightningDbConfig {
        write_buffer_size: 64 * 1024,
        wal_segment_size: 16 * 1024,
        max_wal_size: 64 * 1024,
        cache_size: 256 * 1024,
        background_threads: 0,
        background_compaction: false,
        ..LightningDbConfig::default()
    }
}

/// That of the encrypted one.
fn key() -> KeySource {
    KeySource::key([7; 32])
}

fn open(vfs: &SimulatedVfs, mode: OpenAs) -> lightning_db::Result<Database> {
    let encrypted = vfs.files().contains(&Path::new(PATH).join("KEYS"));
    let config = LightningDbConfig { encryption: encrypted.then(key), ..config() };
    Database::open_with_vfs(Arc::new(vfs.clone()) as Arc<dyn Vfs>, PATH, config, mode)
}

fn contents(db: &Database) -> Contents {
    let read = |name: String| {
        let keyspace = db.keyspace(&name, KeyspaceOptions::default()).expect("a keyspace");
        let pairs = keyspace.range(None, None).expect("a range");
        let pairs: BTreeMap<_, _> = pairs.map(|pair| pair.expect("an entry")).collect();
        for (key, value) in &pairs {
            let got = keyspace.get(key).expect("a get");
            assert_eq!(got.as_ref(), Some(value), "{name}: a get and a scan differ");
        }
        (name, pairs)
    };
    db.list_keyspaces().into_iter().map(read).collect()
}

/// Reads everything and compares it to the listing.
fn check(name: &str, vfs: &SimulatedVfs, mode: OpenAs) {
    let db = open(vfs, mode).unwrap_or_else(|e| panic!("{name}, {mode:?}: {e:?}"));
    let found = carried::entries_as_text(&contents(&db));
    let expected = carried::listing(name).entries;
    assert!(!expected.is_empty(), "{name} lists nothing");
    for (line, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert_eq!(found, expected, "{name}, {mode:?}: entry {line} of the listing");
    }
    assert_eq!(found.len(), expected.len(), "{name}, {mode:?}: number of entries");
    let report = db.verify(VerifyOptions::default()).expect("a report");
    assert!(report.is_clean(), "{name}, {mode:?}: {:?}", report.problems);
}

#[test]
fn golden_databases_read_as_they_were_written() {
    let mut entries = 0;
    for name in NAMES {
        let disk = carried::restore(name);
        let files = files_of(&disk);
        check(name, &disk, OpenAs::ReadOnly);
        let changed = changes(&files, &files_of(&disk));
        assert!(changed.is_empty(), "{name}: opening read-only changed {changed:?}");
        check(name, &disk, OpenAs::Open);
        // And what the recovery made of it.
        check(name, &disk.power_cut(1), OpenAs::Open);
        entries += carried::listing(name).entries.len();
    }
    println!("tried: {} golden databases with {entries} entries", NAMES.len());
}

fn files_of(disk: &SimulatedVfs) -> BTreeMap<PathBuf, Vec<u8>> {
    let read = |path: PathBuf| {
        let bytes = disk.read_file(&path).expect("a file");
        (path, bytes)
    };
    disk.files().into_iter().map(read).collect()
}

/// The files that are not as they were.
fn changes(
    before: &BTreeMap<PathBuf, Vec<u8>>,
    after: &BTreeMap<PathBuf, Vec<u8>>,
) -> BTreeSet<PathBuf> {
    let all = before.keys().chain(after.keys());
    all.filter(|path| before.get(*path) != after.get(*path)).cloned().collect()
}

/// What the golden databases are there for; a regeneration that loses it says so.
#[test]
fn golden_databases_hold_every_kind_of_file_and_page() {
    let mut pages = [0; 5];
    for name in NAMES {
        let disk = carried::restore(name);
        let files = carried::relative_files(&disk);
        let kinds = ["CURRENT", "manifest/", "seg/"];
        assert!(kinds.iter().all(|k| files.iter().any(|f| f.starts_with(k))), "{name}: {files:?}");
        let has_log = files.iter().any(|f| f.starts_with("wal/"));
        assert_eq!(has_log, ["killed", "encrypted"].contains(&name), "{name}: {files:?}");
        assert_eq!(files.iter().any(|f| f == "KEYS"), name == "encrypted", "{name}: {files:?}");
        for file in files.iter().filter(|f| f.starts_with("seg/")) {
            let bytes = disk.read_file(&Path::new(PATH).join(file)).expect("a file");
            // FORMAT.md: the header of 64 bytes, or 128, then pages, each with its length at byte 8.
            let mut at = if bytes[13] == 1 { 128 } else { 64 };
            while let Some(page) = bytes.get(at..).filter(|rest| rest.len() >= 16) {
                pages[usize::from(page[0])] += 1;
                at += 16 + u32::from_le_bytes(page[8..12].try_into().expect("4")) as usize;
            }
        }
        let db = open(&disk, OpenAs::ReadOnly).expect("opens");
        let stats = db.stats();
        let of = |what: fn(&lightning_db::KeyspaceStats) -> usize| {
            stats.keyspaces.iter().map(what).max().unwrap_or(0)
        };
        assert!(of(|k| k.runs) >= 2, "{name} has not two runs");
        assert!(of(|k| k.base_partitions) >= 1, "{name} has no base");
        let lived = stats.keyspaces.iter().find(|k| k.name == "lived").expect("there");
        assert!(lived.expired_entries > 0 && lived.expiring_entries > lived.expired_entries);
        let keyspaces: Vec<_> = stats.keyspaces.iter().map(|k| k.name.as_str()).collect();
        assert_eq!(keyspaces, ["default", "empty", "lived", "users"], "{name}");
    }
    assert!(pages[1..].iter().all(|n| *n > 0) && pages[0] == 0, "pages by type: {pages:?}");
}

/// Newer than that of any file.
const NEWER: u32 = 3;

/// A file whose version is given as newer than any, with its checksums put right.
fn of_a_newer_version(file: &str, bytes: &mut [u8]) {
    let sealed: &[(usize, usize, usize)] = match file.split('/').next() {
        // Where the version lies, and its checksum: where from, and where to.
        Some("CURRENT") => &[(8, 0, 12), (8, 0, 44)],
        Some("manifest") => &[(8, 0, 12), (8, 0, 60)],
        Some("wal") => &[(8, 0, 76), (2056, 2048, 2124)],
        Some("seg") => &[(8, 0, 60)],
        Some("KEYS") => &[(8, 0, 12), (8, 0, 4092), (4104, 4096, 4108), (4104, 4096, 8188)],
        _ => panic!("{file} has no version"),
    };
    for &(version, from, to) in sealed {
        bytes[version..version + 4].copy_from_slice(&NEWER.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[from..to]);
        bytes[to..to + 4].copy_from_slice(&crc.to_le_bytes());
    }
}

/// A writable opening that was refused for the sake of a run's segment had by then begun a log file and
/// written the log's large values anew, and did so each time it was tried: nothing of what the manifest
/// names is left to be opened once anything is written.
#[test]
fn a_newer_version_of_any_file_is_refused_by_name_and_nothing_is_changed() {
    let mut refused = BTreeMap::new();
    for name in NAMES {
        let disk = carried::restore(name);
        let files = carried::relative_files(&disk).into_iter().filter(|f| f != "LOCK");
        for file in files {
            let path = Path::new(PATH).join(&file);
            for mode in [OpenAs::ReadOnly, OpenAs::Open] {
                let disk = disk.fork();
                disk.corrupt(&path, |bytes| of_a_newer_version(&file, bytes)).expect("a file");
                let before = files_of(&disk);
                let Err(e) = open(&disk, mode) else {
                    panic!("{name}: {file} of version {NEWER} was opened, {mode:?}")
                };
                assert_eq!(e.kind(), ErrorKind::UnsupportedFormat, "{name}, {file}: {e:?}");
                assert_eq!(e.file(), Some(&*path), "{name}, {file}: {e:?}");
                let said = e.message();
                let newer = format!("version {NEWER}");
                assert!(said.contains(&newer), "{file}: the file's version: {said}");
                assert!(said.contains("knows") && said.contains('1'), "{file}: ours: {said}");
                let changed = changes(&before, &files_of(&disk));
                assert!(
                    changed.is_empty(),
                    "{name}, {file}, {mode:?}: refused, but changed {changed:?}"
                );
                let kind = file.split('/').next().expect("a part").to_string();
                *refused.entry(kind).or_insert(0) += 1;
            }
        }
    }
    let kinds: Vec<_> = refused.keys().map(String::as_str).collect();
    assert_eq!(kinds, ["CURRENT", "KEYS", "manifest", "seg", "wal"]);
    println!("tried: newer versions of files, all refused ({refused:?})");
}

/// So that a regeneration changes no more than the format did.
#[test]
fn the_same_is_made_every_time() {
    for name in NAMES {
        assert!(files_of(&make::make(name)) == files_of(&make::make(name)), "{name} differs");
    }
}

#[test]
#[ignore = "writes the golden files: cargo xtask golden"]
fn write_golden_files() {
    for name in NAMES {
        let disk = make::make(name);
        // Read from a copy: a recovery changes files.
        let later = disk.fork();
        later.set_wall_clock(later.wall_clock() + std::time::Duration::from_secs(24 * 3600));
        let db = open(&later, OpenAs::Open).expect("opens");
        let held = contents(&db);
        assert!(held == make::model(name), "{name} is not what was written to it");
        carried::store(name, &disk, &held);
    }
}
