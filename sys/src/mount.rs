//! Mounts as file descriptors: `fsopen(2)`, `fsmount(2)`, `open_tree(2)`, `move_mount(2)` (Linux 5.2) and
//! `mount_setattr(2)` (5.12).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_fd,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
pub use rustix::mount::{MountAttrFlags, MountFlags, MountPropagationFlags, UnmountFlags};

/// A file system being configured, not yet mounted: `fsopen(2)`, Linux 5.2.
#[derive(Debug)]
pub struct FsContext(OwnedFd);

impl FsContext {
    /// Starts to configure a file system of this type.
    pub fn open(fstype: &CStr) -> io::Result<Self> {
        Ok(Self(fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC)?))
    }

    /// Sets an option without a value. Unknown ones may be refused only by [`create`](Self::create).
    pub fn set_flag(&self, key: &CStr) -> io::Result<()> {
        Ok(fsconfig_set_flag(&self.0, key)?)
    }

    /// Sets an option with a value.
    pub fn set_string(&self, key: &CStr, value: &CStr) -> io::Result<()> {
        Ok(fsconfig_set_string(&self.0, key, value)?)
    }

    /// Sets an option whose value is an open file.
    pub fn set_fd(&self, key: &CStr, value: impl AsFd) -> io::Result<()> {
        Ok(fsconfig_set_fd(&self.0, key, value)?)
    }

    /// Makes the file system; its credentials are the calling thread's.
    pub fn create(&self) -> io::Result<()> {
        Ok(fsconfig_create(&self.0)?)
    }

    /// A detached mount of what was created.
    pub fn mount(&self, attributes: MountAttrFlags) -> io::Result<OwnedFd> {
        Ok(fsmount(&self.0, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
    }

    /// What the kernel had to say since the last call, its lines joined by `; `.
    pub fn log(&self) -> Option<String> {
        let mut lines: Vec<String> = Vec::new();
        let mut buffer = [0_u8; 1024];
        // One message for each read, then ENODATA.
        while let Ok(length) = rustix::io::read(&self.0, &mut buffer) {
            let message = String::from_utf8_lossy(&buffer[..length]);
            // "e overlay: text": the level says nothing that the failure doesn't.
            let message = message.trim_end();
            lines.push(message.get(2..).unwrap_or(message).to_owned());
            if lines.len() == 16 {
                break;
            }
        }
        (!lines.is_empty()).then(|| lines.join("; "))
    }
}

/// A detached copy of the mount under `place`, rooted there: `open_tree(2)` with `OPEN_TREE_CLONE`, Linux 5.2.
pub fn clone_tree(place: impl AsFd, recursive: bool) -> io::Result<OwnedFd> {
    clone_tree_at(place, c"", recursive)
}

/// The same for a path relative to `dir`; a symlink at its end is not followed.
pub fn clone_tree_at(dir: impl AsFd, path: &CStr, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(dir, path, flags)?)
}

/// Puts a detached mount on top of `dir`/`path` (`path` may be empty): `move_mount(2)`, Linux 5.2.
pub fn attach(mount: impl AsFd, dir: impl AsFd, path: &CStr) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, c"", dir, path, flags)?)
}

/// `struct mount_attr` of `mount_setattr(2)`.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// Sets attributes of the mount whose root `mount` is: `mount_setattr(2)`, Linux 5.12.
pub fn set_attributes(mount: impl AsFd, set: MountAttrFlags, recursive: bool) -> io::Result<()> {
    setattr(
        mount.as_fd(),
        &MountAttr { set: u64::from(set.bits()), clear: 0, propagation: 0, userns: 0 },
        recursive,
    )
}

/// Shows the ids on disk shifted by the map of `userns`: an id N on disk is what the namespace calls N.
///
/// `mount` is a detached mount that nobody has opened a file on. `EINVAL`: its file system can't do that;
/// `EPERM`: it is mapped already.
pub fn set_idmap(mount: impl AsFd, userns: impl AsFd) -> io::Result<()> {
    let userns = u64::try_from(userns.as_fd().as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let set = u64::from(MountAttrFlags::MOUNT_ATTR_IDMAP.bits());
    setattr(mount.as_fd(), &MountAttr { set, clear: 0, propagation: 0, userns }, false)
}

fn setattr(mount: BorrowedFd<'_>, attr: &MountAttr, recursive: bool) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a literal, `attr` lives across the call and its size is passed with it; the kernel only
    // reads them.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `mount(2)` of a file system by name, for kernels whose new interface lacks something.
pub fn mount_old(
    source: &CStr,
    target: &CStr,
    fstype: &CStr,
    flags: MountFlags,
    data: &CStr,
) -> io::Result<()> {
    Ok(rustix::mount::mount(source, target, fstype, flags, Some(data))?)
}

/// Changes the flags of one mount by path: `mount(2)` with `MS_REMOUNT | MS_BIND`.
pub fn remount_bind(target: &CStr, flags: MountFlags) -> io::Result<()> {
    Ok(rustix::mount::mount_remount(target, MountFlags::BIND | flags, c"")?)
}

/// `mount(2)` with `MS_REC | MS_PRIVATE`: nothing mounted here shows elsewhere, nor the other way round.
pub fn make_private(target: &CStr) -> io::Result<()> {
    Ok(rustix::mount::mount_change(target, MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?)
}

/// `umount2(2)` with `MNT_DETACH`: gone from the name space now, released with its last user.
pub fn detach(target: &CStr) -> io::Result<()> {
    Ok(rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?)
}

/// Makes `dir` the root of this thread's mount namespace and lets go of the old one.
///
/// `dir` is the root of a mount and not the present root. `pivot_root(2)` with both paths `.` puts the old root on
/// top of the new one, from where it is detached (`pivot_root(2)`, "pivot_root(".", ".")").
pub fn replace_root(dir: impl AsFd) -> io::Result<()> {
    rustix::process::fchdir(dir)?;
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir("/")?)
}

/// Whether the file system under `file` is mounted read-only (`fstatfs(2)`: the mount's flag or the file system's).
pub fn is_read_only(file: impl AsFd) -> io::Result<bool> {
    Ok(rustix::fs::fstatvfs(file)?.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}
