//! Measures, by hand, what ADR 24 weighs: ways to find a key in a leaf, and leaves that leave out
//! what their keys share. `LIGHTNING_CODEC_FILE=FILE cargo test --release -p lightning_db --lib
//! leaf_speed -- --ignored --nocapture`; of the file's lines each is a key up to its first comma,
//! and a value behind it.

use std::hint::black_box;
use std::time::Instant;

use super::leaf::{LeafBuilder, LeafView};
use crate::compress::{Codec, Packer, Packing};
use crate::types::{Seq, hash_key, key_head};

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// Finds a key, given with its hash, in a leaf.
type Search<'a> = dyn Fn(usize, &[u8], u64) -> Option<usize> + 'a;

const LEAF_BYTES: usize = 4096;
const ROUNDS: usize = 1_000_000;

fn value(rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut value = vec![b'v'; 100];
    rng.fill(&mut value[..50]);
    value
}

fn sorted(mut pairs: Pairs) -> Pairs {
    pairs.sort();
    pairs.dedup_by(|a, b| a.0 == b.0);
    pairs
}

fn random_pairs(n: usize) -> Pairs {
    let mut rng = fastrand::Rng::with_seed(1);
    sorted(
        (0..n)
            .map(|_| (std::array::from_fn::<u8, 16, _>(|_| rng.u8(..)).to_vec(), value(&mut rng)))
            .collect(),
    )
}

fn shared(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Leaves of these pairs, and where in `pairs` each begins. A leaf whose keys share bytes keeps
/// them once, in front, if `truncated`.
fn leaves(pairs: &Pairs, truncated: bool) -> Vec<(usize, Vec<u8>)> {
    let mut all = Vec::new();
    let mut first = 0;
    while first < pairs.len() {
        let cut =
            |end: usize| if truncated { shared(&pairs[first].0, &pairs[end - 1].0) } else { 0 };
        let mut bytes = 12;
        let mut end = first;
        while end < pairs.len() {
            let (key, value) = &pairs[end];
            bytes += 1 + 4 + 1 + key.len() + value.len();
            end += 1;
            let saved = cut(end) * (end - first - 1);
            if bytes.saturating_sub(saved) > LEAF_BYTES && end > first + 1 {
                end -= 1;
                break;
            }
        }
        let cut = cut(end);
        let mut leaf = LeafBuilder::new();
        for (key, value) in &pairs[first..end] {
            leaf.push(&key[cut..], Seq(0), crate::types::EntryValue::Inline(value));
        }
        let mut payload = Vec::new();
        leaf.finish(&mut payload);
        payload.extend_from_slice(&pairs[first].0[..cut]);
        all.push((first, payload));
        first = end;
    }
    all
}

#[test]
#[ignore = "measurement, run by hand"]
fn truncated_prefixes() {
    let mut rng = fastrand::Rng::with_seed(2);
    let numbered = (0..1_000_000)
        .map(|i| (format!("customer/orders/{i:012}").into_bytes(), value(&mut rng)))
        .collect();
    let mut sets = vec![
        ("random keys of 16 bytes", random_pairs(1_000_000)),
        ("numbered keys of 28", numbered),
    ];
    if let Ok(file) = std::env::var("LIGHTNING_CODEC_FILE") {
        let text = std::fs::read(file).expect("a file");
        let line = |line: &[u8]| {
            let comma = line.iter().position(|&b| b == b',').unwrap_or(line.len());
            let value = &line[comma..];
            (line[..comma].to_vec(), value[..value.len().min(2000)].to_vec())
        };
        sets.push(("the file's", sorted(text.split(|&b| b == b'\n').map(line).collect())));
    }
    for (name, pairs) in sets {
        let sizes = |truncated| {
            let mut packer = Packer::default();
            let leaves = leaves(&pairs, truncated);
            let raw: usize = leaves.iter().map(|(_, leaf)| leaf.len()).sum();
            let pack = |leaf: &[u8]| {
                let mut out = Vec::new();
                packer.pack(Packing::from(Codec::Lz4), leaf, &mut out);
                out.len()
            };
            let stored: usize = leaves.iter().map(|(_, leaf)| leaf.as_slice()).map(pack).sum();
            (leaves.len(), raw, stored)
        };
        let (whole, cut) = (sizes(false), sizes(true));
        let less = |a: usize, b: usize| 100.0 - 100.0 * b as f64 / a as f64;
        println!(
            "{name}: {whole:?} leaves, bytes, packed; {cut:?} truncated: {:.1}%, {:.1}%, {:.1}% less",
            less(whole.0, cut.0),
            less(whole.1, cut.1),
            less(whole.2, cut.2)
        );
    }
}

#[test]
#[ignore = "measurement, run by hand"]
fn searches() {
    println!("ns to find a key in its leaf    tags  plain binary  binary by heads");
    for (name, n) in [("200 leaves", 6_000), ("33,000 leaves, memory", 1_000_000)] {
        let pairs = random_pairs(n);
        let leaves = leaves(&pairs, false);
        // The first eight bytes of each key, as a column of them in the leaf would lie.
        let heads: Vec<u64> = pairs.iter().map(|(key, _)| key_head(key)).collect();
        let mut rng = fastrand::Rng::with_seed(3);
        let asked: Vec<(usize, [u8; 16], u64)> = (0..ROUNDS)
            .map(|_| {
                let i = rng.usize(..pairs.len());
                let leaf = leaves.partition_point(|(first, _)| *first <= i) - 1;
                let key = pairs[i].0.as_slice().try_into().expect("16 bytes");
                (leaf, key, hash_key(&pairs[i].0))
            })
            .collect();
        for absent in [false, true] {
            let time = |search: &Search<'_>| {
                let began = Instant::now();
                let mut found = 0;
                for k in 0..ROUNDS {
                    // Each waits for the one before, as a caller's next get does.
                    let (leaf, mut key, hash) = asked[k + (black_box(found) >> 60)];
                    if absent {
                        key[15] ^= 1;
                    }
                    let hash = if absent { hash ^ hash.rotate_left(32) } else { hash };
                    let answer = search(leaf, &key, hash);
                    assert_eq!(answer.is_none(), absent);
                    found = answer.unwrap_or(0);
                }
                began.elapsed().as_nanos() as f64 / ROUNDS as f64
            };
            let view = |leaf: usize| LeafView::new(&leaves[leaf].1);
            let tags = time(&|leaf, key, hash| view(leaf).find(key, hash));
            let plain = time(&|leaf, key, _| {
                let view = view(leaf);
                let i = view.lower_bound(key);
                (i < view.len() && view.key(i) == key).then_some(i)
            });
            let by_heads = time(&|leaf, key, _| {
                let first = leaves[leaf].0;
                let view = view(leaf);
                let wanted = key_head(key);
                let i = heads[first..first + view.len()].partition_point(|&head| head < wanted);
                (i < view.len() && view.key(i) == key).then_some(i)
            });
            let what = if absent { "absent" } else { "there" };
            println!("{name:<22} {what:<6} {tags:>7.0} {plain:>13.0} {by_heads:>16.0}");
        }
    }
}
