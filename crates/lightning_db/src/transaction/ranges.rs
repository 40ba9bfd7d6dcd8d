//! Range deletes inside a transaction.
//!
//! 1. A range deleted hides what the snapshot has there, and what the transaction wrote there before;
//!    what it writes there later counts.
//! 2. A lock on a range is followed by a look at what has changed in it, as with rows.

use std::sync::Arc;

use super::options::IsolationLevel;
use super::transaction::{Transaction, conflict};
use crate::error::Result;
use crate::keyspace::Keyspace;
use crate::locks::{LockMode, Target};
use crate::maintenance::write::check_range;
use crate::ranges::is_before;
use crate::store::changes::changed_since;
use crate::store::keyspace::KeyspaceStore;
use crate::sync::atomic::Ordering;

impl Transaction {
    /// Removes every key with `start <= key < end` when the transaction commits; `None` means unbounded.
    /// Hides from its own reads what its snapshot has there, and what it wrote there before. Costs
    /// some microseconds however many keys there are, and the writes of its own that it takes out. A range that can hold no key does nothing.
    ///
    /// A pessimistic transaction locks the range. At `RepeatableRead` a commit since the snapshot that wrote
    /// to any key of the range is a `Conflict`; keys that somebody put and removed again since, all merged
    /// away, may go unnoticed, as they make no difference.
    pub fn delete_range(&mut self, start: Option<&[u8]>, end: Option<&[u8]>) -> Result<()> {
        let store = Arc::clone(&self.core.default);
        self.delete_range_of(&store, start, end)
    }

    /// As [`delete_range`](Self::delete_range), in a keyspace.
    pub fn delete_range_in(
        &mut self,
        keyspace: &Keyspace,
        start: Option<&[u8]>,
        end: Option<&[u8]>,
    ) -> Result<()> {
        self.delete_range_of(keyspace.store_of(&self.core)?, start, end)
    }

    fn delete_range_of(
        &mut self,
        store: &KeyspaceStore,
        start: Option<&[u8]>,
        end: Option<&[u8]>,
    ) -> Result<()> {
        self.check()?;
        self.check_not_read_only()?;
        check_range(&self.core.config, start, end)?;
        let first = start.unwrap_or_default();
        if !is_before(first, end) {
            return Ok(());
        }
        let added = (first.len() + end.map_or(0, <[u8]>::len)) as u64;
        self.check_size(self.reads.lock().bytes(), added)?;
        if self.is_pessimistic() {
            let target = Target::Range(first.to_vec(), end.map(<[u8]>::to_vec));
            self.lock(store, target, LockMode::Exclusive)?;
            self.check_range_unchanged(store, first, end)?;
        }
        self.writes.delete_range(store.id, first, end);
        Ok(())
    }

    /// As [`check_unchanged`](Self::check_unchanged), for a range.
    fn check_range_unchanged(
        &self,
        store: &KeyspaceStore,
        start: &[u8],
        end: Option<&[u8]>,
    ) -> Result<()> {
        let pager = &self.core.env.pager;
        if self.options.isolation == IsolationLevel::RepeatableRead
            && changed_since(&store.pin(), pager, start, end, self.snapshot)?
        {
            self.core.transactions.conflicts.fetch_add(1, Ordering::Relaxed);
            return Err(conflict());
        }
        Ok(())
    }
}
