//! Committing: validation outside the commit section first, inside only against what came since.
//!
//! 1. `known` is a commit at or past which the version that is validated outside holds everything;
//!    inside only numbers past it are looked for. Between both no commit slips through. Where nothing
//!    was committed since a key was read, it is not looked for at all.
//! 2. Few keys are looked up again inside, in the newest memtables only. Many keys, and ranges, are
//!    watched instead (see `commit::watch`), so that the section is never held for long.

use std::sync::Arc;

use super::options::IsolationLevel;
use super::transaction::{Transaction, conflict};
use crate::commit::section::SectionState;
use crate::commit::watch::Watch;
use crate::config::WriteOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::locks::expired;
use crate::maintenance::core::Core;
use crate::maintenance::write::write_batch;
use crate::store::changes::changed_since;
use crate::store::keyspace::KeyspaceStore;
use crate::store::lookup;
use crate::types::{KeyspaceId, Seq};

/// Up to this many keys are looked up inside the section.
const FEW_KEYS: usize = 64;

/// A key that must not have been written past a commit.
type Relied<'a> = (KeyspaceId, &'a [u8], Seq);

/// Ends a watch, whatever becomes of the commit.
struct Watching<'a> {
    core: &'a Core,
    watch: Arc<Watch>,
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.core.section.enter().end_watch(&self.watch);
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::NotFound, "the keyspace was dropped")
}

/// `Conflict` if any of `keys` was written past its commit, as far as `find`'s keyspaces show now. Only
/// writes past `known` are looked for, and there are none past `last` that matter.
fn check_keys<'k>(
    core: &Core,
    keys: impl Iterator<Item = Relied<'k>>,
    (known, last): (Seq, Seq),
    find: impl Fn(KeyspaceId) -> Option<Arc<KeyspaceStore>>,
) -> Result<()> {
    let mut current: Option<Arc<KeyspaceStore>> = None;
    for (id, key, since) in keys {
        if current.as_ref().is_none_or(|k| k.id != id) {
            current = find(id);
        }
        let keyspace = current.as_ref().ok_or_else(gone)?;
        let since = since.max(known);
        if since >= last {
            continue;
        }
        let newest = lookup::newest_seq(&keyspace.version(), &core.env.pager, key, since)?;
        if newest.is_some_and(|n| n > since) {
            return Err(conflict());
        }
    }
    Ok(())
}

impl Transaction {
    pub(super) fn try_commit(&mut self) -> Result<()> {
        self.check()?;
        if !self.open.owner.begin_commit() {
            return Err(expired());
        }
        if self.writes.is_empty() {
            // Its reads hold at its snapshot, or are locked still.
            return Ok(());
        }
        let core = &*self.core;
        let batch = self.writes.to_batch();
        let options = WriteOptions { durability: self.options.durability };
        let owner = Some(&self.open.owner);
        if self.is_pessimistic() {
            return write_batch(core, &batch, options, owner, |_| Ok(()));
        }
        let reads = self.reads.lock();
        let first_wins = self.options.isolation == IsolationLevel::RepeatableRead;
        // Ranges deleted at `RepeatableRead`, ranges read where that matters.
        let mut ranges = reads.ranges();
        if first_wins {
            let deleted = self.writes.ranges();
            ranges
                .extend(deleted.map(|(id, f)| (id, (f.start.to_vec(), f.end.map(|e| e.to_vec())))));
        }
        let written = if first_wins { self.writes.len() } else { 0 };
        // Written keys at `RepeatableRead`, keys read where that matters.
        let relied = || {
            let written = self.writes.keys().filter(|_| first_wins);
            written.map(|(id, key)| (id, key, self.snapshot)).chain(reads.keys())
        };
        let find = |id: KeyspaceId| core.all().into_iter().find(|k| k.id == id);
        if ranges.is_empty() && written + reads.key_count() <= FEW_KEYS {
            let known = core.section.applied();
            if relied().any(|(_, _, since)| since < known) {
                check_keys(core, relied(), (Seq(0), known), find)?;
            }
            return write_batch(core, &batch, options, owner, |state: &mut SectionState| {
                let since = (known, state.last);
                check_keys(core, relied(), since, |id| state.keyspaces.get(&id).cloned())
            });
        }
        let keys = relied().map(|(id, key, _)| (id, key.to_vec()));
        let watch = Arc::new(Watch::new(keys, ranges));
        let known = core.section.begin_watch(&watch);
        let watching = Watching { core, watch };
        check_keys(core, relied(), (Seq(0), known), find)?;
        for (id, (start, end)) in watching.watch.ranges() {
            let keyspace = find(id).ok_or_else(gone)?;
            if self.snapshot >= known {
                continue;
            }
            let version = keyspace.pin();
            if changed_since(&version, &core.env.pager, start, end.as_deref(), self.snapshot)? {
                return Err(conflict());
            }
        }
        write_batch(core, &batch, options, owner, |state: &mut SectionState| {
            // Commits write no entries of an index, or to a keyspace, that was dropped meanwhile.
            if !watching.watch.keyspaces().all(|id| state.keyspaces.contains_key(&id)) {
                return Err(gone());
            }
            if watching.watch.is_hit() { Err(conflict()) } else { Ok(()) }
        })
    }
}
