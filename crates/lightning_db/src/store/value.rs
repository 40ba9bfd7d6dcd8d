//! Values handed to readers: owned bytes, or a part of a cached page that stays pinned.

use std::fmt;
use std::ops::{Deref, Range};

use crate::cache::{PageRef, RowRef, row_value};

/// A value. Where it was found in the cache it borrows a page, or a row, of that without a copy, and
/// keeps it in memory while it lives.
#[derive(Clone)]
pub struct Value(Repr);

#[derive(Clone)]
enum Repr {
    Owned(Vec<u8>),
    Page(PageRef, Range<u32>),
    Row(RowRef),
}

impl Value {
    /// A value of its own bytes.
    pub(crate) fn owned(bytes: Vec<u8>) -> Self {
        Self(Repr::Owned(bytes))
    }

    /// A part of a page.
    pub(crate) fn in_page(page: PageRef, range: Range<u32>) -> Self {
        Self(Repr::Page(page, range))
    }

    /// That of a row.
    pub(crate) fn in_row(row: RowRef) -> Self {
        Self(Repr::Row(row))
    }

    /// The bytes, copied where they lie in a page.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        match self.0 {
            Repr::Owned(v) => v,
            Repr::Page(..) | Repr::Row(_) => self.to_vec(),
        }
    }
}

impl Deref for Value {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Owned(v) => v,
            Repr::Row(row) => row_value(row),
            Repr::Page(page, range) => &page.bytes[range.start as usize..range.end as usize],
        }
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({} bytes)", self.len())
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Value {}

impl PartialEq<[u8]> for Value {
    fn eq(&self, other: &[u8]) -> bool {
        **self == *other
    }
}
