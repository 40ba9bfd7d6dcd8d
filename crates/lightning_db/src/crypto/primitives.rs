//! AES-256-GCM, HKDF-SHA256 and Argon2id, over the libraries of RustCrypto.
//!
//! 1. Keys, round keys and the memory of Argon2id are cleared when they are dropped.
//! 2. A tag is compared in constant time, and nothing of a text is given out whose tag is wrong.
//!
//! No I/O, no threads.

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit};

use super::secret::{KEY_BYTES, Secret, TAG_BYTES};
use crate::error::{Error, ErrorKind, Result};

/// A key ready for AES-256-GCM.
pub struct Aead(Aes256Gcm);

impl Aead {
    /// Expands `key`.
    pub fn new(key: &Secret) -> Result<Self> {
        let key: &[u8; KEY_BYTES] = key;
        Ok(Self(Aes256Gcm::new(key.into())))
    }

    /// Encrypts `bytes` where they lie; `bound` is vouched for by the tag too.
    pub fn seal(&self, nonce: &[u8; 12], bound: &[u8], bytes: &mut [u8]) -> [u8; TAG_BYTES] {
        let tag = self.0.encrypt_inout_detached(nonce.into(), bound, bytes.into());
        tag.expect("texts are far below the 64 GiB that the mode takes").into()
    }

    /// Decrypts `bytes` where they lie, if they, `bound` and the tag belong together.
    #[must_use]
    pub fn open(&self, nonce: &[u8; 12], bound: &[u8], bytes: &mut [u8], tag: &[u8; 16]) -> bool {
        self.0.decrypt_inout_detached(nonce.into(), bound, bytes.into(), tag.into()).is_ok()
    }
}

/// HKDF-SHA256: a key for the purpose that `info` names.
pub fn derive(key: &[u8], salt: &[u8], info: &[&[u8]]) -> Result<Secret> {
    let mut out = Secret::default();
    let expanded =
        hkdf::Hkdf::<sha2::Sha256>::new(Some(salt), key).expand_multi_info(info, &mut *out);
    expanded.map_err(|_| Error::new(ErrorKind::InvalidArgument, "a key of impossible length"))?;
    Ok(out)
}

/// Argon2id: a key from a passphrase.
pub fn stretch(passphrase: &[u8], salt: &[u8], memory_kib: u32, passes: u32) -> Result<Secret> {
    let refused = |e: argon2::Error| {
        Error::new(ErrorKind::InvalidArgument, format!("Argon2id refused its parameters: {e}"))
    };
    let params = argon2::Params::new(memory_kib, passes, 1, Some(KEY_BYTES)).map_err(refused)?;
    let argon = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let mut out = Secret::default();
    argon.hash_password_into(passphrase, salt, &mut *out).map_err(refused)?;
    Ok(out)
}
