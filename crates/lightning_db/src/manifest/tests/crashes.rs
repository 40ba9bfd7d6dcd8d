//! Power cuts, kills and failing calls on the simulated disk.

use fastrand::Rng;

use super::sample::{self, DB};
use crate::error::{Error, ErrorKind};
use crate::manifest::{Edit, EditOp, Manifest, ManifestState, install_current};
use crate::types::{ManifestId, Seq};
use crate::vfs::SimulatedVfs;
use crate::vfs::simulated::{FaultError, FaultRule, Operation, Survival};

/// A creation and some commits, the fourth of them into a new file.
struct Script {
    edits: Vec<Edit>,
    /// The state before each edit, and the last.
    states: Vec<ManifestState>,
}

/// How far a script came: the last state that was acknowledged, and the last that was tried.
#[derive(Clone, Copy, Default, Debug)]
struct Reached {
    acknowledged: Option<usize>,
    tried: usize,
}

impl Script {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut states = vec![sample::empty()];
        let mut edits = Vec::new();
        for _ in 0..6 {
            let mut state = states.last().unwrap().clone();
            let edit = sample::edit(&mut rng, &state);
            state.apply(&edit).unwrap();
            edits.push(edit);
            states.push(state);
        }
        Self { edits, states }
    }

    /// Runs until the first error.
    fn run(&self, disk: &SimulatedVfs) -> (Reached, Result<(), Error>) {
        let mut reached = Reached::default();
        let result = self.steps(disk, &mut reached);
        (reached, result)
    }

    fn begin(&self, disk: &SimulatedVfs) -> Result<Manifest, Error> {
        let (vfs, dir) = (sample::as_vfs(disk), sample::dir());
        let manifest =
            Manifest::create(&vfs, &dir, ManifestId(1), &self.states[0], &sample::owner())?;
        install_current(&vfs, &dir, ManifestId(1), DB)?;
        Ok(manifest)
    }

    fn commit(&self, manifest: &mut Manifest, n: usize) -> Result<(), Error> {
        if n == 4 {
            manifest.roll_past(0);
        }
        manifest.commit(&self.edits[n - 1])
    }

    fn steps(&self, disk: &SimulatedVfs, reached: &mut Reached) -> Result<(), Error> {
        let mut manifest = self.begin(disk)?;
        reached.acknowledged = Some(0);
        for n in 1..=self.edits.len() {
            reached.tried = n;
            self.commit(&mut manifest, n)?;
            reached.acknowledged = Some(n);
        }
        Ok(())
    }

    /// Which state is on the disk; it must be one between those acknowledged and tried.
    fn expect(&self, disk: &SimulatedVfs, reached: Reached, at: &str) -> Option<usize> {
        let (vfs, dir) = (sample::as_vfs(disk), sample::dir());
        let loaded = Manifest::load(&vfs, &dir, &sample::owner());
        let again = Manifest::load(&vfs, &dir, &sample::owner());
        let (state, id) = match loaded {
            Err(e) if e.kind() == ErrorKind::NotFound && reached.acknowledged.is_none() => {
                return None;
            }
            loaded => loaded.unwrap_or_else(|e| panic!("{at}: {e:?}")),
        };
        assert_eq!(again.unwrap(), (state.clone(), id), "{at}: read twice");
        let range = reached.acknowledged.unwrap_or(0)..=reached.tried;
        let found = range.clone().find(|n| self.states[*n] == state);
        Some(found.unwrap_or_else(|| panic!("{at}: edit {} is none of {range:?}", state.edit)))
    }
}

/// What opening for writing does to the manifest.
fn open_for_writing(disk: &SimulatedVfs) -> Result<Manifest, Error> {
    let (vfs, dir) = (sample::as_vfs(disk), sample::dir());
    let (state, _) = Manifest::load(&vfs, &dir, &sample::owner())?;
    let names = dir.join("manifest");
    let list = vfs.list(&names).map_err(|e| Error::io(&names, "list", e))?;
    let highest = list.iter().filter_map(|n| n.strip_suffix(".man")?.parse().ok()).max();
    let id = ManifestId(highest.unwrap_or(0)).next();
    let manifest = Manifest::create(&vfs, &dir, id, &state, &sample::owner())?;
    install_current(&vfs, &dir, id, state.db)?;
    for name in list {
        let path = names.join(name);
        vfs.remove_file(&path).map_err(|e| Error::io(&path, "remove", e))?;
    }
    Ok(manifest)
}

