//! The memory of a memtable: chunks that only grow in number, all freed together.
//!
//! Invariants: 1. what was handed out is never moved, reused or freed before the arena drops, so
//! readers need no count and no epoch. 2. two pieces handed out never overlap.
//! Entries are taken from the bottom of the newest chunk, nodes from its top, so that neither has
//! to be padded to the other's alignment. Chunks double from 4 KiB to 2 MiB; what would waste
//! more than a quarter of a chunk gets a chunk of its own. Chunks of the full size are taken from those
//! that earlier arenas left, and left for later ones.
//!
//! Threads: only the writer allocates; it alone holds `&mut Arena`.

use std::ptr::NonNull;

use super::chunk::{CHUNK_ALIGN, Chunk, FULL_CHUNK_BYTES};
use super::spare::SpareChunks;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::Arc;

const FIRST_CHUNK_BYTES: usize = 4 * 1024;
/// Of entries.
const ENTRY_ALIGN: usize = 8;

/// Chunks of memory, and what is left of the newest.
pub(super) struct Arena {
    chunks: Vec<Chunk>,
    /// The newest shared chunk; dangling while `top == 0`.
    current: NonNull<u8>,
    /// Free bytes of `current` are `bottom..top`; `bottom` keeps [`ENTRY_ALIGN`], `top`
    /// [`CHUNK_ALIGN`].
    bottom: usize,
    top: usize,
    next_chunk_bytes: usize,
    held_bytes: usize,
    spare: Arc<SpareChunks>,
    /// How many more pieces can be had: for tests of what happens then.
    #[cfg(test)]
    pub(super) pieces_left: usize,
}

// SAFETY: the arena owns its chunks as a `Vec` owns its buffer; the pointers are to them alone.
unsafe impl Send for Arena {}

impl Arena {
    /// An arena that holds no memory yet. It takes full chunks from `spare` while there are any, and
    /// leaves its own there.
    pub(super) fn new(spare: Arc<SpareChunks>) -> Self {
        Self {
            chunks: Vec::new(),
            current: NonNull::dangling(),
            bottom: 0,
            top: 0,
            next_chunk_bytes: FIRST_CHUNK_BYTES,
            held_bytes: 0,
            spare,
            #[cfg(test)]
            pieces_left: usize::MAX,
        }
    }

    /// Bytes of all chunks.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// `bytes` of uninitialised memory for an entry, aligned to 8.
    #[inline]
    pub(super) fn entry_space(&mut self, bytes: usize) -> Result<NonNull<u8>> {
        #[cfg(test)]
        self.take_piece()?;
        let bytes = round_up(bytes, ENTRY_ALIGN)?;
        if self.top - self.bottom < bytes {
            if bytes > self.next_chunk_bytes / 4 {
                return self.add_chunk(round_up(bytes, CHUNK_ALIGN)?);
            }
            self.start_chunk()?;
        }
        let at = self.bottom;
        self.bottom += bytes;
        // SAFETY: `at + bytes <= top`, and `top` is at most the length of the chunk at `current`.
        Ok(unsafe { self.current.add(at) })
    }

    /// Uninitialised memory for a `T`.
    pub(super) fn node_space<T>(&mut self) -> Result<NonNull<T>> {
        const { assert!(align_of::<T>() == CHUNK_ALIGN) };
        const { assert!(size_of::<T>() < FIRST_CHUNK_BYTES / 4) };
        #[cfg(test)]
        self.take_piece()?;
        if self.top - self.bottom < size_of::<T>() {
            self.start_chunk()?;
        }
        self.top -= size_of::<T>(); // a multiple of its alignment
        // SAFETY: `bottom <= top` still, and `top` plus the size is within the chunk.
        Ok(unsafe { self.current.add(self.top) }.cast())
    }

    #[cfg(test)]
    fn take_piece(&mut self) -> Result<()> {
        self.pieces_left = self.pieces_left.checked_sub(1).ok_or_else(|| out_of(0))?;
        Ok(())
    }

    /// Leaves the newest chunk as it is and begins another.
    #[cold]
    fn start_chunk(&mut self) -> Result<()> {
        let bytes = self.next_chunk_bytes;
        self.current = self.add_chunk(bytes)?;
        self.bottom = 0;
        self.top = bytes;
        self.next_chunk_bytes = (bytes * 2).min(FULL_CHUNK_BYTES);
        Ok(())
    }

    #[cold]
    fn add_chunk(&mut self, bytes: usize) -> Result<NonNull<u8>> {
        assert!(bytes > 0, "an empty chunk");
        self.chunks.try_reserve(1).map_err(|_| out_of(bytes))?;
        let chunk = self.spare.take(bytes).or_else(|| Chunk::new(bytes));
        let chunk = chunk.ok_or_else(|| out_of(bytes))?;
        let start = chunk.start();
        self.chunks.push(chunk);
        self.held_bytes += bytes;
        Ok(start)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        self.spare.give_back(std::mem::take(&mut self.chunks));
    }
}

