//! The worked examples of FORMAT.md, read from its own text: each block that begins with
//! "```example NAME" holds bytes in hex, `#` begins a remark. The bytes must decode to what the text
//! says, and the same must encode to those bytes, so that neither text nor code changes alone.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::codec::put_varint;
use crate::compress::{Codec, Packer};
use crate::crypto::Owner;
use crate::index::{IndexKey, IndexSpec, IndexValue};
use crate::manifest::IndexState;
use crate::manifest::{
    BlobUse, Droppable, Edit, EditOp, FilterRef, KeptLog, KeyInterval, KeyspaceState, Lives,
    Manifest, ManifestState, NextIds, PartitionMeta, PartitionSegment, RunMeta, TimeSample,
    ViewSpan, install_current, manifest_path,
};
use crate::operators::list;
use crate::page::envelope::{PageIdentity, open, seal};
#[cfg(feature = "encryption")]
use crate::page::envelope::{open_vec, seal_encrypted};
use crate::page::filter::{FilterBuilder, page_may_contain};
use crate::page::inner::{Child, InnerBuilder, InnerView};
use crate::page::leaf::{LeafBuilder, LeafView};
use crate::page::{PageType, blob, filter};
use crate::ranges::{ListFragment, RangeList};
use crate::segment::SegmentKind;
use crate::segment::header::SegmentHeader;
use crate::store::range_row::{decode_end, entries_of};
use crate::types::{
    BlobRef, DatabaseId, Entry, EntryValue, Expiry, KeyspaceId, LogId, ManifestId, PageAddress,
    PartitionId, RunId, SegmentId, Seq, Time, hash_key,
};
use crate::vfs::{SimulatedVfs, Vfs, write_all_at};

const TEXT: &str = include_str!("../../../FORMAT.md");
const DB: DatabaseId = DatabaseId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);

/// The examples that a test below decodes.
const TESTED: [&str; 24] = [
    "varint",
    "hash",
    "CURRENT",
    "manifest",
    "edit",
    "edit with lifetimes",
    "history",
    "kept log",
    "log header",
    "segment",
    "page",
    "LZ4 page",
    "Zstandard page",
    "Snappy page",
    "leaf",
    "range deletes",
    "leaf with expiry",
    "inner",
    "filter",
    "operands",
    "KEYS",
    "encrypted segment",
    "index edit",
    "index entry",
];

fn examples() -> BTreeMap<&'static str, Vec<u8>> {
    let mut found = BTreeMap::new();
    for block in TEXT.split("```example ").skip(1) {
        let (name, rest) = block.split_once('\n').expect("a line after the name");
        let (body, _) = rest.split_once("```").expect("the block's end");
        let lines = body.lines().filter_map(|l| l.split('#').next());
        let byte =
            |word| u8::from_str_radix(word, 16).unwrap_or_else(|e| panic!("{name}: {word}: {e}"));
        let bytes = lines.flat_map(str::split_whitespace).map(byte).collect();
        assert!(found.insert(name, bytes).is_none(), "two examples are called {name}");
    }
    found
}

pub(crate) fn example(name: &str) -> Vec<u8> {
    examples().remove(name).unwrap_or_else(|| panic!("FORMAT.md has no example called {name}"))
}

/// What is written must be the example; where it is not, the right one is shown, to be put there.
pub(crate) fn assert_is(name: &str, written: &[u8]) {
    let hex = |b: &[u8]| b.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ");
    assert!(written == example(name), "example {name} of FORMAT.md is to be: {}", hex(written));
}

#[test]
fn every_example_is_tested() {
    let found: Vec<_> = examples().into_keys().collect();
    let mut tested = TESTED;
    tested.sort_unstable();
    assert_eq!(found, tested);
}

#[test]
fn varints_and_hashes() {
    let mut out = Vec::new();
    put_varint(&mut out, 300);
    assert_is("varint", &out);
    assert_is("hash", &hash_key(b"apple").to_le_bytes());
}

#[test]
fn segment_headers() {
    let header = SegmentHeader {
        database: DB,
        id: SegmentId(7),
        kind: SegmentKind::Data,
        keyspace: KeyspaceId(2),
        salt: None,
        codec: Codec::Lz4,
    };
    assert_is("segment", &header.encode());
    let bytes = example("segment");
    assert_eq!(SegmentHeader::decode(&bytes, Path::new("f")).expect("decodes"), header);
}

