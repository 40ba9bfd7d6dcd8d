//! [`MappedLog`]: a log file of Linux whose writes are copies into a shared mapping, so that
//! what was written outlives a killed process without a system call for each record.
//!
//! 1. The file has its final length, and all its space, before it is mapped; it is never cut,
//!    grown or written past that length through here.
//! 2. No reference into the mapping exists, ever: bytes go in by a raw copy under the file's
//!    latch, and come out by reading the file.
//! 3. `fdatasync` makes copies durable as it does writes: a shared mapping *is* the page cache,
//!    and write-back collects the dirty bits of every mapping of a page before it writes the page
//!    (POSIX would have `msync` for this; Linux does not need it).
//! 4. A store can still meet a signal (SIGBUS) where a page has to be read first and the device
//!    fails, or where someone else cuts the file: the process ends as by a kill, which loses
//!    nothing that was acknowledged. The database's lock keeps its own kind out.
//! 5. Before a sync the pages that are full leave the mapping, a run of them at a time. Write-back makes
//!    each page that it finds mapped read-only first, and tells every core of each alone: an interrupt to
//!    the writer for every 4 KiB of log. What leaves stays in the page cache, dirty as it was, and
//!    comes back at the next access, if there is one.
#![allow(unsafe_code, reason = "mappings have no safe interface")]
#![allow(clippy::disallowed_types, reason = "part of the seam")]

use std::fs::File;
use std::io::{Error as IoError, ErrorKind as IoErrorKind, Result as IoResult};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};

use super::VfsFile;
use super::os_calls;
use crate::sync::Mutex;

/// A shared, writable mapping of the start of a file.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    len: usize,
    /// Whole pages in this range may be mapped and written; below it they are not, but for what was
    /// written there since by going back.
    fresh: Range<usize>,
}

