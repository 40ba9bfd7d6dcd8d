//! Inner pages: which page below holds a key, searched as they lie in memory.
//!
//! | offset | size | meaning |
//! |---|---|---|
//! | 0 | 4 | `n`, the number of children, at least 1 |
//! | 4 | 1 | flags: none yet, any bit set is refused |
//! | 5 | 3 | zeros |
//! | 8 | 4 | `p`, the bytes that all separators but the first begin with in common, 0 where n < 2 |
//! | 12 | 4 | zeros |
//! | 16 | 8n | heads: bytes p to p+8 of each separator as a number, first byte highest, zeros where it is shorter; the first child's is 0 |
//! | 16+8n | 4(n+1) | slots: where each separator begins, from the payload's front; the last is the payload's length |
//! | 20+12n | 72n | children: page address (24: segment, offset, stored length, checksum), then 8 each: highest number, earliest expiry (all ones: none), entries, tombstones, raw bytes of keys and values, stored bytes of all pages below and of the child itself |
//! | 20+84n | | separators, back to back |
//!
//! Numbers are little endian.
//! 1. The separator of a child is at most every key below it and greater than every key below the
//!    child before. (Neighbours may be equal where the versions of one key fill several leaves.)
//! 2. Every byte has one meaning: payloads with gaps, other heads or another `p` are malformed.
//! 3. [`InnerView::validate`] is run once, when a page is opened; the other functions of a view
//!    rely on it and may panic (never more) on bytes it would refuse.
//!
//! A search compares numbers in the packed heads and looks at separators only where heads are
//! equal. No I/O, no threads.

use std::cmp::Ordering;
use std::hint::select_unpredictable;

use crate::codec::{Malformed, Reader, u32_at, u64_at};
use crate::limits::MAX_PAGE_RAW_BYTES;
use crate::page::UNKNOWN_FEATURE;
use crate::types::{PageAddress, Seq};

const HEADER_BYTES: usize = 16;
const HEAD_BYTES: usize = 8;
const SLOT_BYTES: usize = 4;
const CHILD_BYTES: usize = PageAddress::ENCODED_BYTES + 6 * 8;

/// A page below, with the separator in front of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Child {
    /// At most every key below, greater than every key before.
    pub separator: Vec<u8>,
    /// Where the page lies.
    pub address: PageAddress,
    /// The highest number below.
    pub max_seq: Seq,
    /// The earliest expiry below; `u64::MAX` where nothing expires.
    pub min_expiry: u64,
    /// Entries below.
    pub entries: u64,
    /// Those of them that are tombstones.
    pub tombstones: u64,
    /// Bytes of keys and values below.
    pub raw_bytes: u64,
    /// Stored bytes of all pages below, the child's own included.
    pub bytes: u64,
}

/// What an inner page says of a page below, the separator aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChildRef {
    /// Where the page lies.
    pub address: PageAddress,
    /// The highest number below.
    pub max_seq: Seq,
    /// The earliest expiry below; `u64::MAX` where nothing expires.
    pub min_expiry: u64,
    /// Entries below.
    pub entries: u64,
    /// Those of them that are tombstones.
    pub tombstones: u64,
    /// Bytes of keys and values below.
    pub raw_bytes: u64,
    /// Stored bytes of all pages below, the child's own included.
    pub bytes: u64,
}

impl ChildRef {
    /// The child with its separator.
    pub fn with_separator(&self, separator: &[u8]) -> Child {
        Child {
            separator: separator.to_vec(),
            address: self.address,
            max_seq: self.max_seq,
            min_expiry: self.min_expiry,
            entries: self.entries,
            tombstones: self.tombstones,
            raw_bytes: self.raw_bytes,
            bytes: self.bytes,
        }
    }
}

/// Lays out an inner page. Children are pushed in order of their separators.
#[derive(Clone, Debug, Default)]
pub struct InnerBuilder {
    children: Vec<u8>,
    /// Where each separator ends in `separators`.
    ends: Vec<u32>,
    separators: Vec<u8>,
}

