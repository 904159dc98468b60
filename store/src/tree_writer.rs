//! Writing a new layer's tree over a stack of others: what COPY, ADD and WORKDIR do.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use sys::file::{FileType, Metadata, Owner, Timestamp};
use sys::xattr::Xattr;

use crate::layer::{ApplyError, ApplyFacts, ApplyLimits};
use crate::merged::{Merged, MergedError};

/// Why a tree couldn't be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The path couldn't be looked up.
    #[error(transparent)]
    Lookup(#[from] MergedError),
    /// A directory is in the way of something that is none.
    #[error("`{}` is a directory", path.display())]
    IsADirectory {
        /// The path in the image.
        path: PathBuf,
    },
    /// Something that is no directory is in the way of one.
    #[error("`{}` exists and is not a directory", path.display())]
    NotADirectory {
        /// The path in the image.
        path: PathBuf,
    },
    /// The name is no single component, or one that marks removed files in a layer.
    #[error("`{}` can't be made in a layer", path.display())]
    BadName {
        /// The path in the image.
        path: PathBuf,
    },
    /// The source of a file failed.
    #[error("cannot read the source of `{}`", path.display())]
    Source {
        /// The path in the image.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("cannot {op} `{}`", path.display())]
    Io {
        /// What was attempted.
        op: &'static str,
        /// The path in the image.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// What a new file, directory, link or device carries. A symlink has no mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub owner: Owner,
    /// Modification time.
    pub mtime: Timestamp,
    /// Extended attributes; the overlay's own are left out.
    pub xattrs: Vec<Xattr>,
}

impl Attributes {
    /// What a directory that had to be made on the way carries: 0755 and root's.
    pub fn parent_dir(mtime: Timestamp) -> Self {
        Self { mode: 0o755, owner: Owner::ROOT, mtime, xattrs: Vec::new() }
    }
}

/// A file that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its length.
    pub size_bytes: u64,
    /// blake3 of its bytes.
    pub blake3: [u8; 32],
}

/// Writes a layer's tree on top of a stack of lower trees. May be used by several threads, as long as
/// no two write the same name.
#[derive(Debug)]
pub struct TreeWriter {}

/// A directory of the new tree: it exists there, with what the lower trees have of it below.
#[derive(Clone, Debug)]
pub struct WriteDir<'a> {
    writer: &'a TreeWriter,
}

impl TreeWriter {
    /// Writes into the directory `tree` (`O_PATH` will do) over `lowers`.
    pub fn new(tree: OwnedFd, lowers: &Merged) -> Result<Self, WriteError> {
        let _ = (tree, lowers);
        todo!()
    }

    /// The stack with the new tree on top: sees what was written so far.
    pub fn merged(&self) -> &Merged {
        todo!()
    }

    /// The root directory.
    pub fn root(&self) -> Result<WriteDir<'_>, WriteError> {
        todo!()
    }

    /// The directory that `path` leads to, symlinks followed within the stack. What is missing is made
    /// with `missing`; what only lower trees have is copied up with its mode, owner, xattrs and mtime.
    pub fn create_dir_all(&self, path: &Path, missing: &Attributes) -> Result<WriteDir<'_>, WriteError> {
        let _ = (path, missing);
        todo!()
    }

    /// The directory that will hold what is made at `path`, and its name there. Symlinks on the way are
    /// followed; with `follow_last` one at the end too, even where it dangles.
    pub fn create_parents(
        &self,
        path: &Path,
        missing: &Attributes,
        follow_last: bool,
    ) -> Result<(WriteDir<'_>, OsString), WriteError> {
        let _ = (path, missing, follow_last);
        todo!()
    }

    /// Unpacks an uncompressed tar below `path`, as ADD does: no whiteouts; hostile until checked.
    pub fn extract(
        &self,
        tar: &mut dyn Read,
        path: &Path,
        owner: Option<Owner>,
        missing: &Attributes,
        limits: ApplyLimits,
    ) -> Result<ApplyFacts, ApplyError> {
        let _ = (tar, path, owner, missing, limits);
        todo!()
    }

    /// Sets the times of the directories written to. Without it they stay at the moment of the last write.
    pub fn finish(self) -> Result<(), WriteError> {
        todo!()
    }
}

impl<'a> WriteDir<'a> {
    /// Where it is in the image; absolute, no symlink in it.
    pub fn path(&self) -> &Path {
        todo!()
    }

    /// What has `name` here, in the new tree or below it; not followed.
    pub fn lookup(&self, name: &OsStr) -> Result<Option<Metadata>, WriteError> {
        let _ = name;
        todo!()
    }

    /// The directory `name`: made if it is missing; if it exists it is copied up and, with
    /// `attributes`, takes those. Something else of that name is [`WriteError::NotADirectory`].
    pub fn create_dir(
        &self,
        name: &OsStr,
        attributes: DirAttributes<'_>,
    ) -> Result<WriteDir<'a>, WriteError> {
        let _ = (name, attributes);
        todo!()
    }

    /// Writes the file `name` from `source`, which is read to its end. Replaces what is no directory.
    pub fn write_file(
        &self,
        name: &OsStr,
        source: &mut dyn Read,
        attributes: &Attributes,
    ) -> Result<Written, WriteError> {
        let _ = (name, source, attributes);
        todo!()
    }

    /// Makes the symlink `name`. Replaces what is no directory.
    pub fn write_symlink(
        &self,
        name: &OsStr,
        target: &OsStr,
        attributes: &Attributes,
    ) -> Result<(), WriteError> {
        let _ = (name, target, attributes);
        todo!()
    }

    /// Makes the device or fifo `name`. Replaces what is no directory. Device 0:0 is refused.
    pub fn write_node(
        &self,
        name: &OsStr,
        file_type: FileType,
        device: (u32, u32),
        attributes: &Attributes,
    ) -> Result<(), WriteError> {
        let _ = (name, file_type, device, attributes);
        todo!()
    }

    /// Makes `name` another name of `old_name` in `old_dir`, which the new tree itself must hold.
    /// Replaces what is no directory.
    pub fn write_link(
        &self,
        name: &OsStr,
        old_dir: &WriteDir<'_>,
        old_name: &OsStr,
    ) -> Result<(), WriteError> {
        let _ = (name, old_dir, old_name);
        todo!()
    }

    /// Removes `name` and all below it; a whiteout hides what lower trees have of it.
    pub fn remove(&self, name: &OsStr) -> Result<(), WriteError> {
        let _ = name;
        todo!()
    }
}

/// Which attributes a directory takes that [`WriteDir::create_dir`] is asked for.
#[derive(Clone, Copy, Debug)]
pub enum DirAttributes<'a> {
    /// These, whether it exists or not.
    Set(&'a Attributes),
    /// These if it has to be made; an existing one keeps its own.
    IfMissing(&'a Attributes),
}
