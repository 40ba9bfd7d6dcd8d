//! Calls that write files of their own on the caller's thread and take long: closing waits for them,
//! so that none meets the files of whoever opens the directory next; and while one runs, no old data key
//! goes, under which its files may be.

use std::sync::Arc;

use crate::error::Result;
use crate::maintenance::core::Core;
use crate::sync::{Condvar, Mutex, MutexGuard};

/// How many such calls there are.
#[derive(Debug, Default)]
pub struct FileJobs {
    running: Mutex<usize>,
    ended: Condvar,
}

/// One of them.
#[derive(Debug)]
pub struct FileJob {
    core: Arc<Core>,
}

impl FileJob {
    /// Begins one; refused once the database is closed.
    pub fn begin(core: &Arc<Core>) -> Result<Self> {
        let mut running = core.file_jobs.running.lock();
        // Under the latch: closing says that it closes before it looks.
        core.check_writable()?;
        *running += 1;
        Ok(Self { core: Arc::clone(core) })
    }
}

impl Drop for FileJob {
    fn drop(&mut self) {
        *self.core.file_jobs.running.lock() -= 1;
        self.core.file_jobs.ended.notify_all();
    }
}

impl FileJobs {
    /// Keeps others from beginning, if there are none.
    pub fn none(&self) -> Option<MutexGuard<'_, usize>> {
        Some(self.running.lock()).filter(|running| **running == 0)
    }

    /// Waits until there are none; no more begin.
    pub fn wait_for_end(&self) {
        let mut running = self.running.lock();
        while *running > 0 {
            running = self.ended.wait(running);
        }
    }
}
