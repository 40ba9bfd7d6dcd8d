//! What a commit that is being validated has read: keys and ranges, watched while it validates
//! against older commits outside the commit section. Every commit meanwhile, inside the section,
//! marks the watches that it touches; so validation inside is one look at the mark, however much
//! was read.

use std::collections::BTreeMap;

use crate::commit::batch::{Operations, RangeDelete, Write};
use crate::ranges::is_before;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::types::KeyspaceId;

/// A range of keys: `start <= key < end`.
pub type KeyRange = (Vec<u8>, Option<Vec<u8>>);

#[derive(Debug, Default)]
struct Space {
    /// Sorted.
    keys: Vec<Vec<u8>>,
    /// Sorted, without overlaps.
    ranges: Vec<KeyRange>,
}

/// Keys and ranges that are watched.
#[derive(Debug, Default)]
pub struct Watch {
    spaces: BTreeMap<KeyspaceId, Space>,
    hit: AtomicBool,
}

impl Watch {
    /// A watch over keys and ranges, in any order.
    pub fn new(
        keys: impl IntoIterator<Item = (KeyspaceId, Vec<u8>)>,
        ranges: impl IntoIterator<Item = (KeyspaceId, KeyRange)>,
    ) -> Self {
        let mut spaces: BTreeMap<KeyspaceId, Space> = BTreeMap::new();
        for (keyspace, key) in keys {
            spaces.entry(keyspace).or_default().keys.push(key);
        }
        for (keyspace, range) in ranges {
            spaces.entry(keyspace).or_default().ranges.push(range);
        }
        for space in spaces.values_mut() {
            space.keys.sort_unstable();
            space.ranges = join(std::mem::take(&mut space.ranges));
        }
        Self { spaces, hit: AtomicBool::new(false) }
    }

    /// The keyspaces that anything is watched in.
    pub fn keyspaces(&self) -> impl Iterator<Item = KeyspaceId> {
        self.spaces.keys().copied()
    }

    /// The watched ranges, without overlaps.
    pub fn ranges(&self) -> impl Iterator<Item = (KeyspaceId, &KeyRange)> {
        self.spaces.iter().flat_map(|(id, s)| s.ranges.iter().map(move |r| (*id, r)))
    }

    /// Marks the watch if a commit of `body` touches it.
    pub fn note(&self, body: &[u8]) {
        if self.is_hit() {
            return;
        }
        let hit = Operations::new(body).flatten().any(|part| match part {
            Write::Entry(op) => self.covers(op.keyspace, op.key),
            Write::DeleteRange(range) => self.reaches(&range),
        });
        if hit {
            self.hit.store(true, Ordering::Release);
        }
    }

    /// Marks the watch if it watches anything from `first` to `last`.
    pub fn note_span(&self, keyspace: KeyspaceId, first: &[u8], last: &[u8]) {
        let Some(space) = self.spaces.get(&keyspace) else { return };
        let key = space.keys.partition_point(|k| k.as_slice() < first);
        let range = |(start, end): &KeyRange| {
            start.as_slice() <= last && end.as_ref().is_none_or(|e| first < e.as_slice())
        };
        if space.keys.get(key).is_some_and(|k| k.as_slice() <= last)
            || space.ranges.iter().any(range)
        {
            self.hit.store(true, Ordering::Release);
        }
    }

    fn covers(&self, keyspace: KeyspaceId, key: &[u8]) -> bool {
        let Some(space) = self.spaces.get(&keyspace) else { return false };
        if space.keys.binary_search_by(|k| k.as_slice().cmp(key)).is_ok() {
            return true;
        }
        let after = space.ranges.partition_point(|(start, _)| start.as_slice() <= key);
        after > 0 && space.ranges[after - 1].1.as_ref().is_none_or(|e| key < e.as_slice())
    }

