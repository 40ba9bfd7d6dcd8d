//! Leaf pages: entries of one key range, searched as they lie in memory.
//!
//! | offset | size | meaning |
//! |---|---|---|
//! | 0 | 4 | `n`, the number of entries |
//! | 4 | 1 | flags: bit 0 a column of numbers follows; bit 1 a column of expiry times follows; the others unused, and refused |
//! | 5 | 3 | zeros |
//! | 8 | `n` | hash tags: the low byte of each key's `hash_key` |
//! | 8+n | 4(n+1) | slots: bits 0-23 where the entry begins, from the payload's front; bits 24-31 what it is: 0 tombstone, 1 value, 2 reference to a blob, 3 list of operands. The last slot is no entry: it is the payload's length |
//! | 12+5n | 8n or 0 | numbers (`seq`), where flag 0 is set: some entry's is not zero |
//! | then | 8n or 0 | expiry times (milliseconds since 1970), where flag 1 is set: some entry has one. All ones: none |
//! | then | | entries, back to back: key length (varint), key, then, up to the next entry, the value, the 32 bytes of a blob reference, the operands (each its length, varint, and its bytes; oldest first, at least one), or nothing |
//!
//! Numbers are little endian. A value's length is not stored: the next slot tells it.
//! 1. Entries are ordered by key, versions of one key from the newest to the oldest.
//! 2. Every byte has one meaning: a payload with gaps, or in another order, is malformed.
//! 3. [`LeafView::validate`] is run once, when a page is opened; the other functions of a view
//!    rely on it and may panic (never more) on bytes it would refuse.
//!
//! An absent key costs the header and tags (one or two cache lines), a present one its slot and
//! entry besides. No I/O, no threads.

use std::cmp::Ordering;
use std::ops::Range;

use crate::codec::{Malformed, Reader, put_varint, u32_at, u64_at, varint_len};
use crate::limits::MAX_PAGE_RAW_BYTES;
use crate::operators::list;
use crate::page::UNKNOWN_FEATURE;
use crate::types::{BlobRef, Entry, EntryValue, Expiry, Seq, hash_key};

const HEADER_BYTES: usize = 8;
const FLAG_SEQS: u8 = 1;
const FLAG_EXPIRIES: u8 = 2;
const SLOT_BYTES: usize = 4;
const SEQ_BYTES: usize = 8;
const EXPIRY_BYTES: usize = 8;
const OFFSET_MASK: u32 = 0x00FF_FFFF;
const KIND_SHIFT: u32 = 24;
const TOMBSTONE: u8 = 0;
const INLINE: u8 = 1;
const BLOB: u8 = 2;
const OPERANDS: u8 = 3;

const _: () = assert!(MAX_PAGE_RAW_BYTES <= OFFSET_MASK as usize, "a slot must reach everywhere");

#[inline]
fn tag_of(hash: u64) -> u8 {
    hash as u8
}

/// Lays out a leaf. Entries are pushed in order of key, newest version first.
#[derive(Clone, Debug, Default)]
pub struct LeafBuilder {
    tags: Vec<u8>,
    /// Where each entry begins in `entries`, and its kind, as in a slot.
    slots: Vec<u32>,
    seqs: Vec<Seq>,
    has_seqs: bool,
    expiries: Vec<Expiry>,
    has_expiries: bool,
    entries: Vec<u8>,
    last_key: Range<usize>,
}

