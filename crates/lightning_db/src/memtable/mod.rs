//! The part of a keyspace that is in memory: every version of every key committed since the last
//! flush began, in order. One thread writes at a time, readers take no latch.
//!
//! - `table`: [`Memtable`], the face of this module: insert, get, sizes, the number range it holds
//! - `cursor`: [`MemtableCursor`], movement over all versions, both ways
//! - `index`: the tree over the keys: search, insertion, splits, and the publication protocol
//! - `node`: one node of it; `order`: the word that publishes a node's entries
//! - `entry`: the bytes of one version of a key, and the chain of its older versions
//! - `ranges`: the range deletes, beside the tree
//! - `arena`: the memory that nodes and entries lie in until the memtable goes
//! - `chunk`: a piece of that memory; `spare`: those of memtables that went, for those that come
//! - `folds`: what chains of operands came to, once somebody read them
//! - `filter`: tells quickly that a key is absent
//!
//! A tree and not a skip list, for the cache misses: its inner nodes mostly stay in the processor's
//! caches, so that a search among 500,000 keys waits for memory twice, at the leaf and the entry.
#![allow(unsafe_code)] // `arena`, `chunk`, `entry`, `node`, `index`, `cursor`: one arena, read without latches

mod arena;
mod chunk;
mod cursor;
mod entry;
mod filter;
mod folds;
mod index;
mod node;
mod order;
mod ranges;
mod spare;
mod table;

#[cfg(all(test, loom))]
mod publication_model;
#[cfg(test)]
mod tests;

pub use cursor::MemtableCursor;
pub use ranges::{RangesAt, Readers};
pub use spare::SpareChunks;
pub use table::Memtable;
