//! The directory: what belongs to a database, what state it is in, and removing it.
//!
//! A directory without CURRENT is either none of ours, or holds what a creation that was cut short
//! left behind (no segment, no log record), which may be removed; anything else is damage.

use std::path::Path;

use crate::crypto::KEYS_FILE;
use crate::error::{Error, ErrorKind, Result};
use crate::vfs::{OpenMode, Vfs, VfsLock, read_exact_at};
use crate::wal::FILE_HEADER_BYTES;

/// The directories of a database and the ends of the file names in them.
const PARTS: [(&str, &str); 3] = [("wal", ".wal"), ("seg", ".seg"), ("manifest", ".man")];
/// The files beside them.
const FILES: [&str; 4] = ["CURRENT", "CURRENT.tmp", "LOCK", KEYS_FILE];

/// What a directory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing, or no directory.
    Nothing,
    /// What a creation that was cut short left.
    Unfinished,
    /// A database.
    Database,
}

/// Lists a directory; a missing one is empty.
pub fn list(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<String>> {
    if !vfs.exists(dir).map_err(|e| Error::io(dir, "look at the directory", e))? {
        return Ok(Vec::new());
    }
    vfs.list(dir).map_err(|e| Error::io(dir, "list the directory", e))
}

/// The number in a file name such as `00000012.seg`.
pub fn numbered(name: &str, end: &str) -> Option<u64> {
    let digits = name.strip_suffix(end)?;
    (digits.len() >= 6 && digits.bytes().all(|b| b.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}

/// Looks at a directory.
pub fn inspect(vfs: &dyn Vfs, dir: &Path) -> Result<Found> {
    let names = list(vfs, dir)?;
    if names.iter().any(|n| n == "CURRENT") {
        return Ok(Found::Database);
    }
    let ours = |n: &String| FILES.contains(&n.as_str()) || PARTS.iter().any(|(p, _)| p == n);
    if let Some(other) = names.iter().find(|n| !ours(n)) {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!(
                "the directory holds {other:?} and no database; one is made in a new or empty directory"
            ),
        )
        .in_file(dir));
    }
    if names.iter().all(|n| n == "LOCK") {
        return Ok(Found::Nothing);
    }
    let current = dir.join("CURRENT");
    if !list(vfs, &dir.join("seg"))?.is_empty() {
        return Err(Error::corrupt(&current, 0, "CURRENT is missing beside segments"));
    }
    for name in list(vfs, &dir.join("wal"))? {
        if holds_records(vfs, &dir.join("wal").join(&name))? {
            return Err(Error::corrupt(&current, 0, "CURRENT is missing beside a log in use"));
        }
    }
    Ok(Found::Unfinished)
}

/// Whether anything was ever written past a log file's header.
fn holds_records(vfs: &dyn Vfs, path: &Path) -> Result<bool> {
    let file = vfs.open(path, OpenMode::Read).map_err(|e| Error::io(path, "open", e))?;
    let len = file.len().map_err(|e| Error::io(path, "measure", e))?;
    let at = FILE_HEADER_BYTES as u64;
    let mut bytes = vec![0; len.saturating_sub(at).min(64) as usize];
    read_exact_at(&*file, &mut bytes, at)?;
    Ok(bytes.iter().any(|b| *b != 0))
}

/// Takes the lock, or says `Locked`.
pub fn lock(vfs: &dyn Vfs, dir: &Path, exclusive: bool) -> Result<Box<dyn VfsLock>> {
    let path = dir.join("LOCK");
    let lock = vfs.try_lock(&path, exclusive).map_err(|e| Error::io(&path, "lock", e))?;
    lock.ok_or_else(|| {
        Error::new(ErrorKind::Locked, "another handle or process has the database open")
            .in_file(&path)
    })
}

/// Removes the files of a part of the database for which `remove` says so.
pub fn remove_files(
    vfs: &dyn Vfs,
    dir: &Path,
    part: &str,
    remove: impl Fn(u64) -> bool,
) -> Result<u64> {
    let end = PARTS.iter().find(|(p, _)| *p == part).map_or("", |(_, e)| e);
    let part_dir = dir.join(part);
    let mut removed = 0;
    for name in list(vfs, &part_dir)? {
        if numbered(&name, end).is_some_and(&remove) {
            let path = part_dir.join(&name);
            vfs.remove_file(&path).map_err(|e| Error::io(&path, "remove", e))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Removes what a creation that was cut short left.
pub fn clear_unfinished(vfs: &dyn Vfs, dir: &Path) -> Result<()> {
    for (part, _) in PARTS {
        remove_files(vfs, dir, part, |_| true)?;
    }
    remove(vfs, &dir.join(KEYS_FILE))
}

/// Takes back a creation that failed, as far as that goes: what is left is cleared by the next one.
/// A directory that was made is removed, so that the next attempt makes its name anew: after a
/// failed sync of the parent, another sync of the same name would falsely succeed.
pub fn unmake(vfs: &dyn Vfs, dir: &Path, remove_dir: bool) {
    let _ = clear_unfinished(vfs, dir);
    for (part, _) in PARTS {
        let _ = vfs.remove_dir(&dir.join(part));
    }
    let _ = vfs.remove_file(&dir.join("CURRENT.tmp"));
    if remove_dir {
        let _ = vfs.remove_file(&dir.join("LOCK"));
        let _ = vfs.remove_dir(dir);
    }
}

/// Removes a file that may be missing.
fn remove(vfs: &dyn Vfs, path: &Path) -> Result<()> {
    match vfs.remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, "remove", e)),
        _ => Ok(()),
    }
}

/// Makes the directories of a database that are missing: tools that copy files may leave out empty
/// directories, and `wal` is empty after a clean close.
pub fn make_missing(vfs: &dyn Vfs, dir: &Path) -> Result<()> {
    for (part, _) in PARTS {
        let path = dir.join(part);
        if !vfs.exists(&path).map_err(|e| Error::io(&path, "look at the directory", e))? {
            vfs.create_dir_all(&path).map_err(|e| Error::io(&path, "make the directory", e))?;
            sync(vfs, dir)?;
        }
    }
    Ok(())
}

/// Makes the directories, durably.
pub fn make(vfs: &dyn Vfs, dir: &Path) -> Result<()> {
    for (part, _) in PARTS {
        let path = dir.join(part);
        vfs.create_dir_all(&path).map_err(|e| Error::io(&path, "make the directory", e))?;
    }
    sync(vfs, dir)?;
    match dir.parent().filter(|p| !p.as_os_str().is_empty()) {
        Some(parent) => sync(vfs, parent),
        None => Ok(()),
    }
}

fn sync(vfs: &dyn Vfs, dir: &Path) -> Result<()> {
    vfs.sync_dir(dir).map_err(|e| Error::io(dir, "sync the directory", e))
}

/// Removes a closed database's files; other files, and then the directory, are left.
pub fn destroy(vfs: &dyn Vfs, dir: &Path) -> Result<()> {
    let names = list(vfs, dir)?;
    if !names.iter().any(|n| n == "CURRENT") {
        return Err(Error::new(ErrorKind::NotFound, "there is no database").in_file(dir));
    }
    let guard = lock(vfs, dir, true)?;
    // CURRENT first: what a crash leaves is no database any more.
    remove(vfs, &dir.join("CURRENT"))?;
    sync(vfs, dir)?;
    remove(vfs, &dir.join(KEYS_FILE))?;
    for (part, _) in PARTS {
        remove_files(vfs, dir, part, |_| true)?;
        let path = dir.join(part);
        if list(vfs, &path)?.is_empty() && vfs.exists(&path).unwrap_or(false) {
            vfs.remove_dir(&path).map_err(|e| Error::io(&path, "remove", e))?;
        }
    }
    remove(vfs, &dir.join("CURRENT.tmp"))?;
    remove(vfs, &dir.join("LOCK"))?;
    drop(guard);
    if list(vfs, dir)?.is_empty() {
        vfs.remove_dir(dir).map_err(|e| Error::io(dir, "remove", e))?;
    }
    Ok(())
}