impl LeafBuilder {
    /// A leaf without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry behind all others.
    ///
    /// Panics where it does not belong there, or where the page would be too long to be opened:
    /// what would be written could not be read.
    pub fn push<'v>(&mut self, key: &[u8], seq: Seq, entry: impl Into<Entry<'v>>) {
        let Entry { value, expiry } = entry.into();
        let may_end = matches!(value, EntryValue::Inline(_) | EntryValue::Blob(_));
        assert!(expiry.is_never() || may_end, "only values expire");
        if let Some(&last_seq) = self.seqs.last() {
            let in_order = match self.last_key().cmp(key) {
                Ordering::Less => true,
                Ordering::Equal => seq < last_seq,
                Ordering::Greater => false,
            };
            assert!(in_order, "entries of a leaf are pushed in order");
        }
        self.tags.push(tag_of(hash_key(key)));
        self.slots.push(self.entries.len() as u32 | u32::from(value.kind_byte()) << KIND_SHIFT);
        self.seqs.push(seq);
        self.has_seqs |= seq != Seq(0);
        self.expiries.push(expiry);
        self.has_expiries |= !expiry.is_never();
        put_varint(&mut self.entries, key.len() as u64);
        let start = self.entries.len();
        self.entries.extend_from_slice(key);
        self.last_key = start..self.entries.len();
        match value {
            EntryValue::Inline(v) | EntryValue::Operands(v) => self.entries.extend_from_slice(v),
            EntryValue::Blob(blob) => self.entries.extend_from_slice(&blob.encode()),
            EntryValue::Tombstone => {}
        }
        assert!(self.raw_len() <= MAX_PAGE_RAW_BYTES, "a leaf is longer than pages can be");
    }

    /// The exact length that [`finish`](Self::finish) would give.
    pub fn raw_len(&self) -> usize {
        self.entries_at() + self.entries.len()
    }

    /// The most that [`push`](Self::push) of such an entry adds to [`raw_len`](Self::raw_len),
    /// where it does not bring in the first number that is not zero, or the first expiry.
    pub fn entry_len(&self, key_bytes: usize, entry: &Entry<'_>) -> usize {
        let bytes = varint_len(key_bytes as u64) + key_bytes + entry.value.inline_len();
        let expiry = if self.has_expiries || !entry.expiry.is_never() { EXPIRY_BYTES } else { 0 };
        1 + SLOT_BYTES + SEQ_BYTES + expiry + bytes
    }

    /// Entries so far.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no entry yet.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The key pushed last; empty where there is none.
    pub fn last_key(&self) -> &[u8] {
        &self.entries[self.last_key.clone()]
    }

    fn entries_at(&self) -> usize {
        columns_end(self.slots.len(), self.has_seqs, self.has_expiries)
    }

    /// Replaces `out` with the payload, and empties the builder.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let entries_at = self.entries_at() as u32;
        let end = self.raw_len();
        out.clear();
        out.reserve(end);
        out.extend_from_slice(&(self.slots.len() as u32).to_le_bytes());
        let seqs = if self.has_seqs { FLAG_SEQS } else { 0 };
        let expiries = if self.has_expiries { FLAG_EXPIRIES } else { 0 };
        out.extend_from_slice(&[seqs | expiries, 0, 0, 0]);
        out.extend_from_slice(&self.tags);
        for slot in &self.slots {
            // An offset and the columns in front of it stay below 2^24: the kind is not touched.
            out.extend_from_slice(&(slot + entries_at).to_le_bytes());
        }
        out.extend_from_slice(&(end as u32).to_le_bytes());
        if self.has_seqs {
            for seq in &self.seqs {
                out.extend_from_slice(&seq.0.to_le_bytes());
            }
        }
        if self.has_expiries {
            for expiry in &self.expiries {
                out.extend_from_slice(&expiry.0.to_le_bytes());
            }
        }
        out.extend_from_slice(&self.entries);
        debug_assert_eq!(out.len(), end, "raw_len is exact");
        self.tags.clear();
        self.slots.clear();
        self.seqs.clear();
        self.has_seqs = false;
        self.expiries.clear();
        self.has_expiries = false;
        self.entries.clear();
        self.last_key = 0..0;
    }
}

/// Where the entries of a leaf of `n` begin.
#[inline]
fn columns_end(n: usize, has_seqs: bool, has_expiries: bool) -> usize {
    let seqs = if has_seqs { n * SEQ_BYTES } else { 0 };
    let expiries = if has_expiries { n * EXPIRY_BYTES } else { 0 };
    HEADER_BYTES + n + (n + 1) * SLOT_BYTES + seqs + expiries
}

/// Where an entry lies in a leaf's payload.
#[derive(Clone, Copy, Debug, Default)]
pub struct EntryParts {
    key: (u32, u32),
    value_end: u32,
    kind: u8,
}

impl EntryParts {
    /// The key; `bytes` are the payload.
    #[inline]
    pub fn key<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.key.0 as usize..self.key.1 as usize]
    }

    /// What the entry says of its key.
    #[inline]
    pub fn value<'a>(&self, bytes: &'a [u8]) -> EntryValue<'a> {
        let stored = &bytes[self.key.1 as usize..self.value_end as usize];
        match self.kind {
            INLINE => EntryValue::Inline(stored),
            TOMBSTONE => EntryValue::Tombstone,
            OPERANDS => EntryValue::Operands(stored),
            _ => {
                let stored = stored.first_chunk().expect("a blob's length was validated");
                EntryValue::Blob(BlobRef::decode(stored))
            }
        }
    }

    /// The value, where it is in the leaf.
    #[inline]
    pub fn inline_value<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        (self.kind == INLINE).then(|| &bytes[self.key.1 as usize..self.value_end as usize])
    }

    /// Whether the entry deletes its key.
    #[inline]
    pub fn is_tombstone(&self) -> bool {
        self.kind == TOMBSTONE
    }
}

/// Where the columns of a leaf lie: for whoever steps over many entries of one page.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeafColumns {
    slots_at: u32,
    len: u32,
}

