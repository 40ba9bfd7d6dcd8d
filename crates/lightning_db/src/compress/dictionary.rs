//! Zstandard dictionaries: what small pages of one kind have in common, kept once.
//!
//! 1. A dictionary is one that Zstandard trained: with its id, which every frame packed with it
//!    names, so that another one in its place is met as an error.
//! 2. Equal dictionaries are held once, however many files carry them ([`Dictionaries`]).
//!
//! Bytes from disk are hostile like those of any page: what is not a dictionary is refused.

use std::sync::{Arc, Weak};

use crate::codec::Malformed;
use crate::sync::Mutex;

/// The longest dictionary there is; longer ones hardly help pages.
pub const MAX_DICTIONARY_BYTES: usize = 32 * 1024;
/// A shorter one would be all tables.
pub const MIN_DICTIONARY_BYTES: usize = 1024;

/// A dictionary, ready to unpack with.
#[cfg_attr(not(feature = "zstd"), allow(dead_code, reason = "there are none then"))]
pub struct Dictionary {
    bytes: Vec<u8>,
    #[cfg(feature = "zstd")]
    unpacking: zstd_safe::DDict<'static>,
}

impl Dictionary {
    /// Takes a dictionary in.
    #[cfg(feature = "zstd")]
    pub fn new(bytes: Vec<u8>) -> Result<Self, Malformed> {
        const NONE: Malformed = Malformed("a page is not a dictionary");
        if bytes.len() > MAX_DICTIONARY_BYTES || zstd_safe::get_dict_id_from_dict(&bytes).is_none()
        {
            return Err(NONE);
        }
        let unpacking = zstd_safe::DDict::try_create(&bytes).ok_or(NONE)?;
        Ok(Self { bytes, unpacking })
    }

    /// Takes a dictionary in.
    #[cfg(not(feature = "zstd"))]
    pub fn new(_: Vec<u8>) -> Result<Self, Malformed> {
        Err(Malformed("a dictionary is for a codec that this build lacks"))
    }

    /// What `samples` have in common, in at most `most_bytes`; `None` where that is too little.
    #[cfg(feature = "zstd")]
    pub fn train(samples: &[Vec<u8>], most_bytes: usize) -> Option<Self> {
        let mut bytes = vec![0; most_bytes.clamp(MIN_DICTIONARY_BYTES, MAX_DICTIONARY_BYTES)];
        let lengths: Vec<usize> = samples.iter().map(Vec::len).collect();
        let len = zstd_safe::train_from_buffer(&mut bytes[..], &samples.concat(), &lengths).ok()?;
        bytes.truncate(len);
        Self::new(bytes).ok()
    }

    /// What `samples` have in common.
    #[cfg(not(feature = "zstd"))]
    pub fn train(_: &[Vec<u8>], _: usize) -> Option<Self> {
        None
    }

    /// Its bytes, as they are stored.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// For the decoder.
    #[cfg(feature = "zstd")]
    pub(super) fn unpacking(&self) -> &zstd_safe::DDict<'static> {
        &self.unpacking
    }
}

impl std::fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dictionary").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

/// The dictionaries in use, so that files that carry equal ones share one.
#[derive(Debug, Default)]
pub struct Dictionaries(Mutex<Vec<Weak<Dictionary>>>);

