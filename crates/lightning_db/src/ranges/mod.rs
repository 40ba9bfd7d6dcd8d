//! Ranges of keys that were deleted as one.
//!
//! - `map`: [`RangeMap`], which keys are covered by which range delete, at one moment; a tree that is
//!   changed by making another
//! - `list`: [`RangeList`], the same for several moments at once, sorted and never changed
//!
//! No I/O, no threads.

mod list;
mod map;

#[cfg(test)]
mod tests;

pub use list::{ListFragment, RangeList};
pub use map::{Fragment, Key, RangeMap, is_before};
