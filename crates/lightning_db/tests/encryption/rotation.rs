//! A change of the key, cut off at every operation.

use lightning_db::vfs::SimulatedVfs;
use lightning_db::{Database, ErrorKind, KeySource, OpenAs, VerifyOptions};

use super::{files, key, kind, open, passphrase, workload};

fn check(db: &Database) {
    assert_eq!(db.get("canary-last").expect("read"), Some(b"canary-value-last".to_vec()));
    assert!(db.verify(VerifyOptions::default()).expect("a report").is_clean());
}

/// Which of two keys opens; one must, and not both.
fn opened_by(vfs: &SimulatedVfs, keys: [&KeySource; 2], label: &str) -> usize {
    let opened = keys.map(|k| match open(&vfs.fork(), Some(k.clone()), OpenAs::Open) {
        Ok(db) => {
            check(&db);
            true
        }
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::WrongKey, "{label}: {e}");
            false
        }
    });
    assert!(opened[0] != opened[1], "{label}: opened by {opened:?}");
    usize::from(opened[1])
}

#[test]
fn a_changed_key_opens_and_the_old_one_does_not() {
    let vfs = SimulatedVfs::new(21);
    workload(&vfs, Some(key(1)), 6).expect("it ends");
    let vfs = vfs.kill();
    let db = open(&vfs, Some(key(1)), OpenAs::Open).expect("opens");
    let before = files(&vfs);
    for (i, new) in [key(2), passphrase("p"), key(3)].into_iter().enumerate() {
        db.rotate_key(&new).expect("changed");
        db.put(format!("after-{i}"), "written on").expect("put");
        let image = vfs.kill();
        let opened = open(&image, Some(new), OpenAs::Open).expect("opens");
        check(&opened);
        assert_eq!(opened.get(format!("after-{i}")).expect("read"), Some(b"written on".to_vec()));
        assert_eq!(kind(open(&vfs.kill(), Some(key(1)), OpenAs::Open)), ErrorKind::WrongKey);
    }
    let seg = |files: &[(String, Vec<u8>)]| {
        files.iter().filter(|f| f.0.ends_with(".seg")).cloned().collect::<Vec<_>>()
    };
    assert!(seg(&before) == seg(&files(&vfs)), "no data was written anew");
    let old = before.iter().find(|f| f.0.ends_with("KEYS")).expect("there");
    let new = vfs.read_file(std::path::Path::new("/db/KEYS")).expect("there");
    for slot in [96..188, 4192..4284] {
        assert!(old.1[slot.clone()] != new[slot.clone()], "an old wrapping is left");
    }
}

#[test]
fn what_has_no_key_has_none_to_change() {
    let vfs = SimulatedVfs::new(22);
    let db = open(&vfs, None, OpenAs::Create).expect("made");
    assert!(!db.is_encrypted());
    assert_eq!(kind(db.rotate_key(&key(2))), ErrorKind::NotEncrypted);
    let vfs = SimulatedVfs::new(22);
    open(&vfs, Some(key(1)), OpenAs::Create).expect("made").close().expect("closed");
    let db = open(&vfs, Some(key(1)), OpenAs::ReadOnly).expect("opens");
    assert!(db.is_encrypted());
    assert_eq!(kind(db.rotate_key(&key(2))), ErrorKind::ReadOnly);
}

#[test]
fn a_change_of_the_key_survives_a_crash_at_every_operation() {
    let base = SimulatedVfs::new(23);
    workload(&base, Some(key(1)), 6).expect("it ends");
    let base = base.kill();
    let change = |vfs: &SimulatedVfs| -> (u64, lightning_db::Result<()>) {
        let db = open(vfs, Some(key(1)), OpenAs::Open).expect("opens");
        let before = vfs.operations();
        let changed = db.rotate_key(&key(2));
        // The handle must not write at its end.
        std::mem::forget(db);
        (before, changed)
    };
    let dry = base.fork();
    let (first, changed) = change(&dry);
    changed.expect("changed");
    let last = dry.operations();
    assert!(last - first >= 4, "two writes and two syncs");
    let (mut old, mut new) = (0, 0);
    for at in first..last {
        for cut in 0..12 {
            let vfs = base.fork();
            vfs.crash_after(at);
            let (_, changed) = change(&vfs);
            let image = if cut == 0 { vfs.kill() } else { vfs.power_cut(at * 100 + cut) };
            let label = format!("operation {at}, cut {cut}");
            let by = opened_by(&image, [&key(1), &key(2)], &label);
            assert!(changed.is_err() || by == 1, "{label}: it was acknowledged");
            *(if by == 1 { &mut new } else { &mut old }) += 1;
            // The recovery finishes what was begun: from then on either slot alone is enough.
            let winner = [key(1), key(2)][by].clone();
            open(&image, Some(winner.clone()), OpenAs::Open)
                .expect("opens")
                .close()
                .expect("closed");
            for slot in [0, 1] {
                let rotten = image.fork();
                rotten.corrupt("/db/KEYS".as_ref(), |b| b[slot * 4096 + 130] ^= 1).expect("there");
                check(
                    &open(&rotten, Some(winner.clone()), OpenAs::Open).expect("one slot is left"),
                );
            }
        }
    }
    assert!(old > 0 && new > 0);
    println!("tried: {} crashes in a change of the key ({old} before it, {new} after)", old + new);
}

/// The same with an error of the device in the place of the crash; then again on the same handle.
#[test]
fn a_change_of_the_key_that_fails_can_be_repeated() {
    use lightning_db::vfs::simulated::FaultError;
    let base = SimulatedVfs::new(24);
    workload(&base, Some(key(1)), 6).expect("it ends");
    let base = base.kill();
    for step in 0..5 {
        let vfs = base.fork();
        let db = open(&vfs, Some(key(1)), OpenAs::Open).expect("opens");
        vfs.fail_operation(vfs.operations() + step, FaultError::Eio, false);
        let failed = db.rotate_key(&key(2));
        assert!(failed.is_err(), "step {step}");
        db.put("after", "a failure").expect("reads and writes go on");
        opened_by(&vfs.kill(), [&key(1), &key(2)], &format!("step {step}"));
        db.rotate_key(&key(3)).expect("again");
        db.close().expect("closed");
        check(&open(&vfs, Some(key(3)), OpenAs::Open).expect("opens"));
    }
}
