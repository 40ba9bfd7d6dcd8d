//! Names of files and directories kept in memory, with the rules and errors of a POSIX directory.
//!
//! 1. A path without a parent (`/`, or the empty path that relative ones start from) is a
//!    directory that always exists.
//! 2. The checks (`file`, `check_*`, `missing_dirs`) change nothing; `insert` and `remove` check
//!    nothing, since a disk after a power cut may hold any subset of what was checked.
//!
//! No latch of its own: the file systems in memory hold theirs around it.

use std::collections::BTreeMap;
use std::io::{Error as IoError, ErrorKind as IoErrorKind, Result as IoResult};
use std::path::{Component, Path, PathBuf};

/// What a name stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Entry<F> {
    /// A directory.
    Dir,
    /// A file.
    File(F),
}

/// All names of a file system.
#[derive(Clone, Debug)]
pub(super) struct Names<F> {
    entries: BTreeMap<PathBuf, Entry<F>>,
}

impl<F> Default for Names<F> {
    fn default() -> Self {
        Self { entries: BTreeMap::new() }
    }
}

/// The path without its `.` parts, so that every way to spell it finds the same entry.
pub(super) fn normal(path: &Path) -> PathBuf {
    path.components().filter(|c| !matches!(c, Component::CurDir)).collect()
}

fn error(kind: IoErrorKind) -> IoError {
    IoError::from(kind)
}

impl<F: Clone + PartialEq> Names<F> {
    /// What `path` names.
    pub(super) fn get(&self, path: &Path) -> Option<Entry<F>> {
        if path.parent().is_none() { Some(Entry::Dir) } else { self.entries.get(path).cloned() }
    }

    /// The file `path` names.
    pub(super) fn file(&self, path: &Path) -> IoResult<F> {
        match self.get(path) {
            Some(Entry::File(file)) => Ok(file),
            Some(Entry::Dir) => Err(error(IoErrorKind::IsADirectory)),
            None => Err(error(IoErrorKind::NotFound)),
        }
    }

    /// Refuses unless `path` is a directory.
    pub(super) fn check_dir(&self, path: &Path) -> IoResult<()> {
        match self.get(path) {
            Some(Entry::Dir) => Ok(()),
            Some(Entry::File(_)) => Err(error(IoErrorKind::NotADirectory)),
            None => Err(error(IoErrorKind::NotFound)),
        }
    }

    fn check_parent(&self, path: &Path) -> IoResult<()> {
        path.parent().map_or(Ok(()), |parent| self.check_dir(parent))
    }

    /// Refuses unless `path` can be given to a new entry.
    pub(super) fn check_free(&self, path: &Path) -> IoResult<()> {
        self.check_parent(path)?;
        match self.get(path) {
            None => Ok(()),
            Some(_) => Err(error(IoErrorKind::AlreadyExists)),
        }
    }

    /// The directories that must be made so that `path` is one, parents first.
    pub(super) fn missing_dirs(&self, path: &Path) -> IoResult<Vec<PathBuf>> {
        let mut missing = Vec::new();
        for dir in path.ancestors() {
            match self.get(dir) {
                Some(Entry::Dir) => break,
                Some(Entry::File(_)) => return Err(error(IoErrorKind::NotADirectory)),
                None => missing.push(dir.to_path_buf()),
            }
        }
        missing.reverse();
        Ok(missing)
    }

    /// Refuses unless `path` is an empty directory with a parent.
    pub(super) fn check_remove_dir(&self, path: &Path) -> IoResult<()> {
        self.check_dir(path)?;
        if path.parent().is_none() {
            return Err(error(IoErrorKind::ResourceBusy));
        }
        match self.children(path).next() {
            None => Ok(()),
            Some(_) => Err(error(IoErrorKind::DirectoryNotEmpty)),
        }
    }

    /// The file to be renamed; `None` when both names are the same file already, which leaves both.
    pub(super) fn check_rename(&self, from: &Path, to: &Path) -> IoResult<Option<F>> {
        let file = self.file(from)?;
        self.check_parent(to)?;
        match self.get(to) {
            None => Ok(Some(file)),
            Some(Entry::File(old)) => Ok((old != file).then_some(file)),
            Some(Entry::Dir) => Err(error(IoErrorKind::IsADirectory)),
        }
    }

    /// The names in a directory, sorted.
    pub(super) fn list(&self, dir: &Path) -> IoResult<Vec<String>> {
        self.check_dir(dir)?;
        let name = |path: &PathBuf| path.file_name().map(|n| n.to_string_lossy().into_owned());
        let mut names: Vec<String> = self.children(dir).filter_map(name).collect();
        names.sort();
        Ok(names)
    }

    fn children<'a>(&'a self, dir: &'a Path) -> impl Iterator<Item = &'a PathBuf> {
        self.entries
            .range(dir.to_path_buf()..)
            .map(|(path, _)| path)
            .take_while(move |path| path.starts_with(dir))
            .filter(move |path| path.parent() == Some(dir))
    }

    /// Sets what a name stands for.
    pub(super) fn insert(&mut self, path: PathBuf, entry: Entry<F>) {
        self.entries.insert(path, entry);
    }

    /// Removes a name.
    pub(super) fn remove(&mut self, path: &Path) {
        self.entries.remove(path);
    }

    /// Every file with its name, by path; a file with two names comes twice.
    pub(super) fn files(&self) -> impl Iterator<Item = (&PathBuf, &F)> {
        self.entries.iter().filter_map(|(path, entry)| match entry {
            Entry::File(file) => Some((path, file)),
            Entry::Dir => None,
        })
    }

    /// Removes what lies in directories that do not exist.
    pub(super) fn prune(&mut self) {
        let mut kept = Self::default();
        for (path, entry) in std::mem::take(&mut self.entries) {
            // Parents sort before what they hold, so they have been judged already.
            if kept.check_parent(&path).is_ok() {
                kept.insert(path, entry);
            }
        }
        *self = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_gives_direct_children_only() {
        let mut names = Names::default();
        for dir in ["/a", "/a/b", "/a-b"] {
            names.insert(dir.into(), Entry::Dir);
        }
        for (id, file) in ["/a/z", "/a/b/c", "/a/a", "/a-b/x"].into_iter().enumerate() {
            names.insert(file.into(), Entry::File(id));
        }
        assert_eq!(names.list(Path::new("/a")).unwrap(), ["a", "b", "z"]);
        assert_eq!(names.list(Path::new("/")).unwrap(), ["a", "a-b"]);
    }

    #[test]
    fn prune_drops_what_lost_its_directory() {
        let mut names = Names::default();
        names.insert("/a/b".into(), Entry::Dir);
        names.insert("/a/b/c".into(), Entry::File(1));
        names.insert("/d".into(), Entry::File(2));
        names.prune();
        assert_eq!(names.files().collect::<Vec<_>>(), [(&PathBuf::from("/d"), &2)]);
    }

    #[test]
    fn dots_do_not_make_another_name() {
        assert_eq!(normal(Path::new("./a/./b")), PathBuf::from("a/b"));
        assert_eq!(normal(Path::new("/a/b/.")), PathBuf::from("/a/b"));
        assert_eq!(normal(Path::new(".")), PathBuf::new());
    }
}
