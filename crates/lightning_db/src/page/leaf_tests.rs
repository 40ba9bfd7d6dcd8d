//! Tests of leaf pages: against a sorted vector, and against hostile bytes.

use super::*;
use crate::limits::{BLOB_THRESHOLD_BYTES, MAX_KEY_BYTES};
use crate::page::mutation::mutate;
use crate::types::SegmentId;

/// An entry that owns its bytes.
#[derive(Clone, Debug, PartialEq)]
struct Owned {
    key: Vec<u8>,
    seq: Seq,
    value: OwnedValue,
    expiry: Expiry,
}

#[derive(Clone, Debug, PartialEq)]
enum OwnedValue {
    Inline(Vec<u8>),
    Blob(BlobRef),
    Tombstone,
}

impl Owned {
    fn entry(&self) -> Entry<'_> {
        Entry { value: self.value(), expiry: self.expiry }
    }

    fn value(&self) -> EntryValue<'_> {
        match &self.value {
            OwnedValue::Inline(v) => EntryValue::Inline(v),
            OwnedValue::Blob(b) => EntryValue::Blob(*b),
            OwnedValue::Tombstone => EntryValue::Tombstone,
        }
    }
}

fn random_key(rng: &mut fastrand::Rng) -> Vec<u8> {
    let len = match rng.u8(..20) {
        0 => 0,
        1 => rng.usize(120..140),
        2 => rng.usize(300..1000),
        _ => rng.usize(1..6),
    };
    (0..len).map(|_| rng.choice([0, 1, 0x7f, 0x80, 0xfe, 0xff]).unwrap()).collect()
}

fn random_value(rng: &mut fastrand::Rng) -> OwnedValue {
    match rng.u8(..4) {
        0 => OwnedValue::Tombstone,
        1 => OwnedValue::Blob(BlobRef {
            segment: SegmentId(rng.u64(..)),
            offset: rng.u64(..),
            stored_bytes: rng.u64(..),
            value_bytes: rng.u32(..),
            checksum: rng.u32(..),
        }),
        _ => OwnedValue::Inline((0..rng.usize(..40)).map(|_| rng.u8(..)).collect()),
    }
}

/// Entries in the order of a leaf; with `versions`, several of some keys.
fn random_entries(rng: &mut fastrand::Rng, keys: usize, versions: bool) -> Vec<Owned> {
    let keys: std::collections::BTreeSet<Vec<u8>> = (0..keys).map(|_| random_key(rng)).collect();
    let mut entries = Vec::new();
    let expiring = rng.bool();
    for key in keys {
        let mut seqs: std::collections::BTreeSet<u64> = [0].into();
        if versions {
            seqs = (0..rng.usize(1..4)).map(|_| rng.u64(..50)).collect();
        }
        for seq in seqs.into_iter().rev() {
            let value = random_value(rng);
            let lasts = !expiring || value == OwnedValue::Tombstone || rng.bool();
            let expiry = if lasts { Expiry::NEVER } else { Expiry(rng.u64(..u64::MAX)) };
            entries.push(Owned { key: key.clone(), seq: Seq(seq), value, expiry });
        }
    }
    entries
}

fn build(entries: &[Owned]) -> Vec<u8> {
    let mut builder = LeafBuilder::new();
    for (i, e) in entries.iter().enumerate() {
        let before = builder.raw_len();
        let first_seq = e.seq != Seq(0) && entries[..i].iter().all(|e| e.seq == Seq(0));
        let first_expiry = |e: &Owned| !e.expiry.is_never();
        let brings_in = first_expiry(e) && !entries[..i].iter().any(first_expiry);
        let most = builder.entry_len(e.key.len(), &e.entry());
        builder.push(&e.key, e.seq, e.entry());
        if !first_seq && !brings_in {
            let grown = builder.raw_len() - before;
            assert!(grown <= most);
        }
        assert_eq!(builder.last_key(), e.key);
    }
    let expected = builder.raw_len();
    assert_eq!(builder.len(), entries.len());
    let mut out = b"what was there before".to_vec();
    builder.finish(&mut out);
    assert_eq!(out.len(), expected);
    assert!(builder.is_empty() && builder.last_key().is_empty());
    out
}

