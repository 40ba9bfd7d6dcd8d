//! How an edit changes the state.
//!
//! 1. An edit fits or is refused: [`ManifestState::apply`] changes nothing where it is refused.
//! 2. What one operation can break by itself (an id that is not there, a number that goes back,
//!    what a run has given away and now takes back) is checked as it is applied; what the state
//!    must look like as a whole (rows in order, nothing used twice) once, after the edit, since
//!    within an edit a partition may lie in two rows while it moves.
//! 3. Reading a file replays its edits in place and checks the whole once, at the end.
//!
//! No I/O, no threads.

use std::collections::{BTreeMap, BTreeSet};

use super::edit::{Edit, EditOp, NextIds};
use super::interval::KeyInterval;
use super::state::{KeptLog, KeyspaceState, ManifestState, PartitionMeta, RunMeta};
use crate::codec::Malformed;
use crate::limits::{
    MAX_CURSOR_NAME_BYTES, MAX_CURSORS, MAX_KEY_BYTES, MAX_KEYSPACE_NAME_BYTES,
    MAX_WRITE_BUFFER_BYTES, PAGE_SIZES,
};
use crate::operators::check_name;
use crate::types::{KeyspaceId, LogId, RunId, Seq, Time};

type Applied = std::result::Result<(), Malformed>;

/// The most segments that a partition may have its pages in.
const MAX_PARTITION_SEGMENTS: usize = 3;
/// No count of bytes or entries of a partition, file or buffer is above this, so that sums and
/// percentages of many of them are numbers still.
const MAX_COUNT: u64 = 1 << 40;

impl ManifestState {
    /// Applies an edit; on an error the state is as it was.
    pub fn apply(&mut self, edit: &Edit) -> Applied {
        *self = self.applied(edit)?;
        Ok(())
    }

    /// The state after an edit.
    pub(super) fn applied(&self, edit: &Edit) -> Result<Self, Malformed> {
        let mut next = self.clone();
        next.replay(edit)?;
        next.check()?;
        Ok(next)
    }

    /// Applies an edit in place, without looking at the whole: after an error the state is to be
    /// thrown away, after the last edit it is to be [checked](Self::check).
    pub(super) fn replay(&mut self, edit: &Edit) -> Applied {
        for op in &edit.ops {
            self.replay_op(op)?;
        }
        self.edit = self.edit.checked_add(1).ok_or(Malformed("edits have run out of numbers"))?;
        Ok(())
    }

    /// An edit that, applied to an empty state, gives this one, but for the edit's number.
    pub fn snapshot_edit(&self) -> Edit {
        let mut ops = Vec::new();
        for k in self.keyspaces.values() {
            ops.push(EditOp::CreateKeyspace(KeyspaceState {
                ranges: BTreeMap::new(),
                ..k.clone()
            }));
            ops.extend(k.ranges.iter().map(|(run, partitions)| EditOp::SetRanges {
                keyspace: k.id,
                run: *run,
                partitions: partitions.clone(),
            }));
        }
        ops.extend(self.keyspaces.values().filter_map(|k| {
            let name = k.merge_operator.clone()?;
            Some(EditOp::SetMergeOperator { keyspace: k.id, name })
        }));
        let leveled = self.keyspaces.values().filter(|k| k.level.is_some());
        ops.extend(leveled.map(|k| EditOp::SetCompression {
            keyspace: k.id,
            codec: k.codec,
            level: k.level,
        }));
        let blobs = self.blob_segments.iter();
        ops.extend(blobs.map(|(id, bytes)| EditOp::AddBlobSegment { id: *id, bytes: *bytes }));
        ops.extend(
            self.keyspaces
                .values()
                .filter(|k| k.default_ttl > 0)
                .map(|k| EditOp::DefaultTtl { keyspace: k.id, millis: k.default_ttl }),
        );
        ops.extend((self.time > Time::BEFORE_ALL).then_some(EditOp::Time(self.time)));
        ops.extend(self.indexes.values().cloned().map(EditOp::SetIndex));
        ops.push(EditOp::LogStart(self.log_start));
        ops.push(EditOp::LastSeq(self.last_seq));
        ops.push(EditOp::NextIds(NextIds {
            segment: self.next_segment,
            partition: self.next_partition,
            run: self.next_run,
            keyspace: self.next_keyspace,
        }));
        if let Some(floor) = self.history_floor {
            ops.push(EditOp::History { floor, samples: self.times.samples().to_vec() });
        }
        let cursors = self.cursors.iter();
        ops.extend(cursors.map(|(name, seq)| EditOp::SetCursor { name: name.clone(), seq: *seq }));
        ops.extend(self.kept_logs.values().cloned().map(EditOp::KeepLog));
        Edit { ops }
    }

