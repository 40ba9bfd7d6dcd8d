//! Filling a database, and opening it again.

use std::time::{Duration, Instant};

use fastrand::Rng;

use super::Ground;
use super::check::{missing, wrong_value};
use crate::engine::{Engine, Result, Settings};
use crate::measure::{Measured, Plan, Step, measure};
use crate::workload::{Values, belongs, key};

const BATCH: u64 = 1000;
/// All keys are got at most so often before the first read row.
const MOST_WARMING: usize = 8;
/// The database is opened again at least so often.
const LEAST_REOPENS: u64 = 3;

impl<E: Engine> Ground<'_, E> {
    /// Stores every key once, then syncs.
    pub fn load(&self) -> Result<Measured> {
        let whole = Plan { threads: 1, time: Duration::MAX, calls_a_look: 1 };
        let measured = measure(whole, |_| {
            let (mut next, mut synced) = (0, false);
            let mut values = Values::new(self.settings.value_bytes);
            let mut batch = Vec::new();
            move |rng: &mut Rng| {
                if synced {
                    return Ok(Step::Finished);
                }
                if next == self.keys {
                    synced = true;
                    self.engine.sync()?;
                    return Ok(Step::Did(0));
                }
                let end = (next + BATCH).min(self.keys);
                batch.clear();
                batch.extend((next..end).map(|i| (key(i), values.next(&key(i), rng).to_vec())));
                self.engine.load(&batch)?;
                let items = end - next;
                next = end;
                Ok(Step::Did(items))
            }
        })?;
        let measured = self.settle(measured)?;
        self.check_all()?;
        Ok(measured)
    }
}

impl<E: Engine> Ground<'_, E> {
    /// Gets every key, in random order, uncounted: until that has become no faster, since some engines take in only
    /// a part of what is read.
    pub fn warm(&self) -> Result<()> {
        let mut least = Duration::MAX;
        for _ in 0..MOST_WARMING {
            let started = Instant::now();
            (0..self.keys).try_for_each(|i| self.get_one(&key(i)).map(|_| ()))?;
            let took = started.elapsed();
            if took > least.mul_f64(0.95) {
                break;
            }
            least = took;
        }
        Ok(())
    }

    /// Stores the first so many keys again, uncounted, and merges them.
    pub fn restore(&self, deleted: u64) -> Result<()> {
        let (mut values, mut rng) =
            (Values::new(self.settings.value_bytes), Rng::with_seed(deleted));
        for from in (0..deleted).step_by(BATCH as usize) {
            let some = from..(from + BATCH).min(deleted);
            let batch: Vec<_> =
                some.map(|i| (key(i), values.next(&key(i), &mut rng).to_vec())).collect();
            self.engine.load(&batch)?;
        }
        self.engine.settle()?;
        self.check_all()
    }
}

/// Closes, then opens and gets one key, again and again; only opening and the get are counted.
pub fn reopen<E: Engine>(
    mut engine: E,
    settings: &Settings,
    keys: u64,
    time: Duration,
) -> Result<(E, Measured)> {
    let (mut measured, mut rng) = (Measured::default(), Rng::with_seed(7));
    let begun = Instant::now();
    while measured.items < LEAST_REOPENS || begun.elapsed() < time {
        engine.close()?;
        let started = Instant::now();
        engine = E::open(settings)?;
        let key = key(rng.u64(..keys));
        let right = engine.get(&key, |value| belongs(&key, value, settings.value_bytes))?;
        measured.elapsed += started.elapsed();
        measured.items += 1;
        if !right.ok_or_else(missing)? {
            return Err(wrong_value());
        }
    }
    Ok((engine, measured))
}
