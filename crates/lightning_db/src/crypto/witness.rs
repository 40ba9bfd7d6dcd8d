//! For tests: notes every (key, nonce) that is used, and panics at the first that is used twice.
//!
//! Off until [`watch`] is called; then on for the whole process, over all its databases. Its table
//! has its own latch, and holds the file keys themselves: it is no part of the library.

use std::collections::HashSet;
use std::sync::{Mutex, OnceLock, PoisonError};

/// A key and a nonce.
type Use = ([u8; 32], u64);

static USED: OnceLock<Mutex<HashSet<Use>>> = OnceLock::new();

/// Begins to watch.
pub fn watch() {
    USED.get_or_init(Mutex::default);
}

/// How many nonces were used since.
pub fn used() -> usize {
    USED.get().map_or(0, |used| used.lock().unwrap_or_else(PoisonError::into_inner).len())
}

pub(super) fn note(key: &[u8; 32], nonce: u64) {
    let Some(used) = USED.get() else { return };
    let mut used = used.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(used.insert((*key, nonce)), "nonce {nonce} is used twice under one key");
}
