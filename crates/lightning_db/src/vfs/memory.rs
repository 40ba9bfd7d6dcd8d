//! [`MemoryVfs`]: files that live and die with the process, with real clocks and randomness.
//!
//! 1. Names, links, locks and open files that lost their names behave as the operating system's.
//! 2. Nothing is ever durable: syncs succeed and do nothing.
//!
//! Clones are the same file system. One latch guards the names, one each file's bytes; the first
//! is never waited for while the second is held.

use std::fmt;
use std::io::{Error as IoError, ErrorKind as IoErrorKind, Result as IoResult};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::names::{Entry, Names, normal};
use super::os::{self, OsVfs};
use super::pages::{Pages, checked_end};
use super::{OpenMode, Vfs, VfsFile, VfsLock};
use crate::sync::{Mutex, RwLock};

/// A file system in the memory of this process.
#[derive(Clone, Default)]
pub struct MemoryVfs {
    names: Arc<Mutex<Names<Node>>>,
}

/// A file, whatever its names.
#[derive(Clone)]
struct Node(Arc<NodeState>);

#[derive(Default)]
struct NodeState {
    pages: RwLock<Pages>,
    lock: Mutex<LockState>,
}

/// Who holds the lock of a file.
#[derive(Default)]
struct LockState {
    exclusive: bool,
    shared: usize,
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl MemoryVfs {
    /// An empty file system.
    pub fn new() -> Self {
        Self::default()
    }

    fn insert_new(names: &mut Names<Node>, path: &Path) -> IoResult<Node> {
        names.check_free(path)?;
        let node = Node(Arc::default());
        names.insert(path.to_path_buf(), Entry::File(node.clone()));
        Ok(node)
    }
}

impl fmt::Debug for MemoryVfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryVfs").field("files", &self.names.lock().files().count()).finish()
    }
}

impl Vfs for MemoryVfs {
    fn create(&self, path: &Path) -> IoResult<Arc<dyn VfsFile>> {
        let node = Self::insert_new(&mut self.names.lock(), &normal(path))?;
        Ok(Arc::new(MemoryFile { node, path: path.to_path_buf(), mode: OpenMode::ReadWrite }))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> IoResult<Arc<dyn VfsFile>> {
        let node = self.names.lock().file(&normal(path))?;
        Ok(Arc::new(MemoryFile { node, path: path.to_path_buf(), mode }))
    }

    fn exists(&self, path: &Path) -> IoResult<bool> {
        Ok(self.names.lock().get(&normal(path)).is_some())
    }

    fn list(&self, dir: &Path) -> IoResult<Vec<String>> {
        self.names.lock().list(&normal(dir))
    }

    fn create_dir_all(&self, dir: &Path) -> IoResult<()> {
        let mut names = self.names.lock();
        for dir in names.missing_dirs(&normal(dir))? {
            names.insert(dir, Entry::Dir);
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> IoResult<()> {
        let (path, mut names) = (normal(path), self.names.lock());
        names.file(&path)?;
        names.remove(&path);
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> IoResult<()> {
        let (dir, mut names) = (normal(dir), self.names.lock());
        names.check_remove_dir(&dir)?;
        names.remove(&dir);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> IoResult<()> {
        let (from, to, mut names) = (normal(from), normal(to), self.names.lock());
        if let Some(node) = names.check_rename(&from, &to)? {
            names.remove(&from);
            names.insert(to, Entry::File(node));
        }
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> IoResult<()> {
        let (to, mut names) = (normal(to), self.names.lock());
        let node = names.file(&normal(from))?;
        names.check_free(&to)?;
        names.insert(to, Entry::File(node));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> IoResult<()> {
        self.names.lock().check_dir(&normal(dir))
    }

    fn try_lock(&self, path: &Path, exclusive: bool) -> IoResult<Option<Box<dyn VfsLock>>> {
        let path = normal(path);
        let mut names = self.names.lock();
        let node = match names.file(&path) {
            Err(e) if e.kind() == IoErrorKind::NotFound && exclusive => {
                Self::insert_new(&mut names, &path)?
            }
            found => found?,
        };
        let mut state = node.0.lock.lock();
        if state.exclusive || (exclusive && state.shared > 0) {
            return Ok(None);
        }
        state.exclusive = exclusive;
        state.shared += usize::from(!exclusive);
        drop(state);
        Ok(Some(Box::new(MemoryLock { node })))
    }

    fn monotonic(&self) -> Duration {
        os::monotonic()
    }

    fn wall_clock(&self) -> Duration {
        os::wall_clock()
    }

    fn sleep(&self, time: Duration) {
        OsVfs.sleep(time);
    }

    fn fill_random(&self, bytes: &mut [u8]) -> IoResult<()> {
        OsVfs.fill_random(bytes)
    }

    fn processors(&self) -> usize {
        OsVfs.processors()
    }
}

struct MemoryFile {
    node: Node,
    path: PathBuf,
    mode: OpenMode,
}

impl MemoryFile {
    fn check_writable(&self) -> IoResult<()> {
        match self.mode {
            OpenMode::ReadWrite => Ok(()),
            OpenMode::Read => Err(IoError::from(IoErrorKind::PermissionDenied)),
        }
    }
}

impl fmt::Debug for MemoryFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryFile({})", self.path.display())
    }
}

impl VfsFile for MemoryFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> IoResult<usize> {
        Ok(self.node.0.pages.read().read(bytes, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> IoResult<usize> {
        self.check_writable()?;
        let end = checked_end(offset, bytes.len())?;
        let mut pages = self.node.0.pages.write();
        if !bytes.is_empty() && end > pages.len() {
            pages.set_len(end);
        }
        pages.overwrite(bytes, offset);
        Ok(bytes.len())
    }

    fn sync_data(&self) -> IoResult<()> {
        Ok(())
    }

    fn len(&self) -> IoResult<u64> {
        Ok(self.node.0.pages.read().len())
    }

    fn set_len(&self, len: u64) -> IoResult<()> {
        self.check_writable()?;
        checked_end(len, 0)?;
        self.node.0.pages.write().set_len(len);
        Ok(())
    }

    fn allocate(&self, len: u64) -> IoResult<()> {
        self.check_writable()?;
        checked_end(len, 0)?;
        let mut pages = self.node.0.pages.write();
        if len > pages.len() {
            pages.set_len(len);
        }
        Ok(())
    }

    fn prefetch(&self, _offset: u64, _len: u64) {}

    fn path(&self) -> &Path {
        &self.path
    }
}

/// A held lock. Exclusive and shared holders exclude each other, so the state says which this is.
struct MemoryLock {
    node: Node,
}

impl fmt::Debug for MemoryLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryLock")
    }
}

impl VfsLock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        let mut state = self.node.0.lock.lock();
        if state.exclusive {
            state.exclusive = false;
        } else {
            state.shared -= 1;
        }
    }
}
