//! The kept past: every moment of it reads as it was, after flushes, merges, closings and kills; what is
//! older is refused, and its space given back; clocks that jump do no harm.
//!
//! `LIGHTNING_PAST_SEEDS` sets how many workloads run, `LIGHTNING_PAST_FIRST` the first of them.

#![allow(clippy::disallowed_types, reason = "moments are named as callers name them")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lightning_db::vfs::{SimulatedVfs, Vfs};
use lightning_db::{Database, ErrorKind, LightningDbConfig, Moment, OpenAs, Snapshot};

type State = BTreeMap<Vec<u8>, Vec<u8>>;

const HOUR: Duration = Duration::from_secs(3600);

fn config(retention: Option<Duration>) -> LightningDbConfig {
    LightningDbConfig {
        write_buffer_size: 64 << 10,
        wal_segment_size: 64 << 10,
        max_wal_size: 256 << 10,
        cache_size: 1 << 20,
        background_threads: 0,
        history_retention: retention,
        ..LightningDbConfig::default()
    }
}

fn open(vfs: &SimulatedVfs, config: LightningDbConfig) -> Database {
    let shared = Arc::new(vfs.clone()) as Arc<dyn Vfs>;
    Database::open_with_vfs(shared, "/db", config, OpenAs::OpenOrCreate).expect("it opens")
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

fn all(snapshot: &Snapshot) -> State {
    snapshot.range(None, None).expect("a range").map(|e| e.expect("an entry")).collect()
}

fn refused<T>(result: lightning_db::Result<T>) -> ErrorKind {
    result.err().expect("must be refused").kind()
}

fn wall(vfs: &SimulatedVfs) -> SystemTime {
    UNIX_EPOCH + vfs.wall_clock()
}

/// Writes something, and keeps what the state is after each commit.
fn write(db: &Database, rng: &mut fastrand::Rng, states: &mut Vec<State>) {
    let mut state = states.last().expect("never empty").clone();
    if rng.u8(0..40) == 0 {
        let step = rng.usize(1..5);
        let entries: State = (rng.u16(0..150)..150)
            .step_by(step)
            .map(|n| (format!("key{n:03}").into_bytes(), vec![rng.u8(..); rng.usize(0..600)]))
            .collect();
        db.ingest(&entries).expect("ingest");
        state.extend(entries);
        states.push(state);
        return;
    }
    let key = format!("key{:03}", rng.u16(0..150)).into_bytes();
    if rng.u8(0..5) == 0 {
        db.delete(&key).expect("delete");
        state.remove(&key);
    } else {
        let len = if rng.u8(0..80) == 0 { 20_000 } else { rng.usize(0..600) };
        let value: Vec<u8> = (0..len).map(|_| rng.u8(..)).collect();
        db.put(&key, &value).expect("put");
        state.insert(key, value);
    }
    states.push(state);
}

#[test]
fn every_kept_moment_reads_as_it_was() {
    let seeds = number("LIGHTNING_PAST_SEEDS", 6);
    let first = number("LIGHTNING_PAST_FIRST", 1);
    let mut moments = 0;
    for seed in first..first + seeds {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut vfs = SimulatedVfs::new(seed);
        let mut db = open(&vfs, config(Some(HOUR)));
        let mut states = vec![State::new()];
        for _ in 0..600 {
            write(&db, &mut rng, &mut states);
            match rng.u8(0..100) {
                0 => db.flush().expect("flush"),
                1 => db.compact().expect("compact"),
                2 => {
                    db.close().expect("close");
                    db = open(&vfs, config(Some(HOUR)));
                }
                3 => {
                    vfs = vfs.power_cut(rng.u64(..));
                    db = open(&vfs, config(Some(HOUR)));
                }
                4..10 => {
                    let at = rng.usize(0..states.len());
                    let snapshot = db.snapshot_at(at as u64).expect("it is kept");
                    assert!(all(&snapshot) == states[at], "seed {seed}: moment {at}");
                    moments += 1;
                }
                _ => {}
            }
        }
        assert_eq!(db.oldest_moment().0, 0, "seed {seed}");
        for at in (0..states.len()).step_by(7) {
            let snapshot = db.snapshot_at(at as u64).expect("it is kept");
            let again = "LIGHTNING_PAST_FIRST and LIGHTNING_PAST_SEEDS=1 repeat it";
            assert!(all(&snapshot) == states[at], "seed {seed}: moment {at}; {again}");
            let backward = snapshot.scan_reverse(None, None).expect("a range");
            let keys: Vec<_> = backward.map(|e| e.expect("an entry").0).collect();
            assert!(keys.iter().rev().eq(states[at].keys()), "seed {seed}: moment {at} backward");
            moments += 1;
        }
        for key in states.last().expect("never empty").keys() {
            let mut now = None;
            for version in db.history(key).expect("a history").into_iter().rev() {
                let before = states[version.commit as usize - 1].get(key);
                assert_eq!(before.cloned(), now, "seed {seed}: before {}", version.commit);
                now = version.value;
            }
            assert_eq!(now.as_ref(), states.last().expect("never empty").get(key), "seed {seed}");
        }
    }
    println!("tried: {moments} past moments read in full ({seeds} workloads)");
}

/// Times are known to about a second, over a power cut too; what came after a pause is not taken for
/// what came before.
#[test]
fn a_time_stands_for_what_was_committed_by_then() {
    let vfs = SimulatedVfs::new(1);
    let db = open(&vfs, config(Some(HOUR)));
    let mut marks = vec![(wall(&vfs), 0)];
    for burst in 0..20_u32 {
        vfs.advance_clock(Duration::from_secs(10));
        for i in 0..=burst {
            db.put(b"burst", format!("{burst}/{i}")).expect("put");
        }
        vfs.advance_clock(Duration::from_secs(5));
        marks.push((wall(&vfs), db.last_commit()));
    }
    for (time, commit) in &marks {
        assert_eq!(db.snapshot_at(*time).expect("kept").seq(), *commit);
    }
    let later = wall(&vfs) + Duration::from_secs(9);
    assert_eq!(refused(db.snapshot_at(later)), ErrorKind::InvalidArgument);
    assert_eq!(refused(db.snapshot_at(db.last_commit() + 1)), ErrorKind::InvalidArgument);
    assert_eq!(refused(db.snapshot_at(UNIX_EPOCH)), ErrorKind::TooOld);
    let known = db.history(b"burst").expect("a history");
    assert_eq!(known.len() as u64, db.last_commit());
    for version in known {
        let burst = marks.iter().find(|(_, last)| *last >= version.commit).expect("one of them").0;
        let time = version.time.expect("it is known");
        assert!(
            time <= burst && burst - Duration::from_secs(6) <= time,
            "commit {}",
            version.commit
        );
    }
    let vfs = vfs.power_cut(7);
    let db = open(&vfs, config(Some(HOUR)));
    // The last burst's end was not written down; by the time of opening it is all there.
    for (time, commit) in &marks[..marks.len() - 1] {
        assert_eq!(db.snapshot_at(*time).expect("kept").seq(), *commit, "after the power cut");
    }
    assert_eq!(db.snapshot_at(Moment::Time(wall(&vfs))).expect("now").seq(), db.last_commit());
}

/// What is past the retention is refused, by a message that names the oldest moment; and its space
/// comes back though nothing is written.
#[test]
fn what_has_passed_is_refused_and_gives_its_space_back() {
    let vfs = SimulatedVfs::new(2);
    let db = open(&vfs, config(Some(HOUR)));
    let mut rng = fastrand::Rng::with_seed(2);
    for round in 0..20 {
        for key in 0..50 {
            let value: Vec<u8> = (0..400).map(|_| rng.u8(..)).collect();
            db.put(format!("key{key}"), value).expect("put");
        }
        vfs.advance_clock(Duration::from_secs(60));
        if round == 9 {
            db.compact().expect("compact");
        }
    }
    db.put(b"end", b"").expect("put");
    db.compact().expect("compact");
    let full = db.stats();
    assert_eq!(full.keyspaces[0].entries, 1001, "every version is there");
    vfs.advance_clock(Duration::from_secs(3600 - 15 * 60));
    let oldest = db.oldest_moment();
    assert!((200..=300).contains(&oldest.0), "the oldest is commit {}", oldest.0);
    let e = db.snapshot_at(oldest.0 - 1).expect_err("it has passed");
    assert_eq!(e.kind(), ErrorKind::TooOld);
    assert!(e.message().contains(&format!("the oldest moment is commit {}", oldest.0)), "{e}");
    let half = db.snapshot_at(oldest.0).expect("the oldest is kept");
    vfs.advance_clock(HOUR);
    assert_eq!(db.oldest_moment().0, 1001);
    // The one snapshot that is held keeps its own versions and no others.
    db.compact().expect("compact");
    assert_eq!(all(&half).len(), 50);
    drop(half);
    db.compact().expect("compact");
    let stats = db.stats();
    assert_eq!(stats.keyspaces[0].entries, 51, "only the newest is left");
    assert!(stats.storage_bytes * 8 < full.storage_bytes, "{stats:?}");
    assert_eq!(refused(db.snapshot_at(1000)), ErrorKind::TooOld);
    assert_eq!(all(&db.snapshot_at(1001).expect("the newest")).len(), 51);
}

/// Cleaning does so by itself where there are threads.
#[test]
fn the_past_is_cleaned_up_behind_the_calls() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = LightningDbConfig {
        background_threads: 2,
        compaction_interval: Duration::from_millis(20),
        ..config(Some(Duration::from_secs(1)))
    };
    let db = Database::create(dir.path().join("db"), config).expect("it is made");
    for i in 0..2000 {
        db.put(b"key", vec![i as u8; 500]).expect("put");
    }
    db.flush().expect("flush");
    let mut entries = u64::MAX;
    while entries > 1 {
        entries = db.stats().keyspaces[0].entries;
        std::thread::yield_now();
    }
    assert_eq!(db.get(b"key").expect("get"), Some(vec![(1999 % 256) as u8; 500]));
}

