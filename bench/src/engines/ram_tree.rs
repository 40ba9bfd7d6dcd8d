//! `BTreeMap` behind an `RwLock`: what an ordered map in plain memory does, with nothing to keep.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::engine::{Engine, Facts, PLAIN, Result, Settings, lost};
use crate::workload::Key;

type Map = BTreeMap<Key, Box<[u8]>>;

pub struct RamTree(RwLock<Map>);

impl RamTree {
    fn read(&self) -> RwLockReadGuard<'_, Map> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Map> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine for RamTree {
    const FACTS: Facts = Facts {
        name: "ram-tree",
        about: "std BTreeMap behind an RwLock",
        promises: &[("write", "kept nowhere but in memory")],
        ram: true,
        reopens: false,
        syncs: false,
        ..PLAIN
    };

    fn open(_settings: &Settings) -> Result<Self> {
        Ok(Self(RwLock::default()))
    }

    fn load(&self, batch: &[(Key, Vec<u8>)]) -> Result<()> {
        let mut map = self.write();
        map.extend(batch.iter().map(|(key, value)| (*key, Box::from(value.as_slice()))));
        Ok(())
    }

    fn get<R>(&self, key: &Key, see: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        Ok(self.read().get(key).map(|value| see(value)))
    }

    fn get_in_snapshot(
        &self,
        keys: impl Iterator<Item = Key>,
        mut see: impl FnMut(&Key, Option<&[u8]>),
    ) -> Result<()> {
        let map = self.read();
        keys.for_each(|key| see(&key, map.get(&key).map(|value| &**value)));
        Ok(())
    }

    fn scan(
        &self,
        backward: bool,
        from: Option<&Key>,
        mut see: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<()> {
        let map = self.read();
        match from {
            Some(from) => map.range::<Key, _>(from..).all(|(key, value)| see(key, value)),
            None if backward => map.iter().rev().all(|(key, value)| see(key, value)),
            None => map.iter().all(|(key, value)| see(key, value)),
        };
        Ok(())
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        self.write().insert(*key, value.into());
        Ok(())
    }

    fn delete(&self, key: &Key) -> Result<()> {
        self.write().remove(key);
        Ok(())
    }

    fn update<const N: usize>(
        &self,
        keys: [&Key; N],
        mut change: impl FnMut(&mut [Vec<u8>; N]),
    ) -> Result<()> {
        let mut map = self.write();
        let mut values = [const { Vec::new() }; N];
        for (key, value) in keys.iter().zip(&mut values) {
            *value = map.get(*key).ok_or_else(lost)?.to_vec();
        }
        change(&mut values);
        map.extend(keys.into_iter().copied().zip(values.map(Vec::into_boxed_slice)));
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        Ok(())
    }

    fn state(&self) -> Result<String> {
        Ok(format!("{} entries", self.read().len()))
    }
}