#[test]
fn entries_come_back_as_they_were_pushed() {
    let mut rng = fastrand::Rng::with_seed(41);
    for round in 0..300 {
        let versions = round % 2 == 0;
        let count = rng.usize(..120);
        let entries = random_entries(&mut rng, count, versions);
        let page = build(&entries);
        assert_eq!(LeafView::validate(&page), Ok(()));
        let view = LeafView::new(&page);
        assert_eq!(view.check_tags(), Ok(()));
        assert_eq!(view.len(), entries.len());
        assert_eq!(view.is_empty(), entries.is_empty());
        assert_eq!(view.has_seqs(), entries.iter().any(|e| e.seq != Seq(0)));
        assert_eq!(view.has_expiries(), entries.iter().any(|e| !e.expiry.is_never()));
        for (i, e) in entries.iter().enumerate() {
            assert_eq!((view.key(i), view.seq(i), view.value(i)), (&e.key[..], e.seq, e.value()));
            assert_eq!(view.expiry(i), e.expiry);
            if let EntryValue::Inline(v) = view.value(i) {
                assert_eq!(&page[view.value_range(i)], v);
            }
        }
    }
}

#[test]
fn searches_agree_with_a_sorted_vector() {
    let mut rng = fastrand::Rng::with_seed(42);
    for round in 0..300 {
        let count = rng.usize(..120);
        let entries = random_entries(&mut rng, count, round % 2 == 0);
        let page = build(&entries);
        let view = LeafView::new(&page);
        let mut probes: Vec<Vec<u8>> = (0..100).map(|_| random_key(&mut rng)).collect();
        probes.extend(entries.iter().map(|e| e.key.clone()));
        probes.extend([vec![], vec![0], vec![0xff; 2000]]);
        for key in probes {
            let bound = entries.partition_point(|e| e.key < key);
            assert_eq!(view.lower_bound(&key), bound);
            let found = entries.get(bound).is_some_and(|e| e.key == key).then_some(bound);
            assert_eq!(view.find(&key, hash_key(&key)), found);
        }
    }
}

#[test]
fn one_entry_may_hold_the_longest_key_and_value() {
    let key = vec![0xff; MAX_KEY_BYTES];
    let value = vec![7; BLOB_THRESHOLD_BYTES - 1];
    let mut builder = LeafBuilder::new();
    builder.push(&key, Seq(u64::MAX), EntryValue::Inline(&value));
    let mut page = Vec::new();
    builder.finish(&mut page);
    assert_eq!(LeafView::validate(&page), Ok(()));
    let view = LeafView::new(&page);
    assert_eq!(view.find(&key, hash_key(&key)), Some(0));
    assert_eq!(view.value(0), EntryValue::Inline(&value));
    assert_eq!(view.seq(0), Seq(u64::MAX));
}

#[test]
fn the_worked_example_has_these_bytes() {
    let mut builder = LeafBuilder::new();
    builder.push(b"a", Seq(9), EntryValue::Tombstone);
    builder.push(b"a", Seq(4), EntryValue::Inline(b"xyz"));
    let mut page = Vec::new();
    builder.finish(&mut page);
    let tag = hash_key(b"a") as u8;
    let mut expect = vec![2, 0, 0, 0, 1, 0, 0, 0, tag, tag];
    expect.extend([38, 0, 0, 0, 40, 0, 0, 1, 45, 0, 0, 0]);
    expect.extend([9, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]);
    expect.extend(b"\x01a\x01axyz");
    assert_eq!(page, expect);
}

