//! One transaction's life, as the lock table and the registry of transactions see it.
//!
//! 1. A life ends once: by commit or abort (`Finished`), or by its deadline (`Expired`).
//! 2. Between `Committing` and `Finished` it cannot expire, so that its locks stay until its commit
//!    is settled.

use std::time::Duration;

use crate::sync::atomic::{AtomicU8, Ordering};

const ACTIVE: u8 = 0;
const COMMITTING: u8 = 1;
const FINISHED: u8 = 2;
const EXPIRED: u8 = 3;

/// A transaction, or a single write while it waits for locks.
#[derive(Debug)]
pub struct Owner {
    /// Its number; never used twice.
    pub number: u64,
    /// When it expires, on the monotonic clock.
    pub deadline: Duration,
    state: AtomicU8,
}

impl Owner {
    /// A new life.
    pub fn new(number: u64, deadline: Duration) -> Self {
        Self { number, deadline, state: AtomicU8::new(ACTIVE) }
    }

    fn step(&self, from: u8, to: u8) -> bool {
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Begins to commit; `false` where it has expired or is finished.
    pub fn begin_commit(&self) -> bool {
        self.step(ACTIVE, COMMITTING)
    }

    /// Ends it, if it has not ended; tells whether this call did.
    pub fn finish(&self) -> bool {
        self.step(COMMITTING, FINISHED) || self.step(ACTIVE, FINISHED)
    }

    /// Ends it if it is active at a time past its deadline; tells whether this call did.
    pub fn expire(&self, now: Duration) -> bool {
        now > self.deadline && self.step(ACTIVE, EXPIRED)
    }

    /// Whether it has expired.
    pub fn is_expired(&self) -> bool {
        self.state.load(Ordering::Acquire) == EXPIRED
    }
}
