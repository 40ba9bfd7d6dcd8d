//! Draws sequences.
//!
//! 1. A sequence depends on its seed and length alone.
//! 2. Each draws its own weights, some of them 0: what everything at once would drown shows in some
//!    sequence. The same goes for how many keys there are, of what kinds, and how long values are.

use fastrand::Rng;

use crate::operation::{Bound, Key, Move, Operation, Sequence, Shape, Source, Tweak, Value};

impl Sequence {
    pub fn of(seed: u64, operations: usize) -> Self {
        let mut rng = Rng::with_seed(seed);
        let keys = key_table(&mut rng);
        let mut maker = Maker::new(rng, keys.len());
        let operations = (0..operations).map(|_| maker.operation()).collect();
        Self { keys, operations }
    }
}

/// Sorted and different keys; how many, and of what kinds, differs by sequence.
fn key_table(rng: &mut Rng) -> Vec<Vec<u8>> {
    let count = match rng.u8(0..6) {
        0 => rng.usize(2..8),
        1 | 2 => rng.usize(20..80),
        3 | 4 => rng.usize(100..500),
        _ => rng.usize(1000..3000),
    };
    let kinds: Vec<u8> = (0..rng.u8(1..4)).map(|_| rng.u8(0..6)).collect();
    let mut keys: Vec<Vec<u8>> = (0..count)
        .map(|i| match kinds[rng.usize(0..kinds.len())] {
            0 => format!("key{i:06}").into_bytes(),
            // Few different bytes, the least and the greatest above all.
            1 => (0..rng.usize(1..8)).map(|_| [0, 0xff, 0, 0xff, 1][rng.usize(0..5)]).collect(),
            2 => (0..rng.usize(1..20)).map(|_| rng.u8(..)).collect(),
            // Long, and different only at the end.
            3 => {
                let mut key = vec![b'p'; [100, 400, 990][rng.usize(0..3)]];
                key.extend_from_slice(&(i as u32).to_be_bytes());
                key
            }
            4 => (0..rng.usize(1..=1000)).map(|_| rng.u8(b'a'..b'd')).collect(),
            _ => (i as u32).to_be_bytes().to_vec(),
        })
        .collect();
    keys.sort();
    keys.dedup();
    keys
}

/// Draws operations, by the weights of one sequence.
struct Maker {
    rng: Rng,
    keys: usize,
    weights: [u32; 12],
    /// Of a hundred values so many are empty, middling and large.
    lengths: [u32; 3],
    next_value: u32,
}

impl Maker {
    fn new(mut rng: Rng, keys: usize) -> Self {
        // Single writes, batches, gets, ranges, cursors, snapshots, transactions, keyspaces,
        // upkeep, whole checks, time, openings.
        let mut weights = [300, 100, 120, 120, 80, 60, 200, 10, 20, 6, 20, 5];
        for (i, weight) in weights.iter_mut().enumerate() {
            *weight *= match rng.u8(0..8) {
                0 if i > 1 => 0,
                1 | 2 => 4,
                _ => 1,
            };
        }
        let lengths = [rng.u32(0..15), rng.u32(0..40), [0, 0, 1, 2, 6][rng.usize(0..5)]];
        Self { rng, keys, weights, lengths, next_value: 1 }
    }

    fn operation(&mut self) -> Operation {
        let mut at = self.rng.u32(0..self.weights.iter().sum());
        let kind = self.weights.iter().position(|w| {
            let here = at < *w;
            at = at.wrapping_sub(*w);
            here
        });
        match kind.expect("below the sum") {
            0 => self.write_one(),
            1 => self.write_many(),
            2 => self.read(),
            3 => self.range(),
            4 => self.cursor(),
            5 => self.snapshot(),
            6 => self.transaction(),
            7 => self.keyspace(),
            8 => self.upkeep(),
            9 => [Operation::Verify, Operation::Compare][self.rng.usize(0..2)].clone(),
            10 => self.time(),
            _ => self.opening(),
        }
    }

    fn key(&mut self) -> Key {
        self.rng.usize(0..self.keys) as Key
    }

    fn slot(&mut self) -> u8 {
        self.rng.u8(..)
    }

    /// The default keyspace more often than the others.
    fn ks(&mut self) -> u8 {
        if self.rng.bool() { 0 } else { self.rng.u8(..) }
    }

    fn value(&mut self) -> Value {
        let seed = self.next_value;
        self.next_value += 1;
        let [empty, middling, large] = self.lengths;
        let len = match self.rng.u32(0..100) {
            n if n < empty => 0,
            n if n < empty + middling => self.rng.u32(200..3000),
            n if n < empty + middling + large => match self.rng.u8(0..3) {
                // Around the threshold of blobs.
                0 => self.rng.u32(16 * 1024 - 2..16 * 1024 + 3),
                1 => self.rng.u32(20_000..60_000),
                _ => self.rng.u32(60_000..200_000),
            },
            99 => self.rng.u32(3000..16_000),
            _ => self.rng.u32(1..120),
        };
        Value { len, seed }
    }

