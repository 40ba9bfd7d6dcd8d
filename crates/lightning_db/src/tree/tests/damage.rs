//! Bad pages are errors that stay; wrong structure is found by `check`.

use super::*;
use crate::ErrorKind;
use crate::manifest::{BlobUse, Droppable, FilterRef, Lives, PartitionSegment};
use crate::page::PageType;
use crate::page::filter::FilterBuilder;
use crate::page::inner::{Child, InnerBuilder};
use crate::page::leaf::LeafBuilder;
use crate::segment::{SegmentKind, SegmentWriter};
use crate::types::{Expiry, PageAddress};
use crate::vfs::OpenMode;

fn flip(f: &Fixture, file: &Path, offset: u64) {
    let file = f.ctx.vfs.open(file, OpenMode::ReadWrite).unwrap();
    let mut byte = [0];
    assert_eq!(file.read_at(&mut byte, offset).unwrap(), 1);
    byte[0] ^= 0x10;
    assert_eq!(file.write_at(&byte, offset).unwrap(), 1);
}

fn numbered(n: u32) -> Vec<Version> {
    (0..n).map(|i| (i.to_be_bytes().to_vec(), Seq(1), Val::Inline(vec![3; 40]))).collect()
}

#[test]
fn a_cursor_that_met_a_bad_page_stays_failed_and_the_rest_stays_readable() {
    let mut f = Fixture::new(4096, Codec::Lz4);
    let model = numbered(5_000);
    let meta = f.build(&model).meta().clone();
    let reader = f.reopen(meta);
    let spans: Vec<LeafSpan> = reader.leaves(&f.pager).map(Result::unwrap).collect();
    let bad = &spans[3];
    let address = bad.leaves[0].address;
    flip(&f, reader.segments()[0].path(), address.offset + 20);

    let mut c = f.cursor(&reader);
    c.first().unwrap();
    let mut seen = 0;
    let e = loop {
        assert!(c.valid());
        assert_eq!(c.key(), model[seen].0);
        seen += 1;
        if let Err(e) = c.next() {
            break e;
        }
    };
    assert_eq!(seen, spans[..3].iter().map(|s| s.leaves[0].entries as usize).sum::<usize>());
    assert_eq!(e.kind(), ErrorKind::Corrupt);
    assert_eq!(e.file(), Some(reader.segments()[0].path()));
    assert_eq!(e.offset(), Some(address.offset));
    let again = [c.next(), c.prev(), c.first(), c.last(), c.seek(b"\0"), c.seek_before(b"\xff")];
    for result in again {
        let again = result.unwrap_err();
        assert!(!c.valid());
        assert_eq!((again.kind(), again.offset()), (e.kind(), e.offset()));
        assert_eq!(again.file(), e.file());
    }
    let mut c = f.cursor(&reader);
    c.seek_before(&model[seen - 1].0).unwrap();
    assert_eq!(c.key(), model[seen - 2].0);
    c.last().unwrap();
    assert_eq!(c.key(), model[4_999].0);
    for (key, ..) in model.iter().step_by(7) {
        let found = reader.get(&f.pager, key, hash_key(key), Seq(9));
        if bad.covers(key) {
            assert_eq!(found.unwrap_err().kind(), ErrorKind::Corrupt);
        } else {
            assert!(found.unwrap().is_some());
        }
    }
    let problems = reader.check(&mut |_| ());
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].file, reader.segments()[0].path());
    assert_eq!(problems[0].offset, address.offset);
}

#[test]
fn a_flipped_byte_anywhere_is_found() {
    let mut f = Fixture::new(4096, Codec::Lz4);
    let model = numbered(1_500);
    let meta = f.build(&model).meta().clone();
    let mut pages = Vec::new();
    let reader = f.reopen(meta.clone());
    let _ = reader.check(&mut |v| {
        if let Visited::Page { offset, stored_bytes, ty, .. } = v {
            pages.push((offset, stored_bytes, ty));
        }
    });
    for ty in [PageType::Leaf, PageType::Inner, PageType::Filter] {
        assert!(pages.iter().any(|p| p.2 == ty));
    }
    let mut rng = fastrand::Rng::with_seed(2);
    let path = reader.segments()[0].path().to_path_buf();
    for _ in 0..200 {
        let (offset, len, _) = pages[rng.usize(0..pages.len())];
        let at = offset + u64::from(rng.u32(0..len));
        flip(&f, &path, at);
        let reader = f.reopen(meta.clone());
        let problems = reader.check(&mut |_| ());
        assert!(problems.iter().any(|p| p.offset == offset), "byte {at}: {problems:?}");
        // No answer is ever another than the model's.
        for (key, seq, value) in model.iter().step_by(31) {
            if let Ok(found) = reader.get(&f.pager, key, hash_key(key), Seq(9)) {
                let found = found.expect("a key that was written is there");
                assert_eq!((found.seq, &Val::found(&found.value)), (*seq, value));
            }
        }
        flip(&f, &path, at);
    }
    assert_sound(&f.reopen(meta), &model);
}

