//! Sequences of calls with crashes, from bytes, against a model of the commits.
//!
//! After every crash: what was acknowledged is there as far as it was promised, the state is that
//! after some prefix of the commits, and verification is clean. Kills keep every acknowledged
//! commit, power cuts every durable one.
//!
//! Input: operations of one to four bytes (see [`Script::next`]); where it ends, so does the
//! sequence, with a crash and an opening of what it left.

use std::collections::BTreeMap;

use super::image::open;
use crate::vfs::SimulatedVfs;
use crate::{
    Database, Durability, Error, ErrorKind, Keyspace, KeyspaceOptions, OpenAs, VerifyOptions,
    WriteBatch, WriteOptions,
};

/// No input takes longer than this many operations.
const LONGEST: usize = 200;

type State = BTreeMap<(bool, u8), Vec<u8>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Writes `entries` of (keyspace, key, length; none deletes, or deletes a range) as one commit.
    Commit {
        sync: bool,
        entries: u8,
    },
    Flush,
    Compact,
    Sync,
    /// Closes well, and opens again.
    Reopen,
    /// Ends the process, or the power too, now or after some operations of the disk.
    Crash {
        power: bool,
        after: u8,
    },
}

struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn next(&mut self) -> Option<Step> {
        if self.0.is_empty() {
            return None;
        }
        let kind = self.byte();
        Some(match kind & 31 {
            0..24 => Step::Commit { sync: kind & 32 != 0, entries: 1 + (kind >> 6) },
            24 => Step::Flush,
            25 => Step::Compact,
            26 => Step::Sync,
            27 => Step::Reopen,
            _ => Step::Crash { power: kind & 1 != 0, after: self.byte() },
        })
    }
}

/// The run of one sequence.
struct Run {
    vfs: SimulatedVfs,
    db: Option<(Database, Keyspace)>,
    /// The state after each commit, attempted ones too; the first that were promised to survive a
    /// kill, and a power cut.
    states: Vec<State>,
    acknowledged: usize,
    durable: usize,
    /// A crash that is to come: whether of the power.
    pending: Option<bool>,
    crashes: u64,
}

fn keyspaces(db: Database) -> Result<(Database, Keyspace), Error> {
    let other = db.keyspace("other", KeyspaceOptions::default())?;
    Ok((db, other))
}

impl Run {
    fn new() -> Self {
        let vfs = SimulatedVfs::new(3);
        let made = open(&vfs, OpenAs::Create).and_then(keyspaces);
        Self {
            vfs,
            db: Some(made.expect("nothing was planned to fail")),
            states: vec![State::new()],
            acknowledged: 0,
            durable: 0,
            pending: None,
            crashes: 0,
        }
    }

    /// Takes a step; an error is that of a machine that went down.
    fn step(&mut self, step: Step, script: &mut Script<'_>) -> Result<(), Error> {
        let Some((db, other)) = &self.db else { return Ok(()) };
        match step {
            Step::Commit { sync, entries } => {
                let mut batch = WriteBatch::new();
                let mut state = self.states.last().expect("never empty").clone();
                for _ in 0..entries {
                    let (key, len) = (script.byte(), script.byte());
                    let second = key & 64 != 0;
                    let name = [b'a' + (key & 31)];
                    if key & 128 != 0 && len < 32 {
                        let end = (len < 30).then(|| [name[0] + (len & 7)]);
                        let end = end.as_ref().map(|e| &e[..]);
                        if second {
                            batch.delete_range_in(other, Some(&name), end);
                        } else {
                            batch.delete_range(Some(&name), end);
                        }
                        state.retain(|(of, k), _| {
                            *of != second || *k < name[0] || end.is_some_and(|e| e[0] <= *k)
                        });
                        continue;
                    }
                    let value = match len {
                        0..32 => None,
                        250.. => Some(vec![len; 17_000]),
                        _ => Some(vec![len; usize::from(len) * 8]),
                    };
                    match (&value, second) {
                        (Some(v), false) => batch.put(name, v),
                        (Some(v), true) => batch.put_in(other, name, v),
                        (None, false) => batch.delete(name),
                        (None, true) => batch.delete_in(other, name),
                    }
                    match value {
                        Some(v) => state.insert((second, name[0]), v),
                        None => state.remove(&(second, name[0])),
                    };
                }
                if batch.is_empty() {
                    // Ranges that can hold no key: no commit, which promises nothing of those before it.
                    return Ok(());
                }
                let durability = if sync { Durability::Sync } else { Durability::Async };
                self.states.push(state);
                db.write(batch, WriteOptions { durability: Some(durability) })?;
                self.acknowledged = self.states.len() - 1;
                if sync {
                    self.durable = self.acknowledged;
                }
            }
            Step::Flush => {
                db.flush()?;
                self.durable = self.acknowledged;
            }
            Step::Compact => {
                db.compact()?;
                self.durable = self.acknowledged;
            }
            Step::Sync => {
                db.sync()?;
                self.durable = self.acknowledged;
            }
            Step::Reopen => {
                if let Some((db, other)) = self.db.take() {
                    drop(other);
                    db.close()?;
                    self.durable = self.acknowledged;
                }
                self.db = Some(open(&self.vfs, OpenAs::Open).and_then(keyspaces)?);
            }
            Step::Crash { power, after } => {
                self.vfs.crash_after(self.vfs.operations() + u64::from(after));
                self.pending = Some(power);
                if after == 0 {
                    self.crash();
                }
            }
        }
        Ok(())
    }

