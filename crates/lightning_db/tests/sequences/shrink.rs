//! Makes a failing sequence shorter, greedily: drops stretches of operations for as long as what is
//! left still fails, halving the stretch, for at most a minute.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "bounds the real time")]

use std::time::{Duration, Instant};

use crate::operation::Operation;

const MOST: Duration = Duration::from_secs(60);

pub struct Short {
    pub operations: Vec<Operation>,
    /// How it failed at last; `None` where it could not be made to fail again.
    pub what: Option<String>,
}

/// `fails` tells how operations fail, if they do.
pub fn shrink(
    mut operations: Vec<Operation>,
    mut fails: impl FnMut(&[Operation]) -> Option<String>,
) -> Short {
    let begun = Instant::now();
    let mut what = None;
    let mut stretch = operations.len().div_ceil(2);
    while stretch > 0 {
        let (mut at, before) = (0, operations.len());
        while at < operations.len() {
            if begun.elapsed() > MOST {
                return Short { operations, what };
            }
            let mut fewer = operations.clone();
            fewer.drain(at..(at + stretch).min(operations.len()));
            match fails(&fewer) {
                Some(how) => (operations, what) = (fewer, Some(how)),
                None => at += stretch,
            }
        }
        // Single operations are tried until none can go.
        if stretch > 1 || operations.len() == before {
            stretch /= 2;
        }
    }
    Short { operations, what }
}
