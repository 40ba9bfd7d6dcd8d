//! What a sequence is made of: operations that say everything about themselves, so that any of them
//! can be left out and the rest still means something.
//!
//! 1. Keys are numbers into the sequence's sorted key table, so that the model compares numbers.
//! 2. Slots and keyspaces are taken modulo what is there when the operation runs; where there is
//!    nothing, nothing happens.

use fastrand::Rng;

pub type Key = u16;

/// A value by its recipe: the same recipe always gives the same bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Value {
    pub len: u32,
    pub seed: u32,
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Value {{ len: {}, seed: {} }}", self.len, self.seed)
    }
}

impl Value {
    /// The bytes: noise, one byte repeated, or text that packs well, with the seed in front.
    pub fn bytes(self) -> Vec<u8> {
        let len = self.len as usize;
        let mut bytes = self.seed.to_be_bytes().to_vec();
        match self.seed % 3 {
            0 => {
                let mut rng = Rng::with_seed(u64::from(self.seed));
                while bytes.len() < len {
                    bytes.extend_from_slice(&rng.u64(..).to_le_bytes());
                }
            }
            1 => bytes.resize(len.max(4), self.seed as u8),
            _ => {
                let words = format!("row {} of many; ", self.seed);
                while bytes.len() < len {
                    bytes.extend_from_slice(words.as_bytes());
                }
            }
        }
        bytes.truncate(len);
        bytes
    }
}

/// One end of a range: a key of the table, or something close to one.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    pub key: Key,
    pub tweak: Tweak,
}

#[derive(Clone, Copy, Debug)]
pub enum Tweak {
    Exact,
    /// The smallest key after it.
    After,
    /// Its first half.
    Half,
}

impl Bound {
    pub fn bytes(self, keys: &[Vec<u8>]) -> Vec<u8> {
        let key = &keys[self.key as usize];
        match self.tweak {
            Tweak::Exact => key.clone(),
            Tweak::After => [key, &[0][..]].concat(),
            Tweak::Half => key[..key.len().div_ceil(2)].to_vec(),
        }
    }
}

/// What a range goes over.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    Between(Option<Bound>, Option<Bound>),
    Prefix(Bound),
}

/// What is read: the present, or what a slot holds.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    Current,
    Snapshot(u8),
    Transaction(u8),
}

#[derive(Clone, Copy, Debug)]
pub enum Move {
    Seek(Bound),
    SeekBefore(Bound),
    First,
    Last,
    Next,
    Prev,
}

#[derive(Clone, Debug)]
pub enum Operation {
    Put {
        keyspace: u8,
        key: Key,
        value: Value,
    },
    /// `put_with_ttl`, for so many hours; by a batch, or alone.
    PutFor {
        keyspace: u8,
        key: Key,
        value: Value,
        hours: u8,
        batch: bool,
    },
    /// `get_with_ttl`.
    TimeLeft {
        keyspace: u8,
        key: Key,
    },
    /// The keyspace's default; 0: none.
    DefaultTtl {
        keyspace: u8,
        hours: u8,
    },
    /// The wall clock goes forward, or back.
    SetClock {
        hours: i8,
    },
    Delete {
        keyspace: u8,
        key: Key,
    },
    DeleteRange {
        keyspace: u8,
        start: Option<Bound>,
        end: Option<Bound>,
        /// Written by a batch, behind a put of this key.
        behind: Option<(Key, Value)>,
    },
    /// `put_batch` of keys in a row.
    Fill {
        keyspace: u8,
        from: Key,
        step: Key,
        count: u16,
        value: Value,
    },
    /// Sorted ingest of keys in a row.
    Ingest {
        keyspace: u8,
        from: Key,
        step: Key,
        count: u16,
        value: Value,
    },
    /// `delete_batch` of keys in a row.
    Clear {
        keyspace: u8,
        from: Key,
        step: Key,
        count: u16,
    },
    /// A `WriteBatch` over keyspaces, in which keys may come twice.
    Write {
        writes: Vec<(u8, Key, Option<Value>)>,
        durability: u8,
    },
    /// `compare_and_swap` with what is there, or with something else; without a value `take`.
    Swap {
        keyspace: u8,
        key: Key,
        value: Option<Value>,
        stale: bool,
    },
    Get {
        keyspace: u8,
        key: Key,
    },
    /// `get_pinned`, held.
    Pin {
        keyspace: u8,
        key: Key,
    },
    Unpin {
        slot: u8,
    },
    GetBatch {
        keyspace: u8,
        keys: Vec<Key>,
    },
    Contains {
        keyspace: u8,
        key: Key,
    },
    /// `first` and `last`.
    Ends {
        keyspace: u8,
    },
    Count {
        keyspace: u8,
        start: Option<Bound>,
        end: Option<Bound>,
    },
    ForEach {
        keyspace: u8,
        start: Option<Bound>,
        end: Option<Bound>,
        most: u16,
    },
    OpenRange {
        source: Source,
        keyspace: u8,
        shape: Shape,
        reverse: bool,
    },
    /// Steps from the front where the pattern's bit is 1, else from the back.
    StepRange {
        slot: u8,
        steps: u16,
        pattern: u64,
    },
    FinishRange {
        slot: u8,
        pattern: u64,
    },
    DropRange {
        slot: u8,
    },
    OpenCursor {
        source: Source,
        keyspace: u8,
    },
    MoveCursor {
        slot: u8,
        moves: Vec<Move>,
    },
    DropCursor {
        slot: u8,
    },
    TakeSnapshot,
    /// Reads a key, a history and everything at a moment so many thousandths of the way from the oldest
    /// one kept to now.
    LookBack {
        keyspace: u8,
        key: Key,
        part: u16,
    },
    ReadSnapshot {
        slot: u8,
        keyspace: u8,
        key: Key,
    },
    /// Reads it in full first.
    DropSnapshot {
        slot: u8,
    },
    /// At the moment of a snapshot where a slot is given.
    Begin {
        by_id: bool,
        read_only: bool,
        snapshot: Option<u8>,
    },
    TransactionGet {
        slot: u8,
        keyspace: u8,
        key: Key,
    },
    TransactionWrite {
        slot: u8,
        keyspace: u8,
        key: Key,
        value: Option<Value>,
        /// For so long, if not 0.
        hours: u8,
    },
    Commit {
        slot: u8,
    },
    Abort {
        slot: u8,
    },
    MakeKeyspace {
        name: u8,
        small_buffer: bool,
        compression: u8,
    },
    DropKeyspace {
        name: u8,
    },
    /// A handle of a dropped keyspace is used.
    UseDropped {
        slot: u8,
        key: Key,
        value: Value,
    },
    Flush,
    Checkpoint,
    Compact,
    CompactRange {
        keyspace: u8,
        start: Option<Bound>,
        end: Option<Bound>,
    },
    EvictCache {
        percent: u8,
    },
    Sync,
    Verify,
    /// Everything is compared with the model.
    Compare,
    /// Closed and opened, with this many settings further.
    Reopen {
        setting: u8,
    },
    /// The process is killed and the database opened again.
    Kill {
        setting: u8,
        seed: u64,
    },
}

/// A sequence: its keys and its operations.
pub struct Sequence {
    pub keys: Vec<Vec<u8>>,
    pub operations: Vec<Operation>,
}
