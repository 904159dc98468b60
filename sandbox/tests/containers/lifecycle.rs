//! Start, end, signals, limits, and what is left: nothing.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;

use sandbox::{Exit, LaunchError};
use serde_json::json;

use crate::ground::{DISABLE, Ground, open_path, until};

#[test]
#[ignore = "root: starts a container"]
fn root_the_end_is_told_as_it_was() {
    assert_eq!(Ground::new().shell("exit 7").run().exit, Exit::Code(7));
    // The shell forks for it; the first process itself is immune to signals that it doesn't handle.
    assert_eq!(Ground::new().shell("sh -c 'kill -9 $$'; exit $?").run().exit, Exit::Code(137));
    let outcome = Ground::new().args(&["sh", "-c", "echo out; echo err >&2"]).run();
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
}

#[test]
#[ignore = "root: starts a container"]
fn root_a_program_that_cant_run_is_told_by_its_reason() {
    for (program, errno) in [
        ("/nowhere", libc::ENOENT),
        ("nowhere", libc::ENOENT),
        ("/etc/passwd", libc::EACCES),
        ("/etc", libc::EACCES),
    ] {
        match Ground::new().args(&[program]).try_run() {
            Err(LaunchError::Exec { program: named, source }) => {
                assert_eq!((named.as_str(), source.raw_os_error()), (program, Some(errno)));
            }
            other => panic!("{program}: {other:?}"),
        }
    }
    let mut ground = Ground::new().shell("true");
    ground.spec["process"]["cwd"] = "/nowhere".into();
    assert!(matches!(ground.try_run(), Err(LaunchError::Cwd { .. })));
    let text = Ground::new().layer(|dir| {
        fs::write(dir.join("text"), "no program\n").unwrap();
        fs::set_permissions(dir.join("text"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    });
    match text.args(&["/text"]).try_run() {
        Err(LaunchError::Exec { source, .. }) => assert_eq!(source.raw_os_error(), Some(libc::ENOEXEC)),
        other => panic!("{other:?}"),
    }
}

#[test]
#[ignore = "root: starts a container"]
fn root_signals_reach_it_and_another_thread_can_kill_it() {
    let mut ground =
        Ground::new().shell("trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.01; done");
    let (running, mut out, _) = ground.start().unwrap();
    until("ready", || crate::ground::read(&mut out).contains("ready"));
    running.signal(libc::SIGTERM).unwrap();
    assert_eq!(running.wait().unwrap(), Exit::Code(3));
    assert_eq!(running.wait().unwrap(), Exit::Code(3), "again");
    running.signal(libc::SIGTERM).unwrap();

    let (running, ..) = Ground::new().args(&["sleep", "1000"]).start().unwrap();
    let running = Arc::new(running);
    let waiting = std::thread::spawn({
        let running = running.clone();
        move || running.wait().unwrap()
    });
    running.kill().unwrap();
    assert_eq!(waiting.join().unwrap(), Exit::Signal(libc::SIGKILL));
}

#[test]
#[ignore = "root: starts a container"]
fn root_every_process_ends_with_the_first_and_nothing_stays_mounted() {
    let marker = format!("{}", 100_000 + std::process::id());
    let mut ground = Ground::new().shell(&format!(
        "(setsid sleep {marker} & ) ; setsid sh -c 'trap \"\" TERM HUP; sleep {marker}' & sleep 0.1; echo up"
    ));
    let (running, ..) = ground.start().unwrap();
    running.wait().unwrap();
    assert_eq!(testutil::processes_with_argument(&marker).len(), 0);
    // The upper becomes a lower: it must not be in use.
    let mut again = Ground::new().shell("true");
    again.lowers.insert(0, ground.upper(""));
    again.run().text();
    let (running, ..) = Ground::new().args(&["sleep", &marker]).start().unwrap();
    assert_eq!(testutil::processes_with_argument(&marker).len(), 1);
    drop(running);
    assert_eq!(testutil::processes_with_argument(&marker).len(), 0);
}

#[test]
#[ignore = "root: starts containers and watches this process"]
fn root_a_launch_leaves_no_descriptor_child_or_mount() {
    // On its own in a process: other tests open and close things.
    if std::env::var_os("CALQUE_SANDBOX_TEST_ALONE").is_none() {
        let name = "lifecycle::root_a_launch_leaves_no_descriptor_child_or_mount";
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--include-ignored", "--exact", name])
            .env("CALQUE_SANDBOX_TEST_ALONE", "1")
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before_mounts = mounts();
    Ground::new().run().text();
    let before = descriptors();
    for _ in 0..5 {
        Ground::new().namespaces(true, true).run().text();
        let _ = Ground::new().args(&["/nowhere"]).try_run().unwrap_err();
        let mut missing = Ground::new();
        missing.spec["process"]["cwd"] = "/nowhere".into();
        let _ = missing.try_run().unwrap_err();
    }
    assert_eq!(descriptors(), before);
    assert_eq!(mounts(), before_mounts);
    assert!(testutil::descendants(std::process::id()).is_empty());
    let dumpable = rustix::process::dumpable_behavior().unwrap();
    assert_eq!(dumpable, rustix::process::DumpableBehavior::Dumpable, "what the child changed is set back");
}

/// A process that starts a container and waits for it, to be killed.
#[test]
#[ignore = "root: a part of the next test"]
fn root_victim() {
    if std::env::var_os("CALQUE_SANDBOX_TEST_VICTIM").is_none() {
        return;
    }
    let mut ground = Ground::new().args(&["sleep", &std::env::var("CALQUE_SANDBOX_TEST_VICTIM").unwrap()]);
    if std::env::var_os("CALQUE_SANDBOX_TEST_INHERIT").is_some() {
        ground.cgroup = sandbox::CgroupSettings::Inherit;
    }
    let (running, ..) = ground.start().unwrap();
    // After the harness's own lines.
    std::fs::write("/dev/stderr", format!("container {}\n", running.pid())).unwrap();
    running.wait().unwrap();
}

#[test]
#[ignore = "root: kills a process that has a container"]
fn root_a_container_dies_with_the_process_that_started_it() {
    // Without a cgroup of its own, which another test would sweep, it is the kernel alone that ends it.
    kill_a_victim(true);
    let victim = kill_a_victim(false);
    // Its cgroups are left, until somebody opens a sandbox.
    let left = || cgroups(&format!("calque-{victim}-")).len();
    sandbox::Sandbox::open(sandbox::SandboxSettings::default()).unwrap();
    assert_eq!(left(), 0);
}

/// Returns its process ID when it and its container have ended.
fn kill_a_victim(inherits_cgroup: bool) -> u32 {
    let marker = format!("{}", 200_000 + std::process::id());
    let mut command = Command::new(std::env::current_exe().unwrap());
    if inherits_cgroup {
        command.env("CALQUE_SANDBOX_TEST_INHERIT", "1");
    }
    let mut victim = command
        .args(["--include-ignored", "--exact", "--nocapture", "lifecycle::root_victim"])
        .env("CALQUE_SANDBOX_TEST_VICTIM", &marker)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(victim.stderr.take().unwrap()).lines();
    let line = lines.find_map(|line| line.unwrap().strip_prefix("container ").map(str::to_owned)).unwrap();
    let pid: i32 = line.parse().unwrap();
    let start = sys::process::start_time(pid).unwrap().expect("it runs");
    victim.kill().unwrap();
    victim.wait().unwrap();
    until("the container has ended", || sys::process::start_time(pid).unwrap() != Some(start));
    victim.id()
}

/// Cgroups of containers whose name begins so, in every hierarchy of the host.
fn cgroups(prefix: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![std::path::PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| !prefix.is_empty() && name.starts_with(prefix)) {
                found.push(entry.path());
            }
            pending.push(entry.path());
        }
    }
    found
}

#[test]
#[ignore = "root: makes cgroups"]
fn root_limits_hold_and_are_told() {
    let mut ground = Ground::new().shell("for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; exit 0");
    ground.spec["linux"]["resources"] = json!({"pids": {"limit": 5}});
    let outcome = ground.run();
    assert!(outcome.stderr.contains("can't fork"), "{outcome:?}");

    let mut ground = Ground::new().shell("exec tail -c 200m /dev/zero");
    ground.spec["linux"]["resources"] = json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}});
    let (running, ..) = ground.start().unwrap();
    assert!(!running.oom_killed());
    assert_eq!(running.wait().unwrap(), Exit::Signal(libc::SIGKILL));
    assert!(running.oom_killed());

    let mut ground =
        Ground::new().shell("cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max; exit 0");
    ground.spec["linux"]["resources"] = json!({"cpu": {"quota": 50000, "period": 100_000}});
    assert!(ground.run().text().starts_with("50000"));

    let mut ground = Ground::new();
    ground.spec["linux"]["resources"] = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]});
    assert!(matches!(ground.try_run(), Err(LaunchError::Unsupported { .. })));
}

