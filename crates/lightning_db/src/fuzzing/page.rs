//! Pages: the envelope, and the payload of each type.
//!
//! Input: a byte (bit 0: make the checksum fit; bits 1 and 2: the type expected; bit 3: the rest
//! is an opened payload, not a stored page; bit 4: a dictionary is expected), then the page. Pages
//! packed with a dictionary are opened with that of the seeds. What passes for valid must be readable
//! to its last byte without a panic, and what was found must be found again.

use std::path::Path;

use std::sync::OnceLock;

use crate::compress::{Codec, Dictionary, Packer, decompress};
use crate::error::ErrorKind;
use crate::page::envelope::{self, PageIdentity};
use crate::page::filter::{FilterBuilder, page_may_contain};
use crate::page::inner::{Child, InnerBuilder, InnerView};
use crate::page::leaf::{LeafBuilder, LeafView};
use crate::page::{PageType, check_payload};
use crate::types::{
    BlobRef, DatabaseId, Entry, EntryValue, Expiry, PageAddress, SegmentId, Seq, hash_key,
};

const TYPES: [PageType; 4] = [PageType::Leaf, PageType::Inner, PageType::Filter, PageType::Blob];
const ID: PageIdentity =
    PageIdentity { database: DatabaseId([7; 16]), segment: SegmentId(3), offset: 64 };

fn file() -> &'static Path {
    Path::new("page")
}

pub(super) fn run(input: &[u8]) {
    let Some((how, rest)) = input.split_first() else { return };
    let ty = TYPES[usize::from(how >> 1 & 3)];
    let ty = if how & 16 != 0 { PageType::Dictionary } else { ty };
    if how & 8 != 0 {
        payload(ty, rest);
        return;
    }
    let mut stored = rest.to_vec();
    if how & 1 != 0 {
        envelope::repair(&mut stored, &ID);
    }
    let _ = envelope::claimed_len(&stored);
    let claims = envelope::claims_dictionary(&stored);
    if let Some(dictionary) = dictionary().filter(|_| claims) {
        assert!(
            envelope::open_borrowed(&stored, &ID, ty, file(), None).is_err(),
            "without its dictionary"
        );
        match envelope::open_vec(stored, &ID, ty, file(), None, Some(dictionary)) {
            Ok(raw) => payload(ty, &raw),
            Err(e) => refused(e.kind()),
        }
        return;
    }
    match envelope::open_borrowed(&stored, &ID, ty, file(), None) {
        Ok(raw) => {
            let owned = envelope::open_vec(stored.clone(), &ID, ty, file(), None, None);
            assert_eq!(owned.ok().as_deref(), Some(&*raw));
            payload(ty, &raw);
        }
        Err(e) => refused(e.kind()),
    }
}

fn refused(kind: ErrorKind) {
    assert!(matches!(kind, ErrorKind::Corrupt | ErrorKind::UnsupportedFormat), "{kind:?}");
}

fn payload(ty: PageType, bytes: &[u8]) {
    if let Err(e) = check_payload(ty, bytes, file(), 64) {
        refused(e.kind());
        return;
    }
    match ty {
        PageType::Leaf => leaf(&LeafView::new(bytes)),
        PageType::Inner => inner(&InnerView::new(bytes)),
        PageType::Filter => {
            for n in 0..64_u64 {
                let _ = page_may_contain(bytes, n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            }
        }
        PageType::Blob => {}
        PageType::Dictionary => {
            if let Ok(dictionary) = Dictionary::new(bytes.to_vec()) {
                let raw = b"key01key02key03key01key02key03";
                let mut out = Vec::new();
                let packing = Codec::ZstdDictionary.into();
                let used = Packer::with_dictionary(&dictionary, 3).pack(packing, raw, &mut out);
                if let Ok(back) = decompress(used, &out, raw.len(), Some(&dictionary)) {
                    assert_eq!(back, raw);
                }
            }
        }
    }
}

/// A dictionary of leaves like those of the seeds; `None` where Zstandard is not built in.
fn dictionary() -> Option<&'static Dictionary> {
    static TRAINED: OnceLock<Option<Dictionary>> = OnceLock::new();
    let train = || {
        let samples: Vec<Vec<u8>> = (0..60_u8)
            .map(|n| {
                let mut leaf = LeafBuilder::new();
                for i in 0..30_u8 {
                    let value = [n.wrapping_mul(7) ^ i; 9];
                    leaf.push(format!("key{i:02}").as_bytes(), Seq(0), EntryValue::Inline(&value));
                }
                let mut raw = Vec::new();
                leaf.finish(&mut raw);
                raw
            })
            .collect();
        Dictionary::train(&samples, 1024)
    };
    TRAINED.get_or_init(train).as_ref()
}