impl InnerBuilder {
    /// A page without children.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a child behind all others.
    ///
    /// Panics where its separator is less than the last, or where the page would be too long to be
    /// opened: what would be written could not be read.
    pub fn push(&mut self, child: &Child) {
        if let Some(last) = self.len().checked_sub(1) {
            assert!(self.separator(last) <= &child.separator[..], "children are pushed in order");
        }
        self.children.extend_from_slice(&child.address.encode());
        let numbers = [
            child.max_seq.0,
            child.min_expiry,
            child.entries,
            child.tombstones,
            child.raw_bytes,
            child.bytes,
        ];
        for number in numbers {
            self.children.extend_from_slice(&number.to_le_bytes());
        }
        self.separators.extend_from_slice(&child.separator);
        self.ends.push(self.separators.len() as u32);
        assert!(self.raw_len() <= MAX_PAGE_RAW_BYTES, "an inner page is longer than pages can be");
    }

    /// The exact length that [`finish`](Self::finish) would give.
    pub fn raw_len(&self) -> usize {
        columns_end(self.len()) + self.separators.len()
    }

    /// What [`push`](Self::push) of a child adds to [`raw_len`](Self::raw_len).
    pub fn child_len(separator_bytes: usize) -> usize {
        HEAD_BYTES + SLOT_BYTES + CHILD_BYTES + separator_bytes
    }

    /// Children so far.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no child yet.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn separator(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        &self.separators[start..self.ends[i] as usize]
    }

    /// Replaces `out` with the payload, and empties the builder, which must hold a child.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let n = self.len();
        assert!(n > 0, "an inner page has a child");
        let prefix = if n < 2 { 0 } else { common(self.separator(1), self.separator(n - 1)) };
        let separators_at = columns_end(n) as u32;
        let end = self.raw_len();
        out.clear();
        out.reserve(end);
        out.extend_from_slice(&(n as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&(prefix as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        for i in 0..n {
            let head = if i == 0 { 0 } else { head_of(&self.separator(i)[prefix..]) };
            out.extend_from_slice(&head.to_le_bytes());
        }
        out.extend_from_slice(&separators_at.to_le_bytes());
        for end in &self.ends {
            out.extend_from_slice(&(separators_at + end).to_le_bytes());
        }
        out.extend_from_slice(&self.children);
        out.extend_from_slice(&self.separators);
        debug_assert_eq!(out.len(), end, "raw_len is exact");
        self.children.clear();
        self.ends.clear();
        self.separators.clear();
    }
}

/// Where the separators of an inner page of `n` children begin.
#[inline]
fn columns_end(n: usize) -> usize {
    HEADER_BYTES + n * HEAD_BYTES + (n + 1) * SLOT_BYTES + n * CHILD_BYTES
}

/// The first eight bytes as a number that orders as they do; zeros stand for what is missing.
#[inline]
fn head_of(bytes: &[u8]) -> u64 {
    if let Some(head) = bytes.first_chunk() {
        return u64::from_be_bytes(*head);
    }
    let mut head = [0; HEAD_BYTES];
    head[..bytes.len()].copy_from_slice(bytes);
    u64::from_be_bytes(head)
}

/// The bytes that two strings begin with in common.
fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

/// Reads a validated inner payload in place.
#[derive(Clone, Copy, Debug)]
pub struct InnerView<'a> {
    bytes: &'a [u8],
    heads: &'a [u8],
    slots: &'a [u8],
    children: &'a [u8],
}

