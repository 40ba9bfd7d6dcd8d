//! Asynchronous calls: answers, polls that touch no file, back-pressure, futures dropped at any moment,
//! panics, closing. The futures are run by a few lines here, as any executor would.

use std::future::Future;
use std::io::Result as IoResult;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{Thread, ThreadId};
use std::time::Duration;

use lightning_db::vfs::{OpenMode, SimulatedVfs, Vfs, VfsFile, VfsLock};
use lightning_db::{
    AsyncDatabase, AsyncOptions, Database, ErrorKind, KeyspaceOptions, LightningDbConfig, OpenAs,
    TransactionOptions, VerifyOptions, WalSyncMode, WriteBatch, WriteOptions,
};

/// Wakes a thread, and says that it did.
struct Parker(Thread, AtomicBool);

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.1.store(true, Ordering::Release);
        self.0.unpark();
    }
}

fn parker() -> Arc<Parker> {
    Arc::new(Parker(std::thread::current(), AtomicBool::new(false)))
}

fn wait(parker: &Parker) {
    while !parker.1.swap(false, Ordering::AcqRel) {
        std::thread::park();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let parker = parker();
    let waker = Waker::from(Arc::clone(&parker));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(done) => return done,
            Poll::Pending => wait(&parker),
        }
    }
}

type Read = lightning_db::Result<Option<Vec<u8>>>;
type Task<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Runs tasks together on this thread, each polled when it was woken; gives what they gave, as they came.
fn run<T>(tasks: Vec<Task<'_, T>>) -> Vec<(usize, T)> {
    let parker = parker();
    struct Woken(Arc<Parker>, AtomicBool);
    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.1.store(true, Ordering::Release);
            Arc::clone(&self.0).wake();
        }
    }
    let mut tasks: Vec<_> = tasks
        .into_iter()
        .map(|t| (Some(t), Arc::new(Woken(Arc::clone(&parker), AtomicBool::new(true)))))
        .collect();
    let mut done = Vec::new();
    while done.len() < tasks.len() {
        for (n, (slot, woken)) in tasks.iter_mut().enumerate() {
            let Some(task) = slot else { continue };
            if !woken.1.swap(false, Ordering::AcqRel) {
                continue;
            }
            let waker = Waker::from(Arc::clone(woken));
            if let Poll::Ready(out) = task.as_mut().poll(&mut Context::from_waker(&waker)) {
                done.push((n, out));
                *slot = None;
            }
        }
        if done.len() < tasks.len() {
            wait(&parker);
        }
    }
    done
}

fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// A disk that can be held up, and that notes when a thread uses it which must not.
#[derive(Debug, Clone)]
struct Held {
    disk: SimulatedVfs,
    gate: Arc<Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
    /// What the thread that polls did with the disk.
    wrong: Mutex<Vec<&'static str>>,
}

#[derive(Debug, Default)]
struct GateState {
    closed: bool,
    waiting: usize,
    polls: Option<ThreadId>,
    removed: usize,
}

impl Gate {
    fn pass(&self, what: &'static str) {
        let mut state = self.state.lock().expect("no panic");
        if state.polls == Some(std::thread::current().id()) {
            self.wrong.lock().expect("no panic").push(what);
            return;
        }
        state.waiting += 1;
        self.changed.notify_all();
        while state.closed {
            state = self.changed.wait(state).expect("no panic");
        }
        state.waiting -= 1;
        if what == "remove_file" {
            state.removed += 1;
            self.changed.notify_all();
        }
    }

    fn removed(&self) -> usize {
        self.state.lock().expect("no panic").removed
    }

    /// Waits until so many files were removed.
    fn wait_for_removed(&self, removed: usize) {
        let mut state = self.state.lock().expect("no panic");
        while state.removed < removed {
            state = self.changed.wait(state).expect("no panic");
        }
    }

    fn set(&self, closed: bool) {
        self.state.lock().expect("no panic").closed = closed;
        self.changed.notify_all();
    }

