//! Commits: one order for numbers, log, memtables and visibility.
//!
//! | file | job |
//! |---|---|
//! | `apply` | a body, inserted into memtables
//! | `batch` | the operations of a commit, encoded as their log record's body |
//! | `operands` | what a batch does to keys that it merges into, made one operation each |
//! | `watch` | what a commit that is being validated has read |
//! | `section` | validates, numbers, logs and applies commits, and shows them in order |

pub mod apply;
pub mod batch;
pub mod operands;
pub mod section;
pub mod watch;
