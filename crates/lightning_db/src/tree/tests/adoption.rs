//! Partitions renewed in part: leaves that nothing touches stay where they are.

use super::*;
use crate::manifest::ViewSpan;

fn blob(rng: &mut fastrand::Rng) -> BlobRef {
    BlobRef {
        segment: SegmentId(500 + rng.u64(0..4)),
        offset: 64,
        stored_bytes: rng.u64(1..100_000),
        value_bytes: 5,
        checksum: 6,
    }
}

fn random_value(rng: &mut fastrand::Rng, blobs: bool) -> Val {
    match rng.u8(0..10) {
        0 => Val::Tombstone,
        1 if blobs => Val::Blob(blob(rng)),
        _ => Val::Inline((0..rng.usize(10..60)).map(|_| rng.u8(..)).collect()),
    }
}

fn key(n: u64) -> Vec<u8> {
    format!("key/{:03}/{n:06}", n % 13).into_bytes()
}

/// Merges `news` into `old`: touched spans are rewritten, the others kept. Returns the new partition
/// and the number of leaves kept.
fn renew(
    f: &Fixture,
    old: &Arc<PartitionReader>,
    news: &[Version],
) -> (Arc<PartitionReader>, usize) {
    let mut w = f.writer();
    let mut kept = 0;
    let mut at = 0;
    let push = |w: &mut PartitionWriter, versions: Vec<Version>| {
        for (key, seq, value) in arrange(versions) {
            w.push(&key, seq, value.as_entry()).unwrap();
        }
    };
    for span in old.leaves(&f.pager) {
        let span = span.unwrap();
        let mut before = Vec::new();
        while at < news.len() && news[at].0.as_slice() < span.start() {
            before.push(news[at].clone());
            at += 1;
        }
        push(&mut w, before);
        let from = at;
        while at < news.len() && span.covers(&news[at].0) {
            at += 1;
        }
        if from == at && w.can_adopt(&span) {
            kept += span.leaves.len();
            w.adopt(&span, old, &f.pager).unwrap();
            continue;
        }
        let mut versions = news[from..at].to_vec();
        let mut c = f.cursor(old);
        c.seek(span.start()).unwrap();
        while c.valid() && span.covers(c.key()) {
            versions.push((c.key().to_vec(), c.seq(), Val::of(c.value())));
            c.next().unwrap();
        }
        push(&mut w, versions);
    }
    push(&mut w, news[at..].to_vec());
    (finish(w, old.segments()), kept)
}

fn blob_use(model: &[Version]) -> Vec<(SegmentId, u64)> {
    let mut sums = std::collections::BTreeMap::new();
    for (_, _, value) in model {
        if let Val::Blob(b) = value {
            *sums.entry(b.segment).or_insert(0) += b.stored_bytes;
        }
    }
    sums.into_iter().collect()
}

#[test]
fn a_partition_renewed_in_part_again_and_again_stays_right() {
    for seed in 0..10 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let blobs = seed % 2 == 0;
        let f = Fixture::new(4096, if seed % 3 == 0 { Codec::Lz4 } else { Codec::None });
        let mut model: Vec<Version> = (0..6_000)
            .filter(|_| rng.bool())
            .map(|n| (key(n), Seq(1), Val::Inline(vec![n as u8; 30])))
            .collect();
        if blobs {
            for v in model.iter_mut().step_by(41) {
                v.2 = Val::Blob(blob(&mut rng));
            }
        }
        let mut model = arrange(model);
        let mut reader = f.build(&model);
        let mut kept_ever = 0;
        for round in 2..9u64 {
            // Updates gather in one part of the keys, now and then outside of all.
            let from = rng.u64(0..6_500);
            let mut news: Vec<Version> = (0..rng.usize(1..120))
                .map(|_| {
                    let n = from + rng.u64(0..300);
                    (key(n), Seq(round), random_value(&mut rng, blobs))
                })
                .collect();
            if rng.bool() {
                news.push((b"a".to_vec(), Seq(round), random_value(&mut rng, blobs)));
                news.push((b"z".to_vec(), Seq(round), random_value(&mut rng, blobs)));
            }
            let news = arrange(news);
            let (next, kept) = renew(&f, &reader, &news);
            kept_ever += kept;
            model.extend(news);
            model = arrange(model);
            eprintln!("seed {seed} round {round}: {kept} leaves kept");
            assert!(next.meta().segments.len() <= writer::MAX_SEGMENTS);
            assert!(contents(&f, &next) == model, "seed {seed} round {round}");
            assert_sound(&next, &model);
            assert_reads(&f, &next, &model, &mut rng);
            assert_movement(&f, &next, &model, &mut rng, 300);
            let found = next.meta().blobs.iter().map(|b| (b.segment, b.bytes)).collect::<Vec<_>>();
            assert_eq!(found, blob_use(&model));
            assert_eq!(next.meta().first_key, model[0].0);
            assert_eq!(next.meta().last_key, model[model.len() - 1].0);
            reader = next;
        }
        assert!(kept_ever > 50, "only {kept_ever} leaves were kept");
    }
}

