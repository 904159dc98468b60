//! An OCI runtime spec, made real: one sandbox for RUN, `run` and, later, `exec`.
//!
//! A [`Launch`] becomes a [plan](plan::Plan), a value: a list of operations. The parent prepares whatever can be prepared
//! (the overlay, its own `/dev`, binds, C strings, the seccomp program), and the child of a vfork-like clone carries
//! the rest out with raw system calls.

mod capability;
mod cgroup;
mod error;
mod idmap;
mod init;
mod launch;
mod launcher;
mod mount_options;
mod namespace;
pub mod plan;
mod prepare;
mod rlimit;
mod rootfs;
mod running;
mod sandbox;
mod seccomp;
mod terminal;

pub use capability::Capabilities;
pub use error::{LaunchError, OpenError, WaitError};
pub use idmap::IdMap;
pub use launch::{
    Bind, BindIdmap, CgroupSettings, Launch, Rootfs, SandboxSettings, Scratch, SeccompPolicy, Stdio,
};
pub use mount_options::Attributes;
pub use namespace::Namespaces;
pub use running::{Exit, Running};
pub use sandbox::Sandbox;