#[test]
fn settled_leaves_have_no_number_column() {
    let mut with = LeafBuilder::new();
    let mut without = LeafBuilder::new();
    for key in [b"a", b"b", b"c"] {
        with.push(key, Seq(1), EntryValue::Tombstone);
        without.push(key, Seq(0), EntryValue::Tombstone);
    }
    assert_eq!(with.raw_len(), without.raw_len() + 3 * 8);
}

#[test]
fn flags_of_later_versions_are_refused_by_name() {
    let mut rng = fastrand::Rng::with_seed(43);
    let page = build(&random_entries(&mut rng, 10, true));
    for bit in 2..8 {
        let mut later = page.clone();
        later[4] |= 1 << bit;
        assert_eq!(LeafView::validate(&later), Err(UNKNOWN_FEATURE));
    }
    for at in 5..8 {
        let mut later = page.clone();
        later[at] = 1;
        assert_eq!(LeafView::validate(&later), Err(UNKNOWN_FEATURE));
    }
}

#[test]
#[should_panic(expected = "in order")]
fn a_smaller_key_is_not_written() {
    let mut builder = LeafBuilder::new();
    builder.push(b"b", Seq(0), EntryValue::Tombstone);
    builder.push(b"a", Seq(0), EntryValue::Tombstone);
}

#[test]
#[should_panic(expected = "in order")]
fn the_same_version_is_not_written_twice() {
    let mut builder = LeafBuilder::new();
    builder.push(b"b", Seq(5), EntryValue::Tombstone);
    builder.push(b"b", Seq(5), EntryValue::Tombstone);
}

#[test]
fn order_is_validated() {
    let entries: Vec<Owned> = [(b"a", 5), (b"a", 4), (b"b", 9)]
        .map(|(k, s)| Owned {
            key: k.to_vec(),
            seq: Seq(s),
            value: OwnedValue::Tombstone,
            expiry: Expiry::NEVER,
        })
        .to_vec();
    let page = build(&entries);
    let (seqs, keys) = (8 + 3 + 16, 8 + 3 + 16 + 24);
    for (at, byte) in [(seqs, 4), (seqs, 3), (seqs + 8, 5), (keys + 5, b'a'), (keys + 1, b'c')] {
        let mut bad = page.clone();
        bad[at] = byte;
        let outcome = LeafView::validate(&bad);
        // Two entries "a" with numbers 4 and 9 are out of order as well.
        assert_eq!(outcome, Err(Malformed("the entries of a leaf are out of order")), "{at}");
    }
}

#[test]
fn a_wrong_tag_is_found_when_asked_for() {
    let mut rng = fastrand::Rng::with_seed(44);
    let mut page = build(&random_entries(&mut rng, 10, false));
    page[8] ^= 1;
    assert_eq!(LeafView::validate(&page), Ok(()));
    assert!(LeafView::new(&page).check_tags().is_err());
}

#[test]
fn hostile_bytes_never_panic() {
    let mut rng = fastrand::Rng::with_seed(45);
    let mut pages = Vec::new();
    for i in 0..40 {
        let count = rng.usize(..30);
        pages.push(build(&random_entries(&mut rng, count, i % 2 == 0)));
    }
    let (mut passed, mut refused) = (0, 0);
    for _ in 0..100_000 {
        let mut bad = rng.choice(&pages).unwrap().clone();
        mutate(&mut rng, &mut bad);
        if LeafView::validate(&bad).is_err() {
            refused += 1;
            continue;
        }
        passed += 1;
        let view = LeafView::new(&bad);
        let _ = view.check_tags();
        for i in 0..view.len() {
            let key = view.key(i);
            let (_, _) = (view.seq(i), view.value(i));
            let first = view.lower_bound(key);
            assert!(first <= i && view.key(first) == key);
            assert!(view.find(key, hash_key(key)).is_none_or(|f| view.key(f) == key));
        }
        assert_eq!(view.lower_bound(b""), 0);
    }
    assert!(passed > 1000 && refused > 1000, "{passed} {refused}");
}
