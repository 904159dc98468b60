//! What a step changed in a working tree, as a layer's tree.

use std::cell::{OnceCell, RefCell};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sys::file::{self, FileType, Identity};

use super::record::{Recorded, Seen, Stat, stat_at};
use super::{WorkingTree, attributes_of_dir, check_depth, copy_node, copy_node_as, io_error, keeping_time};
use crate::merged::Merged;
use crate::tree_writer::{DirAttributes, TreeWriter, WriteDir, WriteError};

impl WorkingTree {
    /// Writes what changed since `before` into the empty directory `into`, as a layer over `lowers`. Then what was made
    /// for mounts is removed, and names of one file that the step made become files of their own, for the next step.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; the tree is then of no further use.
    pub fn diff(&self, before: &Recorded, lowers: &Merged, into: OwnedFd) -> Result<(), WriteError> {
        let writer = TreeWriter::new(into, lowers)?;
        let diff = Diff {
            writer: &writer,
            first_names: RefCell::default(),
            more_names: RefCell::default(),
            stubs: RefCell::default(),
        };
        let path = PathBuf::from("/");
        let dir = sys::dir::reopen(&self.tree).map_err(io_error("open", &path))?;
        let root = Level { parent: None, dir, path, out: OnceCell::new() };
        let out = writer.root()?;
        // An overlay's root is its upperdir's, whether or not it was changed.
        out.set_attributes(&attributes_of_dir(&root.dir, &root.path)?)?;
        root.out.get_or_init(|| out);
        diff.compare(&root, &before.root.children, 0)?;
        let (more_names, stubs) = (diff.more_names.into_inner(), diff.stubs.into_inner());
        drop(root);
        writer.finish()?;
        self.separate(&more_names)?;
        self.remove_all(&stubs)
    }

    /// Makes each second name of a file a file of its own.
    fn separate(&self, names: &[(PathBuf, PathBuf)]) -> Result<(), WriteError> {
        let writer = self.writer()?;
        for (first, path) in names {
            let (Some(from), Some(first_name)) = (first.parent(), first.file_name()) else { continue };
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
            let from = writer.open_existing(from)?;
            let first_name = CString::new(first_name.as_bytes()).expect("it was read from a directory");
            let metadata = file::metadata_at(from.fd(), &*first_name).map_err(io_error("stat", first))?;
            if metadata.file_type != FileType::Socket {
                keeping_time(&writer, parent, |dir| {
                    copy_node_as(from.fd(), &first_name, &metadata, &dir, name)
                })?;
            }
        }
        writer.finish()
    }

    fn remove_all(&self, paths: &[PathBuf]) -> Result<(), WriteError> {
        let writer = self.writer()?;
        for path in paths {
            if let (Some(parent), Some(name)) = (path.parent(), path.file_name()) {
                keeping_time(&writer, parent, |dir| dir.remove(name))?;
            }
        }
        writer.finish()
    }
}

struct Diff<'w> {
    writer: &'w TreeWriter,
    /// Of files with several names, the first that was written.
    first_names: RefCell<HashMap<Identity, PathBuf>>,
    /// The first and another name of a file.
    more_names: RefCell<Vec<(PathBuf, PathBuf)>>,
    /// What was made for mounts and is as it was.
    stubs: RefCell<Vec<PathBuf>>,
}

/// A directory that is in the tree as it was before the step.
struct Level<'l, 'w> {
    parent: Option<&'l Level<'l, 'w>>,
    /// Open for reading.
    dir: OwnedFd,
    path: PathBuf,
    /// The same directory of the layer, from the first change in it on.
    out: OnceCell<WriteDir<'w>>,
}

impl<'w> Level<'_, 'w> {
    fn out(&self) -> Result<&WriteDir<'w>, WriteError> {
        if self.out.get().is_none() {
            let parent = self.parent.expect("the root's is there from the start").out()?;
            let name = self.path.file_name().expect("only the root has none");
            let attributes = attributes_of_dir(&self.dir, &self.path)?;
            let out = parent.create_dir(name, DirAttributes::Set(&attributes))?;
            self.out.get_or_init(|| out);
        }
        Ok(self.out.get().expect("it was set"))
    }
}

impl<'w> Diff<'w> {
    fn compare(
        &self,
        level: &Level<'_, 'w>,
        before: &[(CString, Seen)],
        depth: usize,
    ) -> Result<(), WriteError> {
        check_depth(depth, &level.path)?;
        let mut before = before.iter().peekable();
        let now = sys::dir::reopen(&level.dir)
            .and_then(sys::dir::read_sorted)
            .map_err(io_error("read directory", &level.path))?;
        for entry in now {
            let Some(stat) = stat_at(&level.dir, &entry.name, &level.path)? else { continue };
            let seen = loop {
                match before.peek() {
                    Some((name, seen)) => match name.as_c_str().to_bytes().cmp(entry.name.to_bytes()) {
                        Ordering::Less => {
                            Self::removed(level, name, seen)?;
                            before.next();
                        }
                        Ordering::Equal => {
                            before.next();
                            break Some(seen);
                        }
                        Ordering::Greater => break None,
                    },
                    None => break None,
                }
            };
            match seen {
                Some(seen) if seen.is_stub && is_as_before(level, &entry.name, &stat, seen)? => {
                    self.stubs.borrow_mut().push(level.path.join(entry.os_name()));
                }
                Some(seen) if !seen.is_stub => self.present(level, &entry.name, &stat, seen, depth)?,
                _ => self.new_entry(&level.dir, &entry.name, level.out()?, depth)?,
            }
        }
        before.try_for_each(|(name, seen)| Self::removed(level, name, seen))
    }

