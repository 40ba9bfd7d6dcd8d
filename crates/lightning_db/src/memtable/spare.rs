//! Full chunks of memtables that went, for those that come, of all keyspaces of a database: memory new to
//! the process is cleared by the system while the writer waits.
//!
//! 1. No more are kept than the arena had that gave the last ones back: what lies here is at most the
//!    largest memtable, which was there before.
//! 2. They go when nothing has been written for a while (see `maintenance::scheduler`), and what comes back
//!    after that is not kept until somebody asks for a chunk again. Where nobody watches for that, none
//!    are kept at all.
//!
//! Threads: any. Nothing is freed under the latch, which a writer may wait for.

use super::chunk::{Chunk, FULL_CHUNK_BYTES};
use crate::sync::Mutex;

#[derive(Debug, Default)]
struct Kept {
    chunks: Vec<Chunk>,
    /// Whether nothing was asked for since all was freed.
    resting: bool,
}

/// Full chunks that no arena has.
#[derive(Debug, Default)]
pub struct SpareChunks {
    keeps: bool,
    kept: Mutex<Kept>,
}

impl SpareChunks {
    /// None yet. `keeps`: whether any are to be kept.
    pub fn new(keeps: bool) -> Self {
        // The address sanitiser sees no use of a memtable that went where its memory is handed on.
        Self { keeps: keeps && !cfg!(allocator_chunks), kept: Mutex::default() }
    }

    /// A chunk of so many bytes, if there is one.
    pub(super) fn take(&self, bytes: usize) -> Option<Chunk> {
        if !self.keeps || bytes != FULL_CHUNK_BYTES {
            return None;
        }
        let mut kept = self.kept.lock();
        kept.resting = false;
        kept.chunks.pop()
    }

    /// Takes over what an arena had: what is not full, or too much, is freed.
    pub(super) fn give_back(&self, mut chunks: Vec<Chunk>) {
        if !self.keeps {
            return;
        }
        chunks.retain(|chunk| chunk.bytes() == FULL_CHUNK_BYTES);
        let most = chunks.len();
        let mut kept = self.kept.lock();
        let room = if kept.resting { 0 } else { most.saturating_sub(kept.chunks.len()) };
        if kept.chunks.try_reserve(room).is_ok() {
            let beyond = chunks.split_off(room);
            kept.chunks.append(&mut chunks);
            drop(kept);
            drop(beyond);
        }
    }

    /// Frees them all.
    pub fn release(&self) {
        let gone = {
            let mut kept = self.kept.lock();
            kept.resting = true;
            std::mem::take(&mut kept.chunks)
        };
        drop(gone);
    }

    /// Bytes of them.
    pub fn bytes(&self) -> usize {
        self.kept.lock().chunks.len() * FULL_CHUNK_BYTES
    }
}
