//! Unpacks payloads.
//!
//! 1. Exactly the length that was asked for comes out, in memory of that length; a payload that
//!    would give more or less is malformed. Callers bound the length first.
//! 2. No other memory is taken on the word of a payload: Zstandard unpacks in one step, without a
//!    window of its own.
//!
//! Threads: any. Zstandard's context, some 150 KiB, is kept by each thread that reads.

use super::codec::Codec;
use super::dictionary::Dictionary;
use crate::codec::Malformed;

const WRONG_LENGTH: Malformed = Malformed("a payload has another length than its header says");
#[cfg(any(feature = "lz4", feature = "zstd", feature = "snappy"))]
const DOES_NOT_UNPACK: Malformed = Malformed("a payload does not decompress");

/// The `raw_bytes` bytes that [`Packer::pack`](super::Packer::pack) was given.
///
/// # Errors
/// Where that is not what comes out, where `codec` needs a dictionary and it is not this one, and
/// where `codec` is not built in: callers ask beforehand.
#[cfg_attr(not(feature = "zstd"), allow(unused_variables, reason = "there are none then"))]
pub fn decompress(
    codec: Codec,
    payload: &[u8],
    raw_bytes: usize,
    dictionary: Option<&Dictionary>,
) -> Result<Vec<u8>, Malformed> {
    match codec {
        Codec::None if payload.len() == raw_bytes => Ok(payload.to_vec()),
        Codec::None => Err(WRONG_LENGTH),
        #[cfg(feature = "lz4")]
        Codec::Lz4 => {
            let unpack = |raw: &mut [u8]| lz4_flex::block::decompress_into(payload, raw).ok();
            exactly(raw_bytes, unpack)
        }
        #[cfg(feature = "zstd")]
        Codec::Zstd => {
            exactly(raw_bytes, |raw| with_context(|context| context.decompress(raw, payload).ok()))
        }
        #[cfg(feature = "zstd")]
        Codec::ZstdDictionary => {
            let lacks = Malformed("a page needs a dictionary that its segment does not have");
            let dictionary = dictionary.ok_or(lacks)?.unpacking();
            exactly(raw_bytes, |raw| {
                with_context(|c| c.decompress_using_ddict(raw, payload, dictionary).ok())
            })
        }
        #[cfg(feature = "snappy")]
        Codec::Snappy => {
            if snap::raw::decompress_len(payload).ok() != Some(raw_bytes) {
                return Err(WRONG_LENGTH);
            }
            exactly(raw_bytes, |raw| snap::raw::Decoder::new().decompress(payload, raw).ok())
        }
        #[cfg(not(all(feature = "lz4", feature = "zstd", feature = "snappy")))]
        _ => Err(Malformed("a payload is packed by a codec that this build lacks")),
    }
}

/// What `unpack` writes, if that fills `raw_bytes`.
#[cfg(any(feature = "lz4", feature = "zstd", feature = "snappy"))]
fn exactly(
    raw_bytes: usize,
    unpack: impl FnOnce(&mut [u8]) -> Option<usize>,
) -> Result<Vec<u8>, Malformed> {
    let mut raw = vec![0; raw_bytes];
    match unpack(&mut raw) {
        Some(n) if n == raw_bytes => Ok(raw),
        Some(_) => Err(WRONG_LENGTH),
        None => Err(DOES_NOT_UNPACK),
    }
}

#[cfg(feature = "zstd")]
fn with_context<R>(f: impl FnOnce(&mut zstd_safe::DCtx<'static>) -> R) -> R {
    use std::cell::RefCell;
    use zstd_safe::DCtx;
    thread_local! {
        static CONTEXT: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
    }
    let mut f = Some(f);
    let mut run = |context: &mut DCtx<'static>| f.take().map(|f| f(context));
    // A thread that is ending has none any more.
    match CONTEXT.try_with(|context| run(&mut context.borrow_mut())) {
        Ok(done) => done,
        Err(_) => run(&mut DCtx::create()),
    }
    .expect("run once, by one of both")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compress::Packer;

    const PACKED: [Codec; 3] = [Codec::Lz4, Codec::Zstd, Codec::Snappy];

    fn packed(codec: Codec, raw: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        assert_eq!(Packer::default().pack(codec.into(), raw, &mut out), codec);
        out
    }

    #[test]
    fn a_bomb_is_bounded_by_the_length_asked_for() {
        for codec in PACKED {
            let bomb = packed(codec, &vec![0; 1 << 20]);
            for asked in [0, 1, 4096, (1 << 20) - 1, (1 << 20) + 1] {
                assert!(decompress(codec, &bomb, asked, None).is_err(), "{codec:?} {asked}");
            }
            assert!(decompress(codec, &bomb, 1 << 20, None).is_ok());
        }
        assert!(decompress(Codec::None, &[1, 2, 3], 2, None).is_err());
    }

    /// Two frames are as valid for Zstandard as one; the length of both together is what counts.
    #[test]
    fn what_is_added_behind_a_payload_counts() {
        for codec in PACKED {
            let one = packed(codec, &[5; 500]);
            assert!(
                decompress(codec, &[&one[..], &one[..]].concat(), 500, None).is_err(),
                "{codec:?}"
            );
        }
    }

    #[test]
    fn hostile_payloads_are_errors_or_bytes_of_the_length_asked_for() {
        let mut rng = fastrand::Rng::with_seed(13);
        let raw: Vec<u8> = (0..3000).map(|i| (i / 10) as u8).collect();
        for codec in PACKED {
            let good = packed(codec, &raw);
            let mut refused = 0;
            for _ in 0..20_000 {
                let mut bad = good.clone();
                for _ in 0..rng.usize(1..4) {
                    let at = rng.usize(..bad.len());
                    bad[at] = rng.u8(..);
                }
                bad.truncate(rng.usize(..=bad.len()));
                match decompress(codec, &bad, raw.len(), None) {
                    Ok(bytes) => assert_eq!(bytes.len(), raw.len()),
                    Err(_) => refused += 1,
                }
            }
            assert!(refused > 1000);
        }
    }
}
