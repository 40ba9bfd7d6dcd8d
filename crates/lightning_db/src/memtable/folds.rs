//! What chains of operands in a memtable came to when somebody read them: so that a key which is merged
//! into often costs a read only what was merged since the last one.
//!
//! 1. A fold says: all of the key's entries up to and including the one with this number, in this
//!    memtable and below, make this value. Entries never change, so it stays true as long as the memtable
//!    lives; a reader may use it who stands at that entry.
//! 2. It holds no more than [`MAX_BYTES`], and is emptied when it would.
//!
//! Any thread; one latch, which nobody who reads plain values meets.

use std::collections::HashMap;

use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, Mutex};
use crate::types::Seq;

/// The most bytes of keys and values, overhead included.
const MAX_BYTES: usize = 1024 * 1024;
/// Folds of one key, for readers at several numbers.
const PER_KEY: usize = 4;
const OVERHEAD_BYTES: usize = 96;

type Fold = (Seq, Arc<[u8]>);

#[derive(Default)]
struct Kept {
    /// Of each key the most lately used first.
    by_key: HashMap<Box<[u8]>, Vec<Fold>>,
    bytes: usize,
}

/// See the module.
#[derive(Default)]
pub(super) struct Folds {
    any: AtomicBool,
    kept: Mutex<Kept>,
}

fn charge(key: &[u8], value: &[u8]) -> usize {
    key.len() + value.len() + OVERHEAD_BYTES
}

impl Folds {
    /// The newest fold of `key` at or below `at`.
    pub(super) fn get(&self, key: &[u8], at: Seq) -> Option<Fold> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let mut kept = self.kept.lock();
        let folds = kept.by_key.get_mut(key)?;
        let usable = folds.iter().enumerate().filter(|(_, (seq, _))| *seq <= at);
        let (i, _) = usable.max_by_key(|(_, (seq, _))| *seq)?;
        folds[..=i].rotate_right(1);
        Some(folds[0].clone())
    }

    /// Keeps a fold.
    pub(super) fn put(&self, key: &[u8], seq: Seq, value: &[u8]) {
        let more = charge(key, value);
        if more > MAX_BYTES / 4 {
            return;
        }
        let mut kept = self.kept.lock();
        if kept.bytes + more > MAX_BYTES {
            *kept = Kept::default();
        }
        let folds = kept.by_key.entry(key.into()).or_default();
        if folds.iter().any(|(had, _)| *had == seq) {
            return;
        }
        folds.insert(0, (seq, value.into()));
        let less = if folds.len() > PER_KEY { folds.pop() } else { None };
        let less = less.map_or(0, |(_, value)| charge(key, &value));
        kept.bytes = kept.bytes + more - less;
        self.any.store(true, Ordering::Release);
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn the_newest_fold_at_or_below_a_number_is_found() {
        let folds = Folds::default();
        assert!(folds.get(b"key", Seq(9)).is_none());
        for seq in [3, 9, 6] {
            folds.put(b"key", Seq(seq), &[seq as u8]);
        }
        let at = |at| folds.get(b"key", Seq(at)).map(|(seq, value)| (seq.0, value[0]));
        assert_eq!((at(2), at(3), at(8), at(20)), (None, Some((3, 3)), Some((6, 6)), Some((9, 9))));
        assert!(folds.get(b"other", Seq(9)).is_none());
        // Of one key a few are kept: 3 was used longest ago.
        folds.put(b"key", Seq(12), b"x");
        folds.put(b"key", Seq(15), b"x");
        assert_eq!((at(5), at(8)), (None, Some((6, 6))));
    }

    #[test]
    fn what_is_held_is_bounded() {
        let folds = Folds::default();
        folds.put(b"large", Seq(1), &vec![0; MAX_BYTES]);
        assert!(folds.get(b"large", Seq(1)).is_none());
        for i in 0..10_000_u64 {
            folds.put(&(i % 3000).to_le_bytes(), Seq(i), &[1; 500]);
            let kept = folds.kept.lock();
            assert!(kept.bytes <= MAX_BYTES, "{}", kept.bytes);
            let all = kept.by_key.iter().flat_map(|(k, f)| f.iter().map(|(_, v)| charge(k, v)));
            assert!(i % 100 > 0 || all.sum::<usize>() == kept.bytes, "what is held is counted");
        }
        assert!(folds.get(&(9_999_u64 % 3000).to_le_bytes(), Seq(u64::MAX)).is_some());
    }
}
