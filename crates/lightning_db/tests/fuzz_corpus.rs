//! The fuzz targets over their carried seeds (`fuzz/seeds`), those that the engine makes today, and
//! changes of both, without a fuzzer: for every build, and for the gate.
//!
//! `LIGHTNING_FUZZ_INPUTS` sets how many inputs each target gets; `LIGHTNING_FUZZ_FIRST` the number
//! of the first changed one. A failure names the target and the number: changed input `n` depends on
//! `n` alone. `LIGHTNING_FUZZ_SEEDS=write` adds today's to the carried ones.

#![allow(clippy::disallowed_methods, reason = "a test reads its corpus from outside")]

use std::path::PathBuf;

use lightning_db::fuzzing::{TARGETS, Target};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

fn corpus_dir(target: &Target) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target.name)
}

/// The corpus by file name, then today's seeds.
fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let dir = corpus_dir(target);
    let mut files: Vec<_> = std::fs::read_dir(&dir)
        .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    let carried = files.into_iter().map(|path| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        (name, std::fs::read(&path).expect("a file of the corpus"))
    });
    let seeds = (target.seeds)().into_iter().enumerate();
    carried.chain(seeds.map(|(i, seed)| (format!("today's seed {i}"), seed))).collect()
}

/// A few changes of the kinds that fuzzers make.
fn change(rng: &mut fastrand::Rng, input: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..rng.usize(1..5) {
        // Heads of files decide much; zeros at their ends little.
        let len = input.len();
        let reach = if rng.bool() { len } else { len.min(160) };
        let at = rng.usize(0..=reach);
        match rng.u8(0..10) {
            0..4 if at < len => {
                input[at] = match rng.u8(0..4) {
                    0 => rng.u8(..),
                    1 => input[at].wrapping_add(1),
                    2 => input[at].wrapping_sub(1),
                    _ => input[at] ^ (1 << rng.u8(0..8)),
                };
            }
            4 if at + 4 <= len => {
                let word = [0, 1, u32::MAX, i32::MAX as u32, len as u32][rng.usize(0..5)];
                input[at..at + 4].copy_from_slice(&word.to_le_bytes());
            }
            5 => input.truncate(at),
            6 => {
                let bytes: Vec<u8> = (0..rng.usize(1..20)).map(|_| rng.u8(..)).collect();
                input.splice(at..at, bytes);
            }
            7 if at < len => {
                let end = (at + rng.usize(1..40)).min(len);
                input.drain(at..end);
            }
            8 if !other.is_empty() => {
                let from = rng.usize(0..other.len());
                let piece = &other[from..(from + rng.usize(1..200)).min(other.len())];
                let end = (at + piece.len()).min(len);
                input.splice(at..end, piece.iter().copied());
            }
            _ => {
                let copied: Vec<u8> = input[at..(at + rng.usize(0..100)).min(len)].to_vec();
                input.extend(copied);
            }
        }
    }
}

/// Runs `input`; a panic is told from whom it is.
fn run(target: &Target, input: &[u8], what: &str) {
    if std::panic::catch_unwind(|| (target.run)(input)).is_err() {
        let file = std::env::temp_dir().join(format!("lightning_db-fuzz-{}", target.name));
        let _ = std::fs::write(&file, input);
        panic!("target {}, {what}; the input is in {}", target.name, file.display());
    }
}

fn try_target(name: &str, default: u64) {
    let target = TARGETS.iter().find(|t| t.name == name).expect("a target");
    if std::env::var("LIGHTNING_FUZZ_SEEDS").is_ok_and(|v| v == "write") {
        std::fs::create_dir_all(corpus_dir(target)).expect("the directory of the corpus");
        for (i, seed) in (target.seeds)().iter().enumerate() {
            std::fs::write(corpus_dir(target).join(format!("seed-{i:02}")), seed).expect("written");
        }
    }
    let corpus = corpus(target);
    for (file, input) in &corpus {
        run(target, input, file);
    }
    let wanted = number("LIGHTNING_FUZZ_INPUTS", default);
    let first = number("LIGHTNING_FUZZ_FIRST", 0);
    for n in first..first + wanted {
        let mut rng = fastrand::Rng::with_seed(n);
        let mut input = corpus[rng.usize(0..corpus.len())].1.clone();
        let other = &corpus[rng.usize(0..corpus.len())].1;
        change(&mut rng, &mut input, other);
        let again = format!(
            "input {n}; again: LIGHTNING_FUZZ_FIRST={n} LIGHTNING_FUZZ_INPUTS=1 \
             cargo test -p lightning_db --test fuzz_corpus {name}"
        );
        run(target, &input, &again);
    }
    let carried = corpus.len();
    println!(
        "tried: {} inputs (fuzz target {name}, {carried} of them as they are)",
        wanted + carried as u64
    );
}

#[test]
fn page() {
    try_target("page", 50_000);
}

#[test]
fn log() {
    try_target("log", 500);
}

#[test]
fn manifest() {
    try_target("manifest", 500);
}

#[test]
fn options() {
    try_target("options", 10_000);
}

#[test]
fn operations() {
    try_target("operations", 300);
}
