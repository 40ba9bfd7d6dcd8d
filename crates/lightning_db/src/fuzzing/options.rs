//! Options: an option file up to the first zero byte, then lines `NAME=value` of environment. What
//! is accepted is possible; what is refused says so, and names an option, a line or a variable.

use std::path::Path;

use crate::LightningDbConfig;
use crate::error::ErrorKind;
use crate::vfs::{MemoryVfs, Vfs, write_all_at};

pub(super) fn run(input: &[u8]) {
    let cut = input.iter().position(|b| *b == 0).unwrap_or(input.len());
    let (file, environment) = (&input[..cut], input.get(cut + 1..).unwrap_or_default());
    let text = String::from_utf8_lossy(environment);
    let variables = text.lines().filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    });
    let (vfs, path) = (MemoryVfs::new(), Path::new("/options.toml"));
    let made = vfs
        .create(path)
        .map_err(|e| e.to_string())
        .and_then(|f| write_all_at(&*f, file, 0).map_err(|e| e.to_string()));
    made.expect("memory takes it");
    match LightningDbConfig::load_with(&vfs, Some(path), variables) {
        Ok(config) => assert!(config.validate().is_ok(), "accepted, and impossible: {config:?}"),
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{e:?}");
            assert!(!e.to_string().is_empty());
        }
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    [
        "",
        "[database]\ncache_size = \"512MB\"\npage_size = 8192\nprofile = \"balanced\"\n\
         compression_enabled = true\ncompression_type = \"lz4\"\nmax_database_size = \"none\"\n\
         [wal]\nwal_sync_mode = \"periodic:10ms\"\nwal_segment_size = \"16MiB\"\n",
        "max_active_transactions = 10\ntransaction_timeout = \"1m\"\nbackground_threads = 0\n\
         compaction_interval = \"1h\"\nprefetch_distance = 4\nmax_key_size = \"1KiB\"\n\0\
         LIGHTNING_DB_CACHE_SIZE=64MiB\nLIGHTNING_DB_PROFILE=read_optimized\nHOME=/root\n",
        "\0LIGHTNING_DB_WAL_SYNC_MODE=async\nLIGHTNING_DB_MAX_WAL_SIZE=1GiB\n\
         LIGHTNING_DB_TRANSACTION_TIMEOUT=500ms\nLIGHTNING_DB_MAX_DATABASE_SIZE=1TB\n",
        "cache_size = 1e9\n[[database]]\n\"quoted\" = {a=1}\n# \u{e9}\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
