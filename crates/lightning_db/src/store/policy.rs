//! Which merge is due: the one that lowers the cost of reads or space most.
//!
//! Runs are tiered, the base is leveled ("lazy leveling", Dostoevsky, SIGMOD 2018). Two figures of
//! the profile decide: how many bytes may be stacked in runs per byte of base, and how many runs of
//! like size gather before they are merged. A tombstone counts as much as the entry that it hides,
//! and a range delete as much as the partitions of the base that it hides, so that deletes alone bring
//! space back. In order:
//!
//! 1. a partition of the oldest runs that overlaps nothing older moves to the base as it is;
//! 2. too much is stacked, or too many runs: the base is renewed where most has gathered;
//! 3. enough runs of like size: they are merged;
//! 4. partitions with too many dead or droppable bytes are written anew; small neighbours joined.

use std::sync::Arc;

use crate::cache::Pager;
use crate::error::Result;
use crate::manifest::KeyInterval;
use crate::store::adopt::can_move_to_base;
use crate::store::keyspace::StoreOptions;
use crate::store::merge::{Job, stacked_in};
use crate::store::profile::Limits;
use crate::store::retention::LiveViews;
use crate::store::version::{Run, Version};
use crate::tree::PartitionReader;
use crate::types::Seq;

/// Stacked bytes with tombstones weighed as the entries that they hide.
pub fn effective_stack(version: &Version) -> u64 {
    let base_entries: u64 = version.base.partitions.iter().map(|p| p.meta().entries).sum();
    let average = version.base.live_bytes().checked_div(base_entries).unwrap_or(0);
    let tombstones: u64 =
        version.runs.iter().flat_map(|r| &*r.row.partitions).map(|p| p.meta().tombstones).sum();
    let base = &version.base.partitions;
    let hidden: u64 = base.iter().map(|p| hidden_bytes(&version.runs, p)).sum();
    version.stacked_bytes() + tombstones * average + hidden
}

/// The bytes of a base partition, if a range delete of a run hides all of it.
fn hidden_bytes(runs: &[Arc<Run>], p: &PartitionReader) -> u64 {
    let m = p.meta();
    let hides = |r: &Arc<Run>| r.ranges.active.covers(&m.first_key, &m.last_key, Seq(u64::MAX));
    if runs.iter().any(hides) { m.live_bytes } else { 0 }
}

/// So many memtables of a keyspace may wait to be flushed before writers are slowed in full.
pub const MAX_SEALED: usize = 4;

/// How far the keyspace is behind, in thousandths of what it takes before writers are slowed in
/// full: sealed memtables waiting, bytes stacked, runs.
pub fn pressure(version: &Version, options: &StoreOptions) -> (u32, &'static str) {
    let limits = Limits::of(options.profile);
    let sealed = version.sealed.len() as u64 * 1000 / MAX_SEALED as u64;
    let runs = version.runs.len() as u64 * 1000 / (limits.max_runs as u64 * 3);
    // A small database is never slowed for its stack: two write buffers are always allowed.
    let slack = 4 * options.write_buffer_bytes;
    let allowed = slack + version.base.live_bytes() * limits.stack_percent * 4 / 100;
    let stack = version.stacked_bytes() * 1000 / allowed.max(1);
    let worst = [
        (sealed, "memtables wait to be flushed"),
        (runs, "runs wait to be merged"),
        (stack, "bytes in runs wait to be merged into the base"),
    ]
    .into_iter()
    .max_by_key(|(p, _)| *p)
    .expect("three figures");
    (worst.0.min(1000) as u32, worst.1)
}

/// The merge that is due, if any.
pub fn next_job(
    version: &Version,
    options: &StoreOptions,
    pager: &Pager,
    views: &LiveViews,
) -> Result<Option<Job>> {
    if let Some(job) = movable(version, options) {
        return Ok(Some(job));
    }
    let limits = Limits::of(options.profile);
    let base = version.base.live_bytes();
    let stacked = effective_stack(version);
    if !version.runs.is_empty()
        && (stacked * 100 > base * limits.stack_percent || version.runs.len() > limits.max_runs)
    {
        // Cheap relief first: many small runs on a large base are merged with each other.
        if stacked * 100 <= base * limits.stack_percent
            && let Some(job) = tier_job(version, 2)
        {
            return Ok(Some(job));
        }
        if let Some(job) = fullest_range(version, options, pager)? {
            return Ok(Some(job));
        }
    }
    if let Some(job) = tier_job(version, limits.tier_width) {
        return Ok(Some(job));
    }
    Ok(cleaning_job(version, options, views))
}

