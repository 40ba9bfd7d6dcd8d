//! The codecs: their bytes on disk, which of them this build has, and their levels.
//!
//! 1. The byte of a codec, once given, keeps its meaning; bytes not listed here are refused.
//! 2. A codec that is not built in is still known: what needs it is refused with its name and the
//!    Cargo feature that brings it, and is never taken for damage.
//!
//! LZ4 is the block format, without a length in front (the page's envelope holds it); Snappy is its
//! raw format; Zstandard is one frame with its length, without a checksum (the page has one), and
//! with the dictionary's id where there is one.

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
    /// Zstandard: smaller, slower.
    Zstd = 2,
    /// Snappy: close to LZ4.
    Snappy = 3,
    /// Zstandard with the dictionary of the page's segment.
    ZstdDictionary = 4,
}

impl Codec {
    /// Every codec that needs nothing beside a page.
    pub const ALL: [Self; 4] = [Self::None, Self::Lz4, Self::Zstd, Self::Snappy];

    /// The byte that stands for this codec on disk.
    pub fn as_byte(self) -> u8 {
        self as u8
    }

    /// The codec a byte on disk stands for, built in or not.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().chain([Self::ZstdDictionary]).find(|codec| codec.as_byte() == byte)
    }

    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "no codec",
            Self::Lz4 => "LZ4",
            Self::Zstd => "Zstandard",
            Self::Snappy => "Snappy",
            Self::ZstdDictionary => "Zstandard with a dictionary",
        }
    }

    /// Whether this build can pack and unpack with it.
    pub fn is_built_in(self) -> bool {
        #[cfg(test)]
        if LACKING.get() == Some(self) {
            return false;
        }
        match self {
            Self::None => true,
            Self::Lz4 => cfg!(feature = "lz4"),
            Self::Zstd | Self::ZstdDictionary => cfg!(feature = "zstd"),
            Self::Snappy => cfg!(feature = "snappy"),
        }
    }

    /// What a build without it says.
    pub fn lacking(self) -> String {
        let feature = match self {
            Self::None => "",
            Self::Lz4 => "lz4",
            Self::Zstd | Self::ZstdDictionary => "zstd",
            Self::Snappy => "snappy",
        };
        format!("{}, which this build lacks: build with the Cargo feature `{feature}`", self.name())
    }

    /// Whether `level` is one of this codec's; the error says which are.
    pub fn check_level(self, level: i32) -> Result<(), String> {
        match self {
            Self::Zstd if level != 0 && ZSTD_LEVELS.contains(&level) => Ok(()),
            Self::Zstd => Err(format!(
                "must be from {} to -1 or from 1 to {} for Zstandard; it is {level}",
                ZSTD_LEVELS.start(),
                ZSTD_LEVELS.end()
            )),
            _ => {
                Err(format!("is for Zstandard only, {} has no levels; it is {level}", self.name()))
            }
        }
    }
}

#[cfg(test)]
thread_local! {
    /// A codec that this thread's build is said to lack, to see what it does then.
    pub static LACKING: std::cell::Cell<Option<Codec>> = const { std::cell::Cell::new(None) };
}

/// Zstandard's own, cut below where pages hardly shrink any more.
const ZSTD_LEVELS: std::ops::RangeInclusive<i32> = -7..=22;
/// Zstandard's own default.
const ZSTD_DEFAULT_LEVEL: i32 = 3;

/// A codec and how hard it tries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packing {
    /// The codec.
    pub codec: Codec,
    /// Its level; 0 where it has none.
    pub level: i32,
}

impl Packing {
    /// `codec` at `level`, or at its own default.
    pub fn new(codec: Codec, level: Option<i32>) -> Self {
        let default = if codec == Codec::Zstd { ZSTD_DEFAULT_LEVEL } else { 0 };
        Self { codec, level: level.unwrap_or(default) }
    }
}

impl From<Codec> for Packing {
    fn from(codec: Codec) -> Self {
        Self::new(codec, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_codec_bytes_are_not_guessed() {
        for byte in 0..=255u8 {
            match Codec::from_byte(byte) {
                Some(codec) => assert_eq!(codec.as_byte(), byte),
                None => assert!(byte > 4),
            }
        }
    }

    #[test]
    fn levels_are_zstandards_alone() {
        for level in [-7, -1, 1, 3, 22] {
            assert_eq!(Codec::Zstd.check_level(level), Ok(()));
            for other in [Codec::None, Codec::Lz4, Codec::Snappy] {
                assert!(other.check_level(level).is_err_and(|why| why.contains("no levels")));
            }
        }
        for level in [-8, 0, 23, i32::MIN, i32::MAX] {
            assert!(Codec::Zstd.check_level(level).is_err_and(|why| why.contains("1 to 22")));
        }
        assert_eq!(Packing::from(Codec::Zstd).level, 3);
        assert_eq!(Packing::new(Codec::Zstd, Some(-3)).level, -3);
    }
}
