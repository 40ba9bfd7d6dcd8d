//! Segments: files full of pages, written once from front to back, then only read.
//!
//! | file | job |
//! |---|---|
//! | `header` | the first 64 bytes |
//! | `writer` | writes a new segment |
//! | `reader` | reads pages of a segment |
//! | `blob` | reads large values, page by page |
//! | `in_memory` | reads that touch no file |
//! | `leaving` | files that go with their last reader |
//! | `blob_pages` | reads the pages of a large value one at a time, in any order |
//!
//! A segment is [`HEADER_BYTES`](header::HEADER_BYTES) bytes of header and then pages, one right
//! behind the other; `page::envelope` lays out what is in front of each. Which of the bytes are
//! pages that anybody needs is told by the addresses that lead to them, never by the file itself.

mod blob;
mod blob_pages;
pub mod header;
mod in_memory;
mod leaving;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use blob_pages::BlobPages;
pub use header::SegmentKind;
pub use in_memory::{in_memory, leave_files};
pub use leaving::Leaving;
pub use reader::Segment;
#[cfg(test)]
pub use writer::SegmentMeta;
pub use writer::SegmentWriter;

use std::path::{Path, PathBuf};

use crate::types::SegmentId;

/// The directory of a database's segments.
pub fn segment_dir(dir: &Path) -> PathBuf {
    dir.join("seg")
}

/// The file of segment `id` of the database in `dir`: `seg/NNNNNNNN.seg`.
pub fn segment_path(dir: &Path, id: SegmentId) -> PathBuf {
    segment_dir(dir).join(format!("{:08}.seg", id.0))
}

/// The id in the name of a segment file; `None` for other names.
#[cfg(test)]
pub fn segment_id_of(name: &str) -> Option<SegmentId> {
    let digits = name.strip_suffix(".seg")?;
    let id = digits.parse().ok().map(SegmentId)?;
    // So that no two names stand for one segment.
    (format!("{:08}", id.0) == digits).then_some(id)
}
