//! A range of keys, and the range delete that covers it.

use std::sync::Arc;

use crate::types::Seq;

/// A key that several ranges share.
pub type Key = Arc<[u8]>;

/// The keys `start <= key < end`, and the number that they were deleted with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// The first key inside.
    pub start: Key,
    /// The first key after it; `None`: every key from `start` on.
    pub end: Option<Key>,
    /// The range delete.
    pub seq: Seq,
}

/// Whether `key` is before an end.
#[inline]
pub fn is_before(key: &[u8], end: Option<&[u8]>) -> bool {
    end.is_none_or(|e| key < e)
}
