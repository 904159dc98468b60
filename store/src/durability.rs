//! Volatile and durable.

use crate::{FileError, Store};

/// The store can't be made durable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettleError {
    /// A file can't be synced or marked.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// Syncs the store's file system and marks what was there before as durable: it then survives a crash of the
    /// machine. For after a command, in a detached process; push, save and `--durable` wait for it.
    ///
    /// # Errors
    ///
    /// [`SettleError`]; what isn't marked stays volatile.
    pub fn settle(&self) -> Result<(), SettleError> {
        todo!()
    }
}
