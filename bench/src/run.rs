//! Runs one engine through the rows that were asked for.
//!
//! 1. The order is that of `ROWS`; loading is always done, since the other rows need the keys.
//! 2. After everything that leaves something to merge, the engine settles, and the time of that is
//!    the difference between the two figures of a write row. After loading it gives back what its files do
//!    not need besides, and is opened anew: some remove replaced files only then.
//! 3. Before the first read row every key is read, until that has become no faster, where the cache has room for all:
//!    opening again has emptied the caches.
//! 4. Rows with a sync each come last, on the database opened anew.

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use crate::engine::{Engine, Result, Settings};
use crate::measure::Measured;
use crate::rows::sustained::{self, Sights, device_bytes_read};
use crate::rows::{Choice, Ground, ROWS, Row, Work, load};
use crate::workload::{Key, Zipf};

/// What was asked for, for every engine alike.
pub struct Order<'a> {
    /// A directory for the engine's database, empty.
    pub dir: &'a Path,
    pub rows: &'a [&'static Row],
    pub keys: u64,
    pub value_bytes: usize,
    pub threads: Option<usize>,
    pub cache: usize,
    pub time: Duration,
    pub zipf: &'a Zipf,
}

/// The outcome of one row: items a second, or megabytes.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    pub plain: f64,
    /// The same, the time until nothing was left to merge counted as well.
    pub merged: Option<f64>,
}

/// Takes each figure as it is there, or a remark.
pub type Tell<'a> = &'a mut dyn FnMut(Told);

pub enum Told {
    Figure(&'static Row, Figure),
    /// What the tree looked like once it was loaded and merged.
    State(String),
}

pub type Run = fn(&Order<'_>, Tell<'_>) -> Result<()>;

/// Runs an engine.
pub fn run<E: Engine>(order: &Order<'_>, tell: Tell<'_>) -> Result<()> {
    let settings = |name: &str, synced| -> Result<Settings> {
        let dir = order.dir.join(name);
        std::fs::create_dir_all(&dir)?;
        Ok(Settings { dir, cache: order.cache, synced, value_bytes: order.value_bytes })
    };
    let fits = order.keys * (size_of::<Key>() + order.value_bytes) as u64 <= order.cache as u64;
    sustained::forget_highest_resident();
    let mut at = settings("loaded", false)?;
    let mut engine = E::open(&at)?;
    let (inserted, mut warm, mut sights) = (AtomicU64::new(0), false, Sights::default());
    for row in ROWS {
        let asked = order.rows.iter().any(|r| r.name == row.name);
        if !row.possible(&E::FACTS) || (!asked && row.work != Work::Load) {
            continue;
        }
        let named = |e| format!("row {}: {e}", row.name);
        if row.group == "sync" && !at.synced {
            engine.close()?;
            at.synced = true;
            engine = E::open(&at)?;
        }
        if matches!(row.group, "read" | "scan") && !warm && fits {
            ground(order, &engine, &at, &inserted).warm().map_err(named)?;
            warm = true;
        }
        let figure = match row.work {
            Work::Reopen => {
                let (opened, measured) =
                    load::reopen(engine, &at, order.keys, order.time).map_err(named)?;
                engine = opened;
                Figure::of(measured)
            }
            Work::Disk => {
                let (tables, logs) = engine.bytes(&at)?;
                tell(Told::State(format!("logs take {:.0} MB", logs as f64 / 1e6)));
                Figure { plain: tables as f64 / 1e6, merged: None }
            }
            Work::PutAscending => {
                let beside = settings("ascending", false)?;
                let empty = E::open(&beside)?;
                let none = AtomicU64::new(0);
                let measured = ground(order, &empty, &beside, &none).run(row).map_err(named)?;
                empty.close()?;
                std::fs::remove_dir_all(&beside.dir)?;
                Figure::of(measured)
            }
            Work::Seen(seen) => match sights.figure(seen).map_err(named)? {
                Some(plain) => Figure { plain, merged: None },
                None => continue,
            },
            Work::Overwrite => {
                let threads = order.threads.unwrap_or(row.threads);
                let ground = ground(order, &engine, &at, &inserted);
                let (measured, overwritten) = ground.overwrite(threads).map_err(named)?;
                tell(Told::State(overwritten.course(sights.settled)));
                sights.overwritten = Some(overwritten);
                Figure::of(measured)
            }
            Work::Recover => {
                let (killed, copy) = (settings("killed", false)?, settings("copy", false)?);
                let beside = E::open(&killed)?;
                let none = AtomicU64::new(0);
                let took = ground(order, &beside, &killed, &none).recover(&copy).map_err(named)?;
                beside.close()?;
                std::fs::remove_dir_all(&killed.dir)?;
                std::fs::remove_dir_all(&copy.dir)?;
                Figure { plain: took.as_secs_f64() * 1e3, merged: None }
            }
            _ => {
                let before = device_bytes_read();
                let ground = ground(order, &engine, &at, &inserted);
                let measured = ground.run(row).map_err(named)?;
                if let (Work::Get(Choice::Uniform), Ok(before), Ok(after)) =
                    (row.work, before, device_bytes_read())
                {
                    sights
                        .gets
                        .get_or_insert((after - before, measured.items + measured.uncounted));
                }
                match row.work {
                    Work::Get(Choice::Uniform) if row.threads == 1 => {
                        sights.get_alone = measured.processor_nanos();
                    }
                    Work::GetBeside => sights.get_beside = measured.processor_nanos(),
                    _ => {}
                }
                Figure::of(measured)
            }
        };
        if row.work == Work::Load {
            if E::FACTS.reopens {
                engine = engine.shrink()?;
                engine.close()?;
                engine = E::open(&at)?;
            }
            sights.settled = engine.bytes(&at)?.0;
            tell(Told::State(engine.state()?));
        }
        if asked {
            tell(Told::Figure(row, figure));
        }
    }
    engine.close()
}

fn ground<'a, E>(
    order: &'a Order<'_>,
    engine: &'a E,
    settings: &'a Settings,
    inserted: &'a AtomicU64,
) -> Ground<'a, E> {
    Ground {
        engine,
        settings,
        keys: order.keys,
        inserted,
        time: order.time,
        threads: order.threads,
        zipf: order.zipf,
    }
}

impl Figure {
    fn of(measured: Measured) -> Self {
        Self { plain: measured.per_second(), merged: measured.merged_per_second() }
    }
}

/// How many times a second 100 bytes can be appended to a file and waited for: what a log can do.
pub fn bare_syncs(dir: &Path, time: Duration) -> Result<f64> {
    use std::io::Write;
    let path = dir.join("bare");
    let mut file = std::fs::File::create(&path)?;
    file.write_all(&vec![0; 4 << 20])?;
    file.sync_all()?;
    std::io::Seek::rewind(&mut file)?;
    let (started, mut done) = (Instant::now(), 0);
    while started.elapsed() < time || done == 0 {
        // Within bytes that are there, as in a log that was preallocated.
        if done % 32_768 == 0 {
            std::io::Seek::rewind(&mut file)?;
        }
        file.write_all(&[7; 128])?;
        file.sync_data()?;
        done += 1;
    }
    let per_second = f64::from(done) / started.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok(per_second)
}
