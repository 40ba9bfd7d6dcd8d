//! Maps and lists against what each key was last deleted with, kept key by key.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use super::*;
use crate::types::Seq;

/// Keys are single bytes below this.
const KEYS: u8 = 40;

fn key(k: u8) -> Key {
    Arc::from([k])
}

fn draw(rng: &mut fastrand::Rng, seq: u64) -> Fragment {
    let start = rng.u8(1..KEYS - 1);
    let end = (rng.u8(0..12) > 0).then(|| key(rng.u8(start + 1..KEYS)));
    Fragment { start: key(start), end, seq: Seq(seq) }
}

fn covers(f: &Fragment, k: u8) -> bool {
    f.start[0] <= k && f.end.as_ref().is_none_or(|e| k < e[0])
}

/// What holds from each boundary on, as the map ought to have it.
type Naive = BTreeMap<Vec<u8>, Option<u64>>;

fn before(naive: &Naive, key: &[u8]) -> Option<u64> {
    naive.range::<[u8], _>((Unbounded, Excluded(key))).next_back().and_then(|(_, v)| *v)
}

fn up_to(naive: &Naive, key: &[u8]) -> Option<u64> {
    naive.get(key).copied().unwrap_or_else(|| before(naive, key))
}

fn cover(naive: &mut Naive, start: &[u8], end: Option<&[u8]>, seq: u64) {
    if !is_before(start, end) {
        return;
    }
    let (earlier, later) = (before(naive, start), end.map(|end| up_to(naive, end)));
    naive.retain(|k, _| **k < *start || end.is_some_and(|end| **k > *end));
    if earlier != Some(seq) {
        naive.insert(start.to_vec(), Some(seq));
    }
    if let (Some(end), Some(later)) = (end, later.filter(|v| *v != Some(seq))) {
        naive.insert(end.to_vec(), later);
    }
}

/// Keys of a sort, so that all ways through a node's keys are gone: short and dense, with much in common,
/// with zeros at the end, long.
fn draw_key(rng: &mut fastrand::Rng, sort: u8) -> Vec<u8> {
    let n = rng.u16(..);
    match sort {
        0 => n.to_be_bytes().to_vec(),
        1 => [&b"a long beginning that all share/"[..], &n.to_be_bytes()].concat(),
        2 => {
            let mut key = vec![b'x'; usize::from(n % 3) * 7];
            key.extend((0..n / 3 % 12).map(|i| (n >> i) as u8 & 1));
            key
        }
        _ => {
            let mut key = vec![(n >> 8) as u8; 700];
            key.push(n as u8);
            key
        }
    }
}

fn check(map: &RangeMap, naive: &Naive, rng: &mut fastrand::Rng, sort: u8, context: &str) {
    // One for all keys asked for, as a cursor has.
    let mut stretch = Stretch::default();
    for _ in 0..8 {
        let known = naive.keys().nth(rng.usize(0..naive.len().max(1))).filter(|_| rng.bool());
        let key = known.cloned().unwrap_or_else(|| draw_key(rng, sort));
        let value = up_to(naive, &key);
        assert_eq!(map.covering(&key), value, "{context} {key:?}");
        let around = map.around(&key);
        let to_vec = |key: Option<KeyRef<'_>>| key.map(|key| key.to_vec());
        let start = naive.range(..=key.clone()).next_back().map(|(k, _)| k.clone());
        let mut behind = naive.range::<[u8], _>((Excluded(&key[..]), Unbounded));
        let end = behind.clone().next().map(|(k, _)| k.clone());
        assert_eq!((around.value, to_vec(around.start)), (value, start.clone()), "{context}");
        assert_eq!(to_vec(around.end), end, "{context} {key:?}");
        let gap = behind.find(|(_, v)| v.is_none()).map(|(k, _)| k.clone());
        let mut reached = naive.range(..=key.clone()).rev().take_while(|(_, v)| v.is_some());
        let reached = reached.by_ref().last().map(|(k, _)| k.clone());
        for forward in [true, false] {
            map.stretch(&key, forward, &mut stretch);
            assert!(stretch.contains(&key), "{context}");
            assert_eq!(stretch.is_hidden(), value.is_some(), "{context}");
            let wanted = match (value.is_some(), forward) {
                (false, _) => (start.clone(), end.clone()),
                (true, true) => (start.clone(), gap.clone()),
                (true, false) => (reached.clone(), end.clone()),
            };
            let found = (stretch.start().to_vec(), stretch.end().map(<[u8]>::to_vec));
            assert_eq!(found, (wanted.0.unwrap_or_default(), wanted.1), "{context} {key:?}");
        }
    }
}

