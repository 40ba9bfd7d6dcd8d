//! Does a sequence on a database over the simulated disk and on the reference, and compares.
//!
//! 1. What is held over time (snapshots, iterators, transactions) is dropped before a reopen.
//! 2. A kill keeps what the system was given: with a log nothing acknowledged may be missing.
//!    Without one the database is flushed first, since only a flush promises anything.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lightning_db::vfs::{SimulatedVfs, Vfs};
use lightning_db::{
    Cursor, Database, ErrorKind, Keyspace, KeyspaceOptions, LightningDbConfig, OpenAs, Range,
    Snapshot, Transaction, TransactionId, VerifyOptions, WriteBatch,
};

use crate::operations::{self, Bounds, KEYSPACES, Key, Operation, SLOTS, Step, Value};
use crate::reference::{Bytes, Change, Moment, Pair, Part, Reference, is_empty};
use crate::settings::setting;

/// Engine and reference may be minutes apart, as looks at the clock take time: so a life ends in the
/// middle of a day, and the clock is moved by whole ones.
const DAY: Duration = Duration::from_secs(86_400);

fn lifetime(days: u8) -> Duration {
    DAY * u32::from(days) + DAY / 2
}

type Outcome = Result<(), String>;
type Found = lightning_db::Result<(Vec<u8>, Vec<u8>)>;

/// A transaction, by guard or by id, with the moment of its snapshot and its writes.
struct Tx {
    handle: TxHandle,
    at: Moment,
    writes: BTreeMap<(u32, Key), Option<Bytes>>,
    /// The days that writes were given.
    days: BTreeMap<(u32, Key), u8>,
    /// What it deleted by range; of its own writes those that came later count.
    ranges: Vec<(u32, Bounds)>,
}

fn in_bounds(key: &[u8], (start, end): &Bounds) -> bool {
    start.as_ref().is_none_or(|s| key >= &s[..]) && end.as_ref().is_none_or(|e| key < &e[..])
}

impl Tx {
    fn has_deleted(&self, id: u32, key: &[u8]) -> bool {
        self.ranges.iter().any(|(of, bounds)| *of == id && in_bounds(key, bounds))
    }
}

enum TxHandle {
    Guard(Box<Transaction>),
    Id(TransactionId),
}

/// An iterator that is held open, and what it must still give.
struct Held {
    range: Range,
    rest: std::collections::VecDeque<Pair>,
}

#[derive(Default)]
struct Holding {
    snapshots: [Option<(Snapshot, Moment)>; SLOTS],
    ranges: [Option<Held>; SLOTS],
    transactions: [Option<Tx>; SLOTS],
}

#[derive(Default)]
struct Counts {
    commits: u64,
    conflicts: u64,
}

struct Runner {
    config: LightningDbConfig,
    vfs: SimulatedVfs,
    db: Option<Database>,
    reference: Reference,
    keyspaces: [Option<(Keyspace, u32)>; KEYSPACES],
    next_id: u32,
    ids: [Option<u32>; KEYSPACES],
    held: Holding,
    counts: Counts,
}

fn bytes((byte, len): Value) -> Bytes {
    // Half of it compresses, half does not.
    let mut rng = fastrand::Rng::with_seed(u64::from(byte) << 32 | len as u64);
    (0..len).map(|i| if i % 2 == 0 { byte } else { rng.u8(..) }).collect::<Vec<_>>().into()
}

fn appended(base: Option<&Bytes>, operand: &Bytes) -> Bytes {
    [base.map_or(&[][..], |b| b), operand].concat().into()
}

fn same<T: PartialEq>(what: &str, found: &T, expected: &T, show: impl Fn(&T) -> String) -> Outcome {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: found {}, expected {}", show(found), show(expected)))
}

fn told<T>(what: &str, result: lightning_db::Result<T>) -> Result<T, String> {
    result.map_err(|e| format!("{what}: {e:?}"))
}

fn refused(what: &str, kind: ErrorKind, result: lightning_db::Result<()>) -> Outcome {
    match result {
        Err(e) if e.kind() == kind => Ok(()),
        other => Err(format!("{what} was to be refused, and gave {other:?}")),
    }
}

fn short(b: &[u8]) -> String {
    let head = &b[..b.len().min(12)];
    format!("{}({})", head.escape_ascii(), b.len())
}

fn same_value(what: &str, found: Option<&[u8]>, expected: Option<&Bytes>) -> Outcome {
    same(what, &found, &expected.map(|v| &**v), |v| format!("{:?}", v.map(short)))
}

