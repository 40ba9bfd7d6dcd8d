//! The bytes of one simulated file: as processes see them, as they are durable, and the changes
//! that lie between.
//!
//! 1. `durable` with all `changes` applied in order, and then `lost`, reads as `seen`.
//! 2. A sync empties `changes`. One that fails moves the writes among them to `lost`: seen by
//!    processes, taken for written by the next sync, and not on the disk, as Linux does (Rebello
//!    and others, "Can applications recover from fsync failures?", 2020). A later write to the
//!    same page makes what was lost of it dirty again, since whole pages are written out.
//! 3. A power cut decides about every sector of every unsynced write by itself. Lengths are kept
//!    apart: the file gets its durable length or any that it had since, and is cut as often as
//!    it was up to there; data past that length is gone, length without data is zeros.

use std::sync::Arc;

use super::crash::{Fate, Survival};
use crate::vfs::pages::{PAGE_BYTES, Pages};

/// What a disk writes at once, if nothing tears it.
const SECTOR_BYTES: usize = 512;

/// One unsynced change, or a write that was lost.
#[derive(Clone)]
enum Change {
    Write { offset: u64, bytes: Arc<[u8]> },
    Len(u64),
}

/// The bytes of one file.
#[derive(Clone, Default)]
pub(super) struct Content {
    seen: Pages,
    durable: Pages,
    changes: Vec<Change>,
    /// Writes that a failed sync gave up, each within one page.
    lost: Vec<(u64, Arc<[u8]>)>,
    /// Whether one of `changes` cuts the file.
    cut: bool,
    /// Bytes of the disk it takes: up to the end of the last write or allocation.
    space: u64,
}

impl Content {
    /// A file whose bytes are durable.
    pub(super) fn durable(bytes: &[u8]) -> Self {
        Self::settled(Pages::from_bytes(bytes))
    }

    fn settled(pages: Pages) -> Self {
        Self { space: pages.len(), seen: pages.clone(), durable: pages, ..Self::default() }
    }

    pub(super) fn len(&self) -> u64 {
        self.seen.len()
    }

    /// Bytes of the disk it takes.
    pub(super) fn space(&self) -> u64 {
        self.space
    }

    pub(super) fn read(&self, bytes: &mut [u8], offset: u64) -> usize {
        self.seen.read(bytes, offset)
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        self.seen.to_vec()
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        let end = offset + bytes.len() as u64;
        if bytes.is_empty() {
            return;
        }
        if end > self.seen.len() {
            self.set_len(end);
        }
        self.redirty(offset, end);
        self.seen.overwrite(bytes, offset);
        self.changes.push(Change::Write { offset, bytes: bytes.into() });
        self.space = self.space.max(end);
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len == self.seen.len() {
            return;
        }
        if len < self.seen.len() {
            self.cut = true;
            clip(&mut self.lost, len);
        }
        self.seen.set_len(len);
        self.changes.push(Change::Len(len));
        self.space = self.space.min(len);
    }

    /// Takes the space below `len`, extending the file to it.
    pub(super) fn allocate(&mut self, len: u64) {
        if len > self.seen.len() {
            self.set_len(len);
        }
        self.space = self.space.max(len);
    }

    /// Makes the lost writes in the pages from `offset` to `end` dirty again.
    fn redirty(&mut self, offset: u64, end: u64) {
        if self.lost.is_empty() {
            return;
        }
        let page = |at: u64| at / PAGE_BYTES as u64;
        let pages = page(offset)..=page(end - 1);
        for (offset, bytes) in std::mem::take(&mut self.lost) {
            if pages.contains(&page(offset)) {
                self.changes.push(Change::Write { offset, bytes });
            } else {
                self.lost.push((offset, bytes));
            }
        }
    }

    /// Makes data and length durable.
    pub(super) fn sync(&mut self) {
        if !self.lost.is_empty() {
            for change in std::mem::take(&mut self.changes) {
                apply(&mut self.durable, &change);
            }
        } else if self.cut {
            self.changes.clear();
            self.durable = self.seen.clone();
        } else {
            self.durable.set_len(self.seen.len());
            for change in std::mem::take(&mut self.changes) {
                if let Change::Write { offset, bytes } = change {
                    self.durable.share(&self.seen, offset, bytes.len());
                }
            }
        }
        self.cut = false;
    }

    /// Loses the unsynced writes as a sync does that fails. Lengths, which are not in those pages,
    /// stay unsynced.
    pub(super) fn fail_sync(&mut self) {
        let mut lost = Vec::new();
        for change in std::mem::take(&mut self.changes) {
            match change {
                Change::Len(len) => {
                    clip(&mut lost, len);
                    self.changes.push(change);
                }
                Change::Write { offset, bytes } => {
                    let pieces = pieces(offset, &bytes, PAGE_BYTES);
                    lost.extend(pieces.map(|(offset, piece)| (offset, Arc::from(piece))));
                }
            }
        }
        self.lost.append(&mut lost);
    }

