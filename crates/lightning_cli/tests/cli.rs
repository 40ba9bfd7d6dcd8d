//! The tool as it is used: one process a command, real files.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the engine keeps to its file system seam; this is a program around it"
)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const EXCERPT: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/data/packages-excerpt.csv");

struct Shop {
    dir: tempfile::TempDir,
}

impl Shop {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a directory for temporary files") }
    }

    fn created() -> Self {
        let shop = Self::new();
        shop.ok(&["create", "DB"]);
        shop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), content).expect("a writable directory");
        name.to_owned()
    }

    fn run_with(&self, args: &[&str], input: &[u8], variables: &[(&str, &str)]) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_lightning-cli"))
            .args(args)
            .current_dir(self.dir.path())
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the tool starts");
        child.stdin.take().expect("it is piped").write_all(input).expect("it reads its input");
        child.wait_with_output().expect("it ends")
    }

    fn run(&self, args: &[&str]) -> Output {
        self.run_with(args, b"", &[])
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// The exit code and standard error of a command that fails.
    fn fails(&self, args: &[&str]) -> (i32, String) {
        let output = self.run(args);
        assert!(!output.status.success(), "{args:?} did not fail");
        (output.status.code().expect("an exit code"), text(&output.stderr))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8 output")
}

/// Header and rows, rows sorted by the key column.
fn table(path: &Path, key: usize) -> (csv::StringRecord, Vec<csv::StringRecord>) {
    let mut reader = csv::Reader::from_path(path).expect("a readable table");
    let header = reader.headers().expect("a header").clone();
    let mut rows: Vec<_> = reader.records().collect::<Result<_, _>>().expect("even rows");
    rows.sort_by(|a, b| a[key].cmp(&b[key]));
    (header, rows)
}

#[test]
fn operands_are_merged() {
    let shop = Shop::created();
    let visits = ["--keyspace", "counts"];
    shop.ok(&[&["merge", "DB", "page", "41", "--operator", "counter"], &visits[..]].concat());
    // It is kept: nobody need name it again.
    shop.ok(&[&["merge", "DB", "page", "1"], &visits[..]].concat());
    let raw = shop.run(&[&["get", "DB", "page", "--raw"], &visits[..]].concat());
    assert_eq!(raw.stdout, 42_i64.to_le_bytes());
    let refused = |args: &[&str], said: &str| {
        let output = shop.run(args);
        assert_eq!(output.status.code(), Some(5), "{args:?}");
        assert!(text(&output.stderr).contains(said), "{}", text(&output.stderr));
    };
    refused(&[&["merge", "DB", "page", "one"], &visits[..]].concat(), "a whole number");
    refused(&[&["merge", "DB", "p", "1", "--operator", "max"], &visits[..]].concat(), "counter");
    refused(&["merge", "DB", "page", "1"], "no merge operator");
    refused(&["merge", "DB", "page", "1", "--operator", "mine"], "not registered");
}

#[test]
fn put_get_delete_and_scan() {
    let shop = Shop::created();
    for (key, value) in [("apple", "green"), ("pear", "yellow"), ("apricot", "orange")] {
        assert_eq!(shop.ok(&["put", "DB", key, value]), "");
    }
    assert_eq!(shop.ok(&["get", "DB", "apple"]), "green\n");
    assert_eq!(shop.ok(&["get", "DB", "apple", "--raw"]), "green");
    assert_eq!(shop.ok(&["scan", "DB"]), "apple\tgreen\napricot\torange\npear\tyellow\n");
    assert_eq!(
        shop.ok(&["scan", "DB", "--prefix", "ap", "--reverse", "--limit", "1"]),
        "apricot\torange\n"
    );
    assert_eq!(
        shop.ok(&["scan", "DB", "--start", "apricot", "--end", "pear"]),
        "apricot\torange\n"
    );
    assert_eq!(shop.ok(&["delete", "DB", "apple"]), "");
    assert_eq!(shop.ok(&["delete", "DB", "apple"]), "", "deleting twice is no error");
    assert_eq!(shop.fails(&["get", "DB", "apple"]).0, 3);
    let json = shop.ok(&["--format", "json", "scan", "DB", "--limit", "1"]);
    assert_eq!(json, "{\"key\":\"apricot\",\"value\":\"orange\"}\n");
}

#[test]
fn delete_range_takes_what_scan_with_the_same_bounds_shows() {
    let shop = Shop::created();
    for key in ["apple", "apricot", "fig", "pear", "plum"] {
        shop.ok(&["put", "DB", key, "1"]);
    }
    assert_eq!(shop.ok(&["delete-range", "DB", "--start", "apricot", "--end", "pear"]), "");
    assert_eq!(shop.ok(&["scan", "DB"]), "apple\t1\npear\t1\nplum\t1\n");
    assert_eq!(shop.ok(&["delete-range", "DB", "--prefix", "pl"]), "");
    assert_eq!(shop.ok(&["delete-range", "DB", "--hex", "--end", "62"]), "");
    assert_eq!(shop.ok(&["scan", "DB"]), "pear\t1\n");
    let refused = shop.fails(&["delete-range", "DB"]);
    assert!(refused.1.contains("--all"), "{refused:?}");
    assert_eq!(shop.ok(&["delete-range", "DB", "--all"]), "");
    assert_eq!(shop.ok(&["scan", "DB"]), "");
}

#[test]
fn any_byte_goes_in_and_comes_out() {
    let shop = Shop::created();
    shop.ok(&["put", "DB", "--hex", "ffffffff", "00ff0A"]);
    assert_eq!(shop.ok(&["get", "DB", "--hex", "FFFFFFFF"]), "00ff0a\n");
    assert_eq!(shop.ok(&["scan", "DB"]), "\\xFF\\xFF\\xFF\\xFF\t\\x00\\xFF\\x0A\n");
    let json = shop.ok(&["--format", "json", "scan", "DB"]);
    assert_eq!(json, "{\"key_hex\":\"ffffffff\",\"value_hex\":\"00ff0a\"}\n");

    let put = shop.run_with(&["put", "DB", "blob", "-"], b"line\n\xFE\n", &[]);
    assert!(put.status.success());
    assert_eq!(shop.run(&["get", "DB", "blob", "--raw"]).stdout, b"line\n\xFE\n");
    let get = shop.run_with(&["get", "DB", "-"], b"blob\n", &[]);
    assert_eq!(get.stdout, b"line\\x0A\\xFE\\x0A\n");

    assert_eq!(shop.fails(&["put", "DB", "--hex", "xyz", "00"]).0, 5);
    assert_eq!(shop.fails(&["put", "DB", "", "value"]).0, 5);
    assert_eq!(shop.fails(&["put", "DB", "-", "-"]).0, 5);
}

#[test]
fn exit_codes_tell_what_to_do() {
    let shop = Shop::created();
    assert_eq!(shop.fails(&["no-such-command"]).0, 2);
    assert_eq!(shop.fails(&["get", "nowhere", "key"]).0, 3);
    assert_eq!(shop.fails(&["put", "nowhere", "key", "value"]).0, 3);
    assert_eq!(shop.fails(&["get", "DB", "key", "--keyspace", "nowhere"]).0, 3);
    assert_eq!(shop.fails(&["create", "DB"]).0, 4);
    let (code, error) = shop.fails(&["--format", "json", "get", "DB", "key"]);
    let error: serde_json::Value = serde_json::from_str(&error).expect("an error as JSON");
    assert_eq!((code, &error["error"]["kind"]), (3, &"NotFound".into()));
}

#[test]
fn options_come_from_file_and_environment_and_wrong_ones_are_named() {
    let shop = Shop::created();
    let bad = shop.file("bad.toml", "[database]\npage_size = 5000\n");
    let (code, error) = shop.fails(&["put", "DB", "k", "v", "--config", &bad]);
    assert_eq!(code, 5);
    assert!(error.contains("page_size") && error.contains("bad.toml"), "{error}");
    let good = shop.file("good.toml", "[wal]\nwal_sync_mode = \"async\"\n");
    shop.ok(&["put", "DB", "k", "v", "--config", &good]);
    let output = shop.run_with(&["get", "DB", "k"], b"", &[("LIGHTNING_DB_CASH_SIZE", "1MB")]);
    assert_eq!(output.status.code(), Some(5));
    assert!(text(&output.stderr).contains("LIGHTNING_DB_CASH_SIZE"));
}

#[test]
fn an_imported_table_is_exported_equal() {
    let shop = Shop::new();
    let import = ["import", "csv", EXCERPT, "--key", "package", "DB", "--keyspace", "packages"];
    let said = shop.ok(&import);
    assert!(said.starts_with("2000 rows under 2000 keys"), "{said}");
    assert!(shop.ok(&import).starts_with("2000 rows"), "importing again is harmless");
    shop.ok(&["export", "csv", "DB", "--keyspace", "packages", "--output", "out.csv"]);
    assert_eq!(table(&shop.path("out.csv"), 0), table(Path::new(EXCERPT), 0));
    let piped = shop.ok(&["export", "csv", "DB", "--keyspace", "packages"]);
    assert_eq!(piped, std::fs::read_to_string(shop.path("out.csv")).expect("the export"));

    let again = ["export", "csv", "DB", "--keyspace", "packages", "--output", "out.csv"];
    assert_eq!(shop.fails(&again).0, 4);
    shop.ok(&["export", "csv", "DB", "--keyspace", "packages", "--output", "out.csv", "--force"]);
}

#[test]
fn files_go_in_and_come_out() {
    let shop = Shop::created();
    let bytes: Vec<u8> =
        (0..700_000_u32).flat_map(|n| n.wrapping_mul(7919).to_be_bytes()).collect();
    let film = shop.file("film", &bytes);
    shop.ok(&["put", "DB", "film", "--file", &film]);
    shop.ok(&["get", "DB", "film", "--output", "copy"]);
    assert!(std::fs::read(shop.path("copy")).expect("the copy") == bytes);
    assert_eq!(shop.fails(&["get", "DB", "film", "--output", "copy"]).0, 4);
    assert_eq!(shop.fails(&["get", "DB", "none", "--output", "none"]).0, 3);
    assert!(!shop.path("none").exists());
    assert_ne!(shop.fails(&["put", "DB", "k", "v", "--file", &film]).0, 0);
}

#[test]
fn sorted_rows_are_imported_as_one_or_not_at_all() {
    let shop = Shop::new();
    let file = shop.file("t.csv", "id,n\na,1\nb,2\nc,3\n");
    let said = shop.ok(&["import", "csv", &file, "--key", "id", "DB", "--sorted"]);
    assert!(said.starts_with("3 rows under 3 keys"), "{said}");
    assert_eq!(shop.ok(&["export", "csv", "DB"]), "id,n\na,1\nb,2\nc,3\n");
    shop.ok(&["export", "jsonl", "DB", "--output", "out.jsonl"]);
    shop.ok(&["import", "jsonl", "out.jsonl", "copy", "--sorted"]);
    assert_eq!(shop.ok(&["get", "copy", "b"]), "{\"n\":\"2\"}\n");

    for bad in ["id,n\nx,1\nz,2\ny,3\n", "id,n\nx,1\nz,2\nz,3\n", "id,n\nx,1\ny,2\n,3\n"] {
        let file = shop.file("bad.csv", bad);
        let import = ["import", "csv", &file, "--key", "id", "DB", "--sorted", "--keyspace", "bad"];
        let (code, error) = shop.fails(&import);
        assert_eq!(code, 5, "{error}");
        assert!(error.contains("line 4") && error.contains("nothing was imported"), "{error}");
        assert_eq!(shop.ok(&["export", "csv", "DB", "--keyspace", "bad"]), "key,value\n");
    }
}

#[test]
fn a_key_column_in_the_middle_keeps_its_place() {
    let shop = Shop::new();
    let file = shop.file("t.csv", "b,id,a\n1,y,\"x \"\"q\"\", z\"\n,x,naïve\n");
    shop.ok(&["import", "csv", &file, "--key", "id", "DB"]);
    assert_eq!(shop.ok(&["get", "DB", "x"]), "{\"b\":\"\",\"a\":\"naïve\"}\n");
    let expected = "b,id,a\n,x,naïve\n1,y,\"x \"\"q\"\", z\"\n";
    assert_eq!(shop.ok(&["export", "csv", "DB"]), expected);

    let other = shop.file("other.csv", "id,c\n1,2\n");
    let (code, error) = shop.fails(&["import", "csv", &other, "--key", "id", "DB"]);
    assert_eq!(code, 5);
    assert!(error.contains("other columns"), "{error}");
    shop.ok(&["put", "DB", "stray", "no row"]);
    let (code, error) = shop.fails(&["export", "csv", "DB", "--output", "out.csv"]);
    assert_eq!(code, 5);
    assert!(error.contains("stray"), "{error}");
    assert!(!shop.path("out.csv").exists() && !shop.path("out.csv.partial").exists());
}

#[test]
fn the_last_of_rows_with_one_key_wins_and_is_counted() {
    let shop = Shop::new();
    let rows: Vec<String> = (0..2500).map(|i| format!("{},{i}", i % 2000)).collect();
    let file = shop.file("t.csv", format!("id,n\n{}\n", rows.join("\n")));
    let said = shop.ok(&["--format", "json", "import", "csv", &file, "--key", "id", "DB"]);
    let said: serde_json::Value = serde_json::from_str(&said).expect("a report as JSON");
    let counts = ["rows", "keys", "duplicate_keys"].map(|n| said[n].as_u64().expect("a number"));
    assert_eq!(counts, [2500, 2000, 500]);
    assert_eq!(shop.ok(&["get", "DB", "499"]), "{\"n\":\"2499\"}\n");
    assert_eq!(shop.ok(&["get", "DB", "500"]), "{\"n\":\"500\"}\n");
}

#[test]
fn broken_tables_are_refused_by_line() {
    for (content, named) in [
        (&b""[..], "line 1"),
        (b"a,b\n1,2\n", "`id`"),
        (b"id,b,b\n1,2,3\n", "`b`"),
        (b"id,b\n1,2\n3\n", "line 3"),
        (b"id,b\n1,\"x\ny\"\n3,4,5\n", "line 4"),
        (b"id,b\n1,2\n,4\n", "line 3"),
        (b"id,b\n1,\xFF\n", "line 2"),
    ] {
        let shop = Shop::new();
        let file = shop.file("t.csv", content);
        let (code, error) = shop.fails(&["import", "csv", &file, "--key", "id", "DB"]);
        assert_eq!(code, 5, "{named}: {error}");
        assert!(error.contains(named) && error.contains("t.csv"), "{named}: {error}");
    }
    let shop = Shop::new();
    let (code, _) = shop.fails(&["import", "csv", "nowhere.csv", "--key", "id", "DB"]);
    assert_eq!(code, 3);
    assert!(!shop.path("DB").exists(), "a wrong file name makes no database");
}

#[test]
fn lines_of_json_round_trip_every_byte() {
    let shop = Shop::created();
    shop.ok(&["put", "DB", "text", "naïve \"q\""]);
    shop.ok(&["put", "DB", "--hex", "ff00", "fe"]);
    shop.ok(&["export", "jsonl", "DB", "--output", "out.jsonl"]);
    shop.ok(&["import", "jsonl", "out.jsonl", "copy"]);
    assert_eq!(shop.ok(&["scan", "copy", "--hex"]), shop.ok(&["scan", "DB", "--hex"]));
    assert_eq!(shop.fails(&["export", "csv", "DB"]).0, 5, "bytes are no CSV text");
    let hex = shop.ok(&["export", "csv", "DB", "--hex"]);
    assert!(hex.contains("key_hex,value_hex\n") && hex.contains("ff00,fe\n"), "{hex}");

    let file = shop.file("bad.jsonl", "{\"key\":\"a\",\"value\":\"1\"}\n\n{\"key\":\"b\"}\n");
    let (code, error) = shop.fails(&["import", "jsonl", &file, "copy"]);
    assert_eq!(code, 5);
    assert!(error.contains("line 3") && error.contains("`value`"), "{error}");
}

#[test]
fn upkeep_commands_report() {
    let shop = Shop::created();
    for i in 0..20 {
        shop.ok(&["put", "DB", &format!("key{i:02}"), "value", "--keyspace", "shelf"]);
    }
    shop.ok(&["flush", "DB"]);
    shop.ok(&["compact", "DB"]);
    assert_eq!(shop.ok(&["list-keyspaces", "DB"]), "default\nshelf\n");
    let json = |args: &[&str]| -> serde_json::Value {
        let mut all = vec!["--format", "json"];
        all.extend(args);
        serde_json::from_str(&shop.ok(&all)).expect("a report as JSON")
    };
    let inspected = json(&["inspect", "DB", "--count"]);
    let shelf = &inspected["keyspaces"]["shelf"];
    assert_eq!((&shelf["keys"], &shelf["value_bytes"]), (&20.into(), &100.into()));
    assert_eq!((&shelf["first_key"], &shelf["last_key"]), (&"key00".into(), &"key19".into()));
    assert!(inspected["files"]["all"]["bytes"].as_u64().is_some_and(|b| b > 0));
    let checked = json(&["check", "DB", "--deep"]);
    assert_eq!((&checked["clean"], &checked["problems"]), (&true.into(), &serde_json::json!([])));
    let shallow = json(&["check", "DB"]);
    assert!(shallow.get("clean").is_none(), "nothing is called clean that was not read");
    assert!(json(&["stats", "DB"]).is_object());
}

#[test]
fn completions_name_the_commands() {
    let shop = Shop::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = shop.ok(&["completions", shell]);
        assert!(script.contains("list-keyspaces"), "{shell}");
    }
}

