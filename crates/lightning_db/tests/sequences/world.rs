//! One run: the database on a simulated disk, the model beside it, and everything that is held open.
//!
//! 1. Every answer of the database is compared with the model's at once, and goes into the run's
//!    hash, so that runs under different settings can be compared as well.
//! 2. Model and engine number commits alike, over closings and kills too.
//! 3. Handles held when the database is closed are used, and dropped, after it was opened again.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;

use lightning_db::vfs::{SimulatedVfs, Vfs};
use lightning_db::{
    CompressionType, Database, Durability, ErrorKind, IndexKey, IndexSpec, KeySource, Keyspace,
    KeyspaceOptions, LightningDbConfig, OpenAs, Result, VerifyOptions, WalSyncMode, WriteBatch,
    WriteOptions,
};

use crate::held::Held;
use crate::model::{Life, Model};
use crate::operation::{Bound, Key, Operation, Value};

const PATH: &str = "/db";
/// What a keyspace may be made with; the last one with a level too.
const COMPRESSIONS: [Option<CompressionType>; 6] = [
    None,
    Some(CompressionType::None),
    Some(CompressionType::Lz4),
    Some(CompressionType::Snappy),
    Some(CompressionType::Zstd),
    Some(CompressionType::Zstd),
];
const LEVELED: u8 = 5;

/// More than any one operation needs of the disk.
const MOST_DISK_OPERATIONS: u64 = 200_000;
/// The names of keyspaces, sorted; the first is always there.
const NAMES: [&str; 4] = ["default", "one", "three", "two"];
/// Those with an index, `by_start`, from their beginning on.
const INDEXED: [&str; 2] = ["three", "two"];

/// What counts a read view: everything that shares one shares this.
pub type ViewId = Rc<()>;

/// What the database must have counted since it was opened.
#[derive(Default)]
pub struct Counts {
    pub commits: u64,
    pub committed: u64,
    pub aborted: u64,
    pub conflicts: u64,
}

/// A key and its value.
type Entry = (Vec<u8>, Vec<u8>);
/// What a commit changes.
type Change = (Life, Key, Option<Value>);

pub struct World<'a> {
    pub keys: &'a [Vec<u8>],
    settings: &'a [LightningDbConfig],
    setting: usize,
    encryption: Option<KeySource>,
    pub vfs: SimulatedVfs,
    pub db: Database,
    pub model: Model,
    keyspaces: BTreeMap<&'static str, (Keyspace, Life)>,
    dropped: Vec<Keyspace>,
    pub held: Held,
    pub counts: Counts,
    answers: DefaultHasher,
    /// Whether another setting must give the same answers.
    pub comparable: bool,
}

/// Once made, a database is encrypted or not, whatever else it is opened with.
fn open(
    vfs: &SimulatedVfs,
    config: &LightningDbConfig,
    encryption: Option<KeySource>,
    mode: OpenAs,
) -> Database {
    let shared = Arc::new(vfs.clone()) as Arc<dyn Vfs>;
    let config = LightningDbConfig { encryption, ..config.clone() };
    Database::open_with_vfs(shared, PATH, config, mode).expect("the database opens")
}

/// The kind of an error that had to come.
pub fn refused<T: std::fmt::Debug>(result: Result<T>, kind: ErrorKind) {
    assert_eq!(result.expect_err("must be refused").kind(), kind);
}

impl<'a> World<'a> {
    pub fn new(
        seed: u64,
        keys: &'a [Vec<u8>],
        settings: &'a [LightningDbConfig],
        setting: usize,
    ) -> Self {
        let vfs = SimulatedVfs::new(seed);
        let encryption = settings[setting].encryption.clone();
        let db = open(&vfs, &settings[setting], encryption.clone(), OpenAs::Create);
        let mut model = Model::default();
        let mut keyspaces = BTreeMap::new();
        for name in &NAMES[..2] {
            let keyspace = db.keyspace(name, KeyspaceOptions::default()).expect("a keyspace");
            keyspaces.insert(*name, (keyspace, model.make()));
        }
        Self {
            keys,
            settings,
            setting,
            encryption,
            vfs,
            db,
            model,
            keyspaces,
            dropped: Vec::new(),
            held: Held::default(),
            counts: Counts::default(),
            answers: DefaultHasher::new(),
            comparable: true,
        }
    }

