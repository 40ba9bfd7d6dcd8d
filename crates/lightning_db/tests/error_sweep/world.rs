//! A run of the sweep: a database, the model of what it may hold, and the promises checked at each
//! step.
//!
//! 1. `states` are the states after each commit that may have happened; readers see one of
//!    `states[shown..]`, a power cut leaves one of `states[durable..]`. There is more than one
//!    candidate only after a commit whose fate is unknown, or (without a log) after a close that
//!    failed.
//! 2. An error is of a kind that fits, and names a file; where faults are not to show, there is none.
//! 3. A poisoned handle takes no writes, and reads go on; without poison the same handle takes writes
//!    again once the fault is over.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::io;
use std::sync::Arc;

use lightning_db::vfs::{SimulatedVfs, Vfs};
use lightning_db::{
    Cursor, Database, Durability, Error, ErrorKind, Keyspace, KeyspaceOptions, OpenAs, Problem,
    Range, Result, Snapshot, VerifyOptions, WriteBatch, WriteOptions,
};

use crate::workload::{Changes, KEYSPACES, PATH, Setup, Step};

const GIVEN_UP: &str = "the source gives up";

type State = BTreeMap<(u8, Vec<u8>), Arc<Vec<u8>>>;

/// What a reader holds, with what it may see.
struct Held {
    candidates: Vec<State>,
    snapshot: Snapshot,
    /// Everything of the default keyspace from the front.
    range: Range,
    given: Vec<(Vec<u8>, Vec<u8>)>,
    range_done: bool,
    range_failed: bool,
    cursor: Cursor,
    cursor_failed: bool,
}

pub struct World {
    pub vfs: SimulatedVfs,
    pub errors: u64,
    pub was_poisoned: bool,
    setup: &'static Setup,
    shows: bool,
    may_poison: bool,
    may_leave_files: bool,
    db: Option<Database>,
    states: Vec<State>,
    shown: usize,
    durable: usize,
    /// A call made or opened the database. Until then a power cut may take from a killed process's
    /// commits what it likes.
    opened: bool,
    poisoned: bool,
    held: Option<Held>,
    writes: u64,
}

fn open(vfs: &SimulatedVfs, setup: &Setup, mode: OpenAs) -> Result<Database> {
    let shared = Arc::new(vfs.clone()) as Arc<dyn Vfs>;
    Database::open_with_vfs(shared, PATH, setup.config(), mode)
}

/// Everything in a database.
fn read_all(db: &Database) -> Result<State> {
    let mut state = State::new();
    for (which, name) in KEYSPACES.into_iter().enumerate() {
        if !db.list_keyspaces().iter().any(|n| n == name) {
            continue;
        }
        for pair in db.keyspace(name, KeyspaceOptions::default())?.range(None, None)? {
            let (k, v) = pair?;
            state.insert((which as u8, k), Arc::new(v));
        }
    }
    Ok(state)
}

/// What a state has in one keyspace, in order.
fn part(state: &State, keyspace: u8) -> Vec<(Vec<u8>, Vec<u8>)> {
    let of = state.iter().filter(|((k, _), _)| *k == keyspace);
    of.map(|((_, k), v)| (k.clone(), v.to_vec())).collect()
}

impl World {
    pub fn new(
        vfs: SimulatedVfs,
        setup: &'static Setup,
        (shows, may_poison, may_leave_files): (bool, bool, bool),
    ) -> Self {
        let mut states = vec![State::new()];
        if setup.killed {
            // What is there is read from a machine on which nothing fails.
            let twin = vfs.kill();
            let db = open(&twin, setup, OpenAs::ReadOnly).expect("the image opens");
            states[0] = read_all(&db).expect("the image can be read");
        }
        Self {
            vfs,
            errors: 0,
            was_poisoned: false,
            setup,
            shows,
            may_poison,
            may_leave_files,
            db: None,
            states,
            shown: 0,
            durable: 0,
            opened: false,
            poisoned: false,
            held: None,
            writes: 0,
        }
    }