    fn keyspace_mut(&mut self, id: KeyspaceId) -> Result<&mut KeyspaceState, Malformed> {
        self.keyspaces.get_mut(&id).ok_or(Malformed("an edit names a keyspace that is not there"))
    }

    fn replay_op(&mut self, op: &EditOp) -> Applied {
        match op {
            EditOp::CreateKeyspace(k) => {
                if self.keyspaces.values().any(|o| o.id == k.id || o.name == k.name) {
                    return Err(Malformed("a keyspace is made twice"));
                }
                raise_32(&mut self.next_keyspace, k.id.0)?;
                self.note_ids(k.runs.iter().flat_map(|r| &r.partitions).chain(&k.base))?;
                for run in &k.runs {
                    raise(&mut self.next_run, run.id.0)?;
                }
                self.keyspaces.insert(k.id, k.clone());
            }
            EditOp::DropKeyspace(id) => {
                self.keyspace_mut(*id)?;
                self.keyspaces.remove(id);
            }
            EditOp::AddRun { keyspace, run } => {
                self.note_run(run)?;
                self.keyspace_mut(*keyspace)?.runs.insert(0, run.clone());
            }
            EditOp::Flushed { keyspace, seq } => {
                let k = self.keyspace_mut(*keyspace)?;
                if *seq < k.flushed {
                    return Err(Malformed("a keyspace's flushed number goes back"));
                }
                k.flushed = *seq;
            }
            EditOp::ReplaceRuns { keyspace, removed, added } => {
                if let Some(run) = added {
                    self.note_run(run)?;
                }
                replace_runs(self.keyspace_mut(*keyspace)?, removed, added.as_ref())?;
            }
            EditOp::SetRun { keyspace, run } => {
                self.note_run(run)?;
                let k = self.keyspace_mut(*keyspace)?;
                let at = run_at(k, run.id)?;
                set_run(&mut k.runs[at], run)?;
            }
            EditOp::RemoveRun { keyspace, run } => {
                let k = self.keyspace_mut(*keyspace)?;
                let at = run_at(k, *run)?;
                k.runs.remove(at);
                k.ranges.remove(run);
            }
            EditOp::ReplaceBase { keyspace, removed, added } => {
                self.note_ids(added.iter())?;
                let base = &mut self.keyspace_mut(*keyspace)?.base;
                for id in removed {
                    let at = base
                        .iter()
                        .position(|p| p.id == *id)
                        .ok_or(Malformed("an edit names a base partition that is not there"))?;
                    base.remove(at);
                }
                for p in added {
                    let at = base.partition_point(|o| o.first_key < p.first_key);
                    base.insert(at, p.clone());
                }
            }
            EditOp::SetRanges { keyspace, run, partitions } => {
                self.note_ids(partitions.iter())?;
                let k = self.keyspace_mut(*keyspace)?;
                run_at(k, *run)?;
                if partitions.is_empty() {
                    k.ranges.remove(run);
                } else {
                    k.ranges.insert(*run, partitions.clone());
                }
            }
            EditOp::LogStart(id) => {
                if *id != LogId(0) && *id < self.log_start {
                    return Err(Malformed("the log's start goes back"));
                }
                self.log_start = *id;
            }
            // Keyspaces are flushed in any order: an edit may know less than one before it.
            EditOp::LastSeq(seq) => self.last_seq = self.last_seq.max(*seq),
            EditOp::AddBlobSegment { id, bytes } => {
                raise(&mut self.next_segment, id.0)?;
                if self.blob_segments.insert(*id, *bytes).is_some() {
                    return Err(Malformed("a blob segment is added twice"));
                }
            }
            EditOp::RemoveBlobSegment(id) => {
                if self.blob_segments.remove(id).is_none() {
                    return Err(Malformed("an edit names a blob segment that is not there"));
                }
            }
            EditOp::NextIds(n) => {
                if n.segment < self.next_segment
                    || n.partition < self.next_partition
                    || n.run < self.next_run
                    || n.keyspace < self.next_keyspace
                {
                    return Err(Malformed("the next ids go back"));
                }
                self.next_segment = n.segment;
                self.next_partition = n.partition;
                self.next_run = n.run;
                self.next_keyspace = n.keyspace;
            }
            EditOp::DefaultTtl { keyspace, millis } => {
                self.keyspace_mut(*keyspace)?.default_ttl = *millis;
            }
            EditOp::Time(time) => {
                if *time > Time::LATEST {
                    return Err(Malformed("a clock is past the end of time"));
                }
                self.time = self.time.max(*time);
            }
            EditOp::SetMergeOperator { keyspace, name } => {
                let k = self.keyspace_mut(*keyspace)?;
                if k.merge_operator.as_ref().is_some_and(|had| had != name) {
                    return Err(Malformed("a keyspace's merge operator changes"));
                }
                if check_name(name).is_err() {
                    return Err(Malformed("a merge operator has an impossible name"));
                }
                k.merge_operator = Some(name.clone());
            }
            EditOp::History { floor, samples } => {
                if self.history_floor.is_some_and(|known| *floor < known) {
                    return Err(Malformed("the floor of the past goes back"));
                }
                self.history_floor = Some(*floor);
                for sample in samples {
                    if !self.times.note(*sample) {
                        return Err(Malformed("samples of time out of order"));
                    }
                }
                self.times.forget_before(*floor);
            }
            EditOp::SetCursor { name, seq } => {
                self.cursors.insert(name.clone(), *seq);
            }
            EditOp::DropCursor(name) => {
                if self.cursors.remove(name).is_none() {
                    return Err(Malformed("an edit names a cursor that is not there"));
                }
            }
            EditOp::KeepLog(kept) => {
                if self.kept_logs.insert(kept.id, kept.clone()).is_some() {
                    return Err(Malformed("a log file is kept twice"));
                }
            }
            EditOp::ForgetLog(id) => {
                if self.kept_logs.remove(id).is_none() {
                    return Err(Malformed("an edit names a kept log file that is not there"));
                }
            }
            EditOp::SetCompression { keyspace, codec, level } => {
                let k = self.keyspace_mut(*keyspace)?;
                (k.codec, k.level) = (*codec, *level);
            }
            EditOp::SetIndex(index) => {
                self.indexes.insert(index.storage, index.clone());
            }
            EditOp::DropIndex(storage) => {
                if self.indexes.remove(storage).is_none() {
                    return Err(Malformed("an edit names an index that is not there"));
                }
            }
        }
        Ok(())
    }