/// What a test may make wrong while a partition of two leaves is written by hand.
struct Plan {
    leaves: [Vec<Version>; 2],
    children: Vec<Child>,
    filtered: Vec<Vec<u8>>,
    meta: Option<PartitionMeta>,
}

fn version(key: &[u8], seq: u64) -> Version {
    (key.to_vec(), Seq(seq), Val::Inline(b"value".to_vec()))
}

/// Writes a partition whose leaves hold b, d and f, h; `spoil` is called with the leaves filled in,
/// again with the children, again with the manifest's part.
fn planted(f: &Fixture, spoil: &dyn Fn(&mut Plan, &str)) -> Arc<PartitionReader> {
    let mut plan = Plan {
        leaves: [
            vec![version(b"b", 9), version(b"d", 4)],
            vec![version(b"f", 7), (b"h".to_vec(), Seq(3), Val::Tombstone)],
        ],
        children: Vec::new(),
        filtered: [b"b", b"d", b"f", b"h"].map(|k| k.to_vec()).to_vec(),
        meta: None,
    };
    spoil(&mut plan, "leaves");
    let c = &f.ctx;
    let id = SegmentId(f.next_id.replace(f.next_id.get() + 1));
    let mut w = SegmentWriter::create(
        &c.vfs,
        &c.dir,
        &c.db,
        id,
        SegmentKind::Data,
        c.keyspace,
        Codec::None,
    )
    .unwrap();
    let mut live = 0;
    let mut append = |w: &mut SegmentWriter, ty, raw: &[u8]| -> PageAddress {
        let address = w.append(ty, raw, Codec::None).unwrap();
        live += u64::from(address.stored_bytes);
        address
    };
    let mut raw = Vec::new();
    for (leaf, separator) in plan.leaves.iter().zip([b"b", b"e"]) {
        let mut builder = LeafBuilder::new();
        for (key, seq, value) in leaf {
            builder.push(key, *seq, value.as_entry());
        }
        builder.finish(&mut raw);
        let address = append(&mut w, PageType::Leaf, &raw);
        plan.children.push(Child {
            separator: separator.to_vec(),
            address,
            max_seq: leaf.iter().map(|v| v.1).max().unwrap(),
            min_expiry: u64::MAX,
            entries: leaf.len() as u64,
            tombstones: leaf.iter().filter(|v| v.2 == Val::Tombstone).count() as u64,
            raw_bytes: leaf.iter().map(|v| (v.0.len() + v.2.as_entry().inline_len()) as u64).sum(),
            bytes: u64::from(address.stored_bytes),
        });
    }
    let honest = plan.children.clone();
    spoil(&mut plan, "children");
    let mut builder = InnerBuilder::new();
    for child in &plan.children {
        builder.push(child);
    }
    builder.finish(&mut raw);
    let root = append(&mut w, PageType::Inner, &raw);
    let mut filter = FilterBuilder::new();
    for key in &plan.filtered {
        filter.add(hash_key(key));
    }
    let pages = filter.pages();
    assert_eq!(pages.len(), 1);
    let at = append(&mut w, PageType::Filter, &pages[0]);
    let sealed = w.finish().unwrap();
    let filter = FilterRef {
        offset: at.offset,
        page_stored_bytes: at.stored_bytes,
        pages: 1,
        last_page_stored_bytes: at.stored_bytes,
    };
    let segment = PartitionSegment {
        id,
        file_bytes: sealed.file_bytes,
        live_bytes: live,
        filter: Some(filter),
    };
    plan.meta = Some(PartitionMeta {
        id: PartitionId(id.0),
        root,
        height: 1,
        first_key: b"b".to_vec(),
        last_key: b"h".to_vec(),
        segments: vec![segment],
        entries: honest.iter().map(|c| c.entries).sum(),
        tombstones: honest.iter().map(|c| c.tombstones).sum(),
        raw_bytes: honest.iter().map(|c| c.raw_bytes).sum(),
        live_bytes: live,
        max_seq: honest.iter().map(|c| c.max_seq).max().unwrap(),
        droppable: Droppable::default(),
        lives: Lives::default(),
        blobs: Vec::new(),
        ingested: Seq(0),
    });
    spoil(&mut plan, "meta");
    let opened = Arc::new(Segment::open(&c.vfs, &c.dir, &c.db, id).unwrap());
    Arc::new(PartitionReader::open(plan.meta.unwrap(), vec![opened]).unwrap())
}