/// 8,000 versions in leaves of about 40, without blobs.
fn plain(f: &Fixture) -> (Vec<Version>, Arc<PartitionReader>) {
    let model: Vec<Version> = (0..8_000u64)
        .map(|n| (format!("{n:08}").into_bytes(), Seq(n % 3), Val::Inline(vec![7; 80])))
        .collect();
    let reader = f.build(&model);
    (model, reader)
}

#[test]
fn keeping_leaves_reads_none_of_them() {
    let mut f = Fixture::new(4096, Codec::None);
    let (model, reader) = plain(&f);
    // The second leaf is damaged; keeping it goes unnoticed, since nothing reads it.
    let spans: Vec<LeafSpan> = reader.leaves(&f.pager).map(Result::unwrap).collect();
    let at = spans[1].leaves[0].address;
    let file =
        f.ctx.vfs.open(reader.segments()[0].path(), crate::vfs::OpenMode::ReadWrite).unwrap();
    file.write_at(&[0xee; 4], at.offset + 40).unwrap();
    let reader = f.reopen(reader.meta().clone());
    let mut w = f.writer();
    for span in &spans {
        w.adopt(span, &reader, &f.pager).unwrap();
    }
    w.push(b"x", Seq(4), EntryValue::Tombstone).unwrap();
    let written = w.stored_bytes();
    let next = finish(w, reader.segments());
    assert!(written < 60_000, "{written} bytes written to add one entry");
    assert_eq!(next.meta().entries, model.len() as u64 + 1);
    assert_eq!(next.meta().tombstones, 1);
    assert_eq!(next.check(&mut |_| ()).len(), 1);
}

#[test]
fn a_partition_of_kept_leaves_only_needs_no_filter_of_its_own() {
    let f = Fixture::new(4096, Codec::None);
    let (model, reader) = plain(&f);
    let mut w = f.writer();
    for span in reader.leaves(&f.pager) {
        w.adopt(&span.unwrap(), &reader, &f.pager).unwrap();
    }
    let next = finish(w, reader.segments());
    assert_eq!(next.segments().len(), 2);
    assert_eq!(next.meta().last_key, reader.meta().last_key);
    assert_sound(&next, &model);
    let absent = (0..2_000u32).filter(|n| {
        let hash = hash_key(&n.to_le_bytes());
        next.may_contain(&f.pager, hash).unwrap()
    });
    assert!(absent.count() < 100);
}

#[test]
fn a_single_kept_leaf_needs_no_segment_at_all() {
    let f = Fixture::new(4096, Codec::None);
    let (model, reader) = plain(&f);
    let spans: Vec<LeafSpan> = reader.leaves(&f.pager).map(Result::unwrap).collect();
    for at in [0, 5, spans.len() - 1] {
        let mut w = f.writer();
        w.adopt(&spans[at], &reader, &f.pager).unwrap();
        let (meta, segment) = w.finish().unwrap();
        assert!(segment.is_none());
        assert_eq!(meta.height, 0);
        let part: Vec<Version> = model.iter().filter(|v| spans[at].covers(&v.0)).cloned().collect();
        // The last key is exact, so that a partition that begins with the next leaf cannot overlap.
        assert_eq!(meta.last_key, part[part.len() - 1].0);
        let one = Arc::new(PartitionReader::open(meta, reader.segments().to_vec()).unwrap());
        assert_sound(&one, &part);
        assert!(contents(&f, &one) == part);
        let again: Vec<LeafSpan> = one.leaves(&f.pager).map(Result::unwrap).collect();
        assert_eq!(again.len(), 1);
        assert_eq!(again[0].start(), one.meta().first_key);
    }
}

