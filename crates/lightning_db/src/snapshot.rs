//! Snapshots: reads of one moment, across all keyspaces.

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::indexes::Index;
use crate::iterators::{Bounds, Cursor, Range, prefix_end};
use crate::keyspace::{Keyspace, cursor_at};
use crate::maintenance::core::{Core, Keep};
use crate::store::keyspace::KeyspaceStore;
use crate::store::lookup;
use crate::store::value::Value;
use crate::store::view::View;

/// The database as it was at one moment. Holds no locks and stops no writer; while it lives, merges
/// keep the versions that it alone can see, and no others. What has a lifetime it judges by its own
/// moment: what lived then stays to be seen, whatever the clock does later. Its age is in
/// [`DatabaseStats`](crate::DatabaseStats).
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(crate) core: Arc<Core>,
    _keep: Keep,
    pub(crate) view: Arc<View>,
}

impl Snapshot {
    pub(crate) fn new(core: Arc<Core>, keep: Keep) -> Self {
        let view = Arc::new(core.view());
        Self { core, _keep: keep, view }
    }

    /// A snapshot of a moment whose view is registered.
    pub(crate) fn at(core: Arc<Core>, keep: Keep, view: View) -> Self {
        Self { core, _keep: keep, view: Arc::new(view) }
    }

    /// The number of the last commit that it sees.
    pub fn seq(&self) -> u64 {
        self.view.seq().0
    }

    fn lookup(&self, store: &KeyspaceStore, key: &[u8]) -> Result<Option<Value>> {
        self.core.check_open()?;
        self.core.ready_rows();
        let env = &self.core.env;
        let view = &self.view;
        lookup::get_at(env, store, &store.version(), key, view.seq(), view.moment())
    }

    /// The value `key` had.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        Ok(self.get_pinned(key)?.map(Value::into_vec))
    }

    /// The value `key` had, without a copy where it lies in a page.
    pub fn get_pinned(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        self.lookup(&self.core.default, key.as_ref())
    }

    /// The value `key` had in a keyspace.
    pub fn get_in(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        Ok(self.lookup(keyspace.store_of(&self.core)?, key.as_ref())?.map(Value::into_vec))
    }

    /// The entries with `start <= key < end`.
    pub fn range(&self, start: Option<&[u8]>, end: Option<&[u8]>) -> Result<Range> {
        self.scan_store(&self.core.default, start, end)
    }

    /// The entries of a keyspace with `start <= key < end`.
    pub fn range_in(
        &self,
        keyspace: &Keyspace,
        start: Option<&[u8]>,
        end: Option<&[u8]>,
    ) -> Result<Range> {
        self.scan_store(keyspace.store_of(&self.core)?, start, end)
    }

    /// The entries whose keys begin with `prefix`.
    pub fn scan_prefix(&self, prefix: &[u8]) -> Result<Range> {
        self.range(Some(prefix), prefix_end(prefix).as_deref())
    }

    /// The entries with `start <= key < end`, from the last to the first.
    pub fn scan_reverse(
        &self,
        start: Option<&[u8]>,
        end: Option<&[u8]>,
    ) -> Result<std::iter::Rev<Range>> {
        Ok(self.range(start, end)?.rev())
    }

    /// A cursor over the default keyspace.
    pub fn cursor(&self) -> Result<Cursor> {
        self.core.check_open()?;
        let core = &self.core;
        Ok(Cursor::new(Arc::clone(&self.view), cursor_at(&core.env, &core.default, &self.view)))
    }

    /// The same index, read at the moment of this snapshot. Fails with `IndexNotReady` where the index
    /// was made later.
    pub fn index(&self, index: &Index) -> Result<Index> {
        if !Arc::ptr_eq(&index.keyspace.core, &self.core) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("the index {:?} is of another open database", index.name()),
            ));
        }
        index.read_at(Arc::clone(&self.view))
    }

    fn scan_store(
        &self,
        store: &Arc<KeyspaceStore>,
        start: Option<&[u8]>,
        end: Option<&[u8]>,
    ) -> Result<Range> {
        self.core.check_open()?;
        let env = &self.core.env;
        let bounds = Bounds::new(start, end);
        Ok(Range::new(
            Arc::clone(&self.view),
            cursor_at(env, store, &self.view),
            cursor_at(env, store, &self.view),
            bounds,
        ))
    }
}
