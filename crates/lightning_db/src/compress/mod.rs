//! Compression of page payloads: which codecs there are, and a bounded way in and out.
//!
//! 1. The byte of a codec, once given, keeps its meaning; bytes not listed here are refused.
//! 2. Decompression writes exactly the length that was asked for, into memory of that length; a
//!    payload that would give more or less is malformed. Callers bound the length first.
//!
//! No I/O, no threads. LZ4 is the block format, without a length in front (the page's envelope
//! holds it), by the `lz4_flex` crate.

use crate::codec::Malformed;

/// How a page's payload is compressed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
#[repr(u8)]
pub enum Codec {
    /// As it is.
    #[default]
    None = 0,
    /// LZ4 blocks: fast both ways.
    Lz4 = 1,
}

impl Codec {
    /// The byte that stands for this codec on disk. 2 and 3 are kept for Zstandard and Snappy.
    pub fn as_byte(self) -> u8 {
        self as u8
    }

    /// The codec a byte on disk stands for; `None` where this build does not know it.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::None),
            1 => Some(Self::Lz4),
            _ => None,
        }
    }
}

/// Appends `raw`, compressed, to `out`, and says which codec was used in the end: plain, unless
/// compressing saves at least one byte in sixteen, since opening a page costs time each time.
pub fn compress(codec: Codec, raw: &[u8], out: &mut Vec<u8>) -> Codec {
    let start = out.len();
    match codec {
        Codec::None => {}
        Codec::Lz4 => {
            out.resize(start + lz4_flex::block::get_maximum_output_size(raw.len()), 0);
            let worth = raw.len() - raw.len() / 16;
            if let Ok(n) = lz4_flex::block::compress_into(raw, &mut out[start..])
                && n < worth
            {
                out.truncate(start + n);
                return codec;
            }
            out.truncate(start);
        }
    }
    out.extend_from_slice(raw);
    Codec::None
}

/// The `raw_bytes` bytes that [`compress`] was given.
pub fn decompress(codec: Codec, payload: &[u8], raw_bytes: usize) -> Result<Vec<u8>, Malformed> {
    const WRONG_LENGTH: Malformed = Malformed("a payload has another length than its header says");
    match codec {
        Codec::None if payload.len() == raw_bytes => Ok(payload.to_vec()),
        Codec::None => Err(WRONG_LENGTH),
        Codec::Lz4 => {
            let mut raw = vec![0; raw_bytes];
            match lz4_flex::block::decompress_into(payload, &mut raw) {
                Ok(n) if n == raw_bytes => Ok(raw),
                Ok(_) => Err(WRONG_LENGTH),
                Err(_) => Err(Malformed("a payload does not decompress")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_as_they_went_in() {
        let mut rng = fastrand::Rng::with_seed(11);
        for len in [0usize, 1, 7, 16, 100, 4096, 70_000] {
            for alphabet in [1u8, 4, 255] {
                let raw: Vec<u8> = (0..len).map(|_| rng.u8(..alphabet)).collect();
                for codec in [Codec::None, Codec::Lz4] {
                    let mut out = b"before".to_vec();
                    let used = compress(codec, &raw, &mut out);
                    assert_eq!(&out[..6], b"before");
                    assert!(out.len() - 6 <= raw.len(), "never longer than plain");
                    assert_eq!(decompress(used, &out[6..], raw.len()), Ok(raw.clone()));
                }
            }
        }
    }

    #[test]
    fn only_what_shrinks_is_compressed() {
        let mut rng = fastrand::Rng::with_seed(12);
        let noise: Vec<u8> = (0..4096).map(|_| rng.u8(..)).collect();
        assert_eq!(compress(Codec::Lz4, &noise, &mut Vec::new()), Codec::None);
        let mut out = Vec::new();
        assert_eq!(compress(Codec::Lz4, &[7; 4096], &mut out), Codec::Lz4);
        assert!(out.len() < 100);
    }

    #[test]
    fn a_bomb_is_bounded_by_the_length_asked_for() {
        let mut bomb = Vec::new();
        assert_eq!(compress(Codec::Lz4, &vec![0; 1 << 20], &mut bomb), Codec::Lz4);
        for asked in [0, 1, 4096, (1 << 20) - 1, (1 << 20) + 1] {
            assert!(decompress(Codec::Lz4, &bomb, asked).is_err(), "{asked}");
        }
        assert!(decompress(Codec::None, &[1, 2, 3], 2).is_err());
    }

    #[test]
    fn hostile_payloads_are_errors_or_bytes_of_the_length_asked_for() {
        let mut rng = fastrand::Rng::with_seed(13);
        let raw: Vec<u8> = (0..3000).map(|i| (i / 10) as u8).collect();
        let mut good = Vec::new();
        compress(Codec::Lz4, &raw, &mut good);
        let mut refused = 0;
        for _ in 0..20_000 {
            let mut bad = good.clone();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(..bad.len());
                bad[at] = rng.u8(..);
            }
            bad.truncate(rng.usize(..=bad.len()));
            match decompress(Codec::Lz4, &bad, raw.len()) {
                Ok(bytes) => assert_eq!(bytes.len(), raw.len()),
                Err(_) => refused += 1,
            }
        }
        assert!(refused > 1000);
    }

    #[test]
    fn unknown_codec_bytes_are_not_guessed() {
        for byte in 0..=255u8 {
            match Codec::from_byte(byte) {
                Some(codec) => assert_eq!(codec.as_byte(), byte),
                None => assert!(byte > 1),
            }
        }
    }
}
