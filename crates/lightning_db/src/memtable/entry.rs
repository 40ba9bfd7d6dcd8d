//! One version of a key, as it lies in the arena, and the way to the older versions of its key.
//!
//! ```text
//! seq u64 | value length u32 | key length << 4 | expires << 3 | has older << 2 | kind  u32   16 bytes
//! older entry, far entry, depth: three words, only where there is an older version of the key
//! when it expires: one word, only where it does
//! key bytes | value bytes (or the encoded blob reference, or a list of operands)
//! ```
//!
//! Invariants: 1. an entry never changes after it was written. 2. along `older` the key is the
//! same and seqs fall strictly. 3. `far` leads some steps back along `older`, so that any version
//! of a key is found in a logarithmic number of steps, however many there are.
//! (Jump pointers: Myers, "An applicative random-access stack", 1983.)

use std::cmp::Ordering;
use std::marker::PhantomData;
use std::ptr::NonNull;

use crate::limits::MAX_KEY_BYTES;
use crate::prefetch;
use crate::types::{BlobRef, Entry, EntryValue, Expiry, Seq, Time};

const HAS_OLDER: u32 = 1 << 2;
const KIND: u32 = HAS_OLDER - 1;
const EXPIRES: u32 = 1 << 3;
const LEN_SHIFT: u32 = 4;
const _: () = assert!(MAX_KEY_BYTES < 1 << (32 - LEN_SHIFT));

/// The fixed part of an entry.
#[repr(C)]
pub(super) struct Header {
    seq: u64,
    value_len: u32,
    key_len_and_kind: u32,
}

/// What stands between header and key where the key has older versions.
#[repr(C)]
#[derive(Clone, Copy)]
struct History<'a> {
    older: EntryRef<'a>,
    far: EntryRef<'a>,
    /// Older versions behind the entry.
    depth: u64,
}

const HEADER_BYTES: usize = size_of::<Header>();
const HISTORY_BYTES: usize = size_of::<History<'static>>();
const EXPIRY_BYTES: usize = size_of::<u64>();

/// An entry in an arena that outlives `'a`.
///
/// Type invariant: the pointer is to a whole entry written by [`EntryRef::write`], and may be used
/// to read all of it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct EntryRef<'a> {
    header: NonNull<Header>,
    arena: PhantomData<&'a Header>,
}

impl<'a> EntryRef<'a> {
    /// Bytes that [`write`](Self::write) fills.
    #[inline]
    pub(super) fn size(key: &[u8], entry: &Entry<'_>, has_older: bool) -> usize {
        let expiry = if entry.expiry.is_never() { 0 } else { EXPIRY_BYTES };
        let fixed = HEADER_BYTES + usize::from(has_older) * HISTORY_BYTES + expiry;
        fixed + key.len() + entry.value.inline_len()
    }

