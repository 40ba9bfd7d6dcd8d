//! The operations of one commit, kept encoded as the body of its log record.
//!
//! Body: operations back to back, each
//! `kind u8 (0 delete, 1 put, 2 put with the value in blob pages, 3 merge; 4 and 5: 1 and 2 with an expiry; 6 range
//! delete) | keyspace varint | key length varint | key | [4, 5: expiry, 8 bytes] |
//! [1, 4: value length varint, value] [2, 5: blob reference, 32 bytes] [3: length varint, list of operands]
//! [6: 0, or length of the end + 1, varint, then the end]`; a range delete's key is its start.
//! Later operations on a key win over earlier ones; what is merged adds to what stands before it, so a
//! batch with merges is rewritten before it is committed (`commit::operands`): then at most one
//! operation names a key that is merged into.
//!
//! In a batch that is not committed yet an expiry counts from the commit (see `maintenance/write.rs`);
//! in the log it is a moment.

use std::sync::{Arc, Weak};

use crate::codec::{Malformed, Reader, put_bytes, put_varint};
use crate::error::{Error, ErrorKind, Result};
use crate::operators::list;
use crate::ranges::is_before;
use crate::store::environment::Environment;
use crate::types::{BlobRef, Entry, EntryValue, Expiry, KeyspaceId};

/// The first key that there can be: where ranges without a start begin.
const FIRST_KEY: &[u8] = &[0];
/// The kind of a range delete; those below are kinds of values.
const RANGE_DELETE: u8 = 6;

/// One part of a body.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Write<'a> {
    /// One key.
    Entry(Operation<'a>),
    /// Many.
    DeleteRange(RangeDelete<'a>),
}

/// Keys `start <= key < end` go; without an end, every key from `start` on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RangeDelete<'a> {
    /// Where.
    pub keyspace: KeyspaceId,
    /// The first key.
    pub start: &'a [u8],
    /// The first key that stays.
    pub end: Option<&'a [u8]>,
}

impl<'a> Write<'a> {
    /// Where.
    pub fn keyspace(&self) -> KeyspaceId {
        match self {
            Self::Entry(op) => op.keyspace,
            Self::DeleteRange(range) => range.keyspace,
        }
    }

    /// The operation on one key, where it is one.
    pub fn entry(self) -> Option<Operation<'a>> {
        match self {
            Self::Entry(op) => Some(op),
            Self::DeleteRange(_) => None,
        }
    }

    /// Whether it changes `key`.
    #[cfg(test)]
    pub fn changes(&self, keyspace: KeyspaceId, key: &[u8]) -> bool {
        match self {
            Self::Entry(op) => op.keyspace == keyspace && op.key == key,
            Self::DeleteRange(range) => range.keyspace == keyspace && range.covers(key),
        }
    }
}

impl RangeDelete<'_> {
    /// Whether `key` goes.
    pub fn covers(&self, key: &[u8]) -> bool {
        self.start <= key && is_before(key, self.end)
    }
}

/// Appends a range delete to a body.
pub fn encode_range(body: &mut Vec<u8>, range: &RangeDelete<'_>) {
    body.push(RANGE_DELETE);
    put_varint(body, u64::from(range.keyspace.0));
    put_bytes(body, range.start);
    match range.end {
        None => put_varint(body, 0),
        Some(end) => {
            put_varint(body, end.len() as u64 + 1);
            body.extend_from_slice(end);
        }
    }
}

/// One operation of a body, on one key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Operation<'a> {
    /// Where.
    pub keyspace: KeyspaceId,
    /// Which key.
    pub key: &'a [u8],
    /// What it becomes, and until when.
    pub entry: Entry<'a>,
}

const PUT_EXPIRING: u8 = 4;
const BLOB_EXPIRING: u8 = 5;

/// Appends an operation to a body.
pub fn encode(body: &mut Vec<u8>, op: &Operation<'_>) {
    let Entry { value, expiry } = op.entry;
    let kind = match value {
        EntryValue::Inline(_) if !expiry.is_never() => PUT_EXPIRING,
        EntryValue::Blob(_) if !expiry.is_never() => BLOB_EXPIRING,
        _ => value.kind_byte(),
    };
    body.push(kind);
    put_varint(body, u64::from(op.keyspace.0));
    put_bytes(body, op.key);
    if matches!(kind, PUT_EXPIRING | BLOB_EXPIRING) {
        body.extend_from_slice(&expiry.0.to_le_bytes());
    }
    match &value {
        EntryValue::Tombstone => {}
        EntryValue::Inline(v) | EntryValue::Operands(v) => put_bytes(body, v),
        EntryValue::Blob(blob) => body.extend_from_slice(&blob.encode()),
    }
}

