//! The row cache by itself: what is there is the newest, within the budget, whoever races.

use super::*;

const KEYSPACE: KeyspaceId = KeyspaceId(1);

fn cache(budget: u64, last: u64) -> RowCache {
    let cache = RowCache::new(budget);
    assert!(cache.wants_table());
    cache.enable(Seq(last));
    assert!(!cache.wants_table());
    cache
}

fn get(cache: &RowCache, key: &[u8]) -> Option<Vec<u8>> {
    cache.get(KEYSPACE, key, hash_key(key), || Seq(u64::MAX)).map(|row| row_value(&row).to_vec())
}

fn offer(cache: &RowCache, key: &[u8], at: u64, value: &[u8]) {
    cache.offer(KEYSPACE, key, hash_key(key), Seq(at), value);
}

#[test]
fn where_room_is_scarce_a_key_is_taken_in_at_its_second_read() {
    let cache = cache(1 << 20, 0);
    let mut n = 0_u32;
    while cache.stats().used_bytes < 7 << 17 {
        n += 1;
        offer(&cache, &n.to_be_bytes(), 0, &[7; 100]);
    }
    assert_eq!(cache.stats().admitted, u64::from(n), "each at its first read");
    let full = cache.stats().admitted;
    for n in 1_000_000..1_001_000_u32 {
        offer(&cache, &n.to_be_bytes(), 0, &[7; 100]);
        assert!(get(&cache, &n.to_be_bytes()).is_none() || cache.stats().admitted > full);
    }
    // Tags are of one byte: a few are taken for those of other keys.
    assert!(cache.stats().admitted < full + 50, "{:?}", cache.stats());
    let n = 1_000_999_u32.to_be_bytes();
    offer(&cache, &n, 0, &[7; 100]);
    assert!(get(&cache, &n).is_some());
}

#[test]
fn a_row_goes_with_a_write() {
    let cache = cache(1 << 20, 5);
    offer(&cache, b"key", 5, b"value");
    assert_eq!(get(&cache, b"key").as_deref(), Some(&b"value"[..]));
    assert_eq!(cache.get(KeyspaceId(2), b"key", hash_key(b"key"), || Seq(9)).map(|_| ()), None);
    cache.note_write(KEYSPACE, b"key", Seq(9), None);
    assert_eq!(get(&cache, b"key"), None);
    // Read before the write: not the newest any more.
    for _ in 0..3 {
        offer(&cache, b"key", 8, b"value");
    }
    assert_eq!(get(&cache, b"key"), None);
    offer(&cache, b"key", 9, b"new");
    assert_eq!(get(&cache, b"key").as_deref(), Some(&b"new"[..]));
    // Who reads at an older number does not see it.
    let at = |at| cache.get_at(KEYSPACE, b"key", hash_key(b"key"), Seq(at)).is_some();
    assert_eq!((at(8), at(9), at(10)), (false, true, true));
    assert_eq!((cache.stats().hits, cache.stats().admitted), (4, 2));
}

