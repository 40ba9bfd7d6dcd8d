//! What reads cost, in reads of the disk, and what becomes of them when it fails.

use super::watched::{Event, Watch, WatchedVfs};
use super::*;
use crate::ErrorKind;
use crate::sync::atomic::Ordering;

/// 20,000 entries over three levels of pages, opened cold.
fn watched() -> (Fixture, Arc<Watch>, Arc<PartitionReader>, Vec<Version>) {
    let vfs = WatchedVfs::default();
    let watch = Arc::clone(&vfs.watch);
    let mut f = Fixture::on(Arc::new(vfs), 4096, Codec::None);
    let model: Vec<Version> = (0..20_000u64)
        .map(|n| (format!("{n:09}").into_bytes(), Seq(1), Val::Inline(vec![n as u8; 60])))
        .collect();
    let meta = f.build(&model).meta().clone();
    let reader = f.reopen(meta);
    assert_eq!(reader.meta().height, 2);
    watch.take();
    (f, watch, reader, model)
}

#[test]
fn a_cold_point_read_reads_one_page_a_level_and_one_of_the_filter() {
    let (mut f, watch, reader, model) = watched();
    for n in [0, 777, 19_999] {
        f.pager = pager();
        let (key, ..) = &model[n];
        assert!(f.get(&reader, key, Seq(1)).is_some());
        let root = usize::from(n == 0);
        assert_eq!(watch.take_reads(), root + 3, "filter, inner page, leaf; the root once");
        assert!(f.get(&reader, key, Seq(1)).is_some());
        assert!(f.get(&reader, key, Seq(0)).is_none());
        assert_eq!(watch.take_reads(), 0);
    }
    // Keys outside of the partition's bounds cost nothing at all.
    f.pager = pager();
    assert!(f.get(&reader, b"", Seq(1)).is_none());
    assert!(f.get(&reader, b"x", Seq(1)).is_none());
    assert_eq!(watch.take_reads(), 0);
    // An absent key costs a filter page; few cost more.
    let mut reads = 0;
    for n in 0..400 {
        f.pager = pager();
        assert!(f.get(&reader, format!("{n:09}x").as_bytes(), Seq(1)).is_none());
        reads += watch.take_reads();
    }
    assert!((400..440).contains(&reads), "{reads} reads for 400 absent keys");
}

#[test]
fn a_forward_scan_asks_for_leaves_before_it_reads_them() {
    let (f, watch, reader, model) = watched();
    assert!(contents(&f, &reader) == model);
    let mut asked: Vec<(u64, u64)> = Vec::new();
    let (mut reads, mut late) = (0, 0);
    for event in watch.take() {
        match event {
            Event::Prefetch(offset, len) => {
                assert!(asked.iter().all(|(from, to)| offset + len <= *from || *to <= offset));
                asked.push((offset, offset + len));
            }
            Event::Read(offset, _) => {
                reads += 1;
                let known = asked.iter().any(|(from, to)| (*from..*to).contains(&offset));
                late += usize::from(!known);
            }
        }
    }
    let leaves = reader.leaves(&f.pager).count();
    assert!(reads >= leaves && leaves > 300);
    // The first leaves, inner pages, and the first leaf under each of them come unasked.
    assert!(late < reads / 20, "{late} of {reads} reads were not asked for ahead");
    assert!(asked.len() < leaves / 3, "{} calls for {leaves} leaves", asked.len());
}

#[test]
fn nothing_is_asked_for_ahead_by_seeks_reverse_scans_or_where_it_is_off() {
    let (f, watch, reader, model) = watched();
    let asked = || watch.take().iter().filter(|e| matches!(e, Event::Prefetch(..))).count();
    let mut c = f.cursor(&reader);
    for (key, ..) in model.iter().step_by(997) {
        c.seek(key).unwrap();
        c.next().unwrap();
    }
    assert_eq!(asked(), 0);
    c.last().unwrap();
    while c.valid() {
        c.prev().unwrap();
    }
    assert_eq!(asked(), 0);
    let options = CursorOptions { read_ahead: 0, ..CursorOptions::default() };
    let mut c = PartitionCursor::new(Arc::clone(&reader), f.pager.clone(), options);
    c.first().unwrap();
    while c.valid() {
        c.next().unwrap();
    }
    assert_eq!(asked(), 0);
}

