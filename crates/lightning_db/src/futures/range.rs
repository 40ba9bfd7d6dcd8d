//! Entries of a range, a piece at a time: from memory where they are there, or else read by a thread.
//!
//! The place is what was given out last, so a future that is dropped loses nothing: the next one reads
//! the same piece.

use std::collections::VecDeque;

use super::keyspace::AsyncKeyspace;
use super::quiet::Quiet;
use crate::error::Result;
use crate::keyspace::Keyspace;
use crate::snapshot::Snapshot;

/// A piece ends with the entry that brings it to so many bytes, or to so many entries.
const PIECE_BYTES: usize = 64 * 1024;
const PIECE_ENTRIES: usize = 256;

type Entry = (Vec<u8>, Vec<u8>);

/// Entries in order of key, of one moment; see [`AsyncDatabase::range`](crate::AsyncDatabase::range).
/// Holds up to 64 KiB of entries (and the one beyond); like a snapshot it keeps the versions that it
/// alone can see.
pub struct AsyncRange {
    snapshot: Quiet<Snapshot>,
    // Behind the snapshot: it holds what must be the last of the database.
    keyspace: AsyncKeyspace,
    start: Vec<u8>,
    end: Option<Vec<u8>>,
    reverse: bool,
    piece: VecDeque<Entry>,
    /// Nothing is left but what the piece holds.
    ended: bool,
}

/// What one go gives, and whether more may follow.
struct Piece {
    entries: VecDeque<Entry>,
    ended: bool,
}

impl AsyncRange {
    pub(super) fn new(
        keyspace: AsyncKeyspace,
        snapshot: Quiet<Snapshot>,
        start: Option<&[u8]>,
        end: Option<&[u8]>,
        reverse: bool,
    ) -> Result<Self> {
        // Here already: a keyspace of another database, or one that was dropped.
        keyspace.keyspace.store_of(&snapshot.core)?;
        Ok(Self {
            keyspace,
            snapshot,
            start: start.unwrap_or_default().to_vec(),
            end: end.map(<[u8]>::to_vec),
            reverse,
            piece: VecDeque::new(),
            ended: false,
        })
    }

    /// The next entry; `None` at the end, and after an error. Dropped while it waits, it has taken no
    /// entry.
    pub async fn next(&mut self) -> Option<Result<Entry>> {
        while self.piece.is_empty() && !self.ended {
            if let Err(e) = self.fill().await {
                self.ended = true;
                return Some(Err(e));
            }
        }
        self.piece.pop_front().map(Ok)
    }

    async fn fill(&mut self) -> Result<()> {
        let (snapshot, keyspace) = (self.snapshot.clone(), self.keyspace.keyspace.clone());
        let (start, end) = (self.start.clone(), self.end.clone());
        let reverse = self.reverse;
        let read = move || piece(&snapshot, &keyspace, &start, end.as_deref(), reverse);
        let piece = self.keyspace.inner.read(read).await?;
        self.ended = piece.ended;
        self.piece = piece.entries;
        if let Some((last, _)) = self.piece.back() {
            if self.reverse {
                self.end = Some(last.clone());
            } else {
                self.start.clone_from(last);
                self.start.push(0);
            }
        }
        Ok(())
    }
}

fn piece(
    snapshot: &Snapshot,
    keyspace: &Keyspace,
    start: &[u8],
    end: Option<&[u8]>,
    reverse: bool,
) -> Result<Piece> {
    let mut range = snapshot.range_in(keyspace, Some(start), end)?;
    let (mut entries, mut bytes) = (VecDeque::new(), 0);
    while entries.len() < PIECE_ENTRIES && bytes < PIECE_BYTES {
        let next = if reverse { range.next_back() } else { range.next() };
        let Some(entry) = next else { return Ok(Piece { entries, ended: true }) };
        let (key, value) = entry?;
        bytes += key.len() + value.len();
        entries.push_back((key, value));
    }
    Ok(Piece { entries, ended: false })
}

impl std::fmt::Debug for AsyncRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("AsyncRange");
        out.field("in_memory", &self.piece.len())
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}
