//! States and edits as bytes; edits that are refused.

use fastrand::Rng;

use super::sample::{self, DB};
use crate::codec::put_varint;
use crate::error::ErrorKind;
use crate::manifest::{
    BlobUse, Edit, EditOp, KeyInterval, Manifest, ManifestState, NextIds, PartitionMeta,
    install_current,
};
use crate::types::{KeyspaceId, LogId, ManifestId, PartitionId, RunId, SegmentId, Seq};

fn encoded(edit: &Edit) -> Vec<u8> {
    let mut bytes = Vec::new();
    edit.encode(&mut bytes);
    bytes
}

#[test]
fn edits_one_by_one_a_reload_and_a_snapshot_give_the_same_state() {
    let mut most = [0; 3];
    for seed in 0..80 {
        let mut rng = Rng::with_seed(seed);
        let disk = sample::disk(seed);
        let (vfs, dir) = (sample::as_vfs(&disk), sample::dir());
        let mut state = sample::empty();
        let mut manifest =
            Manifest::create(&vfs, &dir, ManifestId(1), &state, &sample::owner()).unwrap();
        install_current(&vfs, &dir, ManifestId(1), DB).unwrap();
        for n in 0..60 {
            let edit = sample::edit(&mut rng, &state);
            assert_eq!(Edit::decode(&encoded(&edit)).as_ref(), Ok(&edit), "seed {seed}");
            state.apply(&edit).unwrap_or_else(|m| panic!("seed {seed}, edit {n}: {m} {edit:?}"));
            manifest.commit(&edit).unwrap();
            assert_eq!(*manifest.state(), state, "seed {seed}, edit {n}");
            if n % 7 == 0 {
                let loaded = Manifest::load(&vfs, &dir, &sample::owner()).unwrap();
                assert_eq!(loaded, (state.clone(), ManifestId(1)), "seed {seed}, edit {n}");
            }
        }
        let mut rebuilt = ManifestState::new(DB);
        rebuilt.apply(&state.snapshot_edit()).unwrap();
        rebuilt.edit = state.edit;
        assert_eq!(rebuilt, state, "seed {seed}");
        let runs = state.keyspaces.values().map(|k| k.runs.len()).sum();
        let consumed =
            state.keyspaces.values().flat_map(|k| &k.runs).filter(|r| !r.consumed.is_empty());
        for (most, now) in most.iter_mut().zip([runs, consumed.count(), state.keyspaces.len()]) {
            *most = (*most).max(now);
        }
    }
    assert!(most[0] > 5 && most[1] > 2 && most[2] > 2, "the samples say little: {most:?}");
}

#[test]
fn the_manifest_rolls_to_a_new_file_and_stays_the_same() {
    for seed in 0..40 {
        let mut rng = Rng::with_seed(seed);
        let disk = sample::disk(seed);
        let (vfs, dir) = (sample::as_vfs(&disk), sample::dir());
        let mut manifest =
            Manifest::create(&vfs, &dir, ManifestId(1), &sample::empty(), &sample::owner())
                .unwrap();
        install_current(&vfs, &dir, ManifestId(1), DB).unwrap();
        for _ in 0..40 {
            manifest.roll_past(rng.u64(1000..4000));
            let edit = sample::edit(&mut rng, manifest.state());
            manifest.commit(&edit).unwrap();
            let loaded = Manifest::load(&vfs, &dir, &sample::owner()).unwrap();
            assert_eq!(loaded, (manifest.state().clone(), manifest.id()), "seed {seed}");
            assert_eq!(vfs.list(&dir.join("manifest")).unwrap().len(), 1, "seed {seed}");
        }
        assert!(manifest.id() > ManifestId(2), "it never rolled");
    }
}

