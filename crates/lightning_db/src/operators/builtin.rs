//! The operators that every database has.

use super::operator::{MergeFailure, MergeOperator};

/// A sum of `i64`, little endian.
pub(super) struct Counter;

/// All operands, one behind the other.
pub(super) struct Append;

/// The greatest, byte by byte, as keys are ordered.
pub(super) struct Max;

fn number(bytes: &[u8]) -> Result<i64, MergeFailure> {
    let bytes = bytes.try_into().map_err(|_| {
        format!("a counter has 8 bytes (an i64, little endian), and not {}", bytes.len())
    })?;
    Ok(i64::from_le_bytes(bytes))
}

impl MergeOperator for Counter {
    /// The exact sum, in whatever steps it is taken: only the result must fit.
    fn full_merge(
        &self,
        _key: &[u8],
        base: Option<&[u8]>,
        operands: &[&[u8]],
    ) -> Result<Vec<u8>, MergeFailure> {
        let mut sum = 0_i128;
        for operand in base.iter().chain(operands) {
            sum += i128::from(number(operand)?);
        }
        let sum = i64::try_from(sum).map_err(|_| "the counter does not fit 64 bits")?;
        Ok(sum.to_le_bytes().to_vec())
    }

    fn partial_merge(&self, _key: &[u8], older: &[u8], newer: &[u8]) -> Option<Vec<u8>> {
        let sum = number(older).ok()?.checked_add(number(newer).ok()?)?;
        Some(sum.to_le_bytes().to_vec())
    }

    fn check_operand(&self, operand: &[u8]) -> Result<(), MergeFailure> {
        number(operand).map(|_| ())
    }
}

impl MergeOperator for Append {
    fn full_merge(
        &self,
        _key: &[u8],
        base: Option<&[u8]>,
        operands: &[&[u8]],
    ) -> Result<Vec<u8>, MergeFailure> {
        let parts = || base.iter().chain(operands);
        let mut value = Vec::new();
        value.try_reserve_exact(parts().map(|p| p.len()).sum())?;
        parts().for_each(|p| value.extend_from_slice(p));
        Ok(value)
    }

    fn partial_merge(&self, _key: &[u8], older: &[u8], newer: &[u8]) -> Option<Vec<u8>> {
        Some([older, newer].concat())
    }
}

impl MergeOperator for Max {
    fn full_merge(
        &self,
        _key: &[u8],
        base: Option<&[u8]>,
        operands: &[&[u8]],
    ) -> Result<Vec<u8>, MergeFailure> {
        Ok(base.iter().chain(operands).max().map(|v| v.to_vec()).unwrap_or_default())
    }

    fn partial_merge(&self, _key: &[u8], older: &[u8], newer: &[u8]) -> Option<Vec<u8>> {
        Some(older.max(newer).to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(operator: &dyn MergeOperator, base: Option<&[u8]>, operands: &[&[u8]]) -> Vec<u8> {
        operator.full_merge(b"key", base, operands).expect("merges")
    }

    #[test]
    fn a_counter_is_exact_in_whatever_steps() {
        let of = |n: i64| n.to_le_bytes();
        assert_eq!(full(&Counter, None, &[&of(2), &of(-5)]), of(-3));
        assert_eq!(full(&Counter, Some(&of(i64::MAX)), &[&of(1), &of(-1)]), of(i64::MAX));
        assert!(Counter.full_merge(b"key", Some(&of(i64::MAX)), &[&of(1)]).is_err());
        assert_eq!(Counter.partial_merge(b"key", &of(2), &of(3)), Some(of(5).to_vec()));
        // No operand says as much as these two.
        assert_eq!(Counter.partial_merge(b"key", &of(i64::MAX), &of(1)), None);
        assert!(Counter.check_operand(b"1").is_err());
        assert!(Counter.full_merge(b"key", Some(b"1"), &[&of(1)]).is_err());
    }

    #[test]
    fn append_and_max_are_what_they_are_called() {
        assert_eq!(full(&Append, Some(b"a"), &[b"b", b"", b"cd"]), b"abcd");
        assert_eq!(Append.partial_merge(b"key", b"b", b"a"), Some(b"ba".to_vec()));
        assert_eq!(full(&Max, None, &[b"b", b"ab"]), b"b");
        assert_eq!(full(&Max, Some(b"c"), &[b"b"]), b"c");
        assert_eq!(Max.partial_merge(b"key", b"b", b"ba"), Some(b"ba".to_vec()));
    }
}
