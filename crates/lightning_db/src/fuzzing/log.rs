//! The log: a database whose last log file is the input (first byte: see the module).

use std::path::PathBuf;
use std::sync::OnceLock;

use super::image;
use crate::vfs::SimulatedVfs;
use crate::wal;

fn base() -> &'static (SimulatedVfs, PathBuf) {
    static BASE: OnceLock<(SimulatedVfs, PathBuf)> = OnceLock::new();
    BASE.get_or_init(|| {
        let image = image::make(24, 6);
        let last = image::files_in(&image, "wal").pop().expect("a log");
        (image, last)
    })
}

pub(super) fn run(input: &[u8]) {
    opens(input);
}

fn opens(input: &[u8]) -> bool {
    let Some((how, rest)) = input.split_first() else { return false };
    let mut bytes = rest.to_vec();
    if how & 1 != 0 {
        wal::repair(&mut bytes);
    }
    let (image, file) = base();
    image::check(image, file, &bytes)
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let (image, file) = base();
    let bytes = image::used_bytes(image, file);
    [0, 1].map(|how| [&[how], bytes.as_slice()].concat()).to_vec()
}

#[cfg(test)]
mod tests {
    /// Otherwise nothing behind the door would be fuzzed.
    #[test]
    fn seeds_open_as_they_are_and_repaired() {
        assert!(super::seeds().iter().all(|seed| super::opens(seed)));
    }
}
