use super::*;

/// A session under systemd on a host with version 2 alone.
const SESSION: &str = "0::/user.slice/user-0.slice/session-1.scope\n";
const MOUNT_V2: &str =
    "24 23 0:22 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

fn unified(own: &str, top: &str) -> Option<Unified> {
    Some(Unified { own: own.into(), top: top.into() })
}

#[test]
fn version_2_alone_is_found() {
    let found = Hierarchies::parse(SESSION, MOUNT_V2);
    assert_eq!(
        found.unified,
        unified("/sys/fs/cgroup/user.slice/user-0.slice/session-1.scope", "/sys/fs/cgroup")
    );
    assert_eq!(found.legacy, []);
    // In a cgroup namespace of its own.
    let found = Hierarchies::parse("0::/\n", MOUNT_V2);
    assert_eq!(found.unified, unified("/sys/fs/cgroup/", "/sys/fs/cgroup"));
}

#[test]
fn hybrid_hosts_have_both() {
    let cgroups = "3:cpu,cpuacct:/system.slice/ssh.service\n2:pids:/system.slice/ssh.service\n\
                   1:name=systemd:/system.slice/ssh.service\n0::/system.slice/ssh.service\n";
    let mounts = "30 29 0:26 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
                  31 29 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                  32 29 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                  33 29 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                  34 29 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
    let found = Hierarchies::parse(cgroups, mounts);
    let hierarchy = |controllers: &[&str], own: &str| Hierarchy {
        controllers: controllers.iter().map(|&name| name.to_owned()).collect(),
        own: own.into(),
    };
    assert_eq!(
        found.legacy,
        [
            hierarchy(&["cpu", "cpuacct"], "/sys/fs/cgroup/cpu,cpuacct/system.slice/ssh.service"),
            hierarchy(&["pids"], "/sys/fs/cgroup/pids/system.slice/ssh.service"),
        ]
    );
    assert_eq!(
        found.unified,
        unified("/sys/fs/cgroup/unified/system.slice/ssh.service", "/sys/fs/cgroup/unified")
    );
}

#[test]
fn a_mount_that_shows_another_part_of_the_hierarchy_is_passed_over() {
    let elsewhere = "40 23 0:22 /other.slice /mnt/other rw - cgroup2 cgroup2 rw\n";
    let found = Hierarchies::parse(SESSION, &format!("{elsewhere}{MOUNT_V2}"));
    assert_eq!(found.unified.unwrap().top, Path::new("/sys/fs/cgroup"));
    assert_eq!(Hierarchies::parse(SESSION, elsewhere).unified, None);
    // The part that is ours: a container in the host's cgroup namespace.
    let part = "40 23 0:22 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
    let found = Hierarchies::parse("0::/docker/abc/inner\n", part);
    assert_eq!(found.unified, unified("/sys/fs/cgroup/inner", "/sys/fs/cgroup"));
}

#[test]
fn a_cgroup_outside_of_the_namespace_has_no_place() {
    // Else these would be `/sys/fs/cgroup/../../elsewhere`.
    assert_eq!(Hierarchies::parse("0::/../../elsewhere\n", MOUNT_V2).unified, None);
    assert_eq!(Hierarchies::parse("2:pids:/../x\n", "33 29 0:29 / /p rw - cgroup c rw,pids\n").legacy, []);
    // A mount from before the namespace shows more than it does.
    let outer = "24 23 0:22 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    assert_eq!(Hierarchies::parse("0::/\n", outer).unified, None);
}

#[test]
fn names_in_the_mount_table_are_unescaped() {
    let mounts = "24 23 0:22 /a\\040b /mnt/c\\040d rw - cgroup2 cgroup2 rw\n";
    assert_eq!(Hierarchies::parse("0::/a b/x\n", mounts).unified, unified("/mnt/c d/x", "/mnt/c d"));
}

#[test]
fn nonsense_is_no_hierarchy() {
    for (cgroups, mounts) in
        [("", ""), ("0\n0:\n::\n", MOUNT_V2), (SESSION, "24 23\n - cgroup2\n1 2 3 / - cgroup2 x\n")]
    {
        let found = Hierarchies::parse(cgroups, mounts);
        assert_eq!(found.legacy, [], "{cgroups:?}");
        assert!(found.unified.is_none_or(|place| place.own.starts_with("/sys/fs/cgroup")), "{cgroups:?}");
    }
}

/// A tree of plain files that looks like version 2: path, controllers, those enabled below, whether it holds processes.
fn tree(groups: &[(&str, &str, &str, bool)]) -> tempfile::TempDir {
    let top = tempfile::tempdir().unwrap();
    for (path, controllers, enabled, busy) in groups {
        let directory = top.path().join(path);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("cgroup.controllers"), controllers).unwrap();
        fs::write(directory.join("cgroup.subtree_control"), enabled).unwrap();
        fs::write(directory.join("cgroup.procs"), if *busy { "1\n2\n" } else { "" }).unwrap();
        if !path.is_empty() {
            fs::write(directory.join("cgroup.type"), "domain\n").unwrap();
        }
    }
    top
}