#[test]
fn an_acknowledged_edit_survives_a_power_cut_after_any_operation() {
    let (mut images, mut before, mut after) = (0, 0, 0);
    for seed in 0..60 {
        let script = Script::new(seed);
        let whole = sample::disk(seed);
        let first = whole.operations();
        script.run(&whole).1.unwrap();
        for operation in first..whole.operations() {
            let disk = sample::disk(seed);
            disk.crash_after(operation);
            let (reached, result) = script.run(&disk);
            // Only the removal of the old file may fail without an error.
            assert!(result.is_err() || operation + 1 == whole.operations() || reached.tried > 4);
            let at = format!("seed {seed}, operation {operation}, {reached:?}");
            script.expect(&disk.kill(), reached, &format!("{at}, killed"));
            for cut in 0..4 {
                let disk = disk.power_cut(seed * 1000 + operation * 10 + cut);
                let found = script.expect(&disk, reached, &format!("{at}, cut {cut}"));
                images += 1;
                if let (Some(found), Some(acknowledged)) = (found, reached.acknowledged) {
                    before += usize::from(found == acknowledged);
                    after += usize::from(found > acknowledged);
                }
            }
        }
    }
    assert!(images > 10_000 && before > 1000 && after > 1000, "{images}: {before}, {after}");
}

#[test]
fn a_crash_while_opening_changes_nothing_however_often() {
    let mut images = 0;
    for seed in 0..60 {
        let mut rng = Rng::with_seed(seed);
        let script = Script::new(seed);
        let whole = sample::disk(seed);
        let first = whole.operations();
        script.run(&whole).1.unwrap();
        let disk = sample::disk(seed);
        disk.crash_after(rng.u64(first..whole.operations()));
        let (reached, _) = script.run(&disk);
        let mut disk = disk.power_cut(seed);
        let Some(found) = script.expect(&disk, reached, &format!("seed {seed}")) else { continue };
        let exactly = Reached { acknowledged: Some(found), tried: found };
        for round in 0..8 {
            let dry = disk.fork();
            let first = dry.operations();
            open_for_writing(&dry).unwrap();
            for operation in first..dry.operations() {
                let image = disk.fork();
                image.crash_after(operation);
                open_for_writing(&image).unwrap_err();
                let image = image.power_cut(rng.u64(..));
                let at = format!("seed {seed}, round {round}, operation {operation}");
                script.expect(&image, exactly, &at);
                images += 1;
                if rng.u64(0..dry.operations()) == 0 {
                    disk = image;
                    break;
                }
            }
        }
        open_for_writing(&disk).unwrap();
        script.expect(&disk.power_cut_with(1, Survival::Nothing), exactly, "opened");
    }
    assert!(images > 3000, "{images}");
}

/// A manifest with its first three edits, on a disk.
fn three_edits(seed: u64) -> (SimulatedVfs, Script, Manifest) {
    let script = Script::new(seed);
    let disk = sample::disk(seed);
    let mut manifest = script.begin(&disk).unwrap();
    for n in 1..3 {
        script.commit(&mut manifest, n).unwrap();
    }
    (disk, script, manifest)
}

#[test]
fn an_edit_whose_sync_failed_stops_the_manifest_and_is_there_or_not_after_a_reload() {
    for seed in 0..30 {
        for failing in 0..2 {
            let (disk, script, mut manifest) = three_edits(seed);
            let mut rule = FaultRule::next(&[Operation::Sync], FaultError::Eio).on(".man");
            rule.at = failing;
            disk.fail(rule);
            let e = script.commit(&mut manifest, 3).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::CommitUnknown);
            assert!(manifest.has_failed());
            assert_eq!(*manifest.state(), script.states[2]);
            disk.clear_faults();
            for _ in 0..2 {
                let e = script.commit(&mut manifest, 3).unwrap_err();
                assert_eq!(e.kind(), ErrorKind::Poisoned);
            }
            // With the second sync the edit itself was durable already.
            let least = 2 + failing as usize;
            let reached = Reached { acknowledged: Some(least), tried: 3 };
            let at = format!("seed {seed}, sync {failing}");
            assert_eq!(script.expect(&disk.kill(), reached, &at), Some(3), "{at}: in the cache");
            let lost = disk.power_cut_with(seed, Survival::Nothing);
            assert_eq!(script.expect(&lost, reached, &at), Some(least), "{at}: not on the disk");
            for cut in 0..5 {
                script.expect(&disk.power_cut(cut), reached, &at);
            }
            let dropped = disk.kill();
            dropped.drop_caches();
            script.expect(&dropped, reached, &at);
            // What a reload found is durable once the database was opened with it.
            let reopened = disk.kill();
            open_for_writing(&reopened).unwrap();
            let reopened = reopened.power_cut_with(seed, Survival::Nothing);
            assert_eq!(script.expect(&reopened, reached, &at), Some(3), "{at}: reopened");
        }
    }
}

