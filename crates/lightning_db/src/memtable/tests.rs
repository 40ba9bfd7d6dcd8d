//! The memtable against a model, under threads, and by the clock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::index::{Index, Inserted};
use super::{Memtable, MemtableCursor};
use crate::error::ErrorKind;
use crate::limits::{BLOB_THRESHOLD_BYTES, MAX_KEY_BYTES};
use crate::sync::Arc;
use crate::types::{
    BlobRef, Entry, EntryValue, Expiry, KeyspaceId, SegmentId, Seq, Time, hash_key,
};

/// A value that owns its bytes.
#[derive(Clone, PartialEq, Debug)]
enum Owned {
    Inline(Vec<u8>),
    Blob(BlobRef),
    Tombstone,
    Operands(Vec<u8>),
}

impl Owned {
    fn of(value: EntryValue<'_>) -> Self {
        match value {
            EntryValue::Inline(v) => Self::Inline(v.to_vec()),
            EntryValue::Blob(b) => Self::Blob(b),
            EntryValue::Tombstone => Self::Tombstone,
            EntryValue::Operands(o) => Self::Operands(o.to_vec()),
        }
    }

    fn as_entry(&self) -> EntryValue<'_> {
        match self {
            Self::Inline(v) => EntryValue::Inline(v),
            Self::Blob(b) => EntryValue::Blob(*b),
            Self::Tombstone => EntryValue::Tombstone,
            Self::Operands(o) => EntryValue::Operands(o),
        }
    }
}

type Versioned = (Vec<u8>, Reverse<u64>);
type Model = BTreeMap<Versioned, Owned>;
type Found = Option<(Vec<u8>, u64, Owned)>;

fn table() -> Memtable {
    Memtable::new(KeyspaceId(3), Seq(1))
}

fn inline(text: &str) -> EntryValue<'_> {
    EntryValue::Inline(text.as_bytes())
}

fn at(cursor: &MemtableCursor) -> Found {
    cursor.valid().then(|| (cursor.key().to_vec(), cursor.seq().0, Owned::of(cursor.value())))
}

fn found(entry: Option<(&Versioned, &Owned)>) -> Found {
    entry.map(|((key, seq), value)| (key.clone(), seq.0, value.clone()))
}

fn model_get(model: &Model, key: &[u8], at: u64) -> Option<(u64, Owned)> {
    let (k, seq, value) = found(model.range((key.to_vec(), Reverse(at))..).next())?;
    (k == key).then_some((seq, value))
}

fn model_seek(model: &Model, key: &[u8]) -> Found {
    found(model.range((key.to_vec(), Reverse(u64::MAX))..).next())
}

fn model_seek_before(model: &Model, key: &[u8]) -> Found {
    found(model.range(..(key.to_vec(), Reverse(u64::MAX))).next_back())
}

fn model_next(model: &Model, here: &Found) -> Found {
    let (key, seq, _) = here.clone()?;
    found(model.range((Bound::Excluded((key, Reverse(seq))), Bound::Unbounded)).next())
}

fn model_prev(model: &Model, here: &Found) -> Found {
    let (key, seq, _) = here.clone()?;
    found(model.range(..(key, Reverse(seq))).next_back())
}

/// Keys of many shapes: short ones, ones that differ in trailing zeros only, ones with long or
/// short common beginnings, random ones, the longest ones.
fn random_key(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut tail: Vec<u8> = (0..6).map(|_| *random.choice(b"\0\x01ab\xFF").unwrap()).collect();
    match random.u8(..8) {
        0 => {
            tail.truncate(random.usize(1..=6));
            tail
        }
        1 => [b"a".as_slice(), &vec![0; random.usize(..20)]].concat(),
        2 => [b"common__".as_slice(), &tail].concat(),
        3 => [b"commonly".as_slice(), &tail, &tail].concat(),
        4 => [b"a long beginning that all share ".as_slice(), &tail].concat(),
        5 => [b"a long beginning that all share, or do they? ".as_slice(), &tail].concat(),
        6 => (0..16).map(|_| random.u8(..)).collect(),
        _ => format!("user:{:012}", random.u32(..20_000)).into_bytes(),
    }
}

