//! What an index is over: declared parts of a row, or a function registered by name; its limits, its
//! text form, and its bytes in the manifest.
//!
//! Bytes: `unique u8 | kind u8`, then for kind 0 the function's name (length varint, bytes), for
//! kind 1 the count of parts and for each `kind u8`, then of 0 (JSON) and 1 (each of a JSON array)
//! the pointer (length varint, bytes), of 2 (bytes of the key) and 3 (bytes of the value) start
//! varint, whether there is an end u8, end varint.

use std::fmt;
use std::str::FromStr;

use crate::codec::{Malformed, Reader, put_bytes, put_varint};
use crate::error::{Error, ErrorKind, Result};

/// The most parts of an index key.
const MAX_PARTS: usize = 16;
/// The longest name of an index or a function, and the longest JSON pointer, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// One part of an index key, declared. As text, for bindings and the command line:
/// `json:/address/city`, `each:/tags`, `key`, `key:0..4`, `value`, `value:8..`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum IndexPart {
    /// What a JSON pointer (RFC 6901) finds in the value: `null`, a truth value, a number or a
    /// string. Objects, arrays, and what is not there count as missing, and so does everything in a
    /// value that is not JSON, or is nested deeper than 127 levels.
    Json(String),
    /// Each element of the array that a JSON pointer finds: an index key for each. What is no array
    /// counts as one element. At most one part of an index may be so.
    JsonEach(String),
    /// Bytes of the row's key, from the first up to and without the second, or to its end. A key
    /// that ends before them has what there is of them; one that ends before the first: missing.
    KeyBytes(usize, Option<usize>),
    /// The same of the value.
    ValueBytes(usize, Option<usize>),
}

impl IndexPart {
    /// The whole value.
    pub fn value() -> Self {
        Self::ValueBytes(0, None)
    }

    fn check(&self) -> std::result::Result<(), &'static str> {
        match self {
            Self::Json(pointer) | Self::JsonEach(pointer) => {
                if !pointer.is_empty() && !pointer.starts_with('/') {
                    return Err("a JSON pointer is empty, or begins with `/`");
                }
                if pointer.len() > MAX_NAME_BYTES {
                    return Err("a JSON pointer has at most 255 bytes");
                }
            }
            Self::KeyBytes(start, Some(end)) | Self::ValueBytes(start, Some(end))
                if end <= start =>
            {
                return Err("a range of bytes ends after it begins");
            }
            Self::KeyBytes(..) | Self::ValueBytes(..) => {}
        }
        Ok(())
    }
}

impl fmt::Display for IndexPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, start, end) = match self {
            Self::Json(pointer) => return write!(f, "json:{pointer}"),
            Self::JsonEach(pointer) => return write!(f, "each:{pointer}"),
            Self::KeyBytes(start, end) => ("key", start, end),
            Self::ValueBytes(start, end) => ("value", start, end),
        };
        match end {
            None if *start == 0 => f.write_str(name),
            None => write!(f, "{name}:{start}.."),
            Some(end) => write!(f, "{name}:{start}..{end}"),
        }
    }
}

impl FromStr for IndexPart {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refused = |why: &str| {
            let forms = "a part is json:POINTER, each:POINTER, key, value, key:START..END or \
                         value:START..END";
            Error::new(
                ErrorKind::InvalidArgument,
                format!("{text:?} is no part of an index: {why}"),
            )
            .caused_by(Error::new(ErrorKind::InvalidArgument, forms))
        };
        let (kind, rest) = match text.split_once(':') {
            Some((kind, rest)) => (kind, Some(rest)),
            None => (text, None),
        };
        let bytes = || -> Option<(usize, Option<usize>)> {
            let Some(rest) = rest else { return Some((0, None)) };
            let (start, end) = rest.split_once("..")?;
            let start = if start.is_empty() { 0 } else { start.parse().ok()? };
            let end = if end.is_empty() { None } else { Some(end.parse().ok()?) };
            Some((start, end))
        };
        let range = || bytes().ok_or_else(|| refused("its range is not START..END"));
        let part = match (kind, rest) {
            ("json", Some(pointer)) => Self::Json(pointer.to_owned()),
            ("each", Some(pointer)) => Self::JsonEach(pointer.to_owned()),
            ("key", _) => range().map(|(start, end)| Self::KeyBytes(start, end))?,
            ("value", _) => range().map(|(start, end)| Self::ValueBytes(start, end))?,
            _ => return Err(refused("its kind is not known")),
        };
        part.check().map_err(refused)?;
        Ok(part)
    }
}