#[test]
fn a_call_that_fails_leaves_the_state_before_or_after_and_says_which_it_may_be() {
    let (mut runs, mut harmless, mut stopped) = (0, 0, 0);
    for seed in 0..4 {
        let script = Script::new(seed);
        let whole = sample::disk(seed);
        let first = whole.operations();
        script.run(&whole).1.unwrap();
        for operation in first..whole.operations() {
            for forever in [false, true] {
                for error in [
                    FaultError::Eio,
                    FaultError::Enospc,
                    FaultError::Short,
                    FaultError::Interrupted,
                ] {
                    let at = format!("seed {seed}, operation {operation}, {error:?}, {forever}");
                    let disk = sample::disk(seed);
                    disk.fail_operation(operation, error, forever);
                    runs += 1;
                    let Ok(mut manifest) = script.begin(&disk) else {
                        script.expect(&disk.power_cut(seed), Reached::default(), &at);
                        continue;
                    };
                    let mut reached = Reached { acknowledged: Some(0), tried: 0 };
                    for n in 1..=script.edits.len() {
                        reached.tried = n;
                        if let Err(e) = script.commit(&mut manifest, n) {
                            assert!(!matches!(error, FaultError::Short | FaultError::Interrupted));
                            assert_eq!(*manifest.state(), script.states[n - 1], "{at}");
                            disk.clear_faults();
                            let unknown = e.kind() == ErrorKind::CommitUnknown;
                            assert_eq!(manifest.has_failed(), unknown, "{at}: {e:?}");
                            if unknown {
                                stopped += 1;
                                break;
                            }
                            harmless += 1;
                            let unchanged = Reached { acknowledged: Some(n - 1), tried: n - 1 };
                            script.expect(&disk.kill(), unchanged, &at);
                            script.commit(&mut manifest, n).unwrap();
                        }
                        reached.acknowledged = Some(n);
                    }
                    script.expect(&disk.kill(), reached, &at);
                    for cut in 0..3 {
                        script.expect(&disk.power_cut(cut), reached, &at);
                    }
                }
            }
        }
    }
    assert!(runs > 1000 && harmless > 20 && stopped > 100, "{runs}: {harmless}, {stopped}");
}

#[test]
fn a_full_disk_is_met_before_the_edit_and_harms_nothing() {
    for rolls in [false, true] {
        let (disk, script, mut manifest) = three_edits(5);
        if rolls {
            manifest.roll_past(0);
        }
        // Fill what was reserved, too, where the file stays the same.
        disk.set_capacity(Some(1));
        let mut refused = None;
        let mut committed = 0;
        while refused.is_none() && committed < 100_000 {
            let edit = Edit { ops: vec![EditOp::LastSeq(Seq(1_000_000 + committed)); 500] };
            match manifest.commit(&edit) {
                Ok(()) => committed += 1,
                Err(e) => refused = Some(e),
            }
        }
        assert_eq!(refused.unwrap().kind(), ErrorKind::StorageFull);
        assert!(!manifest.has_failed());
        let state = manifest.state().clone();
        let (vfs, dir) = (sample::as_vfs(&disk), sample::dir());
        assert_eq!(Manifest::load(&vfs, &dir, &sample::owner()).unwrap().0, state);
        let names = vfs.list(&dir.join("manifest")).unwrap();
        assert_eq!(names, ["000001.man"], "nothing is left that takes space");
        disk.set_capacity(None);
        manifest.commit(&script.edits[2]).unwrap();
        assert_eq!(Manifest::load(&vfs, &dir, &sample::owner()).unwrap().0, *manifest.state());
    }
}

