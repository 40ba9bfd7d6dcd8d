//! Reads the past of a small shop: a price at an earlier commit, everything it ever was, and the whole
//! stock as it stood before a mistake.
//!
//! `cargo run --release -p lightning_cli --example time_travel`

use std::time::Duration;

use lightning_db::{Database, LightningDbConfig, Result, WriteBatch, WriteOptions};

fn main() -> Result<()> {
    let config = LightningDbConfig {
        history_retention: Some(Duration::from_secs(24 * 3600)),
        ..LightningDbConfig::default()
    };
    let db = Database::open_in_memory(config)?;
    for (item, price) in [("apple", "10"), ("pear", "12"), ("plum", "9")] {
        db.put(item, price)?;
    }
    db.put("apple", "11")?;
    let before = db.last_commit();

    // A mistake: everything goes.
    let mut batch = WriteBatch::new();
    for item in ["apple", "pear", "plum"] {
        batch.delete(item);
    }
    db.write(batch, WriteOptions::default())?;
    println!("now: {} items", db.count(None, None)?);

    // The stock as it stood, read in full and put back.
    let then = db.snapshot_at(before)?;
    for entry in then.range(None, None)? {
        let (item, price) = entry?;
        db.put(&item, &price)?;
    }
    println!("put back from commit {before}: {} items", db.count(None, None)?);

    println!("what became of the apple, newest first:");
    for version in db.history("apple")? {
        let value = version.value.map(|v| String::from_utf8_lossy(&v).into_owned());
        println!("  commit {}: {}", version.commit, value.as_deref().unwrap_or("(deleted)"));
    }
    let (oldest, _) = db.oldest_moment();
    println!("moments from commit {oldest} to commit {} can be read", db.last_commit());
    Ok(())
}