/// Reads an iterator from both ends as the bits say, then to its end; compares as it goes.
fn same_range(
    what: &str,
    mut range: impl DoubleEndedIterator<Item = Found>,
    expected: Vec<Pair>,
    bits: u64,
) -> Outcome {
    let mut expected = std::collections::VecDeque::from(expected);
    for i in 0_u32.. {
        let back = i < 64 && bits >> i & 1 == 1;
        let (found, wanted) = if back {
            (range.next_back(), expected.pop_back())
        } else {
            (range.next(), expected.pop_front())
        };
        same_pair(what, found, wanted.as_ref())?;
        if wanted.is_none() {
            break;
        }
    }
    let over = range.next().is_none() && range.next_back().is_none();
    if over { Ok(()) } else { Err(format!("{what}: goes on after its end")) }
}

fn same_pair(what: &str, found: Option<Found>, wanted: Option<&Pair>) -> Outcome {
    let found = told(what, found.transpose())?;
    let found = found.as_ref().map(|(k, v)| (&**k, &**v));
    same(what, &found, &wanted.map(|(k, v)| (&**k, &**v)), |p| {
        format!("{:?}", p.map(|(k, v)| (short(k), short(v))))
    })
}

/// Runs a sequence; what went wrong names the operation.
pub fn run(ops: &[Operation], number: u64) -> Outcome {
    let mut at = 0;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut runner = Runner::new(number)?;
        for op in ops {
            runner.step(op)?;
            at += 1;
        }
        runner.end()
    }));
    let outcome = outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        Err(format!("a panic: {}", text.unwrap_or_default()))
    });
    outcome.map_err(|e| {
        let op = ops.get(at).map_or_else(|| "the end".to_owned(), crate::shrink::brief);
        format!("operation {at}, {op}: {e}")
    })
}

impl Runner {
    fn new(number: u64) -> Result<Self, String> {
        let mut runner = Self {
            config: setting(number),
            vfs: SimulatedVfs::new(number),
            db: None,
            reference: Reference::default(),
            keyspaces: [const { None }; KEYSPACES],
            next_id: 1,
            ids: [Some(0), None, None],
            held: Holding::default(),
            counts: Counts::default(),
        };
        runner.open(OpenAs::Create)?;
        Ok(runner)
    }

    fn open(&mut self, mode: OpenAs) -> Outcome {
        let vfs = Arc::new(self.vfs.clone()) as Arc<dyn Vfs>;
        let db = told("open", Database::open_with_vfs(vfs, "/db", self.config.clone(), mode))?;
        // Work that never ends fails then, instead of going on.
        self.vfs.crash_after(self.vfs.operations() + 1_000_000);
        self.keyspaces[0] = Some((db.default_keyspace().clone(), 0));
        self.db = Some(db);
        self.counts = Counts::default();
        self.same_keyspaces()
    }

    fn db(&self) -> &Database {
        self.db.as_ref().expect("open between operations")
    }

    fn same_keyspaces(&self) -> Outcome {
        let names: Vec<_> = (0..KEYSPACES).filter(|i| self.ids[*i].is_some()).map(name).collect();
        same("keyspaces", &self.db().list_keyspaces(), &names, |n| format!("{n:?}"))
    }

    /// A keyspace, made where it does not exist yet.
    fn keyspace(&mut self, which: usize) -> Result<(Keyspace, u32), String> {
        if let Some(found) = &self.keyspaces[which] {
            return Ok(found.clone());
        }
        let merge_operator = self.merges(which).then(|| "append".to_owned());
        let options = KeyspaceOptions { merge_operator, ..KeyspaceOptions::default() };
        let keyspace = told("keyspace", self.db().keyspace(&name(which), options))?;
        let id = *self.ids[which].get_or_insert(self.next_id);
        self.next_id = self.next_id.max(id + 1);
        self.keyspaces[which] = Some((keyspace.clone(), id));
        Ok((keyspace, id))
    }

    /// Whether a keyspace has a merge operator; else it gives lifetimes.
    fn merges(&self, which: usize) -> bool {
        self.config.merge_operator.is_some() == (which != 1)
    }

    fn commit(&mut self, changes: &[Change]) {
        self.counts.commits += u64::from(!changes.is_empty());
        self.reference.commit(changes);
    }

    /// As [`commit`](Self::commit), with range deletes; those of ranges without keys are none.
    fn commit_parts(&mut self, parts: &[Part]) {
        let before = self.reference.now;
        self.reference.commit_parts(parts);
        self.counts.commits += self.reference.now - before;
    }

