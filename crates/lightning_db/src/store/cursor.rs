//! Ordered reading of a keyspace at one number: sources merged, newest wins, tombstones and
//! what has expired left out.
//!
//! 1. Going forward, every source stands at the first key past the cursor's, or on the cursor's
//!    own key; going backward, the mirror image. Turning round seeks every source anew.
//! 2. Sources are ordered newest first, so that of equal keys the lowest index wins.
//! 3. Where one source alone has the next keys, in one leaf, and range deletes hide none of them, a
//!    [`Window`] is stepped over instead of the sources. While there is one, `current` stands somewhere in that leaf, at or behind (in the
//!    direction of movement) no entry that the window has passed; all else holds as it did when it was
//!    opened. Whatever is not a step inside closes it first.
//! 4. An error leaves the cursor failed: each later call gives the same error.
//!
//! A cursor owns its version and pages: `'static + Send`.

use std::sync::Arc;

use crate::cache::Pager;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::KeyInterval;
use crate::memtable::MemtableCursor;
use crate::ranges::RangeMap;
use crate::store::blobs::BlobStore;
use crate::store::fold;
use crate::store::hidden::{Cover, Hidden};
use crate::store::keyspace::KeyspaceStore;
use crate::store::source::{RowCursor, Source, VisibleSource};
use crate::store::value::Value;
use crate::store::version::{Row, Version};
use crate::store::window::Window;
use crate::tree::CursorOptions;
use crate::types::{EntryValue, Expiry, Seq, Time};

/// Steps that one of several sources has won in a row before a window is tried for it: what it costs,
/// some comparisons, is little beside them.
const WINDOW_STREAK: u32 = 3;
/// Steps over hidden keys before the end of what is hidden is sought: mostly little is.
const STEPS_BEFORE_LEAP: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Direction {
    Forward,
    Backward,
}

/// A position among the keys that a view sees.
#[derive(Debug)]
pub struct MergedCursor {
    sources: Vec<VisibleSource>,
    direction: Direction,
    current: Option<usize>,
    /// What range deletes hide; `None` where there are none.
    hidden: Option<Box<Hidden>>,
    window: Option<Window>,
    /// Steps that `current` has won in a row.
    streak: u32,
    key: Vec<u8>,
    failed: Option<(ErrorKind, String)>,
    blobs: Arc<BlobStore>,
    /// For keys that were merged into.
    keyspace: Arc<KeyspaceStore>,
    pager: Pager,
    at: Seq,
    now: Time,
    /// Keeps blob segments alive (see `BlobStore::retire`).
    version: Arc<Version>,
}

impl MergedCursor {
    /// A cursor over the current version of `keyspace` at `at`, judging by `now`, standing nowhere yet.
    pub fn new(
        keyspace: &Arc<KeyspaceStore>,
        at: Seq,
        now: Time,
        pager: &Pager,
        blobs: Arc<BlobStore>,
        read_ahead: usize,
    ) -> Self {
        let version = keyspace.pin();
        let options = CursorOptions { uncached: false, read_ahead };
        let mut sources = Vec::with_capacity(2 + version.sealed.len() + version.runs.len());
        let mut hidden = Hidden::new(at);
        for memtable in version.memtables().filter(|m| !m.is_empty()) {
            // What is inserted later is past the number.
            let own = (memtable.entries() > 0).then_some(sources.len());
            if own.is_some() {
                let cursor = MemtableCursor::new(Arc::clone(memtable));
                sources.push(VisibleSource::new(Source::Memtable(cursor), at, now));
            }
            if let Some(ranges) = memtable.ranges_at(at) {
                hidden.add_memtable(own, sources.len(), ranges);
            }
        }
        let add = |sources: &mut Vec<VisibleSource>, row: &Row, consumed: &[KeyInterval]| {
            if !row.partitions.is_empty() {
                let cursor = RowCursor::new(row.seen_at(at), consumed, pager.clone(), options);
                sources.push(VisibleSource::new(Source::Row(Box::new(cursor)), at, now));
            }
        };
        for run in &version.runs {
            add(&mut sources, &run.row, &run.consumed);
            hidden.add_run(sources.len(), &run.ranges.active);
        }
        add(&mut sources, &version.base, &[]);
        Self {
            sources,
            direction: Direction::Forward,
            current: None,
            hidden: (!hidden.is_empty()).then(|| Box::new(hidden)),
            window: None,
            streak: 0,
            key: Vec::new(),
            failed: None,
            blobs,
            keyspace: Arc::clone(keyspace),
            pager: pager.clone(),
            at,
            now,
            version,
        }
    }