    /// Drops clean pages from memory, so that what was lost shows.
    pub(super) fn drop_caches(&mut self) {
        if !self.lost.is_empty() {
            self.lost.clear();
            self.seen = self.durable.clone();
            for change in &self.changes {
                apply(&mut self.seen, change);
            }
        }
    }

    /// Whether a power cut changes nothing.
    pub(super) fn is_settled(&self) -> bool {
        self.changes.is_empty() && self.lost.is_empty()
    }

    /// What is on the disk after a power cut.
    pub(super) fn after_power_cut(&self, rng: &mut fastrand::Rng, survival: Survival) -> Self {
        let lengths = self.changes.iter().filter(|c| matches!(c, Change::Len(_))).count();
        let fate = Fate::choose(rng, survival);
        let mut lengths_kept = fate.history(rng, lengths);
        let mut pages = self.durable.clone();
        for change in &self.changes {
            match change {
                Change::Len(len) if lengths_kept > 0 => {
                    lengths_kept -= 1;
                    pages.set_len(*len);
                }
                Change::Len(_) => {}
                Change::Write { offset, bytes } => {
                    for (offset, sector) in pieces(*offset, bytes, SECTOR_BYTES) {
                        let kept = fate.sector(rng, sector.len());
                        pages.overwrite(&sector[kept.clone()], offset + kept.start as u64);
                    }
                }
            }
        }
        Self::settled(pages)
    }
}

/// Drops what lies past `len`.
fn clip(writes: &mut Vec<(u64, Arc<[u8]>)>, len: u64) {
    writes.retain(|(offset, _)| *offset < len);
    for (offset, bytes) in writes {
        let within = (len - *offset).min(bytes.len() as u64) as usize;
        if within < bytes.len() {
            *bytes = bytes[..within].into();
        }
    }
}

fn apply(pages: &mut Pages, change: &Change) {
    match change {
        Change::Len(len) => pages.set_len(*len),
        Change::Write { offset, bytes } => pages.overwrite(bytes, *offset),
    }
}

/// Cuts `bytes` at `offset` where blocks of `size` meet.
fn pieces(offset: u64, mut bytes: &[u8], size: usize) -> impl Iterator<Item = (u64, &[u8])> {
    let mut at = offset;
    std::iter::from_fn(move || {
        let n = (size - (at % size as u64) as usize).min(bytes.len());
        let (piece, rest) = bytes.split_at(n);
        let start = at;
        bytes = rest;
        at += n as u64;
        (n > 0).then_some((start, piece))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Invariant 1, over random histories.
    #[test]
    fn durable_and_changes_and_lost_make_what_is_seen() {
        let mut rng = fastrand::Rng::with_seed(11);
        for _ in 0..200 {
            let mut content = Content::default();
            for _ in 0..40 {
                match rng.u8(0..8) {
                    0..4 => {
                        let mut bytes = vec![0; rng.usize(0..6000)];
                        rng.fill(&mut bytes);
                        content.write(&bytes, rng.u64(0..20_000));
                    }
                    4 => content.set_len(rng.u64(0..20_000)),
                    5 => content.sync(),
                    6 => content.fail_sync(),
                    _ => content.allocate(rng.u64(0..20_000)),
                }
                let mut rebuilt = content.durable.clone();
                for change in &content.changes {
                    apply(&mut rebuilt, change);
                }
                for (offset, bytes) in &content.lost {
                    rebuilt.overwrite(bytes, *offset);
                }
                assert!(rebuilt.to_vec() == content.seen.to_vec());
                assert!(content.space <= content.len());
            }
        }
    }

    #[test]
    fn a_cut_leaves_every_byte_old_new_or_zero() {
        for seed in 0..500 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut content = Content::durable(&[1; 3000]);
            content.write(&[2; 2000], 500);
            content.set_len(2800);
            content.write(&[3; 1000], 3000);
            let after = content.after_power_cut(&mut rng, Survival::Mixed);
            assert!([3000, 2800, 4000].contains(&after.len()), "{}", after.len());
            for (at, byte) in after.to_vec().into_iter().enumerate() {
                let may: &[u8] = match at {
                    500..2500 => &[1, 2],
                    0..2800 => &[1],
                    2800..3000 => &[0, 1],
                    _ => &[0, 3],
                };
                assert!(may.contains(&byte), "{byte} at {at}, seed {seed}");
            }
        }
    }
}
