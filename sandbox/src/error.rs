//! What can go wrong.

use std::io;
use std::path::PathBuf;

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
    /// The thread that starts containers is gone.
    #[error("the thread that starts containers has ended")]
    NoLauncher,
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
    /// No process could be made.
    #[error("cannot start a process for the container")]
    Clone {
        /// The kernel's answer.
        source: io::Error,
    },
    /// The thread that starts containers is gone.
    #[error("the thread that starts containers has ended")]
    NoLauncher,
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
