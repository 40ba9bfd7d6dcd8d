//! redb. Reads lend what lies in its cache; each get is a transaction of its own.

use redb::{
    Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition,
    WriteTransaction,
};

use crate::engine::{Engine, Facts, PLAIN, Result, Settings, lost};
use crate::workload::Key;

type Table = ReadOnlyTable<&'static [u8], &'static [u8]>;
const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("bench");

pub struct Redb {
    db: Database,
    durability: Durability,
}

impl Redb {
    fn write(&self) -> Result<WriteTransaction> {
        let mut tx = self.db.begin_write()?;
        tx.set_durability(self.durability)?;
        Ok(tx)
    }

    fn table(&self) -> Result<Table> {
        Ok(self.db.begin_read()?.open_table(TABLE)?)
    }
}

impl Engine for Redb {
    const FACTS: Facts = Facts {
        name: "redb",
        about: "redb 4.4, no compression to have",
        promises: &[(
            "write",
            "Durability::None: a killed process loses everything since the last durable commit",
        )],
        survives_kill: false,
        ..PLAIN
    };

    fn open(settings: &Settings) -> Result<Self> {
        let path = settings.dir.join("redb");
        let fresh = !path.exists();
        let db = Database::builder().set_cache_size(settings.cache).create(path)?;
        if fresh {
            let tx = db.begin_write()?;
            tx.open_table(TABLE)?;
            tx.commit()?;
        }
        let durability = if settings.synced { Durability::Immediate } else { Durability::None };
        Ok(Self { db, durability })
    }

    fn load(&self, batch: &[(Key, Vec<u8>)]) -> Result<()> {
        let tx = self.write()?;
        {
            let mut table = tx.open_table(TABLE)?;
            for (key, value) in batch {
                table.insert(key.as_slice(), value.as_slice())?;
            }
        }
        Ok(tx.commit()?)
    }

    fn get<R>(&self, key: &Key, see: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        Ok(self.table()?.get(key.as_slice())?.map(|value| see(value.value())))
    }

    fn get_in_snapshot(
        &self,
        keys: impl Iterator<Item = Key>,
        mut see: impl FnMut(&Key, Option<&[u8]>),
    ) -> Result<()> {
        let table = self.table()?;
        for key in keys {
            let found = table.get(key.as_slice())?;
            see(&key, found.as_ref().map(|value| value.value()));
        }
        Ok(())
    }

    fn scan(
        &self,
        backward: bool,
        from: Option<&Key>,
        mut see: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<()> {
        let table = self.table()?;
        let mut range = match from {
            Some(from) => table.range::<&[u8]>(from.as_slice()..)?,
            None => table.iter()?,
        };
        while let Some(pair) = if backward { range.next_back() } else { range.next() } {
            let (key, value) = pair?;
            if !see(key.value(), value.value()) {
                break;
            }
        }
        Ok(())
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        let tx = self.write()?;
        tx.open_table(TABLE)?.insert(key.as_slice(), value)?;
        Ok(tx.commit()?)
    }

    fn delete(&self, key: &Key) -> Result<()> {
        let tx = self.write()?;
        tx.open_table(TABLE)?.remove(key.as_slice())?;
        Ok(tx.commit()?)
    }

    fn update<const N: usize>(
        &self,
        keys: [&Key; N],
        mut change: impl FnMut(&mut [Vec<u8>; N]),
    ) -> Result<()> {
        let tx = self.write()?;
        {
            let mut table = tx.open_table(TABLE)?;
            let mut values = [const { Vec::new() }; N];
            for (key, value) in keys.iter().zip(&mut values) {
                *value = table.get(key.as_slice())?.ok_or_else(lost)?.value().to_vec();
            }
            change(&mut values);
            for (key, value) in keys.iter().zip(&values) {
                table.insert(key.as_slice(), value.as_slice())?;
            }
        }
        Ok(tx.commit()?)
    }

    /// A durable commit takes those before it along.
    fn sync(&self) -> Result<()> {
        Ok(self.db.begin_write()?.commit()?)
    }

    /// There is nothing to merge; what is not durable yet becomes so.
    fn settle(&self) -> Result<()> {
        self.sync()
    }

    fn shrink(mut self) -> Result<Self> {
        while self.db.compact()? {}
        Ok(self)
    }

    fn state(&self) -> Result<String> {
        let stats = self.db.begin_write()?.stats()?;
        Ok(format!(
            "{} levels, {} branch and {} leaf pages",
            stats.tree_height(),
            stats.branch_pages(),
            stats.leaf_pages()
        ))
    }
}
