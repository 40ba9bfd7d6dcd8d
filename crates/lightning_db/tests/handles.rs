//! Handles that do not belong together, or have outlived what they name: errors, never the wrong
//! data. A keyspace of one database, given to a batch of another, once wrote to whatever keyspace
//! had the same id there.

use std::sync::Arc;

use lightning_db::vfs::{SimulatedVfs, Vfs};
use lightning_db::{
    Database, ErrorKind, IsolationLevel, Keyspace, KeyspaceOptions, LightningDbConfig, OpenAs,
    TransactionOptions, VerifyOptions, WriteBatch, WriteOptions,
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

/// A commit writes nothing to a keyspace that was dropped, so who has scanned it cannot learn from commits
/// what becomes of it.
#[test]
fn a_commit_that_relies_on_a_dropped_keyspace_is_refused() {
    let (a, users, _b, _) = two();
    let scan = |tx: &lightning_db::Transaction| {
        let pairs = tx.range_in(&users, None, None).expect("scans");
        assert_eq!(pairs.flatten().count(), 1);
    };
    let get = |tx: &lightning_db::Transaction| {
        assert!(tx.get_in(&users, b"k").expect("reads").is_some());
    };
    let relied: [&dyn Fn(&lightning_db::Transaction); 2] = [&scan, &get];
    let mut open: Vec<_> = relied
        .iter()
        .map(|_| {
            let options = TransactionOptions::at(IsolationLevel::Serializable);
            a.transaction_with(options).expect("begins")
        })
        .collect();
    for (tx, read) in open.iter_mut().zip(relied) {
        read(tx);
        tx.put(b"elsewhere", b"1").expect("is kept");
    }
    a.drop_keyspace("users").expect("drops");
    for tx in open {
        assert_eq!(kind(tx.commit()), ErrorKind::NotFound);
    }
    assert_eq!(a.get(b"elsewhere").expect("reads"), None);
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

/// Who read a file of a closed database that nothing named any more removed it once they were done: also
/// where its directory had become another database's, with another file of that name.
#[test]
fn a_late_reader_takes_nothing_from_the_next_database() {
    let vfs = SimulatedVfs::new(1);
    let open = || {
        let config = LightningDbConfig { background_threads: 0, ..LightningDbConfig::default() };
        let shared = Arc::new(vfs.clone()) as Arc<dyn Vfs>;
        Database::open_with_vfs(shared, "/db", config, OpenAs::Create).expect("creates")
    };
    let fill = |db: &Database, value: &[u8]| {
        for _ in 0..5 {
            for n in 0..100_u32 {
                db.put(n.to_be_bytes(), value).expect("writes");
            }
            db.put("large", value.repeat(1000)).expect("writes");
            db.flush().expect("flushes");
        }
    };
    let first = open();
    fill(&first, b"first");
    let mut range = first.range(None, None).expect("a range");
    range.next().expect("an entry").expect("reads");
    fill(&first, b"other");
    first.compact().expect("compacts");
    first.close().expect("closes");
    for file in vfs.files() {
        vfs.remove_file(&file).expect("removes");
    }
    let second = open();
    fill(&second, b"second");
    let before = vfs.files();
    drop(range);
    assert_eq!(vfs.files(), before);
    second.evict_cache(1.0).expect("evicts");
    let found: Vec<_> =
        second.range(None, None).expect("a range").map(|e| e.expect("reads")).collect();
    assert_eq!(found.len(), 101);
    let report = second.verify(VerifyOptions::default()).expect("verifies");
    assert!(report.is_clean(), "{:?}", report.problems);
}
