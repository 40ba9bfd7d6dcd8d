//! Overwriting for long: pauses, bytes written, space; and opening what a killed process left.
//!
//! 1. Every call is timed: two looks at the clock, some 50 ns, count in its rate.
//! 2. Bytes to and from the device are what the kernel charges to this process (`/proc/self/io`):
//!    pages made dirty, less those given up before they were written. Without such a file the rows fail.
//! 3. Space is looked at twice a second by a thread of its own.
//! 4. Resident memory is that of the process, from the engine's opening on: what engines before it have not
//!    given back counts too, so ask for one engine a run.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fastrand::Rng;
use hdrhistogram::Histogram;

use super::check::{missing, wrong_value};
use super::{Ground, Seen};
use crate::engine::{Engine, Error, Result, Settings};
use crate::measure::{Measured, Plan, Step, measure};
use crate::workload::{Key, Values, belongs, key};

const BETWEEN_LOOKS: Duration = Duration::from_millis(500);
/// Puts that lie in the log alone when the process is killed: 40 MB with values of 100 bytes, less
/// than what any engine here flushes at.
const PUTS_IN_THE_LOG: u64 = 345_000;

/// What was seen beside rates, as far as its rows were run.
#[derive(Debug, Default)]
pub struct Sights {
    /// Bytes on disk, logs aside, once loaded and merged.
    pub settled: u64,
    /// Bytes read from the device, and uniform gets.
    pub gets: Option<(u64, u64)>,
    /// Nanoseconds of processor time that a uniform get takes, alone and beside a writer.
    pub get_alone: Option<f64>,
    pub get_beside: Option<f64>,
    pub overwritten: Option<Overwritten>,
}

/// What overwriting did.
#[derive(Debug)]
pub struct Overwritten {
    /// Nanoseconds a call.
    calls: Histogram<u64>,
    user_bytes: u64,
    device_bytes: u64,
    peak_tables: u64,
    peak_all: u64,
    /// What the files took, logs aside, at each look.
    tables: Vec<u64>,
}

impl Overwritten {
    /// The most that the files took, logs aside, in each twentieth of the time, by what they took when merged.
    pub fn course(&self, settled: u64) -> String {
        let part = self.tables.len().div_ceil(20).max(1);
        let most = |looks: &[u64]| looks.iter().max().copied().unwrap_or(0);
        let parts = self.tables.chunks(part).map(most);
        let shown = parts.map(|bytes| format!("{:.2}", bytes as f64 / settled.max(1) as f64));
        format!("space while overwriting, by twentieths: {}", shown.collect::<Vec<_>>().join(" "))
    }
}

impl Sights {
    /// The figure of a row, if what it takes was run.
    pub fn figure(&self, seen: Seen) -> Result<Option<f64>> {
        let overwritten = self.overwritten.as_ref();
        let quotient = |a: u64, b: u64| a as f64 / b.max(1) as f64;
        Ok(match seen {
            Seen::Micros(part) => {
                overwritten.map(|o| o.calls.value_at_quantile(f64::from(part) / 1e5) as f64 / 1e3)
            }
            Seen::WriteAmplification => overwritten.map(|o| quotient(o.device_bytes, o.user_bytes)),
            Seen::PeakDisk => overwritten.map(|o| o.peak_all as f64 / 1e6),
            Seen::SpaceAmplification => overwritten.map(|o| quotient(o.peak_tables, self.settled)),
            Seen::ReadByGet => self.gets.map(|(bytes, gets)| quotient(bytes, gets)),
            Seen::BesideProcessor => {
                self.get_beside.zip(self.get_alone).map(|(beside, alone)| beside / alone)
            }
            Seen::Resident => Some(kernel_count("/proc/self/status", "VmHWM")? as f64 / 1e3),
        })
    }
}

