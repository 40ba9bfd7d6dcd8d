//! Every option through both doors, its range, its errors, and which door wins.

use super::*;
use crate::vfs::{MemoryVfs, write_all_at};

/// Option, table, a value that is not the default as TOML text and as a variable, and a value
/// that is impossible, both ways.
const CASES: &[(&str, &str, &str, &str, &str)] = &[
    ("page_size", "\"8KiB\"", "8192", "5000", "5000"),
    ("cache_size", "\"512MB\"", "512MB", "1", "1"),
    ("write_buffer_size", "1048576", "1MiB", "\"63KiB\"", "63KiB"),
    ("compression_enabled", "false", "false", "\"no\"", "0"),
    ("compression_type", "\"zstd\"", "Snappy", "\"brotli\"", "gzip"),
    ("compression_level", "19", "-3", "23", "0"),
    ("profile", "\"write_optimized\"", "write_optimized", "\"fast\"", "3"),
    ("background_threads", "0", "0", "65", "-1"),
    ("background_compaction", "false", "false", "1", "off"),
    ("compaction_interval", "\"5s\"", "5s", "60", "0s"),
    ("prefetch_enabled", "false", "false", "0", "maybe"),
    ("prefetch_distance", "3", "3", "0", "\"3\""),
    ("merge_operator", "\"counter\"", "append", "\"\"", "5"),
    ("history_retention", "\"168h\"", "30s", "\"1ms\"", "7"),
    ("max_database_size", "\"10GB\"", "10GB", "0", "0"),
    ("max_key_size", "100", "100", "65537", "1MB"),
    ("max_value_size", "\"1MiB\"", "1MiB", "\"4GiB\"", "-1"),
    ("max_active_transactions", "7", "7", "0", "2.5"),
    ("transaction_timeout", "\"250ms\"", "250ms", "30", "30"),
    ("lock_timeout", "\"20ms\"", "2s", "5", "0s"),
    ("max_transaction_size", "\"2MB\"", "2MB", "0", "2GiB"),
    ("wal_enabled", "false", "false", "\"false\"", "yes"),
    ("wal_sync_mode", "\"periodic:10ms\"", "async", "\"periodic\"", "periodic:0s"),
    ("wal_segment_size", "\"1MiB\"", "1MiB", "1", "2GiB"),
    ("max_wal_size", "\"256MiB\"", "256MiB", "\"64MiB\"", "1"),
    ("changes_retention_bytes", "\"5MiB\"", "0", "\"-1\"", "2000TiB"),
    ("encryption", "\"file:/k\"", "variable:K", "\"00ff\"", "00ff"),
];

/// What an option cannot be set without.
fn before(option: &str) -> Loader {
    let mut loader = Loader::default();
    if option.eq_ignore_ascii_case("compression_level")
        || option.eq_ignore_ascii_case(&variable("compression_level"))
    {
        loader.config.compression_type = CompressionType::Zstd;
    }
    loader
}

fn file_with(option: &str, value: &str) -> String {
    let known = OPTIONS.iter().find(|o| o.name == option).expect("a known option");
    format!("[{}]\n{option} = {value}\n", known.table)
}

fn from_variables(pairs: &[(&str, &str)]) -> Result<LightningDbConfig> {
    let mut loader = before(pairs[0].0);
    loader.environment(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))?;
    loader.finish()
}

fn variable(option: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", option.to_ascii_uppercase())
}

/// The fields of the configuration as `Debug` names them.
fn fields(config: &LightningDbConfig) -> BTreeMap<String, String> {
    let text = format!("{config:#?}");
    let mut out = BTreeMap::new();
    let mut last = String::new();
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        match line.trim().split_once(": ") {
            Some((name, value)) if indent == 4 => {
                name.clone_into(&mut last);
                out.insert(last.clone(), value.to_owned());
            }
            _ => {
                if let Some(value) = out.get_mut(&last) {
                    value.push_str(line.trim());
                }
            }
        }
    }
    out
}

