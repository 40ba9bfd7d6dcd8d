//! Encryption at rest: AES-256-GCM under keys that the user's key wraps.
//!
//! | file | job |
//! |---|---|
//! | `primitives` | AES-256-GCM, HKDF-SHA256 and Argon2id, over libraries; nobody else calls them |
//! | `absent` | what stands in their place in a build without the feature `encryption` |
//! | `file_key` | the key of one use of one file; seals and opens what is in it |
//! | `slots` | bytes of `KEYS` |
//! | `keyring` | the data keys of an open database, and how `KEYS` follows them |
//! | `owner` | the database that a file belongs to, with its keys where it is encrypted |
//! | `unlock` | from what the user gave to the key that opens `KEYS` |
//! | `witness` | for tests: every nonce in use, none twice |
//!
//! ```text
//! what the user gave --Argon2id, for a passphrase--> outer key --HKDF, salt of the slot--> wraps
//!   data keys, one an epoch --HKDF, salt and header of a file--> file key --counter or offset--> bytes
//! ```

#[cfg(not(feature = "encryption"))]
mod absent;
mod file_key;
mod keyring;
mod owner;
#[cfg(feature = "encryption")]
mod primitives;
mod slots;
#[cfg(all(test, feature = "encryption"))]
mod tests;
mod unlock;
#[cfg(feature = "fuzzing")]
mod witness;

#[cfg(not(feature = "encryption"))]
use absent as primitives;

pub use file_key::{FileKey, FileKind, FileSalt, Sealer};
pub use keyring::KEYS_FILE;
pub use owner::Owner;
#[cfg(feature = "fuzzing")]
pub use witness::{used as nonces_used, watch as watch_nonces};

/// Bytes that a sealed text is longer than its plain one.
pub const TAG_BYTES: usize = 16;

/// Bytes of every key and of the salts of files.
pub const KEY_BYTES: usize = 32;

/// Key bytes, cleared from memory when they are dropped.
type Secret = zeroize::Zeroizing<[u8; KEY_BYTES]>;
