//! The operations of transactions, by guard and by id.
//!
//! A commit must fail with `Conflict` exactly when another commit wrote one of its keys after its
//! snapshot, and with `NotFound` when it wrote to a keyspace that was dropped.

use std::collections::BTreeMap;
use std::rc::Rc;

use lightning_db::{Database, ErrorKind, Result, Transaction, TransactionId, TransactionOptions};

use crate::held::{Handle, HeldTransaction, MOST, Writes, place};
use crate::lifetimes::lifetime;
use crate::model::number;
use crate::operation::{Key, Operation, Value};
use crate::world::{World, refused};

impl World<'_> {
    pub fn transaction_step(&mut self, operation: &Operation) {
        if let Operation::Begin { by_id, read_only, snapshot } = *operation {
            return self.begin(by_id, read_only, snapshot);
        }
        let (Operation::TransactionGet { slot, .. }
        | Operation::TransactionWrite { slot, .. }
        | Operation::Commit { slot }
        | Operation::Abort { slot }) = *operation
        else {
            unreachable!("all others are done elsewhere")
        };
        let Some(i) = place(slot, self.held.transactions.len()) else { return };
        match *operation {
            Operation::TransactionGet { keyspace, key, .. } => {
                let mut held = self.held.transactions.swap_remove(i);
                self.transaction_get(&mut held, keyspace, key);
                self.held.transactions.push(held);
            }
            Operation::TransactionWrite { keyspace, key, value, hours, .. } => {
                let mut held = self.held.transactions.swap_remove(i);
                self.transaction_write(&mut held, keyspace, key, value, hours);
                self.held.transactions.push(held);
            }
            Operation::Commit { .. } => self.commit(i),
            _ => self.abort(i),
        }
    }

    fn begin(&mut self, by_id: bool, read_only: bool, snapshot: Option<u8>) {
        if self.held.transactions.len() == MOST {
            self.commit(0);
        }
        let given = snapshot.and_then(|slot| place(slot, self.held.snapshots.len()));
        let given = given.map(|i| &self.held.snapshots[i]);
        let (at, view) =
            given.map_or_else(|| (self.model.now(), Rc::new(())), |s| (s.at, Rc::clone(&s.view)));
        let snapshot = given.map(|s| s.snapshot.clone());
        let options = TransactionOptions { read_only, snapshot, ..TransactionOptions::default() };
        let handle = if by_id {
            Handle::Id(self.db.begin_transaction_with_options(options).expect("begins"))
        } else {
            let guard = self.db.transaction_with(options).expect("begins");
            assert_eq!(guard.snapshot_seq(), number(at), "the transaction's number");
            Handle::Guard(guard)
        };
        let writes = Writes::new();
        self.held.transactions.push(HeldTransaction {
            handle,
            at,
            read_only,
            writes,
            hours: BTreeMap::new(),
            view,
        });
    }

    fn transaction_get(&mut self, held: &mut HeldTransaction, n: u8, key: Key) {
        let (keyspace, mut life) = self.keyspace(n);
        let bytes = &self.keys[key as usize];
        let got = match &held.handle {
            Handle::Guard(guard) if self.is_default(n) => guard.get(bytes),
            Handle::Guard(guard) => guard.get_in(&keyspace, bytes),
            Handle::Id(id) => {
                life = self.keyspace(0).1;
                self.db.get_tx(*id, bytes)
            }
        };
        let own = held.writes.get(&(life, key)).copied();
        let want = own.unwrap_or_else(|| self.model.get(life, key, held.at));
        self.same("a transaction's get", key, got.expect("get").as_deref(), want);
    }

    fn transaction_write(
        &mut self,
        held: &mut HeldTransaction,
        n: u8,
        key: Key,
        value: Option<Value>,
        hours: u8,
    ) {
        let (keyspace, mut life) = self.keyspace(n);
        let bytes = &self.keys[key as usize];
        let default = self.is_default(n);
        let ttl = lifetime(hours);
        let result = match (&mut held.handle, value.map(Value::bytes)) {
            (Handle::Guard(guard), Some(value)) if hours > 0 && default => {
                guard.put_with_ttl(bytes, value, ttl)
            }
            (Handle::Guard(guard), Some(value)) if hours > 0 => {
                guard.put_with_ttl_in(&keyspace, bytes, value, ttl)
            }
            (Handle::Guard(guard), Some(value)) if default => guard.put(bytes, value),
            (Handle::Guard(guard), Some(value)) => guard.put_in(&keyspace, bytes, value),
            (Handle::Guard(guard), None) if default => guard.delete(bytes),
            (Handle::Guard(guard), None) => guard.delete_in(&keyspace, bytes),
            (Handle::Id(id), value) => {
                life = self.keyspace(0).1;
                match value {
                    Some(value) if hours > 0 => self.db.put_with_ttl_tx(*id, bytes, value, ttl),
                    Some(value) => self.db.put_tx(*id, bytes, value),
                    None => self.db.delete_tx(*id, bytes),
                }
            }
        };
        if held.read_only {
            return refused(result, ErrorKind::ReadOnly);
        }
        result.expect("a transaction's write");
        held.writes.insert((life, key), value);
        held.hours.remove(&(life, key));
        if hours > 0 && value.is_some() {
            held.hours.insert((life, key), hours);
        }
    }

    fn commit(&mut self, i: usize) {
        let held = self.held.transactions.remove(i);
        let gone = held.writes.keys().any(|(life, _)| !self.model.lives(*life));
        let changed: Vec<_> =
            held.writes.keys().map(|(l, k)| self.model.changed(*l, *k, held.at)).collect();
        let must = changed.iter().any(|(must, _)| *must);
        let conflict = changed.iter().any(|(_, may)| *may);
        if conflict && !must {
            // Either is right, and which it is depends on what was merged: from here on runs differ.
            self.comparable = false;
        }
        let result = end(&self.db, held.handle, Transaction::commit, Database::commit_transaction);
        match result {
            Ok(()) => {
                assert!(!gone && !must, "committed with gone {gone}, conflict {must}");
                self.counts.committed += 1;
                let changes = held.writes.into_iter().map(|((l, k), v)| (l, k, v)).collect();
                self.committed(changes);
                for ((life, key), hours) in held.hours {
                    self.model.expire(life, key, u64::from(hours));
                }
                self.answer(0);
            }
            Err(e) => {
                let known = match e.kind() {
                    ErrorKind::Conflict => conflict,
                    ErrorKind::NotFound => gone,
                    _ => false,
                };
                assert!(known, "{e:?} with gone {gone}, conflict {conflict}");
                self.counts.aborted += 1;
                self.counts.conflicts += u64::from(e.kind() == ErrorKind::Conflict);
                self.answer(e.kind() == ErrorKind::Conflict);
            }
        }
    }

    fn abort(&mut self, i: usize) {
        let held = self.held.transactions.remove(i);
        let abort = |guard: Transaction| {
            guard.abort();
            Ok(())
        };
        end(&self.db, held.handle, abort, Database::abort_transaction).expect("aborts");
        self.counts.aborted += 1;
    }
}

/// Ends a transaction; afterwards its id is unknown.
fn end(
    db: &Database,
    handle: Handle,
    guarded: impl FnOnce(Transaction) -> Result<()>,
    by_id: impl FnOnce(&Database, TransactionId) -> Result<()>,
) -> Result<()> {
    match handle {
        Handle::Guard(guard) => guarded(guard),
        Handle::Id(id) => {
            let result = by_id(db, id);
            refused(db.commit_transaction(id), ErrorKind::UnknownTransaction);
            result
        }
    }
}
