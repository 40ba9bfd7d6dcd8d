//! Operations, and sequences of them drawn from a seed.
//!
//! Every operation stands for itself: it names slots, keys and values, and does nothing where its
//! slot is empty. So any part of a sequence is a sequence, and a failing one can be shrunk.

use fastrand::Rng;

/// A value: a byte drawn for it, and its length.
pub type Value = (u8, usize);
pub type Key = Vec<u8>;
/// Start and end of a range.
pub type Bounds = (Option<Key>, Option<Key>);

/// Keyspaces that a sequence names: 0 is the default one, and is never dropped.
pub const KEYSPACES: usize = 3;
/// Snapshots, transactions and iterators that it can hold, of each kind.
pub const SLOTS: usize = 4;

#[derive(Debug, Clone)]
pub enum Step {
    Seek(Key),
    SeekBefore(Key),
    First,
    Last,
    Next,
    Prev,
}

/// One part of a batch with range deletes.
#[derive(Debug, Clone)]
pub enum Part {
    Entry(Key, Option<Value>),
    Range(Bounds),
}

#[derive(Debug, Clone)]
pub enum Operation {
    Put(usize, Key, Value),
    PutOften(usize, Key, u8),
    /// For so many days and a half.
    PutFor(usize, Key, Value, u8),
    /// 0: none.
    DefaultTtl(usize, u8),
    Days(u8),
    Delete(usize, Key),
    /// Appends to a key.
    Merge(usize, Key, Value),
    Batch(Vec<(usize, Key, Option<Value>)>),
    PutBatch(usize, Vec<(Key, Value)>),
    DeleteBatch(usize, Vec<Key>),
    /// Sorted ingest; where the flag is set, its last key comes twice and it is refused.
    Ingest(usize, std::collections::BTreeMap<Key, Value>, bool),
    Get(usize, Key),
    GetBatch(usize, Vec<Key>),
    /// The bits say from which end each entry is taken; then the rest is.
    Scan(usize, Bounds, u64),
    ScanReverse(usize, Bounds),
    ScanPrefix(usize, Key),
    Cursor(usize, Vec<Step>),
    Ends(usize),
    Count(usize, Bounds),
    Snapshot(usize),
    DropSnapshot(usize),
    SnapshotGet(usize, usize, Key),
    SnapshotScan(usize, usize, Bounds, u64),
    /// So many thousandths of the way from the oldest moment kept to now.
    SnapshotAt(usize, u64),
    History(usize, Key),
    HoldRange(usize, usize, Bounds),
    StepRange(usize, u64),
    Begin(usize, bool),
    TxWrite(usize, usize, Key, Option<Value>),
    TxPutFor(usize, usize, Key, Value, u8),
    TxMerge(usize, usize, Key, Value),
    TxGet(usize, usize, Key),
    TxScan(usize, usize, Bounds, u64),
    Commit(usize),
    Abort(usize),
    DeleteRange(usize, Bounds),
    RangeBatch(Vec<(usize, Part)>),
    TxDeleteRange(usize, usize, Bounds),
    DropKeyspace(usize),
    Flush,
    Checkpoint,
    Sync,
    Compact,
    CompactRange(usize, Bounds),
    EvictCache(u8),
    Verify,
    Stats,
    Reopen,
    Kill,
}

fn key(rng: &mut Rng) -> Key {
    const BYTES: [u8; 5] = [0, 1, b'k', 0xfe, 0xff];
    match rng.u16(0..400) {
        0 => vec![rng.choice(BYTES).expect("not empty"); 65_536 - rng.usize(0..2)],
        1..10 => {
            let mut key = vec![b'p'; rng.usize(200..3000)];
            key.push(rng.u8(..));
            key
        }
        10..120 => (0..rng.usize(1..6)).map(|_| rng.choice(BYTES).expect("not empty")).collect(),
        120..200 => format!("k{}", rng.u8(0..20)).into_bytes(),
        _ => format!("key{:05}", rng.u16(0..2000)).into_bytes(),
    }
}

fn value(rng: &mut Rng) -> Value {
    let len = match rng.u16(0..300) {
        0..30 => 0,
        30..33 => rng.usize(15_000..20_000),
        33 => rng.usize(16_000..300_000),
        34..60 => rng.usize(1000..5000),
        _ => rng.usize(1..300),
    };
    (rng.u8(..), len)
}

fn operand(rng: &mut Rng) -> Value {
    let (byte, len) = value(rng);
    (byte, len % 20_000)
}

fn bounds(rng: &mut Rng) -> Bounds {
    let start = (rng.u8(0..5) > 0).then(|| key(rng));
    // Mostly short, now and then empty or the wrong way round.
    let end = match rng.u8(0..5) {
        0 => None,
        1 => Some(key(rng)),
        _ => start.clone().map(|mut k| {
            let last = k.len() - 1;
            k[last.saturating_sub(1)] = k[last.saturating_sub(1)].saturating_add(2);
            k
        }),
    };
    (start, end)
}

fn several<T>(rng: &mut Rng, most: usize, mut one: impl FnMut(&mut Rng) -> T) -> Vec<T> {
    (0..rng.usize(0..=most)).map(|_| one(rng)).collect()
}