#[test]
fn envelopes() {
    let id = PageIdentity { database: DB, segment: SegmentId(7), offset: 64 };
    let mut plain = Vec::new();
    let plainly = Codec::None.into();
    seal(&mut plain, &id, PageType::Blob, b"abc", plainly, &mut Packer::default());
    assert_is("page", &plain);
    let opened = open(&example("page"), &id, PageType::Blob, Path::new("f")).expect("opens");
    assert_eq!(opened, b"abc");
    for name in ["LZ4 page", "Zstandard page", "Snappy page"] {
        let opened = open(&example(name), &id, PageType::Blob, Path::new("f")).expect("opens");
        assert_eq!(opened, [b'a'; 40], "{name}");
    }
    // The checksum of a value of that one page.
    let crc = u32::from_le_bytes(plain[12..16].try_into().expect("four bytes"));
    assert_eq!(blob::add_checksum(0, crc), crc32c::crc32c(&plain[12..16]));
}

/// `crypto` has a test that the same keys encode to the example of `KEYS`.
#[cfg(feature = "encryption")]
#[test]
fn keys_and_encrypted_segments() {
    use crate::config::KeySource;
    use crate::crypto::FileKind;
    let slot = example("KEYS");
    let (front, crc) = slot.split_at(slot.len() - 4);
    let disk = SimulatedVfs::new(1);
    let keys = disk.create(Path::new("KEYS")).expect("a new file");
    write_all_at(&*keys, front, 0).expect("writes");
    write_all_at(&*keys, crc, 4092).expect("writes");
    let vfs: Arc<dyn Vfs> = Arc::new(disk);
    let outer = KeySource::key(std::array::from_fn(|i| 0x80 + i as u8));
    let owner = Owner::open(&vfs, Path::new(""), DB, Some(&outer)).expect("the keys open");

    let (bytes, file) = (example("encrypted segment"), Path::new("f"));
    let header = SegmentHeader::decode(&bytes, file).expect("decodes");
    assert_eq!(header.encode(), bytes[..128]);
    let (salt, bound) = (header.salt.as_ref(), header.bound());
    let id = PageIdentity { database: DB, segment: header.id, offset: header.len() };
    let mut sealer = owner.sealer(salt, FileKind::Segment, &bound, file).expect("a key");
    let sealer = sealer.as_mut().expect("encrypted");
    let mut page = Vec::new();
    let plainly = Codec::None.into();
    seal_encrypted(&mut page, &id, PageType::Blob, b"abc", plainly, &mut Packer::default(), sealer)
        .expect("sealed");
    assert_is("encrypted segment", &[&bytes[..128], &page].concat());
    let opened = open_vec(page, &id, PageType::Blob, file, Some(sealer.key()), None);
    assert_eq!(opened.expect("opens"), b"abc");
}

fn address() -> PageAddress {
    PageAddress { segment: SegmentId(7), offset: 64, stored_bytes: 90, checksum: 0x4433_2211 }
}

#[test]
fn leaves() {
    let blob = BlobRef {
        segment: SegmentId(9),
        offset: 64,
        stored_bytes: 20_016,
        value_bytes: 20_000,
        checksum: 0xDDCC_BBAA,
    };
    let entries = [
        (&b"apple"[..], Seq(5), EntryValue::Inline(b"red")),
        (&b"apple"[..], Seq(3), EntryValue::Inline(b"")),
        (&b"fig"[..], Seq(4), EntryValue::Tombstone),
        (&b"kiwi"[..], Seq(0), EntryValue::Blob(blob)),
    ];
    let mut builder = LeafBuilder::new();
    for (key, seq, value) in entries {
        builder.push(key, seq, value);
    }
    let mut out = Vec::new();
    builder.finish(&mut out);
    assert_is("leaf", &out);
    let bytes = example("leaf");
    LeafView::validate(&bytes).expect("valid");
    let view = LeafView::new(&bytes);
    view.check_tags().expect("tags");
    let read: Vec<_> = (0..view.len()).map(|i| (view.key(i), view.seq(i), view.value(i))).collect();
    assert_eq!(read, entries);
}

