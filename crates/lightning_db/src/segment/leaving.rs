//! Files of segments that nothing names any more. Each goes with its last reader, on whose thread it is
//! removed; where that thread must not be held up it is left here for the next who does upkeep.
//!
//! 1. Until it is removed a file counts as leaving, so that `verify` does not take it for an orphan.
//! 2. After [`end`](Leaving::end) no file is removed, nor is one being removed: the directory may be
//!    another's by then, with other files of these names. What is left goes with the next opening.
//!
//! One latch, not held while a file is removed.

use std::fmt;
use std::sync::{Arc, OnceLock};

use super::in_memory::leaves_files;
use crate::sync::{Condvar, Mutex};
use crate::vfs::{Vfs, VfsFile};

/// See the module.
#[derive(Default)]
pub struct Leaving {
    state: Mutex<State>,
    removed: Condvar,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

#[derive(Default)]
struct State {
    /// Marked, and not removed.
    count: usize,
    /// Without readers, to be removed by somebody else.
    waiting: Vec<Gone>,
    removing: usize,
    ended: bool,
}

/// A file without readers, still open, so that it is also closed where it is removed.
struct Gone {
    vfs: Arc<dyn Vfs>,
    file: Arc<dyn VfsFile>,
}

impl Leaving {
    /// Has `wake` called when files are left for others to remove; only the first counts.
    pub fn wake_by(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.wake.set(Box::new(wake));
    }

    /// Notes that a file goes with its last reader.
    pub(super) fn mark(&self) {
        self.state.lock().count += 1;
    }

    /// The last reader of a marked file goes.
    pub(super) fn let_go(&self, vfs: &Arc<dyn Vfs>, file: &Arc<dyn VfsFile>) {
        let gone = Gone { vfs: Arc::clone(vfs), file: Arc::clone(file) };
        let mut state = self.state.lock();
        if state.ended {
            state.count -= 1;
            return;
        }
        state.waiting.push(gone);
        drop(state);
        if !leaves_files() {
            self.remove_waiting();
        } else if let Some(wake) = self.wake.get() {
            wake();
        }
    }

    /// Removes what was left for others.
    pub fn remove_waiting(&self) {
        let mut state = self.state.lock();
        let gone = std::mem::take(&mut state.waiting);
        if gone.is_empty() {
            return;
        }
        state.removing += 1;
        drop(state);
        let count = gone.len();
        for Gone { vfs, file } in gone {
            // Where it cannot be removed now, the next opening of the database removes it.
            let _ = vfs.remove_file(file.path());
        }
        let mut state = self.state.lock();
        state.removing -= 1;
        state.count -= count;
        drop(state);
        self.removed.notify_all();
    }

    /// Removes what is without readers; what is read now stays until the next opening.
    pub fn end(&self) {
        self.state.lock().ended = true;
        self.remove_waiting();
        let mut state = self.state.lock();
        while state.removing > 0 {
            state = self.removed.wait(state);
        }
    }

    /// Whether any file is leaving.
    pub fn any(&self) -> bool {
        self.state.lock().count > 0
    }
}

impl fmt::Debug for Leaving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        let mut out = f.debug_struct("Leaving");
        out.field("count", &state.count).field("ended", &state.ended).finish_non_exhaustive()
    }
}
