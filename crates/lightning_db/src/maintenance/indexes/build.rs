//! Entries for the rows that were there before an index.
//!
//! 1. Writers go on: from before the build begins they keep the index up for the rows that they write.
//!    The build goes through the keys in order, some at a time; of each it reads the newest value, and
//!    commits the entries if none of these rows was written meanwhile, else it reads them again.
//! 2. How far it has come is a row among the entries, written in the commit with them: after a crash
//!    both are there or neither is, and the build goes on behind it.
//! 3. The index is ready once every such commit is durable, and then by an edit of the manifest.
//! 4. An entry expires with its row. What has expired is passed over.
//! 5. A violation is met by whoever comes second, the build or a writer.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::commit::batch::WriteBatch;
use crate::commit::watch::Watch;
use crate::error::{Error, ErrorKind, Result};
use crate::index::Entry;
use crate::maintenance::core::Core;
use crate::maintenance::indexes::table::{LiveIndex, dropped};
use crate::maintenance::indexes::upkeep::{Watching, other_row, violation};
use crate::maintenance::write::write_entries;
use crate::manifest::{Edit, EditOp, IndexState};
use crate::store::cursor::MergedCursor;
use crate::store::keyspace::KeyspaceStore;
use crate::store::lookup;
use crate::types::{self, EntryValue, Expiry};

/// The key among the entries that has the last key done; no entry begins so.
pub const PROGRESS_KEY: &[u8] = &[0];
/// The most rows of one commit.
const MOST_ROWS: usize = 512;
/// Keys and values of one commit are about so many bytes at most.
const MOST_BYTES: usize = 1 << 20;

/// Builds an index to its end, from where it is. Returns at once if it is built.
pub fn build(core: &Core, keyspace: &Arc<KeyspaceStore>, index: &LiveIndex) -> Result<()> {
    let _latch = index.build_latch.lock();
    if index.store.is_dropped() {
        return Err(dropped(&index.name));
    }
    if index.is_ready() {
        return Ok(());
    }
    // What was committed before the index was kept up is seen from here on.
    let last = core.section.catch_up()?;
    let progress = lookup::get_applied(&core.env, &index.store, PROGRESS_KEY, last)?;
    let mut done: Option<Vec<u8>> = progress.map(|(v, _)| v.to_vec());
    let mut most = MOST_ROWS;
    loop {
        let keys = next_keys(core, keyspace, done.as_deref(), most)?;
        if keys.is_empty() {
            break;
        }
        match add_entries(core, keyspace, index, &keys) {
            Ok(()) => {
                done = keys.into_iter().next_back();
                most = (most * 2).min(MOST_ROWS);
            }
            // Fewer rows are written less often.
            Err(e) if e.kind() == ErrorKind::Conflict => most = (most / 2).max(1),
            Err(_) if index.store.is_dropped() => return Err(dropped(&index.name)),
            Err(e) => return Err(e),
        }
    }
    finish(core, keyspace, index)
}

/// The next keys past `done`, in order.
fn next_keys(
    core: &Core,
    keyspace: &Arc<KeyspaceStore>,
    done: Option<&[u8]>,
    most: usize,
) -> Result<Vec<Vec<u8>>> {
    core.check_writable()?;
    let env = &core.env;
    let view = core.view();
    let mut cursor = MergedCursor::new(
        keyspace,
        view.seq(),
        view.moment(),
        &env.pager,
        Arc::clone(&env.blobs),
        env.read_ahead,
    );
    let mut more = match done {
        None => cursor.first()?,
        Some(done) => cursor.seek(&[done, &[0]].concat())?,
    };
    let (mut keys, mut bytes) = (Vec::new(), 0);
    while more && keys.len() < most && bytes < MOST_BYTES {
        let Some(key) = cursor.key() else { break };
        // Large values count as what they are; they are not read for it.
        bytes += key.len() + cursor.inline_value().map_or(MOST_BYTES / 16, <[u8]>::len);
        keys.push(key.to_vec());
        more = cursor.next()?;
    }
    Ok(keys)
}

/// Commits the entries of rows as they are now. `Conflict` where one was written meanwhile.
fn add_entries(
    core: &Core,
    keyspace: &KeyspaceStore,
    index: &LiveIndex,
    keys: &[Vec<u8>],
) -> Result<()> {
    let watched = keys.iter().map(|key| (keyspace.id, key.clone()));
    let (rows, last) = Watching::begin(core, Watch::new(watched, []));
    let now = core.env.lifetimes.moment();
    let mut entries: Vec<(Entry, Expiry)> = Vec::new();
    for key in keys {
        let found = lookup::get_applied(&core.env, keyspace, key, last)?;
        if let Some((value, expiry)) = found.filter(|(_, expiry)| !expiry.is_over(now)) {
            match index.way()?.entries(&index.name, key, &value) {
                Ok(found) => entries.extend(found.into_iter().map(|entry| (entry, expiry))),
                Err(_) if rows.is_hit() => return Err(meanwhile()),
                Err(e) => return Err(e),
            }
        }
    }
    let all = entries.iter().map(|(entry, _)| entry);
    let counted: Vec<&Entry> = all.filter(|e| index.spec.is_unique() && e.counts).collect();
    let ranges =
        counted.iter().map(|e| (index.store.id, (e.prefix().to_vec(), Some(e.prefix_end()))));
    let (unique, last) = Watching::begin(core, Watch::new([], ranges));
    let mut firsts: BTreeMap<&[u8], &Entry> = BTreeMap::new();
    for entry in &counted {
        let twice = firsts.insert(entry.prefix(), entry).is_some();
        if twice || other_row(core, &index.store, entry, last, |_| false)? {
            if rows.is_hit() || unique.is_hit() {
                return Err(meanwhile());
            }
            return Err(violation(index, entry.bytes.len() - entry.prefix_len));
        }
    }
    let mut batch = WriteBatch::new();
    for (entry, expiry) in &entries {
        let stored = types::Entry { value: EntryValue::Inline(b""), expiry: *expiry };
        batch.push_entry(index.store.id, &entry.bytes, stored);
    }
    let done = keys.last().map_or(&[][..], Vec::as_slice);
    batch.push(index.store.id, PROGRESS_KEY, EntryValue::Inline(done));
    let written = write_entries(core, &batch, |_| {
        if rows.is_hit() || unique.is_hit() { Err(meanwhile()) } else { Ok(()) }
    });
    match written {
        // Whoever wrote the one row wrote its entries, too.
        Err(e) if e.kind() == ErrorKind::Conflict && keys.len() == 1 && rows.is_hit() => Ok(()),
        other => other,
    }
}

fn meanwhile() -> Error {
    Error::new(ErrorKind::Conflict, "a row was written while its entries were found")
}

fn finish(core: &Core, keyspace: &KeyspaceStore, index: &LiveIndex) -> Result<()> {
    // The manifest must not know of more than the log.
    if core.env.log.is_some() {
        core.section.sync()?;
    } else {
        core.flush_all()?;
    }
    let from = core.section.catch_up()?;
    let state = IndexState {
        storage: index.store.id,
        keyspace: keyspace.id,
        name: index.name.clone(),
        spec: index.spec.clone(),
        ready: true,
    };
    // Nobody drops it meanwhile.
    let _keyspaces = core.keyspaces.read();
    if index.store.is_dropped() {
        return Err(dropped(&index.name));
    }
    core.env.publish(Edit { ops: vec![EditOp::SetIndex(state)] }, || index.set_ready(from))
}