    /// Whether any key or range in `range` is watched.
    fn reaches(&self, range: &RangeDelete<'_>) -> bool {
        let Some(space) = self.spaces.get(&range.keyspace) else { return false };
        let first = space.keys.partition_point(|k| k.as_slice() < range.start);
        if space.keys.get(first).is_some_and(|k| is_before(k, range.end)) {
            return true;
        }
        let first =
            space.ranges.partition_point(|(_, end)| !is_before(range.start, end.as_deref()));
        space.ranges.get(first).is_some_and(|(start, _)| is_before(start, range.end))
    }

    /// Whether a commit touched it.
    pub fn is_hit(&self) -> bool {
        self.hit.load(Ordering::Acquire)
    }
}

/// Sorts ranges and joins those that overlap or meet.
fn join(mut ranges: Vec<KeyRange>) -> Vec<KeyRange> {
    ranges.retain(|(start, end)| end.as_ref().is_none_or(|e| start < e));
    ranges.sort_unstable();
    let mut joined: Vec<KeyRange> = Vec::with_capacity(ranges.len());
    for (start, end) in ranges {
        if let Some((_, last)) = joined.last_mut()
            && last.as_ref().is_none_or(|l| *l >= start)
        {
            if let Some(l) = last {
                match end {
                    None => *last = None,
                    Some(e) if e > *l => *last = Some(e),
                    Some(_) => {}
                }
            }
            continue;
        }
        joined.push((start, end));
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::batch::{Operation, encode, encode_range};
    use crate::types::{Entry, EntryValue};

    #[test]
    fn a_watch_is_hit_by_exactly_what_it_covers() {
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..5000 {
            let key = |rng: &mut fastrand::Rng| vec![b'a' + rng.u8(0..4); rng.usize(1..3)];
            let keys: Vec<_> = (0..rng.usize(0..3)).map(|_| key(&mut rng)).collect();
            let ranges: Vec<KeyRange> = (0..rng.usize(0..4))
                .map(|_| (key(&mut rng), rng.bool().then(|| key(&mut rng))))
                .collect();
            let all = ranges.iter().cloned().map(|r| (KeyspaceId(1), r));
            let watch = Watch::new(keys.iter().cloned().map(|k| (KeyspaceId(1), k)), all);
            let probe = key(&mut rng);
            let keyspace = KeyspaceId(rng.u32(1..3));
            let mut body = Vec::new();
            encode(
                &mut body,
                &Operation { keyspace, key: &probe, entry: Entry::lasting(EntryValue::Tombstone) },
            );
            let covers = |k: &[u8], range: &KeyRange| {
                range.0.as_slice() <= k && is_before(k, range.1.as_deref())
            };
            let empty = |r: &KeyRange| r.1.as_ref().is_some_and(|e| *e <= r.0);
            let deleted: KeyRange = (key(&mut rng), rng.bool().then(|| key(&mut rng)));
            if rng.bool() && !empty(&deleted) {
                let (start, end) = (&deleted.0[..], deleted.1.as_deref());
                let all = ranges.iter().cloned().map(|r| (KeyspaceId(1), r));
                let watch = Watch::new(keys.iter().cloned().map(|k| (KeyspaceId(1), k)), all);
                let mut body = Vec::new();
                encode_range(&mut body, &RangeDelete { keyspace, start, end });
                watch.note(&body);
                let meets = |r: &KeyRange| {
                    !empty(r) && is_before(&r.0, end) && is_before(start, r.1.as_deref())
                };
                let expected = keyspace == KeyspaceId(1)
                    && (keys.iter().any(|k| covers(k, &deleted)) || ranges.iter().any(meets));
                assert_eq!(watch.is_hit(), expected, "{keys:?} {ranges:?} {deleted:?}");
            }
            watch.note(&body);
            let inside = |(s, e): &KeyRange| *s <= probe && e.as_ref().is_none_or(|e| probe < *e);
            let expected =
                keyspace == KeyspaceId(1) && (keys.contains(&probe) || ranges.iter().any(inside));
            assert_eq!(watch.is_hit(), expected, "{keys:?} {ranges:?} {probe:?}");
        }
    }
}
