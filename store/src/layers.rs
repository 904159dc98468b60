//! Committed layers.
//!
//! `layer.json` is written before the layer has its name and never again, so that no crash can damage it later. What
//! is computed afterwards (diff ID, content IDs, size) is in `facts.json`, which may be lost: it is computed again.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use oci::{DiffId, HashingWriter};
use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::file::{OnPath, if_found, json_bytes, names_in, read_json, read_json_lossy};
use crate::layer::{self, ContentIdError, WriteTarError};
use crate::{ContentId, FileError, LayerId, Lease, RunWindow, Store, lock, usage};

/// What is known of a layer when it is committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerFacts {
    /// When its step first ran, RFC 3339.
    pub created: String,
    /// Where it came from.
    pub origin: LayerOrigin,
    /// Its diff ID, when it is known already (an unpacked tar).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub diff_id: Option<DiffId>,
}

/// Where a layer came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LayerOrigin {
    /// A step of a build; the instruction's text.
    Step(String),
    /// An archive; the name of its file.
    Archive(String),
}

/// How large a layer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerSize {
    /// Bytes in its regular files, hard links once: docker's SIZE.
    pub size_bytes: u64,
    /// Bytes of its blocks on disk, hard links once, directories too: what `du` counts.
    pub disk_bytes: u64,
    /// How many names it has.
    pub entries: u64,
    /// Those of the bytes on disk that another layer has, too: files linked from an earlier layer of the same step.
    #[serde(default)]
    pub shared_disk_bytes: u64,
}

/// The content of `layer.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerDocument {
    pub(crate) id: LayerId,
    /// The boot it was made in: unless it is marked durable it doesn't outlive that.
    pub(crate) boot_id: String,
    #[serde(flatten)]
    pub(crate) facts: LayerFacts,
}

/// The content of `facts.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LaterFacts {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) diff_id: Option<DiffId>,
    /// Length of the uncompressed tar.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) tar_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) size: Option<LayerSize>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) content_ids: Vec<(Option<RunWindow>, ContentId)>,
}

/// A committed layer: a tree that is never written again.
#[derive(Clone, Debug)]
pub struct Layer {
    pub(crate) id: LayerId,
    pub(crate) dir: PathBuf,
    pub(crate) facts: LayerFacts,
}

/// A layer can't be read or measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// There is none of that id.
    #[error("no layer `{0}` in the store")]
    Missing(LayerId),
    /// Its tree can't be written as a tar, and so has no diff ID.
    #[error("cannot compute the diff ID of layer `{layer}`")]
    DiffId {
        /// The layer.
        layer: LayerId,
        /// Why.
        source: WriteTarError,
    },
    /// Its tree can't be read.
    #[error("cannot compute the content ID of layer `{layer}`")]
    ContentId {
        /// The layer.
        layer: LayerId,
        /// Why.
        source: ContentIdError,
    },
    /// Its tar isn't what it was.
    #[error("layer `{layer}` is damaged: its tar is `{found}`, not `{expected}`")]
    Damaged {
        /// The layer.
        layer: LayerId,
        /// Its diff ID as recorded.
        expected: DiffId,
        /// What its tree or its kept original gives now.
        found: DiffId,
    },
    /// Its tar can't be written to where it goes.
    #[error("cannot write the tar of layer `{layer}`")]
    WriteTar {
        /// The layer.
        layer: LayerId,
        /// Why.
        source: io::Error,
    },
    /// A file of it can't be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The layer's tar as it came, compressed, beside the tree: kept where the tree's own tar is another.
pub(crate) const ORIGINAL: &str = "original";

impl Layer {
    /// Its id in this store.
    pub fn id(&self) -> LayerId {
        self.id
    }

    /// Path of its tree, for messages.
    pub fn tree_path(&self) -> PathBuf {
        self.dir.join("tree")
    }

    /// Its tree, an `O_PATH` descriptor of a directory.
    ///
    /// # Errors
    ///
    /// [`LayerError::Missing`] when it was collected meanwhile: hold a lease.
    pub fn open_tree(&self) -> Result<OwnedFd, LayerError> {
        let path = self.tree_path();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => Err(LayerError::Missing(self.id)),
            other => Ok(other.on("open", path)?),
        }
    }

    /// What was known of it at commit.
    pub fn facts(&self) -> &LayerFacts {
        &self.facts
    }

    fn later_facts(&self) -> LaterFacts {
        read_json_lossy(&self.dir.join("facts.json")).unwrap_or_default()
    }
}

impl Store {
    /// The layer `id`.
    ///
    /// # Errors
    ///
    /// [`LayerError::Missing`] when there is none.
    pub fn layer(&self, id: LayerId) -> Result<Layer, LayerError> {
        let dir = self.layout().layer(id);
        let document: LayerDocument = read_json(&dir.join("layer.json"))?.ok_or(LayerError::Missing(id))?;
        Ok(Layer { id, dir, facts: document.facts })
    }

