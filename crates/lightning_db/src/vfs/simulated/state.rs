//! The state of a simulated machine: files, names, locks, clock, chance and planned faults.
//!
//! 1. Every operation takes a number, from 0 on, and a microsecond.
//! 2. A file's content is kept while a name (seen, durable or between) or an open file refers to
//!    it, and takes space while a process could still read it.
//! 3. Same seed and same calls in the same order: same results.
//!
//! No latch of its own: [`SimulatedVfs`](super::SimulatedVfs) holds one around it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error as IoError, ErrorKind as IoErrorKind, Result as IoResult};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::content::Content;
use super::crash::Survival;
use super::directories::Directories;
use super::faults::{FaultError, Operation, Plan, full};
use crate::vfs::names::Entry;
use crate::vfs::pages::checked_end;

/// Names a file whatever its paths are.
pub(super) type FileId = u64;

/// What every operation, and every look at the clock, takes.
const TICK: Duration = Duration::from_micros(1);

/// What will become of an operation.
pub(super) enum Verdict {
    /// It goes well.
    Go,
    /// A read or write does only some bytes.
    Short,
    /// It fails.
    Fail(IoError),
    /// The machine goes down in the middle of it.
    Crash,
}

/// The error of every operation on a machine that is down.
pub(super) fn down() -> IoError {
    IoError::other("the machine is down")
}

#[derive(Clone, Default)]
struct Slot {
    content: Arc<Content>,
    /// Open files and held locks.
    handles: usize,
}

#[derive(Clone, Default)]
struct Hold {
    exclusive: bool,
    shared: usize,
}

/// A simulated machine.
#[derive(Clone)]
pub(super) struct Machine {
    pub(super) rng: fastrand::Rng,
    pub(super) directories: Directories,
    files: BTreeMap<FileId, Slot>,
    next_file: FileId,
    locks: BTreeMap<FileId, Hold>,
    pub(super) operations: u64,
    pub(super) crash_at: Option<u64>,
    is_down: bool,
    pub(super) plan: Plan,
    pub(super) capacity: Option<u64>,
    pub(super) monotonic: Duration,
    pub(super) wall: Duration,
}

