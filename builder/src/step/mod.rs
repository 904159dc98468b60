//! The steps that make layers, an executor for each instruction.

mod add;
mod chmod;
pub(crate) mod copier;
pub(crate) mod copy;
pub(crate) mod files;
mod output;
pub(crate) mod picture;
mod remote;
mod reuse;
mod run;
pub(crate) mod select;
mod users;
mod workdir;

pub(crate) use copier::write_failed;
pub(crate) use copy::copy;
pub(crate) use run::run;
pub(crate) use workdir::workdir;