    /// Whether a commit must, and may, be told that others changed what it writes.
    fn conflicts(
        &self,
        writes: &BTreeMap<(u32, Key), Option<Bytes>>,
        ranges: &[(u32, Bounds)],
        at: Moment,
    ) -> (bool, bool) {
        let keys = writes.keys().map(|(id, k)| {
            let mut past = k.clone();
            past.push(0);
            (*id, (Some(k.clone()), Some(past)))
        });
        let (mut must, mut may) = (false, false);
        for (id, (start, end)) in keys.chain(ranges.iter().cloned()) {
            let (start, end) = (start.as_deref(), end.as_deref());
            let changes = self.reference.changes_since(id, start, end, at);
            must |= changes.contains(&true);
            may |= !changes.is_empty() || self.reference.range_deleted_since(id, start, end, at);
        }
        (must, may)
    }

    fn delete_ranges(&mut self, op: &Operation) -> Outcome {
        match op {
            Operation::DeleteRange(ks, (start, end)) => {
                let (keyspace, id) = self.keyspace(*ks)?;
                let result = keyspace.delete_range(start.as_deref(), end.as_deref());
                told("delete_range", result)?;
                self.commit_parts(&[Part::Range(id, start.clone(), end.clone())]);
            }
            Operation::RangeBatch(entries) => {
                let (mut batch, mut parts) = (WriteBatch::new(), Vec::new());
                for (ks, part) in entries {
                    let (keyspace, id) = self.keyspace(*ks)?;
                    parts.push(match part {
                        operations::Part::Entry(key, value) => {
                            let value = value.map(bytes);
                            match &value {
                                Some(value) => batch.put_in(&keyspace, key, value),
                                None => batch.delete_in(&keyspace, key),
                            }
                            Part::Entry((id, key.clone(), value))
                        }
                        operations::Part::Range((start, end)) => {
                            batch.delete_range_in(&keyspace, start.as_deref(), end.as_deref());
                            Part::Range(id, start.clone(), end.clone())
                        }
                    });
                }
                told("write", self.db().write(batch, lightning_db::WriteOptions::default()))?;
                self.commit_parts(&parts);
            }
            Operation::TxDeleteRange(slot, ks, bounds) => {
                let (keyspace, id) = self.keyspace(*ks)?;
                let db = self.db().clone();
                let Some(tx) = &mut self.held.transactions[*slot] else { return Ok(()) };
                let (start, end) = (bounds.0.as_deref(), bounds.1.as_deref());
                let (result, id) = match &mut tx.handle {
                    TxHandle::Guard(g) => (g.delete_range_in(&keyspace, start, end), id),
                    TxHandle::Id(t) => (db.delete_range_tx(*t, start, end), 0),
                };
                told("delete_range in a transaction", result)?;
                if !is_empty(start, end) {
                    tx.writes.retain(|(of, key), _| *of != id || !in_bounds(key, bounds));
                    tx.days.retain(|(of, key), _| *of != id || !in_bounds(key, bounds));
                    tx.ranges.push((id, bounds.clone()));
                }
            }
            _ => unreachable!("only what deletes ranges"),
        }
        Ok(())
    }

    /// Drops what is held, and closes or kills, and opens again.
    fn reopen(&mut self, kill: bool) -> Outcome {
        self.held = Holding::default();
        self.keyspaces = [const { None }; KEYSPACES];
        let db = self.db.take().expect("open between operations");
        if kill {
            if !self.config.wal_enabled {
                told("flush", db.flush())?;
            }
            // What still runs goes on writing to a disk that nobody reads.
            self.vfs = self.vfs.kill();
            drop(db);
        } else {
            told("close", db.close())?;
        }
        self.open(OpenAs::Open)
    }

    fn same_range(&mut self, ks: usize, (start, end): &Bounds, bits: u64) -> Outcome {
        let (keyspace, id) = self.keyspace(ks)?;
        let (start, end) = (start.as_deref(), end.as_deref());
        let expected = self.reference.range(id, start, end, self.reference.moment());
        same_range("scan", told("scan", keyspace.scan(start, end))?, expected, bits)
    }

