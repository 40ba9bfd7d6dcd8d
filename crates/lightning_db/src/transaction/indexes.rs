//! Reading indexes inside a transaction: what is committed, as its isolation level has it, under the
//! entries of its own writes.
//!
//! 1. The entries of own writes are found anew with each call: those that the rows had are taken away,
//!    those that they will have are added. Whether a unique index allows them is seen at commit.
//! 2. The entries passed count as read: they are locked, or validated, like rows.

use super::scan::TransactionRange;
use super::transaction::Transaction;
use super::write_set::{Write, Writes};
use crate::error::{Error, ErrorKind, Result};
use crate::index::IndexKey;
use crate::indexes::range::{EntryBounds, decode, without_row};
use crate::indexes::{Index, IndexRow};
use crate::maintenance::indexes::LiveIndex;
use crate::ranges::is_before;
use crate::store::cursor::MergedCursor;
use crate::store::lookup;
use crate::store::value::Value;
use crate::store::view::View;
use crate::sync::Arc;

/// The entries of an index as a transaction sees them, in order: an iterator of
/// `Result<(index key, row key)>` that can be read from both ends. After an error it ends.
#[derive(Debug)]
pub struct TransactionIndexKeys {
    entries: TransactionRange,
    index: Arc<LiveIndex>,
}

impl Iterator for TransactionIndexKeys {
    type Item = Result<(IndexKey, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.entries.next()?;
        Some(item.and_then(|(entry, _)| decode(&self.index, &entry)))
    }
}

impl DoubleEndedIterator for TransactionIndexKeys {
    fn next_back(&mut self) -> Option<Self::Item> {
        let item = self.entries.next_back()?;
        Some(item.and_then(|(entry, _)| decode(&self.index, &entry)))
    }
}

/// Secondary indexes. Each call sees the transaction's own writes.
impl Transaction {
    /// The rows with this index key, all its parts given, in order of their own keys. Locks or
    /// relies on what it finds, and on what it does not find, as a range would.
    pub fn index_get(&self, index: &Index, key: impl Into<IndexKey>) -> Result<Vec<IndexRow>> {
        let (keys, view) = self.entries(index, &EntryBounds::equal(&index.live, &key.into()))?;
        let found: Vec<_> = keys.collect::<Result<_>>()?;
        let mut rows = Vec::with_capacity(found.len());
        for (index_key, key) in found {
            let value = self.get_at_view(&index.keyspace.store, &key, &view)?;
            let value = value.ok_or_else(|| without_row(&index.live))?;
            rows.push(IndexRow { index_key, key, value });
        }
        Ok(rows)
    }

    /// The index keys with `start <= index key < end`, each with its row's key; as
    /// [`Index::keys`].
    pub fn index_keys(
        &self,
        index: &Index,
        start: Option<&IndexKey>,
        end: Option<&IndexKey>,
    ) -> Result<TransactionIndexKeys> {
        Ok(self.entries(index, &EntryBounds::between(&index.live, start, end))?.0)
    }

    /// The index keys that have these first parts; as [`Index::scan_prefix`].
    pub fn index_scan_prefix(
        &self,
        index: &Index,
        parts: impl Into<IndexKey>,
    ) -> Result<TransactionIndexKeys> {
        Ok(self.entries(index, &EntryBounds::first_parts(&index.live, &parts.into()))?.0)
    }

    fn entries(
        &self,
        index: &Index,
        bounds: &EntryBounds,
    ) -> Result<(TransactionIndexKeys, Arc<View>)> {
        if !Arc::ptr_eq(&index.keyspace.core, &self.core) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("the index {:?} is of another open database", index.live.name),
            ));
        }
        let live = &index.live;
        let (start, end) = (Some(bounds.start.as_slice()), bounds.end.as_deref());
        let (entries, view) = self.scan_with(&live.store, start, end, |view| {
            live.check_readable(view.seq())?;
            self.own_entries(index, bounds, view)
        })?;
        Ok((TransactionIndexKeys { entries, index: Arc::clone(live) }, view))
    }

    /// What own writes do to the entries inside `bounds`, seen from `view`.
    fn own_entries(&self, index: &Index, bounds: &EntryBounds, view: &View) -> Result<Writes> {
        let (env, store, live) = (&self.core.env, &index.keyspace.store, &index.live);
        let way = live.way()?;
        let inside = |entry: &[u8]| {
            bounds.start.as_slice() <= entry && bounds.end.as_deref().is_none_or(|e| entry < e)
        };
        let mut own = Writes::new();
        for range in self.writes.deleted(store.id).iter().flat_map(|map| map.fragments()) {
            let blobs = Arc::clone(&env.blobs);
            let mut rows = MergedCursor::new(
                store,
                view.seq(),
                view.moment(),
                &env.pager,
                blobs,
                env.read_ahead,
            );
            let mut more = rows.seek(&range.start)?;
            while more && let Some(key) = rows.key().filter(|k| is_before(k, range.end.as_deref()))
            {
                let key = key.to_vec();
                let had = rows.value()?.map(|old| way.entries_there(&key, &old));
                let hidden = had.into_iter().flatten().filter(|e| inside(&e.bytes));
                own.extend(hidden.map(|e| (e.bytes, Write::new(None, None))));
                more = rows.next()?;
            }
        }
        for (key, write) in self.writes.of(store.id) {
            let old = lookup::get_at(env, store, &store.version(), key, view.seq(), view.moment())?;
            let had = old.as_ref().map(|old| way.entries_there(key, old)).unwrap_or_default();
            own.extend(had.into_iter().map(|e| (e.bytes, Write::new(None, None))));
            let new = write.value(store, key, old.as_deref())?;
            let has = new.map(|new| way.entries(&live.name, key, &new)).transpose()?;
            own.extend(has.into_iter().flatten().map(|e| (e.bytes, Write::new(Some(&[]), None))));
        }
        own.retain(|entry, _| inside(entry));
        Ok(own)
    }

    /// The value of a row that an index led to, at the view it was read at; locked where reads lock.
    fn get_at_view(
        &self,
        store: &Arc<crate::store::keyspace::KeyspaceStore>,
        key: &[u8],
        view: &View,
    ) -> Result<Option<Vec<u8>>> {
        if self.locks_reads() {
            // Its entry is locked already: the newest value has it still, unless it expires just now.
            let newest = self.get_store(store, key, false)?;
            if newest.is_some() || !self.core.env.lifetimes.any() {
                return Ok(newest);
            }
        }
        let at = view.seq();
        let found =
            lookup::get_at(&self.core.env, store, &store.version(), key, at, view.moment())?;
        if self.validates_reads() {
            self.note_read(|reads| reads.add_key(store.id, key, at))?;
        }
        match self.writes.get(store.id, key) {
            Some(own) => own.value(store, key, found.as_deref()),
            None => Ok(found.map(Value::into_vec)),
        }
    }
}
