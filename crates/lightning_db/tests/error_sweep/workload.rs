//! What the runs of the sweep do: the same steps for the same setup and seed, whatever fails.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lightning_db::vfs::{SimulatedVfs, Vfs};
use lightning_db::{
    Database, Durability, KeyspaceOptions, LightningDbConfig, OpenAs, WalSyncMode, WriteBatch,
    WriteOptions,
};

pub const PATH: &str = "/db";
/// The keyspaces, by the number that steps use.
pub const KEYSPACES: [&str; 3] = ["default", "other", "third"];
const KEYS: u16 = 150;

/// How a database is set up, and what a run begins with.
pub struct Setup {
    pub name: &'static str,
    pub log: bool,
    pub threads: usize,
    pub steps: usize,
    /// Of so many values one is large.
    pub one_large_in: u8,
    /// The run begins with what a killed process left, not with an empty disk.
    pub killed: bool,
    /// Values are written and read as streams too.
    pub streams: bool,
}

pub static SETUPS: &[Setup] = &[
    Setup {
        name: "mixed",
        log: true,
        threads: 0,
        steps: 90,
        one_large_in: 60,
        killed: false,
        streams: false,
    },
    Setup {
        name: "no log",
        log: false,
        threads: 0,
        steps: 80,
        one_large_in: 60,
        killed: false,
        streams: false,
    },
    Setup {
        name: "large",
        log: true,
        threads: 0,
        steps: 60,
        one_large_in: 4,
        killed: false,
        streams: false,
    },
    Setup {
        name: "killed",
        log: true,
        threads: 0,
        steps: 15,
        one_large_in: 15,
        killed: true,
        streams: false,
    },
    Setup {
        name: "threads",
        log: true,
        threads: 2,
        steps: 70,
        one_large_in: 30,
        killed: false,
        streams: false,
    },
    Setup {
        name: "streams",
        log: true,
        threads: 0,
        steps: 40,
        one_large_in: 15,
        killed: false,
        streams: true,
    },
];

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Setup {
    pub fn config(&self) -> LightningDbConfig {
        LightningDbConfig {
            write_buffer_size: 64 * 1024,
            wal_segment_size: 64 * 1024,
            max_wal_size: 256 * 1024,
            cache_size: 64 * 1024,
            background_threads: self.threads,
            wal_enabled: self.log,
            wal_sync_mode: WalSyncMode::Periodic { interval: Duration::from_millis(5) },
            ..LightningDbConfig::default()
        }
    }

    /// The machine that a run begins on.
    pub fn disk(&self, seed: u64) -> SimulatedVfs {
        static KILLED: Mutex<Option<(u64, SimulatedVfs)>> = Mutex::new(None);
        if !self.killed {
            return SimulatedVfs::new(seed);
        }
        let mut made = KILLED.lock().expect("no panic");
        match &*made {
            Some((s, disk)) if *s == seed => disk.kill(),
            _ => {
                let disk = self.killed_disk(seed);
                *made = Some((seed, disk.kill()));
                disk
            }
        }
    }

    /// What a process leaves that is killed with runs, a base, and a log that holds commits of two
    /// keyspaces.
    fn killed_disk(&self, seed: u64) -> SimulatedVfs {
        let vfs = SimulatedVfs::new(seed);
        let shared = Arc::new(vfs.clone()) as Arc<dyn Vfs>;
        let db = Database::open_with_vfs(shared, PATH, self.config(), OpenAs::Create);
        let db = db.expect("a database");
        let other = db.keyspace("other", KeyspaceOptions::default()).expect("a keyspace");
        let mut rng = fastrand::Rng::with_seed(seed);
        for i in 0..120 {
            let mut batch = WriteBatch::new();
            for key in [rng.u16(0..KEYS), rng.u16(0..KEYS)] {
                let value = vec![i as u8; if i % 30 == 7 { 20_000 } else { rng.usize(0..1500) }];
                batch.put(key.to_be_bytes(), &value);
                batch.put_in(&other, key.to_be_bytes(), &value);
            }
            let durability = if i == 110 { Durability::Sync } else { Durability::Async };
            db.write(batch, WriteOptions { durability: Some(durability) }).expect("a commit");
        }
        vfs.kill()
    }
}

