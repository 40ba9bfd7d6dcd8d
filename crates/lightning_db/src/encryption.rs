//! Calls about the keys of an encrypted database.

use crate::config::KeySource;
use crate::database::Database;
use crate::error::{Error, ErrorKind, Result};

impl Database {
    /// Whether the files are encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.handle.core.env.db.keys().is_some()
    }

    /// Changes the key that opens the database. Reads and writes go on; no data is written anew, only
    /// `KEYS`. Once this returns `Ok`, `new` opens the database and the old key does not. After
    /// `CommitUnknown` (the device failed) one of the two does; the call may be repeated.
    ///
    /// Whoever has kept both the old key and an old copy of `KEYS` can still read the database:
    /// against that, change the data keys too.
    ///
    /// ```
    /// use lightning_db::{Database, KeySource, LightningDbConfig};
    /// # fn main() -> lightning_db::Result<()> {
    /// # let dir = tempfile::tempdir().expect("a directory");
    /// # let path = dir.path().join("db");
    /// let with = |key| LightningDbConfig { encryption: Some(key), ..LightningDbConfig::default() };
    /// let db = Database::create(&path, with(KeySource::key([7; 32])))?;
    /// db.rotate_key(&KeySource::key([8; 32]))?;
    /// db.close()?;
    /// assert!(Database::open(&path, with(KeySource::key([7; 32]))).is_err());
    /// Database::open(&path, with(KeySource::key([8; 32])))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn rotate_key(&self, new: &KeySource) -> Result<()> {
        let core = &self.handle.core;
        core.check_writable()?;
        let Some(keys) = core.env.db.keys() else {
            let message = "the database is not encrypted, so it has no key to change";
            return Err(Error::new(ErrorKind::NotEncrypted, message).in_file(&core.env.dir));
        };
        if !new.is_possible() {
            let message = "the passphrase's cost is not 8 KiB to 1 GiB and 1 to 64 passes";
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        keys.rewrap(new)
    }
}
