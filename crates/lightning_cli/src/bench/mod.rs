//! `lightning-cli bench`: this engine's rows of the project's benchmark, on the user's machine.
//!
//! | file | job |
//! |---|---|
//! | `rows` | what each row does |
//! | `transactions` | the rows of transactions |
//! | `workload` | keys, values, distributions |
//! | `measure` | threads, time, counting |
//! | `histogram` | latencies |
//! | `profile` | where processor time goes, by layer of the engine |

mod histogram;
mod measure;
#[cfg(unix)]
mod profile;
mod rows;
mod transactions;
mod workload;

use std::path::PathBuf;
use std::time::Duration;

use lightning_db::{Database, DatabaseStats, Error, KeySource, LightningDbConfig, WalSyncMode};
use serde_json::{Value, json};

#[cfg(unix)]
use crate::args::ProfileArgs;
use crate::args::{BenchArgs, Format};
use crate::engine;
use crate::exit::{Outcome, Stop};
use crate::output::Output;
use measure::Measured;
use rows::{Ground, ROWS, Row};
use workload::Zipf;

/// Measures the rows that were asked for.
pub fn run(format: Format, args: &BenchArgs) -> Outcome<u8> {
    run_under(format, args, &mut Plain)
}

/// Shows where the time of the rows goes that were asked for.
#[cfg(unix)]
pub fn profile(format: Format, args: &ProfileArgs) -> Outcome<u8> {
    run_under(format, &args.bench, &mut profile::Layers::new(args.frequency))
}

/// What looks on while a row runs, and says something of it.
trait Observer {
    /// The row begins.
    fn begin(&mut self) -> Outcome<()>;

    /// The row has ended: what is to be told of it beside its line.
    fn end(&mut self) -> Outcome<Option<(Value, String)>>;
}

/// Looks at nothing.
struct Plain;

impl Observer for Plain {
    fn begin(&mut self) -> Outcome<()> {
        Ok(())
    }

    fn end(&mut self) -> Outcome<Option<(Value, String)>> {
        Ok(None)
    }
}

fn run_under(format: Format, args: &BenchArgs, observer: &mut dyn Observer) -> Outcome<u8> {
    let selected = select(&args.rows)?;
    let place = Place::new(args)?;
    let base = engine::config(args.config.as_deref())?;
    let mut out = Output::new(format, false);
    let about = json!({
        "keys": args.keys,
        "value_bytes": args.value_bytes,
        "seconds": args.seconds,
        "directory": place.database.display().to_string(),
    });
    let done = measure_in(&place, &base, args, &selected, &mut out, &about, observer);
    // The database goes either way; the first failure is the one to tell.
    let removed = place.remove();
    done.and(removed)?;
    out.finish()?;
    Ok(0)
}

/// A database that is measured.
struct Subject {
    db: Database,
    path: PathBuf,
    config: LightningDbConfig,
    synced: bool,
}

impl Subject {
    fn create(path: PathBuf, config: LightningDbConfig) -> lightning_db::Result<Self> {
        let config = LightningDbConfig { wal_sync_mode: WalSyncMode::Async, ..config };
        Ok(Self { db: Database::create(&path, config.clone())?, path, config, synced: false })
    }

    /// Has every write wait for the device from now on.
    fn sync_writes(&mut self) -> lightning_db::Result<()> {
        if !self.synced {
            self.db.clone().close()?;
            self.config.wal_sync_mode = WalSyncMode::Sync;
            self.db = Database::open(&self.path, self.config.clone())?;
            self.synced = true;
        }
        Ok(())
    }
}

fn measure_in(
    place: &Place,
    base: &LightningDbConfig,
    args: &BenchArgs,
    selected: &[&str],
    out: &mut Output,
    about: &Value,
    observer: &mut dyn Observer,
) -> Outcome<()> {
    let mut subjects = Vec::new();
    if args.encrypted {
        // What is measured is nobody's secret.
        let key = base.encryption.clone().unwrap_or_else(|| KeySource::key([0x5A; 32]));
        let plain = LightningDbConfig { encryption: None, ..base.clone() };
        subjects.push(Subject::create(place.database.clone(), plain)?);
        let encrypted = LightningDbConfig { encryption: Some(key), ..base.clone() };
        subjects.push(Subject::create(place.encrypted(), encrypted)?);
    } else {
        subjects.push(Subject::create(place.database.clone(), base.clone())?);
    }
    out.result(about, &headline(args, place))?;
    out.flush()?;
    rows_in_order(&mut subjects, args, selected, out, observer)?;
    subjects.into_iter().try_for_each(|s| Ok(s.db.close()?))
}

fn rows_in_order(
    subjects: &mut [Subject],
    args: &BenchArgs,
    selected: &[&str],
    out: &mut Output,
    observer: &mut dyn Observer,
) -> Outcome<()> {
    let zipf = Zipf::new(args.keys);
    for row in ROWS {
        // The other rows need the keys, so loading is always done, and shown where asked for.
        let asked = selected.contains(&row.name);
        if !asked && row.name != "load" {
            continue;
        }
        let mut plain = None;
        for subject in &mut *subjects {
            if row.synced {
                subject.sync_writes()?;
            }
            let ground = Ground {
                db: &subject.db,
                keys: args.keys,
                value_bytes: args.value_bytes as usize,
                time: Duration::from_secs(args.seconds.into()),
                threads: args.threads.map(usize::from),
                zipf: &zipf,
            };
            let before = subject.db.stats();
            if asked {
                observer.begin()?;
            }
            let measured = ground.run(row)?;
            let observed = if asked { observer.end()? } else { None };
            let of_plain = plain.map(|rate: f64| measured.per_second() / rate);
            plain = Some(measured.per_second());
            if asked {
                let aborted = aborted(&before, &subject.db.stats());
                let mut text = line(row, &measured, aborted, of_plain);
                let mut document = document(row, &measured, aborted, of_plain);
                if let Some((value, lines)) = observed {
                    document["layers"] = value;
                    text = format!("{text}\n{lines}");
                }
                out.result(&document, &text)?;
                out.flush()?;
            }
            // Merges of one database are not to take the time of the other.
            if row.name == "load" || args.encrypted {
                engine::settle(&subject.db)?;
            }
        }
    }
    Ok(())
}

