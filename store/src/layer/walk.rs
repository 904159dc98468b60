//! A layer's tree in the one order in which it is written and hashed.

use std::ffi::CStr;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

use sys::file::{self, Metadata, Owner};
use sys::xattr::{self, Xattr};

use super::whiteout;

/// Each level keeps one descriptor open, and many systems allow a process 1024.
const MAX_DEPTH: usize = 512;

/// Why a tree couldn't be walked. The path is relative to the tree.
#[derive(Debug)]
pub(crate) enum WalkError {
    TooDeep { path: PathBuf },
    Io { op: &'static str, path: PathBuf, source: io::Error },
}

/// One thing in a tree. Paths are relative to it, without a slash before or after.
pub(crate) enum Step<'a> {
    /// The root itself, where it is more than a plain directory: what a plain one is, is left unsaid.
    Root { metadata: &'a Metadata, xattrs: Vec<Xattr> },
    /// The directory at `path` hides what lower trees have of it; follows the directory itself.
    Opaque { path: &'a [u8] },
    /// The name at `path` is removed; comes before the entries of its directory.
    Whiteout { path: &'a [u8] },
    /// A directory.
    Dir { path: &'a [u8], metadata: &'a Metadata, xattrs: Vec<Xattr> },
    /// Anything else.
    Other(Other<'a>),
}

/// What is no directory.
pub(crate) struct Other<'a> {
    pub(crate) path: &'a [u8],
    pub(crate) dir: &'a Arc<OwnedFd>,
    pub(crate) name: &'a CStr,
    pub(crate) metadata: &'a Metadata,
}

impl Other<'_> {
    /// Its attributes that are content.
    pub(crate) fn xattrs(&self) -> Result<Vec<Xattr>, WalkError> {
        let all = xattr::all_at(self.dir, self.name).map_err(io_error("read attributes of", self.path))?;
        Ok(whiteout::without_overlay(all))
    }
}

/// Visits the tree at `root`, depth first, each directory's names sorted by bytes.
pub(crate) fn walk<E: From<WalkError>>(
    root: BorrowedFd<'_>,
    visit: &mut dyn FnMut(Step<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut path = Vec::new();
    let dir = Arc::new(sys::dir::reopen(root).map_err(io_error("open", &path))?);
    let metadata = file::metadata(&dir).map_err(io_error("stat", &path))?;
    let all = xattr::all(&dir).map_err(io_error("read attributes of", &path))?;
    let is_opaque = whiteout::is_opaque_by(&all);
    let xattrs = whiteout::without_overlay(all);
    if metadata.mode != 0o755 || metadata.owner != Owner::ROOT || !xattrs.is_empty() {
        visit(Step::Root { metadata: &metadata, xattrs })?;
    }
    if is_opaque {
        visit(Step::Opaque { path: &path })?;
    }
    walk_dir(&dir, &mut path, 0, visit)
}

fn walk_dir<E: From<WalkError>>(
    dir: &Arc<OwnedFd>,
    path: &mut Vec<u8>,
    depth: usize,
    visit: &mut dyn FnMut(Step<'_>) -> Result<(), E>,
) -> Result<(), E> {
    if depth > MAX_DEPTH {
        return Err(WalkError::TooDeep { path: to_path(path) }.into());
    }
    let entries = sys::dir::read_sorted(dir).map_err(io_error("read directory", path))?;
    let len = path.len();
    let mut present = Vec::with_capacity(entries.len());
    for entry in entries {
        push(path, &entry.name);
        let metadata = file::metadata_at(dir, &*entry.name).map_err(io_error("stat", path))?;
        if whiteout::is_whiteout(&metadata) {
            visit(Step::Whiteout { path })?;
        } else {
            present.push((entry.name, metadata));
        }
        path.truncate(len);
    }
    for (name, metadata) in present {
        push(path, &name);
        if metadata.is_dir() {
            let child = Arc::new(sys::dir::open_at(dir, &*name).map_err(io_error("open", path))?);
            let all = xattr::all(&child).map_err(io_error("read attributes of", path))?;
            let is_opaque = whiteout::is_opaque_by(&all);
            visit(Step::Dir { path, metadata: &metadata, xattrs: whiteout::without_overlay(all) })?;
            if is_opaque {
                visit(Step::Opaque { path })?;
            }
            walk_dir(&child, path, depth + 1, visit)?;
        } else {
            visit(Step::Other(Other { path, dir, name: &name, metadata: &metadata }))?;
        }
        path.truncate(len);
    }
    Ok(())
}

fn push(path: &mut Vec<u8>, name: &CStr) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name.to_bytes());
}

pub(crate) fn to_path(path: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(path.to_vec()))
}

pub(crate) fn io_error(op: &'static str, path: &[u8]) -> impl FnOnce(io::Error) -> WalkError {
    let path = to_path(path);
    move |source| WalkError::Io { op, path, source }
}
