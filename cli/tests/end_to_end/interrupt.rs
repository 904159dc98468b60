//! Ctrl-C, a failing step, a full disk.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{BOTH_KERNELS, Calque, Kernel, build_arguments};
use testutil::{LeakCheck, Requirement, descendants};

#[test]
#[ignore = "root: starts containers"]
fn root_ctrl_c_in_a_run_leaves_nothing() {
    for kernel in BOTH_KERNELS {
        let calque = Calque::with_busybox(kernel);
        let context = calque.context(
            "app",
            &[(
                "Dockerfile",
                "FROM busybox\nRUN trap '' INT TERM; echo here-$((40+2)); sleep 1000 & sleep 1001; wait\n",
            )],
        );
        let mut started = calque.start(build_arguments(&context, "app", &[]));
        started.wait_for("here-42");
        let children = descendants(started.pid());
        assert!(!children.is_empty());
        let interrupted = Instant::now();
        started.signal(rustix::process::Signal::INT);
        let outcome = started.wait();
        let took = interrupted.elapsed();
        assert_eq!(outcome.code, 130, "{}", outcome.stderr);
        assert!(took < Duration::from_secs(1), "{kernel:?}: it took {took:?}");
        let alive: Vec<_> =
            children.into_iter().filter(|pid| Path::new(&format!("/proc/{pid}")).exists()).collect();
        assert!(alive.is_empty(), "still there: {alive:?}");
        calque.assert_nothing_mounted();
        // The store is clean: nothing in flight is left after the next command.
        calque.ok(["image", "ls"]);
        assert_eq!(in_flight(calque.store()), Vec::<String>::new());
    }
}

#[test]
#[ignore = "root: starts containers"]
fn root_signals_reach_the_container() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let mut started = calque.start([
        "run",
        "--rm",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "trap 'echo got-it; exit 7' TERM; echo ready; while :; do sleep 0.05; done",
    ]);
    started.wait_for("ready");
    started.signal(rustix::process::Signal::TERM);
    let outcome = started.wait();
    assert_eq!((outcome.code, outcome.stdout.contains("got-it")), (7, true), "{outcome:?}");
}

#[test]
#[ignore = "root: starts containers"]
fn root_a_container_dies_with_its_calque() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let mut started = calque.start([
        "run",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "echo ready; sleep 1000; :",
        "marker-dies",
    ]);
    started.wait_for("ready");
    started.signal(rustix::process::Signal::KILL);
    started.wait().assert_code(137);
    // By the kernel, or by the sweep of the next command.
    calque.ok(["ps", "-a"]);
    LeakCheck::new(calque.dir()).with_argument("marker-dies").assert_clean(Duration::from_secs(10));
}

#[test]
#[ignore = "root: mounts a small file system for the store"]
fn root_a_full_disk_is_one_clear_error() {
    assert!(testutil::require(Requirement::Root));
    let outside = tempfile::tempdir().unwrap();
    let disk = outside.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mount =
        |arguments: &[&str]| assert!(Command::new("mount").args(arguments).status().unwrap().success());
    mount(&["-t", "tmpfs", "-o", "size=24m", "tmpfs", disk.to_str().unwrap()]);
    let result = std::panic::catch_unwind(|| {
        let calque = Calque::new(Kernel::Newest).at_store(disk.join("store"));
        calque.ok(["load", "-q", "-i", testutil::busybox_archive().to_str().unwrap()]);
        let run = calque
            .context("run", &[("Dockerfile", "FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count=40\n")]);
        let failed = calque.run(build_arguments(&run, "big", &[]));
        failed.assert_code(1);
        assert!(failed.stderr.contains("No space left on device"), "{}", failed.stderr);

        let copy = calque.context("copy", &[("Dockerfile", "FROM busybox\nCOPY big /\n")]);
        fs::write(copy.join("big"), vec![7; 40 << 20]).unwrap();
        let failed = calque.run(build_arguments(&copy, "big", &[]));
        failed.assert_code(1);
        assert!(failed.stderr.to_lowercase().contains("no space left on device"), "{}", failed.stderr);

        // What was there is there, and what was half made makes room again: a sweeper unlinks it.
        let deadline = Instant::now() + Duration::from_secs(20);
        while fs::read_dir(disk.join("store/trash")).unwrap().next().is_some() {
            assert!(Instant::now() < deadline, "the trash is not emptied");
            std::thread::sleep(Duration::from_millis(10));
        }
        let small = calque.context("small", &[("Dockerfile", "FROM busybox\nRUN echo ok > /ok\n")]);
        calque.build(&small, "small");
        assert_eq!(calque.shell("small", "cat /ok"), "ok\n");
    });
    let unmounted = Command::new("umount").arg(&disk).status().unwrap().success();
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
    assert!(unmounted, "the store's disk is still in use");
}

/// Names in the store's folder of things in flight, but for its own bookkeeping.
/// What lies in `tmp/` and stays there: the process that tidies up after a command has things there for a moment.
pub(crate) fn in_flight(store: &Path) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let names: Vec<String> = fs::read_dir(store.join("tmp"))
            .map(|entries| {
                entries
                    .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
                    .collect()
            })
            .unwrap_or_default();
        if names.is_empty() || Instant::now() > deadline {
            return names;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