#[test]
fn a_merge_leaves_nothing_in_the_cache() {
    let (f, watch, reader, model) = watched();
    let options = CursorOptions { uncached: true, ..CursorOptions::default() };
    let mut c = PartitionCursor::new(Arc::clone(&reader), f.pager.clone(), options);
    let mut seen = 0;
    c.first().unwrap();
    while c.valid() {
        assert_eq!(c.key(), model[seen].0);
        seen += 1;
        c.next().unwrap();
    }
    assert_eq!(seen, model.len());
    assert!(watch.take_reads() > 300);
    assert_eq!(f.pager.cache().stats().pages, 0);
}

#[test]
fn a_cursor_that_met_a_failing_disk_stays_failed_and_a_new_one_does_not() {
    let (f, watch, reader, model) = watched();
    let mut c = f.cursor(&reader);
    c.seek(&model[5_000].0).unwrap();
    watch.reads_fail.store(true, Ordering::Relaxed);
    let e = loop {
        if let Err(e) = c.next() {
            break e;
        }
    };
    assert_eq!(e.kind(), ErrorKind::Io);
    let key = &model[100].0;
    assert_eq!(reader.newest_seq(&f.pager, key, hash_key(key)).unwrap_err().kind(), ErrorKind::Io);
    watch.reads_fail.store(false, Ordering::Relaxed);
    let again = c.first().unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Io);
    assert!(again.to_string().contains("the device failed"), "{again}");
    assert!(!c.valid());
    let mut c = f.cursor(&reader);
    c.first().unwrap();
    assert_eq!(c.key(), model[0].0);
    assert!(f.get(&reader, key, Seq(1)).is_some());
}

#[test]
fn the_walk_over_leaves_ends_with_its_first_error() {
    let (f, watch, reader, _) = watched();
    let mut leaves = reader.leaves(&f.pager);
    assert!(leaves.next().unwrap().is_ok());
    watch.reads_fail.store(true, Ordering::Relaxed);
    let e = leaves.by_ref().find_map(Result::err).unwrap();
    assert_eq!(e.kind(), ErrorKind::Io);
    watch.reads_fail.store(false, Ordering::Relaxed);
    assert!(leaves.next().is_none());
}

#[test]
fn a_full_disk_is_an_error_and_leaves_no_file() {
    for before in [0, 10_000] {
        let vfs = WatchedVfs::default();
        let watch = Arc::clone(&vfs.watch);
        let f = Fixture::on(Arc::new(vfs), 4096, Codec::None);
        let mut w = f.writer();
        let mut result = Ok(());
        for n in 0..20_000u32 {
            watch.disk_is_full.store(n >= before, Ordering::Relaxed);
            result = w.push(&n.to_be_bytes(), Seq(1), EntryValue::Inline(&[5; 100]));
            if result.is_err() {
                break;
            }
        }
        assert_eq!(result.unwrap_err().kind(), ErrorKind::StorageFull);
        watch.disk_is_full.store(false, Ordering::Relaxed);
        assert!(w.finish().is_err(), "a partition with a hole must not be finished");
        assert!(f.ctx.vfs.list(&f.ctx.dir.join("seg")).unwrap().is_empty());
    }
    // Full at the very end.
    let vfs = WatchedVfs::default();
    let watch = Arc::clone(&vfs.watch);
    let f = Fixture::on(Arc::new(vfs), 4096, Codec::None);
    let mut w = f.writer();
    for n in 0..100u32 {
        w.push(&n.to_be_bytes(), Seq(1), EntryValue::Inline(&[5; 100])).unwrap();
    }
    watch.disk_is_full.store(true, Ordering::Relaxed);
    assert_eq!(w.finish().unwrap_err().kind(), ErrorKind::StorageFull);
    assert!(f.ctx.vfs.list(&f.ctx.dir.join("seg")).unwrap().is_empty());
}
