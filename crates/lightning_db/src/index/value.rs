//! The values that index keys are made of, and their bytes.
//!
//! An entry of an index is the parts of its index key, the byte 1, and the row's own key. A part is:
//!
//! ```text
//! 02 missing | 03 null | 04 false | 05 true
//! 06 number:  8 bytes: the largest double at or below it, its bits turned so that they sort (all
//!             flipped where it is negative, else the highest), big endian; 2 bytes: what an integer
//!             is above that double, big endian
//! 07 text:    its UTF-8, each 00 followed by FF, then 00
//! 08 bytes:   the same of bytes
//! ```
//!
//! 1. Bytes sort as the list says, and inside a kind as the values do: integers and doubles together
//!    by their exact value, text by code points, bytes by bytes; NaN comes after every number.
//! 2. No part is the beginning of another one, and every tag is above 1 and below FF. So a shorter
//!    key sorts before those that go on where it ends, and the row's key may be any bytes.
//! 3. Equal numbers have equal bytes: `1` and `1.0`, `0.0` and `-0.0`.

use crate::codec::{Malformed, Reader};

/// Ends the parts of an entry.
pub const END: u8 = 1;
/// The first byte that an entry can begin with.
pub const FIRST_TAG: u8 = MISSING;
const MISSING: u8 = 2;
const NULL: u8 = 3;
const FALSE: u8 = 4;
const TRUE: u8 = 5;
const NUMBER: u8 = 6;
const TEXT: u8 = 7;
const BYTES: u8 = 8;
const ESCAPED: u8 = 0xff;

/// One part of an index key. They sort in the order of this list, and inside a kind by value;
/// integers and doubles sort together.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum IndexValue {
    /// The row has no such part.
    Missing,
    /// A JSON `null`.
    Null,
    /// A truth value.
    Bool(bool),
    /// An integer. Those below `i64::MIN` or above `u64::MAX` are taken as the nearest double.
    Int(i128),
    /// A double. One that is a whole number in the range of `Int` is read back as `Int`.
    Float(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// The integers that are kept exactly.
const EXACT: std::ops::RangeInclusive<i128> = i64::MIN as i128..=u64::MAX as i128;

impl IndexValue {
    /// Appends the part's bytes.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Missing => out.push(MISSING),
            Self::Null => out.push(NULL),
            Self::Bool(false) => out.push(FALSE),
            Self::Bool(true) => out.push(TRUE),
            Self::Int(n) if EXACT.contains(n) => {
                let nearest = *n as f64;
                let below = if nearest as i128 > *n { nearest.next_down() } else { nearest };
                put_number(out, below, (*n - below as i128) as u16);
            }
            Self::Int(n) => put_number(out, *n as f64, 0),
            Self::Float(n) => put_number(out, *n, 0),
            Self::Text(text) => put_escaped(out, TEXT, text.as_bytes()),
            Self::Bytes(bytes) => put_escaped(out, BYTES, bytes),
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match r.u8()? {
            MISSING => Self::Missing,
            NULL => Self::Null,
            FALSE => Self::Bool(false),
            TRUE => Self::Bool(true),
            NUMBER => {
                let bits = u64::from_be_bytes(r.array()?);
                let above = u16::from_be_bytes(r.array()?);
                let negative = bits >> 63 == 0;
                let n = f64::from_bits(if negative { !bits } else { bits ^ (1 << 63) });
                // Whole numbers up to 2^64 are exact as i128.
                if n.fract() == 0.0 && n.abs() < 2e19 && EXACT.contains(&(n as i128)) {
                    Self::Int(n as i128 + i128::from(above))
                } else {
                    Self::Float(n)
                }
            }
            TEXT => Self::Text(
                String::from_utf8(unescaped(r)?)
                    .map_err(|_| Malformed("text of an index entry is not UTF-8"))?,
            ),
            BYTES => Self::Bytes(unescaped(r)?),
            _ => return Err(Malformed("a part of an index entry is of no known kind")),
        })
    }

    /// Whether it is nothing that could be equal to another: `Missing` or `Null`.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Missing | Self::Null)
    }
}

fn put_number(out: &mut Vec<u8>, n: f64, above: u16) {
    // One NaN, after infinity; one zero.
    let n = if n.is_nan() {
        f64::NAN.abs()
    } else if n == 0.0 {
        0.0
    } else {
        n
    };
    let bits = n.to_bits();
    let turned = if bits >> 63 == 1 { !bits } else { bits ^ (1 << 63) };
    out.push(NUMBER);
    out.extend_from_slice(&turned.to_be_bytes());
    out.extend_from_slice(&above.to_be_bytes());
}

fn put_escaped(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    put_escaped_start(out, bytes);
    out.push(0);
}

