//! A tree that the steps of a stage, or a container, write in place, for where overlayfs can't be had.
//!
//! It is made by copying a stack of layers once ([`WorkingTree::fill`]), goes from step to step, takes the layers of
//! steps that didn't run in it ([`WorkingTree::apply`]), and what a step changed in it is found by a walk that compares
//! what `stat` says before and after ([`WorkingTree::record`], [`WorkingTree::diff`]). docs/decisions/0010 tells what
//! differs from an overlay.

mod diff;
mod record;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sys::file::{self, FileType, Metadata, Timestamp};
use sys::xattr::{self, Xattr};

pub use record::Recorded;

use crate::layer::whiteout;
use crate::merged::{Dir, Merged, Resolved};
use crate::snapshot::StubKind;
use crate::tree_writer::{Attributes, DirAttributes, TreeWriter, WriteDir, WriteError};

/// Directories nested deeper than this are no part of a layer (the limit of a layer's tar).
const MAX_DEPTH: usize = 512;

/// A directory that shows a stack of layers, copied, and is written in place.
#[derive(Debug)]
pub struct WorkingTree {
    tree: OwnedFd,
}

impl WorkingTree {
    /// The working tree that `tree` (opened for reading) is already.
    pub fn open(tree: OwnedFd) -> Self {
        Self { tree }
    }

    /// Copies what `merged` shows into the empty directory `tree` (opened for reading).
    ///
    /// Blocks are shared where the file system can. Each name becomes a file of its own, even where two were links to
    /// one: an overlay, too, separates them with the first write.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; a part of it may be copied.
    pub fn fill(tree: OwnedFd, merged: &Merged) -> Result<Self, WriteError> {
        let working = Self { tree };
        let writer = working.writer()?;
        let root = merged.root()?;
        let out = writer.root()?;
        out.set_attributes(&Attributes::of(root.metadata(), root.xattrs()?))?;
        copy_merged(&root, &out, 0)?;
        writer.finish()?;
        Ok(working)
    }

    /// The directory.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.tree.as_fd()
    }

    /// Makes `path`, symlinks followed within the tree, where it is missing; says what had to be made first. The
    /// directory that it is in keeps its time, as one does that overlayfs copies up.
    ///
    /// # Errors
    ///
    /// [`WriteError`].
    pub fn make_missing(
        &self,
        path: &Path,
        kind: StubKind,
        attributes: &Attributes,
    ) -> Result<Option<PathBuf>, WriteError> {
        let writer = self.writer()?;
        let (parent, rest) = match writer.merged().resolve_missing(path)? {
            Resolved::Found(_) => return Ok(None),
            Resolved::Missing { parent, rest } => (parent.path().to_owned(), rest),
        };
        let (name, dirs) = rest.split_last().expect("something is missing");
        let first = parent.join(&rest[0]);
        keeping_time(&writer, &parent, |mut dir| {
            for name in dirs {
                dir = dir.create_dir(name, DirAttributes::Set(attributes))?;
            }
            match kind {
                StubKind::Dir => drop(dir.create_dir(name, DirAttributes::Set(attributes))?),
                StubKind::File => {
                    let attributes = Attributes { mode: 0o644, ..attributes.clone() };
                    dir.write_file(name, &mut io::empty(), &attributes)?;
                }
            }
            Ok(())
        })?;
        writer.finish()?;
        Ok(Some(first))
    }

    /// Changes the tree as `layer` (a layer's tree) says.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; the tree is then of no further use.
    pub fn apply(&self, layer: BorrowedFd<'_>) -> Result<(), WriteError> {
        let writer = self.writer()?;
        let root = Path::new("/");
        let layer = sys::dir::reopen(layer).map_err(io_error("open", root))?;
        let mut out = writer.root()?;
        if whiteout::is_opaque(&layer).map_err(io_error("read attributes of", root))? {
            for entry in entries(&out.fd().try_clone().map_err(io_error("open", root))?, root)? {
                out.remove(entry.os_name())?;
            }
            out = writer.root()?;
        }
        apply_dir(&layer, &out, 0)?;
        writer.finish()
    }

    /// Writes into the tree itself.
    fn writer(&self) -> Result<TreeWriter, WriteError> {
        let root = Path::new("/");
        let tree = self.tree.try_clone().map_err(io_error("open", root))?;
        TreeWriter::new(tree, &Merged::new(Vec::new())?)
    }
}

