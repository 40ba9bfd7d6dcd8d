//! Full chunks of memtables that went, for those that come: memory new to the process is cleared by the
//! system while the writer waits.
//!
//! 1. No more are kept than the arena had that gave the last one back: what lies here is at most one
//!    memtable, which was there before.
//! 2. They go when nothing has been written for a while (see `maintenance::scheduler`).
//!
//! Threads: any.

use super::chunk::{Chunk, FULL_CHUNK_BYTES};
use crate::sync::Mutex;

/// Full chunks that no arena has.
#[derive(Debug, Default)]
pub(super) struct SpareChunks(Mutex<Vec<Chunk>>);

impl SpareChunks {
    /// A chunk of so many bytes, if there is one.
    pub(super) fn take(&self, bytes: usize) -> Option<Chunk> {
        if bytes == FULL_CHUNK_BYTES { self.0.lock().pop() } else { None }
    }

    /// Takes over what an arena had: what is not full, or too much, is freed.
    pub(super) fn give_back(&self, chunks: Vec<Chunk>) {
        let full: Vec<_> = chunks.into_iter().filter(|c| c.bytes() == FULL_CHUNK_BYTES).collect();
        let most = full.len();
        let mut kept = self.0.lock();
        let room = most.saturating_sub(kept.len());
        if kept.try_reserve(room).is_ok() {
            kept.extend(full.into_iter().take(room));
        }
    }

    /// Frees them all.
    pub(super) fn release(&self) {
        let gone = std::mem::take(&mut *self.0.lock());
        drop(gone);
    }

    /// Bytes of them.
    pub(super) fn bytes(&self) -> usize {
        self.0.lock().len() * FULL_CHUNK_BYTES
    }
}
