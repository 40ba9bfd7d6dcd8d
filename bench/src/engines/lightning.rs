//! Lightning DB. Gets are pinned, scans walk a cursor: neither copies.

use std::path::Path;

use lightning_db::{Database, ErrorKind, LightningDbConfig, WalSyncMode, WriteBatch, WriteOptions};

use crate::engine::{Engine, Facts, PLAIN, Result, Settings};
use crate::workload::Key;

pub struct Lightning(Database);

impl Engine for Lightning {
    const FACTS: Facts = Facts {
        name: "lightning",
        about: "this engine: LZ4, checksums, transactions at snapshot isolation (its default)",
        promises: &[(
            "write",
            "every write is in the mapped log before it is acknowledged: a killed process loses nothing",
        )],
        ..PLAIN
    };

    fn open(settings: &Settings) -> Result<Self> {
        let wal_sync_mode = if settings.synced { WalSyncMode::Sync } else { WalSyncMode::Async };
        let config = LightningDbConfig {
            cache_size: settings.cache,
            wal_sync_mode,
            ..LightningDbConfig::load(None, std::env::vars())?
        };
        Ok(Self(Database::open_or_create(settings.dir.join("db"), config)?))
    }

    fn close(self) -> Result<()> {
        Ok(self.0.close()?)
    }

    fn load(&self, batch: &[(Key, Vec<u8>)]) -> Result<()> {
        let mut writes = WriteBatch::new();
        for (key, value) in batch {
            writes.put(key, value);
        }
        Ok(self.0.write(writes, WriteOptions::default())?)
    }

    fn get<R>(&self, key: &Key, see: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        Ok(self.0.get_pinned(key)?.map(|value| see(&value)))
    }

    fn get_copy(&self, key: &Key) -> Result<Option<Vec<u8>>> {
        Ok(self.0.get(key)?)
    }

    fn get_in_snapshot(
        &self,
        keys: impl Iterator<Item = Key>,
        mut see: impl FnMut(&Key, Option<&[u8]>),
    ) -> Result<()> {
        let snapshot = self.0.snapshot()?;
        for key in keys {
            see(&key, snapshot.get_pinned(key)?.as_deref());
        }
        Ok(())
    }

    fn scan(
        &self,
        backward: bool,
        from: Option<&Key>,
        mut see: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<()> {
        let mut cursor = self.0.cursor()?;
        let mut more = match from {
            Some(key) => cursor.seek(key)?,
            None if backward => cursor.seek_to_last()?,
            None => cursor.seek_to_first()?,
        };
        while more {
            let Some((key, value)) = cursor.entry()? else { break };
            if !see(key, value) {
                break;
            }
            more = if backward { cursor.prev()? } else { cursor.next()? };
        }
        Ok(())
    }

    fn scan_copy(&self, mut see: impl FnMut(Vec<u8>, Vec<u8>) -> bool) -> Result<()> {
        for pair in self.0.range(None, None)? {
            let (key, value) = pair?;
            if !see(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        Ok(self.0.put(key, value)?)
    }

    fn delete(&self, key: &Key) -> Result<()> {
        Ok(self.0.delete(key)?)
    }

    fn update<const N: usize>(
        &self,
        keys: [&Key; N],
        mut change: impl FnMut(&mut [Vec<u8>; N]),
    ) -> Result<()> {
        loop {
            let mut tx = self.0.transaction()?;
            let mut step = || {
                let mut values = [const { Vec::new() }; N];
                for (key, value) in keys.iter().zip(&mut values) {
                    *value = tx.get(key)?.ok_or_else(|| {
                        lightning_db::Error::new(ErrorKind::NotFound, "a key that was stored")
                    })?;
                }
                change(&mut values);
                keys.iter().zip(&values).try_for_each(|(key, value)| tx.put(key, value))
            };
            match step().and_then(|()| tx.commit()) {
                Err(e) if e.is_retryable() => {}
                done => return Ok(done?),
            }
        }
    }

    fn sync(&self) -> Result<()> {
        Ok(self.0.sync()?)
    }

    fn settle(&self) -> Result<()> {
        self.0.flush()?;
        Ok(self.0.compact()?)
    }

    fn is_log(path: &Path) -> bool {
        path.extension().is_some_and(|e| e == "wal")
    }

    fn state(&self) -> Result<String> {
        let stats = self.0.stats();
        let mut said = Vec::new();
        for k in &stats.keyspaces {
            said.push(format!(
                "{} runs over a base of {} partitions, {} levels deep",
                k.runs, k.base_partitions, k.depth
            ));
        }
        Ok(said.join("; "))
    }
}
