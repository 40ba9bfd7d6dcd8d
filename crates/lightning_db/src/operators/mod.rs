//! Merge operators: functions that a key's value is computed with from what it was and from what was
//! merged into it since, so that a write need not read first.
//!
//! | file | job |
//! |---|---|
//! | `operator` | [`MergeOperator`], what a user writes |
//! | `builtin` | `counter`, `append`, `max` |
//! | `registry` | [`MergeOperators`]: names to operators |
//! | `merger` | the operator of one keyspace, called so that its failures are errors |
//! | `list` | the operands of one entry, as they are kept |

mod builtin;
pub mod list;
mod merger;
mod operator;
mod registry;

pub use merger::Merger;
pub use operator::{MergeFailure, MergeOperator};
pub use registry::MergeOperators;
pub(crate) use registry::check_name;
