//! The root file system: an overlay of the layers, as a mount that is attached nowhere.

use std::ffi::CString;
use std::fmt::Write;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use sys::kernel::{self, Feature};
use sys::mount::{self, FsContext, MountAttrFlags, MountFlags};
use sys::process::FsIds;

use crate::error::LaunchError;
use crate::idmap::IdMap;
use crate::launch::{Rootfs, Scratch};
use crate::launcher::{Launcher, STAGE};

/// overlayfs's own limit; by `mount(2)` the page of options holds as many, with names of three digits.
const MAX_LOWERDIRS: usize = 500;

/// What an upperdir that becomes a layer needs, said in full since distributions differ: it is complete in itself
/// (no redirects, no files without data) and refers to nothing outside.
const OPTIONS: [(&str, &str); 4] =
    [("redirect_dir", "nofollow"), ("metacopy", "off"), ("index", "off"), ("xino", "auto")];

/// A user namespace and the map that it has.
#[derive(Debug)]
pub(crate) struct Mapping {
    pub(crate) namespace: OwnedFd,
    pub(crate) map: IdMap,
}

/// Why there is no root file system.
#[derive(Debug)]
pub(crate) enum RootError {
    /// A layer's file system can't show ids through a map: to be tried again without.
    NotMappable(io::Error),
    Other(LaunchError),
}

impl From<LaunchError> for RootError {
    fn from(error: LaunchError) -> Self {
        Self::Other(error)
    }
}

fn failed(op: &'static str) -> impl Fn(io::Error) -> LaunchError {
    move |source| LaunchError::Overlay { op, log: None, source }
}

