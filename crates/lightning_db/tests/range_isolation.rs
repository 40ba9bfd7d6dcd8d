//! Range deletes and transactions: who conflicts with whom, who waits for whom, and what a transaction
//! sees of its own. Keys 1, 2 and 3 are there at the start, with the values 10, 20 and 30.

use std::time::Duration;

use lightning_db::IsolationLevel::{ReadCommitted, RepeatableRead, Serializable};
use lightning_db::TransactionMode::{Optimistic, Pessimistic};
use lightning_db::{
    Database, ErrorKind, IsolationLevel, LightningDbConfig, Transaction, TransactionMode,
    TransactionOptions,
};

const LEVELS: [IsolationLevel; 3] = [ReadCommitted, RepeatableRead, Serializable];

struct World {
    db: Database,
    level: IsolationLevel,
    mode: TransactionMode,
}

impl World {
    fn new(level: IsolationLevel, mode: TransactionMode) -> Self {
        let config = LightningDbConfig {
            lock_timeout: Duration::from_millis(5),
            background_threads: 0,
            ..LightningDbConfig::default()
        };
        let db = Database::open_in_memory(config).expect("opens");
        for (key, value) in [("1", "10"), ("2", "20"), ("3", "30")] {
            db.put(key, value).expect("writes");
        }
        Self { db, level, mode }
    }

    fn begin(&self) -> Transaction {
        let options = TransactionOptions {
            isolation: self.level,
            mode: self.mode,
            ..TransactionOptions::default()
        };
        self.db.transaction_with(options).expect("begins")
    }

    fn keys(&self) -> String {
        joined(self.db.range(None, None).expect("a range"))
    }
}

fn joined(pairs: impl Iterator<Item = lightning_db::Result<(Vec<u8>, Vec<u8>)>>) -> String {
    let keys = pairs.map(|p| String::from_utf8(p.expect("an entry").0).expect("text"));
    keys.collect::<Vec<_>>().join(",")
}

fn keys(tx: &Transaction) -> String {
    joined(tx.range(None, None).expect("a range"))
}

fn range(tx: &mut Transaction, start: &str, end: &str) -> lightning_db::Result<()> {
    tx.delete_range(Some(start.as_bytes()), Some(end.as_bytes()))
}

fn delete(db: &Database, start: &str, end: &str) -> lightning_db::Result<()> {
    db.delete_range(Some(start.as_bytes()), Some(end.as_bytes()))
}

fn kind<T>(result: lightning_db::Result<T>) -> Option<ErrorKind> {
    result.err().map(|e| e.kind())
}

/// What is done between a transaction's writes and its commit: nothing, or merges of all kinds, which
/// must not take away what validation asks for.
const BETWEEN: [fn(&Database); 3] =
    [|_| (), |db| db.flush().expect("flushes"), |db| db.compact().expect("compacts")];

#[test]
fn own_range_deletes_hide_the_snapshot_and_earlier_writes() {
    for mode in [Optimistic, Pessimistic] {
        for level in LEVELS {
            let w = World::new(level, mode);
            let mut tx = w.begin();
            tx.put("15", "a").expect("writes");
            let before = tx.savepoint().expect("a savepoint");
            range(&mut tx, "1", "3").expect("deletes");
            tx.put("2", "b").expect("writes");
            assert_eq!(keys(&tx), "2,3", "{level:?} {mode:?}");
            assert_eq!(joined(tx.scan_reverse(None, None).expect("a scan")), "3,2");
            assert_eq!(tx.get("1").expect("reads"), None);
            assert_eq!(tx.get("15").expect("reads"), None);
            assert_eq!(tx.get("2").expect("reads"), Some(b"b".to_vec()));
            // Neighbours, the same again, and none.
            range(&mut tx, "3", "4").expect("deletes");
            range(&mut tx, "3", "4").expect("deletes");
            range(&mut tx, "9", "9").expect("nothing");
            assert_eq!(keys(&tx), "2", "{level:?} {mode:?}");
            assert_eq!(w.keys(), "1,2,3", "nothing before the commit");
            let again = w.begin();
            assert_eq!(kind(again.get("9")), None, "an empty range takes no lock");
            drop(again);
            tx.rollback_to(before).expect("stands");
            assert_eq!(keys(&tx), "1,15,2,3", "{level:?} {mode:?}");
            range(&mut tx, "2", "3").expect("deletes");
            tx.put("25", "c").expect("writes");
            tx.commit().expect("commits");
            assert_eq!(w.keys(), "1,15,25,3", "{level:?} {mode:?}");
        }
    }
}

