//! The bytes of a file kept in memory, as pages of 4 KiB that copies share until one writes.
//!
//! 1. Pages past the end do not exist; bytes of the last page past the end are zero.
//! 2. A page that was never written takes no memory and reads as zeros.
//! 3. A clone costs one reference count a page, so a disk can be copied at every operation.
//!
//! No latch of its own: the file systems in memory hold theirs around it.

use std::io::{Error as IoError, ErrorKind as IoErrorKind, Result as IoResult};
use std::ops::Range;
use std::sync::Arc;

/// Bytes in a page.
pub(super) const PAGE_BYTES: usize = 4096;

/// The longest file kept in memory; longer ones get the error of a file-size limit.
pub(super) const MAX_LEN: u64 = 1 << 36;

/// The end of `len` bytes at `offset`, if a file may be that long.
pub(super) fn checked_end(offset: u64, len: usize) -> IoResult<u64> {
    offset
        .checked_add(len as u64)
        .filter(|&end| end <= MAX_LEN)
        .ok_or_else(|| IoError::new(IoErrorKind::FileTooLarge, "longer than a file may be"))
}

/// The bytes of one file.
#[derive(Clone, Default)]
pub(super) struct Pages {
    len: u64,
    pages: Vec<Option<Arc<[u8; PAGE_BYTES]>>>,
}

impl Pages {
    /// The bytes of `from`.
    pub(super) fn from_bytes(from: &[u8]) -> Self {
        let mut pages = Self::default();
        pages.set_len(from.len() as u64);
        pages.overwrite(from, 0);
        pages
    }

    /// The length of the file.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Copies out what is there from `offset`; returns how many bytes.
    pub(super) fn read(&self, bytes: &mut [u8], offset: u64) -> usize {
        let n = (self.len.saturating_sub(offset)).min(bytes.len() as u64) as usize;
        let mut done = 0;
        while done < n {
            let (page, within) = place(offset + done as u64, n - done);
            let into = &mut bytes[done..done + within.len()];
            match &self.pages[page] {
                Some(page) => into.copy_from_slice(&page[within.clone()]),
                None => into.fill(0),
            }
            done += within.len();
        }
        n
    }

    /// Writes at `offset`, dropping what lies past the end: lengths change by
    /// [`set_len`](Self::set_len) only.
    pub(super) fn overwrite(&mut self, bytes: &[u8], offset: u64) {
        let n = (self.len.saturating_sub(offset)).min(bytes.len() as u64) as usize;
        let mut done = 0;
        while done < n {
            let (page, within) = place(offset + done as u64, n - done);
            let page = self.pages[page].get_or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            Arc::make_mut(page)[within.clone()].copy_from_slice(&bytes[done..done + within.len()]);
            done += within.len();
        }
    }

    /// Cuts, or extends with zeros.
    pub(super) fn set_len(&mut self, len: u64) {
        let count = len.div_ceil(PAGE_BYTES as u64) as usize;
        if len < self.len {
            self.pages.truncate(count);
            let tail = (len % PAGE_BYTES as u64) as usize;
            if tail > 0
                && let Some(Some(last)) = self.pages.last_mut()
            {
                Arc::make_mut(last)[tail..].fill(0);
            }
        } else {
            self.pages.resize(count, None);
        }
        self.len = len;
    }

    /// Takes the pages around `len` bytes at `offset` from `from`, a file of the same length, by
    /// sharing them.
    pub(super) fn share(&mut self, from: &Self, offset: u64, len: usize) {
        debug_assert_eq!(self.len, from.len);
        let end = (offset + len as u64).min(self.len);
        let first = (offset / PAGE_BYTES as u64) as usize;
        let past = end.div_ceil(PAGE_BYTES as u64) as usize;
        for page in first..past {
            self.pages[page].clone_from(&from.pages[page]);
        }
    }

    /// All bytes in one piece.
    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len as usize];
        self.read(&mut bytes, 0);
        bytes
    }
}

/// The page that holds `offset`, and the range in it of at most `len` bytes from there.
fn place(offset: u64, len: usize) -> (usize, Range<usize>) {
    let within = (offset % PAGE_BYTES as u64) as usize;
    ((offset / PAGE_BYTES as u64) as usize, within..PAGE_BYTES.min(within + len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaves_as_a_vector_of_bytes() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut pages = Pages::default();
        let mut model: Vec<u8> = Vec::new();
        for _ in 0..3000 {
            match rng.u8(0..4) {
                0 => {
                    let len = rng.usize(0..5 * PAGE_BYTES);
                    pages.set_len(len as u64);
                    model.resize(len, 0);
                }
                1 => {
                    let mut bytes = vec![0; rng.usize(0..2 * PAGE_BYTES)];
                    rng.fill(&mut bytes);
                    let offset = rng.usize(0..5 * PAGE_BYTES);
                    pages.overwrite(&bytes, offset as u64);
                    for (i, b) in bytes.into_iter().enumerate() {
                        if let Some(at) = model.get_mut(offset + i) {
                            *at = b;
                        }
                    }
                }
                2 => {
                    let mut copy = Pages::default();
                    copy.set_len(pages.len());
                    copy.share(&pages, 0, model.len());
                    pages.set_len(0);
                    pages = copy;
                }
                _ => {
                    let offset = rng.usize(0..5 * PAGE_BYTES);
                    let mut bytes = vec![1; rng.usize(0..2 * PAGE_BYTES)];
                    let n = pages.read(&mut bytes, offset as u64);
                    let from = offset.min(model.len());
                    let to = model.len().min(from + bytes.len());
                    assert_eq!(&bytes[..n], &model[from..to]);
                }
            }
            assert_eq!(pages.len(), model.len() as u64);
        }
        assert_eq!(pages.to_vec(), model);
    }

    #[test]
    fn a_copy_does_not_see_later_writes() {
        let mut pages = Pages::from_bytes(b"before");
        let copy = pages.clone();
        pages.overwrite(b"after!", 0);
        assert_eq!((copy.to_vec(), pages.to_vec()), (b"before".to_vec(), b"after!".to_vec()));
    }

    #[test]
    fn a_length_past_the_limit_is_refused() {
        assert_eq!(checked_end(MAX_LEN - 1, 1).unwrap(), MAX_LEN);
        assert_eq!(checked_end(MAX_LEN, 1).unwrap_err().kind(), IoErrorKind::FileTooLarge);
        assert_eq!(checked_end(u64::MAX, 1).unwrap_err().kind(), IoErrorKind::FileTooLarge);
    }
}
