//! The keys of a node, in order, as the node holds them: the bytes that all begin with once, then what
//! follows in each. Beside them lie the *heads*, the first eight bytes of what follows as a number, so
//! that a search reads one array and looks at bytes only where heads are alike.
//!
//! 1. Keys ascend, and no two are the same.
//! 2. Heads past the last key are all ones: none of them is below any key's.
//!
//! The bytes lie apart from [`Keys`], which the node gives with each call: both are one piece of memory.

/// See the module. At most `N` keys.
#[derive(Debug)]
pub(super) struct Keys<const N: usize> {
    heads: [u64; N],
    /// Where in the bytes what follows of each key ends. It begins where that of the key before ends.
    ends: [u32; N],
    shared: u32,
    count: u32,
}

/// A key in two parts.
#[derive(Debug, Clone, Copy)]
pub struct KeyRef<'a>(pub(super) &'a [u8], pub(super) &'a [u8]);

impl<'a> From<&'a [u8]> for KeyRef<'a> {
    fn from(key: &'a [u8]) -> Self {
        Self(key, &[])
    }
}

impl<'a> KeyRef<'a> {
    /// Makes `out` this key.
    pub fn copy_into(self, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(self.0);
        out.extend_from_slice(self.1);
    }

    /// The key, copied.
    pub fn to_vec(self) -> Vec<u8> {
        [self.0, self.1].concat()
    }

    /// How long it is.
    pub(super) fn len(self) -> usize {
        self.0.len() + self.1.len()
    }

    /// What follows the first `n` bytes.
    fn after(self, n: usize) -> (&'a [u8], &'a [u8]) {
        match self.0.get(n..) {
            Some(rest) => (rest, self.1),
            None => (&[], &self.1[n - self.0.len()..]),
        }
    }

    /// How many bytes both begin with.
    fn shared_with(self, other: Self) -> usize {
        let bytes = |key: Self| key.0.iter().chain(key.1);
        bytes(self).zip(bytes(other)).take_while(|(a, b)| a == b).count()
    }
}

/// The first eight bytes as a number that orders as they do; zeros stand for what is missing.
#[inline]
fn head_of(bytes: &[u8]) -> u64 {
    if let Some(head) = bytes.first_chunk() {
        return u64::from_be_bytes(*head);
    }
    let mut head = [0; 8];
    head[..bytes.len()].copy_from_slice(bytes);
    u64::from_be_bytes(head)
}

impl<const N: usize> Keys<N> {
    /// Of keys in order, at most `N`; puts their bytes into `bytes`.
    pub(super) fn new<'a>(
        keys: impl Iterator<Item = KeyRef<'a>> + Clone,
        bytes: &mut Vec<u8>,
    ) -> Self {
        bytes.clear();
        let ends = keys.clone().next().zip(keys.clone().last());
        let shared = ends.map_or(0, |(first, last)| first.shared_with(last));
        if let Some((first, _)) = ends {
            let (a, b) = (first.0.len().min(shared), first.0.len());
            bytes.extend_from_slice(&first.0[..a]);
            bytes.extend_from_slice(&first.1[..shared.saturating_sub(b)]);
        }
        let mut made = Self { heads: [u64::MAX; N], ends: [0; N], shared: shared as u32, count: 0 };
        for key in keys {
            let from = bytes.len();
            let (a, b) = key.after(shared);
            bytes.extend_from_slice(a);
            bytes.extend_from_slice(b);
            let i = made.count as usize;
            made.heads[i] = head_of(&bytes[from..]);
            made.ends[i] = u32::try_from(bytes.len()).expect("a node has few keys");
            made.count += 1;
        }
        made
    }

    /// How many.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.count as usize
    }

    /// What follows the shared bytes in a key.
    #[inline]
    fn rest<'a>(&self, bytes: &'a [u8], i: usize) -> &'a [u8] {
        let from = if i == 0 { self.shared } else { self.ends[i - 1] };
        &bytes[from as usize..self.ends[i] as usize]
    }

    /// A key.
    #[inline]
    pub(super) fn get<'a>(&self, bytes: &'a [u8], i: usize) -> KeyRef<'a> {
        KeyRef(&bytes[..self.shared as usize], self.rest(bytes, i))
    }

    /// How many are below `key`, and itself if `with_it`.
    #[inline]
    fn count_below(&self, bytes: &[u8], key: &[u8], with_it: bool) -> usize {
        let shared = &bytes[..self.shared as usize];
        let Some(rest) = key.strip_prefix(shared) else {
            return if key < shared { 0 } else { self.len() };
        };
        let head = head_of(rest);
        let below = self.heads.iter().filter(|h| **h < head).count();
        let alike = self.heads[below..self.len()].iter().take_while(|h| **h == head).count();
        if alike == 0 {
            return below;
        }
        let (mut from, mut to) = (below, below + alike);
        while from < to {
            let middle = from.midpoint(to);
            let there = self.rest(bytes, middle);
            if there < rest || with_it && there == rest {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        from
    }

    /// How many are below `key`.
    #[inline]
    pub(super) fn before(&self, bytes: &[u8], key: &[u8]) -> usize {
        self.count_below(bytes, key, false)
    }

    /// How many are at or below `key`.
    #[inline]
    pub(super) fn up_to(&self, bytes: &[u8], key: &[u8]) -> usize {
        self.count_below(bytes, key, true)
    }
}