    fn step(&mut self, op: &Operation) -> Outcome {
        use Operation as O;
        let now = self.reference.moment();
        match op {
            O::Put(ks, key, value) => {
                let ((keyspace, id), value) = (self.keyspace(*ks)?, bytes(*value));
                if value.len() > 5000 && value[0] % 2 == 0 {
                    let len = (value[0] % 4 == 0).then_some(value.len() as u64);
                    told("put_reader", keyspace.put_reader(key, &value[..], len))?;
                } else {
                    told("put", keyspace.put(key, &value))?;
                }
                self.commit(&[(id, key.clone(), Some(value))]);
            }
            O::PutOften(ks, key, times) => {
                let (keyspace, id) = self.keyspace(*ks)?;
                for i in 0..*times {
                    let value = bytes((i, 500));
                    told("put", keyspace.put(key, &value))?;
                    self.commit(&[(id, key.clone(), Some(value))]);
                }
            }
            O::PutFor(ks, key, value, days) => {
                let ((keyspace, id), value) = (self.keyspace(*ks)?, bytes(*value));
                let result = keyspace.put_with_ttl(key, &value, lifetime(*days));
                if self.merges(*ks) {
                    return refused("put_with_ttl", ErrorKind::InvalidArgument, result);
                }
                told("put_with_ttl", result)?;
                self.commit(&[(id, key.clone(), Some(value))]);
                self.reference.expire(id, key, *days);
            }
            O::DefaultTtl(ks, days) => {
                let (keyspace, id) = self.keyspace(*ks)?;
                let ttl = (*days > 0).then(|| lifetime(*days));
                let result = keyspace.set_default_ttl(ttl);
                if self.merges(*ks) && ttl.is_some() {
                    return refused("set_default_ttl", ErrorKind::InvalidArgument, result);
                }
                told("set_default_ttl", result)?;
                self.reference.defaults.insert(id, u64::from(*days));
            }
            O::Days(days) => {
                self.vfs.set_wall_clock(self.vfs.wall_clock() + DAY * u32::from(*days));
                self.reference.day += u64::from(*days);
            }
            O::Delete(ks, key) => {
                let (keyspace, id) = self.keyspace(*ks)?;
                told("delete", keyspace.delete(key))?;
                self.commit(&[(id, key.clone(), None)]);
            }
            O::Merge(ks, key, operand) => {
                let ((keyspace, id), operand) = (self.keyspace(*ks)?, bytes(*operand));
                let result = keyspace.merge(key, &operand);
                if !self.merges(*ks) {
                    return refused("merge", ErrorKind::NoMergeOperator, result);
                }
                told("merge", result)?;
                let value = appended(self.reference.get(id, key, now), &operand);
                self.commit(&[(id, key.clone(), Some(value))]);
            }
            O::Batch(entries) => {
                let (mut batch, mut changes) = (WriteBatch::new(), Vec::new());
                for (ks, key, value) in entries {
                    let ((keyspace, id), value) = (self.keyspace(*ks)?, value.map(bytes));
                    match &value {
                        Some(value) => batch.put_in(&keyspace, key, value),
                        None => batch.delete_in(&keyspace, key),
                    }
                    changes.push((id, key.clone(), value));
                }
                told("write", self.db().write(batch, lightning_db::WriteOptions::default()))?;
                self.commit(&changes);
            }
            O::PutBatch(ks, entries) => {
                let (keyspace, id) = self.keyspace(*ks)?;
                let pairs: Vec<_> =
                    entries.iter().map(|(k, v)| (k.clone(), bytes(*v).to_vec())).collect();
                told("put_batch", keyspace.put_batch(&pairs))?;
                let changes: Vec<_> =
                    pairs.into_iter().map(|(k, v)| (id, k, Some(v.into()))).collect();
                self.commit(&changes);
            }
            O::Ingest(ks, entries, twice) => {
                let (keyspace, id) = self.keyspace(*ks)?;
                let value = |v: &Value| bytes(*v).to_vec();
                let mut pairs: Vec<_> =
                    entries.iter().map(|(k, v)| (k.clone(), value(v))).collect();
                if *twice && let Some(last) = pairs.last().cloned() {
                    pairs.push(last);
                    let refused = keyspace.ingest(pairs).map_err(|e| e.kind());
                    let expected = Err(ErrorKind::InvalidArgument);
                    return same("ingest", &refused, &expected, |r| format!("{r:?}"));
                }
                let number = told("ingest", keyspace.ingest(pairs.clone()))?;
                same("ingest", &number, &(pairs.len() as u64), u64::to_string)?;
                let changes: Vec<_> =
                    pairs.into_iter().map(|(k, v)| (id, k, Some(v.into()))).collect();
                self.commit(&changes);
            }
            O::DeleteBatch(ks, keys) => {
                let (keyspace, id) = self.keyspace(*ks)?;
                told("delete_batch", keyspace.delete_batch(keys))?;
                let changes: Vec<_> = keys.iter().map(|k| (id, k.clone(), None)).collect();
                self.commit(&changes);
            }
            O::Get(ks, key) => {
                let (keyspace, id) = self.keyspace(*ks)?;
                let expected = self.reference.get(id, key, now);
                let pinned = told("get_pinned", keyspace.get_pinned(key))?;
                let copied = told("get", keyspace.get(key))?;
                same_value("get", copied.as_deref(), expected)?;
                same_value("get_pinned", pinned.as_deref(), expected)?;
                let mut streamed = None;
                if let Some(mut reader) = told("get_reader", keyspace.get_reader(key))? {
                    let mut bytes = vec![0; reader.len() as usize + 1];
                    let n = told("read_at", reader.read_at(&mut bytes, 0))?;
                    bytes.truncate(n);
                    streamed = Some(bytes);
                }
                same_value("get_reader", streamed.as_deref(), expected)?;
                let there = told("contains_key", keyspace.contains_key(key))?;
                same("contains_key", &there, &expected.is_some(), bool::to_string)?;
            }
            O::GetBatch(ks, keys) => {
                let (keyspace, id) = self.keyspace(*ks)?;
                let found = told("get_batch", keyspace.get_batch(keys))?;
                same("get_batch", &found.len(), &keys.len(), usize::to_string)?;
                for (key, value) in keys.iter().zip(&found) {
                    let expected = self.reference.get(id, key, now);
                    same_value("get_batch", value.as_deref(), expected)?;
                }
            }
            O::Scan(ks, bounds, bits) => self.same_range(*ks, bounds, *bits)?,
            O::ScanReverse(ks, (start, end)) => {
                let (keyspace, id) = self.keyspace(*ks)?;
                let (start, end) = (start.as_deref(), end.as_deref());
                let mut expected = self.reference.range(id, start, end, now);
                expected.reverse();
                let range = told("scan_reverse", keyspace.scan_reverse(start, end))?;
                same_range("scan_reverse", range, expected, 0)?;
            }
            O::ScanPrefix(ks, prefix) => {
                let (keyspace, id) = self.keyspace(*ks)?;
                let mut expected = self.reference.range(id, Some(prefix), None, now);
                expected.retain(|(k, _)| k.starts_with(prefix));
                let range = told("scan_prefix", keyspace.scan_prefix(prefix))?;
                same_range("scan_prefix", range, expected, 0)?;
            }
            O::Cursor(ks, steps) => {
                let (keyspace, id) = self.keyspace(*ks)?;
                let expected = self.reference.range(id, None, None, now);
                walk(told("cursor", keyspace.cursor())?, &expected, steps)?;
            }
            O::Ends(ks) => {
                let (keyspace, id) = self.keyspace(*ks)?;
                let expected = self.reference.range(id, None, None, now);
                same_pair("first", keyspace.first().transpose(), expected.first())?;
                same_pair("last", keyspace.last().transpose(), expected.last())?;
            }
            O::Count(ks, (start, end)) => {
                let (keyspace, id) = self.keyspace(*ks)?;
                let (start, end) = (start.as_deref(), end.as_deref());
                let expected = self.reference.range(id, start, end, now).len() as u64;
                let found = told("count", keyspace.count(start, end))?;
                same("count", &found, &expected, u64::to_string)?;
            }
            O::Snapshot(slot) => {
                let snapshot = told("snapshot", self.db().snapshot())?;
                self.held.snapshots[*slot] = Some((snapshot, now));
            }
            O::SnapshotAt(slot, part) => {
                let oldest = self.db().oldest_moment().0;
                if self.config.history_retention.is_some_and(|kept| kept > Duration::from_secs(99))
                {
                    same("the oldest moment", &oldest, &0, u64::to_string)?;
                }
                let at = oldest + (now.0 - oldest) * part / 1000;
                let snapshot = told("snapshot at", self.db().snapshot_at(at))?;
                same("its number", &snapshot.seq(), &at, u64::to_string)?;
                self.held.snapshots[*slot] = Some((snapshot, (at, self.past_day())));
            }
            O::History(ks, key) => {
                let (keyspace, id) = self.keyspace(*ks)?;
                let oldest = self.db().oldest_moment().0;
                let found = told("history", keyspace.history(key))?;
                let found = found.into_iter().map(|v| (v.commit, v.value.map(Bytes::from)));
                let told = |n: u64| !self.reference.may_be_told(id, key, n);
                let mut expected = self.reference.history(id, key, (oldest, self.past_day()));
                expected.retain(|(n, _)| told(*n));
                // What stands before the oldest moment may have lost its number.
                let known = |(n, v)| (if n <= oldest { 0 } else { n }, v);
                let found: Vec<_> = found.map(known).filter(|(n, _)| told(*n)).collect();
                same("history", &found, &expected, |all| {
                    format!(
                        "{:?}",
                        all.iter().map(|(n, v)| (n, v.as_deref().map(short))).collect::<Vec<_>>()
                    )
                })?;
            }
            O::DropSnapshot(slot) => self.held.snapshots[*slot] = None,
            O::SnapshotGet(slot, ks, key) => {
                let (keyspace, id) = self.keyspace(*ks)?;
                let Some((snapshot, at)) = &self.held.snapshots[*slot] else { return Ok(()) };
                let found = told("snapshot get", snapshot.get_in(&keyspace, key))?;
                let expected = self.reference.get(id, key, *at);
                same_value("snapshot get", found.as_deref(), expected)?;
            }
            O::SnapshotScan(slot, ks, (start, end), bits) => {
                let (keyspace, id) = self.keyspace(*ks)?;
                let Some((snapshot, at)) = &self.held.snapshots[*slot] else { return Ok(()) };
                let (start, end) = (start.as_deref(), end.as_deref());
                let expected = self.reference.range(id, start, end, *at);
                let range = told("snapshot scan", snapshot.range_in(&keyspace, start, end))?;
                same_range("snapshot scan", range, expected, *bits)?;
            }
            O::HoldRange(slot, ks, (start, end)) => {
                let (keyspace, id) = self.keyspace(*ks)?;
                let (start, end) = (start.as_deref(), end.as_deref());
                let rest = self.reference.range(id, start, end, now).into();
                let range = told("range", keyspace.range(start, end))?;
                self.held.ranges[*slot] = Some(Held { range, rest });
            }
            O::StepRange(slot, bits) => {
                let Some(held) = &mut self.held.ranges[*slot] else { return Ok(()) };
                for i in 0..bits % 40 {
                    let (found, wanted) = if bits >> (20 + i) & 1 == 1 {
                        (held.range.next_back(), held.rest.pop_back())
                    } else {
                        (held.range.next(), held.rest.pop_front())
                    };
                    same_pair("an iterator held open", found, wanted.as_ref())?;
                }
            }
            O::DropKeyspace(ks) => {
                let result = self.db().drop_keyspace(&name(*ks));
                let Some(_) = self.ids[*ks].take() else {
                    let kind = result.err().map(|e| e.kind());
                    return same("drop", &kind, &Some(ErrorKind::NotFound), |k| format!("{k:?}"));
                };
                told("drop_keyspace", result)?;
                if let Some((handle, _)) = self.keyspaces[*ks].take() {
                    let kind = handle.get(b"k").err().map(|e| e.kind());
                    let gone = Some(ErrorKind::NotFound);
                    same("a dropped keyspace", &kind, &gone, |k| format!("{k:?}"))?;
                }
                self.same_keyspaces()?;
            }
            O::Flush => told("flush", self.db().flush())?,
            O::Checkpoint => told("checkpoint", self.db().checkpoint())?,
            O::Sync => told("sync", self.db().sync())?,
            O::Compact => told("compact", self.db().compact())?,
            O::CompactRange(ks, (start, end)) => {
                let (keyspace, _) = self.keyspace(*ks)?;
                let result = keyspace.compact_range(start.as_deref(), end.as_deref());
                told("compact_range", result)?;
            }
            O::EvictCache(percent) => {
                told("evict", self.db().evict_cache(f64::from(*percent) / 100.0))?;
            }
            O::Verify => {
                let report = told("verify", self.db().verify(VerifyOptions::default()))?;
                same("problems", &report.problems, &Vec::new(), |p| format!("{p:?}"))?;
            }
            O::Stats => self.same_counts()?,
            O::Reopen => self.reopen(false)?,
            O::Kill => self.reopen(true)?,
            O::DeleteRange(..) | O::RangeBatch(_) | O::TxDeleteRange(..) => {
                self.delete_ranges(op)?;
            }
            O::Begin(..)
            | O::TxWrite(..)
            | O::TxPutFor(..)
            | O::TxMerge(..)
            | O::TxGet(..)
            | O::TxScan(..)
            | O::Commit(_)
            | O::Abort(_) => self.transact(op)?,
        }
        Ok(())
    }

