//! A tiny root file system and base image, made of Debian's busybox-static by `scripts/base-image.sh`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the workspace.
pub fn workspace_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("testutil lies in the workspace").to_owned()
}

/// A docker archive of `busybox:latest`: one layer, the applets as hard links of one static binary.
///
/// Made once and kept in the target directory; later calls, from any process, give the same file.
///
/// # Panics
///
/// When the script fails (it says what is missing).
pub fn busybox_archive() -> PathBuf {
    made_once("busybox.tar", |out| {
        script("base-image.sh", &[out]);
    })
}

/// Unpacks the root file system of [`busybox_archive`] into `dir`, which is made when it isn't there.
///
/// # Panics
///
/// When it can't be made or unpacked.
pub fn busybox_rootfs(dir: &Path) {
    let tar = made_once("busybox-rootfs.tar", |out| {
        script("base-image.sh", &[Path::new("--rootfs"), out]);
    });
    fs::create_dir_all(dir).unwrap();
    let status = Command::new("tar").arg("-xpf").arg(&tar).arg("-C").arg(dir).status().unwrap();
    assert!(status.success(), "cannot unpack `{}`: {status}", tar.display());
}

/// A tar of a minimal Debian bookworm root file system, made by `scripts/debian-base.sh` with the host's mirror
/// settings; made once and kept as [`busybox_archive`] is.
///
/// # Panics
///
/// When the script fails (it says what is missing).
pub fn debian_archive() -> PathBuf {
    made_once("debian-bookworm.tar", |out| {
        let settings = crate::RegistrySettings::from_host();
        let options: Vec<String> =
            settings.apt_options().into_iter().map(|option| format!("--aptopt={option}")).collect();
        let mut arguments = vec![out];
        arguments.extend(options.iter().map(Path::new));
        script("debian-base.sh", &arguments);
    })
}

/// `name` in the folder of made test inputs; `make` gets the path it shall fill when it isn't there.
fn made_once(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let dir = made_dir();
    fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("cannot make `{}`: {error}", dir.display()));
    let lock = File::create(dir.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    let path = dir.join(name);
    if !path.exists() {
        // The name's end tells mmdebstrap the format.
        let fresh = dir.join(format!("{}.{name}", std::process::id()));
        make(&fresh);
        fs::rename(&fresh, &path).unwrap();
    }
    path
}

/// Beside the test binaries, so that `cargo clean` removes it: `<target>/calque-test-inputs`.
fn made_dir() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    // <target>/<triple>/<profile>/deps/<test>
    exe.ancestors().nth(4).unwrap_or(Path::new("/tmp")).join("calque-test-inputs")
}

fn script(name: &str, arguments: &[&Path]) {
    let path = workspace_dir().join("scripts").join(name);
    let output = Command::new("sh").arg(&path).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "`{}` failed: {}\n{}",
        path.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_has_a_shell_and_sticky_tmp() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let dir = tempfile::tempdir().unwrap();
        busybox_rootfs(dir.path());
        let shell = fs::metadata(dir.path().join("bin/sh")).unwrap();
        assert!(shell.nlink() > 100, "applets are hard links");
        let tmp = fs::metadata(dir.path().join("tmp")).unwrap();
        assert_eq!(tmp.permissions().mode() & 0o7777, 0o1777);
    }

    #[test]
    fn the_archive_is_the_same_every_time() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one.tar"), dir.path().join("two.tar"));
        script("base-image.sh", &[&one]);
        script("base-image.sh", &[&two]);
        assert!(fs::read(&one).unwrap() == fs::read(&two).unwrap(), "two runs of base-image.sh differ");
    }
}
