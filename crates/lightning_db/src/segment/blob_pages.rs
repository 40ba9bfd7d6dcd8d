//! The pages of one large value, read one at a time and in any order.
//!
//! 1. Each page is checked as it is read: its own checksum, its place, its length. That the pages belong
//!    together is checked once all of them were read.
//! 2. Where no page is compressed their places are reckoned. Elsewhere they are found by walking from
//!    envelope to envelope, 16 bytes a page, and remembered.
//!
//! It holds the segment, and so its file, whatever becomes of the value. One thread.

use std::sync::Arc;

use super::reader::Segment;
use crate::error::{Error, Result};
use crate::limits::BLOB_CHUNK_BYTES;
use crate::page::blob::{add_checksum, chunk_bytes, page_count};
use crate::page::envelope::{self, PageType, claimed_checksum, claimed_len};
use crate::types::BlobRef;
use crate::vfs::read_exact_at;

const LONGER: &str = "a page of a value is longer than the value's reference says";

/// See the module.
#[derive(Debug)]
pub struct BlobPages {
    segment: Arc<Segment>,
    blob: BlobRef,
    /// Where the first pages begin; `None` where no page is compressed.
    places: Option<Vec<u64>>,
    /// Of the pages read so far.
    checksums: Vec<Option<u32>>,
    unread: usize,
}

impl BlobPages {
    /// The pages of a value in `segment`.
    pub fn open(segment: Arc<Segment>, blob: BlobRef) -> Result<Self> {
        segment.check_blob(&blob)?;
        let pages = page_count(blob.value_bytes);
        let plain = u64::from(blob.value_bytes) + pages * segment.around_payload() as u64;
        let places = (blob.stored_bytes != plain).then(|| vec![blob.offset]);
        // At most 16,384 of them: lengths are 32 bits.
        let checksums = vec![None; pages as usize];
        Ok(Self { segment, blob, places, unread: checksums.len(), checksums })
    }

    /// Bytes of the value.
    pub fn value_bytes(&self) -> u32 {
        self.blob.value_bytes
    }

    /// The bytes of page `n`, counted from 0, which must be one of the value's.
    pub fn page(&mut self, n: u64) -> Result<Vec<u8>> {
        let offset = self.place(n)?;
        let bytes = chunk_bytes(self.blob.value_bytes, n);
        let left = self.end() - offset;
        let want = left.min((self.segment.around_payload() + bytes) as u64) as usize;
        let mut stored = vec![0; want];
        read_exact_at(self.segment.file(), &mut stored, offset)?;
        let Some(len) = claimed_len(&stored).filter(|len| *len <= want) else {
            return Err(self.corrupt(offset, LONGER));
        };
        stored.truncate(len);
        let Some(checksum) = claimed_checksum(&stored) else {
            return Err(self.corrupt(offset, "a page of a value is shorter than an envelope"));
        };
        let identity = self.segment.identity(offset);
        let path = self.segment.path();
        let key = self.segment.key();
        let raw = envelope::open_vec(stored, &identity, PageType::Blob, path, key, None)?;
        if raw.len() != bytes {
            return Err(self.corrupt(offset, "a page of a value has not the length of its place"));
        }
        if n + 1 == self.checksums.len() as u64 && len as u64 != left {
            let message = "a value has fewer stored bytes than its reference says";
            return Err(self.corrupt(offset, message));
        }
        if self.checksums[n as usize].replace(checksum).is_none() {
            self.unread -= 1;
            if self.unread == 0 {
                self.check_whole()?;
            }
        }
        Ok(raw)
    }

    fn end(&self) -> u64 {
        self.blob.offset + self.blob.stored_bytes
    }

    fn corrupt(&self, offset: u64, message: &str) -> Error {
        Error::corrupt(self.segment.path(), offset, message)
    }

    /// Where page `n` begins.
    fn place(&mut self, n: u64) -> Result<u64> {
        let end = self.end();
        let Some(places) = &mut self.places else {
            let page = self.segment.around_payload() + BLOB_CHUNK_BYTES;
            return Ok(self.blob.offset + n * page as u64);
        };
        let mut last = *places.last().expect("the first is known");
        while places.len() as u64 <= n {
            let mut header = [0; envelope::HEADER_BYTES];
            read_exact_at(self.segment.file(), &mut header, last)?;
            let next = claimed_len(&header).map(|len| last + len as u64);
            // There is a page behind it.
            let Some(next) = next.filter(|n| n + envelope::HEADER_BYTES as u64 <= end) else {
                return Err(Error::corrupt(self.segment.path(), last, LONGER));
            };
            places.push(next);
            last = next;
        }
        Ok(places[n as usize])
    }