    fn note_run(&mut self, run: &RunMeta) -> Applied {
        raise(&mut self.next_run, run.id.0)?;
        self.note_ids(run.partitions.iter())
    }

    /// Keeps the next ids above those in use.
    fn note_ids<'a>(&mut self, partitions: impl Iterator<Item = &'a PartitionMeta>) -> Applied {
        for p in partitions {
            raise(&mut self.next_partition, p.id.0)?;
            for s in &p.segments {
                raise(&mut self.next_segment, s.id.0)?;
            }
        }
        Ok(())
    }

    fn check_cursors(&self) -> Applied {
        let good = |name: &String| (1..=MAX_CURSOR_NAME_BYTES).contains(&name.len());
        if self.cursors.len() > MAX_CURSORS || !self.cursors.keys().all(good) {
            return Err(Malformed("more cursors than there can be, or a name that none can have"));
        }
        for kept in self.kept_logs.values() {
            if kept.first == Seq(0) || kept.first > kept.last || kept.held_bytes() > MAX_COUNT {
                return Err(Malformed("a kept log file holds what none can hold"));
            }
        }
        let commits = |k: &KeptLog| (k.first, k.last);
        let kept: Vec<_> = self.kept_logs.values().map(commits).collect();
        if kept.windows(2).any(|w| w[1].0 <= w[0].1) {
            return Err(Malformed("kept log files are out of order"));
        }
        Ok(())
    }

    /// Whether the state as a whole is one that can be.
    pub(super) fn check(&self) -> Applied {
        if self.blob_segments.values().any(|bytes| *bytes > MAX_COUNT) {
            return Err(Malformed("a blob segment is larger than it can be"));
        }
        self.check_cursors()?;
        let mut segments: Vec<u64> = self.blob_segments.keys().map(|id| id.0).collect();
        let (mut partitions, mut runs) = (Vec::new(), Vec::new());
        let mut names = BTreeSet::new();
        for k in self.keyspaces.values() {
            if k.name.is_empty() || k.name.len() > MAX_KEYSPACE_NAME_BYTES {
                return Err(Malformed("a keyspace has no name, or one that is too long"));
            }
            if !names.insert(k.name.as_str()) {
                return Err(Malformed("two keyspaces have one name"));
            }
            if k.write_buffer_size > MAX_WRITE_BUFFER_BYTES {
                return Err(Malformed("a write buffer is larger than it can be"));
            }
            if !PAGE_SIZES.contains(&(k.page_bytes as usize)) || !k.page_bytes.is_power_of_two() {
                return Err(Malformed("a keyspace has pages of a size that none can have"));
            }
            check_keyspace(k)?;
            runs.extend(k.runs.iter().map(|r| r.id.0));
        }
        self.check_indexes()?;
        for p in self.partitions() {
            partitions.push(p.id.0);
            segments.extend(p.segments.iter().map(|s| s.id.0));
            if p.blobs.iter().any(|b| !self.blob_segments.contains_key(&b.segment)) {
                return Err(Malformed("a partition refers to a blob segment that is not there"));
            }
        }
        if has_twice(segments) {
            return Err(Malformed("a segment is used twice"));
        }
        if has_twice(partitions) {
            return Err(Malformed("a partition is in two places"));
        }
        if has_twice(runs) {
            return Err(Malformed("a run is in two places"));
        }
        Ok(())
    }
}

