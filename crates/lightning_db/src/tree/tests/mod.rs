//! Partitions against a model: a sorted list of versions.

mod adoption;
mod damage;
mod model;
mod reading;
mod versions;
mod watched;

use std::cell::Cell;
use std::path::Path;

use crate::cache::{PageCache, Pager};
use crate::compress::Codec;
use crate::crypto::Owner;
use crate::manifest::PartitionMeta;
use crate::segment::Segment;
use crate::sync::Arc;
use crate::types::{
    BlobRef, DatabaseId, EntryValue, KeyspaceId, PartitionId, SegmentId, Seq, hash_key,
};
use crate::vfs::{MemoryVfs, Vfs};

use super::*;

/// An owned value.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Val {
    Inline(Vec<u8>),
    Blob(BlobRef),
    Tombstone,
}

impl Val {
    fn of(value: EntryValue<'_>) -> Self {
        match value {
            EntryValue::Inline(v) => Self::Inline(v.to_vec()),
            EntryValue::Blob(b) => Self::Blob(b),
            EntryValue::Tombstone => Self::Tombstone,
            EntryValue::Operands(_) => panic!("no test here writes operands"),
        }
    }

    fn found(value: &FoundValue) -> Self {
        match value {
            FoundValue::Inline(..) => Self::Inline(value.inline().unwrap().to_vec()),
            FoundValue::Blob(b) => Self::Blob(*b),
            FoundValue::Tombstone => Self::Tombstone,
            FoundValue::Operands => panic!("no test here writes operands"),
        }
    }

    fn as_entry(&self) -> EntryValue<'_> {
        match self {
            Self::Inline(v) => EntryValue::Inline(v),
            Self::Blob(b) => EntryValue::Blob(*b),
            Self::Tombstone => EntryValue::Tombstone,
        }
    }
}

/// One version: key, number, value.
type Version = (Vec<u8>, Seq, Val);

/// Sorts as partitions do and drops second mentions of a (key, number).
fn arrange(mut versions: Vec<Version>) -> Vec<Version> {
    versions.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    versions.dedup_by(|a, b| a.0 == b.0 && a.1 == b.1);
    versions
}

/// The newest version of `key` at most `at`.
fn model_get<'m>(model: &'m [Version], key: &[u8], at: Seq) -> Option<&'m Version> {
    let from = model.partition_point(|v| v.0.as_slice() < key);
    model[from..].iter().take_while(|v| v.0 == key).find(|v| v.1 <= at)
}

/// A database directory in memory.
struct Fixture {
    ctx: WriterContext,
    pager: Pager,
    next_id: Cell<u64>,
}

impl Fixture {
    fn new(page_bytes: usize, codec: Codec) -> Self {
        Self::on(Arc::new(MemoryVfs::new()), page_bytes, codec)
    }

    fn on(vfs: Arc<dyn Vfs>, page_bytes: usize, codec: Codec) -> Self {
        let dir = Path::new("/db").to_path_buf();
        vfs.create_dir_all(&dir.join("seg")).unwrap();
        let (db, keyspace) = (DatabaseId([7; 16]), KeyspaceId(0));
        Self {
            ctx: WriterContext {
                vfs,
                dir,
                db: Owner::plain(db),
                keyspace,
                packing: codec.into(),
                dictionary: None,
                dictionaries: Arc::default(),
                packed: Arc::default(),
                page_bytes,
            },
            pager: pager(),
            next_id: Cell::new(1),
        }
    }

    fn writer(&self) -> PartitionWriter {
        let id = self.next_id.replace(self.next_id.get() + 1);
        PartitionWriter::new(self.ctx.clone(), SegmentId(id), PartitionId(id))
    }

    fn build(&self, versions: &[Version]) -> Arc<PartitionReader> {
        let mut w = self.writer();
        for (key, seq, value) in versions {
            w.push(key, *seq, value.as_entry()).unwrap();
        }
        finish(w, &[])
    }

    /// Opens the partition once more, with the segments' files as they are now and a cold cache.
    fn reopen(&mut self, meta: PartitionMeta) -> Arc<PartitionReader> {
        self.pager = pager();
        let c = &self.ctx;
        let open = |id| Arc::new(Segment::open(&c.vfs, &c.dir, &c.db, id).unwrap());
        let segments = meta.segments.iter().map(|s| open(s.id)).collect();
        Arc::new(PartitionReader::open(meta, segments).unwrap())
    }

    fn cursor(&self, reader: &Arc<PartitionReader>) -> PartitionCursor {
        let options = CursorOptions::default();
        PartitionCursor::new(Arc::clone(reader), self.pager.clone(), options)
    }

    fn get(&self, reader: &PartitionReader, key: &[u8], at: Seq) -> Option<(Seq, Val)> {
        let found = reader.get(&self.pager, key, hash_key(key), at).unwrap();
        found.map(|f| (f.seq, Val::found(&f.value)))
    }
}

