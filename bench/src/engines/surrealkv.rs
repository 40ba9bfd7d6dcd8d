//! SurrealKV. Commits are asynchronous and are waited for; gets copy.

use std::path::Path;

use surrealkv::{
    CompactRangeOptions, Durability, Error as SurrealError, LSMIterator, Mode, Transaction, Tree,
    TreeBuilder,
};
use tokio::runtime::{Builder, Runtime};

use crate::engine::{Engine, Facts, PLAIN, Result, Settings, lost};
use crate::workload::Key;

/// Past every key.
const END: [u8; 17] = [0xff; 17];

pub struct Surrealkv {
    tree: Tree,
    runtime: Runtime,
    durability: Durability,
}

impl Surrealkv {
    /// A transaction that writes what `act` says, again until nobody came between.
    fn write(&self, mut act: impl FnMut(&mut Transaction) -> Result<()>) -> Result<()> {
        loop {
            let mut tx = self.tree.begin()?.with_durability(self.durability);
            act(&mut tx)?;
            match self.runtime.block_on(tx.commit()) {
                Err(SurrealError::TransactionWriteConflict | SurrealError::TransactionRetry) => {}
                done => return Ok(done?),
            }
        }
    }
}

impl Engine for Surrealkv {
    const FACTS: Facts = Facts {
        name: "surrealkv",
        about: "surrealkv 1.2, its default of no compression (it has snappy and zstd), snapshot \
                isolation; commits waited for by a thread outside of its runtime (tokio), which costs two \
                changes of threads each",
        promises: &[("write", "in the system's hands: a killed process loses nothing")],
        ..PLAIN
    };

    fn open(settings: &Settings) -> Result<Self> {
        let runtime = Builder::new_multi_thread().enable_all().build()?;
        let durability = if settings.synced { Durability::Immediate } else { Durability::Eventual };
        let tree = {
            let _entered = runtime.enter();
            TreeBuilder::new()
                .with_path(settings.dir.clone())
                .with_block_cache_capacity(settings.cache as u64)
                .build()?
        };
        Ok(Self { tree, runtime, durability })
    }

    fn close(self) -> Result<()> {
        self.runtime.block_on(self.tree.close())?;
        Ok(())
    }

    fn load(&self, batch: &[(Key, Vec<u8>)]) -> Result<()> {
        self.write(|tx| {
            for (key, value) in batch {
                tx.set(key, value)?;
            }
            Ok(())
        })
    }

    fn get<R>(&self, key: &Key, see: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        let tx = self.tree.begin_with_mode(Mode::ReadOnly)?;
        Ok(tx.get(key)?.map(|value| see(&value)))
    }

    fn get_copy(&self, key: &Key) -> Result<Option<Vec<u8>>> {
        Ok(self.tree.begin_with_mode(Mode::ReadOnly)?.get(key)?)
    }

    fn get_in_snapshot(
        &self,
        keys: impl Iterator<Item = Key>,
        mut see: impl FnMut(&Key, Option<&[u8]>),
    ) -> Result<()> {
        let tx = self.tree.begin_with_mode(Mode::ReadOnly)?;
        for key in keys {
            see(&key, tx.get(&key)?.as_deref());
        }
        Ok(())
    }

    fn scan(
        &self,
        backward: bool,
        from: Option<&Key>,
        mut see: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<()> {
        let tx = self.tree.begin_with_mode(Mode::ReadOnly)?;
        let mut pairs = tx.range(from.map_or(&[][..], |key| key), &END[..])?;
        let mut more = if backward { pairs.seek_last()? } else { pairs.seek_first()? };
        while more {
            if !see(pairs.key().user_key(), &pairs.value_ref()?) {
                break;
            }
            more = if backward { pairs.prev()? } else { pairs.next()? };
        }
        Ok(())
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        self.write(|tx| Ok(tx.set(key, value)?))
    }

    fn delete(&self, key: &Key) -> Result<()> {
        self.write(|tx| Ok(tx.delete(key)?))
    }

    fn update<const N: usize>(
        &self,
        keys: [&Key; N],
        mut change: impl FnMut(&mut [Vec<u8>; N]),
    ) -> Result<()> {
        self.write(|tx| {
            let mut values = [const { Vec::new() }; N];
            for (key, value) in keys.iter().zip(&mut values) {
                *value = tx.get(*key)?.ok_or_else(lost)?;
            }
            change(&mut values);
            for (key, value) in keys.iter().zip(&values) {
                tx.set(*key, value)?;
            }
            Ok(())
        })
    }

    fn sync(&self) -> Result<()> {
        Ok(self.tree.flush_wal(true)?)
    }

    fn settle(&self) -> Result<()> {
        let _entered = self.runtime.enter();
        Ok(self.tree.compact_range(None, None, &CompactRangeOptions::default())?)
    }

    fn is_log(path: &Path) -> bool {
        path.extension().is_some_and(|e| e == "wal")
    }

    fn state(&self) -> Result<String> {
        Ok("levels are not told".to_owned())
    }
}
