//! The keys of a step. Formats that must never drift: a test pins them.
//!
//! ```text
//! shape key   = H("shape",   id of the node of named inputs)
//! step key    = H("step",    shape key, parent's key)
//! content key = H("content", shape key, number of layers, each layer: how it is named, its identity), base first
//! parent key  = H("scratch") | H("image", image ID) | H("folder", digest of its tree) | step key of the layer below
//! ```
//!
//! H is blake3 in its key derivation mode, the first word in its context.

use oci::{DiffId, ImageId};
use store::{ContentId, ContentKey, NodeId, ShapeKey, StepKey};

/// What a step stands on, by key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParentKey {
    /// Nothing.
    Scratch,
    /// A base image.
    Image(ImageId),
    /// A named context that is a folder: the node of its tree.
    Folder(NodeId),
    /// A step.
    Step(StepKey),
}

/// A layer, by content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LayerContent {
    /// One that came as a tar, with the base image.
    Diff(DiffId),
    /// One that was built here.
    Built(ContentId),
}

/// Digest of a step's own inputs.
pub fn shape_key(inputs: NodeId) -> ShapeKey {
    todo!()
}

/// Identity of the step under this very parent.
pub fn step_key(shape: ShapeKey, parent: ParentKey) -> StepKey {
    todo!()
}

/// Identity of the step under a parent with these layers, base first.
pub fn content_key(shape: ShapeKey, layers: &[LayerContent]) -> ContentKey {
    todo!()
}
