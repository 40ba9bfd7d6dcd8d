//! The operands of one entry: what one commit merged into one key, or what a flush or merge made of
//! several commits, oldest first. Each is its length as a varint, and its bytes; there is at least one.

use crate::codec::{Malformed, Reader, put_bytes, varint_len};

/// Adds an operand, newer than those that are there.
pub fn push(list: &mut Vec<u8>, operand: &[u8]) {
    put_bytes(list, operand);
}

/// Whether these bytes are a list, with every length as short as can be.
pub fn check(list: &[u8]) -> Result<(), Malformed> {
    let mut reader = Reader::new(list);
    if reader.is_empty() {
        return Err(Malformed("a list of operands is empty"));
    }
    while !reader.is_empty() {
        let before = reader.rest().len();
        let operand = reader.bytes()?;
        let length = before - reader.rest().len() - operand.len();
        if length != varint_len(operand.len() as u64) {
            return Err(Malformed("an operand's length is longer than it need be"));
        }
    }
    Ok(())
}

/// The operands of a list that was [checked](check), oldest first.
pub fn operands(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut reader = Reader::new(list);
    // What follows a malformed operand is left out; lists are checked as they come from files.
    std::iter::from_fn(move || if reader.is_empty() { None } else { reader.bytes().ok() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_gives_back_what_was_put_in() {
        let mut list = Vec::new();
        let wanted = [&b"a"[..], b"", &[7; 300], b"last"];
        for operand in wanted {
            push(&mut list, operand);
        }
        assert_eq!(check(&list), Ok(()));
        assert!(operands(&list).eq(wanted));
    }

    #[test]
    fn hostile_lists_are_errors() {
        for bytes in [&[][..], &[1], &[2, 0], &[0x80, 0], &[0xff; 12], &[0, 0x80, 0]] {
            assert!(check(bytes).is_err(), "{bytes:?}");
            assert!(operands(bytes).count() <= bytes.len());
        }
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..rng.usize(0..12)).map(|_| rng.u8(..)).collect();
            if check(&bytes).is_ok() {
                let mut again = Vec::new();
                operands(&bytes).for_each(|o| push(&mut again, o));
                assert_eq!(again, bytes);
            }
        }
    }
}
