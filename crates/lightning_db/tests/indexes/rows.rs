//! Rows with two parts, the indexes over them, and the comparison of both.
//!
//! A row's value is `group, unit, then anything`: `by_group` has its group, `by_unit` (unique) its unit
//! unless that is 0, `by_each` (a function) each byte of the rest below 8.

use std::collections::BTreeSet;
use std::sync::Arc;

use lightning_db::vfs::{SimulatedVfs, Vfs};
use lightning_db::{
    Database, Index, IndexKey, IndexPart, IndexSpec, IndexValue, Keyspace, LightningDbConfig,
    OpenAs, Result, VerifyOptions,
};

pub const PATH: &str = "/db";

pub fn config() -> LightningDbConfig {
    let mut config = LightningDbConfig {
        write_buffer_size: 64 * 1024,
        wal_segment_size: 64 * 1024,
        max_wal_size: 256 * 1024,
        cache_size: 256 * 1024,
        background_threads: 0,
        ..LightningDbConfig::default()
    };
    config.extractors.insert("unit", |_, value| units(value).into_iter().collect());
    config
        .extractors
        .insert("each", |_, value| each(value).into_iter().map(IndexKey::from).collect());
    config
}

fn units(value: &[u8]) -> Option<IndexKey> {
    value.get(1).filter(|u| **u != 0).map(|u| IndexKey::from(u32::from(*u)))
}

fn each(value: &[u8]) -> BTreeSet<u32> {
    value.iter().skip(2).filter(|b| **b < 8).map(|b| u32::from(*b)).collect()
}

/// The indexes, by name.
pub fn spec(name: &str) -> IndexSpec {
    match name {
        "by_group" => {
            IndexSpec::parts([IndexPart::ValueBytes(0, Some(1)), IndexPart::KeyBytes(0, Some(2))])
        }
        "by_unit" => IndexSpec::extractor("unit").unique(),
        "by_each" => IndexSpec::extractor("each"),
        _ => unreachable!("no such index"),
    }
}

pub const NAMES: [&str; 3] = ["by_group", "by_unit", "by_each"];

pub fn open(vfs: &SimulatedVfs, mode: OpenAs) -> Result<Database> {
    Database::open_with_vfs(Arc::new(vfs.clone()) as Arc<dyn Vfs>, PATH, config(), mode)
}

pub fn create() -> (SimulatedVfs, Database) {
    let vfs = SimulatedVfs::new(7);
    let db = open(&vfs, OpenAs::Create).expect("creates");
    (vfs, db)
}

/// The entries that a row has in an index.
fn entries_of(name: &str, key: &[u8], value: &[u8]) -> Vec<(IndexKey, Vec<u8>)> {
    let bytes = |b: &[u8]| IndexValue::Bytes(b.to_vec());
    let keys = match name {
        "by_group" => {
            let group = bytes(&value[..value.len().min(1)]);
            vec![IndexKey::new([group, bytes(&key[..key.len().min(2)])])]
        }
        "by_unit" => units(value).into_iter().collect(),
        _ => each(value).into_iter().map(IndexKey::from).collect(),
    };
    keys.into_iter().map(|k| (k, key.to_vec())).collect()
}

/// The index holds what the rows of its keyspace give, nothing else, and rows are found by it.
pub fn compare(keyspace: &Keyspace, index: &Index, label: &str) {
    let name = index.name();
    let mut expected = Vec::new();
    let rows: Vec<_> =
        keyspace.range(None, None).expect("a range").map(|r| r.expect("a row")).collect();
    for (key, value) in &rows {
        expected.extend(entries_of(name, key, value));
    }
    let text = |(k, row): &(IndexKey, Vec<u8>)| (format!("{k:?}"), row.clone());
    let found: Vec<_> =
        index.keys(None, None).expect("reads").map(|e| e.expect("an entry")).collect();
    let mut backward: Vec<_> =
        index.keys(None, None).expect("reads").rev().map(|e| e.expect("an entry")).collect();
    backward.reverse();
    assert_eq!(found, backward, "{label}: {name} differs by direction");
    let found: BTreeSet<_> = found.iter().map(text).collect();
    let expected: BTreeSet<_> = expected.iter().map(text).collect();
    let lacking: Vec<_> = expected.difference(&found).collect();
    let stale: Vec<_> = found.difference(&expected).collect();
    assert!(
        lacking.is_empty() && stale.is_empty(),
        "{label}: {name} lacks {lacking:?}, has {stale:?}"
    );
    for row in index.range(None, None).expect("reads") {
        let row = row.expect("a row");
        assert!(
            rows.contains(&(row.key, row.value)),
            "{label}: {name} gives a row that is not there"
        );
    }
}

/// Every index that is ready fits its rows, by this code and by `verify`.
pub fn check(db: &Database, label: &str) {
    for info in db.list_indexes().expect("lists") {
        let index = db.index(&info.name).expect("is there");
        if info.status == lightning_db::IndexStatus::Ready {
            compare(db.default_keyspace(), &index, label);
        }
    }
    let report = db.verify(VerifyOptions::default()).expect("a report");
    assert!(report.is_clean(), "{label}: {:?}", report.problems);
}