#[test]
fn a_large_state_is_not_written_anew_at_every_edit() {
    let disk = sample::disk(1);
    let (vfs, dir) = (sample::as_vfs(&disk), sample::dir());
    let mut state = sample::empty();
    let mut ids = sample::next_ids(&state);
    let added = (0..80_u8)
        .map(|n| {
            let (mut first, mut last) = (vec![0; 60_000], vec![0xff; 60_000]);
            (first[0], last[0]) = (n, n);
            sample::partition(&mut ids, &first, &last)
        })
        .collect();
    let op = EditOp::ReplaceBase { keyspace: KeyspaceId(0), removed: Vec::new(), added };
    state.apply(&Edit { ops: vec![op] }).unwrap();
    let mut manifest =
        Manifest::create(&vfs, &dir, ManifestId(1), &state, &sample::owner()).unwrap();
    install_current(&vfs, &dir, ManifestId(1), DB).unwrap();
    let snapshot_bytes = vfs
        .open(&dir.join("manifest/000001.man"), crate::vfs::OpenMode::Read)
        .and_then(|f| f.len())
        .unwrap();
    assert!(snapshot_bytes > 8 << 20);
    for n in 1..50 {
        manifest.commit(&Edit { ops: vec![EditOp::LastSeq(Seq(n))] }).unwrap();
    }
    assert_eq!(manifest.id(), ManifestId(1));
    assert_eq!(Manifest::load(&vfs, &dir, &sample::owner()).unwrap().0, *manifest.state());
}

/// Keyspace 0 with base `b..=c`, `m..=n` and runs 3 (newest), 2, 1; keyspace 1 with nothing; a blob
/// segment that run 1 refers to.
fn furnished() -> (ManifestState, NextIds) {
    let mut state = sample::empty();
    let mut ids = sample::next_ids(&state);
    let keyspace = KeyspaceId(0);
    let blob = SegmentId(ids.segment);
    ids.segment += 1;
    let base = [("b", "c"), ("m", "n")]
        .map(|(f, l)| sample::partition(&mut ids, f.as_bytes(), l.as_bytes()))
        .to_vec();
    let mut ops = vec![
        EditOp::AddBlobSegment { id: blob, bytes: 100 },
        EditOp::CreateKeyspace(sample::keyspace(KeyspaceId(1), "other")),
        EditOp::ReplaceBase { keyspace, removed: Vec::new(), added: base },
    ];
    for n in 1..4 {
        let mut run = sample::run(&mut ids, b"a", b"z", n * 10, n * 10 + 9);
        if n == 1 {
            run.partitions[0].blobs.push(BlobUse { segment: blob, bytes: 10 });
            let taken = KeyInterval { start: b"d".to_vec(), end: Some(b"g".to_vec()) };
            run.consumed.push(taken);
        }
        ops.push(EditOp::AddRun { keyspace, run });
    }
    ops.push(EditOp::Flushed { keyspace, seq: Seq(39) });
    ops.push(EditOp::LogStart(LogId(5)));
    state.apply(&Edit { ops }).unwrap();
    (state.clone(), sample::next_ids(&state))
}

