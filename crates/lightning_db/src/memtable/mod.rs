//! The part of a keyspace that is in memory: every version of every key committed since the last
//! flush began, in order. One thread writes at a time, readers take no latch.
//!
//! - `table`: [`Memtable`], the face of this module: insert, get, sizes, the number range it holds
//! - `cursor`: [`MemtableCursor`], movement over all versions, both ways
//! - `index`: the tree over the keys: search, insertion, splits, and the publication protocol
//! - `node`: one node of it; `order`: the word that publishes a node's entries
//! - `entry`: the bytes of one version of a key, and the chain of its older versions
//! - `arena`: the memory that nodes and entries lie in until the memtable goes
//! - `filter`: tells quickly that a key is absent
//!
//! Measured against a lock-free skip list, the tree halves the cache misses of a search: its inner
//! nodes stay in the processor's caches, where the upper half of a skip list's towers does not.
#![allow(unsafe_code)] // `arena`, `entry`, `node`, `index`, `cursor`: one arena, read without latches

mod arena;
mod cursor;
mod entry;
mod filter;
mod index;
mod node;
mod order;
mod table;

#[cfg(all(test, loom))]
mod publication_model;
#[cfg(test)]
mod tests;

pub use cursor::MemtableCursor;
pub use table::Memtable;
