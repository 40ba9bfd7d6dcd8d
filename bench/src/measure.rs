//! Runs one thing over and over, in one or more threads, for a time, and counts.
//!
//! 1. Threads start together; the time counted ends when the last of them does.
//! 2. The clock is read once in so many calls, since reading it costs as much as a good part of a get.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::engine::Result;

/// How long, how many, how often the clock is read.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub threads: usize,
    pub time: Duration,
    pub calls_a_look: u32,
}

/// What was counted, and in what time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    pub items: u64,
    pub elapsed: Duration,
    /// Processor time of the threads that called, where the system tells it.
    pub processor: Option<Duration>,
    /// Items done before, to warm up.
    pub uncounted: u64,
    /// From then until nothing was left to merge, where that was waited for.
    pub settling: Option<Duration>,
}

impl Measured {
    pub fn per_second(&self) -> f64 {
        self.items as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// The same with the time until nothing was left to merge.
    pub fn merged_per_second(&self) -> Option<f64> {
        Some(Self { elapsed: self.elapsed + self.settling?, ..*self }.per_second())
    }

    /// Nanoseconds of processor time for each item.
    pub fn processor_nanos(&self) -> Option<f64> {
        Some(self.processor?.as_nanos() as f64 / self.items.max(1) as f64)
    }
}

/// The processor time that this thread has had so far.
fn processor_time() -> Option<Duration> {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(told.split(' ').next()?.parse().ok()?))
}

/// What one call did.
pub enum Step {
    /// So many items.
    Did(u64),
    /// Nothing: there is no more to do.
    Finished,
}

/// Calls what `make(thread)` made, in each thread, until the time is over or it is finished.
pub fn measure<M, F>(plan: Plan, make: M) -> Result<Measured>
where
    M: Fn(u64) -> F + Sync,
    F: FnMut(&mut Rng) -> Result<Step>,
{
    let barrier = Barrier::new(plan.threads + 1);
    let (parts, elapsed) = std::thread::scope(|scope| {
        let spawn = |thread: u64| {
            let (barrier, make) = (&barrier, &make);
            scope.spawn(move || {
                let (mut call, mut rng) = (make(thread), Rng::with_seed(0x11 + thread));
                barrier.wait();
                run(plan, &mut rng, &mut call)
            })
        };
        let handles: Vec<_> = (0..plan.threads as u64).map(spawn).collect();
        barrier.wait();
        let started = Instant::now();
        let parts: Vec<_> = handles.into_iter().map(|h| h.join()).collect();
        (parts, started.elapsed())
    });
    let (mut items, mut processor) = (0, Some(Duration::ZERO));
    for part in parts {
        let (did, took) = part.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        items += did;
        processor = processor.zip(took).map(|(sum, took)| sum + took);
    }
    Ok(Measured { items, elapsed, processor, uncounted: 0, settling: None })
}

/// The items of one thread, and the processor time they took.
fn run(
    plan: Plan,
    rng: &mut Rng,
    call: &mut impl FnMut(&mut Rng) -> Result<Step>,
) -> Result<(u64, Option<Duration>)> {
    let before = processor_time();
    let items = count(plan, rng, call)?;
    let took = processor_time().zip(before).map(|(after, before)| after.saturating_sub(before));
    Ok((items, took))
}

fn count(
    plan: Plan,
    rng: &mut Rng,
    call: &mut impl FnMut(&mut Rng) -> Result<Step>,
) -> Result<u64> {
    let mut items = 0;
    let started = Instant::now();
    loop {
        for _ in 0..plan.calls_a_look {
            match call(rng)? {
                Step::Did(n) => items += n,
                Step::Finished => return Ok(items),
            }
        }
        if started.elapsed() >= plan.time {
            return Ok(items);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_counts_and_finishing_ends_it() {
        let plan = Plan { threads: 3, time: Duration::from_hours(1), calls_a_look: 4 };
        let measured = measure(plan, |thread| {
            let mut left = 10 + thread;
            move |_: &mut Rng| {
                if left == 0 {
                    return Ok(Step::Finished);
                }
                left -= 1;
                Ok(Step::Did(2))
            }
        });
        assert_eq!(measured.expect("no call fails").items, 2 * (10 + 11 + 12));
    }

    #[test]
    fn an_error_of_any_thread_is_the_result() {
        let plan = Plan { threads: 2, time: Duration::from_millis(1), calls_a_look: 1 };
        let measured = measure(plan, |thread| {
            move |_: &mut Rng| match thread {
                0 => Ok(Step::Did(1)),
                _ => Err("planned".into()),
            }
        });
        assert!(measured.is_err());
    }
}