impl Dictionaries {
    /// The one that is held already, if there is one equal to `dictionary`; `dictionary` else.
    pub fn share(&self, dictionary: Dictionary) -> Arc<Dictionary> {
        let mut held = self.0.lock();
        held.retain(|d| d.strong_count() > 0);
        let equal = held.iter().filter_map(Weak::upgrade).find(|d| d.bytes == dictionary.bytes);
        equal.unwrap_or_else(|| {
            let shared = Arc::new(dictionary);
            held.push(Arc::downgrade(&shared));
            shared
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compress::{Codec, Packer, Packing, decompress};

    fn samples(seed: u64) -> Vec<Vec<u8>> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let names = ["copper kettle", "walnut table", "marble bust", "linen curtain"];
        (0..200)
            .map(|_| {
                let line = |_| format!("<item>{}</item>{};", names[rng.usize(0..4)], rng.u16(..));
                (0..20).map(line).collect::<Vec<_>>().concat().into_bytes()
            })
            .collect()
    }

    #[test]
    fn small_payloads_shrink_more_with_what_they_have_in_common() {
        let samples = samples(1);
        let dictionary = Dictionary::train(&samples[..150], 4096).expect("trained");
        assert!(dictionary.bytes().len() <= 4096);
        let mut plain = Packer::default();
        let mut packer = Packer::with_dictionary(&dictionary, 3);
        let by = |codec| Packing::new(codec, Some(3));
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for raw in &samples[150..] {
            let start = with.len();
            let used = packer.pack(by(Codec::ZstdDictionary), raw, &mut with);
            assert_eq!(used, Codec::ZstdDictionary);
            let packed = &with[start..];
            assert_eq!(decompress(used, packed, raw.len(), Some(&dictionary)).as_ref(), Ok(raw));
            assert!(decompress(used, packed, raw.len() - 1, Some(&dictionary)).is_err());
            assert!(decompress(used, packed, raw.len() + 1, Some(&dictionary)).is_err());
            assert!(decompress(used, packed, raw.len(), None).is_err());
            plain.pack(by(Codec::Zstd), raw, &mut without);
        }
        assert!(with.len() * 10 < without.len() * 9, "{} {}", with.len(), without.len());
    }

    #[test]
    fn another_dictionary_is_an_error() {
        let ours = Dictionary::train(&samples(1), 4096).expect("trained");
        let raw = b"the same and the same and the same and the same again";
        let mut packed = Vec::new();
        let packing = Packing::new(Codec::ZstdDictionary, None);
        let used = Packer::with_dictionary(&ours, 3).pack(packing, raw, &mut packed);
        assert_eq!(used, Codec::ZstdDictionary);
        let mut other = samples(2);
        for sample in &mut other {
            sample.reverse();
        }
        let other = Dictionary::train(&other, 4096).expect("trained");
        assert!(decompress(used, &packed, raw.len(), Some(&other)).is_err());
        assert!(decompress(used, &packed, raw.len(), Some(&ours)).is_ok());
    }

    #[test]
    fn what_is_not_a_dictionary_is_refused() {
        let good = Dictionary::train(&samples(3), 2048).expect("trained").bytes().to_vec();
        let mut rng = fastrand::Rng::with_seed(4);
        let mut refused = 0;
        for _ in 0..2000 {
            let mut bad = good.clone();
            let at = rng.usize(0..200.min(bad.len()));
            bad[at] = rng.u8(..);
            bad.truncate(rng.usize(0..=bad.len()));
            refused += u32::from(Dictionary::new(bad).is_err());
        }
        assert!(refused > 200, "{refused}");
        for bytes in [Vec::new(), vec![0; 100], vec![7; MAX_DICTIONARY_BYTES + 1]] {
            assert!(Dictionary::new(bytes).is_err());
        }
        assert!(Dictionary::train(&[], 4096).is_none());
    }

    #[test]
    fn equal_dictionaries_are_held_once() {
        let all = Dictionaries::default();
        let bytes = Dictionary::train(&samples(5), 2048).expect("trained").bytes().to_vec();
        let new = |bytes: &[u8]| Dictionary::new(bytes.to_vec()).expect("a dictionary");
        let one = all.share(new(&bytes));
        assert!(Arc::ptr_eq(&one, &all.share(new(&bytes))));
        let other = Dictionary::train(&samples(6), 2048).expect("trained");
        assert!(!Arc::ptr_eq(&one, &all.share(other)));
        drop(one);
        all.share(new(&bytes));
        assert_eq!(all.0.lock().len(), 1, "those that nobody holds are forgotten");
    }
}
