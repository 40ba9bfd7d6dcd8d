//! The next file of the log, made before it is needed: created and given its space, or taken from the
//! spare ones, with its name on the device. It has no header yet and so is no part of the log; left
//! behind by a crash it is passed over as one that was never begun.
//!
//! A [`Preparation`] is planned and its outcome handed in inside the commit section; it is carried
//! out outside.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::writer::log_path;
use crate::error::{Error, Result};
use crate::types::LogId;
use crate::vfs::{Vfs, VfsFile};

/// A file without a header.
#[derive(Debug)]
pub struct NextFile {
    pub(super) id: LogId,
    pub(super) capacity: u64,
    pub(super) file: Arc<dyn VfsFile>,
    /// How far it was asked for.
    pub(super) asked_to: u64,
}

/// What is to be made.
#[derive(Debug)]
pub struct Preparation {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    id: LogId,
    capacity: u64,
    spare: Option<LogId>,
}

impl Preparation {
    pub(super) fn new(
        vfs: &Arc<dyn Vfs>,
        dir: &Path,
        id: LogId,
        capacity: u64,
        spare: Option<LogId>,
    ) -> Self {
        Self { vfs: Arc::clone(vfs), dir: dir.to_path_buf(), id, capacity, spare }
    }

    /// Makes the file; where that fails, so will rolling, which says so to whoever commits then.
    pub fn make(self) -> Option<NextFile> {
        match make_file(&self.vfs, &self.dir, self.id, self.capacity, self.spare) {
            Ok(file) => Some(NextFile { id: self.id, capacity: self.capacity, file, asked_to: 0 }),
            Err(_) => {
                // It is no part of the log.
                let _ = self.vfs.remove_file(&log_path(&self.dir, self.id));
                if let Some(spare) = self.spare {
                    let _ = self.vfs.remove_file(&log_path(&self.dir, spare));
                }
                None
            }
        }
    }
}

/// Makes the file `id`, from a spare one where there is one, and its name durable.
pub(super) fn make_file(
    vfs: &Arc<dyn Vfs>,
    dir: &Path,
    id: LogId,
    capacity: u64,
    spare: Option<LogId>,
) -> Result<Arc<dyn VfsFile>> {
    let path = log_path(dir, id);
    let names = dir.join("wal");
    let file = if let Some(spare) = spare {
        let old = log_path(dir, spare);
        vfs.rename(&old, &path).map_err(|e| Error::io(&old, "rename", e))?;
        vfs.open_log_for_reuse(&path, capacity).map_err(|e| Error::io(&path, "open", e))?
    } else {
        vfs.create_log(&path, capacity).map_err(|e| Error::io(&path, "create", e))?
    };
    vfs.sync_dir(&names).map_err(|e| Error::io(&names, "sync the directory", e))?;
    Ok(file)
}