/// Finishes and opens; `older` are the segments that leaves were kept in.
fn finish(writer: PartitionWriter, older: &[Arc<Segment>]) -> Arc<PartitionReader> {
    let (meta, segment) = writer.finish().unwrap();
    let mut segments = older.to_vec();
    segments.extend(segment);
    Arc::new(PartitionReader::open(meta, segments).unwrap())
}

fn pager() -> Pager {
    Pager::new(Arc::new(PageCache::new(8 << 20)))
}

/// Everything a partition holds, through its cursor.
fn contents(f: &Fixture, reader: &Arc<PartitionReader>) -> Vec<Version> {
    let mut all = Vec::new();
    let mut c = f.cursor(reader);
    c.first().unwrap();
    while c.valid() {
        all.push((c.key().to_vec(), c.seq(), Val::of(c.value())));
        c.next().unwrap();
    }
    all
}

/// `check` finds nothing, comes by exactly the model's entries, and by every page once.
fn assert_sound(reader: &PartitionReader, model: &[Version]) {
    let mut entries = Vec::new();
    let mut page_bytes = 0;
    let problems = reader.check(&mut |v| match v {
        Visited::Entry { key, seq, value } => entries.push((key.to_vec(), seq, Val::of(value))),
        Visited::Page { stored_bytes, .. } => page_bytes += u64::from(stored_bytes),
    });
    assert_eq!(problems, []);
    assert!(entries == model, "the check comes by other entries than the model has");
    assert_eq!(page_bytes, reader.meta().live_bytes);
}

/// Every read of the partition against the model: gets at several numbers, present and absent.
fn assert_reads(f: &Fixture, reader: &PartitionReader, model: &[Version], rng: &mut fastrand::Rng) {
    let top = model.iter().map(|v| v.1.0).max().unwrap_or(0) + 2;
    let probes = model.len().min(4_000);
    for _ in 0..probes {
        let (key, seq, _) = &model[rng.usize(0..model.len())];
        let older = Seq(seq.0.saturating_sub(1));
        for at in [Seq(u64::MAX), *seq, older, Seq(rng.u64(0..top))] {
            let expected = model_get(model, key, at).map(|v| (v.1, v.2.clone()));
            assert_eq!(f.get(reader, key, at), expected, "at {at}");
        }
        let newest = model_get(model, key, Seq(u64::MAX)).map(|v| v.1);
        assert_eq!(reader.newest_seq(&f.pager, key, hash_key(key)).unwrap(), newest);
        let mut absent = key.clone();
        match rng.u8(0..3) {
            0 => absent.push(rng.u8(0..2)),
            1 => *absent.last_mut().unwrap() ^= 1,
            _ => absent.truncate(absent.len().div_ceil(2)),
        }
        let expected = model_get(model, &absent, Seq(u64::MAX)).map(|v| (v.1, v.2.clone()));
        assert_eq!(f.get(reader, &absent, Seq(u64::MAX)), expected);
    }
}

/// `moves` random movements of a cursor and of an index into the model.
fn assert_movement(
    f: &Fixture,
    reader: &Arc<PartitionReader>,
    model: &[Version],
    rng: &mut fastrand::Rng,
    moves: usize,
) {
    let mut c = f.cursor(reader);
    let mut at: Option<usize> = None;
    for step in 0..moves {
        let mut probe = model[rng.usize(0..model.len())].0.clone();
        if rng.bool() {
            match rng.u8(0..3) {
                0 => probe.push(0),
                1 => probe.truncate(probe.len().div_ceil(2)),
                _ => *probe.last_mut().unwrap() ^= 1,
            }
        }
        let bound = model.partition_point(|v| v.0 < probe);
        match rng.u8(0..20) {
            0 => {
                c.first().unwrap();
                at = Some(0);
            }
            1 => {
                c.last().unwrap();
                at = Some(model.len() - 1);
            }
            2..=4 => {
                c.seek(&probe).unwrap();
                at = (bound < model.len()).then_some(bound);
            }
            5..=7 => {
                c.seek_before(&probe).unwrap();
                at = bound.checked_sub(1);
            }
            kind => {
                let steps = if rng.u8(0..10) == 0 { rng.usize(0..400) } else { 1 };
                for _ in 0..steps {
                    if kind < 14 {
                        c.next().unwrap();
                        at = at.map(|i| i + 1).filter(|i| *i < model.len());
                    } else {
                        c.prev().unwrap();
                        at = at.and_then(|i| i.checked_sub(1));
                    }
                }
            }
        }
        match at {
            None => assert!(!c.valid(), "step {step}"),
            Some(i) => {
                assert!(c.valid(), "step {step}");
                let here = (c.key().to_vec(), c.seq(), Val::of(c.value()));
                assert_eq!(here, model[i], "step {step}");
                let found = c.found();
                assert_eq!((found.seq, Val::found(&found.value)), (model[i].1, model[i].2.clone()));
            }
        }
    }
}
