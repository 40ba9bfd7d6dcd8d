//! Damage for tests: what a page may look like that nobody wrote.

/// Changes, cuts, or stretches a page.
pub(super) fn mutate(rng: &mut fastrand::Rng, page: &mut Vec<u8>) {
    match rng.u8(..10) {
        0 => page.truncate(rng.usize(..=page.len())),
        1 => page.extend((0..rng.usize(1..20)).map(|_| rng.u8(..)).collect::<Vec<_>>()),
        2 if page.len() > 8 => {
            let at = rng.usize(..page.len() - 4);
            let word = rng.choice([0, 1, u32::MAX, 0x00ff_ffff, page.len() as u32]).unwrap();
            page[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        3 if page.len() > 8 => {
            let (a, b) = (rng.usize(..page.len()), rng.usize(..page.len()));
            page.swap(a, b);
        }
        _ => {
            for _ in 0..rng.usize(1..4) {
                if page.is_empty() {
                    break;
                }
                // Half of the changes hit the header and columns.
                let top = if rng.bool() { page.len() } else { page.len().min(100) };
                let at = rng.usize(..top);
                page[at] = match rng.u8(..3) {
                    0 => rng.u8(..),
                    1 => page[at].wrapping_add(1),
                    _ => page[at] ^ (1 << rng.u8(..8)),
                };
            }
        }
    }
}
