//! Random operations, power cuts and openings; after every step the indexes hold what the rows give.

use std::collections::BTreeSet;
use std::time::Duration;

use lightning_db::vfs::{SimulatedVfs, Vfs};
use lightning_db::{
    Database, Durability, Error, ErrorKind, IndexStatus, OpenAs, Result, TransactionMode,
    TransactionOptions, WriteBatch, WriteOptions,
};

use crate::number;
use crate::rows::{NAMES, check, open, spec};

fn value(rng: &mut fastrand::Rng) -> Vec<u8> {
    let unit = if rng.bool() { 0 } else { rng.u8(0..40) };
    let mut value = vec![rng.u8(0..4), unit];
    let len = if rng.u8(0..40) == 0 { 20_000 } else { rng.usize(0..20) };
    value.extend((0..len).map(|_| rng.u8(0..30)));
    value
}

fn key(rng: &mut fastrand::Rng) -> Vec<u8> {
    format!("k{}", rng.u8(0..30)).into_bytes()
}

/// A few neighbours, or many.
fn range(rng: &mut fastrand::Rng) -> (Vec<u8>, Option<Vec<u8>>) {
    let (a, b) = (key(rng), key(rng));
    (a.clone().min(b.clone()), (rng.u8(0..8) != 0).then(|| a.max(b)))
}

/// What a machine that is up may answer.
fn may_be(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::UniqueViolation | ErrorKind::AlreadyExists | ErrorKind::NotFound)
}

const HOUR: Duration = Duration::from_secs(3600);

/// Some hours and a half: the clock is moved by whole ones, and looks at it take time.
fn lifetime(rng: &mut fastrand::Rng) -> Duration {
    HOUR * rng.u32(0..4) + HOUR / 2
}

fn step(db: &Database, vfs: &SimulatedVfs, rng: &mut fastrand::Rng) -> Result<()> {
    match rng.u8(0..22) {
        20 => db.put_with_ttl(key(rng), value(rng), lifetime(rng)),
        21 => {
            vfs.set_wall_clock(vfs.wall_clock() + HOUR * rng.u32(1..3));
            Ok(())
        }
        0..5 => db.put(key(rng), value(rng)),
        5..7 => db.delete(key(rng)),
        7..10 => {
            let mut batch = WriteBatch::new();
            for _ in 0..rng.usize(1..6) {
                match rng.u8(0..7) {
                    0 | 1 => batch.delete(key(rng)),
                    2 => batch.put_with_ttl(key(rng), value(rng), lifetime(rng)),
                    3 => {
                        let (start, end) = range(rng);
                        batch.delete_range(Some(&start), end.as_deref());
                    }
                    _ => batch.put(key(rng), value(rng)),
                }
            }
            let durability = if rng.bool() { Durability::Sync } else { Durability::Async };
            db.write(batch, WriteOptions { durability: Some(durability) })
        }
        10..13 => {
            let mode =
                if rng.bool() { TransactionMode::Optimistic } else { TransactionMode::Pessimistic };
            let mut tx = db.transaction_with(TransactionOptions { mode, ..Default::default() })?;
            for _ in 0..rng.usize(1..4) {
                let key = key(rng);
                tx.get(&key)?;
                if rng.u8(0..3) == 0 {
                    tx.delete(&key)?;
                } else {
                    tx.put(&key, value(rng))?;
                }
                if rng.u8(0..5) == 0 {
                    let (start, end) = range(rng);
                    tx.delete_range(Some(&start), end.as_deref())?;
                }
            }
            // What it reads by an index fits what it reads by key.
            for info in db.list_indexes()? {
                let index = db.index(&info.name)?;
                if info.status != IndexStatus::Ready {
                    continue;
                }
                let by_index: BTreeSet<_> = tx
                    .index_keys(&index, None, None)?
                    .map(|e| e.map(|(_, k)| k))
                    .collect::<Result<_>>()?;
                let there: BTreeSet<_> =
                    tx.range(None, None)?.map(|e| e.map(|(k, _)| k)).collect::<Result<_>>()?;
                assert!(by_index.is_subset(&there), "{by_index:?} {there:?}");
            }
            tx.commit()
        }
        13 => {
            db.fetch_update(key(rng), |old| old.map(|o| o[..o.len().min(3)].to_vec())).map(|_| ())
        }
        14 => {
            if rng.bool() {
                let (start, end) = range(rng);
                db.delete_range(Some(&start), end.as_deref())?;
            }
            db.flush()
        }
        15 => db.compact(),
        16 => db.drop_index(rng.choice(NAMES).expect("some")),
        _ => {
            let name = rng.choice(NAMES).expect("some");
            db.create_index(name, spec(name)).map(|_| ())
        }
    }
}

fn run(seed: u64, steps: usize) -> (u64, u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut vfs = SimulatedVfs::new(seed);
    let mut db = open(&vfs, OpenAs::Create).expect("creates");
    let (mut done, mut cuts) = (0, 0);
    // The operation of the disk at which the machine goes down.
    let mut planned: Option<u64> = None;
    for n in 0..steps {
        let label = format!(
            "seed {seed} step {n}; LIGHTNING_INDEX_FIRST={seed} LIGHTNING_INDEX_SEQUENCES=1"
        );
        if planned.is_none() && rng.u8(0..12) == 0 {
            let at = vfs.operations() + rng.u64(0..40);
            vfs.crash_after(at);
            planned = Some(at);
        }
        let result = step(&db, &vfs, &mut rng);
        done += 1;
        let down = planned.is_some_and(|at| vfs.operations() > at);
        if let Err(e) = &result {
            assert!(down || may_be(e), "{label}: {e:?}");
        }
        if !down && rng.u8(0..40) != 0 {
            // A machine that is about to go down would do so while this looks.
            if planned.is_none() {
                check(&db, &label);
            }
            continue;
        }
        drop(db);
        planned = None;
        let cut = rng.bool();
        vfs = if cut { vfs.power_cut(rng.u64(..)) } else { vfs.kill() };
        cuts += 1;
        db = open(&vfs, OpenAs::Open).unwrap_or_else(|e| panic!("{label}: {e:?}"));
        check(&db, &format!("{label}, after a crash"));
        for info in db.list_indexes().expect("lists") {
            if info.status == IndexStatus::Building && rng.bool() {
                match db.create_index(&info.name, spec(&info.name)) {
                    Ok(_) => check(&db, &format!("{label}, continued")),
                    Err(e) => assert_eq!(e.kind(), ErrorKind::UniqueViolation, "{label}"),
                }
            }
        }
    }
    (done, cuts)
}

#[test]
fn indexes_hold_what_the_rows_give_after_every_step() {
    let first = number("LIGHTNING_INDEX_FIRST", 1);
    let sequences = number("LIGHTNING_INDEX_SEQUENCES", 60);
    let (mut steps, mut cuts) = (0, 0);
    for seed in first..first + sequences {
        let (s, c) = run(seed, 120);
        steps += s;
        cuts += c;
    }
    println!("tried: {steps} operations with indexes ({sequences} sequences, {cuts} crashes)");
}
