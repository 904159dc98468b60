//! Containers in the foreground: a record, an upperdir and a process.
//!
//! [`create`] makes the record, [`start`] snapshots the image's layers under the container's own upperdir and launches
//! its first process, [`Foreground`] follows it to its end, [`remove`] takes all of it away. There is no monitor yet:
//! the process that starts a container is its parent, and the container dies with it.

mod bind;
mod create;
mod lifecycle;
mod name;
mod remove;
mod settings;
mod start;

pub use bind::{BindError, BindSpec};
pub use create::{CreateError, CreateOptions, Network, create};
pub use lifecycle::{exit_code, launch_exit_code};
pub use name::random_name;
pub use remove::{RemoveError, remove, sweep, wrote_files};
pub use settings::{Mount, Settings, SettingsError};
pub use start::{EndError, Foreground, HostFiles, StartError, Streams, start};
