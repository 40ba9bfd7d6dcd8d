//! A small database on the simulated disk with one file put in by the fuzzer: it opens, or is
//! refused with an error of the right kind; what opens can be read and verified, and opening it
//! again gives the same.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::vfs::{SimulatedVfs, Vfs};
use crate::{
    Database, Durability, KeyspaceOptions, LightningDbConfig, OpenAs, VerifyOptions, WriteBatch,
    WriteOptions,
};

/// Where the database is.
pub(super) const PATH: &str = "/db";

/// Everything small, no threads.
pub(super) fn config() -> LightningDbConfig {
    LightningDbConfig {
        write_buffer_size: 64 * 1024,
        wal_segment_size: 16 * 1024,
        max_wal_size: 64 * 1024,
        cache_size: 64 * 1024,
        background_threads: 0,
        ..LightningDbConfig::default()
    }
}

pub(super) fn open(vfs: &SimulatedVfs, mode: OpenAs) -> Result<Database> {
    Database::open_with_vfs(Arc::new(vfs.clone()) as Arc<dyn Vfs>, PATH, config(), mode)
}

/// A database with runs, a base, a second keyspace, lifetimes, a large value and a log, killed. The flush and
/// the merge come after `before` of the commits.
pub(super) fn make(commits: u8, before: u8) -> SimulatedVfs {
    let vfs = SimulatedVfs::new(5);
    let made = (|| {
        let db = open(&vfs, OpenAs::Create)?;
        let other = db.keyspace("other", KeyspaceOptions::default())?;
        for i in 0..commits {
            let mut batch = WriteBatch::new();
            batch.put([b'k', i % 7], [i; 20]);
            batch.put_in(&other, [i], vec![i; usize::from(i) * 3]);
            if i % 4 == 0 {
                batch.delete([b'k', i % 5]);
            }
            if i % 3 == 0 {
                batch.put_with_ttl([b't', i], [i; 9], Duration::from_secs(3600));
            }
            if i == 2 {
                batch.put(b"large", vec![i; 20_000]);
            }
            let durability = if i % 2 == 0 { Durability::Sync } else { Durability::Async };
            db.write(batch, WriteOptions { durability: Some(durability) })?;
            if i + 1 == before / 2 {
                db.compact()?;
            }
            if i + 1 == before {
                db.flush()?;
            }
        }
        let image = vfs.kill();
        drop(db);
        Ok::<_, Error>(image)
    })();
    made.expect("the simulated disk is well")
}

/// The files of a directory of the image, by name.
pub(super) fn files_in(vfs: &SimulatedVfs, dir: &str) -> Vec<PathBuf> {
    let dir = Path::new(PATH).join(dir);
    let mut files: Vec<_> = vfs.files().into_iter().filter(|f| f.starts_with(&dir)).collect();
    files.sort();
    files
}

/// A file of the image without the reserved space at its end, which says nothing.
pub(super) fn used_bytes(vfs: &SimulatedVfs, file: &Path) -> Vec<u8> {
    let mut bytes = vfs.read_file(file).expect("the file is there");
    let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 9);
    bytes.truncate(used.next_multiple_of(8));
    bytes
}

type Entries = Vec<(String, Vec<u8>, Vec<u8>)>;

fn read_all(db: &Database) -> Result<Entries> {
    let mut all = Vec::new();
    for name in db.list_keyspaces() {
        for pair in db.keyspace(&name, KeyspaceOptions::default())?.range(None, None)? {
            let (key, value) = pair?;
            all.push((name.clone(), key, value));
        }
    }
    Ok(all)
}

fn refused(e: &Error) {
    let kinds = [ErrorKind::Corrupt, ErrorKind::UnsupportedFormat];
    assert!(kinds.contains(&e.kind()), "damage gave {e:?}");
}

/// Opens a fork of `image` in which `file` consists of `bytes`; tells whether that was possible.
pub(super) fn check(image: &SimulatedVfs, file: &Path, bytes: &[u8]) -> bool {
    let vfs = image.fork();
    vfs.corrupt(file, |content| *content = bytes.to_vec()).expect("the file is there");
    let mut before: Option<Result<Entries>> = None;
    for _ in 0..2 {
        let db = match open(&vfs, OpenAs::Open) {
            Ok(db) => db,
            Err(e) => {
                assert!(before.is_none(), "what was opened once does not open again: {e:?}");
                refused(&e);
                return false;
            }
        };
        let entries = read_all(&db);
        let report = db.verify(VerifyOptions::default()).expect("a report");
        match (&entries, &before) {
            (Err(e), _) => {
                refused(e);
                assert!(!report.is_clean(), "reads fail, and verification sees nothing: {e:?}");
            }
            (Ok(now), Some(Ok(before))) => assert!(now == before, "opened again, it holds more"),
            (Ok(_), _) => {}
        }
        before = Some(entries);
        // A close may fail where files are damaged; the panic it must not end in shows.
        let _ = db.close();
    }
    true
}