#[test]
fn a_row_that_is_read_is_renewed_by_a_write_and_seen_once_that_is_visible() {
    let cache = cache(1 << 20, 5);
    let hash = hash_key(b"key");
    let seen = |visible| cache.get(KEYSPACE, b"key", hash, || Seq(visible));
    let value = |visible| seen(visible).map(|row| row_value(&row).to_vec());
    offer(&cache, b"key", 5, b"value");
    let held = seen(5).expect("it is there");
    // Of the same length, of another, and while a reader holds the row.
    for (seq, new) in [(6, &b"other"[..]), (7, b"longer than that"), (8, b""), (9, b"x")] {
        cache.note_write(KEYSPACE, b"key", Seq(seq), Some(new));
        assert_eq!(value(seq - 1), None, "not visible yet");
        assert!(cache.get_at(KEYSPACE, b"key", hash, Seq(seq - 1)).is_none());
        assert_eq!(value(seq).as_deref(), Some(new));
        assert_eq!(value(seq).as_deref(), Some(new), "again");
    }
    assert_eq!(row_value(&held), b"value", "who holds a row keeps it as it was");
    // Written twice before it is read again: it goes. So does what is too large.
    cache.note_write(KEYSPACE, b"key", Seq(10), Some(b"1"));
    cache.note_write(KEYSPACE, b"key", Seq(11), Some(b"2"));
    assert_eq!(value(11), None);
    offer(&cache, b"key", 11, b"2");
    cache.note_write(KEYSPACE, b"key", Seq(12), Some(&[0; MAX_ROW_BYTES]));
    assert_eq!(value(12), None);
    let table = (1_u64 << 20) / BYTES_PER_BUCKET * size_of::<Bucket>() as u64;
    let used = |rows: u64| table + rows * (3 + 1 + ROW_OVERHEAD_BYTES);
    assert_eq!(cache.stats().used_bytes, used(1), "it was forgotten where it lies");
    offer(&cache, b"key", 12, b"3");
    assert_eq!((value(12).as_deref(), cache.stats().used_bytes), (Some(&b"3"[..]), used(1)));
    cache.note_write(KEYSPACE, b"key", Seq(13), None);
    assert_eq!((value(13), cache.stats().used_bytes), (None, used(1)));
    assert_eq!(cache.evict(1.0), used(1) - table);
    assert_eq!(cache.stats().used_bytes, table);
}

/// Seen to fail without the notes of what was missed, and of what was forgotten.
#[test]
fn rows_are_renewed_for_as_long_as_readers_come_back_for_them() {
    let cache = cache(1 << 20, 0);
    let keys: Vec<_> = (0..200_u64).map(u64::to_be_bytes).collect();
    let mut seq = 0;
    let mut write_all = |times: usize| {
        for key in (0..times).flat_map(|_| &keys) {
            seq += 1;
            cache.note_write(KEYSPACE, key, Seq(seq), Some(&seq.to_be_bytes()));
        }
        seq
    };
    // How many are there; the others are taken in.
    let read_all = |last: u64| {
        let found = |key: &&[u8; 8]| match get(&cache, *key) {
            Some(value) => {
                let from = last - keys.len() as u64;
                assert!(u64::from_be_bytes(value.try_into().unwrap()) > from, "the newest");
                true
            }
            None => {
                offer(&cache, *key, last, &last.to_be_bytes());
                false
            }
        };
        keys.iter().filter(found).count()
    };
    read_all(write_all(1));
    assert_eq!(read_all(write_all(2)), 0, "renewed once, and forgotten");
    let found: Vec<_> = (0..30).map(|_| read_all(write_all(3))).collect();
    assert!(found[20..].iter().sum::<usize>() > 1500, "of 2000: {found:?}");
    // Many in a bucket, and more of them than steps.
    let crowded = RowCache::new(2 << 20);
    crowded.enable(Seq(0));
    let (mut seq, mut found) = (0, Vec::new());
    for _ in 0..40 {
        for key in (0..3).flat_map(|_| 0..9000_u64) {
            seq += 1;
            crowded.note_write(KEYSPACE, &key.to_be_bytes(), Seq(seq), Some(&seq.to_be_bytes()));
        }
        found.push(
            (0..9000_u64)
                .filter(|key| {
                    let key = key.to_be_bytes();
                    let there = get(&crowded, &key).is_some();
                    offer(&crowded, &key, seq, &seq.to_be_bytes());
                    there
                })
                .count(),
        );
    }
    assert!(found[30..].iter().sum::<usize>() > 45_000, "of 90000: {found:?}");
    // Read so seldom that they are not worth it.
    for _ in 0..30 {
        read_all(write_all(100));
    }
    let found = read_all(write_all(2));
    assert!(found < 20, "renewed once, and forgotten, but for a few: {found}");
}