    /// How much of the past is kept.
    pub fn retention(&self) -> Option<std::time::Duration> {
        self.settings[self.setting].history_retention
    }

    /// The hash of every answer so far.
    pub fn answers(&self) -> u64 {
        self.answers.finish()
    }

    pub fn answer(&mut self, answer: impl Hash) {
        if self.comparable {
            answer.hash(&mut self.answers);
        }
    }

    /// Compares one value.
    pub fn same(&mut self, what: &str, key: Key, got: Option<&[u8]>, want: Option<Value>) {
        let bytes = want.map(Value::bytes);
        assert!(
            got == bytes.as_deref(),
            "{what} of key {key}: {} instead of {want:?}",
            got.map_or("nothing".to_owned(), |g| format!(
                "{} bytes {:02x?}",
                g.len(),
                &g[..g.len().min(8)]
            ))
        );
        self.answer(got);
    }

    /// Compares one entry.
    pub fn same_entry(
        &mut self,
        what: &str,
        got: Option<(&[u8], &[u8])>,
        want: Option<(Key, Value)>,
    ) {
        match (got, want) {
            (None, None) => self.answer(0),
            (Some((key, value)), Some((k, v))) if key == self.keys[k as usize] => {
                self.answer(key);
                self.same(what, k, Some(value), Some(v));
            }
            (got, want) => {
                let key = got.map(|(k, _)| self.keys.iter().position(|t| t == k).ok_or(k));
                panic!("{what}: key {key:?} instead of {want:?}");
            }
        }
    }

    /// A keyspace that there is.
    pub fn keyspace(&self, n: u8) -> (Keyspace, Life) {
        let (keyspace, life) =
            self.keyspaces.values().nth(n as usize % self.keyspaces.len()).expect("below");
        (keyspace.clone(), *life)
    }

    pub fn is_default(&self, n: u8) -> bool {
        (n as usize).is_multiple_of(self.keyspaces.len())
    }

    /// The place of the first key at or after `bytes`.
    pub fn place(&self, bytes: &[u8]) -> Key {
        self.keys.partition_point(|k| k.as_slice() < bytes) as Key
    }

    fn bound(&self, bound: Option<Bound>) -> (Option<Vec<u8>>, Option<Key>) {
        let bytes = bound.map(|b| b.bytes(self.keys));
        let place = bytes.as_deref().map(|b| self.place(b));
        (bytes, place)
    }

    /// A commit that the engine acknowledged.
    pub fn committed(&mut self, changes: Vec<(Life, Key, Option<Value>)>) {
        self.counts.commits += u64::from(!changes.is_empty());
        self.model.commit(changes);
        assert_eq!(self.db.stats().last_commit, self.model.last, "the last commit");
    }

    fn delete_range(
        &mut self,
        n: u8,
        start: Option<Bound>,
        end: Option<Bound>,
        behind: Option<(Key, Value)>,
    ) {
        let (keyspace, life) = self.keyspace(n);
        let (start, first) = self.bound(start);
        let (end, past) = self.bound(end);
        let empty = end.as_ref().is_some_and(|e| *e <= start.clone().unwrap_or_default());
        let (start, end) = (start.as_deref(), end.as_deref());
        let change = behind.map(|(key, value)| (life, key, Some(value)));
        match behind {
            Some((key, value)) => {
                let mut batch = lightning_db::WriteBatch::new();
                batch.put_in(&keyspace, &self.keys[key as usize], value.bytes());
                batch.delete_range_in(&keyspace, start, end);
                self.db.write(batch, lightning_db::WriteOptions::default()).expect("write");
            }
            None => keyspace.delete_range(start, end).expect("delete_range"),
        }
        if empty {
            return self.committed(change.into_iter().collect());
        }
        self.counts.commits += 1;
        self.model.delete_range(life, change, first.unwrap_or(0), past);
        assert_eq!(self.db.stats().last_commit, self.model.last, "the last commit");
    }

