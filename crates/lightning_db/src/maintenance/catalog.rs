//! Keyspaces made and dropped while the database is open.
//!
//! 1. A keyspace takes writes only after the edit that makes it is durable.
//! 2. A dropped one takes no writes from before its edit on; its log records are passed over by
//!    recovery, because the manifest no longer knows the id; ids are never used twice. Where the
//!    edit fails it takes writes again.

use std::sync::Arc;

use crate::commit::batch::lifetime;
use crate::compress::{Codec, Packing};
use crate::config::{KeyspaceOptions, LightningDbConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::MAX_KEYSPACE_NAME_BYTES;
use crate::maintenance::core::Core;
use crate::maintenance::write::{dropped, no_lives_where_merged};
use crate::manifest::{CODEC_OF_DATABASE, Edit, EditOp, KeyspaceState};
use crate::operators::Merger;
use crate::store::keyspace::{KeyspaceStore, StoreOptions};
use crate::store::version::Row;
use crate::sync::atomic::Ordering;
use crate::types::{KeyspaceId, Seq};

/// The name of the keyspace that the database's own calls act on.
pub const DEFAULT: &str = "default";

/// Names of keyspaces that the database keeps for itself begin so; no other one's does.
pub const INTERNAL: char = '\0';

/// How new pages of a keyspace are packed, by its own choice or else by the database's options.
pub fn packing_of(state: &KeyspaceState, config: &LightningDbConfig) -> Result<Packing> {
    if state.codec == CODEC_OF_DATABASE {
        return Ok(config.packing());
    }
    let refuse = |what: String| {
        let message = format!("keyspace {:?} is packed by {what}", state.name);
        Err(Error::new(ErrorKind::UnsupportedFormat, message))
    };
    match Codec::from_byte(state.codec) {
        None | Some(Codec::ZstdDictionary) => {
            refuse(format!("codec {}, which this build does not know", state.codec))
        }
        Some(codec) if !codec.is_built_in() => refuse(codec.lacking()),
        Some(codec) => match state.level.map(|level| codec.check_level(level)) {
            Some(Err(why)) => refuse(format!("{} at a level that {why}", codec.name())),
            _ => Ok(Packing::new(codec, state.level)),
        },
    }
}

/// The manifest's record of a new keyspace.
pub fn new_state(
    id: KeyspaceId,
    name: &str,
    config: &LightningDbConfig,
    options: &KeyspaceOptions,
) -> KeyspaceState {
    KeyspaceState {
        id,
        name: name.to_owned(),
        write_buffer_size: options.write_buffer_size.unwrap_or(config.write_buffer_size) as u64,
        codec: options.compression_type.map_or(CODEC_OF_DATABASE, |c| c.codec().as_byte()),
        page_bytes: config.page_size as u32,
        profile: config.profile as u8,
        default_ttl: options.default_ttl.map_or(0, |ttl| lifetime(ttl).0),
        // Given by a part of an edit of its own.
        merge_operator: None,
        flushed: Seq(0),
        runs: Vec::new(),
        base: Vec::new(),
        ranges: std::collections::BTreeMap::new(),
        level: options.compression_level,
    }
}

/// What makes a keyspace in the manifest.
pub fn creation(state: KeyspaceState) -> Edit {
    let (keyspace, codec, level) = (state.id, state.codec, state.level);
    let millis = state.default_ttl;
    let mut ops = vec![EditOp::CreateKeyspace(state)];
    if level.is_some() {
        ops.push(EditOp::SetCompression { keyspace, codec, level });
    }
    if millis > 0 {
        ops.push(EditOp::DefaultTtl { keyspace, millis });
    }
    Edit { ops }
}

/// The keyspace called `name`, made where it does not exist.
pub fn open_or_create(
    core: &Core,
    name: &str,
    options: KeyspaceOptions,
) -> Result<Arc<KeyspaceStore>> {
    if name.starts_with(INTERNAL) {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            "a keyspace name does not begin with a zero byte",
        ));
    }
    let operator = options.merge_operator.as_deref();
    let has_it = |k: &KeyspaceStore| {
        operator.is_none_or(|wanted| k.merger().is_some_and(|m| m.name() == wanted))
    };
    if let Some(keyspace) = core.keyspaces.read().get(name)
        && has_it(keyspace)
    {
        return Ok(Arc::clone(keyspace));
    }
    if name.is_empty() || name.len() > MAX_KEYSPACE_NAME_BYTES {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("a keyspace name has 1 to {MAX_KEYSPACE_NAME_BYTES} bytes"),
        ));
    }
    options.validate()?;
    core.check_writable()?;
    let mut keyspaces = core.keyspaces.write();
    if let Some(keyspace) = keyspaces.get(name) {
        if let Some(operator) = operator {
            give_operator(core, keyspace, operator)?;
        }
        return Ok(Arc::clone(keyspace));
    }
    let env = &core.env;
    let id = KeyspaceId(env.next_keyspace.fetch_add(1, Ordering::Relaxed) as u32);
    let state = new_state(id, name, &core.config, &options);
    let store_options = StoreOptions {
        write_buffer_bytes: state.write_buffer_size,
        page_bytes: state.page_bytes,
        packing: packing_of(&state, &core.config)?,
        profile: core.config.profile,
    };
    let default_ttl = state.default_ttl;
    let mut edit = creation(state);
    if let Some(operator) = operator {
        edit.ops.push(EditOp::SetMergeOperator { keyspace: id, name: operator.to_owned() });
    }
    env.publish(edit, || ())?;
    let mut section = core.section.enter();
    let first = section.last.next();
    let keyspace = Arc::new(KeyspaceStore::new(
        id,
        name.to_owned(),
        store_options,
        Vec::new(),
        Row::default(),
        first,
        &env.spare,
    ));
    set_ttl_in_memory(core, &keyspace, default_ttl);
    if let Some(operator) = operator {
        keyspace.set_merger(Merger::new(name, operator, &core.config.merge_operators));
    }
    section.keyspaces.insert(id, Arc::clone(&keyspace));
    keyspaces.insert(name.to_owned(), Arc::clone(&keyspace));
    Ok(keyspace)
}