#[test]
fn every_field_is_an_option_and_has_a_case() {
    let mut fields = fields(&LightningDbConfig::default());
    // Code, which no file can hold.
    assert!(fields.remove("merge_operators").is_some());
    assert!(fields.remove("extractors").is_some());
    let fields: Vec<String> = fields.into_keys().collect();
    let mut names: Vec<&str> = OPTIONS.iter().map(|o| o.name).collect();
    names.sort_unstable();
    assert_eq!(fields, names);
    let mut cases: Vec<&str> = CASES.iter().map(|c| c.0).collect();
    cases.sort_unstable();
    assert_eq!(cases, names);
}

#[test]
fn each_option_is_set_by_file_and_by_variable_and_moves_nothing_else() {
    for (option, in_file, in_variable, _, _) in CASES {
        let default = fields(&before(option).config);
        let mut loader = before(option);
        let by_file = loader.file(&file_with(option, in_file), None).and_then(|()| loader.finish());
        let by_variable = from_variables(&[(&variable(option), in_variable)]);
        for (door, config) in [("file", by_file), ("variable", by_variable)] {
            let config = config.unwrap_or_else(|e| panic!("{option} by {door}: {e}"));
            let moved: Vec<String> = fields(&config)
                .into_iter()
                .filter(|(name, value)| default.get(name) != Some(value))
                .map(|(name, _)| name)
                .collect();
            assert_eq!(moved, [(*option).to_owned()], "by {door}");
        }
    }
}

#[test]
fn impossible_values_are_errors_that_name_option_and_door() {
    for (option, _, _, in_file, in_variable) in CASES {
        let mut loader = before(option);
        let path = Path::new("some/lightning_db.toml");
        let e = loader
            .file(&file_with(option, in_file), Some(path))
            .and_then(|()| loader.finish())
            .expect_err(option);
        assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{option}");
        assert!(e.message().contains(&format!("`{option}`")), "{e}");
        assert_eq!(e.file(), Some(path), "{option}");

        let e = from_variables(&[(&variable(option), in_variable)]).expect_err(option);
        assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{option}");
        assert!(e.message().contains(&format!("`{option}`")), "{e}");
        assert!(e.message().contains(&variable(option)), "{e}");
    }
}