/// As the range deletes of a run have them: a start, and as value an end or none.
#[test]
fn range_deletes() {
    let entries = [
        (&b"a"[..], Seq(7), EntryValue::Inline(b"\x01cd")),
        (&b"a"[..], Seq(0), EntryValue::Inline(b"\x01cd")),
        (&b"x"[..], Seq(0), EntryValue::Inline(b"\x00")),
    ];
    let mut builder = LeafBuilder::new();
    for (key, seq, value) in entries {
        builder.push(key, seq, value);
    }
    let mut out = Vec::new();
    builder.finish(&mut out);
    assert_is("range deletes", &out);
    let fragments = [
        ListFragment {
            start: b"a"[..].into(),
            end: Some(b"cd"[..].into()),
            seqs: [Seq(7), Seq(0)].into(),
        },
        ListFragment { start: b"x"[..].into(), end: None, seqs: [Seq(0)].into() },
    ];
    let list = RangeList::new(fragments);
    assert_eq!(entries_of(&list).collect::<Vec<_>>().len(), entries.len());
    for ((key, seq, value), (start, of, end)) in entries.iter().zip(entries_of(&list)) {
        assert_eq!((*key, *seq, *value), (start, of, EntryValue::Inline(&end)));
        assert_eq!(
            decode_end(value).expect("an end").as_deref(),
            list.find(key).unwrap().end.as_deref()
        );
    }
    let bytes = example("range deletes");
    LeafView::validate(&bytes).expect("valid");
    let view = LeafView::new(&bytes);
    let read: Vec<_> = (0..view.len()).map(|i| (view.key(i), view.seq(i), view.value(i))).collect();
    assert_eq!(read, entries);
}

#[test]
fn leaves_with_expiry() {
    let entries = [
        (&b"apple"[..], EntryValue::Inline(b"red"), Expiry(1_700_000_000_000)),
        (&b"fig"[..], EntryValue::Tombstone, Expiry::NEVER),
    ];
    let mut builder = LeafBuilder::new();
    for (key, value, expiry) in entries {
        builder.push(key, Seq(0), Entry { value, expiry });
    }
    let mut out = Vec::new();
    builder.finish(&mut out);
    assert_is("leaf with expiry", &out);
    let bytes = example("leaf with expiry");
    LeafView::validate(&bytes).expect("valid");
    let view = LeafView::new(&bytes);
    view.check_tags().expect("tags");
    let read: Vec<_> =
        (0..view.len()).map(|i| (view.key(i), view.value(i), view.expiry(i))).collect();
    assert_eq!(read, entries);
}

#[test]
fn operands() {
    let mut list = Vec::new();
    list::push(&mut list, b"red");
    list::push(&mut list, b"");
    assert_is("operands", &list);
    list::check(&example("operands")).expect("a list");
    assert!(list::operands(&example("operands")).eq([&b"red"[..], b""]));
}

#[test]
fn inner_pages() {
    let child = |separator: &[u8], n: u64| Child {
        separator: separator.to_vec(),
        address: PageAddress { offset: 64 + 90 * n, ..address() },
        max_seq: Seq(5),
        min_expiry: u64::MAX,
        entries: 4,
        tombstones: 1,
        raw_bytes: 50,
        bytes: 90,
    };
    let children = [child(b"", 0), child(b"user/a", 1), child(b"user/m", 2)];
    let mut builder = InnerBuilder::new();
    for child in &children {
        builder.push(child);
    }
    let mut out = Vec::new();
    builder.finish(&mut out);
    assert_is("inner", &out);
    let bytes = example("inner");
    InnerView::validate(&bytes).expect("valid");
    let view = InnerView::new(&bytes);
    let read: Vec<_> =
        (0..view.len()).map(|i| view.child(i).with_separator(view.separator(i))).collect();
    assert_eq!(read, children);
    assert_eq!((view.child_for(b"user/b"), view.child_for(b"a"), view.child_for(b"z")), (1, 0, 2));
}

#[test]
fn filters() {
    let mut builder = FilterBuilder::new();
    builder.add(hash_key(b"apple"));
    assert_is("filter", &builder.pages()[0]);
    let page = example("filter");
    filter::validate(&page).expect("valid");
    assert!(page_may_contain(&page, hash_key(b"apple")));
    assert!(!page_may_contain(&page, hash_key(b"fig")));
}

