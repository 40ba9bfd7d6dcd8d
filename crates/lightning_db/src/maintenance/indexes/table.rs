//! The indexes of an open database, by keyspace.
//!
//! 1. The table changes inside the commit section only, and its mark with it. A commit looks at the
//!    mark before it prepares and once more inside the section: nothing slips between an index that
//!    comes and a write that does not know of it.
//! 2. Writes to a database without indexes pay these two looks; writes to other keyspaces than those
//!    with indexes also a search in a small map.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::commit::section::SectionState;
use crate::error::{Error, ErrorKind, Result};
use crate::index::{Extraction, IndexSpec};
use crate::store::keyspace::KeyspaceStore;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{ArcSwap, Mutex};
use crate::types::{KeyspaceId, Seq};

/// No commit has this number: the index is being built.
const BUILDING: u64 = u64::MAX;

/// An index that commits keep up.
#[derive(Debug)]
pub struct LiveIndex {
    /// Its name.
    pub name: String,
    /// What it is over.
    pub spec: IndexSpec,
    /// The keyspace whose rows it is over.
    pub keyspace: KeyspaceId,
    /// The keyspace of its entries.
    pub store: Arc<KeyspaceStore>,
    /// Held by who builds it.
    pub build_latch: Mutex<()>,
    way: std::result::Result<Extraction, String>,
    /// The commit from which on every row has its entries.
    whole_from: AtomicU64,
}

impl LiveIndex {
    /// An index; `whole_from` where it is ready. `way` is how its entries are found, or why not.
    pub fn new(
        name: String,
        spec: IndexSpec,
        keyspace: KeyspaceId,
        store: Arc<KeyspaceStore>,
        way: Result<Extraction>,
        whole_from: Option<Seq>,
    ) -> Self {
        Self {
            name,
            spec,
            keyspace,
            store,
            build_latch: Mutex::new(()),
            way: way.map_err(|e| e.message().to_owned()),
            whole_from: AtomicU64::new(whole_from.map_or(BUILDING, |s| s.0)),
        }
    }

    /// How its entries are found.
    pub fn way(&self) -> Result<&Extraction> {
        self.way.as_ref().map_err(|why| {
            Error::new(ErrorKind::MissingExtractor, format!("index {:?}: {why}", self.name))
        })
    }

    /// Whether it was built to its end.
    pub fn is_ready(&self) -> bool {
        self.whole_from.load(Ordering::Acquire) != BUILDING
    }

    /// From commit `from` on every row has its entries.
    pub fn set_ready(&self, from: Seq) {
        self.whole_from.store(from.0, Ordering::Release);
    }

    /// Refuses to be read at a moment at which it is not whole, or cannot be kept up.
    pub fn check_readable(&self, at: Seq) -> Result<()> {
        self.way()?;
        if self.store.is_dropped() {
            return Err(dropped(&self.name));
        }
        let from = self.whole_from.load(Ordering::Acquire);
        if from <= at.0 {
            return Ok(());
        }
        let why = if from == BUILDING {
            "is being built"
        } else {
            "was not built yet at the moment that is read"
        };
        Err(Error::new(ErrorKind::IndexNotReady, format!("index {:?} {why}", self.name)))
    }
}

/// The error for an index that was dropped.
pub fn dropped(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("the index {name:?} was dropped"))
}

/// Indexes by the keyspace of their rows.
pub type IndexMap = BTreeMap<KeyspaceId, Vec<Arc<LiveIndex>>>;

/// What a look at the table found: changes so far, and whether there is any index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u64);

impl Mark {
    /// Whether there is any index.
    #[inline]
    pub fn any(self) -> bool {
        self.0 & 1 == 1
    }
}

/// The indexes of a database.
#[derive(Debug)]
pub struct IndexTable {
    /// Twice the number of changes, and 1 where there is any index.
    mark: AtomicU64,
    map: ArcSwap<IndexMap>,
}

impl IndexTable {
    /// A table of these.
    pub fn new(map: IndexMap) -> Self {
        let mark = AtomicU64::new(u64::from(!map.is_empty()));
        Self { mark, map: ArcSwap::new(Arc::new(map)) }
    }

    /// The mark of now.
    #[inline]
    pub fn mark(&self) -> Mark {
        Mark(self.mark.load(Ordering::Acquire))
    }

    /// All indexes.
    pub fn all(&self) -> Arc<IndexMap> {
        self.map.load_full()
    }

    /// The index of a keyspace with this name.
    pub fn find(&self, keyspace: KeyspaceId, name: &str) -> Option<Arc<LiveIndex>> {
        self.map.load().get(&keyspace)?.iter().find(|i| i.name == name).cloned()
    }

    /// Changes the table, inside the section.
    pub fn change(&self, _section: &mut SectionState, change: impl FnOnce(&mut IndexMap)) {
        let mut map = IndexMap::clone(&self.map.load());
        change(&mut map);
        map.retain(|_, indexes| !indexes.is_empty());
        let changes = (self.mark.load(Ordering::Relaxed) >> 1) + 1;
        let mark = changes << 1 | u64::from(!map.is_empty());
        self.map.store(Arc::new(map));
        self.mark.store(mark, Ordering::Release);
    }
}
