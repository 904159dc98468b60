//! Whose files are whose, on disk and inside.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use sandbox::LaunchError;
use sys::kernel::Feature;

use crate::ground::{Ground, has};

fn owner(path: &Path) -> (u32, u32) {
    let metadata = fs::symlink_metadata(path).unwrap();
    (metadata.uid(), metadata.gid())
}

#[test]
#[ignore = "root: starts a container"]
fn root_ids_on_disk_are_the_ids_inside() {
    let mut ground = Ground::new().shell(
        "echo a > /root/a && chown 1000:1001 /etc/passwd && mkdir /d && chown 5:7 /d && touch /far && \
         chown 1516583083:2147483646 /far && chmod 4755 /bin/true && stat -c '%u:%g' /root/a /etc/passwd /d /far / \
         /bin/true",
    );
    let outcome = ground.run();
    assert_eq!(outcome.text(), "0:0\n1000:1001\n5:7\n1516583083:2147483646\n0:0\n0:0");
    assert_eq!(owner(&ground.upper("root/a")), (0, 0));
    assert_eq!(owner(&ground.upper("etc/passwd")), (1000, 1001));
    assert_eq!(owner(&ground.upper("d")), (5, 7));
    assert_eq!(owner(&ground.upper("far")), (1_516_583_083, 2_147_483_646));
    assert_eq!(owner(&ground.upper("bin/true")), (0, 0));
    assert_eq!(fs::metadata(ground.upper("bin/true")).unwrap().permissions().mode() & 0o7777, 0o4755);
}

#[test]
#[ignore = "root: starts a container"]
fn root_removals_leave_whiteouts_and_opaque_directories() {
    let mut ground = Ground::new()
        .layer(|dir| {
            fs::create_dir_all(dir.join("old/deep")).unwrap();
            fs::write(dir.join("old/deep/file"), "").unwrap();
        })
        .shell("rm /etc/passwd && rm -r /old && mkdir /old && touch /old/new && mv /etc/group /etc/moved");
    ground.run().text();
    let whiteout = fs::symlink_metadata(ground.upper("etc/passwd")).unwrap();
    assert_eq!((whiteout.mode() & libc::S_IFMT, whiteout.rdev()), (libc::S_IFCHR, 0));
    let mut value = [0_u8; 8];
    let length =
        rustix::fs::lgetxattr(ground.upper("old"), "trusted.overlay.opaque", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"y");
    // No file without its data, no name that points at another.
    assert!(fs::metadata(ground.upper("etc/moved")).unwrap().len() > 0);
}

#[test]
#[ignore = "root: starts a container"]
fn root_setuid_programs_work_inside() {
    let outcome = Ground::new()
        .layer(|dir| {
            fs::create_dir(dir.join("bin")).unwrap();
            fs::copy("/bin/busybox", dir.join("bin/su")).unwrap();
            fs::set_permissions(dir.join("bin/su"), fs::Permissions::from_mode(0o4755)).unwrap();
            fs::create_dir(dir.join("etc")).unwrap();
            fs::write(dir.join("etc/passwd"), "root::0:0:root:/root:/bin/sh\nu:x:1000:1000::/:/bin/sh\n")
                .unwrap();
            fs::write(dir.join("etc/shadow"), "root::1::::::\n").unwrap();
        })
        .user(1000, 1000, &[])
        .shell("/bin/su -c 'id -u; touch /root/proof' root")
        .run();
    assert_eq!(outcome.text(), "0", "{outcome:?}");
}

#[test]
#[ignore = "root: starts a container"]
fn root_users_are_kept_from_each_others_files() {
    let mut ground =
        Ground::new().user(1000, 1000, &[]).shell("echo x > /tmp/mine; cat /etc/shadow; ls /root; exit 0");
    let ground_with_shadow = |dir: &Path| {
        fs::create_dir(dir.join("etc")).unwrap();
        fs::write(dir.join("etc/shadow"), "secret").unwrap();
        fs::set_permissions(dir.join("etc/shadow"), fs::Permissions::from_mode(0o600)).unwrap();
    };
    let outcome = {
        ground = ground.layer(ground_with_shadow);
        ground.run()
    };
    assert_eq!(outcome.text(), "");
    assert_eq!(outcome.stderr.matches("ermission denied").count(), 2, "{outcome:?}");
    assert_eq!(owner(&ground.upper("tmp/mine")), (1000, 1000));
}

#[test]
#[ignore = "root: starts a container"]
fn root_in_a_bind_acts_as_the_invoking_user() {
    let source = tempfile::tempdir().unwrap();
    fs::write(source.path().join("theirs"), "1234's").unwrap();
    std::os::unix::fs::chown(source.path().join("theirs"), Some(1234), Some(1234)).unwrap();
    fs::set_permissions(source.path().join("theirs"), fs::Permissions::from_mode(0o600)).unwrap();
    let outcome = Ground::new()
        .bind(source.path(), "/src", false)
        .shell(
            "cat /src/theirs; echo mine > /src/mine; chown 1234 /src/mine; echo too > /src/too; \
                stat -c %u /src /src/theirs /src/mine; cp /bin/busybox /src/s; chmod 4755 /src/s",
        )
        .run();
    assert_eq!(outcome.text(), "1234's0\n1234\n1234", "{outcome:?}");
    assert_eq!(owner(&source.path().join("mine")), (1234, 0));
    assert_eq!(owner(&source.path().join("too")), (0, 0));
    if has(Feature::Idmap) {
        assert!(outcome.notes.is_empty(), "{outcome:?}");
    }
}

#[test]
#[ignore = "root: starts a container"]
fn root_a_read_only_root_can_be_run_and_not_written() {
    let mut ground = Ground::new().shell("echo x > /x; echo $?; mkdir /dev/shm/y && echo fine");
    ground.scratch = false;
    assert_eq!(ground.run().text(), "1\nfine");
    let mut ground = Ground::new().shell("echo x > /x; echo $?");
    ground.spec["root"]["readonly"] = true.into();
    let outcome = ground.run();
    assert_eq!(outcome.text(), "1");
    assert!(outcome.stderr.contains("Read-only file system"), "{outcome:?}");
    // One layer alone, and none at all.
    let mut ground = Ground::new().shell("true");
    ground.lowers = vec![];
    assert!(matches!(ground.try_run(), Err(LaunchError::MountPoint { .. })));
}

#[test]
#[ignore = "root: mounts 400 layers"]
fn root_many_layers_are_mounted_and_too_many_refused() {
    let top = tempfile::tempdir().unwrap();
    let with = |count: usize| {
        let mut ground = Ground::new().shell("cat /f0 /f199");
        let mut lowers: Vec<_> = (0..count)
            .map(|index| {
                let dir = top.path().join(format!("{count}-{index}"));
                fs::create_dir(&dir).unwrap();
                fs::write(dir.join(format!("f{index}")), format!("{index} ")).unwrap();
                dir
            })
            .collect();
        lowers.append(&mut ground.lowers);
        ground.lowers = lowers;
        ground
    };
    assert_eq!(with(400).run().text(), "0 199");
    match with(499).try_run() {
        Err(LaunchError::TooManyLayers { count: 501, limit: 500 }) => {}
        other => panic!("{other:?}"),
    }
}
