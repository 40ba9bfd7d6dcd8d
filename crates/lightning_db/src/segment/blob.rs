//! Reads a large value page by page: no more than one page is in memory besides the value itself.
//!
//! The length of a stored page is known from its envelope only, so that a page is read as long as
//! it can be, and what was read of the next one is kept. No threads.

use crate::crypto::FileKey;
use crate::error::{Error, Result};
use crate::limits::BLOB_CHUNK_BYTES;
use crate::page::blob::{add_checksum, chunk_bytes, page_count};
use crate::page::envelope::{
    self, PageIdentity, PageType, SEAL_BYTES, claimed_checksum, claimed_len,
};
use crate::types::BlobRef;
use crate::vfs::{VfsFile, read_exact_at};

/// Calls `visit` with each piece of the value in order; every page was checked by then, but that
/// the pages belong together is known only when this returns `Ok`.
pub(super) fn for_each_chunk(
    file: &dyn VfsFile,
    blob: &BlobRef,
    identity: impl Fn(u64) -> PageIdentity,
    key: Option<&FileKey>,
    mut visit: impl FnMut(&[u8]),
) -> Result<()> {
    let corrupt = |offset: u64, message: &str| Err(Error::corrupt(file.path(), offset, message));
    let mut offset = blob.offset;
    let mut left = blob.stored_bytes;
    let mut checksum = 0;
    let mut buffer = Vec::new();
    for page in 0..page_count(blob.value_bytes) {
        let longest = envelope::HEADER_BYTES + BLOB_CHUNK_BYTES + key.map_or(0, |_| SEAL_BYTES);
        let want = left.min(longest as u64) as usize;
        let have = buffer.len();
        buffer.resize(want, 0);
        read_exact_at(file, &mut buffer[have..], offset + have as u64)?;
        let Some(len) = claimed_len(&buffer).filter(|&len| len <= want) else {
            return corrupt(offset, "a page of a value is longer than the value's reference says");
        };
        let stored = &buffer[..len];
        let identity = identity(offset);
        let raw = envelope::open_borrowed(stored, &identity, PageType::Blob, file.path(), key)?;
        if raw.len() != chunk_bytes(blob.value_bytes, page) {
            return corrupt(offset, "a page of a value has not the length of its place");
        }
        visit(&raw);
        let page_checksum = claimed_checksum(stored).expect("an opened page has an envelope");
        checksum = add_checksum(checksum, page_checksum);
        drop(raw);
        buffer.drain(..len);
        offset += len as u64;
        left -= len as u64;
    }
    if left != 0 {
        return corrupt(offset, "a value has fewer stored bytes than its reference says");
    }
    if checksum != blob.checksum {
        return corrupt(blob.offset, "a value is not the one its reference was made for");
    }
    Ok(())
}