fn random_value(random: &mut fastrand::Rng, seq: u64) -> Owned {
    match random.u8(..20) {
        0..3 => Owned::Tombstone,
        3 => Owned::Blob(BlobRef {
            segment: SegmentId(random.u64(..5)),
            offset: seq,
            stored_bytes: 77,
            value_bytes: 66,
            checksum: random.u32(..),
        }),
        4 => Owned::Operands(vec![1, seq as u8]),
        _ => Owned::Inline((0..random.usize(..40)).map(|_| seq as u8).collect()),
    }
}

/// 200,000 operations: insertions (many of them new versions, some with the seq of the one
/// before), reads at all seqs, and movement in both directions from everywhere.
#[test]
fn agrees_with_a_model() {
    let mut random = fastrand::Rng::with_seed(42);
    let table = Arc::new(table());
    let mut model = Model::new();
    let mut cursor = MemtableCursor::new(Arc::clone(&table));
    let mut known: Vec<Vec<u8>> = Vec::new();
    let mut segments = BTreeSet::new();
    let mut seq = 1;
    let mut longest = 0;
    for _ in 0..200_000 {
        let mut key = if known.is_empty() || random.u8(..10) < 6 {
            random_key(&mut random)
        } else {
            random.choice(&known).unwrap().clone()
        };
        match random.u8(..10) {
            0..6 => {
                seq += random.u64(..3).min(1);
                let mut value = random_value(&mut random, seq);
                if random.u16(..2000) == 0 {
                    key.resize(MAX_KEY_BYTES, b'k');
                    longest += 1;
                } else if random.u16(..1000) == 0 {
                    value = Owned::Inline(vec![seq as u8; BLOB_THRESHOLD_BYTES]);
                }
                if let Owned::Blob(blob) = &value {
                    segments.insert(blob.segment);
                }
                table.insert(&key, Seq(seq), value.as_entry()).unwrap();
                model.insert((key.clone(), Reverse(seq)), value);
                assert_eq!(table.newest_seq(&key), Some(Seq(seq)));
                known.push(key);
            }
            6 | 7 => {
                let when = random.u64(..=seq + 1);
                let got = table.get(&key, Seq(when)).map(|(s, v)| (s.0, Owned::of(v)));
                assert_eq!(got, model_get(&model, &key, when));
                assert_eq!(
                    table.newest_seq(&key).map(|s| s.0),
                    model_get(&model, &key, u64::MAX).map(|(s, _)| s)
                );
            }
            step => {
                let mut here = if step == 8 {
                    cursor.seek(&key);
                    model_seek(&model, &key)
                } else {
                    cursor.seek_before(&key);
                    model_seek_before(&model, &key)
                };
                assert_eq!(at(&cursor), here);
                for _ in 0..random.usize(..40) {
                    if random.u8(..5) == 0 || (step == 8) == random.bool() {
                        cursor.next();
                        here = model_next(&model, &here);
                    } else {
                        cursor.prev();
                        here = model_prev(&model, &here);
                    }
                    assert_eq!(at(&cursor), here);
                }
            }
        }
    }
    assert!(longest > 10);
    assert_eq!(table.entries(), model.len());
    assert_eq!(table.blob_segments(), segments.into_iter().collect::<Vec<_>>());

    cursor.first();
    for expected in &model {
        assert_eq!(at(&cursor), found(Some(expected)));
        cursor.next();
    }
    assert!(!cursor.valid());
    cursor.last();
    for expected in model.iter().rev() {
        assert_eq!(at(&cursor), found(Some(expected)));
        cursor.prev();
    }
    assert!(!cursor.valid());

    // Every version of some keys, at every seq around it.
    for ((key, Reverse(s)), _) in model.iter().step_by(7) {
        for when in [s - 1, *s, s + 1] {
            let got = table.get(key, Seq(when)).map(|(s, v)| (s.0, Owned::of(v)));
            assert_eq!(got, model_get(&model, key, when));
        }
    }
}

