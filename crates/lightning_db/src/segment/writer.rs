//! Writes a new segment, front to back.
//!
//! 1. An address given out stays true: bytes below [`len`](SegmentWriter::len) are never written
//!    again. An append that fails takes back what it had added, and may be tried again once there
//!    is space.
//! 2. After a failed sync nothing more is written and the segment cannot be finished: the
//!    system's next sync would succeed falsely.
//! 3. A segment that is neither finished nor abandoned is removed when its writer drops, unless a
//!    large value was written to it: a log record may refer to that.
//! 4. The file is synced each 8 MiB, so that the last sync is short and the log's own syncs do
//!    not wait behind it.
//!
//! One thread at a time; other threads may read what was flushed through a
//! [`Segment`](super::Segment) of the same file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::header::{HEADER_BYTES, SegmentHeader, SegmentKind};
use super::segment_path;
use crate::compress::{Codec, Dictionary, PackCounts, Packer, Packing, Trial};
use crate::crypto::{FileKind, Owner, Sealer};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{BLOB_CHUNK_BYTES, MAX_VALUE_BYTES};
use crate::page::blob::add_checksum;
use crate::page::envelope::{PageIdentity, PageType, seal, seal_encrypted};
use crate::types::{BlobRef, KeyspaceId, PageAddress, SegmentId};
use crate::vfs::{Vfs, VfsFile, write_all_at};

/// What is gathered before it is written.
const BUFFER_BYTES: usize = 256 * 1024;
/// What is written before it is synced.
const SYNC_BYTES: u64 = 8 * 1024 * 1024;

/// What is known of a segment when it is finished.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentMeta {
    /// The segment.
    pub id: SegmentId,
    /// What it is for.
    pub kind: SegmentKind,
    /// The keyspace it was written for.
    pub keyspace: KeyspaceId,
    /// Length of the file.
    pub file_bytes: u64,
    /// Pages in it.
    pub pages: u64,
    /// How packing them went.
    pub packed: PackCounts,
}

/// A segment being written.
#[derive(Debug)]
pub struct SegmentWriter {
    vfs: Arc<dyn Vfs>,
    file: Arc<dyn VfsFile>,
    path: PathBuf,
    header: SegmentHeader,
    sealer: Option<Sealer>,
    blob_codec: Codec,
    packer: Packer,
    /// By type of page.
    trials: [Trial; PageType::COUNT],
    packed: PackCounts,
    /// Appended, not yet written.
    buffer: Vec<u8>,
    /// Bytes of the file that are written: where `buffer` belongs.
    written: u64,
    /// Bytes of the file that are synced.
    synced: u64,
    /// The length that failed writes may have given the file.
    reached: u64,
    pages: u64,
    holds_values: bool,
    sync_failed: bool,
    finished: bool,
}

impl SegmentWriter {
    /// Makes the file of segment `id` of the database in `dir`, and writes its header, which says
    /// that pages may be packed by `codec`. The directory `seg` must exist; the caller syncs it.
    pub fn create(
        vfs: &Arc<dyn Vfs>,
        dir: &Path,
        db: &Owner,
        id: SegmentId,
        kind: SegmentKind,
        keyspace: KeyspaceId,
        codec: Codec,
    ) -> Result<Self> {
        let path = segment_path(dir, id);
        let salt = db.draw_salt(&**vfs, &path)?;
        let header = SegmentHeader { database: db.id(), id, kind, keyspace, salt, codec };
        let sealer = db.sealer(salt.as_ref(), FileKind::Segment, &header.bound(), &path)?;
        let file = vfs.create(&path).map_err(|e| Error::io(&path, "create the segment", e))?;
        // From here on, dropping the writer removes the file.
        let mut writer = Self {
            vfs: Arc::clone(vfs),
            file,
            path,
            header,
            sealer,
            blob_codec: Codec::None,
            packer: Packer::default(),
            trials: [Trial::default(); PageType::COUNT],
            packed: PackCounts::default(),
            buffer: header.encode(),
            written: 0,
            synced: 0,
            reached: 0,
            pages: 0,
            holds_values: false,
            sync_failed: false,
            finished: false,
        };
        writer.flush_buffer()?;
        Ok(writer)
    }

