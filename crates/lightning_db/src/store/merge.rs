//! Merges: runs with each other, runs into the base, renewal of base partitions.
//!
//! 1. Only neighbours in age are merged, newest first among the inputs.
//! 2. Into the base go, at every key, the oldest runs first: a base merge of a range takes every
//!    run there is at its start, and records the range as consumed in those that reach beyond it.
//! 3. A leaf that no newer entry touches keeps its place; a partition that overlaps nothing in the
//!    job is taken over whole.
//! 4. Segments belong to one partition: leaves are kept only where the result is one partition.
//! 5. A job that fails or gives up leaves the version as it was and removes what it wrote.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::cache::Pager;
use crate::error::Result;
use crate::manifest::{Edit, EditOp, KeyInterval, RunMeta};
use crate::store::adopt::adopt;
use crate::store::chain::{Folding, Older};
use crate::store::dictionaries;
use crate::store::environment::Environment;
use crate::store::keep_rule::KeepRule;
use crate::store::keyspace::KeyspaceStore;
use crate::store::merge_entries::{Tally, merge_until, smallest};
use crate::store::merge_ranges::{self, MergeRanges};
use crate::store::profile::Limits;
use crate::store::range_row::RunRanges;
use crate::store::retention::Retention;
use crate::store::row_writer::{RowWriter, discard};
use crate::store::source::{RowCursor, Source};
use crate::store::version::{Row, Run, Version};
use crate::sync::atomic::Ordering;
use crate::tree::{CursorOptions, PartitionReader, SpanEnd};
use crate::types::{PartitionId, RunId, SegmentId};

/// Merges leave the page cache as it is.
const FOR_MERGES: CursorOptions = CursorOptions { uncached: true, read_ahead: 8 };

/// A piece of background work.
#[derive(Debug, Clone, PartialEq)]
pub enum Job {
    /// Merge adjacent runs (newest first) into one.
    Tier(Vec<RunId>),
    /// Renew these base partitions with everything that the runs hold in `range`.
    Base {
        /// The keys to renew.
        range: KeyInterval,
        /// The base partitions inside it.
        partitions: Vec<PartitionId>,
        /// Whether every page is to be written anew.
        whole: bool,
    },
    /// Move a partition of a run to the base as it is.
    Adopt(RunId, PartitionId),
    /// Rewrite the partitions that refer to these blob segments, moving the values that live.
    CleanBlobs(BTreeSet<SegmentId>),
}

/// Carries out one job. The caller holds the keyspace's merge latch. Tells whether anything was
/// done (a job can be out of date).
pub fn run_job(env: &Environment, keyspace: &KeyspaceStore, job: &Job) -> Result<bool> {
    env.check_writable()?;
    let started = env.now();
    let done = match job {
        Job::Tier(runs) => tier(env, keyspace, runs, None),
        Job::Base { range, partitions, whole } => {
            base(env, keyspace, range, partitions, *whole, None)
        }
        Job::Adopt(run, partition) => adopt(env, keyspace, *run, *partition),
        Job::CleanBlobs(segments) => clean_blobs(env, keyspace, segments),
    }?;
    let nanos = env.now().saturating_sub(started).as_nanos() as u64;
    env.counters.merge_nanos.fetch_add(nanos, Ordering::Relaxed);
    Ok(done)
}

fn written_bytes(new: &[Arc<PartitionReader>], old: &[Arc<PartitionReader>]) -> u64 {
    let old_ids: BTreeSet<SegmentId> =
        old.iter().flat_map(|p| &p.meta().segments).map(|s| s.id).collect();
    new.iter()
        .flat_map(|p| &p.meta().segments)
        .filter(|s| !old_ids.contains(&s.id))
        .map(|s| s.file_bytes)
        .sum()
}

