//! What a caller hands over and gets back.

use std::ffi::CString;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use oci_spec::runtime::Spec;

/// Everything that all containers of this process share.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SandboxSettings {}

/// The layers under a root file system, and where its changes go.
#[derive(Debug)]
pub struct Rootfs {
    /// Directories, topmost first, opened `O_PATH`. May be empty.
    pub lowerdirs: Vec<OwnedFd>,
    /// `None`: the root file system can't be written.
    pub scratch: Option<Scratch>,
}

/// Where changes go: a directory that holds an empty workdir and the upperdir, under one mount.
#[derive(Debug)]
pub struct Scratch {
    /// Opened `O_PATH` or for reading.
    pub dir: OwnedFd,
    /// Name of the upperdir in `dir`.
    pub upper: CString,
    /// Name of the workdir in `dir`. Each mount needs a new one: a volatile overlay leaves its mark in it.
    pub work: CString,
}

/// A file or directory of the host that the container sees.
#[derive(Debug)]
pub struct Bind {
    /// The file or directory, opened `O_PATH` by the caller in its own root.
    pub source: OwnedFd,
    /// Absolute path in the root file system; symlinks are followed inside of it. It must exist.
    pub target: PathBuf,
    /// Whether it, and what is mounted below it, can't be written.
    pub readonly: bool,
    /// Which ids the container sees.
    pub idmap: BindIdmap,
    /// Whether what is mounted below the source comes along.
    pub recursive: bool,
}

/// Which ids the container sees on a bind mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BindIdmap {
    /// The ids on disk are the ids inside: root in the container acts as root there. Where the file system can't do
    /// that, the bind is plain and [`Running::notes`] says so.
    Identity,
    /// The host's ids: in a container with a user namespace of its own everything belongs to nobody.
    Plain,
}

/// The three descriptors that the program inherits, and no others.
#[derive(Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Stdio {
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

/// Which system calls the program may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SeccompPolicy {
    /// The built-in allow-list.
    #[default]
    Default,
    /// All that its capabilities allow.
    Unconfined,
}

/// Where the container's processes are accounted. Limits are the spec's `linux.resources`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum CgroupSettings {
    /// In a cgroup of its own below the caller's, removed when it has ended.
    #[default]
    Own,
    /// In the caller's.
    Inherit,
}

/// One process to start in one root file system.
#[derive(Debug)]
pub struct Launch {
    /// Process, namespaces, mounts of kernel file systems and tmpfs, masked paths, limits.
    pub spec: Spec,
    /// Layers and where changes go.
    pub rootfs: Rootfs,
    /// In this order, after the spec's own mounts.
    pub binds: Vec<Bind>,
    /// What the program inherits.
    pub stdio: Stdio,
    /// Which system calls it may make.
    pub seccomp: SeccompPolicy,
    /// Where it is accounted.
    pub cgroup: CgroupSettings,
}

/// How a container's first process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this status.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

/// The sandbox can't be used at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A part that every container needs could not be made.
    #[error("cannot prepare the sandbox: {what}")]
    Prepare {
        /// What was attempted.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// A container did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The spec asks for what this sandbox doesn't do.
    #[error("not supported by the sandbox: {what}")]
    Unsupported {
        /// The field of the spec and its value.
        what: String,
    },
    /// The spec or the launch contradicts itself.
    #[error("invalid container settings: {what}")]
    Invalid {
        /// What is wrong.
        what: String,
    },
    /// The kernel takes no more layers.
    #[error("the image has {count} layers: overlayfs takes at most {limit}")]
    TooManyLayers {
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The root file system could not be mounted.
    #[error("cannot mount the root file system: {op}{}", .log.as_deref().map(|log| format!(" (kernel: {log})")).unwrap_or_default())]
    Overlay {
        /// What was attempted.
        op: &'static str,
        /// What the kernel said about it.
        log: Option<String>,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The root file system came up read-only although it has an upperdir.
    #[error("the root file system came up read-only")]
    ReadOnly,
    /// A bind's source could not be cloned.
    #[error("cannot bind onto `{}`", target.display())]
    Bind {
        /// Path in the root file system.
        target: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A mount point is missing, or is not what is to be mounted on it (a directory or a file, or for kernel file
    /// systems: a symlink).
    #[error("cannot mount on `{}` in the root file system", target.display())]
    MountPoint {
        /// Path in the root file system.
        target: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The working directory is missing or is no directory.
    #[error("cannot enter the working directory `{}`", path.display())]
    Cwd {
        /// Path in the root file system.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The program can't be run: not found (`ENOENT`: 127), or not executable (126).
    #[error("cannot run `{program}`")]
    Exec {
        /// As given.
        program: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A cgroup can't be made, or a limit can't be set.
    #[error("cannot {op} `{}`", path.display())]
    Cgroup {
        /// What was attempted.
        op: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The parent could not prepare something.
    #[error("cannot prepare the container: {what}")]
    Prepare {
        /// What was attempted.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// An operation in the child failed.
    #[error("cannot set the container up: `{op}`")]
    Setup {
        /// The operation, as the plan prints it.
        op: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The container was killed before its program ran.
    #[error("the container was killed while it was set up")]
    Killed,
}

/// The end of a container could not be learned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The kernel refused to say.
    #[error("cannot wait for process {pid}")]
    Wait {
        /// Its process ID.
        pid: i32,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Starts containers.
///
/// A cheap handle: clones share the user namespace, the device template and the thread from which all are started
/// (parent-death signals fire when the *thread* ends, so it lives as long as any handle or [`Running`]).
#[derive(Clone, Debug)]
pub struct Sandbox {}

impl Sandbox {
    /// Probes the kernel and prepares what all containers share. Removes what sandboxes of dead processes left.
    pub fn open(settings: SandboxSettings) -> Result<Self, OpenError> {
        let _ = settings;
        todo!()
    }

    /// Degraded modes that the user should know of, a sentence each.
    pub fn notes(&self) -> Vec<String> {
        todo!()
    }

    /// Starts a container and returns when its program runs.
    pub fn launch(&self, launch: Launch) -> Result<Running, LaunchError> {
        let _ = launch;
        todo!()
    }
}

/// A container that has started. May be shared: one thread waits while another one signals.
///
/// Dropping it kills the container and waits for its end.
#[derive(Debug)]
pub struct Running {}

impl Running {
    /// Process ID of its first process, as the host sees it.
    pub fn pid(&self) -> i32 {
        todo!()
    }

    /// A descriptor of its first process: readable (`poll`) when that has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        todo!()
    }

    /// What was degraded for this container only, a sentence each.
    pub fn notes(&self) -> &[String] {
        todo!()
    }

    /// Sends a signal to its first process. No error when it has ended.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let _ = signal;
        todo!()
    }

    /// Kills every process of the container at once.
    pub fn kill(&self) -> io::Result<()> {
        todo!()
    }

    /// Waits until every process of the container has gone and its root file system is unmounted. May be called again.
    pub fn wait(&self) -> Result<Exit, WaitError> {
        todo!()
    }
}