    fn removed(level: &Level<'_, 'w>, name: &CStr, seen: &Seen) -> Result<(), WriteError> {
        if seen.is_stub { Ok(()) } else { level.out()?.remove(os(name)) }
    }

    /// A name that was there before.
    fn present(
        &self,
        level: &Level<'_, 'w>,
        name: &CStr,
        now: &Stat,
        seen: &Seen,
        depth: usize,
    ) -> Result<(), WriteError> {
        let path = level.path.join(os(name));
        if now.is_same_dir(&seen.stat) {
            let dir = sys::dir::open_at(&level.dir, name).map_err(io_error("open", &path))?;
            let below = Level { parent: Some(level), dir, path, out: OnceCell::new() };
            if *now != seen.stat {
                below.out()?;
            }
            return self.compare(&below, &seen.children, depth + 1);
        }
        if *now == seen.stat {
            return Ok(());
        }
        let (was_dir, is_dir) =
            (seen.stat.file_type == FileType::Directory, now.file_type == FileType::Directory);
        if was_dir || is_dir {
            level.out()?.remove(os(name))?;
        }
        self.new_entry(&level.dir, name, level.out()?, depth)?;
        if is_dir {
            // As overlayfs marks what takes the place of a whiteout.
            let dir = file::open_dir_at(level.out()?.fd(), name).map_err(io_error("open", &path))?;
            crate::layer::whiteout::set_opaque(&dir).map_err(io_error("make opaque", &path))?;
        }
        Ok(())
    }

    /// Copies an entry and all below it.
    fn new_entry(
        &self,
        dir: &OwnedFd,
        name: &CStr,
        out: &WriteDir<'w>,
        depth: usize,
    ) -> Result<(), WriteError> {
        let path = out.path().join(os(name));
        check_depth(depth, &path)?;
        let metadata = file::metadata_at(dir, name).map_err(io_error("stat", &path))?;
        if crate::layer::whiteout::is_whiteout(&metadata) {
            return Ok(());
        }
        if metadata.is_dir() {
            let below = sys::dir::open_at(dir, name).map_err(io_error("open", &path))?;
            let attributes = attributes_of_dir(&below, &path)?;
            let out = out.create_dir(os(name), DirAttributes::Set(&attributes))?;
            for entry in sys::dir::read_sorted(&below).map_err(io_error("read directory", &path))? {
                self.new_entry(&below, &entry.name, &out, depth + 1)?;
            }
            return Ok(());
        }
        if metadata.links > 1 {
            let first = self.first_names.borrow().get(&metadata.identity).cloned();
            let Some(first) = first else {
                self.first_names.borrow_mut().insert(metadata.identity, path);
                return copy_node(dir, name, &metadata, out);
            };
            self.more_names.borrow_mut().push((first.clone(), path));
            if metadata.file_type == FileType::Socket {
                return Ok(());
            }
            let parent = first.parent().unwrap_or(Path::new("/"));
            let old_name = first.file_name().unwrap_or_default();
            return out.write_link(os(name), &self.writer.open_existing(parent)?, old_name);
        }
        copy_node(dir, name, &metadata, out)
    }
}

/// Whether what was made for a mount is untouched.
fn is_as_before(level: &Level<'_, '_>, name: &CStr, now: &Stat, seen: &Seen) -> Result<bool, WriteError> {
    fn is_same(dir: &OwnedFd, path: &Path, before: &[(CString, Seen)]) -> Result<bool, WriteError> {
        let entries = sys::dir::read_sorted(dir).map_err(io_error("read directory", path))?;
        if entries.len() != before.len() {
            return Ok(false);
        }
        for (entry, (name, seen)) in entries.iter().zip(before) {
            let stat = stat_at(dir, &entry.name, path)?;
            if entry.name != *name || stat != Some(seen.stat) {
                return Ok(false);
            }
            if seen.stat.file_type == FileType::Directory {
                let path = path.join(entry.os_name());
                let below = sys::dir::open_at(dir, &*entry.name).map_err(io_error("open", &path))?;
                if !is_same(&below, &path, &seen.children)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
    if *now != seen.stat {
        return Ok(false);
    }
    if now.file_type != FileType::Directory {
        return Ok(true);
    }
    let path = level.path.join(os(name));
    let dir = sys::dir::open_at(&level.dir, name).map_err(io_error("open", &path))?;
    is_same(&dir, &path, &seen.children)
}

fn os(name: &CStr) -> &OsStr {
    OsStr::from_bytes(name.to_bytes())
}