impl ManifestState {
    fn check_indexes(&self) -> Applied {
        let mut names = BTreeSet::new();
        for (storage, index) in &self.indexes {
            let there = |id| self.keyspaces.contains_key(id) && !self.indexes.contains_key(id);
            if !self.keyspaces.contains_key(storage) || !there(&index.keyspace) {
                return Err(Malformed("an index is of keyspaces that are not there"));
            }
            if index.name.is_empty() || index.name.len() > MAX_KEYSPACE_NAME_BYTES {
                return Err(Malformed("an index has no name, or one that is too long"));
            }
            if !names.insert((index.keyspace, index.name.as_str())) {
                return Err(Malformed("two indexes of a keyspace have one name"));
            }
        }
        Ok(())
    }
}

fn has_twice(mut ids: Vec<u64>) -> bool {
    ids.sort_unstable();
    ids.windows(2).any(|w| w[0] == w[1])
}

/// Lifts a counter above an id in use.
fn raise(next: &mut u64, id: u64) -> Applied {
    *next = (*next).max(id.checked_add(1).ok_or(Malformed("an id is the last there is"))?);
    Ok(())
}

/// As [`raise`], for keyspaces.
fn raise_32(next: &mut u32, id: u32) -> Applied {
    *next = (*next).max(id.checked_add(1).ok_or(Malformed("an id is the last there is"))?);
    Ok(())
}

fn run_at(k: &KeyspaceState, id: RunId) -> Result<usize, Malformed> {
    let at = k.runs.iter().position(|r| r.id == id);
    at.ok_or(Malformed("an edit names a run that is not there"))
}

