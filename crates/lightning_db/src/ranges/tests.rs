//! Maps and lists against what each key was last deleted with, kept key by key.

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

#[test]
fn a_map_knows_of_each_key_the_newest_range_delete_and_older_maps_stay() {
    for seed in 0..200 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut map, mut joined) = (RangeMap::default(), RangeMap::default());
        let mut naive = vec![None; usize::from(KEYS)];
        let mut before = Vec::new();
        for seq in 1..60 {
            let delete = draw(&mut rng, seq);
            before.push((map.clone(), naive.clone()));
            for k in (0..KEYS).filter(|k| covers(&delete, *k)) {
                naive[usize::from(k)] = Some(Seq(seq));
            }
            map = map.with(delete.clone());
            joined = joined.joined_with(delete);
            assert!(map.balanced_height().is_some(), "seed {seed}");
            let all = joined.fragments();
            let apart = |w: &[Fragment]| w[0].end.as_ref().is_some_and(|e| *e < w[1].start);
            assert!(all.windows(2).all(apart), "seed {seed}: {all:?}");
        }
        before.push((map, naive.clone()));
        for (map, naive) in &before {
            for k in 0..KEYS {
                let found = map.covering(&[k]).map(|f| f.seq);
                assert_eq!(found, naive[usize::from(k)], "seed {seed} key {k}");
            }
        }
        for k in 0..KEYS {
            let there = naive[usize::from(k)].is_some();
            assert_eq!(joined.covering(&[k]).is_some(), there, "seed {seed}");
        }
    }
}

#[test]
fn many_ranges_make_no_high_tree() {
    let mut map = RangeMap::default();
    for i in 0..20_000_u32 {
        let (start, end) = (i.to_be_bytes(), (i + 1).to_be_bytes());
        let end = Some(Arc::from(end.as_slice()));
        map = map.with(Fragment { start: Arc::from(start.as_slice()), end, seq: Seq(1) });
    }
    assert_eq!(map.fragments().len(), 20_000);
    assert!(map.balanced_height().is_some_and(|h| h <= 21), "1.44 times the logarithm");
    // One that covers them all takes them all out.
    map = map.with(Fragment { start: Arc::from([0]), end: None, seq: Seq(2) });
    assert_eq!(map.fragments().len(), 1);
}

#[test]
fn a_list_shows_every_view_what_the_range_deletes_did() {
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
                if let Some((start, end)) = settled.stretch(&[k], Seq(at)) {
                    let all = start[0]..end.map_or(KEYS, |e| e[0]);
                    assert!(all.clone().all(|k| settled.hides(&[k], Seq(at))), "seed {seed}");
                    assert!(all.contains(&k));
                }
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