    /// The day by which looks into the past judge: that on which what is kept of it began.
    fn past_day(&self) -> u64 {
        let long = self.config.history_retention.is_some_and(|kept| kept > Duration::from_secs(99));
        if long { 0 } else { self.reference.day }
    }

    fn transact(&mut self, op: &Operation) -> Outcome {
        use Operation as O;
        let merging = [0, 1, 2].map(|ks| self.merges(ks));
        match op {
            O::Begin(slot, by_id) => {
                let handle = if *by_id {
                    TxHandle::Id(told("begin", self.db().begin_transaction())?)
                } else {
                    TxHandle::Guard(Box::new(told("begin", self.db().transaction())?))
                };
                let at = self.reference.moment();
                let before = self.held.transactions[*slot].replace(Tx {
                    handle,
                    at,
                    writes: BTreeMap::new(),
                    ranges: Vec::new(),
                    days: BTreeMap::new(),
                });
                if let Some(Tx { handle: TxHandle::Id(id), .. }) = before {
                    told("abort", self.db().abort_transaction(id))?;
                }
            }
            O::TxWrite(slot, ks, key, value) => {
                let (keyspace, id) = self.keyspace(*ks)?;
                let (db, value) = (self.db().clone(), value.map(bytes));
                let Some(tx) = &mut self.held.transactions[*slot] else { return Ok(()) };
                let (result, id) = match (&mut tx.handle, &value) {
                    (TxHandle::Guard(g), Some(v)) => (g.put_in(&keyspace, key, v), id),
                    (TxHandle::Guard(g), None) => (g.delete_in(&keyspace, key), id),
                    (TxHandle::Id(t), Some(v)) => (db.put_tx(*t, key, v), 0),
                    (TxHandle::Id(t), None) => (db.delete_tx(*t, key), 0),
                };
                told("write in a transaction", result)?;
                tx.writes.insert((id, key.clone()), value);
                tx.days.remove(&(id, key.clone()));
            }
            O::TxPutFor(slot, ks, key, value, days) => {
                let (keyspace, id) = self.keyspace(*ks)?;
                let (db, value, ttl) = (self.db().clone(), bytes(*value), lifetime(*days));
                let Some(tx) = &mut self.held.transactions[*slot] else { return Ok(()) };
                let (result, id, ks) = match &mut tx.handle {
                    TxHandle::Guard(g) => (g.put_with_ttl_in(&keyspace, key, &value, ttl), id, *ks),
                    TxHandle::Id(t) => (db.put_with_ttl_tx(*t, key, &value, ttl), 0, 0),
                };
                if merging[ks] {
                    return refused("put_with_ttl", ErrorKind::InvalidArgument, result);
                }
                told("put_with_ttl in a transaction", result)?;
                tx.writes.insert((id, key.clone()), Some(value));
                tx.days.insert((id, key.clone()), *days);
            }
            O::TxMerge(slot, ks, key, operand) => {
                let (keyspace, id) = self.keyspace(*ks)?;
                let (db, operand) = (self.db().clone(), bytes(*operand));
                let Some(tx) = &mut self.held.transactions[*slot] else { return Ok(()) };
                let (result, id, ks) = match &mut tx.handle {
                    TxHandle::Guard(g) => (g.merge_in(&keyspace, key, &operand), id, *ks),
                    TxHandle::Id(t) => (db.merge_tx(*t, key, &operand), 0, 0),
                };
                if !merging[ks] {
                    return refused("merge", ErrorKind::NoMergeOperator, result);
                }
                told("merge in a transaction", result)?;
                let before = match tx.writes.get(&(id, key.clone())) {
                    Some(own) => own.as_ref(),
                    None if tx.has_deleted(id, key) => None,
                    None => self.reference.get(id, key, tx.at),
                };
                let value = appended(before, &operand);
                tx.writes.insert((id, key.clone()), Some(value));
            }
            O::TxGet(slot, ks, key) => {
                let (keyspace, id) = self.keyspace(*ks)?;
                let Some(tx) = &self.held.transactions[*slot] else { return Ok(()) };
                let (found, id) = match &tx.handle {
                    TxHandle::Guard(g) => (g.get_in(&keyspace, key), id),
                    TxHandle::Id(t) => (self.db().get_tx(*t, key), 0),
                };
                let found = told("get in a transaction", found)?;
                let expected = match tx.writes.get(&(id, key.clone())) {
                    Some(own) => own.as_ref(),
                    None if tx.has_deleted(id, key) => None,
                    None => self.reference.get(id, key, tx.at),
                };
                same_value("get in a transaction", found.as_deref(), expected)?;
            }
            O::TxScan(slot, ks, (start, end), bits) => {
                let (keyspace, id) = self.keyspace(*ks)?;
                let Some(tx) = &self.held.transactions[*slot] else { return Ok(()) };
                let (start, end) = (start.as_deref(), end.as_deref());
                let (range, id) = match &tx.handle {
                    TxHandle::Guard(g) => (g.range_in(&keyspace, start, end), id),
                    TxHandle::Id(t) => (self.db().scan_tx(*t, start, end), 0),
                };
                let snapshot = self.reference.range(id, start, end, tx.at);
                let mut expected: BTreeMap<Key, Bytes> = snapshot.into_iter().collect();
                expected.retain(|k, _| !tx.has_deleted(id, k));
                for ((keyspace, key), value) in &tx.writes {
                    let after = start.is_none_or(|s| &**key >= s);
                    if *keyspace == id && after && end.is_none_or(|e| &**key < e) {
                        match value {
                            Some(value) => expected.insert(key.clone(), Rc::clone(value)),
                            None => expected.remove(key),
                        };
                    }
                }
                let range = told("scan in a transaction", range)?;
                same_range("scan in a transaction", range, expected.into_iter().collect(), *bits)?;
            }
            O::Commit(slot) => {
                let Some(tx) = self.held.transactions[*slot].take() else { return Ok(()) };
                let result = match tx.handle {
                    TxHandle::Guard(g) => g.commit(),
                    TxHandle::Id(t) => self.db().commit_transaction(t),
                };
                let (must, may) = self.conflicts(&tx.writes, &tx.ranges, tx.at);
                let mut named =
                    tx.writes.keys().map(|(id, _)| *id).chain(tx.ranges.iter().map(|(id, _)| *id));
                let of_dropped = named.any(|id| !self.ids.contains(&Some(id)));
                let kind = result.err().map(|e| e.kind());
                // Where both hold, the first that is met is told.
                let mut possible = Vec::new();
                if !must && !of_dropped {
                    possible.push(None);
                }
                if of_dropped {
                    possible.push(Some(ErrorKind::NotFound));
                }
                if may {
                    possible.push(Some(ErrorKind::Conflict));
                }
                if !possible.contains(&kind) {
                    return Err(format!("commit: {kind:?}, expected {possible:?}"));
                }
                self.counts.conflicts += u64::from(kind == Some(ErrorKind::Conflict));
                if kind.is_none() {
                    let ranges = tx.ranges.into_iter().map(|(id, (s, e))| Part::Range(id, s, e));
                    let writes = tx.writes.into_iter().map(|((id, k), v)| Part::Entry((id, k, v)));
                    self.commit_parts(&ranges.chain(writes).collect::<Vec<_>>());
                    for ((id, key), days) in tx.days {
                        self.reference.expire(id, &key, days);
                    }
                }
            }
            O::Abort(slot) => match self.held.transactions[*slot].take().map(|t| t.handle) {
                Some(TxHandle::Guard(g)) => g.abort(),
                Some(TxHandle::Id(t)) => told("abort", self.db().abort_transaction(t))?,
                None => {}
            },
            _ => unreachable!("only what transactions do"),
        }
        Ok(())
    }