    /// All layers, by id.
    ///
    /// # Errors
    ///
    /// [`LayerError`] when the folder can't be read.
    pub fn layers(&self) -> Result<Vec<Layer>, LayerError> {
        let mut layers = Vec::new();
        for id in self.layer_ids()? {
            match self.layer(id) {
                Ok(layer) => layers.push(layer),
                Err(LayerError::Missing(_)) => {}
                Err(error) => return Err(error),
            }
        }
        layers.sort_by_key(Layer::id);
        Ok(layers)
    }

    pub(crate) fn layer_ids(&self) -> Result<Vec<LayerId>, FileError> {
        Ok(names_in(&self.layout().layers())?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    pub(crate) fn layer_exists(&self, id: LayerId) -> bool {
        fs::symlink_metadata(self.layout().layer(id)).is_ok()
    }

    /// The diff ID of `layer`: recorded, or computed now and recorded, once across processes.
    ///
    /// # Errors
    ///
    /// [`LayerError`] when its tree can't be read.
    pub fn diff_id(&self, layer: &Layer) -> Result<DiffId, LayerError> {
        if let Some(known) = self.known_diff_id(layer)? {
            return Ok(known);
        }
        let _locked = lock_layer(layer)?;
        let mut facts = layer.later_facts();
        if let Some(known) = facts.diff_id {
            return Ok(known);
        }
        let tree = layer.open_tree()?;
        let (diff_id, _) =
            layer::diff_id(tree.as_fd()).map_err(|source| LayerError::DiffId { layer: layer.id, source })?;
        facts.diff_id = Some(diff_id);
        if facts.size.is_none() {
            // The tree's inodes were just read: now it costs least.
            facts.size = Some(measure(layer)?);
        }
        self.write_facts(layer, &facts)?;
        Ok(diff_id)
    }

    /// The diff ID of `layer` where it is recorded.
    ///
    /// # Errors
    ///
    /// None today.
    pub fn known_diff_id(&self, layer: &Layer) -> Result<Option<DiffId>, LayerError> {
        Ok(layer.facts.diff_id.or_else(|| layer.later_facts().diff_id))
    }

    /// The content ID of `layer`, times within `window` counting as "now": recorded, or computed and recorded.
    ///
    /// # Errors
    ///
    /// [`LayerError`] when its tree can't be read.
    pub fn content_id(&self, layer: &Layer, window: Option<RunWindow>) -> Result<ContentId, LayerError> {
        let known = |facts: &LaterFacts| {
            facts.content_ids.iter().find(|(of, _)| *of == window).map(|(_, content_id)| *content_id)
        };
        if let Some(content_id) = known(&layer.later_facts()) {
            return Ok(content_id);
        }
        let _locked = lock_layer(layer)?;
        let mut facts = layer.later_facts();
        if let Some(content_id) = known(&facts) {
            return Ok(content_id);
        }
        let tree = layer.open_tree()?;
        let content_id = layer::content_id(tree.as_fd(), window)
            .map_err(|source| LayerError::ContentId { layer: layer.id, source })?;
        facts.content_ids.push((window, content_id));
        self.write_facts(layer, &facts)?;
        Ok(content_id)
    }

    /// The size of `layer`: recorded, or measured now and recorded.
    ///
    /// # Errors
    ///
    /// [`LayerError`] when its tree can't be walked.
    pub fn layer_size(&self, layer: &Layer) -> Result<LayerSize, LayerError> {
        if let Some(size) = layer.later_facts().size {
            return Ok(size);
        }
        let _locked = lock_layer(layer)?;
        let mut facts = layer.later_facts();
        if let Some(size) = facts.size {
            return Ok(size);
        }
        let size = measure(layer)?;
        facts.size = Some(size);
        self.write_facts(layer, &facts)?;
        Ok(size)
    }

    /// Length of the uncompressed tar of `layer`.
    ///
    /// # Errors
    ///
    /// [`LayerError`] when it can't be read.
    pub fn layer_tar_bytes(&self, layer: &Layer) -> Result<u64, LayerError> {
        match layer.later_facts().tar_bytes {
            Some(bytes) => Ok(bytes),
            None => self.write_layer_tar(layer, &mut io::sink()),
        }
    }

    /// Writes the uncompressed tar of `layer`, the very bytes that its diff ID is of; how many there are.
    ///
    /// # Errors
    ///
    /// [`LayerError::Damaged`], after all was written, when they are others.
    pub fn write_layer_tar(&self, layer: &Layer, out: &mut dyn Write) -> Result<u64, LayerError> {
        let expected = self.diff_id(layer)?;
        let mut out = HashingWriter::new(out);
        let path = layer.dir.join(ORIGINAL);
        match if_found(File::open(&path)).on("open", &path)? {
            Some(file) => {
                let (_, mut tar) = layer::decompress(Box::new(file)).on("read", &path)?;
                io::copy(&mut tar, &mut out)
                    .map_err(|source| LayerError::WriteTar { layer: layer.id, source })?;
            }
            None => {
                let tree = layer.open_tree()?;
                layer::write_tar(tree.as_fd(), &mut out)
                    .map_err(|source| LayerError::DiffId { layer: layer.id, source })?;
            }
        }
        let (_, found, bytes) = out.finish();
        let found = DiffId::new(found);
        if found != expected {
            return Err(LayerError::Damaged { layer: layer.id, expected, found });
        }
        Ok(bytes)
    }

    /// A layer with that diff ID, held by `lease`.
    pub(crate) fn find_diff_id(
        &self,
        diff_id: DiffId,
        lease: &mut Lease,
    ) -> Result<Option<Layer>, LayerError> {
        let passed = self.inner.gate.shared()?;
        for layer in self.layers()? {
            if self.known_diff_id(&layer)? == Some(diff_id) {
                lease.hold_existing(&passed, layer.id)?;
                return Ok(Some(layer));
            }
        }
        Ok(None)
    }

    fn write_facts(&self, layer: &Layer, facts: &LaterFacts) -> Result<(), FileError> {
        lock::replace_file(&self.layout().tmp(), &layer.dir.join("facts.json"), &json_bytes(facts))
    }
}

fn measure(layer: &Layer) -> Result<LayerSize, LayerError> {
    let tree = layer.open_tree()?;
    Ok(usage::measure_tree(tree.as_fd()).on("walk", layer.tree_path())?)
}

/// One process at a time computes something of a layer; freed on drop.
fn lock_layer(layer: &Layer) -> Result<File, LayerError> {
    match File::open(&layer.dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(LayerError::Missing(layer.id)),
        other => {
            let dir = other.on("open", &layer.dir)?;
            lock::lock(&dir, FlockOperation::LockExclusive).on("lock", &layer.dir)?;
            Ok(dir)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Place, facts, layer};

    #[test]
    fn a_diff_id_is_computed_once_and_recorded() {
        let place = Place::new();
        let store = place.open();
        let layer = layer(&store, "a");
        assert_eq!(store.known_diff_id(&layer).unwrap(), None);
        let ids: Vec<DiffId> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| store.diff_id(&layer).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]));
        // Recorded: what the tree says now doesn't matter.
        fs::write(layer.tree_path().join("f"), "other").unwrap();
        assert_eq!(place.open().diff_id(&layer).unwrap(), ids[0]);
        let known = LayerFacts { diff_id: Some(ids[0]), ..facts("x") };
        let draft = store.draft().unwrap();
        assert_eq!(store.diff_id(&draft.commit(known).unwrap()).unwrap(), ids[0], "as told at commit");
    }

