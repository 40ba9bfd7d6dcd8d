//! A stream of changes.
//!
//! 1. Commits come whole, in order, each once, and only when readers see them: what a power cut may still
//!    take back is delivered only where its writer did not ask for more.
//! 2. Nothing is gathered in memory but the commit at hand: a slow reader holds log files, up to
//!    `changes_retention_bytes`, and then is `TooOld`.
//! 3. A stream writes nothing; what it has done with is forgotten unless a cursor is moved.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::commit::batch::{Operations, RangeDelete, Write};
use crate::database::Database;
use crate::error::{Error, ErrorKind, Result};
use crate::iterators::prefix_end;
use crate::maintenance::catalog::INTERNAL;
use crate::maintenance::core::{Core, Keep};
use crate::operators::list;
use crate::ranges::is_before;
use crate::store::keyspace::KeyspaceStore;
use crate::types::{BlobRef, EntryValue, KeyspaceId, Seq};
use crate::wal::LogReader;

/// Where a stream begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangesFrom {
    /// With the next commit.
    Now,
    /// With the oldest commit that is still in the log.
    Oldest,
    /// With the commit after this one.
    After(u64),
    /// After the commit that the cursor with this name stands at.
    Cursor(String),
}

/// What became of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChangeKind {
    /// It was set to this value.
    Put(Vec<u8>),
    /// It was removed, or was not there.
    Delete,
    /// These operands were merged into it, oldest first, by the keyspace's merge operator.
    Merge(Vec<Vec<u8>>),
    /// Every key from this one on was removed, up to the one given, which is left; `None`: to the end. A
    /// stream with a prefix gives the part of the range that keys with this prefix may be in.
    DeleteRange(Option<Vec<u8>>),
}

/// One operation of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The keyspace's name.
    pub keyspace: String,
    /// The key; of a range, the first one.
    pub key: Vec<u8>,
    /// What became of it.
    pub kind: ChangeKind,
    /// When what was put expires, as time since 1970-01-01 UTC; `None` where it stays. That it has expired
    /// is no change of its own.
    pub expires_at: Option<Duration>,
}

/// A commit, as far as the stream lets it through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedChanges {
    /// Its number.
    pub commit: u64,
    /// Its operations, in the order in which they were given: of several on one key the last counts.
    ///
    /// Empty for a sorted ingest ([`Keyspace::ingest`](crate::Keyspace::ingest)), or one that came to
    /// nothing: the log does not hold what it brought, and whoever mirrors rows reads them anew. Such a
    /// commit gets through every filter.
    pub changes: Vec<Change>,
}

/// Committed batches in order. See [`Database::changes`].
#[derive(Debug)]
pub struct Changes {
    core: Arc<Core>,
    _keep: Keep,
    reader: LogReader,
    keyspaces: Option<Vec<String>>,
    prefix: Vec<u8>,
    known: HashMap<KeyspaceId, Arc<KeyspaceStore>>,
}

impl Database {
    /// A stream of what is committed, in order, from a point on: with every commit its number and its
    /// operations, across all keyspaces. It reads the log while writers go on, at its own pace, and sees
    /// what other readers see. Operations of keyspaces dropped meanwhile are left out.
    ///
    /// While it lives, the log from where it stands is kept, at most
    /// [`changes_retention_bytes`](crate::LightningDbConfig::changes_retention_bytes) of it; so it is
    /// over closings, kills and power cuts from where a cursor stands
    /// ([`commit_cursor`](Self::commit_cursor)). A stream that is further behind fails with `TooOld`, as does one
    /// asked for from a commit that is in the log no more. Where there is no log (`wal_enabled`) it is
    /// `InvalidArgument`, as for a commit later than the last, and `NotFound` for an unknown cursor.
    ///
    /// With `Periodic` and `Async` commits a stream may deliver what a power cut then takes back, as other
    /// readers may have seen it; a cursor never stands past what is durable.
    ///
    /// ```
    /// use lightning_db::{ChangeKind, ChangesFrom, Database};
    /// # fn main() -> lightning_db::Result<()> {
    /// let db = Database::create_temp()?;
    /// let mut changes = db.changes(ChangesFrom::Now)?;
    /// db.put(b"apple", b"green")?;
    /// let commit = changes.try_next()?.expect("it is visible");
    /// assert_eq!(commit.commit, db.last_commit());
    /// assert_eq!(commit.changes[0].kind, ChangeKind::Put(b"green".to_vec()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn changes(&self, from: ChangesFrom) -> Result<Changes> {
        let core = &self.handle().core;
        core.check_open()?;
        let env = &core.env;
        check_log(core)?;
        let last = env.visible();
        let next = match from {
            ChangesFrom::Now => last.next(),
            ChangesFrom::Oldest => {
                let oldest = env.log_files.list(last).first().map(|(file, _)| file.first);
                oldest.unwrap_or(last.next()).min(last.next())
            }
            ChangesFrom::After(commit) => Seq(commit.saturating_add(1)),
            ChangesFrom::Cursor(name) => super::cursors::standing(core, &name)?.next(),
        };
        if next > env.visible().next() {
            let message = format!("commit {} is later than the last one, {last}", next.0 - 1);
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        let (vfs, files) = (Arc::clone(&env.vfs), Arc::clone(&env.log_files));
        let reader = LogReader::new(vfs, env.dir.clone(), env.db.clone(), files, next, last)?;
        Ok(Changes {
            core: Arc::clone(core),
            _keep: self.handle().clone(),
            reader,
            keyspaces: None,
            prefix: Vec::new(),
            known: HashMap::new(),
        })
    }
}