    /// Waits until so many threads wait for the disk.
    fn wait_for(&self, waiting: usize) {
        let mut state = self.state.lock().expect("no panic");
        while state.waiting < waiting {
            state = self.changed.wait(state).expect("no panic");
        }
    }

    fn forbid_this_thread(&self) {
        self.state.lock().expect("no panic").polls = Some(std::thread::current().id());
    }

    fn allow_all(&self) {
        self.state.lock().expect("no panic").polls = None;
    }
}

#[derive(Debug)]
struct HeldFile(Arc<dyn VfsFile>, Arc<Gate>, bool);

impl Held {
    fn new() -> Self {
        Self { disk: SimulatedVfs::new(1), gate: Arc::default() }
    }

    fn file(&self, path: &Path, file: IoResult<Arc<dyn VfsFile>>) -> IoResult<Arc<dyn VfsFile>> {
        // A record goes to a log by a copy into memory.
        let is_log = path.extension().is_some_and(|e| e == "wal");
        Ok(Arc::new(HeldFile(file?, Arc::clone(&self.gate), is_log)))
    }

    fn open(&self, config: LightningDbConfig) -> Database {
        let vfs = Arc::new(self.clone()) as Arc<dyn Vfs>;
        Database::open_with_vfs(vfs, "/db", config, OpenAs::OpenOrCreate).expect("opens")
    }
}

