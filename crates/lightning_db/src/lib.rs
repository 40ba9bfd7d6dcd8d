//! Lightning DB: an embedded, ordered, transactional key-value database.
#![allow(dead_code)] // until the public face is wired up
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        clippy::disallowed_types,
        reason = "tests look from outside"
    )
)]

pub mod codec;
pub mod error;
pub mod limits;
pub mod sync;
pub mod types;

pub mod vfs;

pub mod cache;
pub mod commit;
pub mod compress;
pub mod config;
pub mod maintenance;
pub mod manifest;
pub mod memtable;
pub mod page;
pub mod recovery;
pub mod segment;
pub mod store;
pub mod transaction;
pub mod tree;
pub mod verify;
pub mod wal;

pub use error::{Error, ErrorKind, Result};
