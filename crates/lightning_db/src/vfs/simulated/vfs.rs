//! [`SimulatedVfs`] as the engine calls it, and what tests do to it.
//!
//! 1. Nothing outside is touched: no file, no clock, no chance but the seed's.
//! 2. A log keeps its length, as strictly as the strictest system does.
//! 3. A restarted machine (`kill`, `power_cut`) shares nothing that changes with the old one, whose
//!    open files go on as if nothing had happened: drop them.
//!
//! Clones are the same machine. One latch guards it; the hook's own is taken without it, so a hook
//! may look at the machine, copy it and cut its power, but not do operations on it.

use std::fmt;
use std::io::{Error as IoError, ErrorKind as IoErrorKind, Result as IoResult};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::crash::Survival;
use super::faults::{FaultError, FaultRule, Operation, Times};
use super::state::{FileId, Machine, Verdict, down};
use crate::sync::{Mutex, MutexGuard, thread};
use crate::vfs::names::normal;
use crate::vfs::{OpenMode, Vfs, VfsFile, VfsLock};

type Hook = Box<dyn FnMut(u64) + Send>;

/// A simulated machine. Every call of [`Vfs`] and [`VfsFile`] that can fail is an *operation* and
/// has a number, from 0 on since the machine was started; clocks, chance, `prefetch`, and the
/// methods here are none.
///
/// ```
/// use lightning_db::vfs::{SimulatedVfs, Vfs, write_all_at};
/// use std::path::Path;
///
/// let disk = SimulatedVfs::new(1);
/// let file = disk.create(Path::new("/a"))?;
/// file.write_at(b"synced", 0)?;
/// file.sync_data()?;
/// disk.sync_dir(Path::new("/"))?;
/// file.write_at(b"unsync", 0)?;
/// assert_eq!(disk.kill().read_file(Path::new("/a"))?, b"unsync");
/// let after = disk.power_cut(7).read_file(Path::new("/a"))?;
/// assert!(after.iter().zip(b"synced").all(|(a, b)| a == b || b"unsync".contains(a)));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct SimulatedVfs {
    shared: Arc<Shared>,
}

struct Shared {
    machine: Mutex<Machine>,
    hook: Mutex<Option<Hook>>,
}

impl SimulatedVfs {
    /// A machine with an empty disk; all chance in it comes from `seed`.
    pub fn new(seed: u64) -> Self {
        Self::from_machine(Machine::new(seed))
    }

    fn from_machine(machine: Machine) -> Self {
        Self { shared: Arc::new(Shared { machine: Mutex::new(machine), hook: Mutex::new(None) }) }
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.shared.machine.lock()
    }

    /// How many operations there were since the machine was started; the number of the next.
    pub fn operations(&self) -> u64 {
        self.machine().operations
    }

    /// Takes the machine down in the middle of operation `operation`: of its effect all, some (a
    /// write torn at any byte) or nothing happens, and it and every later one fail. What is then
    /// on the disk shows after [`power_cut`](Self::power_cut), or [`kill`](Self::kill) where only
    /// the process is meant to have died.
    pub fn crash_after(&self, operation: u64) {
        self.machine().crash_at = Some(operation);
    }

    /// The machine started again after its power was cut: each unsynced sector is kept, lost or
    /// torn, each unsynced length and name kept or lost, by the chance of `seed`. Locks are free,
    /// planned faults forgotten, operations counted from 0; the capacity stays, clocks go on.
    pub fn power_cut(&self, seed: u64) -> Self {
        self.power_cut_with(seed, Survival::Mixed)
    }

    /// As [`power_cut`](Self::power_cut), with a say in what is spared.
    pub fn power_cut_with(&self, seed: u64, survival: Survival) -> Self {
        Self::from_machine(self.machine().after_power_cut(seed, survival))
    }

    /// The machine with its processes killed: all that they wrote is there, and what was unsynced
    /// still is, so that a later power cut may lose it. Otherwise as [`power_cut`](Self::power_cut).
    pub fn kill(&self) -> Self {
        Self::from_machine(self.machine().restarted())
    }

