//! The calls of the engine that every command shares, and its reports as JSON. If the engine's
//! face changes, this file does.
//!
//! 1. Reading commands open read-only, and so write nothing; a keyspace that is not there is
//!    `NotFound`. Writing commands make it.
//! 2. A command that wrote closes the database itself, so that a failure then is told.

use std::path::Path;

use lightning_db::config::ENVIRONMENT_PREFIX;
use lightning_db::{
    Database, Error, ErrorKind, KeySource, Keyspace, KeyspaceOptions, LightningDbConfig, Result,
    TransactionOptions, VerifyOptions, WriteBatch, WriteOptions,
};
use serde_json::{Value, json};

use crate::args::{DurabilityArg, NewKey, Target};

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);
/// Pairs in order, either way.
pub type Pairs = Box<dyn Iterator<Item = Result<Pair>>>;

/// The options from `--config` and the environment.
pub fn config(file: Option<&Path>) -> Result<LightningDbConfig> {
    let mut variables = Vec::new();
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|n| n.starts_with(ENVIRONMENT_PREFIX)) else {
            continue;
        };
        let Ok(value) = value.into_string() else {
            let message = format!("the value of environment variable {name} is not UTF-8");
            return Err(Error::new(ErrorKind::InvalidConfig, message));
        };
        variables.push((name.to_owned(), value));
    }
    LightningDbConfig::load(file, variables.into_iter())
}

/// The options for a database; `--key-file` overrides the rest.
fn options(target: &Target) -> Result<LightningDbConfig> {
    let mut config = config(target.config.as_deref())?;
    if let Some(file) = &target.key_file {
        config.encryption = Some(KeySource::file(file));
    }
    Ok(config)
}

/// Makes a new database.
pub fn create(target: &Target) -> Result<()> {
    Database::create(&target.db, options(target)?)?.close()
}

/// Changes the key of an encrypted database, or its data keys.
pub fn rotate_key(target: &Target, new: &NewKey) -> Result<()> {
    if new.data_key {
        let db = open(target)?;
        if !db.is_rotating_data_key() {
            db.rotate_data_key()?;
        }
        let done = db.finish_data_key_rotation()?;
        db.close()?;
        let message = "a cursor of changes still needs what was logged under the old data keys; \
                       everything else is under the new one; repeat this once the cursor has moved";
        return if done { Ok(()) } else { Err(Error::new(ErrorKind::Conflict, message)) };
    }
    let file = new.file.as_ref().map(KeySource::file);
    let variable = new.variable.as_ref().map(KeySource::variable);
    let passphrase = new.passphrase_variable.as_ref().map(KeySource::passphrase_variable);
    let Some(new) = file.or(variable).or(passphrase) else {
        return Err(Error::new(ErrorKind::InvalidArgument, "no new key was given"));
    };
    let db = open(target)?;
    db.rotate_key(&new)?;
    db.close()
}

/// Opens a database that exists, to be written.
pub fn open(target: &Target) -> Result<Database> {
    Database::open(&target.db, options(target)?)
}

/// Opens a database to be written; makes it where there is none.
pub fn open_or_create(target: &Target) -> Result<Database> {
    Database::open_or_create(&target.db, options(target)?)
}

/// Opens a database to be read only.
pub fn open_read_only(target: &Target) -> Result<Database> {
    Database::open_read_only(&target.db, options(target)?)
}

/// A keyspace that exists.
pub fn existing_keyspace(db: &Database, name: &str) -> Result<Keyspace> {
    if !db.list_keyspaces().iter().any(|n| n == name) {
        return Err(Error::new(ErrorKind::NotFound, format!("there is no keyspace `{name}`")));
    }
    db.keyspace(name, KeyspaceOptions::default())
}

/// A keyspace, made where it is not there.
pub fn keyspace(db: &Database, name: &str) -> Result<Keyspace> {
    db.keyspace(name, KeyspaceOptions::default())
}

/// A keyspace with a merge operator, made where it is not there; `None` takes the one it has.
pub fn merging_keyspace(db: &Database, name: &str, operator: Option<String>) -> Result<Keyspace> {
    db.keyspace(name, KeyspaceOptions { merge_operator: operator, ..KeyspaceOptions::default() })
}

/// Commits a batch.
pub fn write(db: &Database, batch: WriteBatch, durability: &DurabilityArg) -> Result<()> {
    let durability = durability.durability.map(Into::into);
    db.write(batch, WriteOptions { durability })
}

/// The keys from `start` up to, not including, `end`.
pub fn pairs(
    keyspace: &Keyspace,
    start: Option<&[u8]>,
    end: Option<&[u8]>,
    reverse: bool,
) -> Result<Pairs> {
    let range = keyspace.range(start, end)?;
    Ok(if reverse { Box::new(range.rev()) } else { Box::new(range) })
}

