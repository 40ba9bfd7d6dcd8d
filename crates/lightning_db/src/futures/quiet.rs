//! What must not hold its thread up when it drops.

use std::ops::Deref;

use crate::segment::leave_files;

/// A keyspace or snapshot held by a handle or a future: where it was the last to read a file that nothing
/// names any more, that file is removed by another thread.
#[derive(Clone)]
pub struct Quiet<T>(Option<T>);

impl<T> Quiet<T> {
    /// Of `value`.
    pub fn new(value: T) -> Self {
        Self(Some(value))
    }
}

impl<T> Deref for Quiet<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("there until it drops")
    }
}

impl<T> Drop for Quiet<T> {
    fn drop(&mut self) {
        leave_files(|| drop(self.0.take()));
    }
}
