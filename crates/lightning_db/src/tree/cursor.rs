//! Movement over all versions of all keys of one partition, in the order key ascending, newest
//! version first; in both directions.
//!
//! 1. A cursor owns what it needs (`'static + Send`): the partition, the pager, the pages it
//!    stands on.
//! 2. Past either end it is invalid; `next` and `prev` leave it so, seeks bring it back.
//! 3. After an error it stays failed: every later movement returns the error again.
//! 4. Moving forward from leaf to leaf, it tells the system which leaves come next.
//!
//! Used by one thread at a time.

use crate::cache::{PageRef, Pager};
use crate::error::{Error, Result};
use crate::page::leaf::{EntryParts, LeafColumns, LeafView};
use crate::sync::Arc;
use crate::types::{EntryValue, Expiry, SegmentId, Seq, Time};

use super::path::{Path, Source, Target};
#[cfg(test)]
use super::reader::Found;
use super::reader::PartitionReader;

/// How a cursor reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CursorOptions {
    /// Pages that are not in the cache are not put there: for merges, which read everything once.
    pub uncached: bool,
    /// Leaves to ask the system for ahead, once the movement is seen to be sequential; 0: none.
    pub read_ahead: usize,
}

impl Default for CursorOptions {
    fn default() -> Self {
        Self { uncached: false, read_ahead: 8 }
    }
}

/// Leaf after leaf, before read-ahead begins.
const SEQUENTIAL_LEAVES: usize = 2;
/// Leaves no further apart than this are asked for in one call.
const READ_AHEAD_GAP_BYTES: u64 = 64 * 1024;

/// See the module.
pub struct PartitionCursor {
    reader: Arc<PartitionReader>,
    pager: Pager,
    options: CursorOptions,
    path: Path,
    leaf: Option<PageRef>,
    at: usize,
    len: usize,
    columns: LeafColumns,
    /// Of the entry at `at`.
    parts: EntryParts,
    /// Whether every entry of the leaf is settled, or all are of the commit that ingested them.
    settled: bool,
    /// Whether any entry of the leaf expires.
    expires: bool,
    /// Leaves entered one after the other by `next`.
    run: usize,
    /// Leaves that were asked for ahead and not entered yet.
    ahead: usize,
    failed: Option<Error>,
}

impl PartitionCursor {
    /// A cursor that stands nowhere yet.
    pub fn new(reader: Arc<PartitionReader>, pager: Pager, options: CursorOptions) -> Self {
        Self {
            reader,
            pager,
            options,
            path: Path::default(),
            leaf: None,
            at: 0,
            len: 0,
            columns: LeafColumns::default(),
            parts: EntryParts::default(),
            settled: false,
            expires: false,
            run: 0,
            ahead: 0,
            failed: None,
        }
    }

    /// Whether it stands at an entry.
    #[inline]
    pub fn valid(&self) -> bool {
        self.leaf.is_some()
    }

    /// The key. Panics where the cursor is not [`valid`](Self::valid).
    #[inline]
    pub fn key(&self) -> &[u8] {
        self.parts.key(&self.page().bytes)
    }

    /// The number. Panics where the cursor is not [`valid`](Self::valid).
    #[inline]
    pub fn seq(&self) -> Seq {
        if self.settled { self.reader.meta().ingested } else { self.view().seq(self.at) }
    }

