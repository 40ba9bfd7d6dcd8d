//! Golden files as carried in the sources: without the zeros at their ends, which `listing.txt` gives
//! back, so that reserved space takes none in the repository.
//!
//! The listing is text for people too: `file NAME BYTES`, then `entry KEYSPACE KEY VALUE`, keys in hex,
//! values in hex or, where they are long, as length and CRC-32C.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lightning_db::vfs::{SimulatedVfs, Vfs, write_all_at};

use super::{Contents, PATH};

/// Values up to this are spelled out.
const SPELLED_BYTES: usize = 32;

pub struct Listing {
    /// Names and lengths.
    pub files: Vec<(String, usize)>,
    /// The lines of entries.
    pub entries: Vec<String>,
}

fn dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/databases").join(name)
}

pub fn listing(name: &str) -> Listing {
    let path = dir(name).join("listing.txt");
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut listing = Listing { files: Vec::new(), entries: Vec::new() };
    for line in text.lines() {
        if let Some(file) = line.strip_prefix("file ") {
            let (name, bytes) = file.split_once(' ').expect("a name and a length");
            listing.files.push((name.to_string(), bytes.parse().expect("a length")));
        } else {
            assert!(line.starts_with("entry "), "{name}: {line}");
            listing.entries.push(line.to_string());
        }
    }
    listing
}

/// A simulated disk with the database on it, all of it durable.
pub fn restore(name: &str) -> SimulatedVfs {
    let disk = SimulatedVfs::new(7);
    // What was to live for an hour has not: see `make`.
    disk.set_wall_clock(disk.wall_clock() + Duration::from_secs(24 * 3600));
    for (file, len) in listing(name).files {
        let mut bytes = fs::read(dir(name).join(&file)).expect("a golden file");
        assert!(bytes.len() <= len, "{name}: {file} is longer than listed");
        bytes.resize(len, 0);
        let path = Path::new(PATH).join(&file);
        let parent = path.parent().expect("a directory");
        disk.create_dir_all(parent).expect("a directory");
        // An empty one stays, as a database has it, also where nothing is in it.
        disk.create_dir_all(&Path::new(PATH).join("wal")).expect("a directory");
        let handle = disk.create(&path).expect("a new file");
        write_all_at(&*handle, &bytes, 0).expect("writes");
        handle.sync_data().expect("syncs");
        for dir in parent.ancestors() {
            disk.sync_dir(dir).expect("syncs");
        }
    }
    disk
}

/// The database's files, by their names inside it.
pub fn relative_files(disk: &SimulatedVfs) -> Vec<String> {
    let inside = |path: PathBuf| {
        let path = path.strip_prefix(PATH).expect("inside").to_path_buf();
        path.to_str().expect("text").to_string()
    };
    disk.files().into_iter().map(inside).collect()
}

pub fn entries_as_text(held: &Contents) -> Vec<String> {
    let hex = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("text grows");
            text
        })
    };
    let mut lines = Vec::new();
    for (keyspace, pairs) in held {
        for (key, value) in pairs {
            let value = if value.len() <= SPELLED_BYTES {
                hex(value)
            } else {
                format!("{} bytes, crc32c {:08x}", value.len(), crc32c::crc32c(value))
            };
            lines.push(format!("entry {keyspace} {} {value}", hex(key)).trim_end().to_string());
        }
    }
    lines
}

/// Writes the database into the sources, in the place of what was there.
pub fn store(name: &str, disk: &SimulatedVfs, held: &Contents) {
    let dir = dir(name);
    if dir.exists() {
        fs::remove_dir_all(&dir).expect("the old golden files go");
    }
    let mut text = String::new();
    for file in relative_files(disk) {
        let mut bytes = disk.read_file(&Path::new(PATH).join(&file)).expect("a file");
        writeln!(text, "file {file} {}", bytes.len()).expect("text grows");
        bytes.truncate(bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1));
        let path = dir.join(&file);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(path, bytes).expect("writes");
    }
    for line in entries_as_text(held) {
        writeln!(text, "{line}").expect("text grows");
    }
    fs::write(dir.join("listing.txt"), text).expect("writes");
}