    /// Checks an error, and notes what it says of the handle.
    fn error(&mut self, what: &str, e: &Error) {
        use ErrorKind::{CommitUnknown, Io, Poisoned, StorageFull};
        self.errors += 1;
        assert!(self.shows, "{what} failed where nobody may notice anything: {e:?}");
        let fits = matches!(e.kind(), Io | StorageFull | CommitUnknown | Poisoned);
        assert!(fits, "{what}: an error of a kind that does not fit: {e:?}");
        let names = e.file().is_some() || e.to_string().contains(PATH);
        assert!(names, "{what}: an error that names no file: {e:?}");
        if matches!(e.kind(), CommitUnknown | Poisoned) && !self.poisoned {
            assert!(self.may_poison, "{what}: writes stopped, with nothing lost: {e:?}");
            self.poisoned = true;
            self.was_poisoned = true;
        }
    }

    /// The result of a call that writes nothing.
    fn read<T>(&mut self, what: &str, result: Result<T>) -> Option<T> {
        if let Err(e) = &result {
            self.error(what, e);
            let poison = matches!(e.kind(), ErrorKind::Poisoned | ErrorKind::CommitUnknown);
            assert!(!poison, "{what}: reads go on after a failure: {e:?}");
        }
        result.ok()
    }

    /// The result of a call that writes.
    fn write<T>(&mut self, what: &str, result: Result<T>) -> Option<T> {
        match &result {
            Ok(_) => assert!(!self.poisoned, "{what}: a poisoned handle takes writes"),
            Err(e) => {
                let told = !self.poisoned || e.kind() == ErrorKind::Poisoned;
                assert!(told, "{what}: a poisoned handle says so: {e:?}");
                self.error(what, e);
            }
        }
        result.ok()
    }

    /// Opens the database where it is not open.
    fn db(&mut self) -> Option<Database> {
        if self.db.is_none() {
            let result = open(&self.vfs, self.setup, OpenAs::OpenOrCreate);
            // An open that failed leaves no handle that could be poisoned.
            let poisoned = std::mem::take(&mut self.poisoned);
            self.db = match result {
                Ok(db) => Some(db),
                Err(e) => {
                    self.error("open", &e);
                    self.poisoned = poisoned;
                    None
                }
            };
            if self.db.is_some() {
                self.opened = true;
                // Opening makes what it accepts durable anew.
                self.settle();
            }
        }
        self.db.clone()
    }

    /// Reads which of the candidates it is, if that can be read.
    fn settle(&mut self) -> bool {
        if self.poisoned {
            return false;
        }
        let Some(db) = self.db.clone() else { return false };
        if self.shown + 1 == self.states.len() && self.durable == self.shown {
            return true;
        }
        let Some(state) = self.read("reading everything", read_all(&db)) else { return false };
        let found = self.states.iter().rposition(|s| *s == state);
        let found = found.filter(|i| *i >= self.shown);
        let found = found.unwrap_or_else(|| panic!("{}", self.differs("after opening", &state)));
        self.states.truncate(found + 1);
        self.shown = found;
        true
    }

    fn differs(&self, what: &str, state: &State) -> String {
        let model = &self.states[self.shown];
        let at = self.states.iter().rposition(|s| s == state);
        let lost: Vec<_> = model.iter().filter(|(k, v)| state.get(*k) != Some(*v)).collect();
        let more: Vec<_> = state.keys().filter(|k| !model.contains_key(*k)).collect();
        let lost: Vec<_> = lost.iter().map(|(k, v)| (k, v.len())).collect();
        format!(
            "{what}: not what was acknowledged; it is state {at:?} of {} (shown {}, durable {}); \
             other or missing: {lost:?}; not to be there: {more:?}",
            self.states.len(),
            self.shown,
            self.durable
        )
    }

    /// The states that a reader may see.
    fn candidates(&self) -> Vec<State> {
        self.states[self.shown..].to_vec()
    }