#[test]
#[ignore = "root: makes cgroups"]
fn root_cgroups_go_with_the_container() {
    let own = format!("calque-{}-", std::process::id());
    let (running, ..) = Ground::new().args(&["sleep", "1000"]).start().unwrap();
    let pid = running.pid();
    // It is in them from before it runs.
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path =
        text.lines().find_map(|line| line.split(':').nth(2).filter(|path| path.contains(&own))).unwrap();
    let name = path.rsplit('/').next().unwrap().to_owned();
    assert!(!cgroups(&name).is_empty());
    drop(running);
    let same = |path: &std::path::PathBuf| path.file_name().is_some_and(|last| last == name.as_str());
    assert!(!cgroups(&name).iter().any(same));
}

#[test]
#[ignore = "root: starts a container"]
fn root_limits_of_the_process_are_set_and_a_refusal_is_a_note() {
    let mut ground = Ground::new().shell("ulimit -Sn; ulimit -Hn; umask");
    let outcome = ground.run();
    assert!(outcome.text().starts_with("1024\n") && outcome.text().ends_with("\n0022"), "{outcome:?}");
    assert!(outcome.notes.is_empty(), "{outcome:?}");
    let mut ground = Ground::new().shell("ulimit -Sn");
    // More than /proc/sys/fs/nr_open allows anyone.
    ground.spec["process"]["rlimits"] =
        json!([{"type": "RLIMIT_NOFILE", "soft": 1_u64 << 40, "hard": 1_u64 << 40}]);
    let outcome = ground.run();
    assert_ne!(outcome.text(), "");
    assert!(outcome.notes.iter().any(|note| note.contains("nofile")), "{outcome:?}");
}