impl LeafColumns {
    /// The number of entries.
    #[inline]
    pub fn len(self) -> usize {
        self.len as usize
    }

    /// Entry `i` of the leaf with this payload.
    #[inline]
    pub fn parts(self, bytes: &[u8], i: usize) -> EntryParts {
        let at = self.slots_at as usize + i * SLOT_BYTES;
        let pair = &bytes[at..at + 2 * SLOT_BYTES];
        let (this, next) = (u32_at(pair, 0), u32_at(pair, SLOT_BYTES));
        let start = (this & OFFSET_MASK) as usize;
        let first = bytes[start];
        let key = if first < 0x80 {
            (start as u32 + 1, start as u32 + 1 + u32::from(first))
        } else {
            let range = LeafView::new(bytes).long_key_range(start);
            (range.start as u32, range.end as u32)
        };
        EntryParts { key, value_end: next & OFFSET_MASK, kind: (this >> KIND_SHIFT) as u8 }
    }
}

/// Reads a validated leaf payload in place.
#[derive(Clone, Copy, Debug)]
pub struct LeafView<'a> {
    bytes: &'a [u8],
    tags: &'a [u8],
    slots: &'a [u8],
    /// Empty where every number is zero.
    seqs: &'a [u8],
    /// Empty where nothing expires.
    expiries: &'a [u8],
}

impl<'a> LeafView<'a> {
    /// Checks all that the other functions rely on: lengths, offsets, kinds, order of keys.
    /// (Not the hash tags, which the page's checksum vouches for: see
    /// [`check_tags`](Self::check_tags).)
    pub fn validate(bytes: &[u8]) -> Result<(), Malformed> {
        let mut header = Reader::new(bytes);
        let n = header.u32()? as usize;
        let flags = header.u8()?;
        if flags & !(FLAG_SEQS | FLAG_EXPIRIES) != 0 || header.array::<3>()? != [0; 3] {
            return Err(UNKNOWN_FEATURE);
        }
        // Each entry has a tag, a slot and a length, so that `n` cannot overflow what follows.
        if n > bytes.len() / (2 + SLOT_BYTES) {
            return Err(Malformed("a leaf has fewer bytes than entries need"));
        }
        let entries_at = columns_end(n, flags & FLAG_SEQS != 0, flags & FLAG_EXPIRIES != 0);
        if bytes.len() < entries_at || bytes.len() > OFFSET_MASK as usize {
            return Err(Malformed("a leaf has an impossible length"));
        }
        let view = LeafView::new(bytes);
        if view.slot(0) & OFFSET_MASK != entries_at as u32 {
            return Err(Malformed("the entries of a leaf do not follow its columns"));
        }
        if view.slot(n) != bytes.len() as u32 {
            return Err(Malformed("a leaf does not end where it says"));
        }
        let mut before: Option<(&[u8], Seq)> = None;
        for i in 0..n {
            let (start, end) = view.entry(i);
            // `end` is below the payload's end, as every slot is at most the one behind it.
            if start > end || end > bytes.len() {
                return Err(Malformed("the entries of a leaf overlap"));
            }
            let mut entry = Reader::new(&bytes[start..end]);
            let key = entry.bytes()?;
            let varint = end - start - key.len() - entry.rest().len();
            if varint != varint_len(key.len() as u64) {
                return Err(Malformed("a key length in a leaf is longer than it need be"));
            }
            let value_bytes = entry.rest().len();
            match view.kind(i) {
                INLINE => {}
                OPERANDS => list::check(entry.rest())?,
                TOMBSTONE if value_bytes == 0 => {}
                BLOB if value_bytes == BlobRef::ENCODED_BYTES => {}
                TOMBSTONE | BLOB => {
                    return Err(Malformed("a value in a leaf has not the length of its kind"));
                }
                _ => return Err(Malformed("a value in a leaf is of an unknown kind")),
            }
            if matches!(view.kind(i), TOMBSTONE | OPERANDS) && !view.expiry(i).is_never() {
                return Err(Malformed("a tombstone or operands in a leaf have an expiry"));
            }
            let seq = view.seq(i);
            if let Some((last_key, last_seq)) = before {
                match last_key.cmp(key) {
                    Ordering::Less => {}
                    Ordering::Equal if last_seq > seq => {}
                    _ => return Err(Malformed("the entries of a leaf are out of order")),
                }
            }
            before = Some((key, seq));
        }
        Ok(())
    }

