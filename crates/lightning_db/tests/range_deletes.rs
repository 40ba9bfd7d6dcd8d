//! Range deletes against a plain map, densely: few keys, so that ranges, versions, snapshots and merges
//! meet all the time; after every step everything that can be seen is compared. And what they cost, in
//! pages read and steps taken, not in time.
//!
//! `LIGHTNING_RANGE_RUNS` sets how many sequences are tried, `LIGHTNING_RANGE_SEED` the first.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use lightning_db::vfs::{SimulatedVfs, Vfs};
use lightning_db::{
    Database, LightningDbConfig, OpenAs, Profile, Snapshot, VerifyOptions, WalSyncMode, WriteBatch,
    WriteOptions,
};

/// Keys are numbers below this, in one or two bytes.
const KEYS: u16 = 60;

type State = BTreeMap<Vec<u8>, Vec<u8>>;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

fn key(k: u16) -> Vec<u8> {
    // One is a prefix of its neighbour.
    if k.is_multiple_of(2) { vec![1 + k as u8 / 2] } else { vec![1 + k as u8 / 2, 0] }
}

fn config(rng: &mut fastrand::Rng) -> LightningDbConfig {
    LightningDbConfig {
        write_buffer_size: 64 * 1024,
        page_size: 4096,
        cache_size: if rng.bool() { 1 << 20 } else { 64 << 20 },
        background_threads: 0,
        background_compaction: rng.bool(),
        profile: [Profile::ReadOptimized, Profile::Balanced, Profile::WriteOptimized]
            [rng.usize(0..3)],
        wal_enabled: rng.u8(0..4) > 0,
        wal_sync_mode: WalSyncMode::Async,
        ..LightningDbConfig::default()
    }
}

fn draw(rng: &mut fastrand::Rng) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let start = rng.u16(0..KEYS);
    let length = if rng.u8(0..4) == 0 { rng.u16(0..KEYS) } else { rng.u16(0..6) };
    let end = start + length;
    ((rng.u8(0..20) > 0).then(|| key(start)), (end < KEYS + 5).then(|| key(end)))
}

fn inside(key: &[u8], (start, end): &(Option<Vec<u8>>, Option<Vec<u8>>)) -> bool {
    start.as_ref().is_none_or(|s| key >= &s[..]) && end.as_ref().is_none_or(|e| key < &e[..])
}

struct World {
    disk: SimulatedVfs,
    config: LightningDbConfig,
    db: Option<Database>,
    state: State,
    snapshots: Vec<(Snapshot, State)>,
}

impl World {
    fn new(rng: &mut fastrand::Rng) -> Self {
        let (disk, config) = (SimulatedVfs::new(1), config(rng));
        let mut world = Self { disk, config, db: None, state: State::new(), snapshots: Vec::new() };
        world.open(OpenAs::Create);
        world
    }

    fn open(&mut self, mode: OpenAs) {
        let vfs = Arc::new(self.disk.clone()) as Arc<dyn Vfs>;
        let db = Database::open_with_vfs(vfs, "/db", self.config.clone(), mode);
        self.db = Some(db.expect("opens"));
    }

    fn db(&self) -> &Database {
        self.db.as_ref().expect("open")
    }

