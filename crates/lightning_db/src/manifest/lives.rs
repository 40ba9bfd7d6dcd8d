//! When entries of a partition expire: how much of it time alone will make useless, and by when.
//!
//! 1. Each share tells of entries that expire at its end or before. Joining two shares takes the later
//!    end, so this stays true.
//! 2. At most [`MAX_SHARES`] shares, by their ends, no two with the same one.
//! 3. Entries, bytes, the earliest expiry and the latest are exact.

use crate::codec::{Malformed, Reader, put_varint};
use crate::types::{Expiry, Time};

/// So many shares are told apart.
const MAX_SHARES: usize = 8;

/// Entries that have expired by a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Share {
    end: Expiry,
    entries: u64,
    bytes: u64,
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lives {
    earliest: Option<Expiry>,
    shares: Vec<Share>,
}

impl Lives {
    /// Counts an entry of `bytes` (key and value) that expires.
    pub fn note(&mut self, end: Expiry, bytes: u64) {
        debug_assert!(!end.is_never());
        self.earliest = Some(self.earliest.map_or(end, |e| e.min(end)));
        self.add(Share { end, entries: 1, bytes });
    }

    fn add(&mut self, share: Share) {
        match self.shares.binary_search_by_key(&share.end, |s| s.end) {
            Ok(at) => {
                let own = &mut self.shares[at];
                own.entries = own.entries.saturating_add(share.entries);
                own.bytes = own.bytes.saturating_add(share.bytes);
            }
            Err(at) => self.shares.insert(at, share),
        }
        if self.shares.len() > MAX_SHARES {
            let sum = |at: &usize| self.shares[*at].bytes.saturating_add(self.shares[at + 1].bytes);
            let at = (0..MAX_SHARES).min_by_key(sum).expect("more than two shares");
            let first = self.shares.remove(at);
            let joined = &mut self.shares[at];
            joined.entries = joined.entries.saturating_add(first.entries);
            joined.bytes = joined.bytes.saturating_add(first.bytes);
        }
    }

    /// Whether nothing expires.
    pub fn is_empty(&self) -> bool {
        self.shares.is_empty()
    }

    /// The first expiry of all.
    pub fn earliest(&self) -> Expiry {
        self.earliest.unwrap_or(Expiry::NEVER)
    }

    /// The last expiry of all.
    pub fn latest(&self) -> Expiry {
        self.shares.last().map_or(Expiry::NEVER, |s| s.end)
    }

    /// Entries that expire.
    pub fn entries(&self) -> u64 {
        self.shares.iter().fold(0, |sum, s| sum.saturating_add(s.entries))
    }

    /// Bytes of their keys and values.
    pub fn bytes(&self) -> u64 {
        self.shares.iter().fold(0, |sum, s| sum.saturating_add(s.bytes))
    }

    fn over(&self, now: Time) -> &[Share] {
        &self.shares[..self.shares.partition_point(|s| s.end.is_over(now))]
    }

    /// Entries that have surely expired at `now`.
    pub fn expired_entries(&self, now: Time) -> u64 {
        self.over(now).iter().fold(0, |sum, s| sum.saturating_add(s.entries))
    }

    /// Bytes of entries that have surely expired at `now`.
    pub fn expired_bytes(&self, now: Time) -> u64 {
        self.over(now).iter().fold(0, |sum, s| sum.saturating_add(s.bytes))
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.earliest().0);
        put_varint(out, self.shares.len() as u64);
        let mut before = self.earliest().0;
        for share in &self.shares {
            put_varint(out, share.end.0 - before);
            put_varint(out, share.entries);
            put_varint(out, share.bytes);
            before = share.end.0;
        }
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        const WRONG: Malformed = Malformed("what expires of a partition is told wrong");
        let earliest = r.varint()?;
        let count = r.varint()?;
        if count == 0 || count > MAX_SHARES as u64 {
            return Err(WRONG);
        }
        let mut shares: Vec<Share> = Vec::new();
        let mut before = earliest;
        for _ in 0..count {
            let later = r.varint()?;
            let end =
                before.checked_add(later).filter(|end| *end <= Expiry::LAST.0).ok_or(WRONG)?;
            if later == 0 && !shares.is_empty() {
                return Err(WRONG);
            }
            let share = Share { end: Expiry(end), entries: r.varint()?, bytes: r.varint()? };
            if share.entries == 0 {
                return Err(WRONG);
            }
            shares.push(share);
            before = end;
        }
        Ok(Self { earliest: Some(Expiry(earliest)), shares })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_told_expired_than_is_and_in_the_end_all_of_it() {
        let mut rng = fastrand::Rng::with_seed(5);
        for _ in 0..2_000 {
            let (mut noted, mut lives) = (Vec::new(), Lives::default());
            for _ in 0..rng.usize(1..30) {
                let one = (rng.u64(0..60), rng.u64(1..100));
                lives.note(Expiry(one.0), one.1);
                noted.push(one);
            }
            assert!(lives.shares.len() <= MAX_SHARES);
            let ends = noted.iter().map(|n| n.0);
            assert_eq!(lives.earliest().0, ends.clone().min().expect("some"));
            assert_eq!(lives.latest().0, ends.clone().max().expect("some"));
            assert_eq!(lives.entries(), noted.len() as u64);
            assert_eq!(lives.bytes(), noted.iter().map(|n| n.1).sum::<u64>());
            let now = Time(rng.u64(0..80));
            let over = noted.iter().filter(|n| n.0 <= now.0);
            let (entries, bytes) = over.fold((0, 0), |(e, b), n| (e + 1, b + n.1));
            assert!(lives.expired_entries(now) <= entries && lives.expired_bytes(now) <= bytes);
            if noted.len() <= MAX_SHARES || now.0 >= 60 {
                assert_eq!(
                    (lives.expired_entries(now), lives.expired_bytes(now)),
                    (entries, bytes)
                );
            }
            let mut out = Vec::new();
            lives.encode(&mut out);
            assert_eq!(Lives::decode(&mut Reader::new(&out)).expect("decodes"), lives);
        }
    }

    #[test]
    fn what_is_not_a_list_of_shares_is_refused() {
        let max = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        let past_the_end = [&max[..], &[1, 0, 1, 1]].concat();
        for bad in
            [&[5, 0][..], &[5, 9], &[5, 2, 1, 1, 1, 0, 1, 1], &[5, 1, 0, 0, 1], &past_the_end]
        {
            assert!(Lives::decode(&mut Reader::new(bad)).is_err(), "{bad:?}");
        }
        assert!(Lives::decode(&mut Reader::new(&[5, 1, 0, 1, 1])).is_ok());
    }
}
