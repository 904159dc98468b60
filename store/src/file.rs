//! One failed operation on one file of the store.

use std::io;
use std::path::{Path, PathBuf};

/// An operation on a path of the store failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {op} `{}`", path.display())]
pub struct FileError {
    op: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl FileError {
    pub(crate) fn new(op: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self { op, path: path.into(), source: source.into() }
    }

    /// The path it was tried on.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the system said.
    pub fn io_error(&self) -> &io::Error {
        &self.source
    }

    /// Whether the file system or the quota is full: what to do is to free space, not to try again.
    pub fn is_full(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        )
    }
}
