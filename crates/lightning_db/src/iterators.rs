//! What scans hand out: ranges that can be read from both ends, and cursors.
//!
//! Both own their view, version and pages, so that they are `'static + Send`.

use std::sync::Arc;

use crate::error::Result;
use crate::store::cursor::MergedCursor;
use crate::store::view::View;

/// The bounds of a range: `start <= key < end`.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    start: Vec<u8>,
    end: Option<Vec<u8>>,
}

impl Bounds {
    pub(crate) fn new(start: Option<&[u8]>, end: Option<&[u8]>) -> Self {
        Self { start: start.unwrap_or_default().to_vec(), end: end.map(<[u8]>::to_vec) }
    }
}

/// The smallest key after every key that begins with `prefix`; `None` where there is none.
pub(crate) fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let keep = prefix.iter().rposition(|b| *b != 0xff)?;
    let mut end = prefix[..=keep].to_vec();
    end[keep] += 1;
    Some(end)
}

/// The entries of a range, in order: an iterator of `Result<(key, value)>` that can be read from
/// both ends. It sees the moment it was made at. After an error it ends.
#[derive(Debug)]
pub struct Range {
    front: MergedCursor,
    back: MergedCursor,
    bounds: Bounds,
    front_started: bool,
    back_started: bool,
    /// The last keys given out from either end.
    front_key: Vec<u8>,
    back_key: Option<Vec<u8>>,
    done: bool,
    _view: Arc<View>,
}

impl Range {
    pub(crate) fn new(
        view: Arc<View>,
        front: MergedCursor,
        back: MergedCursor,
        bounds: Bounds,
    ) -> Self {
        let empty = bounds.end.as_ref().is_some_and(|e| *e <= bounds.start);
        Self {
            front,
            back,
            bounds,
            front_started: false,
            back_started: false,
            front_key: Vec::new(),
            back_key: None,
            done: empty,
            _view: view,
        }
    }

    fn forward(&mut self) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        let found = if self.front_started {
            self.front.next()?
        } else {
            self.front.seek(&self.bounds.start)?
        };
        self.front_started = true;
        if !found {
            return Ok(None);
        }
        let key = self.front.key().expect("found");
        let end = self.back_key.as_deref().or(self.bounds.end.as_deref());
        if end.is_some_and(|e| key >= e) {
            return Ok(None);
        }
        let key = key.to_vec();
        self.front_key.clone_from(&key);
        let value = self.front.value()?.expect("the cursor stands on a value");
        Ok(Some((key, value)))
    }

    fn backward(&mut self) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        let found = if self.back_started {
            self.back.prev()?
        } else {
            match &self.bounds.end {
                Some(end) => self.back.seek_before(end)?,
                None => self.back.last()?,
            }
        };
        self.back_started = true;
        if !found {
            return Ok(None);
        }
        let key = self.back.key().expect("found");
        if key < self.bounds.start.as_slice()
            || (self.front_started && key <= self.front_key.as_slice())
        {
            return Ok(None);
        }
        let key = key.to_vec();
        self.back_key = Some(key.clone());
        let value = self.back.value()?.expect("the cursor stands on a value");
        Ok(Some((key, value)))
    }

    fn finish(
        &mut self,
        result: Result<Option<(Vec<u8>, Vec<u8>)>>,
    ) -> Option<Result<(Vec<u8>, Vec<u8>)>> {
        let item = result.transpose();
        if !matches!(item, Some(Ok(_))) {
            self.done = true;
        }
        item
    }
}

impl Iterator for Range {
    type Item = Result<(Vec<u8>, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let result = self.forward();
        self.finish(result)
    }
}

impl DoubleEndedIterator for Range {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let result = self.backward();
        self.finish(result)
    }
}

impl std::iter::FusedIterator for Range {}

/// A position among the keys of a moment: seeks, and steps in both directions, with keys and
/// values borrowed. Once a call failed, every later call gives the same error.
#[derive(Debug)]
pub struct Cursor {
    inner: MergedCursor,
    value: Vec<u8>,
    _view: Arc<View>,
}

impl Cursor {
    pub(crate) fn new(view: Arc<View>, inner: MergedCursor) -> Self {
        Self { inner, value: Vec::new(), _view: view }
    }

    /// To the first key at or after `key`; tells whether there is one.
    pub fn seek(&mut self, key: &[u8]) -> Result<bool> {
        self.inner.seek(key)
    }

    /// To the last key before `key`; tells whether there is one.
    pub fn seek_before(&mut self, key: &[u8]) -> Result<bool> {
        self.inner.seek_before(key)
    }

    /// To the first key.
    pub fn seek_to_first(&mut self) -> Result<bool> {
        self.inner.first()
    }

    /// To the last key.
    pub fn seek_to_last(&mut self) -> Result<bool> {
        self.inner.last()
    }

    /// To the next key; does nothing when the cursor stands nowhere.
    #[allow(clippy::should_implement_trait)] // items are borrowed, which `Iterator` cannot say
    #[inline]
    pub fn next(&mut self) -> Result<bool> {
        self.inner.next()
    }

    /// To the key before; does nothing when the cursor stands nowhere.
    #[inline]
    pub fn prev(&mut self) -> Result<bool> {
        self.inner.prev()
    }

    /// The key the cursor stands on.
    #[inline]
    pub fn key(&self) -> Option<&[u8]> {
        self.inner.key()
    }

    /// When the entry that the cursor stands on expires, as time since 1970-01-01 UTC; `None` where it
    /// stays, or where the cursor stands nowhere.
    pub fn expires_at(&self) -> Option<std::time::Duration> {
        let expiry = self.inner.expiry().filter(|expiry| !expiry.is_never())?;
        Some(std::time::Duration::from_millis(expiry.0))
    }

    /// Key and value the cursor stands on.
    #[inline]
    pub fn entry(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        if self.inner.inline_value().is_none() {
            self.fetch_value()?;
        }
        let Some(key) = self.inner.key() else { return Ok(None) };
        Ok(Some((key, self.inner.inline_value().unwrap_or(&self.value))))
    }

    /// Reads a value that is not in its leaf.
    #[inline(never)]
    fn fetch_value(&mut self) -> Result<()> {
        self.value = self.inner.value()?.unwrap_or_default();
        Ok(())
    }

    /// The value the cursor stands on.
    pub fn value(&mut self) -> Result<Option<&[u8]>> {
        Ok(self.entry()?.map(|(_, value)| value))
    }
}

#[cfg(test)]
mod tests {
    use super::prefix_end;

    #[test]
    fn prefix_ends_after_every_key_with_the_prefix() {
        assert_eq!(prefix_end(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(prefix_end(&[1, 0xff, 0xff]), Some(vec![2]));
        assert_eq!(prefix_end(&[0xff]), None);
        assert_eq!(prefix_end(b""), None);
    }
}