    pub fn step(&mut self, operation: &Operation) {
        // Work that never ends is taken down, and then fails.
        self.vfs.crash_after(self.vfs.operations() + MOST_DISK_OPERATIONS);
        match *operation {
            Operation::Put { keyspace: n, key, value } => {
                let (keyspace, life) = self.keyspace(n);
                let bytes = value.bytes();
                let result = if n == 0 {
                    self.db.put(&self.keys[key as usize], &bytes)
                } else {
                    keyspace.put(&self.keys[key as usize], &bytes)
                };
                result.expect("put");
                self.committed(vec![(life, key, Some(value))]);
            }
            Operation::PutFor { .. }
            | Operation::TimeLeft { .. }
            | Operation::DefaultTtl { .. }
            | Operation::SetClock { .. } => self.time_step(operation),
            Operation::Delete { keyspace: n, key } => {
                let (keyspace, life) = self.keyspace(n);
                let result = if n == 0 {
                    self.db.delete(&self.keys[key as usize])
                } else {
                    keyspace.delete(&self.keys[key as usize])
                };
                result.expect("delete");
                self.committed(vec![(life, key, None)]);
            }
            Operation::DeleteRange { keyspace: n, start, end, behind } => {
                self.delete_range(n, start, end, behind);
            }
            Operation::Swap { keyspace, key, value, stale } => {
                self.swap(keyspace, key, value, stale);
            }
            Operation::Fill { keyspace, from, step, count, value } => {
                let (keyspace, life) = self.keyspace(keyspace);
                let (entries, changes) = self.row_of_values(life, from, step, count, value);
                keyspace.put_batch(&entries).expect("put_batch");
                self.committed(changes);
            }
            Operation::Ingest { keyspace, from, step, count, value } => {
                let (keyspace, life) = self.keyspace(keyspace);
                let (entries, changes) = self.row_of_values(life, from, step, count, value);
                let done = keyspace.ingest(entries).map_err(|e| e.kind());
                if INDEXED.contains(&keyspace.name()) {
                    assert_eq!(done, Err(ErrorKind::InvalidArgument), "ingest beside an index");
                } else {
                    done.expect("ingest");
                    self.committed(changes);
                }
            }
            Operation::Clear { keyspace, from, step, count } => {
                let (keyspace, life) = self.keyspace(keyspace);
                let row = self.row(from, step, count);
                let keys: Vec<_> = row.iter().map(|k| &self.keys[*k as usize]).collect();
                keyspace.delete_batch(&keys).expect("delete_batch");
                self.committed(row.into_iter().map(|k| (life, k, None)).collect());
            }
            Operation::Write { ref writes, durability } => self.write(writes, durability),
            Operation::MakeKeyspace { name, small_buffer, compression } => {
                self.make_keyspace(name, small_buffer, compression);
            }
            Operation::DropKeyspace { name } => self.drop_keyspace(name),
            Operation::UseDropped { slot, key, value } => self.use_dropped(slot, key, value),
            Operation::Flush => self.db.flush().expect("flush"),
            Operation::Checkpoint => self.db.checkpoint().expect("checkpoint"),
            Operation::Compact => self.compact(),
            Operation::CompactRange { keyspace, start, end } => {
                let (keyspace, _) = self.keyspace(keyspace);
                let ((start, _), (end, _)) = (self.bound(start), self.bound(end));
                keyspace.compact_range(start.as_deref(), end.as_deref()).expect("compact_range");
            }
            Operation::EvictCache { percent } => {
                self.db.evict_cache(f64::from(percent) / 100.0).expect("evict_cache");
            }
            Operation::Sync => self.db.sync().expect("sync"),
            Operation::Verify => self.verify(),
            Operation::Compare => self.compare(),
            Operation::Reopen { setting } => self.reopen(setting),
            Operation::Kill { setting, seed } => self.kill(setting, seed),
            Operation::Count { keyspace, start, end } => {
                let (keyspace, life) = self.keyspace(keyspace);
                let ((start, from), (end, to)) = (self.bound(start), self.bound(end));
                let got = keyspace.count(start.as_deref(), end.as_deref()).expect("count");
                let want = self.model.entries(life, from.unwrap_or(0), to, self.model.now()).len();
                assert_eq!(got, want as u64, "count");
                self.answer(got);
            }
            _ => self.read_step(operation),
        }
        self.check_counts();
    }

