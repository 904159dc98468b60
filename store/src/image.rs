//! Images: a config and layer ids.

use oci::{Document, ImageConfig, ImageId, Reference};

use crate::{FileError, LayerId, Store, TagError};

/// An image: its config as received, and the layers here that stand for the config's diff IDs, base first.
#[derive(Clone, Debug)]
pub struct Image {
    /// Digest of the config.
    pub id: ImageId,
    /// The config, byte for byte as it came or was made.
    pub config: Document<ImageConfig>,
    /// Its layers, base first.
    pub layers: Vec<LayerId>,
    /// When it was put into this store, RFC 3339.
    pub stored: String,
}

/// An image can't be read or put.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// There is none of that id.
    #[error("no image `{0}` in the store")]
    Missing(ImageId),
    /// A layer of the image to be put isn't in the store.
    #[error("no layer `{0}` in the store")]
    MissingLayer(LayerId),
    /// The config names more or fewer layers than were given.
    #[error("the config has {diff_ids} diff IDs for {layers} layers")]
    LayerCount {
        /// In the config.
        diff_ids: usize,
        /// Given.
        layers: usize,
    },
    /// A file of it can't be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Why a text names no image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindImageError {
    /// Neither a reference here nor the beginning of an ID.
    #[error("no such image: `{text}`")]
    NotFound {
        /// What was asked for.
        text: String,
    },
    /// The beginning of several IDs.
    #[error("`{text}` is the beginning of several image IDs: {}", candidates.iter().map(ImageId::short).collect::<Vec<_>>().join(", "))]
    Ambiguous {
        /// What was asked for.
        text: String,
        /// All that it may mean.
        candidates: Vec<ImageId>,
    },
    /// Neither a reference nor hexadecimal digits.
    #[error(transparent)]
    Malformed(#[from] oci::ReferenceError),
    /// Tags can't be read.
    #[error(transparent)]
    Tag(#[from] TagError),
    /// The image can't be read.
    #[error(transparent)]
    Image(#[from] ImageError),
}

/// What `remove_image` did, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// This name is gone.
    Untagged(Reference),
    /// This image is gone.
    Deleted(ImageId),
}

/// Why an image wasn't removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveImageError {
    /// It isn't there.
    #[error(transparent)]
    Find(#[from] FindImageError),
    /// A container was made from it; with force a stopped one doesn't count.
    #[error("unable to delete `{image}`: container `{container}` {}", if *running { "is running from it" } else { "was made from it (force removes the image nevertheless)" })]
    InUse {
        /// What was asked for.
        image: String,
        /// Its short ID.
        container: String,
        /// Whether it runs: then force doesn't help.
        running: bool,
    },
    /// Asked for by ID while it has several names.
    #[error("unable to delete `{image}`: it has several names (force removes them all): {}", names.join(", "))]
    SeveralNames {
        /// What was asked for.
        image: String,
        /// Its names.
        names: Vec<String>,
    },
    /// Tags can't be read or removed.
    #[error(transparent)]
    Tag(#[from] TagError),
    /// A file of it can't be removed.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// Keeps an image; one that is there already is given back as it is.
    ///
    /// # Errors
    ///
    /// [`ImageError`] when a layer isn't there or doesn't fit the config.
    pub fn put_image(
        &self,
        config: Document<ImageConfig>,
        layers: Vec<LayerId>,
    ) -> Result<Image, ImageError> {
        let _ = (config, layers);
        todo!()
    }

    /// The image `id`.
    ///
    /// # Errors
    ///
    /// [`ImageError::Missing`] when there is none.
    pub fn image(&self, id: ImageId) -> Result<Image, ImageError> {
        let _ = id;
        todo!()
    }

    /// All images, newest first.
    ///
    /// # Errors
    ///
    /// [`ImageError`] when they can't be read.
    pub fn images(&self) -> Result<Vec<Image>, ImageError> {
        todo!()
    }

    /// The image that `text` names: docker's precedence is a whole ID, a reference, the beginning of an ID.
    ///
    /// # Errors
    ///
    /// [`FindImageError`] when it names none or several.
    pub fn find_image(&self, text: &str) -> Result<Image, FindImageError> {
        let _ = text;
        todo!()
    }

    /// Removes the name `text`, and with its last name the image; named by ID, the image with its one name.
    ///
    /// # Errors
    ///
    /// [`RemoveImageError`] when a container uses it, or it has several names and `force` isn't given.
    pub fn remove_image(&self, text: &str, force: bool) -> Result<Vec<Removed>, RemoveImageError> {
        let _ = (text, force);
        todo!()
    }
}