#[test]
fn an_empty_table_has_nothing_and_holds_nothing() {
    let table = Arc::new(table());
    assert!(table.is_empty() && table.bytes() == 0 && table.entries() == 0);
    assert_eq!((table.keyspace(), table.first_seq()), (KeyspaceId(3), Seq(1)));
    assert_eq!(table.get(b"k", Seq(9)), None);
    assert_eq!(table.newest_seq(b"k"), None);
    let mut cursor = MemtableCursor::new(table);
    type Move = fn(&mut MemtableCursor);
    let moves: [Move; 6] = [
        MemtableCursor::first,
        MemtableCursor::last,
        MemtableCursor::next,
        MemtableCursor::prev,
        |c| c.seek(b"k"),
        |c| c.seek_before(b"k"),
    ];
    for go in moves {
        go(&mut cursor);
        assert!(!cursor.valid());
    }
}

#[test]
fn the_later_of_two_entries_of_one_commit_wins_everywhere() {
    let table = Arc::new(table());
    table.insert(b"k", Seq(1), inline("first")).unwrap();
    table.insert(b"k", Seq(2), inline("lost")).unwrap();
    table.insert(b"k", Seq(2), EntryValue::Tombstone).unwrap();
    table.insert(b"k", Seq(2), inline("kept")).unwrap();
    table.insert(b"new", Seq(2), inline("lost")).unwrap();
    table.insert(b"new", Seq(2), inline("kept")).unwrap();
    assert_eq!(table.entries(), 3);
    assert_eq!(table.get(b"k", Seq(2)), Some((Seq(2), inline("kept"))));
    assert_eq!(table.get(b"k", Seq(1)), Some((Seq(1), inline("first"))));
    assert_eq!(table.get(b"new", Seq(2)), Some((Seq(2), inline("kept"))));
    assert_eq!(table.get(b"new", Seq(1)), None);
    let expected = [(b"k".as_slice(), 2, "kept"), (b"k", 1, "first"), (b"new", 2, "kept")];
    let mut cursor = MemtableCursor::new(Arc::clone(&table));
    cursor.first();
    for (key, seq, value) in expected {
        assert_eq!((cursor.key(), cursor.seq().0, cursor.value()), (key, seq, inline(value)));
        cursor.next();
    }
    assert!(!cursor.valid());
    cursor.last();
    for (key, seq, value) in expected.into_iter().rev() {
        assert_eq!((cursor.key(), cursor.seq().0, cursor.value()), (key, seq, inline(value)));
        cursor.prev();
    }
    assert!(!cursor.valid());
}

/// Zeros at the end of a key are not the zeros that a short key's head is filled up with.
#[test]
fn keys_that_end_in_zeros_stay_apart() {
    let table = Arc::new(table());
    let keys: Vec<Vec<u8>> = (0..60).map(|i| [[b'a'].as_slice(), &vec![0; i]].concat()).collect();
    let mut shuffled = keys.clone();
    fastrand::Rng::with_seed(8).shuffle(&mut shuffled);
    for key in shuffled.iter().chain([&vec![0]]) {
        assert_eq!(table.get(key, Seq(9)), None);
        table.insert(key, Seq(1), EntryValue::Inline(key)).unwrap();
        assert_eq!(table.get(key, Seq(9)), Some((Seq(1), EntryValue::Inline(key))));
    }
    let mut cursor = MemtableCursor::new(table);
    cursor.seek(b"\0\0");
    for key in &keys {
        assert_eq!(cursor.key(), key);
        cursor.next();
    }
    assert!(!cursor.valid());
    cursor.seek_before(b"a");
    assert_eq!(cursor.key(), [0]);
}

#[test]
fn one_key_with_very_many_versions() {
    let table = Arc::new(table());
    let versions = 50_000_u64;
    for i in 1..=versions {
        table.insert(b"counter", Seq(2 * i), EntryValue::Inline(&i.to_le_bytes())).unwrap();
    }
    assert_eq!(table.entries() as u64, versions);
    for i in 1..=versions {
        for when in [2 * i, 2 * i + 1] {
            let expected = Some((Seq(2 * i), EntryValue::Inline(&i.to_le_bytes())));
            assert_eq!(table.get(b"counter", Seq(when)), expected);
        }
    }
    assert_eq!(table.get(b"counter", Seq(1)), None);
    let mut cursor = MemtableCursor::new(table);
    cursor.seek_before(b"d");
    for i in 1..=versions {
        assert_eq!(cursor.seq(), Seq(2 * i));
        cursor.prev();
    }
    assert!(!cursor.valid());
}

