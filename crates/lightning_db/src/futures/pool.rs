//! Threads for what waits: begun when they are needed, fed by a queue with a bound.
//!
//! 1. A job is run whole, or not at all: it leaves the queue to be run, or because whoever asked for
//!    it went away.
//! 2. The queue holds at most its bound. Whoever finds it full waits without a thread, and jobs are
//!    taken in the order in which they came.
//! 3. Threads hold the queue, not the database. Told to stop, they do what is there and end.
//!
//! One latch; nothing of others (jobs, wakers) is called or dropped under it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;

use crate::sync::{Condvar, Mutex, MutexGuard, thread};

/// What a thread does for somebody.
pub type Job = Box<dyn FnOnce() + Send>;

/// What became of a job that was brought.
pub enum Brought {
    /// It is in the queue, by this number.
    Queued(u64),
    /// The queue is full: come again with it, and with this number, once woken.
    Full(Job, u64),
    /// There is no thread, and none could be begun.
    NoThread(std::io::Error),
}

/// See the module.
pub struct Pool {
    state: Mutex<State>,
    work: Condvar,
    most_threads: usize,
    bound: usize,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<(u64, Job)>,
    /// Who waits for room, in order.
    waiting: VecDeque<(u64, Waker)>,
    last_number: u64,
    threads: usize,
    idle: usize,
    stopping: bool,
}

impl State {
    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// The last of those for whom there is room: after one place came free, the one it came free for.
    fn next_in(&self, bound: usize) -> Option<Waker> {
        let free = bound.saturating_sub(self.jobs.len());
        self.waiting.get(free.checked_sub(1)?).map(|(_, waker)| waker.clone())
    }
}

impl Pool {
    /// No threads yet.
    pub fn new(most_threads: usize, bound: usize) -> Arc<Self> {
        let (state, work) = (Mutex::default(), Condvar::new());
        Arc::new(Self { state, work, most_threads, bound })
    }

    /// Brings a job, for the first time, or again with the number it got when the queue was full.
    /// `waker` is woken when there may be room.
    pub fn bring(self: &Arc<Self>, job: Job, number: Option<u64>, waker: &Waker) -> Brought {
        let mut state = self.state.lock();
        let place = number.and_then(|n| state.waiting.iter().position(|(w, _)| *w == n));
        let before = place.unwrap_or(state.waiting.len());
        if state.jobs.len() + before >= self.bound {
            // The same number is kept, and the place that goes with it.
            let number = match place {
                Some(at) => {
                    state.waiting[at].1.clone_from(waker);
                    state.waiting[at].0
                }
                None => {
                    let number = state.number();
                    state.waiting.push_back((number, waker.clone()));
                    number
                }
            };
            return Brought::Full(job, number);
        }
        if let Err(e) = self.see_to_threads(&mut state) {
            return Brought::NoThread(e);
        }
        if let Some(at) = place {
            state.waiting.remove(at);
        }
        let number = state.number();
        state.jobs.push_back((number, job));
        drop(state);
        self.work.notify_one();
        Brought::Queued(number)
    }

    /// Begins a thread where all that there are have work; an error only where there is none.
    fn see_to_threads(self: &Arc<Self>, state: &mut State) -> std::io::Result<()> {
        if state.idle > state.jobs.len() || state.threads >= self.most_threads {
            return Ok(());
        }
        let pool = Arc::clone(self);
        let builder = thread::Builder::new().name("lightning-async".to_owned());
        match builder.spawn(move || pool.run()) {
            Ok(_) => state.threads += 1,
            Err(e) if state.threads == 0 => return Err(e),
            Err(_) => {}
        }
        Ok(())
    }

    /// Takes back a job that is in the queue by this number, or whoever waits for room by it. A job that
    /// was begun goes on.
    pub fn take_back(&self, number: u64) {
        let mut state = self.state.lock();
        let job = state.jobs.iter().position(|(n, _)| *n == number);
        let job = job.and_then(|at| state.jobs.remove(at));
        let waiter = state.waiting.iter().position(|(n, _)| *n == number);
        let waiter = waiter.and_then(|at| state.waiting.remove(at));
        // Who comes after may come in now; woken for nothing, they look and wait on.
        let next = state.next_in(self.bound);
        drop(state);
        wake(next);
        drop((job, waiter));
    }

    /// Lets the threads end after what is in the queue, and `last`.
    pub fn stop(self: &Arc<Self>, last: Job) {
        let mut state = self.state.lock();
        state.stopping = true;
        if self.see_to_threads(&mut state).is_err() {
            drop(state);
            return last();
        }
        let number = state.number();
        state.jobs.push_back((number, last));
        drop(state);
        self.work.notify_all();
    }

    fn run(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some((_, job)) = state.jobs.pop_front() {
                state = self.run_job(state, job);
            } else if state.stopping {
                return;
            } else {
                state.idle += 1;
                state = self.work.wait(state);
                state.idle -= 1;
            }
        }
    }

    fn run_job<'s>(&'s self, state: MutexGuard<'s, State>, job: Job) -> MutexGuard<'s, State> {
        let next = state.next_in(self.bound);
        drop(state);
        wake(next);
        // The job sees to panics of what it calls; this is for wakers.
        let _ = catch_unwind(AssertUnwindSafe(job));
        self.state.lock()
    }
}

/// Wakes; a panic in a waker is its owner's.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
    }
}
