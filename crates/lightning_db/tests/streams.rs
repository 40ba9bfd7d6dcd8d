//! Large values as streams: written as they come, read in pieces, pinned while they are read; what goes
//! wrong half-way leaves nothing.

use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lightning_db::vfs::simulated::FaultError;
use lightning_db::vfs::{SimulatedVfs, Vfs};
use lightning_db::{
    ChangeKind, ChangesFrom, Database, ErrorKind, IndexPart, IndexSpec, KeySource, KeyspaceOptions,
    LightningDbConfig, OpenAs, ValueReader, VerifyOptions,
};

const CHUNK: usize = 256 * 1024;

fn config() -> LightningDbConfig {
    LightningDbConfig {
        write_buffer_size: 64 * 1024,
        wal_segment_size: 64 * 1024,
        cache_size: 1024 * 1024,
        background_threads: 0,
        ..LightningDbConfig::default()
    }
}

fn simulated(vfs: &SimulatedVfs, config: LightningDbConfig) -> lightning_db::Result<Database> {
    let vfs = Arc::new(vfs.clone()) as Arc<dyn Vfs>;
    Database::open_with_vfs(vfs, "/db", config, OpenAs::OpenOrCreate)
}

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; len];
    rng.fill(&mut bytes);
    bytes
}

/// Gives its bytes in pieces of any size, with interruptions.
struct Pieces<'a>(&'a [u8], fastrand::Rng);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.1.u8(0..5) == 0 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let n = self.1.usize(1..200_000).min(buffer.len()).min(self.0.len());
        buffer[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Ok(n)
    }
}

fn pieces(bytes: &[u8]) -> Pieces<'_> {
    Pieces(bytes, fastrand::Rng::with_seed(bytes.len() as u64))
}

fn whole(reader: &mut ValueReader) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.rewind().and_then(|()| reader.read_to_end(&mut bytes)).expect("reads");
    bytes
}

fn files(vfs: &SimulatedVfs) -> Vec<PathBuf> {
    let mut found = vfs.files();
    found.retain(|f| f.extension().is_some_and(|e| e == "seg"));
    found.sort();
    found
}

fn clean(db: &Database) {
    let report = db.verify(VerifyOptions::default()).expect("verifies");
    assert!(report.is_clean(), "{:?}", report.problems);
}

#[test]
fn values_of_every_length_come_back_whole_and_in_parts() {
    come_back(config());
}

#[test]
fn encrypted_values_come_back_whole_and_in_parts() {
    come_back(LightningDbConfig { encryption: Some(KeySource::key([7; 32])), ..config() });
}

fn come_back(config: LightningDbConfig) {
    let vfs = SimulatedVfs::new(1);
    let db = simulated(&vfs, config.clone()).expect("opens");
    let lengths =
        [0, 1, 16_383, 16_384, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5, 4 * CHUNK, 17 << 20];
    let value = |n: usize| noise(lengths[n], n as u64);
    for (n, &bytes) in lengths.iter().enumerate() {
        let len = (n % 2 == 0).then_some(bytes as u64);
        let put = db.put_reader([n as u8], pieces(&value(n)), len).expect("writes");
        assert_eq!(put, bytes as u64);
    }
    let check = |db: &Database| {
        let snapshot = db.snapshot().expect("a snapshot");
        let mut rng = fastrand::Rng::with_seed(1);
        for (n, &bytes) in lengths.iter().enumerate() {
            let expected = value(n);
            assert!(db.get([n as u8]).expect("reads").as_ref() == Some(&expected), "{n}");
            for reader in [db.get_reader([n as u8]), snapshot.get_reader([n as u8])] {
                let mut reader = reader.expect("reads").expect("is there");
                assert_eq!((reader.len(), reader.is_empty()), (bytes as u64, n == 0));
                for _ in 0..20 {
                    let at = rng.usize(0..bytes + 10);
                    let mut part = vec![0; rng.usize(0..2 * CHUNK)];
                    let got = reader.read_at(&mut part, at as u64).expect("reads");
                    let from = at.min(expected.len());
                    let to = (at + part.len()).min(expected.len()).max(from);
                    assert!(part[..got] == expected[from..to], "{n}: {at}");
                    let end = reader
                        .seek(SeekFrom::End(-rng.i64(0..=i64::try_from(bytes).expect("short"))));
                    let end = end.expect("seeks") as usize;
                    let mut rest = Vec::new();
                    (&mut reader).take(1000).read_to_end(&mut rest).expect("reads");
                    assert!(rest == expected[end..expected.len().min(end + 1000)]);
                }
                assert!(whole(&mut reader) == expected);
                assert!(reader.seek(SeekFrom::Current(i64::MIN)).is_err());
            }
        }
        assert!(db.get_reader(b"none").expect("reads").is_none());
        clean(db);
    };
    check(&db);
    db.compact().expect("compacts");
    check(&db);
    db.close().expect("closes");
    check(&simulated(&vfs, config).expect("opens"));
}

