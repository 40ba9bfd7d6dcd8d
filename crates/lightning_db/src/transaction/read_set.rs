//! The keys and ranges that a transaction has read and that must not have changed when it commits.
//!
//! Of a range only what its iterator has passed counts: from the start to the last key given out,
//! and, read from the back, from the last key given out to the end; all of it once it ended. Gaps
//! between keys are part of that, so that a key which appears there is noticed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::commit::watch::KeyRange;
use crate::sync::Mutex;
use crate::types::{KeyspaceId, Seq};

/// How far a range was read.
#[derive(Debug, Default)]
struct Progress {
    front: Option<Vec<u8>>,
    back: Option<Vec<u8>>,
    ended: bool,
}

/// A range that is being read.
#[derive(Debug)]
pub(super) struct RangeRead {
    keyspace: KeyspaceId,
    start: Vec<u8>,
    end: Option<Vec<u8>>,
    progress: Mutex<Progress>,
}

impl RangeRead {
    /// Notes a key given out from the front.
    pub(super) fn passed_front(&self, key: &[u8]) {
        let mut progress = self.progress.lock();
        let front = progress.front.get_or_insert_default();
        front.clear();
        front.extend_from_slice(key);
    }

    /// Notes a key given out from the back.
    pub(super) fn passed_back(&self, key: &[u8]) {
        let mut progress = self.progress.lock();
        let back = progress.back.get_or_insert_default();
        back.clear();
        back.extend_from_slice(key);
    }

    /// Notes that nothing is left between both ends.
    pub(super) fn ended(&self) {
        self.progress.lock().ended = true;
    }

    fn parts(&self) -> Vec<KeyRange> {
        let progress = self.progress.lock();
        if progress.ended {
            return vec![(self.start.clone(), self.end.clone())];
        }
        let front = progress.front.as_ref().map(|key| {
            let mut past = key.clone();
            past.push(0);
            (self.start.clone(), Some(past))
        });
        let back = progress.back.as_ref().map(|key| (key.clone(), self.end.clone()));
        front.into_iter().chain(back).collect()
    }
}

/// What was read so far.
#[derive(Debug, Default)]
pub(super) struct ReadSet {
    keys: BTreeMap<KeyspaceId, HashMap<Vec<u8>, Seq>>,
    ranges: Vec<Arc<RangeRead>>,
    count: usize,
    bytes: u64,
}

impl ReadSet {
    /// Notes a key that was read at `at`. The first reading counts.
    pub(super) fn add_key(&mut self, keyspace: KeyspaceId, key: &[u8], at: Seq) {
        let keys = self.keys.entry(keyspace).or_default();
        if !keys.contains_key(key) {
            keys.insert(key.to_vec(), at);
            self.count += 1;
            self.bytes += key.len() as u64 + 64;
        }
    }

    /// Begins a range.
    pub(super) fn add_range(
        &mut self,
        keyspace: KeyspaceId,
        start: &[u8],
        end: Option<&[u8]>,
    ) -> Arc<RangeRead> {
        let range = Arc::new(RangeRead {
            keyspace,
            start: start.to_vec(),
            end: end.map(<[u8]>::to_vec),
            progress: Mutex::new(Progress::default()),
        });
        self.ranges.push(Arc::clone(&range));
        self.bytes += (start.len() + end.map_or(0, <[u8]>::len)) as u64 + 128;
        range
    }

    /// The keys, each with the number it was read at.
    pub(super) fn keys(&self) -> impl Iterator<Item = (KeyspaceId, &[u8], Seq)> {
        self.keys.iter().flat_map(|(id, k)| k.iter().map(move |(k, s)| (*id, k.as_slice(), *s)))
    }

    /// How many keys.
    pub(super) fn key_count(&self) -> usize {
        self.count
    }

    /// The ranges, as far as they were read.
    pub(super) fn ranges(&self) -> Vec<(KeyspaceId, KeyRange)> {
        self.ranges
            .iter()
            .flat_map(|r| r.parts().into_iter().map(|part| (r.keyspace, part)))
            .collect()
    }

    /// Bytes held, overhead included.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}
