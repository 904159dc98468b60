//! The keys of a step. Formats that must never drift: a test pins them.
//!
//! ```text
//! shape key   = H("shape key", id of the node of named inputs)
//! step key    = H("step key", shape key, parent)
//! content key = H("content key", shape key, number of layers as 8 bytes, each layer), base first
//! parent      = 0 | 1 image ID | 2 node of a folder | 3 step key of the layer below
//! layer       = 1 diff ID | 2 content ID
//! ```
//!
//! H is blake3 in its key derivation mode, with the first word in its context; the tags 0 to 3 are one byte, all that
//! follows a tag is 32 bytes.

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
    hasher("shape key").update(inputs.as_bytes()).finalize().into()
}

/// Identity of the step under this very parent.
pub fn step_key(shape: ShapeKey, parent: ParentKey) -> StepKey {
    let mut hasher = hasher("step key");
    hasher.update(shape.as_bytes());
    match parent {
        ParentKey::Scratch => hasher.update(&[0]),
        ParentKey::Image(image) => hasher.update(&[1]).update(image.digest().as_bytes()),
        ParentKey::Folder(node) => hasher.update(&[2]).update(node.as_bytes()),
        ParentKey::Step(key) => hasher.update(&[3]).update(key.as_bytes()),
    };
    hasher.finalize().into()
}

/// Identity of the step under a parent with these layers, base first.
pub fn content_key(shape: ShapeKey, layers: &[LayerContent]) -> ContentKey {
    let mut hasher = hasher("content key");
    hasher.update(shape.as_bytes()).update(&(layers.len() as u64).to_le_bytes());
    for layer in layers {
        match layer {
            LayerContent::Diff(diff_id) => hasher.update(&[1]).update(diff_id.digest().as_bytes()),
            LayerContent::Built(content) => hasher.update(&[2]).update(content.as_bytes()),
        };
    }
    hasher.finalize().into()
}

fn hasher(what: &str) -> blake3::Hasher {
    blake3::Hasher::new_derive_key(&format!("calque.builder.v1 {what}"))
}
