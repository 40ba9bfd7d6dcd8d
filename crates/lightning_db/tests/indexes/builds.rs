//! Builds: beside writers, ended by a violation, cut off at every operation, failed at every operation,
//! continued.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lightning_db::vfs::SimulatedVfs;
use lightning_db::vfs::simulated::FaultError;
use lightning_db::{Database, ErrorKind, IndexStatus, LightningDbConfig, OpenAs};

use crate::rows::{NAMES, PATH, check, config, create, open, spec};

fn fill(db: &Database, rows: u32) {
    let entries: Vec<_> = (0..rows)
        .map(|n| (n.to_be_bytes().to_vec(), vec![n as u8 % 5, 0, n as u8 % 7, n as u8 % 11]))
        .collect();
    for some in entries.chunks(200) {
        db.put_batch(some).expect("puts");
    }
}

#[test]
fn builds_beside_writers_end_complete() {
    let mut written = 0;
    for round in 0..crate::number("LIGHTNING_INDEX_RACES", 4) {
        let config = LightningDbConfig { background_threads: 2, ..config() };
        let db = Database::open_in_memory(config).expect("opens");
        fill(&db, 3000);
        let stop = AtomicBool::new(false);
        written += std::thread::scope(|scope| {
            let writers: Vec<_> = (0..3_u64)
                .map(|t| {
                    let (db, stop) = (&db, &stop);
                    scope.spawn(move || {
                        let mut rng = fastrand::Rng::with_seed(round * 10 + t);
                        let mut n = 0_u64;
                        while !stop.load(Ordering::Relaxed) {
                            // Some rows all the time, others now and then.
                            let row = if rng.bool() { rng.u32(0..4) } else { rng.u32(0..3200) };
                            if rng.u8(0..4) == 0 {
                                db.delete(row.to_be_bytes()).expect("deletes");
                            } else {
                                let value = [rng.u8(0..5), 0, rng.u8(0..9), rng.u8(0..9)];
                                db.put(row.to_be_bytes(), value).expect("puts");
                            }
                            n += 1;
                        }
                        n
                    })
                })
                .collect();
            for name in NAMES {
                db.create_index(name, spec(name)).expect("builds");
            }
            stop.store(true, Ordering::Relaxed);
            writers.into_iter().map(|w| w.join().expect("a writer")).sum::<u64>()
        });
        check(&db, &format!("round {round}"));
    }
    println!("tried: builds beside {written} writes");
}

#[test]
fn an_index_being_built_is_not_read_and_can_be_dropped() {
    let (vfs, db) = create();
    fill(&db, 1500);
    db.close().expect("closes");
    let start = {
        let disk = vfs.fork();
        open(&disk, OpenAs::Open).expect("opens");
        disk.operations()
    };
    let db = (0..)
        .find_map(|at| {
            let disk = vfs.fork();
            disk.crash_after(start + at);
            assert!(build(&disk).is_err(), "no crash left a build that had begun");
            let db = open(&disk.kill(), OpenAs::Open).expect("opens");
            let infos = db.list_indexes().expect("lists");
            infos.first().is_some_and(|i| i.status == IndexStatus::Building).then_some(db)
        })
        .expect("found or panicked");
    let index = db.index("by_each").expect("is there");
    assert_eq!(index.get(1).expect_err("not whole").kind(), ErrorKind::IndexNotReady);
    let tx = db.transaction().expect("begins");
    assert_eq!(tx.index_get(&index, 1).expect_err("not whole").kind(), ErrorKind::IndexNotReady);
    drop(tx);
    assert!(!db.health_check().healthy);
    let other = db.create_index("by_each", spec("by_each").unique()).expect_err("another one");
    assert_eq!(other.kind(), ErrorKind::AlreadyExists);
    db.drop_index("by_each").expect("drops");
    assert!(db.list_indexes().expect("lists").is_empty());
    db.create_index("by_each", spec("by_each")).expect("builds");
    check(&db, "built anew");
}

fn build(vfs: &SimulatedVfs) -> lightning_db::Result<()> {
    let db = open(vfs, OpenAs::Open)?;
    db.create_index("by_each", spec("by_each"))?;
    // A writer between the build and the end.
    db.put(9_u32.to_be_bytes(), [1, 0, 7, 7])?;
    db.close()
}

