//! The manifest: which files a database consists of, as a log of edits.
//!
//! | file | job |
//! |---|---|
//! | `state` | what the edits add up to: keyspaces, rows, partitions, segments |
//! | `interval` | key intervals that runs have given to the base |
//! | `edit` | one atomic change, its bytes, and how it changes the state |
//! | `layout` | bytes of the metadata types |
//! | `file` | manifest files: framing, commit, load, CURRENT |

mod edit;
mod file;
mod interval;
mod layout;
mod state;

pub use edit::{Edit, EditOp, NextIds};
pub use file::{Manifest, install_current, manifest_path};
pub use interval::{KeyInterval, covers};
pub use state::{
    BlobUse, FilterRef, KeyspaceState, ManifestState, PartitionMeta, PartitionSegment, RunMeta,
};