/// Ascending, descending and inward orders meet every rule for the place of a split.
#[test]
fn orders_of_insertion_do_not_matter() {
    let n = 5000_u32;
    let inward = (0..n).map(|i| if i % 2 == 0 { i / 2 } else { n - 1 - i / 2 }).collect();
    let orders: [Vec<u32>; 3] = [(0..n).collect(), (0..n).rev().collect(), inward];
    for order in orders {
        let table = Arc::new(table());
        for i in &order {
            let key = format!("a common beginning/{i:010}");
            table.insert(key.as_bytes(), Seq(1), EntryValue::Inline(&i.to_le_bytes())).unwrap();
        }
        let mut cursor = MemtableCursor::new(table);
        cursor.first();
        for i in 0..n {
            assert_eq!(cursor.value(), EntryValue::Inline(&i.to_le_bytes()));
            cursor.next();
        }
        assert!(!cursor.valid());
    }
}

/// A cursor at rest while the tree grows around it misses nothing of what was there before.
#[test]
fn a_cursor_sees_what_was_there_when_it_was_positioned() {
    let mut random = fastrand::Rng::with_seed(11);
    let table = Arc::new(table());
    let mut seq = 0;
    let mut add = |random: &mut fastrand::Rng, n| {
        for _ in 0..n {
            seq += 1;
            let key = random.u32(..30_000).to_be_bytes();
            table.insert(&key, Seq(seq), EntryValue::Inline(&seq.to_le_bytes())).unwrap();
        }
        seq
    };
    for round in 0..20 {
        let snapshot = add(&mut random, 500);
        let mut all = MemtableCursor::new(Arc::clone(&table));
        all.first();
        let mut expected = Vec::new();
        while all.valid() {
            expected.push((all.key().to_vec(), all.seq()));
            all.next();
        }
        assert_eq!(expected.len() as u64, snapshot);

        let forward = round % 2 == 0;
        let mut cursor = MemtableCursor::new(Arc::clone(&table));
        if forward {
            cursor.first();
        } else {
            cursor.last();
            expected.reverse();
        }
        let mut seen = Vec::new();
        while cursor.valid() {
            if cursor.seq().0 <= snapshot {
                seen.push((cursor.key().to_vec(), cursor.seq()));
            }
            if random.u8(..20) == 0 {
                add(&mut random, 1);
            }
            if forward {
                cursor.next();
            } else {
                cursor.prev();
            }
        }
        assert_eq!(seen, expected);
    }
}

#[test]
fn a_cursor_keeps_its_table_and_goes_to_another_thread() {
    let table = Arc::new(table());
    for i in 0..1000_u32 {
        table.insert(&i.to_be_bytes(), Seq(1), EntryValue::Inline(&[7; 100])).unwrap();
    }
    let mut cursor = MemtableCursor::new(table);
    cursor.first();
    let count = std::thread::spawn(move || {
        let mut count = 0;
        while cursor.valid() {
            assert_eq!(cursor.value(), EntryValue::Inline(&[7; 100]));
            count += 1;
            cursor.next();
        }
        count
    });
    assert_eq!(count.join().unwrap(), 1000);
}

#[test]
fn bytes_are_those_of_the_chunks() {
    let table = table();
    let mut random = fastrand::Rng::with_seed(2);
    let mut payload = 0;
    let mut before = 0;
    for seq in 1..50_000 {
        let value = vec![1; random.usize(..200)];
        let key: [u8; 16] = std::array::from_fn(|_| random.u8(..));
        payload += key.len() + value.len();
        table.insert(&key, Seq(seq), EntryValue::Inline(&value)).unwrap();
        assert!(table.bytes() >= before);
        before = table.bytes();
    }
    assert!(before > payload + 16 * table.entries());
    assert!(before < payload + 100 * table.entries() + 4 * 1024 * 1024);
}

