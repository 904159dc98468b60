//! What `stat` says of every entry of a working tree.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sys::file::{self, FileType, Identity, Metadata, Owner, Timestamp};

use super::{WorkingTree, check_depth, coarse_now, io_error};
use crate::layer::whiteout;
use crate::tree_writer::WriteError;

/// How long a clock that stands still, or was set back, is waited for.
const CLOCK_PATIENCE: Duration = Duration::from_millis(100);

/// What a working tree was like before a step.
#[derive(Debug)]
pub struct Recorded {
    pub(super) root: Seen,
}

/// An entry and all below it.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) stat: Stat,
    /// Made for a mount, and no part of the image.
    pub(super) is_stub: bool,
    /// Sorted by the bytes of their names.
    pub(super) children: Vec<(CString, Seen)>,
}

/// What changes with every change. The time of the last change of the inode can't be set, so it alone would do but for
/// a clock that is set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) file_type: FileType,
    pub(super) identity: Identity,
    pub(super) birth: Option<Timestamp>,
    mode: u32,
    owner: Owner,
    size_bytes: u64,
    mtime: Timestamp,
    ctime: Timestamp,
}

impl Stat {
    pub(super) fn of(metadata: &Metadata, birth: Option<Timestamp>) -> Self {
        Self {
            file_type: metadata.file_type,
            identity: metadata.identity,
            birth,
            mode: metadata.mode,
            owner: metadata.owner,
            size_bytes: metadata.size_bytes,
            mtime: metadata.mtime,
            ctime: metadata.ctime,
        }
    }

    /// Whether it is the same directory, not one that took its name or its inode's number.
    pub(super) fn is_same_dir(&self, other: &Self) -> bool {
        self.file_type == FileType::Directory
            && other.file_type == FileType::Directory
            && self.identity == other.identity
            && self.birth == other.birth
    }
}

impl WorkingTree {
    /// Notes what the tree is like. `stubs` are paths that [`WorkingTree::make_missing`] gave: what was made for mounts.
    ///
    /// What changes afterwards gets a later time than anything has now.
    ///
    /// # Errors
    ///
    /// [`WriteError`].
    pub fn record(&self, stubs: &[PathBuf]) -> Result<Recorded, WriteError> {
        let root = Path::new("/");
        let dir = sys::dir::reopen(&self.tree).map_err(io_error("open", root))?;
        let (metadata, birth) = file::metadata_and_birth_at(&dir, c"").map_err(io_error("stat", root))?;
        let mut newest = metadata.ctime;
        let children = look(&dir, &mut root.to_owned(), 0, &mut newest)?;
        let mut seen = Seen { stat: Stat::of(&metadata, birth), is_stub: false, children };
        for stub in stubs {
            if let Some(stub) = seen.find(stub) {
                stub.is_stub = true;
            }
        }
        let mut waited = Duration::ZERO;
        while coarse_now() <= newest && waited < CLOCK_PATIENCE {
            let step = Duration::from_millis(1);
            std::thread::sleep(step);
            waited += step;
        }
        Ok(Recorded { root: seen })
    }
}

impl Seen {
    fn find(&mut self, path: &Path) -> Option<&mut Self> {
        let mut here = self;
        for name in path.iter().filter(|name| *name != "/") {
            let bytes = name.as_bytes();
            let index = here.children.binary_search_by(|(known, _)| known.to_bytes().cmp(bytes)).ok()?;
            here = &mut here.children[index].1;
        }
        Some(here)
    }
}

fn look(
    dir: &OwnedFd,
    path: &mut PathBuf,
    depth: usize,
    newest: &mut Timestamp,
) -> Result<Vec<(CString, Seen)>, WriteError> {
    check_depth(depth, path)?;
    let mut children = Vec::new();
    for entry in sys::dir::read_sorted(dir).map_err(io_error("read directory", path))? {
        let Some(stat) = stat_at(dir, &entry.name, path)? else { continue };
        *newest = (*newest).max(stat.ctime);
        let mut below = Vec::new();
        if stat.file_type == FileType::Directory {
            path.push(entry.os_name());
            let dir = sys::dir::open_at(dir, &*entry.name).map_err(io_error("open", path))?;
            below = look(&dir, path, depth + 1, newest)?;
            path.pop();
        }
        children.push((entry.name, Seen { stat, is_stub: false, children: below }));
    }
    Ok(children)
}

/// Nothing for what would be a whiteout, which in an overlay nobody could make.
pub(super) fn stat_at(dir: &OwnedFd, name: &CStr, path: &Path) -> Result<Option<Stat>, WriteError> {
    let (metadata, birth) = file::metadata_and_birth_at(dir, name)
        .map_err(|error| io_error("stat", &path.join(std::ffi::OsStr::from_bytes(name.to_bytes())))(error))?;
    Ok((!whiteout::is_whiteout(&metadata)).then(|| Stat::of(&metadata, birth)))
}
