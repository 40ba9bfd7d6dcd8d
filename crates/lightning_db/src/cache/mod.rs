//! Opened pages in memory.
//!
//! | file | job |
//! |---|---|
//! | `page_cache` | the cache: shards, latches, counters, its size |
//! | `car` | one shard's replacement policy and its lists |
//! | `page` | an opened page; the slots in which a parent finds its children again |
//! | `seen` | which large values were read of late and not kept |
//! | `key` | what a page is known by, and its hash |
//! | `rows` | newest values by key, in front of everything else |
//! | `row_ranges` | the last range deletes, which that heeds |
//! | `pager` | fetches a page from the cache or else from its segment |
//!
//! Nothing here knows what is in a page beyond its type. Pages are immutable and segment ids are
//! never used twice, so nothing cached is ever stale.

mod car;
mod key;
mod page;
mod page_cache;
mod pager;
mod row_ranges;
mod rows;
mod seen;
#[cfg(test)]
mod traces;

pub use page::{Page, PageRef, PageSlot, slots};
pub use page_cache::PageCache;
pub use pager::Pager;
pub use rows::{MIN_ROW_BUDGET_BYTES, RowCache, RowRef, row_value};
