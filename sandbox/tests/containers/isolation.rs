//! What a container can't see and can't do.

use std::fs;
use std::os::fd::AsRawFd;

use sandbox::{Exit, SeccompPolicy};
use sys::kernel::Feature;

use crate::ground::{Ground, has};

#[test]
#[ignore = "root: starts a container"]
fn root_inside_is_not_root_outside() {
    let mut ground = Ground::new().args(&["sleep", "1000"]);
    let (running, ..) = ground.start().unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
    let ids = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().skip(1).map(|id| id.parse::<u32>().unwrap()).collect::<Vec<_>>()
    };
    if has(Feature::Idmap) {
        assert_eq!(ids("Uid:"), [1_879_048_192; 4]);
        assert_eq!(ids("Gid:"), [1_879_048_192; 4]);
    } else {
        assert_eq!(ids("Uid:"), [0; 4]);
        assert!(crate::ground::sandbox().notes().iter().any(|note| note.contains("root on the host")));
    }
    assert_eq!(ids("Groups:"), [] as [u32; 0]);
    running.kill().unwrap();
    assert_eq!(running.wait().unwrap(), Exit::Signal(libc::SIGKILL));
}

#[test]
#[ignore = "root: starts a container"]
fn root_in_the_hosts_user_namespace_when_that_is_asked_for() {
    let mut ground = Ground::new().namespaces(false, false).shell("cat /proc/self/uid_map");
    let map: Vec<String> = ground.run().text().split_whitespace().map(str::to_owned).collect();
    assert_eq!(map, ["0", "0", "4294967295"]);
}

#[test]
#[ignore = "root: starts a container"]
fn root_only_the_capabilities_of_the_spec_are_held() {
    let status = "grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups)' /proc/self/status | tr -s '\\t ' ' '";
    let root = Ground::new().shell(status).run();
    // 14 of them; nothing to inherit.
    for line in [
        "CapInh: 0000000000000000",
        "CapPrm: 00000000a80425fb",
        "CapEff: 00000000a80425fb",
        "CapBnd: 00000000a80425fb",
        "CapAmb: 0000000000000000",
        "NoNewPrivs: 0",
        "Seccomp: 2",
    ] {
        assert!(root.text().contains(line), "{line}: {root:?}");
    }
    let user = Ground::new().user(1000, 1001, &[5, 33]).shell(&format!("{status}; id")).run();
    for line in [
        "CapPrm: 0000000000000000",
        "CapEff: 0000000000000000",
        "CapBnd: 00000000a80425fb",
        "Groups: 5 33",
        "uid=1000 gid=1001",
    ] {
        assert!(user.text().contains(line), "{line}: {user:?}");
    }
}

#[test]
#[ignore = "root: starts a container"]
fn root_no_new_privileges_comes_with_the_filter() {
    let mut ground =
        Ground::new().user(1000, 1000, &[]).shell("grep -E '^(NoNew|Seccomp:)' /proc/self/status");
    ground.spec["process"]["noNewPrivileges"] = true.into();
    let text = ground.run().text().replace('\t', " ");
    assert_eq!(text, "NoNewPrivs: 1\nSeccomp: 2");
}

#[test]
#[ignore = "root: starts a container"]
fn root_calls_that_give_holes_are_refused_by_the_filter() {
    let script = "unshare -m true; echo $?; unshare -U true; echo $?; mount -t tmpfs t /tmp; echo $?";
    let outcome = Ground::new().shell(script).run();
    assert_eq!(outcome.text(), "1\n1\n1", "{outcome:?}");
    assert_eq!(
        outcome.stderr.matches("Operation not permitted").count()
            + outcome.stderr.matches("permission denied").count(),
        3,
        "{outcome:?}"
    );
    // It is the filter and not missing capabilities: a user namespace takes none.
    let mut ground = Ground::new().shell("unshare -U true");
    ground.seccomp = SeccompPolicy::Unconfined;
    assert_eq!(ground.run().exit, Exit::Code(0));
}

