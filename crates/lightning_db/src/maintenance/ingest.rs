//! Sorted ingest: entries that come in order are built into partitions, past log and memtables, and
//! become visible as one commit, by one edit.
//!
//! 1. Pages hold no numbers: which commit wrote them is known only at the end, and then told by the
//!    partitions' metadata ([`PartitionMeta::ingested`](crate::manifest::PartitionMeta)).
//! 2. The commit takes place inside the commit section, once the keyspace's memtables are empty: what
//!    they held is older, and must lie below. Most of it is flushed before, so that other writers are
//!    held up for little. The new memtable begins after the commit, so that none spans its number.
//! 3. Without a log, all keyspaces are flushed with it: what survives a crash is a prefix of commits.
//! 4. It honours locks of others as a write to every key from the first to the last would.
//! 5. Keyspaces with indexes are refused: before, and again inside the section.
//! 6. Before the edit nothing names the files; what fails leaves none behind.
//!
//! Latch order: flush latches, merge latch (tried only), commit section, naming of blob segments.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::commit::section::Span;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::BLOB_THRESHOLD_BYTES;
use crate::locks::{LockMode, Request, Target};
use crate::maintenance::core::Core;
use crate::maintenance::file_jobs::FileJob;
use crate::maintenance::write::{WriteOwner, check_entry, check_quota, dropped};
use crate::manifest::{Edit, EditOp};
use crate::store::flush::flush_oldest;
use crate::store::keyspace::KeyspaceStore;
use crate::store::merge::overlaps;
use crate::store::own_blobs::OwnBlobs;
use crate::store::range_row::RunRanges;
use crate::store::row_writer::{RowWriter, discard};
use crate::store::version::{Row, Run, Version};
use crate::sync::atomic::Ordering;
use crate::tree::PartitionReader;
use crate::types::{Entry, EntryValue, Expiry, SegmentId, Seq};

/// How often the room that is left is asked for, in bytes of entries.
const ROOM_CHECK_BYTES: u64 = 1024 * 1024;
/// How often memtables are flushed before the section is entered.
const FLUSHES_BEFORE: usize = 2;

/// Ingests entries in strictly ascending order of key; gives their number.
pub fn ingest<K: AsRef<[u8]>, V: AsRef<[u8]>, E: From<Error>>(
    core: &Arc<Core>,
    keyspace: &Arc<KeyspaceStore>,
    entries: impl IntoIterator<Item = std::result::Result<(K, V), E>>,
) -> std::result::Result<u64, E> {
    core.check_writable()?;
    let _job = FileJob::begin(core)?;
    if keyspace.is_dropped() {
        return Err(dropped(&keyspace.name).into());
    }
    refuse_indexes(core, keyspace)?;
    let mut building = Building {
        core,
        row: RowWriter::new(&core.env, keyspace, None),
        blobs: OwnBlobs::new(&core.env.blobs),
        entries: 0,
        expiry: expiry_of(core, keyspace),
        first: Vec::new(),
        last: Vec::new(),
        unchecked: 0,
    };
    for entry in entries {
        let (key, value) = entry?;
        building.push(key.as_ref(), value.as_ref())?;
    }
    let entries = building.entries;
    if entries > 0 {
        let built = building.finish()?;
        let committed = commit(core, keyspace, &built);
        if committed.is_err() {
            built.discard(core);
        }
        committed?;
        core.note_time();
        core.update_pressure();
        if core.config.background_threads > 0 {
            core.signal.raise();
        } else {
            core.work_inline();
        }
    }
    Ok(entries)
}

/// Entries on their way into pages.
struct Building<'a> {
    core: &'a Core,
    row: RowWriter<'a>,
    blobs: OwnBlobs<'a>,
    entries: u64,
    /// Of all of them.
    expiry: Expiry,
    first: Vec<u8>,
    last: Vec<u8>,
    /// Bytes of entries since the room was last asked for.
    unchecked: u64,
}

