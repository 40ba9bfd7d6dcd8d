//! One atomic change of the manifest.
//!
//! Bytes: a count, then for each operation its tag and its fields (see `layout`). Whether an edit
//! fits a state is found out where it is applied (see `apply`).

use super::layout as l;
use super::state::{IndexState, KeptLog, KeyspaceState, PartitionMeta, RunMeta};
use super::time_map::{TimeMap, TimeSample};
use crate::codec::{Malformed, Reader, put_bytes, put_varint};
use crate::types::{KeyspaceId, LogId, PartitionId, RunId, SegmentId, Seq, Time};

/// The next free ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextIds {
    /// Segments.
    pub segment: u64,
    /// Partitions.
    pub partition: u64,
    /// Runs.
    pub run: u64,
    /// Keyspaces.
    pub keyspace: u32,
}

/// A part of an edit.
#[derive(Debug, Clone, PartialEq)]
pub enum EditOp {
    /// A new keyspace, usually without rows.
    CreateKeyspace(KeyspaceState),
    /// A keyspace goes, with its rows.
    DropKeyspace(KeyspaceId),
    /// A run is added as the newest.
    AddRun {
        /// Where.
        keyspace: KeyspaceId,
        /// What.
        run: RunMeta,
    },
    /// Every commit up to `seq` is in the rows.
    Flushed {
        /// Where.
        keyspace: KeyspaceId,
        /// Up to which commit.
        seq: Seq,
    },
    /// Adjacent runs are replaced by at most one.
    ReplaceRuns {
        /// Where.
        keyspace: KeyspaceId,
        /// Newest first.
        removed: Vec<RunId>,
        /// What takes their place.
        added: Option<RunMeta>,
    },
    /// A run loses partitions or gains consumed intervals.
    SetRun {
        /// Where.
        keyspace: KeyspaceId,
        /// What it is now.
        run: RunMeta,
    },
    /// A run goes.
    RemoveRun {
        /// Where.
        keyspace: KeyspaceId,
        /// Which.
        run: RunId,
    },
    /// Base partitions are replaced.
    ReplaceBase {
        /// Where.
        keyspace: KeyspaceId,
        /// Which go.
        removed: Vec<PartitionId>,
        /// Which come.
        added: Vec<PartitionMeta>,
    },
    /// The first log segment that recovery reads; 0 for no log.
    LogStart(LogId),
    /// A commit that is durable, as are all before it.
    LastSeq(Seq),
    /// A blob segment comes into use.
    AddBlobSegment {
        /// Which.
        id: SegmentId,
        /// Its length.
        bytes: u64,
    },
    /// A blob segment is used no more.
    RemoveBlobSegment(SegmentId),
    /// The next free ids.
    NextIds(NextIds),
    /// How long what is put without a lifetime of its own lives.
    DefaultTtl {
        /// Where.
        keyspace: KeyspaceId,
        /// In milliseconds; 0: for ever.
        millis: u64,
    },
    /// Lives were judged by this moment: no later one is to be judged by an earlier.
    Time(Time),
    /// How far back the past is kept, and what is new of its times.
    History {
        /// Moments before this commit may have been dropped.
        floor: Seq,
        /// Newer than those before.
        samples: Vec<TimeSample>,
    },
    /// A reader of changes has done with everything up to a commit.
    SetCursor {
        /// Its name.
        name: String,
        /// The commit.
        seq: Seq,
    },
    /// A cursor goes.
    DropCursor(String),
    /// A log file is kept for readers of changes.
    KeepLog(KeptLog),
    /// One is kept no more.
    ForgetLog(LogId),
    /// How new pages of a keyspace are packed.
    SetCompression {
        /// Where.
        keyspace: KeyspaceId,
        /// As in the keyspace's state.
        codec: u8,
        /// The codec's level; `None` for its own.
        level: Option<i32>,
    },
    /// The range deletes of a run are these now; none, where there are no partitions. Replacing a run by
    /// another takes them away, setting one leaves them.
    SetRanges {
        /// Where.
        keyspace: KeyspaceId,
        /// Whose.
        run: RunId,
        /// By key.
        partitions: Vec<PartitionMeta>,
    },
    /// A keyspace gets its merge operator.
    SetMergeOperator {
        /// Where.
        keyspace: KeyspaceId,
        /// The operator's name.
        name: String,
    },
    /// An index comes, or what is known of it changes.
    SetIndex(IndexState),
    /// An index goes; the keyspace of its entries goes by itself.
    DropIndex(KeyspaceId),
}

