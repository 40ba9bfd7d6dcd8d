//! An encrypted store: made under a passphrase, nothing of it readable without, then under a key file, then
//! written anew under other data keys. `cargo run --release -p lightning_cli --example encrypted_store`.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the engine keeps to its file system seam; this is a program around it"
)]

use std::error::Error;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use lightning_db::{
    Database, ErrorKind, KeySource, LightningDbConfig, VerifyOptions, WriteBatch, WriteOptions,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const PATIENTS: u32 = 100_000;

fn under(key: &KeySource) -> LightningDbConfig {
    LightningDbConfig { encryption: Some(key.clone()), ..LightningDbConfig::default() }
}

/// How many of a database's files, all below `dir`, hold `text`.
fn files_with(dir: &Path, text: &[u8]) -> Result<(usize, usize)> {
    let (mut files, mut with) = (0, 0);
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            let below = files_with(&path, text)?;
            files += below.0;
            with += below.1;
        } else {
            files += 1;
            with += usize::from(std::fs::read(&path)?.windows(text.len()).any(|w| w == text));
        }
    }
    Ok((files, with))
}

/// A new key in a file that its owner alone may read; anything else would be refused.
fn make_key_file(path: &Path) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // From the system; take what yours has for keys.
    let mut key = [0; 32];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut f| std::io::Read::read_exact(&mut f, &mut key))?;
    options.open(path)?.write_all(&key)?;
    Ok(())
}

fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("db");
    let passphrase = KeySource::passphrase("correct horse battery staple");

    let start = Instant::now();
    let db = Database::create(&path, under(&passphrase))?;
    println!("made under a passphrase in {:?}, most of it Argon2id", start.elapsed());
    for first in (0..PATIENTS).step_by(1000) {
        let mut batch = WriteBatch::new();
        for id in first..first + 1000 {
            batch.put(format!("patient/{id:06}"), format!("diagnosis {id} of Ada Lovelace"));
        }
        db.write(batch, WriteOptions::default())?;
    }
    db.compact()?;
    db.close()?;
    let (files, with) = files_with(&path, b"Lovelace")?;
    println!("{with} of {files} files hold the name");
    assert_eq!(with, 0);

    for (what, config) in [
        ("no key", LightningDbConfig::default()),
        ("another passphrase", under(&KeySource::passphrase("correct house battery staple"))),
    ] {
        let refused = Database::open(&path, config).err().ok_or("it must not open")?;
        println!("with {what}: {refused}");
        assert!([ErrorKind::KeyRequired, ErrorKind::WrongKey].contains(&refused.kind()));
    }

    // From now on a file holds the key.
    let file = dir.path().join("database.key");
    make_key_file(&file)?;
    let key = KeySource::file(&file);
    let db = Database::open(&path, under(&passphrase))?;
    let start = Instant::now();
    db.rotate_key(&key)?;
    println!("another key opens it: {:?}, nothing written anew", start.elapsed());
    db.close()?;
    assert!(Database::open(&path, under(&passphrase)).is_err());

    // Somebody may have the passphrase and a copy of KEYS: everything is written anew.
    let db = Database::open(&path, under(&key))?;
    let start = Instant::now();
    db.rotate_data_key()?;
    while !db.finish_data_key_rotation()? {}
    println!("under other data keys: {:?}", start.elapsed());
    let value = db.get("patient/004711")?.unwrap_or_default();
    println!("{}", String::from_utf8_lossy(&value));
    assert!(db.verify(VerifyOptions::default())?.is_clean());
    db.close()?;
    Ok(())
}
