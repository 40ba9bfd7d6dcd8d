//! Keys with so many versions that they span leaves.

use super::*;

fn value(n: u64) -> Val {
    Val::Inline(format!("version number {n:020}").into_bytes())
}

/// 100,000 versions of `k` between keys that sort right beside it.
fn crowded() -> Vec<Version> {
    let mut all = Vec::new();
    for key in [&b"j"[..], b"j\xff", b"k\0", b"k\0\0", b"k\0\x01", b"k\x01", b"l"] {
        for seq in [3, 50_000, 200_000] {
            all.push((key.to_vec(), Seq(seq), value(seq)));
        }
    }
    for seq in 1..=100_000 {
        all.push((b"k".to_vec(), Seq(seq * 2), value(seq)));
    }
    arrange(all)
}

#[test]
fn every_version_of_a_crowded_key_is_found() {
    for page_bytes in [4096, 65_536] {
        let f = Fixture::new(page_bytes, Codec::Lz4);
        let model = crowded();
        let reader = f.build(&model);
        assert!(reader.meta().height >= 1);
        assert_sound(&reader, &model);
        assert!(contents(&f, &reader) == model);
        for at in 0..=200_002 {
            // The key's versions have every even number from 2 to 200,000.
            let expected = (at >= 2).then(|| (at / 2 * 2).min(200_000));
            let found = reader.get(&f.pager, b"k", hash_key(b"k"), Seq(at)).unwrap();
            assert_eq!(found.as_ref().map(|v| v.seq.0), expected, "at {at}");
            if at % 997 == 0
                && let Some(found) = found
            {
                assert_eq!(Val::found(&found.value), value(found.seq.0 / 2));
            }
        }
        assert_eq!(reader.newest_seq(&f.pager, b"k", hash_key(b"k")).unwrap(), Some(Seq(200_000)));
        let mut rng = fastrand::Rng::with_seed(3);
        for (key, ..) in model.iter().filter(|v| v.0 != b"k") {
            for at in [2, 3, 49_999, 50_000, 199_999, 200_000] {
                let expected = model_get(&model, key, Seq(at)).map(|v| (v.1, v.2.clone()));
                assert_eq!(f.get(&reader, key, Seq(at)), expected);
            }
        }
        assert_movement(&f, &reader, &model, &mut rng, 4_000);
        let mut c = f.cursor(&reader);
        for (key, ..) in &model[..8] {
            c.last().unwrap();
            c.seek(key).unwrap();
            assert_eq!(
                (c.key(), c.seq()),
                (&key[..], model_get(&model, key, Seq(u64::MAX)).unwrap().1)
            );
        }
        c.seek_before(b"k\0").unwrap();
        assert_eq!((c.key(), c.seq()), (&b"k"[..], Seq(2)));
        c.seek_before(b"k").unwrap();
        assert_eq!((c.key(), c.seq()), (&b"j\xff"[..], Seq(3)));
    }
}

#[test]
fn leaves_that_share_versions_of_a_key_are_one_span() {
    let f = Fixture::new(4096, Codec::None);
    let model = crowded();
    let reader = f.build(&model);
    let spans: Vec<LeafSpan> = reader.leaves(&f.pager).map(Result::unwrap).collect();
    let many = spans.iter().filter(|s| s.leaves.len() > 5 && s.covers(b"k")).count();
    assert_eq!(many, 1);
    assert_eq!(spans.iter().filter(|s| s.covers(b"k")).count(), 1);
    let entries: u64 = spans.iter().flat_map(|s| &s.leaves).map(|l| l.entries).sum();
    assert_eq!(entries, model.len() as u64);
    assert_eq!(spans.last().unwrap().end, SpanEnd::UpTo(b"l".to_vec()));
    // A neighbour is written anew, the span is kept: still every version is found.
    let mut w = f.writer();
    for span in &spans {
        if span.covers(b"k") {
            w.adopt(span, &reader, &f.pager).unwrap();
        } else {
            for (key, seq, value) in model.iter().filter(|v| span.covers(&v.0)) {
                w.push(key, *seq, value.as_entry()).unwrap();
            }
        }
    }
    w.push(b"m", Seq(1), EntryValue::Tombstone).unwrap();
    let next = finish(w, reader.segments());
    let mut model = model;
    model.push((b"m".to_vec(), Seq(1), Val::Tombstone));
    assert_sound(&next, &model);
    assert!(contents(&f, &next) == model);
    for at in [2, 3, 77_777, 200_000] {
        assert_eq!(f.get(&next, b"k", Seq(at)).unwrap().0, Seq(at / 2 * 2));
    }
}

#[test]
fn several_crowded_keys_in_a_row_keep_apart() {
    let f = Fixture::new(4096, Codec::Lz4);
    let mut all = Vec::new();
    for key in [&b"a"[..], b"a\0", b"a\0\0", b"b"] {
        for seq in 1..=30_000 {
            all.push((key.to_vec(), Seq(seq), value(seq)));
        }
    }
    let model = arrange(all);
    let reader = f.build(&model);
    assert_sound(&reader, &model);
    let mut rng = fastrand::Rng::with_seed(8);
    assert_movement(&f, &reader, &model, &mut rng, 2_000);
    for key in [&b"a"[..], b"a\0", b"a\0\0", b"b"] {
        for at in (1..=30_000).step_by(37) {
            assert_eq!(f.get(&reader, key, Seq(at)), Some((Seq(at), value(at))));
        }
        assert_eq!(f.get(&reader, key, Seq(0)), None);
    }
}
