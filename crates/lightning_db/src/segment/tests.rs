//! Tests of segments: on a real directory, and on a simulated disk that fails and rots.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::compress::{Codec, Dictionaries, Dictionary, PackCounts};
use crate::crypto::Owner;
use crate::error::{ErrorKind, Result};
use crate::limits::BLOB_CHUNK_BYTES;
use crate::page::PageType;
use crate::page::filter::FilterBuilder;
use crate::page::inner::{Child, InnerBuilder};
use crate::page::leaf::LeafBuilder;
use crate::types::{BlobRef, DatabaseId, EntryValue, KeyspaceId, PageAddress, SegmentId, Seq};
use crate::vfs::simulated::{FaultError, FaultRule, Operation};
use crate::vfs::{OpenMode, OsVfs, SimulatedVfs, Vfs};

const DB: DatabaseId = DatabaseId([6; 16]);
const OTHER_DB: DatabaseId = DatabaseId([7; 16]);
const ID: SegmentId = SegmentId(3);

/// A database directory on a file system.
struct Place {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
}

impl Place {
    fn new(vfs: Arc<dyn Vfs>, dir: &Path) -> Self {
        vfs.create_dir_all(&segment_dir(dir)).unwrap();
        Self { vfs, dir: dir.to_path_buf() }
    }

