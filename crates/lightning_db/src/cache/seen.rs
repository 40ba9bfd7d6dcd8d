//! Places that were read of late and not kept: a value that is read once should push nothing out.
//!
//! A table of marks, each of them of the last place that fell on it. A mark may be taken for that of another
//! place, one time in 2^32, and is lost to others: then a value is kept a read too early, or too late.
//!
//! Threads: any.

use super::key::Key;
use crate::sync::atomic::{AtomicU32, Ordering};

const MARKS: usize = 8192;

#[derive(Debug)]
pub(super) struct Seen(Box<[AtomicU32]>);

impl Seen {
    pub(super) fn new() -> Self {
        Self((0..MARKS).map(|_| AtomicU32::new(0)).collect())
    }

    /// Notes a place, and tells whether it was noted before; then it is not any more.
    pub(super) fn note(&self, key: Key) -> bool {
        let hash = key.hash64();
        let (mark, tag) = (&self.0[hash as usize % MARKS], (hash >> 32) as u32 | 1);
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
        let seen = Seen::new();
        let key = |offset| Key { segment: SegmentId(7), offset };
        for offset in 0..100 {
            assert!(!seen.note(key(offset)));
        }
        // A few of them fell on one mark.
        let known = (0..100).filter(|offset| seen.note(key(*offset))).count();
        assert!(known > 90, "{known}");
        assert_eq!((0..100).filter(|offset| seen.note(key(*offset))).count(), 100 - known);
    }
}
