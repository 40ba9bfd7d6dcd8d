#!/usr/bin/env python3
"""What a user of an engine pays before the first key: for most engines a program that opens a database, puts
one key and gets it is built from nothing (sources fetched before the clock runs), run once, and stripped.

    python3 hello.py [ENGINE ...]

RocksDB is left out unless it is named: it takes half an hour of a small machine, and a C++ compiler.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent

# Name: (dependency, the body of `main`, given `dir`, a directory that is there).
PROGRAMS = {
    "lightning": (
        f'lightning_db = {{ path = "{HERE.parent / "crates" / "lightning_db"}" }}',
        """
    let db = lightning_db::Database::open_or_create(dir.join("db"), Default::default())?;
    db.put(b"key", b"value")?;
    assert_eq!(db.get(b"key")?.as_deref(), Some(&b"value"[..]));
    db.close()?;
""",
    ),
    "rocksdb": (
        'rocksdb = { version = "0.25.0", default-features = false, features = ["bindgen-runtime", "lz4"] }',
        """
    let db = rocksdb::DB::open_default(dir)?;
    db.put(b"key", b"value")?;
    assert_eq!(db.get(b"key")?.as_deref(), Some(&b"value"[..]));
""",
    ),
    "lmdb": (
        'heed = { version = "0.23.1", default-features = false }',
        """
    // SAFETY: nobody else opens the files.
    let env = unsafe { heed::EnvOpenOptions::new().open(&dir)? };
    let made = env.create_databases_and_commit(env.write_txn()?, |open, tx| {
        let db = open.create_database::<heed::types::Bytes, heed::types::Bytes>(tx, None)?;
        Ok::<_, heed::Error>(heed::CommitOrAbort::<_, ()>::Commit(db))
    })?;
    let db = made.unwrap_commit();
    let mut tx = env.write_txn()?;
    db.put(&mut tx, b"key", b"value")?;
    tx.commit()?;
    let tx = env.read_txn()?;
    assert_eq!(db.get(&tx, b"key")?, Some(&b"value"[..]));
""",
    ),
    "redb": (
        'redb = "4.4.0"',
        """
    use redb::ReadableDatabase;
    const TABLE: redb::TableDefinition<&[u8], &[u8]> = redb::TableDefinition::new("t");
    let db = redb::Database::create(dir.join("db"))?;
    let tx = db.begin_write()?;
    tx.open_table(TABLE)?.insert(&b"key"[..], &b"value"[..])?;
    tx.commit()?;
    let table = db.begin_read()?.open_table(TABLE)?;
    assert_eq!(table.get(&b"key"[..])?.map(|v| v.value().to_vec()).as_deref(), Some(&b"value"[..]));
""",
    ),
    "fjall": (
        'fjall = "3.1.13"',
        """
    let db = fjall::Database::builder(&dir).open()?;
    let items = db.keyspace("items", fjall::KeyspaceCreateOptions::default)?;
    items.insert("key", "value")?;
    assert_eq!(items.get("key")?.as_deref(), Some(&b"value"[..]));
""",
    ),
    "sled": (
        'sled = "0.34.7"',
        """
    let db = sled::open(&dir)?;
    db.insert("key", "value")?;
    assert_eq!(db.get("key")?.as_deref(), Some(&b"value"[..]));
""",
    ),
    "canopydb": (
        'canopydb = "0.2.5"',
        """
    let db = canopydb::Database::new(&dir)?;
    let tx = db.begin_write()?;
    tx.get_or_create_tree(b"t")?.insert(b"key", b"value")?;
    tx.commit()?;
    let tx = db.begin_read()?;
    let tree = tx.get_tree(b"t")?.ok_or("no tree")?;
    assert_eq!(tree.get(b"key")?.as_deref(), Some(&b"value"[..]));
""",
    ),
    "surrealkv": (
        'surrealkv = "1.2.0"\ntokio = { version = "1", features = ["rt-multi-thread", "time"] }',
        """
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let tree = surrealkv::TreeBuilder::new().with_path(dir).build()?;
        let mut tx = tree.begin()?;
        tx.set(b"key", b"value")?;
        tx.commit().await?;
        let tx = tree.begin_with_mode(surrealkv::Mode::ReadOnly)?;
        assert_eq!(tx.get(b"key")?.as_deref(), Some(&b"value"[..]));
        drop(tx);
        tree.close().await?;
        Ok::<_, surrealkv::Error>(())
    })?;
""",
    ),
    "bf-tree": (
        'bf-tree = "0.5.7"',
        """
    use bf_tree::{BfTree, Config, LeafInsertResult, LeafReadResult};
    let tree = BfTree::with_config(Config::new(dir.join("index"), 1 << 26), None).map_err(|e| format!("{e:?}"))?;
    assert_eq!(tree.insert(b"key", b"value"), LeafInsertResult::Success);
    let mut buffer = [0; 128];
    assert_eq!(tree.read(b"key", &mut buffer), LeafReadResult::Found(5));
    assert_eq!(&buffer[..5], b"value");
""",
    ),
}


def build(name, directory):
    dependency, body = PROGRAMS[name]
    project = directory / name
    (project / "src").mkdir(parents=True)
    (project / "Cargo.toml").write_text(
        f'[package]\nname = "hello"\nversion = "0.0.0"\nedition = "2024"\n\n'
        f"[workspace]\n\n[dependencies]\n{dependency}\n"
    )
    (project / "src" / "main.rs").write_text(
        "fn main() -> Result<(), Box<dyn std::error::Error>> {\n"
        "    let dir = std::path::PathBuf::from(std::env::args_os().nth(1).ok_or(\"where?\")?);"
        f"{body}    Ok(())\n}}\n"
    )
    environment = dict(os.environ, CARGO_TARGET_DIR=str(project / "target"))
    cargo = lambda *args: subprocess.run(
        ["cargo", *args], cwd=project, env=environment, check=True, capture_output=True, text=True
    )
    cargo("fetch")
    started = time.monotonic()
    cargo("build", "--release", "--offline")
    seconds = time.monotonic() - started
    tree = cargo("tree", "--offline", "--edges", "normal,build", "--prefix", "none", "--no-dedupe")
    crates = len({line.split(" (")[0] for line in tree.stdout.splitlines() if line.strip()}) - 1
    program = project / "target" / "release" / "hello"
    database = project / "database"
    database.mkdir()
    subprocess.run([program, database], check=True)
    subprocess.run(["strip", program], check=True)
    size = program.stat().st_size
    shutil.rmtree(project)
    return seconds, crates, size


def main():
    names = sys.argv[1:] or [name for name in PROGRAMS if name != "rocksdb"]
    unknown = [name for name in names if name not in PROGRAMS]
    if unknown:
        sys.exit(f"there is no engine {unknown[0]!r}; there are: {', '.join(PROGRAMS)}")
    print("| engine | cold build, s | crates | stripped program, MB |")
    print("|---|--:|--:|--:|")
    with tempfile.TemporaryDirectory(prefix="lightning-hello-") as directory:
        for name in names:
            try:
                seconds, crates, size = build(name, pathlib.Path(directory))
            except subprocess.CalledProcessError as failed:
                sys.exit(f"{name}: {failed}\n{failed.stderr or ''}")
            print(f"| {name} | {seconds:.1f} | {crates} | {size / 1e6:.2f} |", flush=True)


if __name__ == "__main__":
    main()