    fn simulated() -> (SimulatedVfs, Self) {
        let disk = SimulatedVfs::new(61);
        let place = Self::new(Arc::new(disk.clone()), Path::new("/db"));
        disk.sync_dir(Path::new("/db")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        (disk, place)
    }

    fn create(&self, id: SegmentId, kind: SegmentKind) -> SegmentWriter {
        SegmentWriter::create(
            &self.vfs,
            &self.dir,
            &Owner::plain(DB),
            id,
            kind,
            KeyspaceId(4),
            Codec::None,
        )
        .unwrap()
    }

    fn open(&self, id: SegmentId) -> Result<Segment> {
        Segment::open(&self.vfs, &self.dir, &Owner::plain(DB), id)
    }

    fn exists(&self, id: SegmentId) -> bool {
        self.vfs.exists(&segment_path(&self.dir, id)).unwrap()
    }
}

/// The same test on a real directory and on the simulated disk.
fn on_each_file_system(test: impl Fn(&Place)) {
    let dir = tempfile::tempdir().unwrap();
    test(&Place::new(Arc::new(OsVfs), dir.path()));
    test(&Place::simulated().1);
}

fn leaf(rng: &mut fastrand::Rng, entries: usize) -> Vec<u8> {
    let mut builder = LeafBuilder::new();
    for i in 0..entries {
        let value: Vec<u8> = (0..rng.usize(..90)).map(|_| rng.u8(..4)).collect();
        builder.push(format!("key{i:06}").as_bytes(), Seq(9), EntryValue::Inline(&value));
    }
    let mut out = Vec::new();
    builder.finish(&mut out);
    out
}

fn inner(address: PageAddress) -> Vec<u8> {
    let mut builder = InnerBuilder::new();
    builder.push(&Child {
        separator: b"s".to_vec(),
        address,
        max_seq: Seq(9),
        min_expiry: u64::MAX,
        entries: 1,
        tombstones: 0,
        raw_bytes: 10,
        bytes: 20,
    });
    let mut out = Vec::new();
    builder.finish(&mut out);
    out
}

/// Something written, and where: leaves in both codecs, a filter page, an inner page.
type Written = Vec<(PageAddress, PageType, Vec<u8>)>;

fn write_pages(writer: &mut SegmentWriter, seed: u64, leaves: usize) -> Written {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut written = Vec::new();
    for i in 0..leaves {
        let codec = if i % 2 == 0 { Codec::None } else { Codec::Lz4 };
        let entries = rng.usize(1..120);
        let raw = leaf(&mut rng, entries);
        let address = writer.append(PageType::Leaf, &raw, codec).unwrap();
        written.push((address, PageType::Leaf, raw));
    }
    let mut filter = FilterBuilder::new();
    filter.add(17);
    for raw in filter.pages() {
        let address = writer.append(PageType::Filter, &raw, Codec::None).unwrap();
        written.push((address, PageType::Filter, raw));
    }
    let raw = inner(written[0].0);
    let address = writer.append(PageType::Inner, &raw, Codec::Lz4).unwrap();
    written.push((address, PageType::Inner, raw));
    written
}

fn assert_reads_back(segment: &Segment, written: &Written) {
    for (address, ty, raw) in written {
        assert_eq!(&segment.read_page(address, *ty).unwrap(), raw);
        let at = segment.read_page_at(address.offset, address.stored_bytes, *ty).unwrap();
        assert_eq!(&at, raw);
    }
}

fn kind_of<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn pages_read_back_as_they_were_written() {
    on_each_file_system(|place| {
        let mut writer = place.create(ID, SegmentKind::Data);
        assert!(writer.is_empty());
        assert_eq!((writer.id(), writer.len()), (ID, 64));
        let written = write_pages(&mut writer, 1, 300);
        let mut end = 64;
        for (address, ..) in &written {
            assert_eq!((address.segment, address.offset), (ID, end), "pages are back to back");
            end += address.stored_bytes as u64;
        }
        assert!(end > 512 * 1024, "several buffers");
        assert_eq!(writer.len(), end);
        let meta = writer.finish().unwrap();
        let expect = SegmentMeta {
            id: ID,
            kind: SegmentKind::Data,
            keyspace: KeyspaceId(4),
            file_bytes: end,
            pages: 302,
            packed: meta.packed,
        };
        assert_eq!(meta, expect);
        assert_eq!(meta.packed.tried + meta.packed.skipped, 151, "leaves and the inner page");
        let segment = place.open(ID).unwrap();
        assert_eq!((segment.id(), segment.file_bytes()), (ID, end));
        assert_eq!((segment.kind(), segment.keyspace()), (SegmentKind::Data, KeyspaceId(4)));
        assert_eq!(segment.path(), segment_path(&place.dir, ID));
        segment.prefetch(0, u64::MAX);
        segment.prefetch(u64::MAX, 1);
        assert_reads_back(&segment, &written);
    });
}

#[test]
fn pages_that_never_shrink_are_soon_left_alone() {
    on_each_file_system(|place| {
        for codec in [Codec::Lz4, Codec::Zstd, Codec::Snappy] {
            let mut rng = fastrand::Rng::with_seed(3);
            let mut builder = LeafBuilder::new();
            let mut written = Vec::new();
            let mut writer = place.create(ID, SegmentKind::Data);
            for i in 0..1000_u32 {
                let noise: Vec<u8> = (0..2000).map(|_| rng.u8(..)).collect();
                builder.push(&i.to_be_bytes(), Seq(0), EntryValue::Inline(&noise));
                let mut raw = Vec::new();
                builder.finish(&mut raw);
                let address = writer.append(PageType::Leaf, &raw, codec).unwrap();
                written.push((address, PageType::Leaf, raw));
            }
            // Inner pages are not judged by leaves.
            let raw = inner(written[0].0);
            let address = writer.append(PageType::Inner, &raw, codec).unwrap();
            assert!((address.stored_bytes as usize) < raw.len());
            written.push((address, PageType::Inner, raw));
            let meta = writer.finish().unwrap();
            let PackCounts { tried, plain, skipped } = meta.packed;
            assert_eq!((tried - plain, tried + skipped), (1, 1001));
            assert!(tried < 30, "{tried}");
            assert_reads_back(&place.open(ID).unwrap(), &written);
            place.vfs.remove_file(&segment_path(&place.dir, ID)).unwrap();
        }
    });
}

/// A segment whose leaves are packed with a dictionary, what is in it, and the dictionary.
fn with_dictionary(place: &Place) -> (Written, Dictionary) {
    let mut rng = fastrand::Rng::with_seed(8);
    let leaves: Vec<Vec<u8>> = (0..120).map(|_| leaf(&mut rng, 60)).collect();
    let dictionary = Dictionary::train(&leaves[..80], 2048).expect("trained");
    let codec = Codec::ZstdDictionary;
    let (kind, keyspace) = (SegmentKind::Data, KeyspaceId(4));
    let mut writer =
        SegmentWriter::create(&place.vfs, &place.dir, &Owner::plain(DB), ID, kind, keyspace, codec)
            .unwrap();
    writer.begin_with(&dictionary, 3).unwrap();
    let mut written = Vec::new();
    for (i, raw) in leaves.into_iter().enumerate() {
        let packing = if i % 5 == 0 { Codec::Zstd } else { codec };
        let address = writer.append(PageType::Leaf, &raw, packing).unwrap();
        written.push((address, PageType::Leaf, raw));
    }
    writer.finish().unwrap();
    (written, dictionary)
}

#[test]
fn a_segment_carries_the_dictionary_of_its_leaves() {
    on_each_file_system(|place| {
        let (written, dictionary) = with_dictionary(place);
        let all = Arc::<Dictionaries>::default();
        let one = place.open(ID).unwrap().sharing(&all);
        assert_reads_back(&one, &written);
        let two = place.open(ID).unwrap().sharing(&all);
        assert_reads_back(&two, &written);
        assert_eq!(one.dictionary().unwrap().bytes(), dictionary.bytes());
        assert!(Arc::ptr_eq(&one.dictionary().unwrap(), &two.dictionary().unwrap()));
        // Alone, it keeps one for itself.
        assert_reads_back(&place.open(ID).unwrap(), &written);
    });
}

#[test]
fn a_rotten_dictionary_is_told_and_only_what_needs_it_is_lost() {
    on_each_file_system(|place| {
        let (written, _) = with_dictionary(place);
        let path = segment_path(&place.dir, ID);
        let file = place.vfs.open(&path, OpenMode::ReadWrite).unwrap();
        file.write_at(&[0xEE; 3], 64 + 16 + 40).unwrap();
        let segment = place.open(ID).unwrap();
        let mut lost = 0;
        for (i, (address, ty, raw)) in written.iter().enumerate() {
            match segment.read_page(address, *ty) {
                Ok(read) => assert_eq!(&read, raw),
                Err(e) => {
                    assert_eq!((e.kind(), e.offset()), (ErrorKind::Corrupt, Some(64)));
                    assert_ne!(i % 5, 0, "packed without it");
                    lost += 1;
                }
            }
        }
        assert!(lost > 80, "{lost}");
        assert_eq!(kind_of(segment.read_dictionary()), ErrorKind::Corrupt);
    });
}

#[test]
fn an_id_is_not_used_twice() {
    on_each_file_system(|place| {
        let written = write_pages(&mut place.create(ID, SegmentKind::Data), 1, 1);
        assert_eq!(written.len(), 3);
        place.create(ID, SegmentKind::Data).finish().unwrap();
        let again = SegmentWriter::create(
            &place.vfs,
            &place.dir,
            &Owner::plain(DB),
            ID,
            SegmentKind::Data,
            KeyspaceId(4),
            Codec::None,
        );
        assert_eq!(kind_of(again), ErrorKind::AlreadyExists);
        assert!(place.exists(ID), "the segment of that id is left alone");
    });
}

#[test]
fn a_finished_segment_survives_a_power_cut() {
    for seed in 0..30 {
        let (disk, place) = Place::simulated();
        let mut writer = place.create(ID, SegmentKind::Data);
        let written = write_pages(&mut writer, seed, 60);
        writer.finish().unwrap();
        disk.sync_dir(&segment_dir(&place.dir)).unwrap();
        let after = Place { vfs: Arc::new(disk.power_cut(seed)), dir: place.dir.clone() };
        assert_reads_back(&after.open(ID).unwrap(), &written);
    }
}

#[test]
fn short_and_interrupted_calls_are_looped_over() {
    let (disk, place) = Place::simulated();
    for error in [FaultError::Short, FaultError::Interrupted] {
        disk.fail(FaultRule::next(&[Operation::Read, Operation::Write], error).forever());
    }
    let mut writer = place.create(ID, SegmentKind::Data);
    let written = write_pages(&mut writer, 2, 60);
    writer.finish().unwrap();
    assert_reads_back(&place.open(ID).unwrap(), &written);
}

#[test]
fn foreign_missing_and_swapped_files_are_refused() {
    on_each_file_system(|place| {
        let other = SegmentId(4);
        for id in [ID, other] {
            place.create(id, SegmentKind::Data).finish().unwrap();
        }
        let foreign = Segment::open(&place.vfs, &place.dir, &Owner::plain(OTHER_DB), ID);
        assert_eq!(kind_of(foreign), ErrorKind::Corrupt);
        let missing = place.open(SegmentId(5)).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::Corrupt);
        assert_eq!(missing.file(), Some(&*segment_path(&place.dir, SegmentId(5))));
        let (a, b) = (segment_path(&place.dir, ID), segment_path(&place.dir, other));
        let aside = place.dir.join("aside");
        place.vfs.rename(&a, &aside).unwrap();
        place.vfs.rename(&b, &a).unwrap();
        place.vfs.rename(&aside, &b).unwrap();
        for id in [ID, other] {
            assert_eq!(kind_of(place.open(id)), ErrorKind::Corrupt);
        }
    });
}