#[test]
fn a_range_delete_conflicts_with_what_was_written_there_since() {
    for between in BETWEEN {
        let w = World::new(RepeatableRead, Optimistic);
        let mut tx = w.begin();
        range(&mut tx, "2", "4").expect("deletes");
        w.db.put("35", "new").expect("writes");
        between(&w.db);
        assert_eq!(kind(tx.commit()), Some(ErrorKind::Conflict));
        assert_eq!(w.keys(), "1,2,3,35");

        let mut tx = w.begin();
        range(&mut tx, "2", "3").expect("deletes");
        w.db.put("3", "outside").expect("writes");
        w.db.put("1", "outside").expect("writes");
        between(&w.db);
        tx.commit().expect("nobody wrote there");
        assert_eq!(w.keys(), "1,3,35");
    }
    // Nothing is relied on at the other levels.
    for level in [ReadCommitted, Serializable] {
        let w = World::new(level, Optimistic);
        let mut tx = w.begin();
        range(&mut tx, "2", "4").expect("deletes");
        w.db.put("35", "new").expect("writes");
        tx.commit().expect("a blind write");
        assert_eq!(w.keys(), "1");
    }
}

#[test]
fn a_write_conflicts_with_a_range_delete_since() {
    for between in BETWEEN {
        let w = World::new(RepeatableRead, Optimistic);
        let mut tx = w.begin();
        tx.put("2", "mine").expect("writes");
        delete(&w.db, "2", "3").expect("deletes");
        between(&w.db);
        assert_eq!(kind(tx.commit()), Some(ErrorKind::Conflict));
        assert_eq!(w.keys(), "1,3");
        // Two range deletes, too.
        let mut tx = w.begin();
        range(&mut tx, "1", "4").expect("deletes");
        delete(&w.db, "3", "9").expect("deletes");
        between(&w.db);
        assert_eq!(kind(tx.commit()), Some(ErrorKind::Conflict));
        let mut tx = w.begin();
        tx.put("1", "mine").expect("writes");
        delete(&w.db, "2", "9").expect("deletes");
        tx.commit().expect("apart");
    }
}

#[test]
fn what_a_serializable_transaction_read_must_not_be_range_deleted() {
    type Read = fn(&Transaction);
    let reads: [(Read, bool); 4] = [
        (|tx| assert!(tx.get("2").expect("reads").is_some()), true),
        (|tx| assert_eq!(keys(tx), "1,2,3"), true),
        (|tx| assert!(tx.get("1").expect("reads").is_some()), false),
        (|tx| assert!(tx.get_for_update("2").expect("reads").is_some()), true),
    ];
    for between in BETWEEN {
        for (read, conflicts) in reads {
            let w = World::new(Serializable, Optimistic);
            let mut tx = w.begin();
            read(&tx);
            tx.put("9", "9").expect("writes");
            delete(&w.db, "2", "3").expect("deletes");
            between(&w.db);
            assert_eq!(kind(tx.commit()), conflicts.then_some(ErrorKind::Conflict));
        }
    }
}

#[test]
fn a_snapshot_sees_what_was_deleted_after_it() {
    for between in BETWEEN {
        let w = World::new(RepeatableRead, Optimistic);
        let snapshot = w.db.snapshot().expect("a snapshot");
        delete(&w.db, "1", "3").expect("deletes");
        let later = w.db.snapshot().expect("a snapshot");
        w.db.put("2", "again").expect("writes");
        w.db.delete_range(None, None).expect("deletes");
        between(&w.db);
        assert_eq!(joined(snapshot.range(None, None).expect("a range")), "1,2,3");
        assert_eq!(joined(later.range(None, None).expect("a range")), "3");
        assert_eq!(snapshot.get("2").expect("reads"), Some(b"20".to_vec()));
        assert_eq!(later.get("2").expect("reads"), None);
        assert_eq!(w.keys(), "");
        drop((snapshot, later));
        w.db.compact().expect("compacts");
        assert_eq!(w.keys(), "");
        let stats = &w.db.stats().keyspaces[0];
        assert_eq!((stats.entries, stats.range_deletes), (0, 0), "{stats:?}");
    }
}

