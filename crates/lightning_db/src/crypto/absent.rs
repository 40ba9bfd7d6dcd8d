//! What stands in the place of `primitives` in a build without the feature `encryption`: no key can
//! be made, so nothing is ever sealed or opened, and whoever asks for a key is told why not.

use super::secret::{Secret, TAG_BYTES};
use crate::error::{Error, ErrorKind, Result};

/// There is none.
pub enum Aead {}

impl Aead {
    /// Refuses.
    pub fn new(_: &Secret) -> Result<Self> {
        Err(Error::new(ErrorKind::UnsupportedFormat, "this build has no encryption"))
    }

    /// Encrypts.
    pub fn seal(&self, _: &[u8; 12], _: &[u8], _: &mut [u8]) -> [u8; TAG_BYTES] {
        match *self {}
    }

    /// Decrypts.
    #[must_use]
    pub fn open(&self, _: &[u8; 12], _: &[u8], _: &mut [u8], _: &[u8; 16]) -> bool {
        match *self {}
    }
}

/// Refuses.
pub fn derive(_: &[u8], _: &[u8], _: &[&[u8]]) -> Result<Secret> {
    Err(Error::new(ErrorKind::UnsupportedFormat, "this build has no encryption"))
}

/// Refuses.
pub fn stretch(_: &[u8], _: &[u8], _: u32, _: u32) -> Result<Secret> {
    derive(&[], &[], &[])
}
