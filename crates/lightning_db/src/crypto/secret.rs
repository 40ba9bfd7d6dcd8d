//! Key bytes, and how long they are.
//!
//! ```text
//! what the user gave --Argon2id, for a passphrase--> outer key --HKDF, salt of the slot--> wraps
//!   data keys, one an epoch --HKDF, salt and header of a file--> file key --counter or offset--> bytes
//! ```

/// Bytes that a sealed text is longer than its plain one.
pub const TAG_BYTES: usize = 16;

/// Bytes of every key and of the salts of files.
pub const KEY_BYTES: usize = 32;

/// Key bytes, cleared from memory when they are dropped.
pub type Secret = zeroize::Zeroizing<[u8; KEY_BYTES]>;
