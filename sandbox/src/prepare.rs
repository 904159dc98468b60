//! Mounts that the parent can make: `/dev`, pseudo-terminals, memory, and clones of what is bound.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags, mkdirat, openat, statx, symlinkat,
};
use rustix::io::Errno;
use sys::kernel::{self, Feature};
use sys::mount::{self, FsContext, MountAttrFlags};
use sys::process::FsIds;

use crate::error::LaunchError;
use crate::launch::{Bind, BindIdmap};
use crate::launcher::Launcher;
use crate::mount_options::{Attributes, FsOption};
use crate::plan::{DEVICE_LINKS, DEVICES, MountKind, Plan, SetupOp};
use crate::rootfs::{Mapping, set_attributes};

/// A bind and what is mounted below it, each a mount of its own: one of them may be impossible to map.
#[derive(Debug)]
pub(crate) struct PreparedBind {
    pub(crate) mount: OwnedFd,
    /// Path relative to the source, and the mount, outer ones first.
    pub(crate) below: Vec<(PathBuf, OwnedFd)>,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// For each mount of the plan that the parent makes, by its position.
    pub(crate) mounts: BTreeMap<usize, OwnedFd>,
    /// For each bind, in order.
    pub(crate) binds: Vec<PreparedBind>,
    /// What was degraded.
    pub(crate) notes: Vec<String>,
}

/// Makes them. `owner`: the host's id of the container's root.
pub(crate) fn prepare(
    plan: &Plan,
    binds: &[Bind],
    mapping: Option<&Mapping>,
    launcher: &Launcher,
) -> Result<Prepared, LaunchError> {
    let mut notes = Vec::new();
    let prepared_binds = binds
        .iter()
        .map(|bind| clone_bind(bind, mapping, launcher, &mut notes))
        .collect::<Result<Vec<_>, _>>()?;
    let owner = mapping.and_then(|mapping| mapping.map.outside(0));
    let mut mounts = BTreeMap::new();
    for (position, (kind, place, attributes, options)) in plan.mounts().enumerate() {
        if !kind.is_made_empty() && *kind != MountKind::Devpts {
            continue;
        }
        let made = make(kind, attributes, options).and_then(|mount| {
            // Files that show through (links, mount points) belong to the container's root.
            let _owner = owner.map(|owner| FsIds::set(owner, owner)).transpose()?;
            if *kind == MountKind::Dev {
                furnish_dev(&mount)?;
            }
            for (path, is_directory) in mount_points(plan, position, binds)? {
                make_mount_point(&mount, &path, is_directory)?;
            }
            // Only now: nothing could be made in it.
            if attributes.flags().contains(Attributes::READONLY.flags()) {
                return set_attributes(mount, attributes.flags(), launcher);
            }
            Ok(mount)
        });
        let what = || format!("{kind} for `{}`", place.target.display());
        mounts.insert(position, made.map_err(|source| LaunchError::Prepare { what: what(), source })?);
    }
    Ok(Prepared { mounts, binds: prepared_binds, notes })
}

fn make(kind: &MountKind, attributes: Attributes, options: &[FsOption]) -> io::Result<OwnedFd> {
    let context = FsContext::open(if *kind == MountKind::Devpts { c"devpts" } else { c"tmpfs" })?;
    let set = || -> io::Result<()> {
        for (key, value) in options {
            match value {
                Some(value) => {
                    context.set_string(&CString::new(key.as_str())?, &CString::new(value.as_str())?)?
                }
                None => context.set_flag(&CString::new(key.as_str())?)?,
            }
        }
        context.create()
    };
    set().map_err(|error| match context.log() {
        Some(log) => io::Error::new(error.kind(), format!("{log}: {error}")),
        None => error,
    })?;
    context.mount(attributes.flags() - MountAttrFlags::MOUNT_ATTR_RDONLY)
}

/// Mount points for the nodes, and the links.
fn furnish_dev(dev: &OwnedFd) -> io::Result<()> {
    for (name, ..) in DEVICES {
        make_mount_point(dev, Path::new(name), false)?;
    }
    for (name, target) in DEVICE_LINKS {
        symlinkat(target, dev, name)?;
    }
    Ok(())
}

/// What later operations mount below the mount at `position`, and whether each is a directory.
fn mount_points(plan: &Plan, position: usize, binds: &[Bind]) -> io::Result<Vec<(PathBuf, bool)>> {
    let mut points = Vec::new();
    for op in &plan.ops {
        match op {
            SetupOp::Mount { place, .. } if place.mount == Some(position) => {
                points.push((place.path.clone(), true))
            }
            SetupOp::Bind { index, place, .. } if place.mount == Some(position) => {
                let bind = binds.get(*index).ok_or(io::ErrorKind::InvalidInput)?;
                points.push((place.path.clone(), is_directory(&bind.source)?));
            }
            SetupOp::Console { dev, .. } if *dev == position => points.push(("console".into(), false)),
            _ => {}
        }
    }
    Ok(points)
}

/// In a file system that was just made and that nobody else sees: there is no symlink on the way.
fn make_mount_point(root: &OwnedFd, path: &Path, is_directory: bool) -> io::Result<()> {
    let directory = |path: &Path| match mkdirat(root, path, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(io::Error::from(errno)),
    };
    let parents: Vec<&Path> = path.ancestors().skip(1).filter(|parent| *parent != Path::new("")).collect();
    for parent in parents.into_iter().rev() {
        directory(parent)?;
    }
    if is_directory {
        return directory(path);
    }
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(root, path, flags, Mode::from_raw_mode(0o644))?;
    Ok(())
}

