//! Blob segments: two keyspaces flushed at once whose memtables refer to the same segment, while
//! segments are judged unused beside them.

use std::sync::Arc;

use super::commits::config;
use super::explore::explore;
use crate::limits::BLOB_THRESHOLD_BYTES;
use crate::sync::thread;
use crate::vfs::MemoryVfs;
use crate::{Database, Durability, OpenAs, WriteBatch, WriteOptions};

fn model() {
    let vfs = Arc::new(MemoryVfs::new());
    let db = Database::open_with_vfs(vfs, "/db", config(), OpenAs::Create).unwrap();
    let other = db.keyspace("other", crate::KeyspaceOptions::default()).unwrap();
    let (ones, twos) = (vec![1; BLOB_THRESHOLD_BYTES], vec![2; BLOB_THRESHOLD_BYTES]);
    let mut batch = WriteBatch::new();
    batch.put(b"k", &ones);
    batch.put_in(&other, b"k", &twos);
    db.write(batch, WriteOptions { durability: Some(Durability::Async) }).unwrap();
    let core = Arc::clone(&db.handle().core);
    core.section.seal_all();
    let flushes: Vec<_> = core
        .all()
        .into_iter()
        .map(|keyspace| {
            let core = Arc::clone(&core);
            thread::spawn(move || {
                let _latch = keyspace.flush_latch.lock();
                crate::store::flush::flush_oldest(&core.env, &[Arc::clone(&keyspace)]).unwrap();
            })
        })
        .collect();
    core.clean_blobs().unwrap();
    for flush in flushes {
        flush.join().unwrap();
    }
    core.clean_blobs().unwrap();
    assert!(db.get(b"k").unwrap() == Some(ones));
    assert!(other.get(b"k").unwrap() == Some(twos));
    let named = core.env.manifest.lock().as_ref().unwrap().state().blob_segments.len();
    assert_eq!(named, 1);
}

/// Two flushes named a segment twice, and the second edit was refused: the latch
/// `BlobStore::naming` was put in for that. Seen to fail without it.
#[test]
fn two_flushes_name_a_blob_segment_once() {
    explore("two_flushes_name_a_blob_segment_once", 6_000, model);
}
