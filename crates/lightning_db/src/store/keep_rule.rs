//! Whether a leaf that a renewal does not touch keeps its place. Keeping it costs nothing, but it
//! holds the whole file that it lies in: a few leaves kept here and there among many rewritten
//! ones would double the partition on disk. So a leaf is kept only where most leaves around it are
//! untouched too; elsewhere it is rewritten with the others.

/// Decides leaf by leaf, in key order.
#[derive(Debug)]
pub struct KeepRule {
    /// The share of untouched leaves that it takes.
    least: f32,
    /// The share of untouched leaves among the last ones.
    untouched: f32,
}

impl KeepRule {
    /// How fast the share follows: about the last 24 leaves count.
    const WEIGHT: f32 = 1.0 / 24.0;

    /// A rule for a partition of `leaves` into which `updates` entries are merged. Until leaves
    /// have been seen, these are taken to fall anywhere.
    pub fn new(keep_percent: u32, leaves: u64, updates: u64) -> Self {
        let untouched = (-(updates as f32) / leaves.max(1) as f32).exp();
        Self { least: keep_percent as f32 / 100.0, untouched }
    }

    /// Notes the next leaf; tells whether it keeps its place.
    pub fn keeps(&mut self, touched: bool) -> bool {
        let this = if touched { 0.0 } else { 1.0 };
        self.untouched += (this - self.untouched) * Self::WEIGHT;
        !touched && self.untouched >= self.least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_untouched_leaves_among_many_do_not_hold_the_old_file() {
        let mut rng = fastrand::Rng::with_seed(1);
        for share in [2, 5, 20, 40] {
            let mut rule = KeepRule::new(50, 10_000, 100_000);
            let touched: Vec<bool> = (0..10_000).map(|_| rng.u32(0..100) >= share).collect();
            let kept = touched.iter().filter(|t| rule.keeps(**t)).count();
            assert!(kept < 10_000 / 20, "{share}%: {kept}");
        }
    }

    #[test]
    fn a_hot_range_leaves_the_rest_where_it_is() {
        // Updates in the middle tenth only; from their number alone all leaves seem touched.
        let mut rule = KeepRule::new(50, 10_000, 100_000);
        let kept = (0..10_000).filter(|i| rule.keeps((4500..5500).contains(i))).count();
        assert!(kept > 8900, "{kept}");
        let mut strict = KeepRule::new(90, 10_000, 10);
        let kept = (0..10_000).filter(|i| strict.keeps(i % 1000 == 0)).count();
        assert!(kept > 9500, "{kept}");
    }
}