/// One atomic change.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Edit {
    /// Its parts, in order.
    pub ops: Vec<EditOp>,
}

impl Edit {
    /// The edit's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.ops.len() as u64);
        for op in &self.ops {
            encode_op(op, out);
        }
    }

    /// Reverse of [`encode`](Self::encode).
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let ops = l::list(&mut r, 2, decode_op)?;
        if !r.is_empty() {
            return Err(Malformed("an edit is followed by bytes that are not its own"));
        }
        Ok(Self { ops })
    }
}

fn encode_op(op: &EditOp, out: &mut Vec<u8>) {
    let tagged = |out: &mut Vec<u8>, tag: u8, keyspace: KeyspaceId| {
        out.push(tag);
        put_varint(out, u64::from(keyspace.0));
    };
    match op {
        EditOp::CreateKeyspace(k) => {
            out.push(1);
            l::put_keyspace(out, k);
        }
        EditOp::DropKeyspace(id) => tagged(out, 2, *id),
        EditOp::AddRun { keyspace, run } => {
            tagged(out, 3, *keyspace);
            l::put_run(out, run);
        }
        EditOp::Flushed { keyspace, seq } => {
            tagged(out, 4, *keyspace);
            put_varint(out, seq.0);
        }
        EditOp::ReplaceRuns { keyspace, removed, added } => {
            tagged(out, 5, *keyspace);
            put_varint(out, removed.len() as u64);
            for id in removed {
                put_varint(out, id.0);
            }
            out.push(u8::from(added.is_some()));
            if let Some(run) = added {
                l::put_run(out, run);
            }
        }
        EditOp::SetRun { keyspace, run } => {
            tagged(out, 6, *keyspace);
            l::put_run(out, run);
        }
        EditOp::RemoveRun { keyspace, run } => {
            tagged(out, 7, *keyspace);
            put_varint(out, run.0);
        }
        EditOp::ReplaceBase { keyspace, removed, added } => {
            tagged(out, 8, *keyspace);
            put_varint(out, removed.len() as u64);
            for id in removed {
                put_varint(out, id.0);
            }
            put_varint(out, added.len() as u64);
            for p in added {
                l::put_partition(out, p);
            }
        }
        EditOp::LogStart(id) => {
            out.push(9);
            put_varint(out, id.0);
        }
        EditOp::LastSeq(seq) => {
            out.push(10);
            put_varint(out, seq.0);
        }
        EditOp::AddBlobSegment { id, bytes } => {
            out.push(11);
            put_varint(out, id.0);
            put_varint(out, *bytes);
        }
        EditOp::RemoveBlobSegment(id) => {
            out.push(12);
            put_varint(out, id.0);
        }
        EditOp::NextIds(n) => {
            out.push(13);
            for v in [n.segment, n.partition, n.run, u64::from(n.keyspace)] {
                put_varint(out, v);
            }
        }
        EditOp::DefaultTtl { keyspace, millis } => {
            tagged(out, 22, *keyspace);
            put_varint(out, *millis);
        }
        EditOp::Time(time) => {
            out.push(24);
            put_varint(out, time.0);
        }
        EditOp::History { floor, samples } => {
            out.push(19);
            put_varint(out, floor.0);
            TimeMap::encode(samples, out);
        }
        EditOp::SetCursor { name, seq } => {
            out.push(20);
            put_bytes(out, name.as_bytes());
            out.push(1);
            put_varint(out, seq.0);
        }
        EditOp::DropCursor(name) => {
            out.push(20);
            put_bytes(out, name.as_bytes());
            out.push(0);
        }
        EditOp::KeepLog(kept) => {
            out.push(21);
            put_varint(out, kept.id.0);
            out.push(1);
            l::put_kept_log(out, kept);
        }
        EditOp::ForgetLog(id) => {
            out.push(21);
            put_varint(out, id.0);
            out.push(0);
        }
        EditOp::SetCompression { keyspace, codec, level } => {
            tagged(out, 14, *keyspace);
            out.push(*codec);
            out.push(u8::from(level.is_some()));
            if let Some(level) = level {
                l::put_signed(out, *level);
            }
        }
        EditOp::SetRanges { keyspace, run, partitions } => {
            tagged(out, 16, *keyspace);
            put_varint(out, run.0);
            put_varint(out, partitions.len() as u64);
            for p in partitions {
                l::put_partition(out, p);
            }
        }
        EditOp::SetMergeOperator { keyspace, name } => {
            tagged(out, 23, *keyspace);
            put_bytes(out, name.as_bytes());
        }
        EditOp::SetIndex(index) => {
            out.push(17);
            l::put_index(out, index);
        }
        EditOp::DropIndex(storage) => tagged(out, 18, *storage),
    }
}

