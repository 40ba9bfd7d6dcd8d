//! Cursors that move to and fro over data in several places: some sources have long stretches to
//! themselves, so that a cursor steps over a leaf without asking the others, and has to stop where
//! they come in. Beside a `BTreeMap`, at several moments.
//!
//! Seen to fail when a stretch is not cut where another source comes in, in either direction; when a
//! stretch reaches back to the first entry of a leaf, whose key may have a newer version in the leaf
//! before; when it goes over a leaf with entries that expire; when it is not cut where range deletes hide keys, in
//! either direction; and when the source is not moved
//! along at the stretch's end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use lightning_db::vfs::{SimulatedVfs, Vfs};
use lightning_db::{CompressionType, Cursor, Database, LightningDbConfig, OpenAs, Snapshot};

const DAY: Duration = Duration::from_secs(86_400);

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// Every other database merges; the others give lifetimes.
fn config(rng: &mut fastrand::Rng, merges: bool) -> LightningDbConfig {
    LightningDbConfig {
        write_buffer_size: 1 << 20,
        cache_size: if rng.bool() { 1 << 20 } else { 64 << 20 },
        compression_type: CompressionType::Lz4,
        background_threads: 0,
        background_compaction: false,
        merge_operator: merges.then(|| "append".to_owned()),
        ..LightningDbConfig::default()
    }
}

fn key(n: u32) -> Vec<u8> {
    // A few are long, so that lengths take two bytes.
    if n.is_multiple_of(97) {
        format!("{n:08}{}", "x".repeat(140)).into_bytes()
    } else {
        format!("{n:08}").into_bytes()
    }
}

/// Writes to stretches of keys and to single ones, in several flushes; keeps some moments. Gives back what
/// ends with the day too.
fn fill(
    db: &Database,
    disk: &SimulatedVfs,
    rng: &mut fastrand::Rng,
    merging: bool,
) -> (Vec<(Snapshot, Model)>, BTreeSet<Vec<u8>>) {
    let mut model = Model::new();
    // What does not outlive the day.
    let mut ending = BTreeSet::new();
    let mut moments = Vec::new();
    for round in 0..rng.u32(2..7) {
        for _ in 0..rng.u32(1..6) {
            let from = rng.u32(0..2000);
            let to = from + if rng.bool() { rng.u32(1..5) } else { rng.u32(50..700) };
            let step = rng.u32(1..4) as usize;
            let deletes = rng.u32(0..4) == 0;
            if rng.u32(0..5) == 0 {
                db.delete_range(Some(&key(from)), Some(&key(to))).expect("deletes a range");
                let stays = |k: &Vec<u8>| *k < key(from) || *k >= key(to);
                model.retain(|k, _| stays(k));
                ending.retain(|k| stays(k));
                continue;
            }
            let special = rng.u32(0..4) == 0;
            let (merges, ends) = (special && merging, special && !merging);
            for n in (from..to).step_by(step) {
                ending.remove(&key(n));
                if deletes {
                    db.delete(key(n)).expect("deletes");
                    model.remove(&key(n));
                } else if merges {
                    let operand = vec![b'm'; rng.usize(0..9)];
                    db.merge(key(n), &operand).expect("merges");
                    model.entry(key(n)).or_default().extend_from_slice(&operand);
                } else {
                    let len = if rng.u32(0..400) == 0 { 40_000 } else { rng.usize(0..120) };
                    let value = vec![round as u8; len];
                    if ends {
                        db.put_with_ttl(key(n), &value, DAY / 2).expect("puts");
                        ending.insert(key(n));
                    } else {
                        db.put(key(n), &value).expect("puts");
                    }
                    model.insert(key(n), value);
                }
            }
        }
        if !merging && rng.bool() {
            disk.set_wall_clock(disk.wall_clock() + DAY);
            model.retain(|key, _| !ending.contains(key));
            ending.clear();
        }
        if rng.bool() {
            moments.push((db.snapshot().expect("a snapshot"), model.clone()));
        }
        match rng.u32(0..4) {
            0 => db.compact().expect("compacts"),
            1 | 2 => db.flush().expect("flushes"),
            _ => {}
        }
    }
    moments.push((db.snapshot().expect("a snapshot"), model));
    (moments, ending)
}