/// The parts of a body, in order.
#[derive(Debug)]
pub struct Operations<'a>(Reader<'a>);

impl<'a> Operations<'a> {
    /// Reads `body`.
    pub fn new(body: &'a [u8]) -> Self {
        Self(Reader::new(body))
    }

    fn read(&mut self) -> std::result::Result<Write<'a>, Malformed> {
        let r = &mut self.0;
        let kind = r.u8()?;
        let keyspace =
            u32::try_from(r.varint()?).map_err(|_| Malformed("a keyspace id is too large"))?;
        let key = r.bytes()?;
        if kind == RANGE_DELETE {
            let start = if key.is_empty() { FIRST_KEY } else { key };
            let end = match r.varint()?.checked_sub(1) {
                None => None,
                Some(length) => {
                    let length = usize::try_from(length)
                        .map_err(|_| Malformed("a range delete's end is too long"))?;
                    Some(r.take(length)?)
                }
            };
            let keyspace = KeyspaceId(keyspace);
            return Ok(Write::DeleteRange(RangeDelete { keyspace, start, end }));
        }
        let expiry = match kind {
            PUT_EXPIRING | BLOB_EXPIRING => Expiry(r.u64()?),
            _ => Expiry::NEVER,
        };
        if expiry.is_never() && matches!(kind, PUT_EXPIRING | BLOB_EXPIRING) {
            return Err(Malformed("an operation has an expiry that is none"));
        }
        let value = match kind {
            0 => EntryValue::Tombstone,
            1 | PUT_EXPIRING => EntryValue::Inline(r.bytes()?),
            2 | BLOB_EXPIRING => EntryValue::Blob(BlobRef::decode(&r.array()?)),
            3 => {
                let operands = r.bytes()?;
                list::check(operands)?;
                EntryValue::Operands(operands)
            }
            _ => return Err(Malformed("an operation is of no known kind")),
        };
        let entry = Entry { value, expiry };
        Ok(Write::Entry(Operation { keyspace: KeyspaceId(keyspace), key, entry }))
    }
}

impl<'a> Iterator for Operations<'a> {
    type Item = std::result::Result<Write<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let op = self.read();
        if op.is_err() {
            self.0 = Reader::new(&[]);
        }
        Some(op)
    }
}

/// A lifetime in milliseconds, rounded up; longer than can be told is as long as can be.
pub fn lifetime(ttl: std::time::Duration) -> Expiry {
    let millis = ttl.as_nanos().div_ceil(1_000_000);
    Expiry(u64::try_from(millis).unwrap_or(u64::MAX).min(Expiry::LAST.0))
}

/// Writes that become true together, or not at all.
///
/// ```
/// use lightning_db::{Database, WriteBatch, WriteOptions};
/// # fn main() -> lightning_db::Result<()> {
/// let db = Database::open_in_memory(Default::default())?;
/// let mut batch = WriteBatch::new();
/// batch.put(b"a", b"1");
/// batch.delete(b"b");
/// db.write(batch, WriteOptions::default())?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct WriteBatch {
    pub(crate) body: Vec<u8>,
    pub(crate) count: usize,
    /// The largest key and value, and whether a key was empty, for the limits.
    pub(crate) largest_key: usize,
    pub(crate) largest_value: usize,
    pub(crate) empty_key: bool,
    /// Whether anything is merged, so that the batch is to be rewritten first.
    pub(crate) merges: bool,
    /// Whether ranges are deleted.
    pub(crate) ranges: bool,
    /// Whether anything is put, for the quota.
    pub(crate) puts: bool,
    /// Whether anything was given a lifetime, and whether one was zero.
    pub(crate) lifetimes: bool,
    pub(crate) zero_lifetime: bool,
    /// The database whose keyspaces it names.
    owner: Option<Weak<Environment>>,
    /// Keyspaces of more than one database were named.
    mixed: bool,
}