    /// A copy of the machine as it is, planned faults and count of operations too, but without
    /// processes: its locks are free. Costs little: contents are shared until written.
    pub fn fork(&self) -> Self {
        Self::from_machine(self.machine().without_processes())
    }

    /// Drops the clean pages of all files from memory, as the system does when it likes: what a
    /// failed sync lost shows.
    pub fn drop_caches(&self) {
        self.machine().drop_caches();
    }

    /// Plans faults.
    pub fn fail(&self, rule: FaultRule) {
        self.machine().plan.add(rule);
    }

    /// Plans a fault of operation `number`, and if `forever` of all from there on. Operations that
    /// cannot have the error (reading with a full disk) go well.
    pub fn fail_operation(&self, number: u64, error: FaultError, forever: bool) {
        let times = if forever { Times::Forever } else { Times::Once };
        self.machine().plan.add_numbered(number, error, times);
    }

    /// Forgets all planned faults; what they did stays done.
    pub fn clear_faults(&self) {
        self.machine().plan = super::faults::Plan::default();
    }

    /// Limits the bytes that all files take together; past it, writes are short and then fail with
    /// `StorageFull`. A file takes what lies before the end of its last write or allocation.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.machine().capacity = bytes;
    }

    /// Damages a file behind everyone's back, durably.
    pub fn corrupt(&self, path: &Path, damage: impl FnOnce(&mut Vec<u8>)) -> IoResult<()> {
        self.machine().corrupt(&normal(path), damage)
    }

    /// The bytes of a file as processes see them.
    pub fn read_file(&self, path: &Path) -> IoResult<Vec<u8>> {
        let machine = self.machine();
        let file = machine.directories.seen().file(&normal(path))?;
        Ok(machine.content(file).to_vec())
    }

    /// The paths of all files, sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        self.machine().paths()
    }

    /// Lets time pass.
    pub fn advance_clock(&self, time: Duration) {
        self.machine().advance(time);
    }

    /// Sets the wall clock, as people and time servers do.
    pub fn set_wall_clock(&self, since_1970: Duration) {
        self.machine().wall = since_1970;
    }

    /// Calls `hook` with the number of each operation, before it happens. Replaces an earlier one.
    pub fn on_operation(&self, hook: Box<dyn FnMut(u64) + Send>) {
        *self.shared.hook.lock() = Some(hook);
    }

    /// Does an operation that happens whole or not at all.
    fn perform<T>(
        &self,
        operation: Operation,
        path: &Path,
        act: impl FnOnce(&mut Machine) -> IoResult<T>,
    ) -> IoResult<T> {
        self.shared.perform(operation, path, act)
    }

    fn file(&self, file: FileId, path: &Path, mode: OpenMode) -> SimulatedFile {
        let path = path.to_path_buf();
        SimulatedFile { shared: Arc::clone(&self.shared), file, path, mode, fixed_len: None }
    }

    fn create_file(&self, path: &Path) -> IoResult<SimulatedFile> {
        let file = self.perform(Operation::Create, path, |machine| {
            let file = machine.create(&normal(path))?;
            machine.opened(file);
            Ok(file)
        })?;
        Ok(self.file(file, path, OpenMode::ReadWrite))
    }

    fn open_file(&self, path: &Path, mode: OpenMode) -> IoResult<SimulatedFile> {
        let file = self.perform(Operation::Open, path, |machine| {
            let file = machine.directories.seen().file(&normal(path))?;
            machine.opened(file);
            Ok(file)
        })?;
        Ok(self.file(file, path, mode))
    }
}

impl Shared {
    /// Starts an operation: numbers it, calls the hook, and says what becomes of it.
    fn begin(
        &self,
        operation: Operation,
        path: &Path,
    ) -> IoResult<(MutexGuard<'_, Machine>, Verdict)> {
        let number = self.machine.lock().next_number()?;
        if let Some(hook) = self.hook.lock().as_mut() {
            hook(number);
        }
        let mut machine = self.machine.lock();
        let verdict = machine.judge(number, operation, path)?;
        Ok((machine, verdict))
    }

