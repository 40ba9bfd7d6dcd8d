//! Ranges of keys that were deleted as one.
//!
//! - `map`: [`RangeMap`], which keys are covered by which range delete, at one moment; a tree that is
//!   changed by making another (`cover`), whose nodes hold their keys as `keys` says
//! - `list`: [`RangeList`], the same for several moments at once, sorted and never changed
//! - `stretch`: [`Stretch`], what a reader has learnt of the keys around one
//!
//! No I/O, no threads.

mod cover;
mod fragment;
mod keys;
mod list;
mod map;
mod stretch;

#[cfg(test)]
mod tests;

pub use fragment::{Fragment, Key, is_before};
pub use keys::KeyRef;
pub use list::{ListFragment, RangeList};
pub use map::RangeMap;
pub use stretch::Stretch;