fn is_directory(file: impl AsFd) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode) == FileType::Directory)
}

fn clone_bind(
    bind: &Bind,
    mapping: Option<&Mapping>,
    launcher: &Launcher,
    notes: &mut Vec<String>,
) -> Result<PreparedBind, LaunchError> {
    let failed = |source| LaunchError::Bind { target: bind.target.clone(), source };
    let mut attributes = Attributes::NOSUID.and(Attributes::NODEV);
    if bind.readonly {
        attributes = attributes.and(Attributes::READONLY);
    }
    let mapping = mapping.filter(|_| bind.idmap == BindIdmap::Identity);
    let mut take = |source: BorrowedFd<'_>| -> io::Result<OwnedFd> {
        let copy = mount::clone_tree(source, false)?;
        if let Some(mapping) = mapping
            && let Err(error) = mount::set_idmap(&copy, &mapping.namespace)
        {
            // EINVAL: the file system can't; EPERM: it is a mapped mount already.
            match error.raw_os_error() {
                Some(libc::EINVAL | libc::EPERM) => notes.push(format!(
                    "`{}` is on a file system whose owners can't be mapped: in the container its files belong to \
                     nobody (`--userns host` shows the host's owners)",
                    bind.target.display()
                )),
                _ => return Err(error),
            }
        }
        set_attributes(copy, attributes.flags(), launcher)
    };
    let mount = take(bind.source.as_fd()).map_err(failed)?;
    let mut below = Vec::new();
    if bind.recursive && is_directory(&bind.source).map_err(failed)? {
        for path in submounts(&bind.source).map_err(failed)? {
            // Symlinks can't lie on the way to a mount point, unless it was swapped just now.
            let place = open_beneath(&bind.source, &path).map_err(failed)?;
            below.push((path, take(place.as_fd()).map_err(failed)?));
        }
    }
    Ok(PreparedBind { mount, below })
}

fn open_beneath(dir: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    if kernel::has(Feature::Openat2) {
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        return Ok(rustix::fs::openat2(dir, path, flags, Mode::empty(), resolve)?);
    }
    let mut here = dir.try_clone()?;
    for component in path {
        here = openat(&here, component, flags | OFlags::NOFOLLOW, Mode::empty())?;
    }
    Ok(here)
}

/// Mount points below `dir`, relative to it, outer ones first (`proc_pid_mountinfo(5)`).
fn submounts(dir: &OwnedFd) -> io::Result<Vec<PathBuf>> {
    let path = std::fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd()))?;
    // What hides below another mount isn't reached by this path: then there is nothing to take along either.
    let id = |place: BorrowedFd<'_>| -> io::Result<u64> {
        Ok(statx(place, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?.stx_mnt_id)
    };
    let again = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    if id(again.as_fd())? != id(dir.as_fd())? {
        return Ok(Vec::new());
    }
    let table = std::fs::read("/proc/self/mountinfo")?;
    Ok(mount_points_below(&table, &path))
}

fn mount_points_below(table: &[u8], path: &Path) -> Vec<PathBuf> {
    let mut points: Vec<PathBuf> = table
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .filter_map(|field| {
            let point = unescape(field);
            let point = Path::new(std::ffi::OsStr::from_bytes(&point)).strip_prefix(path).ok()?.to_owned();
            (point != Path::new("")).then_some(point)
        })
        .collect();
    points.sort();
    points.dedup();
    points
}

/// `\040` for a space, and so on.
pub(crate) fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|digits| *first == b'\\' && digits.iter().all(|digit| (b'0'..=b'7').contains(digit)));
        match octal {
            Some(digits) => {
                bytes.push(
                    digits.iter().fold(0_u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')),
                );
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_below_a_path_come_outer_ones_first_and_once() {
        let table = b"1 0 8:1 / / rw - ext4 a rw\n\
            2 1 0:1 / /srv/a\\040b/x/y rw - tmpfs t rw\n\
            3 1 0:2 / /srv/a\\040b/x rw - tmpfs t rw\n\
            4 3 0:3 / /srv/a\\040b/x rw - tmpfs t rw\n\
            5 1 0:4 / /srv/a\\040bc rw - tmpfs t rw\n\
            6 1 0:5 / /srv/a\\040b rw - tmpfs t rw\n";
        assert_eq!(
            mount_points_below(table, Path::new("/srv/a b")),
            [PathBuf::from("x"), PathBuf::from("x/y")]
        );
    }

    #[test]
    fn what_is_mounted_below_a_source_is_not_looked_for_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("source/real")).unwrap();
        std::fs::create_dir(dir.path().join("outside")).unwrap();
        std::os::unix::fs::symlink("../outside", dir.path().join("source/link")).unwrap();
        let source: OwnedFd = std::fs::File::open(dir.path().join("source")).unwrap().into();
        assert!(open_beneath(&source, Path::new("real")).is_ok());
        for path in ["link", "link/.", "../outside"] {
            assert!(open_beneath(&source, Path::new(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn escapes_of_the_mount_table_are_undone() {
        assert_eq!(unescape(b"a\\040b\\134c\\011\\"), b"a b\\c\t\\");
    }
}