#[test]
fn a_map_is_a_list_of_boundaries_and_older_maps_stay() {
    let mut steps = 0;
    for seed in 0..48 {
        let mut rng = fastrand::Rng::with_seed(seed);
        // Few keys: much that touches. Many: a high tree, which wide ranges cut down now and then.
        let (sort, wide) = (seed as u8 % 4, rng.u16(20..2000));
        let numbers = if rng.bool() { 3 } else { u64::MAX };
        let (mut map, mut naive) = (RangeMap::default(), Naive::new());
        let mut kept: Vec<(RangeMap, Naive)> = Vec::new();
        for seq in 1..=800 {
            let (a, b) = (draw_key(&mut rng, sort), draw_key(&mut rng, sort));
            let (start, end) = if rng.u16(0..wide) == 0 {
                (a, (rng.u8(0..8) > 0).then_some(b))
            } else {
                let mut end = a.clone();
                match end.last_mut() {
                    Some(last) if *last < 250 => *last += rng.u8(0..4),
                    _ => end.push(1),
                }
                (a, Some(end))
            };
            let value = seq % numbers;
            cover(&mut naive, &start, end.as_deref(), value);
            if rng.u8(0..100) == 0 {
                kept.push((map.clone(), naive.clone()));
                kept.last_mut().expect("just now").0 = map.with(&start, end.as_deref(), value);
            }
            map = map.with(&start, end.as_deref(), value);
            let context = format!("seed {seed} step {seq}");
            assert!(map.sound_height().is_some(), "{context}");
            check(&map, &naive, &mut rng, sort, &context);
            steps += 1;
        }
        kept.push((map, naive));
        for (map, naive) in &kept {
            let mut all = Naive::new();
            map.for_each(|key, value| _ = all.insert(key.to_vec(), value));
            assert_eq!(&all, naive, "seed {seed}");
            let boundaries = naive.iter().map(|(k, v)| (k.as_slice(), *v));
            let again = RangeMap::of_boundaries(boundaries);
            assert!(again.sound_height().is_some(), "seed {seed}");
            check(&again, naive, &mut rng, sort, "made at once");
        }
    }
    println!("tried: {steps} ranges put into maps, each compared");
}

#[test]
fn many_ranges_make_no_high_tree() {
    let mut map = RangeMap::default();
    for i in 0..20_000_u32 {
        let (start, end) = (i.to_be_bytes(), (i + 1).to_be_bytes());
        map = map.with(&start, Some(&end), u64::from(i));
    }
    assert_eq!(map.fragments().len(), 20_000);
    assert!(map.sound_height().is_some_and(|h| h <= 5), "{:?}", map.sound_height());
    let mut stretch = Stretch::default();
    map.stretch(&10_000_u32.to_be_bytes(), true, &mut stretch);
    assert_eq!(stretch.end(), Some(&20_000_u32.to_be_bytes()[..]), "all that touch are one");
    // One that covers them all takes them all out.
    map = map.with(&[0], None, 50_000);
    assert_eq!(map.fragments().len(), 1);
    assert_eq!(map.sound_height(), Some(1));
}