#[test]
fn a_small_benchmark_runs_and_leaves_nothing_behind() {
    let shop = Shop::new();
    let args = "--format json bench --keys 2000 --seconds 1 --dir . --rows load,get-missing,seek-10,get-beside";
    let said = shop.ok(&args.split(' ').collect::<Vec<_>>());
    let lines: Vec<serde_json::Value> =
        said.lines().map(|l| serde_json::from_str(l).expect("a row as JSON")).collect();
    assert_eq!(lines.len(), 5, "{said}");
    for row in &lines[1..] {
        assert!(row["per_second"].as_f64().is_some_and(|n| n > 0.0), "{row}");
        assert!(row["p50_ns"].as_u64() <= row["max_ns"].as_u64(), "{row}");
    }
    assert_eq!(std::fs::read_dir(shop.dir.path()).expect("the directory").count(), 0);
    assert_eq!(shop.fails(&["bench", "--rows", "nonsense"]).0, 5);
}

/// Samples are taken by a timer of processor time, so a row that runs for a second has some.
#[cfg(unix)]
#[test]
fn a_profile_tells_the_layers_of_each_row() {
    let shop = Shop::new();
    let args = "--format json profile --keys 2000 --seconds 1 --dir . --rows get-missing,put-async";
    let said = shop.ok(&args.split(' ').collect::<Vec<_>>());
    let rows: Vec<serde_json::Value> =
        said.lines().skip(1).map(|l| serde_json::from_str(l).expect("a row as JSON")).collect();
    assert_eq!(rows.len(), 2, "{said}");
    for row in &rows {
        let layers = row["layers"].as_array().expect("layers");
        let shares: f64 = layers.iter().filter_map(|l| l["share"].as_f64()).sum();
        assert!((shares - 1.0).abs() < 1e-6, "{row}");
        let of_engine = layers.iter().filter(|l| l["layer"] != "other");
        assert!(of_engine.count() > 0, "{row}");
    }
    assert!(shop.fails(&["profile", "--frequency", "9"]).0 > 0);
}

