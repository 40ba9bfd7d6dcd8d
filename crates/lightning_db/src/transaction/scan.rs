//! A transaction's scan: its own writes laid over the snapshot, readable from both ends.

use std::sync::Arc;

use super::read_set::RangeRead;
use super::write_set::Writes;
use crate::error::Result;
use crate::iterators::Range;
use crate::store::keyspace::KeyspaceStore;

type Pair = (Vec<u8>, Vec<u8>);

/// The entries of a range as a transaction sees them: the snapshot, with the writes that the
/// transaction had made when the scan began. After an error it ends.
#[derive(Debug)]
pub struct TransactionRange {
    base: Range,
    own: Writes,
    store: Arc<KeyspaceStore>,
    front: Option<Pair>,
    back: Option<Pair>,
    done: bool,
    /// Where it is noted how far the range was read, if that matters.
    read: Option<Arc<RangeRead>>,
}

impl TransactionRange {
    pub(super) fn new(
        base: Range,
        own: Writes,
        store: Arc<KeyspaceStore>,
        read: Option<Arc<RangeRead>>,
    ) -> Self {
        Self { base, own, store, front: None, back: None, done: false, read }
    }

    /// The next entry of the snapshot from the front; one that was read from the back already but
    /// not given out comes last.
    fn base_front(&mut self) -> Result<Option<Pair>> {
        if self.front.is_none() {
            self.front = self.base.next().transpose()?;
        }
        if self.front.is_none() {
            self.front = self.back.take();
        }
        Ok(self.front.take())
    }

    fn base_back(&mut self) -> Result<Option<Pair>> {
        if self.back.is_none() {
            self.back = self.base.next_back().transpose()?;
        }
        if self.back.is_none() {
            self.back = self.front.take();
        }
        Ok(self.back.take())
    }

    fn forward(&mut self) -> Result<Option<Pair>> {
        loop {
            let below = self.base_front()?;
            let own = self.own.first_key_value().map(|(k, _)| k);
            match (below, own) {
                (None, None) => return Ok(None),
                (Some(pair), Some(key)) if pair.0 < *key => return Ok(Some(pair)),
                (Some(pair), None) => return Ok(Some(pair)),
                (below, Some(_)) => {
                    let (key, write) = self.own.pop_first().expect("just seen");
                    // Of equal keys the transaction's own write counts.
                    let (same, other) = at_key(below, &key);
                    self.front = other;
                    if let Some(value) = write.value(&self.store, &key, same.as_deref())? {
                        return Ok(Some((key, value)));
                    }
                }
            }
        }
    }

    fn backward(&mut self) -> Result<Option<Pair>> {
        loop {
            let below = self.base_back()?;
            let own = self.own.last_key_value().map(|(k, _)| k);
            match (below, own) {
                (None, None) => return Ok(None),
                (Some(pair), Some(key)) if pair.0 > *key => return Ok(Some(pair)),
                (Some(pair), None) => return Ok(Some(pair)),
                (below, Some(_)) => {
                    let (key, write) = self.own.pop_last().expect("just seen");
                    let (same, other) = at_key(below, &key);
                    self.back = other;
                    if let Some(value) = write.value(&self.store, &key, same.as_deref())? {
                        return Ok(Some((key, value)));
                    }
                }
            }
        }
    }

    fn finish(
        &mut self,
        result: Result<Option<Pair>>,
        note: impl FnOnce(&RangeRead, &[u8]),
    ) -> Option<Result<Pair>> {
        let item = result.transpose();
        if let Some(read) = &self.read {
            match &item {
                Some(Ok((key, _))) => note(read, key),
                // What an error left unread is taken as read, to be safe.
                _ => read.ended(),
            }
        }
        if !matches!(item, Some(Ok(_))) {
            self.done = true;
        }
        item
    }
}

/// The value of an entry with this key, or an entry with another.
fn at_key(below: Option<Pair>, key: &[u8]) -> (Option<Vec<u8>>, Option<Pair>) {
    match below {
        Some((k, value)) if k == key => (Some(value), None),
        other => (None, other),
    }
}

impl Iterator for TransactionRange {
    type Item = Result<Pair>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let result = self.forward();
        self.finish(result, RangeRead::passed_front)
    }
}

impl DoubleEndedIterator for TransactionRange {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let result = self.backward();
        self.finish(result, RangeRead::passed_back)
    }
}
