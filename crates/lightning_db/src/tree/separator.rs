//! Separators: what an inner page keeps of the keys of its children.
//!
//! 1. The separator of a leaf is greater than every key in the leaves before it.
//! 2. It is at most the leaf's first key, with one exception: a *continuation* leaf, which goes on
//!    with the versions of the key that the leaf before it ends with, has that key followed by a
//!    zero byte, the smallest string greater than the key. Several continuations of one key have
//!    equal separators; the last leaf whose separator is at most a key is then always the one
//!    that holds the key's newest version, so that point reads need no special case.
//! 3. The separator of a partition's first leaf is its first key, or a lower bound of it.
//! 4. An ordinary separator that ends in a zero byte is the last key of the leaf before it plus
//!    that byte (a cut-short separator ends where it differs from that key, with a byte greater
//!    than the key's). So a separator without a final zero is never a continuation's.
//!
//! The separator of an inner page is that of its first child. No I/O, no threads.

/// The shortest string that is greater than `before` and at most `first`; `before < first`.
pub(super) fn shortest<'a>(before: &[u8], first: &'a [u8]) -> &'a [u8] {
    debug_assert!(before < first, "a separator stands between two different keys");
    let common = before.iter().zip(first).take_while(|(a, b)| a == b).count();
    &first[..(common + 1).min(first.len())]
}

/// The separator of a leaf that goes on with the versions of `key`.
pub(super) fn continuation(key: &[u8]) -> Vec<u8> {
    let mut s = Vec::with_capacity(key.len() + 1);
    s.extend_from_slice(key);
    s.push(0);
    s
}

/// Whether `separator` is the one that a continuation of `key` has.
pub(super) fn is_continuation_of(separator: &[u8], key: &[u8]) -> bool {
    separator.split_last().is_some_and(|(last, head)| *last == 0 && head == key)
}

/// Whether a leaf with this separator may be a continuation (rule 4).
pub(super) fn may_continue(separator: &[u8]) -> bool {
    separator.last() == Some(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_separator_is_between_its_neighbours_and_no_longer_than_needed() {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..300 {
            keys.push((0..rng.usize(1..6)).map(|_| rng.u8(0..3)).collect());
        }
        keys.sort();
        keys.dedup();
        for pair in keys.windows(2) {
            let s = shortest(&pair[0], &pair[1]);
            assert!(pair[0].as_slice() < s && s <= pair[1].as_slice());
            assert!(s[..s.len() - 1] <= pair[0][..], "a shorter one would do");
            // Rule 4.
            assert_eq!(may_continue(s), is_continuation_of(s, &pair[0]));
        }
    }

    #[test]
    fn a_continuation_is_the_successor_of_its_key() {
        let s = continuation(b"k");
        assert!(s.as_slice() > b"k".as_slice());
        assert!(is_continuation_of(&s, b"k"));
        assert!(!is_continuation_of(&s, b""));
        assert!(!is_continuation_of(b"k", b"k"));
        assert!(!is_continuation_of(b"", b"k"));
        assert!(may_continue(&s) && !may_continue(b"k") && !may_continue(b""));
    }
}