fn decode_op(r: &mut Reader<'_>) -> Result<EditOp, Malformed> {
    let tag = r.u8()?;
    let mut keyspace = KeyspaceId(0);
    if (2..=8).contains(&tag) || matches!(tag, 16 | 22 | 23) {
        keyspace = KeyspaceId(l::u32_of(r)?);
    }
    Ok(match tag {
        1 => EditOp::CreateKeyspace(l::keyspace(r)?),
        2 => EditOp::DropKeyspace(keyspace),
        3 => EditOp::AddRun { keyspace, run: l::run(r)? },
        4 => EditOp::Flushed { keyspace, seq: Seq(r.varint()?) },
        5 => {
            let removed = l::list(r, 1, |r| Ok(RunId(r.varint()?)))?;
            let added = match r.u8()? {
                0 => None,
                1 => Some(l::run(r)?),
                _ => return Err(Malformed("a run is neither there nor not")),
            };
            EditOp::ReplaceRuns { keyspace, removed, added }
        }
        6 => EditOp::SetRun { keyspace, run: l::run(r)? },
        7 => EditOp::RemoveRun { keyspace, run: RunId(r.varint()?) },
        8 => EditOp::ReplaceBase {
            keyspace,
            removed: l::list(r, 1, |r| Ok(PartitionId(r.varint()?)))?,
            added: l::list(r, 40, l::partition)?,
        },
        9 => EditOp::LogStart(LogId(r.varint()?)),
        10 => EditOp::LastSeq(Seq(r.varint()?)),
        11 => EditOp::AddBlobSegment { id: SegmentId(r.varint()?), bytes: r.varint()? },
        12 => EditOp::RemoveBlobSegment(SegmentId(r.varint()?)),
        13 => EditOp::NextIds(NextIds {
            segment: r.varint()?,
            partition: r.varint()?,
            run: r.varint()?,
            keyspace: l::u32_of(r)?,
        }),
        22 => EditOp::DefaultTtl { keyspace, millis: r.varint()? },
        24 => EditOp::Time(Time(r.varint()?)),
        19 => EditOp::History { floor: Seq(r.varint()?), samples: TimeMap::decode(r)? },
        20 => {
            let name = String::from_utf8(r.bytes()?.to_vec())
                .map_err(|_| Malformed("a cursor's name is not UTF-8"))?;
            match r.u8()? {
                0 => EditOp::DropCursor(name),
                1 => EditOp::SetCursor { name, seq: Seq(r.varint()?) },
                _ => return Err(Malformed("a cursor is neither there nor not")),
            }
        }
        21 => {
            let id = LogId(r.varint()?);
            match r.u8()? {
                0 => EditOp::ForgetLog(id),
                1 => EditOp::KeepLog(l::kept_log(r, id)?),
                _ => return Err(Malformed("a log file is neither kept nor not")),
            }
        }
        14 => EditOp::SetCompression {
            keyspace: KeyspaceId(l::u32_of(r)?),
            codec: r.u8()?,
            level: match r.u8()? {
                0 => None,
                1 => Some(l::signed(r)?),
                _ => return Err(Malformed("a level is neither there nor not")),
            },
        },
        16 => EditOp::SetRanges {
            keyspace,
            run: RunId(r.varint()?),
            partitions: l::list(r, 40, l::partition)?,
        },
        23 => EditOp::SetMergeOperator {
            keyspace,
            name: String::from_utf8(r.bytes()?.to_vec())
                .map_err(|_| Malformed("an operator's name is not UTF-8"))?,
        },
        17 => EditOp::SetIndex(l::index(r)?),
        18 => EditOp::DropIndex(KeyspaceId(l::u32_of(r)?)),
        _ => return Err(Malformed("an edit has a part of no known kind")),
    })
}
