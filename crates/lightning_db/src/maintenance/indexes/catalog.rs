//! Indexes made, found and dropped while the database is open.
//!
//! 1. The keyspace of an index's entries and the index come with one edit, and go with one.
//! 2. Once the edit is durable commits keep the index up, from the change of the table on, which is
//!    inside the commit section; what was committed before is the build's.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::index::{Extraction, IndexSpec};
use crate::maintenance::catalog::{INTERNAL, creation, drop_stores};
use crate::maintenance::core::Core;
use crate::maintenance::indexes::build::build;
use crate::maintenance::indexes::table::{self, IndexMap, LiveIndex};
use crate::maintenance::write::dropped;
use crate::manifest::{EditOp, IndexState, KeyspaceState, ManifestState};
use crate::store::keyspace::KeyspaceStore;
use crate::store::version::Row;
use crate::sync::atomic::Ordering;
use crate::types::{KeyspaceId, Seq};

/// Makes an index over `keyspace`, and builds it; or goes on with the build of one that is the same.
pub fn create(
    core: &Core,
    keyspace: &Arc<KeyspaceStore>,
    name: &str,
    spec: IndexSpec,
) -> Result<Arc<LiveIndex>> {
    spec.validate(name)?;
    core.check_writable()?;
    let way = Extraction::of(&spec, &core.config.extractors)?;
    let index = match register(core, keyspace, name, &spec, way)? {
        Made::New(index) => index,
        Made::Building(index) if index.spec == spec => index,
        _ => {
            let what = format!("keyspace {:?} has an index {name:?} already", keyspace.name);
            return Err(Error::new(ErrorKind::AlreadyExists, what));
        }
    };
    match build(core, keyspace, &index) {
        Ok(()) => Ok(index),
        Err(e) => {
            // What no later attempt could mend.
            if matches!(e.kind(), ErrorKind::UniqueViolation | ErrorKind::KeyTooLarge) {
                drop_one(core, &index)?;
            }
            Err(e)
        }
    }
}

enum Made {
    New(Arc<LiveIndex>),
    Building(Arc<LiveIndex>),
    Ready,
}

fn register(
    core: &Core,
    keyspace: &Arc<KeyspaceStore>,
    name: &str,
    spec: &IndexSpec,
    way: Extraction,
) -> Result<Made> {
    // Held by everybody who makes or drops keyspaces and indexes.
    let mut keyspaces = core.keyspaces.write();
    if keyspace.is_dropped() {
        return Err(dropped(&keyspace.name));
    }
    if let Some(index) = core.indexes.find(keyspace.id, name) {
        return Ok(if index.is_ready() { Made::Ready } else { Made::Building(index) });
    }
    let env = &core.env;
    let id = KeyspaceId(env.next_keyspace.fetch_add(1, Ordering::Relaxed) as u32);
    // Packed as the rows are.
    let of_rows = {
        let manifest = env.manifest.lock();
        manifest.as_ref().and_then(|m| m.state().keyspaces.get(&keyspace.id).cloned())
    };
    let of_rows = of_rows.ok_or_else(|| dropped(&keyspace.name))?;
    let storage = KeyspaceState {
        id,
        name: format!("{INTERNAL}index {id}"),
        flushed: Seq(0),
        runs: Vec::new(),
        base: Vec::new(),
        merge_operator: None,
        ranges: BTreeMap::new(),
        ..of_rows
    };
    let storage_name = storage.name.clone();
    let state = IndexState {
        storage: id,
        keyspace: keyspace.id,
        name: name.to_owned(),
        spec: spec.clone(),
        ready: false,
    };
    let mut edit = creation(storage);
    edit.ops.push(EditOp::SetIndex(state));
    env.publish(edit, || ())?;
    let mut section = core.section.enter();
    let first = section.last.next();
    let store = Arc::new(KeyspaceStore::new(
        id,
        storage_name.clone(),
        keyspace.options,
        Vec::new(),
        Row::default(),
        first,
        &env.spare,
    ));
    let (spec, way) = (spec.clone(), Ok(way));
    let index = LiveIndex::new(name.to_owned(), spec, keyspace.id, Arc::clone(&store), way, None);
    let index = Arc::new(index);
    section.keyspaces.insert(id, Arc::clone(&store));
    core.indexes.change(&mut section, |map| {
        map.entry(keyspace.id).or_default().push(Arc::clone(&index));
    });
    keyspaces.insert(storage_name, store);
    Ok(Made::New(index))
}

/// The index of a keyspace with this name.
pub fn find(core: &Core, keyspace: &KeyspaceStore, name: &str) -> Result<Arc<LiveIndex>> {
    core.indexes.find(keyspace.id, name).ok_or_else(|| {
        let message = format!("keyspace {:?} has no index {name:?}", keyspace.name);
        Error::new(ErrorKind::NotFound, message)
    })
}

/// Removes an index and its entries.
pub fn drop_index(core: &Core, keyspace: &KeyspaceStore, name: &str) -> Result<()> {
    core.check_writable()?;
    drop_one(core, &*find(core, keyspace, name)?)
}

fn drop_one(core: &Core, index: &LiveIndex) -> Result<()> {
    let dropped_now = drop_stores(core, std::slice::from_ref(&index.store), &[index.store.id]);
    match dropped_now {
        Err(e) if e.kind() == ErrorKind::NotFound => Err(table::dropped(&index.name)),
        other => other,
    }
}

/// The indexes of a database that is being opened after commit `last`.
pub fn of_state(
    state: &ManifestState,
    last: Seq,
    functions: &crate::index::Extractors,
    store: impl Fn(KeyspaceId) -> Option<Arc<KeyspaceStore>>,
) -> IndexMap {
    let mut map = IndexMap::new();
    for index in state.indexes.values() {
        let Some(storage) = store(index.storage) else { continue };
        let way = Extraction::of(&index.spec, functions);
        let (name, spec) = (index.name.clone(), index.spec.clone());
        // Moments before may be from before the build: nobody knows any more.
        let whole_from = index.ready.then_some(last);
        let live = LiveIndex::new(name, spec, index.keyspace, storage, way, whole_from);
        map.entry(index.keyspace).or_default().push(Arc::new(live));
    }
    map
}