impl Machine {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: fastrand::Rng::with_seed(seed),
            directories: Directories::default(),
            files: BTreeMap::new(),
            next_file: 0,
            locks: BTreeMap::new(),
            operations: 0,
            crash_at: None,
            is_down: false,
            plan: Plan::default(),
            capacity: None,
            monotonic: Duration::from_secs(1),
            wall: Duration::from_secs(1_700_000_000),
        }
    }

    /// Lets time pass.
    pub(super) fn advance(&mut self, time: Duration) {
        self.monotonic = self.monotonic.saturating_add(time);
        self.wall = self.wall.saturating_add(time);
    }

    /// The time since the start, having passed a little.
    pub(super) fn tick(&mut self) -> Duration {
        self.advance(TICK);
        self.monotonic
    }

    /// Gives the next operation its number.
    pub(super) fn next_number(&mut self) -> IoResult<u64> {
        if self.is_down {
            return Err(down());
        }
        let number = self.operations;
        self.operations += 1;
        self.advance(TICK);
        Ok(number)
    }

    /// What becomes of operation `number`.
    pub(super) fn judge(
        &mut self,
        number: u64,
        operation: Operation,
        path: &Path,
    ) -> IoResult<Verdict> {
        // Another thread's operation may have come between; this one then never happened.
        if self.is_down {
            return Err(down());
        }
        if self.crash_at.is_some_and(|at| number >= at) {
            self.is_down = true;
            return Ok(Verdict::Crash);
        }
        Ok(match self.plan.decide(number, operation, path).map(FaultError::to_io) {
            None => Verdict::Go,
            Some(None) => Verdict::Short,
            Some(Some(e)) => Verdict::Fail(e),
        })
    }

    fn slot(&mut self, file: FileId) -> &mut Slot {
        self.files.get_mut(&file).expect("kept while a name or a handle refers to it")
    }

    /// The bytes of a file.
    pub(super) fn content(&self, file: FileId) -> &Content {
        &self.files[&file].content
    }

    /// The bytes of a file, to be changed: shared ones are copied first.
    pub(super) fn content_mut(&mut self, file: FileId) -> &mut Content {
        Arc::make_mut(&mut self.slot(file).content)
    }

    /// Makes a file at `path`, which must be free.
    pub(super) fn create(&mut self, path: &Path) -> IoResult<FileId> {
        self.directories.seen().check_free(path)?;
        let file = self.next_file;
        self.next_file += 1;
        self.files.insert(file, Slot::default());
        self.directories.set(path.to_path_buf(), Entry::File(file));
        Ok(file)
    }

    pub(super) fn create_dir_all(&mut self, dir: &Path) -> IoResult<()> {
        for dir in self.directories.seen().missing_dirs(dir)? {
            self.directories.set(dir, Entry::Dir);
        }
        Ok(())
    }

    pub(super) fn remove_file(&mut self, path: PathBuf) -> IoResult<()> {
        self.directories.seen().file(&path)?;
        self.directories.remove(path);
        self.collect();
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, dir: PathBuf) -> IoResult<()> {
        self.directories.seen().check_remove_dir(&dir)?;
        self.directories.remove(dir);
        Ok(())
    }

    pub(super) fn rename(&mut self, from: PathBuf, to: PathBuf) -> IoResult<()> {
        if let Some(file) = self.directories.seen().check_rename(&from, &to)? {
            self.directories.rename(from, to, file);
            self.collect();
        }
        Ok(())
    }

    pub(super) fn hard_link(&mut self, from: &Path, to: PathBuf) -> IoResult<()> {
        let file = self.directories.seen().file(from)?;
        self.directories.seen().check_free(&to)?;
        self.directories.set(to, Entry::File(file));
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) {
        self.directories.sync(dir);
        self.collect();
    }

    /// Space left for a file that would then take `space` bytes.
    fn check_space(&self, file: FileId, space: u64) -> Result<(), u64> {
        let Some(capacity) = self.capacity else { return Ok(()) };
        let named: BTreeSet<FileId> = self.directories.seen().files().map(|(_, f)| *f).collect();
        let is_live = |id: &FileId, slot: &Slot| slot.handles > 0 || named.contains(id);
        let used: u64 = (self.files.iter())
            .filter(|(id, slot)| **id != file && is_live(id, slot))
            .map(|(_, slot)| slot.content.space())
            .sum();
        let most = capacity.saturating_sub(used);
        if space <= most { Ok(()) } else { Err(most) }
    }

    pub(super) fn read(
        &mut self,
        file: FileId,
        bytes: &mut [u8],
        offset: u64,
        short: bool,
    ) -> usize {
        let wanted = if short { self.some_of(bytes.len()) } else { bytes.len() };
        self.content(file).read(&mut bytes[..wanted], offset)
    }

    /// Writes, as much as the verdict and the space left allow.
    pub(super) fn write(
        &mut self,
        file: FileId,
        mut bytes: &[u8],
        offset: u64,
        verdict: &Verdict,
    ) -> IoResult<usize> {
        match verdict {
            Verdict::Short => bytes = &bytes[..self.some_of(bytes.len())],
            Verdict::Crash => bytes = &bytes[..self.rng.usize(0..=bytes.len())],
            Verdict::Go | Verdict::Fail(_) => {}
        }
        let end = checked_end(offset, bytes.len())?;
        let has = self.content(file).space();
        if !bytes.is_empty()
            && end > has
            && let Err(most) = self.check_space(file, end)
        {
            // A file larger than what is left (the capacity was lowered) keeps what it has.
            let fits = most.max(has).saturating_sub(offset).min(bytes.len() as u64) as usize;
            if fits == 0 {
                return Err(full());
            }
            bytes = &bytes[..fits];
        }
        self.content_mut(file).write(bytes, offset);
        Ok(bytes.len())
    }

    /// Some of `len` bytes, at least one.
    fn some_of(&mut self, len: usize) -> usize {
        if len > 1 { self.rng.usize(1..len) } else { len }
    }

    pub(super) fn set_len(&mut self, file: FileId, len: u64) -> IoResult<()> {
        checked_end(len, 0)?;
        self.content_mut(file).set_len(len);
        Ok(())
    }

    pub(super) fn allocate(&mut self, file: FileId, len: u64) -> IoResult<()> {
        checked_end(len, 0)?;
        if len > self.content(file).space() && self.check_space(file, len).is_err() {
            return Err(full());
        }
        self.content_mut(file).allocate(len);
        Ok(())
    }

    /// Takes the lock of the file at `path`; `None` when it is held.
    pub(super) fn lock(&mut self, path: &Path, exclusive: bool) -> IoResult<Option<FileId>> {
        let file = match self.directories.seen().file(path) {
            Err(e) if e.kind() == IoErrorKind::NotFound && exclusive => self.create(path)?,
            found => found?,
        };
        let hold = self.locks.entry(file).or_default();
        if hold.exclusive || (exclusive && hold.shared > 0) {
            return Ok(None);
        }
        hold.exclusive = exclusive;
        hold.shared += usize::from(!exclusive);
        self.opened(file);
        Ok(Some(file))
    }

    pub(super) fn unlock(&mut self, file: FileId) {
        if let Some(hold) = self.locks.get_mut(&file) {
            if hold.exclusive {
                hold.exclusive = false;
            } else {
                hold.shared -= 1;
            }
            if hold.shared == 0 {
                self.locks.remove(&file);
            }
        }
        self.closed(file);
    }

    /// Counts a handle on the file.
    pub(super) fn opened(&mut self, file: FileId) {
        self.slot(file).handles += 1;
    }

    /// Gives a handle back; a file without names goes with its last.
    pub(super) fn closed(&mut self, file: FileId) {
        let slot = self.slot(file);
        slot.handles -= 1;
        if slot.handles == 0 {
            self.collect();
        }
    }

    /// Drops the files that nothing refers to.
    fn collect(&mut self) {
        let referenced: BTreeSet<FileId> = self.directories.referenced().collect();
        self.files.retain(|id, slot| slot.handles > 0 || referenced.contains(id));
    }

    /// Replaces the bytes of the file at `path`, durably.
    pub(super) fn corrupt(&mut self, path: &Path, f: impl FnOnce(&mut Vec<u8>)) -> IoResult<()> {
        let file = self.directories.seen().file(path)?;
        let mut bytes = self.content(file).to_vec();
        f(&mut bytes);
        self.slot(file).content = Arc::new(Content::durable(&bytes));
        Ok(())
    }

    pub(super) fn drop_caches(&mut self) {
        for slot in self.files.values_mut().filter(|slot| !slot.content.is_settled()) {
            Arc::make_mut(&mut slot.content).drop_caches();
        }
    }

    /// The same machine without its processes: no handles, no locks.
    pub(super) fn without_processes(&self) -> Self {
        let mut machine = self.clone();
        machine.locks.clear();
        for slot in machine.files.values_mut() {
            slot.handles = 0;
        }
        machine.collect();
        machine
    }

    /// The machine started again: its processes, planned faults and count of operations are gone.
    pub(super) fn restarted(&self) -> Self {
        let mut machine = self.without_processes();
        machine.operations = 0;
        machine.crash_at = None;
        machine.is_down = false;
        machine.plan = Plan::default();
        machine
    }

    /// The machine started again after a power cut.
    pub(super) fn after_power_cut(&self, seed: u64, survival: Survival) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut machine = self.restarted();
        machine.directories = machine.directories.after_power_cut(&mut rng, survival);
        machine.collect();
        for slot in machine.files.values_mut().filter(|slot| !slot.content.is_settled()) {
            slot.content = Arc::new(slot.content.after_power_cut(&mut rng, survival));
        }
        machine.rng = rng;
        machine
    }

    /// The paths of all files, sorted.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.directories.seen().files().map(|(path, _)| path.clone()).collect()
    }
}
