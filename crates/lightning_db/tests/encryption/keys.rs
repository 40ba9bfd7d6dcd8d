//! Where keys come from, and that they are never shown.

#[cfg(unix)]
use std::os::unix::fs::PermissionsExt;

use lightning_db::vfs::SimulatedVfs;
use lightning_db::{
    Database, Error, ErrorKind, KeySource, LightningDbConfig, OpenAs, PassphraseCost,
};

use super::{config, kind, open, passphrase};

/// Makes a database with one source, opens it with another.
fn fits(made: KeySource, opened: KeySource) -> lightning_db::Result<()> {
    let vfs = SimulatedVfs::new(5);
    let db = open(&vfs, Some(made), OpenAs::Create)?;
    db.put("k", "v")?;
    db.close()?;
    let db = open(&vfs, Some(opened), OpenAs::Open)?;
    assert_eq!(db.get("k")?, Some(b"v".to_vec()));
    Ok(())
}

#[test]
fn a_passphrase_opens_what_it_made() {
    fits(passphrase("correct horse"), passphrase("correct horse")).expect("opens");
    // The cost that counts is the one it was made at.
    fits(passphrase("a"), KeySource::passphrase("a")).expect("opens");
    let wrong = fits(passphrase("correct horse"), passphrase("correct house"));
    assert_eq!(kind(wrong), ErrorKind::WrongKey);
    let other_kind = fits(passphrase("correct horse"), KeySource::key([1; 32]));
    assert_eq!(kind(other_kind), ErrorKind::WrongKey);
    let reverse = fits(KeySource::key([1; 32]), passphrase("correct horse"));
    assert_eq!(kind(reverse), ErrorKind::WrongKey);
}

#[test]
fn a_cost_out_of_range_is_an_invalid_option() {
    for cost in [(7, 1), (8, 0), (8, 65), (1 << 21, 1)] {
        let cost = PassphraseCost { memory_kib: cost.0, passes: cost.1 };
        let source = KeySource::passphrase_with("p", cost);
        let made = open(&SimulatedVfs::new(1), Some(source), OpenAs::Create);
        assert_eq!(kind(made), ErrorKind::InvalidConfig, "{cost:?}");
    }
}

#[test]
fn a_callback_is_asked_at_opening_and_may_refuse() {
    let asks = KeySource::callback(|| Ok([9; 32]));
    fits(asks, KeySource::key([9; 32])).expect("the same key");
    let refuses = KeySource::callback(|| Err(Error::new(ErrorKind::TimedOut, "nobody is there")));
    assert_eq!(kind(fits(refuses, KeySource::key([9; 32]))), ErrorKind::TimedOut);
}

#[cfg(unix)]
#[test]
fn a_key_file_holds_bytes_or_digits_and_is_private() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("key");
    let with = |source: KeySource| LightningDbConfig { ..config(Some(source)) };
    let write = |bytes: &[u8], mode: u32| {
        std::fs::write(&file, bytes).expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("set");
    };
    write(&[0xAB; 32], 0o600);
    let path = dir.path().join("db");
    let db = Database::create(&path, with(KeySource::file(&file))).expect("bytes");
    db.put("k", "v").expect("put");
    db.close().expect("closed");
    write(format!("  {}\n", "aB".repeat(32)).as_bytes(), 0o400);
    Database::open(&path, with(KeySource::file(&file))).expect("digits").close().expect("closed");
    for mode in [0o640, 0o604, 0o660, 0o644] {
        write(&[0xAB; 32], mode);
        let refused = Database::open(&path, with(KeySource::file(&file))).expect_err("refused");
        assert_eq!(refused.kind(), ErrorKind::InvalidConfig, "{mode:o}");
        assert_eq!(refused.file(), Some(&*file));
    }
    for bytes in [&[0xAB; 31][..], b"", b"zz", &[b'a'; 2000]] {
        write(bytes, 0o600);
        let refused = Database::open(&path, with(KeySource::file(&file))).expect_err("refused");
        assert_eq!(refused.kind(), ErrorKind::InvalidConfig);
    }
    let missing = KeySource::file(dir.path().join("none"));
    assert_eq!(kind(Database::open(&path, with(missing))), ErrorKind::NotFound);
}

/// Of the process's own variables, one whose value is known is enough.
#[test]
fn a_variable_is_read_at_opening() {
    // Cargo sets it for tests; it is no key.
    let refused = fits(KeySource::variable("CARGO_PKG_NAME"), KeySource::key([1; 32]));
    assert_eq!(kind(refused), ErrorKind::InvalidConfig);
    let missing = KeySource::variable("LIGHTNING_TEST_NO_SUCH_VARIABLE");
    assert_eq!(kind(fits(missing, KeySource::key([1; 32]))), ErrorKind::InvalidConfig);
    let named = KeySource::passphrase_variable("CARGO_PKG_NAME");
    fits(named, KeySource::passphrase("lightning_db")).expect("its value is the passphrase");
}

#[test]
fn nothing_shows_a_key() {
    let secret = "6b6579206f6620746865206461746162617365206e6f626f6479206d7573742e2e";
    let sources = [
        KeySource::key(*b"key of the database nobody sees."),
        KeySource::passphrase(secret),
        KeySource::callback(|| Ok([0x6b; 32])),
    ];
    for source in sources {
        let config = config(Some(source.clone()));
        let shown = format!("{config:?} {source:?}");
        for bad in [secret, "nobody sees", "107, 101", "6b, 65", "6b65"] {
            assert!(!shown.contains(bad), "{shown}");
        }
    }
    // Put where only its place may stand, a key is refused without being repeated.
    let text = format!("[encryption]\nencryption = \"{secret}\"\n");
    let refused = LightningDbConfig::from_toml_str(&text).expect_err("refused");
    assert_eq!(refused.kind(), ErrorKind::InvalidConfig);
    let variables = [("LIGHTNING_DB_ENCRYPTION".to_owned(), format!("key:{secret}"))];
    let by_variable = LightningDbConfig::load(None, variables.into_iter()).expect_err("refused");
    for e in [refused, by_variable] {
        assert!(!format!("{e} {e:?}").contains(&secret[..8]), "{e}");
    }
}

#[test]
fn sources_compare_by_what_they_name() {
    assert_eq!(KeySource::key([1; 32]), KeySource::key([1; 32]));
    assert_ne!(KeySource::key([1; 32]), KeySource::key([2; 32]));
    assert_ne!(KeySource::variable("A"), KeySource::passphrase_variable("A"));
    let ask = KeySource::callback(|| Ok([0; 32]));
    assert_eq!(ask, ask.clone());
}
