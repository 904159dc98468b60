//! Root in the container is not root on the host, and the user's files stay the user's.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::harness::{BOTH_KERNELS, Calque, Kernel};
use testutil::descendants;

/// The first host id that container root maps to.
const CONTAINER_ROOT: u32 = 1_879_048_192;

/// Uids (real, effective, saved, file system) of a host process.
fn uids(pid: u32) -> Vec<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    line.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

/// The host pid of the container's process whose arguments contain `marker`.
fn container_process(calque_pid: u32, marker: &str) -> u32 {
    descendants(calque_pid)
        .into_iter()
        .find(|pid| {
            fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.split(|byte| *byte == 0).any(|word| word == marker.as_bytes()))
        })
        .expect("the container's process is a descendant of calque")
}

#[test]
#[ignore = "root: starts containers"]
fn root_in_the_container_is_not_root_on_the_host() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let mut started = calque.start([
        "run",
        "--rm",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "id -u; sleep 1000; :",
        "marker-1",
    ]);
    started.wait_for("0\n");
    let pid = container_process(started.pid(), "marker-1");
    assert_eq!(uids(pid), [CONTAINER_ROOT; 4]);
    started.signal(rustix::process::Signal::KILL);
    drop(started);
    calque.ok(["ps", "-a"]);
}

#[test]
#[ignore = "root: starts containers"]
fn root_in_a_build_step_is_not_root_on_the_host() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let context = calque
        .context("app", &[("Dockerfile", "FROM busybox\nRUN echo here-$((40+2)); sleep 1000; : marker-2\n")]);
    let mut started = calque.start(crate::harness::build_arguments(&context, "app", &[]));
    started.wait_for("here-42");
    let pid = descendants(started.pid())
        .into_iter()
        .find(|pid| {
            fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("marker-2"))
        })
        .expect("the step's process is a descendant of calque");
    assert_eq!(uids(pid), [CONTAINER_ROOT; 4]);
}

#[test]
#[ignore = "root: starts containers"]
fn root_with_the_hosts_user_namespace_it_is() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let mut started = calque.start([
        "run",
        "--rm",
        "--userns",
        "host",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "id -u; sleep 1000; :",
        "marker-3",
    ]);
    started.wait_for("0\n");
    assert_eq!(uids(container_process(started.pid(), "marker-3")), [0; 4]);
}

#[test]
#[ignore = "root: starts containers"]
fn root_the_trees_keep_the_images_ids() {
    for kernel in BOTH_KERNELS {
        let calque = Calque::with_busybox(kernel);
        let context = calque.context(
            "app",
            &[("Dockerfile", "FROM busybox\nRUN echo x > /owned-by-1000 && chown 1000:100 /owned-by-1000 && echo x > /owned-by-0\n")],
        );
        calque.build(&context, "app");
        let mut owners = Vec::new();
        for layer in fs::read_dir(calque.store().join("layers")).unwrap() {
            for name in ["owned-by-1000", "owned-by-0"] {
                if let Ok(metadata) = fs::metadata(layer.as_ref().unwrap().path().join("tree").join(name)) {
                    owners.push((name, metadata.uid(), metadata.gid()));
                }
            }
        }
        assert_eq!(owners, [("owned-by-1000", 1000, 100), ("owned-by-0", 0, 0)], "{kernel:?}");
        assert_eq!(calque.shell("app", "stat -c %u:%g /owned-by-1000 /owned-by-0"), "1000:100\n0:0\n");
    }
}

#[test]
#[ignore = "root: starts containers"]
fn root_a_bind_mount_is_writable_and_its_new_files_are_the_users() {
    for kernel in BOTH_KERNELS {
        let calque = Calque::with_busybox(kernel);
        let source = calque.context("src", &[("given.txt", "given\n")]);
        // The invoking user is root here; others' files keep their owners.
        std::os::unix::fs::chown(source.join("given.txt"), Some(4321), Some(4321)).unwrap();
        let volume = format!("{}:/src", source.display());
        let output = calque.ok([
            "run",
            "--rm",
            "--network",
            "none",
            "-v",
            &volume,
            "-w",
            "/src",
            "busybox",
            "sh",
            "-c",
            "cat given.txt && echo made > made.txt && mkdir dir && stat -c %u given.txt",
        ]);
        assert_eq!(output.stdout, "given\n4321\n");
        let made = fs::metadata(source.join("made.txt")).unwrap();
        assert_eq!(
            (made.uid(), made.gid()),
            (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
        );
        assert_eq!(fs::read_to_string(source.join("made.txt")).unwrap(), "made\n");
        assert_eq!(fs::metadata(source.join("dir")).unwrap().uid(), rustix::process::geteuid().as_raw());

        let read_only = format!("{}:/src:ro", source.display());
        let refused = calque.run([
            "run",
            "--rm",
            "--network",
            "none",
            "-v",
            &read_only,
            "busybox",
            "sh",
            "-c",
            "echo x > /src/no",
        ]);
        assert_eq!(refused.code, 1);
        assert!(refused.stderr.contains("Read-only file system"), "{}", refused.stderr);
    }
}

#[test]
#[ignore = "root: starts containers"]
fn root_the_step_sees_nothing_of_the_host() {
    for kernel in BOTH_KERNELS {
        let calque = Calque::with_busybox(kernel);
        let seen = calque.shell(
            "busybox",
            "ls /proc | grep -c '^[0-9]'; ls -d /proc/self/fd/* | wc -l; cat /proc/self/cgroup | sed 's/.*://' | sort -u; \
             (echo x > /proc/sys/kernel/hostname) 2>&1 | sed 's/.*: //'; (mount -t tmpfs x /tmp) 2>&1 | sed 's/.*: //'; \
             grep -c . /proc/kcore 2>&1 | tail -n 1; grep CapEff /proc/self/status; grep Seccomp: /proc/self/status; grep NoNewPrivs /proc/self/status",
        );
        let lines: Vec<&str> = seen.lines().collect();
        assert!(lines[0].parse::<u32>().unwrap() <= 4, "only its own processes: {seen}");
        assert!(lines.contains(&"/"), "its cgroup is the root of its namespace: {seen}");
        assert!(seen.contains("Read-only file system"), "{seen}");
        assert!(seen.contains("Operation not permitted") || seen.contains("ermission denied"), "{seen}");
        assert!(seen.contains("CapEff:\t00000000a80425fb"), "docker's 14 capabilities: {seen}");
        assert!(seen.contains("Seccomp:\t2"), "{seen}");
        // No layer is named in its view of the mounts; of the store only the files that are its own.
        let mounts = calque.shell("busybox", "cat /proc/self/mountinfo");
        let layers = calque.store().join("layers");
        assert!(!mounts.contains(layers.to_str().unwrap()), "{mounts}");
    }
}
