//! A body, applied to memtables in its order: by the commit section, and by recovery.
//!
//! An entry and a range delete of one commit have one number, by which the entry counts as the newer.
//! So where the entry came first, a tombstone takes its place.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use crate::commit::batch::{Operation, Operations, RangeDelete, Write};
use crate::error::Result;
use crate::memtable::{Memtable, Readers};
use crate::types::{Entry, EntryValue, KeyspaceId, Seq};

/// The entries of a body that stand before a place in it, but for those that a range delete took out.
/// Read only as far as range deletes ask, so that a body without any costs nothing here.
#[derive(Debug)]
struct Earlier<'a> {
    body: Operations<'a>,
    read: usize,
    keys: BTreeSet<(KeyspaceId, &'a [u8])>,
}

impl<'a> Earlier<'a> {
    fn new(body: &'a [u8]) -> Self {
        Self { body: Operations::new(body), read: 0, keys: BTreeSet::new() }
    }

    /// Takes out the keys in `range` that were written before the part at `place`.
    fn take_covered(&mut self, place: usize, range: &RangeDelete<'a>) -> Vec<&'a [u8]> {
        for part in self.body.by_ref().take(place - self.read).flatten() {
            if let Write::Entry(op) = part {
                self.keys.insert((op.keyspace, op.key));
            }
        }
        self.read = place;
        let first = Bound::Included((range.keyspace, range.start));
        let end = match range.end {
            Some(end) => Bound::Excluded((range.keyspace, end)),
            None => Bound::Excluded((range.keyspace.next(), &[][..])),
        };
        let covered: Vec<_> = self.keys.range((first, end)).copied().collect();
        for key in &covered {
            self.keys.remove(key);
        }
        covered.into_iter().map(|(_, key)| key).collect()
    }
}

/// Inserts the parts of `body`, which commit `seq` consists of. `memtable_of` gives the memtable of a
/// keyspace, or `None` where its parts are to be passed over; `entry_of` what to insert for an operation,
/// and `inserted` is told once it is; `readers` who may read. Returns how many parts were inserted.
pub fn apply<'a>(
    body: &'a [u8],
    seq: Seq,
    mut memtable_of: impl FnMut(KeyspaceId) -> Option<Arc<Memtable>>,
    mut entry_of: impl FnMut(&Operation<'a>) -> Entry<'a>,
    mut inserted: impl FnMut(&Operation<'a>),
    readers: impl Fn() -> Readers,
) -> Result<u64> {
    let mut earlier = Earlier::new(body);
    let mut current: Option<(KeyspaceId, Option<Arc<Memtable>>)> = None;
    let mut applied = 0;
    for (place, part) in Operations::new(body).enumerate() {
        let part = part.expect("whoever applies a body has read all of it");
        let keyspace = part.keyspace();
        if current.as_ref().is_none_or(|(id, _)| *id != keyspace) {
            current = Some((keyspace, memtable_of(keyspace)));
        }
        let Some((_, Some(memtable))) = &current else { continue };
        applied += 1;
        match part {
            Write::Entry(op) => {
                memtable.insert(op.key, seq, entry_of(&op))?;
                inserted(&op);
            }
            Write::DeleteRange(range) => {
                memtable.delete_range(range.start, range.end, seq, &readers);
                for key in earlier.take_covered(place, &range) {
                    memtable.insert(key, seq, Entry::lasting(EntryValue::Tombstone))?;
                }
            }
        }
    }
    Ok(applied)
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::commit::batch::WriteBatch;

    #[test]
    fn the_parts_of_a_batch_count_in_their_order() {
        for seed in 0..500 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut batch = WriteBatch::new();
            let mut model = [[None; 20]; 2];
            for n in 0..rng.u8(1..30) {
                let id = rng.usize(0..2);
                let keyspace = KeyspaceId(id as u32);
                let key = rng.u8(1..20);
                match rng.u8(0..4) {
                    0 => {
                        let end = (rng.u8(0..5) > 0).then(|| key + rng.u8(0..6));
                        let end_key = end.map(|e| [e]);
                        batch.push_range(keyspace, Some(&[key]), end_key.as_ref().map(|e| &e[..]));
                        let end = usize::from(end.unwrap_or(20).min(20));
                        model[id][usize::from(key)..end.max(usize::from(key))].fill(None);
                    }
                    1 => {
                        batch.push(keyspace, &[key], EntryValue::Tombstone);
                        model[id][usize::from(key)] = None;
                    }
                    _ => {
                        batch.push(keyspace, &[key], EntryValue::Inline(&[n]));
                        model[id][usize::from(key)] = Some(n);
                    }
                }
            }
            let memtables = [0, 1].map(|id| Arc::new(Memtable::new(KeyspaceId(id), Seq(1))));
            for memtable in &memtables {
                // What was there before.
                for key in 1..20_u8 {
                    memtable
                        .insert(&[key], Seq(1), Entry::lasting(EntryValue::Inline(b"old")))
                        .expect("room");
                }
            }
            let find = |id: KeyspaceId| Some(Arc::clone(&memtables[id.0 as usize]));
            let readers = || Readers { views: Vec::new(), visible: Seq(2) };
            let applied =
                apply(&batch.body, Seq(2), find, |op| op.entry, |_| (), readers).expect("room");
            assert_eq!(applied, batch.len() as u64, "seed {seed}");
            for (id, memtable) in memtables.iter().enumerate() {
                let touched = |key: u8| {
                    Operations::new(&batch.body)
                        .flatten()
                        .any(|p| p.changes(KeyspaceId(id as u32), &[key]))
                };
                for key in 1..20 {
                    let found = match memtable.get(&[key], Seq(2)).expect("was there").1 {
                        EntryValue::Inline(v) => Some(v.to_vec()),
                        _ => None,
                    };
                    let wanted = match model[id][usize::from(key)] {
                        None if !touched(key) => Some(b"old".to_vec()),
                        value => value.map(|n| vec![n]),
                    };
                    assert_eq!(found, wanted, "seed {seed} keyspace {id} key {key}");
                    let before = memtable.get(&[key], Seq(1)).expect("was there");
                    assert_eq!(before.1, EntryValue::Inline(b"old"), "seed {seed}");
                }
            }
        }
    }
}
