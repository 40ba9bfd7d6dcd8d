//! What can be typed: commands, their arguments, and the help with examples.
//!
//! An option stands only on the commands that read it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use lightning_db::Durability;

const EXAMPLES: &str = "Examples:
  lightning-cli create shop
  lightning-cli put shop apple 'green, 3 left'
  lightning-cli get shop apple
  lightning-cli merge shop visits 1 --keyspace counts --operator counter
  lightning-cli scan shop --prefix a --limit 10
  lightning-cli import csv packages.csv --key package shop --keyspace packages
  lightning-cli export csv shop --keyspace packages --output out.csv
  lightning-cli --format json stats shop
  lightning-cli check shop --deep

Options of the engine come from `--config FILE` (TOML) and from environment variables such as
LIGHTNING_DB_CACHE_SIZE=512MB, which override the file. The key of an encrypted database is named by
`--key-file`, or by LIGHTNING_DB_ENCRYPTION=file:PATH, variable:NAME or passphrase_variable:NAME.";

/// Lightning DB on the command line.
#[derive(Parser, Debug)]
#[command(name = "lightning-cli", version, about = "Lightning DB on the command line")]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{}", crate::exit::codes_help()))]
pub struct Cli {
    /// How results and errors are written.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    #[command(subcommand)]
    pub command: Command,
}

/// How results are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs: JSON, one document a line.
    Json,
}

/// The database that a command works on.
#[derive(Args, Debug)]
pub struct Target {
    /// The database's directory.
    #[arg(value_name = "DB")]
    pub db: PathBuf,
    /// An option file (TOML: tables database, transaction, wal, encryption).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The file with the key of an encrypted database, or of one to be made so: 32 bytes, or 64
    /// hexadecimal digits, readable by its owner alone.
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
}

/// Where the new key of an encrypted database comes from.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub struct NewKey {
    /// A file with the new key.
    #[arg(long = "new-key-file", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// An environment variable with the new key, 64 hexadecimal digits.
    #[arg(long = "new-key-variable", value_name = "NAME")]
    pub variable: Option<String>,
    /// An environment variable with a new passphrase.
    #[arg(long = "new-passphrase-variable", value_name = "NAME")]
    pub passphrase_variable: Option<String>,
    /// Change the data keys instead: everything is written anew under a new one, and the old ones are
    /// destroyed. Goes on with a change that was cut short.
    #[arg(long)]
    pub data_key: bool,
}

/// The keyspace that a command works on.
#[derive(Args, Debug)]
pub struct KeyspaceArg {
    /// The keyspace.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub keyspace: String,
}

/// What an acknowledged write promises.
#[derive(Args, Debug)]
pub struct DurabilityArg {
    /// What an acknowledged write promises; the database's own mode where not given.
    #[arg(long, value_enum)]
    pub durability: Option<DurabilityName>,
}

/// How rows get into the database.
#[derive(Args, Debug)]
pub struct SortedArg {
    /// The rows come in strictly ascending order of key: they become one commit, written once. Where
    /// they prove not to, nothing is imported.
    #[arg(long, conflicts_with = "durability")]
    pub sorted: bool,
}

/// A durability by name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum DurabilityName {
    /// The device has it.
    Sync,
    /// The log has it, and the device within the interval.
    Periodic,
    /// The log has it.
    Async,
}

