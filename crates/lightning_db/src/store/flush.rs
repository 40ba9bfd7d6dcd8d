//! Sealed memtables to runs.
//!
//! 1. Oldest first, so that runs stay in order of age.
//! 2. Before the edit names a run, the log is durable past the run's highest number; otherwise a
//!    power cut could keep one keyspace's half of a commit.
//! 3. Without a log, all keyspaces were sealed at one number and are published in one edit.
//! 4. The version in which the run replaces its memtable appears in one step.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::error::Result;
use crate::manifest::{Edit, EditOp, RunMeta};
use crate::memtable::{Memtable, MemtableCursor};
use crate::store::chain::{Folding, Older};
use crate::store::dictionaries;
use crate::store::environment::Environment;
use crate::store::keyspace::KeyspaceStore;
use crate::store::merge_entries::{Tally, merge_until};
use crate::store::merge_ranges::{self, MergeRanges};
use crate::store::range_row::RunRanges;
use crate::store::retention::Retention;
use crate::store::row_writer::{RowWriter, discard};
use crate::store::source::Source;
use crate::store::version::{Row, Run, Version};
use crate::sync::atomic::Ordering;
use crate::tree::PartitionReader;
use crate::types::{RunId, SegmentId, Seq};

/// The last commit of a sealed memtable.
fn sealed_at(memtable: &Memtable) -> Seq {
    memtable.last_seq().expect("only sealed memtables are flushed")
}

struct Flushed {
    keyspace: Arc<KeyspaceStore>,
    memtable: Arc<Memtable>,
    partitions: Vec<Arc<PartitionReader>>,
    ranges: RunRanges,
    run: RunId,
}

impl Flushed {
    /// Removes its files.
    fn discard(&self, env: &Environment) {
        discard(&self.partitions, &[], env);
        discard(&self.ranges.row.partitions, &[], env);
    }

    fn is_empty(&self) -> bool {
        self.partitions.is_empty() && self.ranges.active.is_empty()
    }
}

/// Flushes the oldest sealed memtable of each of `keyspaces` (with a log: of one) in one edit.
/// Tells whether there was one. Callers hold the flush latches.
pub fn flush_oldest(env: &Environment, keyspaces: &[Arc<KeyspaceStore>]) -> Result<bool> {
    env.check_writable()?;
    let rule = env.retention();
    let oldest =
        keyspaces.iter().filter_map(|k| k.version().sealed.last().map(|m| sealed_at(m))).min();
    let Some(oldest) = oldest else { return Ok(false) };
    let mut flushed = Vec::new();
    for keyspace in keyspaces {
        let version = keyspace.pin();
        let Some(memtable) = version.sealed.last().filter(|m| sealed_at(m) == oldest) else {
            continue;
        };
        match write_run(env, keyspace, &version, memtable, &rule) {
            Ok((partitions, ranges)) => flushed.push(Flushed {
                keyspace: Arc::clone(keyspace),
                memtable: Arc::clone(memtable),
                partitions,
                ranges,
                run: env.new_run(),
            }),
            Err(e) => {
                discard_all(env, &flushed);
                return Err(e);
            }
        }
    }
    let result = publish(env, &flushed);
    if result.is_err() {
        discard_all(env, &flushed);
    }
    result.map(|()| true)
}

fn discard_all(env: &Environment, flushed: &[Flushed]) {
    for f in flushed {
        f.discard(env);
    }
}

fn write_run(
    env: &Environment,
    keyspace: &KeyspaceStore,
    version: &Version,
    memtable: &Arc<Memtable>,
    rule: &Retention,
) -> Result<(Vec<Arc<PartitionReader>>, RunRanges)> {
    let list = Arc::new(merge_ranges::of_memtable(memtable.range_deletes(), rule));
    let mut ranges = MergeRanges::new([Arc::clone(&list)], rule);
    let mut source = [Source::Memtable(MemtableCursor::new(Arc::clone(memtable)))];
    source[0].first()?;
    let mut out = RowWriter::new(env, keyspace, None);
    out.end_with(&version.base);
    // Half of what it holds is what it may pack to.
    out.pack_with(dictionaries::for_flush(keyspace, memtable.bytes() as u64 / 2));
    let older = Older::rows(&version.runs, &version.base);
    // The blob segments that the edit names are those of the memtable.
    let folding = Folding::new(env, keyspace, older, false);
    let mut tally = Tally::new(env, None);
    merge_until(&mut source, &mut ranges, None, rule, &folding, &mut out, &mut tally)?;
    let list = merge_ranges::to_write(&list, rule, &version.runs, version);
    let ranges = RunRanges::write(env, keyspace, list)?;
    let partitions = out.finish().inspect_err(|_| discard(&ranges.row.partitions, &[], env))?;
    Ok((partitions, ranges))
}