fn leaf(view: &LeafView<'_>) {
    let tags_hold = view.check_tags().is_ok();
    for i in 0..view.len() {
        let key = view.key(i);
        let _ = (view.seq(i), view.expiry(i), view.value_range(i));
        if let EntryValue::Blob(blob) = view.value(i) {
            assert_eq!(BlobRef::decode(&blob.encode()), blob);
        }
        let found = view.find(key, hash_key(key));
        if tags_hold {
            let at = found.expect("a key of the page is found");
            assert!(at <= i && view.key(at) == key);
        }
        let bound = view.lower_bound(key);
        assert!(bound <= i && view.key(bound) == key, "keys are in order");
    }
    assert!(view.lower_bound(b"") <= view.len());
    let _ = view.find(b"absent", hash_key(b"absent"));
}

fn inner(view: &InnerView<'_>) {
    assert_ne!(view.len(), 0);
    for i in 0..view.len() {
        let _ = view.child(i);
        let separator = view.separator(i);
        let at = view.child_for(separator);
        assert!(at == i || (i == 0 && at < view.len()), "child {at} for the separator of {i}");
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    let mut leaf = LeafBuilder::new();
    for i in 0..30_u8 {
        let value = match i % 5 {
            0 => EntryValue::Tombstone,
            _ => EntryValue::Inline(&[i; 9][..usize::from(i % 9)]),
        };
        leaf.push(format!("key{i:02}").as_bytes(), Seq(u64::from(i % 3)), value);
    }
    let blob = BlobRef {
        segment: SegmentId(9),
        offset: 64,
        stored_bytes: 99,
        value_bytes: 70,
        checksum: 5,
    };
    leaf.push(b"large", Seq(0), EntryValue::Blob(blob));
    let mut raw = Vec::new();
    leaf.finish(&mut raw);
    let leaf_raw = raw.clone();
    payloads.push((PageType::Leaf, raw));
    let mut single = LeafBuilder::new();
    single.push(b"k", Seq(0), EntryValue::Inline(b"v"));
    let mut raw = Vec::new();
    single.finish(&mut raw);
    payloads.push((PageType::Leaf, raw));
    let mut ending = LeafBuilder::new();
    for (key, expiry) in [(b"a", Expiry(1)), (b"b", Expiry::NEVER), (b"c", Expiry::LAST)] {
        ending.push(key, Seq(0), Entry { value: EntryValue::Inline(b"v"), expiry });
    }
    let mut raw = Vec::new();
    ending.finish(&mut raw);
    payloads.push((PageType::Leaf, raw));
    let mut inner = InnerBuilder::new();
    for i in 0..9_u8 {
        let n = u64::from(i);
        inner.push(&Child {
            separator: if i == 0 { Vec::new() } else { format!("key{i:02}x").into_bytes() },
            address: PageAddress {
                segment: SegmentId(n / 4),
                offset: 64 + n * 100,
                stored_bytes: 100,
                checksum: 77 * u32::from(i),
            },
            max_seq: Seq(n),
            min_expiry: u64::MAX,
            entries: 10 + n,
            tombstones: n,
            raw_bytes: 300,
            bytes: 100,
        });
    }
    let mut raw = Vec::new();
    inner.finish(&mut raw);
    payloads.push((PageType::Inner, raw));
    let mut filter = FilterBuilder::new();
    (0..40_u64).for_each(|n| filter.add(n.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    payloads.extend(filter.pages().into_iter().map(|raw| (PageType::Filter, raw)));
    payloads.push((PageType::Blob, vec![5; 300]));
    let mut seeds = Vec::new();
    for (ty, raw) in payloads {
        let ty_bits = TYPES.iter().position(|t| *t == ty).expect("all four") as u8 * 2;
        seeds.push([&[ty_bits | 8], raw.as_slice()].concat());
        for codec in Codec::ALL.into_iter().filter(|c| c.is_built_in()) {
            for repaired in [0, 1] {
                let mut seed = vec![ty_bits | repaired];
                envelope::seal(&mut seed, &ID, ty, &raw, codec.into(), &mut Packer::default());
                seeds.push(seed);
            }
        }
    }
    if let Some(dictionary) = dictionary() {
        let packing = Codec::ZstdDictionary.into();
        let mut packer = Packer::with_dictionary(dictionary, 3);
        for repaired in [0, 1] {
            let mut seed = vec![repaired];
            let sealed =
                envelope::seal(&mut seed, &ID, PageType::Leaf, &leaf_raw, packing, &mut packer);
            assert_eq!(sealed.codec, Codec::ZstdDictionary);
            seeds.push(seed);
            let mut seed = vec![16 | repaired];
            let (ty, raw) = (PageType::Dictionary, dictionary.bytes());
            envelope::seal(&mut seed, &ID, ty, raw, Codec::None.into(), &mut packer);
            seeds.push(seed);
        }
        seeds.push([&[16 | 8], dictionary.bytes()].concat());
    }
    seeds.sort();
    seeds.dedup();
    seeds
}
