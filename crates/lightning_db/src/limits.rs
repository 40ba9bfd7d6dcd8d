//! The limits that users can meet, in one place.

/// The longest key, in bytes (64 KiB).
pub const MAX_KEY_BYTES: usize = 64 * 1024;
/// The longest value, in bytes (4 GiB - 1).
pub const MAX_VALUE_BYTES: u64 = u32::MAX as u64;
/// Values of at least this many bytes are stored in blob pages, outside the tree.
pub const BLOB_THRESHOLD_BYTES: usize = 16 * 1024;
/// The raw bytes of a value that one blob page holds.
pub const BLOB_CHUNK_BYTES: usize = 256 * 1024;
/// The largest raw payload a page may claim; a header that claims more is damage.
pub const MAX_PAGE_RAW_BYTES: usize = 1024 * 1024;
/// The most bytes of one commit's log record (blob values aside).
pub const MAX_COMMIT_BYTES: usize = 1024 * 1024 * 1024;
/// The sizes of leaves that can be asked for, all powers of two among them.
pub const PAGE_SIZES: std::ops::RangeInclusive<usize> = 4 * 1024..=64 * 1024;
/// The largest write buffer, in bytes (1 TiB).
pub const MAX_WRITE_BUFFER_BYTES: u64 = 1 << 40;
/// The longest operand of a merge, in bytes (64 KiB).
pub const MAX_OPERAND_BYTES: usize = 64 * 1024;
/// The most bytes that the operands of one key may have in one commit (128 KiB), after the keyspace's
/// operator has made as few of them as it can.
pub const MAX_COMMIT_OPERANDS_BYTES: usize = 128 * 1024;
/// The longest name of a merge operator, in bytes.
pub const MAX_OPERATOR_NAME_BYTES: usize = 64;
/// The longest keyspace name, in bytes.
pub const MAX_KEYSPACE_NAME_BYTES: usize = 255;

/// The longest name of a cursor, in bytes.
pub const MAX_CURSOR_NAME_BYTES: usize = 255;
/// So many cursors a database can have.
pub const MAX_CURSORS: usize = 1024;