    /// Whether it is written under an older data key than `newest`.
    pub fn is_aged(&self, newest: u32) -> bool {
        self.header.salt.is_some_and(|s| s.epoch < newest)
    }

    /// How large values are compressed; not at all, unless told.
    #[cfg(test)]
    pub fn set_blob_codec(&mut self, codec: Codec) {
        self.blob_codec = codec;
    }

    /// Adds the dictionary that pages are packed with, as the first page. The header must say so.
    pub fn begin_with(&mut self, dictionary: &Dictionary, level: i32) -> Result<()> {
        assert!(self.pages == 0 && self.header.codec == Codec::ZstdDictionary);
        let packing = Packing::new(Codec::Zstd, Some(level));
        self.append(PageType::Dictionary, dictionary.bytes(), packing)?;
        self.packer = Packer::with_dictionary(dictionary, level);
        Ok(())
    }

    /// Adds a page, packed by the codec of the header or plain. It can be read once it is flushed.
    pub fn append(
        &mut self,
        ty: PageType,
        raw: &[u8],
        packing: impl Into<Packing>,
    ) -> Result<PageAddress> {
        let start = self.mark();
        let address = self.seal(ty, raw, packing.into()).map_err(|e| self.take_back(start, e))?;
        self.write_full_buffer().map_err(|e| self.take_back(start, e))?;
        Ok(address)
    }

    /// Adds a large value. When this returns, its bytes are with the operating system: a kill of
    /// the process cannot lose them, a power cut can until [`sync`](Self::sync).
    pub fn append_blob(&mut self, value: &[u8]) -> Result<BlobRef> {
        assert!(self.header.kind == SegmentKind::Blob, "large values have segments of their own");
        if value.len() as u64 > MAX_VALUE_BYTES {
            let message = format!("a value of {} bytes is over the limit", value.len());
            return Err(Error::new(ErrorKind::ValueTooLarge, message));
        }
        let start = self.mark();
        let checksum = self.write_chunks(value).map_err(|e| self.take_back(start, e))?;
        self.holds_values = true;
        Ok(BlobRef {
            segment: self.header.id,
            offset: start.0,
            stored_bytes: self.len() - start.0,
            value_bytes: value.len() as u32,
            checksum,
        })
    }

    fn write_chunks(&mut self, value: &[u8]) -> Result<u32> {
        let mut checksum = 0;
        for chunk in value.chunks(BLOB_CHUNK_BYTES) {
            checksum = add_checksum(checksum, self.append_blob_page(chunk)?);
        }
        self.flush_buffer()?;
        Ok(checksum)
    }

    /// Adds the next page of a large value and gives its checksum: for values that come in pieces, in a
    /// segment that is given up where a value does not come to its end.
    pub fn append_blob_page(&mut self, chunk: &[u8]) -> Result<u32> {
        let page = self.seal(PageType::Blob, chunk, self.blob_codec.into())?;
        self.write_full_buffer()?;
        Ok(page.checksum)
    }

    fn seal(&mut self, ty: PageType, raw: &[u8], packing: Packing) -> Result<PageAddress> {
        let SegmentHeader { database, id: segment, .. } = self.header;
        let offset = self.len();
        let identity = PageIdentity { database, segment, offset };
        let packing = self.worth_a_try(ty, packing);
        let (out, packer) = (&mut self.buffer, &mut self.packer);
        let sealed = match &mut self.sealer {
            None => seal(out, &identity, ty, raw, packing, packer),
            Some(sealer) => seal_encrypted(out, &identity, ty, raw, packing, packer, sealer)?,
        };
        if packing.codec != Codec::None {
            let shrank = sealed.codec != Codec::None;
            self.trials[ty.index()].note(shrank);
            self.packed.plain += u64::from(!shrank);
        }
        self.pages += 1;
        let stored_bytes = (self.len() - offset) as u32;
        Ok(PageAddress { segment, offset, stored_bytes, checksum: sealed.checksum })
    }

    /// `packing`, or none where the last pages of this type did not shrink.
    fn worth_a_try(&mut self, ty: PageType, packing: Packing) -> Packing {
        if packing.codec == Codec::None {
            return packing;
        }
        if self.trials[ty.index()].is_due() {
            self.packed.tried += 1;
            return packing;
        }
        self.packed.skipped += 1;
        Codec::None.into()
    }

