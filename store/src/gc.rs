//! What may be deleted, and deleting it.

use crate::{FileError, IndexError, Store};

/// What a sweep removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Layers that nothing named.
    pub layers: u64,
    /// Containers of `--rm` whose process is gone.
    pub containers: u64,
    /// Names unlinked from the trash.
    pub trash_entries: u64,
}

/// Collecting failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GcError {
    /// The index fails.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A file can't be read or moved.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// Removes what nothing names and unlinks the trash. For after a command, in a detached process: slow.
    ///
    /// # Errors
    ///
    /// [`GcError`]; what was moved to the trash stays there for the next sweep.
    pub fn sweep(&self) -> Result<Swept, GcError> {
        todo!()
    }

    /// Drops cache records, all of them or those not used since `unused_since` (seconds since 1970), and then sweeps.
    ///
    /// # Errors
    ///
    /// [`GcError`] as for [`Store::sweep`].
    pub fn prune_cache(&self, unused_since: Option<i64>) -> Result<Swept, GcError> {
        let _ = unused_since;
        todo!()
    }
}
