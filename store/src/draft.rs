//! A layer in the making.

use std::os::fd::BorrowedFd;
use std::path::Path;

use crate::{FileError, Layer, LayerFacts, LayerId, Store};

/// A layer in the making: `tmp/<id>/{tree,work}`. `tree` is an overlay's upperdir or is written in place.
///
/// Dropping it moves it to the trash.
#[derive(Debug)]
pub struct LayerDraft {
    _store: Store,
}

/// A draft can't be made or committed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DraftError {
    /// A file of it can't be made, written or renamed.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// A new empty draft; its tree is `0755`, owned by whoever this process is.
    ///
    /// # Errors
    ///
    /// [`DraftError`] when its folders can't be made.
    pub fn draft(&self) -> Result<LayerDraft, DraftError> {
        todo!()
    }
}

impl LayerDraft {
    /// The id that the layer will have.
    pub fn id(&self) -> LayerId {
        todo!()
    }

    /// Path of the tree, for messages.
    pub fn tree_path(&self) -> &Path {
        todo!()
    }

    /// The tree, open for reading and as the base of `*at` calls.
    pub fn tree_fd(&self) -> BorrowedFd<'_> {
        todo!()
    }

    /// The folder that has `tree` and `work`: an overlay's upperdir and workdir.
    pub fn scratch_fd(&self) -> BorrowedFd<'_> {
        todo!()
    }

    /// Makes it a layer: a rename. No overlay may be mounted on it any more.
    ///
    /// The layer is held for this process, so that nothing collects it before it is recorded.
    ///
    /// # Errors
    ///
    /// [`DraftError`]; the draft is then in the trash.
    pub fn commit(self, facts: LayerFacts) -> Result<Layer, DraftError> {
        let _ = facts;
        todo!()
    }
}
