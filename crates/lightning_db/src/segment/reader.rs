//! A segment open for reading.
//!
//! 1. Nothing is returned whose checksum, place and payload were not checked; every refusal is
//!    `Corrupt` (or `UnsupportedFormat`) with the file and the page's offset.
//! 2. No memory is taken on the word of bytes or addresses that cannot be true of this file.
//! 3. A file marked obsolete is removed when its `Segment` drops, which is when the last reader
//!    has let go of the `Arc` around it.
//!
//! 4. A segment of an encrypted database is encrypted, that of another is not; what opens its pages is
//!    derived once, when it is opened.
//!
//! Any number of threads may read at once; no latch is held.

use std::path::Path;
use std::sync::{Arc, OnceLock};

#[cfg(test)]
use super::header::SegmentKind;
use super::header::{ENCRYPTED_HEADER_BYTES, SegmentHeader};
use super::{Leaving, blob, in_memory, segment_path};
use crate::compress::{Codec, Dictionaries, Dictionary};
use crate::crypto::{FileKey, FileKind, Owner};
use crate::error::{Error, ErrorKind, Result, malformed_in};
use crate::page::check_payload;
use crate::page::envelope::{self, MAX_STORED_BYTES, PageIdentity, PageType, SEAL_BYTES};
use crate::sync::atomic::{AtomicU64, Ordering};
#[cfg(test)]
use crate::types::KeyspaceId;
use crate::types::{BlobRef, PageAddress, SegmentId};
use crate::vfs::{OpenMode, Vfs, VfsFile, read_exact_at};

/// A segment file, open for reading.
#[derive(Debug)]
pub struct Segment {
    vfs: Arc<dyn Vfs>,
    file: Arc<dyn VfsFile>,
    header: SegmentHeader,
    key: Option<FileKey>,
    /// The file's length when it was last asked for; it grows while the segment is written.
    file_bytes: AtomicU64,
    obsolete: OnceLock<Arc<Leaving>>,
    /// Read when the first page needs it.
    dictionary: OnceLock<Arc<Dictionary>>,
    shared: Option<Arc<Dictionaries>>,
}

impl Segment {
    /// Opens segment `id` of the database in `dir` and checks its header. A file that is not
    /// there is damage: whoever asks was told that it is.
    pub fn open(vfs: &Arc<dyn Vfs>, dir: &Path, db: &Owner, id: SegmentId) -> Result<Self> {
        let path = segment_path(dir, id);
        let file = vfs.open(&path, OpenMode::Read).map_err(|e| {
            let e = Error::io(&path, "open the segment", e);
            if e.kind() == ErrorKind::NotFound { e.with_kind(ErrorKind::Corrupt) } else { e }
        })?;
        let file_bytes = file.len().map_err(|e| Error::io(&path, "ask the length of", e))?;
        let mut bytes = [0; ENCRYPTED_HEADER_BYTES];
        let bytes = &mut bytes[..file_bytes.min(ENCRYPTED_HEADER_BYTES as u64) as usize];
        read_exact_at(&*file, bytes, 0)?;
        let header = SegmentHeader::decode(bytes, &path)?;
        if header.database != db.id() {
            return Err(Error::corrupt(&path, 16, "the segment belongs to another database"));
        }
        if header.id != id {
            let message = format!("the file is segment {}, not {id}", header.id);
            return Err(Error::corrupt(&path, 32, message));
        }
        let key = db.file_key(header.salt.as_ref(), FileKind::Segment, &header.bound(), &path)?;
        Ok(Self {
            vfs: Arc::clone(vfs),
            file,
            header,
            key,
            file_bytes: AtomicU64::new(file_bytes),
            obsolete: OnceLock::new(),
            dictionary: OnceLock::new(),
            shared: None,
        })
    }

    /// Shares its dictionary with other segments that carry the same one.
    pub fn sharing(mut self, dictionaries: &Arc<Dictionaries>) -> Self {
        self.shared = Some(Arc::clone(dictionaries));
        self
    }