fn put_escaped_start(out: &mut Vec<u8>, bytes: &[u8]) {
    for b in bytes {
        out.push(*b);
        if *b == 0 {
            out.push(ESCAPED);
        }
    }
}

fn unescaped(r: &mut Reader<'_>) -> Result<Vec<u8>, Malformed> {
    let mut out = Vec::new();
    loop {
        match r.u8()? {
            0 if r.rest().first() == Some(&ESCAPED) => {
                r.u8()?;
                out.push(0);
            }
            0 => return Ok(out),
            b => out.push(b),
        }
    }
}

/// A key of an index: its parts, in the order of the index's parts. A bound or a search may have
/// fewer parts than the index.
///
/// ```
/// use lightning_db::{IndexKey, IndexValue};
/// assert_eq!(IndexKey::from("ada").parts(), [IndexValue::Text("ada".into())]);
/// assert_eq!(IndexKey::from(("London", 1815)).parts().len(), 2);
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct IndexKey(Vec<IndexValue>);

impl IndexKey {
    /// A key of these parts.
    pub fn new(parts: impl IntoIterator<Item = impl Into<IndexValue>>) -> Self {
        Self(parts.into_iter().map(Into::into).collect())
    }

    /// Its parts.
    pub fn parts(&self) -> &[IndexValue] {
        &self.0
    }

    /// The bytes of its parts.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for part in &self.0 {
            part.encode(&mut out);
        }
        out
    }

    /// The bytes that every key begins with whose first parts are these, the last one, where it is
    /// text or bytes, only to begin with.
    pub(crate) fn encode_start(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let Some((last, first)) = self.0.split_last() else { return out };
        for part in first {
            part.encode(&mut out);
        }
        match last {
            IndexValue::Text(text) => {
                out.push(TEXT);
                put_escaped_start(&mut out, text.as_bytes());
            }
            IndexValue::Bytes(bytes) => {
                out.push(BYTES);
                put_escaped_start(&mut out, bytes);
            }
            other => other.encode(&mut out),
        }
        out
    }

    /// The index key and the row's key of an entry.
    pub(crate) fn decode_entry(entry: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let mut r = Reader::new(entry);
        let mut parts = Vec::new();
        while r.rest().first().is_some_and(|b| *b != END) {
            parts.push(IndexValue::decode(&mut r)?);
        }
        r.u8()?;
        Ok((Self(parts), r.rest()))
    }

    /// With text turned to bytes where `is_bytes` says that the index has bytes there.
    pub(crate) fn fitted(&self, is_bytes: impl Fn(usize) -> bool) -> Self {
        let fit = |(at, part): (usize, &IndexValue)| match part {
            IndexValue::Text(text) if is_bytes(at) => IndexValue::Bytes(text.clone().into_bytes()),
            other => other.clone(),
        };
        Self(self.0.iter().enumerate().map(fit).collect())
    }
}

macro_rules! from {
    ($($from:ty => |$x:ident| $make:expr;)*) => {$(
        impl From<$from> for IndexValue {
            fn from($x: $from) -> Self {
                $make
            }
        }
    )*};
}

from! {
    bool => |b| Self::Bool(b);
    i32 => |n| Self::Int(n.into());
    u32 => |n| Self::Int(n.into());
    i64 => |n| Self::Int(n.into());
    u64 => |n| Self::Int(n.into());
    f64 => |n| Self::Float(n);
    &str => |text| Self::Text(text.to_owned());
    String => |text| Self::Text(text);
    &[u8] => |bytes| Self::Bytes(bytes.to_vec());
    Vec<u8> => |bytes| Self::Bytes(bytes);
}

