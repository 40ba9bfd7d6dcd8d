//! Files in memory that remember what was read and asked for ahead, and that fail when told.

use std::io::{Error as IoError, ErrorKind as IoErrorKind, Result as IoResult};
use std::path::Path;
use std::time::Duration;

use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, Mutex};
use crate::vfs::{MemoryVfs, OpenMode, Vfs, VfsFile, VfsLock};

/// What happened to a file: offset and length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Event {
    Read(u64, u64),
    Prefetch(u64, u64),
}

#[derive(Debug, Default)]
pub(super) struct Watch {
    events: Mutex<Vec<Event>>,
    pub reads_fail: AtomicBool,
    pub disk_is_full: AtomicBool,
}

impl Watch {
    /// What happened since the last call.
    pub(super) fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.lock())
    }

    /// The number of reads since the last call.
    pub(super) fn take_reads(&self) -> usize {
        self.take().iter().filter(|e| matches!(e, Event::Read(..))).count()
    }
}

#[derive(Debug, Default)]
pub(super) struct WatchedVfs {
    files: MemoryVfs,
    pub watch: Arc<Watch>,
}

#[derive(Debug)]
struct WatchedFile {
    file: Arc<dyn VfsFile>,
    watch: Arc<Watch>,
}

impl WatchedVfs {
    fn watched(&self, file: Arc<dyn VfsFile>) -> Arc<dyn VfsFile> {
        Arc::new(WatchedFile { file, watch: Arc::clone(&self.watch) })
    }
}

impl Vfs for WatchedVfs {
    fn create(&self, path: &Path) -> IoResult<Arc<dyn VfsFile>> {
        Ok(self.watched(self.files.create(path)?))
    }
    fn open(&self, path: &Path, mode: OpenMode) -> IoResult<Arc<dyn VfsFile>> {
        Ok(self.watched(self.files.open(path, mode)?))
    }
    fn exists(&self, path: &Path) -> IoResult<bool> {
        self.files.exists(path)
    }
    fn list(&self, dir: &Path) -> IoResult<Vec<String>> {
        self.files.list(dir)
    }
    fn create_dir_all(&self, dir: &Path) -> IoResult<()> {
        self.files.create_dir_all(dir)
    }
    fn remove_file(&self, path: &Path) -> IoResult<()> {
        self.files.remove_file(path)
    }
    fn remove_dir(&self, dir: &Path) -> IoResult<()> {
        self.files.remove_dir(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> IoResult<()> {
        self.files.rename(from, to)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> IoResult<()> {
        self.files.hard_link(from, to)
    }
    fn sync_dir(&self, dir: &Path) -> IoResult<()> {
        self.files.sync_dir(dir)
    }
    fn try_lock(&self, path: &Path, exclusive: bool) -> IoResult<Option<Box<dyn VfsLock>>> {
        self.files.try_lock(path, exclusive)
    }
    fn monotonic(&self) -> Duration {
        self.files.monotonic()
    }
    fn wall_clock(&self) -> Duration {
        self.files.wall_clock()
    }
    fn sleep(&self, time: Duration) {
        self.files.sleep(time);
    }
    fn fill_random(&self, bytes: &mut [u8]) -> IoResult<()> {
        self.files.fill_random(bytes)
    }
    fn processors(&self) -> usize {
        self.files.processors()
    }
}

impl VfsFile for WatchedFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> IoResult<usize> {
        if self.watch.reads_fail.load(Ordering::Relaxed) {
            return Err(IoError::other("the device failed"));
        }
        self.watch.events.lock().push(Event::Read(offset, bytes.len() as u64));
        self.file.read_at(bytes, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> IoResult<usize> {
        if self.watch.disk_is_full.load(Ordering::Relaxed) {
            return Err(IoError::from(IoErrorKind::StorageFull));
        }
        self.file.write_at(bytes, offset)
    }
    fn sync_data(&self) -> IoResult<()> {
        self.file.sync_data()
    }
    fn len(&self) -> IoResult<u64> {
        self.file.len()
    }
    fn set_len(&self, len: u64) -> IoResult<()> {
        self.file.set_len(len)
    }
    fn allocate(&self, len: u64) -> IoResult<()> {
        self.file.allocate(len)
    }
    fn prefetch(&self, offset: u64, len: u64) {
        self.watch.events.lock().push(Event::Prefetch(offset, len));
    }
    fn path(&self) -> &Path {
        self.file.path()
    }
}
