//! What scans hand out: ranges that can be read from both ends, and cursors.
//!
//! Both own their view, version and pages, so that they are `'static + Send`.

use std::sync::Arc;

use crate::error::Result;
use crate::store::cursor::MergedCursor;
use crate::store::value::Value;
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
    /// Whether the cursors stand on the last key given out from their end.
    front_started: bool,
    back_started: bool,
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
            done: empty,
            _view: view,
        }
    }

    /// Takes the front cursor to the next key; tells whether there is one that was not given out.
    fn forward(&mut self) -> Result<bool> {
        let found = if self.front_started {
            self.front.next()?
        } else {
            self.front.seek(&self.bounds.start)?
        };
        self.front_started = true;
        let end = if self.back_started { self.back.key() } else { self.bounds.end.as_deref() };
        Ok(found && end.is_none_or(|end| self.front.key().is_some_and(|key| key < end)))
    }

    /// Takes the back cursor to the key before; tells whether there is one that was not given out.
    fn backward(&mut self) -> Result<bool> {
        let found = if self.back_started {
            self.back.prev()?
        } else {
            match &self.bounds.end {
                Some(end) => self.back.seek_before(end)?,
                None => self.back.last()?,
            }
        };
        self.back_started = true;
        let start = self.bounds.start.as_slice();
        let front = if self.front_started { self.front.key() } else { None };
        let is_left = |key: &[u8]| key >= start && front.is_none_or(|front| key > front);
        Ok(found && self.back.key().is_some_and(is_left))
    }
}

/// Key and value that a cursor stands on, where it was found to stand on one.
#[inline]
fn item(found: Result<bool>, cursor: &mut MergedCursor) -> Option<Result<(Vec<u8>, Vec<u8>)>> {
    match found {
        Ok(true) => {}
        Ok(false) => return None,
        Err(e) => return Some(Err(e)),
    }
    let key = cursor.key()?.to_vec();
    match cursor.value() {
        Ok(value) => Some(Ok((key, value.expect("the cursor stands on a value")))),
        Err(e) => Some(Err(e)),
    }
}

impl Iterator for Range {
    type Item = Result<(Vec<u8>, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let found = self.forward();
        let item = item(found, &mut self.front);
        self.done = !matches!(item, Some(Ok(_)));
        item
    }
}

impl DoubleEndedIterator for Range {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let found = self.backward();
        let item = item(found, &mut self.back);
        self.done = !matches!(item, Some(Ok(_)));
        item
    }
}

impl std::iter::FusedIterator for Range {}

/// A position among the keys of a moment: seeks, and steps in both directions, with keys and
/// values borrowed. Once a call failed, every later call gives the same error.
#[derive(Debug)]
pub struct Cursor {
    inner: MergedCursor,
    /// That of the key it stands on, where it is not in its leaf and was asked for.
    value: Option<Value>,
    _view: Arc<View>,
}

impl Cursor {
    pub(crate) fn new(view: Arc<View>, inner: MergedCursor) -> Self {
        Self { inner, value: None, _view: view }
    }

    /// To the first key at or after `key`; tells whether there is one.
    pub fn seek(&mut self, key: &[u8]) -> Result<bool> {
        self.value = None;
        self.inner.seek(key)
    }

    /// To the last key before `key`; tells whether there is one.
    pub fn seek_before(&mut self, key: &[u8]) -> Result<bool> {
        self.value = None;
        self.inner.seek_before(key)
    }

    /// To the first key.
    pub fn seek_to_first(&mut self) -> Result<bool> {
        self.value = None;
        self.inner.first()
    }

    /// To the last key.
    pub fn seek_to_last(&mut self) -> Result<bool> {
        self.value = None;
        self.inner.last()
    }

    /// To the next key; does nothing when the cursor stands nowhere.
    #[allow(clippy::should_implement_trait)] // items are borrowed, which `Iterator` cannot say
    #[inline]
    pub fn next(&mut self) -> Result<bool> {
        self.value = None;
        self.inner.next()
    }

    /// To the key before; does nothing when the cursor stands nowhere.
    #[inline]
    pub fn prev(&mut self) -> Result<bool> {
        self.value = None;
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
        if self.inner.inline_value().is_none() && self.value.is_none() {
            self.fetch_value()?;
        }
        let Some(key) = self.inner.key() else { return Ok(None) };
        let value = self.inner.inline_value().or(self.value.as_deref());
        Ok(Some((key, value.unwrap_or_default())))
    }

    /// Reads a value that is not in its leaf.
    #[inline(never)]
    fn fetch_value(&mut self) -> Result<()> {
        self.value = self.inner.distant_value()?;
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