#[test]
fn sealing_names_the_last_commit() {
    let table = table();
    table.insert(b"k", Seq(4), inline("v")).unwrap();
    assert_eq!(table.last_seq(), None);
    table.set_last_seq(Seq(5));
    assert_eq!(table.last_seq(), Some(Seq(5)));
    assert!(format!("{table:?}").contains("entries: 1"));
}

#[test]
#[should_panic(expected = "sealed")]
fn a_sealed_table_takes_nothing() {
    let table = table();
    table.set_last_seq(Seq(5));
    let _ = table.insert(b"k", Seq(5), inline("v"));
}

#[test]
#[should_panic(expected = "order of commits")]
fn versions_come_in_order() {
    let table = table();
    table.insert(b"k", Seq(5), inline("v")).unwrap();
    let _ = table.insert(b"k", Seq(4), inline("v"));
}

#[test]
#[should_panic(expected = "one thread at a time")]
fn a_second_writer_is_refused() {
    let index = Index::new();
    let nested = || {
        let _ = index.insert(b"b", Seq(1), &inline("v").into(), || ());
    };
    let _ = index.insert(b"a", Seq(1), &inline("v").into(), nested);
}

#[test]
fn an_insertion_says_what_it_did() {
    let index = Index::new();
    let insert = |key: &[u8], seq| {
        let mut new_key = false;
        let did = index.insert(key, Seq(seq), &inline("v").into(), || new_key = true).unwrap();
        assert_eq!(new_key, did == Inserted::Key);
        did
    };
    for key in 0..100_u8 {
        assert_eq!(insert(&[key], 1), Inserted::Key);
    }
    for key in 0..100_u8 {
        assert_eq!(insert(&[key], 1), Inserted::Replacement);
        assert_eq!(insert(&[key], 2), Inserted::Version);
        assert_eq!(insert(&[key], 2), Inserted::Replacement);
    }
}

/// Each insertion is first tried with no memory, then with one piece of it, then with two, until
/// it succeeds: up to then the table is as it was.
#[test]
fn an_insertion_without_memory_changes_nothing() {
    let mut random = fastrand::Rng::with_seed(21);
    let table = Arc::new(table());
    let mut cursor = MemtableCursor::new(Arc::clone(&table));
    let mut model = Model::new();
    let mut most_pieces = 0;
    for seq in 1..20_000_u64 {
        let key = random.u32(..100_000).to_be_bytes();
        let (mut before, mut after) = (model_seek_before(&model, &key), model_seek(&model, &key));
        for pieces in 0.. {
            table.index().limit_pieces(pieces);
            let value = Owned::Inline(seq.to_le_bytes().to_vec());
            if let Err(e) = table.insert(&key, Seq(seq), value.as_entry()) {
                assert_eq!(e.kind(), ErrorKind::OutOfMemory);
                most_pieces = most_pieces.max(pieces + 1);
            } else {
                model.insert((key.to_vec(), Reverse(seq)), value);
                assert_eq!(table.newest_seq(&key), Some(Seq(seq)));
                (before, after) = (model_seek_before(&model, &key), model_seek(&model, &key));
            }
            cursor.seek(&key);
            assert_eq!(at(&cursor), after);
            cursor.seek_before(&key);
            assert_eq!(at(&cursor), before);
            assert_eq!(table.entries(), model.len());
            if model.len() as u64 == seq {
                break;
            }
        }
    }
    // An entry, two leaves, two inner nodes on each of three levels, a root.
    assert!(most_pieces >= 10, "{most_pieces}");
    cursor.first();
    for expected in &model {
        assert_eq!(at(&cursor), found(Some(expected)));
        cursor.next();
    }
    assert!(!cursor.valid());
}

/// The key that commit `i` writes: every key is written by several commits.
fn nth_key(i: u64, keys: u64) -> Vec<u8> {
    let number = hash_key(&(i % keys).to_le_bytes());
    [b"key".as_slice(), &number.to_be_bytes()].concat()
}

