//! Batches that merge, made ready to be committed: what they do to a key that is merged into becomes one
//! operation, since a commit has one entry for a key.
//!
//! 1. Put or deletion, then merges: a put of what they make. Merges alone: one list of operands, as short
//!    as the operator has it.
//! 2. Operators are called here, before the commit section; a batch that one fails on is refused whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::batch::{Operation, Operations, Write, encode, encode_range};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::MAX_COMMIT_OPERANDS_BYTES;
use crate::operators::list;
use crate::store::keyspace::KeyspaceStore;
use crate::types::{Entry, EntryValue, Expiry, KeyspaceId};

/// What a batch does to a key that it merges into.
#[derive(Default)]
struct Merged<'a> {
    /// A put or deletion.
    base: Option<Entry<'a>>,
    /// What was merged since.
    operands: Vec<u8>,
}

/// The body of a batch with its merges made ready. `find` gives keyspaces by their ids.
pub fn resolve(
    body: &[u8],
    find: impl Fn(KeyspaceId) -> Result<Arc<KeyspaceStore>>,
) -> Result<Vec<u8>> {
    let operations =
        || Operations::new(body).map(|op| op.expect("bodies are encoded by this process"));
    let mut keys: BTreeMap<(KeyspaceId, &[u8]), Merged<'_>> = BTreeMap::new();
    let mut keyspace: Option<Arc<KeyspaceStore>> = None;
    for op in operations().filter_map(Write::entry) {
        let EntryValue::Operands(operands) = op.entry.value else { continue };
        let store = match keyspace.take() {
            Some(store) if store.id == op.keyspace => store,
            _ => find(op.keyspace)?,
        };
        let merger = store.need_merger()?;
        list::operands(operands).try_for_each(|operand| merger.check_operand(operand))?;
        keyspace = Some(store);
        keys.insert((op.keyspace, op.key), Merged::default());
    }
    let mut out = Vec::with_capacity(body.len());
    for part in operations() {
        let op = match part {
            Write::Entry(op) => op,
            Write::DeleteRange(range) => {
                encode_range(&mut out, &range);
                let covered =
                    |id: KeyspaceId, key: &[u8]| id == range.keyspace && range.covers(key);
                for (_, merged) in keys.iter_mut().filter(|((id, key), _)| covered(*id, key)) {
                    *merged = Merged {
                        base: Some(Entry::lasting(EntryValue::Tombstone)),
                        operands: Vec::new(),
                    };
                }
                continue;
            }
        };
        let Some(merged) = keys.get_mut(&(op.keyspace, op.key)) else {
            encode(&mut out, &op);
            continue;
        };
        match op.entry.value {
            EntryValue::Operands(operands) => merged.operands.extend_from_slice(operands),
            _ => *merged = Merged { base: Some(op.entry), operands: Vec::new() },
        }
    }
    for ((id, key), merged) in keys {
        let store = match keyspace.take() {
            Some(store) if store.id == id => store,
            _ => find(id)?,
        };
        let value = one_value(&store, key, &merged)?;
        keyspace = Some(store);
        encode(&mut out, &Operation { keyspace: id, key, entry: value.as_entry() });
    }
    Ok(out)
}

/// What a key becomes.
enum Resolved<'a> {
    AsItWas(Entry<'a>),
    /// It lives as long as what was merged into.
    Value(Vec<u8>, Expiry),
    Operands(Vec<u8>),
}

impl Resolved<'_> {
    fn as_entry(&self) -> Entry<'_> {
        match self {
            Self::AsItWas(entry) => *entry,
            Self::Value(value, expiry) => {
                Entry { value: EntryValue::Inline(value), expiry: *expiry }
            }
            Self::Operands(operands) => Entry::lasting(EntryValue::Operands(operands)),
        }
    }
}

fn one_value<'a>(store: &KeyspaceStore, key: &[u8], merged: &Merged<'a>) -> Result<Resolved<'a>> {
    let merger = store.need_merger()?;
    let (base, expiry) = match merged.base {
        Some(base) if merged.operands.is_empty() => return Ok(Resolved::AsItWas(base)),
        Some(Entry { value: EntryValue::Inline(value), expiry }) => (Some(value), expiry),
        // Batches hold values and no references: those are made later.
        Some(_) => (None, Expiry::NEVER),
        None => {
            let operands = merger.shorten_list(key, &merged.operands);
            let (len, most) = (operands.len(), MAX_COMMIT_OPERANDS_BYTES);
            if len > most {
                let message = format!(
                    "what one commit merges into one key makes {len} bytes of operands, over the \
                     limit of {most} bytes: merge it in several commits"
                );
                return Err(Error::new(ErrorKind::ValueTooLarge, message));
            }
            return Ok(Resolved::Operands(operands));
        }
    };
    let lists = std::iter::once(merged.operands.as_slice());
    merger.full(key, base, lists).map(|value| Resolved::Value(value, expiry))
}
