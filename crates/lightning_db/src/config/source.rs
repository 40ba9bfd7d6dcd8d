//! Where options come from: a TOML file, then the environment, which overrides it. An option has
//! one name everywhere: the field's, in capitals after [`ENVIRONMENT_PREFIX`] in the environment.
//!
//! 1. A name that is not in [`OPTIONS`], or stands in another table than there, is an error.
//! 2. A value of the wrong type or out of range is an error that names the option and where the
//!    value was given: the file, or the variable.
//! 3. Nothing here reads the process's environment: callers pass it, so that tests can.
//!
//! Threads: none. The file is read through the VFS, and is at most 1 MiB.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use toml::{Table, Value};

use super::key_source::KeySource;
use super::options::{CompressionType, LightningDbConfig, Profile, WalSyncMode};
use super::quantity::{parse_duration, parse_size};
use crate::error::{Error, ErrorKind, Result};
use crate::vfs::{OpenMode, OsVfs, Vfs, read_exact_at};

/// What the names of variables begin with: `LIGHTNING_DB_CACHE_SIZE=512MB`.
pub const ENVIRONMENT_PREFIX: &str = "LIGHTNING_DB_";

const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// An option, and the table of the option file that it stands in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OptionName {
    /// The table, without brackets.
    pub table: &'static str,
    /// The option: the name of the field.
    pub name: &'static str,
}

const fn option(table: &'static str, name: &'static str) -> OptionName {
    OptionName { table, name }
}

/// Every option, in the order of the option file.
pub const OPTIONS: &[OptionName] = &[
    option("database", "page_size"),
    option("database", "cache_size"),
    option("database", "write_buffer_size"),
    option("database", "compression_enabled"),
    option("database", "compression_type"),
    option("database", "compression_level"),
    option("database", "profile"),
    option("database", "background_threads"),
    option("database", "background_compaction"),
    option("database", "compaction_interval"),
    option("database", "prefetch_enabled"),
    option("database", "prefetch_distance"),
    option("database", "merge_operator"),
    option("database", "history_retention"),
    option("database", "max_database_size"),
    option("database", "max_key_size"),
    option("database", "max_value_size"),
    option("transaction", "max_active_transactions"),
    option("transaction", "transaction_timeout"),
    option("transaction", "lock_timeout"),
    option("transaction", "max_transaction_size"),
    option("wal", "wal_enabled"),
    option("wal", "wal_sync_mode"),
    option("wal", "wal_segment_size"),
    option("wal", "max_wal_size"),
    option("wal", "changes_retention_bytes"),
    option("encryption", "encryption"),
];

impl LightningDbConfig {
    /// The defaults, overridden by the text of an option file.
    ///
    /// ```
    /// let config = lightning_db::config::LightningDbConfig::from_toml_str(
    ///     r#"
    ///     [database]
    ///     cache_size = "512MB"
    ///     [wal]
    ///     wal_sync_mode = "periodic:10ms"
    ///     "#,
    /// )?;
    /// assert_eq!(config.cache_size, 512_000_000);
    /// # Ok::<(), lightning_db::Error>(())
    /// ```
    pub fn from_toml_str(text: &str) -> Result<Self> {
        let mut loader = Loader::default();
        loader.file(text, None)?;
        loader.finish()
    }

