//! What a caller hands over.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use oci_spec::runtime::Spec;

/// Everything that all containers of this process share.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SandboxSettings {}

/// What becomes the root file system.
#[derive(Debug)]
pub enum Rootfs {
    /// An overlay.
    Overlay {
        /// Directories, topmost first, opened `O_PATH`. May be empty.
        lowerdirs: Vec<OwnedFd>,
        /// Where its changes go. `None`: the root file system can't be written.
        scratch: Option<Scratch>,
    },
    /// A directory, opened `O_PATH` or for reading, which is written in place.
    Tree(OwnedFd),
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
    /// that, the bind is plain and [`Running::notes`](crate::Running::notes) says so.
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
    /// What the program inherits. Where the spec's process has a terminal it gets that one instead, and
    /// [`Running::terminal`](crate::Running::terminal) is the other end.
    pub stdio: Stdio,
    /// Which system calls it may make.
    pub seccomp: SeccompPolicy,
    /// Where it is accounted.
    pub cgroup: CgroupSettings,
}