/// Changes of one commit: keyspace, key, and the length of the new value.
pub type Changes = Vec<(u8, u16, Option<usize>)>;

pub enum Step {
    Write(Changes, Durability),
    Transaction(Changes),
    Get(u8, u16),
    /// A value that comes as a stream, to its end or given up half-way.
    Stream {
        keyspace: u8,
        key: u16,
        len: usize,
        given_up: bool,
    },
    ReadStream(u8, u16),
    Scan {
        keyspace: u8,
        reverse: bool,
    },
    /// Takes a snapshot, an iterator and a cursor.
    Hold,
    /// Goes on with what is held.
    Advance(usize),
    LetGo,
    Flush,
    Compact,
    Sync,
    Evict,
    DropKeyspace,
    Reopen {
        close: bool,
    },
    Wait(Duration),
}

fn changes(rng: &mut fastrand::Rng, one_large_in: u8) -> Changes {
    let count = rng.usize(1..6);
    (0..count)
        .map(|_| {
            let large = rng.u8(0..one_large_in) == 0;
            let len = if large { rng.usize(17_000..40_000) } else { rng.usize(0..1500) };
            let (keyspace, key) = (rng.u8(0..3), rng.u16(0..KEYS));
            (keyspace, key, (rng.u8(0..5) > 0).then_some(len))
        })
        .collect()
}

fn stream(rng: &mut fastrand::Rng) -> Step {
    let (keyspace, key) = (rng.u8(0..3), rng.u16(0..10));
    if rng.u8(0..3) == 0 {
        return Step::ReadStream(keyspace, key);
    }
    // Shorter than a page, of some pages, and with a file of its own.
    let len = match rng.u8(0..40) {
        0 => 17 << 20,
        1..16 => rng.usize(0..40_000),
        _ => rng.usize(200_000..600_000),
    };
    Step::Stream { keyspace, key, len, given_up: rng.u8(0..4) == 0 }
}

/// The steps of a run.
pub fn steps(setup: &Setup, seed: u64) -> Vec<Step> {
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x5EED);
    let rng = &mut rng;
    // One of each kind, whatever is drawn.
    let large = |key, len, given_up| Step::Stream { keyspace: 0, key, len, given_up };
    let delete = Step::Write(vec![(0, 1, None)], Durability::Sync);
    let first =
        [large(1, 300_000, true), large(1, 17 << 20, false), Step::ReadStream(0, 1), delete];
    let first = first.into_iter().filter(|_| setup.streams);
    first
        .chain((0..setup.steps).map(|_| match rng.u8(0..60) {
            16..=40 if setup.streams => stream(rng),
            0 | 1 => Step::Flush,
            2 => Step::Compact,
            3 => Step::Sync,
            4 => Step::Evict,
            5 => Step::DropKeyspace,
            6 => Step::Reopen { close: rng.bool() },
            7 => Step::Wait(Duration::from_millis(10)),
            8 | 9 => Step::Hold,
            10..=14 => Step::Advance(rng.usize(1..20)),
            15 => Step::LetGo,
            16..=21 => Step::Get(rng.u8(0..3), rng.u16(0..KEYS)),
            22..=24 => Step::Scan { keyspace: rng.u8(0..3), reverse: rng.bool() },
            25..=31 => Step::Transaction(changes(rng, setup.one_large_in)),
            _ => {
                let durability = match rng.u8(0..3) {
                    0 => Durability::Sync,
                    1 => Durability::Periodic,
                    _ => Durability::Async,
                };
                Step::Write(changes(rng, setup.one_large_in), durability)
            }
        }))
        .collect()
}