#[test]
fn a_list_shows_every_view_what_the_range_deletes_did() {
    let mut stretch = Stretch::default();
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let deletes: Vec<Fragment> = (1..rng.u64(2..30)).map(|s| draw(&mut rng, s)).collect();
        let floor = rng.u64(0..32);
        let mut bounds: Vec<Seq> =
            (0..rng.usize(0..4)).map(|_| Seq(rng.u64(0..=floor))).chain([Seq(floor)]).collect();
        bounds.sort_unstable_by(|a, b| b.cmp(a));
        bounds.dedup();
        let list = RangeList::build(deletes.iter().cloned(), &bounds);
        let lowest = *bounds.last().expect("the floor");
        let settled = list.settled(lowest, |_| true);
        let start = rng.u8(0..KEYS);
        let hole = (start, rng.bool().then(|| rng.u8(start + 1..=KEYS)));
        let hole_bytes = ([hole.0], hole.1.map(|e| [e]));
        let hole_ref = (&hole_bytes.0[..], hole_bytes.1.as_ref().map(|e| &e[..]));
        let rest = settled.without(std::iter::once(hole_ref));
        for at in bounds.iter().map(|b| b.0).chain(floor..32) {
            for k in 0..KEYS {
                let newest = deletes
                    .iter()
                    .filter(|d| d.seq <= Seq(at) && covers(d, k))
                    .map(|d| d.seq)
                    .max();
                let hidden = newest.is_some();
                assert_eq!(list.hides(&[k], Seq(at)), hidden, "seed {seed} {k} {at}");
                assert_eq!(settled.hides(&[k], Seq(at)), hidden, "seed {seed} {k} {at}");
                let in_hole = hole.0 <= k && hole.1.is_none_or(|e| k < e);
                assert_eq!(rest.hides(&[k], Seq(at)), hidden && !in_hole, "seed {seed} {k} {at}");
                let found = list.find(&[k]).and_then(|f| f.seqs.iter().find(|s| **s <= Seq(at)));
                assert_eq!(found.copied(), newest, "seed {seed} {k} {at}");
                for forward in [true, false] {
                    settled.stretch(&[k], Seq(at), forward, &mut stretch);
                    let from = stretch.start().first().copied().unwrap_or(0);
                    let all = from..stretch.end().map_or(KEYS, |e| e[0]);
                    assert!(stretch.contains(&[k]) && all.contains(&k), "seed {seed} {k} {at}");
                    let is_hidden = |k| settled.hides(&[k], Seq(at));
                    assert!(all.clone().all(|k| is_hidden(k) == stretch.is_hidden()));
                    // As far as it goes in the direction of movement.
                    let beyond = if forward { all.end } else { all.start.wrapping_sub(1) };
                    assert!(!hidden || beyond >= KEYS || !is_hidden(beyond), "seed {seed}");
                }
                let to = rng.u8(k..KEYS);
                let covered = (k..=to).all(|k| settled.hides(&[k], Seq(at)));
                assert_eq!(settled.covers(&[k], &[to], Seq(at)), covered, "seed {seed}");
            }
        }
        let longest = bounds.len() + deletes.iter().filter(|d| d.seq.0 > floor).count();
        assert!(list.fragments().iter().all(|f| f.seqs.len() <= longest), "seed {seed}");
        // A list of a list is that list, moved to other ages or not.
        let again = RangeList::new(settled.fragments().iter().cloned());
        assert_eq!(again, settled);
        let from = rng.u8(0..KEYS);
        let within = list.within(&[from], Some(&[from + 1]));
        assert_eq!(!within.is_empty(), list.find(&[from]).is_some(), "seed {seed}");
        assert_eq!(list.reaches(&[from], &[from]), list.find(&[from]).is_some());
    }
}

#[test]
fn bounds_longer_than_keys_become_the_next_key() {
    let list = |start: &[u8], end: Option<&[u8]>| {
        let (start, end) = (start.into(), end.map(Into::into));
        RangeList::new([ListFragment { start, end, seqs: [Seq(1)].into() }])
    };
    let first = |start: &[u8], end: Option<&[u8]>| {
        let list = list(start, end).starting_at_keys(2);
        list.fragments().first().map(|f| f.start.to_vec())
    };
    assert_eq!(first(&[7, 8], None), Some(vec![7, 8]));
    assert_eq!(first(&[7, 8, 0], None), Some(vec![7, 9]));
    assert_eq!(first(&[7, 255, 0], None), Some(vec![8]));
    assert_eq!(first(&[7, 255, 0], Some(&[8])), None);
    assert_eq!(first(&[7, 255, 0], Some(&[8, 0])), Some(vec![8]));
    assert_eq!(first(&[255, 255, 0], None), None, "no key is behind it");
}