    fn step(&mut self, rng: &mut fastrand::Rng) -> String {
        let value = |rng: &mut fastrand::Rng| vec![rng.u8(..); rng.usize(0..40)];
        match rng.u8(0..40) {
            0..12 => {
                let (k, v) = (key(rng.u16(0..KEYS)), value(rng));
                self.db().put(&k, &v).expect("writes");
                let told = format!("put {k:?}");
                self.state.insert(k, v);
                told
            }
            12..14 => {
                let k = key(rng.u16(0..KEYS));
                self.db().delete(&k).expect("writes");
                self.state.remove(&k);
                format!("delete {k:?}")
            }
            14..24 => {
                let range = draw(rng);
                let (start, end) = (range.0.as_deref(), range.1.as_deref());
                self.db().delete_range(start, end).expect("writes");
                self.state.retain(|k, _| !inside(k, &range));
                format!("delete_range {range:?}")
            }
            24..30 => {
                let mut batch = WriteBatch::new();
                let mut told = vec!["batch".to_owned()];
                for _ in 0..rng.usize(1..8) {
                    if rng.bool() {
                        let range = draw(rng);
                        batch.delete_range(range.0.as_deref(), range.1.as_deref());
                        self.state.retain(|k, _| !inside(k, &range));
                        told.push(format!("delete_range {range:?}"));
                    } else {
                        let (k, v) = (key(rng.u16(0..KEYS)), value(rng));
                        batch.put(&k, &v);
                        told.push(format!("put {k:?}"));
                        self.state.insert(k, v);
                    }
                }
                self.db().write(batch, WriteOptions::default()).expect("writes");
                told.join(", ")
            }
            30..33 => {
                self.db().flush().expect("flushes");
                "flush".into()
            }
            33 => {
                self.db().compact().expect("compacts");
                "compact".into()
            }
            34 => {
                let range = draw(rng);
                let keyspace = self.db().default_keyspace();
                keyspace.compact_range(range.0.as_deref(), range.1.as_deref()).expect("compacts");
                format!("compact_range {range:?}")
            }
            35..37 => {
                let snapshot = self.db().snapshot().expect("a snapshot");
                self.snapshots.push((snapshot, self.state.clone()));
                "snapshot".into()
            }
            37..39 if !self.snapshots.is_empty() => {
                let gone = rng.usize(0..self.snapshots.len());
                self.snapshots.remove(gone);
                format!("drop snapshot {gone}")
            }
            39 => {
                self.snapshots.clear();
                let db = self.db.take().expect("open");
                let kill = rng.bool() && self.config.wal_enabled;
                if kill {
                    self.disk = self.disk.kill();
                    drop(db);
                } else {
                    db.close().expect("closes");
                }
                self.open(OpenAs::Open);
                format!("reopen, kill {kill}")
            }
            _ => "nothing".into(),
        }
    }

    /// Everything that can be seen, now and by the snapshots.
    fn check(&self, rng: &mut fastrand::Rng, told: &[String], seed: u64) {
        let context = || {
            let last = &told[told.len().saturating_sub(30)..];
            format!(
                "after {} steps, the last: {last:#?}\nrun again: LIGHTNING_RANGE_SEED={seed} \
                 LIGHTNING_RANGE_RUNS=1 cargo test -p lightning_db --test range_deletes",
                told.len()
            )
        };
        let db = self.db();
        for k in 0..KEYS {
            let found = db.get(key(k)).expect("reads");
            assert_eq!(found.as_ref(), self.state.get(&key(k)), "get {:?} {}", key(k), context());
        }
        let pairs = |range: lightning_db::Range| range.map(|p| p.expect("an entry"));
        let forward: State = pairs(db.range(None, None).expect("a range")).collect();
        assert_eq!(forward, self.state, "forward {}", context());
        let back = db.scan_reverse(None, None).expect("a range").map(|p| p.expect("an entry"));
        let back: Vec<_> = back.collect();
        let state: Vec<_> = self.state.clone().into_iter().rev().collect();
        assert_eq!(back, state, "backward {}", context());
        let range = draw(rng);
        let count = db.count(range.0.as_deref(), range.1.as_deref()).expect("counts");
        let wanted = self.state.keys().filter(|k| inside(k, &range)).count() as u64;
        assert_eq!(count, wanted, "count {range:?} {}", context());
        // A walk to and fro.
        let keys: Vec<&Vec<u8>> = self.state.keys().collect();
        let mut cursor = db.cursor().expect("a cursor");
        let from = key(rng.u16(0..KEYS));
        let mut at = keys.partition_point(|k| **k < from);
        assert_eq!(cursor.seek(&from).expect("seeks"), at < keys.len(), "{}", context());
        for _ in 0..10 {
            assert_eq!(cursor.key(), keys.get(at).map(|k| &k[..]), "a cursor {}", context());
            if at >= keys.len() {
                break;
            }
            if rng.bool() {
                cursor.next().expect("moves");
                at += 1;
            } else {
                cursor.prev().expect("moves");
                let Some(before) = at.checked_sub(1) else { break };
                at = before;
            }
        }
        for (i, (snapshot, state)) in self.snapshots.iter().enumerate() {
            let seen: State = pairs(snapshot.range(None, None).expect("a range")).collect();
            assert_eq!(&seen, state, "snapshot {i} {}", context());
            let k = key(rng.u16(0..KEYS));
            let found = snapshot.get(&k).expect("reads");
            assert_eq!(found.as_ref(), state.get(&k), "snapshot {i}, get {k:?} {}", context());
        }
    }
}

