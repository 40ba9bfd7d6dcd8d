//! The data keys of an open database, and `KEYS`, which holds them wrapped by the outer key.
//!
//! 1. A slot is written only while the other is whole, and fsynced before the other is touched: a
//!    crash leaves the old keys or the new ones.
//! 2. A change is done when both slots hold it: rot in one then loses nothing, and nothing of what
//!    was before is left. What a crash left half done is finished by the next opening for writing.
//! 3. A write that failed has left its slot in doubt: the next one begins with the same slot.
//! 4. A new data key is used only after it is in both slots.
//!
//! Changes are serialised by a latch; data keys are read under another, held for a copy only.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::secret::{KEY_BYTES, Secret};
use super::slots::{self, Drawn, Epoch, Making, SLOT_BYTES, Slot};
use super::unlock::{self, Given};
use crate::config::KeySource;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Mutex, RwLock};
use crate::types::DatabaseId;
use crate::vfs::{OpenMode, Vfs, VfsFile, read_exact_at, write_all_at};

/// The file of the wrapped keys.
pub const KEYS_FILE: &str = "KEYS";

/// The keys of an open database.
pub struct Keyring {
    vfs: Arc<dyn Vfs>,
    path: PathBuf,
    db: DatabaseId,
    /// By epoch; never empty.
    epochs: RwLock<Vec<Epoch>>,
    outer: Mutex<Outer>,
}

