//! A keyspace's data, newest first: memtables, runs, base; and the jobs that move it down.
//!
//! | file | job |
//! |---|---|
//! | `view` | registered read views and the floor below which versions may be dropped |
//! | `arrivals` | wakes those who wait for commits |
//! | `lifetimes` | the time by which entries expire, and which have for everybody |
//! | `environment` | what every job shares: files, cache, manifest, views, counters |
//! | `blobs` | large values: the blob segment being written, those that can be read |
//! | `blob_pins` | segments that values are written to, held until something refers to these |
//! | `own_blobs` | large values in segments of one job's own |
//! | `version` | what a keyspace consisted of at one moment |
//! | `keyspace` | one keyspace: its current version and how it changes |
//! | `value` | values handed to readers |
//! | `lookup` | point reads |
//! | `source`, `cursor` | ordered reads in both directions |
//! | `hidden` | what range deletes hide from them |
//! | `fold` | reads of keys that were merged into |
//! | `window` | a stretch of one leaf that a cursor steps over without its sources |
//! | `changes` | whether a range was written to since a commit |
//! | `retention` | which versions a merge keeps |
//! | `range_row` | the range deletes of a run on disk |
//! | `dictionaries` | what leaves are packed with, where Zstandard gains by it |
//! | `row_writer` | partitions of a target size out of a sorted stream |
//! | `flush` | sealed memtables to runs |
//! | `chain` | the versions of a key that was merged into, rewritten |
//! | `merge_entries` | the stream of a merge, judged and written |
//! | `merge_ranges` | the range deletes of a merge: what they hide, and what they come to |
//! | `adopt` | partitions of runs that become part of the base as they are |
//! | `merge` | runs together, runs into the base, renewal of partitions |
//! | `keep_rule` | whether an untouched leaf keeps its place |
//! | `profile` | what a profile allows above the base and dead in it |
//! | `policy` | which merge is due |

pub mod adopt;
pub mod arrivals;
mod blob_pins;
pub mod blobs;
pub mod chain;
pub mod changes;
pub mod cursor;
pub mod dictionaries;
pub mod environment;
pub mod flush;
pub mod fold;
mod hidden;
pub mod keep_rule;
pub mod keyspace;
pub mod lifetimes;
pub mod lookup;
pub mod merge;
pub mod merge_entries;
pub mod merge_ranges;
pub mod own_blobs;
pub mod policy;
pub mod profile;
pub mod range_row;
pub mod retention;
pub mod row_writer;
pub mod source;
pub mod value;
pub mod version;
pub mod view;
mod window;