fn replace_runs(k: &mut KeyspaceState, removed: &[RunId], added: Option<&RunMeta>) -> Applied {
    let first = removed.first().ok_or(Malformed("an edit replaces no runs"))?;
    let at = run_at(k, *first)?;
    let there = k.runs[at..].iter().map(|r| r.id).take(removed.len());
    if !there.eq(removed.iter().copied()) {
        return Err(Malformed("replaced runs are not neighbours"));
    }
    if let Some(run) = added {
        let gone = &k.runs[at..at + removed.len()];
        if gone.iter().any(|r| r.low < run.low || r.high > run.high) {
            return Err(Malformed("a run does not hold the commits of those it replaces"));
        }
    }
    k.runs.splice(at..at + removed.len(), added.cloned());
    k.ranges.retain(|id, _| !removed.contains(id));
    Ok(())
}

fn set_run(old: &mut RunMeta, run: &RunMeta) -> Applied {
    if (old.low, old.high) != (run.low, run.high) {
        return Err(Malformed("a run's numbers change"));
    }
    let kept = |i: &KeyInterval| run.consumed.iter().any(|c| encloses(c, i));
    if !old.consumed.iter().all(kept) {
        return Err(Malformed("a run takes back what it gave to the base"));
    }
    *old = run.clone();
    Ok(())
}

fn encloses(outer: &KeyInterval, inner: &KeyInterval) -> bool {
    outer.start <= inner.start
        && match (&outer.end, &inner.end) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(o), Some(i)) => i <= o,
        }
}

fn check_keyspace(k: &KeyspaceState) -> Applied {
    check_row(&k.base)?;
    for run in &k.runs {
        if run.low > run.high {
            return Err(Malformed("a run ends before it begins"));
        }
        check_row(&run.partitions)?;
        if run.consumed.iter().any(KeyInterval::is_empty) {
            return Err(Malformed("a run gave an interval without keys to the base"));
        }
        // Joined intervals leave a gap between them.
        let apart = |w: &[KeyInterval]| w[0].end.as_ref().is_some_and(|end| *end < w[1].start);
        if !run.consumed.windows(2).all(apart) {
            return Err(Malformed("what a run gave to the base is not sorted and joined"));
        }
    }
    for (run, row) in &k.ranges {
        if row.is_empty() || !k.runs.iter().any(|r| r.id == *run) {
            return Err(Malformed("range deletes are of no run"));
        }
        check_row(row)?;
    }
    if k.runs.windows(2).any(|w| w[0].low <= w[1].high) {
        return Err(Malformed("a run is not newer than the one below it"));
    }
    Ok(())
}

/// Sizes that a partition can have.
fn check_counts(p: &PartitionMeta) -> Applied {
    let mut counts =
        vec![p.entries, p.raw_bytes, p.live_bytes, p.droppable.bytes(), p.lives.bytes()];
    counts.extend(p.segments.iter().map(|s| s.file_bytes));
    counts.extend(p.blobs.iter().map(|b| b.bytes));
    if counts.into_iter().any(|count| count > MAX_COUNT)
        || p.tombstones > p.entries
        || p.lives.entries() > p.entries - p.tombstones
    {
        return Err(Malformed("a partition counts more than there can be"));
    }
    if p.ingested != Seq(0) && p.ingested != p.max_seq {
        return Err(Malformed("an ingested partition holds other numbers than its own"));
    }
    if p.segments.iter().any(|s| s.live_bytes > s.file_bytes) {
        return Err(Malformed("a segment has more bytes in use than its file has"));
    }
    Ok(())
}

fn check_row(row: &[PartitionMeta]) -> Applied {
    for p in row {
        check_counts(p)?;
        if p.first_key > p.last_key {
            return Err(Malformed("a partition ends before it begins"));
        }
        // A bound may be the successor of a longest key.
        if p.last_key.len().max(p.first_key.len()) > MAX_KEY_BYTES + 1 {
            return Err(Malformed("a partition's bound is longer than a key can be"));
        }
        if p.segments.is_empty() || p.segments.len() > MAX_PARTITION_SEGMENTS {
            return Err(Malformed("a partition has no segment, or more than three"));
        }
        if !p.segments.iter().any(|s| s.id == p.root.segment) {
            return Err(Malformed("a partition's root lies in no segment of its own"));
        }
    }
    if row.windows(2).any(|w| w[0].last_key >= w[1].first_key) {
        return Err(Malformed("partitions of one row overlap"));
    }
    Ok(())
}