    /// The value. Panics where the cursor is not [`valid`](Self::valid).
    #[inline]
    pub fn value(&self) -> EntryValue<'_> {
        self.parts.value(&self.page().bytes)
    }

    /// Whether it stands at a tombstone. Panics where the cursor is not [`valid`](Self::valid).
    #[inline]
    pub fn is_tombstone(&self) -> bool {
        assert!(self.valid(), "callers ask a valid cursor only");
        self.parts.is_tombstone()
    }

    /// When the entry expires. Panics where the cursor is not [`valid`](Self::valid).
    #[inline]
    pub fn expiry(&self) -> Expiry {
        if self.expires { self.view().expiry(self.at) } else { Expiry::NEVER }
    }

    /// Whether the key has no value at `now`: a tombstone, or expired. Panics where the cursor is not
    /// [`valid`](Self::valid).
    #[inline]
    pub fn is_gone(&self, now: Time) -> bool {
        self.is_tombstone() || (self.expires && self.view().expiry(self.at).is_over(now))
    }

    /// The leaf it stands in, and where, if all there is settled and lasting: then each key has one version, which
    /// everybody sees who sees the one it stands on. (The first key may have newer versions in the leaf
    /// before.)
    #[inline]
    pub fn settled_leaf(&self) -> Option<(&PageRef, LeafColumns, usize)> {
        if !self.settled || self.expires {
            return None;
        }
        self.leaf.as_ref().map(|leaf| (leaf, self.columns, self.at))
    }

    /// Stands at another entry of the leaf at hand.
    pub fn move_within_leaf(&mut self, at: usize) {
        debug_assert!(at < self.len, "an entry of the leaf");
        self.stand(at);
    }

    /// Stands at an entry of the leaf at hand.
    #[inline]
    fn stand(&mut self, at: usize) {
        self.at = at;
        self.parts = self.columns.parts(&self.page().bytes, at);
    }

    /// Number and value, holding the page instead of the cursor. Panics where the cursor is not
    /// [`valid`](Self::valid).
    #[cfg(test)]
    pub fn found(&self) -> Found {
        Found::at(self.page(), self.at)
    }

    fn page(&self) -> &PageRef {
        self.leaf.as_ref().expect("callers ask a valid cursor only")
    }

    fn view(&self) -> LeafView<'_> {
        LeafView::new(&self.page().bytes)
    }

    /// Moves to the first entry.
    pub fn first(&mut self) -> Result<()> {
        self.guarded(|c| {
            c.descend(Target::First)?;
            c.settle_forward(0)
        })
    }

    /// Moves to the last entry.
    pub fn last(&mut self) -> Result<()> {
        self.guarded(|c| {
            c.descend(Target::Last)?;
            c.settle_backward(c.len)
        })
    }

    /// Moves to the first entry with a key of at least `key`: to that key's newest version.
    pub fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.guarded(|c| {
            if !c.is_inside(key) {
                c.descend(Target::Key(key))?;
            }
            let at = c.view().lower_bound(key);
            c.settle_forward(at)
        })
    }

    /// Moves to the last entry with a key less than `key`: to that key's oldest version.
    pub fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        self.guarded(|c| {
            if !c.is_inside(key) {
                c.descend(Target::Key(key))?;
            }
            let bound = c.view().lower_bound(key);
            c.settle_backward(bound)
        })
    }

    /// Moves to the next entry.
    #[allow(clippy::should_implement_trait)] // fallible, and lends: not an iterator's next
    pub fn next(&mut self) -> Result<()> {
        if self.at + 1 < self.len {
            self.stand(self.at + 1);
            return Ok(());
        }
        self.guarded(|c| if c.valid() { c.settle_forward(c.at + 1) } else { Ok(()) })
    }

    /// Moves to the entry before.
    pub fn prev(&mut self) -> Result<()> {
        self.guarded(|c| {
            if c.valid() {
                let at = c.at;
                c.settle_backward(at)?;
            }
            Ok(())
        })
    }

    /// Runs a movement; the first error sticks.
    fn guarded(&mut self, movement: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        if let Some(e) = &self.failed {
            return Err(repeat(e));
        }
        let result = movement(self);
        if let Err(e) = &result {
            self.failed = Some(repeat(e));
            self.leave();
        }
        result
    }

    fn leave(&mut self) {
        self.leaf = None;
        self.at = 0;
        self.len = 0;
    }

    /// Whether the leaf at hand surely holds the place of `key`: between its first and last key.
    /// (At its first key there could be newer versions in the leaf before.)
    fn is_inside(&self, key: &[u8]) -> bool {
        if self.len == 0 {
            return false;
        }
        let view = self.view();
        view.key(0) < key && key <= view.key(self.len - 1)
    }

    fn source(&self) -> Source<'_> {
        Source { reader: &self.reader, pager: &self.pager, uncached: self.options.uncached }
    }

    fn descend(&mut self, target: Target<'_>) -> Result<()> {
        self.run = 0;
        self.ahead = 0;
        let mut path = std::mem::take(&mut self.path);
        let found = path.descend(self.source(), target);
        self.path = path;
        found?;
        self.enter()
    }

    /// Stands at the first entry of the leaf that the path leads to.
    fn enter(&mut self) -> Result<()> {
        let page = self.path.leaf_page(self.source())?;
        if self.run == 0 {
            // Where no step before has asked for it. A search looks here and there in it.
            page.prefetch();
        }
        let view = LeafView::new(&page.bytes);
        (self.len, self.settled) = (view.len(), view.is_settled());
        self.expires = view.has_expiries();
        self.columns = view.columns();
        self.leaf = Some(page);
        if self.len == 0 {
            let address = self.path.leaf_address(&self.reader);
            let file = self.reader.segment(&address)?.path();
            return Err(Error::corrupt(file, address.offset, "a leaf has no entry"));
        }
        self.stand(0);
        Ok(())
    }

    /// Stands at the entry `at`; where that is behind the last one, goes on to the next leaf.
    fn settle_forward(&mut self, at: usize) -> Result<()> {
        if at < self.len {
            self.stand(at);
            return Ok(());
        }
        let mut path = std::mem::take(&mut self.path);
        let next = path.next(self.source());
        self.path = path;
        if next? {
            self.run += 1;
            self.ahead = self.ahead.saturating_sub(1);
            self.read_ahead();
            self.enter()?;
            self.path.warm_next();
            return Ok(());
        }
        self.leave();
        Ok(())
    }

    /// Moves to the entry before `bound` of the leaf at hand, or to the last of the leaf before.
    fn settle_backward(&mut self, bound: usize) -> Result<()> {
        self.run = 0;
        if let Some(at) = bound.checked_sub(1) {
            self.stand(at);
            return Ok(());
        }
        let mut path = std::mem::take(&mut self.path);
        let before = path.prev(self.source());
        self.path = path;
        if before? {
            self.enter()?;
            self.path.warm_previous();
            self.stand(self.len - 1);
        } else {
            self.leave();
        }
        Ok(())
    }

    /// Asks for the leaves that follow under the same parent, in as few calls as their places allow.
    /// Asks again when half of what was asked for has been entered.
    fn read_ahead(&mut self) {
        let window = self.options.read_ahead;
        if window == 0 || self.run < SEQUENTIAL_LEAVES || self.ahead > window / 2 {
            return;
        }
        let Some((step, at, len)) = self.path.parent() else { return };
        let from = at + 1 + self.ahead;
        let to = (at + 1 + window).min(len);
        if from >= to {
            return;
        }
        let view = step.view();
        let mut range: Option<(SegmentId, u64, u64)> = None;
        for i in from..to {
            let leaf = view.child(i).address;
            let end = leaf.offset + u64::from(leaf.stored_bytes);
            range = match range {
                Some((segment, start, so_far))
                    if segment == leaf.segment
                        && leaf.offset >= so_far
                        && leaf.offset - so_far <= READ_AHEAD_GAP_BYTES =>
                {
                    Some((segment, start, end))
                }
                other => {
                    self.prefetch(other);
                    Some((leaf.segment, leaf.offset, end))
                }
            };
        }
        self.prefetch(range);
        self.ahead = to - at - 1;
    }

    fn prefetch(&self, range: Option<(SegmentId, u64, u64)>) {
        if let Some((id, start, end)) = range
            && let Some(segment) = self.reader.segments().iter().find(|s| s.id() == id)
        {
            segment.prefetch(start, end - start);
        }
    }
}

/// The same error once more; its cause is told in the message.
fn repeat(e: &Error) -> Error {
    let message = match std::error::Error::source(e) {
        Some(cause) => format!("{}: {cause}", e.message()),
        None => e.message().to_owned(),
    };
    let mut again = Error::new(e.kind(), message);
    if let Some(file) = e.file() {
        again = again.in_file(file);
    }
    if let Some(offset) = e.offset() {
        again = again.at_offset(offset);
    }
    again
}

impl std::fmt::Debug for PartitionCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PartitionCursor").finish_non_exhaustive()
    }
}
