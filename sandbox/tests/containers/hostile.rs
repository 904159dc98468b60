//! Images and shared directories that try to lead mounts elsewhere (rules R1 and R2).

use std::fs;
use std::os::unix::fs::symlink;

use sandbox::LaunchError;

use crate::ground::Ground;

#[test]
#[ignore = "root: starts a container"]
fn root_kernel_file_systems_are_mounted_on_plain_directories_only() {
    let outside = tempfile::tempdir().unwrap();
    for name in ["proc", "sys", "dev"] {
        for target in [outside.path().to_str().unwrap(), "/etc", "..", "src"] {
            let mut ground =
                Ground::new().layer(|dir| symlink(target, dir.join(name)).unwrap()).shell("true");
            match ground.try_run() {
                Err(LaunchError::MountPoint { target, source }) => {
                    assert_eq!(target.to_str().unwrap(), format!("/{name}"));
                    assert!(matches!(source.raw_os_error(), Some(libc::ELOOP)), "{source}");
                }
                other => panic!("{name} -> {target}: {other:?}"),
            }
        }
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
#[ignore = "root: starts a container"]
fn root_a_bind_behind_a_link_stays_in_the_root() {
    let source = tempfile::tempdir().unwrap();
    fs::write(source.path().join("mark"), "bound").unwrap();
    for (link, real) in [("/opt/real", "opt/real"), ("../../../../opt/real", "opt/real")] {
        let outcome = Ground::new()
            .layer(|dir| {
                fs::create_dir_all(dir.join(real)).unwrap();
                symlink(link, dir.join("link")).unwrap();
            })
            .bind(source.path(), "/link", true)
            .shell("cat /opt/real/mark; grep -c ' /opt/real ' /proc/self/mountinfo")
            .run();
        assert_eq!(outcome.text(), "bound1", "{link}");
    }
}

#[test]
#[ignore = "root: starts a container"]
fn root_a_bind_cant_be_led_onto_proc_sys_or_a_magic_link() {
    let source = tempfile::tempdir().unwrap();
    for link in ["/proc", "/proc/1", "/sys", "/sys/kernel", "/proc/self/cwd", "/proc/self/root/etc"] {
        let mut ground = Ground::new()
            .layer(|dir| symlink(link, dir.join("link")).unwrap())
            .bind(source.path(), "/link", true)
            .shell("true");
        match ground.try_run() {
            Err(LaunchError::MountPoint { target, source }) => {
                assert_eq!(target.to_str().unwrap(), "/link");
                assert!(
                    matches!(source.raw_os_error(), Some(libc::ELOOP | libc::EACCES)),
                    "{link}: {source}"
                );
            }
            other => panic!("{link}: {other:?}"),
        }
    }
}

#[test]
#[ignore = "root: starts a container"]
fn root_a_working_directory_stays_in_the_root() {
    let outside = tempfile::tempdir().unwrap();
    let up = format!("../../../../../..{}", outside.path().display());
    let with_link = |link: &str| {
        let link = link.to_owned();
        let mut ground =
            Ground::new().layer(move |dir| symlink(link, dir.join("link")).unwrap()).shell("pwd -P");
        ground.spec["process"]["cwd"] = "/link".into();
        ground
    };
    assert_eq!(with_link("../../../../../etc").run().text(), "/etc");
    for link in [outside.path().to_str().unwrap(), up.as_str()] {
        match with_link(link).try_run() {
            Err(LaunchError::Cwd { path, source }) => {
                assert_eq!((path.to_str(), source.raw_os_error()), (Some("/link"), Some(libc::ENOENT)));
            }
            other => panic!("{link}: {other:?}"),
        }
    }
    // CVE-2024-21626: a descriptor of the host as working directory.
    for number in 3..20 {
        let mut ground = Ground::new().shell("pwd -P");
        ground.spec["process"]["cwd"] = format!("/proc/self/fd/{number}").into();
        assert!(matches!(ground.try_run(), Err(LaunchError::Cwd { .. })), "{number}");
    }
}

#[test]
#[ignore = "root: starts a container"]
fn root_a_missing_mount_point_is_named_and_not_made() {
    let source = tempfile::tempdir().unwrap();
    let mut ground = Ground::new().bind(source.path(), "/not/there", false).shell("true");
    match ground.try_run() {
        Err(LaunchError::MountPoint { target, .. }) => assert_eq!(target.to_str().unwrap(), "/not/there"),
        other => panic!("{other:?}"),
    }
    assert!(!ground.upper("not").exists());
    // A directory on a file, and the other way round.
    let mut ground = Ground::new().bind(source.path(), "/etc/passwd", false).shell("true");
    assert!(matches!(ground.try_run(), Err(LaunchError::MountPoint { .. })));
}

#[test]
#[ignore = "root: starts a container"]
fn root_a_link_in_etc_leads_nowhere_outside() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("resolv.conf"), "host").unwrap();
    let source = tempfile::tempdir().unwrap();
    fs::write(source.path().join("resolv.conf"), "container").unwrap();
    let mut ground = Ground::new()
        .layer(|dir| {
            fs::create_dir(dir.join("etc")).unwrap();
            symlink(outside.path().join("resolv.conf"), dir.join("etc/resolv.conf")).unwrap();
        })
        .bind(&source.path().join("resolv.conf"), "/etc/resolv.conf", true)
        .shell("true");
    assert!(matches!(ground.try_run(), Err(LaunchError::MountPoint { .. })));
    assert_eq!(fs::read_to_string(outside.path().join("resolv.conf")).unwrap(), "host");
}
