//! Chores: `cargo xtask soak --hours 2` runs the heavy layers of tests with new seeds until the time
//! is over; `cargo xtask tidy` checks format, lints and the house rules; `cargo xtask golden` writes the
//! golden databases anew.
//!
//! A soak goes round the layers; each turn takes seeds that no turn before took. It stops at the
//! first failure, with the line that repeats it.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a tool of the project, outside the engine"
)]

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Chores of the project")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Run the heavy layers with new seeds until the time is over
    Soak {
        /// For how long; a turn that has begun is ended
        #[arg(long, default_value_t = 1.0)]
        hours: f64,
        /// Only the layers with this in their name
        #[arg(long)]
        layer: Option<String>,
        /// Where seeds begin; a run is repeated with the number that it printed. Default: the time
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Check format, lints, and the house rules
    Tidy,
    /// Write the golden databases anew, in the format of today, and read them back
    Golden,
}

/// A layer: the test, the variable of its first seed, seeds a turn, and other settings.
struct Layer {
    test: &'static str,
    first: &'static str,
    count: &'static str,
    seeds: u64,
    settings: &'static [(&'static str, &'static str)],
}

const LAYERS: &[Layer] = &[
    Layer {
        test: "crash_images",
        first: "LIGHTNING_CRASH_FIRST",
        count: "LIGHTNING_CRASH_SEEDS",
        seeds: 1000,
        settings: &[],
    },
    Layer {
        test: "corruption",
        first: "LIGHTNING_CORRUPTIONS_FIRST",
        count: "LIGHTNING_CORRUPTIONS",
        seeds: 50_000,
        settings: &[],
    },
    Layer {
        test: "error_sweep",
        first: "LIGHTNING_SWEEP_FIRST",
        count: "LIGHTNING_SWEEP_SEEDS",
        seeds: 1,
        settings: &[("LIGHTNING_SWEEP_RUNS", "10000")],
    },
    Layer {
        test: "model",
        first: "LIGHTNING_MODEL_FIRST",
        count: "LIGHTNING_MODEL_SEQUENCES",
        seeds: 100,
        settings: &[],
    },
    Layer {
        test: "sequences",
        first: "LIGHTNING_SEQUENCES_FIRST",
        count: "LIGHTNING_SEQUENCES",
        seeds: 100,
        settings: &[("LIGHTNING_SEQUENCES_OPERATIONS", "2000")],
    },
    Layer {
        test: "histories",
        first: "LIGHTNING_HISTORIES_FIRST",
        count: "LIGHTNING_HISTORIES",
        seeds: 60,
        settings: &[("LIGHTNING_HISTORY_TRANSACTIONS", "50000")],
    },
    Layer {
        test: "kills",
        first: "LIGHTNING_KILLS_FIRST",
        count: "LIGHTNING_KILLS",
        seeds: 100,
        settings: &[],
    },
    Layer {
        test: "fuzz_corpus",
        first: "LIGHTNING_FUZZ_FIRST",
        count: "LIGHTNING_FUZZ_INPUTS",
        seeds: 20_000,
        settings: &[],
    },
];

fn main() -> ExitCode {
    match Arguments::parse().chore {
        Chore::Soak { hours, layer, seed } => soak(hours, layer.as_deref(), seed),
        Chore::Tidy => all(&TIDY),
        Chore::Golden => all(&GOLDEN),
    }
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    command
}

fn soak(hours: f64, only: Option<&str>, seed: Option<u64>) -> ExitCode {
    let Ok(time) = Duration::try_from_secs_f64(hours * 3600.0) else {
        eprintln!("--hours must be a time, 0 or more");
        return ExitCode::from(2);
    };
    let layers: Vec<&Layer> =
        LAYERS.iter().filter(|l| only.is_none_or(|o| l.test.contains(o))).collect();
    if layers.is_empty() {
        let names: Vec<_> = LAYERS.iter().map(|l| l.test).collect();
        eprintln!("no layer is called so; there are {}", names.join(", "));
        return ExitCode::from(2);
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let mut first = seed.unwrap_or_else(|| now.map_or(1, |t| t.as_secs() % 1_000_000 * 1000));
    println!("seeds begin at {first}");
    let started = Instant::now();
    let mut turns = 0;
    while turns == 0 || started.elapsed() < time {
        for layer in &layers {
            let arguments = [
                "test",
                "--quiet",
                "--profile",
                "heavy",
                "--package",
                "lightning_db",
                "--test",
                layer.test,
                "--",
                "--nocapture",
            ];
            let output = cargo(&arguments)
                .env(layer.first, first.to_string())
                .env(layer.count, layer.seeds.to_string())
                .envs(layer.settings.iter().copied())
                .output();
            let output = match output {
                Ok(output) => output,
                Err(e) => {
                    eprintln!("cargo could not be started: {e}");
                    return ExitCode::FAILURE;
                }
            };
            let text = String::from_utf8_lossy(&output.stdout);
            for line in text.lines().filter(|l| l.contains("tried: ")) {
                println!("{:7.0} s  {}: {line}", started.elapsed().as_secs_f64(), layer.test);
            }
            if !output.status.success() {
                eprintln!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
                let settings: Vec<String> =
                    layer.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
                let settings = settings.join(" ");
                eprintln!(
                    "again: {settings} {}={first} {}={} cargo {}",
                    layer.first,
                    layer.count,
                    layer.seeds,
                    arguments.join(" ")
                );
                return ExitCode::FAILURE;
            }
        }
        turns += 1;
        first += 100_000;
    }
    println!("{turns} turns in {:.0} s, nothing found", started.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}

const TIDY: [&[&str]; 3] = [
    &["fmt", "--all", "--check"],
    &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"],
    &["test", "--package", "lightning_db", "--test", "architecture"],
];

const GOLDEN: [&[&str]; 2] = [
    &["test", "--package", "lightning_db", "--test", "golden", "--", "--ignored"],
    &["test", "--package", "lightning_db", "--test", "golden"],
];

/// Runs one after the other, up to the first that fails.
fn all(chores: &[&[&str]]) -> ExitCode {
    for chore in chores {
        if !cargo(chore).status().is_ok_and(|s| s.success()) {
            eprintln!("failed: cargo {}", chore.join(" "));
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