/// One writer, two readers: what was published before a read began is found by it, whole, and
/// scans are in order and complete.
#[test]
fn readers_find_everything_published_while_a_writer_writes() {
    let (commits, keys) = (200_000_u64, 80_000_u64);
    let table = Arc::new(table());
    let published = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for seq in 1..=commits {
                let key = nth_key(seq, keys);
                // The first is never seen: its commit is published after the second.
                table.insert(&key, Seq(seq), inline("half a commit")).unwrap();
                table.insert(&key, Seq(seq), EntryValue::Inline(&seq.to_le_bytes())).unwrap();
                published.store(seq, Ordering::Release);
            }
        });
        for reader in 0..2 {
            let (table, published) = (&table, &published);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(reader);
                let mut cursor = MemtableCursor::new(Arc::clone(table));
                let mut reads = 0_u64;
                loop {
                    let now = published.load(Ordering::Acquire);
                    if now == 0 {
                        std::thread::yield_now();
                        continue;
                    }
                    for _ in 0..200 {
                        let i = random.u64(1..=now);
                        let key = nth_key(i, keys);
                        let newest = now - (now - i) % keys;
                        for (when, expected) in [(now, newest), (i, i)] {
                            let (seq, value) = table.get(&key, Seq(when)).unwrap();
                            assert_eq!(seq.0, expected);
                            assert_eq!(value, EntryValue::Inline(&expected.to_le_bytes()));
                        }
                        cursor.seek(&key);
                        assert_eq!(cursor.key(), key);
                        assert!(cursor.seq().0 >= newest);
                        reads += 1;
                    }
                    let forward = random.bool();
                    if forward {
                        cursor.first();
                    } else {
                        cursor.last();
                    }
                    let mut seen = 0;
                    let mut last: Option<(Vec<u8>, Reverse<Seq>)> = None;
                    while cursor.valid() {
                        let here = (cursor.key().to_vec(), Reverse(cursor.seq()));
                        if let Some(last) = last.take() {
                            assert!(if forward { last < here } else { last > here });
                        }
                        let seq = cursor.seq().0;
                        if seq <= now {
                            seen += 1;
                            assert_eq!(cursor.value(), EntryValue::Inline(&seq.to_le_bytes()));
                            assert_eq!(here.0, nth_key(seq, keys));
                        }
                        last = Some(here);
                        if forward {
                            cursor.next();
                        } else {
                            cursor.prev();
                        }
                    }
                    assert_eq!(seen, now, "a scan sees each published entry once");
                    if now == commits {
                        break;
                    }
                }
                assert!(reads > 0);
            });
        }
    });
    assert_eq!(table.entries() as u64, commits);
}

fn per_op(start: Instant, n: usize) -> f64 {
    start.elapsed().as_nanos() as f64 / n as f64
}