#[test]
fn everybody_sees_what_a_plain_map_says() {
    let (first, runs) = (number("LIGHTNING_RANGE_SEED", 0), number("LIGHTNING_RANGE_RUNS", 60));
    let mut steps = 0;
    for seed in first..first + runs {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut world = World::new(&mut rng);
        let mut told = Vec::new();
        for _ in 0..150 {
            told.push(world.step(&mut rng));
            world.check(&mut rng, &told, seed);
            steps += 1;
        }
        world.snapshots.clear();
        let report = world.db().verify(VerifyOptions::default()).expect("a report");
        assert!(report.is_clean(), "seed {seed}: {:?}", report.problems);
        world.db().compact().expect("compacts");
        told.push("compact".into());
        world.check(&mut rng, &told, seed);
        let stats = &world.db().stats().keyspaces[0];
        assert_eq!((stats.range_deletes, stats.runs), (0, 0), "seed {seed}: the base has none");
        assert_eq!(stats.entries, world.state.len() as u64, "seed {seed}: nothing dead is left");
    }
    println!("tried: {steps} steps of {runs} sequences, each compared in full");
}

fn long_key(n: u64) -> [u8; 8] {
    n.to_be_bytes()
}

fn loaded(disk: &SimulatedVfs, entries: u64) -> Database {
    let config = LightningDbConfig {
        write_buffer_size: 256 * 1024,
        page_size: 4096,
        background_threads: 0,
        background_compaction: false,
        prefetch_enabled: false,
        wal_sync_mode: WalSyncMode::Async,
        ..LightningDbConfig::default()
    };
    let vfs = Arc::new(disk.clone()) as Arc<dyn Vfs>;
    let db = Database::open_with_vfs(vfs, Path::new("/db"), config, OpenAs::Create).expect("opens");
    let mut rng = fastrand::Rng::with_seed(1);
    for n in 0..entries {
        let mut value = [0; 100];
        rng.fill(&mut value);
        db.put(long_key(n), value).expect("writes");
    }
    db.compact().expect("compacts");
    db
}

#[test]
fn whole_partitions_are_dropped_without_being_read() {
    let disk = SimulatedVfs::new(1);
    let db = loaded(&disk, 60_000);
    let partitions = db.stats().keyspaces[0].base_partitions;
    assert!(partitions > 10, "{partitions}");
    let before = db.stats().storage_bytes;
    db.evict_cache(1.0).expect("evicts");
    let calls = disk.operations();
    db.delete_range(Some(&long_key(1_000)), Some(&long_key(59_000))).expect("deletes");
    assert_eq!(db.count(None, None).expect("counts"), 2_000);
    db.compact_range(Some(&long_key(1_000)), Some(&long_key(59_000))).expect("compacts");
    let calls = disk.operations() - calls;
    let after = db.stats();
    assert!(after.storage_bytes * 10 < before, "{} of {before} bytes stay", after.storage_bytes);
    // There are more than 1,500 leaves, each of which takes a call to read.
    // With the joining of what is small now, which the compaction makes due.
    assert!(calls < 600, "{calls} calls to the disk, where a thirtieth of the leaves stays");
    assert_eq!(after.keyspaces[0].range_deletes, 0);
    assert_eq!(db.count(None, None).expect("counts"), 2_000);
}

