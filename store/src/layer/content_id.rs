//! The identity of a layer's content.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use crate::{ContentId, RunWindow};

/// Why a content ID couldn't be computed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContentIdError {
    /// Directories are nested deeper than is walked.
    #[error("`{}` is nested too deeply for a layer", path.display())]
    TooDeep {
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
}

/// A blake3 over all that the layer at `tree` is: paths, types, modes, owners, link targets, hard-link
/// groups, extended attributes, bytes, and times.
///
/// A time within `window`, during which the step ran, counts as "now", whichever
/// it is; one outside was chosen and counts exactly.
pub fn content_id(tree: BorrowedFd<'_>, window: Option<RunWindow>) -> Result<ContentId, ContentIdError> {
    let _ = (tree, window);
    todo!()
}
