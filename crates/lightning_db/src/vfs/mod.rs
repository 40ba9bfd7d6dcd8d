//! The seam to the outside: files, clocks, randomness and sleep. Nothing else in the engine
//! touches `std::fs`, a clock or a random source.
//!
//! | file | job |
//! |---|---|
//! | `os` | the operating system |
//! | `os_map` | log files of Linux written by copies into a mapping |
//! | `os_calls` | calls of Linux that the standard library lacks |
//! | `memory` | files that live and die with the process (`open_in_memory`) |
//! | `simulated` | a disk that loses, tears and reorders what was not synced, for tests |
//! | `io` | loops over short reads and writes, errors with file and offset |
//! | `names`, `pages` | directories and bytes of files, for the two that live in memory |

mod io;
mod memory;
mod names;
mod os;
#[cfg(target_os = "linux")]
mod os_calls;
#[cfg(target_os = "linux")]
mod os_map;
mod pages;
pub mod simulated;
#[cfg(test)]
mod tests;

pub use io::{read_exact_at, write_all_at};
pub use memory::MemoryVfs;
pub use os::OsVfs;
pub use simulated::SimulatedVfs;

use std::fmt::Debug;
use std::io::Result as IoResult;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How [`Vfs::open`] opens a file that exists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenMode {
    /// Reads only.
    Read,
    /// Reads and writes.
    ReadWrite,
}

/// A file system, a clock and a random source. Errors are the system's own; callers wrap them in
/// [`Error::io`](crate::Error::io) with the file's name.
pub trait Vfs: Send + Sync + Debug + 'static {
    /// Makes a new file, open for reading and writing; fails with `AlreadyExists`.
    fn create(&self, path: &Path) -> IoResult<Arc<dyn VfsFile>>;
    /// Opens a file that exists; fails with `NotFound`.
    fn open(&self, path: &Path, mode: OpenMode) -> IoResult<Arc<dyn VfsFile>>;
    /// Makes a log file of `len` bytes, their space reserved, whose writes may be copies into
    /// memory that the system shares with the file: such writes outlive the process at once, and
    /// a power cut after [`sync_data`](VfsFile::sync_data). A log keeps its length: a write past
    /// it, or another length, is refused with `InvalidInput` where writes are copies. Leaves no
    /// file behind when it fails.
    fn create_log(&self, path: &Path, len: u64) -> IoResult<Arc<dyn VfsFile>> {
        let file = self.create(path)?;
        if let Err(e) = file.allocate(len) {
            drop(file);
            // So that the call can be repeated once there is space; the error tells enough.
            let _ = self.remove_file(path);
            return Err(e);
        }
        Ok(file)
    }
    /// Opens an old log file to be written over, as [`create_log`](Self::create_log) would have
    /// made it; extends it to `len` where it is shorter, never cuts it.
    fn open_log_for_reuse(&self, path: &Path, len: u64) -> IoResult<Arc<dyn VfsFile>> {
        let file = self.open(path, OpenMode::ReadWrite)?;
        file.allocate(len)?;
        Ok(file)
    }
    /// Whether a file or directory is there.
    fn exists(&self, path: &Path) -> IoResult<bool>;
    /// Whether nobody but the owner (and whoever may read everything) may read a file; true where the
    /// system has no such rights.
    fn is_private(&self, path: &Path) -> IoResult<bool> {
        self.exists(path)
    }
    /// The names in a directory, sorted.
    fn list(&self, dir: &Path) -> IoResult<Vec<String>>;
    /// Makes a directory and its missing parents; it may exist.
    fn create_dir_all(&self, dir: &Path) -> IoResult<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> IoResult<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, dir: &Path) -> IoResult<()>;
    /// Renames a file, replacing `to`.
    fn rename(&self, from: &Path, to: &Path) -> IoResult<()>;
    /// Gives a file a second name.
    fn hard_link(&self, from: &Path, to: &Path) -> IoResult<()>;
    /// Makes the entries of a directory durable.
    fn sync_dir(&self, dir: &Path) -> IoResult<()>;
    /// Takes the lock of the file at `path` (made when missing and `exclusive`), shared or exclusive, held until the
    /// result is dropped; `Ok(None)` at once when someone else, this process included, holds it.
    fn try_lock(&self, path: &Path, exclusive: bool) -> IoResult<Option<Box<dyn VfsLock>>>;
    /// A clock that never goes back; its zero is arbitrary.
    fn monotonic(&self) -> Duration;
    /// Time since 1970-01-01 UTC; may jump.
    fn wall_clock(&self) -> Duration;
    /// Stops this thread for a while.
    fn sleep(&self, time: Duration);
    /// Fills `bytes` with random bytes.
    fn fill_random(&self, bytes: &mut [u8]) -> IoResult<()>;
    /// Processors that may be used, for sizing thread pools.
    fn processors(&self) -> usize;
}

/// An open file. Reads and writes may be short, as the system's are; use [`read_exact_at`] and
/// [`write_all_at`].
pub trait VfsFile: Send + Sync + Debug {
    /// Reads at `offset`; 0 at the end of the file.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> IoResult<usize>;
    /// Writes at `offset`, growing the file where needed.
    fn write_at(&self, bytes: &[u8], offset: u64) -> IoResult<usize>;
    /// Makes the data, and the length, durable.
    fn sync_data(&self) -> IoResult<()>;
    /// The file's length in bytes.
    fn len(&self) -> IoResult<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> IoResult<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts or extends (with zeros) the file.
    fn set_len(&self, len: u64) -> IoResult<()>;
    /// Reserves space so that writes below `len` do not run out of it; extends the file to `len`.
    /// Where the system cannot reserve, extends only.
    fn allocate(&self, len: u64) -> IoResult<()>;
    /// Tells the system that this range will be read soon; a hint.
    fn prefetch(&self, offset: u64, len: u64);
    /// The path it was opened with.
    fn path(&self) -> &Path;
}

/// A held lock; dropping it releases it.
pub trait VfsLock: Send + Sync + Debug {}

/// The path of a file in a directory, for messages.
pub fn join(dir: &Path, name: &str) -> PathBuf {
    dir.join(name)
}