fn keyspace(id: u32, name: &str) -> KeyspaceState {
    KeyspaceState {
        merge_operator: None,
        id: KeyspaceId(id),
        name: name.to_string(),
        write_buffer_size: 65_536,
        codec: 1,
        level: None,
        page_bytes: 4096,
        profile: 1,
        default_ttl: 0,
        flushed: Seq(0),
        runs: Vec::new(),
        base: Vec::new(),
        ranges: std::collections::BTreeMap::new(),
    }
}

fn partition() -> PartitionMeta {
    let filter =
        FilterRef { offset: 154, page_stored_bytes: 80, pages: 1, last_page_stored_bytes: 80 };
    PartitionMeta {
        id: PartitionId(3),
        root: address(),
        height: 0,
        first_key: b"apple".to_vec(),
        last_key: b"kiwi".to_vec(),
        segments: vec![PartitionSegment {
            id: SegmentId(7),
            file_bytes: 234,
            live_bytes: 90,
            filter: Some(filter),
        }],
        entries: 4,
        tombstones: 1,
        raw_bytes: 50,
        live_bytes: 90,
        max_seq: Seq(5),
        lives: Lives::default(),
        droppable: {
            let mut droppable = Droppable::default();
            droppable.note(ViewSpan { from: Seq(0), below: Seq(5) }, 8);
            droppable
        },
        blobs: vec![BlobUse { segment: SegmentId(9), bytes: 20_016 }],
        ingested: Seq(0),
    }
}

#[test]
fn edits() {
    let run = RunMeta {
        id: RunId(4),
        partitions: vec![partition()],
        consumed: vec![
            KeyInterval { start: b"b".to_vec(), end: Some(b"c".to_vec()) },
            KeyInterval { start: b"x".to_vec(), end: None },
        ],
        low: Seq(1),
        high: Seq(5),
    };
    let empty = RunMeta { id: RunId(6), low: Seq(6), high: Seq(6), ..run.clone() };
    let empty = RunMeta { partitions: Vec::new(), consumed: Vec::new(), ..empty };
    let at = KeyspaceId(2);
    let edit = Edit {
        ops: vec![
            EditOp::CreateKeyspace(keyspace(2, "users")),
            EditOp::DropKeyspace(KeyspaceId(1)),
            EditOp::AddRun { keyspace: at, run },
            EditOp::Flushed { keyspace: at, seq: Seq(5) },
            EditOp::ReplaceRuns { keyspace: at, removed: vec![RunId(3), RunId(2)], added: None },
            EditOp::SetRun { keyspace: at, run: empty },
            EditOp::RemoveRun { keyspace: at, run: RunId(1) },
            EditOp::ReplaceBase { keyspace: at, removed: vec![PartitionId(1)], added: vec![] },
            EditOp::LogStart(LogId(4)),
            EditOp::LastSeq(Seq(5)),
            EditOp::AddBlobSegment { id: SegmentId(9), bytes: 20_080 },
            EditOp::RemoveBlobSegment(SegmentId(8)),
            EditOp::NextIds(NextIds { segment: 10, partition: 4, run: 7, keyspace: 3 }),
            EditOp::SetCompression { keyspace: at, codec: 2, level: Some(-3) },
            EditOp::SetMergeOperator { keyspace: at, name: "counter".to_owned() },
            EditOp::SetRanges { keyspace: at, run: RunId(6), partitions: Vec::new() },
        ],
    };
    let mut out = Vec::new();
    edit.encode(&mut out);
    assert_is("edit", &out);
    assert_eq!(Edit::decode(&example("edit")).expect("decodes"), edit);
}

#[test]
fn edits_with_lifetimes() {
    let mut partition = partition();
    partition.first_key = b"a".to_vec();
    partition.last_key = b"b".to_vec();
    partition.segments[0].filter = None;
    partition.max_seq = Seq(6);
    partition.droppable = Droppable::default();
    partition.blobs = Vec::new();
    for (late, bytes) in [(0, 10), (1_000, 12), (1_000, 8)] {
        partition.lives.note(Expiry(1_700_000_000_000 + late), bytes);
    }
    let run = RunMeta {
        id: RunId(5),
        partitions: vec![partition],
        consumed: Vec::new(),
        low: Seq(6),
        high: Seq(6),
    };
    let at = KeyspaceId(2);
    let edit = Edit {
        ops: vec![
            EditOp::DefaultTtl { keyspace: at, millis: 3_600_000 },
            EditOp::Time(Time(1_700_000_000_000)),
            EditOp::AddRun { keyspace: at, run },
        ],
    };
    let mut out = Vec::new();
    edit.encode(&mut out);
    assert_is("edit with lifetimes", &out);
    assert_eq!(Edit::decode(&example("edit with lifetimes")).expect("decodes"), edit);
}

