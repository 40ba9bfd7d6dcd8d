//! Encryption at rest: AES-256-GCM under keys that the user's key wraps.
//!
//! | file | job |
//! |---|---|
//! | `secret` | key bytes, and which key leads to which |
//! | `primitives` | AES-256-GCM, HKDF-SHA256 and Argon2id, over libraries; nobody else calls them |
//! | `absent` | what stands in their place in a build without the feature `encryption` |
//! | `file_key` | the key of one use of one file; seals and opens what is in it |
//! | `slots` | bytes of `KEYS` |
//! | `keyring` | the data keys of an open database, and how `KEYS` follows them |
//! | `owner` | the database that a file belongs to, with its keys where it is encrypted |
//! | `unlock` | from what the user gave to the key that opens `KEYS` |
//! | `witness` | for tests: every nonce in use, none twice |

#[cfg(not(feature = "encryption"))]
#[path = "absent.rs"]
mod primitives;
#[cfg(feature = "encryption")]
mod primitives;

mod file_key;
mod keyring;
mod owner;
mod secret;
mod slots;
#[cfg(all(test, feature = "encryption"))]
mod tests;
mod unlock;
#[cfg(feature = "fuzzing")]
mod witness;

pub use file_key::{FileKey, FileKind, FileSalt, Sealer};
pub use keyring::{KEYS_FILE, Keyring};
pub use owner::Owner;
pub use secret::TAG_BYTES;
#[cfg(feature = "fuzzing")]
pub use witness::{used as nonces_used, watch as watch_nonces};
