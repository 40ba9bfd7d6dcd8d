//! [`SimulatedVfs`]: a machine whose disk keeps what processes see apart from what is durable, and
//! that can fail, fill up, be killed or lose its power at any operation, repeatably.
//!
//! | file | job |
//! |---|---|
//! | `vfs` | the file system as the engine calls it, and what tests do to it |
//! | `state` | the machine: files, names, locks, clock, chance |
//! | `content` | the bytes of a file: seen, durable, unsynced, lost |
//! | `directories` | the names: the same four |
//! | `crash` | what a power cut spares |
//! | `faults` | operations that are planned to fail |

mod content;
mod crash;
mod directories;
mod faults;
mod state;
#[cfg(test)]
mod tests;
mod vfs;

pub use crash::Survival;
pub use faults::{FaultError, FaultRule, Operation, Times};
pub use vfs::SimulatedVfs;
