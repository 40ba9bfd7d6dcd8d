//! The calls of Linux that the standard library does not offer: reserving space, read-ahead, asking
//! which file system a file is on, and how long files may become.
//!
//! Each function is safe: it borrows an open [`File`], so the descriptor stays valid for the call.
#![allow(unsafe_code, reason = "system calls without a safe wrapper in the standard library")]
#![allow(clippy::disallowed_types, reason = "part of the seam")]

use std::fs::File;
use std::io::{Error as IoError, ErrorKind as IoErrorKind, Result as IoResult};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

/// An error where a file of this process may not become `len` bytes long. To be asked before it is
/// made so: the system ends a process that tries (SIGXFSZ), and how signals are handled is the
/// application's to choose.
pub(super) fn check_size_limit(len: u64) -> IoResult<()> {
    let mut limit = MaybeUninit::<libc::rlimit>::uninit();
    // SAFETY: the pointer is to memory of the type that the call fills.
    if unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, limit.as_mut_ptr()) } != 0 {
        return Ok(());
    }
    // SAFETY: the call succeeded, so it filled the structure.
    let limit = unsafe { limit.assume_init() }.rlim_cur;
    #[allow(clippy::unnecessary_cast, reason = "it has 32 bits on some targets")]
    if limit == libc::RLIM_INFINITY || len <= limit as u64 {
        return Ok(());
    }
    Err(IoError::from_raw_os_error(libc::EFBIG))
}

/// Reserves space for the first `len` bytes, extending the file to `len`; `false` where the file
/// system cannot, and then nothing was done.
pub(super) fn reserve(file: &File, len: u64) -> IoResult<bool> {
    if len == 0 {
        return Ok(true);
    }
    let Ok(len) = libc::off_t::try_from(len) else {
        return Err(IoError::from(IoErrorKind::FileTooLarge));
    };
    check_size_limit(len as u64)?;
    loop {
        // SAFETY: the descriptor is open for as long as `file` is borrowed, and the call takes no
        // pointers.
        if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, len) } == 0 {
            return Ok(true);
        }
        let e = IoError::last_os_error();
        match e.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::EOPNOTSUPP | libc::ENOSYS) => return Ok(false),
            _ => return Err(e),
        }
    }
}

/// Linux takes no more of a longer hint, as a rule (`read_ahead_kb` of the device).
const HINT_BYTES: usize = 128 * 1024;

/// Tells the system that this range will be read soon. A hint: what it answers is of no use.
pub(super) fn will_need(file: &File, offset: u64, len: u64) {
    for from in (offset..offset.saturating_add(len)).step_by(HINT_BYTES) {
        let len = (offset + len - from).min(HINT_BYTES as u64);
        let (Ok(from), Ok(len)) = (libc::off_t::try_from(from), libc::off_t::try_from(len)) else {
            return;
        };
        // SAFETY: the descriptor is open for as long as `file` is borrowed, and the call takes no
        // pointers.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), from, len, libc::POSIX_FADV_WILLNEED) };
    }
}

/// ext2, ext3 and ext4, which share one.
const EXT_MAGIC: u32 = 0xEF53;
const XFS_MAGIC: u32 = 0x5846_5342;
const TMPFS_MAGIC: u32 = 0x0102_1994;

/// Whether the file is on a file system where reserved space is space that a store into a mapping
/// needs no more of: one that writes in place. Where data is copied on write (btrfs, ZFS,
/// overlays) or far away (NFS, FUSE), such a store may meet a full disk or a dead server, and the
/// process a signal.
pub(super) fn writes_in_place(file: &File) -> bool {
    let mut stat = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and the pointer is to
    // memory of the type that the call fills.
    if unsafe { libc::fstatfs(file.as_raw_fd(), stat.as_mut_ptr()) } != 0 {
        return false;
    }
    // SAFETY: the call succeeded, so it filled the structure.
    let stat = unsafe { stat.assume_init() };
    // The field's type differs between targets; all magic numbers have 32 bits.
    matches!(stat.f_type as u32, EXT_MAGIC | XFS_MAGIC | TMPFS_MAGIC)
}
