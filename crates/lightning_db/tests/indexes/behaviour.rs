//! What indexes are for a user.

use lightning_db::{
    Database, ErrorKind, IndexKey, IndexPart, IndexSpec, IndexStatus, IndexValue, IsolationLevel,
    KeyspaceOptions, LightningDbConfig, OpenAs, TransactionMode, TransactionOptions, VerifyOptions,
    WriteBatch, WriteOptions,
};

use crate::rows::{check, config, create, open, spec};

fn memory() -> Database {
    Database::open_in_memory(LightningDbConfig { background_threads: 0, ..config() })
        .expect("opens")
}

fn row_keys(rows: lightning_db::Result<Vec<lightning_db::IndexRow>>) -> Vec<String> {
    let rows = rows.expect("reads");
    rows.into_iter().map(|r| String::from_utf8(r.key).expect("text")).collect()
}

fn people() -> (Database, lightning_db::Keyspace) {
    let db = memory();
    let users = db.keyspace("users", KeyspaceOptions::default()).expect("a keyspace");
    for (id, value) in [
        ("1", r#"{"name":"Ada","city":"London","born":1815,"tags":["maths","poetry"]}"#),
        ("2", r#"{"name":"Grace","city":"New York","born":1906,"tags":["navy"]}"#),
        ("3", r#"{"name":"Alan","city":"London","born":1912,"tags":["maths"]}"#),
        ("4", r#"{"name":"Nobody","born":null}"#),
        ("5", "not JSON"),
    ] {
        users.put(id, value).expect("puts");
    }
    (db, users)
}

#[test]
fn rows_are_found_by_their_parts() {
    let (db, users) = people();
    let spec = IndexSpec::parse(&["json:/city", "json:/born"]).expect("parts");
    let by_city = users.create_index("by_city", spec).expect("builds");
    let key = |city: &str, born: i32| IndexKey::from((city, born));
    assert_eq!(row_keys(by_city.get(key("London", 1912))), ["3"]);
    assert!(by_city.get("London").expect("reads").is_empty(), "not all parts are given");
    let rows = |range: lightning_db::Result<lightning_db::IndexRange>| {
        row_keys(range.expect("reads").collect())
    };
    assert_eq!(rows(by_city.scan_prefix("London")), ["1", "3"]);
    assert_eq!(rows(by_city.scan_beginning("N")), ["2"]);
    assert_eq!(rows(by_city.range(Some(&key("London", 1900)), None)), ["3", "2"]);
    assert_eq!(rows(by_city.range(None, Some(&"New".into()))), ["4", "1", "3"]);
    assert_eq!(by_city.count(None, None).expect("counts"), 4, "what is not JSON has no entry");
    assert_eq!(by_city.count_of((IndexValue::Missing, IndexValue::Null)).expect("counts"), 1);
    let last =
        by_city.range(None, None).expect("reads").next_back().expect("a row").expect("reads");
    assert_eq!((last.index_key, last.key), (key("New York", 1906), b"2".to_vec()));

    let by_tag =
        users.create_index("by_tag", IndexSpec::parts([IndexPart::JsonEach("/tags".into())]));
    let by_tag = by_tag.expect("builds");
    assert_eq!(row_keys(by_tag.get("maths")), ["1", "3"]);
    users.put("3", r#"{"tags":["maths","chess","maths"]}"#).expect("puts");
    assert_eq!(row_keys(by_tag.get("chess")), ["3"]);
    users.delete("1").expect("deletes");
    assert_eq!(row_keys(by_tag.get("maths")), ["3"]);
    assert_eq!(by_city.count(None, None).expect("counts"), 2);

    assert_eq!(db.list_keyspaces(), ["default", "users"], "entries have no keyspace of the user's");
    let names: Vec<_> = users.list_indexes().expect("lists").into_iter().map(|i| i.name).collect();
    assert_eq!(names, ["by_city", "by_tag"]);
    assert!(db.list_indexes().expect("lists").is_empty());
    assert!(db.verify(VerifyOptions::default()).expect("a report").is_clean());
}

#[test]
fn every_way_of_writing_keeps_indexes_up() {
    let (vfs, db) = create();
    for name in crate::rows::NAMES {
        db.create_index(name, spec(name)).expect("builds");
    }
    let put = |k: &str, v: &[u8]| (k.as_bytes().to_vec(), v.to_vec());
    db.put("a", [1, 1, 3]).expect("puts");
    check(&db, "put");
    db.put_batch(&[put("b", &[1, 2, 4, 4]), put("c", &[2, 3, 5, 1]), put("b", &[3, 4])])
        .expect("puts");
    check(&db, "put_batch");
    db.delete_batch(&["a", "none"]).expect("deletes");
    check(&db, "delete_batch");
    let mut batch = WriteBatch::new();
    batch.put("d", [7, 9, 1]);
    batch.delete("d");
    batch.put("d", [8, 9, 2]);
    batch.delete("c");
    db.write(batch, WriteOptions::default()).expect("writes");
    check(&db, "batch");
    let swapped = db.compare_and_swap("d", Some(&[8, 9, 2]), Some(&[1, 9, 7])).expect("swaps");
    assert!(swapped.is_ok());
    check(&db, "compare_and_swap");
    db.fetch_update("e", |_| Some(vec![4, 5, 6])).expect("updates");
    db.take("b").expect("takes");
    check(&db, "fetch_update and take");
    for (n, mode) in
        [TransactionMode::Optimistic, TransactionMode::Pessimistic].into_iter().enumerate()
    {
        let options = TransactionOptions { mode, ..TransactionOptions::default() };
        let mut tx = db.transaction_with(options).expect("begins");
        tx.put(format!("t{n}"), [9, 20 + n as u8, 1]).expect("puts");
        tx.delete("d").expect("deletes");
        tx.put("e", [4, 5, 5]).expect("puts");
        tx.commit().expect("commits");
        check(&db, "transaction");
    }
    // A value in blob pages.
    db.put("large", [vec![3, 77], vec![2; 40_000]].concat()).expect("puts");
    check(&db, "a large value");
    db.put("large", [vec![4, 77], vec![3; 40_000]].concat()).expect("puts");
    db.flush().expect("flushes");
    check(&db, "after a flush");
    db.compact().expect("compacts");
    db.delete("large").expect("deletes");
    check(&db, "after a compaction");
    db.close().expect("closes");
    let db = open(&vfs, OpenAs::Open).expect("opens");
    check(&db, "after opening again");
    assert_eq!(db.list_indexes().expect("lists").len(), 3);
    drop(db);
    let db = open(&vfs, OpenAs::ReadOnly).expect("opens");
    check(&db, "read-only");
}

#[test]
fn a_unique_index_refuses_a_second_row() {
    let (_vfs, db) = create();
    db.put("a", [1, 1]).expect("puts");
    let index = db.create_index("by_unit", spec("by_unit")).expect("builds");
    let refused = |result: lightning_db::Result<()>| {
        let e = result.expect_err("taken");
        assert_eq!(e.kind(), ErrorKind::UniqueViolation);
        assert!(e.message().contains("by_unit") && !e.is_retryable(), "{e}");
    };
    refused(db.put("b", [2, 1]));
    assert_eq!(db.get("b").expect("reads"), None);
    db.put("a", [3, 1]).expect("the same row");
    db.put("c", [3, 0]).expect("none");
    db.put("d", [3, 0]).expect("none again");
    let pair = |k: &str, unit| (k.as_bytes().to_vec(), vec![1, unit]);
    refused(db.put_batch(&[pair("x", 5), pair("y", 5)]));
    refused(db.put_batch(&[pair("x", 6), pair("y", 1)]));
    db.put_batch(&[pair("x", 5), pair("x", 6), pair("y", 5)]).expect("the last write counts");
    // Two rows change places in one commit.
    db.put_batch(&[pair("x", 5), pair("y", 6)]).expect("no row has the key of another after it");
    let mut batch = WriteBatch::new();
    batch.delete("a");
    batch.put("b", [9, 1]);
    db.write(batch, WriteOptions::default()).expect("given up and taken in one commit");
    refused(db.fetch_update("z", |_| Some(vec![1, 6])).map(|_| ()));
    let mut tx = db.transaction().expect("begins");
    tx.put("z", [1, 6]).expect("seen at commit");
    refused(tx.commit());
    db.delete("y").expect("deletes");
    db.put("z", [1, 6]).expect("is free again");
    assert_eq!(index.get(6).expect("reads")[0].key, b"z");
    check(&db, "unique");

    let other = db.keyspace("other", KeyspaceOptions::default()).expect("a keyspace");
    other.put_batch(&[pair("a", 1), pair("b", 1)]).expect("puts");
    let e = other.create_index("by_unit", spec("by_unit")).expect_err("two rows have it");
    assert_eq!(e.kind(), ErrorKind::UniqueViolation);
    assert!(other.list_indexes().expect("lists").is_empty(), "it is gone again");
    other.put("c", [1, 1]).expect("nothing is kept up any more");
    other.delete_batch(&["b", "c"]).expect("deletes");
    other.create_index("by_unit", spec("by_unit")).expect("builds now");
    assert_eq!(row_keys(other.index("by_unit").expect("is there").get(1)), ["a"]);
}

#[test]
fn snapshots_see_indexes_as_they_were() {
    let (_vfs, db) = create();
    db.put("a", [1, 1]).expect("puts");
    let early = db.snapshot().expect("a snapshot");
    let index = db.create_index("by_group", spec("by_group")).expect("builds");
    assert_eq!(early.index(&index).expect_err("older").kind(), ErrorKind::IndexNotReady);
    let snapshot = db.snapshot().expect("a snapshot");
    db.put("a", [2, 1]).expect("puts");
    db.put("b", [1, 1]).expect("puts");
    db.compact().expect("compacts");
    let then = snapshot.index(&index).expect("whole by then");
    let groups = |index: &lightning_db::Index| -> Vec<(Vec<u8>, Vec<u8>)> {
        let rows = index.range(None, None).expect("reads");
        rows.map(|r| r.map(|r| (r.key, r.value)).expect("a row")).collect()
    };
    assert_eq!(groups(&then), [(b"a".to_vec(), vec![1, 1])]);
    assert_eq!(groups(&index), [(b"b".to_vec(), vec![1, 1]), (b"a".to_vec(), vec![2, 1])]);
    let tx = TransactionOptions { snapshot: Some(early), ..TransactionOptions::default() };
    let tx = db.transaction_with(tx).expect("begins");
    let e = tx.index_get(&index, vec![1_u8]).expect_err("older");
    assert_eq!(e.kind(), ErrorKind::IndexNotReady);
    let other = memory();
    let e = other.snapshot().expect("a snapshot").index(&index).expect_err("of another database");
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn transactions_see_their_own_writes_in_indexes() {
    for isolation in [
        IsolationLevel::ReadCommitted,
        IsolationLevel::RepeatableRead,
        IsolationLevel::Serializable,
    ] {
        for mode in [TransactionMode::Optimistic, TransactionMode::Pessimistic] {
            let (_vfs, db) = create();
            let index = db.create_index("by_each", spec("by_each")).expect("builds");
            db.put("a", [0, 1, 5]).expect("puts");
            db.put("b", [0, 2, 5, 6]).expect("puts");
            let mut tx = db
                .transaction_with(TransactionOptions {
                    isolation,
                    mode,
                    ..TransactionOptions::default()
                })
                .expect("begins");
            let of = |tx: &lightning_db::Transaction, n: u32| row_keys(tx.index_get(&index, n));
            assert_eq!(of(&tx, 5), ["a", "b"]);
            tx.put("c", [0, 3, 5, 7]).expect("puts");
            tx.delete("a").expect("deletes");
            let savepoint = tx.savepoint().expect("marks");
            tx.put("b", [0, 2, 7]).expect("puts");
            assert_eq!(of(&tx, 5), ["c"]);
            assert_eq!(of(&tx, 7), ["b", "c"]);
            assert!(of(&tx, 6).is_empty());
            tx.rollback_to(savepoint).expect("goes back");
            assert_eq!(of(&tx, 5), ["b", "c"]);
            let keys: Vec<_> =
                tx.index_keys(&index, Some(&6.into()), None).expect("reads").collect();
            let keys: Vec<_> = keys.into_iter().map(|k| k.expect("an entry")).collect();
            assert_eq!(keys, [(6.into(), b"b".to_vec()), (7.into(), b"c".to_vec())]);
            let back: Vec<_> = tx.index_scan_prefix(&index, 5).expect("reads").rev().collect();
            assert_eq!(back.len(), 2);
            assert_eq!(row_keys(index.get(5)), ["a", "b"], "nothing is committed");
            tx.commit().expect("commits");
            assert_eq!(row_keys(index.get(5)), ["b", "c"]);
            check(&db, "after the transaction");
        }
    }
}

/// Who relies on what an index does not have is refused once it has it.
#[test]
fn serializable_transactions_rely_on_what_they_read_in_an_index() {
    let (_vfs, db) = create();
    let index = db.create_index("by_each", spec("by_each")).expect("builds");
    let options = || TransactionOptions::at(IsolationLevel::Serializable);
    let mut first = db.transaction_with(options()).expect("begins");
    let mut second = db.transaction_with(options()).expect("begins");
    assert!(first.index_get(&index, 3).expect("reads").is_empty());
    assert!(second.index_get(&index, 3).expect("reads").is_empty());
    first.put("a", [0, 1, 3]).expect("puts");
    second.put("b", [0, 2, 3]).expect("puts");
    first.commit().expect("commits");
    assert_eq!(second.commit().expect_err("write skew").kind(), ErrorKind::Conflict);
    // What another index key has to do with it: nothing.
    let mut third = db.transaction_with(options()).expect("begins");
    assert!(third.index_get(&index, 4).expect("reads").is_empty());
    db.put("c", [0, 3, 5]).expect("puts");
    third.put("d", [0, 4, 4]).expect("puts");
    third.commit().expect("commits");
    // Nobody tells an index that was dropped what would have come into it.
    let mut fourth = db.transaction_with(options()).expect("begins");
    assert!(fourth.index_get(&index, 6).expect("reads").is_empty());
    fourth.put("e", [0, 5, 5]).expect("puts");
    db.drop_index("by_each").expect("drops");
    assert_eq!(fourth.commit().expect_err("it cannot know").kind(), ErrorKind::NotFound);
}

#[test]
fn an_index_without_its_function_stops_its_keyspace_alone() {
    let (vfs, db) = create();
    let other = db.keyspace("other", KeyspaceOptions::default()).expect("a keyspace");
    db.create_index("by_unit", spec("by_unit")).expect("builds");
    db.put("a", [1, 1]).expect("puts");
    drop(other);
    db.close().expect("closes");
    let bare = LightningDbConfig { extractors: lightning_db::Extractors::default(), ..config() };
    let db = Database::open_with_vfs(
        std::sync::Arc::new(vfs.clone()),
        crate::rows::PATH,
        bare,
        OpenAs::Open,
    )
    .expect("opens");
    let refused = |e: lightning_db::Error| {
        assert_eq!(e.kind(), ErrorKind::MissingExtractor);
        assert!(e.message().contains("by_unit") && e.message().contains("unit"), "{e}");
    };
    refused(db.put("b", [1, 2]).expect_err("refused"));
    refused(db.delete("a").expect_err("refused"));
    let index = db.index("by_unit").expect("is listed");
    refused(index.get(1).expect_err("refused"));
    assert_eq!(db.list_indexes().expect("lists")[0].status, IndexStatus::MissingExtractor);
    assert_eq!(db.get("a").expect("rows are read"), Some(vec![1, 1]));
    let other = db.keyspace("other", KeyspaceOptions::default()).expect("a keyspace");
    other.put("x", "y").expect("other keyspaces go on");
    assert!(db.health_check().problems.iter().any(|p| p.contains("by_unit")));
    assert!(db.verify(VerifyOptions::default()).expect("a report").is_clean());
    db.drop_index("by_unit").expect("drops");
    db.put("b", [1, 2]).expect("writes go on");
}

#[test]
fn indexes_go_with_a_drop_and_with_their_keyspace() {
    let (vfs, db) = create();
    let users = db.keyspace("users", KeyspaceOptions::default()).expect("a keyspace");
    let index = users.create_index("by_group", spec("by_group")).expect("builds");
    let e = users.create_index("by_group", spec("by_group")).expect_err("is there");
    assert_eq!(e.kind(), ErrorKind::AlreadyExists);
    users.put("a", [1, 1]).expect("puts");
    users.drop_index("by_group").expect("drops");
    assert_eq!(index.get(1).expect_err("dropped").kind(), ErrorKind::NotFound);
    assert_eq!(users.drop_index("by_group").expect_err("gone").kind(), ErrorKind::NotFound);
    assert_eq!(users.index("by_group").expect_err("gone").kind(), ErrorKind::NotFound);
    users.create_index("by_group", spec("by_group")).expect("builds anew");
    users.create_index("by_each", spec("by_each")).expect("builds");
    db.flush().expect("flushes");
    db.drop_keyspace("users").expect("drops");
    db.compact().expect("compacts");
    db.close().expect("closes");
    let db = open(&vfs, OpenAs::Open).expect("opens");
    assert!(db.stats().indexes.is_empty());
    let users = db.keyspace("users", KeyspaceOptions::default()).expect("anew");
    assert!(users.list_indexes().expect("lists").is_empty());
    users.put("a", [1, 1]).expect("puts");
    check(&db, "after the drop");
    let e = db.keyspace("\0index 1", KeyspaceOptions::default()).expect_err("is no user's name");
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    assert_eq!(db.drop_keyspace("\0index 1").expect_err("neither").kind(), ErrorKind::NotFound);
}

#[test]
fn what_cannot_be_is_refused() {
    let db = memory();
    let refused = |name: &str, spec: IndexSpec, kind| {
        assert_eq!(db.create_index(name, spec).expect_err("refused").kind(), kind);
        assert!(db.list_indexes().expect("lists").is_empty());
    };
    refused("", IndexSpec::json("/a"), ErrorKind::InvalidArgument);
    refused(&"x".repeat(256), IndexSpec::json("/a"), ErrorKind::InvalidArgument);
    refused("x", IndexSpec::json("a"), ErrorKind::InvalidArgument);
    refused("x", IndexSpec::parts([]), ErrorKind::InvalidArgument);
    refused("x", IndexSpec::extractor("never registered"), ErrorKind::MissingExtractor);
    db.put("k", vec![1; 1 << 16]).expect("puts");
    refused("x", IndexSpec::parts([IndexPart::value()]), ErrorKind::KeyTooLarge);
    db.delete("k").expect("deletes");
    db.create_index("x", IndexSpec::parts([IndexPart::value()])).expect("builds");
    assert_eq!(db.put("k", vec![1; 1 << 16]).expect_err("refused").kind(), ErrorKind::KeyTooLarge);
    assert_eq!(db.get("k").expect("reads"), None);
}

/// Entries that a merge would change are not known before the merge.
#[test]
fn merges_are_refused_where_there_are_indexes() {
    let db = memory();
    let options = || KeyspaceOptions { merge_operator: Some("max".into()), ..Default::default() };
    let counters = db.keyspace("counters", options()).expect("a keyspace");
    let one = b"9";
    counters.merge("a", b"5").expect("merges");
    counters.merge("a", b"7").expect("merges");
    // Operands that were there before are read as the value that they make.
    let index =
        counters.create_index("by_value", IndexSpec::parts([IndexPart::value()])).expect("builds");
    assert_eq!(row_keys(index.get("7")), ["a"]);
    let refused = |e: lightning_db::Error| assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    refused(counters.merge("a", one).expect_err("refused"));
    let mut tx = db.transaction().expect("begins");
    tx.merge_in(&counters, "a", one).expect("seen at commit");
    refused(tx.commit().expect_err("refused"));
    counters.delete("a").expect("deletes");
    assert_eq!(index.count(None, None).expect("counts"), 0);
    counters.drop_index("by_value").expect("drops");
    counters.merge("a", one).expect("merges again");
}

/// A moment before the index was built shows part of its entries at most: it is never read there, and
/// after an opening, when nobody knows any more when that was, at no moment before the opening.
#[test]
fn the_past_of_an_index_is_refused_where_it_may_not_be_whole() {
    let vfs = lightning_db::vfs::SimulatedVfs::new(5);
    let config = || LightningDbConfig {
        history_retention: Some(std::time::Duration::from_secs(3600)),
        ..config()
    };
    let open = |mode| {
        Database::open_with_vfs(std::sync::Arc::new(vfs.clone()), crate::rows::PATH, config(), mode)
            .expect("opens")
    };
    let db = open(OpenAs::Create);
    db.put("a", [1, 1]).expect("puts");
    let early = db.last_commit();
    let index = db.create_index("by_group", spec("by_group")).expect("builds");
    db.put("a", [2, 1]).expect("puts");
    let whole = db.last_commit();
    db.put("a", [3, 1]).expect("puts");
    let at = |db: &Database, index: &lightning_db::Index, commit: u64| {
        db.snapshot_at(commit).expect("is kept").index(index)
    };
    assert_eq!(at(&db, &index, early).expect_err("older").kind(), ErrorKind::IndexNotReady);
    let then = at(&db, &index, whole).expect("whole");
    let rows: Vec<_> =
        then.range(None, None).expect("reads").map(|r| r.expect("a row").value).collect();
    assert_eq!(rows, [[2, 1]]);
    drop(then);
    drop(index);
    db.close().expect("closes");
    let db = open(OpenAs::Open);
    let index = db.index("by_group").expect("is there");
    assert_eq!(at(&db, &index, early).expect_err("older").kind(), ErrorKind::IndexNotReady);
    assert_eq!(at(&db, &index, whole).expect_err("unknown").kind(), ErrorKind::IndexNotReady);
    check(&db, "opened again");
}

/// Differences are named, in both directions: made here by a function that is not the one that the
/// index was built with.
#[test]
fn verify_names_what_differs() {
    let (vfs, db) = create();
    db.create_index("by_each", spec("by_each")).expect("builds");
    for n in 0..40_u8 {
        db.put([n], [0, 0, n % 8]).expect("puts");
    }
    let clean = db.verify(VerifyOptions::default()).expect("a report");
    assert_eq!((clean.problems.len(), clean.index_entries), (0, 40));
    db.close().expect("closes");
    let mut other = config();
    other.extractors.insert("each", |key, value| {
        if key[0] == 7 {
            vec![IndexKey::from(99)]
        } else {
            vec![IndexKey::from(u32::from(value[2]))]
        }
    });
    let db =
        Database::open_with_vfs(std::sync::Arc::new(vfs), crate::rows::PATH, other, OpenAs::Open)
            .expect("opens");
    let report = db.verify(VerifyOptions::default()).expect("a report");
    let said: Vec<_> = report.problems.iter().map(|p| p.message.as_str()).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said.iter().all(|m| m.contains("by_each") && m.contains("default")), "{said:?}");
    assert!(said[0].contains("row number 7") && said[1].contains("entry number"), "{said:?}");
}

/// A range delete takes the entries of the rows that it takes, and of no others; what the same commit
/// puts into the range afterwards stays, and what it put there before does not.
#[test]
fn range_deletes_take_the_entries_of_their_rows() {
    let (db, users) = people();
    let spec = IndexSpec::parse(&["json:/city"]).expect("parts");
    let by_city = users.create_index("by_city", spec).expect("builds");
    let before = db.snapshot().expect("a snapshot");

    let mut tx = db.transaction().expect("begins");
    tx.delete_range_in(&users, Some(b"1"), Some(b"3")).expect("deletes");
    tx.put_in(&users, "2", r#"{"city":"London"}"#).expect("puts");
    assert_eq!(row_keys(tx.index_get(&by_city, "London")), ["2", "3"], "its own range delete");
    drop(tx);
    assert_eq!(row_keys(by_city.get("London")), ["1", "3"]);

    let mut batch = WriteBatch::new();
    batch.put_in(&users, "20", r#"{"city":"London"}"#);
    batch.delete_range_in(&users, Some(b"2"), Some(b"4"));
    batch.put_in(&users, "21", r#"{"city":"London"}"#);
    db.write(batch, WriteOptions::default()).expect("writes");
    assert_eq!(row_keys(by_city.get("London")), ["1", "21"]);
    assert!(by_city.get("New York").expect("reads").is_empty());
    assert_eq!(row_keys(before.index(&by_city).expect("reads").get("London")), ["1", "3"]);
    users.delete_range(None, None).expect("deletes");
    assert_eq!(by_city.count(None, None).expect("counts"), 0);
    let report = db.verify(VerifyOptions::default()).expect("a report");
    assert!(report.is_clean(), "{:?}", report.problems);
}