/// The engine's counters.
pub fn stats(db: &Database) -> Result<Value> {
    let s = db.stats();
    let keyspaces = s.keyspaces.iter().map(|k| {
        let figures = json!({
            "entries": k.entries, "expiring_entries": k.expiring_entries,
            "expired_entries": k.expired_entries, "memtable_bytes": k.memtable_bytes,
            "range_deletes": k.range_deletes, "sealed_memtables": k.sealed_memtables, "runs": k.runs,
            "run_partitions": k.run_partitions, "base_partitions": k.base_partitions,
            "stacked_bytes": k.stacked_bytes, "base_bytes": k.base_bytes,
            "file_bytes": k.file_bytes, "dead_bytes": k.dead_bytes, "raw_bytes": k.raw_bytes,
            "depth": k.depth,
        });
        (k.name.clone(), figures)
    });
    let indexes = s.indexes.iter().map(|i| {
        json!({
            "keyspace": i.keyspace, "name": i.name, "ready": i.ready, "entries": i.entries,
            "file_bytes": i.file_bytes, "memtable_bytes": i.memtable_bytes,
        })
    });
    Ok(json!({
        "keyspaces": keyspaces.collect::<serde_json::Map<_, _>>(),
        "indexes": indexes.collect::<Vec<_>>(),
        "last_commit": s.last_commit,
        "oldest_moment": s.oldest_moment,
        "vouched_commit": s.vouched_commit,
        "commits": s.commits,
        "transactions_active": s.transactions_active,
        "transactions_committed": s.transactions_committed,
        "transactions_aborted": s.transactions_aborted,
        "conflicts": s.conflicts,
        "lock_holders": s.lock_holders,
        "lock_waiters": s.lock_waiters,
        "lock_waits": s.lock_waits,
        "lock_wait_seconds": s.lock_wait_time.as_secs_f64(),
        "lock_timeouts": s.lock_timeouts,
        "deadlocks": s.deadlocks,
        "cache_hits": s.cache_hits,
        "cache_misses": s.cache_misses,
        "cache_evictions": s.cache_evictions,
        "cache_bytes": s.cache_bytes,
        "row_cache_hits": s.row_cache_hits,
        "row_cache_bytes": s.row_cache_bytes,
        "spare_memtable_bytes": s.spare_memtable_bytes,
        "log_bytes": s.log_bytes,
        "kept_log_bytes": s.kept_log_bytes,
        "log_syncs": s.log_syncs,
        "log_sync_seconds": s.log_sync_time.as_secs_f64(),
        "flushes": s.flushes,
        "flushed_bytes": s.flushed_bytes,
        "tier_merges": s.tier_merges,
        "base_merges": s.base_merges,
        "adopted_partitions": s.adopted_partitions,
        "adopted_leaves": s.adopted_leaves,
        "merged_bytes": s.merged_bytes,
        "folded_operands": s.folded_operands,
        "failed_folds": s.failed_folds,
        "pages_tried": s.pages_tried,
        "pages_plain": s.pages_plain,
        "pages_skipped": s.pages_skipped,
        "merge_seconds": s.merge_time.as_secs_f64(),
        "stall_seconds": s.stall_time.as_secs_f64(),
        "storage_bytes": s.storage_bytes,
        "blob_bytes": s.blob_bytes,
        "views": s.views,
        "oldest_view_seconds": s.oldest_view.as_secs_f64(),
    }))
}

/// What the engine says of its own state: whether it is well, and what is not.
pub fn health(db: &Database) -> Result<(bool, Vec<String>)> {
    let health = db.health_check();
    Ok((health.healthy, health.problems))
}

/// What a verification found.
pub struct Verified {
    /// Whether nothing was wrong.
    pub clean: bool,
    /// Each problem: file, offset, message.
    pub problems: Vec<Value>,
    /// What was read.
    pub counts: Value,
}

/// Reads and checks everything.
pub fn verify(db: &Database) -> Result<Verified> {
    let report = db.verify(VerifyOptions::default())?;
    let problems = report.problems.iter().map(
        |p| json!({"file": p.file.display().to_string(), "offset": p.offset, "message": p.message}),
    );
    Ok(Verified {
        clean: report.is_clean(),
        problems: problems.collect(),
        counts: json!({
            "pages": report.pages,
            "segments": report.segments,
            "entries": report.entries,
            "index_entries": report.index_entries,
        }),
    })
}

/// Everything merged, nothing left to do in the background.
pub fn settle(db: &Database) -> Result<()> {
    db.flush()?;
    db.compact()
}

/// One transaction that reads a value and writes it back, counted up.
pub fn read_modify_write(db: &Database, key: &[u8]) -> Result<()> {
    let options = TransactionOptions { max_retries: u32::MAX, ..TransactionOptions::default() };
    db.execute_transaction(options, |tx| {
        let mut value = tx.get(key)?.unwrap_or_default();
        add(&mut value, 1);
        tx.put(key, &value)
    })
}

/// Adds to the number in the first eight bytes, wrapping.
pub fn add(value: &mut Vec<u8>, amount: u64) {
    if value.len() < 8 {
        value.resize(8, 0);
    }
    let number: [u8; 8] = value[..8].try_into().expect("eight bytes were made sure of");
    value[..8].copy_from_slice(&u64::from_le_bytes(number).wrapping_add(amount).to_le_bytes());
}
