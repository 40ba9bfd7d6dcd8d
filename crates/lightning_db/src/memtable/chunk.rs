//! A chunk of memory for an arena: from the allocator, or, where it has the full size, a page of the
//! large kind from the system, if that has one.
//!
//! A full chunk is asked of the system alone, since the allocator keeps what it is given back: after a
//! while of writing it held several times the memtables that there were. And of the large kind, since a
//! memtable is read all over: each access would miss the processor's table of small pages as well.
//!
//! 1. A chunk is its holder's alone, and freed once, when it is dropped.

use std::alloc::{Layout, alloc, dealloc};
use std::ptr::NonNull;

/// Of every chunk, and so of nodes: a cache line.
pub(super) const CHUNK_ALIGN: usize = 64;
/// The bytes of a full chunk. (Small where schedules are explored, so that a model comes to one.)
pub(super) const FULL_CHUNK_BYTES: usize = if cfg!(shuttle) { 16 * 1024 } else { 2 * 1024 * 1024 };

/// Uninitialised memory.
#[derive(Debug)]
pub(super) struct Chunk {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: it owns its memory, as a `Box` would.
unsafe impl Send for Chunk {}

impl Chunk {
    /// A chunk of so many bytes, aligned to [`CHUNK_ALIGN`]; `None` where there is no memory for it.
    pub(super) fn new(bytes: usize) -> Option<Self> {
        assert!(bytes > 0, "an empty chunk");
        let start = if bytes == FULL_CHUNK_BYTES {
            full::map()?
        } else {
            let layout = Layout::from_size_align(bytes, CHUNK_ALIGN).ok()?;
            // SAFETY: the layout's size is not zero.
            NonNull::new(unsafe { alloc(layout) })?
        };
        Some(Self { start, bytes })
    }

    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if self.bytes == FULL_CHUNK_BYTES {
            // SAFETY: `new` had it from `map`, and it is dropped once.
            unsafe { full::unmap(self.start) };
        } else if let Ok(layout) = Layout::from_size_align(self.bytes, CHUNK_ALIGN) {
            // SAFETY: `new` had it with this layout, and it is dropped once.
            unsafe { dealloc(self.start.as_ptr(), layout) };
        }
    }
}

/// Full chunks, from the system.
#[cfg(all(target_os = "linux", not(allocator_chunks)))]
mod full {
    use std::ptr::{self, NonNull};

    use super::FULL_CHUNK_BYTES;

    pub(super) fn map() -> Option<NonNull<u8>> {
        let (access, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let map = |bytes| {
            // SAFETY: no address is asked for, so no mapping that exists is touched.
            let mapped = unsafe { libc::mmap(ptr::null_mut(), bytes, access, flags, -1, 0) };
            (mapped != libc::MAP_FAILED).then_some(mapped.cast::<u8>())
        };
        // Twice as much, so that a place in it is aligned as a large page has to be.
        let Some(mapped) = map(2 * FULL_CHUNK_BYTES) else {
            // Of small pages, then.
            return map(FULL_CHUNK_BYTES).and_then(NonNull::new);
        };
        let before = mapped.align_offset(FULL_CHUNK_BYTES);
        let start = mapped.wrapping_add(before);
        let after = FULL_CHUNK_BYTES - before;
        if before > 0 {
            // SAFETY: the part below `start` of what was just mapped, whole pages that nobody uses.
            unsafe { libc::munmap(mapped.cast(), before) };
        }
        if after > 0 {
            // SAFETY: likewise the part behind the chunk.
            unsafe { libc::munmap(start.wrapping_add(FULL_CHUNK_BYTES).cast(), after) };
        }
        // SAFETY: advice for the chunk's own pages; where it is refused they stay small.
        unsafe { libc::madvise(start.cast(), FULL_CHUNK_BYTES, libc::MADV_HUGEPAGE) };
        NonNull::new(start)
    }

    /// # Safety
    ///
    /// `chunk` is from [`map`], and nobody uses it from here on.
    pub(super) unsafe fn unmap(chunk: NonNull<u8>) {
        // SAFETY: `map` left exactly this range mapped; it is the caller's to give up.
        unsafe { libc::munmap(chunk.as_ptr().cast(), FULL_CHUNK_BYTES) };
    }
}

/// Full chunks, from the allocator: the address sanitiser knows of none but these.
#[cfg(any(not(target_os = "linux"), allocator_chunks))]
mod full {
    use std::alloc::{Layout, alloc, dealloc};
    use std::ptr::NonNull;

    use super::{CHUNK_ALIGN, FULL_CHUNK_BYTES};

    const LAYOUT: Layout = match Layout::from_size_align(FULL_CHUNK_BYTES, CHUNK_ALIGN) {
        Ok(layout) => layout,
        Err(_) => panic!("a size and an alignment that fit"),
    };

    pub(super) fn map() -> Option<NonNull<u8>> {
        // SAFETY: the layout's size is not zero.
        NonNull::new(unsafe { alloc(LAYOUT) })
    }

    /// # Safety
    ///
    /// `chunk` is from [`map`], and nobody uses it from here on.
    pub(super) unsafe fn unmap(chunk: NonNull<u8>) {
        // SAFETY: `map` had it with this layout.
        unsafe { dealloc(chunk.as_ptr(), LAYOUT) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_aligned_and_apart_and_can_be_written_to_their_ends() {
        let sizes =
            [1, 64, 4096, FULL_CHUNK_BYTES - 1, FULL_CHUNK_BYTES, FULL_CHUNK_BYTES, 5 << 20];
        let mut chunks: Vec<_> = sizes.iter().map(|bytes| Chunk::new(*bytes).unwrap()).collect();
        for round in 0..3 {
            for (chunk, bytes) in chunks.iter().zip(sizes) {
                assert_eq!((chunk.bytes(), chunk.start().addr().get() % CHUNK_ALIGN), (bytes, 0));
                // SAFETY: the chunk has so many bytes, and nobody else looks at them.
                unsafe { chunk.start().write_bytes(round, bytes) };
            }
            let mut places: Vec<_> =
                chunks.iter().map(|c| (c.start().addr().get(), c.bytes())).collect();
            places.sort_unstable();
            assert!(places.windows(2).all(|w| w[0].0 + w[0].1 <= w[1].0));
            // One goes, and another comes.
            chunks.remove(4);
            chunks.insert(4, Chunk::new(FULL_CHUNK_BYTES).unwrap());
        }
    }
}
