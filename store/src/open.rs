//! Opening a store.

use std::path::PathBuf;
use std::sync::Arc;

use crate::FileError;

/// Who owns the files of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreMode {
    /// Root of the host: the trees carry the image's own ids.
    Root,
    /// An ordinary user, through a user namespace.
    Rootless,
}

/// Where a store lies and who opens it.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// What is kept: `/var/lib/calque` for root.
    pub root: PathBuf,
    /// Sockets and locks, gone with a reboot: `/run/calque/<store>` for root.
    pub runtime: PathBuf,
    /// Root refuses a rootless store and the reverse.
    pub mode: StoreMode,
}

/// Why a store can't be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A file of it can't be read or made.
    #[error(transparent)]
    File(#[from] FileError),
}

/// An open store. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) options: StoreOptions,
}

impl Store {
    /// Opens the store at `options.root`, makes it where there is none, moves what dead processes left to the
    /// trash and drops what another boot of the machine didn't make durable.
    ///
    /// # Errors
    ///
    /// [`OpenError`] where the folder is no store of this format and mode or lies on a network file system.
    pub fn open(options: StoreOptions) -> Result<Store, OpenError> {
        let _ = options;
        todo!()
    }

    /// What the store was opened with.
    pub fn options(&self) -> &StoreOptions {
        &self.inner.options
    }
}
