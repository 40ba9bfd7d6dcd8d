//! The operator of one keyspace, as this open has it; called so that what goes wrong in it is an error.
//!
//! 1. An operator that panics is an operator that fails: nothing above it unwinds.
//! 2. Lists are given newest first, as readers and jobs come upon them; the operator sees operands oldest
//!    first.
//! 3. A failure to shorten a chain is none: it stays as it is.
//!
//! Any thread; holds no latch, and is never called inside the commit section.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::list;
use super::operator::{MergeFailure, MergeOperator};
use super::registry::MergeOperators;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{BLOB_THRESHOLD_BYTES, MAX_OPERAND_BYTES};

/// What an operator gives.
type Answer<R> = std::result::Result<R, MergeFailure>;

/// Operands are shortened to no more than this many bytes each: longer ones are copied seldom.
const MAX_SHORTENED_BYTES: usize = BLOB_THRESHOLD_BYTES;

/// See the module.
pub struct Merger {
    keyspace: String,
    name: String,
    operator: Option<Arc<dyn MergeOperator>>,
}

impl std::fmt::Debug for Merger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Merger").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Merger {
    /// The operator called `name` of the keyspace called `keyspace`.
    pub fn new(keyspace: &str, name: &str, registered: &MergeOperators) -> Self {
        let operator = registered.get(name).cloned();
        Self { keyspace: keyspace.to_owned(), name: name.to_owned(), operator }
    }

    /// The operator's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the operator is there, so that anything can be merged.
    pub fn is_registered(&self) -> bool {
        self.operator.is_some()
    }

    fn operator(&self) -> Result<&dyn MergeOperator> {
        self.operator.as_deref().ok_or_else(|| {
            let (keyspace, name) = (&self.keyspace, &self.name);
            let message = format!(
                "the merge operator {name:?} of the keyspace {keyspace:?} is not registered"
            );
            Error::new(ErrorKind::NoMergeOperator, message)
        })
    }

    fn failed(&self, why: MergeFailure) -> Error {
        let (keyspace, name) = (&self.keyspace, &self.name);
        let message =
            format!("the merge operator {name:?} of the keyspace {keyspace:?} failed: {why}");
        Error::new(ErrorKind::MergeFailed, message)
    }

    /// Refuses an operand that is too long, or not one.
    pub fn check_operand(&self, operand: &[u8]) -> Result<()> {
        let operator = self.operator()?;
        if operand.len() > MAX_OPERAND_BYTES {
            let len = operand.len();
            let message =
                format!("an operand of {len} bytes is over the limit of {MAX_OPERAND_BYTES} bytes");
            return Err(Error::new(ErrorKind::ValueTooLarge, message));
        }
        guarded(|| operator.check_operand(operand))
            .map_err(|why| self.failed(why).with_kind(ErrorKind::InvalidArgument))
    }

    /// The value of `key`, from its base and from lists of operands, newest first.
    pub fn full<'a>(
        &self,
        key: &[u8],
        base: Option<&[u8]>,
        newest_first: impl DoubleEndedIterator<Item = &'a [u8]>,
    ) -> Result<Vec<u8>> {
        let operator = self.operator()?;
        let operands: Vec<&[u8]> = newest_first.rev().flat_map(list::operands).collect();
        if operands.is_empty() {
            // Only a file that was made to mislead has such.
            return Err(self.failed("there are no operands".into()));
        }
        guarded(|| operator.full_merge(key, base, &operands)).map_err(|why| self.failed(why))
    }

    /// Two lists made one where the operator has one operand for each pair of neighbours.
    fn pair(&self, key: &[u8], older: &[u8], newer: &[u8]) -> Option<Vec<u8>> {
        if older.len() + newer.len() > MAX_SHORTENED_BYTES {
            return None;
        }
        let operator = self.operator.as_deref()?;
        let mut one: Option<Vec<u8>> = None;
        for operand in list::operands(older).chain(list::operands(newer)) {
            one = Some(match one {
                None => operand.to_vec(),
                Some(one) => {
                    let merged = || Ok(operator.partial_merge(key, &one, operand));
                    guarded(merged).ok()??
                }
            });
        }
        let one = one.filter(|one| one.len() <= MAX_SHORTENED_BYTES)?;
        let mut list = Vec::with_capacity(one.len() + 3);
        list::push(&mut list, &one);
        Some(list)
    }

    /// Shortens a chain, newest first, each list with a mark that the newest of those made one keeps.
    /// Neighbours are paired, then pairs, so that nothing is copied more than a few times.
    pub fn shorten<M>(&self, key: &[u8], mut chain: Vec<(M, Vec<u8>)>) -> Vec<(M, Vec<u8>)> {
        loop {
            let before = chain.len();
            let mut shorter: Vec<(M, Vec<u8>)> = Vec::with_capacity(before.div_ceil(2));
            let mut lists = chain.into_iter().peekable();
            while let Some((mark, newer)) = lists.next() {
                let one = lists.peek().and_then(|(_, older)| self.pair(key, older, &newer));
                if one.is_some() {
                    lists.next();
                }
                shorter.push((mark, one.unwrap_or(newer)));
            }
            if shorter.len() == before {
                return shorter;
            }
            chain = shorter;
        }
    }

    /// One list of the operands of `list`, as short as the operator has it.
    pub fn shorten_list(&self, key: &[u8], long: &[u8]) -> Vec<u8> {
        let one = |operand: &[u8]| {
            let mut list = Vec::with_capacity(operand.len() + 3);
            list::push(&mut list, operand);
            ((), list)
        };
        let mut chain: Vec<_> = list::operands(long).map(one).collect();
        chain.reverse();
        let chain = self.shorten(key, chain);
        chain.into_iter().rev().flat_map(|((), list)| list).collect()
    }
}

