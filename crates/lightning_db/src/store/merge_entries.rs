//! The stream of a merge: entries of several sources in order of key and age, judged by the
//! retention rule, and written out.
//!
//! Sources are given newest first; of equal keys they are taken in that order, so that the judge
//! sees the versions of a key from the newest to the oldest.
//!
//! Which source is next is mostly told by eight bytes of each one's key, kept as numbers beside the sources
//! ([`Heads`]), and brought up to date wherever a source is moved.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::manifest::ViewSpan;
use crate::ranges::is_before;
use crate::store::blobs::BlobPin;
use crate::store::chain::{Folding, KeyChain, Sink};
use crate::store::environment::Environment;
use crate::store::merge_ranges::MergeRanges;
use crate::store::retention::{Fate, KeyRetention, Retention};
use crate::store::row_writer::RowWriter;
use crate::store::source::Source;
use crate::types::{Entry, EntryValue, SegmentId, Seq, key_head};

/// What a stream of entries does besides being written: moves values out of blob segments that
/// are being cleaned, and asks now and then whether to give up.
#[derive(Debug)]
pub struct Tally<'a> {
    env: &'a Environment,
    clean: Option<&'a BTreeSet<SegmentId>>,
    /// Holds what is moved until the job has published it.
    pin: BlobPin<'a>,
    entries: u64,
    may_stop: bool,
}

impl<'a> Tally<'a> {
    /// For a job that runs to its end.
    pub fn new(env: &'a Environment, clean: Option<&'a BTreeSet<SegmentId>>) -> Self {
        Self { env, clean, pin: env.blobs.pin(), entries: 0, may_stop: false }
    }

    /// For a job that gives up when the database closes.
    pub fn stoppable(env: &'a Environment, clean: Option<&'a BTreeSet<SegmentId>>) -> Self {
        Self { may_stop: true, ..Self::new(env, clean) }
    }