/// A partition of a run that can become part of the base without being rewritten.
fn movable(version: &Version, options: &StoreOptions) -> Option<Job> {
    for (at, run) in version.runs.iter().enumerate().rev() {
        for p in &*run.row.partitions {
            let large = p.meta().live_bytes >= options.partition_bytes() / 4;
            if (large || version.base.partitions.is_empty()) && can_move_to_base(version, at, p) {
                return Some(Job::Adopt(run.id, p.meta().id));
            }
        }
    }
    None
}

/// `width` or more adjacent runs of like size, the smallest sizes first.
fn tier_job(version: &Version, width: usize) -> Option<Job> {
    let size = |r: &Run| r.live_bytes.max(64 * 1024);
    let mut start = 0;
    while start < version.runs.len() {
        let mut end = start + 1;
        let mut sum = size(&version.runs[start]);
        // A run joins while it is not much larger than all before it on average.
        while end < version.runs.len() {
            let average = sum / (end - start) as u64;
            if size(&version.runs[end]) > average * 3 {
                break;
            }
            sum += size(&version.runs[end]);
            end += 1;
        }
        if end - start >= width {
            return Some(Job::Tier(version.runs[start..end].iter().map(|r| r.id).collect()));
        }
        start += 1;
    }
    None
}

/// The ranges of the base, one a partition; together they hold every key.
fn base_ranges(version: &Version) -> Vec<(KeyInterval, Option<&PartitionReader>)> {
    let partitions = &version.base.partitions;
    if partitions.is_empty() {
        return vec![(KeyInterval { start: Vec::new(), end: None }, None)];
    }
    (0..partitions.len())
        .map(|i| {
            let start = if i == 0 { Vec::new() } else { partitions[i].meta().first_key.clone() };
            let end = partitions.get(i + 1).map(|p| p.meta().first_key.clone());
            (KeyInterval { start, end }, Some(&*partitions[i]))
        })
        .collect()
}

/// Whether `run` holds anything in `range` that the base does not have yet.
fn is_pending(run: &Run, range: &KeyInterval) -> bool {
    // Those of range deletes are without what the base has.
    run.ranges.active.overlaps(&range.start, range.end.as_deref())
        || run.row.within(&range.start, range.end.as_deref()).iter().any(|p| {
            let m = p.meta();
            let low = m.first_key.as_slice().max(&range.start);
            !run.consumed.iter().any(|c| {
                let reaches = match (&c.end, &range.end) {
                    (None, _) => true,
                    (Some(a), Some(b)) if a >= b => true,
                    (Some(a), _) => *a > m.last_key,
                };
                c.start.as_slice() <= low && reaches
            })
        })
}

/// The range of the base with the most stacked per byte that its renewal writes. Only one with
/// something stacked will do: renewing another relieves nothing, and would be due again for ever.
fn fullest_range(version: &Version, options: &StoreOptions, pager: &Pager) -> Result<Option<Job>> {
    let mut best: Option<(u64, KeyInterval, Option<&PartitionReader>)> = None;
    for (range, partition) in base_ranges(version) {
        let mut stacked = 0;
        for run in version.runs.iter().filter(|r| is_pending(r, &range)) {
            stacked += 1 + stacked_in(run, &range, pager)?;
        }
        if stacked == 0 {
            continue;
        }
        stacked += partition.map_or(0, |p| hidden_bytes(&version.runs, p));
        let own = partition.map_or(0, |p| p.meta().live_bytes);
        let score = stacked.saturating_mul(1000) / (own + stacked).max(1);
        if best.as_ref().is_none_or(|(s, _, _)| score > *s) {
            best = Some((score, range, partition));
        }
    }
    let Some((_, range, partition)) = best else { return Ok(None) };
    let range = cut(version, options, range, partition);
    let partitions = partition.map(|p| vec![p.meta().id]).unwrap_or_default();
    Ok(Some(Job::Base { range, partitions, whole: false }))
}

/// Shortens a range that holds very much to what one job should write, where a boundary between
/// run partitions past the base partition allows it, and leaves something to merge.
fn cut(
    version: &Version,
    options: &StoreOptions,
    range: KeyInterval,
    partition: Option<&PartitionReader>,
) -> KeyInterval {
    let mut inside: Vec<&PartitionReader> = version
        .runs
        .iter()
        .flat_map(|r| &*r.row.partitions)
        .map(|p| &**p)
        .filter(|p| range.contains(&p.meta().first_key))
        .collect();
    inside.sort_by(|a, b| a.meta().first_key.cmp(&b.meta().first_key));
    let mut bytes = 0;
    for p in inside {
        let boundary = &p.meta().first_key;
        let past = partition.is_none_or(|b| b.meta().last_key < *boundary);
        if bytes >= 4 * options.partition_bytes() && past && *boundary > range.start {
            // All that lies before it may have been given to the base already.
            let before = KeyInterval { start: range.start.clone(), end: Some(boundary.clone()) };
            if version.runs.iter().any(|r| is_pending(r, &before)) {
                return before;
            }
        }
        bytes += p.meta().live_bytes;
    }
    range
}