#[test]
fn history() {
    let sample = |millis, seq| TimeSample { millis, seq: Seq(seq), born: 0 };
    let samples = vec![sample(1000, 4), sample(2500, 5)];
    let edit = Edit { ops: vec![EditOp::History { floor: Seq(3), samples }] };
    let mut out = Vec::new();
    edit.encode(&mut out);
    assert_is("history", &out);
    assert_eq!(Edit::decode(&example("history")).expect("decodes"), edit);
}

#[test]
fn kept_logs() {
    let blobs = vec![BlobUse { segment: SegmentId(9), bytes: 100 }];
    let (first, last) = (Seq(6), Seq(9));
    let kept = KeptLog { id: LogId(7), first, last, bytes: 4096, blobs };
    let cursor = EditOp::SetCursor { name: "mirror".to_owned(), seq: Seq(5) };
    let edit = Edit { ops: vec![cursor, EditOp::KeepLog(kept)] };
    let mut out = Vec::new();
    edit.encode(&mut out);
    assert_is("kept log", &out);
    assert_eq!(Edit::decode(&example("kept log")).expect("decodes"), edit);
}

#[test]
fn indexes() {
    let parts = IndexSpec::parse(&["json:/email", "key:1..4"]).expect("parts");
    let index = IndexState {
        storage: KeyspaceId(3),
        keyspace: KeyspaceId(2),
        name: "by_email".to_owned(),
        spec: parts.unique(),
        ready: true,
    };
    let edit = Edit { ops: vec![EditOp::SetIndex(index), EditOp::DropIndex(KeyspaceId(4))] };
    let mut out = Vec::new();
    edit.encode(&mut out);
    assert_is("index edit", &out);
    assert_eq!(Edit::decode(&example("index edit")).expect("decodes"), edit);

    let key = IndexKey::new([IndexValue::from("Ad\0a"), 1815.into(), IndexValue::Null]);
    let mut out = key.encode();
    out.extend_from_slice(&[crate::index::value::END, b'k']);
    assert_is("index entry", &out);
    let entry = example("index entry");
    assert_eq!(IndexKey::decode_entry(&entry).expect("decodes"), (key, &b"k"[..]));
}

/// CURRENT and the manifest that it names, put on a disk and loaded; and written. (Loading alone would
/// pass over a wrong last mark, which reads as the torn end of the file.)
#[test]
fn current_and_manifest() {
    let dir = Path::new("/db");
    let manifest = manifest_path(dir, ManifestId(1));
    let disk = || {
        let disk = SimulatedVfs::new(1);
        disk.create_dir_all(&dir.join("manifest")).expect("made");
        (Arc::new(disk.clone()) as Arc<dyn Vfs>, disk)
    };
    let mut state = ManifestState::new(DB);
    let made = Edit { ops: vec![EditOp::CreateKeyspace(keyspace(0, "default"))] };
    state.apply(&made).expect("fits");
    let (vfs, written) = disk();
    let mut file =
        Manifest::create(&vfs, dir, ManifestId(1), &state, &Owner::plain(DB)).expect("made");
    install_current(&vfs, dir, ManifestId(1), DB).expect("swapped");
    let then = Edit { ops: vec![EditOp::LogStart(LogId(1)), EditOp::LastSeq(Seq(5))] };
    file.commit(&then).expect("committed");
    assert_is("CURRENT", &written.read_file(&dir.join("CURRENT")).expect("there"));
    let mut bytes = written.read_file(&manifest).expect("there");
    // Without the space reserved at its end.
    let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    bytes.truncate(used.next_multiple_of(8));
    assert_is("manifest", &bytes);

    let (vfs, _) = disk();
    for (path, name) in [(&dir.join("CURRENT"), "CURRENT"), (&manifest, "manifest")] {
        let file = vfs.create(path).expect("made");
        write_all_at(&*file, &example(name), 0).expect("written");
    }
    state.apply(&then).expect("fits");
    assert_eq!(
        Manifest::load(&vfs, dir, &Owner::plain(DB)).expect("loads"),
        (state, ManifestId(1))
    );
}
