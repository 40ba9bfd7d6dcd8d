//! Lifetimes in a run: keys put for hours, and a clock that goes forward and back.
//!
//! Engine and model may be minutes apart, as looks at the clock take time: so a life ends in the middle
//! of an hour, and the clock is moved by whole ones.

use std::time::Duration;

use lightning_db::vfs::Vfs;
use lightning_db::{WriteBatch, WriteOptions};

use crate::operation::Operation;
use crate::world::World;

const HOUR: Duration = Duration::from_secs(3600);

/// So many hours and a half.
pub fn lifetime(hours: u8) -> Duration {
    HOUR * u32::from(hours) + HOUR / 2
}

impl World<'_> {
    pub fn time_step(&mut self, operation: &Operation) {
        match *operation {
            Operation::PutFor { keyspace: n, key, value, hours, batch } => {
                let (keyspace, life) = self.keyspace(n);
                let (name, bytes, ttl) = (&self.keys[key as usize], value.bytes(), lifetime(hours));
                if batch {
                    let mut batch = WriteBatch::new();
                    if self.is_default(n) {
                        batch.put_with_ttl(name, &bytes, ttl);
                    } else {
                        batch.put_with_ttl_in(&keyspace, name, &bytes, ttl);
                    }
                    self.db.write(batch, WriteOptions::default()).expect("write");
                } else {
                    keyspace.put_with_ttl(name, &bytes, ttl).expect("put_with_ttl");
                }
                self.committed(vec![(life, key, Some(value))]);
                self.model.expire(life, key, u64::from(hours));
            }
            Operation::TimeLeft { keyspace, key } => {
                let (keyspace, life) = self.keyspace(keyspace);
                let got = keyspace.get_with_ttl(&self.keys[key as usize]).expect("get_with_ttl");
                let want = self.model.get(life, key, self.model.now());
                let (value, left) = got.unzip();
                self.same("get_with_ttl", key, value.as_deref(), want);
                if want.is_some() {
                    let hours = left.flatten().map(|l| l.as_secs() / 3600);
                    assert_eq!(hours, self.model.hours_left(life, key), "hours left of key {key}");
                }
            }
            Operation::DefaultTtl { keyspace, hours } => {
                let (keyspace, life) = self.keyspace(keyspace);
                let ttl = (hours > 0).then(|| lifetime(hours));
                keyspace.set_default_ttl(ttl).expect("set_default_ttl");
                assert_eq!(keyspace.default_ttl(), ttl);
                self.model.set_default(life, u64::from(hours));
            }
            Operation::SetClock { hours } => self.set_clock(i64::from(hours)),
            _ => unreachable!("only what has to do with time"),
        }
    }

    /// Sets the wall clock so many hours further, or back.
    pub fn set_clock(&mut self, hours: i64) {
        // The engine reads no clock before the first value that expires, and so cannot tell then that
        // the clock goes back.
        if hours < 0 && !self.model.has_lived() {
            return;
        }
        let (wall, by) = (self.vfs.wall_clock(), HOUR * hours.unsigned_abs() as u32);
        self.vfs.set_wall_clock(if hours < 0 { wall.saturating_sub(by) } else { wall + by });
        self.model.set_clock(hours);
    }
}