impl From<DurabilityName> for Durability {
    fn from(name: DurabilityName) -> Self {
        match name {
            DurabilityName::Sync => Self::Sync,
            DurabilityName::Periodic => Self::Periodic,
            DurabilityName::Async => Self::Async,
        }
    }
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Make a new, empty database; fails where one is already.
    Create {
        #[command(flatten)]
        target: Target,
    },
    /// Store a value under a key.
    Put {
        #[command(flatten)]
        target: Target,
        /// The key; `-`: from standard input, without its final newline.
        #[arg(allow_hyphen_values = true)]
        key: String,
        /// The value; `-`: from standard input, byte for byte.
        #[arg(allow_hyphen_values = true)]
        value: String,
        #[command(flatten)]
        keyspace: KeyspaceArg,
        #[command(flatten)]
        durability: DurabilityArg,
        /// Key and value are given in hexadecimal.
        #[arg(long)]
        hex: bool,
        /// How long the key lives, such as 10s, 5m or 24h; without it as the keyspace is set.
        #[arg(long, value_parser = lightning_db::config::parse_duration)]
        ttl: Option<std::time::Duration>,
    },
    /// Merge an operand into the value of a key, by the keyspace's merge operator.
    #[command(
        after_help = "A keyspace gets its operator once, with --operator; `counter` adds up, \
        `append` joins, `max` keeps the greatest."
    )]
    Merge {
        #[command(flatten)]
        target: Target,
        /// The key; `-`: from standard input, without its final newline.
        #[arg(allow_hyphen_values = true)]
        key: String,
        /// The operand; for `counter` a whole number.
        #[arg(allow_hyphen_values = true)]
        operand: String,
        #[command(flatten)]
        keyspace: KeyspaceArg,
        /// The operator, where the keyspace has none yet: counter, append or max.
        #[arg(long, value_name = "NAME")]
        operator: Option<String>,
        #[command(flatten)]
        durability: DurabilityArg,
        /// The key is given in hexadecimal, and so is the operand, except a counter's.
        #[arg(long)]
        hex: bool,
    },
    /// Print the value of a key; exit code 3 where there is none.
    Get {
        #[command(flatten)]
        target: Target,
        /// The key; `-`: from standard input, without its final newline.
        #[arg(allow_hyphen_values = true)]
        key: String,
        #[command(flatten)]
        keyspace: KeyspaceArg,
        /// The key is given, and the value printed, in hexadecimal.
        #[arg(long)]
        hex: bool,
        /// Write the value's bytes and nothing else.
        #[arg(long, conflicts_with = "hex")]
        raw: bool,
        /// The value it had: after a commit (its number), at a time in UTC
        /// (2026-01-31T12:00:00Z), or so long ago (90s, 10m, 2h, 7d).
        #[arg(long, value_name = "MOMENT")]
        at: Option<String>,
    },
    /// Print what a key became in the kept past, newest first: commit, time and value.
    History {
        #[command(flatten)]
        target: Target,
        /// The key; `-`: from standard input, without its final newline.
        #[arg(allow_hyphen_values = true)]
        key: String,
        #[command(flatten)]
        keyspace: KeyspaceArg,
        /// The key is given, and values printed, in hexadecimal.
        #[arg(long)]
        hex: bool,
    },
    /// Print commits in order, as they are in the log: number, keyspace, what was done, key, value.
    #[command(
        after_help = "Without --from and --cursor it begins with the oldest commit in the log. A \
        clean close leaves no log but what a cursor keeps."
    )]
    Changes {
        #[command(flatten)]
        target: Target,
        /// Begin with this commit.
        #[arg(long, value_name = "COMMIT", conflicts_with = "cursor")]
        from: Option<u64>,
        /// Begin behind this durable cursor, which is made where there is none, and is moved behind
        /// what was printed. Opens the database to be written.
        #[arg(long, value_name = "NAME")]
        cursor: Option<String>,
        /// Go on for ever: look again and again, whenever nobody else has the database open.
        #[arg(long)]
        follow: bool,
        /// Only this keyspace.
        #[arg(long, value_name = "NAME")]
        keyspace: Option<String>,
        /// Only keys that begin with this.
        #[arg(long, allow_hyphen_values = true)]
        prefix: Option<String>,
        /// The prefix is given, and keys and values printed, in hexadecimal.
        #[arg(long)]
        hex: bool,
    },
    /// Delete a key; deleting one that is not there is no error.
    Delete {
        #[command(flatten)]
        target: Target,
        /// The key; `-`: from standard input, without its final newline.
        #[arg(allow_hyphen_values = true)]
        key: String,
        #[command(flatten)]
        keyspace: KeyspaceArg,
        #[command(flatten)]
        durability: DurabilityArg,
        /// The key is given in hexadecimal.
        #[arg(long)]
        hex: bool,
    },
    /// Delete all keys of a range, as one write, however many there are.
    DeleteRange {
        #[command(flatten)]
        target: Target,
        /// Keys that begin with this.
        #[arg(long, conflicts_with_all = ["start", "end"], allow_hyphen_values = true)]
        prefix: Option<String>,
        /// From this key on.
        #[arg(long, allow_hyphen_values = true)]
        start: Option<String>,
        /// Up to this key, which stays.
        #[arg(long, allow_hyphen_values = true)]
        end: Option<String>,
        /// Every key there is. Asked for where neither a prefix nor a bound is given.
        #[arg(long, conflicts_with_all = ["prefix", "start", "end"])]
        all: bool,
        #[command(flatten)]
        keyspace: KeyspaceArg,
        #[command(flatten)]
        durability: DurabilityArg,
        /// Prefix and bounds are given in hexadecimal.
        #[arg(long)]
        hex: bool,
    },
    /// Print keys and values in order, separated by a tab.
    #[command(after_help = "Keys and values that are not printable text are written with \\xNN \
        escapes, a backslash in them as \\\\. Use --hex or --format json where a program reads.")]
    Scan {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        keyspace: KeyspaceArg,
        /// Only keys that begin with this.
        #[arg(long, conflicts_with_all = ["start", "end"], allow_hyphen_values = true)]
        prefix: Option<String>,
        /// Only keys from this one on.
        #[arg(long, allow_hyphen_values = true)]
        start: Option<String>,
        /// Only keys before this one.
        #[arg(long, allow_hyphen_values = true)]
        end: Option<String>,
        /// From the last to the first.
        #[arg(long)]
        reverse: bool,
        /// Stop after this many.
        #[arg(long)]
        limit: Option<u64>,
        /// Prefix, start and end are given, and keys and values printed, in hexadecimal.
        #[arg(long)]
        hex: bool,
    },
    /// Store the rows of a file; makes the database where there is none.
    Import {
        #[command(subcommand)]
        from: Import,
    },
    /// Write a keyspace to a file.
    Export {
        #[command(subcommand)]
        to: Export,
    },
    /// Make, drop, list and read secondary indexes.
    #[command(
        after_help = "Parts: json:/POINTER, each:/POINTER (each element of an array), key, value, \
        key:START..END, value:START..END (bytes)."
    )]
    Index {
        #[command(subcommand)]
        command: IndexCommand,
    },
    /// Print the engine's counters.
    Stats {
        #[command(flatten)]
        target: Target,
    },
    /// Print what the database is made of: keyspaces and files.
    Inspect {
        #[command(flatten)]
        target: Target,
        /// Count the keys of each keyspace, by reading all of them.
        #[arg(long)]
        count: bool,
    },
    /// Look for damage; exit code 6 where some is found.
    Check {
        #[command(flatten)]
        target: Target,
        /// Read and check every page, log record and manifest edit. Without it, only what opening
        /// a database reads is checked.
        #[arg(long)]
        deep: bool,
    },
    /// Merge everything down, giving back the space of old versions.
    Compact {
        #[command(flatten)]
        target: Target,
    },
    /// Move what is in the log into the tree.
    Flush {
        #[command(flatten)]
        target: Target,
    },
    /// Print the names of the keyspaces.
    ListKeyspaces {
        #[command(flatten)]
        target: Target,
    },
    /// Measure this engine on this machine, in a database made for it and removed afterwards.
    Bench(BenchArgs),
    /// Run rows of the benchmark and show where processor time goes, by layer of the engine.
    #[cfg(unix)]
    Profile(ProfileArgs),
    /// Change the key that opens an encrypted database, without writing data anew, or its data keys.
    RotateKey {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        new: NewKey,
    },
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// What is done with an index.
#[derive(Subcommand, Debug)]
pub enum IndexCommand {
    /// Make an index and build it; go on with a build that was broken off.
    Create {
        #[command(flatten)]
        target: Target,
        /// The name of the index.
        name: String,
        /// A part of its keys; several times for several parts, the first counting most.
        #[arg(long = "part", value_name = "PART", required = true)]
        parts: Vec<String>,
        /// At most one row for each index key.
        #[arg(long)]
        unique: bool,
        #[command(flatten)]
        keyspace: KeyspaceArg,
    },
    /// Remove an index.
    Drop {
        #[command(flatten)]
        target: Target,
        /// The name of the index.
        name: String,
        #[command(flatten)]
        keyspace: KeyspaceArg,
    },
    /// Print keyspace, name, parts, uniqueness and state of each index.
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Print the rows with an index key; exit code 3 where there are none.
    Get {
        #[command(flatten)]
        target: Target,
        /// The name of the index.
        name: String,
        /// The parts of the index key: JSON (numbers, true, null) or text.
        #[arg(required = true, allow_hyphen_values = true)]
        key: Vec<String>,
        #[command(flatten)]
        keyspace: KeyspaceArg,
        /// Parts that are bytes are given, and rows printed, in hexadecimal.
        #[arg(long)]
        hex: bool,
    },
    /// Print the rows of a range of index keys, in order.
    Range {
        #[command(flatten)]
        target: Target,
        /// The name of the index.
        name: String,
        /// Index keys from this one on; several times for several parts.
        #[arg(long, value_name = "PART", allow_hyphen_values = true)]
        start: Vec<String>,
        /// Index keys before this one; several times for several parts.
        #[arg(long, value_name = "PART", allow_hyphen_values = true)]
        end: Vec<String>,
        /// Index keys with these first parts; several times for several parts.
        #[arg(long, value_name = "PART", conflicts_with_all = ["start", "end"], allow_hyphen_values = true)]
        prefix: Vec<String>,
        #[command(flatten)]
        keyspace: KeyspaceArg,
        /// From the last to the first.
        #[arg(long)]
        reverse: bool,
        /// Stop after this many.
        #[arg(long)]
        limit: Option<u64>,
        /// Parts that are bytes are given, and rows printed, in hexadecimal.
        #[arg(long)]
        hex: bool,
    },
}

