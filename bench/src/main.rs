//! `lightning-bench`: the project's benchmark, beside other engines.
//!
//! | file | job |
//! |---|---|
//! | `args` | what can be typed |
//! | `engine`, `engines` | what a row may ask of an engine; each engine |
//! | `rows` | what each row does, and checks |
//! | `workload`, `measure` | keys, values, distributions; threads, time, counting |
//! | `run` | one engine through all rows |
//! | `report`, `svg` | tables, ratios, a picture |

mod args;
mod engine;
mod engines;
mod measure;
mod report;
mod rows;
mod run;
mod svg;
mod workload;

use std::process::ExitCode;

use clap::Parser;
use serde_json::json;

use args::{Args, Format};
use engine::Result;
use report::{Report, short};
use run::{Order, Told};

fn main() -> ExitCode {
    match measure_all(&Args::parse()) {
        Ok(report) if report.failed() => ExitCode::FAILURE,
        Ok(_) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn measure_all(args: &Args) -> Result<Report> {
    args.validate()?;
    let mut report = Report::new(args.engines()?, args.rows()?);
    let zipf = workload::Zipf::new(args.keys);
    let syncs = report.rows.iter().any(|r| r.group == "sync");
    for _ in 0..args.repeat {
        for engine in report.engines.clone() {
            let dir = place(args)?;
            let order = Order {
                dir: dir.path(),
                rows: &report.rows.clone(),
                keys: args.keys,
                value_bytes: args.value_bytes,
                threads: args.threads.map(usize::from),
                cache: args.cache as usize,
                time: args.seconds,
                zipf: &zipf,
            };
            let name = engine.facts.name;
            let done = (engine.run)(&order, &mut |told| match told {
                Told::State(state) => report.add_state(name, state),
                Told::Figure(row, figure) => {
                    eprintln!(
                        "{name:<10} {:<16} {:>8} {}",
                        row.name,
                        short(figure.plain),
                        row.unit()
                    );
                    report.add(name, row, figure);
                }
            });
            if let Err(e) = done {
                eprintln!("{name}: {e}");
                report.add_failure(name, e.to_string());
            }
        }
        if syncs {
            report.add_bare_syncs(run::bare_syncs(place(args)?.path(), args.seconds)?);
        }
    }
    let about = json!({
        "keys": args.keys,
        "key_bytes": 16,
        "value_bytes": args.value_bytes,
        "cache_bytes": args.cache,
        "seconds": args.seconds.as_secs_f64(),
        "repeat": args.repeat,
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
    });
    let all = format!("{:#}\n", report.json(about));
    match args.format {
        Format::Text => print!("{}", report.text()),
        Format::Json => print!("{all}"),
    }
    if let Some(file) = &args.json {
        std::fs::write(file, all)?;
    }
    if let Some(file) = &args.svg {
        std::fs::write(file, svg::picture(&report))?;
    }
    Ok(report)
}

/// A directory of its own, which goes when it is dropped.
fn place(args: &Args) -> Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("lightning-bench-");
    Ok(match &args.dir {
        Some(dir) => builder.tempdir_in(dir)?,
        None => builder.tempdir()?,
    })
}