    /// The dictionary that leaves were packed with; kept from the first call on.
    pub fn dictionary(&self) -> Result<Arc<Dictionary>> {
        if let Some(known) = self.dictionary.get() {
            return Ok(Arc::clone(known));
        }
        let (dictionary, _) = self.read_dictionary()?;
        let dictionary = match &self.shared {
            Some(all) => all.share(dictionary),
            None => Arc::new(dictionary),
        };
        Ok(Arc::clone(self.dictionary.get_or_init(|| dictionary)))
    }

    /// Reads the dictionary, the first page; and how long that is.
    pub fn read_dictionary(&self) -> Result<(Dictionary, u32)> {
        let at = self.header.len();
        if self.header.codec != Codec::ZstdDictionary {
            return Err(Error::corrupt(self.path(), at, "the segment has no dictionary"));
        }
        in_memory::check(self.path())?;
        self.check_range(at, envelope::HEADER_BYTES as u64)?;
        let mut front = [0; envelope::HEADER_BYTES];
        read_exact_at(&*self.file, &mut front, at)?;
        let stored_bytes = envelope::claimed_len(&front).ok_or_else(|| {
            Error::corrupt(self.path(), at, "a dictionary has an impossible length")
        })? as u32;
        let raw = self.read(at, stored_bytes, PageType::Dictionary, None)?;
        let dictionary = Dictionary::new(raw).map_err(malformed_in(self.path(), at))?;
        Ok((dictionary, stored_bytes))
    }

    /// Whether it is under an older data key than `newest`.
    pub fn is_aged(&self, newest: u32) -> bool {
        self.header.salt.is_some_and(|s| s.epoch < newest)
    }

    /// The segment's id.
    pub fn id(&self) -> SegmentId {
        self.header.id
    }

    /// How its pages are packed, those that are.
    pub fn codec(&self) -> Codec {
        self.header.codec
    }

    /// What the segment is for.
    #[cfg(test)]
    pub fn kind(&self) -> SegmentKind {
        self.header.kind
    }

    /// Where its first page begins.
    pub fn first_page(&self) -> u64 {
        self.header.len()
    }

    /// The keyspace it was written for.
    #[cfg(test)]
    pub fn keyspace(&self) -> KeyspaceId {
        self.header.keyspace
    }