/// Where rows come from.
#[derive(Subcommand, Debug)]
pub enum Import {
    /// A table: each row under one of its columns, as a JSON object of the others.
    ///
    /// The order of the columns is kept in the keyspace `lightning_cli_imports`, so that
    /// `export csv` gives back an equal table, sorted by key. Where a key comes twice, the last
    /// row wins, and the number of such rows is printed.
    Csv {
        /// The file, with a header; `-`: standard input.
        file: PathBuf,
        #[command(flatten)]
        target: Target,
        /// The column whose bytes are the key.
        #[arg(long, value_name = "COLUMN")]
        key: String,
        #[command(flatten)]
        keyspace: KeyspaceArg,
        #[command(flatten)]
        durability: DurabilityArg,
        #[command(flatten)]
        sorted: SortedArg,
    },
    /// One JSON object a line: {"key": …, "value": …}, or "key_hex", "value_hex" for bytes.
    Jsonl {
        /// The file; `-`: standard input.
        file: PathBuf,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        keyspace: KeyspaceArg,
        #[command(flatten)]
        durability: DurabilityArg,
        #[command(flatten)]
        sorted: SortedArg,
    },
}

/// What rows are written as.
#[derive(Subcommand, Debug)]
pub enum Export {
    /// The imported table, sorted by key; or columns `key` and `value` where none was imported.
    Csv {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        keyspace: KeyspaceArg,
        #[command(flatten)]
        output: OutputArg,
        /// Columns `key_hex` and `value_hex`, whatever was imported.
        #[arg(long)]
        hex: bool,
    },
    /// What `import jsonl` reads.
    Jsonl {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        keyspace: KeyspaceArg,
        #[command(flatten)]
        output: OutputArg,
        /// `key_hex` and `value_hex` in every row.
        #[arg(long)]
        hex: bool,
    },
}

