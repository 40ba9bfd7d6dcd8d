//! What cursors still need of a log that is replaced: written anew, for readers of changes alone.
//!
//! What a recovery reads may exist only in the system's page cache, and large values are moved: so the
//! commits that are needed are written to files of their own, with the references as they are now, and are
//! durable when this returns. The log is read a second time for it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::commit::batch::{Operation, Operations, Write, encode, encode_range};
use crate::crypto::Owner;
use crate::error::{Error, Result};
use crate::manifest::ManifestState;
use crate::types::{BlobRef, Entry, EntryValue, LogId, SegmentId, Seq};
use crate::vfs::{OpenMode, Vfs};
use crate::wal::{Log, LogFile, LogFiles, LogOptions, LogRecovery, LogWriter, Visit, log_path};

/// Large values that were moved, by where they were.
pub type Moved = HashMap<(SegmentId, u64), BlobRef>;

/// Writes the commits from `needed` to `last` of the log that `state` names, to files from `next_id` on.
pub fn rewrite(
    vfs: &Arc<dyn Vfs>,
    dir: &Path,
    db: &Owner,
    state: &ManifestState,
    moved: &Moved,
    (needed, last): (Seq, Seq),
    (next_id, segment_bytes): (LogId, u64),
) -> Result<Vec<(LogFile, Seq)>> {
    let files = Arc::new(LogFiles::default());
    let mut writer: Option<LogWriter> = None;
    let mut visit = |seq: Seq, body: &[u8]| {
        if seq > last {
            return Ok(Visit::Unusable);
        }
        if seq < needed {
            return Ok(Visit::Accept);
        }
        if writer.is_none() {
            let options =
                LogOptions { segment_bytes, files: Arc::clone(&files), for_readers: true };
            writer = Some(Log::create(vfs, dir, db, next_id, seq, 0, options)?.split().0);
        }
        let Some(writer) = &mut writer else { return Ok(Visit::Unusable) };
        let (body, blobs) = with_moved(body, moved);
        writer.append(seq, &body, crc32c::crc32c(&body))?;
        for blob in blobs {
            files.note_blob(blob.segment, blob.stored_bytes);
        }
        Ok(Visit::Accept)
    };
    let (start, edit, vouched) = (state.log_start, state.edit, state.last_seq);
    LogRecovery::recover(vfs, dir, db, start, edit, vouched, &mut visit)?;
    let Some(writer) = writer else { return Ok(Vec::new()) };
    let (current, used) = writer.position();
    writer.close()?;
    let path = log_path(dir, current);
    let file = vfs.open(&path, OpenMode::ReadWrite).map_err(|e| Error::io(&path, "open", e))?;
    file.set_len(used).map_err(|e| Error::io(&path, "cut", e))?;
    file.sync_data().map_err(|e| Error::io(&path, "sync", e))?;
    let mut kept = files.list(last);
    if let Some((file, _)) = kept.last_mut() {
        file.bytes = used;
    }
    Ok(kept)
}

/// A body with the references as they are now, and these.
fn with_moved(body: &[u8], moved: &Moved) -> (Vec<u8>, Vec<BlobRef>) {
    let (mut out, mut blobs) = (Vec::with_capacity(body.len()), Vec::new());
    for part in Operations::new(body).flatten() {
        let op = match part {
            Write::Entry(op) => op,
            Write::DeleteRange(range) => {
                encode_range(&mut out, &range);
                continue;
            }
        };
        let value = match op.entry.value {
            EntryValue::Blob(blob) => {
                let blob = moved.get(&(blob.segment, blob.offset)).copied().unwrap_or(blob);
                blobs.push(blob);
                EntryValue::Blob(blob)
            }
            other => other,
        };
        encode(&mut out, &Operation { entry: Entry { value, ..op.entry }, ..op });
    }
    (out, blobs)
}