    #[test]
    fn content_ids_are_recorded_for_each_window_beside_diff_id_and_size() {
        let place = Place::new();
        let store = place.open();
        let layer = layer(&store, "a");
        let always = RunWindow { start_ns: 0, end_ns: i64::MAX };
        let (without, within) =
            (store.content_id(&layer, None).unwrap(), store.content_id(&layer, Some(always)).unwrap());
        assert_ne!(without, within, "the file's time lies in the window");
        store.diff_id(&layer).unwrap();
        let size = store.layer_size(&layer).unwrap();
        assert_eq!((size.size_bytes, size.entries), (1, 2));
        fs::write(layer.tree_path().join("g"), "more").unwrap();
        assert_eq!(store.content_id(&layer, None).unwrap(), without);
        assert_eq!(store.content_id(&layer, Some(always)).unwrap(), within);
        assert_eq!(store.layer_size(&layer).unwrap(), size);
        // What is lost is computed again.
        fs::write(layer.dir.join("facts.json"), "").unwrap();
        assert_ne!(store.content_id(&layer, None).unwrap(), without);
    }

    #[test]
    fn a_missing_layer_is_told_by_its_id() {
        let place = Place::new();
        let store = place.open();
        let id = LayerId::random();
        assert!(matches!(store.layer(id), Err(LayerError::Missing(missing)) if missing == id));
        let gone = layer(&store, "a");
        fs::remove_dir_all(&gone.dir).unwrap();
        assert!(matches!(gone.open_tree(), Err(LayerError::Missing(_))));
        assert!(matches!(store.diff_id(&gone), Err(LayerError::Missing(_))));
    }
}
