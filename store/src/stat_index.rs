//! What the files of a build context looked like when they were last digested.

use std::io;
use std::path::{Path, PathBuf};

use sys::file::{Metadata, Timestamp};

/// Why an index couldn't be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the stat index `{}`", path.display())]
pub struct SaveError {
    path: PathBuf,
    source: io::Error,
}

/// Digests of files by path and by what `stat` said of them. Read as a whole; see [`NewStatIndex`].
#[derive(Debug, Default)]
pub struct StatIndex {}

impl StatIndex {
    /// Reads the index in `file`. One that is missing, damaged or of another version is empty.
    pub fn load(file: &Path) -> Self {
        let _ = file;
        todo!()
    }

    /// How many files it knows.
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Looks up files, fastest in the order of a depth-first walk with sorted names.
    pub fn cursor(&self) -> Cursor<'_> {
        Cursor { index: self, next: 0 }
    }
}

/// Looks files up in a [`StatIndex`]; each thread has its own.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    index: &'a StatIndex,
    next: usize,
}

impl Cursor<'_> {
    /// blake3 of the file at `path` (bytes, relative to the context's root), if it is known to be unchanged.
    pub fn find(&mut self, path: &[u8], metadata: &Metadata) -> Option<[u8; 32]> {
        let _ = (path, metadata, self.index, self.next);
        todo!()
    }
}

/// The index to be: collects digests during a scan.
#[derive(Debug)]
pub struct NewStatIndex {}

impl NewStatIndex {
    /// For a scan that began at `scan_start`, before the first file was looked at. What changed less than
    /// two seconds before isn't kept: it could change again without a trace (git's "racily clean").
    pub fn new(scan_start: Timestamp) -> Self {
        let _ = scan_start;
        todo!()
    }

    /// Keeps the digest of the file at `path` with its metadata from *before* it was read.
    pub fn insert(&mut self, path: &[u8], metadata: &Metadata, blake3: [u8; 32]) {
        let _ = (path, metadata, blake3);
        todo!()
    }

    /// Puts the index in place of the one in `file`, at once or not at all.
    pub fn save(self, file: &Path) -> Result<(), SaveError> {
        let _ = file;
        todo!()
    }
}
