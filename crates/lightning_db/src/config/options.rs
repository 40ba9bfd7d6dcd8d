//! [`LightningDbConfig`]: the options of a database, their defaults, their ranges, and presets.
//!
//! 1. Every field is read by the engine; an option that does nothing does not exist.
//! 2. [`validate`](LightningDbConfig::validate) knows every range; opening a database calls it, so
//!    an impossible value never reaches the layers below.
//! 3. Options are of the handle, not of the files: a database may be opened with others each time.
//!    (What a keyspace was created with is kept with it.)

use std::fmt;
use std::time::Duration;

use super::key_source::KeySource;
use crate::compress::{Codec, Packing};
use crate::error::{Error, ErrorKind, Result};
use crate::index::Extractors;
use crate::limits;
use crate::operators::{MergeOperators, check_name};
use crate::vfs::{OsVfs, Vfs};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// A cache holds at least this many pages.
const MIN_CACHE_PAGES: usize = 8;
const MIN_WRITE_BUFFER: usize = 64 * KIB;
const MIN_WAL_SEGMENT: u64 = 16 * KIB as u64;
const MAX_WAL_SEGMENT: u64 = 1024 * MIB as u64;
const MAX_BACKGROUND_THREADS: usize = 64;
const MAX_PREFETCH_DISTANCE: usize = 1024;
const MAX_ACTIVE_TRANSACTIONS: usize = 1_000_000;
/// What `Periodic` means for a write that asks for it in a database whose own mode is another.
const DEFAULT_SYNC_INTERVAL: Duration = Duration::from_millis(10);
const LONGEST_INTERVAL: Duration = Duration::from_secs(24 * 3600);
const LONGEST_HISTORY: Duration = Duration::from_secs(876_000 * 3600);

/// How pages are compressed. Each codec is a Cargo feature of the same name (`lz4`, `zstd`,
/// `snappy`); one that is not built in is refused, in options and in databases that use it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CompressionType {
    /// Stored as they are.
    None,
    /// LZ4 block format: fast both ways. Cargo feature `lz4`, which is on by default.
    Lz4,
    /// Zstandard: about a third smaller than LZ4, slower to pack and to read; with levels. Cargo
    /// feature `zstd`, which needs a C compiler.
    Zstd,
    /// Snappy: close to LZ4. Cargo feature `snappy`.
    Snappy,
}

impl CompressionType {
    /// The codec of pages.
    pub(crate) fn codec(self) -> Codec {
        match self {
            Self::None => Codec::None,
            Self::Lz4 => Codec::Lz4,
            Self::Zstd => Codec::Zstd,
            Self::Snappy => Codec::Snappy,
        }
    }
}

/// The default codec: the one that needs no choice, where it is built in.
const DEFAULT_COMPRESSION: CompressionType =
    if cfg!(feature = "lz4") { CompressionType::Lz4 } else { CompressionType::None };

/// How much may be stacked above the base before it is merged down.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Profile {
    /// Almost nothing: close to a plain B+Tree with a write buffer.
    ReadOptimized,
    /// Some.
    Balanced,
    /// Much: writes are merged rarely, reads look into more places.
    WriteOptimized,
}

/// When a commit is acknowledged, unless the write itself chooses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum WalSyncMode {
    /// After the device has it; concurrent writers share one sync.
    Sync,
    /// Once it is in the log, which is synced within the interval.
    Periodic {
        /// The longest time that an acknowledged commit may stay unsynced.
        interval: Duration,
    },
    /// Once it is in the log, which is synced when the system sees fit, or on `sync()`.
    Async,
}

