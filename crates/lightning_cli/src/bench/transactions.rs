//! Rows of transactions: transfers with and without contention, in both modes, and what a commit that
//! relies on very many keys costs others.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use lightning_db::{
    Database, IsolationLevel, Result, TransactionMode, TransactionOptions, WriteOptions,
};

use super::histogram::Histogram;
use super::measure::{Measured, Plan, Step, measure};
use super::workload::key;
use crate::engine;

/// Accounts of the rows with contention.
const FEW_ACCOUNTS: u64 = 10;
/// So many commits that rely on every key are waited for.
const LARGE_COMMITS: u32 = 3;

/// Moves of one unit between two accounts: two reads, two writes, tried again until nobody comes
/// between.
#[derive(Clone, Copy, Debug)]
pub struct Transfers {
    /// Rows are locked as they are read.
    pub locked: bool,
    /// Between few accounts, instead of all keys.
    pub contended: bool,
}

impl Transfers {
    pub fn run(self, db: &Database, keys: u64, plan: Plan) -> Result<Measured> {
        let accounts = if self.contended { FEW_ACCOUNTS.min(keys) } else { keys };
        measure(plan, |_| {
            move |rng: &mut Rng| {
                let from = rng.u64(..accounts);
                let to = (from + rng.u64(1..accounts)) % accounts;
                self.transfer(db, &key(from), &key(to))?;
                Ok(Step::Did(1))
            }
        })
    }

    fn transfer(self, db: &Database, from: &[u8], to: &[u8]) -> Result<()> {
        let mode =
            if self.locked { TransactionMode::Pessimistic } else { TransactionMode::Optimistic };
        let options = TransactionOptions { mode, max_retries: u32::MAX, ..Default::default() };
        db.execute_transaction(options, |tx| {
            let read = |key| if self.locked { tx.get_for_update(key) } else { tx.get(key) };
            let mut debtor = read(from)?.unwrap_or_default();
            let mut creditor = read(to)?.unwrap_or_default();
            engine::add(&mut debtor, u64::MAX);
            engine::add(&mut creditor, 1);
            tx.put(from, &debtor)?;
            tx.put(to, &creditor)
        })
    }
}

/// Single puts, a few thousand a second so that nothing else slows them, while another thread commits
/// transactions at `Serializable` that have read every key.
pub fn puts_beside_large_commits(db: &Database, keys: u64) -> Result<Measured> {
    let beside = engine::keyspace(db, "beside")?;
    let done = AtomicBool::new(false);
    let started = Instant::now();
    let (mut items, mut latencies) = (0, Histogram::new());
    let large = || {
        for n in 0..LARGE_COMMITS {
            let options = TransactionOptions {
                timeout: Some(Duration::from_secs(24 * 3600)),
                ..TransactionOptions::at(IsolationLevel::Serializable)
            };
            let mut tx = db.transaction_with(options)?;
            for index in 0..keys {
                tx.get(key(index))?;
            }
            tx.put_in(&beside, b"large", n.to_le_bytes())?;
            tx.commit()?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let handle = scope.spawn(|| {
            let result = large();
            done.store(true, Ordering::Release);
            result
        });
        let mut rng = Rng::with_seed(0x11);
        while !done.load(Ordering::Acquire) {
            let before = Instant::now();
            let mut batch = lightning_db::WriteBatch::new();
            batch.put_in(&beside, rng.u64(..1000).to_be_bytes(), b"beside");
            db.write(batch, WriteOptions::default())?;
            latencies.record(before.elapsed().as_nanos() as u64);
            items += 1;
            std::thread::sleep(Duration::from_micros(100));
        }
        handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    Ok(Measured { items, elapsed: started.elapsed(), latencies })
}