fn step(rng: &mut Rng) -> Step {
    match rng.u8(0..12) {
        0 => Step::Seek(key(rng)),
        1 => Step::SeekBefore(key(rng)),
        2 => Step::First,
        3 => Step::Last,
        4..8 => Step::Next,
        _ => Step::Prev,
    }
}

/// An operation that deletes ranges.
fn range_delete(rng: &mut Rng) -> Operation {
    use Operation as O;
    let keyspace = rng.usize(0..KEYSPACES);
    match rng.u8(0..10) {
        0..4 => O::DeleteRange(keyspace, bounds(rng)),
        4..7 => O::RangeBatch(several(rng, 12, |r| {
            let part = if r.bool() {
                Part::Range(bounds(r))
            } else {
                Part::Entry(key(r), (r.u8(0..4) > 0).then(|| value(r)))
            };
            (r.usize(0..KEYSPACES), part)
        })),
        _ => O::TxDeleteRange(rng.usize(0..SLOTS), keyspace, bounds(rng)),
    }
}

fn operation(rng: &mut Rng) -> Operation {
    use Operation as O;
    if rng.u8(0..25) == 0 {
        return range_delete(rng);
    }
    let keyspace = [0, 0, 1, 2][rng.usize(0..4)];
    let slot = rng.usize(0..SLOTS);
    match rng.u16(0..1000) {
        0..150 => O::Put(keyspace, key(rng), value(rng)),
        150..175 => O::PutFor(keyspace, key(rng), value(rng), rng.u8(0..30)),
        175 => O::DefaultTtl(keyspace, rng.u8(0..2) * rng.u8(1..60)),
        176..180 => O::Days(rng.u8(1..6)),
        180..200 => O::Merge(keyspace, key(rng), operand(rng)),
        200..210 => O::PutOften(keyspace, key(rng), rng.u8(2..60)),
        210..280 => O::Delete(keyspace, key(rng)),
        280..330 => O::Batch(several(rng, 40, |r| {
            (r.usize(0..KEYSPACES), key(r), (r.u8(0..4) > 0).then(|| value(r)))
        })),
        330..350 => O::PutBatch(keyspace, several(rng, 60, |r| (key(r), value(r)))),
        350..353 => {
            let entries = several(rng, 150, |r| (key(r), value(r)));
            O::Ingest(keyspace, entries.into_iter().collect(), rng.u8(0..10) == 0)
        }
        353..365 => O::DeleteBatch(keyspace, several(rng, 30, key)),
        365..450 => O::Get(keyspace, key(rng)),
        450..475 => O::GetBatch(keyspace, several(rng, 20, key)),
        475..510 => O::Scan(keyspace, bounds(rng), rng.u64(..)),
        510..525 => O::ScanReverse(keyspace, bounds(rng)),
        525..540 => {
            let mut prefix = key(rng);
            prefix.truncate(rng.usize(0..7));
            O::ScanPrefix(keyspace, prefix)
        }
        540..575 => O::Cursor(keyspace, several(rng, 40, step)),
        575..585 => O::Ends(keyspace),
        585..595 => O::Count(keyspace, bounds(rng)),
        595..604 => O::Snapshot(slot),
        604..608 => O::SnapshotAt(slot, rng.u64(0..=1000)),
        608..610 => O::History(keyspace, key(rng)),
        610..618 => O::DropSnapshot(slot),
        618..670 => O::SnapshotGet(slot, keyspace, key(rng)),
        670..690 => O::SnapshotScan(slot, keyspace, bounds(rng), rng.u64(..)),
        690..700 => O::HoldRange(slot, keyspace, bounds(rng)),
        700..730 => O::StepRange(slot, rng.u64(..)),
        730..760 => O::Begin(slot, rng.bool()),
        760..785 => O::TxMerge(slot, keyspace, key(rng), operand(rng)),
        785..835 => O::TxWrite(slot, keyspace, key(rng), (rng.u8(0..4) > 0).then(|| value(rng))),
        835..850 => O::TxPutFor(slot, keyspace, key(rng), value(rng), rng.u8(0..30)),
        850..890 => O::TxGet(slot, keyspace, key(rng)),
        890..910 => O::TxScan(slot, keyspace, bounds(rng), rng.u64(..)),
        910..935 => O::Commit(slot),
        935..940 => O::Abort(slot),
        940..943 => O::DropKeyspace(rng.usize(1..KEYSPACES)),
        943..955 => O::Flush,
        955..957 => O::Checkpoint,
        957..960 => O::Sync,
        960..965 => O::Compact,
        965..973 => O::CompactRange(keyspace, bounds(rng)),
        973..979 => O::EvictCache(rng.u8(0..=100)),
        979..981 => O::Verify,
        981..993 => O::Stats,
        993..996 => O::Reopen,
        996..998 => O::Kill,
        _ => O::Get(keyspace, key(rng)),
    }
}

/// The sequence of a seed.
pub fn sequence(seed: u64, len: usize) -> Vec<Operation> {
    let mut rng = Rng::with_seed(seed);
    (0..len).map(|_| operation(&mut rng)).collect()
}
