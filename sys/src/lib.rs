//! System calls: the only crate with `unsafe`, one safe function for each call that `rustix` lacks.

#![allow(unsafe_code, reason = "this crate is where the unsafe code of the workspace lives")]

pub mod child;
pub mod dir;
pub mod file;
pub mod kernel;
pub mod mount;
pub mod process;
mod raw;
mod root_dir;
mod stack;
pub mod xattr;

pub use root_dir::RootDir;

/// For tests that change or watch what belongs to the whole process.
#[cfg(test)]
fn serial() -> std::sync::MutexGuard<'static, ()> {
    static LOCK: std::sync::Mutex<()> = std::sync::Mutex::new(());
    LOCK.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
