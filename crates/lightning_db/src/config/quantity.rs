//! Sizes and durations as people write them: `"512MB"`, `"64MiB"`, `"10ms"`. No I/O.
//!
//! 1. `KB`, `MB`, `GB`, `TB` are powers of 1000; `KiB`, `MiB`, `GiB`, `TiB` are powers of 1024.
//! 2. Case does not matter, nor does a space between number and unit; a size without a unit is in
//!    bytes; a duration always has a unit (`us`, `ms`, `s`, `m`, `h`).
//! 3. Numbers are whole; one that does not fit 64 bits is an error, never a wrapped value.

use std::time::Duration;

/// The bytes that `text` stands for, or what is wrong with it.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text, "a size such as 4096, \"512MB\" or \"64MiB\"")?;
    let scale: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1000 * 1000,
        "gb" => 1000 * 1000 * 1000,
        "tb" => 1000 * 1000 * 1000 * 1000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => {
            return Err(format!(
                "`{unit}` is not a unit of size (B, KB, MB, GB, TB, KiB, MiB, GiB, TiB)"
            ));
        }
    };
    number.checked_mul(scale).ok_or_else(|| format!("`{text}` does not fit 64 bits"))
}

/// The time that `text` stands for, or what is wrong with it.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text, "a duration such as \"10ms\" or \"2s\"")?;
    let seconds = |scale: u64| {
        number
            .checked_mul(scale)
            .map(Duration::from_secs)
            .ok_or_else(|| format!("`{text}` does not fit 64 bits"))
    };
    match unit.to_ascii_lowercase().as_str() {
        "us" | "µs" => Ok(Duration::from_micros(number)),
        "ms" => Ok(Duration::from_millis(number)),
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(3600),
        "" => Err("a duration needs a unit (us, ms, s, m, h)".to_owned()),
        _ => Err(format!("`{unit}` is not a unit of time (us, ms, s, m, h)")),
    }
}

/// The whole number at the front, and the unit behind it.
fn split<'a>(text: &'a str, expected: &str) -> Result<(u64, &'a str), String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(format!("`{text}` is not {expected}"));
    }
    let number = number.parse().map_err(|_| format!("`{text}` does not fit 64 bits"))?;
    Ok((number, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_and_binary_units_differ() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            (" 17 b ", 17),
            ("1KB", 1000),
            ("1KiB", 1024),
            ("512MB", 512_000_000),
            ("64MiB", 64 << 20),
            ("2 gib", 2 << 30),
            ("3GB", 3_000_000_000),
            ("1TB", 1_000_000_000_000),
            ("1TiB", 1 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn sizes_that_mean_nothing_are_errors() {
        for text in
            ["", "MB", "-1", "1.5MB", "12 parsecs", "1 M", "99999999999999999999", "17000000TiB"]
        {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        for (text, time) in [
            ("250us", Duration::from_micros(250)),
            ("10ms", Duration::from_millis(10)),
            ("2 S", Duration::from_secs(2)),
            ("5m", Duration::from_secs(300)),
            ("1h", Duration::from_secs(3600)),
        ] {
            assert_eq!(parse_duration(text), Ok(time), "{text}");
        }
        for text in ["", "10", "ms", "-1s", "1.5s", "3 fortnights", "18446744073709551615h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