const KEEPS_A_DAY: (&str, &str) = ("LIGHTNING_DB_HISTORY_RETENTION", "24h");

#[test]
fn the_past_is_read_by_commit_and_by_time() {
    let shop = Shop::new();
    let with = |args: &[&str]| {
        let output = shop.run_with(args, b"", &[KEEPS_A_DAY]);
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    with(&["create", "DB"]);
    with(&["put", "DB", "apple", "green"]);
    with(&["put", "DB", "apple", "red"]);
    with(&["delete", "DB", "apple"]);
    with(&["put", "DB", "apple", "rotten"]);
    assert_eq!(shop.ok(&["get", "DB", "apple", "--at", "1"]), "green\n");
    assert_eq!(shop.ok(&["get", "DB", "apple", "--at", "2"]), "red\n");
    assert_eq!(shop.fails(&["get", "DB", "apple", "--at", "3"]).0, 3);
    assert_eq!(shop.ok(&["get", "DB", "apple", "--at", "0s"]), "rotten\n");
    assert_eq!(shop.fails(&["get", "DB", "apple", "--at", "5"]).0, 5);
    assert_eq!(shop.fails(&["get", "DB", "apple", "--at", "yesterday"]).0, 5);
    let (code, why) = shop.fails(&["get", "DB", "apple", "--at", "2001-01-01T00:00:00Z"]);
    assert!(code == 16 && why.contains("the oldest moment is commit 0"), "{code}: {why}");
    let versions = shop.ok(&["--format", "json", "history", "DB", "apple"]);
    let versions: Vec<serde_json::Value> =
        versions.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    let commits: Vec<_> = versions.iter().map(|v| v["commit"].as_u64()).collect();
    assert_eq!(commits, [Some(4), Some(3), Some(2), Some(1)]);
    assert_eq!(versions[0]["value"], "rotten");
    assert_eq!(versions[1]["deleted"], true);
    assert!(versions[3]["time"].as_str().is_some_and(|t| t.ends_with('Z')));
    // Opened without the option, to be written: the past is dropped.
    shop.ok(&["put", "DB", "pear", "1"]);
    assert_eq!(shop.fails(&["get", "DB", "apple", "--at", "1"]).0, 16);
}

#[test]
fn changes_are_printed_from_where_a_cursor_stands() {
    let shop = Shop::created();
    assert_eq!(shop.ok(&["changes", "DB", "--cursor", "mine"]), "");
    shop.ok(&["put", "DB", "apple", "green"]);
    shop.ok(&["delete", "DB", "apple"]);
    shop.ok(&["put", "DB", "pear", "1", "--keyspace", "fruit"]);
    let all = "1\tdefault\tput\tapple\tgreen\n2\tdefault\tdelete\tapple\n3\tfruit\tput\tpear\t1\n";
    assert_eq!(shop.ok(&["changes", "DB"]), all);
    assert_eq!(
        shop.ok(&["changes", "DB", "--from", "3"]),
        all.lines().last().map(|l| format!("{l}\n")).expect("one")
    );
    assert_eq!(shop.ok(&["changes", "DB", "--prefix", "p"]), "3\tfruit\tput\tpear\t1\n");
    let json = shop.ok(&["--format", "json", "changes", "DB", "--cursor", "mine"]);
    let commits: Vec<serde_json::Value> =
        json.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!(commits.len(), 3);
    assert_eq!(commits[0]["changes"][0]["op"], "put");
    assert_eq!(commits[1]["changes"][0]["op"], "delete");
    assert_eq!(commits[2]["changes"][0]["keyspace"], "fruit");
    assert_eq!(shop.ok(&["changes", "DB", "--cursor", "mine"]), "");
    assert_eq!(shop.fails(&["changes", "DB", "--from", "9"]).0, 5);
    assert_eq!(shop.fails(&["changes", "DB", "--from", "1"]).0, 16);
}

/// Key options, the variable, and a change of the key; a wrong or missing key has an exit code of its own.
#[cfg(unix)]
#[test]
fn an_encrypted_database_takes_its_key_and_a_new_one() {
    use std::os::unix::fs::PermissionsExt;
    let shop = Shop::new();
    let private = |name: &str, content: &str| {
        let file = shop.file(name, content);
        let rights = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(shop.path(name), rights).expect("a file of ours");
        file
    };
    let (old, new) = (private("old.key", &"17".repeat(32)), private("new.key", &"18".repeat(32)));
    shop.ok(&["create", "DB", "--key-file", &old]);
    shop.ok(&["put", "DB", "apple", "green", "--key-file", &old]);
    assert_eq!(shop.fails(&["get", "DB", "apple"]).0, 17);
    assert_eq!(shop.fails(&["get", "DB", "apple", "--key-file", &new]).0, 17);
    assert_eq!(shop.fails(&["rotate-key", "DB", "--key-file", &old]).0, 2, "no new key");
    shop.ok(&["rotate-key", "DB", "--key-file", &old, "--new-key-file", &new]);
    assert_eq!(shop.fails(&["get", "DB", "apple", "--key-file", &old]).0, 17);
    assert_eq!(shop.ok(&["get", "DB", "apple", "--key-file", &new]).trim_end(), "green");
    let key = "18".repeat(32);
    let keys = || std::fs::read(shop.path("DB").join("KEYS")).expect("there");
    let before = keys();
    shop.ok(&["rotate-key", "DB", "--key-file", &new, "--data-key"]);
    assert_ne!(before, keys());
    std::fs::write(shop.path("old KEYS"), before).expect("a file of ours");
    assert_eq!(shop.fails(&["rotate-key", "DB", "--data-key"]).0, 17);
    let variables = [("LIGHTNING_DB_ENCRYPTION", "variable:SHOP_KEY"), ("SHOP_KEY", &*key)];
    let output = shop.run_with(&["get", "DB", "apple"], b"", &variables);
    assert_eq!(text(&output.stdout).trim_end(), "green", "{}", text(&output.stderr));
    std::fs::copy(shop.path("old KEYS"), shop.path("DB").join("KEYS")).expect("a file of ours");
    let (code, _) = shop.fails(&["get", "DB", "apple", "--key-file", &new]);
    assert_ne!(code, 17, "the key is right, and what it opens is of no use");
    shop.ok(&["create", "PLAIN"]);
    assert_eq!(shop.fails(&["get", "PLAIN", "apple", "--key-file", &new]).0, 17);
    assert_eq!(shop.fails(&["rotate-key", "PLAIN", "--data-key"]).0, 17);
}

#[test]
fn a_key_with_a_lifetime_is_gone_when_that_is_over() {
    let shop = Shop::created();
    shop.ok(&["put", "DB", "long", "stays", "--ttl", "24h"]);
    shop.ok(&["put", "DB", "short", "goes", "--ttl", "1ms"]);
    while shop.run(&["get", "DB", "short"]).status.success() {}
    assert_eq!(shop.run(&["get", "DB", "short"]).status.code(), Some(3));
    assert_eq!(shop.ok(&["get", "DB", "long", "--raw"]), "stays");
    assert!(!shop.ok(&["scan", "DB"]).contains("short"));
    assert!(!shop.ok(&["export", "jsonl", "DB"]).contains("short"));
    for ttl in ["0s", "10", "soon"] {
        assert!(!shop.run(&["put", "DB", "k", "v", "--ttl", ttl]).status.success(), "{ttl}");
    }
}

#[test]
fn rows_are_found_by_an_index() {
    let shop = Shop::created();
    for (key, value) in [
        ("1", r#"{"city":"London","born":1815}"#),
        ("2", r#"{"city":"Paris","born":1906}"#),
        ("3", r#"{"city":"London","born":1912}"#),
    ] {
        shop.ok(&["put", "DB", key, value]);
    }
    shop.ok(&["index", "create", "DB", "by_city", "--part", "json:/city", "--part", "json:/born"]);
    shop.ok(&["index", "create", "DB", "by_born", "--part", "json:/born", "--unique"]);
    let list = shop.ok(&["index", "list", "DB"]);
    assert!(list.contains("default\tby_born\tjson:/born\tunique\tready"), "{list}");
    assert!(list.contains("default\tby_city\tjson:/city json:/born\t-\tready"), "{list}");
    let row = shop.ok(&["index", "get", "DB", "by_born", "1906"]);
    assert_eq!(row, "1906\t2\t{\"city\":\"Paris\",\"born\":1906}\n");
    let rows = shop.ok(&["index", "range", "DB", "by_city", "--prefix", "London", "--reverse"]);
    assert!(rows.starts_with("London 1912\t3\t") && rows.lines().count() == 2, "{rows}");
    let json = shop.ok(&[
        "--format", "json", "index", "range", "DB", "by_born", "--start", "1900", "--limit", "1",
    ]);
    assert!(json.contains(r#""index_key":[1906],"key":"2""#), "{json}");
    assert_eq!(shop.run(&["index", "get", "DB", "by_born", "7"]).status.code(), Some(3));
    let taken = shop.run(&["put", "DB", "4", r#"{"born":1815}"#]);
    assert_eq!(taken.status.code(), Some(4));
    let wrong = shop.run(&["index", "create", "DB", "x", "--part", "xml:/a"]);
    assert_eq!(wrong.status.code(), Some(5));
    shop.ok(&["index", "drop", "DB", "by_born"]);
    shop.ok(&["put", "DB", "4", r#"{"born":1815}"#]);
    assert_eq!(shop.run(&["index", "get", "DB", "by_born", "1815"]).status.code(), Some(3));
}