    fn perform<T>(
        &self,
        operation: Operation,
        path: &Path,
        act: impl FnOnce(&mut Machine) -> IoResult<T>,
    ) -> IoResult<T> {
        let (mut machine, verdict) = self.begin(operation, path)?;
        match verdict {
            Verdict::Go | Verdict::Short => act(&mut machine),
            Verdict::Fail(e) => Err(e),
            Verdict::Crash => {
                if machine.rng.bool() {
                    // The machine is down: nobody can tell whether it went well.
                    let _ = act(&mut machine);
                }
                Err(down())
            }
        }
    }
}

impl fmt::Debug for SimulatedVfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedVfs").field("operations", &self.operations()).finish()
    }
}

impl Vfs for SimulatedVfs {
    fn create(&self, path: &Path) -> IoResult<Arc<dyn VfsFile>> {
        Ok(Arc::new(self.create_file(path)?))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> IoResult<Arc<dyn VfsFile>> {
        Ok(Arc::new(self.open_file(path, mode)?))
    }

    fn create_log(&self, path: &Path, len: u64) -> IoResult<Arc<dyn VfsFile>> {
        let mut file = self.create_file(path)?;
        if let Err(e) = file.allocate(len) {
            drop(file);
            let _ = self.remove_file(path);
            return Err(e);
        }
        file.fixed_len = Some(len);
        Ok(Arc::new(file))
    }

    fn open_log_for_reuse(&self, path: &Path, len: u64) -> IoResult<Arc<dyn VfsFile>> {
        let mut file = self.open_file(path, OpenMode::ReadWrite)?;
        file.allocate(len)?;
        file.fixed_len = Some(file.len()?);
        Ok(Arc::new(file))
    }

    fn exists(&self, path: &Path) -> IoResult<bool> {
        self.perform(Operation::Exists, path, |machine| {
            Ok(machine.directories.seen().get(&normal(path)).is_some())
        })
    }

    fn list(&self, dir: &Path) -> IoResult<Vec<String>> {
        self.perform(Operation::List, dir, |machine| machine.directories.seen().list(&normal(dir)))
    }

    fn create_dir_all(&self, dir: &Path) -> IoResult<()> {
        self.perform(Operation::CreateDir, dir, |machine| machine.create_dir_all(&normal(dir)))
    }

    fn remove_file(&self, path: &Path) -> IoResult<()> {
        self.perform(Operation::Remove, path, |machine| machine.remove_file(normal(path)))
    }

    fn remove_dir(&self, dir: &Path) -> IoResult<()> {
        self.perform(Operation::RemoveDir, dir, |machine| machine.remove_dir(normal(dir)))
    }

    fn rename(&self, from: &Path, to: &Path) -> IoResult<()> {
        self.perform(Operation::Rename, to, |machine| machine.rename(normal(from), normal(to)))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> IoResult<()> {
        self.perform(Operation::HardLink, to, |machine| {
            machine.hard_link(&normal(from), normal(to))
        })
    }

    fn sync_dir(&self, dir: &Path) -> IoResult<()> {
        let (mut machine, verdict) = self.shared.begin(Operation::SyncDir, dir)?;
        let dir = normal(dir);
        machine.directories.seen().check_dir(&dir)?;
        match verdict {
            Verdict::Go | Verdict::Short => machine.sync_dir(&dir),
            Verdict::Fail(e) => {
                machine.directories.fail_sync(&dir);
                return Err(e);
            }
            Verdict::Crash => {
                if machine.rng.bool() {
                    machine.sync_dir(&dir);
                }
                return Err(down());
            }
        }
        Ok(())
    }

    fn try_lock(&self, path: &Path, exclusive: bool) -> IoResult<Option<Box<dyn VfsLock>>> {
        let file =
            self.perform(Operation::Lock, path, |machine| machine.lock(&normal(path), exclusive))?;
        Ok(file.map(|file| {
            Box::new(SimulatedLock { shared: Arc::clone(&self.shared), file }) as Box<dyn VfsLock>
        }))
    }

    fn monotonic(&self) -> Duration {
        self.machine().tick()
    }

    fn wall_clock(&self) -> Duration {
        let mut machine = self.machine();
        machine.tick();
        machine.wall
    }

    fn sleep(&self, time: Duration) {
        self.advance_clock(time);
        thread::yield_now();
    }

    fn fill_random(&self, bytes: &mut [u8]) -> IoResult<()> {
        self.machine().rng.fill(bytes);
        Ok(())
    }

    fn processors(&self) -> usize {
        2
    }
}

struct SimulatedFile {
    shared: Arc<Shared>,
    file: FileId,
    path: PathBuf,
    mode: OpenMode,
    /// The length that a log keeps.
    fixed_len: Option<u64>,
}

impl SimulatedFile {
    fn check_writable(&self) -> IoResult<()> {
        match self.mode {
            OpenMode::ReadWrite => Ok(()),
            OpenMode::Read => Err(IoError::from(IoErrorKind::PermissionDenied)),
        }
    }

    fn check_log(&self, allows: impl FnOnce(u64) -> bool) -> IoResult<()> {
        match self.fixed_len {
            Some(len) if !allows(len) => {
                Err(IoError::new(IoErrorKind::InvalidInput, "a log keeps its length"))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for SimulatedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimulatedFile({})", self.path.display())
    }
}

impl VfsFile for SimulatedFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> IoResult<usize> {
        let (mut machine, verdict) = self.shared.begin(Operation::Read, &self.path)?;
        match verdict {
            Verdict::Go => Ok(machine.read(self.file, bytes, offset, false)),
            Verdict::Short => Ok(machine.read(self.file, bytes, offset, true)),
            Verdict::Fail(e) => Err(e),
            Verdict::Crash => Err(down()),
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> IoResult<usize> {
        self.check_writable()?;
        let end = offset.checked_add(bytes.len() as u64);
        self.check_log(|len| end.is_some_and(|end| end <= len))?;
        let (mut machine, verdict) = self.shared.begin(Operation::Write, &self.path)?;
        if let Verdict::Fail(e) = verdict {
            return Err(e);
        }
        let written = machine.write(self.file, bytes, offset, &verdict);
        if matches!(verdict, Verdict::Crash) { Err(down()) } else { written }
    }

    fn sync_data(&self) -> IoResult<()> {
        let (mut machine, verdict) = self.shared.begin(Operation::Sync, &self.path)?;
        match verdict {
            Verdict::Go | Verdict::Short => {
                machine.content_mut(self.file).sync();
                Ok(())
            }
            Verdict::Fail(e) => {
                machine.content_mut(self.file).fail_sync();
                Err(e)
            }
            Verdict::Crash => {
                if machine.rng.bool() {
                    machine.content_mut(self.file).sync();
                }
                Err(down())
            }
        }
    }

    fn len(&self) -> IoResult<u64> {
        self.shared
            .perform(Operation::Len, &self.path, |machine| Ok(machine.content(self.file).len()))
    }

    fn set_len(&self, len: u64) -> IoResult<()> {
        self.check_writable()?;
        self.check_log(|fixed| len == fixed)?;
        self.shared
            .perform(Operation::SetLen, &self.path, |machine| machine.set_len(self.file, len))
    }

    fn allocate(&self, len: u64) -> IoResult<()> {
        self.check_writable()?;
        self.check_log(|fixed| len <= fixed)?;
        self.shared
            .perform(Operation::Allocate, &self.path, |machine| machine.allocate(self.file, len))
    }

    fn prefetch(&self, _offset: u64, _len: u64) {}

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SimulatedFile {
    fn drop(&mut self) {
        self.shared.machine.lock().closed(self.file);
    }
}

struct SimulatedLock {
    shared: Arc<Shared>,
    file: FileId,
}

impl fmt::Debug for SimulatedLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimulatedLock")
    }
}

impl VfsLock for SimulatedLock {}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        self.shared.machine.lock().unlock(self.file);
    }
}