impl Building<'_> {
    fn push(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.core.check_open()?;
        let at = self.entries;
        check_entry(&self.core.config, key.len(), value.len())
            .map_err(|e| Error::new(e.kind(), format!("entry {at} to ingest: {}", e.message())))?;
        if at == 0 {
            self.first.extend_from_slice(key);
        } else if key <= self.last.as_slice() {
            let is = if key == self.last { "the same key as" } else { "a smaller key than" };
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "entry {at} to ingest (counted from 0) has {is} the one before it: keys are to \
                     come in strictly ascending order"
                ),
            ));
        }
        self.last.clear();
        self.last.extend_from_slice(key);
        self.unchecked += (key.len() + value.len()) as u64;
        if self.unchecked >= ROOM_CHECK_BYTES {
            self.check_room()?;
        }
        let value = if value.len() >= BLOB_THRESHOLD_BYTES {
            EntryValue::Blob(self.blobs.put(value)?)
        } else {
            EntryValue::Inline(value)
        };
        self.row.push(key, Seq(0), Entry { value, expiry: self.expiry })?;
        self.entries += 1;
        Ok(())
    }

    /// Refuses what the quota leaves no room for, and what a poisoned handle could not commit.
    fn check_room(&mut self) -> Result<()> {
        self.core.env.check_writable()?;
        let new = self.row.stored_bytes() + self.blobs.bytes();
        // What is not in pages yet counts as it came.
        check_quota(self.core, new + self.unchecked)?;
        self.unchecked = 0;
        Ok(())
    }

    fn finish(mut self) -> Result<Built> {
        self.check_room()?;
        let partitions = self.row.finish()?;
        let blobs = self.blobs.hand_over().inspect_err(|_| {
            discard(&partitions, &[], &self.core.env);
        })?;
        Ok(Built { partitions, blobs, first: self.first, last: self.last })
    }
}

/// Entries in files that nothing names yet.
struct Built {
    partitions: Vec<Arc<PartitionReader>>,
    blobs: BTreeSet<SegmentId>,
    first: Vec<u8>,
    last: Vec<u8>,
}

impl Built {
    fn discard(&self, core: &Core) {
        discard(&self.partitions, &[], &core.env);
        if core.env.check_writable().is_ok() {
            core.env.blobs.give_up(&self.blobs);
        }
    }
}

/// When what is put now without a lifetime of its own expires.
fn expiry_of(core: &Core, keyspace: &KeyspaceStore) -> Expiry {
    match keyspace.default_ttl.load(Ordering::Acquire) {
        0 => Expiry::NEVER,
        ttl => {
            core.env.lifetimes.enable();
            core.env.lifetimes.now().after(Expiry(ttl))
        }
    }
}

/// Entries of indexes are found row by row, from what each row replaces: not by pages.
fn refuse_indexes(core: &Core, keyspace: &KeyspaceStore) -> Result<()> {
    if !core.indexes.all().contains_key(&keyspace.id) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidArgument,
        format!(
            "keyspace {:?} has indexes, which an ingest would not keep up: put the rows, or drop the \
             indexes, ingest, and create them again",
            keyspace.name
        ),
    ))
}

