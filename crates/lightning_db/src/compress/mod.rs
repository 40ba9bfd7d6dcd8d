//! Compression of page payloads: which codecs there are, and a bounded way in and out.
//!
//! | file | job |
//! |---|---|
//! | `codec` | the codecs, their bytes on disk, Cargo features and levels |
//! | `dictionary` | what small pages have in common, for Zstandard |
//! | `packer` | raw bytes in, packed bytes out; keeps what a codec needs between pages |
//! | `unpack` | the reverse, to exactly the length that was announced |
//! | `trial` | leaves pages alone for a while where they do not shrink, and counts |
//!
//! No I/O. A codec that is not built in is known by name and refused.

mod codec;
mod dictionary;
mod packer;
mod trial;
mod unpack;

#[cfg(test)]
pub use codec::LACKING;
pub use codec::{Codec, Packing};
pub use dictionary::{Dictionaries, Dictionary, MAX_DICTIONARY_BYTES, MIN_DICTIONARY_BYTES};
pub use packer::Packer;
pub use trial::{PackCounters, PackCounts, Trial};
pub use unpack::decompress;