#[test]
fn a_part_is_read_without_the_rest() {
    let vfs = SimulatedVfs::new(1);
    let db = simulated(&vfs, config()).expect("opens");
    let value = noise(20 << 20, 1);
    db.put_reader(b"key", &value[..], None).expect("writes");
    db.flush().expect("flushes");
    let mut reader = db.get_reader(b"key").expect("reads").expect("is there");
    let before = vfs.operations();
    let mut part = [0; 100];
    assert_eq!(reader.read_at(&mut part, 13 << 20).expect("reads"), 100);
    assert!(part[..] == value[13 << 20..(13 << 20) + 100]);
    assert_eq!(vfs.operations() - before, 1, "one page is read");
}

#[test]
fn damage_shows_where_it_is_and_nowhere_else() {
    let vfs = SimulatedVfs::new(1);
    let db = simulated(&vfs, config()).expect("opens");
    let value = noise(10 * CHUNK, 1);
    db.put_reader(b"key", &value[..], None).expect("writes");
    db.flush().expect("flushes");
    let file = files(&vfs).into_iter().max_by_key(|f| vfs.read_file(f).expect("reads").len());
    vfs.corrupt(&file.expect("a file"), |bytes| bytes[64 + 5 * CHUNK + 1000] ^= 1)
        .expect("is there");
    vfs.drop_caches();
    let mut reader = db.get_reader(b"key").expect("reads").expect("is there");
    let mut part = vec![0; CHUNK];
    for n in 0..10 {
        let read = reader.read_at(&mut part, (n * CHUNK) as u64);
        if n == 5 {
            assert_eq!(read.expect_err("damaged").kind(), ErrorKind::Corrupt);
            continue;
        }
        assert!(read.expect("reads") == CHUNK && part == value[n * CHUNK..(n + 1) * CHUNK]);
    }
    assert_eq!(db.get(b"key").expect_err("damaged").kind(), ErrorKind::Corrupt);
    assert!(reader.rewind().and_then(|()| io::copy(&mut reader, &mut io::sink())).is_err());
}

#[test]
fn what_goes_wrong_half_way_leaves_nothing() {
    struct Failing(usize, bool);
    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0 == 0 {
                assert!(!self.1, "the source panics");
                return Err(io::Error::other("the source fails"));
            }
            let n = self.0.min(buffer.len());
            self.0 -= n;
            Ok(n)
        }
    }
    let vfs = SimulatedVfs::new(1);
    let small = LightningDbConfig {
        max_value_size: 40 << 20,
        max_database_size: Some(50 << 20),
        ..config()
    };
    let db = simulated(&vfs, small).expect("opens");
    db.put(b"key", b"old").expect("writes");
    let before = files(&vfs);
    let refused = |result: lightning_db::Result<u64>, kind| {
        let e = result.expect_err("refused");
        assert_eq!(e.kind(), kind, "{e}");
        assert_eq!(db.get(b"key").expect("reads"), Some(b"old".to_vec()));
        assert_eq!(files(&vfs), before, "no file is left");
    };
    for len in [0, 1000, CHUNK, 20 * CHUNK, 100 * CHUNK] {
        refused(db.put_reader(b"key", Failing(len, false), None), ErrorKind::Io);
        let put = || db.put_reader(b"key", Failing(len, true), None);
        assert!(catch_unwind(AssertUnwindSafe(put)).is_err());
        assert_eq!(files(&vfs), before, "no file is left");
        let more = Some(len as u64 + 1);
        refused(db.put_reader(b"key", &vec![1; len][..], more), ErrorKind::InvalidArgument);
    }
    let endless = || io::repeat(1);
    refused(db.put_reader(b"key", endless(), None), ErrorKind::ValueTooLarge);
    refused(db.put_reader(b"key", endless(), Some(41 << 20)), ErrorKind::ValueTooLarge);
    refused(db.put_reader(b"", endless(), Some(9)), ErrorKind::EmptyKey);
    // Of a longer source only `len` bytes are taken.
    assert_eq!(db.put_reader(b"film", endless(), Some(30 << 20)).expect("writes"), 30 << 20);
    let full = db.put_reader(b"other", endless(), Some(30 << 20)).expect_err("no room");
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    clean(&db);
}

