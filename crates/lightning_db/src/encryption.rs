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
    /// against that, [`rotate_data_key`](Self::rotate_data_key) too.
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
        let keys = self.handle.core.writable_keys()?;
        if !new.is_possible() {
            let message = "the passphrase's cost is not 8 KiB to 1 GiB and 1 to 64 passes";
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        keys.rewrap(new)
    }

    /// Begins to write everything anew under a new data key; the key that opens the database stays. New
    /// files are under it at once, the others are renewed in the background, after all other work
    /// that is due; once none is left, the old data key is destroyed. That goes on after a crash or
    /// another opening. It costs as much writing as there is data, and meanwhile space for the largest
    /// partition or run twice.
    ///
    /// Without background threads, or to have it done now, call
    /// [`finish_data_key_rotation`](Self::finish_data_key_rotation). Begun again before it is done, what
    /// has been renewed is renewed once more; 16 data keys may live at once, then it is an
    /// `InvalidArgument`. After `CommitUnknown` (the device failed) it has begun or not.
    ///
    /// It is for when an old key *and* an old copy of `KEYS` may be in wrong hands: with them, all files
    /// that were written before can be read, and those written from now on cannot.
    pub fn rotate_data_key(&self) -> Result<()> {
        self.handle.core.begin_rekey()
    }

    /// Whether files are still to be written anew under the newest data key.
    pub fn is_rotating_data_key(&self) -> bool {
        self.handle.core.env.db.keys().is_some_and(|k| k.is_changing())
    }

    /// Does on this thread what is left of [`rotate_data_key`](Self::rotate_data_key); tells whether the
    /// old data keys are destroyed. It is `false` while a reader or cursor of changes still needs what was
    /// logged under them, or an ingest goes on, and can be where commits came in between: call it again later.
    ///
    /// ```
    /// use lightning_db::{Database, KeySource, LightningDbConfig};
    /// # fn main() -> lightning_db::Result<()> {
    /// # let dir = tempfile::tempdir().expect("a directory");
    /// # let path = dir.path().join("db");
    /// let encryption = Some(KeySource::key([7; 32]));
    /// let db = Database::create(&path, LightningDbConfig { encryption, ..Default::default() })?;
    /// db.put(b"name", b"value")?;
    /// db.rotate_data_key()?;
    /// assert!(db.finish_data_key_rotation()?);
    /// assert!(!db.is_rotating_data_key());
    /// # Ok(())
    /// # }
    /// ```
    pub fn finish_data_key_rotation(&self) -> Result<bool> {
        self.handle.core.finish_rekey()
    }
}
