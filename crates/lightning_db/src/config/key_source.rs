//! [`KeySource`]: where the key of an encrypted database comes from.
//!
//! 1. What is secret in it is cleared from memory when it is dropped, and never printed.
//! 2. Nothing is read or asked for before a database is opened with it (`crypto::unlock`).
//! 3. In an option file or variable only the place of a key can stand, never a key.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::error::Result;

/// Asks somebody for the key.
type Callback = dyn Fn() -> Result<[u8; 32]> + Send + Sync;

/// Where the key of an encrypted database comes from.
///
/// It wraps the keys that encrypt the files, and is stored nowhere: whoever loses it has lost the
/// database. `Debug` tells where it comes from, never what it is.
///
/// ```
/// use lightning_db::{Database, ErrorKind, KeySource, LightningDbConfig};
/// # fn main() -> lightning_db::Result<()> {
/// # let dir = tempfile::tempdir().expect("a directory");
/// # let path = dir.path().join("db");
/// let with = |key| LightningDbConfig { encryption: Some(key), ..LightningDbConfig::default() };
///
/// let db = Database::create(&path, with(KeySource::key([7; 32])))?;
/// db.put(b"name", b"value")?;
/// db.close()?;
///
/// let refused = Database::open(&path, with(KeySource::key([8; 32]))).unwrap_err();
/// assert_eq!(refused.kind(), ErrorKind::WrongKey);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct KeySource(pub(crate) Source);

#[derive(Clone)]
pub(crate) enum Source {
    Key(Zeroizing<[u8; 32]>),
    File(PathBuf),
    Passphrase(Zeroizing<String>, PassphraseCost),
    Variable(String),
    PassphraseVariable(String),
    Callback(Arc<Callback>),
}

/// What it costs to try a passphrase: parameters of Argon2id. They are kept in `KEYS`, so that they
/// are chosen once, when a database is made or its key is changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PassphraseCost {
    /// Memory in KiB; 8 to 1,048,576. Default 65,536 (64 MiB).
    pub memory_kib: u32,
    /// Passes over it; 1 to 64. Default 3.
    pub passes: u32,
}

impl PassphraseCost {
    /// The most memory, in KiB.
    pub(crate) const MAX_MEMORY_KIB: u32 = 1024 * 1024;
    /// The most passes.
    pub(crate) const MAX_PASSES: u32 = 64;

    /// Whether both are in range.
    pub(crate) fn is_possible(self) -> bool {
        (8..=Self::MAX_MEMORY_KIB).contains(&self.memory_kib)
            && (1..=Self::MAX_PASSES).contains(&self.passes)
    }
}

impl Default for PassphraseCost {
    fn default() -> Self {
        Self { memory_kib: 64 * 1024, passes: 3 }
    }
}

impl KeySource {
    /// The key itself: 32 bytes that nobody can guess.
    pub fn key(key: [u8; 32]) -> Self {
        Self(Source::Key(Zeroizing::new(key)))
    }

    /// A file that holds the key: 32 bytes, or 64 hexadecimal digits with white space around them.
    /// It is read at opening, and refused where group or others may read it.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Source::File(path.into()))
    }

    /// A passphrase, stretched by Argon2id with the default [`PassphraseCost`]. Opening then takes a
    /// few tenths of a second.
    pub fn passphrase(passphrase: impl Into<String>) -> Self {
        Self::passphrase_with(passphrase, PassphraseCost::default())
    }

    /// As [`passphrase`](Self::passphrase), at another cost. It counts where the passphrase is set,
    /// not where a database is opened with it.
    pub fn passphrase_with(passphrase: impl Into<String>, cost: PassphraseCost) -> Self {
        Self(Source::Passphrase(Zeroizing::new(passphrase.into()), cost))
    }

    /// An environment variable that holds the key, as 64 hexadecimal digits; read at opening.
    pub fn variable(name: impl Into<String>) -> Self {
        Self(Source::Variable(name.into()))
    }

    /// An environment variable that holds a passphrase; read at opening.
    pub fn passphrase_variable(name: impl Into<String>) -> Self {
        Self(Source::PassphraseVariable(name.into()))
    }

    /// Calls `ask` at opening: a key service, a prompt. Its error is the opening's.
    pub fn callback(ask: impl Fn() -> Result<[u8; 32]> + Send + Sync + 'static) -> Self {
        Self(Source::Callback(Arc::new(ask)))
    }

    /// From the text of an option: `file:PATH`, `variable:NAME` or `passphrase_variable:NAME`. The
    /// error does not repeat the text, which may be a key put in the wrong place.
    pub(super) fn from_option(text: &str) -> std::result::Result<Option<Self>, String> {
        let (kind, place) = text.split_once(':').unwrap_or((text, ""));
        let place = place.trim();
        match kind.trim() {
            "none" if place.is_empty() => Ok(None),
            "file" if !place.is_empty() => Ok(Some(Self::file(place))),
            "variable" if !place.is_empty() => Ok(Some(Self::variable(place))),
            "passphrase_variable" if !place.is_empty() => {
                Ok(Some(Self::passphrase_variable(place)))
            }
            _ => Err("what was given is not one of \"none\", \"file:PATH\", \"variable:NAME\", \
                      \"passphrase_variable:NAME\""
                .to_owned()),
        }
    }

    /// Whether the cost of a passphrase is in range.
    pub(crate) fn is_possible(&self) -> bool {
        !matches!(&self.0, Source::Passphrase(_, cost) if !cost.is_possible())
    }
}

impl PartialEq for KeySource {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Source::Key(a), Source::Key(b)) => {
                a.iter().zip(b.iter()).fold(0, |different, (a, b)| different | (a ^ b)) == 0
            }
            (Source::File(a), Source::File(b)) => a == b,
            (Source::Passphrase(a, x), Source::Passphrase(b, y)) => a == b && x == y,
            (Source::Variable(a), Source::Variable(b))
            | (Source::PassphraseVariable(a), Source::PassphraseVariable(b)) => a == b,
            (Source::Callback(a), Source::Callback(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl Eq for KeySource {}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Key(_) => f.write_str("a key (not shown)"),
            Source::File(path) => write!(f, "the file {}", path.display()),
            Source::Passphrase(..) => f.write_str("a passphrase (not shown)"),
            Source::Variable(name) | Source::PassphraseVariable(name) => {
                write!(f, "the environment variable {name}")
            }
            Source::Callback(_) => f.write_str("a callback"),
        }
    }
}
