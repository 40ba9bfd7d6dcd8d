//! Tests of the manifest, by the promise they hold it to.
//!
//! | file | job |
//! |---|---|
//! | `sample` | edits drawn by seed that fit a state, and a disk to keep them on |
//! | `edits` | states and edits as bytes; edits that are refused |
//! | `crashes` | power cuts, kills and failing calls on the simulated disk |
//! | `damage` | flipped, torn, swapped and hostile bytes |

mod crashes;
mod damage;
mod edits;
mod sample;