impl<'a> InnerView<'a> {
    /// Checks all that the other functions rely on: lengths, offsets, order, heads.
    pub fn validate(bytes: &[u8]) -> Result<(), Malformed> {
        let mut header = Reader::new(bytes);
        let n = header.u32()? as usize;
        let (flags, prefix, rest) = (header.u32()?, header.u32()? as usize, header.u32()?);
        if flags != 0 || rest != 0 {
            return Err(UNKNOWN_FEATURE);
        }
        if n == 0 {
            return Err(Malformed("an inner page has no child"));
        }
        // The first test keeps the second from overflowing.
        if n > bytes.len() / CHILD_BYTES || columns_end(n) > bytes.len() {
            return Err(Malformed("an inner page has fewer bytes than its children need"));
        }
        let view = InnerView::new(bytes);
        if view.slot(0) != columns_end(n) || view.slot(n) != bytes.len() {
            return Err(Malformed("the separators of an inner page are not where they belong"));
        }
        if (0..n).any(|i| view.slot(i) > view.slot(i + 1)) {
            return Err(Malformed("the separators of an inner page overlap"));
        }
        if (1..n).any(|i| view.separator(i - 1) > view.separator(i)) {
            return Err(Malformed("the separators of an inner page are out of order"));
        }
        let shared = if n < 2 { 0 } else { common(view.separator(1), view.separator(n - 1)) };
        if prefix != shared {
            return Err(Malformed("an inner page says wrongly what its separators share"));
        }
        // All from 1 on begin with the shared bytes, as the first and last of them do.
        let head = |i| if i == 0 { 0 } else { head_of(&view.separator(i)[shared..]) };
        if (0..n).any(|i| view.head(i) != head(i)) {
            return Err(Malformed("a head in an inner page is not that of its separator"));
        }
        Ok(())
    }

