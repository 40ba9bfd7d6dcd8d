//! Large values in blob segments of one job's own: those of an ingest, and a value that comes as a
//! stream. What takes long must not hold the segment that all other writers share.
//!
//! 1. Nobody knows of the segments before [`hand_over`](OwnBlobs::hand_over); then they are whole,
//!    durable, and the store's.
//! 2. What is not handed over is removed when this drops: after an error, and after a panic in what
//!    the values come from.
//!
//! One thread.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::limits::BLOB_CHUNK_BYTES;
use crate::page::blob::add_checksum;
use crate::segment::SegmentWriter;
use crate::store::blobs::{BLOB_SEGMENT_BYTES, BlobStore};
use crate::types::{BlobRef, SegmentId};

/// A value that is being written.
#[derive(Debug, Clone, Copy)]
struct Begun {
    offset: u64,
    bytes: u64,
    checksum: u32,
}

/// See the module.
#[derive(Debug)]
pub struct OwnBlobs<'a> {
    store: &'a BlobStore,
    current: Option<SegmentWriter>,
    begun: Option<Begun>,
    /// Whole, with their bytes.
    sealed: Vec<(SegmentId, u64)>,
}

impl<'a> OwnBlobs<'a> {
    /// No segments yet.
    pub fn new(store: &'a BlobStore) -> Self {
        Self { store, current: None, begun: None, sealed: Vec::new() }
    }

    /// Writes a value.
    pub fn put(&mut self, value: &[u8]) -> Result<BlobRef> {
        for page in value.chunks(BLOB_CHUNK_BYTES) {
            self.push(page)?;
        }
        self.end()
    }

    /// Adds a page to the value at hand: all but its last hold [`BLOB_CHUNK_BYTES`]. After an error
    /// nothing more is to be written.
    pub fn push(&mut self, page: &[u8]) -> Result<()> {
        if self.begun.is_none()
            && self.current.as_ref().is_some_and(|w| w.len() >= BLOB_SEGMENT_BYTES)
        {
            self.seal()?;
        }
        let writer = match &mut self.current {
            Some(writer) => writer,
            none => none.insert(self.store.new_segment()?),
        };
        let mut begun = self.begun.unwrap_or(Begun { offset: writer.len(), bytes: 0, checksum: 0 });
        begun.checksum = add_checksum(begun.checksum, writer.append_blob_page(page)?);
        begun.bytes += page.len() as u64;
        self.begun = Some(begun);
        Ok(())
    }

    /// Ends the value at hand, which has at least one page.
    pub fn end(&mut self) -> Result<BlobRef> {
        let writer = self.current.as_ref().expect("a value has at least one page");
        let begun = self.begun.take().expect("a value has at least one page");
        Ok(BlobRef {
            segment: writer.id(),
            offset: begun.offset,
            stored_bytes: writer.len() - begun.offset,
            value_bytes: u32::try_from(begun.bytes).expect("callers keep the limit"),
            checksum: begun.checksum,
        })
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        let current = self.current.as_ref().map_or(0, SegmentWriter::len);
        current + self.sealed.iter().map(|(_, bytes)| bytes).sum::<u64>()
    }

    fn seal(&mut self) -> Result<()> {
        if let Some(mut writer) = self.current.take() {
            // Where this fails the writer drops, and with it the file.
            let meta = writer.seal_file()?;
            self.sealed.push((meta.id, meta.file_bytes));
        }
        Ok(())
    }

    /// Makes everything durable and the store's, and tells which segments these are. Where what refers
    /// to them does not come to be, they are to be [given up](BlobStore::give_up).
    pub fn hand_over(mut self) -> Result<BTreeSet<SegmentId>> {
        self.seal()?;
        if self.sealed.is_empty() {
            return Ok(BTreeSet::new());
        }
        self.store.sync_dir()?;
        let ids: BTreeSet<SegmentId> = self.sealed.iter().map(|(id, _)| *id).collect();
        if let Err(e) = self.store.take_in(&self.sealed) {
            self.store.give_up(&ids);
            return Err(e);
        }
        self.sealed.clear();
        Ok(ids)
    }
}

impl Drop for OwnBlobs<'_> {
    fn drop(&mut self) {
        for (id, _) in &self.sealed {
            self.store.remove(*id);
        }
    }
}
