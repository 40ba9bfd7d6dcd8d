//! What is on the disk says nothing.

use std::collections::HashSet;

use lightning_db::vfs::SimulatedVfs;

use super::{files, key, workload};

/// What every key, value and name of the workload holds.
const CANARY: &[u8] = b"canary";

fn holds_canary(vfs: &SimulatedVfs) -> Option<String> {
    let found = |bytes: &[u8]| bytes.windows(CANARY.len()).any(|w| w == CANARY);
    files(vfs).into_iter().find(|(_, bytes)| found(bytes)).map(|(path, _)| path)
}

/// The search finds what it looks for where nothing is encrypted.
#[test]
fn no_file_holds_a_key_a_value_or_a_name_at_any_point_of_a_workload() {
    let plain = SimulatedVfs::new(1);
    workload(&plain, None, 4).expect("it ends");
    assert!(holds_canary(&plain).is_some(), "the search finds nothing");

    let whole = SimulatedVfs::new(2);
    workload(&whole, Some(key(1)), 12).expect("it ends");
    let total = whole.operations();
    for at in 0..=total {
        let vfs = SimulatedVfs::new(2);
        vfs.crash_after(at);
        let _ = workload(&vfs, Some(key(1)), 12);
        // A kill keeps all that was written, also what a power cut would lose.
        let found = holds_canary(&vfs.kill());
        assert!(found.is_none(), "{found:?} at operation {at}");
    }
    println!("tried: {} crash points (files searched for what was written)", total + 1);
}

/// Pieces of 16 bytes that a disk holds, at any place; what is mostly zeros, such as counts, unwritten
/// space and the paddings between records, aside, and so what headers must show.
fn pieces(vfs: &SimulatedVfs) -> HashSet<[u8; 16]> {
    let mut found = HashSet::new();
    for (path, bytes) in files(vfs) {
        // KEYS has a header a slot. CURRENT and LOCK hold nothing of a user.
        let whole = bytes.len().max(1);
        let (header, part) = match path.rsplit(['/', '.']).next() {
            Some("wal") => (4096, whole),
            Some("KEYS") => (64, 4096),
            _ => (64, whole),
        };
        for part in bytes.chunks(part) {
            let rest = part.get(header..).unwrap_or_default();
            let busy = |w: &&[u8]| w.iter().filter(|b| **b == 0).count() < 6;
            let piece = |w| <[u8; 16]>::try_from(w).expect("16");
            found.extend(rest.windows(16).filter(busy).map(piece));
        }
    }
    found
}

#[test]
fn the_same_operations_leave_no_piece_in_common() {
    let disks = |key: Option<lightning_db::KeySource>| {
        [11, 12].map(|seed| {
            let vfs = SimulatedVfs::new(seed);
            workload(&vfs, key.clone(), 24).expect("it ends");
            vfs
        })
    };
    let [a, b] = disks(None).map(|vfs| pieces(&vfs));
    assert!(a.intersection(&b).count() > 1000, "plain files have much in common");
    let [a, b] = disks(Some(key(1))).map(|vfs| pieces(&vfs));
    assert!(a.len() > 10_000);
    let common: Vec<_> = a.intersection(&b).collect();
    assert!(common.is_empty(), "{} pieces in common: {:?}", common.len(), &common[..1]);
    println!("tried: {} pieces of 16 bytes in two runs (none in common)", a.len() + b.len());
}
