//! What a build says of a database whose codecs it lacks: see `compress::LACKING`.

use std::sync::Arc;

use super::OpenAs;
use crate::compress::{Codec, LACKING};
use crate::config::{CompressionType, KeyspaceOptions, LightningDbConfig};
use crate::database::Database;
use crate::error::{Error, ErrorKind};
use crate::vfs::{SimulatedVfs, Vfs};

fn open(disk: &SimulatedVfs, compression_type: CompressionType) -> Result<Database, Error> {
    let vfs = Arc::new(disk.clone()) as Arc<dyn Vfs>;
    let config =
        LightningDbConfig { compression_type, background_threads: 0, ..Default::default() };
    Database::open_with_vfs(vfs, "/db", config, OpenAs::OpenOrCreate)
}

fn refused(result: Result<Database, Error>, kind: ErrorKind, words: &[&str]) {
    let e = result.expect_err("a codec is lacking");
    assert_eq!(e.kind(), kind, "{e}");
    for word in words {
        assert!(e.to_string().contains(word), "{word} in {e}");
    }
}

#[test]
fn a_database_that_uses_a_lacking_codec_is_refused_and_left_as_it_was() {
    let disk = SimulatedVfs::new(1);
    let db = open(&disk, CompressionType::Zstd).expect("opens");
    db.put(b"key", [7; 3000]).expect("written");
    db.close().expect("closed");
    LACKING.set(Some(Codec::Zstd));
    let before = disk.files();
    let words = ["\"default\"", "Zstandard", "`zstd`"];
    refused(open(&disk, CompressionType::None), ErrorKind::UnsupportedFormat, &words);
    assert_eq!(disk.files(), before);
    LACKING.set(Some(Codec::Snappy));
    let db = open(&disk, CompressionType::Lz4).expect("opens");
    assert_eq!(db.get(b"key").expect("reads"), Some(vec![7; 3000]));
    // Written anew by another codec, the pages need the first no more.
    db.put(b"key", [8; 3000]).expect("written");
    db.compact().expect("compacts");
    db.close().expect("closed");
    LACKING.set(Some(Codec::Zstd));
    let db = open(&disk, CompressionType::Lz4).expect("opens without the codec");
    assert_eq!(db.get(b"key").expect("reads"), Some(vec![8; 3000]));
    LACKING.set(None);
}

#[test]
fn a_keyspace_whose_own_codec_is_lacking_is_named() {
    let disk = SimulatedVfs::new(2);
    let db = open(&disk, CompressionType::Lz4).expect("opens");
    let options =
        KeyspaceOptions { compression_type: Some(CompressionType::Snappy), ..Default::default() };
    db.keyspace("orders", options).expect("made");
    db.close().expect("closed");
    LACKING.set(Some(Codec::Snappy));
    let words = ["\"orders\"", "Snappy", "`snappy`"];
    refused(open(&disk, CompressionType::Lz4), ErrorKind::UnsupportedFormat, &words);
    LACKING.set(None);
}

#[test]
fn an_option_that_asks_for_a_lacking_codec_is_refused_by_name() {
    let disk = SimulatedVfs::new(3);
    LACKING.set(Some(Codec::Snappy));
    let words = ["`compression_type`", "Snappy", "`snappy`"];
    refused(open(&disk, CompressionType::Snappy), ErrorKind::InvalidConfig, &words);
    assert!(disk.files().is_empty());
    LACKING.set(None);
}
