//! The manifest: a database whose manifest file is the input (first byte: see the module).

use std::path::PathBuf;
use std::sync::OnceLock;

use super::image;
use crate::manifest;
use crate::vfs::SimulatedVfs;

fn bases() -> &'static [(SimulatedVfs, PathBuf)] {
    static BASES: OnceLock<Vec<(SimulatedVfs, PathBuf)>> = OnceLock::new();
    BASES.get_or_init(|| {
        let with_manifest = |image: SimulatedVfs| {
            let manifest = image::files_in(&image, "manifest").pop().expect("a manifest");
            (image, manifest)
        };
        vec![with_manifest(image::make(24, 12)), with_manifest(image::make(6, 20))]
    })
}

/// Bit 1 of the first byte chooses the database.
pub(super) fn run(input: &[u8]) {
    opens(input);
}

fn opens(input: &[u8]) -> bool {
    let Some((how, rest)) = input.split_first() else { return false };
    let mut bytes = rest.to_vec();
    if how & 1 != 0 {
        manifest::repair(&mut bytes);
    }
    let (image, file) = &bases()[usize::from(how >> 1 & 1)];
    image::check(image, file, &bytes)
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (base, (image, file)) in bases().iter().enumerate() {
        let bytes = image::used_bytes(image, file);
        for repaired in [0, 1] {
            seeds.push([&[base as u8 * 2 + repaired], bytes.as_slice()].concat());
        }
    }
    seeds
}

#[cfg(test)]
mod tests {
    /// Otherwise nothing behind the door would be fuzzed.
    #[test]
    fn seeds_open_as_they_are_and_repaired() {
        assert!(super::seeds().iter().all(|seed| super::opens(seed)));
    }
}
