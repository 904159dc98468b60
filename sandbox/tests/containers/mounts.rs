//! Binds and memory.

use std::fs;

use sandbox::Exit;
use serde_json::json;

use crate::ground::Ground;

#[test]
#[ignore = "root: starts a container"]
fn root_files_and_directories_are_bound_in_order() {
    let source = tempfile::tempdir().unwrap();
    fs::create_dir(source.path().join("sub")).unwrap();
    fs::write(source.path().join("sub/inner"), "inner").unwrap();
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("file"), "other").unwrap();
    let outcome = Ground::new()
        .bind(source.path(), "/src", false)
        .bind(other.path(), "/src/sub", true)
        .bind(&other.path().join("file"), "/etc/passwd", true)
        .shell("cat /src/sub/file /etc/passwd; echo w > /src/w; touch /src/sub/x; echo > /etc/passwd; ls /src/sub")
        .run();
    assert_eq!(outcome.text(), "otherotherfile");
    assert_eq!(outcome.stderr.matches("Read-only file system").count(), 2, "{outcome:?}");
    assert!(source.path().join("w").exists());
}

#[test]
#[ignore = "root: mounts and starts a container"]
fn root_what_is_mounted_below_a_source_comes_along_as_read_only_as_it() {
    let source = tempfile::tempdir().unwrap();
    let below = source.path().join("a b/below");
    fs::create_dir_all(&below).unwrap();
    rustix::mount::mount(c"t", &below, c"tmpfs", rustix::mount::MountFlags::empty(), None::<&std::ffi::CStr>)
        .unwrap();
    fs::write(below.join("f"), "below").unwrap();
    let run = |recursive: bool, readonly: bool| {
        let mut ground = Ground::new().bind(source.path(), "/src", readonly);
        ground.binds[0].recursive = recursive;
        ground.shell("cat '/src/a b/below/f'; echo x > '/src/a b/below/g'; exit 0").run()
    };
    let results = std::panic::catch_unwind(|| {
        let along = run(true, true);
        assert_eq!(along.text(), "below");
        assert!(along.stderr.contains("Read-only file system"), "{along:?}");
        assert_eq!(run(true, false).stderr, "");
        assert!(below.join("g").exists());
        assert!(run(false, true).stderr.contains("No such file"), "not along");
    });
    rustix::mount::unmount(&below, rustix::mount::UnmountFlags::DETACH).unwrap();
    results.unwrap();
}

#[test]
#[ignore = "root: starts a container"]
fn root_a_bind_has_no_devices_and_no_setuid() {
    let source = tempfile::tempdir().unwrap();
    let outcome = Ground::new()
        .bind(source.path(), "/src", false)
        .shell("grep ' /src ' /proc/self/mountinfo | cut -d' ' -f6")
        .run();
    let options: Vec<&str> = outcome.text().split(',').collect();
    assert!(options.contains(&"nosuid") && options.contains(&"nodev"), "{outcome:?}");
}

#[test]
#[ignore = "root: starts a container"]
fn root_memory_is_mounted_with_its_size_and_mode() {
    let outcome = Ground::new()
        .mount(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["size=64k", "mode=1700"]}))
        .shell("stat -c '%a %u' /tmp; grep ' /tmp ' /proc/self/mountinfo | cut -d' ' -f6; \
                dd if=/dev/zero of=/tmp/f bs=1k count=100 2>/dev/null; stat -c %s /tmp/f; touch /tmp/g")
        .run();
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!((lines[0], lines[2]), ("1700 0", "65536"), "{outcome:?}");
    assert!(lines[1].contains("nosuid") && lines[1].contains("nodev"), "{outcome:?}");
}

#[test]
#[ignore = "root: starts a container"]
fn root_mount_points_in_our_own_memory_are_made() {
    let source = tempfile::tempdir().unwrap();
    fs::write(source.path().join("f"), "bound").unwrap();
    let outcome = Ground::new()
        .mount(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["ro"]}))
        .bind(source.path(), "/tmp/a/b", true)
        .bind(&source.path().join("f"), "/dev/x/secret", true)
        .shell("cat /tmp/a/b/f /dev/x/secret; touch /tmp/y")
        .run();
    assert_eq!(outcome.stdout, "boundbound", "{outcome:?}");
    assert_eq!(outcome.exit, Exit::Code(1), "a read-only tmpfs");
}
