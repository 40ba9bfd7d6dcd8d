//! Durable cursors: names that stand for how far a reader of changes has come.
//!
//! 1. A cursor stands at a commit that is durable, so that it never names one that is lost.
//! 2. It keeps the log behind it (`maintenance/kept_log.rs`), over closings, kills and power cuts.
//! 3. It is part of the manifest: moving it is an edit, and costs two fsyncs.

use crate::changes::stream::check_log;
use crate::database::Database;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{MAX_CURSOR_NAME_BYTES, MAX_CURSORS};
use crate::maintenance::core::Core;
use crate::manifest::{Edit, EditOp, Manifest};
use crate::types::Seq;

/// A cursor, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeCursor {
    /// Its name.
    pub name: String,
    /// The last commit that its reader has done with.
    pub commit: u64,
}

impl Database {
    /// Moves the cursor `name` to a commit, which with all before it counts as done with; makes the cursor
    /// where there is none. From then on the log is kept from the next commit on. The commit, and the move,
    /// are durable when this returns: two fsyncs, so that a busy reader moves its cursor now and then.
    ///
    /// It may be moved back, as far as the log reaches: before that it is `TooOld`. A commit later than the last, an
    /// empty name or one of more than 255 bytes, more than 1024 cursors, and a database without a log are
    /// `InvalidArgument`.
    ///
    /// ```
    /// use lightning_db::{ChangesFrom, Database};
    /// # fn main() -> lightning_db::Result<()> {
    /// let db = Database::create_temp()?;
    /// db.commit_cursor("mirror", db.last_commit())?;
    /// db.put(b"apple", b"green")?;
    /// // Perhaps much later, in another process:
    /// let mut changes = db.changes(ChangesFrom::Cursor("mirror".to_owned()))?;
    /// while let Some(commit) = changes.try_next()? {
    ///     // ... do something with it, and then:
    ///     db.commit_cursor("mirror", commit.commit)?;
    /// }
    /// assert_eq!(db.list_cursors()?[0].commit, db.last_commit());
    /// # Ok(())
    /// # }
    /// ```
    pub fn commit_cursor(&self, name: &str, commit: u64) -> Result<()> {
        let core = &self.handle().core;
        core.check_writable()?;
        check_log(core)?;
        if name.is_empty() || name.len() > MAX_CURSOR_NAME_BYTES {
            let message = format!("a cursor's name has 1 to {MAX_CURSOR_NAME_BYTES} bytes");
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        let (env, seq) = (&core.env, Seq(commit));
        if seq > env.visible() {
            let message = format!("commit {commit} is later than the last one, {}", env.visible());
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        if let Some(log) = &env.log {
            log.sync_to(seq)?;
        }
        // No log file goes meanwhile.
        let latch = core.retire_latch.lock();
        if env.log_files.holding(seq.next()).is_none() {
            return Err(env.log_files.too_old(seq.next()));
        }
        let known = env.manifest.lock().as_ref().map(|m| m.state().cursors.clone());
        let known = known.unwrap_or_default();
        if !known.contains_key(name) && known.len() >= MAX_CURSORS {
            let message = format!("there are {MAX_CURSORS} cursors already");
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        let op = EditOp::SetCursor { name: name.to_owned(), seq };
        env.publish(Edit { ops: vec![op] }, || ())?;
        drop(latch);
        core.trim_kept()
    }

    /// Removes a cursor; the log that it alone needed goes. `NotFound` where there is none.
    pub fn drop_cursor(&self, name: &str) -> Result<()> {
        let core = &self.handle().core;
        core.check_writable()?;
        standing(core, name)?;
        let op = EditOp::DropCursor(name.to_owned());
        core.env.publish(Edit { ops: vec![op] }, || ()).map_err(|e| {
            // Somebody else was faster.
            if e.kind() == ErrorKind::InvalidArgument { missing(name) } else { e }
        })?;
        core.trim_kept()
    }

    /// The cursors there are, by name.
    pub fn list_cursors(&self) -> Result<Vec<ChangeCursor>> {
        let core = &self.handle().core;
        core.check_open()?;
        let cursors = cursors(core)?.into_iter();
        Ok(cursors.map(|(name, seq)| ChangeCursor { name, commit: seq.0 }).collect())
    }
}

fn cursors(core: &Core) -> Result<std::collections::BTreeMap<String, Seq>> {
    let env = &core.env;
    if let Some(manifest) = &*env.manifest.lock() {
        return Ok(manifest.state().cursors.clone());
    }
    // Opened for reading: nobody writes it meanwhile.
    Ok(Manifest::load(&env.vfs, &env.dir, &env.db)?.0.cursors)
}

/// The commit that a cursor stands at.
pub fn standing(core: &Core, name: &str) -> Result<Seq> {
    cursors(core)?.get(name).copied().ok_or_else(|| missing(name))
}

fn missing(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no cursor {name:?}"))
}
