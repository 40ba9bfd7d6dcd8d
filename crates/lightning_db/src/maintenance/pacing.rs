//! How writers are slowed when flushing and merging fall behind: in small waits that grow with the
//! debt, never a stop while the work goes on.
//!
//! Pressure is 0 to 1000, the worst of all keyspaces' figures (see `store::policy::pressure`). Up
//! to 500 nothing waits. Past that each written byte costs time, cubically more, up to the rate of
//! [`SLOWEST_BYTES_PER_SECOND`] at 1000. A wait is at most [`LONGEST_WAIT`].

use std::time::Duration;

use crate::store::environment::Environment;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The rate writers are held to when the debt is at its bound.
const SLOWEST_BYTES_PER_SECOND: f64 = 2.0 * 1024.0 * 1024.0;
/// Waits shorter than this are saved up.
const SHORTEST_WAIT: Duration = Duration::from_micros(500);
/// The longest single wait.
const LONGEST_WAIT: Duration = Duration::from_millis(25);

/// Slows writers.
#[derive(Debug, Default)]
pub struct Pacer {
    pressure: AtomicU32,
    owed_nanos: AtomicU64,
}

impl Pacer {
    /// Sets the pressure, in thousandths.
    pub fn set_pressure(&self, pressure: u32) {
        self.pressure.store(pressure, Ordering::Relaxed);
        if pressure <= 500 {
            self.owed_nanos.store(0, Ordering::Relaxed);
        }
    }

    /// The pressure, in thousandths.
    pub fn pressure(&self) -> u32 {
        self.pressure.load(Ordering::Relaxed)
    }

    /// Whether writers are slowed at all.
    pub fn is_slowing(&self) -> bool {
        self.pressure() > 500
    }

    /// The time that a write of `bytes` should take at this pressure.
    fn cost(pressure: u32, bytes: usize) -> Duration {
        if pressure <= 500 {
            return Duration::ZERO;
        }
        let x = f64::from(pressure - 500) / 500.0;
        Duration::from_secs_f64(bytes as f64 / SLOWEST_BYTES_PER_SECOND * x * x * x)
    }

    /// Called before a write of `bytes`: waits what the debt asks for.
    #[inline]
    pub fn pace(&self, env: &Environment, bytes: usize) {
        let pressure = self.pressure.load(Ordering::Relaxed);
        if pressure > 500 {
            self.wait(env, pressure, bytes);
        }
    }

    /// Adds to the debt; gives what is to be paid of it now.
    fn owe(&self, cost: u64) -> u64 {
        let owed = self.owed_nanos.fetch_add(cost, Ordering::Relaxed).saturating_add(cost);
        if owed < SHORTEST_WAIT.as_nanos() as u64 {
            return 0;
        }
        // One pays for all.
        self.owed_nanos.swap(0, Ordering::Relaxed)
    }

    #[cold]
    fn wait(&self, env: &Environment, pressure: u32, bytes: usize) {
        // An entry costs more than its bytes.
        let cost = Self::cost(pressure, bytes + 64).as_nanos() as u64;
        let owed = self.owe(cost);
        if owed == 0 {
            return;
        }
        let wait = Duration::from_nanos(owed).min(LONGEST_WAIT);
        let started = env.now();
        env.vfs.sleep(wait);
        let waited = env.now().saturating_sub(started).as_nanos() as u64;
        env.counters.stall_nanos.fetch_add(waited, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two writers both took off the debt that they had seen: it fell below nothing, and from there every
    /// write waited as long as it can, or stopped at an overflow.
    #[test]
    fn no_debt_is_paid_twice() {
        const EACH: u64 = 20_000;
        let cost = SHORTEST_WAIT.as_nanos() as u64 / 2 + 1;
        let pacer = Pacer::default();
        let pay = || (0..EACH).map(|_| pacer.owe(cost)).sum::<u64>();
        let paid: u64 = std::thread::scope(|s| {
            let payers = [(); 4].map(|()| s.spawn(pay));
            payers.into_iter().map(|p| p.join().unwrap()).sum()
        });
        assert_eq!(paid + pacer.owed_nanos.load(Ordering::Relaxed), 4 * EACH * cost);
    }

    #[test]
    fn the_price_grows_smoothly_from_nothing() {
        assert_eq!(Pacer::cost(500, 1000), Duration::ZERO);
        let mut before = Duration::ZERO;
        for pressure in 501..=1000 {
            let cost = Pacer::cost(pressure, 100);
            assert!(cost >= before && cost.saturating_sub(before) < Duration::from_micros(1));
            before = cost;
        }
        assert!(before < Duration::from_micros(60));
    }
}