    fn bound(&mut self) -> Bound {
        let tweak = match self.rng.u8(0..4) {
            0 => Tweak::After,
            1 => Tweak::Half,
            _ => Tweak::Exact,
        };
        Bound { key: self.key(), tweak }
    }

    /// Bounds, mostly in order and close enough that a scan is short; sometimes crossed.
    fn bounds(&mut self) -> (Option<Bound>, Option<Bound>) {
        let start = (self.rng.u8(0..5) > 0).then(|| self.bound());
        let end = (self.rng.u8(0..5) > 0).then(|| {
            let mut end = self.bound();
            if let (Some(start), true) = (start, self.rng.u8(0..8) > 0) {
                let far = usize::from(start.key) + self.rng.usize(0..120);
                end.key = far.min(self.keys - 1) as Key;
            }
            end
        });
        (start, end)
    }

    fn write_one(&mut self) -> Operation {
        let (keyspace, key) = (self.ks(), self.key());
        if self.rng.u8(0..16) == 0 {
            let (start, end) = self.bounds();
            let behind = self.rng.bool().then(|| (key, self.value()));
            return Operation::DeleteRange { keyspace, start, end, behind };
        }
        if self.rng.u8(0..10) == 0 {
            let value = (self.rng.u8(0..3) > 0).then(|| self.value());
            Operation::Swap { keyspace, key, value, stale: self.rng.u8(0..4) == 0 }
        } else if self.rng.u8(0..4) == 0 {
            Operation::Delete { keyspace, key }
        } else {
            self.put_or_put_for(keyspace, key)
        }
    }

    fn put_or_put_for(&mut self, keyspace: u8, key: Key) -> Operation {
        let value = self.value();
        if self.rng.u8(0..5) > 0 {
            return Operation::Put { keyspace, key, value };
        }
        Operation::PutFor { keyspace, key, value, hours: self.hours(), batch: self.rng.bool() }
    }

    fn hours(&mut self) -> u8 {
        self.rng.u8(0..8) * self.rng.u8(1..5)
    }

    /// Time passes, or lifetimes change.
    fn time(&mut self) -> Operation {
        match self.rng.u8(0..10) {
            0 => Operation::SetClock { hours: -self.rng.i8(1..9) },
            1..6 => Operation::SetClock { hours: self.rng.i8(1..9) },
            6 => Operation::DefaultTtl {
                keyspace: self.ks(),
                hours: self.rng.u8(0..2) * self.rng.u8(1..20),
            },
            _ => Operation::TimeLeft { keyspace: self.ks(), key: self.key() },
        }
    }

    fn write_many(&mut self) -> Operation {
        let (keyspace, from) = (self.ks(), self.key());
        let step = self.rng.u16(1..4);
        match self.rng.u8(0..6) {
            0 | 1 => {
                let mut value = self.value();
                let count = if value.len > 4000 { 3 } else { self.rng.u16(1..250) };
                value.seed = self.next_value;
                self.next_value += u32::from(count);
                if self.rng.u8(0..4) == 0 {
                    Operation::Ingest { keyspace, from, step, count, value }
                } else {
                    Operation::Fill { keyspace, from, step, count, value }
                }
            }
            2 => Operation::Clear { keyspace, from, step, count: self.rng.u16(1..150) },
            _ => {
                let count = self.rng.usize(0..12);
                let writes = (0..count)
                    .map(|_| {
                        let value = (self.rng.u8(0..4) > 0).then(|| self.value());
                        (self.rng.u8(..), self.key(), value)
                    })
                    .collect();
                Operation::Write { writes, durability: self.rng.u8(0..8) }
            }
        }
    }

    fn read(&mut self) -> Operation {
        let (keyspace, key) = (self.ks(), self.key());
        match self.rng.u8(0..10) {
            0..3 => Operation::Get { keyspace, key },
            3 => Operation::Pin { keyspace, key },
            4 => Operation::Unpin { slot: self.slot() },
            5 => {
                let count = self.rng.usize(0..20);
                let keys = (0..count).map(|_| self.key()).collect();
                Operation::GetBatch { keyspace, keys }
            }
            6 => Operation::Contains { keyspace, key },
            7 => Operation::Ends { keyspace },
            8 => {
                let (start, end) = self.bounds();
                Operation::Count { keyspace, start, end }
            }
            _ => {
                let (start, end) = self.bounds();
                Operation::ForEach { keyspace, start, end, most: self.rng.u16(0..300) }
            }
        }
    }

