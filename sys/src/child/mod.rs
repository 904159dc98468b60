//! A process that sets itself up by a list of steps and then runs a program.
//!
//! A process with threads must not fork: locks held by other threads stay locked in the copy, and copying the page
//! tables of a big process takes milliseconds. Here the child shares our memory (`CLONE_VM`), runs on a stack of its
//! own while the calling thread is suspended (`CLONE_VFORK`), and does nothing but the system calls of a [`Program`]
//! that was completed before: no allocation, no lock, no formatting, no `errno`. What failed comes back through
//! memory.

mod clone;
mod resolve;
mod run;

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64};

pub use clone::{Namespaces, Spawner};

/// A descriptor in a [`Program`]: one that it owns, or one that the child will open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle(usize);

/// Which symlinks a path may lead through. Magic links (`/proc/PID/fd/N`) never are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// Any; absolute ones start at the root that the path is relative to.
    Links,
    /// None at all.
    Nothing,
}

/// A kernel file system to make and mount.
#[derive(Clone, Debug)]
pub struct NewFs {
    /// Its type.
    pub fstype: CString,
    /// Options without a value.
    pub flags: Vec<CString>,
    /// Options with a value.
    pub strings: Vec<(CString, CString)>,
    /// `MOUNT_ATTR_*`.
    pub attributes: u32,
}

/// The three sets of `capset(2)`, a bit for each capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct CapabilitySets {
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
}

/// One instruction of a BPF program: `struct sock_filter`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the kernel's names")]
pub struct BpfInstruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// One thing that the child does.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each step's sentence says what its fields are")]
pub enum Step {
    /// Becomes the leader of a new session: `setsid(2)`.
    Session,
    /// Takes stdin as its controlling terminal: `ioctl(TIOCSCTTY)`.
    ControllingTerminal,
    /// Writes to an open file.
    Write { file: Handle, bytes: Vec<u8> },
    /// Writes to a file below a directory; the last component is not followed.
    WriteIn { dir: Handle, path: CString, bytes: Vec<u8> },
    /// Leaves namespaces (`CLONE_NEW*`): `unshare(2)`.
    Unshare(u32),
    /// `sethostname(2)`.
    Hostname(Vec<u8>),
    /// `setdomainname(2)`.
    Domainname(Vec<u8>),
    /// Sets the loopback link of the present network namespace up.
    LoopbackUp,
    /// Puts a detached mount on a path of the mount namespace that the child was born with.
    AttachAt { mount: Handle, path: CString },
    /// Mounts a kernel file system, detached.
    MountNew { fs: NewFs, into: Handle },
    /// Clones what lies at a path of the mount namespace that the child was born with.
    CloneAt { path: CString, into: Handle },
    /// Clones what lies at a path below a directory of our making, in which there are no links.
    CloneIn { dir: Handle, path: CString, into: Handle },
    /// Puts a detached mount on a path below `root`; when links may lead there, not on procfs or sysfs.
    Attach { mount: Handle, root: Handle, path: CString, follow: Follow },
    /// Hides a path below `root`, if there is one: a directory by a clone of `directory`, anything else by a clone
    /// of `file` (paths of the mount namespace that the child was born with).
    Mask { root: Handle, path: CString, file: CString, directory: CString },
    /// Makes a path below `root`, if there is one, and what is mounted below it read-only. `descriptors` is where
    /// the child sees its own `/proc/self/fd/`, for kernels without `mount_setattr`.
    ReadOnly { root: Handle, path: CString, descriptors: CString },
    /// Makes `root`, a mount that is attached, the root directory and lets go of the old one.
    EnterRoot { root: Handle },
    /// Makes a path in `root`, by now the root directory, the working directory, and checks that it lies below it.
    ChangeDirectory { root: Handle, path: CString },
    /// Sets a limit. Where the hard limit can't be raised, as far as it goes; see [`Spawned::clamped`].
    Limit { resource: u32, soft: u64, hard: u64 },
    /// Makes these the descriptors 0, 1 and 2.
    Stdio { stdin: Handle, stdout: Handle, stderr: Handle },
    /// Enters a user namespace: `setns(2)`.
    EnterUserNamespace(Handle),
    /// Drops from the bounding set all that aren't in `keep`, up to capability `last`; clears the secure bits and the
    /// ambient set.
    Bound { keep: u64, last: u32 },
    /// `setgroups(2)`.
    Groups(Vec<u32>),
    /// `setresgid(2)`, all three.
    Group(u32),
    /// `setresuid(2)`, all three, with the permitted capabilities kept.
    User(u32),
    /// `capset(2)`.
    Capabilities(CapabilitySets),
    /// `prctl(PR_SET_NO_NEW_PRIVS)`.
    NoNewPrivileges,
    /// `seccomp(2)`; holds from here on. Needs `CAP_SYS_ADMIN` or no new privileges.
    Seccomp(Vec<BpfInstruction>),
    /// `umask(2)`.
    Umask(u32),
    /// Kills the child when the thread that started it ends. Cleared by each change of ids, so it comes after them.
    /// `parent` is a pidfd of this process: when that has ended before, the child ends at once.
    DieWithParent { parent: Handle },
    /// Closes every descriptor from 3 on. `proc` is a mounted proc, for kernels without `close_range`.
    CloseAll { proc: Handle },
    /// Runs the first of the paths that exists and is executable: `execve(2)`. Signals are all set to their default
    /// and none is blocked.
    Execute { paths: Vec<CString>, argv: Vec<CString>, envp: Vec<CString> },
}