fn tier(
    env: &Environment,
    keyspace: &KeyspaceStore,
    ids: &[RunId],
    clean: Option<&BTreeSet<SegmentId>>,
) -> Result<bool> {
    let version = keyspace.pin();
    let Some(at) = version.runs.iter().position(|r| Some(&r.id) == ids.first()) else {
        return Ok(false);
    };
    let inputs = &version.runs[at..version.runs.len().min(at + ids.len())];
    if inputs.iter().map(|r| r.id).ne(ids.iter().copied()) {
        return Ok(false);
    }
    let rule = env.retention();
    let older = Older::rows(&version.runs[at + ids.len()..], &version.base);
    let folding = Folding::new(env, keyspace, older, true);
    let lists = inputs.iter().map(|r| Arc::clone(&r.ranges.active));
    let mut ranges = MergeRanges::new(lists, &rule);
    let mut sources = Vec::with_capacity(inputs.len());
    for (i, run) in inputs.iter().enumerate() {
        let row = ranges.alive(i, &run.row);
        let cursor = RowCursor::new(row, &run.consumed, env.pager.clone(), FOR_MERGES);
        let mut source = Source::Row(Box::new(cursor));
        source.first()?;
        sources.push(source);
    }
    let mut out = RowWriter::new(env, keyspace, None);
    out.end_with(&version.base);
    let mut tally = Tally::stoppable(env, clean);
    let alone =
        if clean.is_some() || ids.len() == 1 { Vec::new() } else { standalone(keyspace, inputs) };
    let adopted = alone.len() as u64;
    let stays = |p: &Arc<PartitionReader>| !alone.iter().any(|(_, a)| Arc::ptr_eq(a, p));
    let merged: Vec<Vec<Arc<PartitionReader>>> = inputs
        .iter()
        .map(|r| r.row.partitions.iter().filter(|p| stays(p)).cloned().collect())
        .collect();
    // What is overwritten goes, so no more than the largest input is sure to be written.
    let bytes =
        |row: &Vec<Arc<PartitionReader>>| row.iter().map(|p| p.meta().live_bytes).sum::<u64>();
    let written = merged.iter().map(bytes).max().unwrap_or(0);
    out.pack_with(dictionaries::for_merge(env, keyspace, &merged.concat(), written));
    for (source, partition) in alone {
        let first = partition.meta().first_key.clone();
        let upper = Some(first.as_slice());
        merge_until(&mut sources, &mut ranges, upper, &rule, &folding, &mut out, &mut tally)?;
        let mut past = partition.meta().last_key.clone();
        past.push(0);
        out.take_over(partition)?;
        sources[source].seek(&past)?;
    }
    merge_until(&mut sources, &mut ranges, None, &rule, &folding, &mut out, &mut tally)?;
    let list = merge_ranges::of_runs(inputs, &rule);
    let list = merge_ranges::to_write(&list, &rule, &version.runs[at + ids.len()..], &version);
    let new_ranges = RunRanges::write(env, keyspace, list)?;
    let row = out.finish().inspect_err(|_| discard(&new_ranges.row.partitions, &[], env))?;
    let new: Vec<_> = row.iter().chain(&*new_ranges.row.partitions).cloned().collect();
    let old: Vec<_> = inputs.iter().flat_map(|r| r.partitions().cloned()).collect();
    let run = RunMeta {
        id: env.new_run(),
        partitions: row.iter().map(|p| p.meta().clone()).collect(),
        consumed: Vec::new(),
        low: inputs.iter().map(|r| r.low).min().expect("a tier has runs"),
        high: inputs.iter().map(|r| r.high).max().expect("a tier has runs"),
    };
    let mut edit = Edit { ops: Vec::new() };
    let wrote_blobs = clean.is_some() || folding.wrote_blobs.get();
    let _naming = wrote_blobs.then(|| env.blobs.naming());
    let named = name_new_blobs(env, &new, wrote_blobs, &mut edit)
        .inspect_err(|_| discard(&new, &old, env))?;
    edit.ops.push(EditOp::ReplaceRuns {
        keyspace: keyspace.id,
        removed: ids.to_vec(),
        added: (!new.is_empty()).then(|| run.clone()),
    });
    if !new_ranges.active.is_empty() {
        let (keyspace, partitions) = (keyspace.id, new_ranges.metas());
        edit.ops.push(EditOp::SetRanges { keyspace, run: run.id, partitions });
    }
    let shown = env.publish(edit, || {
        keyspace.update(|v| {
            let mut next = v.clone();
            let at = next.runs.iter().position(|r| r.id == ids[0]).expect("merge latch is held");
            next.runs.drain(at..at + ids.len());
            if !new.is_empty() {
                let row = Row { partitions: row.clone().into() };
                let live_bytes = row.live_bytes() + new_ranges.row.live_bytes();
                let run = Run {
                    id: run.id,
                    low: run.low,
                    high: run.high,
                    row,
                    consumed: Vec::new(),
                    ranges: new_ranges.clone(),
                    live_bytes,
                };
                next.runs.insert(at, Arc::new(run));
            }
            next
        });
    });
    if let Err(e) = shown {
        discard(&new, &old, env);
        return Err(e);
    }
    for id in named {
        env.blobs.named(id);
    }
    env.release(&old, &new);
    env.counters.tier_merges.fetch_add(1, Ordering::Relaxed);
    env.counters.adopted_partitions.fetch_add(adopted, Ordering::Relaxed);
    env.counters.merged_bytes.fetch_add(written_bytes(&new, &old), Ordering::Relaxed);
    Ok(true)
}