#[test]
fn every_flipped_byte_is_refused_and_the_rest_stays_readable() {
    let (disk, place) = Place::simulated();
    let mut writer = place.create(ID, SegmentKind::Data);
    let written = write_pages(&mut writer, 3, 2);
    let len = writer.finish().unwrap().file_bytes;
    let path = segment_path(&place.dir, ID);
    for at in 0..len as usize {
        let flip = |bytes: &mut Vec<u8>| bytes[at] ^= 1 << (at % 8);
        disk.corrupt(&path, flip).unwrap();
        if at < header::HEADER_BYTES {
            assert_eq!(kind_of(place.open(ID)), ErrorKind::Corrupt, "byte {at}");
        } else {
            let segment = place.open(ID).unwrap();
            for (address, ty, raw) in &written {
                let end = address.offset as usize + address.stored_bytes as usize;
                let hit = (address.offset as usize..end).contains(&at);
                let by_place = segment.read_page_at(address.offset, address.stored_bytes, *ty);
                for outcome in [segment.read_page(address, *ty), by_place] {
                    match outcome {
                        Ok(bytes) => assert!(!hit && &bytes == raw, "byte {at}"),
                        Err(e) => {
                            assert!(hit, "byte {at}: {e}");
                            assert_eq!(e.kind(), ErrorKind::Corrupt);
                            assert_eq!(
                                (e.file(), e.offset()),
                                (Some(&*path), Some(address.offset))
                            );
                        }
                    }
                }
            }
        }
        disk.corrupt(&path, flip).unwrap();
    }
    assert_reads_back(&place.open(ID).unwrap(), &written);
}

