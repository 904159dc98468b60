//! A directory that paths can't leave.

use std::collections::VecDeque;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::file::{self, Metadata};

/// A directory as the root of every path looked up in it.
///
/// Absolute paths and absolute symlinks begin at it, `..` stops at it, magic links (`/proc/PID/fd/*`)
/// are refused: whatever an image or a context holds, a lookup ends inside. Uses `openat2(2)`
/// (Linux 5.6), else one `openat` for each component with its own handling of symlinks.
///
/// Lookups follow symlinks to their end, unless the method says that the last component is taken as
/// it is. What creates or replaces a name resolves the parent here ([`RootDir::parent`]) and then
/// works on the name itself, never through it.
#[derive(Debug)]
pub struct RootDir {
    fd: OwnedFd,
    lookup: Lookup,
}

/// How paths are resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lookup {
    /// By the kernel: `openat2(RESOLVE_IN_ROOT)`.
    Openat2,
    /// By us, one component at a time.
    Components,
}

/// The kernel's own limit (`MAXSYMLINKS`).
const MAX_SYMLINKS: usize = 40;
/// The kernel's own limit on a path, its NUL included (`PATH_MAX`).
const PATH_MAX: usize = 4096;

impl RootDir {
    /// Takes `path`, which the host's owner named and which is resolved in the host's root.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self::from_fd(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// Takes an open directory (`O_PATH` will do).
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd, lookup: Lookup::Openat2 }
    }

    /// Opens `path` with `flags`; `mode` counts where a file is created (`O_CREAT`, which needs
    /// `O_EXCL` or `O_NOFOLLOW` beside it here: an image's dangling symlink must not choose where).
    pub fn open_at(&self, path: &Path, flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
        if flags.contains(OFlags::CREATE) && !flags.intersects(OFlags::EXCL | OFlags::NOFOLLOW) {
            return Err(Errno::INVAL.into());
        }
        let flags = flags | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode);
        if self.lookup == Lookup::Openat2 {
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            // EAGAIN: something above was renamed while `..` was looked up. Twice is rare, for ever is an attack.
            for _ in 0..8 {
                match rustix::fs::openat2(&self.fd, path, flags, mode, resolve) {
                    Err(Errno::AGAIN) => {}
                    Err(Errno::NOSYS) => break,
                    other => return Ok(other?),
                }
            }
        }
        self.open_by_components(path, flags, mode)
    }

    /// Opens what `path` leads to as a place (`O_PATH`): a file, a directory, anything.
    pub fn open_path(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_at(path, OFlags::PATH, 0)
    }

    /// As [`RootDir::open_path`], with a symlink at the end taken as it is.
    pub fn open_path_nofollow(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW, 0)
    }

    /// Opens the directory at `path` as a place (`O_PATH`).
    pub fn open_dir(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_at(path, OFlags::PATH | OFlags::DIRECTORY, 0)
    }

    /// Opens the regular file at `path` for reading; what is no regular file is `EINVAL` and never opened.
    pub fn open_file(&self, path: &Path) -> io::Result<(OwnedFd, Metadata)> {
        let place = self.open_path(path)?;
        let found = file::metadata(&place)?;
        if !found.is_file() {
            return Err(Errno::INVAL.into());
        }
        // The inode is pinned and known to be a file: reopening it can't reach another one.
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&place));
        let opened = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok((opened, found))
    }

    /// What is at the end of `path`.
    pub fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        file::metadata(self.open_path(path)?)
    }

    /// What is at `path`; a symlink there is not followed.
    pub fn symlink_metadata(&self, path: &Path) -> io::Result<Metadata> {
        file::metadata(self.open_path_nofollow(path)?)
    }

    /// The target of the symlink at `path`.
    pub fn read_link(&self, path: &Path) -> io::Result<OsString> {
        file::read_link_at(self.open_path_nofollow(path)?, c"")
    }

    /// The directory that holds `path`'s last component, and that component, for the `*_at` functions
    /// of [`crate::file`]. The component itself is not looked at. A path that ends in no name (`/`, `.`,
    /// `..`, empty) is `EINVAL`.
    pub fn parent(&self, path: &Path) -> io::Result<(OwnedFd, OsString)> {
        let bytes = path.as_os_str().as_bytes();
        let end = bytes.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        let start = bytes[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let name = &bytes[start..end];
        if matches!(name, b"" | b"." | b"..") || name.contains(&0) {
            return Err(Errno::INVAL.into());
        }
        let parent = if start == 0 { b"." } else { &bytes[..start] };
        let parent = self.open_dir(Path::new(OsStr::from_bytes(parent)))?;
        Ok((parent, OsStr::from_bytes(name).to_owned()))
    }

    /// Resolves as the kernel does, with a descriptor for each directory passed: `..` goes back to the
    /// one we came through, so nothing that is renamed meanwhile can lead outside.
    fn open_by_components(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        todo!()
    }
}

impl AsFd for RootDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<RootDir> for OwnedFd {
    fn from(root: RootDir) -> Self {
        root.fd
    }
}
