//! Locks between processes: `flock(2)` on files under RUNTIME/locks, freed by the kernel when their holder dies.

use crate::{FileError, StepKey, Store};

/// The right to execute one step; freed on drop.
#[derive(Debug)]
pub struct StepLock {}

/// A lock can't be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Its file can't be made or locked.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// Waits until nobody else executes the step `key`. `on_wait` is called once, before it waits.
    ///
    /// # Errors
    ///
    /// [`LockError`] when the lock's file can't be made.
    pub fn lock_step(&self, key: &StepKey, on_wait: &mut dyn FnMut()) -> Result<StepLock, LockError> {
        let _ = (key, on_wait);
        todo!()
    }

    /// The lock of step `key`, or nothing when somebody else has it: for callers that wait in their own way.
    ///
    /// # Errors
    ///
    /// [`LockError`] when the lock's file can't be made.
    pub fn try_lock_step(&self, key: &StepKey) -> Result<Option<StepLock>, LockError> {
        let _ = key;
        todo!()
    }
}