#[test]
fn a_truncated_file_is_refused_where_it_ends() {
    let (disk, place) = Place::simulated();
    let mut writer = place.create(ID, SegmentKind::Data);
    let written = write_pages(&mut writer, 4, 3);
    let len = writer.finish().unwrap().file_bytes;
    let path = segment_path(&place.dir, ID);
    let opened_before = place.open(ID).unwrap();
    for cut in (0..len).rev() {
        disk.corrupt(&path, |bytes| bytes.truncate(cut as usize)).unwrap();
        let opened = place.open(ID);
        assert_eq!(opened.is_ok(), cut >= 64, "{cut}");
        for segment in opened.iter().chain([&opened_before]) {
            for (address, ty, raw) in &written {
                let whole = address.offset + u64::from(address.stored_bytes) <= cut;
                match segment.read_page(address, *ty) {
                    Ok(bytes) => assert!(whole && &bytes == raw),
                    Err(e) => assert!(!whole && e.kind() == ErrorKind::Corrupt),
                }
            }
        }
    }
}

#[test]
fn a_page_of_another_segment_or_an_older_one_is_refused() {
    let (disk, place) = Place::simulated();
    let other = SegmentId(4);
    let mut addresses = Vec::new();
    for (id, key) in [(ID, b"a"), (other, b"b")] {
        let mut builder = LeafBuilder::new();
        builder.push(key, Seq(0), EntryValue::Tombstone);
        let mut raw = Vec::new();
        builder.finish(&mut raw);
        let mut writer = place.create(id, SegmentKind::Data);
        addresses.push(writer.append(PageType::Leaf, &raw, Codec::None).unwrap());
        writer.finish().unwrap();
    }
    let segment = place.open(ID).unwrap();
    let stale = PageAddress { checksum: addresses[0].checksum ^ 1, ..addresses[0] };
    let e = segment.read_page(&stale, PageType::Leaf).unwrap_err();
    assert!(e.message().contains("not the one its address was made for"));
    assert_eq!(kind_of(segment.read_page(&addresses[1], PageType::Leaf)), ErrorKind::Corrupt);
    assert_eq!(kind_of(segment.read_page(&addresses[0], PageType::Inner)), ErrorKind::Corrupt);

    let theirs = disk.read_file(&segment_path(&place.dir, other)).unwrap();
    let path = segment_path(&place.dir, ID);
    disk.corrupt(&path, |bytes| bytes[64..].copy_from_slice(&theirs[64..])).unwrap();
    let PageAddress { offset, stored_bytes, .. } = addresses[0];
    let at = segment.read_page_at(offset, stored_bytes, PageType::Leaf);
    assert_eq!(kind_of(at), ErrorKind::Corrupt);
    let claimed = PageAddress { segment: ID, ..addresses[1] };
    assert_eq!(kind_of(segment.read_page(&claimed, PageType::Leaf)), ErrorKind::Corrupt);
}