// SAFETY: the mapping belongs to the process, not to a thread, and the pointer is used only by
// `copy_in` and `drop`, which have the value to themselves.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes, which the file must have.
    fn new(file: &File, len: usize) -> IoResult<Self> {
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: no address is asked for, so no mapping that exists is touched; the descriptor
        // is open while `file` is borrowed, and the mapping outlives it by itself.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, access, flags, file.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(IoError::last_os_error());
        }
        match NonNull::new(start.cast()) {
            Some(start) => Ok(Self { start, len, fresh: 0..0 }),
            None => Err(IoError::other("mapped at address zero")),
        }
    }

    /// Copies `bytes` to `offset`; what does not fit is refused.
    fn copy_in(&mut self, bytes: &[u8], offset: u64) -> IoResult<()> {
        let fits = |at: &usize| at.checked_add(bytes.len()).is_some_and(|end| end <= self.len);
        let Some(offset) = usize::try_from(offset).ok().filter(fits) else {
            return Err(past_the_end());
        };
        // SAFETY: `offset + bytes.len() <= self.len`, all of it in this mapping.
        let to = unsafe { self.start.as_ptr().add(offset) };
        // SAFETY: `to` is valid for writes of `bytes.len()` bytes (above; the mapping is writable
        // and unmapped only by `drop`). The source is not in the mapping, since no reference into
        // it is ever made. `&mut self` keeps other copies by this process out; the kernel and
        // other mappings of the file are outside the memory model, and what they may see half
        // done is what a checksum is for.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        self.fresh.end = self.fresh.end.max(offset + bytes.len());
        Ok(())
    }

    /// Takes some of the pages that are full out of the mapping; tells whether more may be left.
    fn release_some(&mut self) -> bool {
        let full = self.fresh.end / PAGE * PAGE;
        let until = full.min(self.fresh.start + RELEASED_AT_ONCE);
        let Some(bytes) = until.checked_sub(self.fresh.start).filter(|n| *n > 0) else {
            return false;
        };
        // SAFETY: `until <= self.len`, so the address is in this mapping.
        let from = unsafe { self.start.as_ptr().add(self.fresh.start) };
        // SAFETY: the range is of this mapping, page-aligned, and nothing points into it. It is a shared
        // mapping of a file: what leaves it is not lost, as with a private one, but stays in the
        // file's page cache, which takes over the dirty bits.
        let done = unsafe { libc::madvise(from.cast(), bytes, libc::MADV_DONTNEED) };
        // Where it is refused (locked pages), write-back does without.
        debug_assert!(done == 0 || IoError::last_os_error().raw_os_error() != Some(libc::EFAULT));
        self.fresh.start = until;
        until < full
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what `mmap` returned, once, and nothing points into it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// Pages of the system are of this size, or of a multiple of it that a refusal is the answer to.
const PAGE: usize = 4096;

/// So many bytes leave the mapping at once: a few microseconds in which no record can be written.
const RELEASED_AT_ONCE: usize = 64 * PAGE;

fn past_the_end() -> IoError {
    IoError::new(IoErrorKind::InvalidInput, "a mapped log keeps the length it was made with")
}

/// A log file written through a mapping.
#[derive(Debug)]
pub(super) struct MappedLog {
    map: Mutex<Mapping>,
    len: u64,
    file: File,
    path: PathBuf,
}

impl MappedLog {
    /// Maps `len` bytes of `file`, which must have them, with their space reserved. Gives the file
    /// back where it cannot.
    pub(super) fn new(file: File, path: PathBuf, len: u64) -> Result<Self, (File, PathBuf)> {
        let map = match usize::try_from(len) {
            Ok(len) if len > 0 && os_calls::writes_in_place(&file) => Mapping::new(&file, len).ok(),
            _ => None,
        };
        match map {
            Some(map) => Ok(Self { map: Mutex::new(map), len, file, path }),
            None => Err((file, path)),
        }
    }
}

impl VfsFile for MappedLog {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> IoResult<usize> {
        self.file.read_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> IoResult<usize> {
        self.map.lock().copy_in(bytes, offset)?;
        Ok(bytes.len())
    }

    fn sync_data(&self) -> IoResult<()> {
        while self.map.lock().release_some() {}
        self.file.sync_data()
    }

    fn len(&self) -> IoResult<u64> {
        Ok(self.len)
    }

    fn set_len(&self, len: u64) -> IoResult<()> {
        if len == self.len { Ok(()) } else { Err(past_the_end()) }
    }

    fn allocate(&self, len: u64) -> IoResult<()> {
        if len <= self.len { Ok(()) } else { Err(past_the_end()) }
    }

    fn prefetch(&self, offset: u64, len: u64) {
        os_calls::will_need(&self.file, offset, len);
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(dir: &Path, len: u64) -> Option<MappedLog> {
        let path = dir.join("log");
        let options = File::options().read(true).write(true).create_new(true).clone();
        let file = options.open(&path).unwrap();
        assert!(os_calls::reserve(&file, len).unwrap());
        MappedLog::new(file, path, len).ok()
    }

    #[test]
    fn copies_are_seen_in_the_file_at_once_and_stay_in_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let Some(log) = mapped(dir.path(), 10_000) else {
            return; // a file system that is not for mapping: `os` tests the plain file
        };
        assert_eq!(log.write_at(b"record", 9_994).unwrap(), 6);
        assert_eq!(&std::fs::read(log.path()).unwrap()[9_994..], b"record");
        let mut read = [0; 8];
        assert_eq!(log.read_at(&mut read, 9_992).unwrap(), 8);
        assert_eq!(&read, b"\0\0record");
        for (bytes, offset) in [(2, 9_999), (1, 10_000), (1, u64::MAX), (10_001, 0)] {
            let e = log.write_at(&vec![1; bytes], offset).unwrap_err();
            assert_eq!(e.kind(), IoErrorKind::InvalidInput, "{bytes} at {offset}");
        }
        assert_eq!(log.set_len(1).unwrap_err().kind(), IoErrorKind::InvalidInput);
        assert_eq!(log.allocate(10_001).unwrap_err().kind(), IoErrorKind::InvalidInput);
        log.allocate(10_000).unwrap();
        log.sync_data().unwrap();
        assert_eq!(std::fs::metadata(log.path()).unwrap().len(), 10_000);
    }

    #[test]
    fn what_leaves_the_mapping_before_a_sync_is_in_the_file_and_can_be_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let len = 3 * RELEASED_AT_ONCE as u64 + 100;
        let Some(log) = mapped(dir.path(), len) else { return };
        let mut expected = vec![0; len as usize];
        let mut rng = fastrand::Rng::with_seed(1);
        let mut at = 0;
        while at < expected.len() {
            // Records one after another, some of an older place anew, and a sync at any time.
            let bytes = vec![rng.u8(1..); rng.usize(1..20_000).min(expected.len() - at)];
            let place = if rng.u8(..8) == 0 { rng.usize(..=at) } else { at };
            log.write_at(&bytes, place as u64).unwrap();
            expected[place..place + bytes.len()].copy_from_slice(&bytes);
            at = at.max(place + bytes.len());
            if rng.u8(..4) == 0 {
                log.sync_data().unwrap();
                let fresh = log.map.lock().fresh.clone();
                assert!(fresh.end == at && at - fresh.start < PAGE, "{fresh:?} of {at}");
            }
            assert!(std::fs::read(log.path()).unwrap() == expected, "after {at} bytes");
        }
    }

    /// Beside a thread that syncs, so that pages leave the mapping while others are copied to.
    #[test]
    fn copies_from_many_threads_come_out_whole() {
        const ROUNDS: u64 = 8192;
        let dir = tempfile::tempdir().unwrap();
        let Some(log) = mapped(dir.path(), ROUNDS * 256) else {
            return;
        };
        let done = std::sync::atomic::AtomicBool::new(false);
        let syncs = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4u8)
                .map(|thread| {
                    let log = &log;
                    scope.spawn(move || {
                        for round in 0..ROUNDS {
                            let own = round * 256 + u64::from(thread) * 16;
                            log.write_at(&[thread + 1; 16], own).unwrap();
                            log.write_at(&[thread + 1; 64], round * 256 + 64).unwrap();
                        }
                    })
                })
                .collect();
            let syncer = scope.spawn(|| {
                let mut syncs = 0;
                loop {
                    // The last one begins when all is written.
                    let last = done.load(std::sync::atomic::Ordering::Acquire);
                    log.sync_data().unwrap();
                    syncs += 1;
                    if last {
                        return syncs;
                    }
                }
            });
            for writer in writers {
                writer.join().unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::Release);
            syncer.join().unwrap()
        });
        assert!(syncs > 0 && log.map.lock().fresh.start > 0, "nothing left the mapping");
        let bytes = std::fs::read(log.path()).unwrap();
        for block in bytes.chunks(256) {
            for thread in 0..4 {
                assert_eq!(block[thread * 16..][..16], [thread as u8 + 1; 16]);
            }
            assert!(block[64] > 0 && block[64..128].iter().all(|&b| b == block[64]));
        }
    }
}