/// An error where there is no log to read.
pub fn check_log(core: &Core) -> Result<()> {
    if core.env.log.is_none() && !core.read_only {
        let message = "changes are read from the log, and `wal_enabled` is false";
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    Ok(())
}

impl Changes {
    /// Lets only operations on these keyspaces through.
    #[must_use]
    pub fn in_keyspaces(mut self, names: &[&str]) -> Self {
        self.keyspaces = Some(names.iter().map(|n| (*n).to_owned()).collect());
        self
    }

    /// Lets only operations on keys that begin with `prefix` through.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl AsRef<[u8]>) -> Self {
        prefix.as_ref().clone_into(&mut self.prefix);
        self
    }

    /// The last commit that the stream has passed, delivered or not: where a cursor can be moved to.
    pub fn passed(&self) -> u64 {
        self.reader.position().0 - 1
    }

    /// The next commit of which something gets through, if there is one now.
    pub fn try_next(&mut self) -> Result<Option<CommittedChanges>> {
        loop {
            self.core.check_open()?;
            let visible = self.core.env.visible();
            let Some((seq, body)) = self.reader.read(visible)? else { return Ok(None) };
            let changes = self.decode(seq, &body)?;
            // Without operations it is an ingest, which the log does not hold: to be told of, not passed by.
            if !changes.is_empty() || body.is_empty() {
                return Ok(Some(CommittedChanges { commit: seq.0, changes }));
            }
        }
    }

    /// The next commit of which something gets through, waited for at most so long; `None` when there was
    /// none by then. `Closed` once the database is.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<CommittedChanges>> {
        let core = Arc::clone(&self.core);
        let env = &core.env;
        let end = env.now().checked_add(timeout);
        loop {
            if let Some(commit) = self.try_next()? {
                return Ok(Some(commit));
            }
            let waiting = env.arrivals.enter();
            let seen = waiting.current();
            // A commit inside the section either sees who waits, or is seen here.
            drop(core.section.enter());
            if env.visible() >= self.reader.position() {
                continue;
            }
            core.check_open()?;
            let left = end.map_or(Duration::MAX, |end| end.saturating_sub(env.now()));
            if left.is_zero() {
                return Ok(None);
            }
            waiting.sleep(seen, left.min(Duration::from_secs(3600)));
        }
    }

    fn decode(&mut self, seq: Seq, body: &[u8]) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        for part in Operations::new(body) {
            let part = part.map_err(|m| {
                Error::corrupt(&self.core.env.dir.join("wal"), 0, format!("commit {seq}: {}", m.0))
            })?;
            let op = match part {
                Write::Entry(op) => op,
                Write::DeleteRange(range) => {
                    let Some((key, end)) = self.let_through(&range) else { continue };
                    let Some(keyspace) = self.name_of(range.keyspace) else { continue };
                    changes.push(Change {
                        keyspace,
                        key,
                        kind: ChangeKind::DeleteRange(end),
                        expires_at: None,
                    });
                    continue;
                }
            };
            if !op.key.starts_with(&self.prefix) {
                continue;
            }
            let Some(keyspace) = self.name_of(op.keyspace) else { continue };
            let kind = match op.entry.value {
                EntryValue::Tombstone => ChangeKind::Delete,
                EntryValue::Inline(value) => ChangeKind::Put(value.to_vec()),
                EntryValue::Blob(blob) => ChangeKind::Put(self.large_value(seq, &blob)?),
                EntryValue::Operands(list) => {
                    ChangeKind::Merge(list::operands(list).map(<[u8]>::to_vec).collect())
                }
            };
            let expiry = op.entry.expiry;
            let expires_at = (!expiry.is_never()).then(|| Duration::from_millis(expiry.0));
            changes.push(Change { keyspace, key: op.key.to_vec(), kind, expires_at });
        }
        Ok(changes)
    }

    /// What of a range may begin with the prefix: its first key, and the first one after it.
    fn let_through(&self, range: &RangeDelete<'_>) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        let start = range.start.max(&self.prefix);
        let end = match (range.end, prefix_end(&self.prefix)) {
            (Some(end), Some(past)) => Some(end.to_vec().min(past)),
            (end, past) => end.map(<[u8]>::to_vec).or(past),
        };
        is_before(start, end.as_deref()).then(|| (start.to_vec(), end))
    }

    fn large_value(&self, seq: Seq, blob: &BlobRef) -> Result<Vec<u8>> {
        let blobs = &self.core.env.blobs;
        // Segments are given back only where neither rows nor kept commits refer to them.
        blobs.segment(blob.segment).map_err(|e| {
            let message = format!("a large value of commit {seq} is kept no more");
            Error::new(ErrorKind::TooOld, message).caused_by(e)
        })?;
        blobs.read(blob)
    }

    /// The name of a keyspace that there is, and that is let through.
    fn name_of(&mut self, id: KeyspaceId) -> Option<String> {
        if !self.known.contains_key(&id) {
            let store = self.core.all().into_iter().find(|k| k.id == id)?;
            self.known.insert(id, store);
        }
        let store = self.known.get(&id).filter(|k| !k.is_dropped())?;
        if store.name.starts_with(INTERNAL) {
            // The entries of an index follow from the rows.
            return None;
        }
        let wanted = self.keyspaces.as_ref().is_none_or(|names| names.contains(&store.name));
        wanted.then(|| store.name.clone())
    }
}

/// Waits for every commit, and ends when the database is closed.
impl Iterator for Changes {
    type Item = Result<CommittedChanges>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.next_timeout(Duration::MAX) {
                Ok(None) => {}
                Ok(Some(commit)) => return Some(Ok(commit)),
                Err(e) if e.kind() == ErrorKind::Closed => return None,
                Err(e) => return Some(Err(e)),
            }
        }
    }
}