#[test]
fn an_edit_that_does_not_fit_is_refused_and_changes_nothing() {
    let (state, mut ids) = furnished();
    let keyspace = KeyspaceId(0);
    let here = &state.keyspaces[&keyspace];
    let [newest, middle, oldest] = [0, 1, 2].map(|n| here.runs[n].clone());
    let base = here.base.clone();
    let part = |ids: &mut NextIds, first: &[u8], last: &[u8]| sample::partition(ids, first, last);
    let replace = |added| EditOp::ReplaceBase { keyspace, removed: Vec::new(), added };
    let set = |run| EditOp::SetRun { keyspace, run };
    let tier = |removed: &[RunId], added| EditOp::ReplaceRuns {
        keyspace,
        removed: removed.to_vec(),
        added,
    };
    let consumed = |list: &[(&str, Option<&str>)]| {
        let mut run = oldest.clone();
        run.consumed = list
            .iter()
            .map(|(s, e)| KeyInterval {
                start: s.as_bytes().to_vec(),
                end: e.map(|e| e.as_bytes().to_vec()),
            })
            .collect();
        run
    };
    let new_run = |ids: &mut NextIds, low, high| sample::run(ids, b"a", b"z", low, high);
    let mut rows_overlap = new_run(&mut ids, 40, 41);
    rows_overlap.partitions.push(part(&mut ids, b"z", b"zz"));
    let mut unsorted = new_run(&mut ids, 40, 41);
    unsorted.partitions.insert(0, part(&mut ids, b"zz", b"zzz"));
    let mut bare = part(&mut ids, b"x", b"y");
    bare.segments.clear();
    let mut crowded = part(&mut ids, b"x", b"y");
    crowded.segments = (0..4_u64)
        .map(|n| {
            let mut s = crowded.segments[0].clone();
            s.id = SegmentId(s.id.0 + n);
            s
        })
        .collect();
    let mut borrowed = part(&mut ids, b"x", b"y");
    borrowed.segments.push(base[0].segments[0].clone());
    let mut rootless = part(&mut ids, b"x", b"y");
    rootless.root.segment = base[0].root.segment;
    let mut blobless = part(&mut ids, b"x", b"y");
    blobless.blobs.push(BlobUse { segment: SegmentId(999), bytes: 1 });
    let counting = |ids: &mut NextIds, change: fn(&mut PartitionMeta)| {
        let mut p = part(ids, b"x", b"y");
        change(&mut p);
        replace(vec![p])
    };
    let mut buffered = sample::keyspace(KeyspaceId(9), "new");
    buffered.write_buffer_size = (1 << 40) + 1;
    let paged = |bytes| {
        let mut k = sample::keyspace(KeyspaceId(9), "new");
        k.page_bytes = bytes;
        EditOp::CreateKeyspace(k)
    };
    let mut same_id = part(&mut ids, b"x", b"y");
    same_id.id = base[0].id;
    let mut renumbered = oldest.clone();
    renumbered.high = Seq(15);
    let lower = |change: fn(&mut NextIds)| {
        let mut ids = sample::next_ids(&state);
        change(&mut ids);
        EditOp::NextIds(ids)
    };
    let nowhere = KeyspaceId(7);
    let mut long = sample::keyspace(KeyspaceId(9), "");
    long.name = "n".repeat(256);
    let last_id = sample::keyspace(KeyspaceId(u32::MAX), "last");
    let mut run_elsewhere = new_run(&mut ids, 1, 2);
    run_elsewhere.id = newest.id;
    let cases = [
        ("made twice", EditOp::CreateKeyspace(sample::keyspace(KeyspaceId(1), "new"))),
        ("made twice", EditOp::CreateKeyspace(sample::keyspace(KeyspaceId(9), "other"))),
        ("no name", EditOp::CreateKeyspace(sample::keyspace(KeyspaceId(9), ""))),
        ("too long", EditOp::CreateKeyspace(long)),
        ("the last there is", EditOp::CreateKeyspace(last_id)),
        ("keyspace that is not there", EditOp::DropKeyspace(nowhere)),
        ("keyspace that is not there", EditOp::Flushed { keyspace: nowhere, seq: Seq(99) }),
        ("goes back", EditOp::Flushed { keyspace, seq: Seq(38) }),
        ("not newer", EditOp::AddRun { keyspace, run: new_run(&mut ids, 39, 50) }),
        ("ends before it begins", EditOp::AddRun { keyspace, run: new_run(&mut ids, 50, 49) }),
        ("overlap", EditOp::AddRun { keyspace, run: rows_overlap }),
        ("overlap", EditOp::AddRun { keyspace, run: unsorted }),
        ("two places", EditOp::AddRun { keyspace: KeyspaceId(1), run: run_elsewhere }),
        ("run that is not there", EditOp::RemoveRun { keyspace, run: RunId(99) }),
        ("run that is not there", set(new_run(&mut ids, 40, 41))),
        ("numbers change", set(renumbered)),
        ("takes back", set(consumed(&[]))),
        ("takes back", set(consumed(&[("d", Some("f"))]))),
        ("takes back", set(consumed(&[("e", None)]))),
        ("not sorted and joined", set(consumed(&[("d", Some("g")), ("a", Some("b"))]))),
        ("not sorted and joined", set(consumed(&[("d", Some("g")), ("g", Some("h"))]))),
        ("not sorted and joined", set(consumed(&[("d", None), ("x", Some("y"))]))),
        ("interval without keys", set(consumed(&[("d", Some("g")), ("h", Some("h"))]))),
        ("no runs", tier(&[], None)),
        ("not neighbours", tier(&[newest.id, oldest.id], None)),
        ("not neighbours", tier(&[middle.id, newest.id], None)),
        ("not neighbours", tier(&[oldest.id, RunId(99)], None)),
        ("run that is not there", tier(&[RunId(99)], None)),
        ("does not hold", tier(&[newest.id, middle.id], Some(new_run(&mut ids, 25, 39)))),
        ("not newer", tier(&[newest.id, middle.id], Some(new_run(&mut ids, 15, 39)))),
        (
            "partition that is not there",
            EditOp::ReplaceBase { keyspace, removed: vec![PartitionId(999)], added: Vec::new() },
        ),
        ("overlap", replace(vec![part(&mut ids, b"c", b"d")])),
        ("overlap", replace(vec![part(&mut ids, b"a", b"zz")])),
        ("ends before it begins", replace(vec![part(&mut ids, b"y", b"x")])),
        ("longer than a key", replace(vec![part(&mut ids, b"x", &[b'y'; 65_538])])),
        ("no segment", replace(vec![bare])),
        ("more than three", replace(vec![crowded])),
        ("segment is used twice", replace(vec![borrowed])),
        ("no segment of its own", replace(vec![rootless])),
        ("blob segment that is not there", replace(vec![blobless])),
        ("two places", replace(vec![same_id])),
        ("goes back", EditOp::LogStart(LogId(4))),
        // A merge multiplied these, and panicked.
        ("more than there can be", counting(&mut ids, |p| p.entries = u64::MAX)),
        ("more than there can be", counting(&mut ids, |p| p.tombstones = p.entries + 1)),
        ("more than there can be", counting(&mut ids, |p| p.raw_bytes = 1 << 41)),
        ("more than there can be", counting(&mut ids, |p| p.live_bytes = u64::MAX / 2)),
        ("more than there can be", counting(&mut ids, |p| p.segments[0].file_bytes = 1 << 41)),
        ("more bytes in use", counting(&mut ids, |p| p.segments[0].live_bytes = 1 << 41)),
        ("larger than it can be", EditOp::AddBlobSegment { id: SegmentId(99), bytes: 1 << 41 }),
        ("larger than it can be", EditOp::CreateKeyspace(buffered)),
        ("of a size that none", paged(0)),
        ("of a size that none", paged(4097)),
        ("of a size that none", paged(1 << 20)),
        ("added twice", EditOp::AddBlobSegment { id: SegmentId(1), bytes: 1 }),
        ("used twice", EditOp::AddBlobSegment { id: base[0].segments[0].id, bytes: 1 }),
        ("blob segment that is not there", EditOp::RemoveBlobSegment(SegmentId(999))),
        ("refers to a blob", EditOp::RemoveBlobSegment(SegmentId(1))),
        ("ids go back", lower(|n| n.segment -= 1)),
        ("ids go back", lower(|n| n.partition -= 1)),
        ("ids go back", lower(|n| n.run -= 1)),
        ("ids go back", lower(|n| n.keyspace -= 1)),
    ];
    let disk = sample::disk(1);
    let (vfs, dir) = (sample::as_vfs(&disk), sample::dir());
    let mut manifest =
        Manifest::create(&vfs, &dir, ManifestId(1), &state, &sample::owner()).unwrap();
    install_current(&vfs, &dir, ManifestId(1), DB).unwrap();
    for (n, (why, op)) in cases.into_iter().enumerate() {
        // What fits goes along, to be taken back with the rest.
        let edit = Edit { ops: vec![EditOp::LastSeq(Seq(1000)), op] };
        let mut changed = state.clone();
        let refused = changed.apply(&edit).expect_err(&format!("case {n}, {why}"));
        assert!(refused.0.contains(why), "case {n}: {refused}, not {why}");
        assert_eq!(changed, state, "case {n}");
        let refused = manifest.commit(&edit).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument, "case {n}");
        assert!(refused.message().contains(why), "case {n}: {refused}");
        assert_eq!(*manifest.state(), state, "case {n}");
    }
    // Nothing of it was written, and nothing is poisoned.
    assert_eq!(Manifest::load(&vfs, &dir, &sample::owner()).unwrap().0, state);
    manifest.commit(&Edit { ops: vec![EditOp::LastSeq(Seq(1000))] }).unwrap();
}