    /// What the crash left is opened, perhaps cut off once more, and checked.
    fn crash(&mut self) {
        let power = self.pending.take().unwrap_or(true);
        self.crashes += 1;
        let (disk, least) = if power {
            (self.vfs.power_cut(self.crashes), self.durable)
        } else {
            (self.vfs.kill(), self.acknowledged)
        };
        self.db = None;
        self.vfs = disk;
        let db = open(&self.vfs, OpenAs::Open).expect("what a crash left opens");
        let (db, other) = keyspaces(db).expect("both keyspaces are there");
        let mut state = State::new();
        for (second, keyspace) in [(false, db.default_keyspace()), (true, &other)] {
            for pair in keyspace.range(None, None).expect("a range") {
                let (key, value) = pair.expect("an entry");
                state.insert((second, key[0]), value);
            }
        }
        let prefix = self.states.iter().rposition(|s| *s == state);
        let prefix = prefix.expect("the state is a prefix of the commits");
        assert!(prefix >= least, "prefix {prefix} lacks commit {least}, which was promised");
        let report = db.verify(VerifyOptions::default()).expect("a report");
        assert!(report.is_clean(), "{:?}", report.problems);
        // What was recovered was made durable anew.
        self.states.truncate(prefix + 1);
        (self.acknowledged, self.durable) = (prefix, prefix);
        self.db = Some((db, other));
    }
}

pub(super) fn run(input: &[u8]) {
    let mut script = Script(input);
    let mut run = Run::new();
    for _ in 0..LONGEST {
        let Some(step) = script.next() else { break };
        if let Err(e) = run.step(step, &mut script) {
            let expected = [ErrorKind::Io, ErrorKind::CommitUnknown, ErrorKind::Poisoned];
            assert!(run.pending.is_some() && expected.contains(&e.kind()), "{step:?}: {e:?}");
            run.crash();
        }
    }
    run.crash();
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut rng = fastrand::Rng::with_seed(11);
    let mut seeds: Vec<Vec<u8>> =
        (0..12).map(|i| (0..40 + 30 * i).map(|_| rng.u8(..)).collect()).collect();
    // Large values, flushes, merges and a crash in the middle of each.
    for upkeep in [24, 25, 26, 27] {
        let mut seed = Vec::new();
        for i in 0..12_u8 {
            seed.extend([32, i, 255, 0x80, i, 90, 64 | i, 120, 3, 251]);
        }
        seed.extend([28 + upkeep % 2, 3 * upkeep, upkeep, 1, 2, 200, upkeep]);
        seeds.push(seed);
    }
    // Range deletes over what is in each place, with puts after them, and a crash.
    for upkeep in [24, 25, 26, 27] {
        let mut seed = Vec::new();
        for i in 0..20_u8 {
            seed.extend([32, i, 90, 0x60, 64 + i, 120, 128 + i, 3]);
            if i % 5 == 4 {
                seed.extend([upkeep, 224, 125 + i, 4, i, 100, 192 + i, 2, i, 250]);
            }
        }
        seed.extend([29, 2 * upkeep, upkeep, 32, 130, 31, upkeep]);
        seeds.push(seed);
    }
    seeds
}
