//! The lock table: grants locks, makes the others wait in order, and breaks cycles.
//!
//! 1. A request is granted when it conflicts with no lock that is held and with no request that has
//!    waited longer. Only who holds a part of what it asks for comes before those who wait for that
//!    part (they would wait for each other), and past each of them at most [`OVERTAKEN`] times.
//! 2. Whoever begins to wait looks for a cycle of waits through itself, and if there is one gets
//!    `Deadlock` instead. Only beginning to wait can close a cycle: who is granted a lock does not
//!    wait. So each cycle has one victim, and is found when it comes into being.
//! 3. A waiter looks at the deadlines of those it waits for: who has expired loses its locks there
//!    and then, unless it is committing.
//! 4. `any` says that some lock is held or waited for. It is raised before a lock is granted and
//!    read inside the commit section; who was granted a lock passes through the section before it
//!    reads. So a commit either sees the lock, or is seen by that read.
//!
//! Threads: any; one latch, the last in the order of latches, held for short searches only.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::held::Held;
use super::owner::Owner;
use super::request::Request;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex};
use crate::types::KeyspaceId;

/// How often a waiter may be overtaken.
const OVERTAKEN: u32 = 16;

/// How often a waiter looks whether those it waits for have expired, at least.
const LOOK: Duration = Duration::from_millis(100);

/// How waits ended, since the database was opened.
#[derive(Debug, Default)]
pub struct LockCounters {
    /// Requests that had to wait.
    pub waits: AtomicU64,
    /// Nanoseconds waited.
    pub wait_nanos: AtomicU64,
    /// Cycles found.
    pub deadlocks: AtomicU64,
    /// Waits that took too long.
    pub timeouts: AtomicU64,
}

#[derive(Debug)]
struct Waiter {
    request: Request,
    /// Comes before those who wait for what its owner holds a part of.
    upgrade: bool,
    overtaken: u32,
    woken: Arc<Condvar>,
}

#[derive(Debug, Default)]
struct State {
    held: Held,
    /// In the order they came.
    waiting: VecDeque<Waiter>,
}

/// The locks of one database.
#[derive(Debug, Default)]
pub struct LockTable {
    state: Mutex<State>,
    any: AtomicBool,
    /// How waits ended.
    pub counters: LockCounters,
}

impl Waiter {
    /// Whether it is to be served before a request that came later.
    fn comes_before(&self, later: &Request, upgrade: bool) -> bool {
        self.request.conflicts(later) && !(upgrade && self.overtaken < OVERTAKEN)
    }
}

impl State {
    /// The owners that `request` waits for, when everyone before `at` in the queue came earlier.
    fn blockers(&self, request: &Request, upgrade: bool, at: usize) -> Vec<Arc<Owner>> {
        let mut found = self.held.blockers(request);
        for (i, w) in self.waiting.iter().enumerate() {
            let before = if i < at {
                w.comes_before(request, upgrade)
            } else {
                // Later ones that will come before this one.
                w.upgrade && w.request.conflicts(request)
            };
            if before {
                found.push(Arc::clone(&w.request.owner));
            }
        }
        found
    }

    fn is_free(&self, request: &Request, upgrade: bool, at: usize) -> bool {
        !self.held.blocks(request)
            && !self.waiting.iter().take(at).any(|w| w.comes_before(request, upgrade))
    }

    /// Grants everything that can be, in order.
    fn serve(&mut self) {
        let mut at = 0;
        while at < self.waiting.len() {
            let w = &self.waiting[at];
            if !w.request.owner.is_expired() && self.is_free(&w.request, w.upgrade, at) {
                let w = self.waiting.remove(at).expect("in bounds");
                self.note_overtaken(&w.request, at);
                self.held.add(&w.request);
                // The waiter finds itself gone from the queue.
                w.woken.notify_all();
                continue;
            }
            at += 1;
        }
    }

    fn note_overtaken(&mut self, request: &Request, at: usize) {
        for w in self.waiting.iter_mut().take(at) {
            if w.request.conflicts(request) {
                w.overtaken += 1;
            }
        }
    }

    fn position(&self, request: &Request) -> Option<usize> {
        self.waiting.iter().position(|w| w.request.owner.number == request.owner.number)
    }

    /// Whether the wait that `request` is about to begin at the end of the queue closes a cycle.
    fn closes_cycle(&self, request: &Request, upgrade: bool) -> bool {
        let goal = request.owner.number;
        let mut seen = HashSet::new();
        let mut next: Vec<u64> =
            self.blockers(request, upgrade, self.waiting.len()).iter().map(|o| o.number).collect();
        while let Some(owner) = next.pop() {
            if owner == goal {
                return true;
            }
            if !seen.insert(owner) {
                continue;
            }
            let waits = self.waiting.iter().enumerate();
            for (at, w) in waits.filter(|(_, w)| w.request.owner.number == owner) {
                // The new request, should it come before this waiter, counts as well.
                if upgrade && request.conflicts(&w.request) {
                    return true;
                }
                next.extend(self.blockers(&w.request, w.upgrade, at).iter().map(|o| o.number));
            }
        }
        false
    }
}

