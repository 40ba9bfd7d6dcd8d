//! The names of the simulated disk: as processes see them, as they are durable, and the changes
//! that lie between.
//!
//! 1. `durable` with all `pending` changes applied in order is `seen`.
//! 2. Syncing a directory makes the changes of its own names durable: not those of the directories
//!    in it, nor its own name in its parent.
//! 3. A power cut decides about each change by itself, in whatever order; only a name goes through
//!    its own changes in order, so a change that is kept keeps the earlier ones of its names. A
//!    rename is one change of two names: it is never half done.
//! 4. A directory that a sync failed for is taken for clean, while its changes are not on the disk;
//!    the next change in it makes them dirty again.

use std::path::{Path, PathBuf};

use super::crash::{Fate, Survival};
use super::state::FileId;
use crate::vfs::names::{Entry, Names};

/// A change of names.
#[derive(Clone)]
enum Change {
    Set { path: PathBuf, entry: Entry<FileId> },
    Remove { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf, file: FileId },
}

impl Change {
    fn paths(&self) -> impl Iterator<Item = &Path> {
        let (a, b) = match self {
            Self::Set { path, .. } | Self::Remove { path } => (path, None),
            Self::Rename { from, to, .. } => (from, Some(to)),
        };
        std::iter::once(a).chain(b).map(PathBuf::as_path)
    }

    fn is_in(&self, dir: &Path) -> bool {
        self.paths().any(|path| path.parent() == Some(dir))
    }

    /// Whether it cannot be on the disk without `earlier`.
    fn follows(&self, earlier: &Self) -> bool {
        let empties = matches!(self, Self::Remove { .. });
        self.paths().any(|mine| {
            earlier.paths().any(|other| other == mine || (empties && other.starts_with(mine)))
        })
    }

    fn apply(&self, names: &mut Names<FileId>) {
        match self {
            Self::Set { path, entry } => names.insert(path.clone(), entry.clone()),
            Self::Remove { path } => names.remove(path),
            Self::Rename { from, to, file } => {
                names.remove(from);
                names.insert(to.clone(), Entry::File(*file));
            }
        }
    }

    fn file(&self) -> Option<FileId> {
        match self {
            Self::Set { entry: Entry::File(file), .. } | Self::Rename { file, .. } => Some(*file),
            Self::Set { entry: Entry::Dir, .. } | Self::Remove { .. } => None,
        }
    }
}

#[derive(Clone)]
struct Pending {
    change: Change,
    /// A failed sync gave it up.
    lost: bool,
}

/// All names of a disk.
#[derive(Clone, Default)]
pub(super) struct Directories {
    seen: Names<FileId>,
    durable: Names<FileId>,
    pending: Vec<Pending>,
}

impl Directories {
    /// The names as processes see them.
    pub(super) fn seen(&self) -> &Names<FileId> {
        &self.seen
    }

    pub(super) fn set(&mut self, path: PathBuf, entry: Entry<FileId>) {
        self.change(Change::Set { path, entry });
    }

    pub(super) fn remove(&mut self, path: PathBuf) {
        self.change(Change::Remove { path });
    }

    pub(super) fn rename(&mut self, from: PathBuf, to: PathBuf, file: FileId) {
        self.change(Change::Rename { from, to, file });
    }

    fn change(&mut self, change: Change) {
        for earlier in &mut self.pending {
            let shares = |path: &Path| path.parent().is_some_and(|dir| change.is_in(dir));
            if earlier.lost && earlier.change.paths().any(shares) {
                earlier.lost = false;
            }
        }
        change.apply(&mut self.seen);
        self.pending.push(Pending { change, lost: false });
    }

    /// Makes the names in `dir` durable.
    pub(super) fn sync(&mut self, dir: &Path) {
        let keep = self.pending.iter().map(|p| !p.lost && p.change.is_in(dir)).collect();
        let keep = self.with_earlier(keep);
        let mut index = 0;
        self.pending.retain(|pending| {
            let kept = keep[index];
            index += 1;
            if kept {
                pending.change.apply(&mut self.durable);
            }
            !kept
        });
    }

    /// Loses the changes in `dir` as a sync does that fails.
    pub(super) fn fail_sync(&mut self, dir: &Path) {
        for pending in self.pending.iter_mut().filter(|p| p.change.is_in(dir)) {
            pending.lost = true;
        }
    }

    /// Adds to a choice of the pending changes those that they follow.
    fn with_earlier(&self, mut keep: Vec<bool>) -> Vec<bool> {
        for later in (0..keep.len()).rev() {
            for earlier in 0..later {
                if keep[later] && !keep[earlier] {
                    let follows = &self.pending[later].change;
                    keep[earlier] = follows.follows(&self.pending[earlier].change);
                }
            }
        }
        keep
    }

    /// The files that any name, seen, durable or in between, stands for.
    pub(super) fn referenced(&self) -> impl Iterator<Item = FileId> {
        let seen = self.seen.files().map(|(_, file)| *file);
        let durable = self.durable.files().map(|(_, file)| *file);
        seen.chain(durable).chain(self.pending.iter().filter_map(|p| p.change.file()))
    }

    /// What is on the disk after a power cut.
    pub(super) fn after_power_cut(&self, rng: &mut fastrand::Rng, survival: Survival) -> Self {
        let fate = Fate::choose(rng, survival);
        let keep = self.pending.iter().map(|p| fate.keeps(rng) && !p.lost).collect();
        let keep = self.with_earlier(keep);
        let mut names = self.durable.clone();
        for (pending, _) in self.pending.iter().zip(keep).filter(|(_, kept)| *kept) {
            pending.change.apply(&mut names);
        }
        names.prune();
        Self { seen: names.clone(), durable: names, pending: Vec::new() }
    }
}
