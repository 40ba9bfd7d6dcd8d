//! Names to operators.
//!
//! The built-in ones are always there, and their names cannot be given to others.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::builtin::{Append, Counter, Max};
use super::operator::MergeOperator;
use crate::limits::MAX_OPERATOR_NAME_BYTES;

/// The merge operators that a database is opened with, by name.
///
/// A keyspace keeps the *name* of its operator
/// ([`KeyspaceOptions::merge_operator`](crate::KeyspaceOptions::merge_operator)); what is registered
/// under it at an open is what merges then. So an operator must not change what it does to operands that
/// are kept; give one that does another name.
///
/// Always registered:
///
/// | name | operand | value |
/// |---|---|---|
/// | `counter` | `i64`, little endian | the exact sum; while it does not fit 64 bits, reads fail with `MergeFailed` and nothing is lost |
/// | `append` | any bytes | base and operands, one behind the other |
/// | `max` | any bytes | the greatest, in the order of keys |
#[derive(Clone)]
pub struct MergeOperators(BTreeMap<String, Arc<dyn MergeOperator>>);

impl Default for MergeOperators {
    fn default() -> Self {
        let mut all: BTreeMap<String, Arc<dyn MergeOperator>> = BTreeMap::new();
        all.insert("counter".to_owned(), Arc::new(Counter));
        all.insert("append".to_owned(), Arc::new(Append));
        all.insert("max".to_owned(), Arc::new(Max));
        Self(all)
    }
}

impl MergeOperators {
    /// The built-in operators.
    pub fn new() -> Self {
        Self::default()
    }

    /// These, and `operator` under `name` (1 to 64 bytes). A name that is taken already is refused when
    /// the database is opened.
    #[must_use]
    pub fn with(self, name: &str, operator: impl MergeOperator) -> Self {
        self.with_shared(name, Arc::new(operator))
    }

    /// As [`with`](Self::with), for an operator that is shared.
    #[must_use]
    pub fn with_shared(mut self, name: &str, operator: Arc<dyn MergeOperator>) -> Self {
        // An impossible name is kept for `check` to refuse: here nobody could be told.
        let name =
            if self.0.contains_key(name) { format!("{TAKEN}{name}") } else { name.to_owned() };
        self.0.insert(name, operator);
        self
    }

    /// The operator called `name`.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn MergeOperator>> {
        self.0.get(name)
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Why these cannot be registered, if they cannot.
    pub(crate) fn check(&self) -> Result<(), String> {
        for name in self.names() {
            if let Some(name) = name.strip_prefix(TAKEN) {
                return Err(format!("has two operators called {name:?}"));
            }
            check_name(name)?;
        }
        Ok(())
    }
}

/// No name that passes [`check_name`] begins with it.
const TAKEN: &str = "\0twice ";

/// Why an operator cannot be called this, if it cannot.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > MAX_OPERATOR_NAME_BYTES || name.contains('\0') {
        return Err(format!(
            "must be a name of 1 to {MAX_OPERATOR_NAME_BYTES} bytes, none of them 0; it is {name:?}"
        ));
    }
    Ok(())
}

impl PartialEq for MergeOperators {
    /// The same operators, and not others that do the same.
    fn eq(&self, other: &Self) -> bool {
        let same = |(a, b): (&Arc<dyn MergeOperator>, &Arc<dyn MergeOperator>)| {
            std::ptr::addr_eq(Arc::as_ptr(a), Arc::as_ptr(b))
        };
        let builtin = Self::default();
        self.names().eq(other.names())
            && self
                .0
                .iter()
                .zip(other.0.values())
                .all(|((name, a), b)| builtin.get(name).is_some() || same((a, b)))
    }
}

impl Eq for MergeOperators {}

impl fmt::Debug for MergeOperators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_given_once() {
        assert!(MergeOperators::new().check().is_ok());
        assert!(MergeOperators::new().with("other", Max).check().is_ok());
        for name in ["", "max", "a\0b", &"n".repeat(65)] {
            let refused = MergeOperators::new().with(name, Max).check();
            assert!(refused.is_err(), "{name:?}");
        }
        let twice = MergeOperators::new().with("other", Max).with("other", Append);
        assert_eq!(twice.check(), Err("has two operators called \"other\"".to_owned()));
    }

    #[test]
    fn equal_are_those_that_share_their_operators() {
        assert_eq!(MergeOperators::new(), MergeOperators::default());
        let shared: Arc<dyn MergeOperator> = Arc::new(Max);
        let of = || MergeOperators::new().with_shared("other", Arc::clone(&shared));
        assert_eq!(of(), of());
        assert_ne!(of(), MergeOperators::new());
        assert_eq!(format!("{:?}", of()), r#"{"append", "counter", "max", "other"}"#);
    }
}
