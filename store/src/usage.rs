//! What the store takes on disk.

use crate::{FileError, Store};

/// What the store takes on disk, as `system df` shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Images and the layers they name.
    pub images: UsageGroup,
    /// Containers' uppers and logs.
    pub containers: UsageGroup,
    /// Layers that only cache records name, and cache mounts.
    pub build_cache: UsageGroup,
    /// All of the store's folder, as `du` counts it.
    pub total_bytes: u64,
}

/// One line of `system df`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsageGroup {
    /// How many there are.
    pub count: u64,
    /// How many are in use.
    pub active: u64,
    /// Bytes on disk.
    pub size_bytes: u64,
    /// Bytes that a prune would free.
    pub reclaimable_bytes: u64,
}

/// Usage can't be counted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UsageError {
    /// A file can't be read.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// Counts what the store takes; layers count as recorded, what can change is walked.
    ///
    /// # Errors
    ///
    /// [`UsageError`] when a folder can't be read.
    pub fn usage(&self) -> Result<Usage, UsageError> {
        todo!()
    }
}