impl<const N: usize> From<&[u8; N]> for IndexValue {
    fn from(bytes: &[u8; N]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

impl<T: Into<IndexValue>> From<T> for IndexKey {
    fn from(part: T) -> Self {
        Self(vec![part.into()])
    }
}

impl<A: Into<IndexValue>, B: Into<IndexValue>> From<(A, B)> for IndexKey {
    fn from((a, b): (A, B)) -> Self {
        Self(vec![a.into(), b.into()])
    }
}

impl<A: Into<IndexValue>, B: Into<IndexValue>, C: Into<IndexValue>> From<(A, B, C)> for IndexKey {
    fn from((a, b, c): (A, B, C)) -> Self {
        Self(vec![a.into(), b.into(), c.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Ordering;

    fn rank(v: &IndexValue) -> u8 {
        match v {
            IndexValue::Missing => 0,
            IndexValue::Null => 1,
            IndexValue::Bool(b) => 2 + u8::from(*b),
            IndexValue::Int(_) | IndexValue::Float(_) => 4,
            IndexValue::Text(_) => 5,
            IndexValue::Bytes(_) => 6,
        }
    }

    /// Compares an integer with a double exactly.
    fn int_to_float(n: i128, f: f64) -> Ordering {
        if f.is_nan() || f >= 1e30 {
            return Ordering::Less;
        }
        if f <= -1e30 {
            return Ordering::Greater;
        }
        let floor = f.floor();
        n.cmp(&(floor as i128)).then(if f > floor { Ordering::Less } else { Ordering::Equal })
    }

    fn compare(a: &IndexValue, b: &IndexValue) -> Ordering {
        use IndexValue::{Bytes, Float, Int, Text};
        match (a, b) {
            (Int(a), Int(b)) => a.cmp(b),
            (Int(a), Float(b)) => int_to_float(*a, *b),
            (Float(a), Int(b)) => int_to_float(*b, *a).reverse(),
            (Float(a), Float(b)) => match (a.is_nan(), b.is_nan()) {
                (false, false) => a.partial_cmp(b).expect("numbers"),
                (a, b) => a.cmp(&b),
            },
            (Text(a), Text(b)) => a.cmp(b),
            (Bytes(a), Bytes(b)) => a.cmp(b),
            _ => rank(a).cmp(&rank(b)),
        }
    }

    fn any(rng: &mut fastrand::Rng) -> IndexValue {
        let bytes = |rng: &mut fastrand::Rng| -> Vec<u8> {
            (0..rng.usize(0..4))
                .map(|_| *rng.choice(&[0, 1, 2, 0xff, b'a']).expect("some"))
                .collect()
        };
        match rng.u8(0..9) {
            0 => IndexValue::Missing,
            1 => IndexValue::Null,
            2 => IndexValue::Bool(rng.bool()),
            3 => IndexValue::Int(i128::from(rng.i64(-3..3))),
            4 => {
                let near = [i64::MIN as i128, 1 << 53, -(1 << 53), 1 << 62, u64::MAX as i128];
                let n = rng.choice(near).expect("some") + i128::from(rng.i32(-3..3));
                IndexValue::Int(n.clamp(*EXACT.start(), *EXACT.end()))
            }
            5 => {
                let special = [0.0, -0.0, 0.5, -1.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
                IndexValue::Float(rng.choice(special).expect("some"))
            }
            6 => IndexValue::Float(f64::from_bits(rng.u64(..))),
            7 => IndexValue::Text(bytes(rng).iter().map(|b| char::from(*b)).collect()),
            _ => IndexValue::Bytes(bytes(rng)),
        }
    }

    #[test]
    fn bytes_sort_as_values_do_and_are_read_back() {
        let mut rng = fastrand::Rng::with_seed(11);
        for _ in 0..200_000 {
            let key = |rng: &mut fastrand::Rng| -> Vec<IndexValue> {
                (0..rng.usize(1..3)).map(|_| any(rng)).collect()
            };
            let (a, b) = (key(&mut rng), key(&mut rng));
            let entry = |parts: &[IndexValue], row: &[u8]| {
                let mut out = IndexKey(parts.to_vec()).encode();
                out.push(END);
                out.extend_from_slice(row);
                out
            };
            let row = [rng.u8(..), 0];
            let parts = a.iter().zip(&b).map(|(a, b)| compare(a, b)).find(|o| o.is_ne());
            let expected = parts.unwrap_or_else(|| a.len().cmp(&b.len()));
            assert_eq!(
                entry(&a, &[0xff, 0xff]).cmp(&entry(&b, &[0xff, 0xff])),
                expected,
                "{a:?} {b:?}"
            );
            let bytes = entry(&a, &row);
            let (read, found) = IndexKey::decode_entry(&bytes).expect("reads");
            assert_eq!(found, row);
            assert_eq!(read.encode(), IndexKey(a.clone()).encode());
            for (read, wrote) in read.0.iter().zip(&a) {
                assert_eq!(compare(read, wrote), Ordering::Equal, "{read:?} {wrote:?}");
            }
        }
    }

    #[test]
    fn hostile_entries_are_errors() {
        let mut rng = fastrand::Rng::with_seed(12);
        for _ in 0..50_000 {
            let entry: Vec<u8> = (0..rng.usize(0..20)).map(|_| rng.u8(0..10)).collect();
            if let Ok((key, row)) = IndexKey::decode_entry(&entry) {
                assert!(row.len() < entry.len(), "{key:?}");
            }
        }
    }

    #[test]
    fn a_start_is_the_beginning_of_those_that_begin_so() {
        let whole = IndexKey::from(("London", "Ada")).encode();
        assert!(whole.starts_with(&IndexKey::from(("London", "A")).encode_start()));
        assert!(!whole.starts_with(&IndexKey::from(("Lond", "A")).encode_start()));
        assert!(whole.starts_with(&IndexKey::from("Lon").encode_start()));
        assert!(IndexKey::from(7).encode().starts_with(&IndexKey::from(7).encode_start()));
    }
}