/// Large partitions of `runs` that overlap no other input, of which no newer one deletes a range in them,
/// and that need no rewriting, by key, each with
/// the index of its run.
fn standalone(keyspace: &KeyspaceStore, runs: &[Arc<Run>]) -> Vec<(usize, Arc<PartitionReader>)> {
    let mut found = Vec::new();
    for (i, run) in runs.iter().enumerate() {
        for p in &*run.row.partitions {
            let m = p.meta();
            let large = m.live_bytes >= keyspace.options.partition_bytes() / 4;
            let clear = runs
                .iter()
                .enumerate()
                .all(|(j, r)| j == i || !overlaps(&r.row, &m.first_key, &m.last_key));
            let deleted =
                runs[..i].iter().any(|r| r.ranges.active.reaches(&m.first_key, &m.last_key));
            let whole = !run.consumed.iter().any(|c| c.overlaps(&m.first_key, &m.last_key));
            if large && clear && whole && !deleted && m.droppable.is_empty() {
                found.push((i, Arc::clone(p)));
            }
        }
    }
    found.sort_by(|a, b| a.1.meta().first_key.cmp(&b.1.meta().first_key));
    found
}

/// Whether a partition of `row` reaches into `first..=last`.
pub fn overlaps(row: &Row, first: &[u8], last: &[u8]) -> bool {
    let i = row.first_ending_at_or_after(first);
    row.partitions.get(i).is_some_and(|p| p.meta().first_key.as_slice() <= last)
}

/// Seals and names the blob segments that the job wrote to, if it did.
fn name_new_blobs(
    env: &Environment,
    new: &[Arc<PartitionReader>],
    wrote_blobs: bool,
    edit: &mut Edit,
) -> Result<Vec<SegmentId>> {
    if !wrote_blobs {
        return Ok(Vec::new());
    }
    let ids: BTreeSet<SegmentId> =
        new.iter().flat_map(|p| &p.meta().blobs).map(|b| b.segment).collect();
    let fresh = env.blobs.seal_for_edit(&ids)?;
    for (id, bytes) in &fresh {
        edit.ops.push(EditOp::AddBlobSegment { id: *id, bytes: *bytes });
    }
    Ok(fresh.into_iter().map(|(id, _)| id).collect())
}

