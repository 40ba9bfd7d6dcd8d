//! The entries that a commit changes, found outside the commit section and written with it.
//!
//! 1. What a row had is read at the last commit of the moment at which a watch over its key, and over
//!    the index keys that must stay unique, begins. A commit meanwhile that touches any of it marks
//!    the watch, and everything is found anew; so what is written fits the rows that it follows, and
//!    of two rows that want one unique index key the second sees the first.
//! 2. That moment may not be visible yet: nothing that is read goes to the row cache. If it never
//!    becomes visible, this commit, which comes after it, does not either.
//! 3. Merges may drop what a later commit has overwritten. Then a watch was marked.
//! 4. After [`PATIENCE`] attempts the rows are locked first, so that every writer gets its turn.
//! 5. A range delete takes the entries of the rows that are there at that moment, and its range is
//!    watched: it costs as much as deletes of these rows.
//! 6. An entry expires with its row: where the row's lifetime changes all its entries are written anew. What
//!    an expired row had is taken away like any other's, since looks into the past may see it still; but
//!    it keeps no unique index key.
//! 7. A change of the table of indexes meanwhile is met inside the section: everything anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::commit::batch::{Operation, Operations, RangeDelete, Write, encode};
use crate::commit::section::{Committed, SectionState, Wait};
use crate::commit::watch::{KeyRange, Watch};
use crate::error::{Error, ErrorKind, Result};
use crate::index::Entry;
use crate::locks::{LockMode, Owner, Request, Target};
use crate::maintenance::core::Core;
use crate::maintenance::indexes::table::{IndexMap, LiveIndex};
use crate::maintenance::write::{WriteOwner, check_size, commit};
use crate::store::cursor::MergedCursor;
use crate::store::keyspace::KeyspaceStore;
use crate::store::lookup;
use crate::types::{self, EntryValue, Expiry, KeyspaceId, Seq, Time};

/// Attempts before rows are locked.
pub const PATIENCE: u32 = 8;

/// Ends a watch, whatever becomes of the commit.
pub struct Watching<'a> {
    core: &'a Core,
    watch: Arc<Watch>,
}

impl<'a> Watching<'a> {
    /// Begins a watch; returns the last commit before it too.
    pub fn begin(core: &'a Core, watch: Watch) -> (Self, Seq) {
        let watch = Arc::new(watch);
        let last = core.section.begin_watch(&watch);
        (Self { core, watch }, last)
    }

    /// Whether a commit since touched anything of it.
    pub fn is_hit(&self) -> bool {
        self.watch.is_hit()
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.core.section.enter().end_watch(&self.watch);
    }
}

/// What a commit makes of a row of a keyspace with indexes.
struct RowChange<'a> {
    keyspace: KeyspaceId,
    key: &'a [u8],
    /// When it expires after the commit.
    expiry: Expiry,
    /// Its entries after the commit, for each index of the keyspace.
    new: Vec<Vec<Entry>>,
}

/// What a commit makes of the rows of keyspaces with indexes.
struct Changes<'a> {
    /// Rows, in order.
    rows: Vec<RowChange<'a>>,
    /// Ranges: all rows that are in them before the commit go, but for `rows`.
    ranges: Vec<RangeDelete<'a>>,
}

impl Changes<'_> {
    const NONE: Self = Self { rows: Vec::new(), ranges: Vec::new() };

    fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.ranges.is_empty()
    }

    fn has_row(&self, keyspace: KeyspaceId, key: &[u8]) -> bool {
        self.rows.binary_search_by(|r| (r.keyspace, r.key).cmp(&(keyspace, key))).is_ok()
    }
}

/// An entry that comes, its index, and when it expires.
type Added<'a> = (&'a Arc<LiveIndex>, &'a Entry, Expiry);

