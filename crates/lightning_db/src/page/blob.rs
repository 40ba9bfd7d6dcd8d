//! Blob pages: the pieces of a value too large for the tree.
//!
//! A blob page's payload is bytes of the value and nothing else. The pages of one value follow one
//! another in one segment; each but the last holds `BLOB_CHUNK_BYTES` bytes, the last what is
//! left, at least one. A value of no bytes has no pages. The reference to the value
//! ([`BlobRef`](crate::types::BlobRef)) holds the value's length and a CRC-32C over the checksums
//! of its pages, so that pages of different values cannot be put together into one.
//!
//! No I/O, no threads.

use crate::codec::Malformed;
use crate::limits::BLOB_CHUNK_BYTES;

/// The pages that a value of `value_bytes` bytes takes.
pub fn page_count(value_bytes: u32) -> u64 {
    (value_bytes as u64).div_ceil(BLOB_CHUNK_BYTES as u64)
}

/// The bytes of the value in its page number `page`, counted from 0, which must be below
/// [`page_count`].
pub fn chunk_bytes(value_bytes: u32, page: u64) -> usize {
    let before = page * BLOB_CHUNK_BYTES as u64;
    (value_bytes as u64 - before).min(BLOB_CHUNK_BYTES as u64) as usize
}

/// Whether a value of `value_bytes` bytes can lie in `stored_bytes` bytes of pages, each with
/// `around` bytes around its payload: not more than plain, not less than the best that any codec
/// gives (255 to 1).
pub fn plausible(value_bytes: u32, stored_bytes: u64, around: usize) -> bool {
    let envelopes = page_count(value_bytes) * around as u64;
    let most = value_bytes as u64 + envelopes;
    let least = value_bytes as u64 / 256 + envelopes;
    (least..=most).contains(&stored_bytes)
}

/// Adds the checksum of the next page to that of a value; the first is added to 0.
pub fn add_checksum(of_value: u32, of_page: u32) -> u32 {
    crc32c::crc32c_append(of_value, &of_page.to_le_bytes())
}

/// Whether `payload` can be that of a blob page.
pub fn validate(payload: &[u8]) -> Result<(), Malformed> {
    if payload.is_empty() || payload.len() > BLOB_CHUNK_BYTES {
        return Err(Malformed("a blob page has an impossible length"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_add_up_to_the_value() {
        let chunk = BLOB_CHUNK_BYTES as u32;
        for len in [0, 1, chunk - 1, chunk, chunk + 1, 5 * chunk, u32::MAX] {
            let pages = page_count(len);
            let sum: u64 = (0..pages).map(|p| chunk_bytes(len, p) as u64).sum();
            assert_eq!(sum, len as u64);
            assert!((0..pages).all(|p| chunk_bytes(len, p) > 0));
            let plain = len as u64 + 16 * pages;
            assert!(plausible(len, plain, 16));
            assert!(!plausible(len, plain + 1, 16));
            assert!(len == 0 || !plausible(len, 16 * pages - 1, 16));
        }
    }

    #[test]
    fn the_checksum_depends_on_the_order_of_pages() {
        let ab = add_checksum(add_checksum(0, 1), 2);
        let ba = add_checksum(add_checksum(0, 2), 1);
        assert_ne!(ab, ba);
    }

    #[test]
    fn impossible_lengths_are_refused() {
        assert!(validate(&[]).is_err());
        assert!(validate(&[0]).is_ok());
        assert!(validate(&vec![0; BLOB_CHUNK_BYTES]).is_ok());
        assert!(validate(&vec![0; BLOB_CHUNK_BYTES + 1]).is_err());
    }
}