impl<E: Engine> Ground<'_, E> {
    /// Random existing keys get new values, one by one.
    pub fn overwrite(&self, threads: usize) -> Result<(Measured, Overwritten)> {
        let plan = Plan { threads, time: self.time, calls_a_look: 16 };
        let calls = Mutex::new(new_histogram()?);
        let (over, peak_all) = (AtomicBool::new(false), AtomicU64::new(0));
        let look = || -> Result<u64> {
            let (tables, logs) = self.engine.bytes(self.settings)?;
            peak_all.fetch_max(tables + logs, Ordering::Relaxed);
            Ok(tables)
        };
        let before = device_bytes_written()?;
        let (measured, tables) = std::thread::scope(|scope| {
            let looks = scope.spawn(|| -> Result<Vec<u64>> {
                let mut tables = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    tables.push(look()?);
                    std::thread::park_timeout(BETWEEN_LOOKS);
                }
                tables.push(look()?);
                Ok(tables)
            });
            let measured = measure(plan, |_| {
                let mut values = Values::new(self.settings.value_bytes);
                let mut own = Times { calls: new_histogram(), all: &calls };
                move |rng: &mut Rng| {
                    let key = key(rng.u64(..self.keys));
                    let value = values.next(&key, rng);
                    let started = Instant::now();
                    self.engine.put(&key, value)?;
                    let nanos = started.elapsed().as_nanos() as u64;
                    own.calls.as_mut().map_err(|e| e.to_string())?.saturating_record(nanos.max(1));
                    Ok(Step::Did(1))
                }
            });
            over.store(true, Ordering::Relaxed);
            looks.thread().unpark();
            let tables = looks.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            Ok::<_, Error>((measured?, tables))
        })?;
        let device_bytes = device_bytes_written()?.saturating_sub(before);
        let measured = self.settle(measured)?;
        self.check_all()?;
        let user_bytes = measured.items * (size_of::<Key>() + self.settings.value_bytes) as u64;
        let overwritten = Overwritten {
            calls: calls.into_inner().unwrap_or_else(PoisonError::into_inner),
            user_bytes,
            device_bytes,
            peak_tables: tables.iter().max().copied().unwrap_or(0),
            peak_all: peak_all.into_inner(),
            tables,
        };
        Ok((measured, overwritten))
    }

    /// Puts into a database of its own, which is then copied as a killed process would leave it.
    /// Opening the copy and one get are counted.
    pub fn recover(&self, copy: &Settings) -> Result<Duration> {
        let (mut values, mut rng) =
            (Values::new(self.settings.value_bytes), Rng::with_seed(self.keys));
        for i in 0..PUTS_IN_THE_LOG {
            self.engine.put(&key(i), values.next(&key(i), &mut rng))?;
        }
        copy_files(&self.settings.dir, &copy.dir)?;
        let last = key(PUTS_IN_THE_LOG - 1);
        let started = Instant::now();
        let opened = E::open(copy)?;
        let right = opened.get(&last, |value| belongs(&last, value, copy.value_bytes))?;
        let took = started.elapsed();
        opened.close()?;
        match right {
            Some(true) => Ok(took),
            Some(false) => Err(wrong_value()),
            None => Err(missing()),
        }
    }
}

/// A thread's own times, which go to the others' when it is done.
struct Times<'a> {
    calls: Result<Histogram<u64>>,
    all: &'a Mutex<Histogram<u64>>,
}

impl Drop for Times<'_> {
    fn drop(&mut self) {
        if let Ok(calls) = &self.calls {
            let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            // The same bounds: nothing is left out.
            let _ = all.add(calls);
        }
    }
}

/// Nanoseconds up to a minute, to three digits.
fn new_histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000_000, 3)?)
}

fn copy_files(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy_files(&path, &target)?;
        } else {
            std::fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

fn device_bytes_written() -> Result<u64> {
    let of = |name| kernel_count("/proc/self/io", name);
    Ok(of("write_bytes")?.saturating_sub(of("cancelled_write_bytes")?))
}

/// Bytes that this process had read from the device so far.
pub fn device_bytes_read() -> Result<u64> {
    kernel_count("/proc/self/io", "read_bytes")
}

/// Begins anew to note how much memory is resident at the highest, where the kernel lets us.
pub fn forget_highest_resident() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The number behind `name:` in a file of the kernel's.
fn kernel_count(file: &str, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))?;
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|l| l.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| Error::from(format!("{file} has no {name}")))
}
