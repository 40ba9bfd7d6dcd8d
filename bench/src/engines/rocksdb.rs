//! RocksDB with optimistic transactions. Gets are pinned, scans walk a raw iterator.

use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, DBCompressionType, ErrorKind, FlushOptions, OptimisticTransactionDB,
    OptimisticTransactionOptions, Options, ReadOptions, WaitForCompactOptions,
    WriteBatchWithTransaction, WriteOptions,
};

use crate::engine::{Engine, Facts, PLAIN, Result, Settings, lost};
use crate::workload::Key;

const BLOOM_BITS: f64 = 10.0;

/// Options are made once: the calls without would make them anew each time.
pub struct Rocksdb {
    db: OptimisticTransactionDB,
    read: ReadOptions,
    write: WriteOptions,
    transactions: OptimisticTransactionOptions,
}

impl Engine for Rocksdb {
    const FACTS: Facts = Facts {
        name: "rocksdb",
        about: "RocksDB 11.8, LZ4, 10-bit Bloom filters, optimistic transactions",
        promises: &[("write", "in the system's hands: a killed process loses nothing")],
        ..PLAIN
    };

    fn open(settings: &Settings) -> Result<Self> {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&Cache::new_lru_cache(settings.cache));
        blocks.set_bloom_filter(BLOOM_BITS, false);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_block_based_table_factory(&blocks);
        let db = OptimisticTransactionDB::open(&options, &settings.dir)?;
        let mut write = WriteOptions::default();
        write.set_sync(settings.synced);
        let transactions = OptimisticTransactionOptions::default();
        Ok(Self { db, read: ReadOptions::default(), write, transactions })
    }

    fn load(&self, batch: &[(Key, Vec<u8>)]) -> Result<()> {
        let mut writes = WriteBatchWithTransaction::<true>::default();
        for (key, value) in batch {
            writes.put(key, value);
        }
        Ok(self.db.write_opt(writes, &self.write)?)
    }

    fn get<R>(&self, key: &Key, see: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        Ok(self.db.get_pinned_opt(key, &self.read)?.map(|value| see(&value)))
    }

    fn get_in_snapshot(
        &self,
        keys: impl Iterator<Item = Key>,
        mut see: impl FnMut(&Key, Option<&[u8]>),
    ) -> Result<()> {
        let snapshot = self.db.snapshot();
        let mut read = ReadOptions::default();
        read.set_snapshot(&snapshot);
        for key in keys {
            see(&key, self.db.get_pinned_opt(key, &read)?.as_deref());
        }
        Ok(())
    }

    fn scan(
        &self,
        backward: bool,
        from: Option<&Key>,
        mut see: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<()> {
        let mut pairs = self.db.raw_iterator();
        match from {
            Some(from) => pairs.seek(from),
            None if backward => pairs.seek_to_last(),
            None => pairs.seek_to_first(),
        }
        while let Some((key, value)) = pairs.item() {
            if !see(key, value) {
                break;
            }
            if backward {
                pairs.prev();
            } else {
                pairs.next();
            }
        }
        Ok(pairs.status()?)
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        Ok(self.db.put_opt(key, value, &self.write)?)
    }

    fn delete(&self, key: &Key) -> Result<()> {
        Ok(self.db.delete_opt(key, &self.write)?)
    }

    fn update<const N: usize>(
        &self,
        keys: [&Key; N],
        mut change: impl FnMut(&mut [Vec<u8>; N]),
    ) -> Result<()> {
        loop {
            let tx = self.db.transaction_opt(&self.write, &self.transactions);
            let mut values = [const { Vec::new() }; N];
            for (key, value) in keys.iter().zip(&mut values) {
                *value = tx.get_for_update(key, true)?.ok_or_else(lost)?;
            }
            change(&mut values);
            for (key, value) in keys.iter().zip(&values) {
                tx.put(key, value)?;
            }
            match tx.commit() {
                Err(e) if matches!(e.kind(), ErrorKind::Busy | ErrorKind::TryAgain) => {}
                done => return Ok(done?),
            }
        }
    }

    fn sync(&self) -> Result<()> {
        Ok(self.db.flush_wal(true)?)
    }

    fn settle(&self) -> Result<()> {
        let mut flush = FlushOptions::default();
        flush.set_wait(true);
        self.db.flush_opt(&flush)?;
        self.db.compact_range(None::<&[u8]>, None::<&[u8]>);
        Ok(self.db.wait_for_compact(&WaitForCompactOptions::default())?)
    }

    fn is_log(path: &Path) -> bool {
        path.extension().is_some_and(|e| e == "log")
    }

    fn state(&self) -> Result<String> {
        let levels = self.db.property_value("rocksdb.levelstats")?.unwrap_or_default();
        let full = levels.lines().skip(2).filter_map(|line| {
            let mut words = line.split_whitespace();
            let (level, files) = (words.next()?, words.next()?);
            (files != "0").then(|| format!("{files} files in level {level}"))
        });
        Ok(full.collect::<Vec<_>>().join(", "))
    }
}
