//! Images in and out: OCI layouts (folder or tar) and docker archives.
//!
//! An archive is hostile until checked: names stay inside it, documents have their limits, every blob must have the
//! digest and size that its descriptor says, media types must agree, and what a layer unpacks from must have the diff
//! ID that the config says. What is written has uncompressed layers, as `docker save` does: whoever wants it smaller
//! compresses the whole. The same images give the same bytes.

mod document;
mod load;
mod save;
mod source;

pub use crate::blob::BlobError;
pub use load::{LoadError, Loaded, load};
pub use save::{SaveError, SaveFormat, save, save_layout};
pub use source::Source;

#[cfg(test)]
mod tests;
