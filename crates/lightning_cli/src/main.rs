//! `lightning-cli`: Lightning DB on the command line.
//!
//! | file | job |
//! |---|---|
//! | `args` | what can be typed |
//! | `exit` | failures, and the exit code of each |
//! | `engine` | every call of the engine whose answer has to be put into words or JSON |
//! | `text` | bytes as text: escapes, hexadecimal, JSON |
//! | `output` | what goes to standard output, as text or JSON |
//! | `progress` | bars on standard error, where that is a terminal |
//! | `commands` | one function a command |
//! | `bench` | the benchmark rows |
#![recursion_limit = "256"] // `json!` of the statistics, a level for each
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the engine keeps to its file system seam; this is a program around it"
)]

mod args;
mod bench;
mod commands;
mod engine;
mod exit;
mod output;
mod progress;
mod text;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    let format = cli.format;
    match commands::run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(stop) => ExitCode::from(stop.report(format)),
    }
}