/// Prints nanoseconds per operation at 500,000 entries of 100-byte values, beside the standard
/// library's `BTreeMap`: `cargo test --release -p lightning_db --lib memtable::tests::speed --
/// --ignored --nocapture`.
#[test]
#[ignore = "measurement, run by hand"]
fn speed() {
    let n = 500_000;
    let value = [7_u8; 100];
    let mut random = fastrand::Rng::with_seed(1);
    let random_keys: Vec<[u8; 16]> =
        (0..n).map(|_| std::array::from_fn(|_| random.u8(..))).collect();
    let decimal = |i: u64| -> [u8; 16] { format!("{i:016}").into_bytes().try_into().unwrap() };
    let ascending: Vec<[u8; 16]> = (0..n as u64).map(decimal).collect();
    let mut shuffled = ascending.clone();
    random.shuffle(&mut shuffled);
    let absent: Vec<[u8; 16]> = (0..n).map(|_| std::array::from_fn(|_| random.u8(..))).collect();
    println!("ns/op                     insert  get  absent  seek  next  prev  bytes/entry");
    let sets =
        [("random", &random_keys), ("decimal, ascending", &ascending), ("decimal", &shuffled)];
    for (name, keys) in sets {
        let mut wanted = keys.clone();
        random.shuffle(&mut wanted);

        let table = Arc::new(table());
        let start = Instant::now();
        for (i, key) in keys.iter().enumerate() {
            table.insert(key, Seq(i as u64 + 1), EntryValue::Inline(&value)).unwrap();
        }
        let insert = per_op(start, n);
        let mut sum = 0;
        let read = |v: EntryValue<'_>| match v {
            EntryValue::Inline(v) => usize::from(v[0]) + usize::from(v[99]),
            _ => 0,
        };
        let start = Instant::now();
        for key in &wanted {
            sum += read(table.get(key, Seq(u64::MAX)).unwrap().1);
        }
        let get = per_op(start, n);
        let start = Instant::now();
        for key in &absent {
            sum += usize::from(table.get(key, Seq(u64::MAX)).is_some());
        }
        let none = per_op(start, n);
        let mut cursor = MemtableCursor::new(Arc::clone(&table));
        let start = Instant::now();
        for key in &wanted {
            cursor.seek(key);
            sum += read(cursor.value());
        }
        let seek = per_op(start, n);
        let start = Instant::now();
        cursor.first();
        while cursor.valid() {
            sum += read(cursor.value());
            cursor.next();
        }
        let next = per_op(start, n);
        let start = Instant::now();
        cursor.last();
        while cursor.valid() {
            sum += read(cursor.value());
            cursor.prev();
        }
        let prev = per_op(start, n);
        let bytes = table.bytes() as f64 / n as f64;
        println!(
            "{name:<24} {insert:>7.0} {get:>4.0} {none:>7.0} {seek:>5.0} {next:>5.0} {prev:>5.0} \
             {bytes:>12.0}"
        );

        let mut map: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let start = Instant::now();
        for key in keys {
            map.insert(key.to_vec(), value.to_vec());
        }
        let insert = per_op(start, n);
        let start = Instant::now();
        for key in &wanted {
            sum += read(EntryValue::Inline(&map[key.as_slice()]));
        }
        let get = per_op(start, n);
        let start = Instant::now();
        for key in &absent {
            sum += usize::from(map.contains_key(key.as_slice()));
        }
        let none = per_op(start, n);
        let start = Instant::now();
        sum += map.values().map(|v| read(EntryValue::Inline(v))).sum::<usize>();
        let next = per_op(start, n);
        println!("  std BTreeMap           {insert:>7.0} {get:>4.0} {none:>7.0}       {next:>5.0}");
        assert_ne!(sum, 0);
    }
}

#[test]
fn versions_keep_their_own_expiry() {
    let table = Arc::new(Memtable::new(KeyspaceId(0), Seq(1)));
    let mut rng = fastrand::Rng::with_seed(7);
    let mut all = BTreeMap::new();
    for seq in 1..3_000_u64 {
        let key = vec![rng.u8(0..40); rng.usize(1..40)];
        let bytes = vec![rng.u8(..); rng.usize(0..60)];
        let expiry = if rng.bool() { Expiry::NEVER } else { Expiry(rng.u64(1..100)) };
        let value = EntryValue::Inline(&bytes);
        table.insert(&key, Seq(seq), Entry { value, expiry }).unwrap();
        all.insert((key, Reverse(seq)), (bytes, expiry));
    }
    assert!(table.expiring() > 1_000);
    let mut cursor = MemtableCursor::new(Arc::clone(&table));
    cursor.first();
    for ((key, Reverse(seq)), (bytes, expiry)) in &all {
        let entry = Entry { value: EntryValue::Inline(bytes), expiry: *expiry };
        assert_eq!(table.get_hashed(key, hash_key(key), Seq(*seq)), Some((Seq(*seq), entry)));
        assert_eq!((cursor.key(), cursor.seq()), (&key[..], Seq(*seq)));
        assert_eq!((cursor.value(), cursor.expiry()), (entry.value, *expiry));
        for now in [0, expiry.0.saturating_sub(1), expiry.0.min(Time::LATEST.0)] {
            assert_eq!(cursor.is_gone(Time(now)), expiry.is_over(Time(now)));
        }
        cursor.next();
    }
    assert!(!cursor.valid());
}
