//! The handle of an index, and the calls that make, find, list and drop indexes.

use std::sync::Arc;

use crate::error::Result;
use crate::index::{IndexKey, IndexSpec};
use crate::indexes::range::{EntryBounds, IndexKeys, IndexRange, IndexRow};
use crate::iterators::{Bounds, Range};
use crate::keyspace::{Keyspace, cursor_at};
use crate::maintenance::indexes::{LiveIndex, catalog};
use crate::store::view::View;

/// How far an index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexStatus {
    /// It can be read.
    Ready,
    /// It is being built, or its build was broken off: `create_index` goes on with it.
    Building,
    /// It needs a function that is not registered, or a feature that this build lacks.
    MissingExtractor,
}

/// What [`Keyspace::list_indexes`] tells of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexInfo {
    /// Its name.
    pub name: String,
    /// What it is over.
    pub spec: IndexSpec,
    /// How far it is.
    pub status: IndexStatus,
}

/// An index: rows of a keyspace by other keys than their own. Cheap to clone; keeps the database
/// open. Each call reads one moment: the newest, or that of a snapshot; see
/// [`Snapshot::index`](crate::Snapshot::index).
///
/// Commits keep indexes up: whoever sees a row sees its entries, and the other way round. Calls fail
/// with `IndexNotReady` while the index is being built, with `MissingExtractor` where its function
/// is not registered, and with `NotFound` once it was dropped.
///
/// ```
/// # #[cfg(feature = "json")]
/// # fn main() -> lightning_db::Result<()> {
/// use lightning_db::{Database, ErrorKind, IndexSpec};
///
/// let db = Database::open_in_memory(Default::default())?;
/// db.put(b"1", br#"{"name":"Ada","email":"ada@example.org"}"#)?;
/// let by_email = db.create_index("by_email", IndexSpec::json("/email").unique())?;
/// db.put(b"2", br#"{"name":"Grace","email":"grace@example.org"}"#)?;
///
/// let found = by_email.get("grace@example.org")?;
/// assert_eq!(found[0].key, b"2");
/// let refused = db.put(b"3", br#"{"email":"ada@example.org"}"#);
/// assert_eq!(refused.unwrap_err().kind(), ErrorKind::UniqueViolation);
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "json"))]
/// # fn main() {}
/// ```
#[derive(Debug, Clone)]
pub struct Index {
    pub(crate) keyspace: Keyspace,
    pub(crate) live: Arc<LiveIndex>,
    /// The moment to read at, if not the newest.
    at: Option<Arc<View>>,
}

impl Index {
    /// The name it was made with.
    pub fn name(&self) -> &str {
        &self.live.name
    }

    /// What it is over.
    pub fn spec(&self) -> &IndexSpec {
        &self.live.spec
    }

    /// The same index, read at a view.
    pub(crate) fn read_at(&self, view: Arc<View>) -> Result<Self> {
        self.live.check_readable(view.seq())?;
        Ok(Self { at: Some(view), ..self.clone() })
    }

    fn entries(&self, bounds: EntryBounds) -> Result<(IndexKeys, Arc<View>)> {
        let core = &self.keyspace.core;
        core.check_open()?;
        let view = match &self.at {
            Some(view) => Arc::clone(view),
            None => Arc::new(core.view()),
        };
        self.live.check_readable(view.seq())?;
        let cursor = || cursor_at(&core.env, &self.live.store, &view);
        let bounds = Bounds::new(Some(&bounds.start), bounds.end.as_deref());
        let entries = Range::new(Arc::clone(&view), cursor(), cursor(), bounds);
        Ok((IndexKeys { entries, index: Arc::clone(&self.live) }, view))
    }

    fn rows(&self, bounds: EntryBounds) -> Result<IndexRange> {
        let (keys, view) = self.entries(bounds)?;
        let Keyspace { core, store: keyspace, .. } = self.keyspace.clone();
        Ok(IndexRange { keys, core, keyspace, view })
    }

    /// The rows with this index key, all its parts given, in order of their own keys. A unique index
    /// has at most one, unless a part is missing or null.
    pub fn get(&self, key: impl Into<IndexKey>) -> Result<Vec<IndexRow>> {
        self.rows(EntryBounds::equal(&self.live, &key.into()))?.collect()
    }