    /// Writes an entry.
    ///
    /// # Safety
    /// `space` is aligned to 8 and good for writing [`size`](Self::size) bytes, and good for
    /// reading them until the end of `'a`; `older` lies in the same arena.
    #[inline]
    pub(super) unsafe fn write(
        space: NonNull<u8>,
        key: &[u8],
        seq: Seq,
        entry: &Entry<'_>,
        older: Option<Self>,
    ) -> Self {
        let value = &entry.value;
        assert!(key.len() <= MAX_KEY_BYTES, "keys are checked before they come here");
        let value_len = u32::try_from(value.inline_len()).expect("values are checked before");
        let mut key_len_and_kind = (key.len() as u32) << LEN_SHIFT | u32::from(value.kind_byte());
        let mut key_at = HEADER_BYTES;
        if let Some(older) = older {
            debug_assert!(older.key() == key && older.seq() < seq);
            key_len_and_kind |= HAS_OLDER;
            key_at += HISTORY_BYTES;
            // SAFETY: the space is aligned and long enough for header and history.
            unsafe { space.add(HEADER_BYTES).cast().write(History::on_top_of(older)) };
        }
        if !entry.expiry.is_never() {
            key_len_and_kind |= EXPIRES;
            // SAFETY: the space is long enough for it too; what is before it keeps it aligned to 8.
            unsafe { space.add(key_at).cast().write(entry.expiry.0) };
            key_at += EXPIRY_BYTES;
        }
        let header = Header { seq: seq.0, value_len, key_len_and_kind };
        // SAFETY: aligned and long enough.
        unsafe { space.cast().write(header) };
        let blob;
        let bytes: &[u8] = match value {
            EntryValue::Inline(v) | EntryValue::Operands(v) => v,
            EntryValue::Tombstone => &[],
            EntryValue::Blob(b) => {
                blob = b.encode();
                &blob
            }
        };
        // SAFETY: `key_at + key.len() <= size`, and what is new cannot overlap what is borrowed.
        unsafe { space.add(key_at).copy_from_nonoverlapping(NonNull::from(key).cast(), key.len()) };
        // SAFETY: the value ends at `size`; again no overlap.
        unsafe {
            space
                .add(key_at + key.len())
                .copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len());
        }
        Self { header: space.cast(), arena: PhantomData }
    }

    /// The entry that [`as_ptr`](Self::as_ptr) was taken of.
    ///
    /// # Safety
    /// `header` came from `as_ptr`, and the arena outlives `'a`.
    #[inline]
    pub(super) unsafe fn from_ptr(header: NonNull<Header>) -> Self {
        Self { header, arena: PhantomData }
    }

    /// For keeping where lifetimes cannot reach.
    #[inline]
    pub(super) fn as_ptr(self) -> NonNull<Header> {
        self.header
    }

    #[inline]
    fn header(self) -> &'a Header {
        // SAFETY: the type invariant; entries never change.
        unsafe { self.header.as_ref() }
    }

    #[inline]
    fn key_at(self) -> usize {
        let flags = self.header().key_len_and_kind;
        let expires = flags & EXPIRES != 0;
        self.expiry_at() + usize::from(expires) * EXPIRY_BYTES
    }

    /// Where the expiry stands, if it has one.
    #[inline]
    fn expiry_at(self) -> usize {
        let has_older = self.header().key_len_and_kind & HAS_OLDER != 0;
        HEADER_BYTES + usize::from(has_older) * HISTORY_BYTES
    }

    /// When it expires.
    #[inline]
    pub(super) fn expiry(self) -> Expiry {
        if self.header().key_len_and_kind & EXPIRES == 0 {
            return Expiry::NEVER;
        }
        // SAFETY: the flag says that `write` put a word there, within the entry.
        let at = unsafe { self.header.cast::<u8>().add(self.expiry_at()) };
        // SAFETY: aligned to 8 as header and history are; initialised, never changed.
        Expiry(unsafe { at.cast::<u64>().read() })
    }

    /// Whether the key has no value at `now`: deleted, or expired.
    #[inline]
    pub(super) fn is_gone(self, now: Time) -> bool {
        let flags = self.header().key_len_and_kind;
        flags & KIND == 0 || (flags & EXPIRES != 0 && self.expiry().is_over(now))
    }

    /// The key.
    #[inline]
    pub(super) fn key(self) -> &'a [u8] {
        let len = (self.header().key_len_and_kind >> LEN_SHIFT) as usize;
        // SAFETY: `write` put `len` key bytes there, within the entry.
        let start = unsafe { self.header.cast::<u8>().add(self.key_at()) };
        // SAFETY: initialised, never changed, alive for `'a` by the type invariant.
        unsafe { NonNull::slice_from_raw_parts(start, len).as_ref() }
    }

    /// The number of the commit that wrote it.
    #[inline]
    pub(super) fn seq(self) -> Seq {
        Seq(self.header().seq)
    }

    /// What it says of its key.
    #[inline]
    pub(super) fn value(self) -> EntryValue<'a> {
        let kind = self.header().key_len_and_kind & KIND;
        let len = self.header().value_len as usize;
        let key_len = (self.header().key_len_and_kind >> LEN_SHIFT) as usize;
        // SAFETY: `write` put `len` value bytes behind the key, within the entry.
        let start = unsafe { self.header.cast::<u8>().add(self.key_at() + key_len) };
        // SAFETY: initialised, never changed, alive for `'a` by the type invariant.
        let bytes: &'a [u8] = unsafe { NonNull::slice_from_raw_parts(start, len).as_ref() };
        match kind {
            0 => EntryValue::Tombstone,
            1 => EntryValue::Inline(bytes),
            3 => EntryValue::Operands(bytes),
            _ => EntryValue::Blob(BlobRef::decode(
                bytes.try_into().expect("written as an encoded reference"),
            )),
        }
    }

    #[inline]
    fn history(self) -> Option<History<'a>> {
        if self.header().key_len_and_kind & HAS_OLDER == 0 {
            return None;
        }
        // SAFETY: the flag says that `write` put a history behind the header; both are aligned to 8.
        Some(unsafe { self.header.cast::<u8>().add(HEADER_BYTES).cast::<History<'a>>().read() })
    }

    /// The version of the same key before this one.
    #[inline]
    pub(super) fn older(self) -> Option<Self> {
        self.history().map(|h| h.older)
    }

    /// The newest version at or below `at`, from this one back.
    #[inline]
    pub(super) fn at_or_before(self, at: Seq) -> Option<Self> {
        let mut entry = self;
        while entry.seq() > at {
            let history = entry.history()?;
            entry = if history.far.seq() > at { history.far } else { history.older };
        }
        Some(entry)
    }

    /// The oldest version that is newer than `seq`, from this one back, if this one is newer.
    pub(super) fn last_after(self, seq: Seq) -> Option<Self> {
        if self.seq() <= seq {
            return None;
        }
        let mut entry = self;
        while let Some(history) = entry.history() {
            if history.far.seq() > seq {
                entry = history.far;
            } else if history.older.seq() > seq {
                entry = history.older;
            } else {
                break;
            }
        }
        Some(entry)
    }

    /// The oldest version of all.
    pub(super) fn oldest(self) -> Self {
        let mut entry = self;
        while let Some(history) = entry.history() {
            entry = history.far;
        }
        entry
    }

    /// Older versions behind this one.
    fn depth(self) -> u64 {
        self.history().map_or(0, |h| h.depth)
    }

    /// Asks for its first `lines` cache lines before they are needed.
    #[inline]
    pub(super) fn prefetch(self, lines: usize) {
        prefetch::lines(self.header.as_ptr().cast_const().cast(), lines);
    }

    /// How the key compares to `key`.
    #[inline]
    pub(super) fn cmp_key(self, key: &[u8]) -> Ordering {
        self.key().cmp(key)
    }
}

impl<'a> History<'a> {
    /// The history of an entry laid upon `older`.
    fn on_top_of(older: EntryRef<'a>) -> Self {
        let mut far = older;
        let depth = older.history().map_or(0, |h| {
            if let Some(further) = h.far.history() {
                // Two equal leaps in a row become one of twice the length.
                if h.depth - further.depth == further.depth - further.far.depth() {
                    far = further.far;
                }
            }
            h.depth
        });
        Self { older, far, depth: depth + 1 }
    }
}
