//! A value that comes as a stream, into blob pages and then into a commit.
//!
//! 1. The value is written to a segment of its own while it comes, without a latch that others wait for:
//!    who reads from a slow source holds nobody up.
//! 2. A value that fills a segment well keeps it. A shorter one is copied to the segment that all
//!    writers share: segments are files that stay open, and should not be many.
//! 3. What fails, and a panic in the source, leaves no file. Only where the commit may be in the log
//!    does the file stay, for the next opening to judge.
//! 4. At most two pages are in memory.

use std::io::{ErrorKind as IoErrorKind, Read};
use std::sync::Arc;

use crate::commit::batch::WriteBatch;
use crate::config::WriteOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::BLOB_CHUNK_BYTES;
use crate::maintenance::core::Core;
use crate::maintenance::file_jobs::FileJob;
use crate::maintenance::write::{check_entry, check_quota, dropped, write_batch};
use crate::store::blobs::BlobStore;
use crate::store::keyspace::KeyspaceStore;
use crate::store::own_blobs::OwnBlobs;
use crate::types::{BlobRef, EntryValue};

/// Values of at least this many bytes keep a segment of their own.
const OWN_SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
/// How often the room that is left is asked for, in pages.
const ROOM_CHECK_PAGES: u64 = 16;

/// Sets `key` to what `reader` gives, of `len` bytes where that is known; gives the length.
pub fn put_reader(
    core: &Arc<Core>,
    keyspace: &KeyspaceStore,
    key: &[u8],
    reader: &mut dyn Read,
    len: Option<u64>,
) -> Result<u64> {
    core.check_writable()?;
    let limit = core.config.max_value_size;
    check_entry(&core.config, key.len(), 0)?;
    if let Some(len) = len.filter(|len| *len > limit) {
        return Err(BlobStore::too_large(len, limit));
    }
    // The commit refuses it too, where an index has come meanwhile.
    if core.indexes.all().contains_key(&keyspace.id) {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "keyspace {:?} has indexes, which need the value in memory: put it",
                keyspace.name
            ),
        ));
    }
    let _job = FileJob::begin(core)?;
    if keyspace.is_dropped() {
        return Err(dropped(&keyspace.name));
    }
    let mut stream = Stream { reader, left: len.unwrap_or(u64::MAX), read: 0, limit, ended: false };
    let mut page = Vec::new();
    stream.page(&mut page)?;
    if page.len() < BLOB_CHUNK_BYTES {
        stream.check_end(len)?;
        let mut batch = WriteBatch::new();
        batch.push(keyspace.id, key, EntryValue::Inline(&page));
        write_batch(core, &batch, WriteOptions::default(), None, |_| Ok(()))?;
        return Ok(stream.read);
    }
    let mut own = OwnBlobs::new(&core.env.blobs);
    for n in 0.. {
        if page.is_empty() {
            break;
        }
        core.check_writable()?;
        if n % ROOM_CHECK_PAGES == 0 {
            check_quota(core, stream.read)?;
        }
        own.push(&page)?;
        stream.page(&mut page)?;
    }
    drop(page);
    stream.check_end(len)?;
    check_quota(core, stream.read)?;
    let blob = own.end()?;
    if stream.read < OWN_SEGMENT_BYTES {
        let pin = core.env.blobs.pin();
        let blob = pin.put_pages(own.read_back(&blob)?)?;
        drop(own);
        commit(core, keyspace, key, blob)?;
        return Ok(stream.read);
    }
    let segments = own.hand_over()?;
    commit(core, keyspace, key, blob).inspect_err(|e| {
        // Otherwise the commit may be in the log.
        if e.kind() != ErrorKind::CommitUnknown && core.env.check_writable().is_ok() {
            core.env.blobs.give_up(&segments);
        }
    })?;
    Ok(stream.read)
}

fn commit(core: &Core, keyspace: &KeyspaceStore, key: &[u8], blob: BlobRef) -> Result<()> {
    let mut batch = WriteBatch::new();
    batch.push(keyspace.id, key, EntryValue::Blob(blob));
    write_batch(core, &batch, WriteOptions::default(), None, |_| Ok(()))
}

/// A source, cut into pages.
struct Stream<'a> {
    reader: &'a mut dyn Read,
    /// Bytes that may come yet.
    left: u64,
    read: u64,
    limit: u64,
    ended: bool,
}

impl Stream<'_> {
    /// Fills a page: less than a whole one only at the end.
    fn page(&mut self, page: &mut Vec<u8>) -> Result<()> {
        let most = self.left.min(BLOB_CHUNK_BYTES as u64) as usize;
        page.resize(most, 0);
        let mut have = 0;
        while have < most && !self.ended {
            match self.reader.read(&mut page[have..]) {
                Ok(0) => self.ended = true,
                Ok(n) if n > most - have => {
                    let message = "the reader says that it gave more than there was room for";
                    return Err(Error::new(ErrorKind::InvalidArgument, message));
                }
                Ok(n) => have += n,
                Err(e) if e.kind() == IoErrorKind::Interrupted => {}
                Err(e) => {
                    let bytes = self.read + have as u64;
                    let message = format!("the reader of the value failed after {bytes} bytes");
                    return Err(Error::new(ErrorKind::Io, message).caused_by(e));
                }
            }
        }
        page.truncate(have);
        self.left -= have as u64;
        self.read += have as u64;
        if self.read > self.limit {
            return Err(BlobStore::too_large(self.read, self.limit));
        }
        Ok(())
    }

    /// Whether all came that was to.
    fn check_end(&self, len: Option<u64>) -> Result<()> {
        match len {
            Some(len) if len != self.read => Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("the value ended after {} of {len} bytes", self.read),
            )),
            _ => Ok(()),
        }
    }
}
