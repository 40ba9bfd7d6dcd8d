//! Loads the same entries, sorted, with `put_batch` and with `ingest`, and prints how long each took.
//!
//! `cargo run --release -p lightning_cli --example ingest [ENTRIES]`

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "an example looks from outside, and measures time"
)]

use std::time::Instant;

use lightning_db::Database;

type Entry = ([u8; 16], [u8; 100]);

/// Keys in order; values of which half is noise.
fn entries(count: u64) -> impl Iterator<Item = Entry> {
    let mut rng = fastrand::Rng::with_seed(1);
    (0..count).map(move |n| {
        let (mut key, mut value) = ([0; 16], [b'v'; 100]);
        key[8..].copy_from_slice(&n.to_be_bytes());
        rng.fill(&mut value[..50]);
        (key, value)
    })
}

fn main() -> lightning_db::Result<()> {
    let count = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let rate = |what: &str, started: Instant| {
        let seconds = started.elapsed().as_secs_f64();
        println!("{what}: {seconds:.2} s, {:.0} entries a second", count as f64 / seconds);
    };

    let db = Database::create_temp()?;
    let mut batch = Vec::with_capacity(1000);
    let started = Instant::now();
    for (key, value) in entries(count) {
        batch.push((key.to_vec(), value.to_vec()));
        if batch.len() == 1000 {
            db.put_batch(&batch)?;
            batch.clear();
        }
    }
    db.put_batch(&batch)?;
    db.sync()?;
    rate("put_batch of 1000, then sync", started);
    db.flush()?;
    rate("put_batch, until flushed", started);
    drop(db);

    let db = Database::create_temp()?;
    let started = Instant::now();
    assert_eq!(db.ingest(entries(count))?, count);
    rate("ingest", started);
    assert_eq!(db.approximate_len(), count);
    Ok(())
}
