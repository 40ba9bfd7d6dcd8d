//! What can be locked, and what conflicts with what: a shared lock with an exclusive one, and two
//! exclusive ones, where their targets have a key in common and their owners differ. A range lock
//! covers keys that do not exist, which is what stops phantoms.

use std::sync::Arc;

use super::owner::Owner;
use crate::types::KeyspaceId;

/// Whether others may hold the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// Others may share it.
    Shared,
    /// Nobody else.
    Exclusive,
}

/// The keys that a lock is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// One key.
    Row(Vec<u8>),
    /// `start <= key < end`; without an end, to the last key there can be.
    Range(Vec<u8>, Option<Vec<u8>>),
}

impl Target {
    /// Whether it has a key in common with `other`.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Row(a), Self::Row(b)) => a == b,
            (Self::Row(key), range) | (range, Self::Row(key)) => range.covers(key),
            (Self::Range(a, a_end), Self::Range(b, b_end)) => {
                a_end.as_ref().is_none_or(|e| b < e) && b_end.as_ref().is_none_or(|e| a < e)
            }
        }
    }

    /// Whether `key` is in it.
    pub fn covers(&self, key: &[u8]) -> bool {
        match self {
            Self::Row(k) => k == key,
            Self::Range(start, end) => {
                start.as_slice() <= key && end.as_ref().is_none_or(|e| key < e.as_slice())
            }
        }
    }
}

/// A lock asked for, or held.
#[derive(Debug, Clone)]
pub struct Request {
    /// By whom.
    pub owner: Arc<Owner>,
    /// Where.
    pub keyspace: KeyspaceId,
    /// For what.
    pub target: Target,
    /// How.
    pub mode: LockMode,
}

impl Request {
    /// Whether both cannot be held at once.
    pub fn conflicts(&self, other: &Self) -> bool {
        self.owner.number != other.owner.number
            && self.keyspace == other.keyspace
            && (self.mode == LockMode::Exclusive || other.mode == LockMode::Exclusive)
            && self.target.overlaps(&other.target)
    }
}