    /// The defaults, overridden by the option file at `path`, where one is given, overridden by
    /// the variables of `environment` whose names begin with [`ENVIRONMENT_PREFIX`]
    /// (`std::env::vars()` for the process's own).
    pub fn load(
        path: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self> {
        Self::load_with(&OsVfs, path, environment)
    }

    /// As [`load`](Self::load), reading the file through `vfs`.
    pub fn load_with(
        vfs: &dyn Vfs,
        path: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self> {
        let mut loader = Loader::default();
        if let Some(path) = path {
            let text = read_text(vfs, path)?;
            loader.file(&text, Some(path))?;
        }
        loader.environment(environment)?;
        loader.finish()
    }

    /// Sets one option from what a file or variable gave.
    fn set(&mut self, name: &str, given: &Given) -> std::result::Result<(), String> {
        match name {
            "page_size" => self.page_size = given.memory_size()?,
            "cache_size" => self.cache_size = given.memory_size()?,
            "write_buffer_size" => self.write_buffer_size = given.memory_size()?,
            "compression_enabled" => self.compression_enabled = given.boolean()?,
            "compression_type" => {
                self.compression_type = given.one_of(&[
                    ("none", CompressionType::None),
                    ("lz4", CompressionType::Lz4),
                    ("zstd", CompressionType::Zstd),
                    ("snappy", CompressionType::Snappy),
                ])?;
            }
            "compression_level" => self.compression_level = given.level_or_none()?,
            "profile" => {
                self.profile = given.one_of(&[
                    ("read_optimized", Profile::ReadOptimized),
                    ("balanced", Profile::Balanced),
                    ("write_optimized", Profile::WriteOptimized),
                ])?;
            }
            "background_threads" => self.background_threads = given.count()?,
            "background_compaction" => self.background_compaction = given.boolean()?,
            "compaction_interval" => self.compaction_interval = given.duration()?,
            "prefetch_enabled" => self.prefetch_enabled = given.boolean()?,
            "prefetch_distance" => self.prefetch_distance = given.count()?,
            "merge_operator" => self.merge_operator = given.name_or_none()?,
            "history_retention" => self.history_retention = given.duration_or_none()?,
            "max_database_size" => self.max_database_size = given.size_or_none()?,
            "max_key_size" => self.max_key_size = given.memory_size()?,
            "max_value_size" => self.max_value_size = given.size()?,
            "max_active_transactions" => self.max_active_transactions = given.count()?,
            "transaction_timeout" => self.transaction_timeout = given.duration()?,
            "lock_timeout" => self.lock_timeout = given.duration()?,
            "max_transaction_size" => self.max_transaction_size = given.size()?,
            "wal_enabled" => self.wal_enabled = given.boolean()?,
            "wal_sync_mode" => self.wal_sync_mode = given.sync_mode()?,
            "wal_segment_size" => self.wal_segment_size = given.size()?,
            "max_wal_size" => self.max_wal_size = given.size()?,
            "changes_retention_bytes" => self.changes_retention_bytes = given.size()?,
            "encryption" => self.encryption = given.key_source()?,
            _ => unreachable!("only names from OPTIONS are set"),
        }
        Ok(())
    }
}

/// A configuration in the making, and where each option was last given.
#[derive(Default)]
struct Loader {
    config: LightningDbConfig,
    origins: BTreeMap<&'static str, Origin>,
}

#[derive(Clone)]
enum Origin {
    Text,
    File(std::path::PathBuf),
    Variable(String),
}

impl Origin {
    fn refuse(&self, message: String) -> Error {
        match self {
            Self::Text => Error::new(ErrorKind::InvalidConfig, message),
            Self::File(path) => Error::new(ErrorKind::InvalidConfig, message).in_file(path),
            Self::Variable(name) => {
                let message = format!("{message} (environment variable {name})");
                Error::new(ErrorKind::InvalidConfig, message)
            }
        }
    }
}

impl Loader {
    fn file(&mut self, text: &str, path: Option<&Path>) -> Result<()> {
        let origin = path.map_or(Origin::Text, |p| Origin::File(p.to_path_buf()));
        let tables: Table =
            text.parse().map_err(|e: toml::de::Error| origin.refuse(syntax_message(text, &e)))?;
        for (table, content) in tables {
            if !OPTIONS.iter().any(|o| o.table == table) {
                return Err(origin.refuse(unknown_table(&table, &content)));
            }
            let Value::Table(content) = content else {
                return Err(origin.refuse(format!("`{table}` must be a table: [{table}]")));
            };
            for (name, value) in content {
                let Some(known) = OPTIONS.iter().find(|o| o.name == name) else {
                    return Err(origin.refuse(format!("unknown option `{name}` in [{table}]")));
                };
                if known.table != table {
                    let message =
                        format!("option `{name}` belongs in [{}], not [{table}]", known.table);
                    return Err(origin.refuse(message));
                }
                self.set(known.name, &Given::from_toml(value), origin.clone())?;
            }
        }
        Ok(())
    }

    fn environment(&mut self, variables: impl Iterator<Item = (String, String)>) -> Result<()> {
        for (variable, value) in variables {
            let Some(name) = variable.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
            let known = OPTIONS.iter().find(|o| o.name.to_ascii_uppercase() == name);
            let Some(known) = known else {
                let message = format!("environment variable {variable} names no option");
                return Err(Error::new(ErrorKind::InvalidConfig, message));
            };
            self.set(known.name, &Given::from_variable(value), Origin::Variable(variable))?;
        }
        Ok(())
    }

    fn set(&mut self, name: &'static str, given: &Given, origin: Origin) -> Result<()> {
        self.config
            .set(name, given)
            .map_err(|why| origin.refuse(format!("option `{name}`: {why}")))?;
        self.origins.insert(name, origin);
        Ok(())
    }

    fn finish(self) -> Result<LightningDbConfig> {
        match self.config.check() {
            Ok(()) => Ok(self.config),
            Err(refused) => {
                let origin = self.origins.get(refused.option).unwrap_or(&Origin::Text);
                Err(origin.refuse(format!("option {refused}")))
            }
        }
    }
}

fn unknown_table(name: &str, content: &Value) -> String {
    if content.is_table() {
        return format!("unknown table [{name}]");
    }
    match OPTIONS.iter().find(|o| o.name == name) {
        Some(o) => format!("option `{name}` belongs in [{}]", o.table),
        None => format!("unknown option `{name}`, outside of any table"),
    }
}

fn syntax_message(text: &str, e: &toml::de::Error) -> String {
    let line = e.span().map(|span| 1 + text[..span.start].matches('\n').count());
    match line {
        Some(line) => format!("not TOML, line {line}: {}", e.message()),
        None => format!("not TOML: {}", e.message()),
    }
}

fn read_text(vfs: &dyn Vfs, path: &Path) -> Result<String> {
    let file = vfs.open(path, OpenMode::Read).map_err(|e| Error::io(path, "open", e))?;
    let len = file.len().map_err(|e| Error::io(path, "read the length of", e))?;
    let refuse = |why: &str| Error::new(ErrorKind::InvalidConfig, why).in_file(path);
    if len > MAX_FILE_BYTES {
        return Err(refuse("the option file is longer than 1 MiB"));
    }
    let mut bytes = vec![0; len as usize];
    read_exact_at(&*file, &mut bytes, 0)?;
    String::from_utf8(bytes).map_err(|_| refuse("the option file is not UTF-8"))
}

/// A value as it was given, before it is known which option it is for.
#[derive(Debug)]
enum Given {
    Integer(i64),
    Boolean(bool),
    Text(String),
    Other(&'static str),
}

impl Given {
    fn from_toml(value: Value) -> Self {
        match value {
            Value::Integer(n) => Self::Integer(n),
            Value::Boolean(b) => Self::Boolean(b),
            Value::String(s) => Self::Text(s),
            other => Self::Other(other.type_str()),
        }
    }

    fn from_variable(value: String) -> Self {
        let trimmed = value.trim();
        if let Ok(n) = trimmed.parse() {
            return Self::Integer(n);
        }
        match trimmed {
            "true" => Self::Boolean(true),
            "false" => Self::Boolean(false),
            _ => Self::Text(value),
        }
    }

    fn but_expected(&self, expected: &str) -> String {
        match self {
            Self::Integer(n) => format!("`{n}` is not {expected}"),
            Self::Boolean(b) => format!("`{b}` is not {expected}"),
            Self::Text(s) => format!("`{s}` is not {expected}"),
            Self::Other(kind) => format!("a {kind} is not {expected}"),
        }
    }

    fn boolean(&self) -> std::result::Result<bool, String> {
        match self {
            Self::Boolean(b) => Ok(*b),
            _ => Err(self.but_expected("true or false")),
        }
    }

    fn size(&self) -> std::result::Result<u64, String> {
        match self {
            Self::Integer(n) if *n >= 0 => Ok(n.unsigned_abs()),
            Self::Text(s) => parse_size(s),
            _ => Err(self.but_expected("a size such as 4096, \"512MB\" or \"64MiB\"")),
        }
    }

    fn memory_size(&self) -> std::result::Result<usize, String> {
        usize::try_from(self.size()?).map_err(|_| self.but_expected("a size that fits memory"))
    }

    fn size_or_none(&self) -> std::result::Result<Option<u64>, String> {
        match self {
            Self::Text(s) if s.trim().eq_ignore_ascii_case("none") => Ok(None),
            _ => self.size().map(Some),
        }
    }

    fn level_or_none(&self) -> std::result::Result<Option<i32>, String> {
        match self {
            Self::Text(s) if s.trim().eq_ignore_ascii_case("none") => Ok(None),
            Self::Integer(n) => {
                i32::try_from(*n).map(Some).map_err(|_| self.but_expected("a level"))
            }
            _ => Err(self.but_expected("a level such as 3, or \"none\"")),
        }
    }

    fn name_or_none(&self) -> std::result::Result<Option<String>, String> {
        match self {
            Self::Text(s) if s.trim().eq_ignore_ascii_case("none") => Ok(None),
            Self::Text(s) => Ok(Some(s.trim().to_owned())),
            _ => Err(self.but_expected("a name in quotes, or \"none\"")),
        }
    }

    fn count(&self) -> std::result::Result<usize, String> {
        match self {
            Self::Integer(n) => {
                usize::try_from(*n).map_err(|_| self.but_expected("a whole number from 0"))
            }
            _ => Err(self.but_expected("a whole number")),
        }
    }

    fn duration(&self) -> std::result::Result<Duration, String> {
        match self {
            Self::Text(s) => parse_duration(s),
            _ => Err(self.but_expected("a duration such as \"10ms\" or \"2s\"")),
        }
    }

    fn duration_or_none(&self) -> std::result::Result<Option<Duration>, String> {
        match self {
            Self::Text(s) if s.trim().eq_ignore_ascii_case("none") => Ok(None),
            _ => self.duration().map(Some),
        }
    }

    fn one_of<T: Copy>(&self, choices: &[(&str, T)]) -> std::result::Result<T, String> {
        if let Self::Text(s) = self {
            let found = choices.iter().find(|(name, _)| s.trim().eq_ignore_ascii_case(name));
            if let Some((_, value)) = found {
                return Ok(*value);
            }
        }
        let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        Err(self.but_expected(&format!("one of {}", names.join(", "))))
    }

    /// Never repeats what was given: it may be a key.
    fn key_source(&self) -> std::result::Result<Option<KeySource>, String> {
        match self {
            Self::Text(s) => KeySource::from_option(s.trim()),
            _ => KeySource::from_option(""),
        }
    }

    fn sync_mode(&self) -> std::result::Result<WalSyncMode, String> {
        if let Self::Text(s) = self
            && let Some((mode, interval)) = s.split_once(':')
            && mode.trim().eq_ignore_ascii_case("periodic")
        {
            return Ok(WalSyncMode::Periodic { interval: parse_duration(interval)? });
        }
        self.one_of(&[("sync", WalSyncMode::Sync), ("async", WalSyncMode::Async)]).map_err(|_| {
            self.but_expected("one of \"sync\", \"periodic:INTERVAL\" (such as 10ms), \"async\"")
        })
    }
}

#[cfg(test)]
mod tests;