    /// Hides the keys that the transaction which reads has deleted by ranges.
    #[must_use]
    pub fn hiding(mut self, at: Seq, ranges: Option<Arc<RangeMap>>) -> Self {
        if let Some(ranges) = ranges {
            self.hidden.get_or_insert_with(|| Box::new(Hidden::new(at))).add_own(ranges);
        }
        self
    }

    /// The key it stands on.
    #[inline]
    pub fn key(&self) -> Option<&[u8]> {
        match &self.window {
            Some(window) => Some(window.key()),
            None => Some(self.sources[self.current?].key()),
        }
    }

    /// The value it stands on: borrowed from its page, or `None` for one that lies in blob pages, or
    /// is to be merged (see [`value`](Self::value)).
    #[inline]
    pub fn inline_value(&self) -> Option<&[u8]> {
        if let Some(window) = &self.window {
            return window.inline_value();
        }
        match self.sources[self.current?].value() {
            EntryValue::Inline(v) => Some(v),
            EntryValue::Blob(_) | EntryValue::Tombstone | EntryValue::Operands(_) => None,
        }
    }

    /// When the entry it stands on expires.
    pub fn expiry(&self) -> Option<Expiry> {
        Some(self.sources[self.current?].entry().expiry)
    }

    /// The value it stands on, copied, read from its blob pages, or merged.
    pub fn value(&mut self) -> Result<Option<Vec<u8>>> {
        self.guard()?;
        if let Some(value) = self.inline_value() {
            return Ok(Some(value.to_vec()));
        }
        Ok(self.distant_value()?.map(Value::into_vec))
    }

    /// The value it stands on, where that is not in its leaf: of blob pages, or merged.
    pub fn distant_value(&mut self) -> Result<Option<Value>> {
        self.guard()?;
        let Some(i) = self.current else { return Ok(None) };
        let entry = match &self.window {
            Some(window) => window.value(),
            None => self.sources[i].value(),
        };
        let value = match entry {
            EntryValue::Inline(_) | EntryValue::Tombstone => return Ok(None),
            EntryValue::Blob(blob) => self.blobs.find(&blob),
            EntryValue::Operands(_) => {
                self.close_window();
                self.folded(i).map(Value::owned)
            }
        };
        value.map(Some).map_err(|e| self.fail(e))
    }

    #[cold]
    fn folded(&self, source: usize) -> Result<Vec<u8>> {
        let key = self.sources[source].key();
        let seen = (self.at, self.now);
        let found = fold::get(&self.keyspace, &self.version, &self.pager, &self.blobs, key, seen)?;
        Ok(found.0)
    }

    /// Leaves the window, if there is one, with its source standing where it stood.
    fn close_window(&mut self) {
        if let Some(window) = self.window.take()
            && let Some(i) = self.current
        {
            self.sources[i].move_within_leaf(window.at());
        }
    }

    /// Opens a window where the next step would be worth one.
    fn open_window(&mut self) {
        let Some(i) = self.current else { return };
        let alone = self.sources.len() == 1;
        if !alone && self.streak < WINDOW_STREAK {
            return;
        }
        let Some(leaf) = self.sources[i].plain_leaf() else { return };
        let others = self.sources.iter().enumerate().filter(|(j, s)| *j != i && s.valid());
        let keys = others.map(|(_, s)| s.key());
        let hidden = self.hidden.as_deref();
        let clear_to = |forward| hidden.and_then(|h| h.clear_to(i, forward));
        let both_ways = alone && hidden.is_none();
        self.window = match self.direction {
            Direction::Forward => {
                Window::forward(leaf, keys.chain(clear_to(true)).min(), both_ways)
            }
            Direction::Backward => Window::backward(leaf, keys.max(), clear_to(false), both_ways),
        };
    }

