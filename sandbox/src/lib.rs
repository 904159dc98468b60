//! An OCI runtime spec, made real: one sandbox for RUN, `run` and, later, `exec`.
//!
//! A [`Launch`] becomes a list of operations, a value; the parent prepares whatever can be prepared
//! (the overlay, its own `/dev`, binds, C strings, the seccomp program), and the child of a vfork-like clone carries
//! the rest out with raw system calls.

mod launch;

pub use launch::{
    Bind, BindIdmap, CgroupSettings, Exit, Launch, LaunchError, OpenError, Rootfs, Running, Sandbox, SandboxSettings,
    Scratch, SeccompPolicy, Stdio, WaitError,
};