fn set_ttl_in_memory(core: &Core, keyspace: &KeyspaceStore, millis: u64) {
    keyspace.default_ttl.store(millis, Ordering::Release);
    if millis > 0 {
        core.default_ttls.store(true, Ordering::Release);
    }
}

/// Changes how long what is put into a keyspace from now on lives; 0: for ever. Durable once this
/// returns.
pub fn set_default_ttl(core: &Core, keyspace: &KeyspaceStore, millis: u64) -> Result<()> {
    core.check_writable()?;
    // So that it is not dropped meanwhile, and of two at once the last in the manifest counts.
    let _keyspaces = core.keyspaces.write();
    if keyspace.is_dropped() {
        return Err(dropped(&keyspace.name));
    }
    if millis > 0 && keyspace.merger().is_some() {
        return Err(no_lives_where_merged());
    }
    let edit = Edit { ops: vec![EditOp::DefaultTtl { keyspace: keyspace.id, millis }] };
    core.env.publish(edit, || set_ttl_in_memory(core, keyspace, millis))
}

/// The names of all keyspaces that are the user's, sorted.
pub fn names(core: &Core) -> Vec<String> {
    let keyspaces = core.keyspaces.read();
    keyspaces.values().filter(|k| !k.is_internal()).map(|k| k.name.clone()).collect()
}

/// Gives a keyspace that has no merge operator this one: durable before anything is merged.
fn give_operator(core: &Core, keyspace: &KeyspaceStore, operator: &str) -> Result<()> {
    if let Some(merger) = keyspace.merger() {
        return check_operator(&keyspace.name, merger.name(), operator);
    }
    if keyspace.default_ttl.load(Ordering::Acquire) > 0 {
        return Err(no_lives_where_merged());
    }
    {
        let _section = core.section.enter();
        keyspace.close_to_ranges()?;
    }
    let op = EditOp::SetMergeOperator { keyspace: keyspace.id, name: operator.to_owned() };
    core.env.publish(Edit { ops: vec![op] }, || ())?;
    keyspace.set_merger(Merger::new(&keyspace.name, operator, &core.config.merge_operators));
    Ok(())
}

