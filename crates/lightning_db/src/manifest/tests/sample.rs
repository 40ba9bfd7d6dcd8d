//! Edits drawn by seed that fit a state, and a disk to keep them on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fastrand::Rng;

use crate::crypto::Owner;
use crate::index::{IndexPart, IndexSpec};
use crate::manifest::{
    BlobUse, Droppable, Edit, EditOp, FilterRef, IndexState, KeptLog, KeyInterval, KeyspaceState,
    Lives, ManifestState, NextIds, PartitionMeta, PartitionSegment, RunMeta, TimeSample, ViewSpan,
    covers,
};
use crate::types::{
    DatabaseId, Expiry, KeyspaceId, LogId, PageAddress, PartitionId, RunId, SegmentId, Seq, Time,
};
use crate::vfs::{SimulatedVfs, Vfs};

pub const DB: DatabaseId = DatabaseId(*b"the sample's own");

/// Whose the files are.
pub fn owner() -> Owner {
    Owner::plain(DB)
}

/// Where the database lies.
pub fn dir() -> PathBuf {
    PathBuf::from("/db")
}

/// A disk with the database's directories, all durable.
pub fn disk(seed: u64) -> SimulatedVfs {
    let disk = SimulatedVfs::new(seed);
    disk.create_dir_all(&dir().join("manifest")).unwrap();
    for d in [Path::new("/").to_path_buf(), dir(), dir().join("manifest")] {
        disk.sync_dir(&d).unwrap();
    }
    disk
}

pub fn as_vfs(disk: &SimulatedVfs) -> Arc<dyn Vfs> {
    Arc::new(disk.clone())
}

/// A state with one keyspace that has nothing yet.
pub fn empty() -> ManifestState {
    let mut state = ManifestState::new(DB);
    let ops = vec![EditOp::CreateKeyspace(keyspace(KeyspaceId(0), "default"))];
    state.apply(&Edit { ops }).unwrap();
    state
}

pub fn keyspace(id: KeyspaceId, name: &str) -> KeyspaceState {
    KeyspaceState {
        merge_operator: None,
        id,
        name: name.to_owned(),
        write_buffer_size: 64 << 20,
        codec: 1,
        level: None,
        page_bytes: 4096,
        profile: 1,
        default_ttl: 0,
        flushed: Seq(0),
        runs: Vec::new(),
        base: Vec::new(),
        ranges: std::collections::BTreeMap::new(),
    }
}

/// A partition of the keys `first..=last`, with ids that nobody else has.
pub fn partition(ids: &mut NextIds, first: &[u8], last: &[u8]) -> PartitionMeta {
    let segment = SegmentId(ids.segment);
    ids.segment += 1;
    ids.partition += 1;
    PartitionMeta {
        id: PartitionId(ids.partition - 1),
        root: PageAddress { segment, offset: 64, stored_bytes: 4096, checksum: 7 },
        height: 0,
        first_key: first.to_vec(),
        last_key: last.to_vec(),
        segments: vec![PartitionSegment {
            id: segment,
            file_bytes: 8192,
            live_bytes: 4096,
            filter: None,
        }],
        entries: 10,
        tombstones: 1,
        raw_bytes: 4000,
        live_bytes: 4096,
        max_seq: Seq(3),
        droppable: Droppable::default(),
        lives: Lives::default(),
        blobs: Vec::new(),
        ingested: Seq(0),
    }
}

pub fn next_ids(state: &ManifestState) -> NextIds {
    NextIds {
        segment: state.next_segment,
        partition: state.next_partition,
        run: state.next_run,
        keyspace: state.next_keyspace,
    }
}

/// A run with one partition of the keys `first..=last`.
pub fn run(ids: &mut NextIds, first: &[u8], last: &[u8], low: u64, high: u64) -> RunMeta {
    ids.run += 1;
    RunMeta {
        id: RunId(ids.run - 1),
        partitions: vec![partition(ids, first, last)],
        consumed: Vec::new(),
        low: Seq(low),
        high: Seq(high),
    }
}

/// Draws edits that fit.
pub struct Draw<'a> {
    rng: &'a mut Rng,
    state: &'a ManifestState,
    ids: NextIds,
    ops: Vec<EditOp>,
}

