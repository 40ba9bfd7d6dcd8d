//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::engine::Result;
use crate::engines::{ENGINES, Entry};
use crate::rows::{GROUPS, ROWS, Row};
use crate::workload::SHORTEST;

/// Measures Lightning DB beside other embedded engines: the same work, in one run.
#[derive(Parser, Debug)]
#[command(version)]
pub struct Args {
    /// Engines, separated by commas; all that were built, if none are named.
    #[arg(long, value_delimiter = ',')]
    pub engines: Vec<String>,
    /// Kinds of rows: load, read, scan, write, txn, sync; and sustained, which is run only where it is
    /// asked for.
    #[arg(long, value_delimiter = ',')]
    pub work: Vec<String>,
    /// Rows by name, or by the beginning of names.
    #[arg(long, value_delimiter = ',')]
    pub rows: Vec<String>,
    /// How many keys are loaded.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(2..1 << 40))]
    pub keys: u64,
    /// Bytes of every value: at least 8; at least 16 for each to be told from others.
    #[arg(long, default_value_t = 100)]
    pub value_bytes: usize,
    /// Threads of the rows that have more than one.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub threads: Option<u16>,
    /// The cache of each engine.
    #[arg(long, default_value = "1GiB", value_parser = lightning_db::config::parse_size)]
    pub cache: u64,
    /// Seconds for each row.
    #[arg(long, default_value = "2", value_parser = seconds)]
    pub seconds: Duration,
    /// Times that everything is run; medians are shown.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub repeat: u16,
    /// Where databases are made (and removed): on the disk that is meant. The system's temporary
    /// directory if not said.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
    /// Draws the figures into this file.
    #[arg(long)]
    pub svg: Option<PathBuf>,
    /// Writes all figures into this file as JSON, whatever is printed.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

impl Args {
    /// The engines that are meant.
    pub fn engines(&self) -> Result<Vec<Entry>> {
        let names: Vec<_> = ENGINES.iter().map(|e| e.facts.name).collect();
        known("engine", &self.engines, &names)?;
        let asked = |e: &&Entry| self.engines.is_empty() || named(&self.engines, e.facts.name);
        Ok(ENGINES.iter().filter(asked).copied().collect())
    }

    /// The rows that are meant: those of the kinds, and those named.
    pub fn rows(&self) -> Result<Vec<&'static Row>> {
        known("kind of rows", &self.work, GROUPS)?;
        for name in &self.rows {
            if name.is_empty() || !ROWS.iter().any(|r| r.name.starts_with(name.as_str())) {
                let names: Vec<_> = ROWS.iter().map(|r| r.name).collect();
                return Err(unknown("row", name, &names));
            }
        }
        let all = self.work.is_empty() && self.rows.is_empty();
        let exact = |name: &str| ROWS.iter().any(|r| r.name == name);
        let by_name = |row: &Row| {
            self.rows
                .iter()
                .any(|n| n == row.name || (!exact(n) && row.name.starts_with(n.as_str())))
        };
        Ok(ROWS
            .iter()
            .filter(|r| (all && !r.only_if_asked()) || named(&self.work, r.group) || by_name(r))
            .collect())
    }

    pub fn validate(&self) -> Result<()> {
        if self.value_bytes < SHORTEST {
            return Err(
                format!("--value-bytes {}: the least is {SHORTEST}", self.value_bytes).into()
            );
        }
        Ok(())
    }
}

fn named(asked: &[String], name: &str) -> bool {
    asked.iter().any(|a| a == name)
}

fn known(what: &str, asked: &[String], names: &[&str]) -> Result<()> {
    match asked.iter().find(|a| !names.contains(&a.as_str())) {
        Some(name) => Err(unknown(what, name, names)),
        None => Ok(()),
    }
}

fn unknown(what: &str, name: &str, names: &[&str]) -> crate::engine::Error {
    format!("there is no {what} `{name}`; there are: {}", names.join(", ")).into()
}

fn seconds(text: &str) -> std::result::Result<Duration, String> {
    let number: f64 = text.parse().map_err(|e| format!("{e}"))?;
    Duration::try_from_secs_f64(number).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(arguments: &[&str]) -> Result<Vec<&'static str>> {
        let args = Args::try_parse_from([&["lightning-bench"], arguments].concat())?;
        Ok(args.rows()?.iter().map(|r| r.name).collect())
    }

    #[test]
    fn rows_are_selected_by_kind_name_or_beginning() {
        let usual = ROWS.iter().filter(|r| !r.only_if_asked()).count();
        assert_eq!(rows(&[]).expect("all that are not long").len(), usual);
        assert_eq!(rows(&["--rows", "get-hot"]).expect("an exact name"), ["get-hot"]);
        assert_eq!(rows(&["--rows", "seek,load"]).expect("two"), ["load", "seek-10", "seek-100"]);
        assert_eq!(rows(&["--work", "load"]).expect("a kind"), ["load", "disk", "reopen"]);
        for wrong in [["--rows", "nonsense"], ["--rows", ""], ["--work", "get"]] {
            assert!(rows(&wrong).is_err(), "{wrong:?}");
        }
    }
}