/// A longer retention than before does not bring back what was dropped, and none drops what was kept.
#[test]
fn another_retention_makes_no_past_up() {
    let vfs = SimulatedVfs::new(3);
    let mut states = vec![State::new()];
    let mut rng = fastrand::Rng::with_seed(3);
    let mut oldest = 0;
    for retention in [Some(HOUR), Some(2 * HOUR), None, Some(100 * HOUR), Some(HOUR), None] {
        let db = open(&vfs, config(retention));
        if retention.is_none() {
            oldest = db.last_commit();
            assert_eq!(refused(db.snapshot_at(oldest - 1)), ErrorKind::TooOld);
        }
        for _ in 0..150 {
            write(&db, &mut rng, &mut states);
        }
        db.compact().expect("compact");
        if retention.is_none() {
            oldest = db.last_commit();
        }
        assert_eq!(db.oldest_moment().0, oldest, "{retention:?}");
        for at in oldest..=db.last_commit() {
            let snapshot = db.snapshot_at(at).expect("it is kept");
            assert!(all(&snapshot) == states[at as usize], "{retention:?}: moment {at}");
        }
        if oldest > 0 {
            assert_eq!(refused(db.snapshot_at(oldest - 1)), ErrorKind::TooOld, "{retention:?}");
        }
        db.close().expect("close");
    }
}

