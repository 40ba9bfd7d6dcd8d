//! What fuzzers call: bytes in, a panic where a promise is broken.
//!
//! Behind the feature `fuzzing`, because it is no part of the library: the test `fuzz_corpus`
//! turns it on for itself (as a dev-dependency of the crate on itself), and so does the workspace
//! in `fuzz/`, whose programs are these functions and nothing else.
//!
//! | file | input |
//! |---|---|
//! | `page` | a page of each type, as stored or opened |
//! | `image` | a database in which one file is replaced by the input |
//! | `log` | the last file of a log |
//! | `manifest` | a manifest |
//! | `options` | an option file and environment variables |
//! | `operations` | calls, crashes and power cuts |
//!
//! Checksums would keep every change of the input in front of the door; so where an input's first
//! byte is odd, what they cover is taken as it is and the checksums are made to fit.

mod image;
mod log;
mod manifest;
mod operations;
mod options;
mod page;

pub use crate::crypto::{nonces_used, watch_nonces};

/// A function that takes an input, and what fuzzing of it begins with.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// Takes one input. Panics where a promise is broken.
    pub run: fn(&[u8]),
    /// Inputs made by the engine itself: real files, or sequences that touch everything.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: [Target; 5] = [
    Target { name: "page", run: page::run, seeds: page::seeds },
    Target { name: "log", run: log::run, seeds: log::seeds },
    Target { name: "manifest", run: manifest::run, seeds: manifest::seeds },
    Target { name: "options", run: options::run, seeds: options::seeds },
    Target { name: "operations", run: operations::run, seeds: operations::seeds },
];

/// Takes one input of the target called `name`.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|t| t.name == name).expect("a target with that name");
    (target.run)(input);
}
