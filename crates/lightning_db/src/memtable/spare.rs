//! Chunks of memtables that went, for those that come: memory new to the process is cleared by the
//! system page by page while the writer waits, which was a twelfth of the time of a put.
//!
//! 1. A chunk is either here or in one arena.
//! 2. No more are kept than the arena had that gave the last one back: what lies here is at most one
//!    memtable, which was there before.
//!
//! Threads: any.

use std::alloc::{Layout, dealloc};
use std::ptr::NonNull;

use crate::sync::Mutex;

/// Chunks of one size and alignment.
#[derive(Debug)]
pub(super) struct SpareChunks {
    layout: Layout,
    chunks: Mutex<Vec<Chunk>>,
}

/// Memory that belongs to whoever holds this.
#[derive(Debug)]
struct Chunk(NonNull<u8>);

// SAFETY: it owns its memory, as a `Box` would, and nobody else points to it (invariant 1).
unsafe impl Send for Chunk {}

impl SpareChunks {
    /// None yet, of chunks that are allocated with `layout`.
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, chunks: Mutex::new(Vec::new()) }
    }

    /// A chunk of that layout, if there is one, which is the caller's from then on.
    pub(super) fn take(&self, layout: Layout) -> Option<NonNull<u8>> {
        if layout != self.layout {
            return None;
        }
        self.chunks.lock().pop().map(|chunk| chunk.0)
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.chunks.lock().len()
    }

    /// Takes over what an arena had: what is not of the layout, or too much, is freed.
    ///
    /// # Safety
    ///
    /// Each was allocated with the layout that stands beside it, and nobody uses it from here on.
    pub(super) unsafe fn give_back(&self, chunks: &[(NonNull<u8>, Layout)]) {
        let most = chunks.iter().filter(|(_, layout)| *layout == self.layout).count();
        for (chunk, layout) in chunks {
            if *layout == self.layout {
                let mut kept = self.chunks.lock();
                if kept.len() < most && kept.try_reserve(1).is_ok() {
                    kept.push(Chunk(*chunk));
                    continue;
                }
            }
            // SAFETY: as the caller says; it was not kept, so it is freed once.
            unsafe { dealloc(chunk.as_ptr(), *layout) };
        }
    }
}

impl Drop for SpareChunks {
    fn drop(&mut self) {
        for chunk in self.chunks.lock().drain(..) {
            // SAFETY: all that are here were allocated with this layout, and have no other owner.
            unsafe { dealloc(chunk.0.as_ptr(), self.layout) };
        }
    }
}
