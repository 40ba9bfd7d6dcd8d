//! Secondary indexes: what they are for a user (`behaviour`), random sequences with crashes against
//! what the rows give (`sequences`), threads that race (`races`), and builds: beside writers, cut off
//! at every operation, continued (`builds`).
//!
//! `rows` makes rows, and compares every index with what the rows give, found by code of its own.
//!
//! `LIGHTNING_INDEX_SEQUENCES` and `LIGHTNING_INDEX_FIRST` set how many sequences run, and from which
//! seed on; `LIGHTNING_INDEX_RACES` how many rounds of races. A failure names the line that repeats it.

mod behaviour;
mod builds;
mod races;
mod rows;
mod sequences;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}
