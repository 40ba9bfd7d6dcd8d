//! A database larger than its memory:
//! `cargo run --release -p lightning_cli --example larger_than_memory -- [ENTRIES] [DIRECTORY]`.
//!
//! 20 million entries of 116 bytes where not given, loaded in random order with a cache of 64 MiB;
//! random reads, a scan, half of it overwritten in random order with more reads in between,
//! verified, compacted, read again. Each value tells its entry and version, so that every answer
//! is checked. Time, space on disk and resident memory are printed after each step. To see it
//! hold under a limit, run it in a control group (`memory.max`, 512 MiB).

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the engine keeps to its file system seam; this is a program around it"
)]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use lightning_db::{
    Database, LightningDbConfig, Profile, VerifyOptions, WalSyncMode, WriteBatch, WriteOptions,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const VALUE_BYTES: usize = 100;
const ENTRY_BYTES: u64 = 16 + VALUE_BYTES as u64;
const BATCH: u64 = 1000;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let entries: u64 = args.next().map_or(Ok(20_000_000), |a| a.replace('_', "").parse())?;
    let dir = match args.next() {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let profile = match args.next().as_deref() {
        None | Some("balanced") => Profile::Balanced,
        Some("read") => Profile::ReadOptimized,
        Some("write") => Profile::WriteOptimized,
        Some(other) => return Err(format!("no profile {other:?}: balanced, read, write").into()),
    };
    let path = dir.path().join("large");
    let config = LightningDbConfig {
        cache_size: 64 << 20,
        write_buffer_size: 32 << 20,
        wal_segment_size: 32 << 20,
        wal_sync_mode: WalSyncMode::Async,
        profile,
        ..LightningDbConfig::default()
    };
    let db = Database::create(&path, config.clone())?;
    let mut run = Run { db, path, entries, peak: 0, started: Instant::now() };
    println!("{entries} entries, {} MB of keys and values", entries * ENTRY_BYTES / 1_000_000);

    run.write("load, random order", entries, |i| (i, 0))?;
    run.db.sync()?;
    run.report("synced");
    run.reads("reads, random", entries.min(500_000), |_| 0)?;
    run.scan(|_| 0)?;
    // A second walk over the indices, in another order: the first half of it is overwritten.
    let half = entries / 2;
    run.peak = 0;
    run.write("overwrite half, random order", half, |i| (scattered(i, entries), 1))?;
    run.report("highest so far is the peak while overwriting");
    let peak = run.peak;
    let written: Vec<u64> = bitmap(half, entries);
    let version = |i: u64| written[(i / 64) as usize] >> (i % 64) & 1;
    run.reads("reads, random", entries.min(500_000), version)?;
    run.scan(version)?;
    run.verify()?;
    let before = run.disk()?;
    let started = Instant::now();
    run.db.compact()?;
    println!("compact: {:.1} s", started.elapsed().as_secs_f64());
    let live: u64 = run.db.stats().keyspaces.iter().map(|k| k.base_bytes).sum();
    let after = run.disk()?;
    run.report("compacted");
    let ratio = |bytes: u64| bytes as f64 / live as f64;
    println!(
        "space, of {} MB packed live data: {:.2} at the peak of overwriting, {:.2} before compact, \
         {:.2} after",
        live / 1_000_000,
        ratio(peak),
        ratio(before),
        ratio(after)
    );
    run.reads("reads, random", entries.min(500_000), version)?;
    run.verify()?;
    let path = run.path.clone();
    run.db.close()?;
    let started = Instant::now();
    let db = Database::open(&path, config)?;
    println!("reopened in {:.2} ms", started.elapsed().as_secs_f64() * 1e3);
    db.close()?;
    Ok(())
}

struct Run {
    db: Database,
    path: PathBuf,
    entries: u64,
    /// The most bytes on disk seen.
    peak: u64,
    started: Instant,
}

impl Run {
    fn write(&mut self, what: &str, count: u64, entry: impl Fn(u64) -> (u64, u64)) -> Result<()> {
        let started = Instant::now();
        let mut slowest = 0.0_f64;
        let mut next = 0;
        while next < count {
            let mut batch = WriteBatch::new();
            for n in next..(next + BATCH).min(count) {
                let (index, version) = entry(n);
                batch.put(key(index), value(index, version));
            }
            let one = Instant::now();
            self.db.write(batch, WriteOptions::default())?;
            slowest = slowest.max(one.elapsed().as_secs_f64());
            next += BATCH;
            if next % 100_000 == 0 {
                self.peak = self.peak.max(self.disk()?);
            }
            if next % (count / 4).max(BATCH) == 0 {
                self.report(&format!("{what}: {next}"));
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        println!(
            "{what}: {seconds:.1} s, {:.0} entries a second, slowest batch of {BATCH}: {:.0} ms",
            count as f64 / seconds,
            slowest * 1e3
        );
        Ok(())
    }

    fn reads(&self, what: &str, count: u64, version: impl Fn(u64) -> u64) -> Result<()> {
        let started = Instant::now();
        for n in 0..count {
            let index = mix(n ^ 0x5eed) % self.entries;
            match self.db.get(key(index))? {
                Some(v) if v == value(index, version(index)) => {}
                Some(_) => return Err(format!("entry {index} has a wrong value").into()),
                None => return Err(format!("entry {index} is missing").into()),
            }
            let absent = key(self.entries + index);
            if n % 8 == 0 && self.db.get(absent)?.is_some() {
                return Err(format!("entry {index} was invented").into());
            }
        }
        let rate = count as f64 / started.elapsed().as_secs_f64();
        self.report(&format!("{what}: {count} right, {rate:.0} a second"));
        Ok(())
    }

    fn scan(&self, version: impl Fn(u64) -> u64) -> Result<()> {
        let started = Instant::now();
        let (mut count, mut before) = (0, Vec::new());
        for pair in self.db.range(None, None)? {
            let (k, v) = pair?;
            let index = u64::from_le_bytes(v[..8].try_into()?);
            if k <= before || k != key(index) || v != value(index, version(index)) {
                return Err(format!("the scan is wrong at its entry {count}").into());
            }
            before = k;
            count += 1;
        }
        if count != self.entries {
            return Err(format!("the scan saw {count} entries").into());
        }
        let rate = count as f64 / started.elapsed().as_secs_f64();
        self.report(&format!("scan: {count} right, {rate:.0} a second"));
        Ok(())
    }

    fn verify(&self) -> Result<()> {
        let started = Instant::now();
        let report = self.db.verify(VerifyOptions::default())?;
        if !report.is_clean() {
            return Err(format!("verify found {report:?}").into());
        }
        self.report(&format!("verify: clean, {:.1} s", started.elapsed().as_secs_f64()));
        Ok(())
    }

    /// Bytes allocated on disk by all files of the database.
    fn disk(&self) -> Result<u64> {
        Ok(disk_bytes(&self.path)?)
    }

    fn report(&self, what: &str) {
        let stats = self.db.stats();
        let k = &stats.keyspaces[0];
        println!(
            "[{:6.1} s] {what}\n           disk {} MB (log {}), peak {} MB; {} runs of {} MB on a base of {} MB; \
             cache {} MB, memtables {} MB, resident {}; written by flushes {} MB, merges {} MB; writers slowed {:.1} s",
            self.started.elapsed().as_secs_f64(),
            self.disk().unwrap_or(0) / 1_000_000,
            stats.log_bytes / 1_000_000,
            self.peak / 1_000_000,
            k.runs,
            k.stacked_bytes / 1_000_000,
            k.base_bytes / 1_000_000,
            stats.cache_bytes / 1_000_000,
            k.memtable_bytes / 1_000_000,
            resident(),
            stats.flushed_bytes / 1_000_000,
            stats.merged_bytes / 1_000_000,
            stats.stall_time.as_secs_f64(),
        );
    }
}

fn disk_bytes(path: &Path) -> std::io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        // Files go while they are counted.
        let Ok(meta) = entry.metadata() else { continue };
        bytes += if meta.is_dir() { disk_bytes(&entry.path())? } else { meta.blocks() * 512 };
    }
    Ok(bytes)
}

/// Resident memory now and at its highest, as Linux tells it.
fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find(|l| l.starts_with(name))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1000)
    };
    match (field("VmRSS:"), field("RssAnon:"), field("VmHWM:")) {
        (Some(now), Some(anon), Some(high)) => format!("{now} MB ({anon} anonymous, peak {high})"),
        _ => "unknown".to_owned(),
    }
}