#[test]
#[ignore = "root: starts a container"]
fn root_no_descriptor_but_stdio_is_inherited() {
    let leak = fs::File::open("/etc").unwrap();
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
    assert!(leak.as_raw_fd() > 2);
    // One more: the directory that ls reads.
    let outcome = Ground::new().args(&["ls", "/proc/self/fd"]).run();
    assert_eq!(outcome.text().split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    let cwd = Ground::new().shell("readlink /proc/self/cwd; readlink /proc/self/root").run();
    assert_eq!(cwd.text(), "/\n/");
}

#[test]
#[ignore = "root: starts a container"]
fn root_it_sees_its_own_processes_and_names_only() {
    let outcome =
        Ground::new().shell("echo $$; ls /proc | grep -c '^[0-9]'; hostname; ps -o pid,comm | wc -l").run();
    let lines: Vec<&str> = outcome.text().lines().collect();
    assert_eq!(lines[0], "1");
    assert!(lines[1].parse::<u32>().unwrap() <= 4, "{outcome:?}");
    assert_eq!(lines[2], "box");
    // A session of its own, whatever terminal the caller has.
    let session = Ground::new().shell("cut -d' ' -f5,6,7 /proc/1/stat").run();
    assert_eq!(session.text(), "1 1 0");
}

#[test]
#[ignore = "root: starts a container"]
fn root_nothing_of_the_host_is_mounted() {
    let outcome = Ground::new().shell("cat /proc/self/mountinfo").run();
    let points: Vec<&str> = outcome.text().lines().map(|line| line.split(' ').nth(4).unwrap()).collect();
    for point in &points {
        assert!(
            *point == "/" || ["/proc", "/sys", "/dev"].iter().any(|top| point.starts_with(top)),
            "{point} of {points:?}"
        );
    }
    assert_eq!(points[0], "/");
    assert!(points.len() < 40, "{points:?}");
    // Not even the names of where its layers lie.
    assert!(!outcome.text().contains("/tmp/"), "{outcome:?}");
}

#[test]
#[ignore = "root: starts a container"]
fn root_masked_paths_show_nothing_and_read_only_ones_cant_be_written() {
    let outcome = Ground::new()
        .shell(
            "wc -c < /proc/kcore; wc -c < /proc/keys; wc -c < /proc/interrupts; ls -A /sys/firmware | wc -l; \
             ls -A /proc/acpi | wc -l; stat -c %t:%T /proc/timer_list",
        )
        .run();
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines[..4], ["0", "0", "0", "0"], "{outcome:?}");
    assert!(fs::metadata("/proc/keys").unwrap().is_file() && !fs::read("/proc/keys").unwrap().is_empty());
    for path in ["/proc/sys/kernel/hostname", "/proc/sys/vm/swappiness", "/sys/kernel/mm/ksm/run", "/sys/x"] {
        let outcome = Ground::new().namespaces(false, false).shell(&format!("echo h > {path}")).run();
        assert_eq!(outcome.exit, Exit::Code(1));
        assert!(outcome.stderr.contains("Read-only file system"), "{path}: {outcome:?}");
    }
}

#[test]
#[ignore = "root: starts a container"]
fn root_dev_is_ours_and_has_the_listed_nodes_only() {
    let outcome = Ground::new()
        .layer(|dir| {
            fs::create_dir(dir.join("dev")).unwrap();
            fs::write(dir.join("dev/null"), "not a device").unwrap();
            fs::write(dir.join("dev/evil"), "").unwrap();
        })
        .shell("ls -A /dev | tr '\\n' ' '; stat -c ' %a' /dev; stat -c '%F %t:%T %a %u' /dev/null /dev/zero /dev/full \
                /dev/random /dev/urandom /dev/tty; readlink /dev/fd; readlink /dev/stdin; readlink /dev/ptmx; ls -d /dev/pts/ptmx; \
                echo x > /dev/null; echo y > /dev/shm/f && cat /dev/shm/f; head -c 3 /dev/zero | wc -c; touch /dev/new")
        .run();
    let lines: Vec<&str> = outcome.text().lines().collect();
    assert_eq!(
        lines[0], "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero  755",
        "{outcome:?}"
    );
    let nodes = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0)];
    for (line, (major, minor)) in lines[1..7].iter().zip(nodes) {
        assert_eq!(*line, format!("character special file {major}:{minor} 666 0"));
    }
    assert_eq!(lines[7..], ["/proc/self/fd", "/proc/self/fd/0", "pts/ptmx", "/dev/pts/ptmx", "y", "3"]);
}

#[test]
#[ignore = "root: starts a container"]
fn root_shared_device_nodes_cant_be_changed() {
    let outcome = Ground::new().shell("chmod 600 /dev/null; chown 1 /dev/zero; rm -f /dev/full").run();
    assert!(outcome.stderr.matches("Read-only file system").count() >= 2, "{outcome:?}");
    let after = Ground::new().shell("stat -c '%a %u' /dev/null /dev/zero").run();
    assert_eq!(after.text(), "666 0\n666 0");
}

