//! Packs payloads, one after another, and keeps what a codec needs between them: Zstandard's
//! context is a few hundred KiB, and making one takes longer than packing a page.
//!
//! 1. What does not save at least one byte in sixteen is given back plain: opening a page costs
//!    time each time.
//! 2. Whatever happens, what comes out can be unpacked by this build: a codec that is not built in
//!    packs nothing.

use super::codec::{Codec, Packing};
use super::dictionary::Dictionary;

/// See the module. Made once for many pages; one thread at a time.
#[derive(Default)]
pub struct Packer {
    #[cfg(feature = "zstd")]
    zstd: Option<zstd_safe::CCtx<'static>>,
    #[cfg(feature = "zstd")]
    dictionary: Option<zstd_safe::CDict<'static>>,
    #[cfg(feature = "snappy")]
    snappy: Option<Box<snap::raw::Encoder>>,
}

impl Packer {
    /// A packer that knows [`Codec::ZstdDictionary`] too, at `level`.
    #[cfg(feature = "zstd")]
    pub fn with_dictionary(dictionary: &Dictionary, level: i32) -> Self {
        let dictionary = zstd_safe::CDict::try_create(dictionary.bytes(), level);
        Self { dictionary, ..Self::default() }
    }

    /// A packer as any other: there are no dictionaries in this build.
    #[cfg(not(feature = "zstd"))]
    pub fn with_dictionary(_: &Dictionary, _: i32) -> Self {
        Self::default()
    }

    /// Appends `raw`, packed, to `out`, and says which codec was used in the end: the one asked
    /// for, or none.
    pub fn pack(&mut self, packing: Packing, raw: &[u8], out: &mut Vec<u8>) -> Codec {
        let start = out.len();
        let worth = raw.len() - raw.len() / 16;
        match self.try_pack(packing, raw, out) {
            Some(len) if len < worth => {
                out.truncate(start + len);
                packing.codec
            }
            _ => {
                out.truncate(start);
                out.extend_from_slice(raw);
                Codec::None
            }
        }
    }

    /// The length of what was packed behind the end of `out`, which is made longer than needed.
    #[cfg_attr(
        not(any(feature = "lz4", feature = "zstd", feature = "snappy")),
        allow(unused_variables, clippy::ptr_arg, reason = "packs nothing")
    )]
    #[cfg_attr(
        not(any(feature = "zstd", feature = "snappy")),
        allow(clippy::unused_self, reason = "LZ4 keeps nothing")
    )]
    fn try_pack(&mut self, packing: Packing, raw: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        match packing.codec {
            Codec::None => None,
            #[cfg(feature = "lz4")]
            Codec::Lz4 => {
                let room = room(out, lz4_flex::block::get_maximum_output_size(raw.len()));
                lz4_flex::block::compress_into(raw, room).ok()
            }
            #[cfg(feature = "zstd")]
            Codec::Zstd => {
                let room = room(out, zstd_safe::compress_bound(raw.len()));
                let context = self.zstd.get_or_insert_with(zstd_safe::CCtx::create);
                context.compress(room, raw, packing.level).ok()
            }
            #[cfg(feature = "zstd")]
            Codec::ZstdDictionary => {
                let dictionary = self.dictionary.as_ref()?;
                let room = room(out, zstd_safe::compress_bound(raw.len()));
                let context = self.zstd.get_or_insert_with(zstd_safe::CCtx::create);
                context.compress_using_cdict(room, raw, dictionary).ok()
            }
            #[cfg(feature = "snappy")]
            Codec::Snappy => {
                let room = room(out, snap::raw::max_compress_len(raw.len()));
                let encoder =
                    self.snappy.get_or_insert_with(|| Box::new(snap::raw::Encoder::new()));
                encoder.compress(raw, room).ok()
            }
            #[cfg(not(all(feature = "lz4", feature = "zstd", feature = "snappy")))]
            _ => None,
        }
    }
}