/// Who opens the database only to read keeps what is there, whatever the options say.
#[test]
fn readers_see_the_past_without_the_option() {
    let vfs = SimulatedVfs::new(4);
    let db = open(&vfs, config(Some(HOUR)));
    db.put(b"k", b"1").expect("put");
    vfs.advance_clock(Duration::from_secs(30));
    let then = wall(&vfs);
    vfs.advance_clock(Duration::from_secs(30));
    db.put(b"k", b"2").expect("put");
    db.compact().expect("compact");
    db.close().expect("close");
    let shared = Arc::new(vfs.clone()) as Arc<dyn Vfs>;
    let db = Database::open_with_vfs(shared, "/db", config(None), OpenAs::ReadOnly).expect("opens");
    assert_eq!(db.snapshot_at(1).expect("kept").get(b"k").expect("get"), Some(b"1".to_vec()));
    assert_eq!(db.snapshot_at(then).expect("kept").get(b"k").expect("get"), Some(b"1".to_vec()));
    assert_eq!(db.history(b"k").expect("a history").len(), 2);
}

/// A clock that jumps ahead and back again drops nothing before its time, and keeps nothing after it.
/// Commits that write nothing have numbers too (here a range delete that finds no row, where a merge operator
/// has it done row by row). Without a log such a number was given out again after the database was opened
/// anew (model, sequence 625), so that `last_commit` went back.
#[test]
fn the_number_of_a_commit_that_wrote_nothing_is_not_given_out_again() {
    for closes in [false, true] {
        let vfs = SimulatedVfs::new(2);
        let counters = Some("counter".to_owned());
        let without_log = || LightningDbConfig {
            wal_enabled: false,
            merge_operator: counters.clone(),
            ..config(Some(HOUR))
        };
        let db = open(&vfs, without_log());
        db.put(b"a", 1_i64.to_le_bytes()).expect("a put");
        db.flush().expect("a flush");
        db.delete_range(Some(b"b"), None).expect("a range delete");
        assert_eq!(db.last_commit(), 2);
        let vfs = if closes {
            db.close().expect("it closes");
            vfs.power_cut(3)
        } else {
            db.flush().expect("a flush");
            vfs.power_cut(3)
        };
        let db = open(&vfs, without_log());
        assert_eq!(db.last_commit(), 2, "closed: {closes}");
        db.put(b"c", 1_i64.to_le_bytes()).expect("a put");
        assert_eq!(db.history(b"c").expect("a history")[0].commit, 3);
    }
}

