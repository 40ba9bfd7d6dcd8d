//! Partitions: immutable B+Trees over the pages of one to three segments.
//!
//! | file | job |
//! |---|---|
//! | `separator` | the byte strings that stand between neighbouring leaves, and their rules |
//! | `writer` | builds a partition from sorted entries and from leaves kept of an older one |
//! | `levels` | the inner pages of a partition that is being built |
//! | `reader` | an opened partition: point reads, filters, estimates |
//! | `path` | the way from the root to one leaf, and from there to its neighbours |
//! | `cursor` | movement over all versions in both directions, with read-ahead |
//! | `leaves` | the walk over leaves without reading them, for adoption |
//! | `check` | the full structural verification of a partition |
//!
//! The bytes of the pages are described in `page`; what the manifest keeps of a partition
//! ([`PartitionMeta`](crate::manifest::PartitionMeta)) in `manifest`.

mod check;
mod cursor;
mod leaves;
mod levels;
mod path;
mod reader;
mod separator;
mod writer;

#[cfg(test)]
mod tests;

pub use check::Visited;
pub use cursor::{CursorOptions, PartitionCursor};
pub use leaves::SpanEnd;
#[cfg(test)]
pub use leaves::{LeafSpan, Leaves};
pub use reader::{Found, FoundValue, PartitionReader};
pub use writer::{PartitionWriter, WriterContext};
