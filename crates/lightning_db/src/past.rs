//! Looking into the past: snapshots of earlier moments, and the versions that a key had.
//!
//! 1. A moment is named by a commit's number, or by a time, which stands for the newest commit that is
//!    known to have been visible by then.
//! 2. What can be asked for begins at the floor (`history`) and ends now. A moment before it is `TooOld`:
//!    it is never answered in part.

#![allow(clippy::disallowed_types, reason = "callers name times as the system does; none is read")]

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::cache::Pager;
use crate::database::Database;
use crate::error::{Error, ErrorKind, Result};
use crate::history::millis;
use crate::keyspace::Keyspace;
use crate::maintenance::core::Core;
use crate::memtable::MemtableCursor;
use crate::snapshot::Snapshot;
use crate::store::environment::Environment;
use crate::store::lookup;
use crate::store::source::{RowCursor, Source};
use crate::store::value::Value;
use crate::store::version::Version;
use crate::store::view::View;
use crate::tree::CursorOptions;
use crate::types::{Seq, Time};

/// A moment in the life of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Right after the commit with this number ([`Database::last_commit`]); 0 is before the first.
    Commit(u64),
    /// As it was at this time of the system's clock: to about a second, and to one part in 500 of its
    /// age where it is long ago.
    Time(SystemTime),
}

impl From<u64> for Moment {
    fn from(commit: u64) -> Self {
        Self::Commit(commit)
    }
}

impl From<SystemTime> for Moment {
    fn from(time: SystemTime) -> Self {
        Self::Time(time)
    }
}

/// What a key became, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyVersion {
    /// The commit that wrote it; 0 where that was no later than the oldest moment kept, and is known no
    /// more.
    pub commit: u64,
    /// By when it was visible, to about a second; `None` where the commit is not known.
    pub time: Option<SystemTime>,
    /// The value; `None`: the key was deleted.
    pub value: Option<Vec<u8>>,
}

impl Database {
    /// The number of the last commit that reads see; 0 before the first. Commits are numbered in
    /// order, and an atomic batch or transaction is one.
    pub fn last_commit(&self) -> u64 {
        self.core_of_past().env.visible().0
    }

    /// The oldest moment that can be asked for: its commit and, where that is known, by when that was
    /// visible. Without `history_retention` it follows the newest commit as merges go on.
    pub fn oldest_moment(&self) -> (u64, Option<SystemTime>) {
        let env = &self.core_of_past().env;
        let floor = env.open_from();
        (floor.0, time_of(env, floor))
    }

    /// A snapshot of a past moment, across all keyspaces: reads and scans as that of
    /// [`snapshot`](Self::snapshot), and like it holds on to what it alone can see. Keyspaces dropped
    /// since are not in it.
    ///
    /// How far back it reaches is set by
    /// [`history_retention`](crate::LightningDbConfig::history_retention). What is older fails with
    /// `TooOld`, which names the oldest moment kept; what is later than now with `InvalidArgument`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use lightning_db::{Database, LightningDbConfig};
    /// # fn main() -> lightning_db::Result<()> {
    /// let hour = Some(Duration::from_secs(3600));
    /// let config = LightningDbConfig { history_retention: hour, ..Default::default() };
    /// let db = Database::open_in_memory(config)?;
    /// db.put(b"price", b"10")?;
    /// let before = db.last_commit();
    /// db.put(b"price", b"12")?;
    /// assert_eq!(db.snapshot_at(before)?.get(b"price")?, Some(b"10".to_vec()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn snapshot_at(&self, moment: impl Into<Moment>) -> Result<Snapshot> {
        let core = self.core_of_past();
        core.check_open()?;
        let env = &core.env;
        let moment = moment.into();
        let (seq, name) = match moment {
            Moment::Commit(number) => {
                if number > env.visible().0 {
                    let last = env.visible();
                    let message = format!("commit {number} is later than the last one, {last}");
                    return Err(Error::new(ErrorKind::InvalidArgument, message));
                }
                (Some(Seq(number)), format!("commit {number}"))
            }
            Moment::Time(time) => {
                let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
                if since > env.vfs.wall_clock() {
                    let message = "the moment asked for is later than now";
                    return Err(Error::new(ErrorKind::InvalidArgument, message));
                }
                (env.history.at(millis(since)), utc(millis(since)))
            }
        };
        let kept = seq.filter(|seq| *seq >= env.open_from());
        // A merge may raise the floor in between.
        let view = kept.and_then(|seq| env.views.register_at(seq, env.now()));
        let view = view.ok_or_else(|| too_old(env, &name))?;
        // The clock after the view: what has expired for the past goes with merges.
        let mut judged = env.lifetimes.past(env.history.kept());
        if let Moment::Time(time) = moment
            && judged > Time::BEFORE_ALL
        {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            judged = judged.max(Time(millis(since).min(Time::LATEST.0)));
        }
        let view = view.judging_by(judged);
        Ok(Snapshot::at(Arc::clone(&self.handle().core), self.handle().clone(), view))
    }

    /// See [`Keyspace::history`].
    pub fn history(&self, key: impl AsRef<[u8]>) -> Result<Vec<KeyVersion>> {
        self.default_keyspace().history(key)
    }

    fn core_of_past(&self) -> &Core {
        &self.handle().core
    }
}

