//! Transactions that read and write back.

use fastrand::Rng;

use super::Ground;
use crate::engine::{Engine, Result};
use crate::measure::{Measured, Plan, Step, measure};
use crate::workload::{Key, add, key};

impl<E: Engine> Ground<'_, E> {
    /// Moves one unit between two accounts: two reads, two writes.
    pub(super) fn transfer(&self, plan: Plan) -> Result<Measured> {
        let before = self.tally()?;
        let measured = measure(plan, |_| {
            move |rng: &mut Rng| {
                let from = rng.u64(..self.keys);
                let to = (from + rng.u64(1..self.keys)) % self.keys;
                self.engine.update([&key(from), &key(to)], |[debtor, creditor]| {
                    add(debtor, u64::MAX);
                    add(creditor, 1);
                })?;
                Ok(Step::Did(1))
            }
        })?;
        let measured = self.settle(measured)?;
        if self.tally()? != before {
            return Err("wrong answer: transfers did not keep the sum".into());
        }
        Ok(measured)
    }

    /// Reads a value and writes it back, counted up.
    pub(super) fn count_up(&self, key: &Key) -> Result<()> {
        self.engine.update([key], |[value]| add(value, 1))
    }
}
