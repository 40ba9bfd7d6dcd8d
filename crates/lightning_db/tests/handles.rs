//! Handles that do not belong together, or have outlived what they name: errors, never the wrong
//! data. A keyspace of one database, given to a batch of another, once wrote to whatever keyspace
//! had the same id there.

use lightning_db::{
    Database, ErrorKind, Keyspace, KeyspaceOptions, LightningDbConfig, WriteBatch, WriteOptions,
};

fn two() -> (Database, Keyspace, Database, Keyspace) {
    let open = || {
        let db = Database::open_in_memory(LightningDbConfig::default()).expect("opens");
        let keyspace = db.keyspace("users", KeyspaceOptions::default()).expect("is made");
        keyspace.put(b"k", b"v").expect("is written");
        (db, keyspace)
    };
    let ((a, users_a), (b, users_b)) = (open(), open());
    (a, users_a, b, users_b)
}

fn kind<T: std::fmt::Debug>(result: lightning_db::Result<T>) -> ErrorKind {
    result.expect_err("refused").kind()
}

#[test]
fn keyspaces_of_another_database_are_refused() {
    let (a, users_a, b, users_b) = two();
    let mut batch = WriteBatch::new();
    batch.put_in(&users_b, b"k", b"foreign");
    assert_eq!(kind(a.write(batch.clone(), WriteOptions::default())), ErrorKind::InvalidArgument);
    batch.put_in(&users_a, b"k", b"mixed");
    for db in [&a, &b] {
        let result = db.write(batch.clone(), WriteOptions::default());
        assert_eq!(kind(result), ErrorKind::InvalidArgument);
    }
    let mut tx = a.transaction().expect("begins");
    assert_eq!(kind(tx.get_in(&users_b, b"k")), ErrorKind::InvalidArgument);
    assert_eq!(kind(tx.put_in(&users_b, b"k", b"foreign")), ErrorKind::InvalidArgument);
    assert_eq!(kind(tx.delete_in(&users_b, b"k")), ErrorKind::InvalidArgument);
    assert_eq!(kind(tx.range_in(&users_b, None, None)), ErrorKind::InvalidArgument);
    tx.commit().expect("an empty commit");
    let snapshot = a.snapshot().expect("is taken");
    assert_eq!(kind(snapshot.get_in(&users_b, b"k")), ErrorKind::InvalidArgument);
    assert_eq!(kind(snapshot.range_in(&users_b, None, None)), ErrorKind::InvalidArgument);
    for keyspace in [users_a, users_b] {
        assert_eq!(keyspace.get(b"k").expect("reads"), Some(b"v".to_vec()));
    }
}

#[test]
fn a_dropped_keyspace_is_refused_and_its_name_begins_anew() {
    let (a, users, _b, _) = two();
    let mut tx = a.transaction().expect("begins");
    tx.put_in(&users, b"k", b"late").expect("is kept");
    let mut open_scan = users.range(None, None).expect("opens");
    let mut batch = WriteBatch::new();
    batch.put_in(&users, b"k", b"late");
    a.drop_keyspace("users").expect("drops");
    assert_eq!(kind(users.get(b"k")), ErrorKind::NotFound);
    assert_eq!(kind(tx.get_in(&users, b"k")), ErrorKind::NotFound);
    assert_eq!(kind(tx.commit()), ErrorKind::NotFound);
    assert_eq!(kind(a.write(batch, WriteOptions::default())), ErrorKind::NotFound);
    // What was open goes on reading what it saw.
    let first = open_scan.next().expect("an entry").expect("reads");
    assert_eq!(first, (b"k".to_vec(), b"v".to_vec()));
    let again = a.keyspace("users", KeyspaceOptions::default()).expect("is made");
    assert_eq!(again.get(b"k").expect("reads"), None);
    assert_eq!(kind(users.put(b"k", b"x")), ErrorKind::NotFound);
    assert_eq!(again.count(None, None).expect("counts"), 0);
}

/// A background thread that looked whether to stop before it looked at the signal's generation
/// missed the signal to stop, and closing waited for `compaction_interval`. With an interval of a
/// day this test would not end.
#[test]
fn closing_never_waits_for_the_interval() {
    for _ in 0..300 {
        let config = LightningDbConfig {
            compaction_interval: std::time::Duration::from_secs(24 * 3600),
            background_threads: 2,
            ..LightningDbConfig::default()
        };
        let db = Database::open_in_memory(config).expect("opens");
        db.close().expect("closes");
    }
}
