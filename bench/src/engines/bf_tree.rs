//! Bf-Tree: an index. Its log is off, as by default: with it each write waits for the next flush of
//! the log, a millisecond, and flushes are not synced. It copies what it reads into the caller's
//! buffer, walks forward alone, and has no transactions, no snapshots and no sync.

use bf_tree::{BfTree, Config, LeafInsertResult, LeafReadResult, ScanReturnField};

use crate::engine::{Engine, Facts, PLAIN, Result, Settings};
use crate::workload::Key;

pub struct BfTreeEngine {
    tree: BfTree,
    value_bytes: usize,
}

/// A buffer on the stack for values up to this.
const SMALL: usize = 128;

impl BfTreeEngine {
    fn read<R>(
        &self,
        key: &Key,
        buffer: &mut [u8],
        see: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        match self.tree.read(key, buffer) {
            LeafReadResult::Found(length) => Ok(Some(see(&buffer[..length as usize]))),
            LeafReadResult::NotFound | LeafReadResult::Deleted => Ok(None),
            LeafReadResult::InvalidKey => Err("bf-tree does not take this key".into()),
        }
    }
}

impl Engine for BfTreeEngine {
    const FACTS: Facts = Facts {
        name: "bf-tree",
        about: "bf-tree 0.5, an index without a log (its default), no compression to have; \
                the cache rounded down to a power of two",
        promises: &[
            ("read", "no snapshots; values are copied"),
            (
                "write",
                "nothing is promised: what is in the cache goes with the process; no batches",
            ),
            ("load", "no sync to wait for"),
        ],
        backward: false,
        snapshots: false,
        transactions: false,
        reopens: false,
        syncs: false,
        ..PLAIN
    };

    fn open(settings: &Settings) -> Result<Self> {
        let config = Config::new(settings.dir.join("index"), 1 << settings.cache.ilog2());
        let tree = BfTree::with_config(config, None).map_err(|e| format!("{e:?}"))?;
        Ok(Self { tree, value_bytes: settings.value_bytes })
    }

    fn load(&self, batch: &[(Key, Vec<u8>)]) -> Result<()> {
        batch.iter().try_for_each(|(key, value)| self.put(key, value))
    }

    fn get<R>(&self, key: &Key, see: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        if self.value_bytes <= SMALL {
            self.read(key, &mut [0; SMALL], see)
        } else {
            self.read(key, &mut vec![0; self.value_bytes], see)
        }
    }

    fn get_in_snapshot(
        &self,
        keys: impl Iterator<Item = Key>,
        mut see: impl FnMut(&Key, Option<&[u8]>),
    ) -> Result<()> {
        let mut buffer = vec![0; self.value_bytes];
        for key in keys {
            if self.read(&key, &mut buffer, |value| see(&key, Some(value)))?.is_none() {
                see(&key, None);
            }
        }
        Ok(())
    }

    fn scan(
        &self,
        _backward: bool,
        from: Option<&Key>,
        mut see: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<()> {
        let from = from.unwrap_or(&[0; 16]);
        let mut buffer = vec![0; size_of::<Key>() + self.value_bytes];
        let pairs = self.tree.scan_with_count(from, usize::MAX, ScanReturnField::KeyAndValue);
        let mut pairs = pairs.map_err(|e| format!("{e:?}"))?;
        while let Some((key, value)) = pairs.next(&mut buffer) {
            if !see(&buffer[..key], &buffer[key..key + value]) {
                break;
            }
        }
        Ok(())
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        match self.tree.insert(key, value) {
            LeafInsertResult::Success => Ok(()),
            LeafInsertResult::InvalidKV(why) => Err(why.into()),
        }
    }

    fn delete(&self, key: &Key) -> Result<()> {
        self.tree.delete(key);
        Ok(())
    }

    fn update<const N: usize>(
        &self,
        _keys: [&Key; N],
        _change: impl FnMut(&mut [Vec<u8>; N]),
    ) -> Result<()> {
        Err("bf-tree has no transactions".into())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        Ok(())
    }

    fn state(&self) -> Result<String> {
        Ok(format!("leaves of {} bytes", self.tree.config().get_leaf_page_size()))
    }
}
