//! What a row may ask of an engine, whichever it is.
//!
//! 1. Every engine keeps its own defaults, but for what [`Settings`] says and LZ4 where it has it.
//! 2. Reads go by the engine's call that copies least; the value is lent to the caller, who looks at it.
//! 3. Traits are resolved when the program is built (no engine pays for a call through a pointer).
//! 4. An engine that cannot do something says so in its [`Facts`], and the row stays empty.

use std::path::{Path, PathBuf};

use crate::workload::Key;

/// What any engine may fail with.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
pub type Result<T> = std::result::Result<T, Error>;

/// Where and how an engine is opened.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A directory that is there, and the engine's alone.
    pub dir: PathBuf,
    /// Bytes of its cache.
    pub cache: usize,
    /// Whether each write waits for the device; if not, it is in the system's hands, where the
    /// engine can.
    pub synced: bool,
    /// Bytes of every value.
    pub value_bytes: usize,
}

/// What is to be known of an engine beside its figures.
#[derive(Clone, Copy)]
pub struct Facts {
    /// What `--engines` calls it.
    pub name: &'static str,
    /// What was measured, and how it was set.
    pub about: &'static str,
    /// What it promises where that differs from the rows' word, by the group of rows.
    pub promises: &'static [(&'static str, &'static str)],
    /// Whether it is one of the limits that have no disk to write to.
    pub ram: bool,
    /// Whether keys have an order that can be walked, and walked backward.
    pub ordered: bool,
    pub backward: bool,
    /// Whether reads of one moment can be had. If not, the row of snapshots takes plain gets, and
    /// the figure is marked and left out of the ratios.
    pub snapshots: bool,
    pub transactions: bool,
    /// Whether it can be closed and opened again with everything there.
    pub reopens: bool,
    /// Whether a killed process leaves behind what it wrote without waiting for the device.
    pub survives_kill: bool,
    /// Whether a write can wait for the device.
    pub syncs: bool,
    /// Whether a write that did survives a power cut.
    pub syncs_device: bool,
}

/// What most engines are.
pub const PLAIN: Facts = Facts {
    name: "",
    about: "",
    promises: &[],
    ram: false,
    ordered: true,
    backward: true,
    snapshots: true,
    transactions: true,
    reopens: true,
    survives_kill: true,
    syncs: true,
    syncs_device: true,
};

/// A key-value engine.
pub trait Engine: Sized + Send + Sync {
    const FACTS: Facts;

    /// Opens what is in the directory, or makes it.
    fn open(settings: &Settings) -> Result<Self>;

    /// Closes it cleanly.
    fn close(self) -> Result<()> {
        Ok(())
    }

    /// Stores these, at once where the engine has batches.
    fn load(&self, batch: &[(Key, Vec<u8>)]) -> Result<()>;

    /// Shows the value, if there is one.
    fn get<R>(&self, key: &Key, see: impl FnOnce(&[u8]) -> R) -> Result<Option<R>>;

    /// The value as bytes of the caller's own.
    fn get_copy(&self, key: &Key) -> Result<Option<Vec<u8>>> {
        self.get(key, <[u8]>::to_vec)
    }

    /// Gets these, each by a call of its own, all from one snapshot.
    fn get_in_snapshot(
        &self,
        keys: impl Iterator<Item = Key>,
        see: impl FnMut(&Key, Option<&[u8]>),
    ) -> Result<()>;

    /// Shows keys and values in order, beginning with the first that is not less than `from`, for
    /// as long as `see` says so. Backward begins with the last.
    fn scan(
        &self,
        backward: bool,
        from: Option<&Key>,
        see: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<()>;

    /// The same forward, each pair as bytes of the caller's own.
    fn scan_copy(&self, mut see: impl FnMut(Vec<u8>, Vec<u8>) -> bool) -> Result<()> {
        self.scan(false, None, |key, value| see(key.to_vec(), value.to_vec()))
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()>;

    fn delete(&self, key: &Key) -> Result<()>;

    /// One transaction: reads these, has them changed, and writes them; again until nobody came
    /// between. All of the keys are there.
    fn update<const N: usize>(
        &self,
        keys: [&Key; N],
        change: impl FnMut(&mut [Vec<u8>; N]),
    ) -> Result<()>;

    /// Everything written so far is on the device.
    fn sync(&self) -> Result<()>;

    /// Merges until there is nothing left to merge.
    fn settle(&self) -> Result<()>;

    /// Gives back what the files have and do not need, where that is a call of its own.
    fn shrink(self) -> Result<Self> {
        Ok(self)
    }

    /// Bytes on disk, logs aside, and bytes of logs.
    fn bytes(&self, settings: &Settings) -> Result<(u64, u64)> {
        disk(&settings.dir, &Self::is_log)
    }

    /// Whether this file is a log.
    fn is_log(_path: &Path) -> bool {
        false
    }

    /// Its shape: levels, runs, pages.
    fn state(&self) -> Result<String>;
}

/// Bytes that the files of a directory take on disk: those that are no logs, and those that are.
fn disk(dir: &Path, is_log: &dyn Fn(&Path) -> bool) -> Result<(u64, u64)> {
    let (mut tables, mut logs) = (0, 0);
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        // A file may be removed by a merge while this looks.
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        if metadata.is_dir() {
            let (below, below_logs) = disk(&path, is_log)?;
            (tables, logs) = (tables + below, logs + below_logs);
        } else if is_log(&path) {
            logs += allocated(&metadata);
        } else {
            tables += allocated(&metadata);
        }
    }
    Ok((tables, logs))
}

#[cfg(unix)]
fn allocated(metadata: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(metadata) * 512
}

#[cfg(not(unix))]
fn allocated(metadata: &std::fs::Metadata) -> u64 {
    metadata.len()
}

/// A transaction's key that should be there is not.
pub fn lost() -> Error {
    "a key that was stored is not there".into()
}
