//! The database that a file belongs to: its id, and its keys where it is encrypted.
//!
//! 1. Files of an encrypted database are all encrypted, those of a plain one none: a file of the other
//!    kind is refused, so that nothing can be slipped in between.
//! 2. Every use of a file has a salt of its own, and with it a key of its own.
//!
//! Cheap to clone; any number of threads.

use std::path::Path;
use std::sync::Arc;

use super::file_key::{FileKey, FileKind, FileSalt, Sealer};
use super::keyring::{KEYS_FILE, Keyring};
use crate::config::KeySource;
use crate::error::{Error, ErrorKind, Result};
use crate::types::DatabaseId;
use crate::vfs::Vfs;

/// Whose a file is.
#[derive(Clone, Debug)]
pub struct Owner {
    id: DatabaseId,
    keys: Option<Arc<Keyring>>,
}

impl Owner {
    /// A database without encryption.
    pub fn plain(id: DatabaseId) -> Self {
        Self { id, keys: None }
    }

    /// A new database, encrypted where a key is given: then its `KEYS` is written, and durable.
    pub fn create(
        vfs: &Arc<dyn Vfs>,
        dir: &Path,
        id: DatabaseId,
        source: Option<&KeySource>,
    ) -> Result<Self> {
        let keys = source.map(|s| Keyring::create(vfs, dir, id, s).map(Arc::new)).transpose()?;
        Ok(Self { id, keys })
    }

    /// The database in `dir`, unlocked by `source` where it has a `KEYS`. Writes nothing.
    pub fn open(
        vfs: &Arc<dyn Vfs>,
        dir: &Path,
        id: DatabaseId,
        source: Option<&KeySource>,
    ) -> Result<Self> {
        let path = dir.join(KEYS_FILE);
        if !vfs.exists(&path).map_err(|e| Error::io(&path, "look for", e))? {
            return Ok(Self::plain(id));
        }
        let Some(source) = source else {
            let message = "the database is encrypted, and no key was given";
            return Err(Error::new(ErrorKind::KeyRequired, message).in_file(&path));
        };
        let keys = Keyring::open(vfs, dir, id, source)?;
        Ok(Self { id, keys: Some(Arc::new(keys)) })
    }

    /// The database's id.
    pub fn id(&self) -> DatabaseId {
        self.id
    }

    /// The keys, where the database is encrypted.
    pub fn keys(&self) -> Option<&Arc<Keyring>> {
        self.keys.as_ref()
    }

    /// What a new use of a file writes in its header, where the database is encrypted.
    pub fn draw_salt(&self, vfs: &dyn Vfs, file: &Path) -> Result<Option<FileSalt>> {
        let Some(keys) = &self.keys else { return Ok(None) };
        let mut salt = [0; super::secret::KEY_BYTES];
        vfs.fill_random(&mut salt).map_err(|e| Error::io(file, "draw a random salt for", e))?;
        Ok(Some(FileSalt { epoch: keys.newest_epoch(), salt }))
    }

    /// Seals what is written to a file with this header.
    pub fn sealer(
        &self,
        salt: Option<&FileSalt>,
        kind: FileKind,
        header: &[u8],
        file: &Path,
    ) -> Result<Option<Sealer>> {
        Ok(self.file_key(salt, kind, header, file)?.map(Sealer::new))
    }

    /// Opens what lies in a file with this header, which must be encrypted if the database is, and
    /// only then.
    pub fn file_key(
        &self,
        salt: Option<&FileSalt>,
        kind: FileKind,
        header: &[u8],
        file: &Path,
    ) -> Result<Option<FileKey>> {
        match (&self.keys, salt) {
            (None, None) => Ok(None),
            (Some(keys), Some(salt)) => {
                let Some(data_key) = keys.data_key(salt.epoch) else {
                    let message = format!(
                        "the file is encrypted under key {}, which is not there",
                        salt.epoch
                    );
                    return Err(Error::corrupt(file, 0, message));
                };
                FileKey::new(&data_key, salt, kind, header).map(Some)
            }
            (None, Some(_)) => Err(Error::corrupt(
                file,
                0,
                "the file is encrypted, and there is no KEYS to open it with",
            )),
            (Some(_), None) => {
                Err(Error::corrupt(file, 0, "the file is plain, and the database is encrypted"))
            }
        }
    }
}
