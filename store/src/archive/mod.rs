//! Images in and out: OCI layouts (folder or tar) and docker archives.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use oci::Reference;

use crate::{FileError, Image, Store};

/// An image that [`load`] put into the store.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The image.
    pub image: Image,
    /// The names that the archive gives it. Nothing is tagged.
    pub references: Vec<Reference>,
}

/// Where an archive comes from.
pub enum Source<'a> {
    /// An OCI layout folder, or a file: an OCI layout tar or a docker archive, maybe compressed as a whole.
    Path(&'a Path),
    /// A stream of such a file.
    Reader(&'a mut dyn Read),
}

/// What [`save`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaveFormat {
    /// A tar of an OCI image layout.
    OciArchive,
    /// What `docker save` writes: `manifest.json`, configs, uncompressed layers.
    DockerArchive,
}

/// An archive can't be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file of the store or of the archive can't be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Images can't be saved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// A file of the store or of the archive can't be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Puts the images of an archive into the store. Digests and sizes are checked while they are read; a layer whose
/// diff ID is known isn't unpacked again.
///
/// # Errors
///
/// [`LoadError`]; images that were complete before it stay.
pub fn load(store: &Store, source: Source<'_>) -> Result<Vec<Loaded>, LoadError> {
    let _ = (store, source);
    todo!()
}

/// Writes images and the names each is to have as one archive; the same images give the same bytes.
///
/// # Errors
///
/// [`SaveError`]; `out` is then part written.
pub fn save(
    store: &Store,
    images: &[(Image, Vec<Reference>)],
    format: SaveFormat,
    out: &mut dyn Write,
) -> Result<(), SaveError> {
    let _ = (store, images, format, out);
    todo!()
}

/// Writes images into the OCI layout folder `to`, which is made where there is none; images in it already stay.
///
/// # Errors
///
/// [`SaveError`]; blobs that were complete before it stay.
pub fn save_layout(
    store: &Store,
    images: &[(Image, Vec<Reference>)],
    to: &Path,
) -> Result<PathBuf, SaveError> {
    let _ = (store, images, to);
    todo!()
}