#[test]
fn two_partitions_are_joined_by_keeping_the_leaves_of_both() {
    let f = Fixture::new(4096, Codec::Lz4);
    let (model, _) = plain(&f);
    let (left, right) = (f.build(&model[..3_000]), f.build(&model[3_000..]));
    let mut w = f.writer();
    let mut segments = left.segments().to_vec();
    segments.extend_from_slice(right.segments());
    for source in [&left, &right] {
        for span in source.leaves(&f.pager) {
            w.adopt(&span.unwrap(), source, &f.pager).unwrap();
        }
    }
    let joined = finish(w, &segments);
    assert_sound(&joined, &model);
    assert!(contents(&f, &joined) == model);
    let mut rng = fastrand::Rng::with_seed(5);
    assert_reads(&f, &joined, &model, &mut rng);
}

#[test]
fn a_fourth_segment_is_refused() {
    let f = Fixture::new(4096, Codec::None);
    let (model, _) = plain(&f);
    let parts: Vec<_> = model.chunks(2_000).map(|c| f.build(c)).collect();
    let mut w = f.writer();
    for (i, part) in parts.iter().enumerate() {
        let span = part.leaves(&f.pager).next().unwrap().unwrap();
        assert_eq!(w.can_adopt(&span), i < 2);
        assert_eq!(w.adopt(&span, part, &f.pager).is_ok(), i < 2);
        if i == 2 {
            break;
        }
    }
    assert!(w.finish().is_err());
}

#[test]
fn leaves_out_of_order_are_refused() {
    let f = Fixture::new(4096, Codec::None);
    let (_, reader) = plain(&f);
    let spans: Vec<LeafSpan> = reader.leaves(&f.pager).map(Result::unwrap).collect();
    let mut w = f.writer();
    w.adopt(&spans[3], &reader, &f.pager).unwrap();
    assert!(w.adopt(&spans[2], &reader, &f.pager).is_err());
    let mut w = f.writer();
    w.adopt(&spans[3], &reader, &f.pager).unwrap();
    assert!(w.push(spans[3].start(), Seq(9), EntryValue::Tombstone).is_err());
    let mut w = f.writer();
    w.push(b"5", Seq(9), EntryValue::Tombstone).unwrap();
    assert!(w.adopt(&spans[0], &reader, &f.pager).is_err());
}

#[test]
fn what_may_go_is_counted_and_carried_over_no_further_than_what_is_kept() {
    let f = Fixture::new(4096, Codec::None);
    let mut w = f.writer();
    for n in 0..4_000u32 {
        w.push(&n.to_be_bytes(), Seq(u64::from(n / 2_000)), EntryValue::Inline(&[1; 50])).unwrap();
    }
    let span = |below| ViewSpan { from: Seq(0), below: Seq(below) };
    w.note_droppable(30_000, span(11));
    w.note_droppable(10_000, span(7));
    let old = finish(w, &[]);
    assert_eq!(old.meta().droppable.bytes(), 40_000);
    let spans: Vec<LeafSpan> = old.leaves(&f.pager).map(Result::unwrap).collect();
    let carried = |spans: &[LeafSpan]| {
        let mut w = f.writer();
        for span in spans {
            w.adopt(span, &old, &f.pager).unwrap();
        }
        let (meta, _) = w.finish().unwrap();
        (meta.droppable.bytes(), meta.droppable.unseen(|s| s == span(11)))
    };
    assert_eq!(carried(&spans), (40_000, 10_000));
    // Settled leaves have nothing that a number could set free.
    assert_eq!(spans[0].max_seq(), Seq(0));
    assert_eq!(carried(&spans[..2]), (0, 0));
    let last = &spans[spans.len() - 1..];
    assert_eq!(carried(last), (last[0].bytes(), last[0].bytes() / 4));
}