fn round_up(bytes: usize, align: usize) -> Result<usize> {
    bytes.checked_next_multiple_of(align).ok_or_else(|| out_of(bytes))
}

/// The error for `bytes` that could not be had.
#[cold]
fn out_of(bytes: usize) -> Error {
    Error::new(ErrorKind::OutOfMemory, format!("no memory for {bytes} more bytes of a memtable"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(align(64))]
    struct Node(#[allow(dead_code, reason = "only its size counts")] [u8; 256]);

    #[test]
    fn pieces_are_aligned_and_apart_and_counted() {
        let mut arena = Arena::new(Arc::default());
        let mut random = fastrand::Rng::with_seed(1);
        let mut pieces: Vec<(usize, usize)> = Vec::new();
        let mut asked = 0;
        for _ in 0..20_000 {
            let (at, len) = if random.u8(..4) == 0 {
                let p = arena.node_space::<Node>().unwrap();
                // SAFETY: the space is for one `Node`.
                unsafe { p.write(Node([7; 256])) };
                assert_eq!(p.addr().get() % 64, 0);
                (p.addr().get(), 256)
            } else {
                let len = if random.u16(..1000) == 0 { 100_000 } else { random.usize(1..400) };
                let p = arena.entry_space(len).unwrap();
                // SAFETY: the space is `len` bytes long.
                unsafe { p.write_bytes(9, len) };
                assert_eq!(p.addr().get() % 8, 0);
                (p.addr().get(), len)
            };
            asked += len;
            pieces.push((at, len));
        }
        pieces.sort_unstable();
        assert!(pieces.windows(2).all(|w| w[0].0 + w[0].1 <= w[1].0));
        assert_eq!(arena.held_bytes(), arena.chunks.iter().map(Chunk::bytes).sum::<usize>());
        assert!(arena.held_bytes() >= asked);
        assert!(arena.held_bytes() < asked + asked / 4 + FULL_CHUNK_BYTES);
    }

    // Nothing is kept where the address sanitiser looks.
    #[cfg(not(allocator_chunks))]
    #[test]
    fn what_an_arena_leaves_is_taken_by_the_next_and_no_more_is_kept_than_one_had() {
        let full = |arena: &Arena| -> Vec<usize> {
            let of_full_size = arena.chunks.iter().filter(|c| c.bytes() == FULL_CHUNK_BYTES);
            of_full_size.map(|c| c.start().addr().get()).collect()
        };
        let fill = |arena: &mut Arena, chunks: usize| {
            while full(arena).len() < chunks {
                let at = arena.entry_space(1000).unwrap();
                // SAFETY: the space is 1000 bytes long.
                unsafe { at.write_bytes(9, 1000) };
            }
        };
        let spare = Arc::new(SpareChunks::new(true));
        let mut first = Arena::new(Arc::clone(&spare));
        fill(&mut first, 3);
        let mut later = Arena::new(Arc::clone(&spare));
        fill(&mut later, 1);
        assert!(full(&later).iter().all(|c| !full(&first).contains(c)), "it is in use");
        let left = full(&first);
        drop(first);
        fill(&mut later, 5);
        assert_eq!(full(&later).iter().filter(|c| left.contains(c)).count(), 3);
        let (mut beside, mut more) =
            (Arena::new(Arc::clone(&spare)), Arena::new(Arc::clone(&spare)));
        fill(&mut beside, 4);
        fill(&mut more, 1);
        for (gone, kept) in [(beside, 4), (later, 5), (more, 5)] {
            drop(gone);
            assert_eq!(spare.bytes(), kept * FULL_CHUNK_BYTES);
        }
        spare.release();
        assert_eq!(spare.bytes(), 0);
        // What comes back late is not kept, until there is somebody who wants some.
        let late = |chunks| {
            let mut arena = Arena::new(Arc::default());
            fill(&mut arena, chunks);
            arena.spare = Arc::clone(&spare);
            arena
        };
        drop(late(2));
        assert_eq!(spare.bytes(), 0);
        let waiting = late(3);
        let mut wants = Arena::new(Arc::clone(&spare));
        fill(&mut wants, 1);
        drop(waiting);
        assert_eq!(spare.bytes(), 3 * FULL_CHUNK_BYTES);
        let none = Arc::<SpareChunks>::default();
        let mut arena = Arena::new(Arc::clone(&none));
        fill(&mut arena, 2);
        drop(arena);
        assert_eq!(none.bytes(), 0, "nobody would free them");
    }

    #[test]
    fn impossible_sizes_are_errors() {
        let mut arena = Arena::new(Arc::default());
        for bytes in [usize::MAX, usize::MAX - 64, isize::MAX as usize] {
            let e = arena.entry_space(bytes).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::OutOfMemory);
        }
        assert_eq!(arena.held_bytes(), 0);
        assert!(arena.entry_space(1).is_ok());
    }
}