/// A range delete is in the history of the keys that had a value before it; what its own commit wrote to a
/// key before it counts as written by that commit, and stays so through merges.
#[test]
fn what_a_commit_writes_and_deletes_by_a_range_is_written_by_it() {
    let vfs = SimulatedVfs::new(1);
    let db = open(&vfs, config(Some(HOUR)));
    db.put(b"old", b"1").expect("a put");
    let mut batch = lightning_db::WriteBatch::new();
    batch.put(b"new", b"2");
    batch.delete_range(None, None);
    db.write(batch, lightning_db::WriteOptions::default()).expect("a write");
    for _ in 0..3 {
        let history = |key: &[u8]| -> Vec<(u64, Option<Vec<u8>>)> {
            let all = db.history(key).expect("a history");
            all.into_iter().map(|v| (v.commit, v.value)).collect()
        };
        assert_eq!(history(b"old"), vec![(2, None), (1, Some(b"1".to_vec()))]);
        assert_eq!(history(b"new"), vec![(2, None)]);
        assert_eq!(history(b"other"), vec![]);
        db.flush().expect("a flush");
        db.compact().expect("a merge");
    }
}

#[test]
fn clocks_that_jump_do_no_harm() {
    let vfs = SimulatedVfs::new(5);
    let db = open(&vfs, config(Some(HOUR)));
    let mut rng = fastrand::Rng::with_seed(5);
    let mut states = vec![State::new()];
    let right = vfs.wall_clock();
    for jump in [0, 500 * 24 * 3600, 0, -30 * 24 * 3600, 0_i64] {
        let moved = right.as_secs().cast_signed() + jump;
        vfs.set_wall_clock(Duration::from_secs(moved.cast_unsigned()));
        for _ in 0..40 {
            write(&db, &mut rng, &mut states);
            vfs.advance_clock(Duration::from_secs(5));
        }
        db.compact().expect("compact");
        assert_eq!(db.oldest_moment().0, 0, "after a jump by {jump} s");
    }
    for (at, state) in states.iter().enumerate() {
        assert!(all(&db.snapshot_at(at as u64).expect("kept")) == *state, "moment {at}");
    }
    vfs.advance_clock(2 * HOUR);
    assert_eq!(db.oldest_moment().0, db.last_commit());
}

/// Snapshots of the past are taken while flushes and merges go on, and the retention passes by: each is
/// whole, or refused.
#[test]
fn past_moments_are_whole_while_merges_go_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let config =
        LightningDbConfig { background_threads: 2, ..config(Some(Duration::from_secs(1))) };
    let db = Database::create(dir.path().join("db"), config).expect("it is made");
    let done = AtomicBool::new(false);
    let (mut whole, mut refusals) = (0, 0);
    std::thread::scope(|s| {
        s.spawn(|| {
            // Every commit sets the same two keys to its own number.
            for n in 1..=number("LIGHTNING_PAST_COMMITS", 3000) {
                let value = [&n.to_be_bytes()[..], &[7; 60]].concat();
                let pair = [(b"a".to_vec(), value.clone()), (b"z".to_vec(), value)];
                db.put_batch(&pair).expect("put");
            }
            done.store(true, Ordering::Release);
        });
        let mut rng = fastrand::Rng::with_seed(6);
        while !done.load(Ordering::Acquire) {
            let last = db.last_commit();
            let at = rng.u64(last.saturating_sub(2000)..=last);
            match db.snapshot_at(at) {
                Ok(snapshot) => {
                    let wanted = (at > 0).then(|| at.to_be_bytes());
                    for key in [b"a", b"z"] {
                        let found = snapshot.get(key).expect("get");
                        assert_eq!(
                            found.as_ref().map(|v| &v[..8]),
                            wanted.as_ref().map(|w| &w[..])
                        );
                    }
                    whole += 1;
                }
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::TooOld);
                    refusals += 1;
                }
            }
        }
    });
    println!("tried: {whole} past moments beside merges ({refusals} refused as too old)");
    assert!(whole > 0);
}
