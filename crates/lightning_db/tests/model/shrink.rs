//! Shrinks a failing sequence: drops parts, halves first, as long as it fails in any way.

use crate::operations::Operation;
use crate::runner;

/// Runs that a shrinking may take.
const RUNS: usize = 600;

/// The shortest failing part that was found, and how it fails.
pub fn shrink(mut ops: Vec<Operation>, setting: u64, mut why: String) -> (Vec<Operation>, String) {
    let mut runs = 0;
    let mut part = ops.len() / 2;
    while part > 0 && runs < RUNS {
        let mut at = 0;
        while at < ops.len() && runs < RUNS {
            let mut fewer = ops.clone();
            fewer.drain(at..(at + part).min(ops.len()));
            runs += 1;
            match runner::run(&fewer, setting) {
                Err(e) => (ops, why) = (fewer, e),
                Ok(()) => at += part,
            }
        }
        part /= 2;
    }
    (ops, why)
}

/// An operation in one line of bounded length: keys can be long.
pub fn brief(op: &Operation) -> String {
    let text = format!("{op:?}");
    if text.len() <= 300 { text } else { format!("{}... ({} bytes)", &text[..300], text.len()) }
}
