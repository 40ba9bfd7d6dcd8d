//! Gets: each reads the latest committed state by a call of its own, and looks at the value.

use fastrand::Rng;

use super::check::{missing, unexpected, wrong_value};
use super::{Choice, Ground};
use crate::engine::{Engine, Result};
use crate::measure::{Measured, Plan, Step, measure};
use crate::workload::{Key, belongs, key};

/// How many keys are hot.
const HOT_KEYS: u64 = 10_000;
/// Enough that a snapshot's own cost does not show.
const GETS_A_SNAPSHOT: u64 = 1000;
/// Indices from here on are never stored.
const MISSING: u64 = 1 << 62;

impl<E: Engine> Ground<'_, E> {
    fn choose(&self, choice: Choice, rng: &mut Rng) -> Key {
        key(match choice {
            Choice::Uniform => rng.u64(..self.keys),
            Choice::Zipf => self.zipf.next(rng),
            Choice::Hot => rng.u64(..HOT_KEYS.min(self.keys)),
        })
    }

    /// One get of a key that is there.
    #[inline]
    pub fn get_one(&self, key: &Key) -> Result<Step> {
        found(self.engine.get(key, |value| belongs(key, value, self.settings.value_bytes))?)
    }

    pub(super) fn get(&self, plan: Plan, choice: Choice) -> Result<Measured> {
        warmed(plan, |_| move |rng: &mut Rng| self.get_one(&self.choose(choice, rng)))
    }

    pub(super) fn get_copy(&self, plan: Plan) -> Result<Measured> {
        let bytes = self.settings.value_bytes;
        warmed(plan, |_| {
            move |rng: &mut Rng| {
                let key = self.choose(Choice::Uniform, rng);
                found(self.engine.get_copy(&key)?.map(|value| belongs(&key, &value, bytes)))
            }
        })
    }

    pub(super) fn get_missing(&self, plan: Plan) -> Result<Measured> {
        warmed(plan, |_| {
            move |rng: &mut Rng| {
                let key = key(MISSING + rng.u64(..self.keys));
                match self.engine.get(&key, |_| ())? {
                    None => Ok(Step::Did(1)),
                    Some(()) => Err(unexpected()),
                }
            }
        })
    }

    pub(super) fn get_snapshot(&self, plan: Plan) -> Result<Measured> {
        let bytes = self.settings.value_bytes;
        warmed(Plan { calls_a_look: 1, ..plan }, |_| {
            move |rng: &mut Rng| {
                let mut right = Ok(Step::Did(GETS_A_SNAPSHOT));
                let keys = (0..GETS_A_SNAPSHOT).map(|_| self.choose(Choice::Uniform, rng));
                self.engine.get_in_snapshot(keys, |key, value| {
                    if let Err(wrong) = found(value.map(|value| belongs(key, value, bytes))) {
                        right = Err(wrong);
                    }
                })?;
                right
            }
        })
    }
}

#[inline]
fn found(right: Option<bool>) -> Result<Step> {
    match right {
        Some(true) => Ok(Step::Did(1)),
        Some(false) => Err(wrong_value()),
        None => Err(missing()),
    }
}

/// Runs it for a tenth of the time uncounted, then counted.
fn warmed<F>(plan: Plan, make: impl Fn(u64) -> F + Sync) -> Result<Measured>
where
    F: FnMut(&mut Rng) -> Result<Step>,
{
    let warming = measure(Plan { time: plan.time / 10, ..plan }, &make)?;
    Ok(Measured { uncounted: warming.items, ..measure(plan, make)? })
}