    pub fn step(&mut self, step: &Step) {
        if let Step::Wait(time) = step {
            return self.vfs.advance_clock(*time);
        }
        if let Step::Reopen { close } = step {
            return self.reopen(*close);
        }
        let Some(db) = self.db() else { return };
        match step {
            Step::Write(changes, durability) => self.commit(&db, changes, Some(*durability)),
            Step::Transaction(changes) => self.commit(&db, changes, None),
            Step::Get(keyspace, key) => self.get(&db, *keyspace, *key),
            Step::Stream { keyspace, key, len, given_up } => {
                self.stream(&db, (*keyspace, *key), *len, *given_up);
            }
            Step::ReadStream(keyspace, key) => self.read_stream(&db, *keyspace, *key),
            Step::Scan { keyspace, reverse } => self.scan(&db, *keyspace, *reverse),
            Step::Hold => self.hold(&db),
            Step::Advance(count) => self.advance(*count),
            Step::LetGo => self.held = None,
            Step::Flush => self.flush(&db),
            Step::Compact => {
                if self.write("compact", db.compact()).is_some() {
                    self.durable = self.shown;
                }
            }
            Step::Sync => {
                if self.write("sync", db.sync()).is_some() && self.setup.log {
                    self.durable = self.shown;
                }
            }
            Step::Evict => drop(db.evict_cache(1.0).expect("memory only")),
            Step::DropKeyspace => self.drop_keyspace(&db),
            Step::Reopen { .. } | Step::Wait(_) => {}
        }
    }

    fn flush(&mut self, db: &Database) {
        if self.write("flush", db.flush()).is_some() {
            self.durable = self.shown;
        }
    }

    /// The keyspace for reading; `None` where it is not there.
    fn keyspace(&mut self, db: &Database, which: u8) -> Option<Keyspace> {
        let name = KEYSPACES[which as usize];
        if !db.list_keyspaces().iter().any(|n| n == name) {
            let holds = |s: &State| s.keys().any(|(k, _)| *k == which);
            let may_miss = self.candidates().iter().any(|s| !holds(s));
            assert!(may_miss, "keyspace {name:?} is missing");
            return None;
        }
        let found = db.keyspace(name, KeyspaceOptions::default());
        self.read("a keyspace that exists", found)
    }

    fn keyspace_to_write(&mut self, db: &Database, which: u8) -> Option<Keyspace> {
        let name = KEYSPACES[which as usize];
        let exists = db.list_keyspaces().iter().any(|n| n == name);
        let found = db.keyspace(name, KeyspaceOptions::default());
        if exists {
            self.read("a keyspace that exists", found)
        } else {
            self.write("a new keyspace", found)
        }
    }

    fn value(&self, len: usize) -> Arc<Vec<u8>> {
        let mut value = vec![(self.writes % 251) as u8; len];
        let number = self.writes.to_be_bytes();
        let n = len.min(8);
        value[..n].copy_from_slice(&number[8 - n..]);
        Arc::new(value)
    }

    /// A commit, as a batch with its durability or as a transaction.
    fn commit(&mut self, db: &Database, changes: &Changes, batch: Option<Durability>) {
        if !self.poisoned && !self.settle() {
            return;
        }
        let mut next = self.states.last().expect("never empty").clone();
        let mut handles: BTreeMap<u8, Keyspace> = BTreeMap::new();
        for (which, _, _) in changes {
            let Some(found) = self.keyspace_to_write(db, *which) else { return };
            handles.insert(*which, found);
        }
        let mut writes = Vec::new();
        for (which, key, len) in changes {
            self.writes += 1;
            let (place, value) = ((*which, key.to_be_bytes().to_vec()), len.map(|l| self.value(l)));
            match &value {
                Some(v) => drop(next.insert(place, Arc::clone(v))),
                None => drop(next.remove(&place)),
            }
            writes.push((&handles[which], key.to_be_bytes(), value));
        }
        // Pushed before: a commit whose fate is not known may be there.
        let was_poisoned = self.poisoned;
        self.states.push(next);
        let result = match batch {
            Some(durability) => {
                let mut batch = WriteBatch::new();
                for (keyspace, key, value) in &writes {
                    match value {
                        Some(v) => batch.put_in(keyspace, key, v.as_slice()),
                        None => batch.delete_in(keyspace, key),
                    }
                }
                let durability = self.setup.log.then_some(durability);
                db.write(batch, WriteOptions { durability })
            }
            None => db.transaction().and_then(|mut tx| {
                for (keyspace, key, value) in &writes {
                    match value {
                        Some(v) => tx.put_in(keyspace, key, v.as_slice())?,
                        None => tx.delete_in(keyspace, key)?,
                    }
                    let seen = tx.get_in(keyspace, key)?;
                    assert_eq!(seen.as_ref(), value.as_deref(), "a transaction's own write");
                }
                tx.commit()
            }),
        };
        let unknown = matches!(&result, Err(e) if e.kind() == ErrorKind::CommitUnknown);
        if self.write("commit", result).is_some() {
            self.shown = self.states.len() - 1;
            if batch == Some(Durability::Sync) && self.setup.log {
                self.durable = self.shown;
            }
        } else if !unknown || was_poisoned {
            self.states.pop();
        }
    }