#[test]
fn hostile_addresses_are_errors() {
    on_each_file_system(|place| {
        let mut writer = place.create(ID, SegmentKind::Data);
        let good = write_pages(&mut writer, 5, 1)[0].0;
        writer.finish().unwrap();
        let segment = place.open(ID).unwrap();
        let mut tried = 0;
        for offset in [0, 1, 63, 64, 65, 1 << 20, u64::MAX - 20, u64::MAX] {
            for stored_bytes in [0, 1, 15, 16, 17, good.stored_bytes, 1 << 20, 1 << 21, u32::MAX] {
                if (offset, stored_bytes) == (good.offset, good.stored_bytes) {
                    continue;
                }
                let address = PageAddress { offset, stored_bytes, ..good };
                let e = segment.read_page(&address, PageType::Leaf).unwrap_err();
                assert_eq!((e.kind(), e.offset()), (ErrorKind::Corrupt, Some(offset)));
                tried += 1;
            }
        }
        assert_eq!(tried, 71);
    });
}

#[test]
fn payloads_are_validated_under_a_good_checksum() {
    on_each_file_system(|place| {
        let mut rng = fastrand::Rng::with_seed(6);
        let mut later = leaf(&mut rng, 3);
        later[4] |= 4;
        let mut writer = place.create(ID, SegmentKind::Data);
        let cases = [
            (PageType::Leaf, vec![1, 0, 0, 0, 0, 0, 0, 0], ErrorKind::Corrupt),
            (PageType::Inner, vec![0; 16], ErrorKind::Corrupt),
            (PageType::Filter, vec![0; 65], ErrorKind::Corrupt),
            (PageType::Blob, vec![], ErrorKind::Corrupt),
            (PageType::Leaf, later, ErrorKind::UnsupportedFormat),
        ];
        let addresses =
            cases.each_ref().map(|(ty, raw, _)| writer.append(*ty, raw, Codec::None).unwrap());
        writer.finish().unwrap();
        let segment = place.open(ID).unwrap();
        for ((ty, _, kind), address) in cases.iter().zip(addresses) {
            let e = segment.read_page(&address, *ty).unwrap_err();
            assert_eq!((e.kind(), e.offset()), (*kind, Some(address.offset)));
        }
    });
}

fn value(rng: &mut fastrand::Rng, len: usize) -> Vec<u8> {
    let alphabet = if rng.bool() { 3 } else { 255 };
    (0..len).map(|_| rng.u8(..alphabet)).collect()
}