    fn same_counts(&self) -> Outcome {
        let stats = self.db().stats();
        let held = &self.held;
        let transactions = held.transactions.iter().flatten().count() as u64;
        let views = transactions
            + held.snapshots.iter().flatten().count() as u64
            + held.ranges.iter().flatten().count() as u64;
        for (what, found, expected) in [
            ("commits", stats.commits, self.counts.commits),
            ("conflicts", stats.conflicts, self.counts.conflicts),
            ("transactions_active", stats.transactions_active, transactions),
            ("views", stats.views, views),
        ] {
            same(what, &found, &expected, u64::to_string)?;
        }
        let health = self.db().health_check();
        let merging = self.config.background_compaction && self.config.background_threads == 0;
        if merging && !health.healthy { Err(format!("{:?}", health.problems)) } else { Ok(()) }
    }

    /// Everything is as it should be, verifies, and is so again after a close.
    fn end(&mut self) -> Outcome {
        for reopened in [false, true] {
            if reopened {
                self.reopen(false)?;
            }
            for ks in 0..KEYSPACES {
                self.same_range(ks, &(None, None), 0)?;
            }
            self.step(&Operation::Verify)?;
        }
        Ok(())
    }
}

fn name(which: usize) -> String {
    ["default", "first", "second"][which].to_owned()
}

