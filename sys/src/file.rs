//! Files relative to an open directory: metadata, creation and attributes, never through a symlink.
//!
//! Each function that takes a directory and a name treats the name as one component that is not
//! followed; how the directory was reached is the caller's concern ([`crate::RootDir`]).

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::{fmt, io};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, StatxFlags, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::path::Arg;

/// A moment in Unix time, exact to the nanosecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Whole seconds since 1970, rounded down.
    pub seconds: i64,
    /// What is left of a second: below 1,000,000,000.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// A moment of whole seconds.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self { seconds, nanoseconds: 0 }
    }

    /// A moment in nanoseconds since 1970.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self { seconds: nanos.div_euclid(1_000_000_000), nanoseconds: nanos.rem_euclid(1_000_000_000) as u32 }
    }

    /// Nanoseconds since 1970; saturates outside of the years 1677 to 2262.
    pub const fn as_nanos(self) -> i64 {
        self.seconds.saturating_mul(1_000_000_000).saturating_add(self.nanoseconds as i64)
    }

    /// The present moment.
    pub fn now() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        Self { seconds: now.tv_sec, nanoseconds: now.tv_nsec as u32 }
    }
}

/// What kind of thing a directory entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileType {
    /// A file with bytes.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A unix socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

impl FileType {
    /// The type in the upper bits of `st_mode`.
    pub fn from_mode(mode: u32) -> Option<Self> {
        Some(match mode & 0o170_000 {
            0o100_000 => Self::Regular,
            0o040_000 => Self::Directory,
            0o120_000 => Self::Symlink,
            0o010_000 => Self::Fifo,
            0o140_000 => Self::Socket,
            0o020_000 => Self::CharDevice,
            0o060_000 => Self::BlockDevice,
            _ => return None,
        })
    }

    pub(crate) fn from_rustix(kind: rustix::fs::FileType) -> Option<Self> {
        use rustix::fs::FileType as Kind;
        Some(match kind {
            Kind::RegularFile => Self::Regular,
            Kind::Directory => Self::Directory,
            Kind::Symlink => Self::Symlink,
            Kind::Fifo => Self::Fifo,
            Kind::Socket => Self::Socket,
            Kind::CharacterDevice => Self::CharDevice,
            Kind::BlockDevice => Self::BlockDevice,
            Kind::Unknown => return None,
        })
    }

    const fn to_rustix(self) -> rustix::fs::FileType {
        use rustix::fs::FileType as Kind;
        match self {
            Self::Regular => Kind::RegularFile,
            Self::Directory => Kind::Directory,
            Self::Symlink => Kind::Symlink,
            Self::Fifo => Kind::Fifo,
            Self::Socket => Kind::Socket,
            Self::CharDevice => Kind::CharacterDevice,
            Self::BlockDevice => Kind::BlockDevice,
        }
    }
}

impl fmt::Display for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Regular => "file",
            Self::Directory => "directory",
            Self::Symlink => "symlink",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
            Self::CharDevice => "character device",
            Self::BlockDevice => "block device",
        })
    }
}

/// What tells one inode from another, as long as both exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The file system's device number.
    pub dev: u64,
    /// The inode's number in it.
    pub ino: u64,
}

/// User and group that own a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// User ID.
    pub uid: u32,
    /// Group ID.
    pub gid: u32,
}

impl Owner {
    /// Root and root's group.
    pub const ROOT: Self = Self { uid: 0, gid: 0 };
}

/// What `statx(2)` says of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The kind of file.
    pub file_type: FileType,
    /// Permission bits with setuid, setgid and sticky: at most `0o7777`.
    pub mode: u32,
    /// Its owner.
    pub owner: Owner,
    /// Bytes of a file, or of a symlink's target.
    pub size_bytes: u64,
    /// Number of names.
    pub links: u32,
    /// Which inode.
    pub identity: Identity,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// When the content last changed.
    pub mtime: Timestamp,
    /// When the inode last changed.
    pub ctime: Timestamp,
}

