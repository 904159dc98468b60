//! Tags: a reference and the image it stands for.

use oci::{ImageId, Reference};
use serde::{Deserialize, Serialize};

use crate::{FileError, Store};

/// A reference and the image it stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagRecord {
    /// The whole name.
    pub reference: Reference,
    /// The image.
    pub image: ImageId,
}

/// A tag can't be read, set or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TagError {
    /// The image to be tagged isn't in the store.
    #[error("no image `{0}` in the store")]
    MissingImage(ImageId),
    /// Only a repository and a tag can be set, not a digest.
    #[error("`{}` can't be a tag: it has a digest", .0.familiar())]
    Digest(Reference),
    /// A file of it can't be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// Makes `reference` stand for image `id`, whatever it stood for before; atomic.
    ///
    /// # Errors
    ///
    /// [`TagError`]; the tag is then as it was.
    pub fn tag(&self, reference: &Reference, id: ImageId) -> Result<(), TagError> {
        let _ = (reference, id);
        todo!()
    }

    /// Removes `reference`; whether there was one.
    ///
    /// # Errors
    ///
    /// [`TagError`] when its file can't be removed.
    pub fn untag(&self, reference: &Reference) -> Result<bool, TagError> {
        let _ = reference;
        todo!()
    }

    /// The image that `reference` stands for.
    ///
    /// # Errors
    ///
    /// [`TagError`] when its file can't be read.
    pub fn resolve_tag(&self, reference: &Reference) -> Result<Option<ImageId>, TagError> {
        let _ = reference;
        todo!()
    }

    /// All tags, sorted by name.
    ///
    /// # Errors
    ///
    /// [`TagError`] when the folder can't be read.
    pub fn tags(&self) -> Result<Vec<TagRecord>, TagError> {
        todo!()
    }
}
