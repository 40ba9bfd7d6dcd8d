//! Holds on blob segments. Values go to a segment that all writers share, and what others wrote there may
//! be named and cleaned away at any time, while what refers to a value at hand cannot be seen yet.
//!
//! 1. A hold is taken on the active segment before a value is written to it, and released after the entry
//!    that refers to the value is in a memtable or a version.
//! 2. Whoever judges segments unused looks at what is named first, then at the holds, then at memtables and
//!    versions. A segment that is named takes no more values: so each of them is seen in its hold or later.
//! 3. Nobody waits for a hold: its owner may wait for locks that others have.
//!
//! The holds of all are behind one latch; a [`BlobPin`] is of one thread.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::error::Result;
use crate::segment::BlobPages;
use crate::store::blobs::BlobStore;
use crate::sync::Mutex;
use crate::types::{BlobRef, SegmentId};

/// How many hold each segment.
#[derive(Debug, Default)]
pub(super) struct Holds(Mutex<BTreeMap<SegmentId, usize>>);

impl Holds {
    /// The segments that somebody holds.
    pub(super) fn ids(&self) -> BTreeSet<SegmentId> {
        self.0.lock().keys().copied().collect()
    }

    fn add(&self, id: SegmentId) {
        *self.0.lock().entry(id).or_default() += 1;
    }

    fn remove(&self, ids: &BTreeSet<SegmentId>) {
        let mut holds = self.0.lock();
        for id in ids {
            if let Some(count) = holds.get_mut(id) {
                *count -= 1;
                if *count == 0 {
                    holds.remove(id);
                }
            }
        }
    }
}

/// Writes values, and holds the segments that it wrote to until it drops: after what refers to the values
/// can be seen.
#[derive(Debug)]
pub struct BlobPin<'a> {
    store: &'a BlobStore,
    holds: &'a Holds,
    held: RefCell<BTreeSet<SegmentId>>,
}

impl<'a> BlobPin<'a> {
    pub(super) fn new(store: &'a BlobStore, holds: &'a Holds) -> Self {
        Self { store, holds, held: RefCell::default() }
    }

    /// Writes a value; its bytes are with the system when this returns, durable after
    /// [`BlobStore::sync`].
    pub fn put(&self, value: &[u8]) -> Result<BlobRef> {
        self.store.put(value, |id| self.hold(id))
    }

    /// Writes a value anew from the pages it has elsewhere, a page in memory at a time.
    pub fn put_pages(&self, pages: BlobPages) -> Result<BlobRef> {
        self.store.put_pages(pages, |id| self.hold(id))
    }

    /// Writes a value anew, away from where it lies.
    pub fn copy(&self, blob: &BlobRef) -> Result<BlobRef> {
        self.put_pages(self.store.pages(blob)?)
    }

    fn hold(&self, id: SegmentId) {
        if self.held.borrow_mut().insert(id) {
            self.holds.add(id);
        }
    }
}

impl Drop for BlobPin<'_> {
    fn drop(&mut self) {
        let held = self.held.get_mut();
        if !held.is_empty() {
            self.holds.remove(held);
        }
    }
}