    /// The file's length; while it is still being written, a length that it had.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes.load(Ordering::Relaxed)
    }

    /// The segment's file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Reads the page at `address`, which must be the very page the address was made for.
    pub fn read_page(&self, address: &PageAddress, ty: PageType) -> Result<Vec<u8>> {
        if address.segment != self.header.id {
            let message = format!("an address in segment {} was looked up here", address.segment);
            return Err(Error::corrupt(self.path(), address.offset, message));
        }
        self.read(address.offset, address.stored_bytes, ty, Some(address.checksum))
    }

    /// Reads the page of `stored_bytes` bytes at `offset`, vouched for by its own checksum alone,
    /// which is bound to its place: for files that are written once, that is enough.
    pub fn read_page_at(&self, offset: u64, stored_bytes: u32, ty: PageType) -> Result<Vec<u8>> {
        self.read(offset, stored_bytes, ty, None)
    }

    fn read(
        &self,
        offset: u64,
        stored_bytes: u32,
        ty: PageType,
        checksum: Option<u32>,
    ) -> Result<Vec<u8>> {
        let len = stored_bytes as usize;
        if !(envelope::HEADER_BYTES..=MAX_STORED_BYTES).contains(&len) {
            return Err(Error::corrupt(self.path(), offset, "an address has an impossible length"));
        }
        in_memory::check(self.path())?;
        self.check_range(offset, len as u64)?;
        let mut stored = vec![0; len];
        read_exact_at(&*self.file, &mut stored, offset)?;
        if checksum.is_some() && envelope::claimed_checksum(&stored) != checksum {
            let message = "a page is not the one its address was made for";
            return Err(Error::corrupt(self.path(), offset, message));
        }
        let packed_with = if self.header.codec == Codec::ZstdDictionary
            && ty != PageType::Dictionary
            && envelope::claims_dictionary(&stored)
        {
            Some(self.dictionary()?)
        } else {
            None
        };
        let (identity, key) = (self.identity(offset), self.key.as_ref());
        let dictionary = packed_with.as_deref();
        let raw = envelope::open_vec(stored, &identity, ty, self.path(), key, dictionary)?;
        check_payload(ty, &raw, self.path(), offset)?;
        Ok(raw)
    }

    /// Reads a large value.
    pub fn read_blob(&self, blob: &BlobRef) -> Result<Vec<u8>> {
        self.check_blob(blob)?;
        let mut value = Vec::new();
        if value.try_reserve_exact(blob.value_bytes as usize).is_err() {
            let message = format!("no memory for a value of {} bytes", blob.value_bytes);
            return Err(Error::new(ErrorKind::OutOfMemory, message));
        }
        blob::for_each_chunk(
            &*self.file,
            blob,
            |o| self.identity(o),
            self.key.as_ref(),
            |chunk| {
                value.extend_from_slice(chunk);
            },
        )?;
        Ok(value)
    }

    /// Reads a large value and checks it, without keeping it.
    pub fn verify_blob(&self, blob: &BlobRef) -> Result<()> {
        self.check_blob(blob)?;
        let key = self.key.as_ref();
        blob::for_each_chunk(&*self.file, blob, |o| self.identity(o), key, |_| {})
    }

    /// Whether `blob` can lie in this file: before memory is taken for it.
    pub(super) fn check_blob(&self, blob: &BlobRef) -> Result<()> {
        in_memory::check(self.path())?;
        if blob.segment != self.header.id {
            let message = format!("a value in segment {} was looked up here", blob.segment);
            return Err(Error::corrupt(self.path(), blob.offset, message));
        }
        let around = self.around_payload();
        if !crate::page::blob::plausible(blob.value_bytes, blob.stored_bytes, around) {
            let message = "a reference to a value has impossible lengths";
            return Err(Error::corrupt(self.path(), blob.offset, message));
        }
        self.check_range(blob.offset, blob.stored_bytes)
    }

    /// Tells the system that these bytes will be read soon; a hint.
    pub fn prefetch(&self, offset: u64, len: u64) {
        let end = offset.saturating_add(len).min(self.file_bytes());
        if offset < end && in_memory::is_allowed() {
            self.file.prefetch(offset, end - offset);
        }
    }

    /// From now on, the file is removed when this `Segment` drops: nothing durable names it any
    /// more, and those who still hold it are the last. Until then it counts in `leaving`.
    pub fn mark_obsolete(&self, leaving: &Arc<Leaving>) {
        if self.obsolete.set(Arc::clone(leaving)).is_ok() {
            leaving.mark();
        }
    }

    /// The file itself, for pages whose length is not known beforehand.
    pub(super) fn file(&self) -> &dyn VfsFile {
        &*self.file
    }

    /// What its pages are encrypted with, if they are.
    pub(super) fn key(&self) -> Option<&FileKey> {
        self.key.as_ref()
    }

    /// Bytes of a page around its payload.
    pub(super) fn around_payload(&self) -> usize {
        envelope::HEADER_BYTES + self.key.as_ref().map_or(0, |_| SEAL_BYTES)
    }

    pub(super) fn identity(&self, offset: u64) -> PageIdentity {
        PageIdentity { database: self.header.database, segment: self.header.id, offset }
    }

    /// Whether the range lies behind the header and in the file, which may have grown.
    fn check_range(&self, offset: u64, len: u64) -> Result<()> {
        let inside = |file_bytes: u64| offset.checked_add(len).is_some_and(|e| e <= file_bytes);
        if offset < self.header.len() {
            return Err(Error::corrupt(self.path(), offset, "an address lies in the header"));
        }
        if inside(self.file_bytes()) || inside(self.ask_file_bytes()?) {
            return Ok(());
        }
        Err(Error::corrupt(self.path(), offset, "an address lies behind the end of the file"))
    }

    fn ask_file_bytes(&self) -> Result<u64> {
        let len = self.file.len().map_err(|e| Error::io(self.path(), "ask the length of", e))?;
        self.file_bytes.store(len, Ordering::Relaxed);
        Ok(len)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if let Some(leaving) = self.obsolete.get() {
            leaving.let_go(&self.vfs, &self.file);
        }
    }
}
