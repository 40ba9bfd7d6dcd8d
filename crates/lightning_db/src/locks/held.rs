//! The locks that are held: rows in an ordered map by key, ranges in a list, by keyspace; and what
//! each owner holds, so that it can be given back at once.
//!
//! 1. At most one owner holds a row exclusively, and then nobody else holds it.
//! 2. `by_owner` names exactly what `spaces` holds.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use super::owner::Owner;
use super::request::{LockMode, Request, Target};
use crate::types::KeyspaceId;

#[derive(Debug, Default)]
struct Space {
    rows: BTreeMap<Vec<u8>, Vec<(Arc<Owner>, LockMode)>>,
    ranges: Vec<Request>,
}

/// All held locks.
#[derive(Debug, Default)]
pub(super) struct Held {
    spaces: BTreeMap<KeyspaceId, Space>,
    by_owner: HashMap<u64, Vec<(KeyspaceId, Target)>>,
}

impl Held {
    /// The owners whose locks conflict with `request`, until `visit` says that it knows enough.
    fn conflicting(&self, request: &Request, mut visit: impl FnMut(&Arc<Owner>) -> bool) {
        let Some(space) = self.spaces.get(&request.keyspace) else { return };
        let exclusive = request.mode == LockMode::Exclusive;
        let me = request.owner.number;
        let clashes = |(o, m): &&(Arc<Owner>, LockMode)| {
            o.number != me && (exclusive || *m == LockMode::Exclusive)
        };
        match &request.target {
            Target::Row(key) => {
                for (owner, _) in space.rows.get(key).into_iter().flatten().filter(clashes) {
                    if visit(owner) {
                        return;
                    }
                }
            }
            Target::Range(start, end) => {
                if end.as_ref().is_some_and(|e| e <= start) {
                    return;
                }
                let upper = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
                let rows = space.rows.range::<[u8], _>((Bound::Included(start.as_slice()), upper));
                for (owner, _) in rows.flat_map(|(_, holders)| holders).filter(clashes) {
                    if visit(owner) {
                        return;
                    }
                }
            }
        }
        for range in &space.ranges {
            if range.conflicts(request) && visit(&range.owner) {
                return;
            }
        }
    }

    /// The owners whose locks conflict with `request`; some may be named more than once.
    pub(super) fn blockers(&self, request: &Request) -> Vec<Arc<Owner>> {
        let mut found = Vec::new();
        self.conflicting(request, |owner| {
            found.push(Arc::clone(owner));
            false
        });
        found
    }

    /// Whether anything conflicts with `request`.
    pub(super) fn blocks(&self, request: &Request) -> bool {
        let mut found = false;
        self.conflicting(request, |_| {
            found = true;
            true
        });
        found
    }

    /// Whether somebody but `owner` holds anything that forbids writing `key`.
    pub(super) fn forbids_write(&self, owner: u64, keyspace: KeyspaceId, key: &[u8]) -> bool {
        self.spaces.get(&keyspace).is_some_and(|space| {
            let row = space.rows.get(key).is_some_and(|h| h.iter().any(|(o, _)| o.number != owner));
            row || space.ranges.iter().any(|r| r.owner.number != owner && r.target.covers(key))
        })
    }

    /// As [`forbids_write`](Self::forbids_write), for any key of `start <= key < end`.
    pub(super) fn forbids_range(
        &self,
        owner: u64,
        keyspace: KeyspaceId,
        start: &[u8],
        end: Option<&[u8]>,
    ) -> bool {
        self.spaces.get(&keyspace).is_some_and(|space| {
            let upper = end.map_or(Bound::Unbounded, Bound::Excluded);
            let mut rows = space.rows.range::<[u8], _>((Bound::Included(start), upper));
            let row = rows.any(|(_, h)| h.iter().any(|(o, _)| o.number != owner));
            let target = Target::Range(start.to_vec(), end.map(<[u8]>::to_vec));
            let others = |r: &Request| r.owner.number != owner && r.target.overlaps(&target);
            row || space.ranges.iter().any(others)
        })
    }

    /// Whether the owner of `request` holds all that it asks for already.
    pub(super) fn has(&self, request: &Request) -> bool {
        let Some(space) = self.spaces.get(&request.keyspace) else { return false };
        let me = request.owner.number;
        match &request.target {
            Target::Row(key) => {
                let own = space.rows.get(key).and_then(|h| h.iter().find(|(o, _)| o.number == me));
                own.is_some_and(|(_, m)| *m == LockMode::Exclusive || request.mode == *m)
            }
            Target::Range(..) => space.ranges.iter().any(|r| {
                r.owner.number == me && r.target == request.target && r.mode == request.mode
            }),
        }
    }

    /// Whether the owner of `request` holds anything where it asks: then it comes before those who
    /// wait for that.
    pub(super) fn has_some(&self, request: &Request) -> bool {
        let Some(space) = self.spaces.get(&request.keyspace) else { return false };
        let me = request.owner.number;
        let row = |key: &Vec<u8>| {
            space.rows.get(key).is_some_and(|h| h.iter().any(|(o, _)| o.number == me))
        };
        matches!(&request.target, Target::Row(key) if row(key))
            || space
                .ranges
                .iter()
                .any(|r| r.owner.number == me && r.target.overlaps(&request.target))
    }

    /// Adds a lock that conflicts with nothing.
    pub(super) fn add(&mut self, request: &Request) {
        debug_assert!(!self.blocks(request), "a lock is granted against another");
        let space = self.spaces.entry(request.keyspace).or_default();
        match &request.target {
            Target::Row(key) => {
                let holders = space.rows.entry(key.clone()).or_default();
                if let Some((_, mode)) =
                    holders.iter_mut().find(|(o, _)| o.number == request.owner.number)
                {
                    // Held already: made stronger, and named once.
                    if request.mode == LockMode::Exclusive {
                        *mode = LockMode::Exclusive;
                    }
                    return;
                }
                holders.push((Arc::clone(&request.owner), request.mode));
            }
            Target::Range(..) => space.ranges.push(request.clone()),
        }
        self.by_owner
            .entry(request.owner.number)
            .or_default()
            .push((request.keyspace, request.target.clone()));
    }

    /// Gives back all that `owner` holds; tells whether it held anything.
    pub(super) fn remove_all(&mut self, owner: u64) -> bool {
        let Some(targets) = self.by_owner.remove(&owner) else { return false };
        for (keyspace, target) in targets {
            let Some(space) = self.spaces.get_mut(&keyspace) else { continue };
            match target {
                Target::Row(key) => {
                    if let Some(holders) = space.rows.get_mut(&key) {
                        holders.retain(|(o, _)| o.number != owner);
                        if holders.is_empty() {
                            space.rows.remove(&key);
                        }
                    }
                }
                Target::Range(..) => space.ranges.retain(|r| r.owner.number != owner),
            }
            if space.rows.is_empty() && space.ranges.is_empty() {
                self.spaces.remove(&keyspace);
            }
        }
        true
    }

    /// How many owners hold anything.
    pub(super) fn owners(&self) -> usize {
        self.by_owner.len()
    }
}