    fn check_whole(&self) -> Result<()> {
        let sum = self.checksums.iter().flatten().fold(0, |sum, page| add_checksum(sum, *page));
        if sum == self.blob.checksum {
            return Ok(());
        }
        let message = "a value is not the one its reference was made for";
        Err(self.corrupt(self.blob.offset, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compress::Codec;
    use crate::crypto::Owner;
    use crate::error::ErrorKind;
    use crate::segment::{SegmentKind, SegmentWriter, segment_dir};
    use crate::types::{DatabaseId, KeyspaceId, SegmentId};
    use crate::vfs::{MemoryVfs, OpenMode, Vfs};
    use std::path::Path;

    /// Three values in one segment, the second of 5 pages and a bit, half of it noise.
    fn segment(codec: Codec) -> (Arc<dyn Vfs>, Arc<Segment>, BlobRef, Vec<u8>) {
        let vfs: Arc<dyn Vfs> = Arc::new(MemoryVfs::new());
        let (dir, id) = (Path::new("db"), SegmentId(1));
        let db = &Owner::plain(DatabaseId([7; 16]));
        vfs.create_dir_all(&segment_dir(dir)).unwrap();
        let kind = SegmentKind::Blob;
        let mut writer =
            SegmentWriter::create(&vfs, dir, db, id, kind, KeyspaceId(0), Codec::None).unwrap();
        writer.set_blob_codec(codec);
        let mut rng = fastrand::Rng::with_seed(1);
        let value: Vec<u8> = (0..5 * BLOB_CHUNK_BYTES + 77)
            .map(|i| if (i / BLOB_CHUNK_BYTES).is_multiple_of(2) { rng.u8(..) } else { 5 })
            .collect();
        writer.append_blob(&vec![1; 20_000]).unwrap();
        let blob = writer.append_blob(&value).unwrap();
        writer.append_blob(&vec![2; 20_000]).unwrap();
        writer.finish().unwrap();
        let segment = Arc::new(Segment::open(&vfs, dir, db, id).unwrap());
        (vfs, segment, blob, value)
    }

    fn pages(value: &[u8]) -> Vec<&[u8]> {
        value.chunks(BLOB_CHUNK_BYTES).collect()
    }

    #[test]
    fn pages_are_found_in_any_order() {
        for codec in [Codec::None, Codec::Lz4] {
            let (_vfs, segment, blob, value) = segment(codec);
            let packed = blob.stored_bytes < value.len() as u64;
            assert_eq!(packed, codec != Codec::None, "pages shrink at all");
            for order in [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [3, 3, 0, 5, 1, 4]] {
                let mut found = BlobPages::open(Arc::clone(&segment), blob).unwrap();
                for n in order {
                    assert!(found.page(n).unwrap() == pages(&value)[n as usize], "{codec:?} {n}");
                }
            }
        }
    }

    #[test]
    fn a_page_that_rots_is_told_and_no_other() {
        for codec in [Codec::None, Codec::Lz4] {
            let (vfs, segment, blob, value) = segment(codec);
            let mut found = BlobPages::open(Arc::clone(&segment), blob).unwrap();
            let at = found.place(2).unwrap();
            let file = vfs.open(segment.path(), OpenMode::ReadWrite).unwrap();
            file.write_at(&[0xAA; 4], at + 100).unwrap();
            for n in 0..6 {
                match found.page(n) {
                    Ok(page) => assert!(n != 2 && page == pages(&value)[n as usize]),
                    Err(e) => {
                        assert_eq!((n, e.kind(), e.offset()), (2, ErrorKind::Corrupt, Some(at)));
                    }
                }
            }
        }
    }

    #[test]
    fn pages_of_another_value_are_told_once_all_were_read() {
        let (_vfs, segment, blob, _) = segment(Codec::None);
        let other = BlobRef { checksum: blob.checksum ^ 1, ..blob };
        let mut found = BlobPages::open(Arc::clone(&segment), other).unwrap();
        for n in [5, 0, 1, 2, 2, 3] {
            found.page(n).unwrap();
        }
        assert_eq!(found.page(4).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    /// Lengths that cannot be: an error, and no more memory than the value says.
    #[test]
    fn references_that_lie_are_refused() {
        let (_vfs, segment, blob, _) = segment(Codec::Lz4);
        let refused = |lie: BlobRef| {
            let mut found = match BlobPages::open(Arc::clone(&segment), lie) {
                Ok(found) => found,
                Err(e) => return assert_eq!(e.kind(), ErrorKind::Corrupt),
            };
            let all = (0..page_count(lie.value_bytes)).try_for_each(|n| found.page(n).map(drop));
            assert_eq!(all.expect_err("a lie").kind(), ErrorKind::Corrupt, "{lie:?}");
        };
        refused(BlobRef { value_bytes: u32::MAX, ..blob });
        refused(BlobRef { stored_bytes: blob.stored_bytes - 1, ..blob });
        refused(BlobRef { stored_bytes: blob.stored_bytes + 1, ..blob });
        refused(BlobRef { value_bytes: blob.value_bytes + 1, ..blob });
        refused(BlobRef { value_bytes: blob.value_bytes - 1, ..blob });
        refused(BlobRef { offset: blob.offset + 1, ..blob });
    }
}
