//! The small types that every layer shares: ids, sequence numbers, addresses, entry values.
//!
//! An id is a new type, so that two ids side by side cannot change places. No I/O, no threads.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl $name {
            /// The id that follows this one.
            #[must_use]
            #[allow(dead_code, reason = "not every kind of id is counted up here")]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id!(
    /// The number of a commit: commits are ordered by it. The first commit is 1; 0 stands for
    /// *settled*, an entry that every present and future view sees.
    Seq, u64
);
id!(
    /// A segment file (`seg/NNNNNNNN.seg`). Never used twice.
    SegmentId, u64
);
id!(
    /// A log segment file (`wal/NNNNNNNN.wal`). Never used twice.
    LogId, u64
);
id!(
    /// A manifest file (`manifest/NNNNNN.man`).
    ManifestId, u64
);
id!(
    /// A keyspace. `0` is `"default"`.
    KeyspaceId, u32
);
id!(
    /// A partition: one immutable tree.
    PartitionId, u64
);
id!(
    /// A run: a row of partitions above the base.
    RunId, u64
);

/// Sixteen random bytes drawn when a database is created; files of another database are refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct DatabaseId(pub [u8; 16]);

/// Where a page lies, and what it must look like there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct PageAddress {
    /// The segment file.
    pub segment: SegmentId,
    /// Byte offset of the page's envelope in the file.
    pub offset: u64,
    /// Stored length of the page in bytes, envelope included.
    pub stored_bytes: u32,
    /// The checksum in the page's envelope.
    pub checksum: u32,
}

/// Where a large value lies: consecutive blob pages of one segment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct BlobRef {
    /// The blob segment.
    pub segment: SegmentId,
    /// Byte offset of the first blob page.
    pub offset: u64,
    /// Stored bytes of all its pages, envelopes included.
    pub stored_bytes: u64,
    /// Length of the value in bytes.
    pub value_bytes: u32,
    /// CRC-32C over the checksums (little endian) of its pages, in order.
    pub checksum: u32,
}

/// What an entry says of its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryValue<'a> {
    /// The value itself.
    Inline(&'a [u8]),
    /// The value lies in blob pages.
    Blob(BlobRef),
    /// The key is deleted.
    Tombstone,
    /// To be merged into what the key was before: a list of operands (`operators::list`).
    Operands(&'a [u8]),
}

impl EntryValue<'_> {
    /// The byte that names the variant in pages and log records.
    pub fn kind_byte(&self) -> u8 {
        match self {
            EntryValue::Tombstone => 0,
            EntryValue::Inline(_) => 1,
            EntryValue::Blob(_) => 2,
            EntryValue::Operands(_) => 3,
        }
    }

    /// Bytes the value takes inside an entry.
    pub fn inline_len(&self) -> usize {
        match self {
            EntryValue::Inline(v) | EntryValue::Operands(v) => v.len(),
            EntryValue::Blob(_) => BlobRef::ENCODED_BYTES,
            EntryValue::Tombstone => 0,
        }
    }

    /// Whether the key is deleted.
    pub fn is_tombstone(&self) -> bool {
        matches!(self, EntryValue::Tombstone)
    }
}

/// When the life of an entry ends, in milliseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Expiry(pub u64);

/// A moment by which lives are judged, in milliseconds since 1970-01-01 UTC; below [`Expiry::NEVER`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Time(pub u64);

impl Time {
    /// A moment at which everything lives.
    pub const BEFORE_ALL: Self = Self(0);
    /// No clock goes further.
    pub const LATEST: Self = Self(u64::MAX - 1);

    /// When that ends which lives for `ttl` from this moment on.
    pub fn after(self, ttl: Expiry) -> Expiry {
        Expiry(self.0.saturating_add(ttl.0).min(Expiry::LAST.0))
    }
}

impl Expiry {
    /// It does not end.
    pub const NEVER: Self = Self(u64::MAX);
    /// The last moment at which a life can end.
    pub const LAST: Self = Self(u64::MAX - 1);

    /// Whether the life has ended at `now`: it ends with its last millisecond.
    #[inline]
    pub fn is_over(self, now: Time) -> bool {
        self.0 <= now.0
    }

    /// Whether it does not end.
    #[inline]
    pub fn is_never(self) -> bool {
        self == Self::NEVER
    }
}

/// What an entry says of its key, and until when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    /// What it says.
    pub value: EntryValue<'a>,
    /// Until when: of a tombstone always for ever.
    pub expiry: Expiry,
}

impl<'a> Entry<'a> {
    /// An entry that stays.
    pub fn lasting(value: EntryValue<'a>) -> Self {
        Self { value, expiry: Expiry::NEVER }
    }
}