#[test]
#[ignore = "root: makes a device node and starts a container"]
fn root_a_device_node_in_an_image_cant_be_opened() {
    for user in [true, false] {
        let outcome = Ground::new()
            .layer(|dir| {
                // The host's own null: harmless, but a disk's node would be opened in just the same way.
                let mode = rustix::fs::Mode::from_raw_mode(0o666);
                let kind = rustix::fs::FileType::CharacterDevice;
                let path = dir.join("node");
                rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, rustix::fs::makedev(1, 3)).unwrap();
            })
            .namespaces(false, user)
            .shell("stat -c %t:%T /node; cat /node; mknod /dev/mine c 1 3 && cat /dev/mine; exit 0")
            .run();
        assert_eq!(outcome.text(), "1:3");
        assert!(outcome.stderr.contains("can't open '/node': Permission denied"), "{outcome:?}");
        assert!(
            outcome.stderr.contains("/dev/mine: Operation not permitted")
                || outcome.stderr.contains("can't open '/dev/mine': Permission denied"),
            "{outcome:?}"
        );
    }
}

#[test]
#[ignore = "root: starts a container"]
fn root_sysfs_and_cgroups_of_the_host_are_not_shown() {
    for network in [true, false] {
        let outcome = Ground::new()
            .namespaces(network, true)
            .shell("cat /proc/self/cgroup; find /sys/fs/cgroup -maxdepth 2 | head -100; ls -A /sys/kernel/debug | wc -l")
            .run();
        for line in outcome.text().lines().filter(|line| line.contains("pids") && line.contains("::")) {
            assert!(line.ends_with(":/"), "{line}");
        }
        let host: Vec<String> = fs::read_dir("/sys/fs/cgroup/memory")
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        for name in host {
            assert!(!outcome.text().contains(&format!("/{name}")), "{name}: {outcome:?}");
        }
        assert!(outcome.text().ends_with("\n0"), "{outcome:?}");
        let write = Ground::new()
            .namespaces(network, true)
            .shell("mkdir /sys/fs/cgroup/x /sys/fs/cgroup/pids/x")
            .run();
        assert!(write.stderr.matches("Read-only").count() >= 1, "{write:?}");
    }
}

#[test]
#[ignore = "root: starts a container"]
fn root_no_network_means_loopback_only() {
    let outcome = Ground::new()
        .namespaces(true, true)
        .shell(
            "ls /sys/class/net; cat /sys/class/net/lo/flags; nc -l -p 80 & \
             until echo hi | nc -w 2 127.0.0.1 80 2>/dev/null; do sleep 0.05; done; wait; \
             nc -w 2 192.0.2.1 80 2>&1 | tail -1",
        )
        .run();
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines[0], "lo");
    // IFF_UP | IFF_LOOPBACK, at least.
    assert_eq!(lines[1], "0x9");
    assert_eq!(lines[2], "hi", "a low port: {outcome:?}");
    assert!(lines[3].contains("unreachable"), "{outcome:?}");
}

#[test]
#[ignore = "root: starts a container"]
fn root_the_hosts_network_is_the_hosts() {
    let inside = Ground::new().shell("readlink /proc/self/ns/net").run();
    let outside = fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(inside.text(), outside.to_str().unwrap());
    for kind in ["mnt", "pid", "ipc", "uts", "cgroup"] {
        let inside = Ground::new().shell(&format!("readlink /proc/self/ns/{kind}")).run();
        let outside = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_ne!(inside.text(), outside.to_str().unwrap());
    }
}

/// CVE-2022-24769: what the caller may inherit is not the container's.
#[test]
#[ignore = "root: starts containers"]
fn root_no_inheritable_capability_of_the_caller_passes_through() {
    use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
    // Capabilities are a thread's, and the launcher has those of the thread that opened the sandbox.
    if std::env::var_os("CALQUE_SANDBOX_TEST_ALONE").is_none() {
        let name = "isolation::root_no_inheritable_capability_of_the_caller_passes_through";
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--include-ignored", "--exact", name])
            .env("CALQUE_SANDBOX_TEST_ALONE", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let held = capabilities(None).unwrap();
    let inheritable = CapabilitySet::CHOWN | CapabilitySet::SYS_ADMIN;
    set_capabilities(None, CapabilitySets { inheritable, ..held }).unwrap();
    let status = "grep -E '^Cap(Inh|Amb)' /proc/self/status";
    for user in [false, true] {
        for ground in [Ground::new(), Ground::new().user(1000, 1000, &[])] {
            let outcome = ground.namespaces(false, user).shell(status).run();
            assert_eq!(
                outcome.text().split_whitespace().collect::<Vec<_>>(),
                ["CapInh:", "0000000000000000", "CapAmb:", "0000000000000000"],
                "{user}"
            );
        }
    }
}
