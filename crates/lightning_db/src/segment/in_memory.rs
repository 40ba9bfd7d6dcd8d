//! Reads that touch no file: what they would have to read from one is refused, and the whole read is
//! then done anew by somebody who may wait.
//!
//! Every read of a segment asks [`check`] first. One thread at a time is told so: the flag is its own.
//! Neither there nor inside [`leave_files`] does a thread remove a file; see `leaving`.

use std::cell::Cell;
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Disk {
    Allowed,
    /// To be read, not to be removed.
    Kept,
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

/// What `act` gives, which removes no file.
pub fn leave_files<T>(act: impl FnOnce() -> T) -> T {
    let _restore = DISK.get().eq(&Disk::Allowed).then(|| Restore(DISK.replace(Disk::Kept)));
    act()
}

/// Whether files are to be removed by others.
pub(super) fn leaves_files() -> bool {
    DISK.get() != Disk::Allowed
}

/// Whether files may be read.
pub fn is_allowed() -> bool {
    matches!(DISK.get(), Disk::Allowed | Disk::Kept)
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
        assert!(!leaves_files() && in_memory(leaves_files) == Some(true));
        assert!(leave_files(|| leaves_files() && check(file).is_ok()));
        assert!(in_memory(|| leave_files(|| check(file).is_err())).is_none(), "it was missed");
        let panicking = std::panic::catch_unwind(|| in_memory(|| panic!("the caller's")));
        assert!(panicking.is_err() && check(file).is_ok());
    }
}