/// Commits `body`, and with it what it changes in indexes. `plain` is the same with its large values
/// still in it.
pub fn commit_with_indexes(
    core: &Core,
    plain: &[u8],
    body: &[u8],
    wait: Wait,
    owner: Option<&Arc<Owner>>,
    mut validate: impl FnMut(&mut SectionState) -> Result<()>,
) -> Result<Committed> {
    let mut attempt = 0;
    let mut locker: Option<WriteOwner<'_>> = None;
    // A write that is no transaction's holds nothing that anybody relies on.
    let gives_way = |e: &Error| e.kind() == ErrorKind::Deadlock && owner.is_none();
    loop {
        let mark = core.indexes.mark();
        let mut again = false;
        let mut check = |state: &mut SectionState, hit: bool| {
            again = hit || core.indexes.mark() != mark;
            if again {
                return Err(Error::new(ErrorKind::Conflict, "an index or a row changed meanwhile"));
            }
            validate(state)
        };
        let map = mark.any().then(|| core.indexes.all());
        let changes = match map.as_ref().map(|map| changes_of(plain, map)) {
            None => Changes::NONE,
            Some(Ok(changes)) => changes,
            Some(Err(_)) if core.indexes.mark() != mark => continue,
            Some(Err(e)) => return Err(e),
        };
        let result = if let (Some(map), false) = (&map, changes.is_empty()) {
            if attempt >= PATIENCE {
                match lock(core, owner, &mut locker, &changes, map) {
                    Err(e) if gives_way(&e) => {
                        (locker, attempt) = (None, 0);
                        continue;
                    }
                    locked => locked?,
                }
            }
            let owner = owner.or(locker.as_ref().map(|l| &l.owner));
            let (watching, last) = Watching::begin(core, watch_of(&changes, map));
            match entries_changed(core, &changes, map, last) {
                Ok(entries) => {
                    let mut whole = Vec::with_capacity(body.len() + entries.len());
                    whole.extend_from_slice(body);
                    whole.extend_from_slice(&entries);
                    check_size(&core.config, whole.len())?;
                    commit(core, &whole, wait, owner, |state| check(state, watching.is_hit()))
                }
                // Perhaps by a row that is there no more.
                Err(e) => {
                    again = watching.is_hit() || core.indexes.mark() != mark;
                    Err(e)
                }
            }
        } else {
            commit(core, body, wait, owner, |state| check(state, false))
        };
        match result {
            Err(_) if again => attempt += 1,
            Err(e) if gives_way(&e) && !changes.is_empty() => (locker, attempt) = (None, 0),
            // The keyspace of an index that was dropped meanwhile.
            Err(e) if e.kind() == ErrorKind::NotFound && core.indexes.mark() != mark => {}
            Err(e) if e.kind() == ErrorKind::UniqueViolation => {
                // What it met may be seen now, and stays.
                core.section.catch_up()?;
                return Err(e);
            }
            other => return other,
        }
    }
}

/// What a body makes of the rows that have indexes, with their entries after it. The last operation
/// on a key counts.
fn changes_of<'a>(body: &'a [u8], map: &IndexMap) -> Result<Changes<'a>> {
    type Written<'a> = (Option<&'a [u8]>, Expiry);
    let mut last: BTreeMap<(KeyspaceId, &[u8]), Written<'_>> = BTreeMap::new();
    let mut ranges = Vec::new();
    for part in Operations::new(body) {
        let part = part.expect("bodies are encoded by this process");
        if !map.contains_key(&part.keyspace()) {
            continue;
        }
        let op = match part {
            Write::Entry(op) => op,
            Write::DeleteRange(range) => {
                let covered = |keyspace: KeyspaceId, key: &[u8]| {
                    keyspace == range.keyspace && range.covers(key)
                };
                last.iter_mut()
                    .filter(|((id, key), _)| covered(*id, key))
                    .for_each(|(_, v)| *v = (None, Expiry::NEVER));
                ranges.push(range);
                continue;
            }
        };
        let value = match op.entry.value {
            EntryValue::Inline(value) => Some(value),
            EntryValue::Tombstone => None,
            EntryValue::Operands(_) => {
                return Err(Error::new(
                    ErrorKind::InvalidArgument,
                    "nothing is merged into the rows of a keyspace with indexes: use fetch_update",
                ));
            }
            EntryValue::Blob(_) => {
                return Err(Error::new(
                    ErrorKind::InvalidArgument,
                    "a value that is written already cannot be put where there are indexes",
                ));
            }
        };
        last.insert((op.keyspace, op.key), (value, op.entry.expiry));
    }
    let change = |((keyspace, key), (value, expiry)): ((KeyspaceId, &'a [u8]), _)| {
        let new = map[&keyspace]
            .iter()
            .map(|index| match value {
                // A deleted row has none, but the index must be one that can be kept up.
                None => index.way().map(|_| Vec::new()),
                Some(value) => index.way()?.entries(&index.name, key, value),
            })
            .collect::<Result<_>>()?;
        Ok(RowChange { keyspace, key, expiry, new })
    };
    Ok(Changes { rows: last.into_iter().map(change).collect::<Result<_>>()?, ranges })
}