/// A partition of a run that overlaps nothing older moves to the base as it is. One in which the run's own
/// range delete lies must not: it would be hidden by that from below.
#[test]
fn what_was_put_after_a_range_delete_does_not_move_below_it() {
    let disk = SimulatedVfs::new(1);
    let config = LightningDbConfig {
        write_buffer_size: 64 * 1024,
        background_threads: 0,
        wal_sync_mode: WalSyncMode::Async,
        ..LightningDbConfig::default()
    };
    let vfs = Arc::new(disk.clone()) as Arc<dyn Vfs>;
    let db = Database::open_with_vfs(vfs, "/db", config, OpenAs::Create).expect("opens");
    let mut rng = fastrand::Rng::with_seed(1);
    let mut value = || std::array::from_fn::<u8, 100, _>(|_| rng.u8(..));
    for n in 0..2_000 {
        db.put(long_key(n), value()).expect("writes");
    }
    db.compact().expect("compacts");
    // The range delete hides something of the base, but nothing where the new entries are.
    let mut batch = WriteBatch::new();
    batch.delete_range(Some(&long_key(1_990)), Some(&long_key(25_000)));
    (5_000..7_000).for_each(|n| batch.put(long_key(n), value()));
    db.write(batch, WriteOptions::default()).expect("writes");
    for merge in [|_: &Database| Ok(()), Database::flush, Database::compact] {
        merge(&db).expect("merges");
        assert_eq!(db.count(None, None).expect("counts"), 3_990);
        assert!(db.get(long_key(6_000)).expect("reads").is_some());
    }
}

#[test]
fn a_range_delete_alone_makes_a_merge_due() {
    let disk = SimulatedVfs::new(1);
    let db = loaded(&disk, 30_000);
    db.close().expect("closes");
    let config = LightningDbConfig {
        write_buffer_size: 256 * 1024,
        background_threads: 0,
        ..LightningDbConfig::default()
    };
    let vfs = Arc::new(disk.clone()) as Arc<dyn Vfs>;
    let db = Database::open_with_vfs(vfs, "/db", config, OpenAs::Open).expect("opens");
    let before = db.stats().storage_bytes;
    db.delete_range(None, Some(&long_key(29_000))).expect("deletes");
    // What is done when a memtable is full.
    for n in 0..3_000 {
        db.put(long_key(100_000 + n), [1; 100]).expect("writes");
    }
    let after = db.stats().storage_bytes;
    assert!(after * 3 < before, "{after} of {before} bytes are left, with no call to compact");
}

#[test]
fn what_is_covered_is_passed_over_by_seeking() {
    let disk = SimulatedVfs::new(1);
    let db = loaded(&disk, 60_000);
    // Range deletes that touch, in memory and then in a run: one stretch for who scans.
    for n in (1_000..59_000).step_by(1_000) {
        db.delete_range(Some(&long_key(n)), Some(&long_key(n + 1_000))).expect("deletes");
    }
    for place in ["in memory", "in a run"] {
        db.evict_cache(1.0).expect("evicts");
        let misses = db.stats().cache_misses;
        let mut cursor = db.cursor().expect("a cursor");
        assert!(cursor.seek(&long_key(999)).expect("seeks"));
        assert!(cursor.next().expect("moves"));
        assert_eq!(cursor.key(), Some(&long_key(59_000)[..]), "{place}");
        assert!(cursor.prev().expect("moves"));
        assert_eq!(cursor.key(), Some(&long_key(999)[..]), "{place}");
        let read = db.stats().cache_misses - misses;
        assert!(read <= 12, "{place}: {read} pages read to pass over 58,000 keys");
        db.flush().expect("flushes");
    }
}