    fn fail(&mut self, e: Error) -> Error {
        self.failed = Some((e.kind(), e.to_string()));
        self.current = None;
        self.window = None;
        e
    }

    /// The error of the call that failed, if one did.
    pub fn guard(&self) -> Result<()> {
        match &self.failed {
            None => Ok(()),
            Some((kind, message)) => Err(Error::new(*kind, message.clone())),
        }
    }

    fn run(&mut self, step: impl FnOnce(&mut Self) -> Result<()>) -> Result<bool> {
        self.guard()?;
        self.close_window();
        let (before, direction) = (self.current, self.direction);
        match step(self) {
            Ok(()) => {
                let goes_on = self.current == before && self.direction == direction;
                self.streak = if goes_on { self.streak.saturating_add(1) } else { 0 };
                self.open_window();
                Ok(self.current.is_some())
            }
            Err(e) => Err(self.fail(e)),
        }
    }

    /// To the first key at or after `key`; tells whether there is one.
    pub fn seek(&mut self, key: &[u8]) -> Result<bool> {
        self.run(|c| {
            for s in &mut c.sources {
                s.seek(key)?;
            }
            c.choose_forward()
        })
    }

    /// To the last key before `key`; tells whether there is one.
    pub fn seek_before(&mut self, key: &[u8]) -> Result<bool> {
        self.run(|c| {
            for s in &mut c.sources {
                s.seek_before(key)?;
            }
            c.choose_backward()
        })
    }

    /// To the first key.
    pub fn first(&mut self) -> Result<bool> {
        self.run(|c| {
            for s in &mut c.sources {
                s.first()?;
            }
            c.choose_forward()
        })
    }

    /// To the last key.
    pub fn last(&mut self) -> Result<bool> {
        self.run(|c| {
            for s in &mut c.sources {
                s.last()?;
            }
            c.choose_backward()
        })
    }

    /// To the next key; does nothing when it stands nowhere.
    #[allow(clippy::should_implement_trait)] // a cursor, not an iterator: its items are borrowed
    #[inline]
    pub fn next(&mut self) -> Result<bool> {
        // Of several sources, a window is of one direction, and ends at once in the other.
        if let Some(window) = &mut self.window
            && window.next()
        {
            return Ok(true);
        }
        self.next_by_sources()
    }

    #[inline(never)]
    fn next_by_sources(&mut self) -> Result<bool> {
        if self.is_alone() {
            return self.step_alone(Direction::Forward, VisibleSource::next_key);
        }
        self.run(|c| {
            let Some(i) = c.current else { return Ok(()) };
            if c.direction == Direction::Backward {
                c.key.clear();
                c.key.extend_from_slice(c.sources[i].key());
                let key = std::mem::take(&mut c.key);
                for (j, s) in c.sources.iter_mut().enumerate() {
                    if j != i {
                        s.seek(&key)?;
                    }
                }
                c.key = key;
            }
            c.pass_current(i, VisibleSource::next_key)?;
            c.choose_forward()
        })
    }

    /// To the key before; does nothing when it stands nowhere.
    #[inline]
    pub fn prev(&mut self) -> Result<bool> {
        if let Some(window) = &mut self.window
            && window.prev()
        {
            return Ok(true);
        }
        self.prev_by_sources()
    }

