//! The last range deletes, for the row cache: each of its buckets takes out what they cover when it is
//! next looked at, so that a range delete costs the same however many rows there are.
//!
//! 1. A bucket that was last written to before the newest range delete is *behind*. Nothing is read from
//!    it, or put into it, before it has [caught up](RecentRanges::judge).
//! 2. Only so many range deletes are kept; of a bucket that is further behind every row goes.
//! 3. All range deletes of a commit are here before its number is `newest`.
//!
//! Threads: any. The latch is taken inside a bucket's.

use std::collections::VecDeque;

use crate::ranges::is_before;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::types::{KeyspaceId, Seq};

/// How many are kept.
const KEPT: usize = 64;

#[derive(Debug)]
struct Recent {
    seq: Seq,
    keyspace: KeyspaceId,
    start: Box<[u8]>,
    end: Option<Box<[u8]>>,
}

#[derive(Debug, Default)]
struct Kept {
    recent: VecDeque<Recent>,
    /// The number of the last one that is not kept any more.
    forgotten: Seq,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct RecentRanges {
    newest: AtomicU64,
    kept: Mutex<Kept>,
}

impl RecentRanges {
    /// The number of the newest range delete. Asked with each read: a flag test where there was none.
    #[inline]
    pub(super) fn newest(&self) -> Seq {
        Seq(self.newest.load(Ordering::Acquire))
    }

    /// Notes those of commit `seq`, inside the commit section, before it can be seen.
    pub(super) fn note<'a>(
        &self,
        ranges: impl Iterator<Item = (KeyspaceId, &'a [u8], Option<&'a [u8]>)>,
        seq: Seq,
    ) {
        let mut kept = self.kept.lock();
        for (keyspace, start, end) in ranges {
            if kept.recent.len() == KEPT {
                kept.forgotten = kept.recent.pop_front().map_or(Seq(0), |r| r.seq);
            }
            kept.recent.push_back(Recent {
                seq,
                keyspace,
                start: start.into(),
                end: end.map(Into::into),
            });
        }
        self.newest.store(seq.0, Ordering::Release);
    }

    /// A judge of rows that were right at `since`: whether a range delete after that may cover a key.
    pub(super) fn judge<R>(
        &self,
        since: Seq,
        act: impl FnOnce(&dyn Fn(KeyspaceId, &[u8]) -> bool) -> R,
    ) -> R {
        let kept = self.kept.lock();
        let all = since < kept.forgotten;
        act(&|keyspace, key| {
            all || kept.recent.iter().any(|r| {
                r.seq > since
                    && r.keyspace == keyspace
                    && *r.start <= *key
                    && is_before(key, r.end.as_deref())
            })
        })
    }
}