impl Metadata {
    /// What is said of a directory that is nowhere on disk, such as the root of no tree at all.
    pub const NO_DIR: Self = Self {
        file_type: FileType::Directory,
        mode: 0o755,
        owner: Owner::ROOT,
        size_bytes: 0,
        links: 2,
        identity: Identity { dev: 0, ino: 0 },
        device: (0, 0),
        mtime: Timestamp::from_seconds(0),
        ctime: Timestamp::from_seconds(0),
    };

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.file_type == FileType::Directory
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.file_type == FileType::Regular
    }

    /// Whether it is a symlink.
    pub fn is_symlink(&self) -> bool {
        self.file_type == FileType::Symlink
    }

    fn from_statx(stat: &rustix::fs::Statx) -> io::Result<Self> {
        let mode = u32::from(stat.stx_mode);
        let file_type = FileType::from_mode(mode).ok_or_else(|| io::Error::from(rustix::io::Errno::INVAL))?;
        let time =
            |time: &rustix::fs::StatxTimestamp| Timestamp { seconds: time.tv_sec, nanoseconds: time.tv_nsec };
        Ok(Self {
            file_type,
            mode: mode & 0o7777,
            owner: Owner { uid: stat.stx_uid, gid: stat.stx_gid },
            size_bytes: stat.stx_size,
            links: stat.stx_nlink,
            identity: Identity {
                dev: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
                ino: stat.stx_ino,
            },
            device: (stat.stx_rdev_major, stat.stx_rdev_minor),
            mtime: time(&stat.stx_mtime),
            ctime: time(&stat.stx_ctime),
        })
    }
}

/// What is `name` in `dir`; a symlink is not followed (`statx(2)`, Linux 4.11).
pub fn metadata_at(dir: impl AsFd, name: impl Arg) -> io::Result<Metadata> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    Metadata::from_statx(&rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS)?)
}

/// As [`metadata_at`], with the moment in which the inode was made, where the file system keeps it: an inode number
/// that was used again is told from the same inode by it.
pub fn metadata_and_birth_at(dir: impl AsFd, name: impl Arg) -> io::Result<(Metadata, Option<Timestamp>)> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
    let stat = rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME)?;
    let has_birth = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
    let birth = has_birth
        .then_some(Timestamp { seconds: stat.stx_btime.tv_sec, nanoseconds: stat.stx_btime.tv_nsec });
    Ok((Metadata::from_statx(&stat)?, birth))
}

/// What an open file is; works on `O_PATH` descriptors too (`statx(2)`, Linux 4.11).
pub fn metadata(file: impl AsFd) -> io::Result<Metadata> {
    Metadata::from_statx(&rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?)
}

/// Opens the directory `name` in `dir` as a place (`O_PATH`); a symlink is `ELOOP` or `ENOTDIR`.
pub fn open_dir_at(dir: impl AsFd, name: impl Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, name, flags, Mode::empty())?)
}

/// Opens the regular file `name` in `dir` for reading.
///
/// Anything else is refused: `EINVAL` where it opens (a device, a pipe, a directory), `ELOOP` for
/// a symlink. A pipe doesn't block. Prefer a look at the metadata first: opening a device has effects.
pub fn open_file_at(dir: impl AsFd, name: impl Arg) -> io::Result<OwnedFd> {
    Ok(open_file_with_metadata_at(dir, name)?.0)
}

/// As [`open_file_at`], with the metadata of what was opened.
pub fn open_file_with_metadata_at(dir: impl AsFd, name: impl Arg) -> io::Result<(OwnedFd, Metadata)> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    let found = metadata(&file)?;
    if found.is_file() { Ok((file, found)) } else { Err(rustix::io::Errno::INVAL.into()) }
}

/// Makes the file `name` in `dir`, which must not exist, and opens it for writing.
pub fn create_file_at(dir: impl AsFd, name: impl Arg, mode: u32) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(mode))?)
}

