//! Random partitions of many shapes: reads, movement, estimates, statistics.

use super::*;

/// Random versions: keys of several shapes with shared beginnings, zero bytes included.
fn random_versions(rng: &mut fastrand::Rng, entries: usize) -> Vec<Version> {
    let mut versions = Vec::with_capacity(entries);
    let shape = rng.u8(0..4);
    let settled = rng.u8(0..3) == 0;
    let spread = (entries as u64 * 2).max(4);
    while versions.len() < entries {
        let n = rng.u64(0..spread);
        let key = match shape {
            0 => n.to_be_bytes().to_vec(),
            1 => format!("user/{:04}/{n}", n % 97).into_bytes(),
            2 => (0..rng.usize(1..12)).map(|_| rng.u8(0..4)).collect(),
            _ => [&n.to_le_bytes()[..], &vec![0; rng.usize(0..3)]].concat(),
        };
        let count = if settled || rng.u8(0..4) > 0 { 1 } else { rng.usize(1..12) };
        for _ in 0..count {
            let seq = if settled { Seq(0) } else { Seq(rng.u64(1..1_000_000)) };
            let value = match rng.u8(0..12) {
                0 => Val::Tombstone,
                1 => Val::Blob(BlobRef {
                    segment: SegmentId(900 + rng.u64(0..3)),
                    offset: rng.u64(0..1 << 40),
                    stored_bytes: rng.u64(1..1 << 30),
                    value_bytes: rng.u32(..),
                    checksum: rng.u32(..),
                }),
                _ => Val::Inline((0..rng.usize(0..60)).map(|_| rng.u8(0..8)).collect()),
            };
            versions.push((key.clone(), seq, value));
        }
    }
    arrange(versions)
}

fn assert_like_model(f: &Fixture, model: &[Version], rng: &mut fastrand::Rng) {
    let reader = f.build(model);
    let meta = reader.meta();
    assert_eq!(meta.first_key, model[0].0);
    assert_eq!(meta.last_key, model[model.len() - 1].0);
    assert_eq!(meta.entries, model.len() as u64);
    assert_eq!(meta.max_seq, model.iter().map(|v| v.1).max().unwrap());
    let tombstones = model.iter().filter(|v| v.2 == Val::Tombstone).count();
    assert_eq!(meta.tombstones, tombstones as u64);
    assert!(contents(f, &reader) == model, "a scan differs from the model");
    assert_sound(&reader, model);
    assert_reads(f, &reader, model, rng);
    assert_movement(f, &reader, model, rng, 1_500);
}

#[test]
fn partitions_of_any_size_and_shape_read_like_the_model() {
    for seed in 0..24 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let codec = if seed % 2 == 0 { Codec::None } else { Codec::Lz4 };
        let page_bytes = [4096, 65_536][rng.usize(0..2)];
        let entries = [1, 2, 7, 60, 900, 6_000, 15_000][rng.usize(0..7)];
        eprintln!("seed {seed}: {entries} entries in pages of {page_bytes}");
        let model = random_versions(&mut rng, entries);
        assert_like_model(&Fixture::new(page_bytes, codec), &model, &mut rng);
    }
}

#[test]
fn a_large_partition_reads_like_the_model_and_has_several_levels() {
    let mut rng = fastrand::Rng::with_seed(99);
    let f = Fixture::new(4096, Codec::Lz4);
    let model: Vec<Version> = (0..200_000u64)
        .map(|n| {
            let value = format!("value of {n:>70}").into_bytes();
            (format!("key{n:012}").into_bytes(), Seq(n % 5), Val::Inline(value))
        })
        .collect();
    let reader = f.build(&model);
    assert!(reader.meta().height >= 2, "height {}", reader.meta().height);
    assert!(contents(&f, &reader) == model);
    assert_sound(&reader, &model);
    assert_reads(&f, &reader, &model, &mut rng);
    assert_movement(&f, &reader, &model, &mut rng, 3_000);
}

#[test]
fn keys_of_the_greatest_length_make_a_tree_that_ends() {
    let f = Fixture::new(4096, Codec::None);
    let long = crate::limits::MAX_KEY_BYTES;
    let model: Vec<Version> = (0..60u16)
        .map(|n| {
            let mut key = vec![b'x'; long - 2];
            key.extend_from_slice(&n.to_be_bytes());
            (key, Seq(3), Val::Inline(vec![1; 9]))
        })
        .collect();
    let mut rng = fastrand::Rng::with_seed(1);
    let reader = f.build(&model);
    assert_sound(&reader, &model);
    assert!(contents(&f, &reader) == model);
    assert_movement(&f, &reader, &model, &mut rng, 300);
    assert_eq!(f.get(&reader, &model[33].0, Seq(3)).unwrap().0, Seq(3));
}

#[test]
fn an_absent_key_seldom_passes_the_filter() {
    let f = Fixture::new(4096, Codec::Lz4);
    let model: Vec<Version> =
        (0..30_000u64).map(|n| (n.to_be_bytes().to_vec(), Seq(1), Val::Tombstone)).collect();
    let reader = f.build(&model);
    let passed = (0..20_000u64)
        .filter(|n| {
            let hash = hash_key(&(n + (1 << 40)).to_be_bytes());
            reader.may_contain(&f.pager, hash).unwrap()
        })
        .count();
    assert!(passed < 600, "{passed} of 20,000 absent keys pass");
}

