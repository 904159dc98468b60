//! Committed layers.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use oci::DiffId;
use serde::{Deserialize, Serialize};

use crate::{ContentId, FileError, LayerId, RunWindow, Store};

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
    /// A file of it can't be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

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
        todo!()
    }

    /// What was known of it at commit.
    pub fn facts(&self) -> &LayerFacts {
        &self.facts
    }
}

impl Store {
    /// The layer `id`.
    ///
    /// # Errors
    ///
    /// [`LayerError::Missing`] when there is none.
    pub fn layer(&self, id: LayerId) -> Result<Layer, LayerError> {
        let _ = id;
        todo!()
    }

    /// All layers, by id.
    ///
    /// # Errors
    ///
    /// [`LayerError`] when the folder can't be read.
    pub fn layers(&self) -> Result<Vec<Layer>, LayerError> {
        todo!()
    }

    /// The diff ID of `layer`: recorded, or computed now and recorded, once across processes.
    ///
    /// # Errors
    ///
    /// [`LayerError`] when its tree can't be read.
    pub fn diff_id(&self, layer: &Layer) -> Result<DiffId, LayerError> {
        let _ = layer;
        todo!()
    }

    /// The diff ID of `layer` where it is recorded.
    ///
    /// # Errors
    ///
    /// [`LayerError`] when the record can't be read.
    pub fn known_diff_id(&self, layer: &Layer) -> Result<Option<DiffId>, LayerError> {
        let _ = layer;
        todo!()
    }

    /// The content ID of `layer`, times within `window` counting as "now": recorded, or computed and recorded.
    ///
    /// # Errors
    ///
    /// [`LayerError`] when its tree can't be read.
    pub fn content_id(&self, layer: &Layer, window: Option<RunWindow>) -> Result<ContentId, LayerError> {
        let _ = (layer, window);
        todo!()
    }

    /// The size of `layer`: recorded, or measured now and recorded.
    ///
    /// # Errors
    ///
    /// [`LayerError`] when its tree can't be walked.
    pub fn layer_size(&self, layer: &Layer) -> Result<LayerSize, LayerError> {
        let _ = layer;
        todo!()
    }
}
