//! Indexes against the rows that they are over, in both directions, at one view.
//!
//! Differences name the index and the place of the row or the entry in order, never bytes of keys.

use std::sync::Arc;

use super::{Problem, VerifyReport};
use crate::error::Result;
use crate::index::IndexKey;
use crate::index::value::FIRST_TAG;
use crate::maintenance::core::Core;
use crate::maintenance::indexes::LiveIndex;
use crate::store::cursor::MergedCursor;
use crate::store::keyspace::KeyspaceStore;
use crate::store::lookup;
use crate::store::view::View;

/// So many differences of one index are named; the others are counted.
const NAMED: u64 = 16;

/// Compares every index that is ready and whose function is there.
pub(super) fn verify_indexes(core: &Core, report: &mut VerifyReport) -> Result<()> {
    let keyspaces = core.all();
    for (id, indexes) in &*core.indexes.all() {
        let Some(keyspace) = keyspaces.iter().find(|k| k.id == *id) else { continue };
        for index in indexes {
            let view = core.view();
            if index.check_readable(view.seq()).is_err() {
                continue;
            }
            let mut differences = Differences::new(core, keyspace, index);
            compare(core, keyspace, index, &view, &mut differences, report)?;
            report.problems.extend(differences.into_problems());
        }
    }
    Ok(())
}

/// What was found of one index.
struct Differences<'a> {
    core: &'a Core,
    name: String,
    found: u64,
    named: Vec<String>,
}

impl<'a> Differences<'a> {
    fn new(core: &'a Core, keyspace: &KeyspaceStore, index: &LiveIndex) -> Self {
        let name = format!("index {:?} of keyspace {:?}", index.name, keyspace.name);
        Self { core, name, found: 0, named: Vec::new() }
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        self.found += 1;
        if self.found <= NAMED {
            self.named.push(what());
        }
    }

    fn into_problems(self) -> impl Iterator<Item = Problem> {
        let more = self.found.saturating_sub(NAMED);
        let more = (more > 0).then(|| format!("{more} more differences"));
        let file = self.core.env.dir.join("CURRENT");
        let all = self.named.into_iter().chain(more);
        all.map(move |what| Problem {
            file: file.clone(),
            offset: 0,
            message: format!("{}: {what}", self.name),
        })
    }
}

fn compare(
    core: &Core,
    keyspace: &Arc<KeyspaceStore>,
    index: &LiveIndex,
    view: &View,
    differences: &mut Differences<'_>,
    report: &mut VerifyReport,
) -> Result<()> {
    let (env, way, at) = (&core.env, index.way()?, view.seq());
    let now = view.moment();
    let get = |store: &KeyspaceStore, key: &[u8]| {
        lookup::get_at(env, store, &store.version(), key, at, now)
    };
    let cursor = |store: &Arc<KeyspaceStore>| {
        let blobs = Arc::clone(&env.blobs);
        MergedCursor::new(store, at, now, &env.pager, blobs, env.read_ahead)
    };
    let mut rows = cursor(keyspace);
    let (mut more, mut number) = (rows.first()?, 0_u64);
    while more && let Some(key) = rows.key() {
        let key = key.to_vec();
        let value = rows.value()?.unwrap_or_default();
        for entry in way.entries_there(&key, &value) {
            if get(&index.store, &entry.bytes)?.is_none() {
                differences.note(|| {
                    let bytes = key.len();
                    format!("row number {number}, with a key of {bytes} bytes, lacks an entry")
                });
            }
        }
        number += 1;
        more = rows.next()?;
    }
    let mut entries = cursor(&index.store);
    let (mut more, mut number) = (entries.seek(&[FIRST_TAG])?, 0_u64);
    let mut before: Option<Vec<u8>> = None;
    while more && let Some(entry) = entries.key() {
        report.index_entries += 1;
        let Ok((index_key, key)) = IndexKey::decode_entry(entry) else {
            differences.note(|| format!("entry number {number} cannot be read"));
            number += 1;
            more = entries.next()?;
            continue;
        };
        let theirs = match get(keyspace, key)? {
            Some(value) => way.entries_there(key, &value),
            None => Vec::new(),
        };
        match theirs.iter().find(|e| e.bytes == entry) {
            None => differences.note(|| {
                let bytes = key.len();
                format!(
                    "entry number {number} is not that of a row: none with this key of {bytes} \
                     bytes gives its {} parts",
                    index_key.parts().len()
                )
            }),
            Some(e) if index.spec.is_unique() && e.counts => {
                if before.as_deref() == Some(e.prefix()) {
                    differences.note(|| {
                        format!("entry number {number} has the index key of the one before it")
                    });
                }
                before = Some(e.prefix().to_vec());
            }
            Some(_) => {}
        }
        number += 1;
        more = entries.next()?;
    }
    Ok(())
}