/// Changes entries of the directory `path` of a working tree without a trace in its time.
fn keeping_time(
    writer: &TreeWriter,
    path: &Path,
    change: impl FnOnce(WriteDir<'_>) -> Result<(), WriteError>,
) -> Result<(), WriteError> {
    let dir = writer.open_existing(path)?;
    let fd = dir.fd().try_clone().map_err(io_error("open", path))?;
    let mtime = file::metadata(&fd).map_err(io_error("stat", path))?.mtime;
    change(dir)?;
    file::set_mtime_at(&fd, c".", mtime).map_err(io_error("set the time of", path))
}

fn copy_merged(dir: &Dir, out: &WriteDir<'_>, depth: usize) -> Result<(), WriteError> {
    check_depth(depth, dir.path())?;
    for entry in dir.entries()? {
        let name = entry.os_name();
        let Some(node) = dir.child(name)? else { continue };
        let metadata = *node.metadata();
        let attributes = Attributes::of(&metadata, node.xattrs()?);
        if let Some(below) = node.as_dir() {
            let out = out.create_dir(name, DirAttributes::Set(&attributes))?;
            copy_merged(below, &out, depth + 1)?;
            continue;
        }
        match metadata.file_type {
            FileType::Regular => {
                out.clone_file(name, &node.open_file()?, metadata.size_bytes, &attributes)?;
            }
            FileType::Symlink => out.write_symlink(name, &node.read_link()?, &attributes)?,
            // No layer can hold it, so it isn't part of what the layers show.
            FileType::Socket => {}
            file_type => out.write_node(name, file_type, metadata.device, &attributes)?,
        }
    }
    Ok(())
}

fn apply_dir(layer: &OwnedFd, out: &WriteDir<'_>, depth: usize) -> Result<(), WriteError> {
    check_depth(depth, out.path())?;
    out.set_attributes(&attributes_of_dir(layer, out.path())?)?;
    for entry in entries(layer, out.path())? {
        let name = entry.os_name();
        let path = out.path().join(name);
        let metadata = file::metadata_at(layer, &*entry.name).map_err(io_error("stat", &path))?;
        let there = out.lookup(name)?;
        if whiteout::is_whiteout(&metadata) {
            out.remove(name)?;
        } else if metadata.is_dir() {
            let below = sys::dir::open_at(layer, &*entry.name).map_err(io_error("open", &path))?;
            let hides = whiteout::is_opaque(&below).map_err(io_error("read attributes of", &path))?;
            if there.is_some_and(|there| hides || !there.is_dir()) {
                out.remove(name)?;
            }
            let attributes = attributes_of_dir(&below, &path)?;
            let dir = out.create_dir(name, DirAttributes::Set(&attributes))?;
            remove_other_xattrs(dir.fd(), &attributes, &path)?;
            apply_dir(&below, &dir, depth + 1)?;
        } else {
            if there.is_some_and(|there| there.is_dir()) {
                out.remove(name)?;
            }
            copy_node(layer, &entry.name, &metadata, out)?;
        }
    }
    Ok(())
}

/// A directory that was there may have attributes that the layer's lacks.
fn remove_other_xattrs(dir: &OwnedFd, wanted: &Attributes, path: &Path) -> Result<(), WriteError> {
    for Xattr { name, .. } in xattr::all_at(dir, c"").map_err(io_error("read attributes of", path))? {
        let is_wanted = wanted.xattrs.iter().any(|xattr| xattr.name == name);
        if !is_wanted && !is_kernels(&name) {
            xattr::remove_at(dir, c"", &name).map_err(io_error("remove attributes of", path))?;
        }
    }
    Ok(())
}

/// A label that the host's policy gives to every file.
fn is_kernels(name: &std::ffi::CStr) -> bool {
    name == c"security.selinux"
}

/// Writes `name` of `dir`, which is no directory, under the same name into `out`. A socket is left out.
fn copy_node(
    dir: &OwnedFd,
    name: &std::ffi::CStr,
    metadata: &Metadata,
    out: &WriteDir<'_>,
) -> Result<(), WriteError> {
    copy_node_as(dir, name, metadata, out, OsStr::from_bytes(name.to_bytes()))
}

fn copy_node_as(
    dir: &OwnedFd,
    name: &std::ffi::CStr,
    metadata: &Metadata,
    out: &WriteDir<'_>,
    new_name: &OsStr,
) -> Result<(), WriteError> {
    let path = out.path().join(new_name);
    let xattrs = xattr::all_at(dir, name).map_err(io_error("read attributes of", &path))?;
    let attributes = Attributes::of(metadata, xattrs);
    match metadata.file_type {
        FileType::Regular => {
            let source = file::open_file_at(dir, name).map_err(io_error("open", &path))?;
            out.clone_file(new_name, &source, metadata.size_bytes, &attributes)
        }
        FileType::Symlink => {
            let target = file::read_link_at(dir, name).map_err(io_error("read link", &path))?;
            out.write_symlink(new_name, &target, &attributes)
        }
        FileType::Socket => Ok(()),
        file_type => out.write_node(new_name, file_type, metadata.device, &attributes),
    }
}

fn attributes_of_dir(dir: &OwnedFd, path: &Path) -> Result<Attributes, WriteError> {
    let metadata = file::metadata(dir).map_err(io_error("stat", path))?;
    let xattrs = xattr::all_at(dir, c"").map_err(io_error("read attributes of", path))?;
    Ok(Attributes::of(&metadata, whiteout::without_overlay(xattrs)))
}

fn entries(dir: &OwnedFd, path: &Path) -> Result<Vec<sys::dir::Entry>, WriteError> {
    sys::dir::reopen(dir).and_then(sys::dir::read_sorted).map_err(io_error("read directory", path))
}

fn check_depth(depth: usize, path: &Path) -> Result<(), WriteError> {
    if depth > MAX_DEPTH {
        return Err(io_error("walk", path)(rustix::io::Errno::NAMETOOLONG.into()));
    }
    Ok(())
}

fn io_error(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WriteError {
    let path = path.to_owned();
    move |source| WriteError::Io { op, path, source }
}

/// The moment that the kernel gives to what changes now, unless it gives a finer one.
fn coarse_now() -> Timestamp {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    Timestamp { seconds: now.tv_sec, nanoseconds: u32::try_from(now.tv_nsec).unwrap_or_default() }
}
