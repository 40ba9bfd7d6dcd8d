//! Where processor time goes while a row runs: samples of all threads, counted by the innermost layer of
//! the engine that they were in.
//!
//! A layer's time has in it what it called outside of the engine: the system, the allocator, codecs. Time in
//! which a thread waits is no processor time, and not here. Threads of the engine count as *behind*, those of
//! the row as *calls*.

use std::collections::BTreeMap;
use std::fmt::Write;

use lightning_db::{Error, ErrorKind};
use pprof::{ProfilerGuard, ProfilerGuardBuilder, Symbol};
use serde_json::{Value, json};

use super::Observer;
use crate::exit::{Outcome, Stop};

/// Counts samples by layer.
pub struct Layers {
    frequency: u16,
    running: Option<ProfilerGuard<'static>>,
}

/// Samples in one layer: calls, and behind them.
type Counts = BTreeMap<String, [u64; 2]>;

impl Layers {
    pub fn new(frequency: u16) -> Self {
        Self { frequency, running: None }
    }
}

fn failed(e: &pprof::Error) -> Stop {
    Error::new(ErrorKind::Io, format!("samples cannot be taken here: {e}")).into()
}

impl Observer for Layers {
    fn begin(&mut self) -> Outcome<()> {
        // The vdso of some systems cannot be unwound.
        let builder = ProfilerGuardBuilder::default().frequency(self.frequency.into());
        let guard = builder.blocklist(&["vdso"]).build().map_err(|e| failed(&e))?;
        self.running = Some(guard);
        Ok(())
    }

    fn end(&mut self) -> Outcome<Option<(Value, String)>> {
        let Some(guard) = self.running.take() else { return Ok(None) };
        let report = guard.report().build().map_err(|e| failed(&e))?;
        let mut counts = Counts::new();
        for (frames, count) in &report.data {
            let name = &frames.thread_name;
            // The row's own threads have the program's name.
            let behind = usize::from(name.starts_with("lightning-") && name != PROGRAM);
            let layer = innermost(frames.frames.iter().flatten().filter_map(layer));
            let layer = layer.unwrap_or_else(|| "other".to_owned());
            counts.entry(layer).or_default()[behind] += (*count).max(0) as u64;
        }
        Ok(Some((document(&counts), table(&counts))))
    }
}

/// The name of the program's first thread, and of those without a name.
const PROGRAM: &str = env!("CARGO_BIN_NAME");

/// Modules that do nothing of their own: their time is that of who calls them.
const HELPERS: [&str; 6] = ["codec", "error", "limits", "prefetch", "sync", "types"];

/// The first of a sample's layers, innermost first, that is no helper.
fn innermost(layers: impl Iterator<Item = String>) -> Option<String> {
    layers.into_iter().find(|layer| !HELPERS.contains(&layer.as_str()))
}

/// The engine's layer that a function is of: by its file where that is known, else by its name.
fn layer(function: &Symbol) -> Option<String> {
    let file = function.filename.as_ref().and_then(|f| f.to_str());
    file.and_then(layer_of_file).or_else(|| layer_of_name(&function.name()).map(str::to_owned))
}

fn layer_of_file(file: &str) -> Option<String> {
    let file = file.replace('\\', "/");
    let (_, inside) = file.rsplit_once("lightning_db/src/")?;
    inside.split(['/', '.']).next().map(str::to_owned)
}

fn layer_of_name(name: &str) -> Option<&str> {
    // Also in `<lightning_db::x::Y as Trait>::z`; not what is only generic over it.
    let inside = name.strip_prefix('<').unwrap_or(name).strip_prefix("lightning_db::")?;
    inside.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

/// Layers by their samples, most first, with the share of each in all.
fn by_share(counts: &Counts) -> Vec<(&str, [u64; 2], f64)> {
    let all: u64 = counts.values().flatten().sum();
    let share = |n: [u64; 2]| (n[0] + n[1]) as f64 / all.max(1) as f64;
    let mut rows: Vec<_> = counts.iter().map(|(l, n)| (l.as_str(), *n, share(*n))).collect();
    rows.sort_by(|a, b| b.2.total_cmp(&a.2));
    rows
}

fn document(counts: &Counts) -> Value {
    let row = |(layer, [calls, behind], share): &(&str, [u64; 2], f64)| json!({ "layer": layer, "share": share, "samples_in_calls": calls, "samples_behind": behind });
    by_share(counts).iter().map(row).collect()
}

fn table(counts: &Counts) -> String {
    let all: u64 = counts.values().flatten().sum();
    let percent = |n: u64| 100.0 * n as f64 / all.max(1) as f64;
    let mut lines =
        format!("    {:<24}{:>10}{:>10}   ({all} samples)", "layer", "calls %", "behind %");
    // What a sample or two say is chance.
    for (layer, [calls, behind], _) in by_share(counts).into_iter().filter(|row| row.2 >= 0.005) {
        let _ = write!(lines, "\n    {layer:<24}{:>10.1}{:>10.1}", percent(calls), percent(behind));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_have_layers_by_file_or_name() {
        let file = |f| layer_of_file(f);
        assert_eq!(
            file("/src/crates/lightning_db/src/memtable/table.rs").as_deref(),
            Some("memtable")
        );
        assert_eq!(file("crates\\lightning_db\\src\\keyspace.rs").as_deref(), Some("keyspace"));
        assert_eq!(file("library/core/src/slice.rs"), None);
        let name = "lightning_db::memtable::table::Memtable::insert";
        assert_eq!(layer_of_name(name), Some("memtable"));
        let of_trait = "<lightning_db::vfs::os::OsVfs as lightning_db::vfs::Vfs>::now";
        assert_eq!(layer_of_name(of_trait), Some("vfs"));
        let generic = "<alloc::vec::Vec<lightning_db::page::Leaf> as core::ops::Drop>::drop";
        assert_eq!(layer_of_name(generic), None);
        assert_eq!(layer_of_name("lightning_cli::bench::run"), None);
        let layers = ["sync", "codec", "wal", "commit"].map(str::to_owned);
        assert_eq!(innermost(layers.into_iter()).as_deref(), Some("wal"));
    }

    #[test]
    fn the_table_has_the_most_first_and_shares_of_all() {
        let counts = Counts::from([("a".to_owned(), [1, 0]), ("b".to_owned(), [1, 2])]);
        let table = table(&counts);
        let lines: Vec<&str> = table.lines().map(str::trim).collect();
        assert!(lines[0].ends_with("(4 samples)") && lines[1].starts_with('b'), "{table}");
        assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>(), ["b", "25.0", "50.0"]);
        assert_eq!(document(&counts)[0]["share"], 0.75);
    }
}
