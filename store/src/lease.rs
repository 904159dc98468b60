//! What live processes hold.

use crate::{FileError, LayerId, Store};

/// Layers that this process holds: nothing collects them until it is dropped or the process ends.
#[derive(Debug)]
pub struct Lease {
    _store: Store,
}

/// A lease can't be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// The layer isn't in the store (any more).
    #[error("no layer `{0}` in the store")]
    Missing(LayerId),
    /// The file of this process's leases can't be written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// A lease that holds nothing yet.
    ///
    /// # Errors
    ///
    /// [`LeaseError`] when this process's file of leases can't be made.
    pub fn lease(&self) -> Result<Lease, LeaseError> {
        todo!()
    }
}

impl Lease {
    /// Holds `layers` too: all of them, or none where one is missing.
    ///
    /// # Errors
    ///
    /// [`LeaseError::Missing`] names the first that isn't there.
    pub fn hold(&mut self, layers: &[LayerId]) -> Result<(), LeaseError> {
        let _ = layers;
        todo!()
    }
}
