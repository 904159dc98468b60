//! Paths over a stack of trees, as a mounted overlay would resolve them.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sys::dir::Entry;
use sys::file::Metadata;
use sys::xattr::Xattr;

/// Why a path couldn't be looked up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MergedError {
    /// Nothing has that name, or a directory on the way is missing.
    #[error("`{}` does not exist", path.display())]
    NotFound {
        /// The path asked for.
        path: PathBuf,
    },
    /// Something on the way, or at the end where a directory is needed, is none.
    #[error("`{}` is not a directory", path.display())]
    NotADirectory {
        /// The path asked for.
        path: PathBuf,
    },
    /// A regular file is needed.
    #[error("`{}` is not a regular file", path.display())]
    NotAFile {
        /// The path asked for.
        path: PathBuf,
    },
    /// More symlinks than the kernel follows.
    #[error("too many symlinks in `{}`", path.display())]
    SymlinkLoop {
        /// The path asked for.
        path: PathBuf,
    },
    /// The file is larger than the caller takes.
    #[error("`{}` is larger than {limit_bytes} bytes", path.display())]
    TooLarge {
        /// The path asked for.
        path: PathBuf,
        /// The limit.
        limit_bytes: u64,
    },
    /// The kernel refused.
    #[error("cannot {op} `{}`", path.display())]
    Io {
        /// What was attempted.
        op: &'static str,
        /// The path asked for.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// A stack of layer trees seen as one: symlinks are resolved within it, whiteouts hide, directories
/// merge unless opaque. Cheap to clone; may be used by several threads.
///
/// Paths may be absolute or not: both begin at the root of the stack, which `..` never leaves.
#[derive(Clone, Debug)]
pub struct Merged {
    trees: Vec<Arc<OwnedFd>>,
}

/// A directory of a [`Merged`]: one open directory for each tree that takes part, topmost first.
#[derive(Clone, Debug)]
pub struct Dir {
    parts: Vec<Arc<OwnedFd>>,
    path: PathBuf,
    metadata: Metadata,
}

/// What a path of a [`Merged`] leads to.
#[derive(Clone, Debug)]
pub struct Node {
    path: PathBuf,
    metadata: Metadata,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    Dir(Dir),
    Other { parent: Arc<OwnedFd>, name: CString },
}

/// How far a path leads: see [`Merged::resolve_missing`].
#[derive(Clone, Debug)]
pub enum Resolved {
    /// To something that exists.
    Found(Node),
    /// Into `parent`, in which the first of `rest` is missing. `rest` has neither `.` nor `..`.
    Missing {
        /// The last directory that exists.
        parent: Dir,
        /// Names that would have to be made, at least one.
        rest: Vec<OsString>,
    },
}

impl Merged {
    /// The stack of `trees`, topmost first (`O_PATH` directories). None at all is an empty root.
    pub fn new(trees: Vec<OwnedFd>) -> Result<Self, MergedError> {
        let _ = trees;
        todo!()
    }

    /// The root directory.
    pub fn root(&self) -> Result<Dir, MergedError> {
        todo!()
    }

    /// What `path` leads to, every symlink followed.
    pub fn resolve(&self, path: &Path) -> Result<Node, MergedError> {
        let _ = path;
        todo!()
    }

    /// What is at `path`: a symlink in its last place is not followed.
    pub fn lookup(&self, path: &Path) -> Result<Node, MergedError> {
        let _ = path;
        todo!()
    }

    /// As [`Merged::resolve`], but says where a path ends that doesn't exist: symlinks on the way are
    /// followed, a dangling one at the end too, and `..` takes back a missing name.
    pub fn resolve_missing(&self, path: &Path) -> Result<Resolved, MergedError> {
        let _ = path;
        todo!()
    }

    /// Metadata of what `path` leads to.
    pub fn metadata(&self, path: &Path) -> Result<Metadata, MergedError> {
        let _ = path;
        todo!()
    }

    /// Names in the directory that `path` leads to, sorted by bytes.
    pub fn read_dir(&self, path: &Path) -> Result<Vec<Entry>, MergedError> {
        let _ = path;
        todo!()
    }

    /// Opens the regular file that `path` leads to. Devices and pipes are refused, not opened.
    pub fn open_file(&self, path: &Path) -> Result<(OwnedFd, Metadata), MergedError> {
        let _ = path;
        todo!()
    }

    /// The bytes of the regular file that `path` leads to, if they are at most `limit_bytes`.
    pub fn read_file(&self, path: &Path, limit_bytes: u64) -> Result<Vec<u8>, MergedError> {
        let _ = (path, limit_bytes);
        todo!()
    }

    /// The target of the symlink at `path`.
    pub fn read_link(&self, path: &Path) -> Result<OsString, MergedError> {
        let _ = path;
        todo!()
    }
}

impl Dir {
    /// Where it is, every symlink resolved; absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Metadata of the topmost of the directories that make it up.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Its extended attributes, without the overlay's own.
    pub fn xattrs(&self) -> Result<Vec<Xattr>, MergedError> {
        todo!()
    }

    /// Names in it, sorted by bytes.
    pub fn entries(&self) -> Result<Vec<Entry>, MergedError> {
        todo!()
    }

    /// What has `name` here (one component, not followed); nothing when there is none.
    pub fn child(&self, name: &OsStr) -> Result<Option<Node>, MergedError> {
        let _ = name;
        todo!()
    }
}

impl Node {
    /// Where it is, every symlink on the way resolved; absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The directory that it is, if it is one.
    pub fn as_dir(&self) -> Option<&Dir> {
        match &self.place {
            Place::Dir(dir) => Some(dir),
            Place::Other { .. } => None,
        }
    }

    /// Its extended attributes, without the overlay's own.
    pub fn xattrs(&self) -> Result<Vec<Xattr>, MergedError> {
        todo!()
    }

    /// The target, if it is a symlink.
    pub fn read_link(&self) -> Result<OsString, MergedError> {
        todo!()
    }

    /// Opens it for reading, if it is a regular file.
    pub fn open_file(&self) -> Result<OwnedFd, MergedError> {
        todo!()
    }

    /// Opens it as a place (`O_PATH`): in the topmost tree that has it.
    pub fn open_path(&self) -> Result<OwnedFd, MergedError> {
        todo!()
    }
}