#[test]
fn values_read_back_while_the_segment_is_written_and_after() {
    on_each_file_system(|place| {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut writer = place.create(ID, SegmentKind::Blob);
        let live = place.open(ID).unwrap();
        let mut written = Vec::new();
        let chunk = BLOB_CHUNK_BYTES;
        for codec in [Codec::None, Codec::Lz4] {
            writer.set_blob_codec(codec);
            for len in [0, 1, 20_000, chunk - 1, chunk, chunk + 1, 3 * chunk, 5 << 20] {
                let value = value(&mut rng, len);
                let blob = writer.append_blob(&value).unwrap();
                assert_eq!((blob.segment, blob.value_bytes as usize), (ID, len));
                assert_eq!(blob.offset + blob.stored_bytes, writer.len());
                assert_eq!(live.read_blob(&blob).unwrap(), value, "{len} at once");
                written.push((blob, value));
            }
        }
        writer.sync().unwrap();
        let meta = writer.finish().unwrap();
        assert_eq!((meta.kind, meta.pages), (SegmentKind::Blob, 2 * (1 + 1 + 1 + 1 + 2 + 3 + 20)));
        let segment = place.open(ID).unwrap();
        for (blob, value) in &written {
            assert!(&segment.read_blob(blob).unwrap() == value);
            segment.verify_blob(blob).unwrap();
        }
    });
}

#[test]
fn hostile_references_to_values_are_errors() {
    let (_, place) = Place::simulated();
    let mut writer = place.create(ID, SegmentKind::Blob);
    writer.set_blob_codec(Codec::Lz4);
    let long = vec![1; 3 * BLOB_CHUNK_BYTES + 5];
    let good = writer.append_blob(&long).unwrap();
    let next = writer.append_blob(&vec![2; 50_000]).unwrap();
    writer.finish().unwrap();
    let segment = place.open(ID).unwrap();
    assert_eq!(segment.read_blob(&good).unwrap(), long);
    let both = BlobRef { stored_bytes: good.stored_bytes + next.stored_bytes, ..good };
    let second_page = {
        let page = segment.read_page_at(good.offset, 16, PageType::Blob);
        assert!(page.is_err());
        good.offset + good.stored_bytes / 4
    };
    let hostile = [
        BlobRef { segment: SegmentId(9), ..good },
        BlobRef { offset: 0, ..good },
        BlobRef { offset: good.offset + 1, ..good },
        BlobRef { offset: second_page, ..good },
        BlobRef { offset: u64::MAX, ..good },
        BlobRef { offset: next.offset, ..good },
        BlobRef { stored_bytes: 0, ..good },
        BlobRef { stored_bytes: good.stored_bytes - 1, ..good },
        BlobRef { stored_bytes: good.stored_bytes + 1, ..good },
        BlobRef { stored_bytes: u64::MAX, ..good },
        BlobRef { value_bytes: 0, ..good },
        BlobRef { value_bytes: good.value_bytes - 1, ..good },
        BlobRef { value_bytes: good.value_bytes + 1, ..good },
        BlobRef { value_bytes: u32::MAX, ..good },
        BlobRef { value_bytes: BLOB_CHUNK_BYTES as u32, ..good },
        BlobRef { checksum: good.checksum ^ 1, ..good },
        BlobRef { value_bytes: good.value_bytes + next.value_bytes, ..both },
        both,
    ];
    for blob in hostile {
        let read = segment.read_blob(&blob);
        assert_eq!(read.map(|v| v.len()).unwrap_err().kind(), ErrorKind::Corrupt, "{blob:?}");
        assert_eq!(kind_of(segment.verify_blob(&blob)), ErrorKind::Corrupt, "{blob:?}");
    }
}

#[test]
fn pages_of_different_values_make_no_value() {
    let (disk, place) = Place::simulated();
    let mut values = Vec::new();
    let mut writer = place.create(ID, SegmentKind::Blob);
    for byte in [1, 2] {
        values.push(writer.append_blob(&vec![byte; 2 * BLOB_CHUNK_BYTES]).unwrap());
    }
    writer.finish().unwrap();
    let path = segment_path(&place.dir, ID);
    let first = values[0];
    let page = first.stored_bytes as usize / 2;
    // The second page of the value is replaced by one that was sealed for this very place.
    let other = SimulatedVfs::new(62);
    let elsewhere = Place::new(Arc::new(other.clone()), Path::new("/db"));
    let mut forger = elsewhere.create(ID, SegmentKind::Blob);
    forger.append_blob(&vec![9; 2 * BLOB_CHUNK_BYTES]).unwrap();
    forger.finish().unwrap();
    let forged = other.read_file(&path).unwrap();
    let start = first.offset as usize + page;
    let range = start..start + page;
    disk.corrupt(&path, |bytes| bytes[range.clone()].copy_from_slice(&forged[range])).unwrap();
    let segment = place.open(ID).unwrap();
    segment.read_page_at(start as u64, page as u32, PageType::Blob).unwrap();
    let e = segment.verify_blob(&first).unwrap_err();
    assert!(e.message().contains("not the one its reference was made for"), "{e}");
    assert!(segment.read_blob(&first).is_err());
    segment.verify_blob(&values[1]).unwrap();
}