#[test]
fn locks_and_range_deletes_wait_for_each_other() {
    for level in LEVELS {
        let w = World::new(level, Pessimistic);
        // A range that is deleted is locked against everybody.
        let mut tx = w.begin();
        range(&mut tx, "2", "4").expect("locks");
        assert_eq!(kind(w.db.put("25", "x")), Some(ErrorKind::TimedOut), "{level:?}");
        assert_eq!(kind(delete(&w.db, "3", "9")), Some(ErrorKind::TimedOut));
        w.db.put("1", "11").expect("outside");
        delete(&w.db, "4", "9").expect("outside");
        let mut other = w.begin();
        assert_eq!(kind(other.put("3", "x")), Some(ErrorKind::TimedOut));
        assert_eq!(kind(range(&mut other, "1", "3")), Some(ErrorKind::TimedOut));
        other.abort();
        tx.commit().expect("commits");
        assert_eq!(w.keys(), "1");
        // A row that is locked stops a range delete over it.
        let tx = w.begin();
        tx.get_for_update("1").expect("locks");
        assert_eq!(kind(delete(&w.db, "0", "2")), Some(ErrorKind::TimedOut), "{level:?}");
        delete(&w.db, "2", "3").expect("not in it");
        drop(tx);
        delete(&w.db, "0", "2").expect("free again");
        assert_eq!(w.keys(), "");
    }
    // A range that was read at `Serializable`.
    let w = World::new(Serializable, Pessimistic);
    let tx = w.begin();
    assert_eq!(joined(tx.range(Some(b"2"), Some(b"3")).expect("locks")), "2");
    assert_eq!(kind(delete(&w.db, "1", "9")), Some(ErrorKind::TimedOut));
    delete(&w.db, "3", "9").expect("outside");
    // At `RepeatableRead` what changed since the snapshot is told at once.
    let w = World::new(RepeatableRead, Pessimistic);
    let mut tx = w.begin();
    w.db.put("2", "new").expect("writes");
    assert_eq!(kind(range(&mut tx, "1", "3")), Some(ErrorKind::Conflict));
    range(&mut tx, "3", "4").expect("nobody wrote there");
    drop(tx);
    let mut tx = w.begin();
    delete(&w.db, "1", "2").expect("free again");
    assert_eq!(kind(tx.put("1", "mine")), Some(ErrorKind::Conflict));
}

#[test]
fn compare_and_swap_and_its_like_see_range_deletes() {
    let w = World::new(RepeatableRead, Optimistic);
    delete(&w.db, "1", "3").expect("deletes");
    let refused = w.db.compare_and_swap("1", Some(b"10"), Some(b"11")).expect("works");
    assert_eq!(refused.expect_err("it is gone").current, None);
    assert!(w.db.compare_and_swap("1", None, Some(b"11")).expect("works").is_ok());
    assert_eq!(w.db.default_keyspace().take("2").expect("works"), None);
    assert_eq!(w.keys(), "1,3");
}

#[test]
fn limits_are_those_of_keys() {
    let w = World::new(RepeatableRead, Optimistic);
    let long = vec![b'x'; 70_000];
    for (start, end) in [(Some(&long[..]), None), (None, Some(&long[..]))] {
        assert_eq!(kind(w.db.delete_range(start, end)), Some(ErrorKind::KeyTooLarge));
        assert_eq!(kind(w.begin().delete_range(start, end)), Some(ErrorKind::KeyTooLarge));
        let mut batch = lightning_db::WriteBatch::new();
        batch.delete_range(start, end);
        let result = w.db.write(batch, lightning_db::WriteOptions::default());
        assert_eq!(kind(result), Some(ErrorKind::KeyTooLarge));
    }
    let commits = w.db.stats().last_commit;
    for (start, end) in [("2", "2"), ("3", "1"), ("", "")] {
        delete(&w.db, start, end).expect("nothing to do");
    }
    w.db.delete_range(None, Some(b"")).expect("nothing to do");
    assert_eq!(w.db.stats().last_commit, commits, "no commit");
    let reader = w
        .db
        .transaction_with(TransactionOptions { read_only: true, ..TransactionOptions::default() });
    let mut reader = reader.expect("begins");
    assert_eq!(kind(range(&mut reader, "1", "2")), Some(ErrorKind::ReadOnly));
    assert_eq!(w.keys(), "1,2,3");
}
