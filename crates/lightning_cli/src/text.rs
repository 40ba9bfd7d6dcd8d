//! Bytes as text, both ways: escapes for people, hexadecimal and JSON for programs.
//!
//! 1. Printable UTF-8 is shown as it is.
//! 2. Anything else has its unprintable bytes as `\xNN` and its backslashes doubled.
//! 3. In JSON a field `key` holds text, `key_hex` holds bytes that are no text; so nothing is lost.

use std::fmt::Write;

use serde_json::{Map, Value};

/// Bytes for people to read; see the head of the file.
pub fn printable(bytes: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(bytes)
        && !text.chars().any(char::is_control)
    {
        return text.to_owned();
    }
    let mut out = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                c if c.is_control() => {
                    let mut buffer = [0; 4];
                    escape(&mut out, c.encode_utf8(&mut buffer).as_bytes());
                }
                c => out.push(c),
            }
        }
        escape(&mut out, chunk.invalid());
    }
    out
}

fn escape(out: &mut String, bytes: &[u8]) {
    for b in bytes {
        write!(out, "\\x{b:02X}").expect("a string takes any text");
    }
}

/// Bytes in lower-case hexadecimal.
pub fn to_hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 * bytes.len());
    for b in bytes {
        write!(out, "{b:02x}").expect("a string takes any text");
    }
    out
}

/// The bytes of a hexadecimal text, of either case; or what is wrong with it.
pub fn from_hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u8> = text
        .chars()
        .map(|c| c.to_digit(16).map(|d| d as u8))
        .collect::<Option<_>>()
        .ok_or("not hexadecimal: only 0-9, a-f and A-F are digits")?;
    if !digits.len().is_multiple_of(2) {
        return Err("not hexadecimal: an odd number of digits".to_owned());
    }
    Ok(digits.chunks_exact(2).map(|d| d[0] << 4 | d[1]).collect())
}

/// Puts `bytes` into a JSON object as `name`, or as `name_hex` where asked or needed.
pub fn put_field(object: &mut Map<String, Value>, name: &str, bytes: &[u8], hex: bool) {
    match std::str::from_utf8(bytes) {
        Ok(text) if !hex => object.insert(name.to_owned(), text.into()),
        _ => object.insert(format!("{name}_hex"), to_hex(bytes).into()),
    };
}

/// Takes the bytes that [`put_field`] put; or what is wrong.
pub fn take_field(object: &mut Map<String, Value>, name: &str) -> Result<Vec<u8>, String> {
    let hex_name = format!("{name}_hex");
    match (object.remove(name), object.remove(&hex_name)) {
        (Some(Value::String(text)), None) => Ok(text.into_bytes()),
        (None, Some(Value::String(text))) => {
            from_hex(&text).map_err(|e| format!("{hex_name}: {e}"))
        }
        (None, None) => Err(format!("neither `{name}` nor `{hex_name}`")),
        (Some(_), Some(_)) => Err(format!("both `{name}` and `{hex_name}`")),
        _ => Err(format!("`{name}` is not a string")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_text_is_shown_as_it_is_and_bytes_are_escaped() {
        for (bytes, shown) in [
            (&b"plain"[..], "plain"),
            ("naïve \u{1F980}".as_bytes(), "naïve \u{1F980}"),
            (b"C:\\dir", "C:\\dir"),
            (b"a\tb\\", "a\\x09b\\\\"),
            (b"\xFF\xFF\xFF\xFF", "\\xFF\\xFF\\xFF\\xFF"),
            (b"ok\xC3", "ok\\xC3"),
            ("\u{85}".as_bytes(), "\\xC2\\x85"),
            (b"", ""),
        ] {
            assert_eq!(printable(bytes), shown);
        }
    }

    #[test]
    fn hexadecimal_round_trips_and_refuses_the_rest() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(from_hex(&to_hex(&all)), Ok(all.clone()));
        assert_eq!(from_hex(&to_hex(&all).to_uppercase()), Ok(all));
        for text in ["0", "0g", "+1", "é0", "0x00"] {
            assert!(from_hex(text).is_err(), "{text}");
        }
    }

    #[test]
    fn json_fields_keep_every_byte() {
        for bytes in [&b"text"[..], b"\xFF\x00", b"", "\u{1F980}".as_bytes()] {
            for hex in [false, true] {
                let mut object = Map::new();
                put_field(&mut object, "key", bytes, hex);
                assert_eq!(take_field(&mut object, "key").as_deref(), Ok(bytes));
                assert!(object.is_empty());
            }
        }
        for text in ["{}", r#"{"key":1}"#, r#"{"key":"a","key_hex":"61"}"#, r#"{"key_hex":"6"}"#] {
            let mut object = serde_json::from_str(text).expect("an object");
            assert!(take_field(&mut object, "key").is_err(), "{text}");
        }
    }
}
