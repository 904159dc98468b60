use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;

use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::resolve::open_in_root;
use super::*;

fn text(text: &str) -> CString {
    CString::new(text).unwrap()
}

/// On a thread of its own with signals blocked, as the launcher does it.
fn spawn(mut program: Program, namespaces: Namespaces) -> Result<i32, SpawnError> {
    let _only = crate::serial();
    std::thread::spawn(move || {
        crate::process::block_signals().unwrap();
        let child = Spawner::new().unwrap().spawn(&mut program, namespaces, None)?;
        let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap();
        Ok(status.exit_status().unwrap())
    })
    .join()
    .unwrap()
}

fn shell(program: &mut Program, script: &str) {
    program.push(Step::Execute {
        paths: vec![text("/nowhere/sh"), text("/bin/sh")],
        argv: vec![text("sh"), text("-c"), text(script)],
        envp: vec![text("A=b")],
    });
}

#[test]
fn a_program_runs_with_its_arguments_and_environment() {
    let mut program = Program::new();
    shell(&mut program, "test \"$A\" = b && exit 7");
    assert_eq!(spawn(program, Namespaces::NONE).unwrap(), 7);
}

#[test]
fn the_program_starts_with_default_signals() {
    let mut program = Program::new();
    // Rust ignores SIGPIPE, and the spawning thread blocks everything.
    shell(
        &mut program,
        "test \"$(grep -E '^Sig(Blk|Ign)' /proc/self/status | tr -dc 1-9)\" = '' || exit 1; kill -TERM $$; exit 2",
    );
    let _only = crate::serial();
    let status = std::thread::spawn(move || {
        crate::process::block_signals().unwrap();
        let child = Spawner::new().unwrap().spawn(&mut program, Namespaces::NONE, None).unwrap();
        waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap()
    })
    .join()
    .unwrap();
    assert_eq!(status.terminating_signal(), Some(libc::SIGTERM));
}

