//! Disks that are full, limits, wrong files and missing permissions, on the real file system.
//!
//! | file | job |
//! |---|---|
//! | `space` | a full file system and a file-size limit, for a while |
//! | `wrong_files` | files that are not what the database expects |
//! | `access` | read-only and forbidden directories, second openers |
//! | `processes` | children in a mount namespace, under limits, as another user |
//!
//! What needs a mount or a limit runs in a child process, so that a signal (SIGBUS of a mapping,
//! SIGXFSZ) is a failure and not the end of the tests. Where the system does not allow a mount, the
//! `tried:` line says what was left out.
#![cfg(target_os = "linux")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the engine keeps to its file system seam; these are tests from outside"
)]

mod access;
mod processes;
mod space;
mod wrong_files;

use std::fs;
use std::path::Path;

/// Copies a directory. Of an open database that nothing is written to, this is what a killed process
/// would leave.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}
