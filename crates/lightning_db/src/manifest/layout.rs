//! Bytes of the metadata types: varints and length-prefixed byte strings, in the order of the
//! structs' fields. Counts are bounded by what the input can hold.

use std::collections::BTreeMap;

use super::droppable::Droppable;
use super::interval::KeyInterval;
use super::lives::Lives;
use super::state::{BlobUse, FilterRef, IndexState, KeptLog, KeyspaceState, PartitionMeta};
use super::state::{PartitionSegment, RunMeta};
use crate::codec::{Malformed, Reader, put_bytes, put_varint};
use crate::index::IndexSpec;
use crate::types::{KeyspaceId, LogId, PageAddress, PartitionId, RunId, SegmentId, Seq};

/// Set in a partition's height where it is told at the end when entries expire.
const HAS_LIVES: u8 = 0x80;
/// The one that says that it was ingested.
const INGESTED: u8 = 0x40;

type Decoded<T> = std::result::Result<T, Malformed>;

pub(super) fn u32_of(r: &mut Reader<'_>) -> Decoded<u32> {
    u32::try_from(r.varint()?).map_err(|_| Malformed("a number is too large"))
}

fn u8_of(r: &mut Reader<'_>) -> Decoded<u8> {
    r.u8()
}

pub(super) fn list<T>(
    r: &mut Reader<'_>,
    least_bytes: usize,
    mut item: impl FnMut(&mut Reader<'_>) -> Decoded<T>,
) -> Decoded<Vec<T>> {
    let n = r.count(least_bytes)?;
    let mut out = Vec::with_capacity(n.min(1024));
    for _ in 0..n {
        out.push(item(r)?);
    }
    Ok(out)
}

pub(super) fn put_interval(out: &mut Vec<u8>, i: &KeyInterval) {
    put_bytes(out, &i.start);
    out.push(u8::from(i.end.is_some()));
    if let Some(end) = &i.end {
        put_bytes(out, end);
    }
}

pub(super) fn interval(r: &mut Reader<'_>) -> Decoded<KeyInterval> {
    let start = r.bytes()?.to_vec();
    let end = match r.u8()? {
        0 => None,
        1 => Some(r.bytes()?.to_vec()),
        _ => return Err(Malformed("an interval's end is neither there nor not")),
    };
    Ok(KeyInterval { start, end })
}

fn put_segment(out: &mut Vec<u8>, s: &PartitionSegment) {
    put_varint(out, s.id.0);
    put_varint(out, s.file_bytes);
    put_varint(out, s.live_bytes);
    out.push(u8::from(s.filter.is_some()));
    if let Some(f) = &s.filter {
        put_varint(out, f.offset);
        put_varint(out, u64::from(f.page_stored_bytes));
        put_varint(out, u64::from(f.pages));
        put_varint(out, u64::from(f.last_page_stored_bytes));
    }
}

fn segment(r: &mut Reader<'_>) -> Decoded<PartitionSegment> {
    let id = SegmentId(r.varint()?);
    let file_bytes = r.varint()?;
    let live_bytes = r.varint()?;
    let filter = match r.u8()? {
        0 => None,
        1 => Some(FilterRef {
            offset: r.varint()?,
            page_stored_bytes: u32_of(r)?,
            pages: u32_of(r)?,
            last_page_stored_bytes: u32_of(r)?,
        }),
        _ => return Err(Malformed("a filter is neither there nor not")),
    };
    Ok(PartitionSegment { id, file_bytes, live_bytes, filter })
}

pub(super) fn put_partition(out: &mut Vec<u8>, p: &PartitionMeta) {
    put_varint(out, p.id.0);
    out.extend_from_slice(&p.root.encode());
    let lives = if p.lives.is_empty() { 0 } else { HAS_LIVES };
    let ingested = if p.ingested == Seq(0) { 0 } else { INGESTED };
    out.push(p.height | lives | ingested);
    put_bytes(out, &p.first_key);
    put_bytes(out, &p.last_key);
    put_varint(out, p.segments.len() as u64);
    for s in &p.segments {
        put_segment(out, s);
    }
    for n in [p.entries, p.tombstones, p.raw_bytes, p.live_bytes, p.max_seq.0] {
        put_varint(out, n);
    }
    p.droppable.encode(out);
    put_varint(out, p.blobs.len() as u64);
    for b in &p.blobs {
        put_varint(out, b.segment.0);
        put_varint(out, b.bytes);
    }
    if !p.lives.is_empty() {
        p.lives.encode(out);
    }
    if p.ingested != Seq(0) {
        put_varint(out, p.ingested.0);
    }
}

pub(super) fn partition(r: &mut Reader<'_>) -> Decoded<PartitionMeta> {
    let id = PartitionId(r.varint()?);
    let root = PageAddress::decode(&r.array()?);
    let height = u8_of(r)?;
    let mut partition = PartitionMeta {
        id,
        root,
        height: height & !(HAS_LIVES | INGESTED),
        first_key: r.bytes()?.to_vec(),
        last_key: r.bytes()?.to_vec(),
        segments: list(r, 4, segment)?,
        entries: r.varint()?,
        tombstones: r.varint()?,
        raw_bytes: r.varint()?,
        live_bytes: r.varint()?,
        max_seq: Seq(r.varint()?),
        droppable: Droppable::decode(r)?,
        blobs: list(r, 2, blob_use)?,
        lives: if height & HAS_LIVES == 0 { Lives::default() } else { Lives::decode(r)? },
        ingested: Seq(0),
    };
    if height & INGESTED != 0 {
        partition.ingested = Seq(r.varint()?);
        if partition.ingested == Seq(0) {
            return Err(Malformed("a partition was ingested by no commit"));
        }
    }
    Ok(partition)
}

pub(super) fn put_run(out: &mut Vec<u8>, run: &RunMeta) {
    put_varint(out, run.id.0);
    put_varint(out, run.low.0);
    put_varint(out, run.high.0);
    put_varint(out, run.consumed.len() as u64);
    for i in &run.consumed {
        put_interval(out, i);
    }
    put_varint(out, run.partitions.len() as u64);
    for p in &run.partitions {
        put_partition(out, p);
    }
}

pub(super) fn run(r: &mut Reader<'_>) -> Decoded<RunMeta> {
    let id = RunId(r.varint()?);
    let low = Seq(r.varint()?);
    let high = Seq(r.varint()?);
    let consumed = list(r, 2, interval)?;
    let partitions = list(r, 40, partition)?;
    Ok(RunMeta { id, partitions, consumed, low, high })
}

/// Without its id.
pub(super) fn put_kept_log(out: &mut Vec<u8>, kept: &KeptLog) {
    for n in [kept.first.0, kept.last.0, kept.bytes, kept.blobs.len() as u64] {
        put_varint(out, n);
    }
    for b in &kept.blobs {
        put_varint(out, b.segment.0);
        put_varint(out, b.bytes);
    }
}

pub(super) fn kept_log(r: &mut Reader<'_>, id: LogId) -> Decoded<KeptLog> {
    let (first, last, bytes) = (Seq(r.varint()?), Seq(r.varint()?), r.varint()?);
    let blobs = list(r, 2, blob_use)?;
    Ok(KeptLog { id, first, last, bytes, blobs })
}

fn blob_use(r: &mut Reader<'_>) -> Decoded<BlobUse> {
    Ok(BlobUse { segment: SegmentId(r.varint()?), bytes: r.varint()? })
}

pub(super) fn put_keyspace(out: &mut Vec<u8>, k: &KeyspaceState) {
    put_varint(out, u64::from(k.id.0));
    put_bytes(out, k.name.as_bytes());
    put_varint(out, k.write_buffer_size);
    out.push(k.codec);
    put_varint(out, u64::from(k.page_bytes));
    out.push(k.profile);
    put_varint(out, k.flushed.0);
    put_varint(out, k.runs.len() as u64);
    for r in &k.runs {
        put_run(out, r);
    }
    put_varint(out, k.base.len() as u64);
    for p in &k.base {
        put_partition(out, p);
    }
}

pub(super) fn keyspace(r: &mut Reader<'_>) -> Decoded<KeyspaceState> {
    Ok(KeyspaceState {
        id: KeyspaceId(u32_of(r)?),
        name: String::from_utf8(r.bytes()?.to_vec())
            .map_err(|_| Malformed("a keyspace name is not UTF-8"))?,
        write_buffer_size: r.varint()?,
        codec: u8_of(r)?,
        page_bytes: u32_of(r)?,
        profile: u8_of(r)?,
        // Given by parts of their own.
        default_ttl: 0,
        merge_operator: None,
        flushed: Seq(r.varint()?),
        runs: list(r, 5, run)?,
        base: list(r, 40, partition)?,
        // Parts of an edit of their own (tag 16), so that most keyspaces do not speak of them.
        ranges: BTreeMap::new(),
        // Told by an operation of its own, where there is one.
        level: None,
    })
}

/// Small numbers of either sign in few bytes.
pub(super) fn put_signed(out: &mut Vec<u8>, n: i32) {
    put_varint(out, u64::from((n << 1 ^ n >> 31).cast_unsigned()));
}

pub(super) fn signed(r: &mut Reader<'_>) -> Decoded<i32> {
    let n = u32_of(r)?;
    Ok((n >> 1).cast_signed() ^ -(n & 1).cast_signed())
}

pub(super) fn put_index(out: &mut Vec<u8>, index: &IndexState) {
    put_varint(out, u64::from(index.storage.0));
    put_varint(out, u64::from(index.keyspace.0));
    put_bytes(out, index.name.as_bytes());
    out.push(u8::from(index.ready));
    index.spec.encode(out);
}

pub(super) fn index(r: &mut Reader<'_>) -> Decoded<IndexState> {
    Ok(IndexState {
        storage: KeyspaceId(u32_of(r)?),
        keyspace: KeyspaceId(u32_of(r)?),
        name: String::from_utf8(r.bytes()?.to_vec())
            .map_err(|_| Malformed("an index's name is not UTF-8"))?,
        ready: match r.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Malformed("an index is neither ready nor not")),
        },
        spec: IndexSpec::decode(r)?,
    })
}
