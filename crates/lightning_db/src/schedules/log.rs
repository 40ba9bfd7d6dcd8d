//! The log alone: files that are begun before the one before is durable, up to the bound where whoever begins another
//! waits; fsyncs that take several files; and the question whether a file's header is durable, at once.
//!
//! What was not synced is lost as a whole here: `wal::tests` cut the power with any part of it kept.

use std::path::Path;
use std::sync::Arc;

use super::explore::explore;
use crate::crypto::Owner;
use crate::sync::{Mutex, thread};
use crate::types::{DatabaseId, LogId, Seq};
use crate::vfs::simulated::Survival;
use crate::vfs::{SimulatedVfs, Vfs};
use crate::wal::{FILE_HEADER_BYTES, Log, LogOptions, LogRecovery, Visit};

const DB: DatabaseId = DatabaseId([3; 16]);
/// Two fit into a file.
const BODY: [u8; 1500] = [5; 1500];

/// The last commit of the log that begins with file `first`, as the disk has it.
fn last_on(disk: &SimulatedVfs, first: LogId, vouched: Seq) -> Seq {
    let vfs = Arc::new(disk.clone()) as Arc<dyn Vfs>;
    let mut accept = |_: Seq, body: &[u8]| {
        assert!(body == BODY);
        Ok(Visit::Accept)
    };
    let owner = Owner::plain(DB);
    let found =
        LogRecovery::recover(&vfs, Path::new("/db"), &owner, first, 0, vouched, &mut accept);
    found.unwrap().last_seq.unwrap_or(Seq(0))
}

fn files_beside_syncs_model() {
    let disk = SimulatedVfs::new(1);
    let vfs = Arc::new(disk.clone()) as Arc<dyn Vfs>;
    vfs.create_dir_all(Path::new("/db/wal")).unwrap();
    for dir in ["/", "/db"] {
        vfs.sync_dir(Path::new(dir)).unwrap();
    }
    let segment_bytes = 2 * FILE_HEADER_BYTES as u64;
    let options = LogOptions { segment_bytes, files: Arc::default(), for_readers: false };
    let owner = Owner::plain(DB);
    let log = Log::create(&vfs, Path::new("/db"), &owner, LogId(1), Seq(1), 0, options).unwrap();
    let (writer, sync) = log.split();
    let writer = Arc::new(Mutex::new(writer));
    let append = |writer: &Mutex<crate::wal::LogWriter>| {
        let mut writer = writer.lock();
        let seq = writer.last().next();
        writer.append(seq, &BODY, crc32c::crc32c(&BODY)).unwrap();
        seq
    };
    let threads: Vec<_> = [4, 3]
        .map(|unsynced| {
            let (writer, sync, disk) = (Arc::clone(&writer), Arc::clone(&sync), disk.clone());
            thread::spawn(move || {
                (0..unsynced).for_each(|_| drop(append(&writer)));
                let seq = append(&writer);
                sync.sync_to(seq).unwrap();
                let image = disk.power_cut_with(7, Survival::Nothing);
                assert!(last_on(&image, LogId(1), seq) >= seq);
            })
        })
        .into();
    let (file, before) = {
        let writer = writer.lock();
        (writer.position().0, Seq(writer.last().0.saturating_sub(1)))
    };
    sync.sync_with_files(before).unwrap();
    let image = disk.power_cut_with(7, Survival::Nothing);
    // It is refused where the header is lost, or what is vouched for.
    last_on(&image, file, before);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(last_on(&disk.kill(), LogId(1), Seq(9)), Seq(9));
}

/// Seen to fail, with fewer files, when an fsync takes the current file alone, when it forgets the files that came behind while it
/// ran, and when it counts the headers of these as durable.
#[test]
fn files_are_begun_beside_syncs() {
    explore("files_are_begun_beside_syncs", 6_000, files_beside_syncs_model);
}
