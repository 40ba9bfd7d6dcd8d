//! Pages: the unit of reading. Every byte of them is laid out here.
//!
//! | file | job |
//! |---|---|
//! | `envelope` | the 16 bytes in front of every page: seal (compress, checksum) and open |
//! | `leaf` | entries, searched as they lie in memory |
//! | `inner` | separators and the addresses below them |
//! | `filter` | blocked Bloom filters |
//! | `blob` | the pieces of a large value |
//!
//! A fifth type of page is a Zstandard dictionary and nothing else (`compress::Dictionary`).
//!
//! A page is opened (checksum, then decompression to a bounded size), its payload is validated
//! once by [`check_payload`], and from then on read through a view that trusts it.

pub mod blob;
pub mod envelope;
pub mod filter;
pub mod inner;
pub mod leaf;
#[cfg(test)]
mod leaf_speed_tests;
#[cfg(test)]
mod mutation;

pub use envelope::PageType;

use std::path::Path;

use crate::codec::Malformed;
use crate::error::{Error, ErrorKind, Result, malformed_in};

/// What `validate` says of a page that a later version wrote.
pub const UNKNOWN_FEATURE: Malformed =
    Malformed("the page uses a feature that this build does not know");

/// Validates an opened payload of type `ty`, found in `file` at `offset`: after this, the type's
/// view reads it without fail.
pub fn check_payload(ty: PageType, payload: &[u8], file: &Path, offset: u64) -> Result<()> {
    let checked = match ty {
        PageType::Leaf => leaf::LeafView::validate(payload),
        PageType::Inner => inner::InnerView::validate(payload),
        PageType::Filter => filter::validate(payload),
        PageType::Blob => blob::validate(payload),
        // Told by whoever takes it in.
        PageType::Dictionary => Ok(()),
    };
    checked.map_err(|m| {
        let e: Error = malformed_in(file, offset)(m);
        if m == UNKNOWN_FEATURE { e.with_kind(ErrorKind::UnsupportedFormat) } else { e }
    })
}