impl Vfs for Held {
    fn create(&self, path: &Path) -> IoResult<Arc<dyn VfsFile>> {
        self.gate.pass("create");
        self.file(path, self.disk.create(path))
    }
    fn open(&self, path: &Path, mode: OpenMode) -> IoResult<Arc<dyn VfsFile>> {
        self.gate.pass("open");
        self.file(path, self.disk.open(path, mode))
    }
    fn exists(&self, path: &Path) -> IoResult<bool> {
        self.gate.pass("exists");
        self.disk.exists(path)
    }
    fn list(&self, dir: &Path) -> IoResult<Vec<String>> {
        self.gate.pass("list");
        self.disk.list(dir)
    }
    fn create_dir_all(&self, dir: &Path) -> IoResult<()> {
        self.gate.pass("create_dir_all");
        self.disk.create_dir_all(dir)
    }
    fn remove_file(&self, path: &Path) -> IoResult<()> {
        self.gate.pass("remove_file");
        self.disk.remove_file(path)
    }
    fn remove_dir(&self, dir: &Path) -> IoResult<()> {
        self.gate.pass("remove_dir");
        self.disk.remove_dir(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> IoResult<()> {
        self.gate.pass("rename");
        self.disk.rename(from, to)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> IoResult<()> {
        self.gate.pass("hard_link");
        self.disk.hard_link(from, to)
    }
    fn sync_dir(&self, dir: &Path) -> IoResult<()> {
        self.gate.pass("sync_dir");
        self.disk.sync_dir(dir)
    }
    fn try_lock(&self, path: &Path, exclusive: bool) -> IoResult<Option<Box<dyn VfsLock>>> {
        self.disk.try_lock(path, exclusive)
    }
    fn monotonic(&self) -> Duration {
        self.disk.monotonic()
    }
    fn wall_clock(&self) -> Duration {
        self.disk.wall_clock()
    }
    fn sleep(&self, time: Duration) {
        self.gate.pass("sleep");
        self.disk.sleep(time);
    }
    fn fill_random(&self, bytes: &mut [u8]) -> IoResult<()> {
        self.disk.fill_random(bytes)
    }
    fn processors(&self) -> usize {
        self.disk.processors()
    }
}

impl VfsFile for HeldFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> IoResult<usize> {
        self.1.pass("read_at");
        self.0.read_at(bytes, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> IoResult<usize> {
        if !self.2 {
            self.1.pass("write_at");
        }
        self.0.write_at(bytes, offset)
    }
    fn sync_data(&self) -> IoResult<()> {
        self.1.pass("sync_data");
        self.0.sync_data()
    }
    fn len(&self) -> IoResult<u64> {
        self.0.len()
    }
    fn set_len(&self, len: u64) -> IoResult<()> {
        self.1.pass("set_len");
        self.0.set_len(len)
    }
    fn allocate(&self, len: u64) -> IoResult<()> {
        self.1.pass("allocate");
        self.0.allocate(len)
    }
    fn prefetch(&self, offset: u64, len: u64) {
        self.1.pass("prefetch");
        self.0.prefetch(offset, len);
    }
    fn path(&self) -> &Path {
        self.0.path()
    }
}

fn config(sync: WalSyncMode) -> LightningDbConfig {
    LightningDbConfig {
        write_buffer_size: 64 * 1024,
        cache_size: 256 * 1024,
        wal_sync_mode: sync,
        background_threads: 0,
        ..LightningDbConfig::default()
    }
}

/// With background threads: without, a write does itself what it makes due.
fn with_threads(sync: WalSyncMode) -> LightningDbConfig {
    LightningDbConfig { background_threads: 2, ..config(sync) }
}

fn key(n: u32) -> Vec<u8> {
    format!("key{n:06}").into_bytes()
}

fn value(n: u32) -> Vec<u8> {
    vec![n as u8; 100]
}

/// A database whose 3000 rows lie in files, and nothing of them in memory.
fn cold(held: &Held, config: LightningDbConfig, options: AsyncOptions) -> AsyncDatabase {
    let db = held.open(config);
    let rows: Vec<_> = (0..3000).map(|n| (key(n), value(n))).collect();
    db.put_batch(&rows).expect("writes");
    db.compact().expect("compacts");
    db.evict_cache(1.0).expect("evicts");
    AsyncDatabase::with_options(db, &options).expect("possible options")
}

fn few(threads: usize, queue: usize) -> AsyncOptions {
    let mut options = AsyncOptions::default();
    (options.threads, options.queue) = (threads, queue);
    options
}

#[test]
fn calls_answer_as_those_that_block() {
    let held = Held::new();
    let db = AsyncDatabase::new(held.open(config(WalSyncMode::Sync)));
    block_on(async {
        db.put(b"a", b"1").await?;
        db.put(b"large", vec![7; 300_000]).await?;
        assert_eq!(db.get(b"a").await?, Some(b"1".to_vec()));
        assert_eq!(db.get(b"large").await?, Some(vec![7; 300_000]));
        let before = db.snapshot()?;
        db.delete(b"a").await?;
        assert!(!db.contains_key(b"a").await?);
        assert_eq!(before.get(b"a").await?, Some(b"1".to_vec()));
        let options =
            KeyspaceOptions { merge_operator: Some("counter".into()), ..Default::default() };
        let counts = db.keyspace("counts", options).await?;
        for _ in 0..3 {
            counts.merge(b"n", 5_i64.to_le_bytes()).await?;
        }
        assert_eq!(counts.get(b"n").await?, Some(15_i64.to_le_bytes().to_vec()));
        let mut batch = WriteBatch::new();
        batch.put(b"x", b"1");
        batch.put_in(counts.keyspace(), b"y", 2_i64.to_le_bytes());
        db.write(batch, WriteOptions::default()).await?;
        assert_eq!(db.get_batch(&[b"x", b"y"]).await?, [Some(b"1".to_vec()), None]);
        let film = vec![3; 600_000];
        let length = db.call(move |db| db.put_reader(b"film", &film[..], None)).await?;
        assert_eq!(length, 600_000);
        let moved = db.execute_transaction(TransactionOptions::default(), |tx| {
            let x = tx.get(b"x")?;
            tx.delete(b"x")?;
            Ok(x)
        });
        assert_eq!(moved.await?, Some(b"1".to_vec()));
        db.flush().await?;
        db.compact().await?;
        db.sync().await?;
        let e = db.put(b"", b"x").await.expect_err("refused");
        assert_eq!(e.kind(), ErrorKind::EmptyKey);
        let other = db.clone();
        db.close().await?;
        assert_eq!(other.get(b"x").await.expect_err("closed").kind(), ErrorKind::Closed);
        assert_eq!(other.put(b"x", b"").await.expect_err("closed").kind(), ErrorKind::Closed);
        lightning_db::Result::Ok(())
    })
    .expect("all goes well");
    for wrong in [few(0, 5), few(5, 0), few(2000, 5)] {
        let db = Database::open_in_memory(LightningDbConfig::default()).expect("opens");
        let e = AsyncDatabase::with_options(db, &wrong).expect_err("refused");
        assert_eq!(e.kind(), ErrorKind::InvalidConfig);
    }
}

#[test]
fn what_is_in_memory_is_answered_at_once_and_the_rest_by_a_thread() {
    let held = Held::new();
    let db = cold(&held, with_threads(WalSyncMode::Async), few(4, 100));
    held.gate.forbid_this_thread();
    held.gate.set(true);
    // From a file: another thread waits for the disk, not this one.
    let mut missed = Box::pin(db.get(key(7)));
    assert!(poll_once(missed.as_mut()).is_pending());
    held.gate.wait_for(1);
    let mut range = db.range(Some(&key(100)), None).expect("a range");
    let mut first = Box::pin(range.next());
    assert!(poll_once(first.as_mut()).is_pending());
    held.gate.wait_for(2);
    held.gate.set(false);
    assert_eq!(block_on(missed).expect("reads"), Some(value(7)));
    let entry = block_on(first).expect("an entry").expect("reads");
    assert_eq!(entry, (key(100), value(100)));
    // In memory now, whatever the disk does; and so is what was just written.
    let missed = (0..3000).step_by(50).filter(|n| {
        poll_once(pin!(db.get(key(*n)))).is_pending() && block_on(db.get(key(*n))).is_ok()
    });
    assert!(missed.count() > 0, "some were not in memory");
    held.gate.set(true);
    assert_eq!(block_on(db.get(key(7))).expect("reads"), Some(value(7)));
    let ready = (0..300).filter(|n| poll_once(pin!(db.put(key(*n), b"new"))).is_ready()).count();
    assert!(ready > 200, "{ready} of 300 writes were done at once");
    held.gate.set(false);
    assert_eq!(*held.gate.wrong.lock().expect("no panic"), [""; 0], "a poll used the disk");
    held.gate.allow_all();
    block_on(db.close()).expect("closes");
}

/// Everything at once, on one thread that must not touch the disk.
#[test]
fn polls_never_use_the_disk() {
    for sync in [
        WalSyncMode::Sync,
        WalSyncMode::Periodic { interval: Duration::from_millis(5) },
        WalSyncMode::Async,
    ] {
        let held = Held::new();
        let db = cold(&held, with_threads(sync), few(6, 20));
        held.gate.forbid_this_thread();
        let tasks: Vec<Task<'_, lightning_db::Result<()>>> = (0..200_u32)
            .map(|n| {
                let db = db.clone();
                let task = async move {
                    for i in 0..20 {
                        let at = n.wrapping_mul(7919).wrapping_add(i * 104_729) % 3000;
                        match (n + i) % 5 {
                            0 => db.put(key(n), value(n + i)).await?,
                            1 => assert!(db.get(key(1000 + at % 2000)).await?.is_some()),
                            2 => db.put(key(n), vec![1; 20_000]).await?,
                            3 => {
                                let mut range = db.range(Some(&key(at)), None)?;
                                for _ in 0..30 {
                                    range.next().await.transpose()?;
                                }
                            }
                            _ => db.snapshot()?.get(key(at)).await.map(drop)?,
                        }
                    }
                    Ok(())
                };
                Box::pin(task) as Task<'_, _>
            })
            .collect();
        for (_, done) in run(tasks) {
            done.expect("goes well");
        }
        assert_eq!(
            *held.gate.wrong.lock().expect("no panic"),
            [""; 0],
            "{sync:?}: a poll used the disk"
        );
        held.gate.allow_all();
        let report = db.database().verify(VerifyOptions::default()).expect("verifies");
        assert!(report.is_clean(), "{:?}", report.problems);
        block_on(db.close()).expect("closes");
    }
}

/// A large value waits for the disk once; then the first poll has it.
#[test]
fn a_cached_large_value_is_answered_in_the_first_poll() {
    let held = Held::new();
    let db = cold(&held, config(WalSyncMode::Async), few(2, 10));
    block_on(db.put(b"large", vec![5; 20_000])).expect("writes");
    held.gate.forbid_this_thread();
    // Others read it, mostly not before this poll ends.
    if let Poll::Ready(found) = poll_once(pin!(db.get(b"large")).as_mut()) {
        assert_eq!(found.expect("reads"), Some(vec![5; 20_000]));
    }
    assert_eq!(block_on(db.get(b"large")).expect("reads"), Some(vec![5; 20_000]));
    match poll_once(pin!(db.get(b"large")).as_mut()) {
        Poll::Ready(found) => assert_eq!(found.expect("reads"), Some(vec![5; 20_000])),
        Poll::Pending => panic!("it was in memory"),
    }
    assert_eq!(*held.gate.wrong.lock().expect("no panic"), [""; 0], "a poll used the disk");
    held.gate.allow_all();
    block_on(db.close()).expect("closes");
}

/// The last reader of a file that nothing names any more removed it, on the thread that polled. Here it is
/// a handle of a keyspace that was dropped, a range in it, and a future that was polled there.
#[test]
fn the_last_reader_leaves_its_files_to_others() {
    for threads in [2, 0] {
        let held = Held::new();
        let config =
            LightningDbConfig { background_threads: threads, ..config(WalSyncMode::Async) };
        let db = cold(&held, config, few(2, 10));
        for holder in 0..3 {
            let named = format!("keyspace {holder}");
            let keyspace = block_on(db.keyspace(&named, KeyspaceOptions::default()));
            let keyspace = keyspace.expect("a keyspace");
            for n in 0..100 {
                block_on(keyspace.put(key(n), value(n))).expect("writes");
            }
            block_on(db.flush()).expect("flushes");
            let mut range = keyspace.range(None, None).expect("a range");
            block_on(range.next()).expect("an entry").expect("reads");
            let mut future = Box::pin(keyspace.put(b"more", b""));
            let dropping = block_on(db.call(move |db| db.drop_keyspace(&named)));
            dropping.expect("drops");
            let before = held.gate.removed();
            held.gate.forbid_this_thread();
            if holder == 0 {
                let _ = poll_once(future.as_mut());
            }
            drop(future);
            if holder == 1 {
                drop(keyspace);
                drop(range);
            } else {
                drop(range);
                drop(keyspace);
            }
            held.gate.allow_all();
            if threads == 0 {
                // Nobody else is there: the next upkeep does it.
                block_on(db.flush()).expect("flushes");
            }
            assert_eq!(*held.gate.wrong.lock().expect("no panic"), [""; 0]);
            held.gate.wait_for_removed(before + 1);
        }
        let report = db.database().verify(VerifyOptions::default()).expect("verifies");
        assert!(report.is_clean(), "{:?}", report.problems);
        block_on(db.close()).expect("closes");
    }
}

#[test]
fn a_full_queue_is_waited_for_in_order() {
    let held = Held::new();
    let db = cold(&held, config(WalSyncMode::Async), few(1, 2));
    held.gate.set(true);
    let order = Arc::new(Mutex::new(Vec::new()));
    let tasks = (0..12).map(|n| {
        let order = Arc::clone(&order);
        // Each reads another page.
        let call = db.call(move |db| {
            order.lock().expect("no panic").push(n);
            db.get(key(n * 250))
        });
        Box::pin(call) as Task<'_, Read>
    });
    let opening = Arc::clone(&held.gate);
    let opened = std::thread::spawn(move || {
        opening.wait_for(1);
        opening.set(false);
    });
    let done = run(tasks.collect());
    opened.join().expect("no panic");
    let order = order.lock().expect("no panic");
    assert!(order.is_sorted(), "{order:?}");
    for (n, found) in done {
        assert_eq!(found.expect("reads"), Some(value(n as u32 * 250)));
    }
}

#[test]
fn dropped_futures_leave_their_places_to_others() {
    let held = Held::new();
    let db = cold(&held, config(WalSyncMode::Async), few(1, 2));
    held.gate.set(true);
    let mut tasks: Vec<_> = (0..12).map(|n| Some(Box::pin(db.get(key(n * 250))))).collect();
    for task in tasks.iter_mut().flatten() {
        assert!(poll_once(task.as_mut()).is_pending());
    }
    held.gate.wait_for(1);
    for (n, task) in tasks.iter_mut().enumerate() {
        // Running, in the queue, and waiting for room.
        if [0, 1, 4, 5, 8].contains(&n) {
            *task = None;
        }
    }
    held.gate.set(false);
    let left: Vec<Task<'_, Read>> = tasks.into_iter().flatten().map(|t| t as _).collect();
    assert!(run(left).into_iter().all(|(_, found)| found.expect("reads").is_some()));
}

/// One that runs goes on and commits whole; one that does not, never happens.
#[test]
fn a_dropped_write_is_whole_or_nothing() {
    let held = Held::new();
    let db = cold(&held, config(WalSyncMode::Sync), few(1, 50));
    let pair = |n: u32| {
        let mut batch = WriteBatch::new();
        batch.put(format!("a{n}"), value(n));
        batch.put(format!("b{n}"), value(n));
        db.write(batch, WriteOptions::default())
    };
    held.gate.set(true);
    let mut running = Box::pin(pair(0));
    assert!(poll_once(running.as_mut()).is_pending());
    held.gate.wait_for(1);
    let mut queued: Vec<_> = (1..10).map(|n| Box::pin(pair(n))).collect();
    for task in &mut queued {
        assert!(poll_once(task.as_mut()).is_pending());
    }
    drop((running, queued));
    held.gate.set(false);
    let mut rng = fastrand::Rng::with_seed(1);
    for n in 10..200 {
        // Some are dropped at once, some at a moment that the thread has come to anywhere.
        let mut task = Box::pin(pair(n));
        for _ in 0..rng.usize(0..4) {
            if poll_once(task.as_mut()).is_ready() {
                break;
            }
            std::thread::yield_now();
        }
    }
    block_on(db.close()).expect("closes");
    let db = held.open(config(WalSyncMode::Sync));
    for n in 0..200_u32 {
        let both = [format!("a{n}"), format!("b{n}")].map(|k| db.get(k).expect("reads"));
        assert_eq!(both[0], both[1], "half a commit");
        match n {
            0 => assert_eq!(both[0], Some(value(0)), "it had begun"),
            1..10 => assert_eq!(both[0], None, "it had not begun"),
            _ => {}
        }
    }
}

#[test]
fn a_range_whose_futures_are_dropped_loses_nothing() {
    for reverse in [false, true] {
        let held = Held::new();
        let db = cold(&held, config(WalSyncMode::Async), few(2, 10));
        let (start, end) = (key(10), key(2900));
        let mut range = if reverse {
            db.scan_reverse(Some(&start), Some(&end))
        } else {
            db.range(Some(&start), Some(&end))
        }
        .expect("a range");
        let (mut found, mut dropped) = (Vec::new(), 0);
        loop {
            // A thread that reads a piece is not done before the future is dropped.
            held.gate.set(true);
            let first = poll_once(pin!(range.next()));
            held.gate.set(false);
            let next = match first {
                Poll::Ready(next) => next,
                Poll::Pending => {
                    dropped += 1;
                    // Sees the moment at which it was made.
                    block_on(db.put(key(500), b"later")).expect("writes");
                    block_on(range.next())
                }
            };
            let Some(entry) = next else { break };
            found.push(entry.expect("reads"));
        }
        assert!(dropped > 3, "{dropped} pieces were read by a thread");
        let mut wanted: Vec<_> = (10..2900).map(|n| (key(n), value(n))).collect();
        if reverse {
            wanted.reverse();
        }
        assert!(found == wanted);
        assert_eq!(block_on(range.next()).map(|e| e.is_ok()), None, "it stays at its end");
    }
}

#[test]
fn a_panic_comes_to_who_awaits_and_the_threads_go_on() {
    let db = AsyncDatabase::with_options(
        Database::open_in_memory(LightningDbConfig::default()).expect("opens"),
        &few(1, 1),
    )
    .expect("possible options");
    for _ in 0..3 {
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            block_on(db.execute_transaction(TransactionOptions::default(), |tx| {
                tx.put(b"key", b"value")?;
                assert!(tx.get(b"other")?.is_some(), "the caller's");
                Ok(())
            }))
        }));
        assert!(caught.is_err());
        assert_eq!(block_on(db.call(|db| db.get(b"key"))).expect("reads"), None);
    }
}

#[test]
fn many_tasks_on_many_threads_lose_no_update() {
    let held = Held::new();
    let db = AsyncDatabase::with_options(held.open(config(WalSyncMode::Sync)), &few(4, 8))
        .expect("possible options");
    std::thread::scope(|s| {
        for t in 0..3_u32 {
            let db = db.clone();
            s.spawn(move || {
                let tasks = (0..60).map(|n| {
                    let db = db.clone();
                    let counter = format!("counter{}", (n + t) % 7);
                    let task = async move {
                        let options = TransactionOptions {
                            max_retries: 10_000,
                            ..TransactionOptions::default()
                        };
                        db.execute_transaction(options, move |tx| {
                            let n = tx.get(&counter)?.map_or(0, |v| v[0]);
                            tx.put(&counter, [n + 1])
                        })
                        .await
                    };
                    Box::pin(task) as Task<'_, lightning_db::Result<()>>
                });
                for (_, done) in run(tasks.collect()) {
                    done.expect("commits");
                }
            });
        }
    });
    let sum: u32 = (0..7)
        .map(|n| block_on(db.get(format!("counter{n}"))).expect("reads").expect("is there")[0])
        .map(u32::from)
        .sum();
    assert_eq!(sum, 180);
}

#[test]
fn the_last_handle_closes_behind_the_caller() {
    let held = Held::new();
    let db = cold(&held, config(WalSyncMode::Sync), few(2, 10));
    let mut write = Box::pin(db.put(b"last", b"words"));
    held.gate.set(true);
    assert!(poll_once(write.as_mut()).is_pending());
    held.gate.wait_for(1);
    held.gate.forbid_this_thread();
    // Nothing of it blocks here, though closing flushes.
    drop(write);
    drop(db);
    held.gate.allow_all();
    held.gate.set(false);
    let vfs = Arc::new(held.clone()) as Arc<dyn Vfs>;
    let db = loop {
        let config = config(WalSyncMode::Sync);
        match Database::open_with_vfs(Arc::clone(&vfs), "/db", config, OpenAs::Open) {
            Ok(db) => break db,
            Err(e) => assert_eq!(e.kind(), ErrorKind::Locked, "{e}"),
        }
        std::thread::yield_now();
    };
    assert_eq!(
        *held.gate.wrong.lock().expect("no panic"),
        [""; 0],
        "the caller's thread used the disk"
    );
    assert_eq!(db.get(b"last").expect("reads"), Some(b"words".to_vec()), "it had begun");
    drop(db);
    // Opened by a future, and dropped before it is done.
    let opening = held.clone();
    let open = AsyncDatabase::open(few(1, 1), move || Ok(opening.open(config(WalSyncMode::Sync))));
    let db = block_on(open).expect("opens");
    assert!(block_on(db.contains_key(b"last")).expect("reads"));
}

/// Paths are compared as they are given.
#[test]
fn the_directory_is_told() {
    let db = AsyncDatabase::new(Held::new().open(config(WalSyncMode::Sync)));
    assert_eq!(db.database().path(), PathBuf::from("/db"));
    assert!(format!("{db:?}").contains("/db"));
}