    /// A view of a payload that was validated.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        let n = u32_at(bytes, 0) as usize;
        let (heads, rest) = bytes[HEADER_BYTES..].split_at(n * HEAD_BYTES);
        let (slots, rest) = rest.split_at((n + 1) * SLOT_BYTES);
        Self { bytes, heads, slots, children: &rest[..n * CHILD_BYTES] }
    }

    /// The number of children; at least 1.
    #[inline]
    pub fn len(&self) -> usize {
        self.heads.len() / HEAD_BYTES
    }

    /// Whether there are no children; a validated page has some.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// The separator in front of child `i`.
    #[inline]
    pub fn separator(&self, i: usize) -> &'a [u8] {
        &self.bytes[self.slot(i)..self.slot(i + 1)]
    }

    /// Child `i`, its separator aside.
    #[inline]
    pub fn child(&self, i: usize) -> ChildRef {
        let start = i * CHILD_BYTES;
        let record = &self.children[start..start + CHILD_BYTES];
        let (address, numbers) = record
            .split_first_chunk::<{ PageAddress::ENCODED_BYTES }>()
            .expect("a child begins with its address");
        ChildRef {
            address: PageAddress::decode(address),
            max_seq: Seq(u64_at(numbers, 0)),
            min_expiry: u64_at(numbers, 8),
            entries: u64_at(numbers, 16),
            tombstones: u64_at(numbers, 24),
            raw_bytes: u64_at(numbers, 32),
            bytes: u64_at(numbers, 40),
        }
    }

    /// The child below which `key` belongs: the last whose separator is at most `key`, the first
    /// where there is none.
    #[inline]
    pub fn child_for(&self, key: &[u8]) -> usize {
        let last = self.len() - 1;
        if last == 0 {
            return 0;
        }
        let prefix = &self.separator(1)[..u32_at(self.bytes, 8) as usize];
        let rest = match key.get(..prefix.len()).unwrap_or(key).cmp(prefix) {
            Ordering::Less => return 0,
            Ordering::Greater => return last,
            // Equal to the prefix, hence not shorter.
            Ordering::Equal => &key[prefix.len()..],
        };
        let head = head_of(rest);
        let first = self.first_head_from(head);
        if first > last || self.head(first) != head {
            return first - 1;
        }
        if first == last || self.head(first + 1) != head {
            return first - usize::from(self.separator(first) > key);
        }
        self.child_among_equal_heads(first, head, key)
    }

    /// The first child but child 0 whose head is at least `head`; [`len`](Self::len) if none is.
    #[inline]
    fn first_head_from(&self, head: u64) -> usize {
        let (mut base, mut size) = (1, self.len() - 1);
        while size > 1 {
            let half = size / 2;
            base = select_unpredictable(self.head(base + half) < head, base + half, base);
            size -= half;
        }
        base + usize::from(self.head(base) < head)
    }

    /// [`child_for`](Self::child_for) where several heads from `first` on are that of the key: the
    /// whole separators decide.
    #[cold]
    fn child_among_equal_heads(&self, first: usize, head: u64, key: &[u8]) -> usize {
        let (mut low, mut high) = (first, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.head(middle) == head && self.separator(middle) <= key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low - 1
    }

    #[inline]
    fn head(&self, i: usize) -> u64 {
        u64_at(self.heads, i * HEAD_BYTES)
    }

    #[inline]
    fn slot(&self, i: usize) -> usize {
        u32_at(self.slots, i * SLOT_BYTES) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::mutation::mutate;
    use crate::types::SegmentId;

    fn child(rng: &mut fastrand::Rng, separator: Vec<u8>) -> Child {
        let address = PageAddress {
            segment: SegmentId(rng.u64(..)),
            offset: rng.u64(..),
            stored_bytes: rng.u32(..),
            checksum: rng.u32(..),
        };
        Child {
            separator,
            address,
            max_seq: Seq(rng.u64(..)),
            min_expiry: rng.u64(..),
            entries: rng.u64(..),
            tombstones: rng.u64(..),
            raw_bytes: rng.u64(..),
            bytes: rng.u64(..),
        }
    }

    fn random_key(rng: &mut fastrand::Rng, prefix: &[u8]) -> Vec<u8> {
        let mut key = prefix.to_vec();
        key.extend((0..rng.usize(..12)).map(|_| rng.choice([0, 1, 0xfe, 0xff]).unwrap()));
        key
    }

    /// Children in order: with a shared prefix or none, the first separator outside it or not,
    /// some separators twice.
    fn random_children(rng: &mut fastrand::Rng) -> (Vec<u8>, Vec<Child>) {
        let prefix = match rng.u8(..4) {
            0 => vec![],
            1 => vec![0; 9],
            2 => b"users/".to_vec(),
            _ => vec![0xff; 300],
        };
        let mut separators: Vec<Vec<u8>> =
            (0..rng.usize(1..100)).map(|_| random_key(rng, &prefix)).collect();
        if rng.bool() {
            separators[0] = Vec::new();
        }
        separators.sort();
        if rng.bool() {
            separators.dedup();
        }
        let children = separators.into_iter().map(|s| child(rng, s)).collect();
        (prefix, children)
    }

    fn build(children: &[Child]) -> Vec<u8> {
        let mut builder = InnerBuilder::new();
        for c in children {
            let before = builder.raw_len();
            builder.push(c);
            assert_eq!(builder.raw_len() - before, InnerBuilder::child_len(c.separator.len()));
        }
        assert_eq!(builder.len(), children.len());
        let expected = builder.raw_len();
        let mut out = b"what was there before".to_vec();
        builder.finish(&mut out);
        assert_eq!(out.len(), expected);
        assert!(builder.is_empty());
        out
    }

    #[test]
    fn children_come_back_as_they_were_pushed() {
        let mut rng = fastrand::Rng::with_seed(51);
        for _ in 0..300 {
            let (_, children) = random_children(&mut rng);
            let page = build(&children);
            assert_eq!(InnerView::validate(&page), Ok(()));
            let view = InnerView::new(&page);
            assert_eq!((view.len(), view.is_empty()), (children.len(), false));
            for (i, c) in children.iter().enumerate() {
                assert_eq!(&view.child(i).with_separator(view.separator(i)), c);
            }
        }
    }

    #[test]
    fn searches_agree_with_a_sorted_vector() {
        let mut rng = fastrand::Rng::with_seed(52);
        for _ in 0..1000 {
            let (prefix, children) = random_children(&mut rng);
            let page = build(&children);
            let view = InnerView::new(&page);
            let mut keys: Vec<Vec<u8>> = children.iter().map(|c| c.separator.clone()).collect();
            for c in &children {
                keys.push([&c.separator[..], &[0]].concat());
                keys.push(c.separator[..c.separator.len().saturating_sub(1)].to_vec());
            }
            for cut in 0..prefix.len().min(12) {
                keys.push(prefix[..cut].to_vec());
                keys.push([&prefix[..cut], &[0xff]].concat());
                keys.push([&prefix[..cut], &[0]].concat());
            }
            keys.extend((0..50).map(|_| random_key(&mut rng, &prefix)));
            keys.extend((0..20).map(|_| random_key(&mut rng, b"")));
            keys.extend([vec![], vec![0], vec![0xff; 400]]);
            for key in keys {
                let expect = children.partition_point(|c| c.separator <= key).saturating_sub(1);
                assert_eq!(view.child_for(&key), expect);
            }
        }
    }

    #[test]
    fn the_worked_example_has_these_bytes() {
        let mut rng = fastrand::Rng::with_seed(53);
        let children = [b"".to_vec(), b"kab".to_vec(), b"kb".to_vec()].map(|s| child(&mut rng, s));
        let page = build(&children);
        let mut expect = vec![3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        expect.extend([0; 8]);
        expect.extend([0, 0, 0, 0, 0, 0, b'b', b'a']);
        expect.extend([0, 0, 0, 0, 0, 0, 0, b'b']);
        for slot in [272u32, 272, 275, 277] {
            expect.extend(slot.to_le_bytes());
        }
        for c in &children {
            expect.extend(c.address.encode());
            for n in [c.max_seq.0, c.min_expiry, c.entries, c.tombstones, c.raw_bytes, c.bytes] {
                expect.extend(n.to_le_bytes());
            }
        }
        expect.extend(b"kabkb");
        assert_eq!(page, expect);
    }

    #[test]
    fn four_of_the_longest_separators_fit_a_page() {
        let mut rng = fastrand::Rng::with_seed(54);
        let children: Vec<Child> = (0..4u8)
            .map(|i| child(&mut rng, [&vec![7; crate::limits::MAX_KEY_BYTES][..], &[i]].concat()))
            .collect();
        let page = build(&children);
        assert_eq!(InnerView::validate(&page), Ok(()));
        for (i, c) in children.iter().enumerate() {
            assert_eq!(InnerView::new(&page).child_for(&c.separator), i);
        }
    }

    #[test]
    fn flags_of_later_versions_are_refused_by_name() {
        let mut rng = fastrand::Rng::with_seed(55);
        let page = build(&random_children(&mut rng).1);
        for at in [4, 5, 6, 7, 12, 13, 14, 15] {
            let mut later = page.clone();
            later[at] = 1;
            assert_eq!(InnerView::validate(&later), Err(UNKNOWN_FEATURE));
        }
    }

    #[test]
    #[should_panic(expected = "in order")]
    fn a_smaller_separator_is_not_written() {
        let mut rng = fastrand::Rng::with_seed(56);
        build(&[child(&mut rng, b"b".to_vec()), child(&mut rng, b"a".to_vec())]);
    }

    #[test]
    fn every_flip_in_what_a_search_reads_is_malformed() {
        let mut rng = fastrand::Rng::with_seed(57);
        let separators = [&b""[..], b"k1", b"k1234567890", b"k1234567891", b"k2"];
        let children = separators.map(|s| child(&mut rng, s.to_vec()));
        let page = build(&children);
        let n = children.len();
        for at in 0..HEADER_BYTES + n * HEAD_BYTES + (n + 1) * SLOT_BYTES {
            for bit in 0..8 {
                let mut bad = page.clone();
                bad[at] ^= 1 << bit;
                assert!(InnerView::validate(&bad).is_err(), "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn hostile_bytes_never_panic() {
        let mut rng = fastrand::Rng::with_seed(58);
        let pages: Vec<Vec<u8>> = (0..40).map(|_| build(&random_children(&mut rng).1)).collect();
        let (mut passed, mut refused) = (0, 0);
        for _ in 0..100_000 {
            let mut bad = rng.choice(&pages).unwrap().clone();
            mutate(&mut rng, &mut bad);
            if InnerView::validate(&bad).is_err() {
                refused += 1;
                continue;
            }
            passed += 1;
            let view = InnerView::new(&bad);
            for i in 0..view.len() {
                let _ = view.child(i);
                let found = view.child_for(view.separator(i));
                assert!(found >= i && view.separator(found) == view.separator(i));
            }
            let _ = (view.child_for(b""), view.child_for(&[0xff; 500]));
        }
        assert!(passed > 1000 && refused > 1000, "{passed} {refused}");
    }
}
