//! Large values as streams: written while they come, and read piece by piece.
//!
//! 1. A large value is read a page of 256 KiB at a time, and only the pages that are asked for; each is
//!    checked, and once all were read, that they belong together.
//! 2. A reader holds what it reads: a page in memory, or the segment that the value lies in. So neither a
//!    later write nor a merge changes what it gives.
//!
//! How a value is written is told in `maintenance/put_stream.rs`.

use std::io::{self, Read, Seek, SeekFrom};

use crate::database::Database;
use crate::error::Result;
use crate::keyspace::Keyspace;
use crate::limits::BLOB_CHUNK_BYTES;
use crate::maintenance::core::Keep;
use crate::maintenance::put_stream::put_reader;
use crate::segment::BlobPages;
use crate::snapshot::Snapshot;
use crate::store::keyspace::KeyspaceStore;
use crate::store::lookup::{self, Stored};
use crate::store::value::Value;

/// A value to be read piece by piece: `Read` and `Seek`, or [`read_at`](Self::read_at). It stays as it
/// is while this lives, whatever happens to the key, its keyspace, or the database, which it keeps open
/// unless that is [closed](Database::close); its space is not given back before. One page of 256 KiB is in memory.
///
/// What fails as `Read` is an `io::Error` around the [`Error`](crate::Error): `Corrupt` for the piece
/// that is damaged, while others can be read; and with the last piece that was not read yet, where pages
/// that are sound each do not belong together.
#[derive(Debug)]
pub struct ValueReader {
    source: Source,
    position: u64,
    _keep: Keep,
}

#[derive(Debug)]
enum Source {
    Value(Value),
    Pages {
        pages: BlobPages,
        /// The page read last.
        current: Option<(u64, Vec<u8>)>,
    },
}

impl ValueReader {
    fn new(stored: Stored, keep: Keep) -> Self {
        let source = match stored {
            Stored::Value(value) => Source::Value(value),
            Stored::Pages(pages) => Source::Pages { pages, current: None },
        };
        Self { source, position: 0, _keep: keep }
    }

    /// The value's length in bytes.
    pub fn len(&self) -> u64 {
        match &self.source {
            Source::Value(value) => value.len() as u64,
            Source::Pages { pages, .. } => u64::from(pages.value_bytes()),
        }
    }

    /// Whether the value has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes from `offset` on, as many as `buffer` takes or the value has; gives how many. Leaves
    /// the position of `Read` alone. Reads the pages in which they lie, and no others.
    pub fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            let piece = self.piece(offset.saturating_add(done as u64))?;
            if piece.is_empty() {
                break;
            }
            let n = piece.len().min(buffer.len() - done);
            buffer[done..done + n].copy_from_slice(&piece[..n]);
            done += n;
        }
        Ok(done)
    }

    /// What there is from `offset` on in one piece; nothing past the end.
    fn piece(&mut self, offset: u64) -> Result<&[u8]> {
        if offset >= self.len() {
            return Ok(&[]);
        }
        match &mut self.source {
            Source::Value(value) => Ok(&value[offset as usize..]),
            Source::Pages { pages, current } => {
                let n = offset / BLOB_CHUNK_BYTES as u64;
                let page = match current.take() {
                    Some((at, page)) if at == n => page,
                    _ => pages.page(n)?,
                };
                let (_, page) = current.insert((n, page));
                Ok(&page[(offset % BLOB_CHUNK_BYTES as u64) as usize..])
            }
        }
    }
}

impl Read for ValueReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let piece = self.piece(self.position).map_err(io::Error::other)?;
        let n = piece.len().min(buffer.len());
        buffer[..n].copy_from_slice(&piece[..n]);
        self.position += n as u64;
        Ok(n)
    }
}

impl Seek for ValueReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(by) => self.len().checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        let before = || io::Error::new(io::ErrorKind::InvalidInput, "a place before the value");
        self.position = place.ok_or_else(before)?;
        Ok(self.position)
    }
}