    #[inline(never)]
    fn prev_by_sources(&mut self) -> Result<bool> {
        if self.is_alone() {
            return self.step_alone(Direction::Backward, VisibleSource::prev_key);
        }
        self.run(|c| {
            let Some(i) = c.current else { return Ok(()) };
            if c.direction == Direction::Forward {
                c.key.clear();
                c.key.extend_from_slice(c.sources[i].key());
                let key = std::mem::take(&mut c.key);
                for (j, s) in c.sources.iter_mut().enumerate() {
                    if j != i {
                        s.seek_before(&key)?;
                    }
                }
                c.key = key;
            }
            c.pass_current(i, VisibleSource::prev_key)?;
            c.choose_backward()
        })
    }

    /// Whether it stands on a key of an only source, of which nothing is hidden.
    #[inline]
    fn is_alone(&self) -> bool {
        self.current.is_some() && self.sources.len() == 1 && self.hidden.is_none()
    }

    /// A step of the only source; it stands on a key.
    fn step_alone(
        &mut self,
        direction: Direction,
        step: impl Fn(&mut VisibleSource) -> Result<()>,
    ) -> Result<bool> {
        self.close_window();
        self.direction = direction;
        let source = &mut self.sources[0];
        loop {
            if let Err(e) = step(source) {
                return Err(self.fail(e));
            }
            if !source.valid() {
                self.current = None;
                return Ok(false);
            }
            if !source.is_gone() {
                break;
            }
        }
        self.open_window();
        Ok(true)
    }

    /// Moves every source off the current key.
    fn pass_current(
        &mut self,
        current: usize,
        step: impl Fn(&mut VisibleSource) -> Result<()>,
    ) -> Result<()> {
        if self.sources.len() > 1 {
            let (before, rest) = self.sources.split_at_mut(current);
            let (now, after) = rest.split_first_mut().expect("current is in range");
            for s in before.iter_mut().chain(after) {
                if s.valid() && s.key() == now.key() {
                    step(s)?;
                }
            }
            step(now)
        } else {
            step(&mut self.sources[current])
        }
    }

    fn choose_forward(&mut self) -> Result<()> {
        self.direction = Direction::Forward;
        self.choose(
            true,
            |candidate, best| candidate < best,
            VisibleSource::next_key,
            |s, _, end| match end {
                Some(end) => s.seek(end),
                None => {
                    s.leave();
                    Ok(())
                }
            },
        )
    }

    fn choose_backward(&mut self) -> Result<()> {
        self.direction = Direction::Backward;
        self.choose(
            false,
            |candidate, best| candidate > best,
            VisibleSource::prev_key,
            |s, start, _| s.seek_before(start),
        )
    }

    /// Finds the key to stand on: `step` takes a source on by a key, `leap` past hidden keys.
    fn choose(
        &mut self,
        forward: bool,
        wins: impl Fn(&[u8], &[u8]) -> bool,
        step: impl Fn(&mut VisibleSource) -> Result<()>,
        leap: impl Fn(&mut VisibleSource, &[u8], Option<&[u8]>) -> Result<()>,
    ) -> Result<()> {
        loop {
            let mut best: Option<usize> = None;
            for (i, s) in self.sources.iter().enumerate() {
                if s.valid() && best.is_none_or(|b| wins(s.key(), self.sources[b].key())) {
                    best = Some(i);
                }
            }
            self.current = best;
            let Some(i) = best else { return Ok(()) };
            if self.sources[i].is_gone() {
                self.pass_current(i, &step)?;
                continue;
            }
            let Some(hidden) = &mut self.hidden else { return Ok(()) };
            let at = &self.sources[i];
            match hidden.cover(i, at.key(), at.seq(), forward) {
                None => return Ok(()),
                Some(Cover::Entry) => self.pass_current(i, &step)?,
                Some(Cover::Older(from, stretch)) => {
                    let inside = |s: &VisibleSource| s.valid() && stretch.contains(s.key());
                    for s in &mut self.sources[from..] {
                        let mut steps = 0;
                        while steps < STEPS_BEFORE_LEAP && inside(s) {
                            step(s)?;
                            steps += 1;
                        }
                        if inside(s) {
                            leap(s, stretch.start(), stretch.end())?;
                        }
                    }
                }
            }
        }
    }
}
