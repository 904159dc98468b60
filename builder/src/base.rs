//! How FROM gets an image.

use oci::{Digest, Platform, Reference};
use store::{Image, Store};

/// Gives images to a build. `cli` has one that pulls; [`StoreImages`] knows what the store holds.
pub trait BaseImages: Sync {
    /// The image that `reference` stands for.
    ///
    /// # Errors
    ///
    /// [`BaseImageError`] says where it was looked for.
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<BaseImage, BaseImageError>;
}

/// An image that is in the store, all layers included.
#[derive(Clone, Debug)]
pub struct BaseImage {
    /// The image.
    pub image: Image,
    /// What its name stands for: the digest of the manifest where it is known, else of the config.
    pub digest: Digest,
}

/// Why there is no such image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BaseImageError {
    /// The store has no image of that name, and calque can't pull yet.
    #[error(
        "no image `{}` in the store at `{}`; pulling from registries is not supported yet: load it first",
        reference.familiar(),
        root.display()
    )]
    NotInStore {
        /// What was looked for.
        reference: Reference,
        /// Where.
        root: std::path::PathBuf,
    },
    /// The image is for another platform.
    #[error("the image is for {found}, not for {wanted}")]
    Platform {
        /// What was asked for.
        wanted: Platform,
        /// What there is.
        found: Platform,
    },
    /// The name has a digest that the store doesn't know.
    #[error("no image with the digest `{digest}` in the store")]
    Digest {
        /// The digest asked for.
        digest: Digest,
    },
    /// Tags can't be read.
    #[error(transparent)]
    Tag(#[from] store::TagError),
    /// The image can't be read.
    #[error(transparent)]
    Image(#[from] store::ImageError),
}

/// The images of a store.
#[derive(Clone, Debug)]
pub struct StoreImages {
    store: Store,
}

impl StoreImages {
    /// Those of `store`.
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

impl BaseImages for StoreImages {
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<BaseImage, BaseImageError> {
        let image = match reference.digest() {
            Some(digest) => self
                .store
                .images()?
                .into_iter()
                .find(|image| image.id.digest() == digest)
                .ok_or(BaseImageError::Digest { digest })?,
            None => {
                let id = self.store.resolve_tag(reference)?.ok_or_else(|| BaseImageError::NotInStore {
                    reference: reference.clone(),
                    root: self.store.options().root.clone(),
                })?;
                self.store.image(id)?
            }
        };
        let found = &image.config.value().platform;
        if !platform.accepts(found) {
            return Err(BaseImageError::Platform { wanted: platform.clone(), found: found.clone() });
        }
        let digest = image.id.digest();
        Ok(BaseImage { image, digest })
    }
}