/// Where an export goes.
#[derive(Args, Debug)]
pub struct OutputArg {
    /// A file to write, which must not exist yet; standard output where not given.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Replace the file where it exists.
    #[arg(long, requires = "output")]
    pub force: bool,
}

/// What to measure.
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// How many keys are loaded.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1000..))]
    pub keys: u64,
    /// Bytes of each value, half of them random.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(8..=1_048_576))]
    pub value_bytes: u32,
    /// Rows to measure, separated by commas: names, or beginnings of names. Default: all.
    #[arg(long, value_delimiter = ',')]
    pub rows: Vec<String>,
    /// Threads of the rows that use several; each row's own number where not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Seconds that a row runs.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=86400))]
    pub seconds: u32,
    /// Where the database is made; a directory for temporary files where not given.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// An option file; `wal_sync_mode` is set by each row.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Measure each row again on an encrypted database, right after the plain one, and show the ratio.
    #[arg(long)]
    pub encrypted: bool,
}

/// What to look into.
#[cfg(unix)]
#[derive(Args, Debug)]
pub struct ProfileArgs {
    #[command(flatten)]
    pub bench: BenchArgs,
    /// Samples for each second of processor time.
    #[arg(long, default_value_t = 499, value_parser = clap::value_parser!(u16).range(10..=5000))]
    pub frequency: u16,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_long_help_documents_every_exit_code() {
        let help = Cli::command().render_long_help().to_string();
        for (code, what) in crate::exit::CODES {
            assert!(help.contains(&format!("{code:>2}  {what}")), "{code}");
        }
    }

    #[test]
    fn file_key_and_database_in_the_documented_order() {
        let line = ["lightning-cli", "import", "csv", "a.csv", "--key", "id", "shop"];
        let cli = Cli::try_parse_from(line).expect("the documented command");
        let Command::Import { from: Import::Csv { file, target, key, .. } } = cli.command else {
            panic!("another command: {cli:?}");
        };
        assert_eq!((file, target.db, key), ("a.csv".into(), "shop".into(), "id".to_owned()));
    }
}