    /// Writes an entry that is kept, its large value moved where it has to be.
    fn write(
        &self,
        out: &mut RowWriter<'_>,
        key: &[u8],
        seq: Seq,
        mut entry: Entry<'_>,
        seen_by: Option<ViewSpan>,
    ) -> Result<()> {
        let moved = match (entry.value, self.clean) {
            (EntryValue::Blob(blob), Some(clean)) if clean.contains(&blob.segment) => {
                Some(self.pin.copy(&blob)?)
            }
            _ => None,
        };
        entry.value = moved.map_or(entry.value, EntryValue::Blob);
        out.push(key, seq, entry)?;
        if let Some(span) = seen_by {
            out.note_droppable((key.len() + entry.value.inline_len()) as u64, span);
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<()> {
        self.entries += 1;
        if self.may_stop && self.entries.is_multiple_of(1024) {
            self.env.check_running()?;
        }
        Ok(())
    }
}

/// Writes the merged entries with keys below `upper` to `out`, by the retention rule; range deletes count
/// as tombstones of every key that they cover (see `merge_ranges`). Sources stand
/// at their first entry, newest first; they are left at their first entry at or after `upper`.
pub fn merge_until(
    sources: &mut [Source],
    ranges: &mut MergeRanges,
    upper: Option<&[u8]>,
    rule: &Retention,
    folding: &Folding<'_>,
    out: &mut RowWriter<'_>,
    tally: &mut Tally<'_>,
) -> Result<()> {
    let mut key = Vec::new();
    let mut heads = Heads::of(sources);
    loop {
        let Some(first) = heads.smallest(sources) else { return Ok(()) };
        let head = heads.heads[first];
        {
            let smallest_key = sources[first].key();
            if upper.is_some_and(|u| smallest_key >= u) {
                return Ok(());
            }
            key.clear();
            key.extend_from_slice(smallest_key);
        }
        let mut judge = rule.key();
        let mut chain: Option<KeyChain> = None;
        let mut written: Option<Seq> = None;
        // The range delete above the version at hand, if it is to be written down for this key.
        let mut pending: Option<Seq> = None;
        // Newer sources may cover a key that they do not have.
        let newest = if ranges.any() { 0 } else { first };
        for (i, source) in sources.iter_mut().enumerate().skip(newest) {
            let mut deletes = ranges.covering(i, &key).iter().copied().peekable();
            while heads.heads[i] == head && source.valid() && source.key() == key {
                while let Some(delete) = deletes.next_if(|d| *d > source.seq()) {
                    pending = judge_delete(&mut judge, delete).or(pending);
                }
                let mut entry = source.entry();
                let tombstone = rule.is_tombstone(source.seq(), &entry);
                if tombstone {
                    // Of what has expired neither value nor expiry is of use any more.
                    entry = Entry::lasting(EntryValue::Tombstone);
                }
                if chain.is_some() || matches!(entry.value, EntryValue::Operands(_)) {
                    let chain = chain.get_or_insert_default();
                    let version = (source.seq(), entry);
                    chain.add(folding, &mut judge, &key, version, &mut (&mut *out, &*tally))?;
                    source.next()?;
                    heads.note(i, source);
                    tally.tick()?;
                    continue;
                }
                // Only a tombstone's fate depends on what lies below.
                let bottom = tombstone && folding.older.is_nothing(&key);
                if let Fate::Keep { seq, seen_by } = judge.judge(source.seq(), tombstone, bottom) {
                    // Above what is deleted already there is nothing to hide.
                    let delete = pending.take().filter(|d| !tombstone && Some(*d) != written);
                    if let Some(delete) = delete {
                        out.push(&key, delete, Entry::lasting(EntryValue::Tombstone))?;
                        // It hides what older views still see.
                        let span = ViewSpan { from: Seq(0), below: delete };
                        out.note_droppable(key.len() as u64, span);
                    }
                    tally.write(out, &key, seq, entry, seen_by)?;
                    written = Some(seq);
                }
                source.next()?;
                heads.note(i, source);
                tally.tick()?;
            }
            for delete in deletes {
                pending = judge_delete(&mut judge, delete).or(pending);
            }
        }
        if ranges.any() && pass_dead(sources, ranges, &key)? {
            heads.renew(sources);
        }
        if let Some(mut chain) = chain {
            chain.end_group(folding, &key, &mut (&mut *out, &*tally))?;
        }
    }
}

impl Sink for (&mut RowWriter<'_>, &Tally<'_>) {
    fn put(
        &mut self,
        key: &[u8],
        seq: Seq,
        entry: Entry<'_>,
        span: Option<ViewSpan>,
    ) -> Result<()> {
        self.1.write(self.0, key, seq, entry, span)
    }
}

/// Judges a range delete over the key; gives its number where versions below it may be kept.
fn judge_delete(judge: &mut KeyRetention<'_>, delete: Seq) -> Option<Seq> {
    match judge.judge(delete, true, true) {
        Fate::Keep { seq, .. } => Some(seq),
        Fate::Drop => None,
    }
}

/// Takes sources past what newer range deletes have made dead from `key` on; tells whether any was moved.
fn pass_dead(sources: &mut [Source], ranges: &MergeRanges, key: &[u8]) -> Result<bool> {
    let mut moved = false;
    for newer in 0..sources.len() {
        let Some(end) = ranges.dead_until(newer, key) else { continue };
        for source in &mut sources[newer + 1..] {
            if source.valid() && is_before(source.key(), end.as_deref()) {
                match &end {
                    Some(end) => source.seek(end)?,
                    None => source.leave(),
                }
                moved = true;
            }
        }
    }
    Ok(moved)
}

/// The first source, in order, among those that stand at the smallest key.
pub fn smallest(sources: &[Source]) -> Option<usize> {
    let mut best: Option<usize> = None;
    for (i, s) in sources.iter().enumerate() {
        if s.valid() && best.is_none_or(|b| s.key() < sources[b].key()) {
            best = Some(i);
        }
    }
    best
}

/// Eight bytes of the key that each source stands at, behind what all their keys share, as numbers that are
/// ordered as the keys are; the largest for one that stands nowhere.
struct Heads {
    shared: usize,
    heads: Vec<u64>,
}

impl Heads {
    fn of(sources: &[Source]) -> Self {
        let mut all = Self { shared: shared_bytes(sources), heads: Vec::new() };
        all.renew(sources);
        all
    }

    fn renew(&mut self, sources: &[Source]) {
        self.heads.clear();
        self.heads.extend(sources.iter().map(|source| head_of(source, self.shared)));
    }

    /// After source `i` was moved.
    #[inline]
    fn note(&mut self, i: usize, source: &Source) {
        self.heads[i] = head_of(source, self.shared);
    }

    /// See [`smallest`].
    #[inline]
    fn smallest(&self, sources: &[Source]) -> Option<usize> {
        let mut best: Option<usize> = None;
        let mut least = u64::MAX;
        for (i, &head) in self.heads.iter().enumerate() {
            // Of equal heads the keys decide, if there are any.
            if head < least
                || (head == least
                    && sources[i].valid()
                    && best.is_none_or(|b| sources[i].key() < sources[b].key()))
            {
                (best, least) = (Some(i), head);
            }
        }
        best
    }
}

#[inline]
fn head_of(source: &Source, shared: usize) -> u64 {
    if source.valid() { key_head(source.key().get(shared..).unwrap_or_default()) } else { u64::MAX }
}

/// The length of what all keys begin with that any source has from here on.
fn shared_bytes(sources: &[Source]) -> usize {
    let mut all: Option<(&[u8], &[u8])> = None;
    for source in sources.iter().filter(|source| source.valid()) {
        let (first, Some(last)) = (source.key(), source.last_key()) else { return 0 };
        all = Some(all.map_or((first, last), |all| (all.0.min(first), all.1.max(last))));
    }
    let Some((first, last)) = all else { return 0 };
    first.iter().zip(last).take_while(|(a, b)| a == b).count()
}
