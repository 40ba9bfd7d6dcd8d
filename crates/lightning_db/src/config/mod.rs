//! What a user can turn, and nothing else: every option here is read by the engine.
//!
//! | file | job |
//! |---|---|
//! | `options` | [`LightningDbConfig`]: the options of a database, their defaults, ranges and presets |
//! | `source` | the option file and the environment: names to values, and where a value came from |
//! | `key_source` | where the key of an encrypted database comes from |
//! | `quantity` | `"64MiB"`, `"10ms"`: sizes and durations as text |
//! | `per_call` | options of one keyspace, one write, one verification |

mod key_source;
mod options;
mod per_call;
mod quantity;
mod source;

pub(crate) use key_source::Source;
pub use key_source::{KeySource, PassphraseCost};
pub use options::{CompressionType, LightningDbConfig, Profile, WalSyncMode};
pub use per_call::{Durability, KeyspaceOptions, VerifyOptions, WriteOptions};
pub use quantity::{parse_duration, parse_size};
pub use source::{ENVIRONMENT_PREFIX, OPTIONS, OptionName};
