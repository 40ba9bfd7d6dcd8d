//! Which Zstandard dictionary a flush or merge packs its leaves with, if any.
//!
//! 1. A segment carries the dictionary that its leaves were packed with (see `segment::header`), so
//!    no other file, edit or merge can part them: here it is only chosen for the next ones.
//! 2. One is used only where leaves that it was not trained on shrink by it, its own bytes
//!    in every segment counted.
//! 3. A keyspace goes on with the one it has while that helps, so that its segments share one in
//!    memory. One is trained by a merge, from leaves of its inputs; where that did not pay it is
//!    tried again only once a merge has twice as much.

use std::sync::Arc;

use crate::compress::{
    Codec, Dictionary, MAX_DICTIONARY_BYTES, MIN_DICTIONARY_BYTES, Packer, Packing,
};
use crate::error::Result;
use crate::store::environment::Environment;
use crate::store::keyspace::KeyspaceStore;
use crate::tree::PartitionReader;

/// A dictionary is at most one part in so many of what a segment will hold.
const LEAST_SHARE: u64 = 32;
/// What is trained on: so many times the dictionary.
const TRAINING_FACTOR: usize = 100;
/// Leaves that a dictionary is judged by.
const JUDGED_LEAVES: usize = 48;
/// It must save one part in so many.
const LEAST_SAVING: u64 = 20;

/// What a keyspace knows of dictionaries.
#[derive(Debug, Default)]
pub struct Choice {
    /// The one in use.
    current: Option<Arc<Dictionary>>,
    /// What it saved when it was trained, in thousandths.
    saved: u64,
    /// No training for merges of fewer stored bytes.
    not_below: u64,
}

/// The longest dictionary that pays in a segment of `stored_bytes`.
fn fitting(keyspace: &KeyspaceStore, stored_bytes: u64) -> Option<usize> {
    if keyspace.options.packing.codec != Codec::Zstd {
        return None;
    }
    let segment = stored_bytes.min(keyspace.options.partition_bytes());
    let most = ((segment / LEAST_SHARE) as usize).min(MAX_DICTIONARY_BYTES);
    (most >= MIN_DICTIONARY_BYTES).then_some(most)
}

/// The dictionary for a flush of about `stored_bytes`: the keyspace's, as it is.
pub fn for_flush(keyspace: &KeyspaceStore, stored_bytes: u64) -> Option<Arc<Dictionary>> {
    let most = fitting(keyspace, stored_bytes)?;
    keyspace.dictionary.lock().current.clone().filter(|d| d.bytes().len() <= most)
}

/// The dictionary for a merge of `inputs` that writes at least `stored_bytes`. The caller holds the
/// merge latch. A leaf that cannot be read is for the merge to tell, if it needs it: many keep
/// their place unread.
pub fn for_merge(
    env: &Environment,
    keyspace: &KeyspaceStore,
    inputs: &[Arc<PartitionReader>],
    stored_bytes: u64,
) -> Option<Arc<Dictionary>> {
    let most = fitting(keyspace, stored_bytes)?;
    choose(env, keyspace, inputs, stored_bytes, most).ok().flatten()
}