#[test]
fn a_value_with_any_flipped_byte_is_refused() {
    let (disk, place) = Place::simulated();
    let mut rng = fastrand::Rng::with_seed(8);
    let mut writer = place.create(ID, SegmentKind::Blob);
    let blob = writer.append_blob(&value(&mut rng, BLOB_CHUNK_BYTES + 40)).unwrap();
    writer.finish().unwrap();
    let path = segment_path(&place.dir, ID);
    let second = blob.offset + 16 + BLOB_CHUNK_BYTES as u64;
    let ends = (blob.offset..blob.offset + 40).chain(second - 20..blob.offset + blob.stored_bytes);
    for at in ends {
        let flip = |bytes: &mut Vec<u8>| bytes[at as usize] ^= 0x10;
        disk.corrupt(&path, flip).unwrap();
        let segment = place.open(ID).unwrap();
        let e = segment.verify_blob(&blob).unwrap_err();
        let page = if at < second { blob.offset } else { second };
        assert_eq!((e.kind(), e.offset()), (ErrorKind::Corrupt, Some(page)), "byte {at}");
        assert!(segment.read_blob(&blob).is_err());
        disk.corrupt(&path, flip).unwrap();
    }
    place.open(ID).unwrap().verify_blob(&blob).unwrap();
}

#[test]
fn an_obsolete_segment_is_removed_by_its_last_reader() {
    on_each_file_system(|place| {
        let mut writer = place.create(ID, SegmentKind::Data);
        let written = write_pages(&mut writer, 9, 2);
        writer.finish().unwrap();
        drop(place.open(ID).unwrap());
        assert!(place.exists(ID), "dropping alone removes nothing");
        let first = Arc::new(place.open(ID).unwrap());
        let second = Arc::clone(&first);
        first.mark_obsolete(&Arc::default());
        drop(first);
        assert!(place.exists(ID));
        assert_reads_back(&second, &written);
        drop(second);
        assert!(!place.exists(ID));
    });
}

#[test]
fn unfinished_segments_are_removed_unless_they_hold_values() {
    on_each_file_system(|place| {
        let mut writer = place.create(ID, SegmentKind::Data);
        write_pages(&mut writer, 10, 2);
        writer.sync().unwrap();
        drop(writer);
        assert!(!place.exists(ID));

        let mut writer = place.create(ID, SegmentKind::Data);
        write_pages(&mut writer, 10, 2);
        writer.abandon().unwrap();
        assert!(!place.exists(ID));

        drop(place.create(ID, SegmentKind::Blob));
        assert!(!place.exists(ID));

        let mut writer = place.create(ID, SegmentKind::Blob);
        let blob = writer.append_blob(b"only the log knows of this").unwrap();
        drop(writer);
        let segment = place.open(ID).unwrap();
        assert_eq!(segment.read_blob(&blob).unwrap(), b"only the log knows of this");

        let mut writer = place.create(SegmentId(4), SegmentKind::Blob);
        writer.append_blob(b"not needed after all").unwrap();
        writer.abandon().unwrap();
        assert!(!place.exists(SegmentId(4)));
    });
}

#[test]
fn a_full_disk_takes_nothing_back_that_was_given() {
    let (disk, place) = Place::simulated();
    let mut rng = fastrand::Rng::with_seed(11);
    let mut writer = place.create(ID, SegmentKind::Data);
    let mut written = write_pages(&mut writer, 11, 20);
    disk.set_capacity(Some(200_000));
    let mut failures = 0;
    for round in 0.. {
        let raw = leaf(&mut rng, 100);
        let before = writer.len();
        match writer.append(PageType::Leaf, &raw, Codec::None) {
            Ok(address) => written.push((address, PageType::Leaf, raw)),
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::StorageFull);
                assert_eq!(writer.len(), before, "round {round}");
                failures += 1;
                if failures == 3 {
                    disk.set_capacity(None);
                }
            }
        }
        if failures >= 3 && writer.len() > 1 << 20 {
            break;
        }
    }
    let meta = writer.finish().unwrap();
    assert_eq!(meta.pages, written.len() as u64);
    assert_reads_back(&place.open(ID).unwrap(), &written);
}

