//! Whole reads and writes over a [`VfsFile`]: short results and interruptions are looped over, no
//! progress is an error, and every error names file and offset.

use std::io::{Error as IoError, ErrorKind as IoErrorKind};

use super::VfsFile;
use crate::error::{Error, Result};

/// Fills `bytes` from `offset`; a file that ends before that is `Corrupt`.
pub fn read_exact_at(file: &dyn VfsFile, mut bytes: &mut [u8], mut offset: u64) -> Result<()> {
    while !bytes.is_empty() {
        match file.read_at(bytes, offset) {
            Ok(0) => {
                return Err(Error::corrupt(file.path(), offset, "the file ends early"));
            }
            Ok(n) => {
                bytes = &mut bytes[n..];
                offset += n as u64;
            }
            Err(e) if e.kind() == IoErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io(file.path(), "read", e).at_offset(offset)),
        }
    }
    Ok(())
}

/// Writes all of `bytes` at `offset`.
pub fn write_all_at(file: &dyn VfsFile, mut bytes: &[u8], mut offset: u64) -> Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => {
                let e = IoError::new(IoErrorKind::WriteZero, "the system wrote nothing");
                return Err(Error::io(file.path(), "write", e).at_offset(offset));
            }
            Ok(n) => {
                bytes = &bytes[n..];
                offset += n as u64;
            }
            Err(e) if e.kind() == IoErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io(file.path(), "write", e).at_offset(offset)),
        }
    }
    Ok(())
}