#[test]
fn a_span_counts_as_a_write_to_buckets_that_nobody_has_used() {
    let cache = cache(1 << 20, 5);
    offer(&cache, b"inside", 5, b"1");
    offer(&cache, b"outside", 5, b"2");
    cache.note_span(KEYSPACE, b"a", b"j", Seq(9));
    assert_eq!(get(&cache, b"inside"), None);
    assert!(get(&cache, b"outside").is_some());
    for n in 0..300_u32 {
        offer(&cache, &n.to_be_bytes(), 8, b"old");
        assert_eq!(get(&cache, &n.to_be_bytes()), None, "{n} was read before the span was written");
        offer(&cache, &n.to_be_bytes(), 9, b"new");
        assert!(get(&cache, &n.to_be_bytes()).is_some());
    }
}

/// Where nobody ever reads what is in the buckets of forgotten rows, these go all the same.
#[test]
fn a_few_new_keys_are_taken_in_while_everything_else_was_forgotten() {
    let cache = cache(1 << 20, 0);
    let value = [7; 1000];
    let keys: Vec<_> = (0..5000_u32).map(u32::to_be_bytes).collect();
    for key in &keys {
        offer(&cache, key, 0, &value);
        offer(&cache, key, 0, &value);
    }
    assert!(cache.stats().used_bytes > 15 << 16, "full: {:?}", cache.stats());
    for key in &keys {
        cache.note_write(KEYSPACE, key, Seq(1), None);
    }
    let hot: Vec<_> = (1_000_000..1_000_100_u32).map(u32::to_be_bytes).collect();
    for _ in 0..20 {
        for key in hot.iter().filter(|key| get(&cache, *key).is_none()) {
            offer(&cache, key, 1, &value);
        }
    }
    let there = hot.iter().filter(|key| get(&cache, *key).is_some()).count();
    assert!(there > 95, "{there} of 100: {:?}", cache.stats());
}

#[test]
fn rows_that_were_forgotten_make_room_for_others() {
    let cache = cache(1 << 20, 0);
    for round in 0..20_u64 {
        let keys: Vec<_> = (0..8000_u64).map(|n| (round * 8000 + n).to_be_bytes()).collect();
        let admitted = cache.stats().admitted;
        for key in &keys {
            offer(&cache, key, round, &[7; 100]);
            offer(&cache, key, round, &[7; 100]);
        }
        assert!(cache.stats().admitted > admitted + 4000, "round {round}: {:?}", cache.stats());
        assert!(cache.stats().used_bytes <= 1 << 20);
        for key in &keys {
            cache.note_write(KEYSPACE, key, Seq(round + 1), None);
            assert_eq!(get(&cache, key), None);
        }
    }
}

#[test]
fn what_was_read_before_the_table_was_made_is_not_taken_in() {
    let cache = cache(1 << 20, 5);
    for _ in 0..3 {
        offer(&cache, b"key", 4, b"old");
    }
    assert_eq!(get(&cache, b"key"), None);
}

#[test]
fn small_budgets_make_no_table() {
    let cache = RowCache::new(MIN_ROW_BUDGET_BYTES - 1);
    assert!(!cache.wants_table());
    cache.enable(Seq(0));
    offer(&cache, b"key", 5, b"value");
    offer(&cache, b"key", 5, b"value");
    cache.note_write(KEYSPACE, b"key", Seq(9), None);
    assert_eq!((get(&cache, b"key"), cache.evict(1.0)), (None, 0));
    assert_eq!(cache.stats(), RowStats::default());
}

#[test]
fn rows_go_with_a_range_delete_that_covers_them_and_others_stay() {
    for deletes in [1, 3, 200] {
        let cache = cache(1 << 20, 5);
        for n in 0..100_u8 {
            offer(&cache, &[n], 5, b"value");
        }
        cache.offer(KeyspaceId(2), &[50], hash_key(&[50]), Seq(5), b"other");
        for i in 0..deletes {
            let (from, to) = if i == 0 { ([40], [60]) } else { ([200], [201]) };
            cache.note_ranges([(KEYSPACE, &from[..], Some(&to[..]))].into_iter(), Seq(6 + i));
        }
        let last = 5 + deletes;
        for n in 0..100_u8 {
            // Who read before the range delete offers in vain.
            offer(&cache, &[n], last - 1, b"late");
            let there = get(&cache, &[n]).is_some();
            assert!(!there || !(40..60).contains(&n), "{n} after {deletes}");
            // Too many to remember: every row goes.
            assert!(there || deletes > 64 || (40..60).contains(&n), "{n} after {deletes}");
            offer(&cache, &[n], last, b"new");
            assert!(get(&cache, &[n]).is_some());
        }
        if deletes < 64 {
            let other = cache.get(KeyspaceId(2), &[50], hash_key(&[50]), || Seq(900));
            assert!(other.is_some(), "of another keyspace");
        }
        // A write to a bucket that is behind leaves nothing that is covered.
        cache.note_ranges([(KEYSPACE, &[0][..], None)].into_iter(), Seq(900));
        for n in 0..=255_u8 {
            cache.note_write(KEYSPACE, &[n], Seq(901), None);
        }
        assert!((0..100).all(|n| get(&cache, &[n]).is_none()));
    }
}