/// The options of a database. Fields are public; take the ones you do not set from a preset or
/// from `..Default::default()`.
///
/// The same names are used in an option file and, in capitals after `LIGHTNING_DB_`, in the
/// environment; see [`load`](Self::load).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LightningDbConfig {
    /// Target size of an unpacked tree page: a power of two, 4 KiB to 64 KiB. Default 4 KiB.
    pub page_size: usize,
    /// Bytes kept in memory of what was read; at least 8 pages. Three quarters are for unpacked pages and
    /// large values, one (where it is 64 KiB or more) for rows: newest values of keys that were read. Large
    /// values of up to some 768 KiB at the default (an eighth of one of the cache's parts, of which there are up
    /// to 64) are kept by gets, not by scans; larger ones are read from their files each time. Default 64 MiB.
    pub cache_size: usize,
    /// Memtable size, per keyspace, at which it is sealed and flushed; 64 KiB to 1 TiB. While writers are
    /// faster than flushing, a few sealed ones wait; and as much memory as the largest had stays with the
    /// database for the next ones until nothing has been written for a second. Default 64 MiB.
    pub write_buffer_size: usize,
    /// Whether new pages are compressed, in keyspaces that were not made with a codec of their own.
    /// Default true.
    pub compression_enabled: bool,
    /// How they are compressed where they are. A page that does not shrink is stored plain. May be
    /// another at each opening: pages written before are read as they are, and take the new codec
    /// as merges renew them. Default LZ4 (none, in a build without it).
    pub compression_type: CompressionType,
    /// How hard the codec tries. Zstandard: from -7 (fastest) to -1 and from 1 to 22 (smallest);
    /// the others have no levels. Reading takes about the same time at every level. `None`, the
    /// default: the codec's own, which is 3.
    pub compression_level: Option<i32>,
    /// What the shape of the tree is tuned for. Default balanced.
    pub profile: Profile,
    /// How many threads work in the background; 0: the calling thread does that work itself, in
    /// the call that made it necessary. Default: the processors, at most 2.
    pub background_threads: usize,
    /// Whether runs are merged as they gather. When false nothing merges but `compact`, so runs
    /// and space grow, and `health_check` says so. Default true.
    pub background_compaction: bool,
    /// How often work that no write triggers is looked for (dead space in idle partitions).
    /// Default 60 s.
    pub compaction_interval: Duration,
    /// Whether scans read ahead. Default true.
    pub prefetch_enabled: bool,
    /// How many leaves a scan reads ahead; 1 to 1024. Default 8.
    pub prefetch_distance: usize,
    /// The merge operators that keyspaces may name. Default: the built-in ones. (Not an option of files
    /// and environments: see [`MergeOperators`].)
    pub merge_operators: MergeOperators,
    /// The name of the default keyspace's merge operator; `None` leaves it as it is kept. One that has
    /// none gets this one, for good; where it has another, opening fails with `InvalidConfig`. (That of
    /// another keyspace is in [`KeyspaceOptions`](super::KeyspaceOptions).) Default none.
    pub merge_operator: Option<String>,
    /// How far back `snapshot_at` and `history` can look; 1 s to 100 years. Every version of a key takes
    /// its space until it is that old. A longer one than before brings nothing back, and without one
    /// the past is dropped as merges meet it. Default none.
    pub history_retention: Option<Duration>,
    /// The most bytes that the files of data may take, large values included and the log (see
    /// `max_wal_size`) aside; past that, commits that put anything fail with `StorageFull`, and
    /// those that only delete go on. `None`: what the disk holds.
    pub max_database_size: Option<u64>,
    /// The longest key accepted; 1 to 65,536 bytes, the default.
    pub max_key_size: usize,
    /// The longest value accepted; 0 to 4 GiB - 1, the default.
    pub max_value_size: u64,
    /// How many transactions may be open at once; `begin` past that fails. Default 1000.
    pub max_active_transactions: usize,
    /// How long a transaction may stay open; past that its calls fail with `TimedOut`. Default
    /// 30 s.
    pub transaction_timeout: Duration,
    /// How long a write or a pessimistic transaction waits for a lock that another transaction
    /// holds; past that the call fails with `TimedOut`. Default 1 s.
    pub lock_timeout: Duration,
    /// The most bytes of keys and values that one commit may write; at most 1 GiB, the default.
    pub max_transaction_size: u64,
    /// Whether there is a log. Without one a commit is durable at the next flush. Default true.
    pub wal_enabled: bool,
    /// What an acknowledgement promises. Default `Sync`.
    pub wal_sync_mode: WalSyncMode,
    /// Size of a log file; 16 KiB to 1 GiB. Default 64 MiB.
    pub wal_segment_size: u64,
    /// Past this many bytes of log the keyspace that holds its oldest part is flushed; at least
    /// two log files. Default 1 GiB.
    pub max_wal_size: u64,
    /// How much log is kept beyond that for cursors and streams of changes which are behind, with the large
    /// values that it refers to; up to 1 PiB. Past that the oldest goes, and who needed it fails with
    /// `TooOld`. Default 1 GiB.
    pub changes_retention_bytes: u64,
    /// Where the key of the database comes from. With one, a database that is made is encrypted
    /// (AES-256-GCM), and a plain one refused; see [`KeySource`]. In an option file or variable:
    /// `file:PATH`, `variable:NAME` or `passphrase_variable:NAME`. Default none.
    pub encryption: Option<KeySource>,
    /// Functions that indexes take their keys from, by name: only in code. An index whose function
    /// is missing cannot be read, and its keyspace takes no writes. Default none.
    pub extractors: Extractors,
}

