//! Change of the data keys: everything is written anew under the newest one, then the old ones go.
//!
//! `KEYS` with more than one data key says that a change is under way; whoever opens the database for
//! writing goes on with it. In steps, after any of which a crash does no harm:
//!
//! 1. The new key is in both copies of `KEYS` before anything is written under it; from then on
//!    every new file is.
//! 2. The log goes on in a new file, the large values in a new segment; what the old log vouches for is
//!    flushed, and its files are given up.
//! 3. Large values and partitions under older keys are written anew, one merge at a time.
//! 4. The manifest goes on in a new file. What is kept of the log for readers of changes is not written
//!    anew: the change waits until they are done with it.
//! 5. Once nothing that an opening would read is under an older key, and nobody can be about to name
//!    such a file, `KEYS` is written without the old keys. What readers of old versions hold open
//!    they go on reading: an open file has its key.
//!
//! About point 5: whoever drew a salt before the new key was there did so under a latch (of a flush or
//! merge, the active large values, the commit section, the manifest), and each of these is taken here at
//! some time after; flushes and merges are kept out from the judgement to the end. A commit whose large
//! value is written and whose entry is not inserted yet is waited for before them. Calls that write files
//! of their own (`file_jobs`) hold no latch while they do: while one runs, the old keys stay.

use std::sync::Arc;

use crate::crypto::Keyring;
use crate::error::{Error, ErrorKind, Result};
use crate::maintenance::core::Core;
use crate::store::keyspace::KeyspaceStore;
use crate::store::merge::run_job;
use crate::store::policy;
use crate::sync::{Mutex, MutexGuard};
use crate::types::SegmentId;
use crate::wal::epoch_of;

/// Takes a latch; where others are not to be waited for, only if it is free.
fn take(latch: &Mutex<()>, wait: bool) -> Option<MutexGuard<'_, ()>> {
    if wait { Some(latch.lock()) } else { latch.try_lock() }
}

impl Core {
    /// The keys, where the database is encrypted and open for writing.
    pub fn writable_keys(&self) -> Result<&Keyring> {
        self.check_writable()?;
        self.env.db.keys().map(|k| &**k).ok_or_else(|| {
            let message = "the database is not encrypted, so it has no key to change";
            Error::new(ErrorKind::NotEncrypted, message).in_file(&self.env.dir)
        })
    }

    /// Begins a change: from now on new files are written under a new data key.
    pub fn begin_rekey(&self) -> Result<()> {
        self.writable_keys()?.add_data_key()?;
        self.signal.raise();
        Ok(())
    }

    /// Does all that is left of a change; tells whether the old keys are gone.
    pub fn finish_rekey(&self) -> Result<bool> {
        let keys = self.writable_keys()?;
        while keys.is_changing() {
            self.check_open()?;
            if !self.rekey_step(true)? {
                break;
            }
        }
        Ok(!keys.is_changing())
    }

    /// One step of a change that is under way; tells whether there was one to do. Without `wait` it
    /// leaves alone what other work is busy with.
    pub fn rekey_step(&self, wait: bool) -> Result<bool> {
        let Some(keys) = self.env.db.keys().filter(|k| k.is_changing()) else { return Ok(false) };
        let Some(_one) = take(&self.rekey_latch, wait) else { return Ok(false) };
        let newest = keys.newest_epoch();
        self.env.blobs.seal_aged(newest)?;
        if self.has_aged_log(newest) {
            if let Some(log) = &mut self.section.enter().log {
                log.leave_aged(newest)?;
            }
            self.flush_all()?;
            return Ok(!self.has_aged_log(newest));
        }
        let keyspaces = self.all();
        if self.has_aged_values_in_memory(&keyspaces, newest) {
            // So that partitions refer to them, which are written anew.
            self.flush_all()?;
            return Ok(true);
        }
        if self.clean_blobs()? {
            return Ok(true);
        }
        for keyspace in &keyspaces {
            let Some(_latch) = take(&keyspace.merge_latch, wait) else { continue };
            let job = policy::aged_job(&keyspace.pin(), newest);
            if let Some(job) = job.filter(|_| !keyspace.is_dropped()) {
                return run_job(&self.env, keyspace, &job);
            }
        }
        self.env.renew_manifest(newest)?;
        self.drop_old_keys(keys, newest, wait)
    }

    fn has_aged_log(&self, newest: u32) -> bool {
        self.section.enter().log.as_ref().is_some_and(|l| l.has_aged(newest))
    }

    /// Whether readers or cursors of changes may come to a file under an older key.
    fn has_aged_kept_log(&self, newest: u32) -> Result<bool> {
        for (file, _) in self.env.log_files.list(self.env.visible()) {
            let epoch = epoch_of(&*self.env.vfs, &self.env.dir, file.id)?;
            if epoch.is_some_and(|e| e < newest) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn has_aged_values_in_memory(&self, keyspaces: &[Arc<KeyspaceStore>], newest: u32) -> bool {
        let aged = |id: SegmentId| self.env.blobs.is_aged(id, newest);
        let in_memory = |k: &Arc<KeyspaceStore>| {
            k.pin().memtables().any(|m| m.blob_segments().into_iter().any(aged))
        };
        keyspaces.iter().any(in_memory)
    }

    /// Drops the old keys if nothing needs them; tells whether they went.
    fn drop_old_keys(&self, keys: &Keyring, newest: u32, wait: bool) -> Result<bool> {
        self.trim_kept()?;
        // Those that begin from here on are under the newest key, and wait a moment.
        let Some(_jobs) = self.file_jobs.none() else { return Ok(false) };
        // In the order in which the dropping of a keyspace takes them.
        let Some(_all) = take(&self.flush_all_latch, wait) else { return Ok(false) };
        let mut keyspaces = self.all();
        keyspaces.sort_by_key(|k| k.id);
        let flushes = keyspaces.iter().map(|k| take(&k.flush_latch, wait));
        let Some(_flushes) = flushes.collect::<Option<Vec<_>>>() else { return Ok(false) };
        let merges = keyspaces.iter().map(|k| take(&k.merge_latch, wait));
        let Some(_merges) = merges.collect::<Option<Vec<_>>>() else { return Ok(false) };
        let Some(_retire) = take(&self.retire_latch, wait) else { return Ok(false) };
        let named_aged = {
            let manifest = self.env.manifest.lock();
            let Some(manifest) = manifest.as_ref() else { return Ok(false) };
            let mut values = manifest.state().blob_segments.keys();
            manifest.is_aged(newest) || values.any(|id| self.env.blobs.is_aged(*id, newest))
        };
        let aged = |id| self.env.blobs.is_aged(id, newest);
        let needed = named_aged
            // Before memtables: what refers to these values comes into them.
            || self.env.blobs.pinned().into_iter().any(aged)
            || self.has_aged_log(newest)
            || self.has_aged_kept_log(newest)?
            || self.has_aged_values_in_memory(&keyspaces, newest)
            || keyspaces.iter().any(|k| policy::aged_job(&k.pin(), newest).is_some());
        if needed {
            return Ok(false);
        }
        keys.drop_old_data_keys(newest)?;
        Ok(true)
    }
}