fn check(cursor: &mut Cursor, expected: Option<(&Vec<u8>, &Vec<u8>)>, said: bool) {
    let found = cursor.entry().expect("reads");
    assert_eq!(said, expected.is_some(), "whether it stands on a key");
    assert_eq!(found.map(|(k, _)| k), expected.map(|(k, _)| k.as_slice()), "the key");
    assert!(found.map(|(_, v)| v) == expected.map(|(_, v)| v.as_slice()), "the value");
    assert_eq!(cursor.key(), expected.map(|(k, _)| k.as_slice()));
}

/// Walks, turns and seeks; returns the steps taken.
fn walk(cursor: &mut Cursor, model: &Model, rng: &mut fastrand::Rng) -> u64 {
    let mut steps = 0;
    for _ in 0..30 {
        let target = key(rng.u32(0..2800));
        let (said, mut at) = match rng.u32(0..4) {
            0 => (cursor.seek_to_first(), model.iter().next()),
            1 => (cursor.seek_to_last(), model.iter().next_back()),
            2 => (cursor.seek(&target), model.range(target..).next()),
            _ => (cursor.seek_before(&target), model.range(..target).next_back()),
        };
        check(cursor, at, said.expect("seeks"));
        for _ in 0..rng.u32(0..12) {
            let forward = rng.bool();
            for _ in 0..if rng.bool() { rng.u32(0..5) } else { rng.u32(0..150) } {
                let Some((here, _)) = at else { break };
                let here = here.clone();
                let said = if forward {
                    at = model.range(here.clone()..).find(|(k, _)| **k != here);
                    cursor.next()
                } else {
                    at = model.range(..here).next_back();
                    cursor.prev()
                };
                check(cursor, at, said.expect("steps"));
                steps += 1;
            }
        }
    }
    steps
}

#[test]
fn cursors_agree_with_a_map_whichever_way_they_turn() {
    let first: u64 = std::env::var("LIGHTNING_WINDOWS_FIRST").map_or(0, |s| s.parse().unwrap());
    let count: u64 = std::env::var("LIGHTNING_WINDOWS").map_or(25, |s| s.parse().unwrap());
    let mut steps = 0;
    for seed in first..first + count {
        println!("again: LIGHTNING_WINDOWS_FIRST={seed} LIGHTNING_WINDOWS=1");
        let mut rng = fastrand::Rng::with_seed(seed);
        let (disk, merging) = (SimulatedVfs::new(seed), seed.is_multiple_of(2));
        let (vfs, config) = (Arc::new(disk.clone()) as Arc<dyn Vfs>, config(&mut rng, merging));
        let db = Database::open_with_vfs(vfs, "/db", config, OpenAs::Create).expect("opens");
        let (moments, ending) = fill(&db, &disk, &mut rng, merging);
        for (snapshot, model) in &moments {
            let mut cursor = snapshot.cursor().expect("a cursor");
            steps += walk(&mut cursor, model, &mut rng);
        }
        // Once the old moments are gone, entries settle.
        let (_, mut model) = moments.into_iter().next_back().expect("one at least");
        db.compact().expect("compacts");
        steps += walk(&mut db.cursor().expect("a cursor"), &model, &mut rng);
        // In the leaves it is then gone before any merge.
        disk.set_wall_clock(disk.wall_clock() + DAY);
        model.retain(|key, _| !ending.contains(key));
        steps += walk(&mut db.cursor().expect("a cursor"), &model, &mut rng);
        // Over leaves that could be stepped over alone, range deletes in memory and then in a run.
        for _ in 0..rng.u32(1..60) {
            let from = rng.u32(0..2700);
            let most = if rng.u32(0..20) == 0 { 500 } else { 12 };
            let to = from + rng.u32(1..most);
            db.delete_range(Some(&key(from)), Some(&key(to))).expect("deletes a range");
            model.retain(|k, _| *k < key(from) || *k >= key(to));
        }
        steps += walk(&mut db.cursor().expect("a cursor"), &model, &mut rng);
        db.flush().expect("flushes");
        steps += walk(&mut db.cursor().expect("a cursor"), &model, &mut rng);
    }
    println!("tried: {steps} steps of cursors over {count} databases");
}
