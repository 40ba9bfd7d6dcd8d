//! Puts and deletes one by one, and the mixes of YCSB.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fastrand::Rng;

use super::check::{check_count, unexpected};
use super::{Choice, Ground, Other};
use crate::engine::{Engine, Result};
use crate::measure::{Measured, Plan, Step, measure};
use crate::workload::{Values, ascending_key, key};

/// Keys that YCSB E inserts have indices from here on.
const INSERTED: u64 = 1 << 61;

impl<E: Engine> Ground<'_, E> {
    /// Random existing keys get new values; then the engine may merge them, or not.
    pub(super) fn put(&self, plan: Plan, merges: bool) -> Result<Measured> {
        let measured = measure(plan, |_| {
            let mut values = Values::new(self.settings.value_bytes);
            move |rng: &mut Rng| {
                let key = key(rng.u64(..self.keys));
                self.engine.put(&key, values.next(&key, rng))?;
                Ok(Step::Did(1))
            }
        })?;
        let measured = if merges { self.settle(measured)? } else { measured };
        self.check_all()?;
        Ok(measured)
    }

    /// Gets of random keys are counted, while another thread gives random keys new values.
    pub(super) fn get_beside(&self, plan: Plan) -> Result<Measured> {
        let over = AtomicBool::new(false);
        let measured = std::thread::scope(|scope| {
            let writer = scope.spawn(|| -> Result<()> {
                let mut values = Values::new(self.settings.value_bytes);
                let mut rng = Rng::with_seed(0x22);
                while !over.load(Ordering::Relaxed) {
                    let key = key(rng.u64(..self.keys));
                    self.engine.put(&key, values.next(&key, &mut rng))?;
                }
                Ok(())
            });
            let measured = self.get(plan, Choice::Uniform);
            over.store(true, Ordering::Relaxed);
            writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            measured
        })?;
        // What merging costs there says nothing of gets.
        let measured = Measured { settling: None, ..self.settle(measured)? };
        self.check_all()?;
        Ok(measured)
    }

    /// Into an empty database.
    pub(super) fn put_ascending(&self, plan: Plan) -> Result<Measured> {
        let measured = measure(plan, |_| {
            let mut values = Values::new(self.settings.value_bytes);
            let mut next = 0;
            move |rng: &mut Rng| {
                let key = ascending_key(next);
                self.engine.put(&key, values.next(&key, rng))?;
                next += 1;
                Ok(Step::Did(1))
            }
        })?;
        let measured = self.settle(measured)?;
        check_count(self.tally()?.entries, measured.items)?;
        Ok(measured)
    }

    /// Key by key, until none is left; they are put back afterwards.
    pub(super) fn delete(&self, plan: Plan) -> Result<Measured> {
        let measured = measure(plan, |_| {
            let mut next = 0;
            move |_: &mut Rng| {
                if next == self.keys {
                    return Ok(Step::Finished);
                }
                self.engine.delete(&key(next))?;
                next += 1;
                Ok(Step::Did(1))
            }
        })?;
        let measured = self.settle(measured)?;
        check_count(self.tally()?.entries, self.expected() - measured.items)?;
        if self.engine.get(&key(0), |_| ())?.is_some() {
            return Err(unexpected());
        }
        self.restore(measured.items.min(self.keys))?;
        Ok(measured)
    }

    /// Keys by zipf: so many in a hundred are read (or, with inserts, scanned from), the others
    /// are what `other` says.
    pub(super) fn ycsb(&self, plan: Plan, reads: u32, other: Other) -> Result<Measured> {
        let (inserted, changed) = (AtomicU64::new(0), AtomicU64::new(0));
        let counts = other == Other::ReadModifyWrite;
        let before = if counts { self.tally()?.sum } else { 0 };
        let measured = measure(plan, |_| {
            let (inserted, changed) = (&inserted, &changed);
            let mut values = Values::new(self.settings.value_bytes);
            move |rng: &mut Rng| {
                let at = key(self.zipf.next(rng));
                let reading = rng.u32(..100) < reads;
                match other {
                    Other::Insert if reading => return self.seek(&at, rng.u64(1..=100)),
                    _ if reading => return self.get_one(&at),
                    Other::Update => self.engine.put(&at, values.next(&at, rng))?,
                    Other::ReadModifyWrite => {
                        self.count_up(&at)?;
                        changed.fetch_add(1, Ordering::Relaxed);
                    }
                    Other::Insert => {
                        let next = inserted.fetch_add(1, Ordering::Relaxed);
                        let earlier = self.inserted.load(Ordering::Relaxed);
                        let new = key(INSERTED + earlier + next);
                        self.engine.put(&new, values.next(&new, rng))?;
                    }
                }
                Ok(Step::Did(1))
            }
        })?;
        let measured = self.settle(measured)?;
        self.inserted.fetch_add(inserted.into_inner(), Ordering::Relaxed);
        let tally = self.tally()?;
        check_count(tally.entries, self.expected())?;
        if counts && tally.sum != before.wrapping_add(changed.into_inner()) {
            return Err("wrong answer: a transaction's count was lost".into());
        }
        Ok(measured)
    }
}