/// A commit that is refused once the value is written, in a file of its own and in the shared one.
#[test]
fn a_commit_that_is_refused_gives_the_space_back() {
    for len in [3 * CHUNK, 20 << 20] {
        let vfs = SimulatedVfs::new(1);
        let db = simulated(&vfs, config()).expect("opens");
        let other = db.keyspace("other", KeyspaceOptions::default()).expect("a keyspace");
        db.put(b"key", b"value").expect("writes");
        let value = noise(len, 1);
        let dropping = DropsKeyspace(&value, &db);
        let e = other.put_reader(b"key", dropping, None).expect_err("it is dropped");
        assert_eq!(e.kind(), ErrorKind::NotFound, "{e}");
        db.compact().expect("compacts");
        // What is in the shared file goes with the next values that are merged.
        let large =
            files(&vfs).into_iter().filter(|f| vfs.read_file(f).expect("reads").len() > 5 << 20);
        assert_eq!(large.count(), 0, "{len} bytes");
        clean(&db);
    }
}

/// Drops the keyspace "other" when all was read.
struct DropsKeyspace<'a>(&'a [u8], &'a Database);

impl Read for DropsKeyspace<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            self.1.drop_keyspace("other").map_err(io::Error::other)?;
        }
        self.0.read(buffer)
    }
}

#[test]
fn a_keyspace_with_indexes_refuses_it() {
    let vfs = SimulatedVfs::new(1);
    let db = simulated(&vfs, config()).expect("opens");
    let spec = || IndexSpec::parts([IndexPart::ValueBytes(0, Some(1))]);
    let index = db.create_index("by_start", spec()).expect("builds");
    let before = files(&vfs);
    let e = db.put_reader(b"key", &noise(3 * CHUNK, 1)[..], None).expect_err("refused");
    assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{e}");
    assert_eq!(files(&vfs), before);
    assert_eq!(index.count(None, None).expect("counts"), 0);
    // One that comes while the value does.
    db.drop_index("by_start").expect("drops");
    let value = noise(20 << 20, 1);
    struct Indexing<'a>(&'a [u8], &'a Database, Option<IndexSpec>);
    impl Read for Indexing<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if let Some(spec) = self.2.take() {
                self.1.create_index("by_start", spec).map_err(io::Error::other)?;
            }
            self.0.read(buffer)
        }
    }
    let e = db.put_reader(b"key", Indexing(&value, &db, Some(spec())), None).expect_err("refused");
    assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{e}");
    assert_eq!(db.get(b"key").expect("reads"), None);
    let large =
        files(&vfs).into_iter().filter(|f| vfs.read_file(f).expect("reads").len() > 5 << 20);
    assert_eq!(large.count(), 0);
    clean(&db);
}

#[test]
fn closing_ends_it_and_leaves_nothing() {
    let vfs = SimulatedVfs::new(1);
    let db = simulated(&vfs, config()).expect("opens");
    let (begun, told) = std::sync::mpsc::channel();
    struct Endless(usize, std::sync::mpsc::Sender<()>);
    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0 += 1;
            if self.0 == 5 {
                self.1.send(()).expect("somebody listens");
            }
            Ok(buffer.len())
        }
    }
    std::thread::scope(|s| {
        let writing = db.clone();
        let thread = s.spawn(move || writing.put_reader(b"key", Endless(0, begun), None));
        told.recv().expect("it runs");
        db.close().expect("closes");
        assert_eq!(thread.join().expect("no panic").expect_err("closed").kind(), ErrorKind::Closed);
    });
    assert_eq!(files(&vfs).len(), 0);
}

#[test]
fn what_is_overwritten_before_a_flush_gives_its_space_back() {
    let vfs = SimulatedVfs::new(1);
    let db = simulated(&vfs, config()).expect("opens");
    for n in 0..3 {
        db.put_reader(b"key", &noise(17 << 20, n)[..], None).expect("writes");
    }
    db.compact().expect("compacts");
    let bytes: usize = files(&vfs).iter().map(|f| vfs.read_file(f).expect("reads").len()).sum();
    assert!(bytes < 18 << 20, "{bytes}");
    assert!(db.get(b"key").expect("reads") == Some(noise(17 << 20, 2)));
    clean(&db);
}