    /// A view of a payload that was validated.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        let n = u32_at(bytes, 0) as usize;
        let (tags, rest) = bytes[HEADER_BYTES..].split_at(n);
        let (slots, rest) = rest.split_at((n + 1) * SLOT_BYTES);
        let seqs = if bytes[4] & FLAG_SEQS == 0 { 0 } else { n * SEQ_BYTES };
        let (seqs, rest) = rest.split_at(seqs);
        let expiries = if bytes[4] & FLAG_EXPIRIES == 0 { 0 } else { n * EXPIRY_BYTES };
        Self { bytes, tags, slots, seqs, expiries: &rest[..expiries] }
    }

    /// Whether each hash tag is that of its key.
    pub fn check_tags(&self) -> Result<(), Malformed> {
        if (0..self.len()).all(|i| self.tags[i] == tag_of(hash_key(self.key(i)))) {
            Ok(())
        } else {
            Err(Malformed("a hash tag of a leaf is not that of its key"))
        }
    }

    /// The number of entries.
    #[inline]
    pub fn len(&self) -> usize {
        self.tags.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }

    /// Whether any entry has a number; otherwise all are settled.
    #[inline]
    #[cfg(test)]
    pub fn has_seqs(&self) -> bool {
        !self.seqs.is_empty()
    }

    /// The key of entry `i`.
    #[inline]
    pub fn key(&self, i: usize) -> &'a [u8] {
        let start = (self.slot(i) & OFFSET_MASK) as usize;
        &self.bytes[self.key_range(start)]
    }

    /// The number of entry `i`; zero where it is settled.
    #[inline]
    pub fn seq(&self, i: usize) -> Seq {
        if self.seqs.is_empty() { Seq(0) } else { Seq(u64_at(self.seqs, i * SEQ_BYTES)) }
    }

    /// When entry `i` expires.
    #[inline]
    pub fn expiry(&self, i: usize) -> Expiry {
        if self.expiries.is_empty() {
            Expiry::NEVER
        } else {
            Expiry(u64_at(self.expiries, i * EXPIRY_BYTES))
        }
    }

    /// Whether some entry expires.
    #[inline]
    pub fn has_expiries(&self) -> bool {
        !self.expiries.is_empty()
    }

    /// What entry `i` says of its key.
    #[inline]
    pub fn value(&self, i: usize) -> EntryValue<'a> {
        let stored = &self.bytes[self.value_range(i)];
        match self.kind(i) {
            TOMBSTONE => EntryValue::Tombstone,
            INLINE => EntryValue::Inline(stored),
            OPERANDS => EntryValue::Operands(stored),
            _ => {
                let stored = stored.first_chunk().expect("a blob's length was validated");
                EntryValue::Blob(BlobRef::decode(stored))
            }
        }
    }

    /// Where in the payload the value of entry `i` lies.
    #[inline]
    pub fn value_range(&self, i: usize) -> Range<usize> {
        let (start, end) = self.entry(i);
        self.key_range(start).end..end
    }

    /// Where the columns lie.
    #[inline]
    pub fn columns(&self) -> LeafColumns {
        let len = self.len();
        LeafColumns { slots_at: (HEADER_BYTES + len) as u32, len: len as u32 }
    }

    /// Whether every entry is settled, so that each key has one version here.
    #[inline]
    pub fn is_settled(&self) -> bool {
        self.seqs.is_empty()
    }

    /// The first entry whose key is at least `key`; [`len`](Self::len) where there is none.
    pub fn lower_bound(&self, key: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.key(middle) < key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The newest version of `key`; the versions before it in time follow it. `hash` is
    /// [`hash_key`] of the key.
    #[inline]
    pub fn find(&self, key: &[u8], hash: u64) -> Option<usize> {
        memchr::memchr_iter(tag_of(hash), self.tags).find(|&i| self.key(i) == key)
    }

    #[inline]
    fn slot(&self, i: usize) -> u32 {
        u32_at(self.slots, i * SLOT_BYTES)
    }

    #[inline]
    fn kind(&self, i: usize) -> u8 {
        (self.slot(i) >> KIND_SHIFT) as u8
    }

    /// Where entry `i` begins and ends.
    #[inline]
    fn entry(&self, i: usize) -> (usize, usize) {
        let end = (self.slot(i + 1) & OFFSET_MASK) as usize;
        ((self.slot(i) & OFFSET_MASK) as usize, end)
    }

    /// Where the key of the entry that begins at `start` lies.
    #[inline]
    fn key_range(&self, start: usize) -> Range<usize> {
        let first = self.bytes[start];
        if first < 0x80 {
            let at = start + 1;
            return at..at + first as usize;
        }
        self.long_key_range(start)
    }

    #[cold]
    fn long_key_range(&self, start: usize) -> Range<usize> {
        let rest = &self.bytes[start..];
        let len = Reader::new(rest).varint().expect("key lengths were validated");
        let at = start + varint_len(len);
        at..at + len as usize
    }
}

#[cfg(test)]
#[path = "leaf_tests.rs"]
mod tests;
