//! Partitions of runs that become part of the base as they are.
//!
//! 1. Nothing older overlaps it, so that every read finds in it what it found before.
//! 2. No range delete of its own run or of an older one reaches it: below them it would be hidden.
//! 3. The caller holds the keyspace's merge latch.

use std::sync::Arc;

use crate::error::Result;
use crate::manifest::{Edit, EditOp};
use crate::store::environment::Environment;
use crate::store::keyspace::KeyspaceStore;
use crate::store::merge::overlaps;
use crate::store::version::{Row, Run, Version};
use crate::sync::atomic::Ordering;
use crate::tree::PartitionReader;
use crate::types::{PartitionId, RunId};

/// Moves a partition of a run to the base.
pub fn adopt(
    env: &Environment,
    keyspace: &KeyspaceStore,
    run_id: RunId,
    id: PartitionId,
) -> Result<bool> {
    let version = keyspace.pin();
    let Some(at) = version.runs.iter().position(|r| r.id == run_id) else { return Ok(false) };
    let run = &version.runs[at];
    let Some(partition) = run.row.partitions.iter().find(|p| p.meta().id == id).cloned() else {
        return Ok(false);
    };
    if !can_move_to_base(&version, at, &partition) {
        return Ok(false);
    }
    let left: Vec<_> = run.row.partitions.iter().filter(|p| p.meta().id != id).cloned().collect();
    let mut edit = Edit { ops: Vec::new() };
    let rest = if left.is_empty() && run.ranges.active.is_empty() {
        edit.ops.push(EditOp::RemoveRun { keyspace: keyspace.id, run: run_id });
        None
    } else {
        let rest = Run {
            id: run.id,
            low: run.low,
            high: run.high,
            row: Row { partitions: left.into() },
            consumed: run.consumed.clone(),
            ranges: run.ranges.clone(),
            live_bytes: run.live_bytes.saturating_sub(partition.meta().live_bytes),
        };
        edit.ops.push(EditOp::SetRun { keyspace: keyspace.id, run: rest.meta() });
        Some(Arc::new(rest))
    };
    edit.ops.push(EditOp::ReplaceBase {
        keyspace: keyspace.id,
        removed: Vec::new(),
        added: vec![partition.meta().clone()],
    });
    env.publish(edit, || {
        keyspace.update(|v| {
            let mut next = v.clone();
            let at = next.runs.iter().position(|r| r.id == run_id).expect("merge latch is held");
            match &rest {
                Some(run) => next.runs[at] = Arc::clone(run),
                None => {
                    next.runs.remove(at);
                }
            }
            let at = next.base.first_ending_at_or_after(&partition.meta().first_key);
            let mut base = next.base.partitions.to_vec();
            base.insert(at, Arc::clone(&partition));
            next.base.partitions = base.into();
            next
        });
    })?;
    env.counters.adopted_partitions.fetch_add(1, Ordering::Relaxed);
    Ok(true)
}

/// Whether a partition of the run at `at` overlaps nothing older and is whole. Range deletes of its own run
/// and of older ones would hide it once it lies below them.
pub fn can_move_to_base(version: &Version, at: usize, partition: &PartitionReader) -> bool {
    let m = partition.meta();
    m.tombstones == 0
        && !version.runs[at..].iter().any(|r| r.ranges.active.reaches(&m.first_key, &m.last_key))
        && !overlaps(&version.base, &m.first_key, &m.last_key)
        && version.runs[at + 1..].iter().all(|r| !overlaps(&r.row, &m.first_key, &m.last_key))
        && !version.runs[at].consumed.iter().any(|c| c.overlaps(&m.first_key, &m.last_key))
}
