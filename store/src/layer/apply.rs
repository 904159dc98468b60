//! A tar stream as a layer's tree.

use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

/// What a layer may cost at most: the tar comes from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApplyLimits {
    /// Entries of any kind.
    pub entries: u64,
    /// Bytes of all files together.
    pub size_bytes: u64,
}

impl Default for ApplyLimits {
    fn default() -> Self {
        Self { entries: 10_000_000, size_bytes: 1 << 40 }
    }
}

/// What a tar stream held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApplyFacts {
    /// Entries in it, whiteouts included.
    pub entries: u64,
    /// Bytes of all files together.
    pub size_bytes: u64,
}

/// Why a tar wasn't applied. The tree is part written: discard it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// The entry, or a link's target, leaves the root.
    #[error("entry `{}` escapes the layer root", entry.display())]
    Escape {
        /// The entry as the tar names it.
        entry: PathBuf,
    },
    /// The entry can't be what it says.
    #[error("entry `{}` {reason}", entry.display())]
    Invalid {
        /// The entry as the tar names it.
        entry: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// More entries, bytes or levels than allowed.
    #[error("layer has more than {limit} {what}")]
    Limit {
        /// What is counted.
        what: &'static str,
        /// How many are allowed.
        limit: u64,
    },
    /// The stream is no tar, or ends early.
    #[error("cannot read the layer's tar")]
    Read {
        /// The cause.
        source: io::Error,
    },
    /// The tree can't be written.
    #[error("cannot {op} `{}`", path.display())]
    Io {
        /// What was attempted.
        op: &'static str,
        /// The path in the tree.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// Applies one *uncompressed* layer tar to the empty directory `tree` (`O_PATH` will do).
///
/// The tar is hostile until checked: no entry, link or whiteout reaches outside of `tree`. A whiteout
/// stands for what lower layers left, never for what this layer wrote (image-spec `layer.md`, "Whiteouts").
///
/// # Errors
///
/// On any error `tree` is part written: discard it.
pub fn apply_tar(
    tar: &mut dyn Read,
    tree: BorrowedFd<'_>,
    limits: ApplyLimits,
) -> Result<ApplyFacts, ApplyError> {
    let _ = (tar, tree, limits);
    todo!()
}