/// The edit that names flushed runs, and the blob segments it names. Everything it names is durable
/// when this returns.
fn prepare(
    env: &Environment,
    flushed: &[Flushed],
    recovered: bool,
) -> Result<(Edit, Vec<(SegmentId, u64)>)> {
    let mut edit = Edit { ops: Vec::new() };
    let Some(high) = flushed.iter().map(|f| sealed_at(&f.memtable)).max() else {
        return Ok((edit, Vec::new()));
    };
    // Recovered commits are in the log that is being replaced, which need not be durable.
    if let Some(log) = env.log.as_ref().filter(|_| !recovered) {
        log.sync_to(high)?;
    }
    let blob_ids: BTreeSet<SegmentId> =
        flushed.iter().flat_map(|f| f.memtable.blob_segments()).collect();
    env.blobs.sync()?;
    let new_blobs = env.blobs.seal_for_edit(&blob_ids)?;
    for (id, bytes) in &new_blobs {
        edit.ops.push(EditOp::AddBlobSegment { id: *id, bytes: *bytes });
    }
    for f in flushed {
        if !f.is_empty() {
            edit.ops.push(EditOp::AddRun {
                keyspace: f.keyspace.id,
                run: RunMeta {
                    id: f.run,
                    partitions: f.partitions.iter().map(|p| p.meta().clone()).collect(),
                    consumed: Vec::new(),
                    low: f.memtable.first_seq(),
                    high: sealed_at(&f.memtable),
                },
            });
        }
        if !f.ranges.active.is_empty() {
            let (keyspace, partitions) = (f.keyspace.id, f.ranges.metas());
            edit.ops.push(EditOp::SetRanges { keyspace, run: f.run, partitions });
        }
        edit.ops.push(EditOp::Flushed { keyspace: f.keyspace.id, seq: sealed_at(&f.memtable) });
    }
    edit.ops.push(EditOp::LastSeq(high));
    Ok((edit, new_blobs))
}

/// Makes flushed runs true.
fn publish(env: &Environment, flushed: &[Flushed]) -> Result<()> {
    let _naming = env.blobs.naming();
    let (edit, new_blobs) = prepare(env, flushed, false)?;
    env.publish(edit, || {
        for f in flushed {
            show(f);
        }
    })?;
    for (id, _) in &new_blobs {
        env.blobs.named(*id);
    }
    let written = flushed.iter().flat_map(|f| f.partitions.iter().chain(&*f.ranges.row.partitions));
    let bytes: u64 = written.map(|p| p.meta().live_bytes).sum();
    env.counters.flushes.fetch_add(flushed.len() as u64, Ordering::Relaxed);
    env.counters.flushed_bytes.fetch_add(bytes, Ordering::Relaxed);
    Ok(())
}

/// For recovery: writes every sealed memtable out as a run, shows the runs, and gives the edit that
/// the fresh manifest is to contain.
pub fn flush_recovered(env: &Environment, keyspaces: &[Arc<KeyspaceStore>]) -> Result<Edit> {
    let rule = env.retention();
    let mut flushed = Vec::new();
    for keyspace in keyspaces {
        let version = keyspace.pin();
        let Some(memtable) = version.sealed.last() else { continue };
        let (partitions, ranges) = write_run(env, keyspace, &version, memtable, &rule)?;
        flushed.push(Flushed {
            keyspace: Arc::clone(keyspace),
            memtable: Arc::clone(memtable),
            partitions,
            ranges,
            run: env.new_run(),
        });
    }
    let (edit, _) = prepare(env, &flushed, true)?;
    flushed.iter().for_each(show);
    Ok(edit)
}

fn show(f: &Flushed) {
    f.keyspace.update(|v| {
        let mut next = v.clone();
        next.sealed.retain(|m| !Arc::ptr_eq(m, &f.memtable));
        if !f.is_empty() {
            let row = Row { partitions: f.partitions.clone().into() };
            let live_bytes = row.live_bytes() + f.ranges.row.live_bytes();
            next.runs.insert(
                0,
                Arc::new(Run {
                    id: f.run,
                    low: f.memtable.first_seq(),
                    high: sealed_at(&f.memtable),
                    row,
                    consumed: Vec::new(),
                    ranges: f.ranges.clone(),
                    live_bytes,
                }),
            );
        }
        next
    });
}
