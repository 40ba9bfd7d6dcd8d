//! What a merge operator is.

/// Why an operator gives no value; any error, or a text made into one by `into()`.
pub type MergeFailure = Box<dyn std::error::Error + Send + Sync>;

/// Computes a key's value from its base (the value that was last put, if one was) and from what was
/// merged into it since.
///
/// Operands are kept as they were given until somebody reads the key, or until a flush or merge
/// rewrites it; which of these calls the operator, on which thread, how often, and in how many steps is
/// not fixed. So an operator must
///
/// - depend on its arguments alone, and give the same answer each time;
/// - allow steps: `full(full(base, [a]), [b])` is `full(base, [a, b])`;
/// - and where [`partial_merge`](Self::partial_merge) answers `c` for `a` and `b`: `full(base, [a, b])`
///   is `full(base, [c])`.
///
/// An operator that returns an error or panics loses nothing: who reads the key gets
/// [`MergeFailed`](crate::ErrorKind::MergeFailed), everybody else goes on, and the operands stay.
///
/// ```
/// use lightning_db::{Database, LightningDbConfig, MergeFailure, MergeOperator, MergeOperators};
///
/// /// Keeps the longest of all operands.
/// struct Longest;
///
/// impl MergeOperator for Longest {
///     fn full_merge(
///         &self,
///         _key: &[u8],
///         base: Option<&[u8]>,
///         operands: &[&[u8]],
///     ) -> Result<Vec<u8>, MergeFailure> {
///         let all = base.into_iter().chain(operands.iter().copied());
///         Ok(all.max_by_key(|v| v.len()).unwrap_or_default().to_vec())
///     }
/// }
///
/// # fn main() -> lightning_db::Result<()> {
/// let config = LightningDbConfig {
///     merge_operators: MergeOperators::new().with("longest", Longest),
///     merge_operator: Some("longest".to_owned()),
///     ..Default::default()
/// };
/// let db = Database::open_in_memory(config)?;
/// db.merge(b"key", b"one")?;
/// db.merge(b"key", b"three")?;
/// db.merge(b"key", b"two")?;
/// assert_eq!(db.get(b"key")?, Some(b"three".to_vec()));
/// # Ok(())
/// # }
/// ```
pub trait MergeOperator: Send + Sync + 'static {
    /// The value of `key`: `base` (`None` where it has none) with `operands` merged into it, which come
    /// oldest first; there is at least one.
    fn full_merge(
        &self,
        key: &[u8],
        base: Option<&[u8]>,
        operands: &[&[u8]],
    ) -> Result<Vec<u8>, MergeFailure>;

    /// One operand that does what `older` and, after it, `newer` do; `None` where there is none, which
    /// is the default. An operator that can do this keeps chains of operands short without a read of
    /// the base.
    fn partial_merge(&self, key: &[u8], older: &[u8], newer: &[u8]) -> Option<Vec<u8>> {
        let _ = (key, older, newer);
        None
    }

    /// Refuses an operand when it is written, so that it never comes to be in the way of reads. The
    /// default accepts everything.
    fn check_operand(&self, operand: &[u8]) -> Result<(), MergeFailure> {
        let _ = operand;
        Ok(())
    }
}