fn choose(
    env: &Environment,
    keyspace: &KeyspaceStore,
    inputs: &[Arc<PartitionReader>],
    stored_bytes: u64,
    most: usize,
) -> Result<Option<Arc<Dictionary>>> {
    let level = keyspace.options.packing.level;
    let page_bytes = u64::from(keyspace.options.page_bytes);
    let segment_bytes = stored_bytes.min(keyspace.options.partition_bytes());
    let (current, saved, not_below) = {
        let choice = keyspace.dictionary.lock();
        (choice.current.clone(), choice.saved, choice.not_below)
    };
    // After an opening: that of the files.
    let current = current.or_else(|| carried(inputs));
    let is_due = stored_bytes >= not_below;
    if current.as_ref().map_or(!is_due, |d| d.bytes().len() > most) {
        return Ok(None);
    }
    let kept = match current {
        Some(current) => {
            let judged = sample(env, inputs, page_bytes, JUDGED_LEAVES)?;
            Some((saving(&current, level, &judged), current))
        }
        None => None,
    };
    let kept = kept.filter(|(now, d)| 2 * now >= saved && pays(*now, d, segment_bytes));
    // Much larger ones pay by now.
    let outgrown = |d: &Dictionary| 4 * d.bytes().len() <= most;
    if let Some((now, current)) = &kept
        && !(is_due && outgrown(current))
    {
        let mut choice = keyspace.dictionary.lock();
        choice.saved = saved.max(*now);
        choice.current = Some(Arc::clone(current));
        return Ok(choice.current.clone());
    }
    if !is_due {
        return Ok(None);
    }
    let wanted = (most * TRAINING_FACTOR / page_bytes as usize).max(2 * JUDGED_LEAVES);
    let mut training = sample(env, inputs, page_bytes, wanted)?;
    // Every fourth is kept back to judge by.
    let mut judged = Vec::new();
    let mut n = 0;
    training.retain_mut(|leaf| {
        n += 1;
        let keep = n % 4 != 0;
        if !keep && judged.len() < JUDGED_LEAVES {
            judged.push(std::mem::take(leaf));
        }
        keep
    });
    let trained = Dictionary::train(&training, most).map(|d| env.dictionaries.share(d));
    let trained = trained.map(|d| (saving(&d, level, &judged), d));
    let trained = trained.filter(|(now, d)| pays(*now, d, segment_bytes));
    let best = trained.into_iter().chain(kept).max_by_key(|(now, _)| *now);
    let mut choice = keyspace.dictionary.lock();
    choice.not_below = 2 * stored_bytes;
    (choice.saved, choice.current) = match best {
        Some((saved, best)) => (saved, Some(best)),
        None => (0, None),
    };
    Ok(choice.current.clone())
}

/// Whether a saving of so many thousandths is worth a dictionary in each segment.
fn pays(saving: u64, dictionary: &Dictionary, segment_bytes: u64) -> bool {
    let own = 1000 * dictionary.bytes().len() as u64 / segment_bytes.max(1);
    saving >= own + 1000 / LEAST_SAVING
}

/// The newest dictionary that a segment of `inputs` carries.
fn carried(inputs: &[Arc<PartitionReader>]) -> Option<Arc<Dictionary>> {
    let segments = inputs.iter().flat_map(|p| p.segments());
    let newest = segments.filter(|s| s.codec() == Codec::ZstdDictionary).max_by_key(|s| s.id());
    newest?.dictionary().ok()
}

/// What `dictionary` saves of what `leaves` take without one, in thousandths.
fn saving(dictionary: &Dictionary, level: i32, leaves: &[Vec<u8>]) -> u64 {
    let packed = |mut packer: Packer, codec| {
        let mut out = Vec::new();
        for leaf in leaves {
            packer.pack(Packing::new(codec, Some(level)), leaf, &mut out);
        }
        out.len() as u64
    };
    let without = packed(Packer::default(), Codec::Zstd);
    let with = Packer::with_dictionary(dictionary, level);
    let with = packed(with, Codec::ZstdDictionary);
    1000 * without.saturating_sub(with) / without.max(1)
}

/// About `wanted` leaves of `inputs`, spread over all of them.
fn sample(
    env: &Environment,
    inputs: &[Arc<PartitionReader>],
    page_bytes: u64,
    wanted: usize,
) -> Result<Vec<Vec<u8>>> {
    let all: u64 = inputs.iter().map(|p| p.meta().live_bytes).sum();
    let mut leaves = Vec::new();
    for partition in inputs {
        env.check_running()?;
        let m = partition.meta();
        let share = wanted as u128 * u128::from(m.live_bytes) / u128::from(all.max(1));
        let there = m.raw_bytes / page_bytes;
        let step = there / (share as u64).max(1);
        partition.sample_leaves(&env.pager, step as usize, &mut leaves)?;
    }
    Ok(leaves)
}