/// The entries of all changes that a unique index counts: each with its index.
fn counted<'a>(
    changes: &'a Changes<'_>,
    map: &'a IndexMap,
) -> impl Iterator<Item = (&'a Arc<LiveIndex>, &'a Entry)> {
    changes.rows.iter().flat_map(move |change| {
        let indexes = map[&change.keyspace].iter().zip(&change.new);
        indexes.filter(|(index, _)| index.spec.is_unique()).flat_map(|(index, entries)| {
            entries.iter().filter(|e| e.counts).map(move |e| (index, e))
        })
    })
}

/// The keys of the entries of other rows that have the same index key.
fn range_of(entry: &Entry) -> KeyRange {
    (entry.prefix().to_vec(), Some(entry.prefix_end()))
}

fn watch_of(changes: &Changes<'_>, map: &IndexMap) -> Watch {
    let keys = changes.rows.iter().map(|c| (c.keyspace, c.key.to_vec()));
    let deleted = changes.ranges.iter().map(|r| (r.keyspace, interval_of(r)));
    let unique = counted(changes, map).map(|(index, e)| (index.store.id, range_of(e)));
    Watch::new(keys, deleted.chain(unique))
}

fn interval_of(range: &RangeDelete<'_>) -> KeyRange {
    (range.start.to_vec(), range.end.map(<[u8]>::to_vec))
}

/// The operations on indexes that make `changes` complete, after commit `last`.
fn entries_changed(
    core: &Core,
    changes: &Changes<'_>,
    map: &IndexMap,
    last: Seq,
) -> Result<Vec<u8>> {
    let mut removed: BTreeSet<(KeyspaceId, Vec<u8>)> = BTreeSet::new();
    let mut added: BTreeMap<(KeyspaceId, &[u8]), Added<'_>> = BTreeMap::new();
    let keyspaces = core.all();
    let find = |id| {
        let gone = || Error::new(ErrorKind::NotFound, "the keyspace was dropped");
        keyspaces.iter().find(|k| k.id == id).ok_or_else(gone)
    };
    for range in &changes.ranges {
        let store = find(range.keyspace)?;
        each_row(core, store, range, last, |key, value| {
            if changes.has_row(range.keyspace, key) {
                return Ok(());
            }
            for index in &map[&range.keyspace] {
                let had = index.way()?.entries_there(key, value);
                removed.extend(had.into_iter().map(|e| (index.store.id, e.bytes)));
            }
            // Before all of memory is full.
            check_size(&core.config, removed.iter().map(|(_, e)| e.len()).sum())
        })?;
    }
    for change in &changes.rows {
        let store = find(change.keyspace)?;
        let old = lookup::get_applied(&core.env, store, change.key, last)?;
        let same_life = old.as_ref().is_none_or(|(_, expiry)| *expiry == change.expiry);
        for (index, new) in map[&change.keyspace].iter().zip(&change.new) {
            let had = match &old {
                Some((old, _)) => index.way()?.entries_there(change.key, old),
                None => Vec::new(),
            };
            let kept = |e: &Entry| new.binary_search(e).is_ok();
            removed
                .extend(had.iter().filter(|e| !kept(e)).map(|e| (index.store.id, e.bytes.clone())));
            for entry in new {
                // While it is built an entry may be lacking that the row should have had.
                if !index.is_ready() || !same_life || had.binary_search(entry).is_err() {
                    added.insert((index.store.id, &entry.bytes), (index, entry, change.expiry));
                }
            }
        }
    }
    let mut taken: BTreeSet<(KeyspaceId, &[u8])> = BTreeSet::new();
    for ((storage, bytes), (index, entry, _)) in &added {
        if !index.spec.is_unique() || !entry.counts {
            continue;
        }
        let is_removed = |found: &[u8]| removed.contains(&(*storage, found.to_vec()));
        let other = other_row(core, &index.store, entry, last, is_removed)?;
        if other || !taken.insert((*storage, entry.prefix())) {
            return Err(violation(index, bytes.len() - entry.prefix_len));
        }
    }
    let mut body = Vec::new();
    for (keyspace, key) in &removed {
        let entry = types::Entry::lasting(EntryValue::Tombstone);
        encode(&mut body, &Operation { keyspace: *keyspace, key, entry });
    }
    for ((keyspace, key), (.., expiry)) in added {
        let entry = types::Entry { value: EntryValue::Inline(b""), expiry };
        encode(&mut body, &Operation { keyspace, key, entry });
    }
    Ok(body)
}