/// Refuses to give a keyspace another merge operator than it has.
pub fn check_operator(keyspace: &str, has: &str, wanted: &str) -> Result<()> {
    if has == wanted {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidArgument,
        format!(
            "the keyspace {keyspace:?} has the merge operator {has:?} already, and not {wanted:?}"
        ),
    ))
}

/// Removes a keyspace and everything in it.
pub fn drop_keyspace(core: &Core, name: &str) -> Result<()> {
    core.check_writable()?;
    if name == DEFAULT {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            "the default keyspace cannot be dropped",
        ));
    }
    let keyspace = core.keyspaces.read().get(name).cloned().filter(|k| !k.is_internal());
    let keyspace = keyspace
        .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no keyspace {name:?}")))?;
    loop {
        let indexes = core.indexes.all();
        let indexes = indexes.get(&keyspace.id).map_or(&[][..], Vec::as_slice);
        let mut stores = vec![Arc::clone(&keyspace)];
        stores.extend(indexes.iter().map(|i| Arc::clone(&i.store)));
        let storages: Vec<_> = indexes.iter().map(|i| i.store.id).collect();
        match drop_stores(core, &stores, &storages) {
            // An index came or went meanwhile.
            Err(e) if e.kind() == ErrorKind::Conflict => {}
            other => return other,
        }
    }
}

/// Removes keyspaces, and the indexes that have their entries in `storages`, with one edit. `Conflict`
/// where one of the keyspaces has an index that is not among them.
pub fn drop_stores(
    core: &Core,
    stores: &[Arc<KeyspaceStore>],
    storages: &[KeyspaceId],
) -> Result<()> {
    let _all = core.flush_all_latch.lock();
    let mut stores = stores.to_vec();
    stores.sort_by_key(|k| k.id);
    let _flushes: Vec<_> = stores.iter().map(|k| k.flush_latch.lock()).collect();
    let _merges: Vec<_> = stores.iter().map(|k| k.merge_latch.lock()).collect();
    let mut keyspaces = core.keyspaces.write();
    let indexes = core.indexes.all();
    for store in &stores {
        let own = indexes.get(&store.id).map_or(&[][..], Vec::as_slice);
        if own.iter().any(|i| !storages.contains(&i.store.id)) {
            return Err(Error::new(ErrorKind::Conflict, "an index was made meanwhile"));
        }
        if store.is_dropped() {
            return Err(if stores.len() > 1 && storages.contains(&store.id) {
                Error::new(ErrorKind::Conflict, "an index was dropped meanwhile")
            } else {
                dropped(&store.name)
            });
        }
    }
    // While their memtables do not count, no log file may go: the drop may yet fail.
    let _retire = core.retire_latch.lock();
    {
        let mut section = core.section.enter();
        for store in &stores {
            section.keyspaces.remove(&store.id);
            store.dropped.store(true, Ordering::Release);
        }
        if !storages.is_empty() {
            core.indexes.change(&mut section, |map| {
                for indexes in map.values_mut() {
                    indexes.retain(|i| !storages.contains(&i.store.id));
                }
            });
        }
    }
    let mut ops: Vec<_> = storages.iter().map(|id| EditOp::DropIndex(*id)).collect();
    ops.extend(stores.iter().map(|k| EditOp::DropKeyspace(k.id)));
    if let Err(e) = core.env.publish(Edit { ops }, || ()) {
        let mut section = core.section.enter();
        for store in &stores {
            store.dropped.store(false, Ordering::Release);
            section.keyspaces.insert(store.id, Arc::clone(store));
        }
        if !storages.is_empty() {
            core.indexes.change(&mut section, |map| *map = (*indexes).clone());
        }
        return Err(e);
    }
    for store in &stores {
        // Before the keyspace is out of sight of those who retire blob segments.
        core.env.blobs.note_dropped(store.versions());
        keyspaces.remove(&store.name);
        let version = store.pin();
        let gone: Vec<_> = version.partitions().cloned().collect();
        core.env.release(&gone, &[]);
    }
    Ok(())
}