    /// The rows with `start <= index key < end`, in order of index key; `None` means unbounded. A
    /// bound may have fewer parts than the index: it then stands before every key that goes on where
    /// it ends.
    pub fn range(&self, start: Option<&IndexKey>, end: Option<&IndexKey>) -> Result<IndexRange> {
        self.rows(EntryBounds::between(&self.live, start, end))
    }

    /// The same without the rows' values: index keys, each with its row's key.
    pub fn keys(&self, start: Option<&IndexKey>, end: Option<&IndexKey>) -> Result<IndexKeys> {
        Ok(self.entries(EntryBounds::between(&self.live, start, end))?.0)
    }

    /// The rows whose index keys have these first parts.
    pub fn scan_prefix(&self, parts: impl Into<IndexKey>) -> Result<IndexRange> {
        self.rows(EntryBounds::first_parts(&self.live, &parts.into()))
    }

    /// The rows whose index keys have these first parts, where of the last of them, if it is text or
    /// bytes, only the beginning counts: `"Lo"` finds `"London"`.
    pub fn scan_beginning(&self, parts: impl Into<IndexKey>) -> Result<IndexRange> {
        self.rows(EntryBounds::beginning(&self.live, &parts.into()))
    }

    /// How many entries have this index key, all its parts given. Costs a scan of them.
    pub fn count_of(&self, key: impl Into<IndexKey>) -> Result<u64> {
        count(self.entries(EntryBounds::equal(&self.live, &key.into()))?.0)
    }

    /// How many entries there are with `start <= index key < end`. Costs a scan of them.
    pub fn count(&self, start: Option<&IndexKey>, end: Option<&IndexKey>) -> Result<u64> {
        count(self.keys(start, end)?)
    }
}

fn count(keys: IndexKeys) -> Result<u64> {
    keys.entries.map(|item| item.map(|_| 1)).sum()
}

/// Secondary indexes.
impl Keyspace {
    fn handle_of(&self, live: Arc<LiveIndex>) -> Index {
        Index { keyspace: self.clone(), live, at: None }
    }

    /// Makes an index over the rows of this keyspace, and builds it for those that are there. Returns
    /// once it can be read; others go on reading and writing meanwhile. From then on every commit
    /// keeps it up.
    ///
    /// Fails with `AlreadyExists` where there is an index with this name, unless that is the same and
    /// was not built to its end, because the process ended or a file could not be written: then the
    /// build goes on where it was. Fails with `UniqueViolation` where two rows have one unique index
    /// key; with that the index is gone again. While a keyspace has indexes, merges into its rows are
    /// refused with `InvalidArgument`.
    pub fn create_index(&self, name: &str, spec: IndexSpec) -> Result<Index> {
        self.check()?;
        Ok(self.handle_of(catalog::create(&self.core, &self.store, name, spec)?))
    }

    /// Removes an index, also one that is being built.
    pub fn drop_index(&self, name: &str) -> Result<()> {
        self.check()?;
        catalog::drop_index(&self.core, &self.store, name)
    }

    /// The indexes of this keyspace, by name.
    pub fn list_indexes(&self) -> Result<Vec<IndexInfo>> {
        self.check()?;
        let all = self.core.indexes.all();
        let own = all.get(&self.store.id).map_or(&[][..], Vec::as_slice);
        let mut infos: Vec<_> = own
            .iter()
            .map(|index| IndexInfo {
                name: index.name.clone(),
                spec: index.spec.clone(),
                status: match (index.way(), index.is_ready()) {
                    (Err(_), _) => IndexStatus::MissingExtractor,
                    (Ok(_), true) => IndexStatus::Ready,
                    (Ok(_), false) => IndexStatus::Building,
                },
            })
            .collect();
        infos.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(infos)
    }

    /// The index with this name; fails with `NotFound` where there is none.
    pub fn index(&self, name: &str) -> Result<Index> {
        self.check()?;
        Ok(self.handle_of(catalog::find(&self.core, &self.store, name)?))
    }
}
