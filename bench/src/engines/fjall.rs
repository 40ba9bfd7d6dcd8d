//! fjall, opened with optimistic transactions. Gets share the bytes of the block or the memtable.

use std::path::Path;
use std::time::Duration;

use fjall::{
    Guard, KeyspaceCreateOptions, OptimisticTxDatabase, OptimisticTxKeyspace, PersistMode, Readable,
};

use crate::engine::{Engine, Facts, PLAIN, Result, Settings, lost};
use crate::workload::Key;

pub struct Fjall {
    db: OptimisticTxDatabase,
    items: OptimisticTxKeyspace,
    synced: bool,
}

impl Fjall {
    /// What a write has to wait for yet.
    fn wrote(&self) -> Result<()> {
        if self.synced {
            self.db.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }
}

impl Engine for Fjall {
    const FACTS: Facts = Facts {
        name: "fjall",
        about: "fjall 3.1, LZ4, optimistic transactions (serializable); \
                plain puts and batches go past them",
        promises: &[("write", "in the system's hands: a killed process loses nothing")],
        ..PLAIN
    };

    fn open(settings: &Settings) -> Result<Self> {
        let db = OptimisticTxDatabase::builder(&settings.dir)
            .cache_size(settings.cache as u64)
            .open()?;
        let items = db.keyspace("bench", KeyspaceCreateOptions::default)?;
        Ok(Self { db, items, synced: settings.synced })
    }

    fn load(&self, batch: &[(Key, Vec<u8>)]) -> Result<()> {
        let mut writes = self.db.inner().batch();
        for (key, value) in batch {
            writes.insert(self.items.inner(), *key, value.as_slice());
        }
        Ok(writes.commit()?)
    }

    fn get<R>(&self, key: &Key, see: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        Ok(self.items.get(key)?.map(|value| see(&value)))
    }

    fn get_in_snapshot(
        &self,
        keys: impl Iterator<Item = Key>,
        mut see: impl FnMut(&Key, Option<&[u8]>),
    ) -> Result<()> {
        let snapshot = self.db.read_tx();
        for key in keys {
            see(&key, snapshot.get(&self.items, key)?.as_deref());
        }
        Ok(())
    }

    fn scan(
        &self,
        backward: bool,
        from: Option<&Key>,
        mut see: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<()> {
        let items = self.items.inner();
        let mut pairs = match from {
            Some(from) => items.range::<&[u8], _>(from.as_slice()..),
            None => items.iter(),
        };
        while let Some(pair) = if backward { pairs.next_back() } else { pairs.next() } {
            let (key, value) = Guard::into_inner(pair)?;
            if !see(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        self.items.inner().insert(*key, value)?;
        self.wrote()
    }

    fn delete(&self, key: &Key) -> Result<()> {
        self.items.inner().remove(*key)?;
        self.wrote()
    }

    fn update<const N: usize>(
        &self,
        keys: [&Key; N],
        mut change: impl FnMut(&mut [Vec<u8>; N]),
    ) -> Result<()> {
        loop {
            let mut tx = self.db.write_tx()?;
            let mut values = [const { Vec::new() }; N];
            for (key, value) in keys.iter().zip(&mut values) {
                *value = tx.get(&self.items, key)?.ok_or_else(lost)?.to_vec();
            }
            change(&mut values);
            for (key, value) in keys.iter().zip(&values) {
                tx.insert(&self.items, **key, value.as_slice());
            }
            if tx.commit()?.is_ok() {
                return self.wrote();
            }
        }
    }

    fn sync(&self) -> Result<()> {
        Ok(self.db.persist(PersistMode::SyncAll)?)
    }

    fn settle(&self) -> Result<()> {
        let items = self.items.inner();
        items.rotate_memtable_and_wait()?;
        // It does not wait for a memtable that was already full, and on its way to a table.
        while items.sealed_memtable_count() > 0 || self.db.inner().outstanding_flushes() > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(items.major_compact()?)
    }

    fn is_log(path: &Path) -> bool {
        path.extension().is_some_and(|e| e == "jnl")
    }

    fn state(&self) -> Result<String> {
        let items = self.items.inner();
        Ok(format!("{} tables, {} in level 0", items.table_count(), items.l0_table_count()))
    }
}
