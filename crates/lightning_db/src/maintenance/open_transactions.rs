//! The transactions that are open: how many there may be, and the end of those that live too long.
//!
//! 1. An entry is in the map exactly while its transaction is open; whoever takes it out gives back
//!    its view and its locks, once.
//! 2. What has expired is found by who waits for its locks, by the next call of its own, by who finds
//!    no room for another transaction, and by the background threads, whichever comes first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::locks::{LockTable, Owner};
use crate::store::view::View;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};

/// An open transaction, as far as others may end it.
#[derive(Debug)]
pub struct OpenTransaction {
    /// Its life.
    pub owner: Arc<Owner>,
    view: Mutex<Option<Arc<View>>>,
}

impl OpenTransaction {
    /// Its view, if it has one and is still open.
    pub fn view(&self) -> Option<Arc<View>> {
        self.view.lock().clone()
    }

    /// Keeps a view.
    pub fn keep_view(&self, view: Arc<View>) {
        *self.view.lock() = Some(view);
    }

    /// Keeps `make`'s view where it has none yet.
    pub fn view_or(&self, make: impl FnOnce() -> View) -> Arc<View> {
        Arc::clone(self.view.lock().get_or_insert_with(|| Arc::new(make())))
    }
}

/// All open transactions of a database, and how the others ended.
#[derive(Debug, Default)]
pub struct OpenTransactions {
    open: Mutex<BTreeMap<u64, Arc<OpenTransaction>>>,
    last_number: AtomicU64,
    /// Committed.
    pub committed: AtomicU64,
    /// Aborted, conflicts and time-outs included.
    pub aborted: AtomicU64,
    /// Refused because another committed first.
    pub conflicts: AtomicU64,
}

impl OpenTransactions {
    /// A number for a transaction, or for a write that waits for locks. Never given twice.
    pub fn next_number(&self) -> u64 {
        self.last_number.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// How many are open.
    pub fn active(&self) -> usize {
        self.open.lock().len()
    }

    /// Begins one that expires at `deadline`, unless `limit` are open already.
    pub fn begin(
        &self,
        limit: usize,
        deadline: Duration,
        now: Duration,
        locks: &LockTable,
    ) -> Result<Arc<OpenTransaction>> {
        if self.active() >= limit {
            self.expire_overdue(now, locks);
        }
        let mut open = self.open.lock();
        if open.len() >= limit {
            return Err(Error::new(
                ErrorKind::TooManyTransactions,
                format!("max_active_transactions ({limit}) are open"),
            ));
        }
        let number = self.next_number();
        let one = Arc::new(OpenTransaction {
            owner: Arc::new(Owner::new(number, deadline)),
            view: Mutex::new(None),
        });
        open.insert(number, Arc::clone(&one));
        Ok(one)
    }

    /// Takes one out; tells whether it was there.
    pub fn end(&self, one: &OpenTransaction, locks: &LockTable) -> bool {
        let was_open = self.open.lock().remove(&one.owner.number).is_some();
        if was_open {
            one.owner.finish();
            *one.view.lock() = None;
            locks.release(&one.owner);
        }
        was_open
    }

    /// Ends those past their deadline.
    pub fn expire_overdue(&self, now: Duration, locks: &LockTable) {
        let overdue: Vec<Arc<OpenTransaction>> = self
            .open
            .lock()
            .values()
            .filter(|t| t.owner.expire(now) || t.owner.is_expired())
            .cloned()
            .collect();
        for one in overdue {
            if self.end(&one, locks) {
                self.aborted.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