    /// Keys in a row of the table, as far as it goes.
    fn row(&self, from: Key, step: Key, count: u16) -> Vec<Key> {
        (0..count)
            .map(|i| from as usize + i as usize * step as usize)
            .take_while(|k| *k < self.keys.len())
            .map(|k| k as Key)
            .collect()
    }

    /// Keys in a row with values, as entries and as changes of a life of a keyspace.
    fn row_of_values(
        &self,
        life: Life,
        from: Key,
        step: Key,
        count: u16,
        value: Value,
    ) -> (Vec<Entry>, Vec<Change>) {
        let numbered = self.row(from, step, count).into_iter().zip(0..);
        let valued = numbered.map(|(key, i)| (key, Value { seed: value.seed + i, ..value }));
        valued
            .map(|(key, v)| ((self.keys[key as usize].clone(), v.bytes()), (life, key, Some(v))))
            .unzip()
    }

    fn write(&mut self, writes: &[(u8, Key, Option<Value>)], durability: u8) {
        let mut batch = WriteBatch::new();
        let mut changes = Vec::new();
        for &(n, key, value) in writes {
            let (keyspace, life) = self.keyspace(n);
            let bytes = &self.keys[key as usize];
            match (value, self.is_default(n)) {
                (Some(value), true) => batch.put(bytes, value.bytes()),
                (None, true) => batch.delete(bytes),
                (Some(value), false) => batch.put_in(&keyspace, bytes, value.bytes()),
                (None, false) => batch.delete_in(&keyspace, bytes),
            }
            changes.push((life, key, value));
        }
        let durability = match durability {
            _ if !self.settings[self.setting].wal_enabled => None,
            0 => Some(Durability::Sync),
            1 => Some(Durability::Periodic),
            2 => Some(Durability::Async),
            _ => None,
        };
        self.db.write(batch, WriteOptions { durability }).expect("write");
        self.committed(changes);
    }

    fn swap(&mut self, n: u8, key: Key, value: Option<Value>, stale: bool) {
        let (keyspace, life) = self.keyspace(n);
        let bytes = &self.keys[key as usize];
        let there = self.model.get(life, key, self.model.now());
        let current = there.map(Value::bytes);
        let Some(value) = value else {
            let got = keyspace.take(bytes).expect("take");
            self.same("take", key, got.as_deref(), there);
            return self.committed(there.map(|_| (life, key, None)).into_iter().collect());
        };
        let expected = if stale { Some(&b"stale"[..]) } else { current.as_deref() };
        let swapped = keyspace.compare_and_swap(bytes, expected, Some(&value.bytes()));
        match swapped.expect("compare_and_swap") {
            Ok(()) => {
                assert!(!stale, "swapped what was not there");
                self.committed(vec![(life, key, Some(value))]);
            }
            Err(e) => {
                assert!(stale, "refused what was there");
                self.same("compare_and_swap", key, e.current.as_deref(), there);
            }
        }
    }

