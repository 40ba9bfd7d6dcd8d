//! Asking the processor for memory before it is needed. A hint: it changes nothing but time.
#![allow(unsafe_code)] // one instruction that reads nothing

/// Bytes that a processor fetches at once.
pub const LINE_BYTES: usize = 64;

/// Asks for `lines` cache lines from an address on, which need not be valid.
#[inline]
pub fn lines(from: *const u8, lines: usize) {
    #[cfg(target_arch = "x86_64")]
    for i in 0..lines {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch of any address is allowed; it reads nothing and cannot fault.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(LINE_BYTES * i).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (from, lines);
}
