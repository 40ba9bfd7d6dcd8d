//! The memtable itself, its nodes split under readers, and its memory handed on. (`memtable/publication_model.rs` has its
//! protocol in small, under weaker orders of memory than this checker knows.)

use std::sync::Arc;

use super::explore::explore;
use crate::memtable::{Memtable, MemtableCursor, SpareChunks};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::thread;
use crate::types::{EntryValue, KeyspaceId, Seq};

/// Keys that are there at first: more than a node takes, so that the root is an inner one. Key `k`
/// is written by commit `k + 1`.
const FIRST: u8 = 15;
/// Keys of the writer, in front of the first ones, each behind the one before: leaves fill and are
/// split.
const MORE: u8 = 12;

fn key(n: u8) -> [u8; 2] {
    if n < FIRST { [9, n] } else { [5, n] }
}

fn insert(table: &Memtable, n: u8) {
    table.insert(&key(n), Seq(u64::from(n) + 1), EntryValue::Inline(&[n])).unwrap();
}

fn model() {
    let table = Arc::new(Memtable::new(KeyspaceId(0), Seq(1)));
    (0..FIRST).for_each(|n| insert(&table, n));
    let published = Arc::new(AtomicU64::new(u64::from(FIRST)));
    let writer = thread::spawn({
        let (table, published) = (Arc::clone(&table), Arc::clone(&published));
        move || {
            for n in FIRST..FIRST + MORE {
                insert(&table, n);
                published.store(u64::from(n) + 1, Ordering::Release);
            }
            // A newer version of a key that is read meanwhile.
            table.insert(&key(3), Seq(100), EntryValue::Tombstone).unwrap();
        }
    });
    let look_ups = thread::spawn({
        let (table, published) = (Arc::clone(&table), Arc::clone(&published));
        move || {
            for _ in 0..4 {
                let n = published.load(Ordering::Acquire) as u8 - 1;
                for n in [n, 3, FIRST - 1] {
                    let found = table.get(&key(n), Seq(99));
                    let expected = (Seq(u64::from(n) + 1), EntryValue::Inline(&[n]));
                    assert_eq!(found, Some(expected), "key {n} was published");
                }
            }
        }
    });
    let least = published.load(Ordering::Acquire) as usize;
    let mut cursor = MemtableCursor::new(Arc::clone(&table));
    let (mut keys, mut before) = (0, Vec::new());
    cursor.first();
    while cursor.valid() {
        assert!(cursor.key() >= before.as_slice(), "out of order");
        keys += usize::from(cursor.key() != before);
        before = cursor.key().to_vec();
        cursor.next();
    }
    assert!(keys >= least, "{keys} keys were walked over, {least} were published");
    walk_back(&table, published.load(Ordering::Acquire) as usize);
    writer.join().unwrap();
    look_ups.join().unwrap();
    for n in (0..FIRST + MORE).filter(|n| *n != 3) {
        assert!(table.get(&key(n), Seq(200)).is_some());
    }
}

/// From the last key to the first, each once. A search for the key before one that stood first in the upper
/// of two new nodes took the node that both were made of for the lower, and gave that node's last key.
fn walk_back(table: &Arc<Memtable>, least: usize) {
    let mut cursor = MemtableCursor::new(Arc::clone(table));
    let (mut keys, mut after) = (0, vec![u8::MAX]);
    cursor.last();
    while cursor.valid() {
        assert!(cursor.key() <= after.as_slice(), "out of order");
        keys += usize::from(cursor.key() != after);
        after = cursor.key().to_vec();
        cursor.prev();
    }
    assert!(keys >= least, "{keys} keys were walked over backwards, {least} were published");
}

/// Seen to fail when a slot is filled after the order names it, when the left of two new nodes is
/// shown before the right one, and when a search does not look at the order again.
#[test]
fn published_keys_are_found_while_nodes_split() {
    explore("published_keys_are_found_while_nodes_split", 12_000, model);
}

/// Entries of a memtable that comes to a full chunk (of 16 KiB here), and a little more.
const HANDED_ON: u16 = 50;

fn pattern(owner: u8, n: u16) -> [u8; 700] {
    let mut value = [owner; 700];
    value[..2].copy_from_slice(&n.to_be_bytes());
    value[698..].copy_from_slice(&n.to_be_bytes());
    value
}

/// Fills a memtable whose chunks come from `spare`, while another thread reads it, and lets go of it: whoever
/// is last gives the chunks back.
fn live_and_go(spare: &Arc<SpareChunks>, owner: u8) {
    let table = Arc::new(Memtable::with_spare(spare, KeyspaceId(0), Seq(1)));
    let reader = thread::spawn({
        let table = Arc::clone(&table);
        move || {
            for n in [0, HANDED_ON / 2, HANDED_ON - 1] {
                if let Some((_, value)) = table.get(&n.to_be_bytes(), Seq(u64::MAX)) {
                    assert_eq!(value, EntryValue::Inline(&pattern(owner, n)), "of another");
                }
            }
        }
    });
    for n in 0..HANDED_ON {
        let value = pattern(owner, n);
        table.insert(&n.to_be_bytes(), Seq(u64::from(n) + 1), EntryValue::Inline(&value)).unwrap();
    }
    for n in 0..HANDED_ON {
        let found = table.get(&n.to_be_bytes(), Seq(u64::MAX)).expect("was inserted");
        assert_eq!(found.1, EntryValue::Inline(&pattern(owner, n)), "of another");
    }
    drop(table);
    reader.join().unwrap();
}

fn handing_on() {
    let spare = Arc::new(SpareChunks::new(true));
    let other = thread::spawn({
        let spare = Arc::clone(&spare);
        move || (1..=2).for_each(|owner| live_and_go(&spare, owner))
    });
    let idle = thread::spawn({
        let spare = Arc::clone(&spare);
        move || spare.release()
    });
    (3..=4).for_each(|owner| live_and_go(&spare, owner));
    other.join().unwrap();
    idle.join().unwrap();
    // At most what one memtable had, however many lived at once.
    assert!(spare.bytes() <= 2 * 16 * 1024, "{} bytes are kept", spare.bytes());
    spare.release();
    assert_eq!(spare.bytes(), 0);
}

/// Seen to fail when a chunk is handed on and kept, and when chunks are kept beyond what one memtable had.
#[test]
fn no_chunk_has_two_memtables() {
    explore("no_chunk_has_two_memtables", 1_000, handing_on);
}