impl LockTable {
    /// Whether any lock may be held or waited for. Read inside the commit section.
    #[inline]
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Whether a lock of somebody but `owner` forbids writing `key`.
    pub fn forbids_write(&self, owner: u64, keyspace: KeyspaceId, key: &[u8]) -> bool {
        self.state.lock().held.forbids_write(owner, keyspace, key)
    }

    /// Whether a lock of somebody but `owner` forbids writing to any key of `start <= key < end`.
    pub fn forbids_range(
        &self,
        owner: u64,
        keyspace: KeyspaceId,
        start: &[u8],
        end: Option<&[u8]>,
    ) -> bool {
        self.state.lock().held.forbids_range(owner, keyspace, start, end)
    }

    /// Takes a lock, waiting for it at most `timeout`. `now` is the monotonic clock.
    pub fn acquire(
        &self,
        request: &Request,
        timeout: Duration,
        now: &dyn Fn() -> Duration,
    ) -> Result<()> {
        let mut state = self.state.lock();
        if request.owner.is_expired() {
            return Err(expired());
        }
        if state.held.has(request) {
            return Ok(());
        }
        self.any.store(true, Ordering::Release);
        let upgrade = state.held.has_some(request);
        let end = state.waiting.len();
        if state.is_free(request, upgrade, end) {
            state.note_overtaken(request, end);
            state.held.add(request);
            return Ok(());
        }
        if state.closes_cycle(request, upgrade) {
            self.counters.deadlocks.fetch_add(1, Ordering::Relaxed);
            return Err(Error::new(
                ErrorKind::Deadlock,
                "waiting for this lock would close a cycle of waiting transactions",
            ));
        }
        self.counters.waits.fetch_add(1, Ordering::Relaxed);
        let started = now();
        let until = started.saturating_add(timeout).min(request.owner.deadline);
        let woken = Arc::new(Condvar::new());
        state.waiting.push_back(Waiter {
            request: request.clone(),
            upgrade,
            overtaken: 0,
            woken: Arc::clone(&woken),
        });
        let result = loop {
            let Some(at) = state.position(request) else {
                if request.owner.is_expired() {
                    state.held.remove_all(request.owner.number);
                    state.serve();
                    break Err(expired());
                }
                break Ok(());
            };
            let time = now();
            if time >= until {
                state.waiting.remove(at);
                state.serve();
                if request.owner.expire(time) || request.owner.is_expired() {
                    state.held.remove_all(request.owner.number);
                    state.serve();
                    break Err(expired());
                }
                self.counters.timeouts.fetch_add(1, Ordering::Relaxed);
                break Err(Error::new(
                    ErrorKind::TimedOut,
                    "the lock could not be had within the time-out: another transaction holds it",
                ));
            }
            // Who has expired among those it waits for loses its locks now.
            let upgrade = state.waiting[at].upgrade;
            let blockers = state.blockers(request, upgrade, at);
            let mut freed = false;
            for owner in &blockers {
                if owner.expire(time) || owner.is_expired() {
                    freed |= state.held.remove_all(owner.number);
                }
            }
            if freed {
                state.serve();
                continue;
            }
            let next = blockers.iter().map(|o| o.deadline).filter(|d| *d >= time).min();
            let wake =
                next.map_or(until, |d| until.min(d.saturating_add(Duration::from_millis(1))));
            let wait = wake.saturating_sub(time).clamp(Duration::from_micros(100), LOOK);
            state = woken.wait_timeout(state, wait);
        };
        let waited = now().saturating_sub(started).as_nanos() as u64;
        self.counters.wait_nanos.fetch_add(waited, Ordering::Relaxed);
        self.settle(&state);
        result
    }

    /// Gives back all that `owner` holds, and serves who waited for it.
    pub fn release(&self, owner: &Owner) {
        if !self.any() {
            return;
        }
        let mut state = self.state.lock();
        if state.held.remove_all(owner.number) {
            state.serve();
        }
        self.settle(&state);
    }

    /// Lowers the flag once nothing is held or waited for.
    fn settle(&self, state: &State) {
        if state.held.owners() == 0 && state.waiting.is_empty() {
            self.any.store(false, Ordering::Release);
        }
    }

    /// How many transactions hold locks, and how many wait for one.
    pub fn usage(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.held.owners(), state.waiting.len())
    }
}

/// The error of a transaction past its deadline.
pub fn expired() -> Error {
    Error::new(ErrorKind::TimedOut, "the transaction lived longer than its time-out")
}