const ALL: &str = "cpuset cpu io memory pids";

/// Where a cgroup is made for a process in `own`, relative to the top.
fn made(top: &tempfile::TempDir, own: &str, controllers: &[(&str, bool)]) -> Result<Option<String>, String> {
    let place = Unified { own: top.path().join(own), top: top.path().to_owned() };
    let made = v2::make(&place, "calque-1-2-3", controllers).map_err(|error| error.to_string())?;
    Ok(made.map(|path| path.strip_prefix(top.path()).unwrap().to_str().unwrap().to_owned()))
}

#[test]
fn a_limit_is_set_beside_a_cgroup_that_holds_processes() {
    // A session: the kernel enables nothing below it, since we are in it.
    let groups = [
        ("", ALL, "cpu memory pids", true),
        ("user.slice", "cpu memory pids", "memory pids", false),
        ("user.slice/session.scope", "memory pids", "", true),
    ];
    let own = "user.slice/session.scope";
    let top = tree(&groups);
    assert_eq!(made(&top, own, &[("memory", true)]), Ok(Some("user.slice/calque-1-2-3".into())));
    // Already enabled there: nothing is changed.
    let enabled = fs::read_to_string(top.path().join("user.slice/cgroup.subtree_control")).unwrap();
    assert_eq!(enabled, "memory pids");
    // To be enabled there first.
    let top = tree(&groups);
    assert_eq!(made(&top, own, &[("cpu", true)]), Ok(Some("user.slice/calque-1-2-3".into())));
    let enabled = fs::read_to_string(top.path().join("user.slice/cgroup.subtree_control")).unwrap();
    assert!(enabled.starts_with("+cpu"), "{enabled}");
    // Without a limit our own will do.
    let top = tree(&groups);
    assert_eq!(
        made(&top, own, &[("pids", false), ("memory", false)]),
        Ok(Some(format!("{own}/calque-1-2-3")))
    );
}

#[test]
fn a_delegated_cgroup_without_processes_is_used_itself() {
    let own = "user.slice/user@1.service/app.slice";
    let top = tree(&[("", ALL, ALL, true), ("user.slice", ALL, ALL, false), (own, "memory pids", "", false)]);
    assert_eq!(made(&top, own, &[("memory", true)]), Ok(Some(format!("{own}/calque-1-2-3"))));
    // What wasn't delegated is looked for above.
    assert_eq!(made(&top, own, &[("cpu", true)]), Ok(Some("user.slice/calque-1-2-3".into())));
}

#[test]
fn the_root_may_hold_processes() {
    let top = tree(&[("", ALL, "", true)]);
    assert_eq!(made(&top, "", &[("pids", true)]), Ok(Some("calque-1-2-3".into())));
}

#[test]
fn a_limit_that_cant_be_is_an_error_and_no_limit_is_none() {
    let top = tree(&[("", "hugetlb", "hugetlb", true)]);
    let error = made(&top, "", &[("memory", true)]).unwrap_err();
    assert!(error.contains("enable the limits in"), "{error}");
    // Nothing can be made, as on a cgroupfs that can't be written.
    assert_eq!(made(&top, "gone", &[("memory", false)]), Ok(None));
    let top = tree(&[("", ALL, "", true)]);
    fs::remove_file(top.path().join("cgroup.subtree_control")).unwrap();
    assert!(made(&top, "", &[("memory", true)]).is_err());
    assert_eq!(fs::read_dir(top.path()).unwrap().filter(|e| e.as_ref().unwrap().path().is_dir()).count(), 0);
}

#[test]
fn a_controller_is_known_if_it_is_anywhere_above() {
    let top = tree(&[("", ALL, "memory", true), ("a", "memory", "", true)]);
    let place = Unified { own: top.path().join("a"), top: top.path().to_owned() };
    assert!(place.has("memory") && place.has("cpu") && !place.has("rdma"));
    // Never above the mount.
    let above = Unified { own: top.path().join("a"), top: top.path().join("a") };
    assert!(above.has("memory") && !above.has("cpu"));
}

#[test]
fn names_of_cgroups_say_who_made_them() {
    assert_eq!(parse_name(&name(12, 345, 6)), Some((12, 345)));
    for other in ["calque", "calque-1-2", "calque-1-2-3-4", "calque-a-2-3", "x-1-2-3", "calque--1-2"] {
        assert_eq!(parse_name(other), None, "{other}");
    }
}