/// A power cut or a kill at every operation of a build: what is left is an index that is whole, or is
/// being built and continued, or none.
#[test]
fn builds_cut_off_at_every_operation_are_continued() {
    let (vfs, db) = create();
    fill(&db, 1500);
    db.close().expect("closes");
    let dry = vfs.fork();
    let start = dry.operations();
    build(&dry).expect("nothing fails");
    let span = dry.operations() - start;
    let (mut ready, mut building, mut none) = (0, 0, 0);
    for at in 0..span {
        for cut in [false, true] {
            let label = format!("operation {at} of {span}, power cut {cut}");
            let disk = vfs.fork();
            disk.crash_after(start + at);
            let _ = build(&disk);
            let left = if cut { disk.power_cut(at) } else { disk.kill() };
            let db = open(&left, OpenAs::Open).unwrap_or_else(|e| panic!("{label}: {e:?}"));
            check(&db, &label);
            match db.list_indexes().expect("lists").first().map(|i| i.status) {
                Some(IndexStatus::Ready) => ready += 1,
                Some(_) => {
                    building += 1;
                    db.put(3_u32.to_be_bytes(), [1, 0, 5]).expect("writers go on");
                    db.delete(4_u32.to_be_bytes()).expect("writers go on");
                    db.create_index("by_each", spec("by_each")).expect("continues");
                }
                None => {
                    none += 1;
                    db.create_index("by_each", spec("by_each")).expect("begins anew");
                }
            }
            check(&db, &format!("{label}, built to its end"));
            assert_eq!(db.list_indexes().expect("lists")[0].status, IndexStatus::Ready);
        }
    }
    assert!(ready > 0 && building > 0 && none > 0, "{ready} {building} {none}");
    println!(
        "tried: {} crashes of builds ({ready} ready, {building} continued, {none} none)",
        2 * span
    );
}

/// A build goes on where it was: the second part of the work alone is done by who continues it.
#[test]
fn a_continued_build_does_not_begin_again() {
    let (vfs, db) = create();
    fill(&db, 4000);
    db.close().expect("closes");
    let dry = vfs.fork();
    let start = dry.operations();
    build(&dry).expect("nothing fails");
    let span = dry.operations() - start;
    // Kept by a kill, however little of it was synced; so the later it was cut off, the less is left.
    let calls = |at: u64| {
        let disk = vfs.fork();
        disk.crash_after(start + at);
        let _ = build(&disk);
        let left = disk.kill();
        let count = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let counted = Arc::clone(&count);
        let mut config = config();
        config.extractors.insert("each", move |_, value| {
            counted.fetch_add(1, Ordering::Relaxed);
            value.iter().skip(2).filter(|b| **b < 8).map(|b| u32::from(*b).into()).collect()
        });
        let db = Database::open_with_vfs(Arc::new(left), PATH, config, OpenAs::Open).ok()?;
        let building = db.list_indexes().ok()?.first()?.status == IndexStatus::Building;
        db.create_index("by_each", spec("by_each")).ok()?;
        building.then(|| count.load(Ordering::Relaxed))
    };
    let calls: Vec<u64> = (0..span).step_by(5).filter_map(calls).collect();
    assert!(calls.contains(&4000), "the first ones begin at the first row: {calls:?}");
    assert!(calls.last().is_some_and(|n| *n < 1000), "the last ones have little to do: {calls:?}");
    assert!(calls.windows(2).all(|w| w[0] >= w[1]), "{calls:?}");
}

/// Every operation of a build fails once; the handle goes on or is poisoned, and the index is whole or
/// can be built.
#[test]
fn builds_with_a_failing_operation_are_continued() {
    let (vfs, db) = create();
    fill(&db, 1500);
    db.close().expect("closes");
    let dry = vfs.fork();
    let db = open(&dry, OpenAs::Open).expect("opens");
    let start = dry.operations();
    db.create_index("by_each", spec("by_each")).expect("builds");
    let span = dry.operations() - start;
    let mut continued = 0;
    for at in 0..span {
        for error in [FaultError::Enospc, FaultError::Eio] {
            let label = format!("operation {at} of {span}, {error:?}");
            let disk = vfs.fork();
            let db = open(&disk, OpenAs::Open).expect("opens");
            assert_eq!(disk.operations(), start, "the same way to the build");
            disk.fail_operation(start + at, error, false);
            let built = db.create_index("by_each", spec("by_each"));
            disk.clear_faults();
            if let Err(e) = &built {
                let kinds = [
                    ErrorKind::StorageFull,
                    ErrorKind::Io,
                    ErrorKind::CommitUnknown,
                    ErrorKind::Poisoned,
                ];
                assert!(kinds.contains(&e.kind()), "{label}: {e:?}");
            }
            let mut db = db;
            if db.put(1_u32.to_be_bytes(), [1, 0, 6]).is_err() {
                drop(db);
                db = open(&disk, OpenAs::Open).unwrap_or_else(|e| panic!("{label}: {e:?}"));
            }
            let status = db.list_indexes().expect("lists").first().map(|i| i.status);
            if status != Some(IndexStatus::Ready) {
                assert!(built.is_err(), "{label}");
                continued += 1;
                db.create_index("by_each", spec("by_each"))
                    .unwrap_or_else(|e| panic!("{label}: {e:?}"));
            }
            check(&db, &label);
        }
    }
    assert!(continued > 0);
    println!("tried: {} failing operations of builds ({continued} continued)", 2 * span);
}
