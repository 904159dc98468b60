//! Directories by descriptor: reading them fast, removing trees safely.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Mode, OFlags, RawDir};
use rustix::io::Errno;
use rustix::path::Arg;

use crate::file::{self, FileType, Identity};

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name, as C has it.
    pub name: CString,
    /// The kind of file, where the file system says it without a look at the inode.
    pub file_type: Option<FileType>,
}

impl Entry {
    /// The name, as std has it.
    pub fn os_name(&self) -> &OsStr {
        OsStr::from_bytes(self.name.to_bytes())
    }
}

/// Opens `dir`, which may be an `O_PATH` descriptor, anew for reading its entries.
pub fn reopen(dir: impl AsFd) -> io::Result<OwnedFd> {
    open_at(dir, c".")
}

/// Opens the directory `name` in `dir` for reading its entries; a symlink is refused.
pub fn open_at(dir: impl AsFd, name: impl Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, name, flags, Mode::empty())?)
}

/// Calls `visit` with each name in `dir` but `.` and `..`, in no order (`getdents64(2)`).
///
/// `dir` must be open for reading and at its start ([`reopen`], [`open_at`]).
pub fn for_each(
    dir: impl AsFd,
    mut visit: impl FnMut(&CStr, Option<FileType>) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = Vec::<u8>::with_capacity(32 * 1024);
    let buffer: &mut [MaybeUninit<u8>] = buffer.spare_capacity_mut();
    let mut entries = RawDir::new(dir, buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            visit(name, FileType::from_rustix(entry.file_type()))?;
        }
    }
    Ok(())
}

/// All entries of `dir`, sorted by the bytes of their names. `dir` as for [`for_each`].
pub fn read_sorted(dir: impl AsFd) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for_each(dir, |name, file_type| {
        entries.push(Entry { name: name.to_owned(), file_type });
        Ok(())
    })?;
    entries.sort_unstable();
    Ok(entries)
}

/// Whether `dir` has no entry. `dir` may be an `O_PATH` descriptor.
pub fn is_empty(dir: impl AsFd) -> io::Result<bool> {
    let mut empty = true;
    for_each(reopen(dir)?, |_, _| {
        empty = false;
        Ok(())
    })?;
    Ok(empty)
}

/// How many directories may be open at once while a tree is removed: deeper ones are moved up first.
const MAX_DEPTH: usize = 64;

/// Removes `name` in `parent` and all that is below it, whatever it is.
///
/// Nothing is followed: each directory is opened by its name in the one above, which stays open, and
/// must be on the same device, so that something mounted there stops the removal with `EXDEV`. With
/// `expected`, another inode under that name is left alone: `ESTALE`. A name that isn't there is no
/// error. On an error a part of the tree may be gone.
pub fn remove_tree(parent: impl AsFd, name: impl Arg, expected: Option<Identity>) -> io::Result<()> {
    let parent = parent.as_fd();
    let name = name.into_c_str()?;
    let found = match file::metadata_at(parent, &*name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if expected.is_some_and(|expected| expected != found.identity) {
        return Err(Errno::STALE.into());
    }
    if !found.is_dir() {
        return file::remove_file_at(parent, &*name);
    }
    let top = open_for_removal(parent, &name)?;
    let opened = file::metadata(&top)?.identity;
    if opened != found.identity {
        return Err(Errno::STALE.into());
    }
    let mut removal = Removal { top: top.as_fd(), dev: opened.dev, moved: 0 };
    removal.empty(top.as_fd(), 0)?;
    while removal.moved > 0 {
        // What was too deep now lies in `top`, where emptying it may move more.
        removal.moved = 0;
        removal.empty(top.as_fd(), 0)?;
    }
    file::remove_dir_at(parent, &*name)
}

fn open_for_removal(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    match open_at(parent, name) {
        // Not root: a directory of ours that we may not read.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            file::set_mode_at(parent, name, 0o700)?;
            open_at(parent, name)
        }
        other => other,
    }
}

struct Removal<'a> {
    top: BorrowedFd<'a>,
    dev: u64,
    moved: u64,
}

