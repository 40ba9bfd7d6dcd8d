//! Sorted ingest beside features that look at every write: what it cannot keep true it refuses.

use std::time::Duration;

use lightning_db::vfs::SimulatedVfs;
use lightning_db::{ChangesFrom, ErrorKind, IndexPart, IndexSpec};

use super::{all, clean, config, entries, files, key, new, simulated};

/// An index over the first byte of a value.
fn spec() -> IndexSpec {
    IndexSpec::parts([IndexPart::ValueBytes(0, Some(1))])
}

#[test]
fn a_keyspace_with_indexes_refuses_it_and_stays_true() {
    let vfs = SimulatedVfs::new(1);
    let db = simulated(&vfs, config()).expect("opens");
    db.put_batch(&entries(0, 100, 1, "old")).expect("writes");
    let index = db.create_index("by_start", spec()).expect("builds");
    let before = (all(&db), files(&vfs));
    let e = db.ingest(entries(0, 100, 1, "new")).expect_err("refused");
    assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{e}");
    assert!(e.message().contains("indexes"), "{e}");
    assert!(before == (all(&db), files(&vfs)));
    assert_eq!(index.get(&b"o"[..]).expect("reads").len(), 100);
    assert_eq!(index.get(&b"n"[..]).expect("reads").len(), 0);
    // As the message says.
    db.drop_index("by_start").expect("drops");
    db.ingest(entries(0, 50, 1, "new")).expect("ingests");
    let index = db.create_index("by_start", spec()).expect("builds");
    assert_eq!(index.get(&b"o"[..]).expect("reads").len(), 50);
    assert_eq!(index.get(&b"n"[..]).expect("reads").len(), 50);
    clean(&db);
}

#[test]
fn an_index_that_comes_meanwhile_ends_it() {
    let db = new(config());
    db.put(key(0), b"old").expect("writes");
    let entries = (0..1000).map(|n| {
        if n == 500 {
            db.create_index("by_start", spec()).expect("builds");
        }
        (key(n), b"new")
    });
    assert_eq!(db.ingest(entries).expect_err("refused").kind(), ErrorKind::InvalidArgument);
    assert_eq!(all(&db).len(), 1);
    let index = db.index("by_start").expect("is there");
    assert_eq!(index.get(&b"o"[..]).expect("reads").len(), 1);
    assert_eq!(index.get(&b"n"[..]).expect("reads").len(), 0);
    clean(&db);
}

#[test]
fn a_default_lifetime_counts_from_the_call() {
    let vfs = SimulatedVfs::new(1);
    let mut db = simulated(&vfs, config()).expect("opens");
    db.default_keyspace().set_default_ttl(Some(Duration::from_secs(60))).expect("sets");
    let mut wanted = entries(0, 3000, 1, "new");
    wanted[7].1 = vec![7; 50_000];
    db.ingest(wanted.clone()).expect("ingests");
    db.default_keyspace().set_default_ttl(None).expect("sets");
    db.ingest(entries(1000, 1010, 1, "stays")).expect("ingests");
    wanted.splice(1000..1010, entries(1000, 1010, 1, "stays"));
    for reopened in [false, true] {
        assert!(all(&db) == wanted);
        let (_, left) = db.get_with_ttl(key(7)).expect("reads").expect("is there");
        assert!(left.expect("a lifetime") <= Duration::from_secs(60));
        assert_eq!(db.get_with_ttl(key(1005)).expect("reads").expect("is there").1, None);
        clean(&db);
        if !reopened {
            db.close().expect("closes");
            db = simulated(&vfs, config()).expect("opens");
        }
    }
    vfs.advance_clock(Duration::from_secs(61));
    for compacted in [false, true] {
        assert!(all(&db) == entries(1000, 1010, 1, "stays"), "{compacted}");
        assert_eq!(db.get(key(7)).expect("reads"), None);
        clean(&db);
        db.compact().expect("compacts");
    }
    assert_eq!(db.stats().keyspaces[0].entries, 10, "its space is given back");
}

/// What is ingested is newer than a range delete of before, wherever it comes to lie; and older than one
/// of after.
#[test]
fn range_deletes_hide_what_came_before_them_and_nothing_else() {
    for flushed in [false, true] {
        let vfs = SimulatedVfs::new(1);
        let mut db = simulated(&vfs, config()).expect("opens");
        db.put_batch(&entries(0, 100, 1, "old")).expect("writes");
        db.flush().expect("flushes");
        let before = db.snapshot().expect("a snapshot");
        // Over rows that are there, and over none.
        db.delete_range(Some(&key(50)), Some(&key(5000))).expect("deletes");
        if flushed {
            db.flush().expect("flushes");
        }
        db.ingest(entries(1000, 2000, 1, "apart")).expect("ingests");
        db.ingest(entries(60, 70, 1, "over")).expect("ingests");
        let between = db.snapshot().expect("a snapshot");
        db.delete_range(Some(&key(65)), Some(&key(1500))).expect("deletes");
        let old = entries(0, 50, 1, "old");
        let ingested = [entries(60, 70, 1, "over"), entries(1000, 2000, 1, "apart")].concat();
        let mut wanted = [old.clone(), ingested.clone()].concat();
        let at_between = wanted.clone();
        wanted.retain(|(k, _)| !(key(65)..key(1500)).contains(k));
        let scan = |s: &lightning_db::Snapshot| -> Vec<_> {
            s.range(None, None).expect("a range").map(|e| e.expect("an entry")).collect()
        };
        for compacted in [false, true] {
            assert!(all(&db) == wanted, "{flushed} {compacted}");
            assert!(scan(&between) == at_between, "{flushed} {compacted}");
            assert_eq!(scan(&before).len(), 100);
            for n in [55, 62, 67, 1200, 1700] {
                let found = wanted.iter().find(|(k, _)| *k == key(n)).map(|(_, v)| v.clone());
                assert_eq!(db.get(key(n)).expect("reads"), found, "{n}");
            }
            clean(&db);
            db.compact().expect("compacts");
        }
        drop((before, between));
        db.close().expect("closes");
        db = simulated(&vfs, config()).expect("opens");
        assert!(all(&db) == wanted);
        clean(&db);
    }
}

/// The log does not hold what was ingested: a stream says that there was something, whatever it lets
/// through, and goes on.
#[test]
fn a_change_stream_tells_of_it_and_goes_on() {
    let vfs = SimulatedVfs::new(1);
    let db = simulated(&vfs, config()).expect("opens");
    db.commit_cursor("mirror", db.last_commit()).expect("a cursor");
    let mut filtered = db.changes(ChangesFrom::Now).expect("a stream").with_prefix("none of these");
    db.put(key(1), b"before").expect("writes");
    db.ingest(entries(0, 100, 1, "new")).expect("ingests");
    let ingested = db.last_commit();
    db.put(key(2), b"after").expect("writes");
    db.flush().expect("flushes");
    let told = filtered.try_next().expect("reads").expect("a commit");
    assert_eq!((told.commit, told.changes.len()), (ingested, 0));
    assert_eq!(filtered.try_next().expect("reads"), None);
    drop(filtered);
    db.close().expect("closes");
    let db = simulated(&vfs, config()).expect("opens");
    let mut all = db.changes(ChangesFrom::Cursor("mirror".into())).expect("a stream");
    let commits: Vec<_> = std::iter::from_fn(|| all.try_next().expect("reads")).collect();
    let counts: Vec<_> = commits.iter().map(|c| (c.commit, c.changes.len())).collect();
    assert_eq!(counts, [(ingested - 1, 1), (ingested, 0), (ingested + 1, 1)]);
}