/// Makes the directory `name` in `dir`; the process's umask applies.
pub fn create_dir_at(dir: impl AsFd, name: impl Arg, mode: u32) -> io::Result<()> {
    Ok(rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(mode))?)
}

/// Makes the symlink `name` in `dir`.
pub fn create_symlink_at(target: impl Arg, dir: impl AsFd, name: impl Arg) -> io::Result<()> {
    Ok(rustix::fs::symlinkat(target, dir, name)?)
}

/// Makes a device, fifo or socket `name` in `dir`; the process's umask applies.
pub fn create_node_at(
    dir: impl AsFd,
    name: impl Arg,
    file_type: FileType,
    mode: u32,
    device: (u32, u32),
) -> io::Result<()> {
    let device = rustix::fs::makedev(device.0, device.1);
    Ok(rustix::fs::mknodat(dir, name, file_type.to_rustix(), Mode::from_raw_mode(mode), device)?)
}

/// Gives the file `old_name` in `old_dir` another name; a symlink itself is linked.
pub fn create_link_at(
    old_dir: impl AsFd,
    old_name: impl Arg,
    new_dir: impl AsFd,
    new_name: impl Arg,
) -> io::Result<()> {
    Ok(rustix::fs::linkat(old_dir, old_name, new_dir, new_name, AtFlags::empty())?)
}

/// Removes `name`, which is no directory, from `dir`.
pub fn remove_file_at(dir: impl AsFd, name: impl Arg) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(dir, name, AtFlags::empty())?)
}

/// Removes the empty directory `name` from `dir`.
pub fn remove_dir_at(dir: impl AsFd, name: impl Arg) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?)
}

/// Where the symlink `name` in `dir` points; the empty name is the symlink that `dir` itself is.
pub fn read_link_at(dir: impl AsFd, name: impl Arg) -> io::Result<OsString> {
    Ok(OsString::from_vec(rustix::fs::readlinkat(dir, name, Vec::new())?.into_bytes()))
}

/// Sets the permission bits of an open file or directory (not of an `O_PATH` one).
pub fn set_mode(file: impl AsFd, mode: u32) -> io::Result<()> {
    Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?)
}

/// Sets the permission bits of `name` in `dir`, which the caller knows to be no symlink.
///
/// There is no call that never follows before `fchmodat2(2)` (Linux 6.6), so the inode is pinned by an
/// `O_PATH` descriptor and reached through `/proc/self/fd`.
pub fn set_mode_at(dir: impl AsFd, name: impl Arg, mode: u32) -> io::Result<()> {
    let pin =
        rustix::fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let path = format!("/proc/self/fd/{}", pin.as_raw_fd());
    Ok(rustix::fs::chmod(path, Mode::from_raw_mode(mode))?)
}

/// Sets the owner of an open file or directory (not of an `O_PATH` one). Clears setuid and file
/// capabilities, so it comes before the mode and the extended attributes.
pub fn set_owner(file: impl AsFd, owner: Owner) -> io::Result<()> {
    Ok(rustix::fs::fchown(file, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?)
}

/// Sets the owner of `name` in `dir`; a symlink's own.
pub fn set_owner_at(dir: impl AsFd, name: impl Arg, owner: Owner) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    Ok(rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn only_mtime(mtime: Timestamp) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: i64::from(mtime.nanoseconds) },
    }
}

/// Sets the modification time of an open file or directory (not of an `O_PATH` one).
pub fn set_mtime(file: impl AsFd, mtime: Timestamp) -> io::Result<()> {
    Ok(rustix::fs::futimens(file, &only_mtime(mtime))?)
}

/// Sets the modification time of `name` in `dir`; a symlink's own.
pub fn set_mtime_at(dir: impl AsFd, name: impl Arg, mtime: Timestamp) -> io::Result<()> {
    Ok(rustix::fs::utimensat(dir, name, &only_mtime(mtime), AtFlags::SYMLINK_NOFOLLOW)?)
}