/// Where index keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum IndexSource {
    /// A function, by the name it is registered under in
    /// [`LightningDbConfig::extractors`](crate::LightningDbConfig::extractors).
    Extractor(String),
    /// Parts of the row, in order.
    Parts(Vec<IndexPart>),
}

/// What an index is over, and whether it is unique. Kept with the index.
///
/// ```
/// use lightning_db::IndexSpec;
/// let by_email = IndexSpec::json("/email").unique();
/// let by_city_and_year = IndexSpec::parse(&["json:/city", "json:/born"])?;
/// assert!(by_email.is_unique() && !by_city_and_year.is_unique());
/// # Ok::<(), lightning_db::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexSpec {
    pub(crate) source: IndexSource,
    pub(crate) unique: bool,
}

impl IndexSpec {
    /// Over what a function gives that is registered under this name.
    pub fn extractor(name: impl Into<String>) -> Self {
        Self { source: IndexSource::Extractor(name.into()), unique: false }
    }

    /// Over parts of the row, the first counting most.
    pub fn parts(parts: impl IntoIterator<Item = IndexPart>) -> Self {
        Self { source: IndexSource::Parts(parts.into_iter().collect()), unique: false }
    }

    /// Over what a JSON pointer finds in the value.
    pub fn json(pointer: impl Into<String>) -> Self {
        Self::parts([IndexPart::Json(pointer.into())])
    }

    /// Over parts given as text; see [`IndexPart`].
    pub fn parse(parts: &[impl AsRef<str>]) -> Result<Self> {
        let parts = parts.iter().map(|p| p.as_ref().parse()).collect::<Result<Vec<_>>>()?;
        Ok(Self::parts(parts))
    }

    /// At most one row for each index key; a write that would make a second one is refused with
    /// `UniqueViolation`. Index keys with a part that is missing or null are not counted.
    pub fn unique(mut self) -> Self {
        self.unique = true;
        self
    }

    /// Whether it is unique.
    pub fn is_unique(&self) -> bool {
        self.unique
    }

    /// Where its keys come from.
    pub fn source(&self) -> &IndexSource {
        &self.source
    }

    /// Whether part `at` is always bytes.
    pub(crate) fn is_bytes(&self, at: usize) -> bool {
        match &self.source {
            IndexSource::Extractor(_) => false,
            IndexSource::Parts(parts) => {
                matches!(parts.get(at), Some(IndexPart::KeyBytes(..) | IndexPart::ValueBytes(..)))
            }
        }
    }

    fn check(&self) -> std::result::Result<(), &'static str> {
        let parts = match &self.source {
            IndexSource::Extractor(name) if name.is_empty() || name.len() > MAX_NAME_BYTES => {
                return Err("a function's name has 1 to 255 bytes");
            }
            IndexSource::Extractor(_) => return Ok(()),
            IndexSource::Parts(parts) => parts,
        };
        if parts.is_empty() || parts.len() > MAX_PARTS {
            return Err("an index has 1 to 16 parts");
        }
        if parts.iter().filter(|p| matches!(p, IndexPart::JsonEach(_))).count() > 1 {
            return Err("at most one part of an index is each element of an array");
        }
        parts.iter().try_for_each(IndexPart::check)
    }

    /// Whether it can be; and the name of an index.
    pub(crate) fn validate(&self, name: &str) -> Result<()> {
        let checked = match name.len() {
            1..=MAX_NAME_BYTES => self.check(),
            _ => Err("the name of an index has 1 to 255 bytes"),
        };
        checked.map_err(|why| Error::new(ErrorKind::InvalidArgument, why))
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.unique));
        let parts = match &self.source {
            IndexSource::Extractor(name) => {
                out.push(0);
                put_bytes(out, name.as_bytes());
                return;
            }
            IndexSource::Parts(parts) => parts,
        };
        out.push(1);
        put_varint(out, parts.len() as u64);
        for part in parts {
            let (kind, start, end) = match part {
                IndexPart::Json(pointer) => {
                    out.push(0);
                    put_bytes(out, pointer.as_bytes());
                    continue;
                }
                IndexPart::JsonEach(pointer) => {
                    out.push(1);
                    put_bytes(out, pointer.as_bytes());
                    continue;
                }
                IndexPart::KeyBytes(start, end) => (2, start, end),
                IndexPart::ValueBytes(start, end) => (3, start, end),
            };
            out.push(kind);
            put_varint(out, *start as u64);
            out.push(u8::from(end.is_some()));
            if let Some(end) = end {
                put_varint(out, *end as u64);
            }
        }
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> std::result::Result<Self, Malformed> {
        let unique = flag(r)?;
        let source = match r.u8()? {
            0 => IndexSource::Extractor(text(r)?),
            1 => {
                let n = r.count(2)?;
                if n > MAX_PARTS {
                    return Err(Malformed("an index has more parts than there can be"));
                }
                let parts = (0..n).map(|_| decode_part(r));
                IndexSource::Parts(parts.collect::<std::result::Result<_, _>>()?)
            }
            _ => return Err(Malformed("an index is over nothing that is known")),
        };
        let spec = Self { source, unique };
        spec.check().map_err(Malformed)?;
        Ok(spec)
    }
}

