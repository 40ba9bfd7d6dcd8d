//! [`OsVfs`]: the files, clocks and randomness of the operating system.
//!
//! | | Linux | macOS | Windows |
//! |---|---|---|---|
//! | `sync_data` | `fdatasync` | `F_FULLFSYNC` (by `std`) | `FlushFileBuffers` |
//! | `sync_dir` | `fsync` of the directory | `F_FULLFSYNC` of it | nothing: NTFS logs its names itself, and a directory cannot be flushed without special rights |
//! | `allocate` | `fallocate`, else `set_len` | `set_len` | `set_len` |
//! | `try_lock` | `flock` | `flock` | `LockFileEx` |
//! | log files | mapped where that is safe, see `os_map` | plain | plain |
//! | past a file-size limit | an error, asked for before each write | a signal (SIGXFSZ), unless the application ignores it | no such limit |
//!
//! `flock` belongs to the open file, not to the process: closing another descriptor of the lock
//! file does not drop it, and a second opener in this process is refused.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this is the one place that talks to the operating system"
)]

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Error as IoError, Result as IoResult};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

#[cfg(target_os = "linux")]
use super::os_calls;
#[cfg(target_os = "linux")]
use super::os_map::MappedLog;
use super::{OpenMode, Vfs, VfsFile, VfsLock};

/// The operating system.
#[derive(Clone, Copy, Default, Debug)]
pub struct OsVfs;

/// Time since the first call in this process.
pub(super) fn monotonic() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// Time since 1970-01-01 UTC; a clock set before that reads as 1970.
pub(super) fn wall_clock() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

impl OsVfs {
    /// A handle to the operating system's files.
    pub fn shared() -> Arc<dyn Vfs> {
        Arc::new(Self)
    }

    fn create_new(path: &Path) -> IoResult<OsFile> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        Ok(OsFile { file, path: path.to_path_buf() })
    }

    fn open_file(path: &Path, mode: OpenMode) -> IoResult<OsFile> {
        let write = mode == OpenMode::ReadWrite;
        let file = OpenOptions::new().read(true).write(write).open(path)?;
        Ok(OsFile { file, path: path.to_path_buf() })
    }
}

