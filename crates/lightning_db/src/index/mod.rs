//! What a secondary index is, apart from the database: how it is declared, how the index keys of a
//! row are found, and how they are written so that bytes sort as values do.
//!
//! - `value`: [`IndexValue`], [`IndexKey`] and their bytes
//! - `spec`: [`IndexSpec`], its text form, and its bytes in the manifest
//! - `extract`: from a row to its entries; [`Extractors`], functions registered by name
//!
//! No I/O, no threads. The upkeep of indexes is in `maintenance`, reading them in `indexes`.

pub mod extract;
pub mod spec;
pub mod value;

pub use extract::{Entry, Extraction, Extractors};
pub use spec::{IndexPart, IndexSource, IndexSpec};
pub use value::{IndexKey, IndexValue};