    fn make_keyspace(&mut self, name: u8, small_buffer: bool, compression: u8) {
        let name = NAMES[name as usize % NAMES.len()];
        let options = KeyspaceOptions {
            write_buffer_size: small_buffer.then_some(64 << 10),
            compression_type: COMPRESSIONS[compression as usize],
            compression_level: (compression == LEVELED).then_some(19),
            ..KeyspaceOptions::default()
        };
        let keyspace = self.db.keyspace(name, options).expect("a keyspace");
        if INDEXED.contains(&name) && !self.keyspaces.contains_key(name) {
            let spec = IndexSpec::parse(&["value:0..4"]).expect("a part");
            keyspace.create_index("by_start", spec).expect("there is nothing to build");
        }
        let model = &mut self.model;
        self.keyspaces.entry(name).or_insert_with(|| (keyspace, model.make()));
    }

    fn drop_keyspace(&mut self, name: u8) {
        let name = NAMES[name as usize % NAMES.len()];
        let result = self.db.drop_keyspace(name);
        if name == NAMES[0] {
            return refused(result, ErrorKind::InvalidArgument);
        }
        let Some((keyspace, life)) = self.keyspaces.remove(name) else {
            return refused(result, ErrorKind::NotFound);
        };
        result.expect("drop_keyspace");
        self.dropped.push(keyspace);
        self.model.remove(life);
    }

    fn use_dropped(&mut self, slot: u8, key: Key, value: Value) {
        if self.dropped.is_empty() {
            return;
        }
        let keyspace = &self.dropped[slot as usize % self.dropped.len()];
        let key = &self.keys[key as usize];
        refused(keyspace.get(key), ErrorKind::NotFound);
        refused(keyspace.put(key, value.bytes()), ErrorKind::NotFound);
        refused(keyspace.range(None, None), ErrorKind::NotFound);
        // Nothing of the batch is written.
        let mut batch = WriteBatch::new();
        batch.put(key, value.bytes());
        batch.put_in(keyspace, key, value.bytes());
        refused(self.db.write(batch, WriteOptions::default()), ErrorKind::NotFound);
        if let Some(snapshot) = self.held.snapshots.last() {
            refused(snapshot.snapshot.get_in(keyspace, key), ErrorKind::NotFound);
        }
    }

    fn compact(&mut self) {
        self.db.compact().expect("compact");
        if self.held.views() > 0 || self.settings[self.setting].history_retention.is_some() {
            return;
        }
        // Nobody sees old versions, so that none is left.
        let stats = self.db.stats();
        for (name, (_, life)) in &self.keyspaces {
            let held = stats.keyspaces.iter().find(|k| k.name == *name).expect("its figures");
            let live = self.model.entries(*life, 0, None, self.model.now()).len();
            assert_eq!(held.entries, live as u64, "entries of {name} after a compaction");
        }
    }

    fn verify(&mut self) {
        let report = self.db.verify(VerifyOptions::default()).expect("a report");
        assert!(report.is_clean(), "verify: {:?}", report.problems);
    }

    /// The index has one entry for each row, by the first bytes of its value and then by its key.
    fn compare_index(&mut self, keyspace: &Keyspace, rows: &[(Key, Value)]) {
        let start = |value: Value| {
            let mut bytes = value.bytes();
            bytes.truncate(4);
            bytes
        };
        let mut want: Vec<_> = rows.iter().map(|(key, value)| (start(*value), *key)).collect();
        want.sort();
        let index = keyspace.index("by_start").expect("the index");
        let got = index.keys(None, None).expect("entries").map(|e| e.expect("an entry"));
        let want = want
            .into_iter()
            .map(|(start, key)| (IndexKey::from(start), self.keys[key as usize].clone()));
        assert!(got.eq(want), "the index of {:?} differs from its rows", keyspace.name());
    }