impl Default for LightningDbConfig {
    fn default() -> Self {
        Self {
            page_size: 4 * KIB,
            cache_size: 64 * MIB,
            write_buffer_size: 64 * MIB,
            compression_enabled: true,
            compression_type: DEFAULT_COMPRESSION,
            compression_level: None,
            profile: Profile::Balanced,
            background_threads: OsVfs.processors().min(2),
            background_compaction: true,
            compaction_interval: Duration::from_secs(60),
            prefetch_enabled: true,
            prefetch_distance: 8,
            merge_operators: MergeOperators::default(),
            merge_operator: None,
            history_retention: None,
            max_database_size: None,
            max_key_size: limits::MAX_KEY_BYTES,
            max_value_size: limits::MAX_VALUE_BYTES,
            max_active_transactions: 1000,
            transaction_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(1),
            max_transaction_size: limits::MAX_COMMIT_BYTES as u64,
            wal_enabled: true,
            wal_sync_mode: WalSyncMode::Sync,
            wal_segment_size: 64 * MIB as u64,
            max_wal_size: 1024 * MIB as u64,
            changes_retention_bytes: 1024 * MIB as u64,
            encryption: None,
            extractors: Extractors::default(),
        }
    }
}

/// Presets: starting points, each a few options away from the default.
impl LightningDbConfig {
    /// For data that is read far more often than written: a shallow stack and a large cache.
    pub fn read_optimized() -> Self {
        Self {
            profile: Profile::ReadOptimized,
            cache_size: 256 * MIB,
            prefetch_distance: 16,
            ..Self::default()
        }
    }

    /// For heavy writes: a deep stack, large write buffers, and room for their log.
    pub fn write_optimized() -> Self {
        Self {
            profile: Profile::WriteOptimized,
            write_buffer_size: 128 * MIB,
            max_wal_size: 2048 * MIB as u64,
            ..Self::default()
        }
    }

    /// The default, by name.
    pub fn balanced() -> Self {
        Self::default()
    }

    /// About 20 MiB of memory for one keyspace, and little log on disk.
    pub fn low_memory() -> Self {
        Self {
            cache_size: 8 * MIB,
            write_buffer_size: 4 * MIB,
            wal_segment_size: 4 * MIB as u64,
            max_wal_size: 32 * MIB as u64,
            changes_retention_bytes: 32 * MIB as u64,
            background_threads: 1,
            prefetch_distance: 2,
            ..Self::default()
        }
    }

    /// Every acknowledged commit is on the device, whatever the defaults become; and the log is
    /// kept short, so that recovery is quick.
    pub fn max_durability() -> Self {
        Self {
            wal_enabled: true,
            wal_sync_mode: WalSyncMode::Sync,
            max_wal_size: 256 * MIB as u64,
            ..Self::default()
        }
    }
}

impl LightningDbConfig {
    /// Whether every value is possible; the error names the first option that is not.
    pub fn validate(&self) -> Result<()> {
        self.check()
            .map_err(|refused| Error::new(ErrorKind::InvalidConfig, format!("option {refused}")))
    }

    /// The codec of new pages, both options taken together.
    pub fn effective_compression(&self) -> CompressionType {
        if self.compression_enabled { self.compression_type } else { CompressionType::None }
    }

    /// How new pages of keyspaces without a codec of their own are packed.
    pub(crate) fn packing(&self) -> Packing {
        match self.effective_compression() {
            CompressionType::None => Codec::None.into(),
            compression => Packing::new(compression.codec(), self.compression_level),
        }
    }

    /// How long a `Periodic` write may stay unsynced: the interval of the database's own mode,
    /// or 10 ms where that is another.
    pub fn sync_interval(&self) -> Duration {
        match self.wal_sync_mode {
            WalSyncMode::Periodic { interval } => interval,
            WalSyncMode::Sync | WalSyncMode::Async => DEFAULT_SYNC_INTERVAL,
        }
    }