impl Vfs for OsVfs {
    fn create(&self, path: &Path) -> IoResult<Arc<dyn VfsFile>> {
        Ok(Arc::new(Self::create_new(path)?))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> IoResult<Arc<dyn VfsFile>> {
        Ok(Arc::new(Self::open_file(path, mode)?))
    }

    fn create_log(&self, path: &Path, len: u64) -> IoResult<Arc<dyn VfsFile>> {
        let made = Self::create_new(path)?.into_log(len);
        if made.is_err() {
            // So that the call can be repeated once there is space; the error tells enough.
            let _ = fs::remove_file(path);
        }
        made
    }

    fn open_log_for_reuse(&self, path: &Path, len: u64) -> IoResult<Arc<dyn VfsFile>> {
        Self::open_file(path, OpenMode::ReadWrite)?.into_log(len)
    }

    fn exists(&self, path: &Path) -> IoResult<bool> {
        path.try_exists()
    }

    #[cfg(unix)]
    fn is_private(&self, path: &Path) -> IoResult<bool> {
        use std::os::unix::fs::PermissionsExt;
        const OTHERS: u32 = 0o077;
        Ok(fs::metadata(path)?.permissions().mode() & OTHERS == 0)
    }

    fn list(&self, dir: &Path) -> IoResult<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn create_dir_all(&self, dir: &Path) -> IoResult<()> {
        fs::create_dir_all(dir)
    }

    fn remove_file(&self, path: &Path) -> IoResult<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> IoResult<()> {
        fs::remove_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> IoResult<()> {
        fs::rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> IoResult<()> {
        fs::hard_link(from, to)
    }

    #[cfg(not(windows))]
    fn sync_dir(&self, dir: &Path) -> IoResult<()> {
        // The path of a file in the current directory has an empty parent.
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        File::open(dir)?.sync_all()
    }

    #[cfg(windows)]
    fn sync_dir(&self, _dir: &Path) -> IoResult<()> {
        Ok(())
    }

    fn try_lock(&self, path: &Path, exclusive: bool) -> IoResult<Option<Box<dyn VfsLock>>> {
        let mut options = OpenOptions::new();
        options.read(true);
        if exclusive {
            options.write(true).create(true).truncate(false);
        }
        let file = options.open(path)?;
        let locked = if exclusive { file.try_lock() } else { file.try_lock_shared() };
        match locked {
            Ok(()) => Ok(Some(Box::new(OsLock { file }))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }

    fn monotonic(&self) -> Duration {
        monotonic()
    }

    fn wall_clock(&self) -> Duration {
        wall_clock()
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn fill_random(&self, bytes: &mut [u8]) -> IoResult<()> {
        getrandom::fill(bytes).map_err(IoError::other)
    }

    fn processors(&self) -> usize {
        std::thread::available_parallelism().map_or(1, |n| n.get())
    }
}

/// A file read and written by positional calls.
#[derive(Debug)]
struct OsFile {
    file: File,
    path: PathBuf,
}

impl OsFile {
    /// Extends the file to `len` unless it is that long.
    fn extend(&self, len: u64) -> IoResult<()> {
        if len > self.file.metadata()?.len() { self.set_len(len) } else { Ok(()) }
    }

    /// Reserves `len` bytes, and the rest of a file that is longer, and maps them where that
    /// is safe.
    #[cfg(target_os = "linux")]
    fn into_log(self, len: u64) -> IoResult<Arc<dyn VfsFile>> {
        let len = len.max(self.file.metadata()?.len());
        if !os_calls::reserve(&self.file, len)? {
            self.extend(len)?;
            return Ok(Arc::new(self));
        }
        match MappedLog::new(self.file, self.path, len) {
            Ok(log) => Ok(Arc::new(log)),
            Err((file, path)) => Ok(Arc::new(Self { file, path })),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn into_log(self, len: u64) -> IoResult<Arc<dyn VfsFile>> {
        self.allocate(len)?;
        Ok(Arc::new(self))
    }
}

impl VfsFile for OsFile {
    #[cfg(unix)]
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> IoResult<usize> {
        std::os::unix::fs::FileExt::read_at(&self.file, bytes, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> IoResult<usize> {
        std::os::windows::fs::FileExt::seek_read(&self.file, bytes, offset)
    }

    #[cfg(unix)]
    fn write_at(&self, bytes: &[u8], offset: u64) -> IoResult<usize> {
        // A write that begins below a limit is cut off there; the next one would end the process.
        #[cfg(target_os = "linux")]
        os_calls::check_size_limit(offset.saturating_add(1))?;
        std::os::unix::fs::FileExt::write_at(&self.file, bytes, offset)
    }

    #[cfg(windows)]
    fn write_at(&self, bytes: &[u8], offset: u64) -> IoResult<usize> {
        std::os::windows::fs::FileExt::seek_write(&self.file, bytes, offset)
    }

    fn sync_data(&self) -> IoResult<()> {
        self.file.sync_data()
    }

    fn len(&self) -> IoResult<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> IoResult<()> {
        #[cfg(target_os = "linux")]
        os_calls::check_size_limit(len)?;
        self.file.set_len(len)
    }

    fn allocate(&self, len: u64) -> IoResult<()> {
        #[cfg(target_os = "linux")]
        if os_calls::reserve(&self.file, len)? {
            return Ok(());
        }
        self.extend(len)
    }

    fn prefetch(&self, offset: u64, len: u64) {
        #[cfg(target_os = "linux")]
        os_calls::will_need(&self.file, offset, len);
        #[cfg(not(target_os = "linux"))]
        let _ = (offset, len);
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// A held lock.
#[derive(Debug)]
struct OsLock {
    file: File,
}

impl VfsLock for OsLock {}

impl Drop for OsLock {
    fn drop(&mut self) {
        // Closing the file would leave the lock with a process forked meanwhile, which has the same
        // open file, until that ends or executes another program. Where this fails closing is left.
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database that was closed could not be opened again while a process lived that had been forked
    /// meanwhile: the lock belongs to the open file, which such a process has too.
    #[test]
    fn a_lock_ends_with_its_handle_whoever_else_has_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).unwrap();
        file.try_lock().unwrap();
        let lock = OsLock { file };
        let forked = lock.file.try_clone().unwrap();
        drop(lock);
        let path = dir.path().join("LOCK");
        assert!(OsVfs.try_lock(&path, true).unwrap().is_some());
        drop(forked);
    }
}
