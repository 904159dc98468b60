//! A layer's tree as a tar stream.

use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use oci::DiffId;

/// What a tar stream of a layer held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TarFacts {
    /// Length of the stream.
    pub size_bytes: u64,
    /// Entries in it, whiteouts included.
    pub entries: u64,
    /// Sockets, which a tar can't hold and which are left out.
    pub skipped_sockets: Vec<PathBuf>,
}

/// Why a layer couldn't be written as a tar.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteTarError {
    /// A file is named as the layer format names its whiteouts.
    #[error("`{}` can't be in a layer: names that begin with `.wh.` mark removed files", path.display())]
    ReservedName {
        /// The path in the tree.
        path: PathBuf,
    },
    /// Directories are nested deeper than is walked.
    #[error("`{}` is nested too deeply for a layer", path.display())]
    TooDeep {
        /// The path in the tree.
        path: PathBuf,
    },
    /// A file changed while it was read.
    #[error("`{}` changed while it was read", path.display())]
    Changed {
        /// The path in the tree.
        path: PathBuf,
    },
    /// The tree can't be read.
    #[error("cannot {op} `{}` of the layer", path.display())]
    Read {
        /// What was attempted.
        op: &'static str,
        /// The path in the tree.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The stream's receiver failed.
    #[error("cannot write the layer's tar")]
    Write {
        /// The cause.
        source: io::Error,
    },
}

/// Writes the layer at `tree` (a directory, `O_PATH` will do) as an uncompressed tar: the same tree
/// always gives the same bytes.
pub fn write_tar(tree: BorrowedFd<'_>, out: &mut dyn Write) -> Result<TarFacts, WriteTarError> {
    let _ = (tree, out);
    todo!()
}

/// The digest of what [`write_tar`] writes, with a second thread reading ahead of the hash.
pub fn diff_id(tree: BorrowedFd<'_>) -> Result<(DiffId, TarFacts), WriteTarError> {
    let _ = tree;
    todo!()
}