/// The finaliser of SplitMix64: scatters, and no two indices give one key.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn key(index: u64) -> [u8; 16] {
    let mut out = [0; 16];
    out[..8].copy_from_slice(&mix(index).to_be_bytes());
    out[8..].copy_from_slice(&mix(!index).to_be_bytes());
    out
}

/// Half random, half a pattern that packs; tells its entry and version.
fn value(index: u64, version: u64) -> [u8; VALUE_BYTES] {
    let mut out = [b'-'; VALUE_BYTES];
    out[..8].copy_from_slice(&index.to_le_bytes());
    out[8..16].copy_from_slice(&version.to_le_bytes());
    for (i, chunk) in out[16..56].chunks_mut(8).enumerate() {
        chunk.copy_from_slice(&mix(index ^ (version << 40) ^ (i as u64) << 56).to_le_bytes());
    }
    out
}

/// The `n`th index of a walk over all of `0..entries` in an order of its own: a step that has no
/// factor in common with their number.
fn scattered(n: u64, entries: u64) -> u64 {
    let gcd = |mut a: u64, mut b: u64| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let mut step = (entries as f64 * 0.618) as u64 | 1;
    while gcd(step, entries) != 1 {
        step += 2;
    }
    ((u128::from(n) * u128::from(step)) % u128::from(entries)) as u64
}

/// Which indices are among the first `count` of the walk, a bit each.
fn bitmap(count: u64, entries: u64) -> Vec<u64> {
    let mut bits = vec![0; (entries / 64 + 1) as usize];
    for n in 0..count {
        let i = scattered(n, entries);
        bits[(i / 64) as usize] |= 1 << (i % 64);
    }
    bits
}
