//! Wakes those who wait for commits to become visible.
//!
//! A waiter counts itself in, then enters and leaves the commit section, then looks at the visible number,
//! then sleeps. A commit that becomes visible inside the section looks at the count there: it either comes
//! after the waiter and sees it, or before and is seen. One that becomes visible outside fences between
//! its number and its look at the count, as the waiter does between the two the other way round. So no
//! commit is slept through; and where nobody waits a commit pays for one load.

use std::time::Duration;

use crate::sync::atomic::{AtomicUsize, Ordering, fence};
use crate::sync::{Condvar, Mutex};

/// See the module.
#[derive(Debug, Default)]
pub struct Arrivals {
    waiting: AtomicUsize,
    generation: Mutex<u64>,
    changed: Condvar,
}

/// Somebody who waits.
#[derive(Debug)]
pub struct Waiting<'a>(&'a Arrivals);

impl Arrivals {
    /// Counts a waiter in, until the answer is dropped.
    pub fn enter(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        Waiting(self)
    }

    /// Called inside the commit section, after the visible number was raised.
    #[inline]
    pub fn tell_inside(&self) {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.wake();
        }
    }

    /// Called outside, after the visible number was raised.
    pub fn tell(&self) {
        fence(Ordering::SeqCst);
        self.tell_inside();
    }

    /// Wakes everybody.
    #[cold]
    pub fn wake(&self) {
        *self.generation.lock() += 1;
        self.changed.notify_all();
    }
}

impl Waiting<'_> {
    /// What [`sleep`](Self::sleep) is to be given: read before looking for what is waited for.
    pub fn current(&self) -> u64 {
        *self.0.generation.lock()
    }

    /// Sleeps until somebody was told of since `seen`, at most so long.
    pub fn sleep(&self, seen: u64, timeout: Duration) {
        let generation = self.0.generation.lock();
        if *generation == seen {
            drop(self.0.changed.wait_timeout(generation, timeout));
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}