#[test]
fn an_edit_that_swapped_current_is_acknowledged_though_the_old_file_cannot_be_removed() {
    let (disk, script, mut manifest) = three_edits(6);
    manifest.roll_past(0);
    disk.fail(FaultRule::next(&[Operation::Remove], FaultError::Eio).on("000001.man"));
    script.commit(&mut manifest, 3).unwrap();
    assert_eq!(*manifest.state(), script.states[3]);
    let reached = Reached { acknowledged: Some(3), tried: 3 };
    script.expect(&disk.power_cut_with(1, Survival::Nothing), reached, "rolled");
}

#[test]
fn the_old_current_stands_until_the_rename() {
    for seed in 0..20 {
        let (disk, script, mut manifest) = three_edits(seed);
        manifest.commit(&script.edits[2]).unwrap();
        let (vfs, dir) = (sample::as_vfs(&disk), sample::dir());
        let other = &script.states[5];
        drop(Manifest::create(&vfs, &dir, ManifestId(2), other, &sample::owner()).unwrap());
        let dry = disk.fork();
        let first = dry.operations();
        install_current(&sample::as_vfs(&dry), &dir, ManifestId(2), DB).unwrap();
        let last = dry.operations();
        // The last two operations are the rename and the sync of the directory.
        for operation in first..last {
            for cut in 0..6 {
                let image = disk.fork();
                image.crash_after(operation);
                install_current(&sample::as_vfs(&image), &dir, ManifestId(2), DB).unwrap_err();
                let image = sample::as_vfs(&image.power_cut(seed * 100 + cut));
                let (state, id) = Manifest::load(&image, &dir, &sample::owner()).unwrap();
                let old = (&state, id) == (&script.states[3], ManifestId(1));
                let new = (&state, id) == (other, ManifestId(2));
                assert!(old || (new && operation + 2 >= last), "seed {seed}, {operation}, {cut}");
            }
        }
        let durable = sample::as_vfs(&dry.power_cut_with(seed, Survival::Nothing));
        assert_eq!(
            Manifest::load(&durable, &dir, &sample::owner()).unwrap(),
            (other.clone(), ManifestId(2))
        );
    }
}

#[test]
fn loading_writes_nothing() {
    let (disk, script, manifest) = three_edits(7);
    drop(manifest);
    let files = |disk: &SimulatedVfs| -> Vec<_> {
        disk.files().into_iter().map(|f| (disk.read_file(&f).unwrap(), f)).collect()
    };
    let before = files(&disk);
    let changing = [
        Operation::Write,
        Operation::Sync,
        Operation::SetLen,
        Operation::Allocate,
        Operation::Create,
        Operation::CreateDir,
        Operation::Remove,
        Operation::RemoveDir,
        Operation::Rename,
        Operation::HardLink,
        Operation::SyncDir,
        Operation::Lock,
    ];
    disk.fail(FaultRule::next(&changing, FaultError::Eio).forever());
    for _ in 0..3 {
        let loaded =
            Manifest::load(&sample::as_vfs(&disk), &sample::dir(), &sample::owner()).unwrap();
        assert_eq!(loaded, (script.states[2].clone(), ManifestId(1)));
    }
    assert_eq!(files(&disk), before);
}

#[test]
fn a_read_that_fails_is_an_error_of_its_own_not_damage() {
    let (disk, script, _) = three_edits(8);
    let dry = disk.fork();
    let first = dry.operations();
    Manifest::load(&sample::as_vfs(&dry), &sample::dir(), &sample::owner()).unwrap();
    for operation in first..dry.operations() {
        let image = disk.fork();
        image.fail_operation(operation, FaultError::Eio, false);
        let vfs = sample::as_vfs(&image);
        let e = Manifest::load(&vfs, &sample::dir(), &sample::owner()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Io, "operation {operation}");
        assert_eq!(
            Manifest::load(&vfs, &sample::dir(), &sample::owner()).unwrap().0,
            script.states[2]
        );
    }
    assert!(dry.operations() - first >= 6);
}