    /// Where an append begins: length and pages before it.
    fn mark(&self) -> (u64, u64) {
        (self.len(), self.pages)
    }

    /// Forgets what was appended since `mark`, because of `e`. Nobody was told of those bytes, so
    /// they may be written over.
    fn take_back(&mut self, (len, pages): (u64, u64), e: Error) -> Error {
        self.buffer.truncate(len.saturating_sub(self.written) as usize);
        self.written = self.written.min(len);
        self.synced = self.synced.min(len);
        self.pages = pages;
        e
    }

    /// The length the file has once everything appended is written.
    pub fn len(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Whether no page was appended.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.pages == 0
    }

    /// The segment's id.
    pub fn id(&self) -> SegmentId {
        self.header.id
    }

    fn write_full_buffer(&mut self) -> Result<()> {
        if self.buffer.len() < BUFFER_BYTES {
            return Ok(());
        }
        self.flush_buffer()
    }

    /// Hands everything appended to the operating system, so that a
    /// [`Segment`](super::Segment) of the same file can read it.
    pub fn flush_buffer(&mut self) -> Result<()> {
        self.refuse_after_failed_sync()?;
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.reached = self.reached.max(self.len());
        write_all_at(&*self.file, &self.buffer, self.written)?;
        self.written = self.len();
        self.buffer.clear();
        if self.written - self.synced >= SYNC_BYTES { self.sync_file() } else { Ok(()) }
    }

    /// Makes everything appended durable; the file's name aside, which takes a sync of its
    /// directory.
    pub fn sync(&mut self) -> Result<()> {
        self.flush_buffer()?;
        if self.synced == self.written { Ok(()) } else { self.sync_file() }
    }

    fn sync_file(&mut self) -> Result<()> {
        if let Err(e) = self.file.sync_data() {
            self.sync_failed = true;
            return Err(Error::io(&self.path, "sync the segment", e));
        }
        self.synced = self.written;
        Ok(())
    }

    fn refuse_after_failed_sync(&self) -> Result<()> {
        if self.sync_failed {
            let message = "an earlier sync of the segment failed, nothing more is written to it";
            return Err(Error::new(ErrorKind::Poisoned, message).in_file(&self.path));
        }
        Ok(())
    }

    /// Seals the segment: writes and syncs everything. The caller syncs the directory `seg`
    /// before anything durable names the segment.
    pub fn finish(mut self) -> Result<SegmentMeta> {
        self.seal_file()
    }

    /// As [`finish`](Self::finish), and nothing is appended afterwards. Where it fails for want of
    /// space it may be tried again.
    pub fn seal_file(&mut self) -> Result<SegmentMeta> {
        self.flush_buffer()?;
        if self.reached > self.written {
            // What a failed write left behind the last page.
            let cut = self.file.set_len(self.written);
            cut.map_err(|e| Error::io(&self.path, "cut the segment", e))?;
            self.reached = self.written;
            self.synced = 0;
        }
        self.sync()?;
        self.finished = true;
        let SegmentHeader { id, kind, keyspace, .. } = self.header;
        let (file_bytes, pages, packed) = (self.written, self.pages, self.packed);
        Ok(SegmentMeta { id, kind, keyspace, file_bytes, pages, packed })
    }

    /// Gives back the space that a failed append took; a hint, as sealing does it again.
    pub fn give_back_space(&mut self) {
        if self.reached > self.written && self.file.set_len(self.written).is_ok() {
            self.reached = self.written;
            self.synced = 0;
        }
    }

    /// Whether a sync failed, so that what was written since the one before may be lost.
    pub fn has_failed(&self) -> bool {
        self.sync_failed
    }

    /// Gives the segment up and removes its file, large values in it too.
    pub fn abandon(mut self) -> Result<()> {
        self.finished = true;
        let removed = self.vfs.remove_file(&self.path);
        removed.map_err(|e| Error::io(&self.path, "remove the segment", e))
    }
}

impl Drop for SegmentWriter {
    fn drop(&mut self) {
        if !self.finished && !self.holds_values {
            // No edit names the file: where it cannot be removed now, the next opening of the
            // database removes it.
            let _ = self.vfs.remove_file(&self.path);
        }
    }
}

const _: () = assert!(HEADER_BYTES < BUFFER_BYTES, "the header fits the buffer it is written from");