/// Gives `each` the rows of a range at commit `at`, expired ones too.
fn each_row(
    core: &Core,
    store: &Arc<KeyspaceStore>,
    range: &RangeDelete<'_>,
    at: Seq,
    mut each: impl FnMut(&[u8], &[u8]) -> Result<()>,
) -> Result<()> {
    let env = &core.env;
    let blobs = Arc::clone(&env.blobs);
    let mut cursor =
        MergedCursor::new(store, at, Time::BEFORE_ALL, &env.pager, blobs, env.read_ahead);
    let mut more = cursor.seek(range.start)?;
    while more && let Some(key) = cursor.key().filter(|k| range.covers(k)) {
        let key = key.to_vec();
        if let Some(value) = cursor.value()? {
            each(&key, &value)?;
        }
        more = cursor.next()?;
    }
    Ok(())
}

/// Whether another row has the index key of `entry` at commit `at` and has not expired, those left out that
/// `gone` tells.
pub(super) fn other_row(
    core: &Core,
    store: &Arc<KeyspaceStore>,
    entry: &Entry,
    at: Seq,
    gone: impl Fn(&[u8]) -> bool,
) -> Result<bool> {
    let env = &core.env;
    let (now, blobs) = (env.lifetimes.moment(), Arc::clone(&env.blobs));
    let mut cursor = MergedCursor::new(store, at, now, &env.pager, blobs, 0);
    let mut more = cursor.seek(entry.prefix())?;
    while more && let Some(found) = cursor.key() {
        if !found.starts_with(entry.prefix()) {
            break;
        }
        if found != entry.bytes && !gone(found) {
            return Ok(true);
        }
        more = cursor.next()?;
    }
    Ok(false)
}

/// The error of a second row with a unique index key.
pub(super) fn violation(index: &LiveIndex, key_bytes: usize) -> Error {
    Error::new(
        ErrorKind::UniqueViolation,
        format!(
            "the unique index {:?} has another row with the index key of a row whose key has \
             {key_bytes} bytes",
            index.name
        ),
    )
}

/// Locks rows and unique index keys, for `owner` or for this write alone.
fn lock<'a>(
    core: &'a Core,
    owner: Option<&Arc<Owner>>,
    locker: &mut Option<WriteOwner<'a>>,
    changes: &Changes<'_>,
    map: &IndexMap,
) -> Result<()> {
    let owner = match owner {
        Some(owner) => Arc::clone(owner),
        None => Arc::clone(&locker.get_or_insert_with(|| WriteOwner::new(core)).owner),
    };
    let rows = changes.rows.iter().map(|c| (c.keyspace, Target::Row(c.key.to_vec())));
    let deleted = changes.ranges.iter().map(|range| {
        let (start, end) = interval_of(range);
        (range.keyspace, Target::Range(start, end))
    });
    let rows = rows.chain(deleted);
    let ranges = counted(changes, map).map(|(index, entry)| {
        let (start, end) = range_of(entry);
        (index.store.id, Target::Range(start, end))
    });
    let mut ranges: Vec<_> = ranges.collect();
    ranges.sort_by(|(a, x), (b, y)| a.cmp(b).then_with(|| start_of(x).cmp(start_of(y))));
    for (keyspace, target) in rows.chain(ranges) {
        let request =
            Request { owner: Arc::clone(&owner), keyspace, target, mode: LockMode::Exclusive };
        let clock = || core.env.now();
        core.locks.acquire(&request, core.config.lock_timeout, &clock)?;
    }
    Ok(())
}

fn start_of(target: &Target) -> &[u8] {
    match target {
        Target::Row(key) | Target::Range(key, _) => key,
    }
}
