//! The house rules that a compiler does not keep: layers look down only, files say what they are
//! for and stay readable, unsafe code stays where its proofs are, and the file system, clocks and
//! chance are reached through the VFS. ARCHITECTURE.md shows the same order of layers.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test reads the sources from outside"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The layers, lowest first; those on one line do not know each other.
const LAYERS: &[&[&str]] = &[
    &["error", "types", "codec", "limits", "prefetch", "sync"],
    &["vfs", "compress", "index", "operators", "ranges"],
    &["config"],
    &["crypto"],
    &["page"],
    &["segment"],
    &["cache", "wal", "manifest", "memtable"],
    &["tree", "history"],
    &["store"],
    &["commit", "locks"],
    &["maintenance"],
    &["recovery", "stats"],
    &["metrics"],
    &["verify"],
    &["iterators"],
    &["keyspace"],
    &["indexes"],
    &["snapshot", "update"],
    &["transaction"],
    &["database"],
    &["changes", "encryption", "past", "ingest", "streams", "database_indexes"],
    &["futures"],
];
/// Inside these lines modules may use each other: they are the crate's vocabulary.
const VOCABULARY: usize = 0;
/// Where `unsafe` is let in, each block with its proof.
const UNSAFE: &[&str] = &["memtable/", "vfs/os", "prefetch.rs"];
const LONGEST: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every source file, by its path under `src`, with its text up to the tests inside it.
fn sources() -> BTreeMap<String, String> {
    fn walk(dir: &Path, found: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(dir).expect("lists") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(root()).expect("inside").display().to_string();
                found.insert(name, std::fs::read_to_string(&path).expect("reads"));
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(&root(), &mut found);
    assert!(found.len() > 50, "the sources were not found");
    found
}

/// Files that are tests or models as a whole.
fn is_test(name: &str) -> bool {
    let inside = |dir: &str| name.split('/').any(|part| part == dir);
    inside("tests")
        || inside("schedules")
        || inside("fuzzing")
        || ["tests.rs", "_tests.rs", "_model.rs", "traces.rs"].iter().any(|end| name.ends_with(end))
}

/// The text before the unit tests and models of a file: the first module with a body.
fn code(text: &str) -> &str {
    let tests = ["\nmod tests {", "\nmod schedules {", "\nmod loom_tests {"];
    let at = tests.iter().filter_map(|t| text.find(t)).min();
    at.map_or(text, |at| &text[..at])
}

fn layer_of(name: &str) -> Option<&str> {
    let first = name.split('/').next()?;
    let module = first.strip_suffix(".rs").unwrap_or(first);
    (module != "lib").then_some(module)
}

/// How far below the crate's root a file's module is.
fn depth(name: &str) -> usize {
    let parts = name.split('/').count();
    if name.ends_with("/mod.rs") { parts - 1 } else { parts }
}

/// The modules of the crate that a file refers to: by `crate::`, in groups too, or by enough `super::`
/// to come to the crate's root. Comments are left out.
fn imports(name: &str, text: &str) -> BTreeSet<String> {
    let lines = code(text).lines().filter(|l| !l.trim_start().starts_with("//"));
    let code = lines.collect::<Vec<_>>().join("\n");
    let up = "super::".repeat(depth(name));
    let mut found = BTreeSet::new();
    for root in ["crate::", up.as_str()] {
        for path in code.split(root).skip(1) {
            let members =
                if let Some(group) = path.strip_prefix('{') { members(group) } else { vec![path] };
            // What modules inside a file take from it looks as if it came from the root.
            let is_module = |w: &String| LAYERS.iter().any(|line| line.contains(&w.as_str()));
            let words = members.into_iter().map(first_word);
            found.extend(words.filter(|w| root == "crate::" || is_module(w)));
        }
    }
    found.remove("");
    found
}

/// The paths of a group, up to its brace: `a::{b, c}, d}` has two.
fn members(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                found.push(&group[start..at]);
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found
}

fn first_word(path: &str) -> String {
    path.trim_start().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

#[test]
fn imports_are_found_however_they_are_written() {
    let text = "use crate::{\n    a::{b, c},\n    d,\n};\nfn f() { crate::e::g() }\n// crate::no\n\
                use super::super::wal::I;\nuse super::super::Own;\nuse super::no;\n";
    let found: Vec<_> = imports("store/blobs.rs", text).into_iter().collect();
    assert_eq!(found, ["a", "d", "e", "wal"]);
    let found: Vec<_> =
        imports("store/mod.rs", "use super::codec; use crate::B;").into_iter().collect();
    assert_eq!(found, ["B", "codec"]);
}

#[test]
fn layers_look_down_only() {
    let rank = |module: &str| LAYERS.iter().position(|line| line.contains(&module));
    let mut wrong = Vec::new();
    for (name, text) in sources().iter().filter(|(n, _)| !is_test(n)) {
        let Some(own) = layer_of(name) else { continue };
        let Some(own_rank) = rank(own) else {
            wrong.push(format!("{name}: {own} is in no layer"));
            continue;
        };
        for import in imports(name, text).iter().filter(|i| *i != own) {
            // Re-exports of the public face are named by upper case: `crate::Value`.
            let upper = import.starts_with(|c: char| c.is_ascii_uppercase());
            let Some(import_rank) = rank(import) else {
                if upper && own_rank + 4 < LAYERS.len() {
                    wrong.push(format!("{name} uses {import} by the public face"));
                }
                continue;
            };
            let sideways = import_rank == own_rank && own_rank != VOCABULARY;
            if import_rank > own_rank || sideways {
                wrong.push(format!("{name} ({own}) uses {import}, which is not below it"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_layers_are_those_that_architecture_md_shows() {
    let text = std::fs::read_to_string(root().join("../../../ARCHITECTURE.md")).expect("reads");
    let block = text.split("```layers\n").nth(1).expect("a block of layers");
    let shown: Vec<Vec<&str>> = block
        .lines()
        .take_while(|l| !l.starts_with("```"))
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(shown, LAYERS.iter().map(|l| l.to_vec()).collect::<Vec<_>>());
}

#[test]
fn files_say_what_they_are_for_and_stay_readable() {
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        if !text.starts_with("//!") {
            wrong.push(format!("{name} does not open with what it is for"));
        }
        let lines = code(&text).lines().count();
        if lines > LONGEST && !is_test(&name) {
            wrong.push(format!("{name} has {lines} lines"));
        }
        for (n, line) in text.lines().enumerate() {
            let n = n + 1;
            if ["TODO", "FIXME", "XXX", "todo!(", "unimplemented!("]
                .iter()
                .any(|w| line.contains(w))
            {
                wrong.push(format!("{name}:{n}: unfinished"));
            }
            let outside = !name.starts_with("vfs/") && !is_test(&name);
            let system = ["std::fs", "Instant::now", "SystemTime::now", "thread::sleep"];
            if outside
                && n <= lines
                && system.iter().any(|w| line.contains(w))
                && !line.trim_start().starts_with("//")
            {
                wrong.push(format!("{name}:{n}: past the VFS"));
            }
        }
        if name.ends_with("mod.rs") && !is_test(&name) {
            let item = |line: &str| {
                let line = line.strip_prefix("pub").unwrap_or(line);
                let line =
                    line.strip_prefix("(crate)").or(line.strip_prefix("(super)")).unwrap_or(line);
                let items = ["fn", "struct", "enum", "trait", "impl", "const", "static"];
                items.contains(&first_word(line).as_str())
            };
            let body = code(&text).lines().filter(|l| !l.starts_with(' ') && item(l));
            // One small file with its module's few items each.
            let allowed = [
                "compress/mod.rs",
                "page/mod.rs",
                "recovery/mod.rs",
                "segment/mod.rs",
                "verify/mod.rs",
                "vfs/mod.rs",
            ];
            if body.count() > 0 && !allowed.contains(&name.as_str()) {
                wrong.push(format!("{name} is more than a map"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_stays_where_its_proofs_are() {
    let mut wrong = Vec::new();
    for (name, text) in sources().iter().filter(|(n, _)| !is_test(n)) {
        let lines: Vec<&str> = code(text).lines().collect();
        for (n, line) in lines.iter().enumerate() {
            let opens = line.contains("unsafe {") || line.contains("unsafe impl");
            if !opens || line.trim_start().starts_with("//") {
                continue;
            }
            if !UNSAFE.iter().any(|place| name.starts_with(place)) {
                wrong.push(format!("{name}:{}: unsafe outside its modules", n + 1));
            }
            let above = lines[n.saturating_sub(12)..=n].join("\n");
            if !above.contains("SAFETY:") {
                wrong.push(format!("{name}:{}: unsafe without a proof", n + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every direct dependency is in docs/dependencies.md with the version of Cargo.lock.
#[test]
fn dependencies_are_listed_with_their_versions() {
    let read = |path: &str| {
        std::fs::read_to_string(root().join("../../..").join(path))
            .expect("a file of the workspace")
    };
    let table = |text: String| text.parse::<toml::Table>().expect("TOML");
    let listed = read("docs/dependencies.md");
    let lock = table(read("Cargo.lock"));
    let packages = lock["package"].as_array().expect("packages");
    let mut direct = BTreeSet::new();
    for package in ["lightning_db", "lightning_cli", "xtask"] {
        let manifest = table(read(&format!("crates/{package}/Cargo.toml")));
        let targets = manifest.get("target").and_then(|t| t.as_table());
        let parts = targets.into_iter().flat_map(|t| t.values()).filter_map(|t| t.as_table());
        for part in parts.chain([&manifest]) {
            for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
                let names = part.get(kind).and_then(|d| d.as_table()).into_iter().flatten();
                direct.extend(names.map(|(name, _)| name.clone()));
            }
        }
    }
    direct.remove("lightning_db");
    assert!(direct.len() > 10, "the dependencies were not found: {direct:?}");
    let mut wrong = Vec::new();
    for name in &direct {
        let versions = packages.iter().filter(|p| p["name"].as_str() == Some(name));
        let versions: Vec<_> =
            versions.filter_map(|p| p["version"].as_str()?.split('+').next()).collect();
        // A row of a table, or a word in a sentence: the name, and close behind it the version.
        let near = |at: usize| listed[at..].chars().take(40).collect::<String>();
        let places: Vec<_> =
            listed.match_indices(&format!("`{name}`")).map(|(at, _)| near(at)).collect();
        if !places.iter().any(|place| versions.iter().any(|v| place.contains(v))) {
            wrong.push(format!("{name} {versions:?}"));
        }
    }
    assert!(wrong.is_empty(), "not listed so in docs/dependencies.md: {}", wrong.join(", "));
}
