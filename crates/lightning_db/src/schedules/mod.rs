//! Models of the engine under the schedule checker: the real code, small and in memory, where every
//! latch, atomic and file operation is a point at which another thread may go on.
//!
//! | file | what is checked |
//! |---|---|
//! | `explore` | how a model is run, counted and run again |
//! | `commits` | visibility, durability and order of commits; conflicts; failed syncs |
//! | `log` | files of the log begun beside fsyncs of several of them |
//! | `locks` | transactions that validate and lock, beside single writes |
//! | `rows` | the row cache beside commits and reads |
//! | `memtable` | nodes split under readers; memory handed on to the next memtable |
//! | `versions` | readers while flushes and merges publish new versions |
//! | `views` | the registry of views against merges that raise the floor |
//! | `blobs` | two jobs that name the same blob segment; cleaning beside them |
//!
//! Models of one file's latches alone stand in that file (`cache`). `.ci/models` runs all of them.
//! What needs weaker orders of memory than the checker knows is checked by loom, in
//! `store/view.rs` and `memtable/publication_model.rs`.

mod blobs;
mod commits;
pub(crate) mod explore;
mod locks;
mod log;
mod memtable;
mod rows;
mod versions;
mod views;
