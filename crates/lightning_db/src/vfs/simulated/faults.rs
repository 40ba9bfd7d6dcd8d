//! Faults that a test plans: which operations fail, how, and how often.
//!
//! 1. A fault strikes only operations that can have it: `Enospc` those that take space, `Short`
//!    and `Interrupted` reads and writes (the standard library repeats other interrupted calls).
//! 2. Every rule counts every operation that matches it, whether another rule struck it or not.

use std::io::{Error as IoError, ErrorKind as IoErrorKind};
use std::path::Path;

/// The kinds of operation that are numbered and can fail.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Operation {
    /// [`VfsFile::read_at`](crate::vfs::VfsFile::read_at)
    Read,
    /// [`VfsFile::write_at`](crate::vfs::VfsFile::write_at)
    Write,
    /// [`VfsFile::sync_data`](crate::vfs::VfsFile::sync_data)
    Sync,
    /// [`VfsFile::len`](crate::vfs::VfsFile::len)
    Len,
    /// [`VfsFile::set_len`](crate::vfs::VfsFile::set_len)
    SetLen,
    /// [`VfsFile::allocate`](crate::vfs::VfsFile::allocate)
    Allocate,
    /// [`Vfs::create`](crate::vfs::Vfs::create)
    Create,
    /// [`Vfs::open`](crate::vfs::Vfs::open)
    Open,
    /// [`Vfs::exists`](crate::vfs::Vfs::exists)
    Exists,
    /// [`Vfs::list`](crate::vfs::Vfs::list)
    List,
    /// [`Vfs::create_dir_all`](crate::vfs::Vfs::create_dir_all)
    CreateDir,
    /// [`Vfs::remove_file`](crate::vfs::Vfs::remove_file)
    Remove,
    /// [`Vfs::remove_dir`](crate::vfs::Vfs::remove_dir)
    RemoveDir,
    /// [`Vfs::rename`](crate::vfs::Vfs::rename)
    Rename,
    /// [`Vfs::hard_link`](crate::vfs::Vfs::hard_link)
    HardLink,
    /// [`Vfs::sync_dir`](crate::vfs::Vfs::sync_dir)
    SyncDir,
    /// [`Vfs::try_lock`](crate::vfs::Vfs::try_lock)
    Lock,
}

impl Operation {
    /// Whether a full disk can fail it: it needs space for data or names, or writes out data whose
    /// space was not looked for before.
    fn takes_space(self) -> bool {
        match self {
            Self::Write | Self::Sync | Self::SetLen | Self::Allocate | Self::Create => true,
            Self::CreateDir | Self::Rename | Self::HardLink | Self::SyncDir => true,
            Self::Read | Self::Len | Self::Open | Self::Exists | Self::List => false,
            Self::Remove | Self::RemoveDir | Self::Lock => false,
        }
    }
}

/// How an operation fails.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FaultError {
    /// The device fails. Nothing is done; a sync loses what it was to make durable.
    Eio,
    /// The disk is full. As `Eio`, on operations that take space.
    Enospc,
    /// A read or write does some of its bytes, at least one, and succeeds.
    Short,
    /// A read or write is interrupted by a signal before it did anything.
    Interrupted,
}

impl FaultError {
    fn strikes(self, operation: Operation) -> bool {
        match self {
            Self::Eio => true,
            Self::Enospc => operation.takes_space(),
            Self::Short | Self::Interrupted => {
                matches!(operation, Operation::Read | Operation::Write)
            }
        }
    }

    /// The error as the caller sees it; a short result is none.
    pub(super) fn to_io(self) -> Option<IoError> {
        match self {
            Self::Eio => Some(IoError::other("simulated failure of the device")),
            Self::Enospc => Some(full()),
            Self::Short => None,
            Self::Interrupted => Some(IoError::from(IoErrorKind::Interrupted)),
        }
    }
}

/// The error of a full disk.
pub(super) fn full() -> IoError {
    IoError::new(IoErrorKind::StorageFull, "the simulated disk is full")
}

/// How often a rule strikes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Times {
    /// One operation.
    Once,
    /// Every one from there on; `Interrupted` every second one, so that loops end.
    Forever,
}

/// Fails operations of some kinds on some files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FaultRule {
    /// The kinds that match; all kinds where empty.
    pub operations: Vec<Operation>,
    /// Matches paths that have this in them; all where `None`.
    pub path_contains: Option<String>,
    /// How many matching operations go well before the first that is struck.
    pub at: u64,
    /// How many are struck.
    pub times: Times,
    /// What happens to them.
    pub error: FaultError,
}