/// The names of the rows that `asked` means.
fn select(asked: &[String]) -> Outcome<Vec<&'static str>> {
    if asked.is_empty() {
        return Ok(ROWS.iter().map(|r| r.name).collect());
    }
    let mut selected = Vec::new();
    for name in asked {
        let exact = ROWS.iter().filter(|r| r.name == name);
        let mut found: Vec<_> = exact.map(|r| r.name).collect();
        if found.is_empty() {
            found.extend(ROWS.iter().map(|r| r.name).filter(|n| n.starts_with(name.as_str())));
        }
        if name.is_empty() || found.is_empty() {
            let names: Vec<_> = ROWS.iter().map(|r| r.name).collect();
            let message = format!("there is no row `{name}`; the rows are: {}", names.join(", "));
            return Err(Stop::invalid(message));
        }
        selected.append(&mut found);
    }
    Ok(selected)
}

/// Where the database is, and what has to be removed in the end.
struct Place {
    database: PathBuf,
    temporary: Option<tempfile::TempDir>,
}

impl Place {
    fn new(args: &BenchArgs) -> Outcome<Self> {
        if let Some(dir) = &args.dir {
            return Ok(Self { database: dir.join("lightning-bench"), temporary: None });
        }
        let dir = tempfile::Builder::new().prefix("lightning-bench-").tempdir();
        let dir = dir.map_err(|e| Error::io(&std::env::temp_dir(), "make a directory in", e))?;
        Ok(Self { database: dir.path().join("db"), temporary: Some(dir) })
    }

    /// Where the encrypted one is.
    fn encrypted(&self) -> PathBuf {
        self.database.with_extension("encrypted")
    }

    fn remove(self) -> Outcome<()> {
        let encrypted = self.encrypted();
        let (path, removed) = match self.temporary {
            Some(dir) => (dir.path().to_path_buf(), dir.close()),
            None if encrypted.exists() => {
                let both = std::fs::remove_dir_all(&self.database);
                (self.database, both.and(std::fs::remove_dir_all(encrypted)))
            }
            None => (self.database.clone(), std::fs::remove_dir_all(&self.database)),
        };
        Ok(removed.map_err(|e| Error::io(&path, "remove", e))?)
    }
}

fn headline(args: &BenchArgs, place: &Place) -> String {
    format!(
        "{} keys of 16 bytes, values of {} bytes, {} s a row, in {}\n\
         latencies in µs; of reads every 16th call is timed\n\
         {:<48}{:>12}{:>10}{:>10}{:>10}{:>12}{:>10}",
        args.keys,
        args.value_bytes,
        args.seconds,
        place.database.display(),
        "row",
        "per second",
        "p50",
        "p99",
        "p99.9",
        "max",
        "aborted"
    )
}

/// The share of transactions that ended in a conflict or deadlock, where there were any.
fn aborted(before: &DatabaseStats, after: &DatabaseStats) -> Option<f64> {
    let aborted = after.transactions_aborted - before.transactions_aborted;
    let ended = aborted + after.transactions_committed - before.transactions_committed;
    (ended > 0).then(|| aborted as f64 / ended as f64)
}

fn line(row: &Row, measured: &Measured, aborted: Option<f64>, of_plain: Option<f64>) -> String {
    let micros = |nanos: u64| format!("{:.1}", nanos as f64 / 1000.0);
    let quantile = |share| micros(measured.latencies.quantile(share));
    format!(
        "{:<48}{:>12.0}{:>10}{:>10}{:>10}{:>12}{:>10}",
        of_plain.map_or(row.about.to_owned(), |r| format!("    encrypted: {r:.2} of that")),
        measured.per_second(),
        quantile(0.5),
        quantile(0.99),
        quantile(0.999),
        micros(measured.latencies.longest()),
        aborted.map(|share| format!("{:.1}%", 100.0 * share)).unwrap_or_default()
    )
}

fn document(row: &Row, measured: &Measured, aborted: Option<f64>, of_plain: Option<f64>) -> Value {
    json!({
        "row": row.name,
        "about": row.about,
        "items": measured.items,
        "seconds": measured.elapsed.as_secs_f64(),
        "per_second": measured.per_second(),
        "p50_ns": measured.latencies.quantile(0.5),
        "p99_ns": measured.latencies.quantile(0.99),
        "p999_ns": measured.latencies.quantile(0.999),
        "max_ns": measured.latencies.longest(),
        "aborted_share": aborted,
        "of_plain": of_plain,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_selected_by_name_or_beginning() {
        let of =
            |names: &[&str]| select(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&[]).expect("all").len(), ROWS.len());
        assert_eq!(of(&["get-hot"]).expect("an exact name"), ["get-hot"]);
        assert_eq!(of(&["seek", "load"]).expect("two"), ["seek-10", "seek-100", "load"]);
        assert!(of(&["nonsense"]).is_err());
        assert!(of(&[""]).is_err());
    }

    #[test]
    fn names_of_rows_are_unique_and_synced_ones_come_last() {
        for (i, row) in ROWS.iter().enumerate() {
            assert!(ROWS[..i].iter().all(|r| r.name != row.name), "{}", row.name);
            assert!(i == 0 || row.synced || !ROWS[i - 1].synced, "{}", row.name);
        }
    }
}
