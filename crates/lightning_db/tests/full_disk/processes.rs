//! Children: this test program again, in a mount namespace, under a limit, or as another user.

use std::path::Path;
use std::process::{Command, Output};

/// The variable that holds the directory of a child's test.
const DIRECTORY: &str = "LIGHTNING_TEST_DIRECTORY";

/// The directory that a child works in; `None` where the test was not started as a child.
pub fn directory() -> Option<std::path::PathBuf> {
    std::env::var_os(DIRECTORY).map(Into::into)
}

/// How a child's shell begins a namespace of its own for mounts, if the system allows it.
fn namespace() -> Option<&'static [&'static str]> {
    let tries: [&[&str]; 2] =
        [&["unshare", "--mount"], &["unshare", "--user", "--map-root-user", "--mount"]];
    tries.into_iter().find(|words| {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(["mount", "-t", "tmpfs", "tmpfs", "/tmp"]);
        command.output().is_ok_and(|o| o.status.success())
    })
}

/// Runs the ignored test `name` in a child. `before` is a line of shell in which `$D` is `dir`, run
/// first in the same process, so that mounts and limits hold for the test.
fn child(words: &[&str], before: &str, dir: &Path, name: &str) -> Output {
    let line = format!("set -e; {before}; exec \"$0\" --exact {name} --ignored --nocapture");
    let program = std::env::current_exe().expect("a program");
    let mut all = words.iter().copied().chain(["sh", "-c", line.as_str()]);
    let mut command = Command::new(all.next().expect("not empty"));
    command.args(all).arg(program).env(DIRECTORY, dir).env("D", dir);
    command.output().expect("a shell")
}

/// What a child that must go well said it tried.
fn told(what: &str, output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    let told = text.lines().find_map(|l| l.split_once("child tried: ").map(|(_, t)| t.to_owned()));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {}\n{text}\n{errors}", output.status);
    told.unwrap_or_else(|| panic!("{what}: the child did nothing\n{text}\n{errors}"))
}

/// Runs the ignored test `name` with the command line `before` run first. Panics where it fails.
pub fn run(before: &str, dir: &Path, name: &str) -> String {
    told(name, &child(&[], before, dir, name))
}

/// The same where mounts are private to the child, `Err` where the system does not allow that or
/// the mounts that `before` makes.
pub fn run_with_mounts(before: &str, dir: &Path, name: &str) -> Result<String, String> {
    let Some(words) = namespace() else {
        return Err("mounting is not permitted".to_owned());
    };
    let probe = [words, &["sh", "-c", before]].concat();
    let output = Command::new(probe[0]).args(&probe[1..]).env("D", dir).output().expect("a shell");
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(why.lines().next().unwrap_or("the mount failed").to_owned());
    }
    Ok(told(name, &child(words, before, dir, name)))
}
