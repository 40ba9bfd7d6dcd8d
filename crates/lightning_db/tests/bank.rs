//! Transfers between accounts from many threads, at every level and in both modes: in no snapshot,
//! and after no kill, is the sum another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use lightning_db::vfs::SimulatedVfs;
use lightning_db::{
    Database, Durability, IsolationLevel, LightningDbConfig, OpenAs, TransactionMode,
    TransactionOptions, VerifyOptions, WriteBatch, WriteOptions,
};

const ACCOUNTS: u64 = 100;
const START: u64 = 1000;
const THREADS: u64 = 8;

fn config() -> LightningDbConfig {
    LightningDbConfig {
        write_buffer_size: 64 * 1024,
        wal_segment_size: 256 * 1024,
        max_wal_size: 1024 * 1024,
        cache_size: 256 * 1024,
        ..LightningDbConfig::default()
    }
}

fn key(account: u64) -> [u8; 8] {
    account.to_be_bytes()
}

fn number(value: Option<Vec<u8>>) -> u64 {
    u64::from_le_bytes(value.expect("an account").try_into().expect("eight bytes"))
}

fn fill(db: &Database) {
    let mut batch = WriteBatch::new();
    for account in 0..ACCOUNTS {
        batch.put(key(account), START.to_le_bytes());
    }
    db.write(batch, WriteOptions::default()).expect("writes");
}

fn sum(pairs: impl Iterator<Item = lightning_db::Result<(Vec<u8>, Vec<u8>)>>) -> u64 {
    let mut accounts = 0;
    let total = pairs
        .map(|pair| {
            accounts += 1;
            number(Some(pair.expect("reads").1))
        })
        .sum();
    assert_eq!(accounts, ACCOUNTS);
    total
}

fn transfer(
    db: &Database,
    options: &TransactionOptions,
    rng: &mut fastrand::Rng,
) -> lightning_db::Result<()> {
    let from = rng.u64(0..ACCOUNTS);
    let to = (from + rng.u64(1..ACCOUNTS)) % ACCOUNTS;
    let amount = rng.u64(1..20);
    let committed = options.isolation == IsolationLevel::ReadCommitted;
    db.execute_transaction(options.clone(), |tx| {
        // The weakest level needs to say what it relies on.
        let read = |account| {
            if committed { tx.get_for_update(key(account)) } else { tx.get(key(account)) }
        };
        let (a, b) = (number(read(from)?), number(read(to)?));
        let amount = amount.min(a);
        tx.put(key(from), (a - amount).to_le_bytes())?;
        tx.put(key(to), (b + amount).to_le_bytes())
    })
}

#[test]
fn the_sum_never_differs_in_any_snapshot() {
    let transfers = std::env::var("LIGHTNING_BANK_TRANSFERS").ok().and_then(|v| v.parse().ok());
    let transfers: u64 = transfers.unwrap_or(150);
    let mut tried = 0;
    for mode in [TransactionMode::Optimistic, TransactionMode::Pessimistic] {
        for isolation in [
            IsolationLevel::ReadCommitted,
            IsolationLevel::RepeatableRead,
            IsolationLevel::Serializable,
        ] {
            let db = Database::open_in_memory(config()).expect("opens");
            fill(&db);
            let options = TransactionOptions {
                isolation,
                mode,
                max_retries: 100_000,
                ..TransactionOptions::default()
            };
            let left = Arc::new(AtomicU64::new(THREADS));
            let threads: Vec<_> = (0..THREADS)
                .map(|t| {
                    let (db, options, left) = (db.clone(), options.clone(), Arc::clone(&left));
                    std::thread::spawn(move || {
                        let mut rng = fastrand::Rng::with_seed(t);
                        for _ in 0..transfers {
                            transfer(&db, &options, &mut rng).expect("transfers");
                        }
                        left.fetch_sub(1, Ordering::Release);
                    })
                })
                .collect();
            let mut rng = fastrand::Rng::with_seed(99);
            while left.load(Ordering::Acquire) > 0 {
                let way = rng.u8(0..5);
                let total = match way {
                    0 => sum(db.snapshot().expect("is taken").range(None, None).expect("scans")),
                    1 => sum(db.range(None, None).expect("scans")),
                    2 => sum(db.scan_reverse(None, None).expect("scans")),
                    3 => {
                        let tx = db
                            .transaction_with(TransactionOptions {
                                read_only: true,
                                ..options.clone()
                            })
                            .expect("begins");
                        sum(tx.range(None, None).expect("scans"))
                    }
                    _ => {
                        let keys: Vec<_> = (0..ACCOUNTS).map(key).collect();
                        let values = db.get_batch(&keys).expect("reads");
                        values.into_iter().map(number).sum()
                    }
                };
                let again = sum(db.range(None, None).expect("scans"));
                assert_eq!(
                    (total, again),
                    (ACCOUNTS * START, ACCOUNTS * START),
                    "{isolation:?} {mode:?}, read in way {way} and once more"
                );
            }
            for thread in threads {
                thread.join().expect("no panic");
            }
            assert_eq!(sum(db.range(None, None).expect("scans")), ACCOUNTS * START);
            let stats = db.stats();
            assert_eq!(stats.transactions_committed, THREADS * transfers);
            assert_eq!((stats.lock_holders, stats.lock_waiters), (0, 0));
            tried += THREADS * transfers;
        }
    }
    println!("tried: {tried} transfers from {THREADS} threads, at 3 levels in 2 modes");
}

#[test]
fn the_sum_survives_kills() {
    let kills: u64 =
        std::env::var("LIGHTNING_BANK_KILLS").ok().and_then(|v| v.parse().ok()).unwrap_or(12);
    for seed in 0..kills {
        let disk = SimulatedVfs::new(seed);
        let vfs = || Arc::new(disk.clone()) as Arc<dyn lightning_db::vfs::Vfs>;
        let mut rng = fastrand::Rng::with_seed(seed);
        let db =
            Database::open_with_vfs(vfs(), "/bank", config(), OpenAs::Create).expect("creates");
        fill(&db);
        db.sync().expect("syncs");
        let mode = [TransactionMode::Optimistic, TransactionMode::Pessimistic][seed as usize % 2];
        let durability = [Durability::Sync, Durability::Async][seed as usize / 2 % 2];
        let options = TransactionOptions {
            isolation: IsolationLevel::Serializable,
            mode,
            durability: Some(durability),
            max_retries: 1000,
            ..TransactionOptions::default()
        };
        let stopped = Arc::new(AtomicBool::new(false));
        disk.crash_after(disk.operations() + rng.u64(20..600));
        let threads: Vec<_> = (0..4)
            .map(|t| {
                let (db, options, stopped) = (db.clone(), options.clone(), Arc::clone(&stopped));
                std::thread::spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(seed * 10 + t);
                    for _ in 0..400 {
                        if transfer(&db, &options, &mut rng).is_err() {
                            stopped.store(true, Ordering::Release);
                        }
                        if stopped.load(Ordering::Acquire) {
                            return;
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("no panic");
        }
        drop(db);
        let after = if rng.bool() { disk.kill() } else { disk.power_cut(seed) };
        let vfs: Arc<dyn lightning_db::vfs::Vfs> = Arc::new(after);
        let db = Database::open_with_vfs(vfs, "/bank", config(), OpenAs::Open)
            .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert_eq!(sum(db.range(None, None).expect("scans")), ACCOUNTS * START, "seed {seed}");
        assert!(db.verify(VerifyOptions::default()).expect("verifies").is_clean());
    }
    println!("tried: {kills} kills among transfers");
}