/// Calls an operator; a panic in it is a failure of it.
fn guarded<R>(call: impl FnOnce() -> Answer<R>) -> Answer<R> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Err(format!("it panicked: {}", text.unwrap_or("without a message")).into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merger(name: &str) -> Merger {
        Merger::new("numbers", name, &MergeOperators::new())
    }

    fn list_of(operands: &[&[u8]]) -> Vec<u8> {
        let mut list = Vec::new();
        for operand in operands {
            list::push(&mut list, operand);
        }
        list
    }

    #[test]
    fn operands_are_merged_oldest_first() {
        let append = merger("append");
        let (old, new) = (list_of(&[b"a", b"b"]), list_of(&[b"c"]));
        let newest_first = [new.as_slice(), old.as_slice()];
        let value = append.full(b"key", Some(b"0"), newest_first.into_iter()).expect("merges");
        assert_eq!(value, b"0abc");
        assert_eq!(append.shorten_list(b"key", &list_of(&[b"a", b"b", b"c"])), list_of(&[b"abc"]));
    }

    #[test]
    fn chains_are_shortened_up_to_a_length_and_keep_the_newest_mark() {
        let append = merger("append");
        let chain = (0..1000_u32).rev().map(|i| (i, list_of(&[&[i as u8; 100]]))).collect();
        let shortened = append.shorten(b"key", chain);
        assert!(shortened.len() < 20, "{}", shortened.len());
        assert_eq!(shortened[0].0, 999);
        assert!(shortened.iter().all(|(_, l)| l.len() <= MAX_SHORTENED_BYTES + 3));
        let lists = shortened.iter().map(|(_, l)| l.as_slice());
        let value = append.full(b"key", None, lists).expect("merges");
        let expected: Vec<u8> = (0..1000_u32).flat_map(|i| [i as u8; 100]).collect();
        assert_eq!(value, expected);
    }

    #[test]
    fn an_operator_that_is_not_there_is_named() {
        let e = merger("other").full(b"key", None, [&b"\x01a"[..]].into_iter()).expect_err("none");
        assert_eq!(e.kind(), ErrorKind::NoMergeOperator);
        assert!(e.message().contains("\"other\"") && e.message().contains("\"numbers\""), "{e}");
        // Without it a chain stays as it is.
        let chain = vec![((), list_of(&[b"b"])), ((), list_of(&[b"a"]))];
        assert_eq!(merger("other").shorten(b"key", chain.clone()), chain);
    }

    #[test]
    fn a_panic_is_a_failure() {
        struct Panics;
        impl MergeOperator for Panics {
            fn full_merge(&self, _: &[u8], _: Option<&[u8]>, _: &[&[u8]]) -> Answer<Vec<u8>> {
                panic!("on purpose")
            }
            fn partial_merge(&self, _: &[u8], _: &[u8], _: &[u8]) -> Option<Vec<u8>> {
                panic!("on purpose")
            }
        }
        let panics = Merger::new("k", "panics", &MergeOperators::new().with("panics", Panics));
        let e = panics.full(b"key", None, [&b"\x01a"[..]].into_iter()).expect_err("panics");
        assert_eq!(e.kind(), ErrorKind::MergeFailed);
        assert!(e.message().ends_with("it panicked: on purpose"), "{e}");
        assert_eq!(panics.shorten_list(b"key", &list_of(&[b"a", b"b"])), list_of(&[b"a", b"b"]));
    }
}
