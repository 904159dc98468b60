//! Images: a config and layer ids.

use std::fs;
use std::io;
use std::path::Path;

use oci::{DiffId, Digest, Document, DocumentError, ImageConfig, ImageId, Reference};
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::file::{OnPath, if_found, names_in, now_text, read_json_lossy, write_new, write_new_json};
use crate::id::random_hex;
use crate::lock::make_locked_dir;
use crate::{Container, ContainerError, ContainerState, FileError, LayerError, LayerId, Store, TagError};

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

/// The content of `image.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ImageDocument {
    pub(crate) layers: Vec<LayerId>,
    pub(crate) stored: String,
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
    /// A layer is known to have another diff ID than the config says.
    #[error("layer `{layer}` has diff ID `{found}`, the config says `{expected}`")]
    DiffId {
        /// The layer.
        layer: LayerId,
        /// In the config.
        expected: DiffId,
        /// The layer's.
        found: DiffId,
    },
    /// The config in the store is damaged.
    #[error("the config of image `{id}` is damaged")]
    DamagedConfig {
        /// The image.
        id: ImageId,
        /// What is wrong; nothing when only its digest is.
        source: Option<DocumentError>,
    },
    /// A layer can't be read.
    #[error(transparent)]
    Layer(#[from] LayerError),
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
    /// Containers can't be read.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// A file of it can't be removed.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// Keeps an image; one that is there already is given back as it is.
    ///
    /// Hold its layers with a lease meanwhile.
    ///
    /// # Errors
    ///
    /// [`ImageError`] when a layer isn't there or doesn't fit the config.
    pub fn put_image(
        &self,
        config: Document<ImageConfig>,
        layers: Vec<LayerId>,
    ) -> Result<Image, ImageError> {
        let diff_ids = &config.value().rootfs.diff_ids;
        if diff_ids.len() != layers.len() {
            return Err(ImageError::LayerCount { diff_ids: diff_ids.len(), layers: layers.len() });
        }
        for (id, expected) in layers.iter().zip(diff_ids) {
            let layer = match self.layer(*id) {
                Err(LayerError::Missing(id)) => return Err(ImageError::MissingLayer(id)),
                other => other?,
            };
            if let Some(found) = self.known_diff_id(&layer)?.filter(|found| found != expected) {
                return Err(ImageError::DiffId { layer: *id, expected: *expected, found });
            }
        }
        let id = ImageId::new(config.digest());
        let document = ImageDocument { layers, stored: now_text() };
        let (made, locked) = make_locked_dir(&self.layout().tmp(), &random_hex::<8>())?;
        let written = write_new(&made.join("config.json"), config.bytes())
            .and_then(|()| write_new_json(&made.join("image.json"), &document));
        let image = Image { id, config, layers: document.layers, stored: document.stored };
        let placed = written.map_err(ImageError::from).and_then(|()| self.place_image(&made, image));
        drop(locked);
        if made.exists() {
            self.discard(&made)?;
        }
        placed
    }

    /// Gives what was made under `tmp` its name, unless such an image is there and whole.
    fn place_image(&self, made: &Path, image: Image) -> Result<Image, ImageError> {
        let to = self.layout().image(image.id);
        // With the gate passed nothing is removed between the look at the layers and the rename.
        let _passed = self.inner.gate.shared()?;
        if let Some(missing) = image.layers.iter().find(|layer| !self.layer_exists(**layer)) {
            return Err(ImageError::MissingLayer(*missing));
        }
        loop {
            match rustix::fs::renameat_with(
                rustix::fs::CWD,
                made,
                rustix::fs::CWD,
                &to,
                RenameFlags::NOREPLACE,
            ) {
                Ok(()) => return Ok(image),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(FileError::new("commit", to, error).into()),
            }
            if let Ok(known) = self.image(image.id)
                && known.layers.iter().all(|layer| self.layer_exists(*layer))
            {
                return Ok(known);
            }
            self.discard(&to)?;
        }
    }

    /// The image `id`.
    ///
    /// # Errors
    ///
    /// [`ImageError::Missing`] when there is none.
    pub fn image(&self, id: ImageId) -> Result<Image, ImageError> {
        let dir = self.layout().image(id);
        let path = dir.join("config.json");
        let bytes = if_found(fs::read(&path)).on("read", &path)?.ok_or(ImageError::Missing(id))?;
        let config = Document::parse("image config", bytes)
            .map_err(|source| ImageError::DamagedConfig { id, source: Some(source) })?;
        if config.digest() != id.digest() {
            return Err(ImageError::DamagedConfig { id, source: None });
        }
        let path = dir.join("image.json");
        let bytes = if_found(fs::read(&path)).on("read", &path)?.ok_or(ImageError::Missing(id))?;
        let document: ImageDocument =
            serde_json::from_slice(&bytes).map_err(io::Error::from).on("read", path)?;
        Ok(Image { id, config, layers: document.layers, stored: document.stored })
    }

    pub(crate) fn image_exists(&self, id: ImageId) -> bool {
        fs::symlink_metadata(self.layout().image(id)).is_ok()
    }

    /// The layers of an image, without a look at its config; none where it is damaged.
    pub(crate) fn image_layers(&self, id: ImageId) -> Option<Vec<LayerId>> {
        let document: ImageDocument = read_json_lossy(&self.layout().image(id).join("image.json"))?;
        Some(document.layers)
    }

    pub(crate) fn image_ids(&self) -> Result<Vec<ImageId>, FileError> {
        let names = names_in(&self.layout().images())?;
        Ok(names.iter().filter_map(|name| Digest::from_hex(name).ok().map(ImageId::new)).collect())
    }

    /// All images, newest first by the time in their configs.
    ///
    /// # Errors
    ///
    /// [`ImageError`] when they can't be read.
    pub fn images(&self) -> Result<Vec<Image>, ImageError> {
        let mut images = Vec::new();
        for id in self.image_ids()? {
            match self.image(id) {
                Ok(image) => images.push(image),
                Err(ImageError::Missing(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let created = |image: &Image| {
            image.config.value().created.as_ref().and_then(|text| text.parse::<jiff::Timestamp>().ok())
        };
        images.sort_by_key(|image| (std::cmp::Reverse(created(image)), image.id));
        Ok(images)
    }

    /// The image that `text` names: docker's precedence is a whole ID, a reference, the beginning of an ID.
    ///
    /// # Errors
    ///
    /// [`FindImageError`] when it names none or several.
    pub fn find_image(&self, text: &str) -> Result<Image, FindImageError> {
        Ok(self.image(self.find_image_id(text)?.0)?)
    }

    /// The image that `text` names, and the reference where it was named by one.
    fn find_image_id(&self, text: &str) -> Result<(ImageId, Option<Reference>), FindImageError> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        if let Ok(digest) = Digest::from_hex(digits) {
            let id = ImageId::new(digest);
            if self.image_exists(id) {
                return Ok((id, None));
            }
        }
        let reference = text.parse::<Reference>();
        if let Ok(reference) = &reference
            && let Some(id) = self.resolve_tag(reference)?
        {
            return Ok((id, Some(reference.clone())));
        }
        let not_found = || FindImageError::NotFound { text: text.to_owned() };
        let is_prefix = |digits: &str| {
            !digits.is_empty()
                && digits.len() <= 64
                && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        if !is_prefix(digits) {
            reference?;
            return Err(not_found());
        }
        let mut candidates: Vec<ImageId> = self
            .image_ids()
            .map_err(ImageError::from)?
            .into_iter()
            .filter(|id| id.hex().starts_with(digits))
            .collect();
        candidates.sort();
        match candidates[..] {
            [] => Err(not_found()),
            [id] => Ok((id, None)),
            _ => Err(FindImageError::Ambiguous { text: text.to_owned(), candidates }),
        }
    }

    /// Removes the name `text`, and with its last name the image; named by ID, the image with its one name.
    ///
    /// With `force` all its names go, and a container that was made from it but doesn't run doesn't hold it. Layers
    /// that nothing else names go with the next sweep.
    ///
    /// # Errors
    ///
    /// [`RemoveImageError`] when a container uses it, or it has several names and `force` isn't given.
    pub fn remove_image(&self, text: &str, force: bool) -> Result<Vec<Removed>, RemoveImageError> {
        let passed = self.inner.gate.exclusive()?;
        let (id, named) = self.find_image_id(text)?;
        let mut names: Vec<Reference> =
            self.tags()?.into_iter().filter(|tag| tag.image == id).map(|tag| tag.reference).collect();
        if let Some(name) = named {
            if names.len() > 1 {
                self.untag_inside(&passed, &name)?;
                return Ok(vec![Removed::Untagged(name)]);
            }
        } else if names.len() > 1 && !force {
            return Err(RemoveImageError::SeveralNames {
                image: text.to_owned(),
                names: names.iter().map(Reference::familiar).collect(),
            });
        }
        for Container { record, state } in self.containers()? {
            let running = matches!(state, ContainerState::Running { .. });
            if record.image == id && (running || !force) {
                return Err(RemoveImageError::InUse {
                    image: text.to_owned(),
                    container: record.id[..12].to_owned(),
                    running,
                });
            }
        }
        let mut removed = Vec::new();
        for name in names.drain(..) {
            self.untag_inside(&passed, &name)?;
            removed.push(Removed::Untagged(name));
        }
        self.discard(&self.layout().image(id))?;
        removed.push(Removed::Deleted(id));
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Place, config, image, layer};

    #[test]
    fn a_config_is_kept_byte_for_byte() {
        let place = Place::new();
        let store = place.open();
        let bytes =
            br#"{ "os":"linux", "architecture":"amd64", "rootfs":{"type":"layers","diff_ids":[]}, "x": [] }"#;
        let config = Document::<ImageConfig>::parse("image config", bytes.to_vec()).unwrap();
        let put = store.put_image(config, vec![]).unwrap();
        assert_eq!(put.id.digest(), Digest::of(bytes));
        assert_eq!(place.open().image(put.id).unwrap().config.bytes(), bytes);
        assert_eq!(fs::read(store.layout().image(put.id).join("config.json")).unwrap(), bytes);
    }

    #[test]
    fn an_image_that_is_there_stays_unless_its_layers_are_gone() {
        let place = Place::new();
        let store = place.open();
        let (first, second) = (layer(&store, "a"), layer(&store, "a"));
        let document = Document::parse(
            "image config",
            config(&store, std::slice::from_ref(&first), "x").bytes().to_vec(),
        )
        .unwrap();
        store.put_image(document.clone(), vec![first.id()]).unwrap();
        // The same content was made again: times differ, so it has to claim the first one's diff ID.
        let facts = format!(r#"{{"diff_id":"{}"}}"#, store.diff_id(&first).unwrap());
        fs::write(second.dir.join("facts.json"), facts).unwrap();
        assert_eq!(store.put_image(document.clone(), vec![second.id()]).unwrap().layers, [first.id()]);
        fs::remove_dir_all(&first.dir).unwrap();
        assert_eq!(store.put_image(document, vec![second.id()]).unwrap().layers, [second.id()]);
        assert_eq!(names_in(&store.layout().tmp()).unwrap().len(), 1, "only the lease file");
    }

    #[test]
    fn layers_must_be_there_and_fit_the_config() {
        let place = Place::new();
        let store = place.open();
        let (a, b) = (layer(&store, "a"), layer(&store, "b"));
        store.diff_id(&b).unwrap();
        let document = config(&store, std::slice::from_ref(&a), "x");
        let error = store.put_image(document.clone(), vec![]).unwrap_err();
        assert!(matches!(error, ImageError::LayerCount { diff_ids: 1, layers: 0 }), "{error}");
        let error = store.put_image(document.clone(), vec![b.id()]).unwrap_err();
        assert!(matches!(error, ImageError::DiffId { .. }), "{error}");
        let error = store.put_image(document, vec![LayerId::random()]).unwrap_err();
        assert!(matches!(error, ImageError::MissingLayer(_)), "{error}");
        assert_eq!(store.images().unwrap().len(), 0);
    }

    #[test]
    fn a_damaged_config_is_told() {
        let place = Place::new();
        let store = place.open();
        let id = image(&store, &[], "x").id;
        let path = store.layout().image(id).join("config.json");
        let other = String::from_utf8(fs::read(&path).unwrap()).unwrap().replace("\"x\"", "\"y\"");
        fs::write(&path, other).unwrap();
        assert!(matches!(store.image(id), Err(ImageError::DamagedConfig { source: None, .. })));
    }

    #[test]
    fn images_are_found_by_id_name_and_beginning_of_an_id() {
        let place = Place::new();
        let store = place.open();
        let ids: Vec<ImageId> = (0..40).map(|number| image(&store, &[], &number.to_string()).id).collect();
        let find = |text: &str| store.find_image(text).map(|image| image.id);
        let id = ids[7];
        store.tag(&"app:1".parse().unwrap(), id).unwrap();
        for text in [
            id.hex(),
            id.to_string(),
            id.short(),
            format!("sha256:{}", id.short()),
            "app:1".to_owned(),
            "docker.io/library/app:1".to_owned(),
        ] {
            assert_eq!(find(&text).unwrap(), id, "{text}");
        }
        // A name wins over the beginning of an ID.
        let short = ids[3].short();
        store.tag(&short.parse().unwrap(), id).unwrap();
        assert_eq!(find(&short).unwrap(), id);
        assert_eq!(find(&format!("sha256:{short}")).unwrap(), ids[3]);
        let digit = ids[0].hex()[..1].to_owned();
        let expected = ids.iter().filter(|id| id.hex().starts_with(&digit)).count();
        match find(&digit) {
            Err(FindImageError::Ambiguous { candidates, .. }) => assert_eq!(candidates.len(), expected),
            other => assert_eq!((other.unwrap(), expected), (ids[0], 1)),
        }
        assert!(matches!(find("app:2"), Err(FindImageError::NotFound { .. })));
        assert!(matches!(find("App"), Err(FindImageError::Malformed(_))));
        assert!(matches!(find(""), Err(FindImageError::Malformed(_))));
        assert!(matches!(find("../tags"), Err(FindImageError::Malformed(_))));
    }

    #[test]
    fn removing_takes_names_first_and_the_image_with_the_last() {
        let place = Place::new();
        let store = place.open();
        let id = image(&store, &[], "x").id;
        let (a, b): (Reference, Reference) = ("a".parse().unwrap(), "b".parse().unwrap());
        store.tag(&a, id).unwrap();
        store.tag(&b, id).unwrap();
        let error = store.remove_image(&id.short(), false).unwrap_err();
        assert!(matches!(error, RemoveImageError::SeveralNames { .. }), "{error}");
        assert_eq!(store.remove_image("a", false).unwrap(), [Removed::Untagged(a)]);
        assert_eq!(
            store.remove_image("b", false).unwrap(),
            [Removed::Untagged(b.clone()), Removed::Deleted(id)]
        );
        assert!(matches!(store.image(id), Err(ImageError::Missing(_))));
        let error = store.remove_image("b", true).unwrap_err();
        assert!(matches!(error, RemoveImageError::Find(FindImageError::NotFound { .. })), "{error}");
    }

    #[test]
    fn a_container_holds_its_image_and_force_lets_go_only_of_stopped_ones() {
        let place = Place::new();
        let store = place.open();
        let id = image(&store, &[], "x").id;
        let record = crate::container::tests::record("web", id);
        store.create_container(&record).unwrap();
        let error = store.remove_image(&id.short(), false).unwrap_err();
        assert!(matches!(error, RemoveImageError::InUse { running: false, .. }), "{error}");
        store.set_container_state(&record.id, &crate::container::tests::running_here(&store)).unwrap();
        let error = store.remove_image(&id.short(), true).unwrap_err();
        assert!(matches!(error, RemoveImageError::InUse { running: true, .. }), "{error}");
        store.set_container_state(&record.id, &ContainerState::Exited { code: 0, finished: None }).unwrap();
        assert_eq!(store.remove_image(&id.short(), true).unwrap(), [Removed::Deleted(id)]);
    }
}