impl Keyspace {
    /// What `key` became in the kept past, newest first: every commit that wrote it or deleted its value
    /// with a range, and the value it had at the oldest moment kept, if any. What had a lifetime that was
    /// over before that moment has no value. Where one commit wrote it twice the last counts. A range
    /// delete of a value that has expired since may be told or not, as merges have come to it. Costs a
    /// look-up for each version; all values are in memory at once.
    pub fn history(&self, key: impl AsRef<[u8]>) -> Result<Vec<KeyVersion>> {
        self.check()?;
        let (env, key) = (&self.core.env, key.as_ref());
        let oldest = oldest_view(env).judging_by(env.lifetimes.past(env.history.kept()));
        let (floor, judged) = (oldest.seq(), oldest.moment());
        let (version, at) = lookup::moment(env, &self.store);
        let mut found = Vec::new();
        for (seq, by_range) in numbers(&version, &env.pager, key, floor, at)? {
            let moment = seq.max(floor);
            // A range delete changes the keys that have a value.
            if by_range && seq > floor {
                let before = Seq(seq.0 - 1);
                if lookup::get_at(env, &self.store, &version, key, before, judged)?.is_none() {
                    continue;
                }
            }
            let value = lookup::get_at(env, &self.store, &version, key, moment, judged)?;
            if value.is_none() && seq <= floor {
                continue;
            }
            let time = if seq == Seq(0) { None } else { time_of(env, seq) };
            found.push(KeyVersion { commit: seq.0, time, value: value.map(Value::into_vec) });
        }
        Ok(found)
    }
}

/// A view at the oldest moment kept.
fn oldest_view(env: &Environment) -> View {
    loop {
        // A merge may raise the floor in between.
        if let Some(view) = env.views.register_at(env.open_from(), env.now()) {
            return view;
        }
    }
}

/// The numbers up to `at` of the entries of a key, and of the range deletes over it, newest first, down to
/// the first at or below `floor`; with each, whether it is a range delete alone.
fn numbers(
    version: &Version,
    pager: &Pager,
    key: &[u8],
    floor: Seq,
    at: Seq,
) -> Result<Vec<(Seq, bool)>> {
    let options = CursorOptions { uncached: false, read_ahead: 0 };
    let memtables = version
        .memtables()
        .map(|m| (Source::Memtable(MemtableCursor::new(m.clone())), m.range_deletes_over(key)));
    let runs = version.runs.iter().filter(|r| !r.is_consumed(key)).map(|r| {
        let deletes = r.ranges.active.find(key).map_or(Vec::new(), |f| f.seqs.to_vec());
        (&r.row, deletes)
    });
    let rows = runs.chain([(&version.base, Vec::new())]).map(|(row, deletes)| {
        let cursor = RowCursor::new(row.clone(), &[], pager.clone(), options);
        (Source::Row(Box::new(cursor)), deletes)
    });
    let mut found: Vec<(Seq, bool)> = Vec::new();
    for (mut source, deletes) in memtables.chain(rows) {
        let mut own: Vec<(Seq, bool)> = deletes.into_iter().map(|seq| (seq, true)).collect();
        source.seek(key)?;
        while source.valid() && source.key() == key {
            own.push((source.seq(), false));
            if source.seq() <= floor {
                break;
            }
            source.next()?;
        }
        // Of one commit, the entry counts.
        own.sort_by_key(|(seq, by_range)| (Reverse(*seq), *by_range));
        own.dedup_by_key(|(seq, _)| *seq);
        for (seq, by_range) in own {
            if seq <= at {
                found.push((seq, by_range));
            }
            if seq <= floor {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

fn time_of(env: &Environment, seq: Seq) -> Option<SystemTime> {
    let millis = env.history.time_of(seq)?;
    UNIX_EPOCH.checked_add(Duration::from_millis(millis))
}

fn too_old(env: &Environment, what: &str) -> Error {
    let floor = env.open_from();
    let since = env.history.time_of(floor).map(|t| format!(", of {}", utc(t))).unwrap_or_default();
    let message = format!("{what} is kept no more: the oldest moment is commit {floor}{since}");
    Error::new(ErrorKind::TooOld, message)
}

/// A time as people write it, in UTC.
fn utc(millis: u64) -> String {
    let (seconds, days) = (millis / 1000, millis / 86_400_000);
    // Years begin in March here, so that the day that comes and goes is their last.
    let z = days + 719_468;
    let (era, day) = (z / 146_097, z % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let m = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * m + 2) / 5 + 1, if m < 10 { m + 3 } else { m - 9 });
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn times_are_written_as_people_do() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_399_999), "2000-02-28T23:59:59Z");
        assert_eq!(utc(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_709_251_200_000), "2024-03-01T00:00:00Z");
        assert_eq!(utc(4_102_444_799_000), "2099-12-31T23:59:59Z");
    }
}