impl WriteBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value` in the default keyspace.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.push(KeyspaceId(0), key.as_ref(), EntryValue::Inline(value.as_ref()));
    }

    /// Sets `key` to `value` in the default keyspace, for the time `ttl`, which counts from the commit.
    /// A `ttl` of zero is refused by the commit. See [`Keyspace::put_with_ttl`](crate::Keyspace::put_with_ttl).
    pub fn put_with_ttl(
        &mut self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: std::time::Duration,
    ) {
        self.push_for(KeyspaceId(0), key.as_ref(), value.as_ref(), ttl);
    }

    /// Removes `key` from the default keyspace.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) {
        self.push(KeyspaceId(0), key.as_ref(), EntryValue::Tombstone);
    }

    /// Removes every key with `start <= key < end` from the default keyspace, as far as it was written
    /// before: by earlier commits, or earlier in this batch. `None` means unbounded. Costs the same,
    /// some microseconds, however many keys there are. A range that can hold no key adds nothing to the batch.
    ///
    /// ```
    /// # fn main() -> lightning_db::Result<()> {
    /// let db = lightning_db::Database::open_in_memory(Default::default())?;
    /// db.put(b"day/1", b"old")?;
    /// let mut batch = lightning_db::WriteBatch::new();
    /// batch.delete_range(Some(b"day/"), Some(b"day0"));
    /// batch.put(b"day/2", b"new");
    /// db.write(batch, Default::default())?;
    /// assert_eq!(db.get(b"day/1")?, None);
    /// assert_eq!(db.get(b"day/2")?, Some(b"new".to_vec()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn delete_range(&mut self, start: Option<&[u8]>, end: Option<&[u8]>) {
        self.push_range(KeyspaceId(0), start, end);
    }

    pub(crate) fn push_range(
        &mut self,
        keyspace: KeyspaceId,
        start: Option<&[u8]>,
        end: Option<&[u8]>,
    ) {
        let start = start.filter(|s| !s.is_empty()).unwrap_or(FIRST_KEY);
        if !is_before(start, end) {
            return;
        }
        self.count += 1;
        self.ranges = true;
        self.largest_key = self.largest_key.max(start.len()).max(end.map_or(0, <[u8]>::len));
        encode_range(&mut self.body, &RangeDelete { keyspace, start, end });
    }

    /// Merges `operand` into `key` of the default keyspace, by its merge operator. See
    /// [`Keyspace::merge`](crate::Keyspace::merge). Merges of one key in one batch add up.
    pub fn merge(&mut self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) {
        self.push_operand(KeyspaceId(0), key.as_ref(), operand.as_ref());
    }

    pub(crate) fn push_operand(&mut self, keyspace: KeyspaceId, key: &[u8], operand: &[u8]) {
        let mut operands = Vec::with_capacity(operand.len() + 5);
        list::push(&mut operands, operand);
        self.push(keyspace, key, EntryValue::Operands(&operands));
    }

    /// Notes the database that a keyspace is of. The weak reference keeps the address from being
    /// used again.
    pub(crate) fn belong_to(&mut self, env: &Arc<Environment>) {
        match &self.owner {
            None => self.owner = Some(Arc::downgrade(env)),
            Some(owner) => self.mixed |= owner.as_ptr() != Arc::as_ptr(env),
        }
    }

    /// Refuses a batch that names keyspaces of another database: ids mean nothing there.
    pub(crate) fn check_owner(&self, env: &Arc<Environment>) -> Result<()> {
        let foreign = self.owner.as_ref().is_some_and(|o| o.as_ptr() != Arc::as_ptr(env));
        if foreign || self.mixed {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "the batch names a keyspace of another open database",
            ));
        }
        Ok(())
    }

    /// Adds a put for a time.
    pub(crate) fn push_for(
        &mut self,
        keyspace: KeyspaceId,
        key: &[u8],
        value: &[u8],
        ttl: std::time::Duration,
    ) {
        self.lifetimes = true;
        self.zero_lifetime |= ttl.is_zero();
        let entry = Entry { value: EntryValue::Inline(value), expiry: lifetime(ttl) };
        self.push_entry(keyspace, key, entry);
    }

    pub(crate) fn push(&mut self, keyspace: KeyspaceId, key: &[u8], value: EntryValue<'_>) {
        self.push_entry(keyspace, key, Entry::lasting(value));
    }

    /// As [`push`](Self::push), with an expiry, which counts from the commit unless this crate commits the
    /// batch as it is.
    pub(crate) fn push_entry(&mut self, keyspace: KeyspaceId, key: &[u8], entry: Entry<'_>) {
        self.count += 1;
        self.largest_key = self.largest_key.max(key.len());
        self.empty_key |= key.is_empty();
        if let EntryValue::Inline(v) = entry.value {
            self.largest_value = self.largest_value.max(v.len());
            self.puts = true;
        }
        if let EntryValue::Operands(_) = entry.value {
            self.merges = true;
            self.puts = true;
        }
        encode(&mut self.body, &Operation { keyspace, key, entry });
    }

    /// The number of operations.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether it has no operations.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The encoded size in bytes: what it takes in the log.
    pub fn size_bytes(&self) -> usize {
        self.body.len()
    }

    /// Removes all operations, keeping the memory.
    pub fn clear(&mut self) {
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        *self = Self { body, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_format_is_what_is_written() {
        let entry = Entry::lasting(EntryValue::Inline(b"v"));
        let op = Operation { keyspace: KeyspaceId(0), key: b"key", entry };
        let mut body = Vec::new();
        encode(&mut body, &op);
        assert_eq!(body, [0x01, 0x00, 0x03, 0x6b, 0x65, 0x79, 0x01, 0x76]);
        assert_eq!(Operations::new(&body).collect::<Vec<_>>(), [Ok(Write::Entry(op))]);
        let keyspace = KeyspaceId(0);
        let range = RangeDelete { keyspace, start: b"a", end: Some(b"cd") };
        let open = RangeDelete { keyspace, start: b"x", end: None };
        let mut body = Vec::new();
        encode_range(&mut body, &range);
        encode_range(&mut body, &open);
        assert_eq!(body, [6, 0, 1, 0x61, 3, 0x63, 0x64, 6, 0, 1, 0x78, 0]);
        let read: Vec<_> = Operations::new(&body).collect();
        assert_eq!(read, [Ok(Write::DeleteRange(range)), Ok(Write::DeleteRange(open))]);
        let expiring = Operation { entry: Entry { expiry: Expiry(1000), ..entry }, ..op };
        body.clear();
        encode(&mut body, &expiring);
        assert_eq!(body[..6], [0x04, 0x00, 0x03, 0x6b, 0x65, 0x79]);
        assert_eq!(body[6..], [0xe8, 0x03, 0, 0, 0, 0, 0, 0, 0x01, 0x76]);
        assert_eq!(Operations::new(&body).collect::<Vec<_>>(), [Ok(Write::Entry(expiring))]);
        body[6..14].fill(0xff);
        assert!(Operations::new(&body).next().is_some_and(|op| op.is_err()), "never is no expiry");
    }

    #[test]
    fn a_range_that_can_hold_no_key_adds_nothing() {
        let mut batch = WriteBatch::new();
        for (start, end) in
            [(Some("b"), Some("b")), (Some("b"), Some("a")), (None, Some("")), (Some(""), Some(""))]
        {
            batch.delete_range(start.map(str::as_bytes), end.map(str::as_bytes));
        }
        assert!(batch.is_empty() && batch.size_bytes() == 0);
        batch.delete_range(None, None);
        assert_eq!(batch.len(), 1);
    }

    #[test]
    fn lifetimes_are_rounded_up_and_bounded() {
        use std::time::Duration;
        let of = |ttl| lifetime(ttl).0;
        assert_eq!(of(Duration::from_nanos(1)), 1);
        assert_eq!(of(Duration::from_millis(7)), 7);
        assert_eq!(of(Duration::from_micros(7001)), 8);
        assert_eq!(of(Duration::MAX), Expiry::LAST.0);
    }

    #[test]
    fn hostile_bodies_are_errors() {
        let mut rng = fastrand::Rng::with_seed(9);
        for _ in 0..20_000 {
            let body: Vec<u8> = (0..rng.usize(0..40)).map(|_| rng.u8(..)).collect();
            let mut read = 0;
            for op in Operations::new(&body) {
                read += 1;
                assert!(read <= body.len());
                let _ = op;
            }
        }
        assert!(Operations::new(&[9, 0, 1, 1]).next().is_some_and(|op| op.is_err()));
    }
}
