//! Moments of the past, against the versions that the model keeps.
//!
//! How far back the past is kept may depend on the setting, so that nothing here goes into the run's
//! hash.

use std::time::Duration;

use lightning_db::ErrorKind;

use crate::model::Life;
use crate::operation::{Key, Value};
use crate::world::{World, refused};

/// A retention that no run outlives.
const LONG: Duration = Duration::from_secs(1 << 30);

impl World<'_> {
    pub fn look_back(&mut self, n: u8, key: Key, part: u16) {
        let last = self.model.last;
        let oldest = self.db.oldest_moment().0;
        assert!(oldest <= last);
        if self.retention() == Some(LONG) {
            assert_eq!(oldest, 0, "the oldest moment");
        }
        refused(self.db.snapshot_at(last + 1), ErrorKind::InvalidArgument);
        if oldest > 0 {
            refused(self.db.snapshot_at(oldest - 1), ErrorKind::TooOld);
        }
        let at = oldest + (last - oldest) * u64::from(part) / 1000;
        let snapshot = self.db.snapshot_at(at).expect("a moment that is kept");
        // Of lives it shows what there was at any time that is kept.
        let at = self.model.with_hour(at, self.retention() != Some(LONG));
        let (keyspace, life) = self.keyspace(n);
        let bytes = &self.keys[key as usize];
        let got = snapshot.get_in(&keyspace, bytes).expect("get_in");
        let want = self.model.get(life, key, at).map(Value::bytes);
        assert!(got == want, "key {key} at {at}");
        let forward = snapshot.range_in(&keyspace, None, None).expect("a range");
        self.same_moment(forward, self.model.entries(life, 0, None, at));
        let backward = snapshot.range_in(&keyspace, None, None).expect("a range").rev();
        let entries = self.model.entries(life, 0, None, at);
        self.same_moment(backward, entries.into_iter().rev().collect());
        drop(snapshot);
        self.same_history(&keyspace, life, key, oldest);
    }

    fn same_moment(
        &self,
        got: impl Iterator<Item = lightning_db::Result<(Vec<u8>, Vec<u8>)>>,
        want: Vec<(Key, Value)>,
    ) {
        let got: Vec<_> = got.map(|entry| entry.expect("an entry")).collect();
        assert_eq!(got.len(), want.len(), "entries of a past moment");
        for ((key, value), (k, v)) in got.iter().zip(want) {
            assert!(*key == self.keys[k as usize] && *value == v.bytes(), "key {k} of the past");
        }
    }

    /// Background merges may raise the floor between any two calls: what is compared is what both
    /// know.
    fn same_history(&self, keyspace: &lightning_db::Keyspace, life: Life, key: Key, oldest: u64) {
        let got = keyspace.history(&self.keys[key as usize]).expect("a history");
        let oldest = self.db.oldest_moment().0.max(oldest);
        let told = |n: u64| n > oldest && !self.model.may_be_told(life, key, n);
        let got: Vec<_> =
            got.iter().filter(|v| told(v.commit)).map(|v| (v.commit, &v.value)).collect();
        let now = self.retention() != Some(LONG);
        let mut want: Vec<_> = self.model.versions_after(life, key, oldest, now);
        want.retain(|(n, _)| told(*n));
        assert_eq!(got.len(), want.len(), "versions of key {key} after {oldest}");
        for ((commit, value), (number, wanted)) in got.into_iter().zip(want) {
            assert_eq!(commit, number, "a version of key {key}");
            assert!(*value == wanted.map(Value::bytes), "what key {key} became in {number}");
        }
    }
}