#[test]
fn a_value_that_did_not_fit_leaves_the_others_and_no_tail() {
    let (disk, place) = Place::simulated();
    let mut writer = place.create(ID, SegmentKind::Blob);
    let kept = writer.append_blob(&vec![5; 100_000]).unwrap();
    let len = writer.len();
    disk.set_capacity(Some(len + 700_000));
    let too_long = writer.append_blob(&vec![6; 2 << 20]);
    assert_eq!(kind_of(too_long), ErrorKind::StorageFull);
    assert_eq!(writer.len(), len);
    let path = segment_path(&place.dir, ID);
    assert!(disk.read_file(&path).unwrap().len() as u64 > len, "a tail was written");
    let meta = writer.finish().unwrap();
    assert_eq!((meta.file_bytes, meta.pages), (len, 1));
    assert_eq!(disk.read_file(&path).unwrap().len() as u64, len);
    disk.sync_dir(&segment_dir(&place.dir)).unwrap();
    let after = Place { vfs: Arc::new(disk.power_cut(5)), dir: place.dir };
    let segment = after.open(ID).unwrap();
    assert_eq!(segment.file_bytes(), len);
    assert_eq!(segment.read_blob(&kept).unwrap(), vec![5; 100_000]);
}

#[test]
fn nothing_is_finished_after_a_failed_sync() {
    let (disk, place) = Place::simulated();
    let mut writer = place.create(ID, SegmentKind::Data);
    write_pages(&mut writer, 12, 20);
    disk.fail(FaultRule::next(&[Operation::Sync], FaultError::Eio));
    assert_eq!(kind_of(writer.sync()), ErrorKind::Io);
    assert_eq!(kind_of(writer.sync()), ErrorKind::Poisoned);
    assert_eq!(kind_of(writer.flush_buffer()), ErrorKind::Poisoned);
    assert_eq!(kind_of(writer.finish()), ErrorKind::Poisoned);
    assert!(!place.exists(ID));

    let mut writer = place.create(SegmentId(4), SegmentKind::Blob);
    writer.append_blob(b"the log knows of this").unwrap();
    disk.fail(FaultRule::next(&[Operation::Sync], FaultError::Eio));
    assert_eq!(kind_of(writer.sync()), ErrorKind::Io);
    assert_eq!(kind_of(writer.append_blob(b"too late")), ErrorKind::Poisoned);
    assert_eq!(kind_of(writer.finish()), ErrorKind::Poisoned);
    assert!(place.exists(SegmentId(4)));
}

#[test]
fn syncs_are_spread_over_the_writing() {
    let (disk, place) = Place::simulated();
    disk.fail(FaultRule::next(&[Operation::Sync], FaultError::Eio));
    let mut writer = place.create(ID, SegmentKind::Data);
    let mut rng = fastrand::Rng::with_seed(13);
    let raw = leaf(&mut rng, 400);
    let failed_at = loop {
        if let Err(e) = writer.append(PageType::Leaf, &raw, Codec::None) {
            assert_eq!(e.kind(), ErrorKind::Io);
            break writer.len();
        }
        assert!(writer.len() < 9 << 20, "never synced");
    };
    assert!(failed_at > (8 << 20) - (64 << 10), "synced too early: {failed_at}");
}

#[test]
fn names_and_ids_stand_for_one_another() {
    let path = segment_path(Path::new("/db"), SegmentId(42));
    assert_eq!(path, Path::new("/db/seg/00000042.seg"));
    for id in [0, 42, 99_999_999, 100_000_000, u64::MAX] {
        let path = segment_path(Path::new("d"), SegmentId(id));
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(segment_id_of(name), Some(SegmentId(id)));
    }
    for name in ["", ".seg", "42.seg", "000000042.seg", "+0000042.seg", "00000042.wal", "x.seg"] {
        assert_eq!(segment_id_of(name), None, "{name}");
    }
}