/// Makes something wrong at one of the stages.
type Spoil = Box<dyn Fn(&mut Plan, &str)>;

/// Applies `change` at one stage of the plan.
fn at(stage: &'static str, change: impl Fn(&mut Plan) + 'static) -> Spoil {
    Box::new(move |plan, now| {
        if now == stage {
            change(plan);
        }
    })
}

fn meta(change: impl Fn(&mut PartitionMeta) + 'static) -> Spoil {
    at("meta", move |p| change(p.meta.as_mut().unwrap()))
}

#[test]
fn the_check_finds_every_kind_of_planted_damage() {
    let f = Fixture::new(4096, Codec::None);
    assert_eq!(planted(&f, &|_, _| ()).check(&mut |_| ()), []);
    let cases: Vec<(Spoil, &str)> = vec![
        (at("leaves", |p| p.leaves[1][0].0 = b"c".to_vec()), "1 entries are out of order"),
        (
            at("leaves", |p| {
                p.leaves[1][0] = version(b"d", 5);
                p.filtered[2] = b"d".to_vec();
            }),
            "1 entries are out of order",
        ),
        (at("children", |p| p.children[1].separator = b"d".to_vec()), "not greater than the keys"),
        (at("children", |p| p.children[1].separator = b"g".to_vec()), "than the leaf's first key"),
        (at("children", |p| p.children[0].separator = b"a".to_vec()), "not that of the page above"),
        (at("children", |p| p.children[0].max_seq = Seq(8)), "child 0 says highest number 8"),
        (at("children", |p| p.children[1].entries = 3), "child 1 says entries 3"),
        (at("children", |p| p.children[1].tombstones = 0), "child 1 says tombstones 0"),
        (at("children", |p| p.children[0].raw_bytes += 1), "child 0 says raw bytes"),
        (at("children", |p| p.children[0].bytes -= 1), "child 0 says bytes"),
        (at("children", |p| p.children[0].min_expiry = 5), "child 0 says earliest expiry 5"),
        (at("children", |p| p.children[1].address = p.children[0].address), "reached twice"),
        (at("children", |p| p.children[1].address.segment = SegmentId(99)), "not one of its own"),
        (at("children", |p| p.children[1].address.checksum ^= 1), ""),
        (at("children", |p| p.children[1].address.offset += 1), ""),
        (at("leaves", |p| p.filtered.truncate(3)), "the filter denies 1 keys"),
        (meta(|m| m.height = 2), ""),
        (meta(|m| m.height = 0), ""),
        (meta(|m| m.entries = 5), "the manifest says entries 5"),
        (meta(|m| m.tombstones = 2), "the manifest says tombstones 2"),
        (meta(|m| m.raw_bytes = 0), "the manifest says raw bytes 0"),
        (meta(|m| m.max_seq = Seq(10)), "the manifest says highest number 10"),
        (meta(|m| m.lives.note(Expiry(7), 5)), "the manifest says expiring entries 1"),
        (meta(|m| m.live_bytes += 1), "live bytes for the partition"),
        (meta(|m| m.segments[0].live_bytes += 1), "the reachable pages have"),
        (meta(|m| m.segments[0].file_bytes += 1), "the manifest says"),
        (meta(|m| m.first_key = b"c".to_vec()), "less than the partition's first key"),
        (meta(|m| m.last_key = b"g".to_vec()), "greater than the partition's last key"),
        (
            meta(|m| m.blobs.push(BlobUse { segment: SegmentId(5), bytes: 1 })),
            "the blob bytes in the manifest",
        ),
        (meta(|m| m.root.checksum ^= 1), ""),
        (meta(|m| m.segments[0].filter.as_mut().unwrap().offset += 1), ""),
    ];
    for (i, (spoil, expected)) in cases.iter().enumerate() {
        let reader = planted(&f, spoil.as_ref());
        let problems = reader.check(&mut |_| ());
        assert!(
            problems.iter().any(|p| p.message.contains(expected)),
            "case {i} ({expected}): {problems:?}"
        );
        assert!(problems.iter().all(|p| p.file == reader.segments()[0].path()));
    }
}