    /// A value that comes as a stream; one that is given up leaves the key as it was.
    fn stream(&mut self, db: &Database, (which, key): (u8, u16), len: usize, given_up: bool) {
        struct Source<'a>(&'a [u8], bool);
        impl io::Read for Source<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                if self.0.is_empty() && self.1 {
                    return Err(io::Error::other(GIVEN_UP));
                }
                self.0.read(buffer)
            }
        }
        if !self.poisoned && !self.settle() {
            return;
        }
        let Some(keyspace) = self.keyspace_to_write(db, which) else { return };
        self.writes += 1;
        let (key, value) = (key.to_be_bytes(), self.value(len));
        if given_up {
            let result = keyspace.put_reader(key, Source(&value[..len / 2], true), None);
            let e = result.expect_err("half a value was taken");
            let by_source = e.source().is_some_and(|source| source.to_string() == GIVEN_UP);
            if !by_source {
                self.write::<()>("a stream that is given up", Err(e));
            }
            return;
        }
        let mut next = self.states.last().expect("never empty").clone();
        next.insert((which, key.to_vec()), Arc::clone(&value));
        let was_poisoned = self.poisoned;
        self.states.push(next);
        let result = keyspace.put_reader(key, Source(&value, false), Some(len as u64));
        let unknown = matches!(&result, Err(e) if e.kind() == ErrorKind::CommitUnknown);
        if self.write("a stream", result).is_some() {
            self.shown = self.states.len() - 1;
        } else if !unknown || was_poisoned {
            self.states.pop();
        }
    }

    fn read_stream(&mut self, db: &Database, which: u8, key: u16) {
        let Some(keyspace) = self.keyspace(db, which) else { return };
        let key = key.to_be_bytes();
        let read = keyspace.get_reader(key).and_then(|reader| {
            let Some(mut reader) = reader else { return Ok(None) };
            let mut bytes = vec![0; reader.len() as usize + 1];
            let n = reader.read_at(&mut bytes, 0)?;
            bytes.truncate(n);
            Ok(Some(bytes))
        });
        let Some(found) = self.read("a reader of a value", read) else { return };
        let may = |s: &State| s.get(&(which, key.to_vec())).map(|v| v.to_vec()) == found;
        let len = found.as_ref().map(Vec::len);
        assert!(self.candidates().iter().any(may), "a reader gave what was not written: {len:?}");
    }

    fn get(&mut self, db: &Database, which: u8, key: u16) {
        let Some(keyspace) = self.keyspace(db, which) else { return };
        let key = key.to_be_bytes();
        let Some(found) = self.read("get", keyspace.get(key)) else { return };
        let may = |s: &State| s.get(&(which, key.to_vec())).map(|v| v.to_vec()) == found;
        let len = found.as_ref().map(Vec::len);
        assert!(self.candidates().iter().any(may), "get gave what was not written: {len:?} bytes");
    }

    fn scan(&mut self, db: &Database, which: u8, reverse: bool) {
        let Some(keyspace) = self.keyspace(db, which) else { return };
        let Some(range) = self.read("range", keyspace.range(None, None)) else { return };
        let collected: Result<Vec<_>> =
            if reverse { range.rev().collect() } else { range.collect() };
        let Some(mut found) = self.read("scan", collected) else { return };
        if reverse {
            found.reverse();
        }
        let may = self.candidates().iter().any(|s| part(s, which) == found);
        assert!(may, "a scan gave {} entries that were not written so", found.len());
    }

    fn hold(&mut self, db: &Database) {
        self.held = None;
        let Some(snapshot) = self.read("snapshot", db.snapshot()) else { return };
        let Some(range) = self.read("range", snapshot.range(None, None)) else { return };
        let Some(cursor) = self.read("cursor", snapshot.cursor()) else { return };
        self.held = Some(Held {
            candidates: self.candidates(),
            snapshot,
            range,
            given: Vec::new(),
            range_done: false,
            range_failed: false,
            cursor,
            cursor_failed: false,
        });
    }

    fn advance(&mut self, count: usize) {
        let Some(mut held) = self.held.take() else { return };
        self.advance_range(&mut held, count);
        // A cursor that failed gives the same error ever after.
        let moved = (|| {
            held.cursor.seek(&(count as u16 * 7).to_be_bytes())?;
            Ok(held.cursor.entry()?.map(|(k, v)| (k.to_vec(), v.to_vec())))
        })();
        match moved {
            Ok(found) => {
                assert!(!held.cursor_failed, "a cursor that failed goes on");
                let from = (count as u16 * 7).to_be_bytes().to_vec();
                let may = |s: &State| part(s, 0).into_iter().find(|(k, _)| *k >= from) == found;
                assert!(held.candidates.iter().any(may), "a cursor gave what was not written");
            }
            Err(e) => {
                self.read::<()>("cursor", Err(e));
                held.cursor_failed = true;
                assert!(held.cursor.entry().is_err(), "a cursor that failed stands nowhere");
                assert!(held.cursor.next().is_err(), "a cursor that failed goes on");
            }
        }
        let key = (count as u16 * 5).to_be_bytes();
        let found = held.snapshot.get(key);
        if let Some(found) = self.read("get of a snapshot", found) {
            let may = |s: &State| s.get(&(0, key.to_vec())).map(|v| v.to_vec()) == found;
            assert!(held.candidates.iter().any(may), "a snapshot gave what it must not see");
        }
        self.held = Some(held);
    }

    fn advance_range(&mut self, held: &mut Held, count: usize) {
        for _ in 0..count {
            match held.range.next() {
                Some(Ok(pair)) => {
                    let ended = held.range_failed || held.range_done;
                    assert!(!ended, "an iterator that ended or failed goes on");
                    held.given.push(pair);
                }
                Some(Err(e)) => {
                    self.read::<()>("iterator", Err(e));
                    held.range_failed = true;
                }
                None => held.range_done = true,
            }
        }
        let whole = held.range_done && !held.range_failed;
        let given = &held.given;
        let may = |s: &State| {
            let part = part(s, 0);
            part.starts_with(given) && (!whole || part.len() == given.len())
        };
        assert!(held.candidates.iter().any(may), "an iterator gave what its moment did not have");
    }

    /// Drops the third keyspace, after everything before it was made durable.
    fn drop_keyspace(&mut self, db: &Database) {
        if !db.list_keyspaces().iter().any(|n| n == KEYSPACES[2]) || !self.settle() {
            return;
        }
        self.flush(db);
        if self.durable != self.shown {
            return;
        }
        let mut next = self.states[self.shown].clone();
        next.retain(|(which, _), _| *which != 2);
        self.states.push(next);
        let result = db.drop_keyspace(KEYSPACES[2]);
        let unknown = matches!(&result, Err(e) if e.kind() == ErrorKind::CommitUnknown);
        if self.write("drop of a keyspace", result).is_some() {
            self.shown = self.states.len() - 1;
            self.durable = self.shown;
        } else if !unknown {
            self.states.pop();
        }
    }

    fn reopen(&mut self, close: bool) {
        self.held = None;
        let Some(db) = self.db.take() else { return };
        if close {
            let closed = db.close();
            match &closed {
                Ok(()) => self.durable = self.shown,
                Err(e) => {
                    let poisoned = self.poisoned;
                    self.error("close", e);
                    assert!(!poisoned || e.kind() == ErrorKind::Poisoned, "close: {e:?}");
                }
            }
        } else {
            drop(db);
        }
        if !self.setup.log {
            self.shown = self.durable;
        }
        self.poisoned = false;
        self.db();
    }

    /// The fault is over: everything must be well again, or say so.
    pub fn finish(&mut self) {
        self.vfs.clear_faults();
        self.vfs.set_capacity(None);
        if self.opened {
            self.check_image(&self.vfs.power_cut(self.writes), self.durable, "after a power cut");
        }
        let least = if self.setup.log { self.shown } else { self.durable };
        self.check_image(&self.vfs.kill(), least, "after a kill");
        // From here on no call may fail, but for writes of a handle that is poisoned.
        let db = self.db().expect("opens once the fault is over");
        if self.held.is_some() {
            self.advance(1000);
            self.held = None;
        }
        self.settle();
        let state = read_all(&db).expect("everything can be read once the fault is over");
        let seen = self.states[self.shown..].contains(&state);
        assert!(seen, "{}", self.differs("in the same handle", &state));
        if let Err(e) = db.put(b"last", b"value") {
            self.error("a write once the fault is over", &e);
            assert!(self.poisoned, "a write once the fault is over: {e:?}");
            assert!(!db.health_check().healthy, "a poisoned handle is not healthy");
        } else {
            assert!(!self.poisoned, "a poisoned handle takes writes");
            let mut next = self.states[self.shown].clone();
            next.insert((0, b"last".to_vec()), Arc::new(b"value".to_vec()));
            self.states.push(next);
            self.shown = self.states.len() - 1;
            db.flush().expect("a flush once the fault is over");
            db.compact().expect("a compaction once the fault is over");
            self.durable = self.shown;
            let report = db.verify(VerifyOptions::default()).expect("a report");
            // A file that could not be removed goes when the database is next opened.
            let orphan = |p: &Problem| p.message == "nothing names this segment";
            let clean = report.problems.iter().all(|p| self.may_leave_files && orphan(p));
            assert!(clean, "in the same handle: {:?}", report.problems);
            let health = db.health_check();
            assert!(self.setup.threads > 0 || health.healthy, "{:?}", health.problems);
        }
        let poisoned = self.poisoned;
        drop(db);
        let closed = self.db.take().expect("open").close();
        assert!(poisoned || closed.is_ok(), "closing once the fault is over: {closed:?}");
        let least = if self.setup.log || closed.is_ok() { self.shown } else { self.durable };
        self.check_image(&self.vfs, least, "after closing");
        self.check_image(&self.vfs, least, "after closing, again");
    }

    /// Opens a machine on which nothing fails, and checks all of it.
    fn check_image(&self, vfs: &SimulatedVfs, least: usize, what: &str) {
        let db = match open(vfs, self.setup, OpenAs::Open) {
            Err(e) if !self.opened && e.kind() == ErrorKind::NotFound => return,
            opened => opened.unwrap_or_else(|e| panic!("{what}: {e:?}")),
        };
        let state = read_all(&db).expect("everything can be read");
        let found = self.states.iter().rposition(|s| *s == state);
        assert!(found >= Some(least), "{}", self.differs(what, &state));
        let report = db.verify(VerifyOptions::default()).expect("a report");
        assert!(report.is_clean(), "{what}: {:?}", report.problems);
        db.close().unwrap_or_else(|e| panic!("{what}: closing: {e:?}"));
        let files: Vec<_> = vfs.files().into_iter().map(|p| p.display().to_string()).collect();
        let count = |end: &str| files.iter().filter(|f| f.ends_with(end)).count();
        let tidy = count(".man") == 1 && count(".wal") == 0 && count(".tmp") == 0;
        assert!(tidy, "{what}: files that nobody needs: {files:?}");
    }
}