    fn source(&mut self) -> Source {
        match self.rng.u8(0..4) {
            0 => Source::Snapshot(self.slot()),
            1 => Source::Transaction(self.slot()),
            _ => Source::Current,
        }
    }

    /// All from one end, or mixed.
    fn pattern(&mut self) -> u64 {
        [u64::MAX, 0, self.rng.u64(..), self.rng.u64(..)][self.rng.usize(0..4)]
    }

    fn range(&mut self) -> Operation {
        let slot = self.slot();
        match self.rng.u8(0..10) {
            0..4 => {
                let shape = if self.rng.u8(0..4) == 0 {
                    Shape::Prefix(self.bound())
                } else {
                    let (start, end) = self.bounds();
                    Shape::Between(start, end)
                };
                let (source, keyspace) = (self.source(), self.ks());
                Operation::OpenRange { source, keyspace, shape, reverse: self.rng.bool() }
            }
            4..8 => {
                let steps = self.rng.u16(1..40);
                Operation::StepRange { slot, steps, pattern: self.pattern() }
            }
            8 => Operation::FinishRange { slot, pattern: self.pattern() },
            _ => Operation::DropRange { slot },
        }
    }

    fn cursor(&mut self) -> Operation {
        match self.rng.u8(0..10) {
            0 | 1 => Operation::OpenCursor { source: self.source(), keyspace: self.ks() },
            2 => Operation::DropCursor { slot: self.slot() },
            _ => {
                let mut moves = Vec::new();
                for _ in 0..self.rng.usize(1..12) {
                    moves.push(match self.rng.u8(0..12) {
                        0 | 1 => Move::Seek(self.bound()),
                        2 | 3 => Move::SeekBefore(self.bound()),
                        4 => Move::First,
                        5 => Move::Last,
                        6..9 => Move::Next,
                        _ => Move::Prev,
                    });
                }
                Operation::MoveCursor { slot: self.slot(), moves }
            }
        }
    }

    fn snapshot(&mut self) -> Operation {
        let slot = self.slot();
        match self.rng.u8(0..8) {
            0 | 1 => Operation::TakeSnapshot,
            2 => Operation::DropSnapshot { slot },
            3 => {
                let (keyspace, key) = (self.ks(), self.key());
                Operation::LookBack { keyspace, key, part: self.rng.u16(0..=1000) }
            }
            _ => Operation::ReadSnapshot { slot, keyspace: self.ks(), key: self.key() },
        }
    }

    fn transaction(&mut self) -> Operation {
        let slot = self.slot();
        match self.rng.u8(0..20) {
            0..3 => {
                let (by_id, read_only) = (self.rng.bool(), self.rng.u8(0..8) == 0);
                let snapshot = (self.rng.u8(0..5) == 0).then_some(slot);
                Operation::Begin { by_id, read_only, snapshot }
            }
            3 | 4 => Operation::Commit { slot },
            5 => Operation::Abort { slot },
            6..10 => Operation::TransactionGet { slot, keyspace: self.ks(), key: self.key() },
            10..13 => {
                let (start, end) = self.bounds();
                let shape = Shape::Between(start, end);
                let (source, keyspace) = (Source::Transaction(slot), self.ks());
                Operation::OpenRange { source, keyspace, shape, reverse: self.rng.bool() }
            }
            _ => {
                let value = (self.rng.u8(0..4) > 0).then(|| self.value());
                let hours = self.rng.u8(0..2) * self.hours();
                let (keyspace, key) = (self.ks(), self.key());
                Operation::TransactionWrite { slot, keyspace, key, value, hours }
            }
        }
    }

    fn keyspace(&mut self) -> Operation {
        let name = self.rng.u8(..);
        match self.rng.u8(0..6) {
            0..3 => {
                let (small_buffer, compression) = (self.rng.bool(), self.rng.u8(0..6));
                Operation::MakeKeyspace { name, small_buffer, compression }
            }
            3 | 4 => Operation::DropKeyspace { name },
            _ => {
                let slot = self.slot();
                Operation::UseDropped { slot, key: self.key(), value: self.value() }
            }
        }
    }

    fn upkeep(&mut self) -> Operation {
        match self.rng.u8(0..10) {
            0..3 => Operation::Flush,
            3 => Operation::Checkpoint,
            4 => Operation::Compact,
            5 | 6 => {
                let (start, end) = self.bounds();
                Operation::CompactRange { keyspace: self.ks(), start, end }
            }
            7 | 8 => Operation::EvictCache { percent: [10, 50, 100][self.rng.usize(0..3)] },
            _ => Operation::Sync,
        }
    }

    fn opening(&mut self) -> Operation {
        let setting = self.rng.u8(0..4) * self.rng.u8(0..2);
        if self.rng.bool() {
            Operation::Reopen { setting }
        } else {
            Operation::Kill { setting, seed: self.rng.u64(..) }
        }
    }
}