#[test]
fn variables_override_the_file_and_other_variables_are_left_alone() {
    let mut loader = Loader::default();
    loader.file("[database]\ncache_size = 1000000\npage_size = 8192\n", None).expect("a good file");
    let variables = [("LIGHTNING_DB_CACHE_SIZE", "2MB"), ("PATH", "/x"), ("LIGHTNING", "y")];
    loader
        .environment(variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
        .expect("good variables");
    let config = loader.finish().expect("a good configuration");
    assert_eq!((config.cache_size, config.page_size), (2_000_000, 8192));
}

#[test]
fn unknown_names_are_errors() {
    for (text, named) in [
        ("[database]\ncash_size = 1\n", "`cash_size`"),
        ("[cache]\nsize = 1\n", "[cache]"),
        ("cache_size = 1\n", "[database]"),
        ("speed = 11\n", "`speed`"),
        ("[wal]\ncache_size = \"1MB\"\n", "[database]"),
        ("wal = 3\n", "[wal]"),
        ("[encryption]\nkey = \"k\"\n", "[encryption]"),
        ("[database]\nmmap_enabled = true\n", "`mmap_enabled`"),
        ("[[database]]\npage_size = 4096\n", "[database]"),
    ] {
        let e = LightningDbConfig::from_toml_str(text).expect_err(text);
        assert_eq!(e.kind(), ErrorKind::InvalidConfig);
        assert!(e.message().contains(named), "{text}: {e}");
    }
    for name in ["LIGHTNING_DB_", "LIGHTNING_DB_CASH_SIZE", "LIGHTNING_DB_cache_size"] {
        let e = from_variables(&[(name, "1MB")]).expect_err(name);
        assert!(e.message().contains(name), "{e}");
    }
}

#[test]
fn broken_toml_names_the_line() {
    let e = LightningDbConfig::from_toml_str("[database]\ncache_size = \n").expect_err("no value");
    assert_eq!(e.kind(), ErrorKind::InvalidConfig);
    assert!(e.message().contains("line 2"), "{e}");
    let twice = "[database]\npage_size = 4096\npage_size = 8192\n";
    assert!(LightningDbConfig::from_toml_str(twice).is_err());
}

#[test]
fn sync_modes_by_name() {
    let mode = |text: &str| {
        from_variables(&[("LIGHTNING_DB_WAL_SYNC_MODE", text)]).map(|c| c.wal_sync_mode)
    };
    assert_eq!(mode("Sync").expect("sync"), WalSyncMode::Sync);
    assert_eq!(mode("async").expect("async"), WalSyncMode::Async);
    let interval = Duration::from_secs(2);
    assert_eq!(mode("periodic: 2s").expect("periodic"), WalSyncMode::Periodic { interval });
    for text in ["", "periodic:", "periodic:2", "sync:2s", "never"] {
        assert!(mode(text).is_err(), "{text}");
    }
}

#[test]
fn a_limit_can_be_lifted_by_a_variable() {
    let mut loader = Loader::default();
    loader.file("[database]\nmax_database_size = \"1GB\"\n", None).expect("a good file");
    let lifted = [("LIGHTNING_DB_MAX_DATABASE_SIZE".to_owned(), "none".to_owned())];
    loader.environment(lifted.into_iter()).expect("a good variable");
    assert_eq!(loader.finish().expect("a good configuration").max_database_size, None);
}

#[test]
fn a_level_is_refused_where_the_codec_has_none_and_lifted_by_a_variable() {
    let both = "[database]\ncompression_type = \"lz4\"\ncompression_level = 3\n";
    let e = LightningDbConfig::from_toml_str(both).expect_err("LZ4 has no levels");
    assert!(e.message().contains("`compression_level` is for Zstandard only"), "{e}");
    let mut loader = before("compression_level");
    loader.file("[database]\ncompression_level = 5\n", None).expect("a good file");
    let lifted = [("LIGHTNING_DB_COMPRESSION_LEVEL".to_owned(), "none".to_owned())];
    loader.environment(lifted.into_iter()).expect("a good variable");
    assert_eq!(loader.finish().expect("a good configuration").compression_level, None);
}

fn load_file(bytes: &[u8]) -> Result<LightningDbConfig> {
    let vfs = MemoryVfs::new();
    let path = Path::new("/lightning_db.toml");
    let file = vfs.create(path).expect("a new file");
    write_all_at(&*file, bytes, 0).expect("a write to memory");
    let variables = [("LIGHTNING_DB_PAGE_SIZE".to_owned(), "16KiB".to_owned())];
    LightningDbConfig::load_with(&vfs, Some(path), variables.into_iter())
}

#[test]
fn files_are_read_through_the_vfs() {
    let config = load_file(b"[database]\npage_size = 8192\nprefetch_distance = 5\n");
    let config = config.expect("a good file");
    assert_eq!((config.page_size, config.prefetch_distance), (16_384, 5));
}

#[test]
fn unreadable_files_are_errors_that_name_them() {
    let path = Path::new("/nowhere.toml");
    let e = LightningDbConfig::load_with(&MemoryVfs::new(), Some(path), [].into_iter());
    let e = e.expect_err("no such file");
    assert_eq!((e.kind(), e.file()), (ErrorKind::NotFound, Some(path)));
    for bytes in [&b"\xFF"[..], &vec![b'#'; MAX_FILE_BYTES as usize + 1]] {
        let e = load_file(bytes).expect_err("not an option file");
        assert_eq!(e.kind(), ErrorKind::InvalidConfig);
        assert_eq!(e.file(), Some(Path::new("/lightning_db.toml")));
    }
}