impl FaultRule {
    /// A rule that strikes the next of these operations, once, on any file.
    pub fn next(operations: &[Operation], error: FaultError) -> Self {
        let operations = operations.to_vec();
        Self { operations, path_contains: None, at: 0, times: Times::Once, error }
    }

    /// Strikes for good.
    pub fn forever(mut self) -> Self {
        self.times = Times::Forever;
        self
    }

    /// Strikes only paths that have `part` in them.
    pub fn on(mut self, part: &str) -> Self {
        self.path_contains = Some(part.to_owned());
        self
    }

    fn matches(&self, operation: Operation, path: &Path) -> bool {
        self.error.strikes(operation)
            && (self.operations.is_empty() || self.operations.contains(&operation))
            && (self.path_contains.as_ref()).is_none_or(|p| path.to_string_lossy().contains(p))
    }
}

/// All faults planned.
#[derive(Clone, Default)]
pub(super) struct Plan {
    rules: Vec<Planned>,
    numbered: Vec<Numbered>,
}

#[derive(Clone)]
struct Planned {
    rule: FaultRule,
    /// Matching operations so far.
    matched: u64,
}

#[derive(Clone)]
struct Numbered {
    first: u64,
    error: FaultError,
    times: Times,
}

impl Plan {
    pub(super) fn add(&mut self, rule: FaultRule) {
        self.rules.push(Planned { rule, matched: 0 });
    }

    pub(super) fn add_numbered(&mut self, first: u64, error: FaultError, times: Times) {
        self.numbered.push(Numbered { first, error, times });
    }

    /// The fault of operation `number`, if it is struck.
    pub(super) fn decide(
        &mut self,
        number: u64,
        operation: Operation,
        path: &Path,
    ) -> Option<FaultError> {
        let mut struck = None;
        for planned in &mut self.rules {
            if planned.rule.matches(operation, path) {
                let nth = planned.matched;
                planned.matched += 1;
                let rule = &planned.rule;
                if is_struck(nth, rule.at, rule.times, rule.error) {
                    struck = struck.or(Some(rule.error));
                }
            }
        }
        for fault in &self.numbered {
            if fault.error.strikes(operation)
                && is_struck(number, fault.first, fault.times, fault.error)
            {
                struck = struck.or(Some(fault.error));
            }
        }
        struck
    }
}

fn is_struck(nth: u64, first: u64, times: Times, error: FaultError) -> bool {
    match times {
        Times::Once => nth == first,
        Times::Forever if error == FaultError::Interrupted => {
            nth >= first && (nth - first).is_multiple_of(2)
        }
        Times::Forever => nth >= first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_counts_only_what_matches_it() {
        let mut plan = Plan::default();
        let mut rule = FaultRule::next(&[Operation::Write], FaultError::Eio).on("wal");
        rule.at = 1;
        plan.add(rule);
        let (wal, seg) = (Path::new("/db/wal/1"), Path::new("/db/seg/1"));
        let mut decide = |op, path| plan.decide(0, op, path);
        assert_eq!(decide(Operation::Write, wal), None);
        assert_eq!(decide(Operation::Write, seg), None);
        assert_eq!(decide(Operation::Sync, wal), None);
        assert_eq!(decide(Operation::Write, wal), Some(FaultError::Eio));
        assert_eq!(decide(Operation::Write, wal), None);
    }

    #[test]
    fn a_fault_strikes_only_what_can_have_it() {
        let mut plan = Plan::default();
        plan.add_numbered(3, FaultError::Enospc, Times::Forever);
        let path = Path::new("/f");
        assert_eq!(plan.decide(2, Operation::Write, path), None);
        assert_eq!(plan.decide(3, Operation::Read, path), None);
        assert_eq!(plan.decide(4, Operation::Write, path), Some(FaultError::Enospc));
        assert_eq!(plan.decide(5, Operation::Remove, path), None);
        assert_eq!(plan.decide(6, Operation::Sync, path), Some(FaultError::Enospc));
    }

    #[test]
    fn interruptions_for_good_let_a_loop_end() {
        let mut plan = Plan::default();
        plan.add(FaultRule::next(&[], FaultError::Interrupted).forever());
        let struck: Vec<bool> =
            (0..4).map(|n| plan.decide(n, Operation::Read, Path::new("/f")).is_some()).collect();
        assert_eq!(struck, [true, false, true, false]);
    }
}
