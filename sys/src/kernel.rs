//! What this kernel offers: each feature that has a fallback, probed once, and switched off on demand.
//!
//! A feature is named so that the fallback behind it can be forced: `CALQUE_DISABLE=overlay-fd,idmap` makes a new
//! kernel behave as an old one does. The library reads no environment; the command line passes the list on.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{FsOpenFlags, fsconfig_set_fd, fsopen};

/// A part of the kernel for which there is another, older way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Feature {
    /// overlayfs. Else: one working tree for each stage, whose layers a stat walk finds.
    Overlay,
    /// overlayfs takes its layers as file descriptors, detached ones too (6.15). Else: `mount(2)` in a mount
    /// namespace of its own, with the layers attached under short names.
    OverlayFd,
    /// Mounts whose ids are mapped, and an overlay of such (5.19). Else: no user namespace.
    Idmap,
    /// `mount_setattr` (5.12). Else: remounts in a mount namespace of its own.
    MountSetattr,
    /// `openat2` (5.6; some container hosts deny it). Else: a walk of one component at a time.
    Openat2,
    /// `clone3` (5.3; some container hosts deny it) with `CLONE_INTO_CGROUP` (5.7). Else: `clone`.
    Clone3,
    /// `close_range` (5.9). Else: one `close` for each entry of `/proc/self/fd`.
    CloseRange,
}

impl Feature {
    /// Every feature, in the order of the enum.
    pub const ALL: [Self; 7] = [
        Self::Overlay,
        Self::OverlayFd,
        Self::Idmap,
        Self::MountSetattr,
        Self::Openat2,
        Self::Clone3,
        Self::CloseRange,
    ];

    /// Its name on the command line and in the environment.
    pub fn name(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::OverlayFd => "overlay-fd",
            Self::Idmap => "idmap",
            Self::MountSetattr => "mount-setattr",
            Self::Openat2 => "openat2",
            Self::Clone3 => "clone3",
            Self::CloseRange => "close-range",
        }
    }

    fn bit(self) -> u32 {
        1 << (self as u32)
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No feature has this name.
#[derive(Debug, thiserror::Error)]
#[error(
    "unknown kernel feature `{name}` (known: overlay, overlay-fd, idmap, mount-setattr, openat2, clone3, close-range)"
)]
pub struct UnknownFeature {
    name: String,
}

impl FromStr for Feature {
    type Err = UnknownFeature;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|feature| feature.name() == text)
            .ok_or_else(|| UnknownFeature { name: text.to_owned() })
    }
}

static DISABLED: AtomicU32 = AtomicU32::new(0);

/// Makes [`has`] answer no for these, in this process, from now on.
///
/// To be called once, before anything asks: what was set up with a feature goes on using it.
pub fn disable(features: &[Feature]) {
    for feature in features {
        DISABLED.fetch_or(feature.bit(), Ordering::Relaxed);
    }
}

/// Whether the kernel has it and it wasn't [disabled](disable).
pub fn has(feature: Feature) -> bool {
    static PROBED: [OnceLock<bool>; Feature::ALL.len()] = [const { OnceLock::new() }; Feature::ALL.len()];
    if DISABLED.load(Ordering::Relaxed) & feature.bit() != 0 {
        return false;
    }
    match feature {
        // Both need mount_setattr: disabling that one disables idmapped mounts as well.
        Feature::Idmap if !has(Feature::MountSetattr) => false,
        _ => *PROBED[feature as usize].get_or_init(|| probe(feature)),
    }
}

fn probe(feature: Feature) -> bool {
    match feature {
        Feature::Overlay => fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC).is_ok(),
        Feature::OverlayFd => overlay_takes_descriptors().unwrap_or(false),
        // The call itself says nothing about overlays of idmapped mounts, and trying one needs a file system
        // to try it on; the first kernel that has it is known.
        Feature::Idmap => release() >= (5, 19),
        Feature::MountSetattr => answers(libc::SYS_mount_setattr, [-1, 0, 0, 0, 0]),
        Feature::Openat2 => rustix::fs::openat2(
            CWD,
            ".",
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::NO_MAGICLINKS,
        )
        .is_ok(),
        Feature::Clone3 => cfg!(target_arch = "x86_64") && answers(libc::SYS_clone3, [0, 0, 0, 0, 0]),
        Feature::CloseRange => answers(libc::SYS_close_range, [0xffff_ffff, 0xffff_ffff, 0, 0, 0]),
    }
}

/// Whether a call exists, judged by arguments that no call accepts (or that have no effect).
fn answers(call: libc::c_long, args: [libc::c_long; 5]) -> bool {
    // SAFETY: the three callers pass null pointers with a size of 0 or a range in which no descriptor can lie, so
    // the kernel reads and writes no memory of ours.
    let ret = unsafe { libc::syscall(call, args[0], args[1], args[2], args[3], args[4]) };
    ret >= 0 || !matches!(std::io::Error::last_os_error().raw_os_error(), Some(libc::ENOSYS | libc::EPERM))
}

/// Before 6.15 an `O_PATH` descriptor is `EBADF` or the key takes no descriptor at all: known before anything is made.
fn overlay_takes_descriptors() -> Result<bool, Errno> {
    let context = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    Ok(fsconfig_set_fd(&context, c"lowerdir+", &root).is_ok())
}

/// Major and minor version of the running kernel; `(0, 0)` when it says something else.
pub fn release() -> (u32, u32) {
    let name = rustix::system::uname();
    let text = name.release().to_string_lossy();
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for feature in Feature::ALL {
            assert_eq!(feature.to_string().parse::<Feature>().unwrap(), feature);
        }
        let error = "overlayfs".parse::<Feature>().unwrap_err().to_string();
        for feature in Feature::ALL {
            assert!(error.contains(feature.name()), "{error}");
        }
    }

    #[test]
    fn the_kernel_has_a_release() {
        assert!(release() >= (5, 10));
    }

    #[test]
    fn what_this_kernel_has_matches_its_release() {
        // Not the converse: a host may deny a call that its kernel has.
        for (feature, since) in
            [(Feature::Openat2, (5, 6)), (Feature::CloseRange, (5, 9)), (Feature::MountSetattr, (5, 12))]
        {
            assert!(!has(feature) || release() >= since, "{feature}");
        }
    }
}