/// Large values as streams.
impl Keyspace {
    /// Sets `key` to what `reader` gives, to its end, or with `len` exactly so many bytes of it. Gives the
    /// value's length. For large values: memory is bounded to some pages of 256 KiB, whatever the
    /// length, which may be up to `max_value_size`.
    ///
    /// A [default lifetime](Self::set_default_ttl) counts from when all of it has come.
    ///
    /// The value is written while it comes; then it becomes visible as one commit, as durable as one of
    /// [`put`](Self::put). From 16 MiB on it has a file of its own, fsynced before the commit; a shorter
    /// one of more than one page is written twice, to a file that goes again and to the one that it
    /// shares with others. [`Database::close`] waits for the read at hand, after which this fails with
    /// `Closed`: a reader must not close the database itself.
    ///
    /// # Errors
    /// `Io` where the reader fails; `InvalidArgument` where it ends before `len`, and where the keyspace
    /// has secondary indexes, whose entries are found in values in memory; `ValueTooLarge`; and what
    /// [`put`](Self::put) gives. Then, and where the reader panics, the key is as it was and no space is
    /// taken.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::io::{Read, Seek, SeekFrom};
    /// # let db = lightning_db::Database::open_in_memory(Default::default())?;
    /// let film = std::io::repeat(7).take(3_000_000);
    /// assert_eq!(db.put_reader(b"film", film, None)?, 3_000_000);
    ///
    /// let mut reader = db.get_reader(b"film")?.expect("just put");
    /// let mut end = [0; 10];
    /// reader.seek(SeekFrom::End(-10))?;
    /// reader.read_exact(&mut end)?;
    /// assert_eq!(end, [7; 10]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn put_reader(
        &self,
        key: impl AsRef<[u8]>,
        mut reader: impl Read,
        len: Option<u64>,
    ) -> Result<u64> {
        self.check()?;
        put_reader(&self.core, &self.store, key.as_ref(), &mut reader, len)
    }

    /// The newest committed value of `key`, to be read piece by piece: nothing of a large value is read
    /// yet.
    pub fn get_reader(&self, key: impl AsRef<[u8]>) -> Result<Option<ValueReader>> {
        self.check()?;
        let env = &self.core.env;
        let (version, at) = lookup::moment(env, &self.store);
        let now = env.lifetimes.moment();
        let found = lookup::find_at(env, &self.store, &version, key.as_ref(), at, now)?;
        Ok(found.map(|stored| ValueReader::new(stored, self.keep.clone())))
    }
}

/// Large values of the default keyspace as streams.
impl Database {
    /// See [`Keyspace::put_reader`].
    pub fn put_reader(
        &self,
        key: impl AsRef<[u8]>,
        reader: impl Read,
        len: Option<u64>,
    ) -> Result<u64> {
        self.default_keyspace().put_reader(key, reader, len)
    }

    /// See [`Keyspace::get_reader`].
    pub fn get_reader(&self, key: impl AsRef<[u8]>) -> Result<Option<ValueReader>> {
        self.default_keyspace().get_reader(key)
    }
}

/// Large values of one moment as streams.
impl Snapshot {
    /// The value `key` had, to be read piece by piece (see [`Keyspace::get_reader`]).
    pub fn get_reader(&self, key: impl AsRef<[u8]>) -> Result<Option<ValueReader>> {
        self.reader_of(&self.core.default, key.as_ref())
    }

    /// As [`get_reader`](Self::get_reader), in a keyspace.
    pub fn get_reader_in(
        &self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<ValueReader>> {
        self.reader_of(keyspace.store_of(&self.core)?, key.as_ref())
    }

    fn reader_of(&self, store: &KeyspaceStore, key: &[u8]) -> Result<Option<ValueReader>> {
        self.core.check_open()?;
        let (env, version) = (&self.core.env, store.version());
        let (at, now) = (self.view.seq(), self.view.moment());
        let found = lookup::find_at(env, store, &version, key, at, now)?;
        Ok(found.map(|stored| ValueReader::new(stored, self.keep().clone())))
    }
}