/// Against a map: never a value that is not the newest, never more bytes than there may be.
#[test]
fn rows_are_the_newest_values_within_the_budget() {
    let mut rng = fastrand::Rng::with_seed(1);
    for budget in [1 << 20, 3 << 20] {
        let cache = cache(budget, 0);
        let mut newest = std::collections::HashMap::new();
        let (mut seq, mut visible, mut hits, mut renewed) = (0, 0, 0, 0);
        for _ in 0..400_000 {
            let n = rng.u32(0..20_000);
            let key = n.to_be_bytes();
            match rng.u32(0..10) {
                0 => {
                    seq += 1;
                    let value = vec![rng.u8(..); rng.usize(0..6) * 50];
                    let by_write = rng.bool();
                    cache.note_write(KEYSPACE, &key, Seq(seq), by_write.then_some(&value[..]));
                    newest.insert(n, (seq, value, by_write));
                }
                1 if rng.u32(0..1_000) == 0 => {
                    seq += 1;
                    let end = n + rng.u32(0..3_000);
                    let (from, to) = (&n.to_be_bytes()[..], &end.to_be_bytes()[..]);
                    cache.note_ranges([(KEYSPACE, from, Some(to))].into_iter(), Seq(seq));
                    newest.retain(|k, _| !(n..end).contains(k));
                }
                2 => visible = seq,
                1 if rng.u32(0..10_000) == 0 => _ = cache.evict(rng.f64()),
                _ => {
                    let expected = newest.get_mut(&n);
                    let row = cache.get(KEYSPACE, &key, hash_key(&key), || Seq(visible));
                    if let Some(row) = row {
                        let (written, value, by_write) = expected.expect("there is a value");
                        assert!(*written <= visible, "seen too early");
                        assert_eq!(row_value(&row), value);
                        hits += 1;
                        renewed += u32::from(std::mem::take(by_write));
                    } else if let Some((written, value, by_write)) = expected
                        && *written <= visible
                    {
                        offer(&cache, &key, visible, value);
                        *by_write = false;
                    }
                    assert!(cache.stats().used_bytes <= budget);
                }
            }
        }
        assert!(hits > 50_000 && renewed > 1_000, "{hits} {renewed}");
        cache.evict(1.0);
        let table = (budget / BYTES_PER_BUCKET).next_power_of_two() * size_of::<Bucket>() as u64;
        assert_eq!(cache.stats().used_bytes, table, "what is let go of is counted");
    }
}

#[test]
fn rows_that_are_read_outlive_those_that_are_not() {
    let cache = cache(1 << 20, 0);
    let hot: Vec<[u8; 4]> = (0..500_u32).map(u32::to_be_bytes).collect();
    for turn in 0..20_u32 {
        for key in &hot {
            if get(&cache, key).is_none() {
                offer(&cache, key, 0, &[7; 100]);
            }
        }
        for n in 0..2_000_u32 {
            let cold = (1_000_000 + turn * 2_000 + n).to_be_bytes();
            offer(&cache, &cold, 0, &[8; 100]);
            offer(&cache, &cold, 0, &[8; 100]);
        }
    }
    let kept = hot.iter().filter(|key| get(&cache, *key).is_some()).count();
    assert!(kept > 350, "{kept} of {} rows read again and again", hot.len());
}
