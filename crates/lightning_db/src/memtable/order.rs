//! The word that says which slots of a node are in use, and in which order their keys stand.
//!
//! A node's slots are filled front to back and never emptied; only this word gives them an order.
//! It is 64 bits: the count in the lowest four, then four bits for each rank naming its slot.
//! (After the permutation of Masstree; Mao, Kohler, Morris, EuroSys 2012.)
//!
//! Invariants: 1. the first `len` ranks name the slots `0..len`, each once. 2. a node's successive
//! words have growing counts, so no word ever returns.

/// The slots of a node: as many as make a node four cache lines long.
pub(super) const SLOTS: usize = 14;

/// Which slots are in use, by rank.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Order(u64);

impl Order {
    /// No slot in use.
    #[cfg(test)]
    pub(super) const EMPTY: Self = Self(0);

    /// The first `len` slots, in slot order.
    pub(super) fn identity(len: usize) -> Self {
        assert!(len <= SLOTS, "more entries than slots");
        let ranks = 0x0DCB_A987_6543_2100_u64;
        Self(ranks & ((1 << (4 + 4 * len)) - 1) | len as u64)
    }

    /// The word as a node holds it.
    #[inline]
    pub(super) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Reverse of [`from_bits`](Self::from_bits).
    #[inline]
    pub(super) fn bits(self) -> u64 {
        self.0
    }

    /// Slots in use.
    #[inline]
    pub(super) fn len(self) -> usize {
        (self.0 & 0xF) as usize
    }

    /// The slot at `rank`, which must be below [`len`](Self::len).
    #[inline]
    pub(super) fn slot(self, rank: usize) -> usize {
        debug_assert!(rank < self.len());
        ((self.0 >> (4 + 4 * rank)) & 0xF) as usize
    }

    /// The same with the next free slot put in at `rank`.
    pub(super) fn with_next_at(self, rank: usize) -> Self {
        let len = self.len();
        assert!(len < SLOTS && rank <= len, "no such place in a node");
        let at = 4 + 4 * rank;
        let below = self.0 & ((1 << at) - 1);
        let above = self.0 >> at << (at + 4);
        Self((below | above | (len as u64) << at) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_names_each_slot_by_its_rank() {
        for len in 0..=SLOTS {
            let o = Order::identity(len);
            assert_eq!(o.len(), len);
            assert!((0..len).all(|r| o.slot(r) == r));
        }
        assert_eq!(Order::identity(0), Order::EMPTY);
    }

    #[test]
    fn insertion_matches_a_vector() {
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..500 {
            let (mut order, mut model) = (Order::EMPTY, Vec::new());
            for next in 0..SLOTS {
                let rank = random.usize(..=next);
                order = order.with_next_at(rank);
                model.insert(rank, next);
                assert_eq!(order.len(), model.len());
                assert!(model.iter().enumerate().all(|(r, s)| order.slot(r) == *s));
                assert_eq!(Order::from_bits(order.bits()), order);
            }
        }
    }
}