/// Steps a cursor and an index side by side.
fn walk(mut cursor: Cursor, expected: &[Pair], steps: &[Step]) -> Outcome {
    let mut at: Option<usize> = None;
    let within = |i: usize| (i < expected.len()).then_some(i);
    for step in steps {
        let (moved, next) = match step {
            Step::Seek(key) => {
                (cursor.seek(key), within(expected.partition_point(|(k, _)| k < key)))
            }
            Step::SeekBefore(key) => {
                (cursor.seek_before(key), expected.partition_point(|(k, _)| k < key).checked_sub(1))
            }
            Step::First => (cursor.seek_to_first(), within(0)),
            Step::Last => (cursor.seek_to_last(), expected.len().checked_sub(1)),
            Step::Next => (cursor.next(), at.and_then(|i| within(i + 1))),
            Step::Prev => (cursor.prev(), at.and_then(|i| i.checked_sub(1))),
        };
        at = next;
        same("cursor", &told("cursor", moved)?, &at.is_some(), bool::to_string)?;
        let found = told("cursor", cursor.entry())?;
        let wanted = at.map(|i| (&*expected[i].0, &*expected[i].1));
        same("cursor", &found, &wanted, |p| format!("{:?}", p.map(|(k, v)| (short(k), short(v)))))?;
    }
    Ok(())
}