#[test]
fn a_sum_by_inner_pages_is_within_a_factor_of_two() {
    let mut rng = fastrand::Rng::with_seed(4);
    let f = Fixture::new(4096, Codec::None);
    let model: Vec<Version> = (0..50_000u64)
        .map(|n| {
            let value = vec![b'v'; 1 + (n % 150) as usize];
            (format!("{n:08}").into_bytes(), Seq(1), Val::Inline(value))
        })
        .collect();
    let reader = f.build(&model);
    let leaf_bytes: u64 = reader.leaves(&f.pager).map(|span| span.unwrap().bytes()).sum();
    let raw: u64 = reader.meta().raw_bytes;
    for _ in 0..500 {
        let (a, b) = (rng.usize(0..model.len()), rng.usize(0..model.len()));
        let (a, b) = (a.min(b), a.max(b));
        if b - a < 200 {
            continue;
        }
        let truth: u64 =
            model[a..b].iter().map(|v| (v.0.len() + v.2.as_entry().inline_len()) as u64).sum();
        let truth = truth as f64 * leaf_bytes as f64 / raw as f64;
        let end = if b == model.len() - 1 { None } else { Some(model[b].0.as_slice()) };
        let e = reader.estimate(&f.pager, &model[a].0, end).unwrap();
        let bytes = reader.estimate_bytes(&f.pager, &model[a].0, end).unwrap();
        assert_eq!(bytes, e.bytes);
        assert!((0.5..2.0).contains(&(e.bytes as f64 / truth)), "{} of {truth}", e.bytes);
        let entries = e.entries as f64 / (b - a) as f64;
        assert!((0.5..2.0).contains(&entries), "{} of {} entries", e.entries, b - a);
    }
    let all = reader.estimate(&f.pager, b"", None).unwrap();
    assert_eq!((all.bytes, all.entries), (reader.meta().live_bytes, 50_000));
    assert_eq!(reader.estimate_bytes(&f.pager, b"9", None).unwrap(), 0);
    assert_eq!(reader.estimate_bytes(&f.pager, b"", Some(b"0")).unwrap(), 0);
    assert_eq!(reader.estimate_bytes(&f.pager, b"00000100", Some(b"00000100")).unwrap(), 0);
}

#[test]
fn entries_out_of_order_are_refused_and_so_is_finishing_after_it() {
    let put = EntryValue::Inline(b"v");
    for (key, seq) in [(&b"a"[..], 9), (b"b", 5), (b"b", 6)] {
        let f = Fixture::new(4096, Codec::None);
        let mut w = f.writer();
        w.push(b"b", Seq(5), put).unwrap();
        let e = w.push(key, Seq(seq), put).unwrap_err();
        assert_eq!(e.kind(), crate::ErrorKind::Corrupt);
        assert!(w.finish().is_err());
    }
}

#[test]
fn what_cannot_be_a_partition_is_refused() {
    let f = Fixture::new(4096, Codec::None);
    let w = f.writer();
    assert!(w.is_empty());
    assert_eq!(w.finish().unwrap_err().kind(), crate::ErrorKind::InvalidArgument);
    let huge = vec![0; crate::limits::MAX_PAGE_RAW_BYTES];
    let e = f.writer().push(b"k", Seq(1), EntryValue::Inline(&huge)).unwrap_err();
    assert_eq!(e.kind(), crate::ErrorKind::InvalidArgument);
    let e = f.writer().push(b"", Seq(1), EntryValue::Tombstone).unwrap_err();
    assert_eq!(e.kind(), crate::ErrorKind::InvalidArgument);
    assert!(f.ctx.vfs.list(&f.ctx.dir.join("seg")).unwrap().is_empty(), "no file was made");
}

#[test]
fn an_abandoned_partition_leaves_no_file() {
    let f = Fixture::new(4096, Codec::None);
    let mut w = f.writer();
    for n in 0..2_000u32 {
        w.push(&n.to_be_bytes(), Seq(1), EntryValue::Inline(&[1; 50])).unwrap();
    }
    assert!(w.stored_bytes() > 100_000);
    assert!(w.partition_bytes() > 100_000);
    w.abandon().unwrap();
    assert!(f.ctx.vfs.list(&f.ctx.dir.join("seg")).unwrap().is_empty());
}

#[test]
fn what_readers_hold_can_move_between_threads() {
    fn moves<T: Send + 'static>() {}
    fn shared<T: Send + Sync + 'static>() {}
    moves::<PartitionCursor>();
    moves::<Leaves>();
    moves::<PartitionWriter>();
    shared::<PartitionReader>();
    shared::<Found>();
}

#[test]
fn a_missing_segment_is_an_error_when_a_partition_is_opened() {
    let f = Fixture::new(4096, Codec::None);
    let reader = f.build(&[(b"k".to_vec(), Seq(1), Val::Tombstone)]);
    let e = PartitionReader::open(reader.meta().clone(), Vec::new()).unwrap_err();
    assert_eq!(e.kind(), crate::ErrorKind::InvalidArgument);
}