fn decode_part(r: &mut Reader<'_>) -> std::result::Result<IndexPart, Malformed> {
    let kind = r.u8()?;
    if kind < 2 {
        let pointer = text(r)?;
        return Ok(if kind == 0 { IndexPart::Json(pointer) } else { IndexPart::JsonEach(pointer) });
    }
    let size = |r: &mut Reader<'_>| {
        usize::try_from(r.varint()?).map_err(|_| Malformed("a number is too large"))
    };
    let start = size(r)?;
    let end = if flag(r)? { Some(size(r)?) } else { None };
    match kind {
        2 => Ok(IndexPart::KeyBytes(start, end)),
        3 => Ok(IndexPart::ValueBytes(start, end)),
        _ => Err(Malformed("a part of an index is of no known kind")),
    }
}

fn flag(r: &mut Reader<'_>) -> std::result::Result<bool, Malformed> {
    match r.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed("a flag of an index is neither 0 nor 1")),
    }
}

fn text(r: &mut Reader<'_>) -> std::result::Result<String, Malformed> {
    String::from_utf8(r.bytes()?.to_vec()).map_err(|_| Malformed("a name is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<IndexSpec> {
        vec![
            IndexSpec::extractor("f").unique(),
            IndexSpec::json(""),
            IndexSpec::parse(&["json:/a/b", "each:/tags", "key", "key:1..", "value:0..4", "value"])
                .expect("parts")
                .unique(),
        ]
    }

    #[test]
    fn text_and_bytes_are_read_back() {
        for spec in samples() {
            let mut bytes = Vec::new();
            spec.encode(&mut bytes);
            let mut r = Reader::new(&bytes);
            assert_eq!(IndexSpec::decode(&mut r), Ok(spec.clone()));
            assert!(r.is_empty());
            if let IndexSource::Parts(parts) = spec.source() {
                for part in parts {
                    assert_eq!(part.to_string().parse::<IndexPart>().expect("reads"), *part);
                }
            }
            for cut in 0..bytes.len() {
                assert!(IndexSpec::decode(&mut Reader::new(&bytes[..cut])).is_err(), "{cut}");
            }
        }
    }

    #[test]
    fn hostile_bytes_and_wrong_text_are_errors() {
        let mut rng = fastrand::Rng::with_seed(13);
        for _ in 0..50_000 {
            let bytes: Vec<u8> = (0..rng.usize(0..24)).map(|_| rng.u8(0..6)).collect();
            if let Ok(spec) = IndexSpec::decode(&mut Reader::new(&bytes)) {
                assert_eq!(spec.check(), Ok(()));
            }
        }
        for text in ["", "json", "json:a", "key:4..2", "key:x..", "value:1", "other:/a", "key:1..1"]
        {
            let e = text.parse::<IndexPart>().expect_err(text);
            assert_eq!(e.kind(), ErrorKind::InvalidArgument);
        }
        assert!(IndexSpec::parse(&["each:/a", "each:/b"]).expect("parses").validate("x").is_err());
        assert!(IndexSpec::json("/a").validate("").is_err());
        assert!(IndexSpec::parts([]).validate("x").is_err());
    }
}
