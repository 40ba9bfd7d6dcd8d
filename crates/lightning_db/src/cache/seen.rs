//! Places that were read of late and not kept: a value that is read once should push nothing out.
//!
//! A table of marks, one for each 16 KiB of the cache, each of them of the last place that fell on it: as many
//! reads lie between two of a value that is worth its room as there are values in the cache, about. A mark may be taken for that of another
//! place, one time in 2^31, and is lost to others: then a value is kept a read too early, or too late.
//!
//! They take a byte for each 4 KiB of the cache, beside it: 4 KiB at least, 4 MiB at most.
//!
//! Threads: any.

use super::key::Key;
use crate::sync::atomic::{AtomicU32, Ordering};

const BYTES_PER_MARK: u64 = 16 * 1024;
const MARKS: std::ops::RangeInclusive<u64> = 1024..=1024 * 1024;

#[derive(Debug)]
pub(super) struct Seen(Box<[AtomicU32]>);

impl Seen {
    /// For a cache of so many bytes.
    pub(super) fn new(capacity_bytes: u64) -> Self {
        let marks = (capacity_bytes / BYTES_PER_MARK).clamp(*MARKS.start(), *MARKS.end());
        Self((0..marks).map(|_| AtomicU32::new(0)).collect())
    }

    /// Notes a place, and tells whether it was noted before; then it is not any more.
    pub(super) fn note(&self, key: Key) -> bool {
        let hash = key.hash64();
        let (mark, tag) = (&self.0[hash as usize % self.0.len()], (hash >> 32) as u32 | 1);
        let was_seen = mark.load(Ordering::Relaxed) == tag;
        mark.store(if was_seen { 0 } else { tag }, Ordering::Relaxed);
        was_seen
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::types::SegmentId;

    #[test]
    fn a_place_is_seen_at_its_second_read() {
        let seen = Seen::new(128 << 20);
        let key = |offset| Key { segment: SegmentId(7), offset };
        for offset in 0..100 {
            assert!(!seen.note(key(offset)));
        }
        // A few of them fell on one mark.
        let known = (0..100).filter(|offset| seen.note(key(*offset))).count();
        assert!(known > 90, "{known}");
        let again = (0..100).filter(|offset| seen.note(key(*offset))).count();
        assert!(again <= 100 - known, "those that were kept are noted no more: {again}");
    }
}
