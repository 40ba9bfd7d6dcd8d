//! A call that runs on one of the pool's threads, as a future.
//!
//! 1. Dropped before the call was begun, it never happens; dropped later, it goes on to its end, and
//!    what it gives is dropped.
//! 2. A panic in the call goes on in whoever polls.
//!
//! The answer's latch is taken alone.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::inner::Inner;
use super::pool::{Brought, Job};
use crate::error::{Error, Result};
use crate::sync::Mutex;
use crate::sync::thread;

/// See the module.
pub struct Call<T> {
    step: Step,
    answer: Arc<Mutex<Answer<T>>>,
    // The last: what a job holds must not be the last of the database.
    inner: Arc<Inner>,
}

enum Step {
    /// Not in the queue; with the number of a place before it, if it was full.
    Outside(Option<Job>, Option<u64>),
    /// In the queue, being run, or done.
    Inside(u64),
    Over,
}

enum Answer<T> {
    /// Not there; who is to be told.
    Awaited(Option<Waker>),
    There(thread::Result<T>),
    Taken,
}

impl<T: Send + 'static> Call<T> {
    /// A call of `act`, which begins with the first poll.
    pub fn new(inner: &Arc<Inner>, act: impl FnOnce() -> T + Send + 'static) -> Self {
        let answer = Arc::new(Mutex::new(Answer::Awaited(None)));
        let to = Arc::clone(&answer);
        let job = move || {
            let result = catch_unwind(AssertUnwindSafe(act));
            let before = std::mem::replace(&mut *to.lock(), Answer::There(result));
            // Where nobody awaits it, it goes here, outside the latch.
            drop(to);
            if let Answer::Awaited(Some(waker)) = before {
                waker.wake();
            }
        };
        let step = Step::Outside(Some(Box::new(job)), None);
        Self { step, answer, inner: Arc::clone(inner) }
    }
}

impl<T> Future for Call<Result<T>> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let this = self.get_mut();
        if let Step::Outside(job, number) = &mut this.step {
            let Some(job) = job.take() else { return Poll::Pending };
            match this.inner.pool.bring(job, number.take(), cx.waker()) {
                Brought::Full(job, number) => {
                    this.step = Step::Outside(Some(job), Some(number));
                    return Poll::Pending;
                }
                Brought::NoThread(e) => {
                    this.step = Step::Over;
                    let path = this.inner.path();
                    let path = path.unwrap_or(Path::new(""));
                    return Poll::Ready(Err(Error::io(path, "start a thread", e)));
                }
                Brought::Queued(number) => this.step = Step::Inside(number),
            }
        }
        let mut answer = this.answer.lock();
        match std::mem::replace(&mut *answer, Answer::Taken) {
            Answer::There(result) => {
                drop(answer);
                this.step = Step::Over;
                Poll::Ready(result.unwrap_or_else(|panic| resume_unwind(panic)))
            }
            Answer::Awaited(before) => {
                *answer = Answer::Awaited(Some(cx.waker().clone()));
                drop(answer);
                drop(before);
                Poll::Pending
            }
            Answer::Taken => panic!("a future was polled after it was done"),
        }
    }
}

impl<T> Drop for Call<T> {
    fn drop(&mut self) {
        match &mut self.step {
            Step::Outside(job, number) => {
                let job = job.take();
                if let Some(number) = number.take() {
                    self.inner.pool.take_back(number);
                }
                drop(job);
            }
            Step::Inside(number) => self.inner.pool.take_back(*number),
            Step::Over => {}
        }
    }
}