/// `len` more bytes behind those of `out`.
#[cfg(any(feature = "lz4", feature = "zstd", feature = "snappy"))]
fn room(out: &mut Vec<u8>, len: usize) -> &mut [u8] {
    let start = out.len();
    out.resize(start + len, 0);
    &mut out[start..]
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compress::decompress;

    #[test]
    fn bytes_come_back_as_they_went_in() {
        let mut rng = fastrand::Rng::with_seed(11);
        let mut packer = Packer::default();
        for len in [0usize, 1, 7, 16, 100, 4096, 70_000] {
            for alphabet in [1u8, 4, 255] {
                let raw: Vec<u8> = (0..len).map(|_| rng.u8(..alphabet)).collect();
                let levels = [-7, 1, 9, 22].map(|level| Packing::new(Codec::Zstd, Some(level)));
                for packing in Codec::ALL.map(Packing::from).into_iter().chain(levels) {
                    let mut out = b"before".to_vec();
                    let used = packer.pack(packing, &raw, &mut out);
                    assert!(used == packing.codec || used == Codec::None);
                    assert_eq!(&out[..6], b"before");
                    assert!(out.len() - 6 <= raw.len(), "never longer than plain");
                    assert_eq!(decompress(used, &out[6..], raw.len(), None), Ok(raw.clone()));
                }
            }
        }
    }

    #[test]
    fn only_what_shrinks_is_compressed() {
        let mut rng = fastrand::Rng::with_seed(12);
        let noise: Vec<u8> = (0..4096).map(|_| rng.u8(..)).collect();
        let mut packer = Packer::default();
        for codec in [Codec::Lz4, Codec::Zstd, Codec::Snappy] {
            assert_eq!(packer.pack(codec.into(), &noise, &mut Vec::new()), Codec::None);
            let mut out = Vec::new();
            assert_eq!(packer.pack(codec.into(), &[7; 4096], &mut out), codec);
            assert!(out.len() < 300, "{codec:?}: {}", out.len());
        }
    }

    #[test]
    fn a_higher_level_packs_tighter() {
        let words = (0..900).map(|i| format!("{}, {};", i * 37 % 1000, i % 7));
        let text = words.collect::<Vec<_>>().concat();
        let mut packer = Packer::default();
        let mut packed = |level| {
            let mut out = Vec::new();
            packer.pack(Packing::new(Codec::Zstd, Some(level)), text.as_bytes(), &mut out);
            out.len()
        };
        assert!(packed(19) < packed(1) && packed(1) < packed(-7));
    }

    /// Codecs alone, without a database around them: ratio and speed on a file of one's own, cut
    /// into pages. `LIGHTNING_CODEC_FILE=FILE cargo test --release -p lightning_db --lib
    /// packer::tests::speed -- --ignored --nocapture`
    #[test]
    #[ignore = "measurement, run by hand"]
    fn speed() {
        let file = std::env::var("LIGHTNING_CODEC_FILE").expect("the path of a file");
        let data = std::fs::read(file).expect("a file");
        let pages: Vec<&[u8]> = data.chunks(4096).collect();
        let samples: Vec<Vec<u8>> = pages.iter().step_by(10).map(|p| p.to_vec()).collect();
        let dictionary = Dictionary::train(&samples, 32 << 10);
        let zstd = |codec| [-5, 1, 3, 9, 19].map(|level| Packing::new(codec, Some(level)));
        let all = [Codec::Lz4, Codec::Snappy].map(Packing::from).into_iter();
        for packing in all.chain(zstd(Codec::Zstd)).chain(zstd(Codec::ZstdDictionary)) {
            let mut packer = match &dictionary {
                Some(d) => Packer::with_dictionary(d, packing.level),
                None => Packer::default(),
            };
            let started = std::time::Instant::now();
            let pack = |page: &&[u8]| {
                let mut out = Vec::new();
                (packer.pack(packing, page, &mut out), out)
            };
            let packed: Vec<(Codec, Vec<u8>)> = pages.iter().map(pack).collect();
            let pack_time = started.elapsed().as_secs_f64();
            let started = std::time::Instant::now();
            for ((used, bytes), page) in packed.iter().zip(&pages) {
                let raw = decompress(*used, bytes, page.len(), dictionary.as_ref());
                assert_eq!(raw.as_deref(), Ok(*page));
            }
            let unpack_time = started.elapsed().as_secs_f64();
            let stored: usize = packed.iter().map(|(_, bytes)| bytes.len()).sum();
            let rate = |time: f64| data.len() as f64 / 1e6 / time;
            println!(
                "{packing:?}: ratio {:.2}, pack {:.0} MB/s, unpack {:.0} MB/s",
                data.len() as f64 / stored as f64,
                rate(pack_time),
                rate(unpack_time)
            );
        }
    }
}
