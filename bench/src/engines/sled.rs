//! sled 0.34. Gets share the bytes of the node.

use std::io::ErrorKind::WouldBlock;
use std::time::{Duration, Instant};

use sled::transaction::{ConflictableTransactionError, TransactionError, TransactionalTree, abort};
use sled::{Batch, Config, Db};

use crate::engine::{Engine, Error, Facts, PLAIN, Result, Settings, lost};
use crate::workload::Key;

/// How long its lock may be held after it was closed.
const LONGEST_CLOSING: Duration = Duration::from_secs(10);

pub struct Sled {
    db: Db,
    synced: bool,
}

impl Sled {
    /// What a write has to wait for yet.
    fn wrote(&self) -> Result<()> {
        if self.synced {
            self.db.flush()?;
        }
        Ok(())
    }
}

impl Engine for Sled {
    const FACTS: Facts = Facts {
        name: "sled",
        about: "sled 0.34, its default of no compression (it has zstd alone)",
        promises: &[
            ("read", "no snapshots"),
            ("write", "a killed process may lose what was written in the last half second"),
            (
                "sync",
                "its flush asks the system to write (sync_file_range) and syncs neither the file nor the \
                 device: a power cut may take what was acknowledged",
            ),
        ],
        syncs_device: false,
        snapshots: false,
        survives_kill: false,
        ..PLAIN
    };

    fn open(settings: &Settings) -> Result<Self> {
        let config = Config::new().path(&settings.dir).cache_capacity(settings.cache as u64);
        let given_up = Instant::now() + LONGEST_CLOSING;
        let db = loop {
            match config.open() {
                // Threads of the one that was closed a moment ago still hold its lock.
                Err(sled::Error::Io(e)) if e.kind() == WouldBlock && Instant::now() < given_up => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                opened => break opened?,
            }
        };
        Ok(Self { db, synced: settings.synced })
    }

    fn close(self) -> Result<()> {
        self.db.flush()?;
        Ok(())
    }

    fn load(&self, batch: &[(Key, Vec<u8>)]) -> Result<()> {
        let mut writes = Batch::default();
        for (key, value) in batch {
            writes.insert(key, value.as_slice());
        }
        Ok(self.db.apply_batch(writes)?)
    }

    fn get<R>(&self, key: &Key, see: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        Ok(self.db.get(key)?.map(|value| see(&value)))
    }

    fn get_in_snapshot(
        &self,
        keys: impl Iterator<Item = Key>,
        mut see: impl FnMut(&Key, Option<&[u8]>),
    ) -> Result<()> {
        for key in keys {
            see(&key, self.db.get(key)?.as_deref());
        }
        Ok(())
    }

    fn scan(
        &self,
        backward: bool,
        from: Option<&Key>,
        mut see: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<()> {
        let mut pairs = match from {
            Some(from) => self.db.range(from.as_slice()..),
            None => self.db.iter(),
        };
        while let Some(pair) = if backward { pairs.next_back() } else { pairs.next() } {
            let (key, value) = pair?;
            if !see(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        self.db.insert(key, value)?;
        self.wrote()
    }

    fn delete(&self, key: &Key) -> Result<()> {
        self.db.remove(key)?;
        self.wrote()
    }

    fn update<const N: usize>(
        &self,
        keys: [&Key; N],
        change: impl FnMut(&mut [Vec<u8>; N]),
    ) -> Result<()> {
        // sled calls this again itself where somebody came between, by a shared reference.
        let change = std::cell::RefCell::new(change);
        let step = |tx: &TransactionalTree| {
            let mut values = [const { Vec::new() }; N];
            for (key, value) in keys.iter().zip(&mut values) {
                match tx.get(key)? {
                    Some(found) => *value = found.to_vec(),
                    None => return abort(()),
                }
            }
            (change.borrow_mut())(&mut values);
            for (key, value) in keys.iter().zip(values) {
                tx.insert(key.as_slice(), value)?;
            }
            Ok::<(), ConflictableTransactionError<()>>(())
        };
        self.db.transaction(step).map_err(|e| match e {
            TransactionError::Abort(()) => lost(),
            TransactionError::Storage(e) => Error::from(e),
        })?;
        self.wrote()
    }

    fn sync(&self) -> Result<()> {
        self.db.flush()?;
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        self.sync()
    }

    fn state(&self) -> Result<String> {
        Ok(format!("space amplification {:.1}", self.db.space_amplification()?))
    }
}
