//! What a reader has learnt of the keys around one: that range deletes hide all of them, or none. As long as
//! it stays among them it need not ask again, so that a step costs a comparison or two.
//!
//! A stretch is true for ever of the map or list that it was asked of, at the moment it was asked for. It need
//! not be the longest there is. One is for one map or list. It keeps its memory when it is filled anew.

use super::KeyRef;
use super::map::Leaf;

/// See the module.
#[derive(Debug, Default)]
pub struct Stretch {
    state: State,
    start: Vec<u8>,
    /// `None`: no end.
    end: Option<Vec<u8>>,
    /// Memory for an end, while there is none.
    spare: Vec<u8>,
    /// Of the map that was asked, where the answer was.
    pub(super) leaf: Option<Leaf>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Unknown,
    Clear,
    Hidden,
}

impl Stretch {
    /// Makes it a new one; `None` as start: from the first key on, as end: for ever.
    pub fn set(&mut self, is_hidden: bool, start: Option<KeyRef<'_>>, end: Option<KeyRef<'_>>) {
        self.state = if is_hidden { State::Hidden } else { State::Clear };
        match start {
            Some(start) => start.copy_into(&mut self.start),
            None => self.start.clear(),
        }
        match end {
            Some(end) => {
                let spare = &mut self.spare;
                end.copy_into(self.end.get_or_insert_with(|| std::mem::take(spare)));
            }
            None => {
                if let Some(end) = self.end.take() {
                    self.spare = end;
                }
            }
        }
    }

    /// Whether `key` is in it.
    #[inline]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.state != State::Unknown
            && *self.start <= *key
            && self.end.as_ref().is_none_or(|end| *key < **end)
    }

    /// Whether its keys are hidden.
    #[inline]
    pub fn is_hidden(&self) -> bool {
        self.state == State::Hidden
    }

    /// Its first key.
    pub fn start(&self) -> &[u8] {
        &self.start
    }

    /// The first key behind it.
    pub fn end(&self) -> Option<&[u8]> {
        self.end.as_deref()
    }
}
