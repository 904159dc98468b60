//! System calls: the only crate with `unsafe`, one safe function for each call that `rustix` lacks.

#![allow(unsafe_code, reason = "this crate is where the unsafe code of the workspace lives")]

pub mod dir;
pub mod file;
pub mod kernel;
mod root_dir;
pub mod xattr;

pub use root_dir::RootDir;