/// An edit that fits `state`.
pub fn edit(rng: &mut Rng, state: &ManifestState) -> Edit {
    let mut draw = Draw { rng, state, ids: next_ids(state), ops: Vec::new() };
    draw.some_change();
    let ids = draw.ids;
    draw.ops.push(EditOp::NextIds(ids));
    Edit { ops: draw.ops }
}

impl Draw<'_> {
    fn some_change(&mut self) {
        let keyspaces: Vec<&KeyspaceState> = self.state.keyspaces.values().collect();
        let k = *self.rng.choice(&keyspaces).expect("the default keyspace stays");
        match self.rng.u8(0..22) {
            0 if keyspaces.len() < 6 => {
                if self.rng.bool() && !self.state.indexes.contains_key(&k.id) {
                    self.create_index(k.id);
                } else {
                    self.create_keyspace();
                }
            }
            1 if k.id != KeyspaceId(0) && self.rng.bool() => self.drop_keyspace(k.id),
            18 if !self.state.indexes.is_empty() => {
                let indexes: Vec<_> = self.state.indexes.values().collect();
                let mut index = (*self.rng.choice(&indexes).expect("some")).clone();
                index.ready = true;
                self.ops.push(EditOp::SetIndex(index));
            }
            2 => {
                let id = SegmentId(self.ids.segment);
                self.ids.segment += 1;
                self.ops.push(EditOp::AddBlobSegment { id, bytes: self.rng.u64(..COUNT) });
            }
            3 => self.drop_unused_blobs(),
            4 => self.ops.push(EditOp::LogStart(LogId(self.state.log_start.0 + 1))),
            15 => self.history(),
            16 => self.cursor(),
            17 => self.kept_log(),
            5..=8 if !k.runs.is_empty() => self.merge_runs(k),
            9..=12 => self.renew_base(k),
            19 if !k.ranges.is_empty() => {
                let runs: Vec<RunId> = k.ranges.keys().copied().collect();
                let run = self.rng.choice(runs).expect("there is one");
                let (keyspace, partitions) = (k.id, Vec::new());
                self.ops.push(EditOp::SetRanges { keyspace, run, partitions });
            }
            13 | 14 if !k.runs.is_empty() => self.adopt_oldest(k),
            _ => self.flush(k),
        }
    }

    /// With the indexes that it has, or is the entries of.
    fn drop_keyspace(&mut self, id: KeyspaceId) {
        for index in self.state.indexes.values() {
            if index.keyspace == id || index.storage == id {
                self.ops.push(EditOp::DropIndex(index.storage));
                if index.storage != id {
                    self.ops.push(EditOp::DropKeyspace(index.storage));
                }
            }
        }
        self.ops.push(EditOp::DropKeyspace(id));
    }

    fn create_index(&mut self, keyspace: KeyspaceId) {
        let storage = self.create_keyspace();
        let pointer = IndexPart::Json(format!("/{storage}"));
        let range = IndexPart::ValueBytes(1, self.rng.bool().then(|| self.rng.usize(2..500)));
        let spec = match self.rng.u8(0..3) {
            0 => IndexSpec::extractor(format!("function {storage}")).unique(),
            1 => IndexSpec::parts([pointer, range]),
            _ => IndexSpec::parts([range, IndexPart::JsonEach("/a".to_owned()), pointer]),
        };
        let name = format!("index {storage}");
        let index = IndexState { storage, keyspace, name, spec, ready: self.rng.bool() };
        self.ops.push(EditOp::SetIndex(index));
    }

    fn create_keyspace(&mut self) -> KeyspaceId {
        let id = KeyspaceId(self.ids.keyspace);
        self.ids.keyspace += 1;
        let mut k = keyspace(id, &format!("keyspace {id}"));
        k.write_buffer_size = self.rng.u64(..COUNT);
        k.page_bytes = 4096 << self.rng.u32(0..5);
        k.profile = self.rng.u8(0..3);
        self.ops.push(EditOp::CreateKeyspace(k));
        id
    }

    fn cursor(&mut self) {
        let name = format!("cursor {}", self.rng.u8(0..4));
        if self.state.cursors.contains_key(&name) && self.rng.bool() {
            self.ops.push(EditOp::DropCursor(name));
        } else {
            self.ops.push(EditOp::SetCursor { name, seq: Seq(self.rng.u64(0..COUNT)) });
        }
    }

    fn kept_log(&mut self) {
        let oldest = self.state.kept_logs.keys().next();
        if let Some(oldest) = oldest.filter(|_| self.rng.bool()) {
            return self.ops.push(EditOp::ForgetLog(*oldest));
        }
        let newest = self.state.kept_logs.values().last();
        let id = newest.map_or(LogId(1), |k| k.id.next());
        let first = newest.map_or(Seq(1), |k| k.last.next());
        let last = Seq(first.0 + self.rng.u64(0..1000));
        let blobs = vec![BlobUse { segment: SegmentId(self.rng.u64(1..99)), bytes: 5 }];
        let bytes = self.rng.u64(0..COUNT / 2);
        self.ops.push(EditOp::KeepLog(KeptLog { id, first, last, bytes, blobs }));
    }

    fn history(&mut self) {
        let floor = self.state.history_floor.unwrap_or_default();
        let floor = Seq(floor.0 + self.rng.u64(0..5));
        let newest = self.state.times.samples().last().map_or(0, |s| s.seq.0);
        let count = self.rng.u64(0..4);
        let samples = (1..=count).map(|i| TimeSample {
            millis: self.rng.u64(0..COUNT),
            seq: Seq(newest + i),
            born: 0,
        });
        let mut samples: Vec<_> = samples.collect();
        samples.sort_by_key(|s| s.millis);
        for (i, sample) in samples.iter_mut().enumerate() {
            sample.seq = Seq(newest + 1 + i as u64);
        }
        self.ops.push(EditOp::History { floor, samples });
    }

    fn drop_unused_blobs(&mut self) {
        for id in self.state.blob_segments.keys() {
            if !self.state.partitions().any(|p| p.blobs.iter().any(|b| b.segment == *id)) {
                self.ops.push(EditOp::RemoveBlobSegment(*id));
            }
        }
    }

    fn flush(&mut self, k: &KeyspaceState) {
        let low = k.runs.first().map_or(k.flushed, |r| r.high.max(k.flushed)).next();
        let high = Seq(low.0 + self.rng.u64(0..1000));
        let run = RunMeta {
            id: self.new_run(),
            partitions: self.row(0, u16::MAX),
            consumed: Vec::new(),
            low,
            high,
        };
        let ranges = if self.rng.bool() { self.row(0, u16::MAX) } else { Vec::new() };
        if !run.partitions.is_empty() || !ranges.is_empty() {
            let id = run.id;
            self.ops.push(EditOp::AddRun { keyspace: k.id, run });
            if !ranges.is_empty() {
                let (keyspace, partitions) = (k.id, ranges);
                self.ops.push(EditOp::SetRanges { keyspace, run: id, partitions });
            }
        }
        self.ops.push(EditOp::Flushed { keyspace: k.id, seq: high });
        self.ops.push(EditOp::LastSeq(high));
        if self.rng.bool() {
            self.ops.push(EditOp::Time(Time(self.rng.u64(..u64::MAX))));
        }
        if let Some(keyspace) = self.state.keyspaces.keys().next() {
            let millis = self.rng.u64(..) * u64::from(self.rng.bool());
            self.ops.push(EditOp::DefaultTtl { keyspace: *keyspace, millis });
        }
    }

    fn merge_runs(&mut self, k: &KeyspaceState) {
        let at = self.rng.usize(0..k.runs.len());
        let inputs = &k.runs[at..(at + self.rng.usize(1..4)).min(k.runs.len())];
        let added = RunMeta {
            id: self.new_run(),
            partitions: self.row(0, u16::MAX),
            consumed: Vec::new(),
            low: inputs.last().expect("there is one").low,
            high: inputs[0].high,
        };
        self.ops.push(EditOp::ReplaceRuns {
            keyspace: k.id,
            removed: inputs.iter().map(|r| r.id).collect(),
            added: (!added.partitions.is_empty()).then_some(added),
        });
    }

    /// Renews the base over a range; all runs give the range away.
    fn renew_base(&mut self, k: &KeyspaceState) {
        let (a, b) = (self.rng.u16(..), self.rng.u16(..));
        let (mut low, mut high) = (a.min(b), a.max(b));
        let mut range = KeyInterval { start: key(low), end: Some(key(high)) };
        let old: Vec<&PartitionMeta> =
            k.base.iter().filter(|p| range.overlaps(&p.first_key, &p.last_key)).collect();
        for p in &old {
            low = low.min(number(&p.first_key));
            high = high.max(number(&p.last_key).saturating_add(1));
        }
        range.start = key(low);
        range.end = (high < u16::MAX).then(|| key(high));
        if range.is_empty() {
            return;
        }
        let added = self.row(low, high.saturating_sub(1));
        for r in &k.runs {
            let mut rest = r.clone();
            range.clone().merge_into(&mut rest.consumed);
            rest.partitions.retain(|p| !covers(&rest.consumed, &p.first_key, &p.last_key));
            self.ops.push(if rest.partitions.is_empty() {
                EditOp::RemoveRun { keyspace: k.id, run: r.id }
            } else {
                EditOp::SetRun { keyspace: k.id, run: rest }
            });
        }
        let removed = old.iter().map(|p| p.id).collect();
        self.ops.push(EditOp::ReplaceBase { keyspace: k.id, removed, added });
    }

    fn adopt_oldest(&mut self, k: &KeyspaceState) {
        let mut rest = k.runs.last().expect("asked for").clone();
        if rest.partitions.is_empty() {
            return;
        }
        let moved = rest.partitions.remove(self.rng.usize(0..rest.partitions.len()));
        let meets =
            |p: &PartitionMeta| p.first_key <= moved.last_key && moved.first_key <= p.last_key;
        if k.base.iter().any(meets) {
            return;
        }
        self.ops.push(if rest.partitions.is_empty() {
            EditOp::RemoveRun { keyspace: k.id, run: rest.id }
        } else {
            EditOp::SetRun { keyspace: k.id, run: rest }
        });
        let op = EditOp::ReplaceBase { keyspace: k.id, removed: Vec::new(), added: vec![moved] };
        self.ops.push(op);
    }

    fn new_run(&mut self) -> RunId {
        self.ids.run += 1;
        RunId(self.ids.run - 1)
    }

    /// A row between two keys; may be empty.
    fn row(&mut self, low: u16, high: u16) -> Vec<PartitionMeta> {
        let mut bounds: Vec<u16> =
            (0..self.rng.usize(0..8)).map(|_| self.rng.u16(low..=high)).collect();
        bounds.sort_unstable();
        bounds.dedup();
        let pairs: Vec<(u16, u16)> = bounds.chunks_exact(2).map(|c| (c[0], c[1])).collect();
        pairs.into_iter().map(|(first, last)| self.random_partition(first, last)).collect()
    }

    fn random_partition(&mut self, first: u16, last: u16) -> PartitionMeta {
        let mut p = partition(&mut self.ids, &key(first), &key(last));
        p.height = self.rng.u8(0..4);
        p.ingested = if self.rng.u8(0..4) == 0 { p.max_seq } else { Seq(0) };
        p.root.offset = self.rng.u64(..);
        p.root.checksum = self.rng.u32(..);
        p.entries = self.rng.u64(100..COUNT);
        p.tombstones = self.rng.u64(0..100);
        for _ in 0..self.rng.usize(0..4) {
            let from = self.rng.u64(0..u64::MAX);
            let span = ViewSpan { from: Seq(from), below: Seq(self.rng.u64(from + 1..)) };
            p.droppable.note(span, self.rng.u64(..COUNT / 4));
        }
        for _ in 0..self.rng.usize(0..12) {
            p.lives.note(Expiry(self.rng.u64(..u64::MAX)), self.rng.u64(..COUNT / 16));
        }
        for _ in 0..self.rng.usize(0..3) {
            let (pages, offset) = (self.rng.u32(1..99), self.rng.u64(..));
            let filter = FilterRef {
                offset,
                page_stored_bytes: self.rng.u32(..),
                pages,
                last_page_stored_bytes: self.rng.u32(..),
            };
            let file_bytes = self.rng.u64(..COUNT);
            p.segments.push(PartitionSegment {
                id: SegmentId(self.ids.segment),
                file_bytes,
                live_bytes: self.rng.u64(..=file_bytes),
                filter: self.rng.bool().then_some(filter),
            });
            self.ids.segment += 1;
        }
        for id in self.state.blob_segments.keys() {
            if self.rng.u8(0..4) == 0 {
                p.blobs.push(BlobUse { segment: *id, bytes: self.rng.u64(..COUNT) });
            }
        }
        p
    }
}

/// The bound of counts.
const COUNT: u64 = 1 << 40;

fn key(n: u16) -> Vec<u8> {
    n.to_be_bytes().to_vec()
}

fn number(key: &[u8]) -> u16 {
    u16::from_be_bytes([key[0], key[1]])
}
