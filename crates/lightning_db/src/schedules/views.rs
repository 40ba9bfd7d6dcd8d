//! The registry of views and the retention rule, against merges that raise the floor: the real
//! ones, over a list of versions in the place of files.

use std::sync::Arc;
use std::time::Duration;

use super::explore::explore;
use crate::store::retention::{Fate, Retention};
use crate::store::view::ViewRegistry;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{ArcSwap, thread};
use crate::types::Seq;

/// What there is of one key, newest first, and who may look at it.
struct Store {
    versions: ArcSwap<Vec<Seq>>,
    visible: AtomicU64,
    views: Arc<ViewRegistry>,
}

impl Store {
    fn merge(&self) {
        let floor = Seq(self.visible.load(Ordering::Acquire));
        let rule = Retention::new(floor, &self.views.raise_floor(floor));
        let before = self.versions.load_full();
        let mut key = rule.key();
        let mut after = Vec::new();
        for seq in before.iter() {
            if let Fate::Keep { seq, .. } = key.judge(*seq, false, true) {
                after.push(seq);
            }
        }
        self.versions.store(Arc::new(after));
    }

    /// Commits 1 to 9 wrote the key; settled versions have number 0.
    fn read(&self, at: Seq) -> Option<Seq> {
        self.versions.load().iter().copied().find(|s| *s <= at)
    }

    fn check(&self, at: Seq) {
        let found = self.read(at).expect("the key was always there");
        assert!(found == at || found == Seq(0), "{found} was read at {at}");
    }
}

/// Commits go on, two merges follow each other, a view begins, reads twice and ends, a call reads
/// between.
fn model() {
    let store = Arc::new(Store {
        versions: ArcSwap::new(Arc::new((1..=9).rev().map(Seq).collect())),
        visible: AtomicU64::new(2),
        views: Arc::new(ViewRegistry::new(Seq(0))),
    });
    // Held all along: without it what a merge leaves is settled, and everybody finds it.
    let old = store.views.register(&AtomicU64::new(1), Duration::ZERO);
    let commits = thread::spawn({
        let store = Arc::clone(&store);
        move || {
            for seq in 3..=5 {
                store.visible.store(seq, Ordering::Release);
            }
        }
    });
    let merges = thread::spawn({
        let store = Arc::clone(&store);
        move || {
            store.merge();
            store.merge();
        }
    });
    let call = thread::spawn({
        let store = Arc::clone(&store);
        move || {
            let view = store.views.enter(&store.visible);
            store.check(view.seq());
        }
    });
    let view = store.views.register(&store.visible, Duration::ZERO);
    store.check(view.seq());
    store.check(view.seq());
    let among = store.views.raise_floor(Seq(0));
    assert!(among.contains(&view.seq()), "{among:?} lacks {}", view.seq());
    drop(view);
    for thread in [commits, merges, call] {
        thread.join().unwrap();
    }
    store.check(old.seq());
    drop(old);
    assert_eq!(store.views.count(), 0);
}

/// Seen to fail when the floor is raised after the views were read, when a view does not look at
/// the floor again, and when the rule keeps nothing for views.
#[test]
fn merges_take_nothing_from_views() {
    explore("merges_take_nothing_from_views", 30_000, model);
}
