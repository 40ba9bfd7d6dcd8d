//! Reading, deciding and writing one key in one step: `compare_and_swap`, `fetch_update`, `take`.
//!
//! The value is read at a registered view; inside the commit section the key must not have been
//! written since. If it was, the step is taken again.

use crate::commit::batch::WriteBatch;
use crate::config::WriteOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::keyspace::Keyspace;
use crate::maintenance::write::write_batch;
use crate::store::lookup;
use crate::store::value::Value;
use crate::types::EntryValue;

/// What `compare_and_swap` found instead of what was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompareAndSwapError {
    /// The current value.
    pub current: Option<Vec<u8>>,
}

impl std::fmt::Display for CompareAndSwapError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the current value is not the expected one")
    }
}

impl std::error::Error for CompareAndSwapError {}

/// What becomes of a value.
enum Change<R> {
    /// It stays.
    Keep(R),
    /// It is set, or removed.
    Write(Option<Vec<u8>>, R),
}

impl Keyspace {
    fn change<R>(
        &self,
        key: &[u8],
        mut decide: impl FnMut(Option<Vec<u8>>) -> Change<R>,
    ) -> Result<R> {
        loop {
            self.check()?;
            let core = &*self.core;
            core.check_writable()?;
            core.section.catch_up()?;
            core.ready_rows();
            let view = core.view();
            let (env, at) = (&core.env, view.seq());
            let found = {
                let now = view.moment();
                lookup::get_at(env, &self.store, &self.store.version(), key, at, now)?
            };
            let (new, result) = match decide(found.map(Value::into_vec)) {
                Change::Keep(result) => return Ok(result),
                Change::Write(new, result) => (new, result),
            };
            let mut batch = WriteBatch::new();
            let value = new.as_deref().map_or(EntryValue::Tombstone, EntryValue::Inline);
            batch.push(self.store.id, key, value);
            let written = write_batch(core, &batch, WriteOptions::default(), None, |_| {
                let newest = lookup::newest_seq(&self.store.version(), &env.pager, key, at)?;
                if newest.is_some_and(|n| n > at) {
                    return Err(Error::new(ErrorKind::Conflict, "the key was written meanwhile"));
                }
                Ok(())
            });
            match written {
                Err(e) if e.kind() == ErrorKind::Conflict => {}
                Ok(()) => return Ok(result),
                Err(e) => return Err(e),
            }
        }
    }

    /// Sets `key` to `new` (`None` removes it) if its value is `expected` (`None`: it has none), in
    /// one step. The outer result is of the database, the inner one of the comparison.
    ///
    /// ```
    /// # fn main() -> lightning_db::Result<()> {
    /// let db = lightning_db::Database::open_in_memory(Default::default())?;
    /// assert!(db.compare_and_swap(b"k", None, Some(b"1"))?.is_ok());
    /// let refused = db.compare_and_swap(b"k", None, Some(b"2"))?;
    /// assert_eq!(refused.unwrap_err().current, Some(b"1".to_vec()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn compare_and_swap(
        &self,
        key: impl AsRef<[u8]>,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<std::result::Result<(), CompareAndSwapError>> {
        self.change(key.as_ref(), |current| {
            if current.as_deref() == expected {
                Change::Write(new.map(<[u8]>::to_vec), Ok(()))
            } else {
                Change::Keep(Err(CompareAndSwapError { current }))
            }
        })
    }

    /// Sets `key` to what `update` makes of its value (`None` removes it), in one step; returns the
    /// value before. `update` may be called again when another write comes between.
    ///
    /// ```
    /// # fn main() -> lightning_db::Result<()> {
    /// let db = lightning_db::Database::open_in_memory(Default::default())?;
    /// let more = |old: Option<&[u8]>| Some(vec![old.map_or(0, |o| o[0]) + 1]);
    /// assert_eq!(db.fetch_update(b"n", more)?, None);
    /// assert_eq!(db.fetch_update(b"n", more)?, Some(vec![1]));
    /// # Ok(())
    /// # }
    /// ```
    pub fn fetch_update(
        &self,
        key: impl AsRef<[u8]>,
        mut update: impl FnMut(Option<&[u8]>) -> Option<Vec<u8>>,
    ) -> Result<Option<Vec<u8>>> {
        self.change(key.as_ref(), |current| match (update(current.as_deref()), &current) {
            (None, None) => Change::Keep(None),
            (new, _) => Change::Write(new, current),
        })
    }

    /// Removes `key` and returns its value, in one step.
    pub fn take(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        self.fetch_update(key, |_| None)
    }
}
