//! The operations of one commit, kept encoded as the body of its log record.
//!
//! Body: operations back to back, each
//! `kind u8 (0 delete, 1 put, 2 put with the value in blob pages, 3 merge) | keyspace varint |
//! key length varint | key | [1: value length varint, value] [2: blob reference, 32 bytes]
//! [3: length varint, list of operands]`.
//! Later operations on a key win over earlier ones; what is merged adds to what stands before it, so a
//! batch with merges is rewritten before it is committed (`commit::operands`): then at most one
//! operation names a key that is merged into.

use std::sync::{Arc, Weak};

use crate::codec::{Malformed, Reader, put_bytes, put_varint};
use crate::error::{Error, ErrorKind, Result};
use crate::operators::list;
use crate::store::environment::Environment;
use crate::types::{BlobRef, EntryValue, KeyspaceId};

/// One operation of a body.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Operation<'a> {
    /// Where.
    pub keyspace: KeyspaceId,
    /// Which key.
    pub key: &'a [u8],
    /// What it becomes.
    pub value: EntryValue<'a>,
}

/// Appends an operation to a body.
pub fn encode(body: &mut Vec<u8>, op: &Operation<'_>) {
    body.push(op.value.kind_byte());
    put_varint(body, u64::from(op.keyspace.0));
    put_bytes(body, op.key);
    match &op.value {
        EntryValue::Tombstone => {}
        EntryValue::Inline(v) | EntryValue::Operands(v) => put_bytes(body, v),
        EntryValue::Blob(blob) => body.extend_from_slice(&blob.encode()),
    }
}

/// The operations of a body, in order.
#[derive(Debug)]
pub struct Operations<'a>(Reader<'a>);

impl<'a> Operations<'a> {
    /// Reads `body`.
    pub fn new(body: &'a [u8]) -> Self {
        Self(Reader::new(body))
    }

    fn read(&mut self) -> std::result::Result<Operation<'a>, Malformed> {
        let r = &mut self.0;
        let kind = r.u8()?;
        let keyspace =
            u32::try_from(r.varint()?).map_err(|_| Malformed("a keyspace id is too large"))?;
        let key = r.bytes()?;
        let value = match kind {
            0 => EntryValue::Tombstone,
            1 => EntryValue::Inline(r.bytes()?),
            2 => EntryValue::Blob(BlobRef::decode(&r.array()?)),
            3 => {
                let operands = r.bytes()?;
                list::check(operands)?;
                EntryValue::Operands(operands)
            }
            _ => return Err(Malformed("an operation is of no known kind")),
        };
        Ok(Operation { keyspace: KeyspaceId(keyspace), key, value })
    }
}

impl<'a> Iterator for Operations<'a> {
    type Item = std::result::Result<Operation<'a>, Malformed>;

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
    /// Whether anything is put, for the quota.
    pub(crate) puts: bool,
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

    /// Removes `key` from the default keyspace.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) {
        self.push(KeyspaceId(0), key.as_ref(), EntryValue::Tombstone);
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

    pub(crate) fn push(&mut self, keyspace: KeyspaceId, key: &[u8], value: EntryValue<'_>) {
        self.count += 1;
        self.largest_key = self.largest_key.max(key.len());
        self.empty_key |= key.is_empty();
        if let EntryValue::Inline(v) = value {
            self.largest_value = self.largest_value.max(v.len());
            self.puts = true;
        }
        if let EntryValue::Operands(_) = value {
            self.merges = true;
            self.puts = true;
        }
        encode(&mut self.body, &Operation { keyspace, key, value });
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
        let op =
            Operation { keyspace: KeyspaceId(0), key: b"key", value: EntryValue::Inline(b"v") };
        let mut body = Vec::new();
        encode(&mut body, &op);
        assert_eq!(body, [0x01, 0x00, 0x03, 0x6b, 0x65, 0x79, 0x01, 0x76]);
        assert_eq!(Operations::new(&body).collect::<Vec<_>>(), [Ok(op)]);
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
