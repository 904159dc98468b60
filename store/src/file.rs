//! One failed operation on one file of the store, and the operations that many parts need.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

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
        is_full(self)
    }
}

/// Whether `error`, or what it comes from, is that the file system, the quota or the index is full: what to do is to
/// free space, not to try again.
pub fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let is_full = if let Some(error) = error.downcast_ref::<io::Error>() {
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        } else if let Some(error) = error.downcast_ref::<rusqlite::Error>() {
            error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
        } else {
            false
        };
        if is_full {
            return true;
        }
        next = error.source();
    }
    false
}

/// Names the operation and the path of an error on the way up.
pub(crate) trait OnPath<T> {
    fn on(self, op: &'static str, path: impl Into<PathBuf>) -> Result<T, FileError>;
}

impl<T, E: Into<io::Error>> OnPath<T> for Result<T, E> {
    fn on(self, op: &'static str, path: impl Into<PathBuf>) -> Result<T, FileError> {
        self.map_err(|source| FileError::new(op, path, source))
    }
}

/// Nothing instead of an error when there is no such file.
pub(crate) fn if_found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The document at `path`; nothing where there is none. What isn't JSON of that shape is [`io::ErrorKind::InvalidData`].
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, FileError> {
    let Some(bytes) = if_found(fs::read(path)).on("read", path)? else { return Ok(None) };
    let value = serde_json::from_slice(&bytes).map_err(io::Error::from).on("read", path)?;
    Ok(Some(value))
}

/// The document at `path`, or nothing where there is none or what is there is no such document: for what may be lost.
pub(crate) fn read_json_lossy<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Writes a document into a folder that nobody else sees yet.
pub(crate) fn write_new_json(path: &Path, value: &impl Serialize) -> Result<(), FileError> {
    write_new(path, &json_bytes(value))
}

/// Writes a file into a folder that nobody else sees yet.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    File::create_new(path).and_then(|mut file| file.write_all(bytes)).on("write", path)
}

pub(crate) fn json_bytes(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("our documents have only string keys")
}

/// The names in a folder of ours, in no order; those that aren't UTF-8 aren't ours and are left out.
pub(crate) fn names_in(dir: &Path) -> Result<Vec<String>, FileError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).on("read", dir)? {
        if let Ok(name) = entry.on("read", dir)?.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}

/// Removes a file; that there is none is no error.
pub(crate) fn remove_if_there(path: &Path) -> Result<bool, FileError> {
    Ok(if_found(fs::remove_file(path)).on("remove", path)?.is_some())
}

/// The time now, RFC 3339 in UTC.
pub(crate) fn now_text() -> String {
    jiff::Timestamp::now().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_operation_path_and_cause() {
        let error = fs::read("/nonexistent/x").on("read", "/nonexistent/x").unwrap_err();
        assert_eq!(error.to_string(), "cannot read `/nonexistent/x`");
        assert_eq!(error.io_error().kind(), io::ErrorKind::NotFound);
        assert!(!error.is_full());
        let full = FileError::new("write", "x", rustix::io::Errno::NOSPC);
        assert!(full.is_full());
    }
}
