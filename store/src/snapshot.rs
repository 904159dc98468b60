//! What can be mounted: a stack of layers and maybe a place to write.

use std::ffi::CString;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use crate::merged::Merged;
use crate::tree_writer::WriteError;

/// A directory state that can be mounted.
#[derive(Debug)]
pub struct Snapshot {
    /// Trees to read, topmost first, as `O_PATH` directories.
    pub lowerdirs: Vec<OwnedFd>,
    /// Where changes go; nothing for a read-only mount.
    pub scratch: Option<Scratch>,
}

/// A directory that holds an upperdir and a workdir, which must share one mount.
#[derive(Debug)]
pub struct Scratch {
    /// The directory of both.
    pub dir: OwnedFd,
    /// Name of the upperdir in it.
    pub upper: CString,
    /// Name of the workdir in it.
    pub work: CString,
}

/// What a mount point must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StubKind {
    /// An empty file.
    File,
    /// An empty directory.
    Dir,
}

/// Makes mount points that the image lacks, in the empty tree `into`, which is to be mounted as an extra
/// *lower* right above `merged` and thrown away afterwards: so they never get into a layer (R6).
/// Says whether any was made; if not, `into` needn't be mounted.
pub fn mount_point_stubs(
    merged: &Merged,
    targets: &[(PathBuf, StubKind)],
    into: BorrowedFd<'_>,
) -> Result<bool, WriteError> {
    let _ = (merged, targets, into);
    todo!()
}

/// Gives the new upperdir `upper` the mode, owner, attributes and time of the stack's root, which
/// an overlay takes from its upperdir.
pub fn prepare_upper(merged: &Merged, upper: BorrowedFd<'_>) -> Result<(), WriteError> {
    let _ = (merged, upper);
    todo!()
}
