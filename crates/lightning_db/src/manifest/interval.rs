//! Half-open intervals of keys: what a run has given to the base.
//!
//! A list of them is kept sorted and joined: each ends before the next begins, with keys between, so
//! that whether a range lies inside is answered by one interval. No I/O, no threads.

/// The keys `start <= key < end`; without an end, every key from `start` on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInterval {
    /// The first key inside.
    pub start: Vec<u8>,
    /// The first key after it.
    pub end: Option<Vec<u8>>,
}

impl KeyInterval {
    /// Whether `key` lies inside.
    #[inline]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.start.as_slice() <= key && self.end.as_ref().is_none_or(|e| key < e.as_slice())
    }

    /// Whether any key of `first..=last` lies inside.
    pub fn overlaps(&self, first: &[u8], last: &[u8]) -> bool {
        self.start.as_slice() <= last && self.end.as_ref().is_none_or(|e| first < e.as_slice())
    }

    /// Whether no key can lie inside.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|e| *e <= self.start)
    }

    /// Adds the interval to a sorted list of intervals, joining those that touch.
    pub fn merge_into(self, list: &mut Vec<KeyInterval>) {
        if self.is_empty() {
            return;
        }
        let mut all = std::mem::take(list);
        all.push(self);
        all.sort_by(|a, b| a.start.cmp(&b.start));
        for next in all {
            match list.last_mut() {
                Some(last) if last.end.as_ref().is_none_or(|e| next.start <= *e) => {
                    let longer = match (&last.end, &next.end) {
                        (None, _) | (_, None) => None,
                        (Some(a), Some(b)) => Some(a.max(b).clone()),
                    };
                    last.end = longer;
                }
                _ => list.push(next),
            }
        }
    }
}

/// Whether one of the joined `intervals` holds all of `first..=last`.
pub fn covers(intervals: &[KeyInterval], first: &[u8], last: &[u8]) -> bool {
    intervals.iter().any(|i| i.contains(first) && i.contains(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(start: u8, end: Option<u8>) -> KeyInterval {
        KeyInterval { start: vec![start], end: end.map(|e| vec![e]) }
    }

    #[test]
    fn joined_intervals_hold_what_their_parts_held() {
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..5_000 {
            let parts: Vec<KeyInterval> = (0..rng.usize(1..6))
                .map(|_| {
                    let start = rng.u8(0..40);
                    interval(start, (rng.u8(0..10) > 0).then(|| start + rng.u8(0..10)))
                })
                .collect();
            let mut joined = Vec::new();
            for p in &parts {
                p.clone().merge_into(&mut joined);
            }
            for key in 0..60u8 {
                let one = parts.iter().any(|p| p.contains(&[key]));
                assert_eq!(one, joined.iter().any(|p| p.contains(&[key])));
            }
            for pair in joined.windows(2) {
                assert!(pair[0].end.as_ref().is_some_and(|e| *e < pair[1].start));
            }
        }
    }

    #[test]
    fn overlap_and_cover_agree_with_membership() {
        for start in 0..8 {
            for end in start + 1..10 {
                let i = interval(start, Some(end));
                for first in 0..10u8 {
                    for last in first..10 {
                        let any = (first..=last).any(|k| i.contains(&[k]));
                        let all = (first..=last).all(|k| i.contains(&[k]));
                        assert_eq!(i.overlaps(&[first], &[last]), any);
                        assert_eq!(covers(std::slice::from_ref(&i), &[first], &[last]), all);
                    }
                }
            }
        }
    }
}