    /// The first option whose value is out of range.
    pub(super) fn check(&self) -> std::result::Result<(), Refused> {
        let page = self.page_size;
        if !page.is_power_of_two() || !limits::PAGE_SIZES.contains(&page) {
            return refuse("page_size", "must be a power of two from 4 KiB to 64 KiB", page);
        }
        let least = MIN_CACHE_PAGES * page;
        if self.cache_size < least {
            let why = format!("must be at least {least} ({MIN_CACHE_PAGES} pages)");
            return refuse("cache_size", why, self.cache_size);
        }
        if let Err(why) = checked_write_buffer(self.write_buffer_size) {
            return Err(Refused { option: "write_buffer_size", why });
        }
        checked_compression(self.compression_type, self.compression_level)?;
        let threads = self.background_threads;
        within("background_threads", threads, 0, MAX_BACKGROUND_THREADS)?;
        lasting("compaction_interval", self.compaction_interval)?;
        within("prefetch_distance", self.prefetch_distance, 1, MAX_PREFETCH_DISTANCE)?;
        if let Err(why) = self.merge_operators.check() {
            return Err(Refused { option: "merge_operators", why });
        }
        if let Some(Err(why)) = self.merge_operator.as_deref().map(check_name) {
            return Err(Refused { option: "merge_operator", why });
        }
        if let Some(kept) = self.history_retention
            && !(Duration::from_secs(1)..=LONGEST_HISTORY).contains(&kept)
        {
            let why = "must last from 1s to 876000h, or none";
            return refuse("history_retention", why, format!("{kept:?}"));
        }
        if self.max_database_size == Some(0) {
            return refuse("max_database_size", "must be at least 1, or none", 0);
        }
        within("max_key_size", self.max_key_size, 1, limits::MAX_KEY_BYTES)?;
        within("max_value_size", self.max_value_size, 0, limits::MAX_VALUE_BYTES)?;
        let transactions = self.max_active_transactions;
        within("max_active_transactions", transactions, 1, MAX_ACTIVE_TRANSACTIONS)?;
        lasting("transaction_timeout", self.transaction_timeout)?;
        lasting("lock_timeout", self.lock_timeout)?;
        let commit = limits::MAX_COMMIT_BYTES as u64;
        within("max_transaction_size", self.max_transaction_size, 1, commit)?;
        if let WalSyncMode::Periodic { interval } = self.wal_sync_mode {
            lasting("wal_sync_mode", interval)?;
        }
        within("wal_segment_size", self.wal_segment_size, MIN_WAL_SEGMENT, MAX_WAL_SEGMENT)?;
        let least = 2 * self.wal_segment_size;
        if self.max_wal_size < least {
            let why = format!("must be at least {least} (twice `wal_segment_size`)");
            return refuse("max_wal_size", why, self.max_wal_size);
        }
        within("changes_retention_bytes", self.changes_retention_bytes, 0, 1 << 50)?;
        if self.encryption.as_ref().is_some_and(|k| !k.is_possible()) {
            let why = "must cost 8 KiB to 1 GiB of memory and 1 to 64 passes";
            return refuse("encryption", why, "another cost");
        }
        Ok(())
    }
}

/// An option whose value is impossible, and why.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Refused {
    pub(super) option: &'static str,
    pub(super) why: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.option, self.why)
    }
}

fn refuse<T>(
    option: &'static str,
    why: impl fmt::Display,
    given: impl fmt::Display,
) -> std::result::Result<T, Refused> {
    Err(Refused { option, why: format!("{why}; it is {given}") })
}

fn within<T: PartialOrd + fmt::Display>(
    option: &'static str,
    given: T,
    least: T,
    most: T,
) -> std::result::Result<(), Refused> {
    if given < least || given > most {
        return refuse(option, format!("must be from {least} to {most}"), given);
    }
    Ok(())
}

fn lasting(option: &'static str, given: Duration) -> std::result::Result<(), Refused> {
    if given < Duration::from_millis(1) || given > LONGEST_INTERVAL {
        return refuse(option, "must last from 1ms to 24h", format!("{given:?}"));
    }
    Ok(())
}