impl Removal<'_> {
    fn empty(&mut self, dir: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
        // Names are collected first: removing while reading is undefined on some file systems.
        let mut names = Vec::new();
        for_each(reopen(dir)?, |name, file_type| {
            names.push((name.to_owned(), file_type));
            Ok(())
        })?;
        for (name, file_type) in names {
            if file_type.is_some_and(|kind| kind != FileType::Directory) {
                ignore_missing(file::remove_file_at(dir, &*name))?;
            } else {
                self.remove(dir, &name, depth)?;
            }
        }
        Ok(())
    }

    fn remove(&mut self, dir: BorrowedFd<'_>, name: &CStr, depth: usize) -> io::Result<()> {
        match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTDIR) => return ignore_missing(file::remove_file_at(dir, name)),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let child = open_for_removal(dir, name)?;
        if file::metadata(&child)?.identity.dev != self.dev {
            return Err(Errno::XDEV.into());
        }
        if depth >= MAX_DEPTH {
            return self.move_up(dir, name);
        }
        self.empty(child.as_fd(), depth + 1)?;
        match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn move_up(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
        loop {
            self.moved += 1;
            let to = format!(".calque-removing-{}", self.moved);
            match rustix::fs::renameat_with(dir, name, self.top, to, rustix::fs::RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                other => return Ok(other?),
            }
        }
    }
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn open(path: &std::path::Path) -> OwnedFd {
        open_at(rustix::fs::CWD, path).unwrap()
    }

    #[test]
    fn a_symlink_is_not_opened_as_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
        let parent = std::fs::File::open(dir.path()).unwrap();
        assert!(open_at(&parent, c"real").is_ok());
        let error = open_at(&parent, c"link").unwrap_err();
        assert!(matches!(error.raw_os_error(), Some(libc::ENOTDIR | libc::ELOOP)), "{error}");
    }

    #[test]
    fn entries_are_sorted_and_typed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("b"), "").unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        symlink("x", dir.path().join("a-")).unwrap();
        let entries = read_sorted(open(dir.path())).unwrap();
        let names: Vec<_> = entries.iter().map(|entry| (entry.os_name(), entry.file_type.unwrap())).collect();
        assert_eq!(
            names,
            [
                (OsStr::new("a"), FileType::Directory),
                (OsStr::new("a-"), FileType::Symlink),
                (OsStr::new("b"), FileType::Regular)
            ]
        );
    }

    #[test]
    fn a_removed_tree_takes_nothing_outside_with_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("kept/inner")).unwrap();
        fs::write(dir.path().join("kept/file"), "").unwrap();
        fs::create_dir_all(dir.path().join("tree/sub")).unwrap();
        symlink(dir.path().join("kept"), dir.path().join("tree/sub/link")).unwrap();
        symlink("../../kept", dir.path().join("tree/link")).unwrap();
        let parent = open(dir.path());
        remove_tree(&parent, "tree", None).unwrap();
        assert!(!dir.path().join("tree").exists());
        assert!(dir.path().join("kept/file").exists() && dir.path().join("kept/inner").exists());
        symlink("kept", dir.path().join("link")).unwrap();
        remove_tree(&parent, "link", None).unwrap();
        assert!(dir.path().join("kept/file").exists());
        remove_tree(&parent, "never-was", None).unwrap();
    }

    #[test]
    fn another_inode_under_the_name_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("ours")).unwrap();
        fs::create_dir(dir.path().join("other")).unwrap();
        let parent = open(dir.path());
        let ours = file::metadata_at(&parent, "ours").unwrap().identity;
        let error = remove_tree(&parent, "other", Some(ours)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::STALE.raw_os_error()));
        assert!(dir.path().join("other").exists());
        remove_tree(&parent, "ours", Some(ours)).unwrap();
        assert!(!dir.path().join("ours").exists());
    }

    #[test]
    fn a_tree_deeper_than_any_path_or_descriptor_limit_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let parent = open(dir.path());
        let mut here = parent.try_clone().unwrap();
        for _ in 0..3000 {
            file::create_dir_at(&here, "d", 0o700).unwrap();
            file::create_file_at(&here, "f", 0o600).unwrap();
            here = file::open_dir_at(&here, "d").unwrap();
        }
        remove_tree(&parent, "d", None).unwrap();
        assert!(!dir.path().join("d").exists());
    }

    #[test]
    #[ignore = "root: mounts tmpfs"]
    fn root_what_is_mounted_in_a_tree_stops_its_removal() {
        let dir = tempfile::tempdir().unwrap();
        let mounted = dir.path().join("tree/mounted");
        fs::create_dir_all(&mounted).unwrap();
        rustix::mount::mount("none", &mounted, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
        fs::write(mounted.join("file"), "kept").unwrap();
        let error = remove_tree(open(dir.path()), "tree", None).unwrap_err();
        let kept = mounted.join("file").exists();
        rustix::mount::unmount(&mounted, rustix::mount::UnmountFlags::DETACH).unwrap();
        assert!(kept);
        assert!(matches!(Errno::from_io_error(&error), Some(Errno::XDEV | Errno::BUSY)), "{error}");
    }
}
