//! Options of one keyspace, one write and one verification: what differs from the database's own.
//!
//! 1. `None` always means "as the database is set".
//! 2. A write may choose its durability; whether there is a log at all is the database's choice.

use std::time::Duration;

use super::options::{CompressionType, WalSyncMode, checked_compression, checked_write_buffer};
use crate::error::{Error, ErrorKind, Result};
use crate::operators::check_name;

/// Options of a keyspace, given when it is created and kept with it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeyspaceOptions {
    /// Memtable size at which it is sealed and flushed; same range as the database's option.
    pub write_buffer_size: Option<usize>,
    /// How new pages are compressed, whatever the database is set to; `Some(None)` of the codec
    /// stores them plain. `None`: as the database is set each time it is opened.
    pub compression_type: Option<CompressionType>,
    /// How long what is put without a lifetime of its own lives, counted from its commit; longer than
    /// zero. `None`: until it is overwritten or deleted. Kept with the keyspace;
    /// [`Keyspace::set_default_ttl`](crate::Keyspace::set_default_ttl) changes it. Not beside a merge
    /// operator.
    pub default_ttl: Option<Duration>,
    /// The level of that codec, with the same range as the database's option. `None`: the codec's
    /// own. A level without a codec is refused: it could not outlive the database's.
    pub compression_level: Option<i32>,
    /// The name of its merge operator, 1 to 64 bytes, which `merge` needs; `None`: it has none. A
    /// keyspace that exists without one gets it when it is asked for with one; where it has another,
    /// asking for it fails with `InvalidArgument`, as it does where the keyspace gives lifetimes. Values put
    /// with lifetimes before end all the same: what was merged into them stays. Whether an operator of that name is registered is
    /// found out by the first call that needs it.
    pub merge_operator: Option<String>,
}

impl KeyspaceOptions {
    /// Whether every given value is possible.
    pub fn validate(&self) -> Result<()> {
        let refuse = |what: String| {
            Err(Error::new(ErrorKind::InvalidConfig, format!("keyspace option {what}")))
        };
        if let Some(Err(why)) = self.write_buffer_size.map(checked_write_buffer) {
            return refuse(format!("`write_buffer_size` {why}"));
        }
        if self.default_ttl.is_some_and(|ttl| ttl.is_zero()) {
            return refuse("`default_ttl` is longer than zero".to_owned());
        }
        if let Some(Err(why)) = self.merge_operator.as_deref().map(check_name) {
            return refuse(format!("`merge_operator` {why}"));
        }
        if self.default_ttl.is_some() && self.merge_operator.is_some() {
            return refuse("`default_ttl` and `merge_operator` exclude each other".to_owned());
        }
        match (self.compression_type, self.compression_level) {
            (Some(compression), level) => match checked_compression(compression, level) {
                Err(refused) => refuse(refused.to_string()),
                Ok(()) => Ok(()),
            },
            (None, Some(_)) => refuse("`compression_level` is given without a codec".to_owned()),
            (None, None) => Ok(()),
        }
    }
}

/// What an acknowledged write may still lose.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Durability {
    /// Nothing: acknowledged after the device has it.
    Sync,
    /// Nothing when the process dies; at most the interval when the power fails.
    Periodic,
    /// Nothing when the process dies; what was not yet synced when the power fails.
    Async,
}

impl From<WalSyncMode> for Durability {
    fn from(mode: WalSyncMode) -> Self {
        match mode {
            WalSyncMode::Sync => Self::Sync,
            WalSyncMode::Periodic { .. } => Self::Periodic,
            WalSyncMode::Async => Self::Async,
        }
    }
}

/// Options of one write.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WriteOptions {
    /// The promise to keep before the write is acknowledged; `None`: the database's own. Where
    /// the log is disabled none can be kept, and asking for one is an `InvalidArgument`.
    pub durability: Option<Durability>,
}

impl WriteOptions {
    /// A write acknowledged at `durability`.
    pub fn with_durability(durability: Durability) -> Self {
        Self { durability: Some(durability) }
    }
}

/// Options of a verification, which reads every page, log record and manifest edit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VerifyOptions {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyspace_write_buffer_has_the_databases_range() {
        assert!(KeyspaceOptions::default().validate().is_ok());
        let of = |bytes| KeyspaceOptions { write_buffer_size: Some(bytes), ..Default::default() };
        assert!(of(64 << 10).validate().is_ok());
        let e = of((64 << 10) - 1).validate().expect_err("below the range");
        assert_eq!(e.kind(), ErrorKind::InvalidConfig);
        assert!(e.message().contains("write_buffer_size"), "{e}");
        let ttl = |ttl| KeyspaceOptions { default_ttl: Some(ttl), ..Default::default() };
        assert!(ttl(Duration::from_nanos(1)).validate().is_ok());
        let e = ttl(Duration::ZERO).validate().expect_err("zero");
        assert!(e.kind() == ErrorKind::InvalidConfig && e.message().contains("default_ttl"), "{e}");
        let named = |name: &str| KeyspaceOptions {
            merge_operator: Some(name.to_owned()),
            ..Default::default()
        };
        assert!(named("counter").validate().is_ok());
        let e = named("").validate().expect_err("no name");
        assert!(e.message().contains("merge_operator"), "{e}");
        let both =
            KeyspaceOptions { default_ttl: Some(Duration::from_secs(1)), ..named("counter") };
        assert_eq!(both.validate().expect_err("both").kind(), ErrorKind::InvalidConfig);
    }

    #[test]
    fn a_level_needs_a_codec_that_has_it() {
        let of = |compression_type, compression_level| KeyspaceOptions {
            compression_type,
            compression_level,
            ..Default::default()
        };
        assert!(of(Some(CompressionType::Zstd), Some(19)).validate().is_ok());
        assert!(of(Some(CompressionType::Snappy), None).validate().is_ok());
        for refused in [
            of(Some(CompressionType::Zstd), Some(23)),
            of(Some(CompressionType::Lz4), Some(1)),
            of(None, Some(3)),
        ] {
            let e = refused.validate().expect_err("no such level");
            assert_eq!(e.kind(), ErrorKind::InvalidConfig);
            assert!(e.message().contains("keyspace option `compression_level`"), "{e}");
        }
    }

    #[test]
    fn sync_modes_have_the_durability_of_their_name() {
        let interval = std::time::Duration::from_millis(1);
        assert_eq!(Durability::from(WalSyncMode::Sync), Durability::Sync);
        assert_eq!(Durability::from(WalSyncMode::Periodic { interval }), Durability::Periodic);
        assert_eq!(Durability::from(WalSyncMode::Async), Durability::Async);
    }
}