/// Mounts `rootfs`, with ids mapped or not. The result is a detached mount.
///
/// Nodes in it can't be opened as devices: an image may carry the host's disk as a node with mode 0666.
pub(crate) fn mount(
    rootfs: &Rootfs,
    mapping: Option<&Mapping>,
    readonly: bool,
    launcher: &Launcher,
) -> Result<OwnedFd, RootError> {
    let (lowerdirs, scratch) = match rootfs {
        Rootfs::Overlay { lowerdirs, scratch } => (lowerdirs, scratch),
        Rootfs::Tree(tree) => return mount_tree(tree, mapping, readonly, launcher),
    };
    let count = lowerdirs.len();
    if count > MAX_LOWERDIRS {
        return Err(LaunchError::TooManyLayers { count, limit: MAX_LOWERDIRS }.into());
    }
    let layers = Layers::prepare(lowerdirs, scratch.as_ref(), mapping)?;
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NODEV;
    if readonly || layers.scratch.is_none() {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    let writable = layers.scratch.is_some();
    let owner = mapping.and_then(|mapping| mapping.map.outside(0));
    let root = if kernel::has(Feature::OverlayFd) {
        by_descriptor(&layers, owner, attributes)?
    } else {
        launcher.run(move |_| by_name(layers, owner, attributes)).map_err(|_| LaunchError::NoLauncher)??
    };
    // A mounter that its own upper doesn't know gets an overlay that silently can't be written.
    if writable && !readonly && mount::is_read_only(&root).map_err(failed("look at it"))? {
        return Err(LaunchError::ReadOnly.into());
    }
    Ok(root)
}

/// The directory itself, with ids mapped or not, as a detached mount.
fn mount_tree(
    tree: &OwnedFd,
    mapping: Option<&Mapping>,
    readonly: bool,
    launcher: &Launcher,
) -> Result<OwnedFd, RootError> {
    let root = mount::clone_tree(tree, false).map_err(failed("take the working tree"))?;
    if let Some(mapping) = mapping {
        mount::set_idmap(&root, &mapping.namespace).map_err(RootError::NotMappable)?;
    }
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NODEV;
    if readonly {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    let root = set_attributes(root, attributes, launcher).map_err(failed("set its attributes"))?;
    if !readonly && mount::is_read_only(&root).map_err(failed("look at it"))? {
        return Err(LaunchError::ReadOnly.into());
    }
    Ok(root)
}

/// Mounts to be used by the overlay, and by nobody else.
struct Layers {
    lowers: Vec<OwnedFd>,
    scratch: Option<(OwnedFd, CString, CString)>,
}

impl Layers {
    fn prepare(
        lowerdirs: &[OwnedFd],
        scratch: Option<&Scratch>,
        mapping: Option<&Mapping>,
    ) -> Result<Self, RootError> {
        let layer = |place: &OwnedFd| -> Result<OwnedFd, RootError> {
            let copy = mount::clone_tree(place, false).map_err(failed("take a layer"))?;
            if let Some(mapping) = mapping {
                mount::set_idmap(&copy, &mapping.namespace).map_err(RootError::NotMappable)?;
            }
            Ok(copy)
        };
        let mut lowers = lowerdirs.iter().map(layer).collect::<Result<Vec<_>, _>>()?;
        let scratch = match scratch {
            Some(Scratch { dir, upper, work }) => Some((layer(dir)?, upper.clone(), work.clone())),
            None => None,
        };
        // overlayfs wants one lowerdir beside an upperdir, and two without.
        let least = if scratch.is_some() { 1 } else { 2 };
        while lowers.len() < least {
            lowers.push(empty().map_err(failed("make an empty layer"))?);
        }
        Ok(Self { lowers, scratch })
    }
}

fn empty() -> io::Result<OwnedFd> {
    let context = FsContext::open(c"tmpfs")?;
    context.set_string(c"mode", c"755")?;
    context.create()?;
    context.mount(MountAttrFlags::MOUNT_ATTR_RDONLY)
}

/// While it is held this thread is the container's root to file systems, and so is the overlay's mounter.
fn as_owner(owner: Option<u32>) -> io::Result<Option<FsIds>> {
    owner.map(|owner| FsIds::set(owner, owner)).transpose()
}

/// Linux 6.15: nothing is attached anywhere, and the kernel says what it didn't like.
fn by_descriptor(
    layers: &Layers,
    owner: Option<u32>,
    attributes: MountAttrFlags,
) -> Result<OwnedFd, LaunchError> {
    let context = FsContext::open(c"overlay").map_err(failed("open overlayfs"))?;
    let step = |op| {
        let context = &context;
        move |source| LaunchError::Overlay { op, log: context.log(), source }
    };
    context.set_string(c"source", c"overlay").map_err(step("name it"))?;
    for (key, value) in OPTIONS {
        let (key, value) = (text(key), text(value));
        context.set_string(&key, &value).map_err(step("set an option"))?;
    }
    for lower in &layers.lowers {
        context.set_fd(c"lowerdir+", lower).map_err(step("add a layer"))?;
    }
    if let Some((dir, upper, work)) = &layers.scratch {
        // No syncfs at its end, which would be one of the whole disk (KERNEL: 0.3 to 15 ms); what is lost with the
        // machine is dropped from the store at its next start.
        context.set_flag(c"volatile").map_err(step("set an option"))?;
        for (key, name) in [(c"upperdir", upper), (c"workdir", work)] {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let directory = openat(dir, name, flags, Mode::empty())
                .map_err(|errno| failed("open upperdir and workdir")(errno.into()))?;
            context.set_fd(key, directory).map_err(step("set upperdir and workdir"))?;
        }
    }
    {
        let _owner = as_owner(owner).map_err(failed("become its owner"))?;
        context.create().map_err(step("create it"))?;
    }
    context.mount(attributes).map_err(step("mount it"))
}

/// Before that: `mount(2)` in the launcher's mount namespace, with the layers attached there under short relative
/// names. The overlay keeps clones of them, so that all of it can go at once.
fn by_name(layers: Layers, owner: Option<u32>, attributes: MountAttrFlags) -> Result<OwnedFd, LaunchError> {
    let stage = empty_stage().map_err(failed("make a stage"))?;
    let result = (|| {
        rustix::process::fchdir(&stage).map_err(|errno| failed("enter the stage")(errno.into()))?;
        let place = |mount: &OwnedFd, name: &str| {
            mkdirat(CWD, name, Mode::from_raw_mode(0o755))?;
            mount::attach(mount, CWD, &text(name))
        };
        let mut options = String::from("volatile,lowerdir=");
        if layers.scratch.is_none() {
            options = String::from("lowerdir=");
        }
        for (index, lower) in layers.lowers.iter().enumerate() {
            let name = index.to_string();
            place(lower, &name).map_err(failed("attach a layer"))?;
            let separator = if index == 0 { "" } else { ":" };
            // Writing to a String can't fail.
            let _ = write!(options, "{separator}{name}");
        }
        if let Some((dir, upper, work)) = &layers.scratch {
            place(dir, "s").map_err(failed("attach upperdir and workdir"))?;
            let (upper, work) = (upper.to_string_lossy(), work.to_string_lossy());
            if [&upper, &work].iter().any(|name| name.contains([',', ':', '\\'])) {
                return Err(LaunchError::Invalid { what: format!("upperdir `{upper}` or workdir `{work}`") });
            }
            let _ = write!(options, ",upperdir=s/{upper},workdir=s/{work}");
        }
        for (key, value) in OPTIONS {
            let _ = write!(options, ",{key}={value}");
        }
        mkdirat(CWD, "m", Mode::from_raw_mode(0o755))
            .map_err(|errno| failed("make a stage")(errno.into()))?;
        let mut flags = MountFlags::NODEV;
        if layers.scratch.is_none() {
            flags |= MountFlags::RDONLY;
        }
        {
            let _owner = as_owner(owner).map_err(failed("become its owner"))?;
            let options = text(&options);
            mount::mount_old(c"overlay", c"m", c"overlay", flags, &options).map_err(failed("mount it"))?;
        }
        if attributes.contains(MountAttrFlags::MOUNT_ATTR_RDONLY) {
            // Not by the mount's own flag, which is the file system's as well.
            mount::remount_bind(c"m", MountFlags::NODEV | MountFlags::RDONLY)
                .map_err(failed("make it read-only"))?;
        }
        mount::clone_tree_at(CWD, c"m", false).map_err(failed("take it"))
    })();
    let left = leave_stage().map_err(failed("leave the stage"));
    let root = result?;
    left.map(|()| root)
}

fn empty_stage() -> io::Result<OwnedFd> {
    let stage = {
        let context = FsContext::open(c"tmpfs")?;
        context.set_string(c"mode", c"755")?;
        context.create()?;
        context.mount(MountAttrFlags::empty())?
    };
    mount::attach(&stage, CWD, &text(STAGE))?;
    Ok(stage)
}

fn leave_stage() -> io::Result<()> {
    rustix::process::chdir("/")?;
    mount::detach(&text(STAGE))
}

/// `MS_*` for `MOUNT_ATTR_*`.
pub(crate) fn old_flags(attributes: MountAttrFlags) -> MountFlags {
    let pairs = [
        (MountAttrFlags::MOUNT_ATTR_RDONLY, MountFlags::RDONLY),
        (MountAttrFlags::MOUNT_ATTR_NOSUID, MountFlags::NOSUID),
        (MountAttrFlags::MOUNT_ATTR_NODEV, MountFlags::NODEV),
        (MountAttrFlags::MOUNT_ATTR_NOEXEC, MountFlags::NOEXEC),
    ];
    pairs
        .into_iter()
        .filter(|(new, _)| attributes.contains(*new))
        .fold(MountFlags::empty(), |all, (_, old)| all | old)
}

/// Sets attributes of detached mounts: by `mount_setattr`, or in the launcher's mount namespace by a remount.
pub(crate) fn set_attributes(
    mounts: OwnedFd,
    attributes: MountAttrFlags,
    launcher: &Launcher,
) -> io::Result<OwnedFd> {
    if kernel::has(Feature::MountSetattr) {
        mount::set_attributes(&mounts, attributes, false)?;
        return Ok(mounts);
    }
    let job = move || {
        // A file can be mounted on a file only.
        let stage = empty_stage()?;
        let result = (|| {
            let is_dir = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(mounts.as_fd())?.st_mode)
                == rustix::fs::FileType::Directory;
            if is_dir {
                mkdirat(&stage, "m", Mode::from_raw_mode(0o755))?;
            } else {
                openat(
                    &stage,
                    "m",
                    OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC,
                    Mode::from_raw_mode(0o644),
                )?;
            }
            rustix::process::fchdir(&stage)?;
            mount::attach(&mounts, CWD, c"m")?;
            mount::remount_bind(c"m", old_flags(attributes))?;
            mount::clone_tree_at(CWD, c"m", false)
        })();
        leave_stage()?;
        result
    };
    launcher.run(move |_| job()).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?
}

fn text(text: &str) -> CString {
    CString::new(text).expect("no NUL byte: a literal, a number, or made of such")
}