#[test]
fn ids_in_use_are_never_handed_out_again() {
    let mut state = sample::empty();
    let mut ids = NextIds { segment: 50, partition: 60, run: 70, keyspace: 1 };
    let run = sample::run(&mut ids, b"a", b"b", 1, 2);
    state.apply(&Edit { ops: vec![EditOp::AddRun { keyspace: KeyspaceId(0), run }] }).unwrap();
    let next = sample::next_ids(&state);
    assert_eq!((next.segment, next.partition, next.run), (51, 61, 71));
}

#[test]
fn a_state_that_could_not_be_read_back_is_not_written() {
    let (mut state, _) = furnished();
    state.next_segment = 1;
    let disk = sample::disk(1);
    let (vfs, dir) = (sample::as_vfs(&disk), sample::dir());
    let refused =
        Manifest::create(&vfs, &dir, ManifestId(1), &state, &sample::owner()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    assert!(disk.files().is_empty());
}

#[test]
fn segments_that_any_row_or_value_needs_are_named() {
    let (state, _) = furnished();
    let named: Vec<u64> = state.referenced_segments().into_iter().map(|s| s.0).collect();
    assert_eq!(named, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn counts_larger_than_the_input_are_errors_before_memory_is_taken() {
    for head in [&[][..], &[1, 5, 0], &[1, 8, 0], &[1, 3, 0, 1, 1, 1], &[1, 8, 0, 0]] {
        let mut bytes = head.to_vec();
        put_varint(&mut bytes, u64::MAX / 2);
        bytes.extend_from_slice(&[0; 100]);
        assert!(Edit::decode(&bytes).is_err(), "{head:?}");
    }
}

#[test]
fn hostile_bytes_are_errors_or_other_edits_never_a_panic() {
    let mut rng = Rng::with_seed(11);
    let mut state = sample::empty();
    let mut corpus = Vec::new();
    while corpus.len() < 60 {
        let edit = sample::edit(&mut rng, &state);
        corpus.push((state.clone(), encoded(&edit)));
        state.apply(&edit).unwrap();
    }
    corpus.push((ManifestState::new(DB), encoded(&state.snapshot_edit())));
    let (mut decoded, mut applied) = (0, 0);
    for _ in 0..50_000 {
        let (state, bytes) = rng.choice(&corpus).unwrap();
        let mut bytes = bytes.clone();
        super::damage::mutate(&mut rng, &mut bytes);
        let Ok(edit) = Edit::decode(&bytes) else { continue };
        decoded += 1;
        assert_eq!(Edit::decode(&encoded(&edit)), Ok(edit.clone()));
        let mut changed = state.clone();
        if changed.apply(&edit).is_ok() {
            applied += 1;
            assert_eq!(changed.check(), Ok(()));
        } else {
            assert_eq!(changed, *state);
        }
    }
    assert!(decoded > 1000 && applied > 100, "{decoded} decoded, {applied} applied");
}
