//! CURRENT: the small file that names the live manifest.
//!
//! It is never written in place: a new one is written beside it, synced, renamed over it, and the
//! directory synced. Until the rename the old one stands. Bytes: see `frame`.

use std::io::ErrorKind as IoErrorKind;
use std::path::Path;
use std::sync::Arc;

use super::frame::{self, CURRENT_BYTES};
use crate::error::{Error, Result};
use crate::types::{DatabaseId, ManifestId};
use crate::vfs::{OpenMode, Vfs, read_exact_at, write_all_at};

const NAME: &str = "CURRENT";
const TEMPORARY: &str = "CURRENT.tmp";

/// Points CURRENT at a manifest file, which must be durable.
pub fn install_current(
    vfs: &Arc<dyn Vfs>,
    dir: &Path,
    id: ManifestId,
    db: DatabaseId,
) -> Result<()> {
    prepare(&**vfs, dir, id, db)?;
    swap(&**vfs, dir)
}

/// Writes the new CURRENT beside the old one. A failure has changed nothing.
pub(super) fn prepare(vfs: &dyn Vfs, dir: &Path, id: ManifestId, db: DatabaseId) -> Result<()> {
    let path = dir.join(TEMPORARY);
    match vfs.remove_file(&path) {
        Err(e) if e.kind() != IoErrorKind::NotFound => return Err(Error::io(&path, "remove", e)),
        _ => {}
    }
    let file = vfs.create(&path).map_err(|e| Error::io(&path, "create", e))?;
    write_all_at(&*file, &frame::encode_current(db, id), 0)?;
    file.sync_data().map_err(|e| Error::io(&path, "sync", e))
}

/// Puts the prepared CURRENT in the old one's place. After a failure either may be there.
pub(super) fn swap(vfs: &dyn Vfs, dir: &Path) -> Result<()> {
    let path = dir.join(NAME);
    vfs.rename(&dir.join(TEMPORARY), &path).map_err(|e| Error::io(&path, "replace", e))?;
    vfs.sync_dir(dir).map_err(|e| Error::io(dir, "sync the directory", e))
}

/// The id of the database in a directory, as CURRENT tells it; `NotFound` where there is none.
pub fn current_database(vfs: &dyn Vfs, dir: &Path) -> Result<DatabaseId> {
    read(vfs, dir).map(|(db, _)| db)
}

/// What CURRENT names.
pub(super) fn read(vfs: &dyn Vfs, dir: &Path) -> Result<(DatabaseId, ManifestId)> {
    let path = dir.join(NAME);
    let file = vfs.open(&path, OpenMode::Read).map_err(|e| Error::io(&path, "open", e))?;
    let len = file.len().map_err(|e| Error::io(&path, "measure", e))?;
    // One byte more than it should have is enough to see that it is too long.
    let mut bytes = [0; CURRENT_BYTES + 1];
    let bytes = &mut bytes[..len.min(CURRENT_BYTES as u64 + 1) as usize];
    read_exact_at(&*file, bytes, 0)?;
    frame::decode_current(&path, bytes)
}