    /// Compares everything, in both directions.
    pub fn compare(&mut self) {
        let names = self.db.list_keyspaces();
        assert!(names.iter().map(String::as_str).eq(self.keyspaces.keys().copied()), "{names:?}");
        self.answer(names);
        for (keyspace, life) in self.keyspaces.values().cloned().collect::<Vec<_>>() {
            let entries = self.model.entries(life, 0, None, self.model.now());
            if INDEXED.contains(&keyspace.name()) {
                self.compare_index(&keyspace, &entries);
            }
            let range = keyspace.range(None, None).expect("a range");
            self.compare_all("forward", range, entries.iter().copied());
            let range = keyspace.scan_reverse(None, None).expect("a range");
            self.compare_all("backward", range, entries.into_iter().rev());
            for key in 0..self.keys.len() {
                let got = keyspace.get(&self.keys[key]).expect("get");
                let want = self.model.get(life, key as Key, self.model.now());
                self.same("get", key as Key, got.as_deref(), want);
            }
        }
    }

    pub fn compare_all(
        &mut self,
        what: &str,
        got: impl IntoIterator<Item = Result<(Vec<u8>, Vec<u8>)>>,
        want: impl IntoIterator<Item = (Key, Value)>,
    ) {
        let mut want = want.into_iter();
        for entry in got {
            let (key, value) = entry.expect("an entry");
            self.same_entry(what, Some((&key, &value)), want.next());
        }
        self.same_entry(what, None, want.next());
    }

    fn reopen(&mut self, setting: u8) {
        self.db.clone().close().expect("close");
        let key = &self.keys[0];
        refused(self.db.get(key), ErrorKind::Closed);
        for snapshot in &self.held.snapshots {
            refused(snapshot.snapshot.get(key), ErrorKind::Closed);
        }
        self.open_again(setting, true);
    }

    fn kill(&mut self, setting: u8, seed: u64) {
        // How late it was is only sure to be known after a close.
        self.set_clock(self.model.hours_behind());
        let config = &self.settings[self.setting];
        if !config.wal_enabled {
            self.db.checkpoint().expect("checkpoint");
        }
        let image = if config.wal_sync_mode == WalSyncMode::Sync {
            // Even the power may fail.
            self.db.sync().expect("sync");
            self.vfs.power_cut(seed)
        } else {
            self.vfs.kill()
        };
        self.vfs.crash_after(self.vfs.operations());
        self.vfs = image;
        self.open_again(setting, false);
    }

    fn open_again(&mut self, setting: u8, closed: bool) {
        self.setting = (self.setting + setting as usize) % self.settings.len();
        let old = std::mem::replace(
            &mut self.db,
            open(&self.vfs, &self.settings[self.setting], self.encryption.clone(), OpenAs::Open),
        );
        let held = std::mem::take(&mut self.held);
        self.outlive(held, closed);
        self.dropped.clear();
        self.counts = Counts::default();
        for (name, (keyspace, _)) in &mut self.keyspaces {
            // One that is not there would be made here, and be empty.
            *keyspace = self.db.keyspace(name, KeyspaceOptions::default()).expect("a keyspace");
        }
        drop(old);
        let names = self.db.list_keyspaces();
        assert!(names.iter().map(String::as_str).eq(self.keyspaces.keys().copied()), "{names:?}");
        assert_eq!(self.db.stats().last_commit, self.model.last, "the last commit");
    }

    /// What the database counts must be so at any time.
    fn check_counts(&mut self) {
        let stats = self.db.stats();
        let counts = &self.counts;
        assert_eq!(stats.last_commit, self.model.last, "last_commit");
        assert_eq!(stats.commits, counts.commits, "commits");
        assert_eq!(stats.views, self.held.views() as u64, "views");
        assert_eq!(stats.transactions_active, self.held.transactions.len() as u64, "active");
        assert_eq!(stats.transactions_committed, counts.committed, "committed");
        assert_eq!(stats.transactions_aborted, counts.aborted, "aborted");
        assert_eq!(stats.conflicts, counts.conflicts, "conflicts");
        let names: HashSet<_> = stats.keyspaces.iter().map(|k| k.name.as_str()).collect();
        assert!(names == self.keyspaces.keys().copied().collect(), "{names:?}");
        if !self.settings[self.setting].wal_enabled {
            assert_eq!(stats.log_bytes, 0, "log_bytes");
        }
    }
}
