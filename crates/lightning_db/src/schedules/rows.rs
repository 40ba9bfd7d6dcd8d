//! The row cache against commits and reads: the real cache, over one cell a key in the place of trees.
//!
//! Seen to fail when a commit notes its write only after it can be seen, when an offer does not look
//! at the bucket's last write, and when a table is made outside the section. And with range deletes: when
//! one is noted only after it can be seen, and when an offer does not make its bucket catch up first. And
//! where commits renew rows: when a read does not ask whether the bucket's last write is visible.

use std::sync::Arc;

use super::explore::explore;
use crate::cache::{MIN_ROW_BUDGET_BYTES, RowCache, row_value};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, thread};
use crate::types::{KeyspaceId, Seq, hash_key};

const KEYSPACE: KeyspaceId = KeyspaceId(0);
const KEY: &[u8] = b"key";

struct Store {
    /// The section: the last commit. What it wrote is in `versions` already.
    section: Mutex<u64>,
    /// Commits to the key, ascending; each wrote its own number, or deleted a range that the key is in.
    versions: Mutex<Vec<(u64, bool)>>,
    visible: AtomicU64,
    rows: RowCache,
}

impl Store {
    fn commit(&self, deletes: bool) -> u64 {
        let seq = {
            let mut last = self.section.lock();
            *last += 1;
            self.versions.lock().push((*last, deletes));
            if deletes && self.rows.has_table() {
                let range = (KEYSPACE, &b"k"[..], Some(&b"l"[..]));
                self.rows.note_ranges([range].into_iter(), Seq(*last));
            } else if !deletes {
                self.rows.note_write(KEYSPACE, KEY, Seq(*last), Some(&last.to_be_bytes()));
            }
            *last
        };
        // Others may be made durable, and visible, first.
        self.visible.fetch_max(seq, Ordering::AcqRel);
        seq
    }

    fn read(&self) -> u64 {
        if self.rows.wants_table() {
            let last = self.section.lock();
            self.rows.enable(Seq(*last));
        }
        let hash = hash_key(KEY);
        let visible = || Seq(self.visible.load(Ordering::Acquire));
        if let Some(row) = self.rows.get(KEYSPACE, KEY, hash, visible) {
            let found = u64::from_be_bytes(row_value(&row).try_into().expect("eight bytes"));
            assert!(found <= visible().0, "{found} is read before it is visible");
            return found;
        }
        let at = self.visible.load(Ordering::Acquire);
        let found = self.versions.lock().iter().copied().rfind(|(seq, _)| *seq <= at);
        let (found, deleted) = found.expect("the first commit is visible");
        if deleted {
            return found;
        }
        self.rows.offer(KEYSPACE, KEY, hash, Seq(at), &found.to_be_bytes());
        found
    }
}

fn model(with_ranges: bool) {
    let store = Arc::new(Store {
        section: Mutex::new(1),
        versions: Mutex::new(vec![(1, false)]),
        visible: AtomicU64::new(1),
        rows: RowCache::new(MIN_ROW_BUDGET_BYTES),
    });
    let writers: Vec<_> = (0..2)
        .map(|i| {
            let store = Arc::clone(&store);
            thread::spawn(move || {
                let seq = store.commit(with_ranges && i == 0);
                let found = store.read();
                assert!(found >= seq, "{found} read after {seq} was acknowledged");
            })
        })
        .collect();
    let reader = thread::spawn({
        let store = Arc::clone(&store);
        move || {
            let mut before = 0;
            for _ in 0..4 {
                let found = store.read();
                assert!(found >= before, "{found} after {before}");
                before = found;
            }
        }
    });
    let least = store.visible.load(Ordering::Acquire);
    assert!(store.read() >= least);
    for thread in writers.into_iter().chain([reader]) {
        thread.join().unwrap();
    }
    for _ in 0..3 {
        assert_eq!(store.read(), 3);
    }
}

#[test]
fn rows_are_never_stale() {
    explore("rows_are_never_stale", 20_000, || model(false));
}

#[test]
fn rows_under_a_range_delete_are_never_stale() {
    explore("rows_under_a_range_delete_are_never_stale", 20_000, || model(true));
}
