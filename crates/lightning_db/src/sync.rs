//! Locks, atomics and threads, switched as one: the standard library's, or under `cfg(shuttle)`
//! those of the schedule checker. Engine code that meets threads imports from here only.
//! ([`in_layout`] is for atomics whose size counts; [`ArcSwap`] for what readers take without a
//! latch.)
//!
//! Latches here never report poisoning: a panic inside a section that must not be left half done
//! is caught by that section's own guard (see `commit`), which closes the handle for writes.

#[cfg(not(shuttle))]
use std::sync as imp;

#[cfg(shuttle)]
use shuttle::sync as imp;

pub use imp::atomic;
pub use imp::{Arc, Weak};
pub use imp::{MutexGuard, RwLockReadGuard, RwLockWriteGuard};

#[cfg(not(shuttle))]
pub use std::thread;

#[cfg(shuttle)]
pub use shuttle::thread;

/// A mutual exclusion latch.
#[derive(Debug, Default)]
pub struct Mutex<T>(imp::Mutex<T>);

impl<T> Mutex<T> {
    /// A latch around `value`.
    pub fn new(value: T) -> Self {
        Self(imp::Mutex::new(value))
    }

    /// Waits for the latch.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Takes the latch if it is free.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(g) => Some(g),
            Err(std::sync::TryLockError::Poisoned(e)) => Some(e.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => None,
        }
    }
}

/// A latch shared by readers.
#[derive(Debug, Default)]
pub struct RwLock<T>(imp::RwLock<T>);

impl<T> RwLock<T> {
    /// A latch around `value`.
    pub fn new(value: T) -> Self {
        Self(imp::RwLock::new(value))
    }

    /// Waits for shared access.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(|e| e.into_inner())
    }

    /// Shared access, if it is to be had without waiting.
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        match self.0.try_read() {
            Ok(g) => Some(g),
            Err(std::sync::TryLockError::Poisoned(e)) => Some(e.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => None,
        }
    }

    /// Waits for exclusive access.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(|e| e.into_inner())
    }
}

/// Waits for another thread to say that something changed.
#[derive(Debug, Default)]
pub struct Condvar(imp::Condvar);

impl Condvar {
    /// A new one.
    pub fn new() -> Self {
        Self(imp::Condvar::new())
    }

    /// Releases the latch, waits to be woken, takes it again. May wake without cause.
    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.0.wait(guard).unwrap_or_else(|e| e.into_inner())
    }

    /// As [`wait`](Self::wait), for at most `timeout`.
    pub fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: std::time::Duration,
    ) -> MutexGuard<'a, T> {
        self.0.wait_timeout(guard, timeout).unwrap_or_else(|e| e.into_inner()).0
    }

    /// Wakes one waiter, if there is any.
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Wakes all waiters.
    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// Atomics for structures that are laid out to the byte. The schedule checker's own are larger, so
/// there these are the standard library's with a switch before each access: the checker knows
/// sequentially consistent atomics only, and more than that it would not see in its own either.
pub mod in_layout {
    #[cfg(not(shuttle))]
    pub use std::sync::atomic::{AtomicPtr, AtomicU64};

    #[cfg(shuttle)]
    pub use checked::{AtomicPtr, AtomicU64};

    #[cfg(shuttle)]
    mod checked {
        use crate::sync::atomic::Ordering;
        use std::sync::atomic as plain;

        /// Lets another thread go on here.
        fn switch() {
            shuttle::sync::atomic::AtomicBool::new(false).load(Ordering::SeqCst);
        }

        /// See the module.
        #[derive(Debug, Default)]
        #[repr(transparent)]
        pub struct AtomicU64(plain::AtomicU64);

        impl AtomicU64 {
            /// As the standard library's.
            pub const fn new(value: u64) -> Self {
                Self(plain::AtomicU64::new(value))
            }

            /// As the standard library's.
            pub fn load(&self, _: Ordering) -> u64 {
                switch();
                self.0.load(Ordering::SeqCst)
            }

            /// As the standard library's.
            pub fn store(&self, value: u64, _: Ordering) {
                switch();
                self.0.store(value, Ordering::SeqCst);
            }
        }

        /// See the module.
        #[derive(Debug)]
        #[repr(transparent)]
        pub struct AtomicPtr<T>(plain::AtomicPtr<T>);

        impl<T> AtomicPtr<T> {
            /// As the standard library's.
            pub const fn new(value: *mut T) -> Self {
                Self(plain::AtomicPtr::new(value))
            }

            /// As the standard library's.
            pub fn load(&self, _: Ordering) -> *mut T {
                switch();
                self.0.load(Ordering::SeqCst)
            }

            /// As the standard library's.
            pub fn store(&self, value: *mut T, _: Ordering) {
                switch();
                self.0.store(value, Ordering::SeqCst);
            }
        }
    }
}

#[cfg(not(shuttle))]
pub use arc_swap::{ArcSwap, Guard};

#[cfg(shuttle)]
pub use swap::{ArcSwap, Guard};

/// `arc_swap` as its callers see it: a pointer that is loaded and stored in one step.
#[cfg(shuttle)]
mod swap {
    use std::sync::Arc;

    /// As `arc_swap`'s.
    #[derive(Debug)]
    pub struct ArcSwap<T>(super::Mutex<Arc<T>>);

    /// As `arc_swap`'s.
    #[derive(Debug)]
    pub struct Guard<T>(T);

    impl<T> std::ops::Deref for Guard<T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.0
        }
    }

    impl<T> ArcSwap<T> {
        /// As `arc_swap`'s.
        pub fn new(value: Arc<T>) -> Self {
            Self(super::Mutex::new(value))
        }

        /// As `arc_swap`'s.
        pub fn load(&self) -> Guard<Arc<T>> {
            Guard(self.load_full())
        }

        /// As `arc_swap`'s.
        pub fn load_full(&self) -> Arc<T> {
            Arc::clone(&self.0.lock())
        }

        /// As `arc_swap`'s; the value before goes after the step.
        pub fn store(&self, value: Arc<T>) {
            let before = std::mem::replace(&mut *self.0.lock(), value);
            drop(before);
        }
    }
}

/// Checks a loom model, and says of how many schedules it consists.
#[cfg(all(test, loom))]
pub fn counted(model: loom::model::Builder, name: &str, check: impl Fn() + Send + Sync + 'static) {
    use std::sync::atomic::{AtomicU64 as Count, Ordering::Relaxed};
    let tried = std::sync::Arc::new(Count::new(0));
    let count = std::sync::Arc::clone(&tried);
    model.check(move || {
        count.fetch_add(1, Relaxed);
        check();
    });
    println!("tried: {} schedules (loom: {name})", tried.load(Relaxed));
}
