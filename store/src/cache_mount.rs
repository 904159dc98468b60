//! Cache mounts: folders that outlive the steps that mount them.

use std::os::fd::BorrowedFd;

use serde::{Deserialize, Serialize};

use crate::{FileError, Store};

/// How steps that run at once share a cache mount (Dockerfile reference, `--mount=type=cache`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// All use it at once.
    Shared,
    /// Each gets one of its own.
    Private,
    /// One at a time, the others wait.
    Locked,
}

/// A cache mount in use, locked as its sharing says until it is dropped.
#[derive(Debug)]
pub struct CacheMount {}

/// A cache mount as listings show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheMountRecord {
    /// Who shares it.
    pub scope: String,
    /// Its id as the Dockerfile has it.
    pub id: String,
    /// When it was made, RFC 3339.
    pub created: String,
}

/// A cache mount can't be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheMountError {
    /// A file of it can't be made, opened or locked.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// The cache mount `id` of `scope`, made where there is none. `on_wait` is called once, before it waits for a
    /// [`Sharing::Locked`] one that another step uses.
    ///
    /// # Errors
    ///
    /// [`CacheMountError`] when it can't be made or locked.
    pub fn cache_mount(
        &self,
        scope: &str,
        id: &str,
        sharing: Sharing,
        on_wait: &mut dyn FnMut(),
    ) -> Result<CacheMount, CacheMountError> {
        let _ = (scope, id, sharing, on_wait);
        todo!()
    }

    /// All cache mounts.
    ///
    /// # Errors
    ///
    /// [`CacheMountError`] when they can't be read.
    pub fn cache_mounts(&self) -> Result<Vec<CacheMountRecord>, CacheMountError> {
        todo!()
    }
}

impl CacheMount {
    /// Its folder, an `O_PATH` descriptor: the source of the bind.
    pub fn data_fd(&self) -> BorrowedFd<'_> {
        todo!()
    }

    /// Whether it was made just now, so that `from=`, `mode=`, `uid=` and `gid=` have to be applied.
    pub fn is_new(&self) -> bool {
        todo!()
    }
}