/// The range of `write_buffer_size`, for databases and keyspaces alike.
pub(super) fn checked_write_buffer(bytes: usize) -> std::result::Result<(), String> {
    if bytes < MIN_WRITE_BUFFER {
        return Err(format!("must be at least {MIN_WRITE_BUFFER}; it is {bytes}"));
    }
    let most = limits::MAX_WRITE_BUFFER_BYTES;
    if bytes as u64 > most {
        return Err(format!("must be at most {most}; it is {bytes}"));
    }
    Ok(())
}

/// Whether a build has a codec, and the codec a level, for databases and keyspaces alike.
pub(super) fn checked_compression(
    compression: CompressionType,
    level: Option<i32>,
) -> std::result::Result<(), Refused> {
    let codec = compression.codec();
    if !codec.is_built_in() {
        return Err(Refused { option: "compression_type", why: format!("is {}", codec.lacking()) });
    }
    match level.map(|level| codec.check_level(level)) {
        Some(Err(why)) => Err(Refused { option: "compression_level", why }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Edit = fn(&mut LightningDbConfig);

    #[test]
    fn defaults_and_presets_are_possible() {
        for (name, config) in [
            ("default", LightningDbConfig::default()),
            ("read_optimized", LightningDbConfig::read_optimized()),
            ("write_optimized", LightningDbConfig::write_optimized()),
            ("balanced", LightningDbConfig::balanced()),
            ("low_memory", LightningDbConfig::low_memory()),
            ("max_durability", LightningDbConfig::max_durability()),
        ] {
            assert!(config.validate().is_ok(), "{name}");
        }
        assert_eq!(LightningDbConfig::read_optimized().profile, Profile::ReadOptimized);
        assert_eq!(LightningDbConfig::write_optimized().profile, Profile::WriteOptimized);
        assert_eq!(LightningDbConfig::max_durability().wal_sync_mode, WalSyncMode::Sync);
        let low = LightningDbConfig::low_memory();
        assert!(low.cache_size + low.write_buffer_size <= 20 * MIB);
    }

    #[test]
    fn documented_defaults_hold() {
        let c = LightningDbConfig::default();
        assert_eq!((c.page_size, c.cache_size, c.write_buffer_size), (4096, 64 * MIB, 64 * MIB));
        assert_eq!((c.max_active_transactions, c.transaction_timeout.as_secs()), (1000, 30));
        assert_eq!((c.wal_segment_size, c.max_wal_size), (64 << 20, 1 << 30));
        assert!((1..=2).contains(&c.background_threads));
        assert_eq!((c.prefetch_distance, c.compaction_interval.as_secs()), (8, 60));
        assert_eq!((c.max_key_size, c.max_value_size), (65_536, u32::MAX.into()));
        assert_eq!((c.max_database_size, c.max_transaction_size), (None, 1 << 30));
        assert!(c.wal_enabled && c.compression_enabled && c.background_compaction);
    }

    #[test]
    fn the_edges_of_every_range_are_accepted() {
        let edges: &[Edit] = &[
            |c| c.page_size = 4096,
            |c| c.page_size = 65_536,
            |c| c.cache_size = 8 * 4096,
            |c| c.write_buffer_size = 64 * KIB,
            |c| (c.compression_type, c.compression_level) = (CompressionType::Zstd, Some(-7)),
            |c| (c.compression_type, c.compression_level) = (CompressionType::Zstd, Some(22)),
            |c| c.compression_type = CompressionType::Snappy,
            |c| c.background_threads = 0,
            |c| c.background_threads = 64,
            |c| c.compaction_interval = Duration::from_millis(1),
            |c| c.prefetch_distance = 1,
            |c| c.prefetch_distance = 1024,
            |c| c.history_retention = Some(Duration::from_secs(1)),
            |c| c.history_retention = Some(LONGEST_HISTORY),
            |c| c.max_database_size = Some(1),
            |c| c.max_key_size = 1,
            |c| c.max_value_size = 0,
            |c| c.max_active_transactions = 1,
            |c| c.transaction_timeout = LONGEST_INTERVAL,
            |c| c.max_transaction_size = 1,
            |c| (c.wal_segment_size, c.max_wal_size) = (16 * KIB as u64, 32 * KIB as u64),
            |c| (c.wal_segment_size, c.max_wal_size) = (1 << 30, 2 << 30),
            |c| c.wal_sync_mode = WalSyncMode::Periodic { interval: Duration::from_millis(1) },
            |c| c.changes_retention_bytes = 0,
        ];
        for (i, edit) in edges.iter().enumerate() {
            let mut c = LightningDbConfig::default();
            edit(&mut c);
            assert!(c.validate().is_ok(), "edge {i}: {:?}", c.validate());
        }
    }

    #[test]
    fn values_past_the_edge_are_refused_by_name() {
        let past: &[(&str, Edit)] = &[
            ("page_size", |c| c.page_size = 2048),
            ("page_size", |c| c.page_size = 131_072),
            ("page_size", |c| c.page_size = 5000),
            ("page_size", |c| c.page_size = 0),
            ("cache_size", |c| c.cache_size = 8 * 4096 - 1),
            ("cache_size", |c| (c.page_size, c.cache_size) = (65_536, 8 * 4096)),
            ("write_buffer_size", |c| c.write_buffer_size = 64 * KIB - 1),
            ("write_buffer_size", |c| c.write_buffer_size = usize::MAX),
            ("compression_level", |c| c.compression_level = Some(1)),
            ("compression_level", |c| {
                (c.compression_type, c.compression_level) = (CompressionType::Zstd, Some(23));
            }),
            ("compression_level", |c| {
                (c.compression_type, c.compression_level) = (CompressionType::Zstd, Some(0));
            }),
            ("compression_level", |c| {
                (c.compression_type, c.compression_level) = (CompressionType::None, Some(3));
            }),
            ("background_threads", |c| c.background_threads = 65),
            ("compaction_interval", |c| c.compaction_interval = Duration::ZERO),
            ("compaction_interval", |c| c.compaction_interval = Duration::MAX),
            ("prefetch_distance", |c| c.prefetch_distance = 0),
            ("prefetch_distance", |c| c.prefetch_distance = 1025),
            ("history_retention", |c| c.history_retention = Some(Duration::from_millis(999))),
            ("history_retention", |c| c.history_retention = Some(Duration::MAX)),
            ("max_database_size", |c| c.max_database_size = Some(0)),
            ("max_key_size", |c| c.max_key_size = 0),
            ("max_key_size", |c| c.max_key_size = limits::MAX_KEY_BYTES + 1),
            ("max_value_size", |c| c.max_value_size = limits::MAX_VALUE_BYTES + 1),
            ("max_active_transactions", |c| c.max_active_transactions = 0),
            ("max_active_transactions", |c| c.max_active_transactions = 1_000_001),
            ("transaction_timeout", |c| c.transaction_timeout = Duration::ZERO),
            ("lock_timeout", |c| c.lock_timeout = Duration::ZERO),
            ("max_transaction_size", |c| c.max_transaction_size = 0),
            ("max_transaction_size", |c| c.max_transaction_size = (1 << 30) + 1),
            ("wal_sync_mode", |c| {
                c.wal_sync_mode = WalSyncMode::Periodic { interval: Duration::ZERO };
            }),
            ("wal_segment_size", |c| c.wal_segment_size = 16 * KIB as u64 - 1),
            ("wal_segment_size", |c| c.wal_segment_size = (1 << 30) + 1),
            ("max_wal_size", |c| c.max_wal_size = 2 * c.wal_segment_size - 1),
            ("changes_retention_bytes", |c| c.changes_retention_bytes = (1 << 50) + 1),
        ];
        for (option, edit) in past {
            let mut c = LightningDbConfig::default();
            edit(&mut c);
            let e = c.validate().expect_err(option);
            assert_eq!(e.kind(), ErrorKind::InvalidConfig);
            assert!(e.message().starts_with(&format!("option `{option}` ")), "{e}");
        }
    }

    #[test]
    fn compression_and_interval_follow_their_options() {
        let mut c = LightningDbConfig::default();
        assert_eq!(c.effective_compression(), CompressionType::Lz4);
        (c.compression_type, c.compression_level) = (CompressionType::Zstd, Some(9));
        assert_eq!(c.packing(), Packing::new(Codec::Zstd, Some(9)));
        c.compression_enabled = false;
        assert_eq!(c.effective_compression(), CompressionType::None);
        assert_eq!((c.packing(), c.validate().is_ok()), (Codec::None.into(), true));
        assert_eq!(c.sync_interval(), DEFAULT_SYNC_INTERVAL);
        let interval = Duration::from_secs(3);
        c.wal_sync_mode = WalSyncMode::Periodic { interval };
        assert_eq!(c.sync_interval(), interval);
    }
}
