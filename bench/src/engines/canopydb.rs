//! Canopydb. Reads lend what lies in its page cache; each get is a transaction of its own.

use std::path::Path;

use canopydb::{Database, DbOptions, EnvOptions, Error as CanopyError, ReadTransaction, Tree};

use crate::engine::{Engine, Facts, PLAIN, Result, Settings, lost};
use crate::workload::Key;

const TREE: &[u8] = b"bench";

pub struct Canopydb(Database);

fn tree(tx: &ReadTransaction) -> Result<Tree<'_>> {
    Ok(tx.get_tree(TREE)?.ok_or("the tree is not there")?)
}

impl Canopydb {
    /// One transaction of a single writer.
    fn write(&self, act: impl FnOnce(&mut Tree<'_>) -> Result<()>) -> Result<()> {
        let tx = self.0.begin_write()?;
        {
            let mut tree = tx.get_or_create_tree(TREE)?;
            act(&mut tree)?;
        }
        tx.commit()?;
        Ok(())
    }
}

impl Engine for Canopydb {
    const FACTS: Facts = Facts {
        name: "canopydb",
        about: "canopydb 0.2, LZ4 of values over 12 KiB alone, page checksums off (its default); \
                transactions by concurrent writers (snapshot isolation), other writes by one writer",
        promises: &[("write", "in the system's hands: a killed process loses nothing")],
        ..PLAIN
    };

    fn open(settings: &Settings) -> Result<Self> {
        let mut environment = EnvOptions::new(&settings.dir);
        environment.page_cache_size = settings.cache;
        let mut options = DbOptions::new();
        options.default_commit_sync = settings.synced;
        let db = Self(Database::with_options(environment, options)?);
        db.write(|_| Ok(()))?;
        Ok(db)
    }

    fn load(&self, batch: &[(Key, Vec<u8>)]) -> Result<()> {
        self.write(|tree| {
            for (key, value) in batch {
                tree.insert(key, value)?;
            }
            Ok(())
        })
    }

    fn get<R>(&self, key: &Key, see: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        let tx = self.0.begin_read()?;
        Ok(tree(&tx)?.get(key)?.map(|value| see(&value)))
    }

    fn get_in_snapshot(
        &self,
        keys: impl Iterator<Item = Key>,
        mut see: impl FnMut(&Key, Option<&[u8]>),
    ) -> Result<()> {
        let tx = self.0.begin_read()?;
        let tree = tree(&tx)?;
        for key in keys {
            see(&key, tree.get(&key)?.as_deref());
        }
        Ok(())
    }

    fn scan(
        &self,
        backward: bool,
        from: Option<&Key>,
        mut see: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<()> {
        let tx = self.0.begin_read()?;
        let tree = tree(&tx)?;
        let mut pairs = match from {
            Some(from) => tree.range::<&[u8]>(from.as_slice()..)?,
            None => tree.iter()?,
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
        self.write(|tree| Ok(tree.insert(key, value)?))
    }

    fn delete(&self, key: &Key) -> Result<()> {
        self.write(|tree| {
            tree.delete(key)?;
            Ok(())
        })
    }

    fn update<const N: usize>(
        &self,
        keys: [&Key; N],
        mut change: impl FnMut(&mut [Vec<u8>; N]),
    ) -> Result<()> {
        loop {
            let tx = self.0.begin_write_concurrent()?;
            {
                let mut tree = tx.get_or_create_tree(TREE)?;
                let mut values = [const { Vec::new() }; N];
                for (key, value) in keys.iter().zip(&mut values) {
                    *value = tree.get(*key)?.ok_or_else(lost)?.to_vec();
                }
                change(&mut values);
                for (key, value) in keys.iter().zip(&values) {
                    tree.insert(*key, value)?;
                }
            }
            match tx.commit() {
                Err(CanopyError::WriteConflict) => {}
                done => return Ok(done.map(|_| ())?),
            }
        }
    }

    fn sync(&self) -> Result<()> {
        Ok(self.0.sync()?)
    }

    fn settle(&self) -> Result<()> {
        Ok(self.0.checkpoint()?)
    }

    fn shrink(self) -> Result<Self> {
        self.0.compact()?;
        Ok(self)
    }

    fn is_log(path: &Path) -> bool {
        path.file_name().is_some_and(|n| n.to_string_lossy().to_lowercase().starts_with("wal"))
    }

    fn state(&self) -> Result<String> {
        let tx = self.0.begin_read()?;
        Ok(format!("{} levels", tree(&tx)?.height()))
    }
}
