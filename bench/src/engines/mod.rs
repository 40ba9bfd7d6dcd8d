//! The engines, each in a file of its own.

mod bf_tree;
mod canopydb;
mod fjall;
mod lightning;
mod lmdb;
mod ram_hash;
mod ram_tree;
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
mod sled;
mod surrealkv;

use crate::engine::{Engine, Facts};
use crate::run::{Run, run};

/// An engine that can be run.
#[derive(Clone, Copy)]
pub struct Entry {
    pub facts: Facts,
    pub run: Run,
}

const fn entry<E: Engine>() -> Entry {
    Entry { facts: E::FACTS, run: run::<E> }
}

/// What ratios are taken of.
pub const OURS: &str = "lightning";

/// All engines that were built, in the order in which they are shown.
pub const ENGINES: &[Entry] = &[
    entry::<lightning::Lightning>(),
    #[cfg(feature = "rocksdb")]
    entry::<rocksdb::Rocksdb>(),
    entry::<lmdb::Lmdb>(),
    entry::<redb::Redb>(),
    entry::<fjall::Fjall>(),
    entry::<sled::Sled>(),
    entry::<canopydb::Canopydb>(),
    entry::<surrealkv::Surrealkv>(),
    entry::<bf_tree::BfTreeEngine>(),
    entry::<ram_tree::RamTree>(),
    entry::<ram_hash::RamHash>(),
];