#[test]
fn the_step_that_failed_is_named() {
    let mut program = Program::new();
    program.push(Step::Session);
    let closed = program.reserve();
    program.push(Step::Write { file: closed, bytes: b"0".to_vec() });
    shell(&mut program, "exit 0");
    match spawn(program, Namespaces::NONE) {
        Err(SpawnError::Step { step: 1, error }) => assert_eq!(error.raw_os_error(), Some(libc::EBADF)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_program_that_is_not_there_is_told_from_one_that_is_not_executable() {
    for (path, errno) in [("/nowhere/x", libc::ENOENT), ("/etc/passwd", libc::EACCES)] {
        let mut program = Program::new();
        program.push(Step::Execute { paths: vec![text(path)], argv: vec![text("x")], envp: vec![] });
        match spawn(program, Namespaces::NONE) {
            Err(SpawnError::Step { step: 0, error }) => {
                assert_eq!(error.raw_os_error(), Some(errno), "{path}")
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn no_descriptor_is_inherited_by_accident() {
    // Without close-on-exec, as another thread may have opened it.
    let leak = fs::File::open("/").unwrap();
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
    let mut program = Program::new();
    let proc = program.keep(fs::File::open("/proc").unwrap().into());
    program.push(Step::CloseAll { proc });
    // `ls` itself opens one to read the directory.
    shell(&mut program, "test \"$(ls /proc/self/fd | tr '\\n' ' ')\" = '0 1 2 3 '");
    assert_eq!(spawn(program, Namespaces::NONE).unwrap(), 0);
}

#[test]
fn a_walk_never_leaves_its_root() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("root");
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::write(root.join("a/file"), "inside").unwrap();
    fs::write(temp.path().join("secret"), "outside").unwrap();
    for (name, target) in [
        ("absolute", "/a/file"),
        ("up", "../../../a/file"),
        ("out", "../secret"),
        ("loop", "loop"),
        ("dir", "/a/b/../b"),
        ("chain", "dir/../../absolute"),
        ("a/b/nested", "/a/file"),
    ] {
        symlink(target, root.join(name)).unwrap();
    }
    let directory = fs::File::open(&root).unwrap();
    let open = |path: &str, follow| {
        let fd = open_in_root(directory.as_raw_fd(), path.as_bytes(), follow)?;
        let name = fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
        super::run::close(fd);
        Ok(name.strip_prefix(&root).expect("stays in the root").to_owned())
    };
    let in_kernel = |path: &str, follow: bool| {
        use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
        let mut resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        if !follow {
            resolve |= ResolveFlags::NO_SYMLINKS;
        }
        let fd = openat2(&directory, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
            .map_err(rustix::io::Errno::raw_os_error)?;
        let name = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
        Ok(name.strip_prefix(&root).unwrap().to_owned())
    };
    for path in [
        "/",
        ".",
        "..",
        "a",
        "a/",
        "a/file",
        "a/file/",
        "a/file/x",
        "/../../a/b/../file",
        "absolute",
        "up",
        "out",
        "loop",
        "dir",
        "dir/..",
        "chain",
        "missing",
        "a/missing/..",
        "a//b/./",
        "dir/../file",
        "a/b/nested",
        "dir/nested",
    ] {
        for follow in [true, false] {
            assert_eq!(open(path, follow), in_kernel(path, follow), "{path} {follow}");
        }
    }
    let deep = vec!["a"; 3000].join("/");
    assert_eq!(open(&deep, true), Err(libc::ENAMETOOLONG));
    assert_eq!(open(&"x".repeat(300), true), Err(libc::ENAMETOOLONG));
}

#[test]
fn a_walk_passes_no_link_on_procfs() {
    let root = fs::File::open("/").unwrap();
    for path in ["proc/self/root/etc", "proc/self/cwd", "proc/self/fd/0", "proc/thread-self"] {
        assert_eq!(open_in_root(root.as_raw_fd(), path.as_bytes(), true), Err(libc::ELOOP), "{path}");
    }
}

#[test]
fn the_parent_goes_on_only_when_the_child_has_its_own_memory() {
    use rustix::process::{DumpableBehavior, dumpable_behavior};
    {
        let _only = crate::serial();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::Dumpable);
        // The child stops in the middle of its steps, with our memory: nobody reads what it writes.
        let (read, write) = rustix::pipe::pipe().unwrap();
        let capacity = rustix::pipe::fcntl_getpipe_size(&write).unwrap();
        let mut program = Program::new();
        let file = program.keep(write);
        program.push(Step::Write { file, bytes: vec![b'x'; capacity] });
        program.push(Step::Write { file, bytes: b"y".to_vec() });
        shell(&mut program, "exit 0");
        let spawned = std::thread::spawn(move || {
            crate::process::block_signals().unwrap();
            let mut spawner = Spawner::new().unwrap();
            spawner.without_vfork = true;
            let child = spawner.spawn(&mut program, Namespaces::NONE, None).unwrap();
            waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
        });
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let is_full = || rustix::io::ioctl_fionread(&read).unwrap() == capacity as u64;
        while !is_full() {
            assert!(std::time::Instant::now() < end, "the child never wrote");
            std::thread::yield_now();
        }
        // It can't get further; a parent that didn't wait would set the flag back by now.
        for _ in 0..20 {
            assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert_eq!(rustix::io::read(&read, &mut [0_u8; 4096]).unwrap(), 4096);
        spawned.join().unwrap();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::Dumpable);
    }
}

#[test]
#[ignore = "root: mounts in a namespace of its own"]
fn root_a_working_directory_outside_of_the_root_is_refused() {
    let outside = tempfile::tempdir().unwrap();
    let point = outside.path().join("root");
    fs::create_dir(&point).unwrap();
    let tmpfs = crate::mount::FsContext::open(c"tmpfs").unwrap();
    tmpfs.create().unwrap();
    let mount = tmpfs.mount(crate::mount::MountAttrFlags::empty()).unwrap();
    let mut program = Program::new();
    let root = program.keep(mount);
    // A descriptor of the host, as CVE-2024-21626 had one.
    let leaked = program.keep(fs::File::open(outside.path()).unwrap().into());
    program.push(Step::AttachAt { mount: root, path: text(point.to_str().unwrap()) });
    program.push(Step::EnterRoot { root });
    program.push(Step::ChangeDirectory { root, path: text("/") });
    program.push(Step::ChangeDirectory { root: leaked, path: text(".") });
    let _only = crate::serial();
    let spawned = std::thread::spawn(move || {
        crate::process::block_signals().unwrap();
        crate::process::unshare_mounts().unwrap();
        Spawner::new().unwrap().spawn(&mut program, Namespaces::MOUNT, None)
    })
    .join()
    .unwrap();
    match spawned {
        Err(SpawnError::Step { step: 3, error }) => assert_eq!(error.raw_os_error(), Some(libc::EXDEV)),
        other => panic!("{other:?}"),
    }
}
