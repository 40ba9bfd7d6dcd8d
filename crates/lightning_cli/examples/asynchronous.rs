//! A thousand tasks on one thread, each a few calls of an asynchronous database; the executor is written
//! out here, to show that none is needed in particular.
//!
//! `cargo run --release -p lightning_cli --example asynchronous [TASKS]`

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use lightning_db::{
    AsyncDatabase, Database, IsolationLevel, Result, TransactionMode, TransactionOptions,
};

/// What a request does: remembers a visitor, and counts the visit.
async fn visit(db: AsyncDatabase, visitor: usize) -> Result<u64> {
    db.put(format!("visitor{visitor:06}"), b"was here").await?;
    // A transaction runs on one of the database's threads. All of these write one key, so each locks it
    // and waits for the one before, which is better there than to be tried again and again.
    let options = TransactionOptions {
        mode: TransactionMode::Pessimistic,
        isolation: IsolationLevel::ReadCommitted,
        ..TransactionOptions::default()
    };
    db.execute_transaction(options, |tx| {
        let before = tx.get_for_update(b"visits")?.and_then(|v| v.try_into().ok());
        let count = before.map_or(0, u64::from_le_bytes) + 1;
        tx.put(b"visits", count.to_le_bytes())?;
        Ok(count)
    })
    .await
}

struct Woken {
    thread: Thread,
    flag: AtomicBool,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.flag.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// Polls whichever task was woken until all are done.
fn run(tasks: Vec<Pin<Box<dyn Future<Output = Result<()>>>>>) -> Result<()> {
    let mut tasks: Vec<_> = tasks
        .into_iter()
        .map(|task| {
            let (thread, flag) = (std::thread::current(), AtomicBool::new(true));
            (task, Arc::new(Woken { thread, flag }))
        })
        .collect();
    while !tasks.is_empty() {
        let mut result = Ok(());
        tasks.retain_mut(|(task, woken)| {
            if !woken.flag.swap(false, Ordering::AcqRel) {
                return true;
            }
            let waker = Waker::from(Arc::clone(woken));
            match task.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Pending => true,
                Poll::Ready(done) => {
                    if done.is_err() {
                        result = done;
                    }
                    false
                }
            }
        });
        result?;
        if tasks.iter().all(|(_, woken)| !woken.flag.load(Ordering::Acquire)) && !tasks.is_empty() {
            std::thread::park();
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    let count = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1000);
    let db = AsyncDatabase::new(Database::create_temp()?);
    let visits = (0..count).map(|n| {
        let db = db.clone();
        Box::pin(async move { visit(db, n).await.map(drop) }) as Pin<Box<dyn Future<Output = _>>>
    });
    run(visits.collect())?;
    let last = db.clone();
    run(vec![Box::pin(async move {
        let mut visitors = last.scan_prefix("visitor")?;
        let mut seen = 0;
        while let Some(entry) = visitors.next().await {
            entry?;
            seen += 1;
        }
        let visits = last.get(b"visits").await?.expect("counted");
        println!(
            "{seen} visitors, {} visits",
            u64::from_le_bytes(visits.try_into().expect("8 bytes"))
        );
        assert_eq!(seen, count);
        last.close().await
    })])
}