/// The steps of a child, and the descriptors that they use.
#[derive(Debug, Default)]
pub struct Program {
    steps: Vec<Step>,
    kept: Vec<(usize, OwnedFd)>,
    handles: usize,
    // Pointers into `steps`, for execve; rebuilt when the program starts.
    vectors: Vec<run::Vectors>,
}

impl Program {
    /// No steps yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a descriptor into the program; it is closed with it.
    pub fn keep(&mut self, fd: OwnedFd) -> Handle {
        let handle = self.reserve();
        self.kept.push((handle.0, fd));
        handle
    }

    /// A name for what the child will open.
    pub fn reserve(&mut self) -> Handle {
        self.handles += 1;
        Handle(self.handles - 1)
    }

    /// Appends a step and returns its index.
    pub fn push(&mut self, step: Step) -> usize {
        self.steps.push(step);
        self.steps.len() - 1
    }

    fn descriptors(&self) -> Vec<AtomicI32> {
        let table: Vec<AtomicI32> = (0..self.handles).map(|_| AtomicI32::new(-1)).collect();
        for (index, fd) in &self.kept {
            table[*index].store(fd.as_raw_fd(), std::sync::atomic::Ordering::Relaxed);
        }
        table
    }
}

/// What the child tells us.
#[derive(Debug)]
struct Report {
    /// Index of the step that failed, or `NOTHING`.
    step: AtomicU32,
    errno: AtomicI32,
    /// Limits of which not even the soft value could be set, a bit for each resource.
    clamped: AtomicU64,
}

const NOTHING: u32 = u32::MAX;

/// A child whose program runs.
#[derive(Debug)]
pub struct Spawned {
    /// Its process ID here.
    pub pid: i32,
    /// A descriptor of it: readable when it has ended.
    pub pidfd: OwnedFd,
    /// Limits (`RLIMIT_*` as bit numbers) that are lower than asked, the soft value too.
    pub clamped: u64,
}

/// A child that did not come to run its program. It is gone.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// There was none.
    #[error("cannot clone a process")]
    Clone(#[source] io::Error),
    /// One of its steps failed.
    #[error("step {step} failed in the child")]
    Step {
        /// Index of the step.
        step: usize,
        /// The kernel's answer.
        #[source]
        error: io::Error,
    },
}

#[cfg(test)]
mod tests;
