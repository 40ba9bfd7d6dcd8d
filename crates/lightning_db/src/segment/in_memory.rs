//! Reads that touch no file: what they would have to read from one is refused, and the whole read is
//! then done anew by somebody who may wait.
//!
//! Every read of a segment asks [`check`] first. One thread at a time is told so: the flag is its own.

use std::cell::Cell;
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Disk {
    Allowed,
    Refused,
    /// Refused, and was wanted.
    Missed,
}

thread_local! {
    static DISK: Cell<Disk> = const { Cell::new(Disk::Allowed) };
}

/// Puts back what was before, also after a panic.
struct Restore(Disk);

impl Drop for Restore {
    fn drop(&mut self) {
        DISK.set(self.0);
    }
}

/// What `read` gives; `None` where that takes a file.
pub fn in_memory<T>(read: impl FnOnce() -> T) -> Option<T> {
    let _restore = Restore(DISK.replace(Disk::Refused));
    let found = read();
    // Whatever it made of the refusal, an answer that lacks what was not read is none.
    (DISK.get() == Disk::Refused).then_some(found)
}

/// Whether files may be read.
pub fn is_allowed() -> bool {
    DISK.get() == Disk::Allowed
}

/// Refuses to read `file` inside [`in_memory`].
pub fn check(file: &Path) -> Result<()> {
    if is_allowed() {
        return Ok(());
    }
    DISK.set(Disk::Missed);
    Err(Error::new(ErrorKind::Io, "what is read is not in memory").in_file(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_that_misses_gives_nothing_whatever_it_answers() {
        let file = Path::new("1.seg");
        assert_eq!(in_memory(|| 5), Some(5));
        assert!(in_memory(|| check(file)).is_none());
        assert!(in_memory(|| check(file).map_or(7, |()| 5)).is_none(), "it made up an answer");
        assert!(check(file).is_ok());
        let panicking = std::panic::catch_unwind(|| in_memory(|| panic!("the caller's")));
        assert!(panicking.is_err() && check(file).is_ok());
    }
}