/// For tests and fuzz targets only: elsewhere nobody is to forget that lives may end.
#[cfg(any(test, feature = "fuzzing"))]
impl<'a> From<EntryValue<'a>> for Entry<'a> {
    fn from(value: EntryValue<'a>) -> Self {
        Self::lasting(value)
    }
}

impl PageAddress {
    /// Encoded length in bytes.
    pub const ENCODED_BYTES: usize = 24;

    /// Segment, offset, stored length, checksum; little endian.
    pub fn encode(&self) -> [u8; Self::ENCODED_BYTES] {
        let mut out = [0; Self::ENCODED_BYTES];
        out[..8].copy_from_slice(&self.segment.0.to_le_bytes());
        out[8..16].copy_from_slice(&self.offset.to_le_bytes());
        out[16..20].copy_from_slice(&self.stored_bytes.to_le_bytes());
        out[20..].copy_from_slice(&self.checksum.to_le_bytes());
        out
    }

    /// Reverse of [`encode`](Self::encode).
    pub fn decode(b: &[u8; Self::ENCODED_BYTES]) -> Self {
        Self {
            segment: SegmentId(crate::codec::u64_at(b, 0)),
            offset: crate::codec::u64_at(b, 8),
            stored_bytes: crate::codec::u32_at(b, 16),
            checksum: crate::codec::u32_at(b, 20),
        }
    }
}

impl BlobRef {
    /// Encoded length in bytes.
    pub const ENCODED_BYTES: usize = 32;

    /// Segment, offset, stored length, value length, checksum; little endian.
    pub fn encode(&self) -> [u8; Self::ENCODED_BYTES] {
        let mut out = [0; Self::ENCODED_BYTES];
        out[..8].copy_from_slice(&self.segment.0.to_le_bytes());
        out[8..16].copy_from_slice(&self.offset.to_le_bytes());
        out[16..24].copy_from_slice(&self.stored_bytes.to_le_bytes());
        out[24..28].copy_from_slice(&self.value_bytes.to_le_bytes());
        out[28..].copy_from_slice(&self.checksum.to_le_bytes());
        out
    }

    /// Reverse of [`encode`](Self::encode).
    pub fn decode(b: &[u8; Self::ENCODED_BYTES]) -> Self {
        Self {
            segment: SegmentId(crate::codec::u64_at(b, 0)),
            offset: crate::codec::u64_at(b, 8),
            stored_bytes: crate::codec::u64_at(b, 16),
            value_bytes: crate::codec::u32_at(b, 24),
            checksum: crate::codec::u32_at(b, 28),
        }
    }
}

/// The first eight bytes of a key, as a number that is ordered as keys are: where it is less, so is the key.
/// Of a shorter key, zeros behind it.
#[inline]
pub fn key_head(key: &[u8]) -> u64 {
    if let Some(front) = key.first_chunk() {
        return u64::from_be_bytes(*front);
    }
    let mut padded = [0; 8];
    padded[..key.len()].copy_from_slice(key);
    u64::from_be_bytes(padded)
}

/// A 64-bit hash of a key, the same in every build: filters and hash tags on disk depend on it.
/// (Multiply-fold over 8-byte words, after the idea of wyhash.)
#[inline]
pub fn hash_key(key: &[u8]) -> u64 {
    const A: u64 = 0x9E37_79B9_7F4A_7C15;
    const B: u64 = 0xD6E8_FEB8_6659_FD93;
    #[inline]
    fn fold(x: u64, y: u64) -> u64 {
        let p = u128::from(x) * u128::from(y);
        (p as u64) ^ ((p >> 64) as u64)
    }
    let mut h = fold(key.len() as u64 ^ A, B);
    let mut chunks = key.chunks_exact(8);
    for c in &mut chunks {
        h = fold(h ^ u64::from_le_bytes(c.try_into().expect("chunks of 8")), A ^ B);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        let mut last = [0u8; 8];
        last[..rest.len()].copy_from_slice(rest);
        h = fold(h ^ u64::from_le_bytes(last) ^ A, B);
    }
    fold(h ^ B, A)
}

#[cfg(test)]
mod tests {
    use super::key_head;

    #[test]
    fn heads_are_ordered_as_keys_are() {
        let mut rng = fastrand::Rng::with_seed(5);
        let mut key = || -> Vec<u8> {
            let bytes = [0, 1, 0x7f, 0x80, 0xff];
            (0..rng.usize(1..11)).map(|_| bytes[rng.usize(..bytes.len())]).collect()
        };
        let mut less = 0;
        for _ in 0..20_000 {
            let (a, b) = (key(), key());
            if key_head(&a) < key_head(&b) {
                assert!(a < b, "{a:?} {b:?}");
                less += 1;
            }
        }
        assert!(less > 5_000);
    }
}
