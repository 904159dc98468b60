//! Cache records: what a step depended on and what it made.

use serde::{Deserialize, Serialize};

use crate::{ContentKey, FileError, IndexError, InputNode, LayerId, Lease, NodeId, ShapeKey, StepKey, Store};

/// When a step's command ran, in nanoseconds since 1970. Times of files within it count as "now" in the content ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RunWindow {
    /// Just before it started.
    pub start_ns: i64,
    /// Just after it ended.
    pub end_ns: i64,
}

/// Where in which Dockerfile a step stands: how earlier results of "the same step" are found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepPlace {
    /// The Dockerfile and the target, without the path of the context.
    pub build: String,
    /// Name or number of the stage.
    pub stage: String,
    /// Position in the stage.
    pub position: u32,
    /// The instruction after expansion.
    pub text: String,
}

/// What the cache keeps of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Digest of all it depended on.
    pub step_key: StepKey,
    /// The same with the parent named by content, where that was computed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub content_key: Option<ContentKey>,
    /// Digest of its inputs without the parent.
    pub shape: ShapeKey,
    /// What it made.
    pub layer: LayerId,
    /// When it first ran, RFC 3339.
    pub created: String,
    /// When its command ran, for RUN.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub window: Option<RunWindow>,
    /// Where it stands.
    pub place: StepPlace,
    /// The root of its input tree.
    pub inputs: NodeId,
    /// Name and keyed hash of each secret that it saw.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub secrets: Vec<(String, [u8; 32])>,
}

/// Cache records can't be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The layer of the record to be put isn't in the store.
    #[error("no layer `{0}` in the store")]
    Missing(LayerId),
    /// The index fails.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A document can't be written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// The record of step `key`, its layer then held by `lease`: looking up and holding is one step for GC.
    ///
    /// # Errors
    ///
    /// [`RecordError`] when the index can't be read or the lease not be noted.
    pub fn find_step(&self, key: &StepKey, lease: &mut Lease) -> Result<Option<StepRecord>, RecordError> {
        let _ = (key, lease);
        todo!()
    }

    /// The newest record with content key `key`, its layer then held by `lease`.
    ///
    /// # Errors
    ///
    /// [`RecordError`] when the index can't be read or the lease not be noted.
    pub fn find_content(
        &self,
        key: &ContentKey,
        lease: &mut Lease,
    ) -> Result<Option<StepRecord>, RecordError> {
        let _ = (key, lease);
        todo!()
    }

    /// Whether some record has these inputs under any parent: whether asking for the content key can pay.
    ///
    /// # Errors
    ///
    /// [`RecordError`] when the index can't be read.
    pub fn has_shape(&self, shape: &ShapeKey) -> Result<bool, RecordError> {
        let _ = shape;
        todo!()
    }

    /// Records that `place` may be compared with, nearest first: the same place, else the same text, else the same
    /// stage; newest first among equals. A few, not all.
    ///
    /// Their layers aren't held: use [`Lease::hold`] before one is read.
    ///
    /// # Errors
    ///
    /// [`RecordError`] when the index can't be read.
    pub fn earlier_results(&self, place: &StepPlace) -> Result<Vec<StepRecord>, RecordError> {
        let _ = place;
        todo!()
    }

    /// Keeps `record` and those of `nodes` that aren't known yet. A record of the same key is replaced.
    ///
    /// # Errors
    ///
    /// [`RecordError`]; the record is then not kept.
    pub fn put_step(&self, record: StepRecord, nodes: Vec<InputNode>) -> Result<(), RecordError> {
        let _ = (record, nodes);
        todo!()
    }

    /// The node `id` of an input tree. Nothing when it is lost: a cause is then told with less detail.
    ///
    /// # Errors
    ///
    /// [`RecordError`] when the index can't be read.
    pub fn input_node(&self, id: &NodeId) -> Result<Option<InputNode>, RecordError> {
        let _ = id;
        todo!()
    }
}
