//! Secondary indexes of an open database.
//!
//! - `table`: which there are, by keyspace, and the mark that tells when that changes
//! - `upkeep`: the entries that a commit changes, written in the same commit
//! - `catalog`: making, finding and dropping them
//! - `build`: entries for the rows that were there before the index
//!
//! An index's entries are keys without values in a keyspace of its own, which has a name that no
//! user can give. Bytes of entries: `index::value`.

pub mod build;
pub mod catalog;
pub mod table;
pub mod upkeep;

pub use table::{IndexTable, LiveIndex};
