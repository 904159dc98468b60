//! What a test needs of the machine, probed rather than assumed.

use std::path::Path;

/// Something that a machine may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Requirement {
    /// Effective uid 0.
    Root,
    /// Overlayfs can be mounted.
    Overlay,
    /// Overlayfs takes its layers as `O_PATH` descriptors of detached mounts (Linux 6.15).
    OverlayByFd,
    /// Overlayfs takes idmapped mounts as layers (Linux 5.19).
    IdmappedLayers,
    /// `openat2(2)` (Linux 5.6).
    Openat2,
    /// `clone3(2)` (Linux 5.3).
    Clone3,
    /// Loop devices can be attached.
    LoopDevices,
    /// A program on `PATH`.
    Program(&'static str),
}

/// Whether a missing requirement fails the test instead of passing over it: `CALQUE_TEST_STRICT=1`, or in CI.
pub fn is_strict() -> bool {
    match std::env::var("CALQUE_TEST_STRICT") {
        Ok(value) => value != "0",
        Err(_) => std::env::var_os("CI").is_some(),
    }
}

/// Tells whether the machine has `requirement`; a test that gets `false` returns at once.
///
/// # Panics
///
/// When the machine lacks it and the run is strict ([`is_strict`]): `make test` and CI never pass over a test.
#[must_use = "a test that lacks what it needs must return"]
#[track_caller]
pub fn require(requirement: Requirement) -> bool {
    match probe(requirement) {
        Ok(()) => true,
        Err(reason) if is_strict() => panic!("this test needs {requirement:?}: {reason}"),
        Err(_) => false,
    }
}

fn probe(requirement: Requirement) -> Result<(), String> {
    match requirement {
        Requirement::Root => {
            let uid = rustix::process::geteuid();
            if uid.is_root() { Ok(()) } else { Err(format!("the effective uid is {}", uid.as_raw())) }
        }
        Requirement::Overlay => {
            let known = std::fs::read_to_string("/proc/filesystems").map_err(|error| error.to_string())?;
            let is_known = known.split_whitespace().any(|word| word == "overlay");
            // A module may still have to be loaded: mounting without options fails otherwise than by ENODEV.
            let mounts = rustix::mount::mount(
                c"overlay",
                c"/proc/self/calque-no-such-folder",
                c"overlay",
                rustix::mount::MountFlags::empty(),
                None,
            );
            if is_known || mounts != Err(rustix::io::Errno::NODEV) {
                Ok(())
            } else {
                Err("the kernel knows no `overlay`".to_owned())
            }
        }
        Requirement::OverlayByFd => kernel_at_least(6, 15),
        Requirement::IdmappedLayers => kernel_at_least(5, 19),
        Requirement::Openat2 => kernel_at_least(5, 6),
        Requirement::Clone3 => kernel_at_least(5, 3),
        Requirement::LoopDevices => {
            if Path::new("/dev/loop-control").exists() {
                Ok(())
            } else {
                Err("there is no `/dev/loop-control`".to_owned())
            }
        }
        Requirement::Program(name) => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            if std::env::split_paths(&path).any(|dir| dir.join(name).is_file()) {
                Ok(())
            } else {
                Err(format!("`{name}` is not on PATH"))
            }
        }
    }
}

fn kernel_at_least(major: u32, minor: u32) -> Result<(), String> {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    match version(&release) {
        Some(found) if found >= (major, minor) => Ok(()),
        _ => Err(format!("Linux {release} is older than {major}.{minor}")),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions_are_understood() {
        assert_eq!(version("6.18.44-fc-v595"), Some((6, 18)));
        assert_eq!(version("5.14.0-362.el9.x86_64"), Some((5, 14)));
        assert_eq!(version("weird"), None);
    }

    #[test]
    fn a_program_that_is_nowhere_is_missing() {
        assert!(probe(Requirement::Program("calque-no-such-program")).is_err());
        assert!(probe(Requirement::Program("sh")).is_ok());
    }
}
