//! LMDB, by `heed`. Reads lend what lies in the memory map; each get is a transaction of its own.

use std::ops::Bound;

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, WithTls};

use crate::engine::{Engine, Facts, PLAIN, Result, Settings, lost};
use crate::workload::Key;

/// Address space, not memory: the most the file may grow to.
const MAP_BYTES: usize = 256 << 30;
/// More than the threads of any row.
const READERS: u32 = 1024;

pub struct Lmdb {
    env: Env<WithTls>,
    map: Database<'static, Bytes, Bytes>,
}

fn walk<'a>(
    pairs: impl Iterator<Item = heed::Result<(&'a [u8], &'a [u8])>>,
    mut see: impl FnMut(&[u8], &[u8]) -> bool,
) -> Result<()> {
    for pair in pairs {
        let (key, value) = pair?;
        if !see(key, value) {
            break;
        }
    }
    Ok(())
}

impl Engine for Lmdb {
    const FACTS: Facts = Facts {
        name: "lmdb",
        about: "heed 0.23 (LMDB 0.9), no compression and no checksums to have; \
                its cache is the system's, whatever --cache says",
        promises: &[(
            "write",
            "NO_SYNC: a killed process loses nothing, but a power loss may damage the file",
        )],
        ..PLAIN
    };

    #[allow(unsafe_code, reason = "heed cannot know that the directory is this program's alone")]
    fn open(settings: &Settings) -> Result<Self> {
        let mut options = EnvOpenOptions::new();
        options.map_size(MAP_BYTES).max_readers(READERS);
        let flags = if settings.synced { EnvFlags::empty() } else { EnvFlags::NO_SYNC };
        // SAFETY: the directory is new and nobody else's, so nothing maps or writes its file
        // beside this; losing its content to a power loss is what was asked for.
        let env = unsafe { options.flags(flags).open(&settings.dir)? };
        let tx = env.write_txn()?;
        let map = env
            .create_databases_and_commit(tx, |open, tx| {
                let map = open.create_database::<Bytes, Bytes>(tx, None)?;
                Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(map))
            })?
            .unwrap_commit();
        Ok(Self { env, map })
    }

    fn close(self) -> Result<()> {
        self.env.prepare_for_closing().wait();
        Ok(())
    }

    fn load(&self, batch: &[(Key, Vec<u8>)]) -> Result<()> {
        let mut tx = self.env.write_txn()?;
        for (key, value) in batch {
            self.map.put(&mut tx, key, value)?;
        }
        Ok(tx.commit()?)
    }

    fn get<R>(&self, key: &Key, see: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        let tx = self.env.read_txn()?;
        Ok(self.map.get(&tx, key)?.map(see))
    }

    fn get_in_snapshot(
        &self,
        keys: impl Iterator<Item = Key>,
        mut see: impl FnMut(&Key, Option<&[u8]>),
    ) -> Result<()> {
        let tx = self.env.read_txn()?;
        for key in keys {
            see(&key, self.map.get(&tx, &key)?);
        }
        Ok(())
    }

    fn scan(
        &self,
        backward: bool,
        from: Option<&Key>,
        see: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<()> {
        let tx = self.env.read_txn()?;
        match from {
            Some(from) => {
                let range = (Bound::Included(from.as_slice()), Bound::Unbounded);
                walk(self.map.range(&tx, &range)?, see)
            }
            None if backward => walk(self.map.rev_iter(&tx)?, see),
            None => walk(self.map.iter(&tx)?, see),
        }
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        let mut tx = self.env.write_txn()?;
        self.map.put(&mut tx, key, value)?;
        Ok(tx.commit()?)
    }

    fn delete(&self, key: &Key) -> Result<()> {
        let mut tx = self.env.write_txn()?;
        self.map.delete(&mut tx, key)?;
        Ok(tx.commit()?)
    }

    fn update<const N: usize>(
        &self,
        keys: [&Key; N],
        mut change: impl FnMut(&mut [Vec<u8>; N]),
    ) -> Result<()> {
        let mut tx = self.env.write_txn()?;
        let mut values = [const { Vec::new() }; N];
        for (key, value) in keys.iter().zip(&mut values) {
            *value = self.map.get(&tx, *key)?.ok_or_else(lost)?.to_vec();
        }
        change(&mut values);
        for (key, value) in keys.iter().zip(&values) {
            self.map.put(&mut tx, *key, value)?;
        }
        Ok(tx.commit()?)
    }

    fn sync(&self) -> Result<()> {
        Ok(self.env.force_sync()?)
    }

    fn settle(&self) -> Result<()> {
        Ok(())
    }

    fn state(&self) -> Result<String> {
        let tx = self.env.read_txn()?;
        let stat = self.map.stat(&tx)?;
        Ok(format!(
            "{} levels, {} branch and {} leaf pages",
            stat.depth, stat.branch_pages, stat.leaf_pages
        ))
    }
}
