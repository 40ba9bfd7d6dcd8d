//! Range deletes where a merge operator is: deletes of the rows that are there.
//!
//! Operands are folded without looking at range deletes, so a keyspace with a merge operator holds
//! none. A range delete costs there as much as the deletes that it becomes.
//!
//! 1. The rows are read at the last commit of the moment at which a watch over their ranges begins; a
//!    commit meanwhile that touches a range marks the watch, and the rows are read anew.
//! 2. The deletes stand where the range delete stood: what the batch wrote there before goes too, what it
//!    writes there later stays.
//! 3. After [`PATIENCE`] attempts the ranges are locked first, so that every writer gets its turn.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::commit::batch::{Operation, Operations, RangeDelete, Write, encode, encode_range};
use crate::commit::section::{Committed, SectionState, Wait};
use crate::commit::watch::Watch;
use crate::error::{Error, ErrorKind, Result};
use crate::locks::{LockMode, Owner, Request, Target};
use crate::maintenance::core::Core;
use crate::maintenance::indexes::upkeep::{PATIENCE, Watching, commit_with_indexes};
use crate::maintenance::write::{WriteOwner, check_size};
use crate::store::cursor::MergedCursor;
use crate::store::keyspace::KeyspaceStore;
use crate::types::{Entry, EntryValue, KeyspaceId, Seq, Time};

/// The range deletes of a body in keyspaces with a merge operator, each with its keyspace.
fn ranges_of<'a>(core: &Core, body: &'a [u8]) -> Vec<(Arc<KeyspaceStore>, RangeDelete<'a>)> {
    let keyspaces = core.all();
    let found = Operations::new(body).flatten().filter_map(|part| match part {
        Write::DeleteRange(range) => {
            let store = keyspaces.iter().find(|k| k.id == range.keyspace)?;
            store.merger().is_some().then(|| (Arc::clone(store), range))
        }
        Write::Entry(_) => None,
    });
    found.collect()
}

/// As [`commit_with_indexes`], for a body that has range deletes.
pub fn commit_with_ranges(
    core: &Core,
    plain: &[u8],
    body: &[u8],
    wait: Wait,
    owner: Option<&Arc<Owner>>,
    mut validate: impl FnMut(&mut SectionState) -> Result<()>,
) -> Result<Committed> {
    let ranges = ranges_of(core, plain);
    if ranges.is_empty() {
        return commit_with_indexes(core, plain, body, wait, owner, validate);
    }
    let mut attempt = 0;
    let mut locker: Option<WriteOwner<'_>> = None;
    loop {
        if attempt >= PATIENCE {
            match lock(core, owner, &mut locker, &ranges) {
                // A write that is no transaction's holds nothing that anybody relies on.
                Err(e) if e.kind() == ErrorKind::Deadlock && owner.is_none() => {
                    (locker, attempt) = (None, 0);
                    continue;
                }
                locked => locked?,
            }
        }
        let watched = ranges
            .iter()
            .map(|(store, r)| (store.id, (r.start.to_vec(), r.end.map(<[u8]>::to_vec))));
        let (watching, last) = Watching::begin(core, Watch::new([], watched));
        let rows = rows_in(core, &ranges, last)?;
        let deletes = |body| taken_apart(body, &ranges, &rows);
        let (plain, body) = (deletes(plain), deletes(body));
        check_size(&core.config, body.len())?;
        let mut hit = false;
        let owner = owner.or(locker.as_ref().map(|l| &l.owner));
        let result = commit_with_indexes(core, &plain, &body, wait, owner, |state| {
            hit = watching.is_hit();
            if hit {
                return Err(Error::new(ErrorKind::Conflict, "a row came into a range meanwhile"));
            }
            validate(state)
        });
        match result {
            Err(_) if hit => attempt += 1,
            other => return other,
        }
    }
}

/// The keys of each range at commit `at`.
fn rows_in(
    core: &Core,
    ranges: &[(Arc<KeyspaceStore>, RangeDelete<'_>)],
    at: Seq,
) -> Result<Vec<Vec<Vec<u8>>>> {
    let env = &core.env;
    let mut rows = Vec::with_capacity(ranges.len());
    let mut bytes = 0;
    for (store, range) in ranges {
        let blobs = Arc::clone(&env.blobs);
        let mut cursor =
            MergedCursor::new(store, at, Time::BEFORE_ALL, &env.pager, blobs, env.read_ahead);
        let mut keys = Vec::new();
        let mut more = cursor.seek(range.start)?;
        while more && let Some(key) = cursor.key().filter(|k| range.covers(k)) {
            bytes += key.len();
            // Before all of memory is full.
            check_size(&core.config, bytes)?;
            keys.push(key.to_vec());
            more = cursor.next()?;
        }
        rows.push(keys);
    }
    Ok(rows)
}

/// The body with deletes in the place of `ranges`.
fn taken_apart(
    body: &[u8],
    ranges: &[(Arc<KeyspaceStore>, RangeDelete<'_>)],
    rows: &[Vec<Vec<u8>>],
) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    let mut written: BTreeSet<(KeyspaceId, &[u8])> = BTreeSet::new();
    let mut at = 0;
    for part in Operations::new(body).flatten() {
        let range = match part {
            Write::Entry(op) => {
                written.insert((op.keyspace, op.key));
                encode(&mut out, &op);
                continue;
            }
            Write::DeleteRange(range) => range,
        };
        if ranges.get(at).is_none_or(|(_, r)| *r != range) {
            encode_range(&mut out, &range);
            continue;
        }
        let keyspace = range.keyspace;
        let earlier = written.iter().filter(|(id, key)| *id == keyspace && range.covers(key));
        let there = rows[at].iter().map(Vec::as_slice);
        let keys: BTreeSet<&[u8]> = earlier.map(|(_, key)| *key).chain(there).collect();
        for key in keys {
            encode(
                &mut out,
                &Operation { keyspace, key, entry: Entry::lasting(EntryValue::Tombstone) },
            );
        }
        at += 1;
    }
    out
}

/// Locks the ranges, for `owner` or for this write alone.
fn lock<'a>(
    core: &'a Core,
    owner: Option<&Arc<Owner>>,
    locker: &mut Option<WriteOwner<'a>>,
    ranges: &[(Arc<KeyspaceStore>, RangeDelete<'_>)],
) -> Result<()> {
    let owner = match owner {
        Some(owner) => Arc::clone(owner),
        None => Arc::clone(&locker.get_or_insert_with(|| WriteOwner::new(core)).owner),
    };
    for (store, range) in ranges {
        let target = Target::Range(range.start.to_vec(), range.end.map(<[u8]>::to_vec));
        let (owner, keyspace) = (Arc::clone(&owner), store.id);
        let request = Request { owner, keyspace, target, mode: LockMode::Exclusive };
        core.locks.acquire(&request, core.config.lock_timeout, &|| core.env.now())?;
    }
    Ok(())
}
