//! The manifest: which files a database consists of, as a log of edits.
//!
//! | file | job |
//! |---|---|
//! | `state` | what the edits add up to: keyspaces, rows, partitions, segments |
//! | `droppable` | how much of a partition only some views can see |
//! | `lives` | how much of a partition expires, and when |
//! | `time_map` | which commit was the newest at which time |
//! | `interval` | key intervals that runs have given to the base |
//! | `edit` | one atomic change and its bytes |
//! | `apply` | how an edit changes the state, and what it must not do |
//! | `layout` | bytes of the metadata types |
//! | `frame` | bytes of headers, records and CURRENT |
//! | `read` | from the bytes of a file to its state: end or damage |
//! | `current` | CURRENT, read and replaced |
//! | `file` | a manifest file being written: create, commit, roll; and load |

mod apply;
mod current;
mod droppable;
mod edit;
mod file;
mod frame;
mod interval;
mod layout;
mod lives;
mod read;
mod state;
#[cfg(test)]
mod tests;
mod time_map;

pub use current::{current_database, install_current};
pub use droppable::{Droppable, ViewSpan};
pub use edit::{Edit, EditOp, NextIds};
pub use file::Manifest;
#[cfg(test)]
pub use file::manifest_path;
#[cfg(feature = "fuzzing")]
pub use frame::repair;
pub use interval::{KeyInterval, covers};
pub use lives::Lives;
pub use state::{
    BlobUse, CODEC_OF_DATABASE, FilterRef, IndexState, KeptLog, KeyspaceState, ManifestState,
    PartitionMeta, PartitionSegment, RunMeta,
};
pub use time_map::{TimeMap, TimeSample};