fn commit(core: &Core, keyspace: &Arc<KeyspaceStore>, built: &Built) -> Result<()> {
    let env = &core.env;
    let mut past = built.last.clone();
    past.push(0);
    let owner = WriteOwner::new(core);
    let request = Request {
        owner: Arc::clone(&owner.owner),
        keyspace: keyspace.id,
        target: Target::Range(built.first.clone(), Some(past)),
        mode: LockMode::Exclusive,
    };
    core.locks.acquire(&request, core.config.lock_timeout, &|| core.env.now())?;
    // Nobody is granted a lock there until this is over.
    let with_log = env.log.is_some();
    let _all = (!with_log).then(|| core.flush_all_latch.lock());
    let _one = with_log.then(|| keyspace.flush_latch.lock());
    let flushed = || if with_log { vec![Arc::clone(keyspace)] } else { core.all() };
    for _ in 0..FLUSHES_BEFORE {
        core.section.seal(&flushed());
        while flush_oldest(env, &flushed())? {}
    }
    // Nothing may be merged into the base meanwhile where the partitions are to go there.
    let merge = keyspace.merge_latch.try_lock();
    let span = Span { keyspace: keyspace.id, first: &built.first, last: &built.last };
    core.section.commit_outside_log(
        &span,
        |state| {
            // The table of indexes changes in here only: one made from now on finds what was ingested.
            refuse_indexes(core, keyspace)?;
            let keyspaces: Vec<_> = if with_log {
                vec![Arc::clone(keyspace)]
            } else {
                state.keyspaces.values().cloned().collect()
            };
            for k in keyspaces.iter().filter(|k| !k.version().active.is_empty()) {
                k.seal(state.last);
            }
            while flush_oldest(env, &keyspaces)? {}
            Ok(())
        },
        |seq| publish(core, keyspace, built, seq, merge.is_some()),
    )
}

/// Makes what was built commit `seq`. Inside the commit section.
fn publish(
    core: &Core,
    keyspace: &KeyspaceStore,
    built: &Built,
    seq: Seq,
    merges_wait: bool,
) -> Result<()> {
    let env = &*core.env;
    let ingested = built.partitions.iter().map(|p| p.ingested_by(seq).map(Arc::new));
    let row = Row { partitions: ingested.collect::<Result<_>>()? };
    let version = keyspace.pin();
    assert!(version.memtables().all(|m| m.is_empty()), "what is older lies in rows");
    let to_base = merges_wait && is_apart(&version, &row);
    let _naming = env.blobs.naming();
    let mut edit = Edit { ops: Vec::new() };
    for (id, bytes) in env.blobs.seal_for_edit(&built.blobs)? {
        edit.ops.push(EditOp::AddBlobSegment { id, bytes });
    }
    let run = Run {
        id: env.new_run(),
        low: seq,
        high: seq,
        live_bytes: row.live_bytes(),
        row,
        consumed: Vec::new(),
        ranges: RunRanges::default(),
    };
    let id = keyspace.id;
    edit.ops.push(if to_base {
        EditOp::ReplaceBase { keyspace: id, removed: Vec::new(), added: run.row.metas() }
    } else {
        EditOp::AddRun { keyspace: id, run: run.meta() }
    });
    edit.ops.push(EditOp::Flushed { keyspace: keyspace.id, seq });
    edit.ops.push(EditOp::LastSeq(seq));
    let published = env.publish(edit, || {
        // Before the commit can be seen.
        env.rows.note_span(keyspace.id, &built.first, &built.last, seq);
        keyspace.update(|v| {
            let mut next = v.clone();
            next.active = Arc::new(next.active.following(seq.next()));
            if to_base {
                let both = next.base.partitions.iter().chain(&*run.row.partitions);
                let mut base: Vec<_> = both.cloned().collect();
                base.sort_by(|a, b| a.meta().first_key.cmp(&b.meta().first_key));
                next.base.partitions = base.into();
            } else {
                next.runs.insert(0, Arc::new(run));
            }
            next
        });
    });
    match published {
        Ok(()) => built.blobs.iter().for_each(|id| env.blobs.named(*id)),
        Err(e) if env.check_writable().is_ok() => return Err(e),
        // The edit may have taken place.
        Err(e) => {
            let message = "the device failed while the ingest was committed";
            return Err(Error::new(ErrorKind::CommitUnknown, message).caused_by(e));
        }
    }
    Ok(())
}

/// Whether nothing of `row` overlaps anything there is.
fn is_apart(version: &Version, row: &Row) -> bool {
    row.partitions.iter().all(|p| {
        let (first, last) = (&p.meta().first_key, &p.meta().last_key);
        !overlaps(&version.base, first, last)
            // Range deletes would hide it, once it lies below them.
            && version.runs.iter().all(|r| {
                !overlaps(&r.row, first, last) && !r.ranges.active.reaches(first, last)
            })
    })
}
