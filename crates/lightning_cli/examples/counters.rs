//! Merge operators: counters that several threads add to without reading first, and an operator of one's
//! own. `cargo run --release -p lightning_cli --example counters`.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the engine keeps to its file system seam; this is a program around it"
)]

use std::error::Error;
use std::time::Instant;

use lightning_db::{
    Database, KeyspaceOptions, LightningDbConfig, MergeFailure, MergeOperator, MergeOperators,
    WalSyncMode,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const THREADS: u32 = 4;
const INCREMENTS: u32 = 250_000;

/// Keeps the last few operands of a key, newest last, a byte for the length of each in front of it.
struct Last(usize);

impl Last {
    fn parts(mut bytes: &[u8]) -> Vec<&[u8]> {
        let mut parts = Vec::new();
        while let Some((len, rest)) = bytes.split_first() {
            let (part, behind) = rest.split_at(usize::from(*len).min(rest.len()));
            parts.push(part);
            bytes = behind;
        }
        parts
    }
}

impl MergeOperator for Last {
    fn full_merge(
        &self,
        _key: &[u8],
        base: Option<&[u8]>,
        operands: &[&[u8]],
    ) -> std::result::Result<Vec<u8>, MergeFailure> {
        let mut parts = Self::parts(base.unwrap_or_default());
        parts.extend_from_slice(operands);
        let mut value = Vec::new();
        for part in &parts[parts.len().saturating_sub(self.0)..] {
            value.push(u8::try_from(part.len())?);
            value.extend_from_slice(part);
        }
        Ok(value)
    }

    fn check_operand(&self, operand: &[u8]) -> std::result::Result<(), MergeFailure> {
        u8::try_from(operand.len()).map(|_| ()).map_err(|_| "at most 255 bytes, please".into())
    }
}

fn named(operator: &str) -> KeyspaceOptions {
    KeyspaceOptions { merge_operator: Some(operator.to_owned()), ..KeyspaceOptions::default() }
}

fn number(value: Option<Vec<u8>>) -> Result<i64> {
    let value = value.ok_or("there is no counter")?;
    Ok(i64::from_le_bytes(value.as_slice().try_into()?))
}

fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let config = LightningDbConfig {
        merge_operators: MergeOperators::new().with("last three", Last(3)),
        wal_sync_mode: WalSyncMode::Async,
        ..LightningDbConfig::default()
    };
    let db = Database::create(dir.path().join("db"), config)?;

    let counts = db.keyspace("counts", named("counter"))?;
    let start = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    (0..INCREMENTS).try_for_each(|_| counts.merge(b"visits", 1_i64.to_le_bytes()))
                })
            })
            .collect();
        threads.into_iter().try_for_each(|t| t.join().expect("no thread panics"))
    })?;
    let total = THREADS * INCREMENTS;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{total} increments of one key by {THREADS} threads: {:.0} a second",
        f64::from(total) / seconds
    );
    let start = Instant::now();
    let visits = number(counts.get(b"visits")?)?;
    println!("the first get merges what is in memory: {visits} in {:?}", start.elapsed());
    let start = Instant::now();
    counts.merge(b"visits", (-1_i64).to_le_bytes())?;
    println!(
        "the next what came since: {} in {:?}",
        number(counts.get(b"visits")?)?,
        start.elapsed()
    );
    assert_eq!(visits, i64::from(total));

    let seen = db.keyspace("seen", named("last three"))?;
    for page in ["start", "news", "weather", "sport"] {
        seen.merge(b"ada", page)?;
    }
    let value = seen.get(b"ada")?.unwrap_or_default();
    let pages: Vec<_> = Last::parts(&value).into_iter().map(String::from_utf8_lossy).collect();
    println!("the last pages: {}", pages.join(", "));

    db.flush()?;
    println!("{} entries were folded by the flush", db.stats().folded_operands);
    db.close()?;
    Ok(())
}