/// The outer key, and where the slots stand.
struct Outer {
    key: Secret,
    making: Making,
    /// The generation of the newest slot.
    generation: u64,
    /// The slot to be written first.
    next: usize,
    /// Whether the slots may differ.
    unfinished: bool,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Keyring {
    /// Draws the first data key and writes `KEYS`, which is durable when this returns.
    pub(super) fn create(
        vfs: &Arc<dyn Vfs>,
        dir: &Path,
        db: DatabaseId,
        source: &KeySource,
    ) -> Result<Self> {
        let path = dir.join(KEYS_FILE);
        let given = unlock::take(&**vfs, source)?;
        let making = given.making(draw(&**vfs, &path)?);
        let key = given.outer_key(&making)?;
        let first = Secret::new(draw(&**vfs, &path)?);
        let file = vfs.create(&path).map_err(|e| Error::io(&path, "create", e))?;
        let outer = Outer { key, making, generation: 0, next: 0, unfinished: true };
        let ring = Self {
            vfs: Arc::clone(vfs),
            path,
            db,
            epochs: RwLock::new(vec![(1, first)]),
            outer: Mutex::new(outer),
        };
        ring.write_both(&*file, &mut ring.outer.lock(), &ring.epochs.read())?;
        vfs.sync_dir(dir).map_err(|e| Error::io(dir, "sync the directory", e))?;
        Ok(ring)
    }

    /// Opens `KEYS`. Writes nothing.
    pub(super) fn open(
        vfs: &Arc<dyn Vfs>,
        dir: &Path,
        db: DatabaseId,
        source: &KeySource,
    ) -> Result<Self> {
        let path = dir.join(KEYS_FILE);
        let file = vfs.open(&path, OpenMode::Read).map_err(|e| Error::io(&path, "open", e))?;
        let found = [read_slot(&*file, 0)?, read_slot(&*file, 1)?];
        let generation = |i: usize| found[i].as_ref().map_or(0, |s| s.generation);
        let newest = usize::from(generation(1) > generation(0));
        let Some(slot) = &found[newest] else {
            return Err(Error::corrupt(&path, 0, "neither of the two copies of the keys is whole"));
        };
        if slot.db != db {
            return Err(Error::corrupt(&path, 16, "the keys are those of another database"));
        }
        let given = unlock::take(&**vfs, source)?;
        let key = given.outer_key(&slot.making).map_err(|e| e.in_file(&path))?;
        if !slot.is_opened_by(&key)? {
            let message = "the key is not the one that the database was encrypted with";
            return Err(Error::new(ErrorKind::WrongKey, message).in_file(&path));
        }
        let epochs = slot.unwrap(&key, &path)?;
        // A change ends with the slot that does not lead: a pair of neighbours is a finished one.
        let other = &found[1 - newest];
        let finished = other.as_ref().is_some_and(|o| {
            o.generation + 1 == slot.generation
                && slot.generation % 2 == 0
                && o.making == slot.making
        });
        let outer = Outer {
            key,
            making: slot.making,
            generation: slot.generation,
            next: 1 - newest,
            unfinished: !finished,
        };
        Ok(Self {
            vfs: Arc::clone(vfs),
            path,
            db,
            epochs: RwLock::new(epochs),
            outer: Mutex::new(outer),
        })
    }

    /// Finishes a change that a crash cut short; for a handle that may write. What was read may lie in
    /// the system's memory only, so it is synced even where nothing is left to be written.
    pub fn finish_change(&self) -> Result<()> {
        let mut outer = self.outer.lock();
        let file = self.open_file()?;
        if outer.unfinished {
            return self.write_both(&*file, &mut outer, &self.epochs.read());
        }
        file.sync_data().map_err(|e| Error::io(&self.path, "sync", e))
    }

    /// The epoch that new files are written under.
    pub fn newest_epoch(&self) -> u32 {
        self.epochs.read().last().map_or(0, |e| e.0)
    }

    /// The data key of an epoch, if it is there.
    pub(super) fn data_key(&self, epoch: u32) -> Option<Secret> {
        self.epochs.read().iter().find(|e| e.0 == epoch).map(|e| e.1.clone())
    }

    /// Wraps the data keys by another outer key, from now on the only one that opens the database.
    ///
    /// Where it fails on the way to the device, the error is `CommitUnknown`: the old key or the new
    /// one opens the database. It may be tried again.
    pub fn rewrap(&self, source: &KeySource) -> Result<()> {
        let given: Given = unlock::take(&*self.vfs, source)?;
        let making = given.making(draw(&*self.vfs, &self.path)?);
        let key = given.outer_key(&making)?;
        let file = self.open_file()?;
        let mut outer = self.outer.lock();
        let Outer { generation, next, unfinished, .. } = *outer;
        let mut changed = Outer { key, making, generation, next, unfinished };
        let written = self.write_both(&*file, &mut changed, &self.epochs.read());
        if written.is_err() {
            // What was begun stays in doubt; this handle goes on with the key it knows.
            outer.generation = changed.generation;
            outer.next = changed.next;
            outer.unfinished = true;
            return written.map_err(|e| e.with_kind(ErrorKind::CommitUnknown));
        }
        *outer = changed;
        Ok(())
    }

    /// Whether there are data keys besides the newest: a change of them is under way.
    pub fn is_changing(&self) -> bool {
        self.epochs.read().len() > 1
    }

    /// Draws another data key, under which new files are written once this returns.
    pub fn add_data_key(&self) -> Result<()> {
        let drawn = Secret::new(draw(&*self.vfs, &self.path)?);
        self.change(|epochs| {
            let newest = epochs.last().map_or(0, |e| e.0);
            if epochs.len() == slots::MAX_EPOCHS || newest == u32::MAX {
                let message = "too many data keys wait for what is under them to be written anew";
                return Err(Error::new(ErrorKind::InvalidArgument, message).in_file(&self.path));
            }
            epochs.push((newest + 1, drawn));
            Ok(())
        })
    }

    /// Drops every data key older than `newest`: nothing may be left under them.
    pub fn drop_old_data_keys(&self, newest: u32) -> Result<()> {
        self.change(|epochs| {
            epochs.retain(|(epoch, _)| *epoch >= newest);
            Ok(())
        })
    }

    /// Changes the data keys in both slots, and only then in memory. Where that fails on the way to the
    /// device, the next opening finds them as they were or as they were to be; here they stay.
    fn change(&self, change: impl FnOnce(&mut Vec<Epoch>) -> Result<()>) -> Result<()> {
        let file = self.open_file()?;
        let mut outer = self.outer.lock();
        let mut epochs = self.epochs.read().clone();
        change(&mut epochs)?;
        let written = self.write_both(&*file, &mut outer, &epochs);
        written.map_err(|e| e.with_kind(ErrorKind::CommitUnknown))?;
        *self.epochs.write() = epochs;
        Ok(())
    }

    fn open_file(&self) -> Result<Arc<dyn VfsFile>> {
        let opened = self.vfs.open(&self.path, OpenMode::ReadWrite);
        opened.map_err(|e| Error::io(&self.path, "open", e))
    }

    /// Writes the data keys to both slots, one after the other.
    fn write_both(&self, file: &dyn VfsFile, outer: &mut Outer, epochs: &[Epoch]) -> Result<()> {
        outer.unfinished = true;
        // So that the second of the two has an even generation.
        outer.generation += outer.generation % 2;
        for _ in 0..2 {
            outer.generation += 1;
            let drawn =
                Drawn { salt: draw(&*self.vfs, &self.path)?, nonce: draw(&*self.vfs, &self.path)? };
            let bytes =
                slots::encode(self.db, outer.generation, outer.making, &outer.key, epochs, &drawn)?;
            write_all_at(file, &bytes[..], (outer.next * SLOT_BYTES) as u64)?;
            file.sync_data().map_err(|e| Error::io(&self.path, "sync", e))?;
            outer.next = 1 - outer.next;
        }
        outer.unfinished = false;
        Ok(())
    }
}

fn read_slot(file: &dyn VfsFile, slot: usize) -> Result<Option<Slot>> {
    let len = file.len().map_err(|e| Error::io(file.path(), "measure", e))?;
    let at = (slot * SLOT_BYTES) as u64;
    if len < at + SLOT_BYTES as u64 {
        return Ok(None);
    }
    let mut bytes = [0; SLOT_BYTES];
    read_exact_at(file, &mut bytes, at)?;
    slots::decode(file.path(), &bytes)
}

fn draw<const N: usize>(vfs: &dyn Vfs, file: &Path) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    vfs.fill_random(&mut bytes).map_err(|e| Error::io(file, "draw random bytes for", e))?;
    Ok(bytes)
}

const _: () = assert!(KEY_BYTES == 32, "AES-256");
