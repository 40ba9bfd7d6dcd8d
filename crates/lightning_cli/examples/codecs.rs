//! What each codec and level gives on a table of one's own:
//! `cargo run --release -p lightning_cli --features zstd --example codecs -- FILE.csv [PAGE_SIZE]`.
//!
//! Each row of the file becomes an entry: the key is its first field, numbered so that equal ones
//! stay apart, the value the rest of the line. For each codec a new database is loaded, compacted,
//! and read with a cache too small to help, so that every read unpacks a page. *ratio* is bytes of
//! keys and values by bytes of files; *merge* rewrites everything (unpack and pack), *verify*
//! reads and checks every page.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the engine keeps to its file system seam; this is a program around it"
)]

use std::error::Error;
use std::time::{Duration, Instant};

use lightning_db::{
    CompressionType, Database, LightningDbConfig, VerifyOptions, WalSyncMode, WriteBatch,
    WriteOptions,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const BATCH: usize = 500;
const GETS: usize = 100_000;
const SETTINGS: [(CompressionType, Option<i32>); 9] = [
    (CompressionType::None, None),
    (CompressionType::Lz4, None),
    (CompressionType::Snappy, None),
    (CompressionType::Zstd, Some(-5)),
    (CompressionType::Zstd, Some(1)),
    (CompressionType::Zstd, Some(3)),
    (CompressionType::Zstd, Some(6)),
    (CompressionType::Zstd, Some(12)),
    (CompressionType::Zstd, Some(19)),
];

type Rows = Vec<(Vec<u8>, Vec<u8>)>;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let file = args.next().ok_or("the path of a CSV file is wanted")?;
    let page_size = args.next().map_or(Ok(4096), |a| a.parse())?;
    let rows = read(&file)?;
    let bytes: usize = rows.iter().map(|(k, v)| k.len() + v.len()).sum();
    println!("{} rows, {:.1} MB of keys and values", rows.len(), bytes as f64 / 1e6);
    println!(
        "| codec | level | ratio | load MB/s | merge MB/s | verify MB/s | get /s | scan MB/s |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (codec, level) in SETTINGS {
        match measure(&rows, bytes as f64, codec, level, page_size) {
            Ok(line) => println!("{line}"),
            Err(e) => println!("| {codec:?} | {} | {e} |", shown(level)),
        }
    }
    Ok(())
}

fn read(file: &str) -> Result<Rows> {
    let mut rows = Rows::new();
    for record in csv::Reader::from_path(file)?.byte_records() {
        let record = record?;
        let mut fields = record.iter();
        let mut key = fields.next().unwrap_or_default().to_vec();
        key.extend((rows.len() as u32).to_be_bytes());
        rows.push((key, fields.collect::<Vec<_>>().join(&b',')));
    }
    Ok(rows)
}

fn shown(level: Option<i32>) -> String {
    level.map_or_else(String::new, |level| level.to_string())
}

fn measure(
    rows: &Rows,
    bytes: f64,
    compression_type: CompressionType,
    compression_level: Option<i32>,
    page_size: usize,
) -> Result<String> {
    let dir = tempfile::tempdir()?;
    let config = LightningDbConfig {
        compression_type,
        compression_level,
        page_size,
        cache_size: 16 * page_size,
        wal_sync_mode: WalSyncMode::Async,
        ..LightningDbConfig::default()
    };
    let db = Database::create(dir.path().join("codecs"), config)?;
    let load = timed(|| {
        for rows in rows.chunks(BATCH) {
            write(&db, rows)?;
        }
        Ok(db.flush()?)
    })?;
    db.compact()?;
    // All of it once more, over what is there.
    for rows in rows.chunks(BATCH) {
        write(&db, rows)?;
    }
    db.flush()?;
    let merge = timed(|| Ok(db.compact()?))?;
    let stored = db.stats().storage_bytes as f64;
    let verify = timed(|| {
        let report = db.verify(VerifyOptions::default())?;
        if report.is_clean() { Ok(()) } else { Err("damaged".into()) }
    })?;
    let mut rng = fastrand::Rng::with_seed(1);
    let get = timed(|| {
        for _ in 0..GETS {
            let (key, value) = &rows[rng.usize(0..rows.len())];
            if db.get(key)?.as_ref() != Some(value) {
                return Err("a wrong answer".into());
            }
        }
        Ok(())
    })?;
    let scan = timed(|| {
        let count = db.range(None, None)?.flatten().count();
        if count == rows.len() { Ok(()) } else { Err(format!("{count} rows").into()) }
    })?;
    let rate = |time: Duration| format!("{:.0}", bytes / 1e6 / time.as_secs_f64());
    Ok(format!(
        "| {compression_type:?} | {} | {:.2} | {} | {} | {} | {:.0}k | {} |",
        shown(compression_level),
        bytes / stored,
        rate(load),
        rate(merge),
        rate(verify),
        GETS as f64 / 1e3 / get.as_secs_f64(),
        rate(scan),
    ))
}

fn write(db: &Database, rows: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
    let mut batch = WriteBatch::new();
    for (key, value) in rows {
        batch.put(key, value);
    }
    Ok(db.write(batch, WriteOptions::default())?)
}

fn timed(run: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let started = Instant::now();
    run()?;
    Ok(started.elapsed())
}