/// The range that belongs to the base partition at `i`.
fn range_of(version: &Version, i: usize) -> KeyInterval {
    base_ranges(version).swap_remove(i).0
}

/// Partitions whose dead or droppable bytes are worth a rewrite, or that are worth joining.
fn cleaning_job(version: &Version, options: &StoreOptions, views: &LiveViews) -> Option<Job> {
    let limits = Limits::of(options.profile);
    for run in &version.runs {
        if run.row.partitions.iter().any(|p| wants_cleaning(p, &limits, views)) {
            return Some(Job::Tier(vec![run.id]));
        }
    }
    let base = &version.base.partitions;
    for (i, p) in base.iter().enumerate() {
        if wants_cleaning(p, &limits, views) {
            return Some(Job::Base {
                range: range_of(version, i),
                partitions: vec![p.meta().id],
                whole: true,
            });
        }
    }
    let small = options.partition_bytes() / 4;
    for i in 1..base.len() {
        let (a, b) = (base[i - 1].meta(), base[i].meta());
        if a.live_bytes < small && b.live_bytes < small {
            let range = KeyInterval {
                start: range_of(version, i - 1).start,
                end: range_of(version, i).end,
            };
            return Some(Job::Base { range, partitions: vec![a.id, b.id], whole: true });
        }
    }
    None
}

/// The next partitions that have pages under an older data key than `newest`, to be written anew.
pub fn aged_job(version: &Version, newest: u32) -> Option<Job> {
    let aged = |p: &PartitionReader| p.segments().iter().any(|s| s.is_aged(newest));
    if let Some(run) = version.runs.iter().find(|r| r.partitions().any(|p| aged(p))) {
        return Some(Job::Tier(vec![run.id]));
    }
    let i = version.base.partitions.iter().position(|p| aged(p))?;
    let partitions = vec![version.base.partitions[i].meta().id];
    Some(Job::Base { range: range_of(version, i), partitions, whole: true })
}

/// Whether a file is held for too little, or 10% is of no use to any view any more, or has expired.
fn wants_cleaning(p: &PartitionReader, limits: &Limits, views: &LiveViews) -> bool {
    let m = p.meta();
    let file: u64 = m.segments.iter().map(|s| s.file_bytes).sum();
    let dead = file.saturating_sub(m.live_bytes);
    // Headers and roundings of a tiny partition are not garbage.
    let has_dead = m.segments.len() > 1 && dead * 100 > file * limits.dead_percent;
    let useless = views.unseen(&m.droppable).saturating_add(m.lives.expired_bytes(views.expired));
    has_dead || useless.saturating_mul(10) > m.raw_bytes
}

/// The jobs that bring everything into the base, for `compact`: the first one that is left.
pub fn next_compaction(
    version: &Version,
    options: &StoreOptions,
    within: &KeyInterval,
) -> Option<Job> {
    if let Some(job) = movable(version, options) {
        return Some(job);
    }
    for (range, partition) in base_ranges(version) {
        let first = range.start.as_slice().max(&within.start);
        let beyond = |end: &Option<Vec<u8>>| end.as_ref().is_some_and(|e| e.as_slice() <= first);
        if beyond(&range.end) || beyond(&within.end) {
            continue;
        }
        let stacked = version.runs.iter().any(|r| is_pending(r, &range));
        if stacked {
            let range = cut(version, options, range, partition);
            let partitions = partition.map(|p| vec![p.meta().id]).unwrap_or_default();
            return Some(Job::Base { range, partitions, whole: true });
        }
    }
    None
}

/// For `compact`: the job that gives back what is dead in a base partition, if it is worth one.
pub fn tidy_job(p: &PartitionReader, within: &KeyInterval, views: &LiveViews) -> Option<Job> {
    let m = p.meta();
    let file: u64 = m.segments.iter().map(|s| s.file_bytes).sum();
    let dead = file.saturating_sub(m.live_bytes);
    let expired = m.lives.earliest().is_over(views.expired);
    let droppable = expired || views.unseen(&m.droppable) > 0;
    let worth = (m.segments.len() > 1 && dead * 20 > file) || droppable || m.tombstones > 0;
    if !worth || !within.overlaps(&m.first_key, &m.last_key) {
        return None;
    }
    let mut end = m.last_key.clone();
    end.push(0);
    let range = KeyInterval { start: m.first_key.clone(), end: Some(end) };
    Some(Job::Base { range, partitions: vec![m.id], whole: true })
}
