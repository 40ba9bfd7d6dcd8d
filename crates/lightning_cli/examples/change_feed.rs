//! Keeps a count of words up to date from a stream of changes, over a closing of the database: what was
//! committed meanwhile is met when the stream goes on from its cursor.
//!
//! `cargo run --release -p lightning_cli --example change_feed`

use std::collections::BTreeMap;
use std::time::Duration;

use lightning_db::{ChangeKind, ChangesFrom, Database, LightningDbConfig, Result};

/// Takes in what there is, and moves the cursor behind it.
fn catch_up(db: &Database, lengths: &mut BTreeMap<Vec<u8>, usize>) -> Result<u64> {
    let mut changes = db.changes(ChangesFrom::Cursor("lengths".to_owned()))?.with_prefix("note/");
    let mut commits = 0;
    while let Some(commit) = changes.next_timeout(Duration::from_millis(10))? {
        for change in commit.changes {
            match change.kind {
                ChangeKind::Put(text) => lengths.insert(change.key, text.len()),
                _ => lengths.remove(&change.key),
            };
        }
        commits += 1;
    }
    db.commit_cursor("lengths", changes.passed())?;
    Ok(commits)
}

fn main() -> Result<()> {
    let dir = std::env::temp_dir().join(format!("change_feed-{}", std::process::id()));
    let db = Database::create(&dir, LightningDbConfig::default())?;
    db.commit_cursor("lengths", db.last_commit())?;
    let mut lengths = BTreeMap::new();

    db.put("note/monday", "buy apples")?;
    db.put("note/tuesday", "sell apples")?;
    db.put("other", "is not let through")?;
    println!("{} commits taken in: {} notes", catch_up(&db, &mut lengths)?, lengths.len());

    db.delete("note/monday")?;
    db.put("note/friday", "rest")?;
    db.close()?;

    // The log that the cursor needs has been kept.
    let db = Database::open(&dir, LightningDbConfig::default())?;
    println!("{} more after opening again: {} notes", catch_up(&db, &mut lengths)?, lengths.len());
    let total: usize = lengths.values().sum();
    println!("{total} bytes of notes; the cursor stands at commit {}", db.last_commit());
    db.close()?;
    Database::destroy(&dir)
}