#[test]
fn a_value_being_read_stays_while_it_is_overwritten_and_cleaned_away() {
    for len in [3 * CHUNK, 20 << 20] {
        let vfs = SimulatedVfs::new(1);
        let db = simulated(&vfs, config()).expect("opens");
        let value = noise(len, 3);
        db.put_reader(b"key", &value[..], None).expect("writes");
        db.flush().expect("flushes");
        let mut reader = db.get_reader(b"key").expect("reads").expect("is there");
        let mut start = vec![0; CHUNK + 7];
        reader.read_exact(&mut start).expect("reads");
        db.put_reader(b"key", Cursor::new(b"new"), None).expect("writes");
        db.compact().expect("compacts");
        db.compact().expect("compacts");
        assert!(whole(&mut reader) == value);
        assert_eq!(db.get(b"key").expect("reads"), Some(b"new".to_vec()));
        drop(reader);
        db.compact().expect("compacts");
        let bytes: usize = files(&vfs).iter().map(|f| vfs.read_file(f).expect("reads").len()).sum();
        assert!(bytes < CHUNK, "{bytes} bytes are left: the space comes back");
        clean(&db);
    }
}

#[test]
fn merges_leave_large_values_where_they_are() {
    let vfs = SimulatedVfs::new(1);
    let db = simulated(&vfs, config()).expect("opens");
    db.put_reader(b"film", &noise(20 << 20, 1)[..], None).expect("writes");
    db.put_reader(b"song", &noise(3 << 20, 2)[..], None).expect("writes");
    db.flush().expect("flushes");
    for round in 0..10_u32 {
        for n in 0..200_u32 {
            db.put(n.to_be_bytes(), noise(300, u64::from(n * 31 + round))).expect("writes");
        }
        db.flush().expect("flushes");
    }
    db.compact().expect("compacts");
    let stats = db.stats();
    assert!(stats.merged_bytes > 0 && stats.merged_bytes < 3 << 20, "{}", stats.merged_bytes);
    let large = files(&vfs).iter().map(|f| vfs.read_file(f).expect("reads").len()).sum::<usize>();
    assert!(large < 24 << 20, "{large}");
    clean(&db);
}

/// Cut off at operations drawn and at each one's end: the old value or the new, and no orphans.
#[test]
fn cut_off_or_failed_it_is_there_whole_or_not() {
    let mut tried = 0;
    for len in [2 * CHUNK + 9, 17 << 20] {
        let value = noise(len, 9);
        let begin = |vfs: &SimulatedVfs| {
            let db = simulated(vfs, config()).expect("opens");
            db.put(b"key", b"old").expect("writes");
            db
        };
        let dry = SimulatedVfs::new(1);
        let db = begin(&dry);
        let first = dry.operations();
        db.put_reader(b"key", &value[..], None).expect("writes");
        let last = dry.operations();
        drop(db);
        let step = ((last - first) / 25).max(1) as usize;
        for at in (first..last).step_by(step).chain([last - 2, last - 1]) {
            let label = format!("{len} bytes, operation {at} of {first}..{last}");
            let vfs = SimulatedVfs::new(1);
            let db = begin(&vfs);
            vfs.crash_after(at);
            let acknowledged = db.put_reader(b"key", &value[..], None).is_ok();
            drop(db);
            for disk in [vfs.kill(), vfs.power_cut(at)] {
                let db = simulated(&disk, config()).expect("opens");
                let found = db.get(b"key").expect("reads").expect("is there");
                let new = found == value;
                assert!(new || (found == b"old" && !acknowledged), "{label}");
                clean(&db);
                db.close().expect("closes");
                let before = files(&disk);
                drop(simulated(&disk, config()).expect("opens"));
                assert_eq!(files(&disk), before, "{label}: files that nobody names");
                tried += 1;
            }
            for error in [FaultError::Eio, FaultError::Enospc] {
                let vfs = SimulatedVfs::new(1);
                let db = begin(&vfs);
                vfs.fail_operation(at, error, false);
                let result = db.put_reader(b"key", &value[..], None);
                let found = db.get(b"key").expect("reads").expect("is there");
                tried += 1;
                match result {
                    Ok(_) => assert!(found == value, "{label}"),
                    Err(e) => assert!(found == b"old", "{label}: {e}"),
                }
            }
        }
    }
    println!("tried: {tried} streamed values cut off or failed");
}

/// A large value lives as long as another.
#[test]
fn a_default_lifetime_holds_for_a_stream() {
    let vfs = SimulatedVfs::new(1);
    let db = simulated(&vfs, config()).expect("opens");
    db.default_keyspace().set_default_ttl(Some(Duration::from_secs(60))).expect("sets");
    for (n, len) in [100, 3 * CHUNK, 17 << 20].into_iter().enumerate() {
        db.put_reader([n as u8], &noise(len, 1)[..], None).expect("writes");
    }
    let snapshot = db.snapshot().expect("a snapshot");
    for flushed in [false, true] {
        for n in 0..3 {
            assert!(db.get_reader([n]).expect("reads").is_some(), "{n} {flushed}");
            let left = db.get_with_ttl([n]).expect("reads").expect("is there").1;
            assert!(left.expect("a lifetime") <= Duration::from_secs(60));
        }
        db.flush().expect("flushes");
    }
    vfs.advance_clock(Duration::from_secs(61));
    for n in 0..3 {
        assert!(db.get_reader([n]).expect("reads").is_none(), "{n}");
        let then = snapshot.get_reader([n]).expect("reads");
        assert!(whole(&mut then.expect("it lived then")).len() >= 100);
    }
    clean(&db);
}