#[test]
fn one_hundred_thousand_range_deletes_cost_little_to_keep() {
    let disk = SimulatedVfs::new(1);
    let db = loaded(&disk, 20_000);
    let log = db.stats().last_commit;
    for n in 0..100_000_u64 {
        // Over keys that are there, and over more that are not.
        let start = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 40_000;
        db.delete_range(Some(&long_key(start)), Some(&long_key(start + 1))).expect("deletes");
    }
    assert_eq!(db.stats().last_commit, log + 100_000);
    let left = |db: &Database| db.count(None, None).expect("counts");
    let alive = left(&db);
    db.flush().expect("flushes");
    assert_eq!(left(&db), alive);
    let manifest: u64 = disk
        .files()
        .iter()
        .filter(|f| f.to_string_lossy().contains("manifest"))
        .map(|f| disk.read_file(f).expect("a file").iter().filter(|b| **b != 0).count() as u64)
        .sum();
    assert!(manifest < 64 * 1024, "{manifest} bytes of manifest");
    db.close().expect("closes");
    let config = LightningDbConfig { background_threads: 0, ..LightningDbConfig::default() };
    let vfs = Arc::new(disk.clone()) as Arc<dyn Vfs>;
    let db = Database::open_with_vfs(vfs, "/db", config, OpenAs::Open).expect("opens");
    assert_eq!(left(&db), alive);
    db.compact().expect("compacts");
    assert_eq!((left(&db), db.stats().keyspaces[0].range_deletes), (alive, 0));
}

/// Seeks and gets each second, and range deletes; a measurement, not a test. In `docs/performance.md`.
#[test]
#[ignore = "a measurement: run it alone, with --nocapture"]
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it measures")]
fn seeks_after_many_range_deletes() {
    const ENTRIES: u64 = 1_000_000;
    let config = LightningDbConfig { cache_size: 1 << 30, ..LightningDbConfig::default() };
    let db = Database::open_in_memory(config).expect("opens");
    for first in (0..ENTRIES).step_by(1000) {
        let mut batch = WriteBatch::new();
        (first..first + 1000).for_each(|n| batch.put(long_key(n * 2), [7; 100]));
        db.write(batch, WriteOptions::default()).expect("writes");
    }
    db.compact().expect("compacts");
    let mut rng = fastrand::Rng::with_seed(1);
    let mut rate = |what: &str, calls: u64, act: &mut dyn FnMut(u64)| {
        // The best of some rounds: others may be at work.
        let mut round = || {
            let started = std::time::Instant::now();
            (0..calls).for_each(|_| act(rng.u64(0..ENTRIES * 2)));
            started.elapsed().as_nanos() / u128::from(calls)
        };
        let nanos = (0..10).map(|_| round()).min().unwrap_or_default();
        println!("{what}: {nanos} ns");
    };
    let mut read = |place: &str| {
        let mut cursor = db.cursor().expect("a cursor");
        let mut seek = |n| _ = cursor.seek(&long_key(n)).expect("seeks");
        rate("warming up", 20_000, &mut seek);
        rate(&format!("{place}: seek"), 50_000, &mut seek);
        let mut scan = |n| {
            cursor.seek(&long_key(n)).expect("seeks");
            (0..10).for_each(|_| _ = cursor.next().expect("moves"));
        };
        rate(&format!("{place}: seek and ten steps"), 30_000, &mut scan);
        let mut get = |n| _ = db.get_pinned(long_key(n)).expect("reads");
        rate(&format!("{place}: get"), 50_000, &mut get);
    };
    read("before");
    let started = std::time::Instant::now();
    let mut order = fastrand::Rng::with_seed(2);
    for _ in 0..100_000 {
        let n = order.u64(0..ENTRIES * 2);
        db.delete_range(Some(&long_key(n)), Some(&long_key(n + 4))).expect("deletes");
    }
    let nanos = started.elapsed().as_nanos() / 100_000;
    println!("a range delete: {nanos} ns, then {} are held", db.stats().keyspaces[0].range_deletes);
    read("100,000 in memory");
    db.flush().expect("flushes");
    read("100,000 in a run");
    db.compact().expect("compacts");
    read("merged");
}
