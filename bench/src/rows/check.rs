//! That an engine's answers are right: every entry is there, in order, under its own key, and
//! transactions lose and make nothing.

use std::sync::atomic::Ordering;

use super::Ground;
use crate::engine::{Engine, Error, Result};
use crate::workload::{belongs, number};

/// What a walk over everything came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tally {
    pub entries: u64,
    /// The numbers in all values, added up.
    pub sum: u64,
}

impl<E: Engine> Ground<'_, E> {
    /// Walks over everything and looks at each entry.
    pub fn tally(&self) -> Result<Tally> {
        let (mut tally, mut wrong) = (Tally { entries: 0, sum: 0 }, false);
        let mut last = None::<[u8; 16]>;
        self.engine.scan(false, None, |key, value| {
            let now = key.first_chunk().copied();
            let ordered = !E::FACTS.ordered || now > last;
            wrong |= !ordered || !belongs(key, value, self.settings.value_bytes);
            last = now;
            tally.entries += 1;
            tally.sum = tally.sum.wrapping_add(number(value));
            !wrong
        })?;
        if wrong { Err(wrong_value()) } else { Ok(tally) }
    }

    /// How many entries there have to be.
    pub fn expected(&self) -> u64 {
        self.keys + self.inserted.load(Ordering::Relaxed)
    }

    /// Everything is there, and nothing more.
    pub fn check_all(&self) -> Result<()> {
        check_count(self.tally()?.entries, self.expected())
    }
}

pub fn check_count(found: u64, expected: u64) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(format!("wrong answer: {found} entries where there are {expected}").into())
}

pub fn wrong_value() -> Error {
    "wrong answer: a key out of order, or a value that is not of its key".into()
}

pub fn missing() -> Error {
    "wrong answer: a key that was stored is not there".into()
}

pub fn unexpected() -> Error {
    "wrong answer: a key that is not stored is there".into()
}