/// Where the commit made work due, it waited for the writer's own hold on the segments.
#[test]
fn a_commit_that_fills_the_memtable_does_the_work_that_is_due() {
    let vfs = SimulatedVfs::new(1);
    let db = simulated(&vfs, config()).expect("opens");
    let value = noise(CHUNK + 1, 1);
    let key = |n: u8| [&[n], &[b'k'; 1000][..]].concat();
    for n in 0..100 {
        db.put_reader(key(n), &value[..], None).expect("writes");
    }
    assert!(db.stats().flushes > 0, "memtables were filled by these commits alone");
    for n in 0..100 {
        assert!(whole(&mut db.get_reader(key(n)).expect("reads").expect("is there")) == value);
    }
    clean(&db);
}

/// A keyspace that is dropped, and a database that is closed, are still read by who holds a value.
#[test]
fn a_reader_outlives_its_keyspace_and_its_database() {
    for len in [3 * CHUNK, 20 << 20] {
        let vfs = SimulatedVfs::new(1);
        let db = simulated(&vfs, config()).expect("opens");
        let value = noise(len, 4);
        let other = db.keyspace("other", KeyspaceOptions::default()).expect("a keyspace");
        other.put_reader(b"key", &value[..], None).expect("writes");
        let mut young = other.get_reader(b"key").expect("reads").expect("is there");
        db.flush().expect("flushes");
        let mut reader = other.get_reader(b"key").expect("reads").expect("is there");
        db.drop_keyspace("other").expect("drops");
        let gone = other.get_reader(b"key").expect_err("it is dropped");
        assert_eq!(gone.kind(), ErrorKind::NotFound);
        drop(other);
        db.put_reader(b"key", &value[..], None).expect("writes");
        db.compact().expect("compacts");
        assert!(whole(&mut young) == value && whole(&mut reader) == value);
        drop((young, reader));
        db.compact().expect("compacts");
        clean(&db);
        let bytes: usize = files(&vfs).iter().map(|f| vfs.read_file(f).expect("reads").len()).sum();
        assert!(bytes < len + 2 * CHUNK, "{bytes} bytes are left: the space comes back");

        let mut reader = db.get_reader(b"key").expect("reads").expect("is there");
        let asked = db.clone();
        db.close().expect("closes");
        assert_eq!(asked.get_reader(b"key").expect_err("closed").kind(), ErrorKind::Closed);
        assert!(whole(&mut reader) == value);
        // Somebody else has it open now, and cleans the value away.
        let again = simulated(&vfs, config()).expect("opens");
        again.put(b"key", b"new").expect("writes");
        again.compact().expect("compacts");
        assert!(whole(&mut reader) == value);
        drop((reader, asked));
        assert_eq!(again.get(b"key").expect("reads"), Some(b"new".to_vec()));
        clean(&again);
    }
}

/// What is read back of the log, and of the past, has streamed values whole.
#[test]
fn changes_and_the_past_tell_streamed_values() {
    let vfs = SimulatedVfs::new(1);
    let day = Duration::from_secs(86_400);
    let kept = LightningDbConfig { history_retention: Some(day), ..config() };
    let db = simulated(&vfs, kept).expect("opens");
    db.commit_cursor("all", 0).expect("a cursor");
    let values = [noise(3 * CHUNK, 1), noise(17 << 20, 2)];
    for value in &values {
        db.put_reader(b"key", &value[..], None).expect("writes");
        db.flush().expect("flushes");
    }
    db.delete(b"key").expect("deletes");
    db.compact().expect("compacts");
    for (n, value) in values.iter().enumerate() {
        let then = db.snapshot_at(n as u64 + 1).expect("it is kept");
        let mut reader = then.get_reader(b"key").expect("reads").expect("was there");
        assert!(whole(&mut reader) == *value);
    }
    let from = ChangesFrom::Cursor("all".to_owned());
    let mut told = db.changes(from).expect("a stream of changes");
    for value in values {
        let change = told.try_next().expect("reads").expect("a commit").changes.remove(0);
        assert!(change.kind == ChangeKind::Put(value));
    }
    clean(&db);
}