fn base(
    env: &Environment,
    keyspace: &KeyspaceStore,
    range: &KeyInterval,
    ids: &[PartitionId],
    whole: bool,
    clean: Option<&BTreeSet<SegmentId>>,
) -> Result<bool> {
    let version = keyspace.pin();
    let old: Vec<Arc<PartitionReader>> =
        version.base.partitions.iter().filter(|p| ids.contains(&p.meta().id)).cloned().collect();
    if old.len() != ids.len() {
        return Ok(false);
    }
    let rule = env.retention();
    let lists = version.runs.iter().map(|r| Arc::clone(&r.ranges.active));
    let mut ranges = MergeRanges::new(lists, &rule);
    let mut sources = Vec::with_capacity(version.runs.len() + 1);
    let (mut updates, mut largest) = (0, 0);
    let mut inputs = old.clone();
    for (i, run) in version.runs.iter().enumerate() {
        let bytes = stacked_in(run, range, &env.pager)?;
        updates += bytes;
        largest = bytes.max(largest);
        let inside =
            |p: &&Arc<PartitionReader>| range.overlaps(&p.meta().first_key, &p.meta().last_key);
        inputs.extend(run.row.partitions.iter().filter(inside).cloned());
        let row = ranges.alive(i, &run.row);
        let cursor = RowCursor::new(row, &run.consumed, env.pager.clone(), FOR_MERGES);
        let mut source = Source::Row(Box::new(cursor));
        source.seek(&range.start)?;
        sources.push(source);
    }
    let limits = Limits::of(keyspace.options.profile);
    let adoptable = !whole && clean.is_none() && old.len() == 1 && {
        let m = old[0].meta();
        let file: u64 = m.segments.iter().map(|s| s.file_bytes).sum();
        m.segments.len() < 3
            && m.droppable.is_empty()
            // Kept leaves of a partition that was ingested count as settled from now on.
            && rule.settles(m.ingested)
            && (file - m.live_bytes.min(file)) * 100 < file * limits.dead_percent
            && m.live_bytes + updates <= 2 * keyspace.options.partition_bytes()
    };
    let folding = Folding::new(env, keyspace, Older::none(), true);
    let mut out = RowWriter::new(env, keyspace, adoptable.then(|| Arc::clone(&old[0])));
    // Leaves that are kept are not written, and what is overwritten goes.
    let kept: u64 = old.iter().map(|p| p.meta().live_bytes).sum();
    let written = if adoptable { largest } else { largest.max(kept) };
    out.pack_with(dictionaries::for_merge(env, keyspace, &inputs, written));
    if old.len() > 1 && updates == 0 {
        // Divided, small neighbours would be joined again for ever: the boundary is set by what a
        // leaf holds before it is packed, the judgement that both are small by what it packs to.
        out.keep_together();
    }
    let mut tally = Tally::stoppable(env, clean);
    let end = range.end.as_deref();
    let mut adopted = 0;
    let row = ranges.alive(version.runs.len(), &Row { partitions: old.clone().into() });
    let adoptable = adoptable && !row.partitions.is_empty();
    sources.push(Source::Row(Box::new(RowCursor::new(row, &[], env.pager.clone(), FOR_MERGES))));
    let last = sources.len() - 1;
    if adoptable {
        let m = old[0].meta();
        let leaves = m.raw_bytes / u64::from(keyspace.options.page_bytes);
        let hits = u128::from(updates) * u128::from(m.entries) / u128::from(m.live_bytes.max(1));
        let hits = u64::try_from(hits).unwrap_or(u64::MAX);
        let mut keep = KeepRule::new(limits.keep_percent, leaves, hits);
        let state = (&mut sources[..], &mut ranges, &mut keep);
        adopted = renew(env, &old[0], end, state, (&rule, &folding), &mut out, &mut tally)?;
    } else {
        sources[last].first()?;
    }
    merge_until(&mut sources, &mut ranges, end, &rule, &folding, &mut out, &mut tally)?;
    let new = out.finish()?;
    let wrote_blobs = clean.is_some() || folding.wrote_blobs.get();
    publish_base(env, keyspace, &version, range, &old, &new, wrote_blobs)
        .inspect_err(|_| discard(&new, &old, env))?;
    env.counters.base_merges.fetch_add(1, Ordering::Relaxed);
    env.counters.adopted_leaves.fetch_add(adopted, Ordering::Relaxed);
    env.counters.merged_bytes.fetch_add(written_bytes(&new, &old), Ordering::Relaxed);
    Ok(true)
}

