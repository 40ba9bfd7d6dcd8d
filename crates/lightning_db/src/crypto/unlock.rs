//! From what the user gave to the outer key, which wraps the data keys.
//!
//! A key file is read through the VFS, and refused where others may read it. No key, passphrase or
//! part of one is ever in an error.

use std::path::Path;

use zeroize::Zeroizing;

use super::primitives;
use super::secret::{KEY_BYTES, Secret};
use super::slots::Making;
use crate::config::{KeySource, PassphraseCost, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::vfs::{OpenMode, Vfs, read_exact_at};

/// A key file holds no more than this.
const MAX_FILE_BYTES: u64 = 1024;

/// What the user gave.
pub(super) enum Given {
    Key(Secret),
    Passphrase(Zeroizing<String>, PassphraseCost),
}

/// Reads, looks up or asks for what `source` names.
pub(super) fn take(vfs: &dyn Vfs, source: &KeySource) -> Result<Given> {
    Ok(match &source.0 {
        Source::Key(key) => Given::Key(key.clone()),
        Source::File(path) => Given::Key(read_file(vfs, path)?),
        Source::Passphrase(passphrase, cost) => Given::Passphrase(passphrase.clone(), *cost),
        Source::Variable(name) => {
            let value = variable(name)?;
            let key = from_hex(value.trim().as_bytes()).ok_or_else(|| {
                let what =
                    format!("the environment variable {name} does not hold 64 hexadecimal digits");
                Error::new(ErrorKind::InvalidConfig, what)
            })?;
            Given::Key(key)
        }
        Source::PassphraseVariable(name) => {
            Given::Passphrase(variable(name)?, PassphraseCost::default())
        }
        Source::Callback(ask) => Given::Key(Zeroizing::new(ask()?)),
    })
}

impl Given {
    /// How the outer key of a new slot is made, for which `salt` was drawn.
    pub(super) fn making(&self, salt: [u8; KEY_BYTES]) -> Making {
        match self {
            Self::Key(_) => Making::Given,
            Self::Passphrase(_, cost) => Making::Stretched { cost: *cost, salt },
        }
    }

    /// The outer key of a slot; `WrongKey` where a passphrase was given for a key, or the reverse.
    pub(super) fn outer_key(&self, making: &Making) -> Result<Secret> {
        let wrong = |what: &str| Err(Error::new(ErrorKind::WrongKey, what));
        match (self, making) {
            (Self::Key(key), Making::Given) => Ok(key.clone()),
            (Self::Passphrase(passphrase, _), Making::Stretched { cost, salt }) => {
                primitives::stretch(passphrase.as_bytes(), salt, cost.memory_kib, cost.passes)
            }
            (Self::Key(_), _) => {
                wrong("the database is opened by a passphrase, and a key was given")
            }
            (_, Making::Given) => {
                wrong("the database is opened by a key, and a passphrase was given")
            }
        }
    }
}

fn read_file(vfs: &dyn Vfs, path: &Path) -> Result<Secret> {
    let refuse = |what: &str| Err(Error::new(ErrorKind::InvalidConfig, what).in_file(path));
    let file =
        vfs.open(path, OpenMode::Read).map_err(|e| Error::io(path, "open the key file", e))?;
    let private = vfs.is_private(path).map_err(|e| Error::io(path, "ask who may read", e))?;
    if !private {
        return refuse("the key file can be read by group or others; take their rights away");
    }
    let len = file.len().map_err(|e| Error::io(path, "measure", e))?;
    if len > MAX_FILE_BYTES {
        return refuse("the key file is longer than a key");
    }
    let mut bytes = Zeroizing::new(vec![0; len as usize]);
    read_exact_at(&*file, &mut bytes, 0)?;
    if let Ok(key) = <[u8; KEY_BYTES]>::try_from(&bytes[..]) {
        return Ok(Zeroizing::new(key));
    }
    match from_hex(bytes.trim_ascii()) {
        Some(key) => Ok(key),
        None => refuse("the key file holds neither 32 bytes nor 64 hexadecimal digits"),
    }
}

fn variable(name: &str) -> Result<Zeroizing<String>> {
    // The place of the key was given by whoever opens the database.
    std::env::var(name).map(Zeroizing::new).map_err(|_| {
        let what = format!("the environment variable {name} for the key is not set, or not text");
        Error::new(ErrorKind::InvalidConfig, what)
    })
}

fn from_hex(digits: &[u8]) -> Option<Secret> {
    let mut key = Secret::default();
    if digits.len() != 2 * KEY_BYTES {
        return None;
    }
    let digit = |c: u8| char::from(c).to_digit(16);
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Some(key)
}
