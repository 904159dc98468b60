//! Test support, used only as a dev-dependency: golden files, probes of the machine, a tiny base image,
//! checks for what a test left behind, and the host's package-registry settings for `RUN`.
//!
//! Nothing here depends on another crate of the workspace, so that any of them can use it in its tests.

mod golden;
mod leak;
mod machine;
mod registry_settings;
mod rootfs;
mod seed;

pub use golden::{assert_golden, assert_golden_with};
pub use leak::{LeakCheck, Mount, descendants, mounts_below, processes_with_argument};
pub use machine::{Requirement, is_strict, require};
pub use registry_settings::RegistrySettings;
pub use rootfs::{busybox_archive, busybox_rootfs, debian_archive, workspace_dir};
pub use seed::Seed;