/// Renews one partition leaf by leaf, keeping those that nothing touches where `keep` says so. The
/// partition's own source is the last of `sources`; it is left past the last leaf.
fn renew(
    env: &Environment,
    old: &Arc<PartitionReader>,
    end: Option<&[u8]>,
    (sources, ranges, keep): (&mut [Source], &mut MergeRanges, &mut KeepRule),
    (rule, folding): (&Retention, &Folding<'_>),
    out: &mut RowWriter<'_>,
    tally: &mut Tally<'_>,
) -> Result<u64> {
    let mut adopted = 0;
    let last = sources.len() - 1;
    let mut placed = false;
    for span in old.leaves(&env.pager) {
        let span = span?;
        let upper = match &span.end {
            SpanEnd::Before(key) => Some(key.as_slice()),
            // The last leaf takes what follows it, up to the end of the range.
            SpanEnd::UpTo(_) => end,
        };
        let updates = &sources[..last];
        let touched = smallest(updates).is_some_and(|i| upper.is_none_or(|u| updates[i].key() < u))
            || ranges.reach(last, span.start(), upper)
            || span.earliest_expiry().is_over(rule.expired());
        if keep.keeps(touched) && out.partition()?.can_adopt(&span) {
            out.partition()?.adopt(&span, old, &env.pager)?;
            adopted += span.leaves.len() as u64;
            placed = false;
            continue;
        }
        if touched && ranges.is_dead_below(last, span.start(), upper) {
            // Nothing of the leaf is left: it is not read.
            merge_until(&mut sources[..last], ranges, upper, rule, folding, out, tally)?;
            placed = false;
            continue;
        }
        if !placed {
            sources[last].seek(span.start())?;
            placed = true;
        }
        merge_until(sources, ranges, upper, rule, folding, out, tally)?;
    }
    if !placed {
        let mut past = old.meta().last_key.clone();
        past.push(0);
        sources[last].seek(&past)?;
    }
    Ok(adopted)
}

/// The estimated bytes of `run` inside `range` that the base does not have yet.
pub fn stacked_in(run: &Run, range: &KeyInterval, pager: &Pager) -> Result<u64> {
    let mut bytes = 0;
    for p in run.row.within(&range.start, range.end.as_deref()) {
        let m = p.meta();
        let inside = range.contains(&m.first_key) && range.contains(&m.last_key);
        let mut own = if inside {
            m.live_bytes
        } else {
            p.estimate_bytes(pager, &range.start, range.end.as_deref())?
        };
        for c in &run.consumed {
            if !c.overlaps(&m.first_key, &m.last_key) {
                continue;
            }
            let start = c.start.as_slice().max(&range.start);
            let end = match (c.end.as_deref(), range.end.as_deref()) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            if end.is_none_or(|e| start < e) {
                own = own.saturating_sub(p.estimate_bytes(pager, start, end)?);
            }
        }
        bytes += own;
    }
    Ok(bytes)
}

/// Makes the renewed range current: base partitions replaced, runs relieved of the range. Where
/// this fails, the caller discards `new`.
fn publish_base(
    env: &Environment,
    keyspace: &KeyspaceStore,
    version: &Version,
    range: &KeyInterval,
    old: &[Arc<PartitionReader>],
    new: &[Arc<PartitionReader>],
    wrote_blobs: bool,
) -> Result<()> {
    let mut edit = Edit { ops: Vec::new() };
    let _naming = wrote_blobs.then(|| env.blobs.naming());
    let named = name_new_blobs(env, new, wrote_blobs, &mut edit)?;
    edit.ops.push(EditOp::ReplaceBase {
        keyspace: keyspace.id,
        removed: old.iter().map(|p| p.meta().id).collect(),
        added: new.iter().map(|p| p.meta().clone()).collect(),
    });
    let mut gone: Vec<Arc<PartitionReader>> = old.to_vec();
    let mut relieved: Vec<(RunId, Option<Arc<Run>>)> = Vec::new();
    for run in &version.runs {
        if !run.reaches(range) {
            continue;
        }
        let mut consumed = run.consumed.clone();
        range.clone().merge_into(&mut consumed);
        let (used_up, left): (Vec<_>, Vec<_>) = run.row.partitions.iter().cloned().partition(|p| {
            crate::manifest::covers(&consumed, &p.meta().first_key, &p.meta().last_key)
        });
        gone.extend(used_up);
        let ranges = run.ranges.without(&consumed);
        let used_up = ranges.active.is_empty();
        if used_up {
            gone.extend(run.ranges.row.partitions.iter().cloned());
        }
        if left.is_empty() && used_up {
            edit.ops.push(EditOp::RemoveRun { keyspace: keyspace.id, run: run.id });
            relieved.push((run.id, None));
            continue;
        }
        let mut rest = Run {
            id: run.id,
            low: run.low,
            high: run.high,
            row: Row { partitions: left.into() },
            consumed,
            ranges,
            live_bytes: 0,
        };
        let everything = KeyInterval { start: Vec::new(), end: None };
        rest.live_bytes =
            stacked_in(&rest, &everything, &env.pager)? + rest.ranges.row.live_bytes();
        edit.ops.push(EditOp::SetRun { keyspace: keyspace.id, run: rest.meta() });
        if used_up && !run.ranges.row.partitions.is_empty() {
            let (keyspace, partitions) = (keyspace.id, Vec::new());
            edit.ops.push(EditOp::SetRanges { keyspace, run: run.id, partitions });
        }
        relieved.push((run.id, Some(Arc::new(rest))));
    }
    env.publish(edit, || {
        keyspace.update(|v| {
            let mut next = v.clone();
            for (id, rest) in &relieved {
                let at = next.runs.iter().position(|r| r.id == *id).expect("merge latch is held");
                match rest {
                    Some(run) => next.runs[at] = Arc::clone(run),
                    None => {
                        next.runs.remove(at);
                    }
                }
            }
            let kept =
                next.base.partitions.iter().filter(|p| !old.iter().any(|o| Arc::ptr_eq(o, p)));
            let mut base: Vec<_> = kept.chain(new).cloned().collect();
            base.sort_by(|a, b| a.meta().first_key.cmp(&b.meta().first_key));
            next.base.partitions = base.into();
            next
        });
    })?;
    for id in named {
        env.blobs.named(id);
    }
    env.release(&gone, new);
    Ok(())
}

/// Renews every partition of the keyspace that refers to `segments`.
fn clean_blobs(
    env: &Environment,
    keyspace: &KeyspaceStore,
    segments: &BTreeSet<SegmentId>,
) -> Result<bool> {
    let refers = |p: &PartitionReader| p.meta().blobs.iter().any(|b| segments.contains(&b.segment));
    let mut done = false;
    loop {
        let version = keyspace.pin();
        if let Some(run) = version.runs.iter().find(|r| r.row.partitions.iter().any(|p| refers(p)))
        {
            if !tier(env, keyspace, &[run.id], Some(segments))? {
                return Ok(done);
            }
            done = true;
            continue;
        }
        let Some(p) = version.base.partitions.iter().find(|p| refers(p)) else {
            return Ok(done);
        };
        let m = p.meta();
        let mut end = m.last_key.clone();
        end.push(0);
        let range = KeyInterval { start: m.first_key.clone(), end: Some(end) };
        if !base(env, keyspace, &range, &[m.id], true, Some(segments))? {
            return Ok(done);
        }
        done = true;
    }
}