#[test]
#[ignore = "root: starts containers"]
fn root_many_threads_may_start_containers_at_once() {
    let threads: Vec<_> = (0..8)
        .map(|number| {
            std::thread::spawn(move || {
                for _ in 0..5 {
                    let outcome = Ground::new().shell(&format!("exit {number}")).run();
                    assert_eq!(outcome.exit, Exit::Code(number));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
#[ignore = "root: starts a container"]
fn root_stdin_is_read() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("in"), "hello").unwrap();
    let mut ground = Ground::new().args(&["cat"]);
    ground.stdin = Some(fs::File::open(dir.path().join("in")).unwrap().into());
    assert_eq!(ground.run().text(), "hello");
    let _ = open_path(dir.path());
}

#[test]
#[ignore = "root: starts a container"]
fn root_a_pipe_of_stdio_can_be_opened_by_its_name() {
    use std::io::Write;
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"hello").unwrap();
    drop(writer);
    let mut ground = Ground::new().shell("cat < /dev/stdin");
    ground.stdin = Some(reader.into());
    let outcome = ground.run();
    assert_eq!(outcome.text(), "hello", "{outcome:?}");
}

#[test]
#[ignore = "root: attaches to this process"]
fn root_nobody_can_look_into_a_process_that_is_starting_containers() {
    // While the launcher works, another thread watches the flag: it must be down whenever a child shares our memory.
    // The children are seen by the kernel's own list.
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    static DONE: AtomicBool = AtomicBool::new(false);
    static MET: AtomicUsize = AtomicUsize::new(0);
    if std::env::var_os("CALQUE_SANDBOX_TEST_ALONE").is_none() {
        let name = "lifecycle::root_nobody_can_look_into_a_process_that_is_starting_containers";
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--include-ignored", "--exact", name])
            .env("CALQUE_SANDBOX_TEST_ALONE", "1")
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    // Making the user namespace takes a child as well, before there is any container that could look.
    crate::ground::sandbox();
    let exe = std::env::current_exe().unwrap();
    let watcher = std::thread::spawn(move || {
        let (mut shared, mut seen_dumpable) = (0, 0);
        while !DONE.load(Ordering::Relaxed) {
            for child in testutil::descendants(std::process::id()) {
                // Before execve the child is this very program.
                if fs::read_link(format!("/proc/{child}/exe")).is_ok_and(|target| target == exe) {
                    let dumpable = rustix::process::dumpable_behavior().unwrap();
                    // Still the same: the answer is about a moment at which both held.
                    if fs::read_link(format!("/proc/{child}/exe")).is_ok_and(|target| target == exe) {
                        shared += 1;
                        MET.store(shared, Ordering::Relaxed);
                        seen_dumpable += usize::from(dumpable == rustix::process::DumpableBehavior::Dumpable);
                    }
                }
            }
        }
        (shared, seen_dumpable)
    });
    // On a busy machine the watcher needs longer to meet one.
    let mut started = 0;
    while started < 300 || (MET.load(Ordering::Relaxed) == 0 && started < 10_000) {
        Ground::new().run().text();
        started += 1;
    }
    DONE.store(true, Ordering::Relaxed);
    let (shared, seen_dumpable) = watcher.join().unwrap();
    assert!(shared > 0, "the watcher never met a child");
    assert_eq!(seen_dumpable, 0, "of {shared}");
}

#[test]
fn the_name_of_the_switch_is_not_calques_own() {
    assert_ne!(DISABLE, "CALQUE_DISABLE");
}
