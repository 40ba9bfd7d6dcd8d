//! Scans of everything, and short ones from a key on.

use fastrand::Rng;

use super::Ground;
use super::check::{check_count, missing, wrong_value};
use crate::engine::{Engine, Result};
use crate::measure::{Measured, Plan, Step, measure};
use crate::workload::{Key, belongs, key};

/// The first half of a key as a number: keys in order have these in order, and equal ones do not occur.
#[inline]
fn rank(key: &[u8]) -> u64 {
    key.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// What a walk found, one entry after the other.
struct Walk {
    items: u64,
    last: Option<u64>,
    wrong: bool,
    backward: bool,
    value_bytes: usize,
}

impl Walk {
    fn new(backward: bool, value_bytes: usize) -> Self {
        Self { items: 0, last: None, wrong: false, backward, value_bytes }
    }

    #[inline]
    fn see(&mut self, key: &[u8], value: &[u8]) {
        let now = rank(key);
        if let Some(last) = self.last {
            self.wrong |= if self.backward { now >= last } else { now <= last };
        }
        self.wrong |= !belongs(key, value, self.value_bytes);
        self.last = Some(now);
        self.items += 1;
    }

    fn done(self, expected: u64) -> Result<Step> {
        if self.wrong {
            return Err(wrong_value());
        }
        check_count(self.items, expected)?;
        Ok(Step::Did(self.items))
    }
}

impl<E: Engine> Ground<'_, E> {
    pub(super) fn scan_all(&self, plan: Plan, backward: bool) -> Result<Measured> {
        measure(plan, |_| {
            move |_: &mut Rng| {
                let mut walk = Walk::new(backward, self.settings.value_bytes);
                self.engine.scan(backward, None, |key, value| {
                    walk.see(key, value);
                    true
                })?;
                walk.done(self.expected())
            }
        })
    }

    pub(super) fn scan_copy(&self, plan: Plan) -> Result<Measured> {
        measure(plan, |_| {
            move |_: &mut Rng| {
                let mut walk = Walk::new(false, self.settings.value_bytes);
                self.engine.scan_copy(|key, value| {
                    walk.see(&key, &value);
                    true
                })?;
                walk.done(self.expected())
            }
        })
    }

    pub(super) fn seeks(&self, plan: Plan, items: u64) -> Result<Measured> {
        measure(plan, |_| move |rng: &mut Rng| self.seek(&key(rng.u64(..self.keys)), items))
    }

    /// Walks over so many entries from a key on that is there (fewer only at the end of all).
    pub(super) fn seek(&self, from: &Key, items: u64) -> Result<Step> {
        let mut walk = Walk::new(false, self.settings.value_bytes);
        let mut first = None;
        self.engine.scan(false, Some(from), |key, value| {
            first.get_or_insert(rank(key));
            walk.see(key, value);
            walk.items < items
        })?;
        if first != Some(rank(from)) {
            return Err(missing());
        }
        if walk.wrong {
            return Err(wrong_value());
        }
        Ok(Step::Did(1))
    }
}
