//! Tags: a reference and the image it stands for.
//!
//! A tag has up to two files: `<name>.json` is durable, `<name>.new` holds a later value that isn't durable yet.
//! After a crash of the machine the new one is dropped, so that the tag falls back to its last durable value.

use std::collections::BTreeMap;
use std::path::Path;

use oci::{ImageId, Reference};
use serde::{Deserialize, Serialize};

use crate::file::{json_bytes, names_in, read_json_lossy, remove_if_there};
use crate::lock::{Passed, replace_file};
use crate::{FileError, Store};

/// A reference and the image it stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagRecord {
    /// The whole name.
    pub reference: Reference,
    /// The image.
    pub image: ImageId,
}

/// The content of `<name>.json` and `<name>.new`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TagDocument {
    #[serde(flatten)]
    pub(crate) tag: TagRecord,
    /// The boot it was set in.
    pub(crate) boot_id: String,
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
        if reference.digest().is_some() || reference.tag().is_none() {
            return Err(TagError::Digest(reference.clone()));
        }
        let _passed = self.inner.gate.shared()?;
        if !self.image_exists(id) {
            return Err(TagError::MissingImage(id));
        }
        let document = TagDocument {
            tag: TagRecord { reference: reference.clone(), image: id },
            boot_id: self.inner.boot_id.clone(),
        };
        replace_file(&self.layout().tmp(), &self.layout().new_tag(reference), &json_bytes(&document))?;
        Ok(())
    }

    /// Removes `reference`; whether there was one.
    ///
    /// # Errors
    ///
    /// [`TagError`] when its file can't be removed.
    pub fn untag(&self, reference: &Reference) -> Result<bool, TagError> {
        let passed = self.inner.gate.exclusive()?;
        Ok(self.untag_inside(&passed, reference)?)
    }

    pub(crate) fn untag_inside(
        &self,
        _passed: &Passed<'_>,
        reference: &Reference,
    ) -> Result<bool, FileError> {
        let new = remove_if_there(&self.layout().new_tag(reference))?;
        let durable = remove_if_there(&self.layout().tag(reference))?;
        Ok(new || durable)
    }

    /// The image that `reference` stands for.
    ///
    /// # Errors
    ///
    /// None today: a tag that can't be read is none.
    pub fn resolve_tag(&self, reference: &Reference) -> Result<Option<ImageId>, TagError> {
        let layout = self.layout();
        Ok([layout.new_tag(reference), layout.tag(reference)]
            .iter()
            .filter_map(|path| self.read_tag(path))
            .find(|tag| tag.reference == *reference)
            .map(|tag| tag.image))
    }

    /// All tags, sorted by name.
    ///
    /// # Errors
    ///
    /// [`TagError`] when the folder can't be read.
    pub fn tags(&self) -> Result<Vec<TagRecord>, TagError> {
        let dir = self.layout().tags();
        let mut tags = BTreeMap::new();
        let mut names = names_in(&dir)?;
        // `.json` comes before `.new`, which then replaces it.
        names.sort();
        for name in names {
            if let Some(tag) = self.read_tag(&dir.join(name)) {
                tags.insert(tag.reference.clone(), tag);
            }
        }
        Ok(tags.into_values().collect())
    }

    /// The tag in a file. One whose image is gone is none.
    fn read_tag(&self, path: &Path) -> Option<TagRecord> {
        let document: TagDocument = read_json_lossy(path)?;
        self.image_exists(document.tag.image).then_some(document.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Place, image, layer};

    fn reference(text: &str) -> Reference {
        text.parse().unwrap()
    }

    #[test]
    fn a_tag_is_set_moved_and_removed() {
        let place = Place::new();
        let store = place.open();
        let layer = layer(&store, "a");
        let (one, two) =
            (image(&store, std::slice::from_ref(&layer), "1").id, image(&store, &[layer], "2").id);
        let app = reference("app:1");
        assert_eq!(store.resolve_tag(&app).unwrap(), None);
        store.tag(&app, one).unwrap();
        store.tag(&reference("b"), one).unwrap();
        assert_eq!(store.resolve_tag(&app).unwrap(), Some(one));
        store.tag(&app, two).unwrap();
        let names: Vec<_> =
            store.tags().unwrap().into_iter().map(|tag| (tag.reference.familiar(), tag.image)).collect();
        assert_eq!(names, [("app:1".to_owned(), two), ("b:latest".to_owned(), one)]);
        assert!(store.untag(&app).unwrap());
        assert!(!store.untag(&app).unwrap());
        assert_eq!(store.resolve_tag(&app).unwrap(), None);
    }

    #[test]
    fn digests_and_missing_images_cannot_be_tagged() {
        let place = Place::new();
        let store = place.open();
        let missing = ImageId::new(oci::Digest::of(b"x"));
        assert!(matches!(store.tag(&reference("app"), missing), Err(TagError::MissingImage(_))));
        let digest = reference(&format!("app@{}", oci::Digest::of(b"x")));
        assert!(matches!(store.tag(&digest, missing), Err(TagError::Digest(_))));
    }
}
